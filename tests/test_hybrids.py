"""Models with a recurrent state or an indexer: what a decode step counts, against transformers 5.23.0 and PyTorch.

What FlopCounterMode sees (MatMuls, convolutions) is compared as it is; transformers computes parts of a state element
by element, and these products are counted where they are dispatched. Needs the extra `oracle`.
"""

import json
import os
from collections import Counter
from dataclasses import fields, replace
from itertools import product

import pytest

from llmamdahl import CLOUD_TPU, EDGE_TPU, InputError, Precision, SystolicArray, generation_cost, share, sweep
from llmamdahl.analysis import crossover_context_length, crossovers, curves, fraction_by_batch
from llmamdahl.design.area import best_split
from llmamdahl.design.bits import gains
from llmamdahl.device.kernels import steps as timed_steps
from llmamdahl.models import Decoder, Experts, Indexer, Latent, Recurrent, from_hf_config, get_model
from llmamdahl.models.huggingface import formats
from llmamdahl.models.huggingface.mixers import READERS
from llmamdahl.roofline import FP16, bytes_moved, footprint, matmul_traffic
from llmamdahl.silicon.energy import joules
from llmamdahl.systolic import gemm_cost
from llmamdahl.workload import Part, decode_layer, decode_step, elementwise, num_weights, prefill

if os.environ.get("REQUIRE_EXTRAS"):
    import torch
    import transformers
else:
    torch = pytest.importorskip("torch", reason="the extra `oracle` is not installed: make extras")
    transformers = pytest.importorskip("transformers", reason="the extra `oracle` is not installed: make extras")
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.kimi_linear.modeling_kimi_linear import recurrent_kimi_delta_attention
from transformers.models.mamba.modeling_mamba import mamba_selective_state_update
from transformers.models.mamba2.modeling_mamba2 import mamba2_selective_state_update
from transformers.models.qwen3_next.modeling_qwen3_next import torch_recurrent_gated_delta_rule

pytestmark = pytest.mark.usefixtures("one_thread")

