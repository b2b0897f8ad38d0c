"""Equal area and the split of the silicon: against share and brute force, by hand where a product decides."""

from dataclasses import replace

import numpy as np
import pytest

from llmamdahl.analysis import share
from llmamdahl.design import figures
from llmamdahl.design.area import accumulator_bits, best_split, equal_area, narrow_weights
from llmamdahl.errors import InputError
from llmamdahl.hardware import EDGE_TPU, SystolicArray
from llmamdahl.roofline import BYTE, Precision
from llmamdahl.silicon.elements import WEIGHT_BITS, pe_area

EDGE = replace(EDGE_TPU, clock_mhz=700)


@pytest.mark.parametrize(
    ("weights", "largest"), [("int8", 128 * 128), ("int4", 128 * 8), ("ternary", 128), ("binary", 128)]
)
def test_accumulators_never_overflow_and_are_the_narrowest(weights, largest):
    for longest in (1, 31, 32, 511, 512, 4095, 4096, 8191, 8192, 65_535, 65_536, 100_000):
        bits = accumulator_bits(weights, longest)
        assert longest * largest <= 2 ** (bits - 1) - 1
        narrower = [one for one in (20, 24) if one < bits]
        assert all(longest * largest > 2 ** (one - 1) - 1 for one in narrower)
    with pytest.raises(InputError, match=r"^longest: sums of \d+ products need more"):
        accumulator_bits(weights, 2**31)


@pytest.mark.parametrize("weights", ["int8", "int4", "ternary", "binary"])
def test_shapes_of_equal_area_fit_and_no_column_more_does(weights):
    longest = 4096
    area = 32 * 32 * pe_area("int8", "os", 32, "um2")
    shapes = equal_area("edge", weights, longest)
    assert {str(shape.dataflow) for shape in shapes} == {"os", "ws"}

    def fits(shape):
        sums = longest if shape.dataflow == "os" else shape.rows
        pe = pe_area(weights, str(shape.dataflow), accumulator_bits(weights, sums), "um2")
        edge = 8 * shape.rows + WEIGHT_BITS[weights] * shape.cols
        return shape.rows * shape.cols * pe <= area and edge <= 8 * 64

    assert all(fits(shape) for shape in shapes)
    assert not any(fits(replace(shape, cols=shape.cols + 1)) for shape in shapes)
    assert weights != "int8" or any((shape.rows, shape.cols, shape.dataflow) == (32, 32, "os") for shape in shapes)


def test_narrow_weights_alone_gain_nothing_where_the_array_binds():
    frame = narrow_weights("opt-6.7b", 2048, EDGE, [1, 1000]).set_index(["bandwidth", "pes", "weights"]).sort_index()
    fast = frame.loc[1000, "same"]
    assert (fast.partial_speedup == 1).all() and (fast.total_speedup == 1).all() and (fast.regime == "array").all()
    slow = frame.loc[1, "same"]
    assert (slow.regime == "memory").all()
    bits = {"int8": 1, "int4": 2, "ternary": 4, "binary": 8}
    assert slow.partial_speedup.to_dict() == pytest.approx(bits, rel=0.01)  # but for the bytes of activations
    # with PEs of equal area the memory is the same memory
    assert frame.loc[1, "equal area"].partial_speedup.to_dict() == pytest.approx(bits, rel=0.01)
    assert (frame.loc[1000, "equal area"].partial_speedup >= fast.partial_speedup).all()


def test_narrow_weights_are_shares():
    frame = narrow_weights("llama-3.1-8b", 4096, EDGE, [20], weights=["ternary"], heads="grouped", batch=3)
    before = share("llama-3.1-8b", 4096, replace(EDGE, dram_gb_s=20), heads="grouped", batch=3)
    for row in frame.itertuples():
        place = replace(EDGE, rows=row.rows, cols=row.cols, dataflow=row.dataflow, dram_gb_s=20)
        after = share("llama-3.1-8b", 4096, place, heads="grouped", batch=3, baseline=replace(BYTE, weights=2))
        assert row.fraction == before.fraction
        assert row.partial_speedup == pytest.approx(before.projection / after.projection)
        expected = (before.projection + before.attention) / (after.projection + before.attention)
        assert row.total_speedup == pytest.approx(expected)
        assert (row.regime == "memory") == (after.bound["projection"] == "memory")


def test_short_folds_are_overhead():
    tall = SystolicArray(512, 512, clock_mhz=700)
    found = narrow_weights("opt-350m", 128, tall, [10_000], weights=["ternary"])
    assert found.regime[0] == "array"  # k = 1024 against a fill of 1022
    wide = SystolicArray(2048, 2048, clock_mhz=700)
    assert narrow_weights("opt-350m", 128, wide, [10_000], weights=["ternary"]).regime[0] == "overhead"


