"""Random models with states, attention, both or neither in each layer: parts, tables and crossovers against sums."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import EXAMPLES, SETTINGS

from llmamdahl.analysis import crossover_context_length, share, sweep
from llmamdahl.hardware import SystolicArray
from llmamdahl.models import Decoder, Indexer, Latent, Recurrent
from llmamdahl.models.decoder import RecurrentKind
from llmamdahl.roofline import FP16, bytes_moved, bytes_updated, footprint
from llmamdahl.systolic import gemm_cost
from llmamdahl.workload import Part, decode_layer, decode_step, elementwise

KINDS = RecurrentKind.__args__
SETTINGS = settings(SETTINGS, max_examples=max(1, EXAMPLES // 4))
"""Each example asks many questions."""
ROUNDING = 1e-12
"""Of sums of seconds, where two parts are equal."""


@st.composite
def recurrents(draw):
    kind, size = draw(st.sampled_from(KINDS)), st.integers(1, 9)
    key_heads, ratio, value_dim, key_dim = (draw(size) for _ in range(4))
    if kind in ("mamba", "convolution"):
        key_heads = ratio = 1
    if kind == "kimi_delta":
        ratio, key_dim = 1, value_dim
    return Recurrent(
        kind, key_heads * ratio, key_heads, value_dim, 0 if kind == "convolution" else key_dim,
        0 if kind == "lightning" else draw(st.integers(1, 5)), draw(size) if kind == "mamba" else 0,
    )  # fmt: skip


@st.composite
def hybrids(draw):
    layers = draw(st.integers(1, 6))
    mixers = draw(st.lists(st.sampled_from(["attention", "state", "both", "none"]), min_size=layers, max_size=layers))
    bare = tuple(i for i, mixer in enumerate(mixers) if mixer != "none" and draw(st.booleans()))
    attends, recurs = {"attention", "both"} & {*mixers}, {"state", "both"} & {*mixers}
    heads = draw(st.integers(1, 4)) if attends else 0
    model = Decoder(
        "random", 24, layers, heads, 0 if len(bare) == layers else draw(st.integers(1, 40)), draw(st.booleans()), 50,
        64, 24, kv_heads=1 if attends else None, mixers=tuple(mixers), layers_without_ffn=bare,
        recurrent=draw(recurrents()) if recurs else None, head_width=draw(st.integers(1, 9)) if attends else None,
        attention_gate=draw(st.booleans()),
    )  # fmt: skip
    if not attends or not draw(st.booleans()):
        return model
    shared = tuple(i for i in range(1, layers) if draw(st.booleans()))
    index = Indexer(draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 99)), shared)
    latent = Latent(draw(st.integers(1, 9)), draw(st.integers(1, 9)), 3, 2, 4)
    return replace(model, kv_heads=None, head_width=None, latent=latent, indexer=index, attention_gate=False)


LENGTHS, BATCHES = st.integers(1, 200), st.integers(1, 4)


def macs(matmuls, part):
    return sum(mm.m * mm.n * mm.k * mm.count for mm in matmuls if mm.part is part)


@SETTINGS
@given(hybrids(), LENGTHS, BATCHES)
def test_a_step_is_the_sum_of_its_layers(model, length, batch):
    """And the state's MACs are those of its definition, whatever the context and however heads are put together."""
    step = decode_step(model, length, batch)
    layers = [mm for layer in range(model.num_layers) for mm in decode_layer(model, layer, length, batch=batch)]
    assert all(macs(step, part) == macs(layers, part) for part in (Part.PROJECTION, Part.ATTENTION, Part.STATE))
    grouped = decode_step(model, length, batch, heads="grouped")
    assert all(macs(step, part) == macs(grouped, part) for part in Part)
    for bits in (FP16, replace(FP16, state=32, results=8)):
        one, other = (sum(bytes_moved(mm, bits) for mm in each) for each in (step, grouped))
        assert abs(one - other) <= 1e-9 * one
    state = model.recurrent
    if state is None:
        assert not elementwise(model, batch)
        assert macs(step, Part.STATE) == footprint(model, FP16, length)[Part.STATE] == 0
        return
    number = sum(mixer in ("state", "both") for mixer in model.mixers) * batch
    each = state.heads * state.value_dim * state.key_dim
    assert macs(step, Part.STATE) == number * each * (3 if state.delta_rule else 2)
    past = max(state.conv_width - 1, 0) * state.conv_channels
    assert footprint(model, FP16, length, batch=batch)[Part.STATE] == 2 * number * (each + past)
    moved = sum(bytes_moved(mm, FP16) for mm in step if mm.part is Part.STATE)
    moved += sum(bytes_updated(update, FP16) for update in elementwise(model, batch) if update.part is Part.STATE)
    assert moved >= 4 * number * each  # read and written


@SETTINGS
@given(hybrids(), st.lists(LENGTHS, min_size=1, max_size=3, unique=True), BATCHES, st.booleans(), st.booleans())
def test_a_sweep_is_share_and_both_are_sums(model, lengths, batch, grouped, unquantized):
    array = SystolicArray(4, 6, clock_mhz=700, dram_gb_s=3)
    heads = "grouped" if grouped else "per_head"
    asked = {"batch": batch, "heads": heads, "unquantized": unquantized}
    for metric in ("cycles", "bytes", "seconds"):
        frame = sweep([model], lengths, [array], metric=metric, **asked)
        for row, length in zip(frame.itertuples(), lengths, strict=True):
            found = share(model, length, array, metric=metric, **asked)
            for name in frame.columns[5:]:
                assert abs(getattr(row, name) - getattr(found, name)) <= 1e-9 * abs(getattr(found, name)), name
            if metric == "cycles":
                parts = dict.fromkeys(Part, 0)
                for mm in decode_step(model, length, batch, heads=heads):
                    parts[mm.part] += gemm_cost(mm.m, mm.n, mm.k, array).cycles * mm.count
                assert all(parts[part] == getattr(found, part) for part in Part)


@SETTINGS
@given(hybrids(), BATCHES, st.booleans())
def test_a_crossover_is_where_f_falls_to_one_half(model, batch, unquantized):
    array = SystolicArray(4, 6, clock_mhz=700, dram_gb_s=3)
    asked = {"batch": batch, "unquantized": unquantized}
    for place, metric in ((array, "cycles"), (array, "seconds"), (None, "bytes")):
        if not share(model, 1, place, metric=metric, **asked).projection:
            continue
        found = crossover_context_length(model, place, metric=metric, **asked)
        if found is None:
            assert share(model, 2**30, place, metric=metric, **asked).fraction > 1 / 2 - ROUNDING
        else:
            assert share(model, found, place, metric=metric, **asked).fraction <= 1 / 2 + ROUNDING
            assert found == 1 or share(model, found - 1, place, metric=metric, **asked).fraction > 1 / 2 - ROUNDING
