"""SystolicArray and gemm_cost, against SCALE-Sim's table of counts in Python's ints."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs import INTS, REJECTED, SIZES, answer, arrays, as_size, counts_of, dataflows, fuzz, one_in

from llmamdahl.errors import CountOverflowError
from llmamdahl.hardware import Dataflow, SystolicArray
from llmamdahl.systolic import SRAM_COUNTS, gemm_cost


@fuzz
@given(st.data())
def test_systolic_array(data):
    given_values = {
        "rows": data.draw(one_in(12, SIZES)),
        "cols": data.draw(one_in(12, SIZES)),
        "dataflow": data.draw(one_in(12, dataflows)),
        "ifmap_sram_kb": data.draw(one_in(12, SIZES)),
        "filter_sram_kb": data.draw(one_in(12, SIZES)),
        "ofmap_sram_kb": data.draw(one_in(12, SIZES)),
        "name": data.draw(one_in(12, st.text())),
    }
    sizes = {name: as_size(value) for name, value in given_values.items() if name not in ("dataflow", "name")}
    flow, name = given_values["dataflow"], given_values["name"]
    good = None not in sizes.values() and isinstance(flow, str) and flow in ("os", "ws", "is") and isinstance(name, str)
    array = answer(lambda: SystolicArray(**given_values), " ".join(given_values))
    assert (array is not REJECTED) == good
    if good:
        assert {name: getattr(array, name) for name in sizes} == sizes
        assert array.dataflow == flow and isinstance(array.dataflow, Dataflow)
        assert array.label == (name or f"{sizes['rows']}x{sizes['cols']}")
        assert array == replace(array, name="another") and hash(array) == hash(replace(array, name="another"))


def as_dimension(value):
    """An object array of ints >= 1, or None."""
    if as_size(value) is not None:
        return np.array(as_size(value), dtype=object)
    if np.ma.is_masked(value):
        return None
    try:
        values = np.asarray(value)
    except ValueError:
        return None
    good = values.ndim and values.dtype.kind in "iu" and (values >= 1).all()
    return values.astype(object) if good else None


SHAPES = st.sampled_from([(1,), (2,), (3,), (1, 1), (2, 1), (1, 3), (2, 3), (0,), (2, 1, 1)])
int_arrays = st.builds(
    lambda shape, kind, seed, top: np.random.default_rng(seed).integers(1, top, shape).astype(kind),
    SHAPES,
    st.sampled_from([np.int64, np.int64, np.uint64, np.int32, np.uint16]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([2, 100, 5000, 30000]),
)
large_arrays = st.builds(lambda values: np.array(values), st.lists(st.integers(1, 2**63 - 1), min_size=1, max_size=3))
dimensions = st.one_of(
    INTS, INTS, int_arrays, large_arrays, st.lists(INTS, min_size=1, max_size=3),
    st.builds(pd.Series, int_arrays.map(np.ravel)),
    st.integers(1, 100).map(np.array), st.just(range(1, 4)),
)  # fmt: skip


@fuzz
@given(one_in(8, dimensions), one_in(8, dimensions), one_in(8, dimensions), st.data())
def test_gemm_cost(m, n, k, data):
    array = data.draw(one_in(15, arrays))
    counting = data.draw(one_in(15, st.sampled_from(["reported", "corrected"])))
    folds = data.draw(one_in(15, st.sampled_from(["serial", "pipelined"])))
    cost = answer(
        lambda: gemm_cost(m, n, k, array, counting=counting, folds=folds),
        f"m n k array hardware counting folds memory_accesses {' '.join(SRAM_COUNTS)}",
    )
    dims = [as_dimension(value) for value in (m, n, k)]
    good = all(dim is not None for dim in dims) and isinstance(array, SystolicArray)
    good = good and isinstance(counting, str) and counting in ("reported", "corrected")
    good = good and isinstance(folds, str) and folds in ("serial", "pipelined")
    try:
        together = np.broadcast_arrays(*dims) if good else None
    except ValueError:
        together = None
    if together is None:
        assert cost is REJECTED
        return
    each = zip(*(dim.ravel() for dim in together), strict=True)
    expected = [counts_of(*sizes, array, counting, folds) for sizes in each]
    too_large = any(dim.ndim and dim.size and dim.max() > 2**63 - 1 for dim in dims)  # even next to an empty array
    if too_large or any(max(counts[0], sum(counts[1:])) > 2**63 - 1 for counts in expected):
        assert cost is REJECTED
        with pytest.raises(CountOverflowError):
            gemm_cost(m, n, k, array, counting=counting, folds=folds)
        return
    assert cost is not REJECTED
    counts = [getattr(cost, count) for count in SRAM_COUNTS]
    if together[0].ndim:
        assert all(count.shape == together[0].shape and count.dtype == np.int64 for count in counts)
        assert cost.memory_accesses.ravel().tolist() == [sum(one[1:]) for one in expected]
    else:
        assert all(type(count) is int for count in counts)
        assert cost.memory_accesses == sum(expected[0][1:])
    assert list(zip(*(np.ravel(count).tolist() for count in counts), strict=True)) == expected