# Irregular on purpose, so that no count agrees by chance.
SIZES = {"vocab_size": 101, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 6}
TOKENS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
GQA = {**SIZES, "num_key_value_heads": 2, "intermediate_size": 80, "max_position_embeddings": 64}
WIDE = {**GQA, "head_dim": 14}
GDN = {
    **WIDE, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 5, "linear_value_head_dim": 7,
    "linear_num_key_heads": 2, "linear_num_value_heads": 6,
}  # fmt: skip
MAMBA2 = {
    "mamba_n_heads": 6, "mamba_d_head": 16, "mamba_n_groups": 2, "mamba_d_state": 5, "mamba_d_conv": 4,
    "mamba_expand": 2,
}  # fmt: skip
MOE = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 26}
LOCAL = {"num_local_experts": 5, "num_experts_per_tok": 2}
SHARED = {"shared_expert_intermediate_size": 30}
MLA = {
    **SIZES, "num_key_value_heads": 6, "intermediate_size": 80, "kv_lora_rank": 22, "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 4, "v_head_dim": 10, "max_position_embeddings": 64,
}  # fmt: skip
DSA = {
    **MLA, "q_lora_rank": 20, "n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 26,
    "n_group": 2, "topk_group": 2, "index_n_heads": 5, "index_head_dim": 8, "index_topk": 9,
    "first_k_dense_replace": 1,
}  # fmt: skip
NEMOTRON = {
    **WIDE, "num_hidden_layers": 5, "mamba_num_heads": 6, "mamba_head_dim": 11, "ssm_state_size": 5, "n_groups": 2,
    "n_routed_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 26,
    "moe_shared_expert_intermediate_size": 34,
}  # fmt: skip
ALONE = {"vocab_size": 101, "hidden_size": 48, "num_hidden_layers": 3, "state_size": 5}
SMALL = {
    "qwen3_next": {**GDN, **MOE, **SHARED},
    "qwen3_next, dense layers": {**GDN, **MOE, **SHARED, "mlp_only_layers": [2], "full_attention_interval": 2},
    "qwen3_5_text": GDN,
    "qwen3_5_moe_text": {**{key: value for key, value in GDN.items() if key != "intermediate_size"}, **MOE, **SHARED},
    "kimi_linear": {
        **MLA, **MOE, **TOKENS, "linear_head_dim": 7, "linear_num_heads": 3,
        "layer_types": ["linear_attention", "full_attention", "linear_attention", "linear_attention"],
    },
    "granitemoehybrid": {
        **GQA, **MAMBA2, **LOCAL, "shared_intermediate_size": 34,
        "layer_types": ["mamba", "attention", "mamba", "mamba"],
    },
    "granitemoehybrid, dense": {
        **GQA, **MAMBA2, "num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 34,
        "layer_types": ["mamba", "attention", "mamba", "mamba"],
    },
    "bamba": {**GQA, **MAMBA2, "attn_layer_indices": [1]},
    "falcon_h1": {**WIDE, **MAMBA2, "mamba_d_ssm": 96},
    "nemotron_h": {**NEMOTRON, "hybrid_override_pattern": "M-*EM"},
    "nemotron_h, dense": {**NEMOTRON, "layers_block_type": ["mamba", "mlp", "mamba", "attention", "mlp"]},
    "nemotron_h, latent": {**NEMOTRON, "hybrid_override_pattern": "ME*EM", "moe_latent_size": 18},
    "mamba2": {**ALONE, "num_heads": 6, "head_dim": 16, "n_groups": 2},
    "mamba": {**ALONE, "time_step_rank": 9},
    "falcon_mamba": ALONE,
    "jamba": {
        **GQA, "num_experts": 5, "num_experts_per_tok": 2, "mamba_d_state": 5, "mamba_dt_rank": 9,
        "attn_layer_period": 4, "attn_layer_offset": 1,
    },
    "minimax": {**WIDE, **LOCAL},
    "lfm2": {
        **GQA, "layer_types": ["conv", "full_attention", "conv", "conv"], "block_multiple_of": 10, "conv_L_cache": 4,
    },
    "lfm2_moe": {
        **GQA, **MOE, "layer_types": ["conv", "full_attention", "conv", "conv"], "num_dense_layers": 1,
    },
    "deepseek_v32": DSA,
    "glm_moe_dsa": DSA,
    "glm_moe_dsa, shared": {**DSA, "index_topk_freq": 2},
}  # fmt: skip
NESTED = {"qwen3_5", "qwen3_5_moe"}
"""Formats whose `text_config` is one of these."""
RECURRENT = [case for case in SMALL if not {"deepseek_v32", "glm_moe_dsa"} & {case.partition(",")[0]}]
BATCH, LENGTH = 2, 13


def config_of(case):
    return {"model_type": case.partition(",")[0], **SMALL[case]}


def test_every_format_has_a_case():
    mixed = {*READERS.values()}
    kinds = {name for name, form in formats().items() if mixed & {*form.readers}}
    assert {case.partition(",")[0] for case in SMALL} == kinds
    assert {name for name, form in formats().items() if kinds & {*form.text_types}} == NESTED


def test_each_spelling_of_a_key_is_one_of_transformers():
    """Given alone, it sets the field of the configuration class; but for the one that formats.csv says is another's."""
    compared = 0
    for kind in {case.partition(",")[0] for case in SMALL}:
        known = {each.name for each in fields(CONFIG_MAPPING[kind])}
        for key, names in formats()[kind].spellings.items():
            if key in ("layer_types", "layers_block_type"):  # lists, which have to fit
                continue
            value = False if key == "tie_word_embeddings" else 24
            for field, name in product({*names} & known, {*names} - known - {"attention_head_dim"}):
                assert getattr(CONFIG_MAPPING[kind](**{name: value}), field) == value, (kind, name)
                compared += 1
    assert compared > 15


@pytest.fixture(scope="module")
def built():
    """Our model and theirs, and theirs after 12 tokens; made once."""
    known = {}

    def make(case):
        if case not in known:
            kind, values = case.partition(",")[0], SMALL[case]
            config = CONFIG_MAPPING[kind](**values)
            options = {"attn_implementation": "eager", "experts_implementation": "eager"}
            torch.manual_seed(0)
            known[case] = transformers.AutoModelForCausalLM.from_config(config, **options).eval()
        return from_hf_config(config_of(case)), known[case]

    return make


