"""Models with a recurrent state or an indexer: what they are asked and answered, and what is rejected."""

from dataclasses import replace

import pytest

from llmamdahl import (
    CLOUD_TPU,
    EDGE_TPU,
    InputError,
    Precision,
    SystolicArray,
    generation_cost,
    get_device,
    share,
    sweep,
)
from llmamdahl.analysis import crossover_context_length, crossovers, curves, fraction_by_batch
from llmamdahl.design.area import best_split
from llmamdahl.design.bits import gains
from llmamdahl.device.kernels import steps as timed_steps
from llmamdahl.models import Decoder, Experts, Indexer, Latent, Recurrent, from_hf_config, get_model
from llmamdahl.roofline import FP16, bytes_moved, footprint, matmul_traffic, saving
from llmamdahl.silicon.energy import joules
from llmamdahl.systolic import gemm_cost
from llmamdahl.workload import Elementwise, Part, decode_layer, decode_step, elementwise, prefill
from tests.hybrids import BATCH, DK, DV, GATED, HEADS, KEYS, config_of

PLAIN = Decoder("plain", 48, 4, 6, 80, True, 101, 64, 48)


def test_sparse_attention_reads_selected_tokens_and_keeps_all():
    ours = from_hf_config(config_of("deepseek_v32"))
    width = ours.latent.kv_rank + ours.latent.rope_head_dim
    kept = footprint(ours, FP16, 1000, batch=BATCH)[Part.ATTENTION]
    assert kept == 2 * BATCH * ours.num_layers * 1000 * (width + 8)
    step = {mm.name: mm for mm in decode_step(ours, 1000, BATCH)}
    read = 9 * width + 6 * width  # nine latents, and q of six heads
    assert bytes_moved(step["Q·Kᵀ"], FP16) == 2 * BATCH * ours.num_layers * read
    assert bytes_moved(step["index Q·Kᵀ"], FP16) == 2 * BATCH * ours.num_layers * (1000 * 8 + 5 * 8)
    assert bytes_moved(step["index w·scores"], FP16) == 2 * BATCH * ours.num_layers * 5
    grouped = {mm.name: mm for mm in decode_step(ours, 1000, BATCH, heads="grouped")}
    assert (grouped["index Q·Kᵀ"].m, grouped["index Q·Kᵀ"].count) == (5, BATCH * ours.num_layers)


def test_a_layer_that_is_not_there_is_named():
    model = from_hf_config(config_of("qwen3_next"))
    assert decode_layer(model, 3, 9)
    with pytest.raises(InputError, match=r"^layer: 4 is not a layer of qwen3_next; they are 0 to 3$"):
        decode_layer(model, 4, 9)


