"""The answers checked against brute force: each context length, each batch and each token, one by one."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmamdahl import analysis, question
from llmamdahl.analysis import (
    crossover_batch,
    crossover_context_length,
    crossovers,
    curves,
    fraction_by_batch,
    generation_cost,
    share,
    sweep,
)
from llmamdahl.design.shapes import fraction_by_array_size
from llmamdahl.errors import CountOverflowError, InputError
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, Dataflow, SystolicArray
from llmamdahl.models import Decoder, get_model, model_names
from llmamdahl.question import CONTEXT_AXIS, METRICS
from llmamdahl.roofline import Precision
from llmamdahl.systolic import gemm_cost
from llmamdahl.workload import MatMul, Part, decode_step, prefill

TINY = Decoder("tiny", 60, 3, 5, 110, True, 100, 128, 60)
ARRAYS = [SystolicArray(8, 8, dataflow) for dataflow in Dataflow] + [SystolicArray(7, 13), EDGE_TPU]


def windowed(model, window):
    """The model with this sliding window in each layer."""
    return replace(model, windows=(window,) * model.num_layers)


@given(
    dims=st.lists(st.integers(1, 300), min_size=3, max_size=3),
    grown=st.lists(st.integers(0, 300), min_size=3, max_size=3),
    array=st.builds(SystolicArray, st.integers(1, 40), st.integers(1, 40), st.sampled_from(list(Dataflow))),
    counting=st.sampled_from(["reported", "corrected"]),
)
def test_no_count_falls_when_a_dimension_grows(dims, grown, array, counting):
    less = gemm_cost(*dims, array, counting=counting)
    more = gemm_cost(*(dim + add for dim, add in zip(dims, grown, strict=True)), array, counting=counting)
    assert all(getattr(less, metric) <= getattr(more, metric) for metric in METRICS)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("counting", ["reported", "corrected"])
def test_share_is_the_sweep_and_the_fraction_of_its_parts(metric, counting):
    row = sweep(["opt-350m"], [300], [EDGE_TPU], counting=counting).query(f"metric == '{metric}'").iloc[0]
    found = share("opt-350m", 300, EDGE_TPU, metric=metric, counting=counting)
    assert (found.projection, found.attention, found.fraction) == (row.projection, row.attention, row.fraction)
    whole = share("opt-350m", 300, EDGE_TPU, metric=metric, counting=counting, unquantized=True)
    assert replace(whole, whole=found.whole, fraction=found.fraction, ceiling=found.ceiling) == found
    assert whole.fraction == found.projection / (found.projection + found.attention + found.unquantized)
    row = sweep(["opt-350m"], [300], [EDGE_TPU], counting=counting, metric=metric, unquantized=True).iloc[0]
    assert (row.unquantized, row.fraction) == (whole.unquantized, whole.fraction)
    assert pd.Series(whole.row()).equals(row) and whole.whole == "projection + attention + unquantized"


def test_share_by_hand():
    # one layer of 2 x 2 with one head on one cell, OS: a MatMul of 1 x n x k takes n folds of k cycles, less one
    model = Decoder("one", 2, 1, 1, 2, False, 3, 8, 2)
    found = share(model, 4, SystolicArray(1, 1))
    assert (found.projection, found.attention, found.unquantized) == (
        6 * (2 * 2 - 1),
        (4 * 2 - 1) + (2 * 4 - 1),
        3 * 2 - 1,
    )
    assert (found.fraction, found.ceiling) == (18 / 32, 32 / 14)


@pytest.mark.parametrize("array", ARRAYS, ids=str)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("batch", [1, 3])
def test_crossover_context_length_is_the_first_where_f_is_at_most_half(array, metric, batch):
    answer = crossover_context_length(TINY, array, metric=metric, batch=batch)
    found = [share(TINY, length, array, batch=batch, metric=metric).fraction <= 0.5 for length in range(1, answer + 50)]
    assert found.index(True) == answer - 1
    assert all(found[answer - 1 :])


@pytest.mark.parametrize("array", ARRAYS, ids=str)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("length", [2, 31, 64])
def test_crossover_batch_is_the_first_where_f_is_at_most_half(array, metric, length):
    answer = crossover_batch(TINY, length, array, metric=metric)
    found = [
        share(TINY, length, array, batch=batch, metric=metric).fraction <= 0.5
        for batch in range(1, (answer or 400) + 1)
    ]
    assert (found.index(True) + 1 if any(found) else None) == answer


def test_a_crossover_can_be_at_a_batch_of_1():
    assert share("gpt2", 2000, CLOUD_TPU).fraction <= 0.5
    assert crossover_batch("gpt2", 2000, CLOUD_TPU) == 1


def test_f_is_not_monotone_in_the_batch():
    answer = crossover_batch("gpt2", 128, EDGE_TPU)
    first, full, next_fold = (share("gpt2", 128, EDGE_TPU, batch=batch).fraction for batch in (answer, 32, 33))
    assert answer == 23
    assert full < first <= 0.5 < next_fold  # at 33 sequences the projections need a second fold


def test_crossovers_of_the_paper_are_where_the_sweep_says():
    frame = crossovers(model_names(), [CLOUD_TPU, EDGE_TPU])
    assert len(frame) == 13 * 2 * 2
    arrays = {"cloud": CLOUD_TPU, "edge": EDGE_TPU}
    for row in frame.itertuples():
        around = sweep([row.model], [row.context_length - 1, row.context_length], [arrays[row.array]])
        below, at = around[around.metric == row.metric].fraction
        assert at <= 0.5 < below
    cloud = frame.query("array == 'cloud' and metric == 'cycles'").set_index("model").context_length
    assert cloud["opt-350m"] == 1025  # the first token of a fifth fold of 256
    assert (cloud % 256 == 1).sum() == 12  # all but OPT 66B's 16251, which k of scores·V decides, not a new fold


def test_there_may_be_no_crossover():
    assert crossover_batch("gpt2", 1, EDGE_TPU) is None
    model = windowed(get_model("gpt2"), 128)
    assert crossover_context_length(model, EDGE_TPU) is None
    frame = crossovers([model], [EDGE_TPU])
    assert frame.context_length.isna().all()
    assert crossover_context_length(model, EDGE_TPU, batch=30) == 76  # many sequences: within the window


@pytest.mark.parametrize("array", ARRAYS, ids=str)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("counting", ["reported", "corrected"])
@pytest.mark.parametrize("window", [7, 20, 10_000])
def test_generation_cost_is_the_sum_over_its_steps(array, metric, counting, window):
    model = windowed(TINY, window)
    matmuls = [*prefill(model, 12, 2)]
    for length in range(13, 13 + 40):
        matmuls += decode_step(model, length, 2)
    parts = dict.fromkeys(Part, 0)
    for mm in matmuls:
        parts[mm.part] += getattr(gemm_cost(mm.m, mm.n, mm.k, array, counting=counting), metric) * mm.count
    asked = {"new_tokens": 40, "batch": 2, "metric": metric, "counting": counting}
    found = generation_cost(model, 12, array, **asked)
    assert [getattr(found, part) for part in Part] == [*parts.values()]
    assert found.fraction == parts[Part.PROJECTION] / (parts["projection"] + parts["attention"])
    assert found.phase == "generation"
    whole = generation_cost(model, 12, array, **asked, unquantized=True)
    assert whole.fraction == parts[Part.PROJECTION] / sum(parts.values())


def test_one_new_token_costs_the_prefill_and_one_step():
    for hardware in (EDGE_TPU, "A100 80GB"):
        whole, step = generation_cost("gpt2", 30, hardware, new_tokens=1), share("gpt2", 31, hardware)
        before = share("gpt2", 30, hardware, phase="prefill")
        for part in Part:
            assert getattr(whole, part) == pytest.approx(getattr(before, part) + getattr(step, part), rel=1e-14)


def test_the_search_covers_the_bounds_that_the_command_line_names():
    assert (analysis.LARGEST_BATCH, question.LONGEST_CONTEXT) == (2**16, 2**30)

    def share_at(x):
        return SimpleNamespace(projection=10, attention=x, state=0, unquantized=0, whole="projection + attention")

    assert [analysis._overtaking(share_at, bound) for bound in (9, 10, 11)] == [None, 10, 10]


def test_a_generation_of_more_tokens_than_can_be_counted_is_rejected():
    with pytest.raises(CountOverflowError, match=rf"^prompt_tokens: {2**63} tokens in all do not fit"):
        generation_cost("opt-350m", 2**63 - 1, "cloud", new_tokens=1)


def test_curves_name_the_state_in_the_whole():
    (whole,) = set(curves(share("falcon-h1-0.5b", 512, "cloud"), [2]).whole)
    assert whole == "projection + attention + state"


def test_ten_thousand_tokens_take_little_longer_than_one():
    def cpu_seconds(tokens):
        start = time.process_time()
        generation_cost("opt-66b", 2048, CLOUD_TPU, new_tokens=tokens)
        return time.process_time() - start

    one, many = (min(cpu_seconds(tokens) for _ in range(5)) for tokens in (1, 10_000))
    assert many < 10 * one + 0.1  # it is about 2, a loop over tokens would take thousands; a clock can tick every 10 ms


def test_attention_of_an_unknown_kind_is_rejected(monkeypatch):
    strange = MatMul("Q·memory", Part.ATTENTION, 1, 5, 7, 1)
    monkeypatch.setattr(question, "matmuls", lambda *_, **__: (strange,))
    with pytest.raises(InputError, match=r"^model: 'Q·memory' is attention of an unknown kind; known: Q·Kᵀ, scores·V"):
        generation_cost("gpt2", 1, EDGE_TPU, new_tokens=1)


def test_context_axis_names_the_dimension_of_the_context():
    for matmul in decode_step(get_model("opt-6.7b"), 77):
        if matmul.part is Part.ATTENTION:
            assert getattr(matmul, CONTEXT_AXIS[matmul.name]) == 77


@pytest.mark.parametrize("dataflow", list(Dataflow))
def test_fraction_by_array_size_is_share(dataflow):
    frame = fraction_by_array_size("opt-350m", 500, np.array([8, 100]), dataflow=dataflow, counting="corrected")
    assert frame["size"].tolist() == [8, 8, 100, 100]
    for row in frame.itertuples():
        array = SystolicArray(row.size, row.size, dataflow)
        assert row.fraction == share("opt-350m", 500, array, metric=row.metric, counting="corrected").fraction
        assert row.ceiling == pytest.approx(1 / (1 - row.fraction))


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match=r"^metric: edge has no 'latency'; it has cycles, memory_accesses, bytes"):
        share("gpt2", 128, EDGE_TPU, metric="latency")
    with pytest.raises(InputError, match=r"^model: 'gpt5' is unknown; did you mean gpt2"):
        crossover_context_length("gpt5", EDGE_TPU)
    with pytest.raises(InputError, match=r"^model: None is unknown; "):
        crossover_context_length(None, EDGE_TPU)
    with pytest.raises(InputError, match=r"^hardware: 'edgy' is unknown; did you mean edge\?"):
        crossover_batch("gpt2", 128, "edgy")
    with pytest.raises(InputError, match=r"^hardware: 256 is not a SystolicArray, a Device, or the name of one"):
        share("gpt2", 128, 256)
    with pytest.raises(InputError, match=r"^metric: edge has no 'seconds'; it has cycles, memory_accesses, bytes"):
        share("gpt2", 128, "edge", metric="seconds")
    with pytest.raises(InputError, match=r"^metric: H200 has no 'cycles'; it has seconds, bytes"):
        sweep(["gpt2"], [128], ["H200"], metric="cycles")
    with pytest.raises(InputError, match=r"^precision: 2 is not a Precision"):
        share("gpt2", 128, "H200", precision=2)
    with pytest.raises(InputError, match=r"^unquantized: 'yes' is not a bool"):
        share("gpt2", 128, "H200", unquantized="yes")
    with pytest.raises(InputError, match=r"^partial_speedups: an array of 2 dimensions is not a list of numbers"):
        curves(share("gpt2", 128, "H200"), [[1, 2]])
    with pytest.raises(InputError, match=r"^batch: 3 is given, but the batch is what varies here"):
        crossover_batch("gpt2", 128, "edge", batch=3)
    with pytest.raises(InputError, match=r"^phase: 'prefill' is given, but a context length is found for decode only"):
        crossover_context_length("gpt2", "edge", phase="prefill")
    with pytest.raises(InputError, match=r"^batch: 8 is given, but the batch is what varies here"):
        fraction_by_batch(["gpt2"], 128, "edge", batches=[1], batch=8)
    with pytest.raises(InputError, match=r"^precision: a crossover has one set of bit widths; give it as baseline"):
        crossover_context_length("gpt2", "H200", precision=Precision(2))
    with pytest.raises(InputError, match=r"^precision: a crossover has one set of bit widths; give it as baseline"):
        crossover_batch("gpt2", 128, "H200", precision=Precision(2))
    with pytest.raises(InputError, match=r"^ifmap: 'weights' is given, but seconds of H200 do not depend on it"):
        sweep(["gpt2"], [128], ["H200"], ifmap="weights")
    with pytest.raises(InputError, match=r"^counting: 'corrected' is given, but H200 is not an array"):
        share("gpt2", 128, "H200", counting="corrected")
    with pytest.raises(
        TypeError, match="unexpected keyword precison; known: batch, phase, heads, experts, metric, counting"
    ):
        crossover_batch("gpt2", 128, "edge", precison=2)
    with pytest.raises(InputError, match=r"^new_tokens: 100000000 is too many; at most 16777216"):
        generation_cost("gpt2", 1, "edge", new_tokens=10**8)
    for wrong in ("gpt2", 3, None):
        with pytest.raises(InputError, match=rf"^shares: {wrong!r} is not what `share` or `sweep` returns; ask one"):
            curves(wrong, [1])
    with pytest.raises(InputError, match=r"^shares: 'gpt2' is not a Share"):
        curves(["gpt2"], [1])
    with pytest.raises(InputError, match=r"^partial_speedups: \['a'\] is not a number, or an array of them"):
        curves(share("gpt2", 1, "edge"), ["a"])
    with pytest.raises(CountOverflowError, match=r"^W_I: its bytes or operations are too large for a float"):
        share("gpt2", 128, "H200", batch=2**999)
    with pytest.raises(InputError, match=r"^context_length: 0 "):
        crossover_batch("gpt2", 0, EDGE_TPU)
    with pytest.raises(InputError, match=r"^batch: 0 is not a positive whole number"):
        crossover_context_length("gpt2", EDGE_TPU, batch=0)
    with pytest.raises(InputError, match=r"^counting: 'true' is unknown; known: reported, corrected"):
        crossover_context_length("gpt2", EDGE_TPU, counting="true")
    for prompt, new, field in ((0, 5, "prompt_tokens: 0"), (5, 2.0, r"new_tokens: 2\.0")):
        with pytest.raises(InputError, match=f"^{field} is not a positive whole number"):
            generation_cost("gpt2", prompt, EDGE_TPU, new_tokens=new)
    with pytest.raises(InputError, match=r"^sizes: 0 is not a positive whole number"):
        fraction_by_array_size("gpt2", 128, [8, 0])
    with pytest.raises(InputError, match=r"^sizes: 8 is listed 2 times"):
        fraction_by_array_size("gpt2", 128, [8, 8])
    with pytest.raises(InputError, match=r"^arrays: SystolicArray\(.* is not a list; write \["):
        crossovers(["gpt2"], EDGE_TPU)
    with pytest.raises(InputError, match=r"^arrays: '4x4, os' is listed 2 times"):
        crossovers(["gpt2"], [SystolicArray(4, 4), SystolicArray(4, 4, ifmap_sram_kb=1)])
    with pytest.raises(InputError, match=r"^models: 'gpt2' is listed 2 times"):
        crossovers(["gpt2", get_model("gpt2")], [EDGE_TPU])
    with pytest.raises(InputError, match=r"^model: None is unknown"):
        crossovers([None], [EDGE_TPU])


@pytest.mark.parametrize("batch", [1, 3])
def test_a_prefill_s_share_is_the_sum_over_its_matmuls(batch):
    parts = dict.fromkeys(Part, 0)
    for matmul in prefill(get_model("opt-350m"), 96, batch):
        parts[matmul.part] += gemm_cost(matmul.m, matmul.n, matmul.k, EDGE_TPU).cycles * matmul.count
    found = share("opt-350m", 96, EDGE_TPU, batch=batch, phase="prefill")
    assert tuple(getattr(found, part) for part in Part) == tuple(parts[part] for part in Part)
    with_rest = share("opt-350m", 96, EDGE_TPU, batch=batch, phase="prefill", unquantized=True)
    assert with_rest.fraction == parts[Part.PROJECTION] / sum(parts.values())


def test_fraction_by_batch_is_share():
    frame = fraction_by_batch(["opt-350m", "gpt2"], 256, EDGE_TPU, batches=[1, 8], metric="cycles")
    assert frame[["model", "batch"]].values.tolist() == [["opt-350m", 1], ["opt-350m", 8], ["gpt2", 1], ["gpt2", 8]]
    for row in frame.itertuples():
        assert row.fraction == share(row.model, 256, EDGE_TPU, batch=row.batch).fraction
    with pytest.raises(InputError, match=r"^batches: 8 is listed 2 times"):
        fraction_by_batch(["gpt2"], 256, EDGE_TPU, batches=[8, 8])


@pytest.mark.parametrize("metric", ["bytes", "seconds"])
def test_long_generations_do_not_wrap(metric):
    """Prompts whose bytes, multiplied out, are above 2**63."""
    asked = {"batch": 65536, "metric": metric}
    whole = generation_cost("llama-3.1-405b", 10**7, "H200", new_tokens=3, **asked)
    steps = [share("llama-3.1-405b", 10**7, "H200", phase="prefill", **asked)]
    steps += [share("llama-3.1-405b", 10**7 + new, "H200", **asked) for new in (1, 2, 3)]
    assert whole.attention == pytest.approx(sum(step.attention for step in steps))
    assert whole.projection == pytest.approx(sum(step.projection for step in steps))


def test_sizes_of_numpy_become_plain():
    found = share("gpt2", np.int64(128), "edge", batch=np.int32(2), precision=Precision(weights=np.int64(4)))
    assert type(found.context_length) is type(found.batch) is type(found.precision.weights) is int
    assert Precision(weights=np.float32(1.5)) == Precision(weights=1.5)


@pytest.mark.parametrize(
    ("model", "heads", "fraction", "length", "batch"),
    [
        ("llama-3.1-8b", "per_head", 0.793, 8193, 4),
        ("llama-3.1-8b", "grouped", 0.939, 33_281, 16),
        ("deepseek-v3", "per_head", 0.611, 3280, 5),
        ("deepseek-v3", "grouped", 0.995, 444_673, 5499),
    ],
)
def test_heads_that_share_k_and_v_in_one_matmul_turn_the_conclusion(model, heads, fraction, length, batch):
    assert round(share(model, 2048, "cloud", heads=heads).fraction, 3) == fraction
    for at, below in ((length - 1, False), (length, True)):
        assert (share(model, at, "cloud", heads=heads).fraction <= 0.5) == below
    assert crossover_context_length(model, "cloud", heads=heads) == length
    assert crossover_batch(model, 2048, "cloud", heads=heads) == batch


def test_the_array_takes_as_long_for_four_rows_as_for_one():
    assert gemm_cost(1, 2048, 128, "cloud").cycles == gemm_cost(4, 2048, 128, "cloud").cycles == 5103


def test_heads_reach_every_question():
    model, asked = "llama-3.1-8b", {"heads": "grouped"}
    found = share(model, 500, "edge", **asked)
    assert sweep([model], [500], ["edge"], metric="cycles", **asked).fraction.item() == found.fraction
    assert fraction_by_batch([model], 500, "edge", batches=[1], **asked).fraction.item() == found.fraction
    parts = [share(model, 500, "edge", phase="prefill", **asked), share(model, 501, "edge", **asked)]
    generated = generation_cost(model, 500, "edge", new_tokens=1, **asked)
    assert generated.attention == sum(part.attention for part in parts)
    assert crossovers([model], ["cloud"], metric="cycles", **asked).context_length.item() == 33_281
    for metric in ("bytes", "seconds"):  # which read a shared K and V once either way
        per_head, grouped = (share(model, 500, "H200", metric=metric, heads=heads) for heads in ("per_head", "grouped"))
        assert replace(grouped, heads="per_head") == per_head
    with pytest.raises(InputError, match=r"^heads: 'all' is unknown; known: per_head, grouped"):
        share(model, 500, "edge", heads="all")
