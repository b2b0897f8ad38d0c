"""Joules of a decode step or a prefill, by part, from exact counts and published energies of single operations.

The energies (`data/hardware/energy.csv`) are switching energies of arithmetic and of memory accesses, from several
sources. What a chip spends otherwise (clock, registers of the PEs, control, leakage, a host) is not in them, so that a
sum over operations is a lower bound of what a chip needs, and tokens a joule are an upper bound.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache
from itertools import product
from typing import NamedTuple, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmamdahl import amdahl
from llmamdahl.errors import CountOverflowError, InputError, listed, positive_int, shown, unknown
from llmamdahl.hardware import SystolicArray, find_array
from llmamdahl.models import Decoder
from llmamdahl.question import Question, Settings
from llmamdahl.roofline import Precision, operations
from llmamdahl.systolic import gemm_cost
from llmamdahl.tables import DATA, Columns, Row, optional_int, positive_float, read_rows
from llmamdahl.workload import Heads, MatMul, Part, Phase, whole

COMPONENTS = ("arithmetic", "SRAM", "DRAM")
"""What spends the energy of a part."""

ARITHMETIC = (("int mul", 8), ("int add", 8), ("int add", 32), ("fp mul", 16), ("fp add", 16), ("fp add", 32))
"""The operations that a node must have, with their bits."""

SEEN = ("yes", "partly", "no")
"""Whether a constant was read in a source, or is quoted from memory and still to be checked."""

PICOJOULE = 1e-12


class Range(NamedTuple):
    """The least and the greatest value that the constants allow."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Energy:
    """The joules of each part, F of energy and what a change of bits gains, each as a `Range`.

    A range covers every choice of the constants within their own ranges, the same choice for all parts, before and
    after the change.

    >>> found = joules("opt-350m", 2048, "cloud", node=45)
    >>> [round(end, 3) for end in found.fraction], found.whole
    ([0.749, 0.75], 'projection + attention')
    """

    model: str
    context_length: int
    batch: int
    phase: Phase
    heads: Heads
    array: str
    """Label of the array; empty without one, and then no SRAM is counted."""
    dataflow: str
    node: int
    """Process, nm."""
    memory: str
    """The DRAM."""
    baseline: Precision
    precision: Precision | None
    whole: str
    """The parts that F is a share of and that `joules` adds up."""
    parts: pd.DataFrame
    """bits (`before`, `after`), part, component, low, high (joules), share_low, share_high (of the whole)."""
    joules: Range
    """Of the whole, before the change."""
    joules_after: Range
    """Of the whole, after the change."""
    dram_share: Range
    """Share of the DRAM in the joules of the whole, before the change."""
    fraction: Range
    """F = projection / whole, before the change."""
    ceiling: Range
    """1 / (1 - F): the limit of S_total for projections that need less energy."""
    partial_speedup: Range
    """S_partial of energy: how many times fewer joules the projections need after the change."""
    total_speedup: Range
    """S_total of energy: how many times fewer joules the whole needs, Equation (5)."""
    seen: str
    """The weakest mark (`SEEN`) of a constant that was used."""

    def row(self) -> dict[str, str | float]:
        """A row as `energy_sweep` has it."""
        names = ["model", "context_length", "batch", "phase", "heads", "array", "dataflow", "node", "memory", "whole"]
        ranges = ["joules", "dram_share", "fraction", "ceiling"]
        if self.precision is not None:
            ranges += ["joules_after", "partial_speedup", "total_speedup"]
        ends = {f"{name}_{end}": getattr(getattr(self, name), end) for name in ranges for end in Range._fields}
        return {name: getattr(self, name) for name in names} | ends | {"seen": self.seen}


def energies() -> pd.DataFrame:
    """The energies of operations (`data/hardware/energy.csv`).

    Returns
    -------
    DataFrame
        operation, bits (of one operation), process_nm, size_kb (of an SRAM, kB of 1024 bytes), energy_pj, source,
        where, seen (`SEEN`).

    Raises
    ------
    TableError
        An energy without a process node, or with a value that is not a number above 0; it names the line.

    >>> energies().process_nm.unique().tolist()
    [45, 28, 7]
    """
    return pd.DataFrame(_rows())


