"""S_partial of narrower weights: PEs of equal area, bits through a memory, and the best split of the silicon.

The paper sweeps S_partial. Here it follows from three things: how many more PEs fit into an area if weights are narrow
(`silicon.elements`), how many fewer bits come through the memory (`roofline`), and what fill and skew leave of both
(`systolic`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmamdahl.analysis import share, sweep
from llmamdahl.errors import InputError, listed, one_of, positive_int, real_number, shown
from llmamdahl.hardware import Dataflow, SystolicArray, find_array
from llmamdahl.models import Decoder, find_model
from llmamdahl.question import Settings, reject_batch
from llmamdahl.roofline import BYTE
from llmamdahl.silicon.elements import WEIGHT_BITS, pe_area
from llmamdahl.workload import Part, decode_step

WEIGHTS = ("int8", "int4", "ternary", "binary")
"""Weights that a PE multiplies INT8 activations with; INT8 are those of the baseline."""

FLOWS = (Dataflow.OS, Dataflow.WS)
"""Dataflows with a PE for narrow weights: an input-stationary PE holds activations."""


def accumulator_bits(weights: str, longest: int) -> int:
    """The narrowest accumulator (of 20, 24 and 32 bits) whose sums of `longest` products with INT8 never overflow.

    A sum of k products is at most k times the largest absolute product, 128 x 128 (INT8), 128 x 8 (INT4) or 128
    (ternary, binary), and must be below 2^(bits - 1).

    Raises
    ------
    InputError
        Unknown weights, or more products than 32 bits hold.

    >>> accumulator_bits("int8", 4096), accumulator_bits("ternary", 4096), accumulator_bits("ternary", 256)
    (32, 24, 20)
    """
    largest = {"int8": 128 * 128, "int4": 128 * 8}.get(one_of("weights", weights, WEIGHTS), 128)
    longest = positive_int("longest", longest)
    for bits in (20, 24, 32):
        if longest * largest < 2 ** (bits - 1):
            return bits
    raise InputError(f"longest: sums of {longest} products need more than 32 bits; use fewer")


def equal_area(array: str | SystolicArray, weights: str, longest: int, *, area: float = 1) -> list[SystolicArray]:
    """The shapes of an array with PEs for these weights that take at most the area of an INT8 `array`.

    For each number of rows as many columns as the area allows, in both dataflows. Accumulators are as wide as they must
    be (`accumulator_bits`): for `longest` products in an output-stationary PE, for as many as there are rows in a
    weight-stationary one. The bits at the edges in a cycle, 8 for each row's activation and those of a weight for each
    column, are at most those of `array`: wires and SRAM ports are not free, and are not in the area of the PEs. SRAMs,
    clock and DRAM stay.

    Parameters
    ----------
    longest
        The largest k of the MatMuls.
    area
        The area to fill, in those of the PEs of `array`.

    Raises
    ------
    InputError
        An unknown array, weights or dataflow; an area that is not a number above 0.

    >>> max(shape.rows * shape.cols for shape in equal_area("edge", "ternary", 4096)) / 32**2
    2.966796875
    """
    design = find_array(array)
    edge, bits = 8 * (design.rows + design.cols), WEIGHT_BITS[one_of("weights", weights, WEIGHTS)]
    um2 = _above_0("area", area) * design.rows * design.cols
    um2 *= _pe_area("int8", design.dataflow, design.rows, longest)
    found = []
    for dataflow, rows in product(FLOWS, range(1, edge // 8 + 1)):
        number = int(um2 / _pe_area(weights, dataflow, rows, longest))
        if cols := int(min(number // rows, (edge - 8 * rows) // bits)):
            found.append(replace(design, rows=rows, cols=cols, dataflow=dataflow, name=""))
    return found


def _pe_area(weights: str, dataflow: Dataflow | str, rows: int, longest: int) -> float:
    """Area of a PE whose accumulator is as wide as its sums need: of library cells, whose flip-flops are not small."""
    sums = longest if dataflow == Dataflow.OS else rows
    return _pe_area_of_bits(weights, str(dataflow), accumulator_bits(weights, sums), unit="um2")


_pe_area_of_bits = cache(pe_area)


def narrow_weights(
    model: str | Decoder,
    context_length: int,
    array: str | SystolicArray,
    bandwidths: Iterable[float],
    *,
    weights: Iterable[str] = WEIGHTS,
    area: float = 1,
    **settings: Unpack[Settings],
) -> pd.DataFrame:
    """S_partial and S_total of narrower weights against the bandwidth of the DRAM, with INT8 PEs and with narrow ones.

    The baseline is `array` with INT8 weights, at the same bandwidth. Attention stays on it.

    Parameters
    ----------
    model, context_length, settings
        As in `analysis.share`, without a precision or a metric; bits other than the weights' are those of `baseline`.
    array
        The INT8 array, with a clock.
    bandwidths
        GB/s of the DRAM.
    weights
        `int8` (for another shape of array alone), `int4`, `ternary`, `binary`.
    area
        Of the narrow array, in those of `array`.

    Returns
    -------
    DataFrame
        model, context_length, bandwidth, weights, pes (`same`: the INT8 array itself, `equal area`: the best shape of
        `equal_area` for the projections), rows, cols, dataflow, whole, fraction (F of seconds of the baseline),
        partial_speedup, total_speedup, regime. The regime says what most of the projections' seconds wait for after the
        change: `memory` (bytes), `overhead` (fill, skew and drain take more than half of the cycles) or `array`.

    Raises
    ------
    InputError
        As `analysis.share`; an array without a clock; a precision or a metric; unknown weights.

    >>> frame = narrow_weights("opt-6.7b", 2048, SystolicArray(32, 32, clock_mhz=700), [3.2, 1000], weights=["ternary"])
    >>> frame[["bandwidth", "pes", "partial_speedup", "regime"]].round(2).values.tolist()[0]
    [3.2, 'same', 4.0, 'memory']
    """
    for name in ("precision", "metric", "phase"):
        if name in settings:
            given = settings[name]
            raise InputError(
                f"{name}: {shown(given)} is given, but a decode step's seconds count, and the weights' bits change"
            )
    design, decoder = find_array(array), find_model(model)
    longest = _longest(decoder, context_length)
    if design.clock_mhz is None:
        raise InputError(f"array: {design.label} has no clock, so that bytes cannot be compared with cycles")
    asked: Settings = {**settings, "metric": "seconds"}
    before_bits = (settings.get("baseline") or BYTE).over(BYTE)
    rows = []
    for bandwidth in [_above_0("bandwidths", value) for value in listed("bandwidths", bandwidths)]:
        here = replace(design, dram_gb_s=bandwidth)
        before = share(decoder, context_length, here, **asked)
        total = before.projection / before.fraction
        for kind in [one_of("weights", kind, WEIGHTS) for kind in listed("weights", weights)]:
            bits = WEIGHT_BITS[kind]
            after: Settings = {**asked, "baseline": replace(before_bits, weights=bits)}
            shapes = equal_area(here, kind, longest, area=area)
            for pes, places in (("same", [here]), ("equal area", shapes)):
                cost = sweep([decoder], [context_length], places, **after).projection.to_numpy()
                # of equally fast shapes (where memory decides) the one with the fewest bits at its edges
                fastest = np.flatnonzero(cost <= cost.min() * (1 + 1e-12)).tolist()
                best = min((places[place] for place in fastest), key=lambda one: 8 * one.rows + bits * one.cols)
                speedup = before.projection / cost.min()
                rows.append(
                    {
                        "model": decoder.name,
                        "context_length": context_length,
                        "bandwidth": bandwidth,
                        "weights": kind,
                        "pes": pes,
                        "rows": best.rows,
                        "cols": best.cols,
                        "dataflow": str(best.dataflow),
                        "whole": before.whole,
                        "fraction": before.fraction,
                        "partial_speedup": speedup,
                        "total_speedup": total / (total - before.projection + cost.min()),
                        "regime": _regime(decoder, context_length, best, after),
                    }
                )
    return pd.DataFrame(rows)


def best_split(
    models: Iterable[str | Decoder],
    context_length: int,
    array: str | SystolicArray,
    *,
    batches: Iterable[int] = (1,),
    weights: str = "ternary",
    x: float | None = None,
    **settings: Unpack[Settings],
) -> pd.DataFrame:
    """How to divide an area between narrow PEs for projections and INT8 PEs for attention (Hill and Marty, 2008).

    The INT8 array keeps its rows; of its columns some stay, for attention and a recurrent state, and the area of the
    others holds columns of narrow PEs. Every split in whole columns is counted, so the best is exact. In sequence the
    two arrays take turns, one token after the other; overlapped they work on different sequences at once, so that the
    slower one decides, or the memory that both share.

    Parameters
    ----------
    models, context_length, settings
        As in `analysis.share`, without a batch, precision or metric. Seconds count if the array has a clock, else
        cycles.
    array
        The INT8 array that does everything in the baseline.
    x
        The share of the area that goes to projections, to the nearest column; None for the best one.

    Returns
    -------
    DataFrame
        model, context_length, batch, mode (`in sequence`, `overlapped`), metric, whole, fraction (F of the baseline),
        x (the share of the area that goes to projections), attention_cols, projection_cols, total_speedup over the
        baseline; and, if each array's speed were in proportion to its area: rule_x and rule_speedup.

    Raises
    ------
    InputError
        As `analysis.share`; an array with a single column, which cannot be divided; an x outside (0, 1).
    """
    reject_batch(settings)
    design = find_array(array)
    kind = one_of("weights", weights, WEIGHTS)
    if design.cols < 2:
        raise InputError(f"array: {design.label} has one column, and cannot be divided")
    if x is not None and not 0 < (real_number(x) or 0) < 1:
        raise InputError(f"x: {shown(x)} is not a share of the area between 0 and 1; at 0 and 1 one part has no array")
    wide = (settings.get("baseline") or BYTE).over(BYTE)
    tables = []
    for model, batch in product(listed("models", models), listed("batches", batches)):
        longest = _longest(find_model(model), context_length)
        ratio = _pe_area("int8", design.dataflow, design.rows, longest) / _pe_area(
            kind, design.dataflow, design.rows, longest
        )
        asked: Settings = {**settings, "metric": "cycles" if design.clock_mhz is None else "seconds", "batch": batch}
        narrow: Settings = {**asked, "baseline": replace(wide, weights=WEIGHT_BITS[kind])}
        before = share(model, context_length, design, **asked)
        # columns of INT8 that are left for attention, and the narrow columns in place of the others; last: none left
        kept = np.arange(design.cols - 1, -1, -1)
        others = ((design.cols - kept) * ratio).astype(int)
        projection = _on_columns(model, context_length, design, others, narrow).projection.to_numpy(dtype=float)
        wide_parts = _on_columns(model, context_length, design, kept[:-1], asked)
        attention = (wide_parts.attention + wide_parts.get("state", 0)).to_numpy(dtype=float)
        rest = before.projection / before.fraction - before.projection - before.attention - before.state
        busy = {
            "in sequence": projection[:-1] + attention + rest,
            "overlapped": np.maximum(
                np.maximum(projection[:-1], attention + rest), _memory_bound(model, context_length, design, narrow)
            ),
        }
        for mode, cost in busy.items():
            total, best = before.projection / before.fraction, int(cost.argmin())
            if x is not None:
                best = min(max(round(x * design.cols), 1), design.cols - 1) - 1
            # speeds in proportion to area: p / x + a / (1 - x) is least at x = sqrt(p) / (sqrt(p) + sqrt(a)), and the
            # larger of p / x and a / (1 - x) where they are equal
            p, a = projection[-1], before.attention + before.state + rest
            sides = np.sqrt([p, a]) if mode == "in sequence" else np.array([p, a])
            tables.append(
                {
                    "model": before.model,
                    "context_length": context_length,
                    "batch": batch,
                    "mode": mode,
                    "metric": before.metric,
                    "whole": before.whole,
                    "fraction": before.fraction,
                    "x": 1 - kept[best] / design.cols,
                    "attention_cols": int(kept[best]),
                    "projection_cols": int(others[best]),
                    "total_speedup": total / cost[best],
                    "rule_x": sides[0] / sides.sum(),
                    "rule_speedup": total / (sides.sum() ** 2 if mode == "in sequence" else sides.sum()),
                }
            )
    return pd.DataFrame(tables)


def _on_columns(
    model: str | Decoder, context_length: int, design: SystolicArray, columns: NDArray[np.int64], settings: Settings
) -> pd.DataFrame:
    """A sweep over arrays like this one with other numbers of columns."""
    arrays = [replace(design, cols=int(cols), name=str(place)) for place, cols in enumerate(columns)]
    return sweep([model], [context_length], arrays, **settings)


def _memory_bound(model: str | Decoder, context_length: int, design: SystolicArray, settings: Settings) -> float:
    """Seconds of all bytes of a step through the memory that both arrays share; 0 if it is never waited for."""
    if design.dram_gb_s is None:
        return 0
    asked: Settings = {**settings, "metric": "bytes"}
    moved = share(model, context_length, design, **asked)
    return moved.projection / moved.fraction / 1e9 / design.dram_gb_s


def _regime(model: Decoder, context_length: int, array: SystolicArray, settings: Settings) -> str:
    """What most of the projections' seconds wait for."""
    if share(model, context_length, array, **settings).bound["projection"] == "memory":
        return "memory"
    counted: Settings = {**settings, "metric": "cycles"}
    cycles = share(model, context_length, array, **counted).projection
    batch, experts = settings.get("batch", 1), settings.get("experts", "even")
    streamed: float = 0
    for mm in decode_step(model, context_length, batch, experts=experts):
        if mm.part is Part.PROJECTION:
            down, stream = (mm.m, mm.k) if array.dataflow == Dataflow.OS else (mm.k, mm.m)
            streamed += -(-down // array.rows) * -(-mm.n // array.cols) * stream * mm.count
    return "overhead" if streamed < cycles / 2 else "array"


def _longest(model: Decoder, context_length: int) -> int:
    """The largest k of the projections."""
    return max(mm.k for mm in decode_step(model, context_length) if mm.part is Part.PROJECTION)


def _above_0(name: str, value: object) -> float:
    number = real_number(value)
    if number is None or number <= 0:
        raise InputError(f"{name}: {shown(value)} is not a number above 0")
    return number