@pytest.mark.parametrize(
    ("recurrent", "projections"),
    [
        (GATED, {"W_QKVZ": (2 * 10 + 2 * 42, 48), "W_BA": (12, 48)}),
        (
            replace(GATED, kind="gated_delta_split"),
            {"W_QKV": (2 * 10 + 42, 48), "W_Z": (42, 48), "W_B": (6, 48), "W_A": (6, 48)},
        ),
        (
            Recurrent("kimi_delta", 6, 6, 7, 7, conv_width=4),
            {"W_Q": (42, 48), "W_K": (42, 48), "W_V": (42, 48), "W_B": (6, 48)}
            | {"W_FA": (7, 48), "W_FB": (42, 7), "W_GA": (7, 48), "W_GB": (42, 7)},
        ),
        (Recurrent("mamba2", 6, 2, 7, 5, conv_width=4), {"W_I": (2 * 42 + 2 * 10 + 6, 48)}),
        (
            Recurrent("mamba", 1, 1, 42, 5, conv_width=4, rank=3),
            {"W_I": (2 * 42, 48), "W_ΔBC": (3 + 2 * 5, 42), "W_Δ": (42, 3)},
        ),
        (Recurrent("lightning", 6, 6, 7, 7), {"W_QKV": (3 * 42, 48), "W_G": (42, 48)}),
        (Recurrent("convolution", 1, 1, 42, conv_width=4), {"W_I": (3 * 42, 48)}),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_projections_of_each_kind_of_state(recurrent, projections):
    """Name, n and k, by hand: q and k are key_heads * key_dim wide, v and the result heads * value_dim = 42."""
    model = replace(PLAIN, mixers=("attention", "both", "state", "attention"), recurrent=recurrent)
    found = {mm.name: mm for mm in decode_step(model, 9, 3) if mm.name.startswith("state W_")}
    expected = {f"state {name}": sizes for name, sizes in (projections | {"W_X": (48, 42)}).items()}
    assert {name: (mm.n, mm.k) for name, mm in found.items()} == expected
    assert {(mm.part, mm.m, mm.count) for mm in found.values()} == {(Part.PROJECTION, 3, 2)}


def test_what_is_computed_element_by_element():
    """Of two layers, by hand: 6 heads of 5 x 7, and a convolution over 4 inputs of 2 * 10 + 42 channels."""
    model = replace(PLAIN, mixers=("attention", "both", "state", "attention"), recurrent=GATED)
    decay = Elementwise("decay", Part.STATE, 2 * 210 * 3, 0, 0)
    convolution = Elementwise("convolution", Part.UNQUANTIZED, 2 * 62 * 4 * 3, 2 * 62 * 4, 2 * 2 * 62 * 3)
    inputs = Elementwise("conv inputs", Part.STATE, 0, 2 * 62 * 4 * 3, 0)
    assert elementwise(model, 3) == (decay, convolution, inputs)
    mamba = Recurrent("mamba", 1, 1, 42, 5, conv_width=4, rank=3)
    _, per_element, *_ = elementwise(replace(model, recurrent=mamba), 3)
    assert per_element == Elementwise("Δ·A", Part.UNQUANTIZED, 2 * 210 * 3, 2 * 210, 2 * 42 * 3)
    assert elementwise(PLAIN) == ()
    assert elementwise(model) == elementwise(model, 1)
    traffic = matmul_traffic(model, 9, "A100 80GB").set_index("name").loc[["decay", "convolution", "conv inputs"]]
    assert traffic.operations.tolist() == [2 * 420, 2 * 496, 0]
    assert traffic.bytes.tolist() == [0, 2 * (496 + 2 * 2 * 62), 2 * 496]
    assert traffic.seconds.tolist() == pytest.approx(
        (traffic.bytes / get_device("A100 80GB").bandwidth_gb_s / 1e9).tolist()
    )


HYBRIDS = ("qwen3_next", "nemotron_h", "falcon_h1", "jamba", "mamba", "lfm2", "deepseek_v32")
SLOW = SystolicArray(8, 8, clock_mhz=700, dram_gb_s=5)
FAST = SystolicArray(16, 16, clock_mhz=900, dram_gb_s=70)


@pytest.mark.parametrize("unquantized", [False, True])
@pytest.mark.parametrize("heads", ["per_head", "grouped"])
def test_a_sweep_is_share_for_each(heads, unquantized):
    """With a model without a state, whose state is 0; the columns are the parts of the whole."""
    models = [from_hf_config(config_of(name)) for name in HYBRIDS]
    models = [replace(models[1], name="first"), get_model("opt-350m"), *models]
    places = [EDGE_TPU, SLOW, FAST, "A100 80GB"]
    for metric in (None, "bytes"):
        asked = {
            "heads": heads,
            "unquantized": unquantized,
            "precision": Precision(weights=2, state=8),
            "metric": metric,
        }
        frame = sweep(models, [5, 700], places, **asked)
        assert [name for name in frame if name in {*map(str, Part)}] == [
            *("projection", "attention", "state"), *["unquantized"] * unquantized
        ]  # fmt: skip
        for row in frame.itertuples():
            model = next(each for each in models if each.name == row.model)
            place = next(p for p in places if getattr(p, "label", p) == row.array)
            found = share(model, row.context_length, place, **{**asked, "metric": row.metric})
            for name in frame.columns[5:]:
                assert getattr(row, name) == pytest.approx(getattr(found, name), rel=1e-12), (row, name)
            assert found.whole == "projection + attention" + " + state" * (model.recurrent is not None) + (
                " + unquantized" * unquantized
            )


@pytest.mark.parametrize("heads", ["per_head", "grouped"])
@pytest.mark.parametrize("name", HYBRIDS)
def test_cycles_are_the_sum_over_matmuls(name, heads):
    model = from_hf_config(config_of(name))
    parts = dict.fromkeys(Part, 0)
    for mm in decode_step(model, 300, 2, heads=heads):
        parts[mm.part] += gemm_cost(mm.m, mm.n, mm.k, EDGE_TPU).cycles * mm.count
    found = share(model, 300, EDGE_TPU, heads=heads, batch=2)
    assert all(getattr(found, part) == parts[part] for part in Part)
    rest = parts[Part.ATTENTION] + parts[Part.STATE]
    assert found.fraction == parts[Part.PROJECTION] / (parts[Part.PROJECTION] + rest)


@pytest.mark.parametrize("name", HYBRIDS)
def test_bytes_and_seconds_are_those_of_matmul_traffic(name):
    model = from_hf_config(config_of(name))
    traffic = matmul_traffic(model, 300, "A100 80GB").groupby("part")
    for metric in ("bytes", "seconds"):
        found = share(model, 300, "A100 80GB", metric=metric)
        for part, total in traffic[metric].sum().items():
            assert getattr(found, part) == pytest.approx(total, rel=1e-12)
    assert set(traffic.groups) >= {str(part) for part in Part if getattr(found, part)}


def test_a_state_is_read_and_written_once_by_each_sequence():
    """And q, k, v and the result once: all but the convolution's past inputs, which follow."""
    ours = from_hf_config(config_of("qwen3_next"))
    state, layers = ours.recurrent, 3
    vectors = 2 * KEYS * DK + 2 * HEADS * DV
    inputs = state.conv_channels * state.conv_width  # three are read, one is written
    for bits, wide in ((FP16, 16), (Precision(state=32), 16), (Precision(cache=4, results=8), 8)):
        moved = 2 * HEADS * DK * DV + inputs
        expected = BATCH * layers * (moved * bits.of(Part.STATE) + vectors * wide) / 8
        found = share(ours, 9, None, batch=BATCH, baseline=bits)
        assert found.state == pytest.approx(expected, rel=1e-12)


def test_layers_that_share_a_selection_have_no_indexer():
    every, shared = (from_hf_config(config_of(name)) for name in ("glm_moe_dsa", "glm_moe_dsa, shared"))
    assert (every.indexer.shared_layers, shared.indexer.shared_layers) == ((), (2,))
    for model in (every, shared):
        count = sum(mm.count for mm in decode_step(model, 50) if mm.name == "index Q·Kᵀ")
        assert count == (model.num_layers - len(model.indexer.shared_layers)) * model.indexer.num_heads


def test_layers_of_attention_alone_are_those_of_a_model_without_mixers():
    assert replace(PLAIN, mixers=["attention"] * PLAIN.num_layers) == PLAIN


def test_a_state_in_memory_is_a_part_of_the_whole():
    model = from_hf_config(config_of("nemotron_h"))
    held = footprint(model, FP16, 100, batch=3)
    assert held[Part.STATE] > 0
    three = held[Part.PROJECTION] + held[Part.ATTENTION] + held[Part.STATE]
    found = saving(model, Precision(weights=1), 100, batch=3)
    assert found.fraction == pytest.approx(held[Part.PROJECTION] / three)


@pytest.mark.parametrize("unquantized", [False, True])
@pytest.mark.parametrize("name", HYBRIDS)
def test_a_crossover_is_where_f_falls_to_one_half(name, unquantized):
    model = from_hf_config(config_of(name))
    for place in (EDGE_TPU, SLOW, "A100 80GB"):
        asked = {"unquantized": unquantized}
        found = crossover_context_length(model, place, **asked)
        if found is None:
            assert share(model, 2**30, place, **asked).fraction > 1 / 2
        else:
            assert share(model, found, place, **asked).fraction <= 1 / 2
            assert found == 1 or share(model, found - 1, place, **asked).fraction > 1 / 2


@pytest.mark.parametrize(("heads", "expected"), [("per_head", [0.8213, 0.0777]), ("grouped", [0.9326, 0.3954])])
def test_f_of_qwen3_next(heads, expected):
    """Cycles on the cloud array, l = 2048 and 262144; the parts by hand from its shapes.

    Of 48 layers 36 have a state: 32 heads of 128 x 128, or 16 of 128 x 256 that share q and k. The 12 others attend:
    16 query heads of 256, or 8 rows for each of 2 keys. A MatMul is folds of 256 + 256 + k - 2 cycles on the 256 x 256
    array (OS), one fewer in all as SCALE-Sim reports.
    """
    assert (CLOUD_TPU.rows, CLOUD_TPU.cols) == (256, 256)

    def cycles(m, n, k, count):
        assert m <= 256
        return (-(-n // 256) * (256 + 256 + k - 2) - 1) * count

    model, found = get_model("qwen3-next-80b-a3b"), []
    for length in (2048, 262144):
        stacked = heads == "grouped"
        n, states = (256, 36 * 16) if stacked else (128, 36 * 32)
        rows, queries = (8, 12 * 2) if stacked else (1, 12 * 16)
        state = 2 * cycles(1, n, 128, states) + cycles(128, n, 1, states)
        attention = cycles(rows, length, 256, queries) + cycles(rows, 256, length, queries)
        answer = share(model, length, CLOUD_TPU, heads=heads)
        assert (answer.state, answer.attention) == (state, attention)
        assert answer.whole == "projection + attention + state"
        found.append(round(answer.fraction, 4))
    assert found == expected


def test_active_parameters_are_the_published_ones():
    """3B and 37B by name and report; the LM head counts, the token embedding does not."""
    for name, published in (("qwen3-next-80b-a3b", 3), ("kimi-linear-48b-a3b", 3), ("deepseek-v3.2", 37)):
        weights = [mm for mm in decode_step(name, 1) if mm.part in (Part.PROJECTION, Part.UNQUANTIZED)]
        active = sum(mm.n * mm.k * mm.count for mm in weights) / 1e9
        assert abs(active - published) < 1


def test_tables_of_models_with_and_without_a_state():
    models = ["opt-350m", from_hf_config(config_of("qwen3_next"))]
    frame = crossovers(models, [EDGE_TPU])
    assert frame.groupby("model").whole.first().to_dict() == {
        "opt-350m": "projection + attention", "qwen3_next": "projection + attention + state",
    }  # fmt: skip
    frame = fraction_by_batch(models, 100, EDGE_TPU, batches=[1, 4])
    columns = "model context_length batch array dataflow metric projection attention state fraction ceiling"
    assert [*frame] == columns.split()
    assert (frame.fraction == frame.projection / (frame.projection + frame.attention + frame.state)).all()
    drawn = curves(frame, [1e12])
    ceilings = drawn[drawn.part == "attention"].total_speedup.to_numpy()
    rest = (frame.projection + frame.state) / (frame.projection + frame.attention + frame.state)
    assert ceilings == pytest.approx(1 / rest.to_numpy())
    found = gains([models[1], from_hf_config(config_of("mamba"))], [64], ["H200"], changes={"W2": Precision(weights=2)})
    asked = {"precision": Precision(weights=2)}
    assert found.total_speedup[0] == pytest.approx(share(models[1], 64, "H200", **asked).total_speedup)
    assert found.total_speedup[1] == pytest.approx(
        share(from_hf_config(config_of("mamba")), 64, "H200", **asked).total_speedup
    )


@pytest.mark.parametrize(
    ("name", "what"),
    [("qwen3_next", "a recurrent state"), ("lfm2", "a recurrent state"), ("deepseek_v32", "an indexer")],
)
def test_what_depends_on_the_kernel_is_rejected(name, what):
    model = from_hf_config(config_of(name))
    for ask in (
        lambda: prefill(model, 8),
        lambda: share(model, 8, CLOUD_TPU, phase="prefill"),
        lambda: generation_cost(model, 8, CLOUD_TPU, new_tokens=2),
    ):
        with pytest.raises(InputError, match=rf"^model: {name} has {what}, whose .* in a prefill depend on the kernel"):
            ask()


def test_a_state_runs_where_attention_does_if_the_array_is_divided():
    model, array = from_hf_config(config_of("qwen3_next")), SystolicArray(8, 8)
    (row,) = best_split([model], 50, array, weights="ternary", batches=[2]).query("mode == 'in sequence'").itertuples()
    asked = {"batch": 2, "metric": "cycles"}
    before = share(model, 50, array, **asked)
    kept = share(model, 50, replace(array, cols=row.attention_cols), **asked)
    narrow = share(model, 50, replace(array, cols=row.projection_cols), **asked)
    total = before.projection + before.attention + before.state
    assert row.total_speedup == pytest.approx(total / (narrow.projection + kept.attention + kept.state))


@pytest.mark.parametrize("name", ["qwen3-next-80b-a3b", "deepseek-v3.2"])
def test_steps_of_timed_kernels_are_of_attention_alone(name):
    with pytest.raises(
        InputError, match=rf"^model: {name} has layers with a state or with an indexer, which were timed"
    ):
        timed_steps([name])


def test_joules_of_a_state_are_rejected():
    with pytest.raises(InputError, match=r"^model: qwen3_next has a recurrent state, whose element-wise updates"):
        joules(from_hf_config(config_of("qwen3_next")), 8, EDGE_TPU)


STATES = {"mixers": ("state", "attention", "both", "state"), "recurrent": GATED}
LATENT = Latent(22, 20, 12, 4, 10)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"mixers": ("state",) * 3, "recurrent": GATED}, "plain: mixers: 3 are given for 4 layers; give one a layer"),
        ({"mixers": ("gate",) * 4}, "plain: mixers: 'gate'"),
        ({"recurrent": GATED}, "plain: recurrent: give it if mixers has layers with a state, and only then"),
        ({"mixers": ("state",) * 4, "num_heads": 0}, "plain: recurrent: give it if mixers has layers with a state"),
        ({"mixers": ("state",) * 4, "recurrent": GATED}, "num_heads: 6 in a model where no layer uses it; give 0"),
        ({**STATES, "num_heads": 0}, "plain: num_heads: 0"),
        ({**STATES, "intermediate_size": 0}, "plain: intermediate_size: 0"),
        ({**STATES, "layers_without_ffn": (0, 1, 2, 3)}, "intermediate_size: 80 in a model where no layer uses it"),
        ({**STATES, "layers_without_ffn": (4,)}, "layers_without_ffn: 4 is not a layer or is listed twice"),
        (
            {"mixers": ("none",) * 4, "layers_without_ffn": (1,)},
            "layers_without_ffn: layer 1 has neither an FFN nor a mixer",
        ),
        (
            {**STATES, "layers_without_ffn": (1,), "dense_layers": (1,), "experts": Experts(4, 2, 8)},
            "dense_layers: 1 is in layers_without_ffn too",
        ),
        ({"recurrent": "mamba"}, "plain: recurrent: 'mamba'"),
        ({"indexer": Indexer(5, 8, 9)}, "indexer: it needs latent attention with a q_rank, and no windows"),
        ({"indexer": Indexer(5, 8, 9, (4,)), "latent": LATENT}, "indexer: shared_layers: 4 is not a layer"),
        ({"attention_gate": True, "fused_qkv": True}, "attention_gate: True with latent or fused_qkv"),
        ({"attention_gate": True, "latent": LATENT}, "attention_gate: True with latent or fused_qkv"),
    ],
)
def test_a_decoder_that_cannot_be_is_rejected(change, problem):
    with pytest.raises(InputError, match="^plain: " + problem.removeprefix("plain: ")):
        replace(PLAIN, **change)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Recurrent("rwkv", 6, 2, 7, 5, 4), "recurrent: kind: 'rwkv'"),
        (lambda: Recurrent("mamba2", 6, 4, 7, 5, 4), "recurrent: heads: 6 with 4 key_heads"),
        (lambda: Recurrent("mamba2", 6, 2, 7, 0, 4), "recurrent: key_dim: is missing; give it for kind 'mamba2'"),
        (lambda: Recurrent("mamba2", 6, 2, 7, 5), "recurrent: conv_width: is missing"),
        (lambda: Recurrent("mamba2", 6, 2, 7, 5, 4, rank=3), "recurrent: rank: 3 is given; leave it out for kind 'mam"),
        (lambda: Recurrent("mamba", 1, 1, 7, 5, 4), "recurrent: rank: is missing"),
        (lambda: Recurrent("mamba", 2, 1, 7, 5, 4, rank=3), "mamba and convolution have one"),
        (lambda: Recurrent("lightning", 6, 6, 7, 7, 4), "recurrent: conv_width: 4 is given; leave it out"),
        (lambda: Recurrent("convolution", 1, 1, 7, 5, 4), "recurrent: key_dim: 5 is given; leave it out"),
        (lambda: Recurrent("kimi_delta", 6, 2, 7, 7, 4), "recurrent: kimi_delta has queries and keys as many and as"),
        (lambda: Recurrent("mamba2", 6.5, 2, 7, 5, 4), "recurrent: heads: 6.5 is not a positive whole number"),
        (lambda: Indexer(5, 8, 0), "indexer: top_k: 0 is not a positive whole number"),
        (lambda: Indexer(5, 8, 9, (0,)), "indexer: shared_layers: .0. has a layer twice, or layer 0"),
        (lambda: Indexer(5, 8, 9, 3), "indexer: shared_layers: 3"),
    ],
)
def test_a_record_that_cannot_be_is_rejected(make, problem):
    with pytest.raises(InputError, match=problem):
        make()