@pytest.mark.parametrize("dram", [None, 5])
def test_the_best_split_is_the_best_of_all(dram):
    array = replace(EDGE, dram_gb_s=dram)
    found = best_split(["opt-350m"], 512, array, batches=[1, 4], folds="pipelined").set_index(["batch", "mode"])
    ratio = pe_area("int8", "os", 32, "um2") / pe_area("ternary", "os", 24, "um2")
    for batch in (1, 4):
        asked = {"folds": "pipelined", "batch": batch, "metric": "seconds"}
        before = share("opt-350m", 512, array, **asked)
        total = before.projection + before.attention
        moved = share("opt-350m", 512, array, **{**asked, "metric": "bytes"}, baseline=replace(BYTE, weights=2))
        shared = (moved.projection + moved.attention) / 1e9 / dram if dram else 0
        best = dict.fromkeys(("in sequence", "overlapped"), 0.0)
        for kept in range(1, 32):
            narrow = replace(array, cols=int((32 - kept) * ratio))
            p = share("opt-350m", 512, narrow, **asked, baseline=replace(BYTE, weights=2)).projection
            a = share("opt-350m", 512, replace(array, cols=kept), **asked).attention
            best["in sequence"] = max(best["in sequence"], total / (p + a))
            best["overlapped"] = max(best["overlapped"], total / max(p, a, shared))
        for mode, speedup in best.items():
            assert found.loc[(batch, mode)].total_speedup == pytest.approx(speedup)


def test_a_given_split_is_no_better_than_the_best():
    best = best_split(["opt-350m"], 512, "edge").set_index("mode")
    for x in (0.01, 0.3, 0.5, 0.99):
        given = best_split(["opt-350m"], 512, "edge", x=x).set_index("mode")
        assert (given.total_speedup <= best.total_speedup).all()
        assert (given.x - x).abs().max() <= 1 / 32
    again = best_split(["opt-350m"], 512, "edge", x=float(best.x["overlapped"])).set_index("mode")
    assert again.total_speedup["overlapped"] == best.total_speedup["overlapped"]


def test_more_area_is_never_slower():
    found = [
        narrow_weights("opt-350m", 512, EDGE, [50], weights=["ternary"], batch=64, area=area) for area in (0.5, 1, 2)
    ]
    speedups = [frame.set_index("pes").partial_speedup["equal area"] for frame in found]
    assert speedups == sorted(speedups) and speedups[0] < speedups[1]


def test_the_rule_is_the_minimum_of_its_own_model():
    found = best_split(["opt-6.7b"], 2048, "cloud").set_index("mode")
    x = np.linspace(0.001, 0.999, 9999)
    before = share("opt-6.7b", 2048, "cloud")
    full = replace(
        SystolicArray(256, 256), cols=int(256 * pe_area("int8", "os", 32, "um2") / pe_area("ternary", "os", 24, "um2"))
    )
    p, a = share("opt-6.7b", 2048, full).projection, before.attention
    total = before.projection + before.attention
    for mode, cost in (("in sequence", p / x + a / (1 - x)), ("overlapped", np.maximum(p / x, a / (1 - x)))):
        assert found.rule_speedup[mode] == pytest.approx(total / cost.min(), rel=1e-3)
        assert found.rule_x[mode] == pytest.approx(x[cost.argmin()], abs=1e-3)


def test_figures_of_area():
    frame = narrow_weights("opt-350m", 128, EDGE, [1, 100], weights=["int8", "ternary"]).assign(source="edge array")
    figure = figures.narrow_lines(frame, "title")
    assert [axis.get_title() for axis in figure.axes[:2]] == ["edge array\nINT8 PEs", "edge array\nPEs of equal area"]
    split = figures.split_lines(best_split(["opt-350m"], 128, "edge", batches=[1, 2]), "title")
    assert [axis.get_title() for axis in split.axes[:2]] == ["in sequence", "overlapped"]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (lambda: narrow_weights("gpt2", 128, "edge", [10]), "array: edge has no clock"),
        (lambda: narrow_weights("gpt2", 128, EDGE, [0]), "bandwidths: 0 is not a number above 0"),
        (
            lambda: narrow_weights("gpt2", 128, EDGE, [1], weights=["int2"]),
            "weights: 'int2' is unknown; known: int8, int4",
        ),
        (lambda: narrow_weights("gpt2", 128, EDGE, [1], precision=Precision(2)), "precision: .* is given"),
        (lambda: best_split(["gpt2"], 128, SystolicArray(4, 1)), "array: 4x1 has one column"),
        (lambda: best_split(["gpt2"], 128, "edge", weights="int2"), "weights: 'int2' is unknown"),
        (lambda: best_split(["gpt2"], 128, "edge", batch=2), "batch: 2 is given"),
        (lambda: best_split(["gpt2"], 128, "edge", x=1), "x: 1 is not a share of the area between 0 and 1"),
        (lambda: best_split(["gpt2"], 128, "edge", x=-0.1), "x: -0.1 is not a share"),
        (lambda: best_split(["gpt2"], 128, "edge", x="half"), "x: 'half' is not a share"),
        (lambda: narrow_weights("gpt2", 128, EDGE, [1], area=0), "area: 0 is not a number above 0"),
        (lambda: equal_area("edge", "ternary", 64, area=-1), "area: -1 is not a number above 0"),
    ],
)
def test_bad_input_is_named(question, message):
    with pytest.raises(InputError, match=f"^{message}"):
        question()