def joules(
    model: str | Decoder,
    context_length: int,
    array: str | SystolicArray | None,
    *,
    node: int = 45,
    memory: str | None = None,
    **settings: Unpack[Settings],
) -> Energy:
    """Joules of one decode step (or prefill) of the whole model by part, F of energy, and what a change of bits gains.

    Parameters
    ----------
    array
        The array whose SRAM accesses count, or its name. None: no SRAM, as for hardware whose SRAMs are unknown.
    node
        Process of every constant, nm: 45 or 7. Energies of different nodes are never mixed, and not scaled.
    memory
        The DRAM, one that the node's sources name; by default the first: at 45 nm `"DRAM"`, at 7 nm `"HBM2"`.
    model, context_length, settings
        As in `analysis.share`, whose `metric` is bytes here and whose `folds` change no count: leave both out. Bits are
        at most 16; without an array there is no `counting` and no `refetches`, and bits that are not given are 16.

    Returns
    -------
    Energy

    Raises
    ------
    InputError
        An unknown node or one whose energies are incomplete (the message says what is known of it), an unknown memory,
        more than 16 bits, or as `analysis.share`.
    CountOverflowError
        Counts too large for a float.

    Notes
    -----
    *Arithmetic.* A multiply-accumulate is a multiplication and an addition. Factors of up to 8 bits are integers, wider
    ones floating-point. The addition has at least the activations' width (BitNet, arXiv 2310.11453, counts INT8
    additions) and at most 32 bits, as the accumulator of a PE. Projections with weights of 2 bits or fewer are ternary
    or binary: an addition or subtraction, and no multiplication. Published multiplications have 8 or 16 bits; another
    width costs at least the next narrower one (none below 8) with its narrower factor, and at most the next wider one
    with its wider factor. Narrower weights thus lower the upper bound only when they become ternary.

    *SRAM.* The reads and writes that `gemm_cost` counts, each of as many bits as its tensor has, at the energy a bit of
    a whole access (64 bits in most sources). Writes cost as much as reads. An SRAM of a size without an energy lies
    between its published neighbours; beyond the largest published one its energy is taken to grow at most with the
    square root of the size, as it does from 8 to 32 kB at 45 nm, and below the smallest to fall at most so. Words that
    fill an SRAM from the DRAM are not counted, as in SCALE-Sim.

    *DRAM.* The bits of `roofline.bytes_moved`, with `refetches` also those of `roofline.bytes_fetched_again`.

    Every answer is a ratio of two sums that are linear in each constant, hence monotone in each; its extremes lie at
    corners, where each constant is at one end of its range. All corners are evaluated.

    >>> change = Precision(weights=2)
    >>> found = joules("opt-6.7b", 2048, "edge", node=7, precision=change)
    >>> [round(end, 2) for end in (*found.partial_speedup, *found.total_speedup)]
    [3.97, 3.99, 3.23, 3.24]
    """
    for name in ("metric", "folds"):
        if name in settings:
            raise InputError(f"{name}: {shown(settings[name])} is given, but joules do not depend on it; leave it out")
    length, place = positive_int("context_length", context_length), None if array is None else find_array(array)
    settings["metric"] = "bytes"
    asked = Question.of(model, place, **settings)
    if asked.model.recurrent:
        raise InputError(
            f"model: {asked.model.name} has a recurrent state, whose element-wise updates run on no array and have no "
            "published energy; only models without one have joules"
        )
    known, kept = _Constants.of(node, memory), whole(asked.unquantized)
    counts = [_Counts(known, asked, bits) for bits in (asked.baseline, asked.precision or asked.baseline)]
    for matmul in asked.matmuls(length):
        if matmul.part in kept:
            for each in counts:
                each.add(matmul)
    spent = _at_corners(known, counts, kept)
    total = spent.sum(axis=(1, 2))  # corners, before and after
    parts = spent.sum(axis=2)  # corners, parts, before and after
    fractions = parts[..., 0] / total[:, None, 0]
    gains = np.divide(parts[..., 0], parts[..., 1], out=np.ones_like(fractions), where=parts[..., 1] > 0)
    return Energy(
        model=asked.model.name,
        context_length=length,
        batch=asked.batch,
        phase=asked.phase,
        heads=asked.heads,
        array=place.label if place else "",
        dataflow=str(place.dataflow) if place else "",
        node=known.node,
        memory=known.memory,
        baseline=asked.baseline,
        precision=asked.precision,
        whole=" + ".join(kept),
        parts=_table(spent, kept, asked.precision is not None),
        joules=_range(total[:, 0]),
        joules_after=_range(total[:, 1]),
        dram_share=_range(spent[:, :, COMPONENTS.index("DRAM"), 0].sum(axis=1) / total[:, 0]),
        fraction=_range(fractions[:, 0]),
        ceiling=_range(amdahl.ceiling(fractions[:, 0])),
        partial_speedup=_range(gains[:, 0]),
        total_speedup=_range(amdahl.combined_speedup(fractions, gains)),
        seen=max(known.seen.values(), key=SEEN.index),
    )