@pytest.mark.parametrize(
    ("case", "change", "problem"),
    [
        ("qwen3_next", {"layer_types": ["full_attention"] * 3}, "qwen3_next: layer_types: "),
        ("qwen3_next", {"layer_types": ["sliding_attention"] * 4}, "qwen3_next: layer_types: "),
        ("qwen3_5_text", {"attn_output_gate": False}, "attn_output_gate: False is not supported; only True is"),
        ("bamba", {"attn_layer_indices": [9]}, "attn_layer_indices: .9. is not a list of layers; layers are 0 to 3"),
        ("bamba", {"mamba_d_head": 15}, "mamba_d_head: 6 heads of 15 are not 96 wide"),
        ("nemotron_h", {"hybrid_override_pattern": "M-*X"}, "hybrid_override_pattern: 'M-[*]X' is not made of M E . -"),
        ("nemotron_h", {"hybrid_override_pattern": "M-*"}, "hybrid_override_pattern: 'M-[*]' does not list 5 layers"),
        ("lfm2_moe", {"layer_types": None}, "lfm2_moe: layer_types: None is missing; it lists 4 layers"),
        ("kimi_linear", {"linear_attn_config": {"heads": 3}}, "linear_attn_config: .* is not an object of"),
        (
            "kimi_linear",
            {"layer_types": None, "linear_attn_config": {"full_attn_layers": [1, 2], "kda_layers": [2, 3, 4]}},
            "linear_attn_config: .* does not list each layer once; layers are 1 to 4",
        ),
        (
            "kimi_linear",
            {"layer_types": None, "linear_attn_config": {"full_attn_layers": [1, "2"], "kda_layers": [3, 4]}},
            "linear_attn_config: .* does not list each layer once; layers are 1 to 4",
        ),
        (
            "lfm2",
            {"layer_types": None, "full_attn_idxs": [9]},
            r"full_attn_idxs: \[9\] is not a list of layers; layers are 0 to 3",
        ),
        ("lfm2", {"conv_dim": 40}, "conv_dim: 40 is not supported; only 48 is"),
        ("lfm2", {"block_ffn_dim_multiplier": "1"}, "block_ffn_dim_multiplier: '1' is not a number above 0"),
        ("deepseek_v32", {"q_lora_rank": None}, "deepseek_v32: q_lora_rank: is null; the indexer needs it"),
        ("deepseek_v32", {"indexer_types": ["full"] * 4}, "indexer_types: .* is not understood"),
        ("glm_moe_dsa", {"indexer_types": ["shared"] + ["full"] * 3}, "glm_moe_dsa: indexer: shared_layers: .0. has"),
    ],
)
def test_a_config_that_is_not_understood_is_rejected(case, change, problem):
    with pytest.raises(InputError, match=f"^{case}: " + problem.removeprefix(f"{case}: ")):
        from_hf_config({**config_of(case), **change})