def step_of(theirs, *modes):
    """A decode step after 12 tokens of each sequence, under these modes; returns the cache."""
    prompt = torch.arange(BATCH * (LENGTH - 1)).view(BATCH, -1)
    with torch.no_grad():
        before = theirs(prompt, use_cache=True)
        name = "cache_params" if hasattr(before, "cache_params") else "past_key_values"
        past = getattr(before, name)
        with modes[0]:
            theirs(torch.ones(BATCH, 1, dtype=torch.long), use_cache=True, **{name: past})
    return past


def macs(matmuls):
    return sum(mm.m * mm.n * mm.k * mm.count for mm in matmuls)


def counted(theirs):
    """MACs that PyTorch counts in the decode step: by operation, for each module."""
    counter = FlopCounterMode(display=False)
    step_of(theirs, counter)
    return {
        module: {str(operation).split(".")[1]: flops // 2 for operation, flops in operations.items()}
        for module, operations in counter.get_flop_counts().items()
    }


@pytest.mark.parametrize("case", list(SMALL))
def test_every_key_of_a_config_is_understood(case):
    kind, values = case.partition(",")[0], SMALL[case]
    written = json.loads(CONFIG_MAPPING[kind](**values).to_json_string(use_diff=False))
    written["num_hidden_layers"] = values["num_hidden_layers"]  # Nemotron-H's is a property
    assert replace(from_hf_config(written), name=kind) == replace(from_hf_config(config_of(case)), name=kind)


@pytest.mark.parametrize("case", list(SMALL))
def test_every_weight_counts(case, built):
    """All parameters of transformers' model but vectors (norms, biases, D, A of one number a head)."""
    ours, theirs = built(case)
    matrices = [
        each
        for name, each in theirs.named_parameters()
        if each.ndim > 1 and (each.squeeze().ndim > 1 or not name.endswith("A_log"))
    ]
    assert num_weights(ours) == sum(each.numel() for each in matrices)


SEEN = {"mamba2": ["Q·S"], "mamba": ["Q·S"], "lightning": ["Kᵀ·V", "Q·S"]}
"""MatMuls of a state that transformers computes as MatMuls; all others it computes element by element."""


@pytest.mark.parametrize("case", list(SMALL))
def test_macs_are_what_pytorch_counts(case, built):
    """transformers keeps `conv_width` inputs, one too many, so its convolution has two results and drops the first."""
    ours, theirs = built(case)
    step, found = decode_step(ours, LENGTH, BATCH), counted(theirs)["Global"]
    batched = [mm for mm in step if mm.part is Part.ATTENTION]
    weights = [mm for mm in step if mm.part in (Part.PROJECTION, Part.UNQUANTIZED)]
    layers = sum(mixer in ("attention", "both") for mixer in ours.mixers) if ours.mixers else ours.num_layers
    more = 0
    if latent := ours.latent:  # transformers does not absorb: K and V of all heads and tokens, each time
        up = layers * BATCH * LENGTH * latent.kv_rank * ours.num_heads * (latent.nope_head_dim + latent.v_head_dim)
        weights = [mm for mm in weights if mm.name not in ("W_UK", "W_UV")]
        batched = [mm for mm in batched if mm.name.startswith("index")]
        more = layers * BATCH * LENGTH * ours.num_heads * (latent.head_dim + latent.v_head_dim)
    assert found["mm"] == macs(weights) + (up if latent else 0)
    state = (
        [mm for mm in step if mm.part is Part.STATE and mm.name in SEEN.get(ours.recurrent.kind, [])]
        if (ours.recurrent)
        else []
    )
    assert found.get("bmm", 0) == macs(batched) + macs(state) + more
    assert found.get("convolution", 0) == 2 * sum(
        each.macs for each in elementwise(ours, BATCH) if each.name == "convolution"
    )


class Products(TorchDispatchMode):
    """How often each number of elements was computed as a product, element by element."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.mul.Tensor, torch.ops.aten.mul_.Tensor):
            self.found[result.numel()] += 1
        return result


SPREAD = {"mamba2": 2, "mamba": 1}
"""Products of the size of the state that transformers computes in addition: Δ·B, and in Mamba-2 Δ·A, which have the
same factor in each row of a head; one for each row, or head, would do.
"""


@pytest.mark.parametrize("case", [case for case in RECURRENT if "lfm2" not in case])
def test_what_pytorch_computes_element_by_element(case, built):
    ours, theirs = built(case)
    state, products = ours.recurrent, Products()
    step_of(theirs, products)
    size = BATCH * state.heads * state.key_dim * state.value_dim
    layers = sum(mixer in ("state", "both") for mixer in ours.mixers)
    step = [mm for mm in decode_step(ours, LENGTH, BATCH) if mm.part is Part.STATE]
    expected = sum(each.macs for each in elementwise(ours, BATCH) if each.name in ("decay", "Δ·A"))
    expected += macs(mm for mm in step if mm.name not in SEEN.get(state.kind, []))
    assert size * products.found[size] == expected + layers * size * SPREAD.get(state.kind, 0)


@pytest.mark.parametrize("case", RECURRENT)
def test_the_state_is_what_transformers_keeps(case, built):
    """But for the oldest input of the convolution, which transformers keeps and the next step does not use."""
    ours, theirs = built(case)
    past, state = step_of(theirs, torch.no_grad()), ours.recurrent
    kept = 0
    for layer in getattr(past, "layers", []):
        for name in ("conv_states", "recurrent_states"):
            found = getattr(layer, name, None)
            kept += sum(
                each.numel() for each in (found.values() if isinstance(found, dict) else [found]) if each is not None
            )
        if getattr(layer, "linear_cache", None) is not None:
            kept += layer.linear_cache.numel()
    if hasattr(past, "linear_cache"):
        kept += sum(each.numel() for each in past.linear_cache if isinstance(each, torch.Tensor))
    layers = sum(mixer in ("state", "both") for mixer in ours.mixers)
    oldest = layers * BATCH * state.conv_channels if state.conv_width else 0
    assert kept - oldest == footprint(ours, FP16, LENGTH, batch=BATCH)[Part.STATE] / 2


def recurrence(state, q, k, v, decay, beta=None):
    """A step of a state (heads x key_dim x value_dim) by MatMuls and its decay, as `Recurrent` describes it."""
    state = state * decay
    if beta is not None:
        v = beta * (v - (k[:, None] @ state)[:, 0])
    state = state + k[:, :, None] @ v[:, None, :]
    return (q[:, None] @ state)[:, 0], state


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def close(found, expected):
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-4, atol=1e-5)


HEADS, KEYS, DK, DV = 6, 2, 5, 7
GATED = Recurrent("gated_delta", HEADS, KEYS, DV, DK, conv_width=4)


def alone(recurrent):
    """A model of three layers with this state and nothing else."""
    return Decoder("alone", 48, 3, 0, 0, False, 101, 64, 48, mixers=("state",) * 3, recurrent=recurrent,
                   layers_without_ffn=(0, 1, 2))  # fmt: skip


def check(recurrent, inputs, expected):
    """The recurrence gives what transformers computes, and PyTorch counts its MatMuls as ours; also side by side."""
    state, q, k, v, decay, beta = inputs
    ratio = recurrent.heads // recurrent.key_heads
    spread = [each.repeat_interleave(ratio, 0) for each in (q, k)]
    with FlopCounterMode(display=False) as counter:
        found = recurrence(state, *spread, v, decay, beta)
    close(found[0], expected[0])
    close(found[1], expected[1])
    step = [mm for mm in decode_step(alone(recurrent), 9) if mm.part is Part.STATE]
    assert counter.get_total_flops() == 2 * macs(step) / 3
    # The states of the heads that share q and k, side by side: the same products in fewer MatMuls.
    groups, dk, dv = recurrent.key_heads, recurrent.key_dim, recurrent.value_dim

    def beside(each):
        return each.expand(-1, dk, dv).reshape(groups, ratio, dk, dv).transpose(1, 2).reshape(groups, dk, -1)

    wide = None if beta is None else beta.expand(-1, dv).reshape(groups, ratio * dv)
    out, _ = recurrence(beside(state), q, k, v.reshape(groups, ratio * dv), beside(decay), wide)
    close(out.reshape(recurrent.heads, dv), expected[0])
    grouped = [mm for mm in decode_step(alone(recurrent), 9, heads="grouped") if mm.part is Part.STATE]
    assert macs(grouped) == macs(step)
    assert {mm.n for mm in grouped} == {ratio * dv}
    assert {mm.count for mm in grouped} == {3 * groups}
    for bits in (FP16, Precision(results=8, state=32)):
        assert sum(bytes_moved(mm, bits) for mm in grouped) == sum(bytes_moved(mm, bits) for mm in step)


def test_gated_delta_rule():
    q, k, v = normal(KEYS, DK), normal(KEYS, DK), normal(HEADS, DV)
    state, g, beta = normal(HEADS, DK, DV), -normal(HEADS).abs(), torch.rand(HEADS, dtype=torch.float64)
    out, after = torch_recurrent_gated_delta_rule(
        q[None, None], k[None, None], v[None, None], g[None, None], beta[None, None], state[None], True
    )
    check(GATED, (state, q / DK**0.5, k, v, g.exp()[:, None, None], beta[:, None]), (out[0, 0], after[0]))


def test_kimi_delta_attention():
    q, k, v = (normal(3, 7) for _ in range(3))
    state, g, beta = normal(3, 7, 7), -normal(3, 7).abs(), torch.rand(3, dtype=torch.float64)
    out, after = recurrent_kimi_delta_attention(
        q[None, None], k[None, None], v[None, None], g[None, None], beta[None, None], state[None], True
    )
    kimi = Recurrent("kimi_delta", 3, 3, 7, 7, conv_width=4)
    check(kimi, (state, q / 7**0.5, k, v, g.exp()[:, :, None], beta[:, None]), (out[0, 0], after[0]))


def test_mamba2():
    """Δ scales x: A has one number a head."""
    b, c, x, dt, a = normal(KEYS, DK), normal(KEYS, DK), normal(HEADS, DV), normal(HEADS).abs(), -normal(HEADS).abs()
    state = normal(HEADS, DV, DK)
    after = state.clone()[None]
    spread = a[:, None, None].expand(-1, DV, DK)
    out = mamba2_selective_state_update(after, x[None], dt[:, None].expand(-1, DV)[None], spread, b[None], c[None])
    inputs = (state.transpose(1, 2), c, b, dt[:, None] * x, (dt * a).exp()[:, None, None], None)
    check(Recurrent("mamba2", HEADS, KEYS, DV, DK, conv_width=4), inputs, (out[0], after[0].transpose(1, 2)))


def test_mamba():
    """One head; A has a number for each element of the state."""
    b, c, x, dt, a = normal(1, DK), normal(1, DK), normal(1, DV), normal(DV).abs(), -normal(DV, DK).abs()
    state = normal(1, DV, DK)
    after = state.clone()
    out = mamba_selective_state_update(after, x, dt[None], a, b, c)
    inputs = (state.transpose(1, 2), c, b, dt * x, (dt[:, None] * a).exp().T[None], None)
    check(Recurrent("mamba", 1, 1, DV, DK, conv_width=4, rank=3), inputs, (out, after.transpose(1, 2)))


@pytest.mark.parametrize("case", ["deepseek_v32", "glm_moe_dsa", "glm_moe_dsa, shared"])
def test_the_indexer_is_what_pytorch_counts(case, built):
    """Per layer: its products with weights and between activations, and how many tokens it selects."""
    ours, theirs = built(case)
    selected = {}
    hooks = [
        module.register_forward_hook(lambda _, inputs, output, name=name: selected.update({name: output.shape[-1]}))
        for name, module in theirs.named_modules()
        if name.endswith(".indexer")
    ]
    found = counted(theirs)
    for hook in hooks:
        hook.remove()
    assert len(hooks) == ours.num_layers - len(ours.indexer.shared_layers)
    for layer in range(ours.num_layers):
        step = decode_layer(ours, layer, LENGTH, batch=BATCH)
        name = f"model.layers.{layer}.self_attn.indexer"
        index = {mm.name: mm for mm in step if mm.name.startswith("index ")}
        assert (layer in ours.indexer.shared_layers) is not bool(index)
        (attention,) = [mm for mm in step if mm.name == "Q·Kᵀ"]
        assert attention.n == min(LENGTH, ours.indexer.top_k) == 9
        if index:
            assert selected[name] == attention.n
            both = found[next(module for module in found if module.endswith(name))]
            assert both["mm"] == macs(index[weight] for weight in ("index W_Q", "index W_K", "index W_w"))
            assert both["bmm"] == macs(index[scores] for scores in ("index Q·Kᵀ", "index w·scores"))


def test_sparse_attention_reads_selected_tokens_and_keeps_all(built):
    ours, _ = built("deepseek_v32")
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


HYBRIDS = ("qwen3_next", "nemotron_h", "falcon_h1", "jamba", "mamba", "lfm2", "deepseek_v32")
SLOW = SystolicArray(8, 8, clock_mhz=700, dram_gb_s=5)


@pytest.mark.parametrize("unquantized", [False, True])
@pytest.mark.parametrize("heads", ["per_head", "grouped"])
def test_a_sweep_is_share_for_each(heads, unquantized):
    """With a model without a state, whose state is 0; the columns are the parts of the whole."""
    models = [from_hf_config(config_of(name)) for name in HYBRIDS]
    models = [replace(models[1], name="first"), get_model("opt-350m"), *models]
    places = [EDGE_TPU, SLOW, "A100 80GB"]
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
            place = next(p for p in (EDGE_TPU, SLOW, "A100 80GB") if getattr(p, "label", p) == row.array)
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


def test_a_state_is_read_and_written_once_by_each_sequence(built):
    """And q, k, v and the result once: all but the convolution's past inputs, which follow."""
    ours, _ = built("qwen3_next")
    state, layers = ours.recurrent, 3
    vectors = 2 * KEYS * DK + 2 * HEADS * DV
    inputs = state.conv_channels * state.conv_width  # three are read, one is written
    for bits, wide in ((FP16, 16), (Precision(state=32), 16), (Precision(cache=4, results=8), 8)):
        moved = 2 * HEADS * DK * DV + inputs
        expected = BATCH * layers * (moved * bits.of(Part.STATE) + vectors * wide) / 8
        found = share(ours, 9, None, batch=BATCH, baseline=bits)
        assert found.state == pytest.approx(expected, rel=1e-12)


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


@pytest.mark.parametrize("name", ["qwen3_next", "lfm2", "deepseek_v32"])
def test_what_depends_on_the_kernel_is_rejected(name):
    model = from_hf_config(config_of(name))
    for ask in (
        lambda: prefill(model, 8),
        lambda: share(model, 8, CLOUD_TPU, phase="prefill"),
        lambda: generation_cost(model, 8, CLOUD_TPU, new_tokens=2),
    ):
        with pytest.raises(InputError, match=f"model: {name} has .* in a prefill depend on the kernel; only decode"):
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
    with pytest.raises(InputError, match=f"model: {name} has layers with a state or with an indexer, which were timed"):
        timed_steps([name])


def test_joules_of_a_state_are_rejected():
    with pytest.raises(InputError, match="model: qwen3_next has a recurrent state, whose element-wise updates"):
        joules(from_hf_config(config_of("qwen3_next")), 8, EDGE_TPU)


PLAIN = Decoder("plain", 48, 4, 6, 80, True, 101, 64, 48)
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
        ({"mixers": ("none",) * 4, "layers_without_ffn": (1,)}, "layer 1 has neither an FFN nor a mixer"),
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
    with pytest.raises(InputError, match=problem):
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
        ("lfm2", {"conv_dim": 40}, "conv_dim: 40 is not supported; only 48 is"),
        ("lfm2", {"block_ffn_dim_multiplier": "1"}, "block_ffn_dim_multiplier: '1' is not a number above 0"),
        ("deepseek_v32", {"q_lora_rank": None}, "deepseek_v32: q_lora_rank: is null; the indexer needs it"),
        ("deepseek_v32", {"indexer_types": ["full"] * 4}, "indexer_types: .* is not understood"),
        ("glm_moe_dsa", {"indexer_types": ["shared"] + ["full"] * 3}, "glm_moe_dsa: indexer: shared_layers: .0. has"),
    ],
)
def test_a_config_that_is_not_understood_is_rejected(case, change, problem):
    with pytest.raises(InputError, match=problem):
        from_hf_config({**config_of(case), **change})