def energy_sweep(
    models: Iterable[str | Decoder],
    context_lengths: Iterable[int],
    arrays: Iterable[str | SystolicArray],
    *,
    node: int = 45,
    memory: str | None = None,
    **settings: Unpack[Settings],
) -> pd.DataFrame:
    """`joules` for every combination of models, context lengths and arrays, as one tidy table.

    Returns
    -------
    DataFrame
        model, context_length, batch, phase, heads, array, dataflow, node, memory, whole (the parts that F is a share
        of), then the ends (`_low`, `_high`) of joules, dram_share, fraction, ceiling and, with a `precision`,
        joules_after, partial_speedup and total_speedup; seen.

    >>> frame = energy_sweep(["opt-6.7b"], [2048], ["edge", "cloud"])
    >>> frame[["joules_low", "joules_high", "dram_share_low", "dram_share_high"]].round(2).values.tolist()
    [[1.23, 2.45, 0.86, 0.96], [1.22, 2.52, 0.82, 0.96]]
    """
    every = [listed(name, values) for name, values in (("models", models), ("context_lengths", context_lengths))]
    places = listed("arrays", arrays)
    return pd.DataFrame(
        [
            joules(model, length, place, node=node, memory=memory, **settings).row()
            for place in places
            for model, length in product(*every)
        ]
    )


@cache
def _rows() -> tuple[Row, ...]:
    columns: Columns = {
        "operation": str,
        "bits": _whole_above_0,
        "process_nm": _whole_above_0,
        "size_kb": optional_int,
        "energy_pj": positive_float,
        **dict.fromkeys(("source", "where"), str),
        "seen": _mark,
    }
    key = ["operation", "bits", "process_nm", "size_kb", "energy_pj"]
    return tuple(read_rows(DATA / "hardware" / "energy.csv", columns, key))


def _whole_above_0(cell: str) -> int:
    if (value := int(cell)) < 1:
        raise ValueError
    return value


def _mark(cell: str) -> str:
    return {mark: mark for mark in SEEN}[cell]


