"""The closed form: a MatMul on a systolic array -> cycles and accesses, exactly as SCALE-Sim 2.0.2 counts them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmamdahl.dram import DramCounts, dram_counts
from llmamdahl.errors import INT64_MAX, CountOverflowError, InputError, listed, one_of, positive_int, shown
from llmamdahl.hardware import Dataflow, SystolicArray, find_array

Count: TypeAlias = int | NDArray[np.int64]
"""An int, or an integer array of the broadcast shape of m, n and k."""

Counts: TypeAlias = tuple[Count, Count, Count, Count]
"""Cycles, ifmap reads, filter reads, ofmap writes."""

SRAM_COUNTS = ("cycles", "ifmap_sram_reads", "filter_sram_reads", "ofmap_sram_writes")
"""Names of `Counts`: they add up over folds, unlike DRAM counts."""

Counting: TypeAlias = Literal["reported", "corrected"]
"""As SCALE-Sim 2.0.2 reports, or without its known miscounts; `gemm_cost` lists them."""

Folds: TypeAlias = Literal["serial", "pipelined"]
"""Folds one after the other, as in SCALE-Sim, or the next one begun before the last one has ended; see `gemm_cost`."""


@dataclass(frozen=True)
class GemmCost:
    """What MatMuls cost on an array: ints, or int64 arrays where `m`, `n`, `k` or the array was one or a list.

    DRAM counts are computed when one of them is first read, because few callers need them.
    """

    cycles: Count
    ifmap_sram_reads: Count
    filter_sram_reads: Count
    ofmap_sram_writes: Count
    dims: tuple[Count, Count, Count] = field(repr=False)
    """m, n and k."""
    array: SystolicArray | tuple[SystolicArray, ...] = field(repr=False)
    counting: Counting = field(repr=False)

    @cached_property
    def _dram(self) -> DramCounts:
        nulls = self.counting == "reported"
        if isinstance(self.array, SystolicArray):
            return dram_counts(self.dims, self.array, null_addresses=nulls)
        dims = [np.broadcast_to(dim, np.shape(self.cycles)) for dim in self.dims]
        each = [
            dram_counts([dim[..., place] for dim in dims], array, null_addresses=nulls)
            for place, array in enumerate(self.array)
        ]
        ifmap, filter_, ofmap = (np.stack(counts, axis=-1) for counts in zip(*each, strict=True))
        return ifmap, filter_, ofmap

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
    m: ArrayLike,
    n: ArrayLike,
    k: ArrayLike,
    array: str | SystolicArray | Sequence[str | SystolicArray],
    *,
    counting: Counting = "reported",
    folds: Folds = "serial",
) -> GemmCost:
    """Cost of the product of activations `m x k` (ifmap) with `k x n` (filter: weights, or K or V).

    Parameters
    ----------
    m, n, k
        Whole numbers >= 1, or integer arrays that broadcast against each other.
    array
        The systolic array, or its name; only DRAM counts depend on its SRAM sizes. A list of `a` of them broadcasts
        against m, n and k like an integer array of shape (a,).
    counting
        `"reported"`: what SCALE-Sim 2.0.2 prints in its stall-free mode. `"corrected"`: without its four known
        miscounts, so toward the model of SCALE-Sim's own paper (Samajdar et al., ISPASS 2020). (1) Its cycles are the
        index of the last cycle, one less than their number (SCALE-Sim issue 125). (2) Output stationary lacks the
        `rows` cycles in which a fold's results leave the array, which that paper counts: 2R + C + K - 2 cycles a fold
        (scale-sim-v3 issue 4). This weighs most on short folds, which attention has, so it lowers F. (3) Output
        stationary adds rows + cols ofmap writes to each fold (SCALE-Sim issue 166). (4) Null addresses, which pad a
        line of the ofmap buffer, are counted as DRAM writes (`dram.py` says when).
    folds
        `"serial"`: SCALE-Sim fills, streams and drains one fold before the next. `"pipelined"`: a double-buffered array
        starts a fold every I cycles, and only the first fill and the last drain show. MatMuls of many short folds gain
        most and those of one fold nothing, so that F mostly rises, but falls where attention is one fold a head (a
        context up to `cols`). See Notes.

    Returns
    -------
    GemmCost
        Counts (cycles; SRAM and DRAM words of one byte).

    Raises
    ------
    InputError
        A dimension that is not a whole number >= 1, dimensions that do not broadcast, an `array` that is neither a
        `SystolicArray` nor the name of one (nor a list of them), or an unknown `counting` or `folds`. When a DRAM count
        is read: a read buffer that holds less than the array can request in one cycle.
    CountOverflowError
        A count, or the sum of the accesses, above 2**63 - 1.

    Notes
    -----
    A fold streams k (OS), m (WS) or n (IS) vectors through R x C PEs, and takes as many cycles, its fill and its drain
    in addition. If folds start every I cycles, F of them take (F - 1) I cycles and those of the last one:

    - OS: I = max(k, min(m, R)); reported I = k. Operands follow each other without a gap. Results go down their column
      in two more registers of each PE, one PE every two cycles, while the next fold accumulates; so the min(m, R) of a
      column leave through one port, one a cycle. SCALE-Sim 2.0.2 counts no cycles for results that leave, so reported
      counts do not either.
    - WS: I = max(m, min(k, R)). The next fold's weights come in through one port a column, one row a cycle, into a
      second weight register of each PE, behind the wave that puts the current ones to use.
    - IS: I = max(n, min(k, R)), as WS with the activations in the registers.

    Serial folds have I = all cycles of a fold. SRAM and DRAM counts are the same under both readings.
    `tests/array_model.py` has such arrays, register by register.

    >>> from llmamdahl.hardware import EDGE_TPU
    >>> gemm_cost(m=1, n=1024, k=1024, array=EDGE_TPU)
    GemmCost(cycles=34751, ifmap_sram_reads=32768, filter_sram_reads=1048576, ofmap_sram_writes=3072)
    >>> gemm_cost(m=1, n=1024, k=1024, array=EDGE_TPU, counting="corrected").cycles
    35776
    >>> gemm_cost(m=1, n=1024, k=1024, array=EDGE_TPU, folds="pipelined").cycles  # 32 folds of 1024, and 61 to fill
    32829
    >>> gemm_cost(m=1, n=1024, k=1024, array=["edge", "cloud"]).cycles
    array([34751,  6135])
    >>> gemm_cost(m=64, n=1024, k=100_000, array=EDGE_TPU).filter_dram_reads  # 2 k n: k x 32 is more than 2 MB
    204800000
    """
    one_of("counting", counting, get_args(Counting))
    one_of("folds", folds, get_args(Folds))
    dims = _dimension("m", m), _dimension("n", n), _dimension("k", k)
    if isinstance(array, Sequence) and not isinstance(array, str):
        designs = tuple(find_array(each) for each in listed("array", array, distinct=False))
        _reject_shapes("m, n, k, array", *map(np.shape, dims), (len(designs),))
        return GemmCost(*_array_counts(dims, designs, counting, folds), _kept(dims), designs, counting)
    design = find_array(array)
    if all(isinstance(dim, int) for dim in dims):
        counts = _counts(dims, design.rows, design.cols, design.dataflow, counting, folds)
        _reject_overflow(counts)
        return GemmCost(*counts, dims, design, counting)
    _reject_shapes("m, n, k", *map(np.shape, dims))
    if _fits(dims, float(design.rows), float(design.cols), design.dataflow, counting, folds):
        counts = _counts(dims, design.rows, design.cols, design.dataflow, counting, folds)
        return GemmCost(*_in_shape(counts, np.broadcast_shapes(*map(np.shape, dims))), _kept(dims), design, counting)
    found = _array_counts([np.expand_dims(dim, -1) for dim in dims], (design,), counting, folds)
    return GemmCost(*_four(np.asarray(count)[..., 0] for count in found), _kept(dims), design, counting)


def _counts(
    dims: Sequence[Count], r: Count, c: Count, dataflow: Dataflow | str, counting: Counting, folds: Folds
) -> Counts:
    """Three formulas a dataflow on an array of r x c; Section 3.2 names the dataflows."""
    m, n, k = dims
    across_rows: Count
    start: Count
    # `stream` vectors enter a fold, and `start` cycles must pass before the next fold can start, at the least
    if dataflow == Dataflow.OS:
        across_rows, across_cols = -(-m // r), -(-n // c)
        number, stream, fill, start = across_rows * across_cols, k, r + c - 2, 1
        reads, writes = (across_cols * (m * k), across_rows * (k * n)), m * n + number * (r + c)
        if counting == "corrected":
            fill, start, writes = fill + r, _least(m, r), m * n
    elif dataflow == Dataflow.WS:
        across_rows, across_cols = -(-k // r), -(-n // c)
        number, stream, fill, start = across_rows * across_cols, m, 2 * r + c - 2, _least(k, r)
        reads, writes = (across_cols * (m * k), k * n), across_rows * (m * n)
    else:
        across_rows, across_cols = -(-k // r), -(-m // c)
        number, stream, fill, start = across_rows * across_cols, n, 2 * r + c - 2, _least(k, r)
        reads, writes = (m * k, across_cols * (k * n)), across_rows * (m * n)

    if folds == "serial":
        cycles = number * (stream + fill)
    else:
        cycles = (number - 1) * _most(stream, start) + (stream + fill)
    return cycles - (counting == "reported"), *reads, writes


def _array_counts(
    dims: Sequence[Count], designs: tuple[SystolicArray, ...], counting: Counting, folds: Folds
) -> Counts:
    """`_counts` of int64 arrays that broadcast, with the designs as the last axis.

    Counts that do not fit into int64 are rejected, never wrapped.
    """
    # Designs of one dataflow at a time: `places` are theirs on the last axis.
    flows = np.array([each.dataflow for each in designs])
    places = [np.flatnonzero(flows == dataflow) for dataflow in dict.fromkeys(flows.tolist())]
    sides = [[[getattr(designs[place], side) for place in those] for side in ("rows", "cols")] for those in places]
    fits = all(
        _fits(dims, np.array(rows, float), np.array(cols, float), flows[those[0]].item(), counting, folds)
        for those, (rows, cols) in zip(places, sides, strict=True)
    )
    kind = np.int64 if fits else object  # Python's ints cannot overflow, and the counts may still fit
    exact = [np.asarray(dim, kind) for dim in dims]
    shape = np.broadcast_shapes(*map(np.shape, dims), (len(designs),))
    groups = []
    for those, (rows, cols) in zip(places, sides, strict=True):
        r, c = np.array(rows, kind), np.array(cols, kind)
        here = [dim[..., those] if dim.shape[-1:] == (len(designs),) and len(places) > 1 else dim for dim in exact]
        found = _counts(here, r, c, flows[those[0]].item(), counting, folds)
        groups.append(_in_shape(found, (*shape[:-1], len(those))))
    counts = groups[0]
    if len(groups) > 1:
        order = np.argsort(np.concatenate(places))
        counts = _four(np.concatenate(each, axis=-1)[..., order] for each in zip(*groups, strict=True))
    if not fits:
        for each in zip(*(np.ravel(count) for count in counts), strict=True):
            _reject_overflow(each)
    return _four(np.asarray(count).astype(np.int64, copy=False) for count in counts)


def _four(counts: Iterable[Count]) -> Counts:
    cycles, ifmap, filter_, ofmap = counts
    return cycles, ifmap, filter_, ofmap


def _in_shape(counts: Counts, shape: tuple[int, ...]) -> Counts:
    return _four(np.asarray(count) if np.shape(count) == shape else np.broadcast_to(count, shape) for count in counts)


def _fits(dims: Sequence[Count], r: Any, c: Any, dataflow: Dataflow | str, counting: Counting, folds: Folds) -> bool:
    """Whether all counts on arrays of r x c, which are floats, fit into int64.

    Every count grows with every dimension, so the largest dimensions bound all of them, here in floats.
    """
    largest: Any = [float(dim if isinstance(dim, int) else np.max(dim, initial=1)) for dim in dims]
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.max(sum(_counts(largest, r, c, dataflow, counting, folds))) < 2**62)


def _reject_shapes(names: str, *shapes: tuple[int, ...]) -> None:
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        text = ", ".join(map(str, shapes))
        raise InputError(f"{names}: shapes {text} do not broadcast against each other") from None


def _kept(dims: tuple[Count, Count, Count]) -> tuple[Count, Count, Count]:
    """Copies, because DRAM counts may be read after the caller has changed its arrays.

    Made last, so that the copies reuse memory that was just freed.
    """
    m, n, k = (dim if isinstance(dim, int) else dim.copy() for dim in dims)
    return m, n, k


def _least(first: Count, second: Count) -> Count:
    return min(first, second) if isinstance(first, int) and isinstance(second, int) else np.minimum(first, second)


def _most(first: Count, second: Count) -> Count:
    return max(first, second) if isinstance(first, int) and isinstance(second, int) else np.maximum(first, second)


def _dimension(name: str, value: ArrayLike) -> Count:
    """A positive int, or an int64 array of them."""
    if type(value) is int:
        return positive_int(name, value)
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
