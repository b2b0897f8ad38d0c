"""The closed form: a MatMul on a systolic array -> cycles and accesses, exactly as SCALE-Sim 2.0.2 counts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmamdahl.dram import DramCounts, dram_counts
from llmamdahl.errors import INT64_MAX, CountOverflowError, InputError, one_of, positive_int, shown
from llmamdahl.hardware import Dataflow, SystolicArray, find_array

Count: TypeAlias = int | NDArray[np.int64]
"""An int, or an integer array of the broadcast shape of m, n and k."""

Counts: TypeAlias = tuple[Count, Count, Count, Count]
"""Cycles, ifmap reads, filter reads, ofmap writes."""

SRAM_COUNTS = ("cycles", "ifmap_sram_reads", "filter_sram_reads", "ofmap_sram_writes")
"""Names of `Counts`: they add up over folds, unlike DRAM counts."""

Counting: TypeAlias = Literal["reported", "corrected"]
"""As SCALE-Sim 2.0.2 reports, or without its known miscounts; `gemm_cost` lists them."""


@dataclass(frozen=True)
class GemmCost:
    """What one MatMul costs on an array: ints, or int64 arrays where `m`, `n` or `k` was an array.

    DRAM counts are computed when one of them is first read, because few callers need them.
    """

    cycles: Count
    ifmap_sram_reads: Count
    filter_sram_reads: Count
    ofmap_sram_writes: Count
    dims: tuple[Count, Count, Count] = field(repr=False)
    """m, n and k."""
    array: SystolicArray = field(repr=False)
    counting: Counting = field(repr=False)

    @cached_property
    def _dram(self) -> DramCounts:
        return dram_counts(self.dims, self.array, null_addresses=self.counting == "reported")

    @property
    def ifmap_dram_reads(self) -> Count:
        """Words of ifmap fetched from DRAM, re-fetches included; errors as in `dram.dram_counts`."""
        return self._dram[0]

    @property
    def filter_dram_reads(self) -> Count:
        """Words of filter fetched from DRAM, re-fetches included."""
        return self._dram[1]

    @property
    def ofmap_dram_writes(self) -> Count:
        """Words of ofmap written to DRAM; as reported, including the null addresses that the simulator drains."""
        return self._dram[2]

    @property
    def memory_accesses(self) -> Count:
        """SRAM reads of both operands plus SRAM writes of the result: the paper's "memory access" (Section 4.2.2)."""
        return self.ifmap_sram_reads + self.filter_sram_reads + self.ofmap_sram_writes


def gemm_cost(
    m: ArrayLike, n: ArrayLike, k: ArrayLike, array: str | SystolicArray, *, counting: Counting = "reported"
) -> GemmCost:
    """Cost of the product of activations `m x k` (ifmap) with `k x n` (filter: weights, or K or V).

    Parameters
    ----------
    m, n, k
        Whole numbers >= 1, or integer arrays that broadcast against each other.
    array
        The systolic array, or its name; only DRAM counts depend on its SRAM sizes.
    counting
        `"reported"`: what SCALE-Sim 2.0.2 prints in its stall-free mode. `"corrected"`: without its four known
        miscounts. (1) Its cycles are the index of the last cycle, one less than their number (SCALE-Sim issue 125).
        (2) Output stationary lacks the `rows` cycles in which a fold's results leave the array, which the simulator's
        own paper counts (Samajdar et al., ISPASS 2020: 2R + C + K - 2 cycles a fold; scale-sim-v3 issue 4). (3) Output
        stationary adds rows + cols ofmap writes to each fold (SCALE-Sim issue 166). (4) Null addresses, which
        pad a line of the ofmap buffer, are counted as DRAM writes (`dram.py` says when).

    Returns
    -------
    GemmCost
        Counts (cycles; SRAM and DRAM words of one byte).

    Raises
    ------
    InputError
        A dimension that is not a whole number >= 1, dimensions that do not broadcast, an `array` that is neither a
        `SystolicArray` nor the name of one, or an unknown `counting`. When a DRAM count is read: a read buffer that
        holds less than the array can request in one cycle.
    CountOverflowError
        A count, or the sum of the accesses, above 2**63 - 1.

    >>> from llmamdahl.hardware import EDGE_TPU
    >>> gemm_cost(m=1, n=1024, k=1024, array=EDGE_TPU)
    GemmCost(cycles=34751, ifmap_sram_reads=32768, filter_sram_reads=1048576, ofmap_sram_writes=3072)
    >>> gemm_cost(m=1, n=1024, k=1024, array=EDGE_TPU, counting="corrected").cycles
    35776
    >>> gemm_cost(m=64, n=1024, k=100_000, array=EDGE_TPU).filter_dram_reads  # 2 k n: k x 32 is more than 2 MB
    204800000
    """
    one_of("counting", counting, get_args(Counting))
    design = find_array(array)
    dims = _dimension("m", m), _dimension("n", n), _dimension("k", k)
    if all(isinstance(dim, int) for dim in dims):
        counts = _counts(dims, design, counting)
        _reject_overflow(counts)
        return GemmCost(*counts, dims, design, counting)
    counts = _array_counts(dims, design, counting)
    # Copied, because DRAM counts may be read after the caller has changed its arrays. Copied last, so that the copies
    # reuse memory that was just freed.
    kept = cast(tuple[Count, Count, Count], tuple(dim if isinstance(dim, int) else dim.copy() for dim in dims))
    return GemmCost(*counts, kept, design, counting)


