"""Folds, serial and pipelined: `gemm_cost` against arrays that multiply register by register (`array_model.py`)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmamdahl.hardware import Dataflow, SystolicArray
from llmamdahl.systolic import SRAM_COUNTS, gemm_cost
from tests.array_model import ClashError, multiply


@st.composite
def cases(draw):
    """m, n, k and an array, with at most 4 x 4 folds, and two matrices."""
    array = SystolicArray(draw(st.integers(1, 7)), draw(st.integers(1, 7)), draw(st.sampled_from(list(Dataflow))))
    down = draw(st.integers(1, min(25, 4 * array.rows)))
    over = draw(st.integers(1, min(25, 4 * array.cols)))
    stream = draw(st.one_of(st.integers(1, 3), st.integers(1, 25)))  # few: the rows in use decide the interval
    dims = {"os": (down, over, stream), "ws": (stream, over, down), "is": (over, stream, down)}[array.dataflow]
    return dims, array, *matrices(*dims, draw(st.integers(0, 2**32 - 1)))


def matrices(m, n, k, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(-99, 100, (m, k)), generator.integers(-99, 100, (k, n))


def shape_of_folds(dims, array):
    """Vectors that a fold streams, and the rows that each fold uses, in order."""
    m, n, k = dims
    stream, down, over = {"os": (k, m, n), "ws": (m, k, n), "is": (n, k, m)}[array.dataflow]
    rows = [min(array.rows, down - first) for first in range(0, down, array.rows)]
    return stream, [used for used in rows for _ in range(0, over, array.cols)]


def cycles(dims, array, **reading):
    return gemm_cost(*dims, array, **reading).cycles


@settings(max_examples=100, deadline=None)
@given(cases())
def test_serial_folds_take_the_cycles_of_the_array(case):
    dims, array, a, b = case
    product, taken = multiply(a, b, array)
    assert (product == a @ b).all()
    assert taken == cycles(dims, array, counting="corrected")


@settings(max_examples=200, deadline=None)
@given(cases(), st.integers(0, 3))
def test_pipelined_folds_take_the_cycles_of_the_array(case, late):
    dims, array, a, b = case
    stream, rows = shape_of_folds(dims, array)
    product, taken = multiply(a, b, array, max(stream, rows[0]) + late)
    assert (product == a @ b).all()
    assert taken == cycles(dims, array, counting="corrected", folds="pipelined") + (len(rows) - 1) * late


@settings(max_examples=200, deadline=None)
@given(cases())
def test_this_array_allows_no_shorter_interval(case):
    dims, array, a, b = case
    stream, rows = shape_of_folds(dims, array)
    # The results of a fold wait for those of the fold before, and its weights for that fold's to be put to use: as many
    # cycles as it has rows in use itself. The first fold waits for nothing, so its rows do not count.
    interval, least = max(stream, rows[0]), max(stream, *(rows[1:] or rows))
    assert (least < interval) == (len(rows) == 2 and rows[0] > max(stream, rows[1]))  # a full fold, then a partial one
    product, taken = multiply(a, b, array, least)
    assert (product == a @ b).all()
    saved = (len(rows) - 1) * (interval - least)
    assert taken == cycles(dims, array, counting="corrected", folds="pipelined") - saved
    if len(rows) > 1 and least > 1:
        with pytest.raises(ClashError):
            multiply(a, b, array, least - 1)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_reported_counts_are_those_of_an_array_without_drain_less_one(case):
    dims, array, a, b = case
    stream, rows = shape_of_folds(dims, array)
    interval = stream if array.dataflow == "os" else max(stream, rows[0])
    for folds, start in (("serial", None), ("pipelined", interval)):
        product, taken = multiply(a, b, array, start, drain=False)
        assert (product == a @ b).all()
        assert taken - 1 == cycles(dims, array, folds=folds)


sizes = st.integers(1, 3000)
designs = st.builds(SystolicArray, st.integers(1, 300), st.integers(1, 300), st.sampled_from(list(Dataflow)))


@given(dims=st.tuples(sizes, sizes, sizes), array=designs)
def test_the_two_readings_and_the_two_counts_differ_as_documented(dims, array):
    stream, rows = shape_of_folds(dims, array)
    differ = {}
    for counting in ("reported", "corrected"):
        serial, pipelined = (
            gemm_cost(*dims, array, counting=counting, folds=folds) for folds in ("serial", "pipelined")
        )
        differ[counting] = pipelined.cycles
        assert pipelined.cycles <= serial.cycles
        # one PE without a drain has no fill either
        same = len(rows) == 1 or ((array.rows, array.cols, array.dataflow, counting) == (1, 1, "os", "reported"))
        assert (pipelined.cycles == serial.cycles) == same
        for count in (*SRAM_COUNTS[1:], "memory_accesses"):
            assert getattr(pipelined, count) == getattr(serial, count)
    uncounted = (len(rows) - 1) * max(0, rows[0] - stream) + array.rows if array.dataflow == "os" else 0
    assert differ["corrected"] - differ["reported"] == 1 + uncounted


@pytest.mark.parametrize(
    ("array", "dims", "serial", "interval", "pipelined"),
    [
        # The stream decides. OS: 2 folds of 3 + 2*2 + 2 - 2 cycles; WS: 4 folds of 2 + 4; IS: 2 folds of 4 + 4.
        (SystolicArray(2, 2, "os"), (2, 4, 3), 2 * 7, 3, 3 + 7),
        (SystolicArray(2, 2, "ws"), (2, 4, 3), 4 * 6, 2, 3 * 2 + 6),
        (SystolicArray(2, 2, "is"), (2, 4, 3), 2 * 8, 4, 4 + 8),
        # The rows in use decide, all 4 or 3 of 4: 2 folds of 1 + 2*4 + 2 - 2 cycles.
        (SystolicArray(4, 2, "os"), (4, 4, 1), 2 * 9, 4, 4 + 9),
        (SystolicArray(4, 2, "os"), (3, 4, 1), 2 * 9, 3, 3 + 9),
        (SystolicArray(4, 2, "ws"), (1, 4, 4), 2 * 9, 4, 4 + 9),
        (SystolicArray(4, 2, "ws"), (1, 4, 3), 2 * 9, 3, 3 + 9),
        (SystolicArray(4, 2, "is"), (4, 1, 3), 2 * 9, 3, 3 + 9),
    ],
)
def test_counts_by_hand(array, dims, serial, interval, pipelined):
    a, b = matrices(*dims)
    assert multiply(a, b, array)[1] == cycles(dims, array, counting="corrected") == serial
    counted = cycles(dims, array, counting="corrected", folds="pipelined")
    assert multiply(a, b, array, interval)[1] == counted == pipelined
    with pytest.raises(ClashError):
        multiply(a, b, array, interval - 1)


def test_a_partial_fold_after_the_only_full_one_could_start_earlier():
    # 5 x 1 times 1 x 2 on 4 x 2: the one result row of the second fold runs into none of the first fold's.
    dims, array = (5, 2, 1), SystolicArray(4, 2)
    a, b = matrices(*dims)
    product, taken = multiply(a, b, array, 1)
    assert (product == a @ b).all()
    assert (taken, cycles(dims, array, counting="corrected", folds="pipelined")) == (1 + 9, 4 + 9)