class _Constants:
    """The energies of one node, in pJ, by name; a name is known once it was asked for."""

    def __init__(self, node: int, memory: str, rows: list[Row]) -> None:
        self.node, self.memory, self._rows = node, memory, rows
        self.ranges: dict[str, Range] = {}
        self.seen: dict[str, str] = {}

    @classmethod
    def of(cls, node: int, memory: str | None) -> _Constants:
        positive_int("node", node)
        rows = [row for row in _rows() if row["process_nm"] == node]
        missing = _missing(rows)
        if missing:
            nodes = sorted({row["process_nm"] for row in _rows()}, reverse=True)
            complete = [each for each in nodes if not _missing([row for row in _rows() if row["process_nm"] == each])]
            what = f"has no energy of {', '.join(missing)}; known there: {_listed(rows)}" if rows else "has no energies"
            raise InputError(
                f"node: {node} nm {what}; energies are not scaled from one node to another, "
                f"so give {' or '.join(map(str, complete))}"
            )
        memories = _memories(rows)
        if memory is not None and memory not in memories:
            raise unknown("memory", memory, memories)
        return cls(node, memory or memories[0], rows)

    def dram(self) -> str:
        """Of a bit."""
        rows = [row for row in self._rows if row["operation"] == f"{self.memory} read"]
        return self._keep(self.memory, _spread(row["energy_pj"] / row["bits"] for row in rows), rows)

    def sram(self, size_kb: int) -> str:
        """Of a bit of an SRAM of this size."""
        rows = [row for row in self._rows if row["operation"] == "SRAM read"]
        sizes = sorted({row["size_kb"] for row in rows})
        below = max((size for size in sizes if size <= size_kb), default=None)
        above = min((size for size in sizes if size >= size_kb), default=None)
        used = [row for row in rows if row["size_kb"] in (below, above)]
        ends = [row["energy_pj"] / row["bits"] for row in used]
        if below is None or above is None:
            nearest = sizes[0] if below is None else sizes[-1]
            ends += [end * math.sqrt(size_kb / nearest) for end in ends]
        return self._keep(f"SRAM of {size_kb} kB", _spread(ends), used)

    def addition(self, bits: float) -> str:
        """Of an activation of this width to an accumulator."""
        kind, least = ("int", 8) if bits <= 8 else ("fp", 16)
        rows = [row for width in (least, 32) for row in self._operation(f"{kind} add", width)]
        return self._keep(f"{kind} addition", _spread(row["energy_pj"] for row in rows), rows)

    def multiplication(self, first: float, second: float) -> str:
        """Of factors of these widths."""
        narrow, wide = sorted((first, second))
        least = [] if narrow < 8 else self._multiplication(8 if narrow < 16 else 16)
        most = self._multiplication(8 if wide <= 8 else 16)
        ends = [row["energy_pj"] for row in (*least, *most)] + [0.0] * (not least)
        return self._keep(f"{narrow:g} x {wide:g} bits", _spread(ends), [*least, *most])

    def _multiplication(self, bits: int) -> list[Row]:
        return self._operation("int mul" if bits == 8 else "fp mul", bits)

    def _operation(self, name: str, bits: int) -> list[Row]:
        return [row for row in self._rows if (row["operation"], row["bits"]) == (name, bits)]

    def _keep(self, name: str, value: Range, rows: list[Row]) -> str:
        self.ranges[name] = value
        self.seen[name] = max((row["seen"] for row in rows), key=SEEN.index)
        return name


