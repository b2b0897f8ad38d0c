"""Inputs of the fuzz tests: sizes, arrays and nonsense; `answer`, which makes a call; and the counts to expect."""

import math
import os
import re
import signal
import warnings
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from llmamdahl.errors import InputError
from llmamdahl.hardware import CLOUD_TPU, Dataflow, SystolicArray
from llmamdahl.workload import Part

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES == 200,
    deadline=None,  # `answer` has its own
    database=None,
    suppress_health_check=list(HealthCheck),
)
REJECTED = object()
TALLY = Counter()


def fuzz(test):
    """Run a `given` test over `EXAMPLES`, and check that more than 5% of them gave an answer."""

    def tried():
        TALLY.clear()
        SETTINGS(test)()
        assert TALLY["answered"] > EXAMPLES / 20, TALLY

    return tried


def answer(call, names):
    """The result of the call, or REJECTED if it raises an `InputError` that names one of the arguments."""

    def out_of_time(*_):
        raise TimeoutError("no answer after ten seconds")

    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(10)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = call()
            TALLY["answered"] += 1
            return result
    except InputError as error:
        message = str(error)
        named = any(re.search(rf"(^|[ .]){re.escape(name.removesuffix(':'))}: ", message) for name in names.split())
        assert named and len(message) < 3000, message[:3000]
        return REJECTED
    finally:
        signal.alarm(0)


NONSENSE = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.complex_numbers(),
    st.floats(),
    st.integers(max_value=0),
    st.lists(st.one_of(st.none(), st.text(max_size=2), st.floats(), st.integers()), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.sampled_from(
        [
            object(), object, ..., math.nan, math.inf, -math.inf, -0.0, 1.0, 2.5, pd.NA, pd.NaT, np.nan, {1, 2}, set(),
            frozenset({3}), (), [], [[1, 2], [3]], [[1], [2, [3]]], [None], [[]], -(10**30),
            [10**30], 10**400, 2**1000, Decimal("0.5"), Decimal("nan"), Fraction(1, 2), Fraction(5), b"ab",
            bytearray(b"ab"), memoryview(b"ab"), range(0), len, int, np.bool_(True), np.float32(2), np.float64(0.5),
            np.datetime64("2020-01-01"), np.timedelta64(5, "s"), np.array([]), np.array("os"), np.array(["1", "2"]),
            np.array([1.5]), np.array([0.5 + 1j]), np.array([True]), np.array(True), np.array(["2020"], dtype="M8[Y]"),
            np.array([3], dtype="m8[s]"), np.array([None, 1]), np.array([[1, 0], [2, 3]]),
            np.ma.array([1, 2], mask=[0, 1]),
            np.ma.array(5, mask=True), np.ma.masked, np.zeros(2, dtype=[("a", int)]), pd.Series(["os", "ws"]),
            pd.Series([1.5, None]), pd.Series([1, None], dtype="Int64"), pd.DataFrame({"a": [0.5]}), "a" * 5000, "\0",
            "\ud800", "1", "0.5", Path("gpt2"), CLOUD_TPU, Part.PROJECTION, Exception("no"), float, "a\nb",
        ]
    ),
    st.builds(lambda sign: sign * 10**5000, st.sampled_from([1, -1])),  # Python does not print it
    st.builds(lambda: [10**5000]),
    st.builds(lambda: (value for value in (1, 2))),
    st.builds(lambda: iter([0.5])),
)  # fmt: skip
"""Values that are wrong for every argument, and a few that are right for some."""

EDGES = st.sampled_from([1, 2, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64, 10**30])
SMALL = st.integers(1, 6000)
INTS = st.one_of(SMALL, SMALL, SMALL, EDGES)
NUMPY_INTS = st.sampled_from([np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64])
SIZES = st.one_of(INTS, INTS, st.builds(lambda kind, value: kind(value), NUMPY_INTS, st.integers(1, 100)))


def as_size(value):
    """A valid size as an int >= 1; None if it is not valid."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iu" and not np.ma.is_masked(value):
        return int(value) if value >= 1 else None
    return int(value) if whole and 1 <= value < 2**1000 else None


def one_in(odds, strategy, otherwise=NONSENSE):
    """Draw from `otherwise` in one of `odds` cases, and else from `strategy`."""
    return st.sampled_from([strategy] * (odds - 1) + [otherwise]).flatmap(lambda chosen: chosen)


dataflows = st.sampled_from([*Dataflow, "os", "ws", "is"])
extents = st.one_of(st.integers(1, 300), st.sampled_from([1, 2**31, 2**62, 10**30]))
arrays = st.builds(SystolicArray, extents, extents, dataflows)
small_arrays = st.builds(SystolicArray, st.integers(1, 300), st.integers(1, 300), dataflows)


def counts_of(m, n, k, array, counting, reading="serial"):
    """The table of SCALE-Sim's counts for one MatMul, in Python's ints: cycles, ifmap, filter, ofmap."""
    r, c, corrected = array.rows, array.cols, counting == "corrected"

    def up(size, by):
        return (size + by - 1) // by

    if array.dataflow == "os":
        folds, fold = up(m, r) * up(n, c), k + r + c - 2 + (r if corrected else 0)
        start = max(k, min(m, r)) if corrected else k
        accesses = up(n, c) * m * k, up(m, r) * k * n, m * n + (0 if corrected else folds * (r + c))
    elif array.dataflow == "ws":
        folds, fold, start = up(k, r) * up(n, c), m + 2 * r + c - 2, max(m, min(k, r))
        accesses = up(n, c) * m * k, k * n, up(k, r) * m * n
    else:
        folds, fold, start = up(k, r) * up(m, c), n + 2 * r + c - 2, max(n, min(k, r))
        accesses = m * k, up(m, c) * k * n, up(k, r) * m * n
    cycles = folds * fold if reading == "serial" else (folds - 1) * start + fold
    return cycles - (not corrected), *accesses
