"""Which shape of array is best for a number of processing elements, and F by the size of a square one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Unpack

import numpy as np
import pandas as pd

from llmamdahl import amdahl
from llmamdahl.analysis import sweep
from llmamdahl.errors import InputError, listed, one_of, positive_int
from llmamdahl.hardware import Dataflow, SystolicArray, find_array
from llmamdahl.models import Decoder
from llmamdahl.question import (
    COLUMNS,
    Settings,
    metrics_asked,
    with_metric,
)
from llmamdahl.workload import Part

MOST_PES = 2**40
"""Most processing elements whose shapes are searched."""


def array_shapes(
    model: str | Decoder,
    context_length: int,
    array: str | SystolicArray,
    *,
    dataflows: Iterable[Dataflow | str] = tuple(Dataflow),
    **settings: Unpack[Settings],
) -> pd.DataFrame:
    """What a decode step (or prefill) costs on every shape rows x cols with as many PEs as `array`, best first.

    Every factorization of rows x cols is there, in every dataflow, so the first row is the best of all. A shape is not
    free: it can take a word at each of its rows and columns in each cycle, and the SRAMs must deliver them.
    rows + cols is smallest for a square, so every faster shape needs more SRAM bandwidth than that.

    Parameters
    ----------
    model, context_length, settings
        As in `share`. With a `precision` the order is still that of the costs before the change.
    array
        The array, or its name, whose number of PEs, SRAM sizes, clock and DRAM are kept.
    dataflows
        Those to try.

    Returns
    -------
    DataFrame
        The columns of `sweep` in one metric; after dataflow rows, cols and words_a_cycle (rows + cols); before
        fraction cost (of the whole) and whole (the parts it is made of). Shapes of equal cost are in the order of
        words_a_cycle.

    Raises
    ------
    InputError
        As `sweep`; more than `MOST_PES` PEs. With `refetches` also a shape that requests more words in one cycle than
        a read buffer holds (`gemm_cost`).

    >>> array_shapes("llama-3.1-8b", 2048, "cloud").loc[:2, ["array", "dataflow", "words_a_cycle", "cost"]]
         array dataflow  words_a_cycle      cost
    0  32x2048       os           2080  11483552
    1  64x1024       os           1088  13968544
    2  16x4096       os           4112  14384608
    """
    design = find_array(array)
    if (pes := design.rows * design.cols) > MOST_PES:
        raise InputError(f"array: {design.label} has {pes} PEs, too many to try every shape; at most {MOST_PES}")
    flows = [one_of("dataflows", flow, tuple(Dataflow)) for flow in listed("dataflows", dataflows)]
    small = np.arange(1, math.isqrt(pes) + 1)
    rows = sorted({side for low in small[pes % small == 0].tolist() for side in (low, pes // low)})
    shapes = [replace(design, rows=high, cols=pes // high, dataflow=flow, name="") for high in rows for flow in flows]
    frame = sweep([model], [context_length], shapes, **with_metric(settings, metrics_asked(design, settings)[0]))
    parts = [str(part) for part in Part if str(part) in frame]
    sides = {"rows": [shape.rows for shape in shapes], "cols": [shape.cols for shape in shapes]}
    frame = frame.assign(**sides, words_a_cycle=lambda table: table.rows + table.cols)
    frame = frame.assign(cost=frame[parts].sum(axis=1), whole=" + ".join(parts))
    order = [*COLUMNS[:4], *sides, "words_a_cycle", "metric", *parts, "cost", "whole", "fraction"]
    frame = frame[order + [name for name in frame if name not in order]]
    return frame.sort_values(["cost", "words_a_cycle"], kind="stable", ignore_index=True)


def fraction_by_array_size(
    model: str | Decoder,
    context_length: int,
    sizes: Iterable[int],
    *,
    dataflow: Dataflow | str = Dataflow.OS,
    clock_mhz: float | None = None,
    dram_gb_s: float | None = None,
    **settings: Unpack[Settings],
) -> pd.DataFrame:
    """F and its ceiling against the size of a square array, at one context length.

    Parameters
    ----------
    sizes
        Rows, and as many columns, of each array.
    dataflow, clock_mhz, dram_gb_s
        Of every array, as in `SystolicArray`.

    Returns
    -------
    DataFrame
        The rows of `sweep`, with size and ceiling: 1 / (1 - F).

    Raises
    ------
    InputError
        As `sweep`; a size that is not a positive whole number.

    >>> frame = fraction_by_array_size("opt-6.7b", 2048, [32, 128], metric="cycles")
    >>> frame[["size", "fraction", "ceiling"]].round(3).values.tolist()
    [[32.0, 0.906, 10.653], [128.0, 0.859, 7.115]]
    """
    checked = [positive_int("sizes", size) for size in listed("sizes", sizes)]
    arrays = [SystolicArray(size, size, dataflow, clock_mhz=clock_mhz, dram_gb_s=dram_gb_s) for size in checked]
    frame = sweep([model], [context_length], arrays, **settings)
    frame.insert(3, "size", np.repeat(checked, len(frame) // len(checked)))
    return frame.assign(ceiling=amdahl.ceiling(frame.fraction.to_numpy()))