def _counts(dims: Sequence[Count], array: SystolicArray, counting: Counting) -> Counts:
    """Three formulas a dataflow; Section 3.2 names the dataflows."""
    (m, n, k), r, c = dims, array.rows, array.cols
    if array.dataflow == Dataflow.OS:
        across_rows, across_cols = -(-m // r), -(-n // c)
        folds, cycles_per_fold = across_rows * across_cols, k + (r + c - 2)
        reads, writes = (across_cols * (m * k), across_rows * (k * n)), m * n + folds * (r + c)
    elif array.dataflow == Dataflow.WS:
        across_rows, across_cols = -(-k // r), -(-n // c)
        folds, cycles_per_fold = across_rows * across_cols, m + (2 * r + c - 2)
        reads, writes = (across_cols * (m * k), k * n), across_rows * (m * n)
    else:
        across_rows, across_cols = -(-k // r), -(-m // c)
        folds, cycles_per_fold = across_rows * across_cols, n + (2 * r + c - 2)
        reads, writes = (m * k, across_cols * (k * n)), across_rows * (m * n)

    if counting == "reported":
        return folds * cycles_per_fold - 1, *reads, writes
    if array.dataflow == Dataflow.OS:
        cycles_per_fold, writes = cycles_per_fold + r, m * n
    return folds * cycles_per_fold, *reads, writes


def _array_counts(dims: Sequence[Count], array: SystolicArray, counting: Counting) -> Counts:
    """`_counts` of int64 arrays that broadcast; counts that do not fit into int64 are rejected, never wrapped."""
    shapes = [np.shape(dim) for dim in dims]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise InputError(f"m, n, k: shapes {', '.join(map(str, shapes))} do not broadcast against each other") from None
    # Every count grows with every dimension, so the largest dimensions bound all of them.
    largest = [dim if isinstance(dim, int) else int(dim.max(initial=1)) for dim in dims]
    bound = _counts(largest, array, counting)
    if max(bound[0] + 1, sum(bound[1:])) <= INT64_MAX:  # reported cycles are one more before the 1 is subtracted
        computed = map(np.asarray, _counts(dims, array, counting))
        counts = [count if count.shape == shape else np.broadcast_to(count, shape) for count in computed]
    else:  # the counts may still fit: compute them in Python's ints, which cannot overflow
        exact = [np.broadcast_to(np.asarray(dim, dtype=object), shape) for dim in dims]
        for each in zip(*(dim.ravel() for dim in exact), strict=True):
            _reject_overflow(_counts(each, array, counting))
        counts = [np.asarray(count).astype(np.int64) for count in _counts(exact, array, counting)]
    return cast(Counts, tuple(counts))


def _dimension(name: str, value: ArrayLike) -> Count:
    """A positive int, or an int64 array of them."""
    try:
        values = np.asanyarray(value)
    except ValueError:
        raise InputError(f"{name}: {shown(value)} is not a rectangular array of whole numbers") from None
    if values.ndim == 0:
        return positive_int(name, value)
    if np.ma.is_masked(values):
        raise InputError(f"{name}: {shown(value)} has masked elements; leave them out")
    values = np.asarray(values)
    if values.dtype.kind not in "iu":
        raise InputError(f"{name}: an array of {values.dtype} is not an array of whole numbers; use an integer dtype")
    if values.size and values.min() < 1:
        where = int(np.argmax(values.ravel() < 1))
        raise InputError(f"{name}: {values.ravel()[where]} (element {where}) is not a positive whole number")
    if values.size and values.max() > INT64_MAX:
        raise CountOverflowError(f"{name}: {values.max()} does not fit into a signed 64-bit integer")
    return values.astype(np.int64, copy=False)


def _reject_overflow(counts: Sequence[Count]) -> None:
    for name, count in zip((*SRAM_COUNTS, "memory_accesses"), [*counts, sum(counts[1:])], strict=True):
        if count > INT64_MAX:
            raise CountOverflowError(f"{name}: {count} is above 2**63 - 1; use smaller dimensions")
