"""decode_step, prefill and sweep, checked against operations and counts summed from a model's sizes."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs import EDGES, REJECTED, SIZES, SMALL, answer, as_size, counts_of, fuzz, one_in, small_arrays

from llmamdahl.analysis import sweep
from llmamdahl.hardware import SystolicArray
from llmamdahl.models import Decoder, Experts, Latent, get_model, model_names, zoo_names
from llmamdahl.question import COLUMNS, METRICS
from llmamdahl.systolic import SRAM_COUNTS
from llmamdahl.workload import Part, decode_step, prefill

NAMES = [*model_names(), *zoo_names()]
COUNTS = " ".join(SRAM_COUNTS)


@st.composite
def decoders(draw, most=64, layers=10):
    """A model of any kind, small, or large in one size."""
    size = st.one_of(
        st.integers(1, most), st.integers(1, most), st.integers(1, most), EDGES if most > 64 else st.just(1)
    )
    heads, layers = draw(st.integers(1, 8)), draw(st.one_of(st.integers(1, layers), EDGES if most > 64 else st.just(2)))
    made = {
        "name": draw(st.text(max_size=4)), "hidden_size": draw(size) * heads, "num_layers": layers, "num_heads": heads,
        "intermediate_size": draw(size), "gated_ffn": draw(st.booleans()), "vocab_size": draw(size),
        "max_position": draw(size), "embedding_size": draw(size), "tied_embeddings": draw(st.booleans()),
    }  # fmt: skip
    if layers <= 10 and draw(st.booleans()):
        name = draw(st.sampled_from(["windows", "chunks"]))
        length = st.integers(1, 300) if name == "windows" else st.just(draw(st.integers(1, 300)))
        made[name] = tuple(draw(st.lists(st.none() | length, min_size=layers, max_size=layers)))
    if draw(st.booleans()):
        number = draw(st.integers(1, 9))
        made["experts"] = Experts(number, draw(st.integers(1, number)), draw(size), draw(st.sampled_from([0, 5])))
        made["dense_layers"] = tuple(draw(st.sets(st.integers(0, min(layers, 10) - 1))))
    if draw(st.booleans()):
        made["latent"] = Latent(draw(size), draw(st.none() | size), draw(size), draw(size), draw(size))
    else:
        made["kv_heads"] = draw(st.sampled_from([heads // n for n in range(1, heads + 1) if not heads % n]))
        made["head_width"], made["fused_qkv"] = draw(size), draw(st.booleans())
    made["fused_gate_up"] = made["gated_ffn"] and draw(st.booleans())
    return Decoder(**made)


def macs(model, queries, length, batch, absorbed):
    """Multiply-accumulates of a pass, by part, from the model's sizes alone."""
    d, h, tokens = model.hidden_size, model.num_heads, queries * batch
    matrices = 2 + model.gated_ffn
    if (latent := model.latent) is None:
        weights = d * model.head_dim * (2 * h + 2 * model.num_kv_heads)
        each = 2 * model.head_dim
    else:
        q = h * (latent.nope_head_dim + latent.rope_head_dim)
        weights = d * q if latent.q_rank is None else latent.q_rank * (d + q)
        weights += d * (latent.kv_rank + latent.rope_head_dim) + h * latent.v_head_dim * d
        weights += h * latent.kv_rank * (latent.nope_head_dim + latent.v_head_dim)
        each = 2 * latent.kv_rank + latent.rope_head_dim
        if not absorbed:
            each = latent.nope_head_dim + latent.rope_head_dim + latent.v_head_dim
    dense = model.num_layers if model.experts is None else len(model.dense_layers)
    ffn = dense * model.intermediate_size
    outside = model.vocab_size * model.embedding_size * batch
    if model.embedding_size != d:
        outside += d * model.embedding_size * (tokens + batch)
    if experts := model.experts:
        sparse = model.num_layers - dense
        ffn += sparse * (experts.experts_per_token * experts.intermediate_size + experts.shared_intermediate_size)
        outside += sparse * (experts.num_experts + experts.shared_gate) * d * tokens
    if model.windows:
        pairs = queries * sum(length if window is None else min(window, length) for window in model.windows)
    elif model.chunks:
        pairs = sum(pairs_in_chunks(queries, length, size or length) for size in model.chunks)
    else:
        pairs = model.num_layers * queries * length
    return {
        Part.PROJECTION: tokens * (model.num_layers * weights + matrices * d * ffn),
        Part.ATTENTION: batch * h * pairs * each,
        Part.STATE: 0,
        Part.UNQUANTIZED: outside,
    }


def pairs_in_chunks(queries, length, chunk):
    """Pairs of a query and a key in the same chunk; a single query is the last token."""
    whole, rest = divmod(length, chunk)
    return (rest or chunk) if queries == 1 else whole * chunk**2 + rest**2