class _Counts:
    """How often each constant is spent, by part and component, at one precision."""

    def __init__(self, known: _Constants, asked: Question, bits: Precision) -> None:
        self.known, self.asked, self.bits = known, asked, bits
        self.spent: Counter[tuple[Part, str, str]] = Counter()
        for item in fields(bits):
            if (width := getattr(bits, item.name) or 0) > 16:
                raise InputError(f"{item.name}: {width:g} bits have no energy of arithmetic; at most 16")

    def add(self, matmul: MatMul) -> None:
        """Add all `count` products."""
        try:
            self._arithmetic(matmul)
            if isinstance(self.asked.hardware, SystolicArray):
                self._sram(matmul, self.asked.hardware)
            self._spend(matmul, "DRAM", self.known.dram(), 8 * self.asked.bytes(matmul, self.bits))
        except OverflowError:
            raise CountOverflowError(
                f"{matmul.name}: its counts are too large for a float; use smaller sizes"
            ) from None

    def _arithmetic(self, matmul: MatMul) -> None:
        inputs, operand = self.bits.of_inputs(matmul.part), self.bits.of(matmul.part)
        number = operations(matmul) / 2
        ternary = matmul.part is Part.PROJECTION and operand <= 2
        self._spend(matmul, "arithmetic", self.known.addition(inputs if ternary else max(inputs, operand)), number)
        if not ternary:
            self._spend(matmul, "arithmetic", self.known.multiplication(inputs, operand), number)

    def _sram(self, matmul: MatMul, array: SystolicArray) -> None:
        cost = gemm_cost(matmul.m, matmul.n, matmul.k, array, counting=self.asked.counting)
        inputs, operand = self.bits.of_inputs(matmul.part), self.bits.of(matmul.part)
        accesses = (
            (array.ifmap_sram_kb, cost.ifmap_sram_reads, inputs),
            (array.filter_sram_kb, cost.filter_sram_reads, operand),
            (array.ofmap_sram_kb, cost.ofmap_sram_writes, self.bits.of_results()),
        )
        for size_kb, words, bits in accesses:
            self._spend(matmul, "SRAM", self.known.sram(size_kb), int(words) * matmul.count * bits)

    def _spend(self, matmul: MatMul, component: str, constant: str, number: float) -> None:
        self.spent[matmul.part, component, constant] += float(number)  # type: ignore[assignment]


def _at_corners(known: _Constants, counts: list[_Counts], parts: Iterable[Part]) -> NDArray[np.float64]:
    """Joules at every corner of the constants: corners x parts x components x (before, after)."""
    names, kept = list(known.ranges), list(parts)
    numbers = np.zeros((len(names), len(kept), len(COMPONENTS), len(counts)))
    for column, each in enumerate(counts):
        for (part, component, constant), number in each.spent.items():
            numbers[names.index(constant), kept.index(part), COMPONENTS.index(component), column] = number
    corners = np.array(list(product(*(dict.fromkeys(known.ranges[name]) for name in names))))
    return PICOJOULE * np.tensordot(corners, numbers, axes=1)


def _table(joules: NDArray[np.float64], parts: Iterable[Part], changed: bool) -> pd.DataFrame:
    shares = joules / joules.sum(axis=(1, 2), keepdims=True)
    rows = []
    for column, bits in enumerate(("before", "after") if changed else ("before",)):
        for (row, part), (place, component) in product(enumerate(parts), enumerate(COMPONENTS)):
            spent, share = (_range(each[:, row, place, column]) for each in (joules, shares))
            rows.append([bits, str(part), component, *spent, *share])
    return pd.DataFrame(rows, columns=["bits", "part", "component", "low", "high", "share_low", "share_high"])


def _range(values: object) -> Range:
    array = np.asarray(values, dtype=float)
    return Range(float(array.min()), float(array.max()))


def _spread(values: Iterable[float]) -> Range:
    found = list(values)
    return Range(min(found), max(found))


def _memories(rows: list[Row]) -> list[str]:
    """The DRAMs in these rows, in their order."""
    names = [row["operation"].removesuffix(" read") for row in rows if row["operation"].endswith(" read")]
    return [name for name in dict.fromkeys(names) if name != "SRAM"]


def _missing(rows: list[Row]) -> list[str]:
    """What a node with these rows lacks."""
    found = {(row["operation"], row["bits"]) for row in rows}
    missing = [f"{name} ({bits} bits)" for name, bits in ARITHMETIC if (name, bits) not in found]
    missing += [] if any(row["size_kb"] for row in rows) else ["an SRAM"]
    return missing + ([] if _memories(rows) else ["a DRAM"])


def _listed(rows: list[Row]) -> str:
    sizes = [f", {row['size_kb']} kB" if row["size_kb"] else "" for row in rows]
    texts = [f"({row['energy_pj']:g} pJ, {row['bits']} bits)" for row in rows]
    return "; ".join(f"{row['operation']}{size} {text}" for row, size, text in zip(rows, sizes, texts, strict=True))
