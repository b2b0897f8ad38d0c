"""What the parts of many models cost on many arrays at once: the MatMuls of a sweep as arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmamdahl.errors import CountOverflowError
from llmamdahl.hardware import SystolicArray
from llmamdahl.roofline import Precision, bytes_moved
from llmamdahl.systolic import Counting, Folds, GemmCost, gemm_cost
from llmamdahl.workload import MatMul

Costs: TypeAlias = NDArray[Any]
"""int64, or float64 for bytes, seconds and expected counts."""

Placed: TypeAlias = tuple[int, ArrayLike, int, MatMul]
"""A MatMul and its place: the numbers of its model, context length and part; for several lengths at once an array of
numbers, and n or k of the MatMul is an array too.
"""

ELEMENTS = 2**22
"""Products of MatMuls and arrays that are computed at once, so that memory stays bounded."""


@dataclass(frozen=True, slots=True)
class Workload:
    """MatMuls of (models, context lengths, parts), sorted by their place in that table.

    A MatMul that is the same at every context length is listed once, in a table with one length.
    """

    shape: tuple[int, int, int]
    matmuls: tuple[MatMul, ...]
    order: NDArray[np.intp]
    """Sorts the MatMuls' elements by cell."""
    cells: NDArray[np.intp]
    """Place of each element in the flattened table, ascending."""
    count: NDArray[Any]
    dims: NDArray[np.int64]
    """The different m, n and k, of shape (3, number of them)."""
    which: NDArray[np.intp]
    """The column of `dims` of each element."""

    @classmethod
    def of(cls, shape: tuple[int, int, int], placed: Iterable[Placed], *, swapped: bool = False) -> Workload:
        """Lay out the MatMuls; `swapped` exchanges m and n, for weights as the ifmap operand."""
        _, lengths, parts = shape
        matmuls, cells, dims, counts = [], [], [], []
        try:
            for model, length, part, mm in placed:
                matmuls.append(mm)
                cells.append((model * lengths + np.atleast_1d(length)) * parts + part)
                sizes = np.empty((3, len(cells[-1])), np.int64)
                sizes[0], sizes[1], sizes[2] = mm.m, mm.n, mm.k
                dims.append(sizes)
                counts += [mm.count] * len(cells[-1])
            count = np.array(counts)
            count = count if count.dtype.kind == "f" else count.astype(np.int64)
        except OverflowError:
            raise CountOverflowError("sweep: a dimension or a number of MatMuls is above 2**63 - 1") from None
        cell, sizes = np.concatenate(cells), np.concatenate(dims, axis=1)
        order = np.argsort(cell, kind="stable")
        sizes = sizes[[1, 0, 2]] if swapped else sizes
        different, which = np.unique(sizes[:, order], axis=1, return_inverse=True)
        return cls(shape, tuple(matmuls), order, cell[order], count[order], different, which)

    def costs(
        self,
        arrays: Sequence[SystolicArray],
        metrics: Sequence[str],
        precision: Precision,
        *,
        counting: Counting,
        folds: Folds,
    ) -> list[Costs]:
        """What each part costs in each metric, of shape (parts, arrays, models, lengths).

        Raises
        ------
        CountOverflowError
            A sum of counts above 2**63 - 1.
        """
        moved = np.zeros(0)
        if not {*metrics} <= {"cycles", "memory_accesses"}:
            each = [np.atleast_1d(bytes_moved(matmul, precision)) for matmul in self.matmuls]
            moved = np.concatenate(each)[self.order]
        chunk = max(1, ELEMENTS // len(self.cells))
        chunks = []
        for start in range(0, len(arrays), chunk):
            some = arrays[start : start + chunk]
            m, n, k = self.dims[:, :, None]
            cost = gemm_cost(m, n, k, some, counting=counting, folds=folds)
            chunks.append([self._sums(self._values(metric, cost, moved, some)) for metric in metrics])
        return [found[0] if len(found) == 1 else np.concatenate(found, axis=1) for found in zip(*chunks, strict=True)]

    def _values(self, metric: str, cost: GemmCost, moved: NDArray[Any], arrays: Sequence[SystolicArray]) -> Costs:
        """What all products of each MatMul cost on each array."""
        if metric == "bytes":
            return np.repeat(moved[:, None], len(arrays), axis=1)
        values = self._products(np.asarray(cost.cycles if metric == "seconds" else getattr(cost, metric)))
        if metric == "seconds":
            clock = np.array([array.clock_mhz for array in arrays], dtype=float)
            dram = np.array([array.dram_gb_s or math.inf for array in arrays])
            values = np.maximum(values / 1e6 / clock, moved[:, None] / 1e9 / dram)
        return values

    def _products(self, each: Costs) -> Costs:
        """`count` times the counts of one product; counts that could overflow are rejected."""
        largest = each.max(axis=1)[self.which].astype(float) * self.count
        if np.bincount(self.cells, weights=largest).max() > 0.999 * 2**63:
            rough = each[self.which].astype(float) * self.count[:, None]
            if self._sums(rough).sum(axis=0).max() > 0.999 * 2**63:
                raise CountOverflowError("sweep: the counts of a whole decode step add up to more than 2**63 - 1")
        products: Costs = np.take(each, self.which, axis=0) * self.count[:, None]  # faster than each[self.which]
        return products

    def _sums(self, values: Costs) -> Costs:
        """Sums over the MatMuls of each cell."""
        sums = np.zeros((math.prod(self.shape), values.shape[1]), values.dtype)
        present, starts, number = np.unique(self.cells, return_index=True, return_counts=True)
        sums[present] = values[starts]
        for place in range(1, number.max()):  # the second MatMul of each cell, the third, ...: faster than `reduceat`
            more = number > place
            sums[present[more]] += values[starts[more] + place]
        return np.moveaxis(sums.reshape(*self.shape, -1), (2, 3), (0, 1))