def check_pass(step, model, queries, length, batch, absorbed):
    assert all(min(mm.m, mm.n, mm.k, mm.count) >= 1 for mm in step)
    found = {part: sum(mm.m * mm.n * mm.k * mm.count for mm in step if mm.part is part) for part in Part}
    assert found == macs(model, queries, length, batch, absorbed)
    if experts := model.experts:
        routed = [mm for mm in step if mm.name == "expert W_O"]
        sparse = model.num_layers - len(model.dense_layers)
        pairs = queries * batch * experts.experts_per_token
        assert sum(mm.m * mm.count for mm in routed) == sparse * pairs
        assert sum(mm.count for mm in routed) == sparse * min(experts.num_experts, pairs)
        assert max((mm.m for mm in routed), default=0) - min((mm.m for mm in routed), default=0) <= 1


models = st.one_of(st.sampled_from(NAMES).map(get_model), decoders(most=4096))


@fuzz
@given(one_in(10, models), one_in(6, SIZES), one_in(6, SIZES))
def test_decode_step(model, length, batch):
    step = answer(lambda: decode_step(model, length, batch), "model context_length batch")
    if not isinstance(model, Decoder) or as_size(length) is None or as_size(batch) is None:
        assert step is REJECTED
        return
    check_pass(step, model, 1, as_size(length), as_size(batch), absorbed=True)
    assert {mm.m for mm in step if mm.part is Part.ATTENTION} == {1}


@fuzz
@given(one_in(10, models), one_in(6, SIZES), one_in(6, SIZES))
def test_prefill(model, tokens, batch):
    step = answer(lambda: prefill(model, tokens, batch), "model tokens batch")
    if not isinstance(model, Decoder) or as_size(tokens) is None or as_size(batch) is None:
        assert step is REJECTED
        return
    check_pass(step, model, as_size(tokens), as_size(tokens), as_size(batch), absorbed=False)


def few(strategy, most=2):
    return st.lists(strategy, min_size=1, max_size=most)


def as_array(values):
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


KINDS = {"list": list, "tuple": tuple, "generator": lambda values: (value for value in values), "array": as_array}
"""The forms in which a list of good values is passed."""


def members(values):
    """What is listed, or None if nothing is."""
    try:
        return None if isinstance(values, str | bytes) else list(values) or None
    except TypeError:
        return None


@fuzz
@given(
    one_in(20, few(one_in(20, st.one_of(st.sampled_from(NAMES[:20]), decoders())))),
    one_in(20, few(one_in(20, st.one_of(SMALL, SMALL, SMALL, SMALL, SIZES)))),
    one_in(20, few(one_in(20, small_arrays))),
    st.sampled_from(sorted(KINDS)),
    one_in(20, st.sampled_from(["reported", "corrected"])),
    one_in(20, st.sampled_from(["activations", "weights"])),
)
def test_sweep(names, lengths, designs, kind, counting, ifmap):
    given_lists = [list(values) if isinstance(values, Iterator) else values for values in (names, lengths, designs)]
    passed = [KINDS[kind](values) if isinstance(values, list) else values for values in given_lists]
    known = f"model models context_length context_lengths hardware arrays counting ifmap sweep memory_accesses {COUNTS}"
    frame = answer(lambda: sweep(*passed, counting=counting, ifmap=ifmap), known)
    names, lengths, designs = map(members, given_lists)
    good = None not in (names, lengths, designs) and isinstance(counting, str) and isinstance(ifmap, str)
    good = good and counting in ("reported", "corrected") and ifmap in ("activations", "weights")
    good = good and all(isinstance(name, Decoder) or (isinstance(name, str) and name in NAMES) for name in names)
    good = good and all(map(as_size, lengths)) and all(isinstance(one, SystolicArray) for one in designs)
    if good:
        decoder = [name if isinstance(name, Decoder) else get_model(name) for name in names]
        sizes, labels = [as_size(length) for length in lengths], [(one.label, one.dataflow) for one in designs]
        known_models = [model.name for model in decoder]
        good = all(len(set(values)) == len(values) for values in (known_models, sizes, labels))
    if not good:
        assert frame is REJECTED
        return
    rows = []
    for array in designs:
        for metric in METRICS:
            for model in decoder:
                for length in sizes:
                    total = {Part.PROJECTION: 0, Part.ATTENTION: 0}
                    for mm in decode_step(model, length):
                        if mm.part in total:
                            m, n = (mm.m, mm.n) if ifmap == "activations" else (mm.n, mm.m)
                            counts = counts_of(m, n, mm.k, array, counting)
                            total[mm.part] += mm.count * (counts[0] if metric == "cycles" else sum(counts[1:]))
                    rows.append((model.name, length, array.label, array.dataflow, metric, *total.values()))
    if frame is REJECTED and any(row[5] + row[6] == 0 for row in rows):
        return  # no cycles, and no F
    if frame is REJECTED:
        most = max(row[5] + row[6] for row in rows)
        assert most > 0.998 * 2**63 or max(sizes) >= 2**63
        return
    assert list(frame.columns) == COLUMNS
    assert list(frame[COLUMNS[:-1]].itertuples(index=False, name=None)) == rows
    for row, fraction in zip(rows, frame.fraction, strict=True):
        assert fraction == pytest.approx(float(Fraction(row[5], row[5] + row[6])), rel=1e-15)
