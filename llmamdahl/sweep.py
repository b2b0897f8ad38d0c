"""Models x context lengths x arrays -> one tidy DataFrame of what each part costs, and the fraction F."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from llmamdahl.errors import CountOverflowError, InputError, instance, listed, one_of
from llmamdahl.hardware import Dataflow, SystolicArray
from llmamdahl.models import Decoder, get_model
from llmamdahl.systolic import gemm_cost
from llmamdahl.workload import Part, decode_step

METRICS = ("cycles", "memory_accesses")
"""The two panels of Figures 4, 6, 9 and 10."""

COLUMNS = ["model", "context_length", "array", "dataflow", "metric", "projection", "attention", "fraction"]


def sweep(
    models: Iterable[str | Decoder],
    context_lengths: Iterable[int],
    arrays: Iterable[SystolicArray],
    counting: str = "reported",
    ifmap: str = "activations",
) -> pd.DataFrame:
    """Cost of a decode step's projections and attention, whole model, for every combination.

    Parameters
    ----------
    models
        Names for `get_model`, or `Decoder`s.
    context_lengths
        l, tokens attended to.
    arrays
        Systolic arrays, each with its own dataflow; two alike in label and dataflow are refused.
    counting
        `"reported"` or `"corrected"`, as in `gemm_cost`.
    ifmap
        Which operand the ifmap memory holds: `"activations"` (Section 3.2 puts weights, K and V into the weight
        memory) or `"weights"` (the order in which Table 1 writes the products).

    Returns
    -------
    DataFrame
        One row a model, context length, array and metric (`cycles`, `memory_accesses`): the counts of both parts and
        F = projection / (projection + attention), a number in [0, 1].

    Raises
    ------
    InputError
        An empty list, an unknown model, counting or ifmap, a bad context length, arrays that cannot be told apart, or
        one on which a whole decode step is reported as 0 cycles.
    CountOverflowError
        A sum above 2**63 - 1.

    >>> from llmamdahl.hardware import CLOUD_TPU
    >>> sweep(["opt-350m"], [2048], [CLOUD_TPU]).loc[0, "fraction"].round(3)
    np.float64(0.371)
    """
    one_of("ifmap", ifmap, ("activations", "weights"))
    decoders = [get_model(model) if isinstance(model, str) else model for model in listed("models", models)]
    for model in decoders:
        instance("models", model, Decoder)
    listed("models", [model.name for model in decoders])
    lengths, arrays = listed("context_lengths", context_lengths), listed("arrays", arrays, distinct=False)
    for array in arrays:  # alike in size, they may still differ in name
        instance("arrays", array, SystolicArray)
    labels = [(array.label, str(array.dataflow)) for array in arrays]
    for label, dataflow in labels:
        if labels.count((label, dataflow)) > 1:
            raise InputError(f"arrays: several are {label!r} with dataflow {dataflow}; give each its own name")

    cases = [(model, length) for model in decoders for length in lengths]
    steps = [
        (case, matmul)
        for case, (model, length) in enumerate(cases)
        for matmul in decode_step(model, length)
        if matmul.part is not Part.UNQUANTIZED
    ]
    try:
        m, n, k, count = np.array([(mm.m, mm.n, mm.k, mm.count) for _, mm in steps], dtype=np.int64).T
    except OverflowError:
        raise CountOverflowError("sweep: a dimension or a number of MatMuls is above 2**63 - 1") from None
    if ifmap == "weights":
        m, n = n, m
    # column 0 projection, column 1 attention of each case
    cell = np.array([2 * case + (matmul.part is Part.ATTENTION) for case, matmul in steps])

    frames = []
    for array, (label, dataflow) in zip(arrays, labels, strict=True):
        cost = gemm_cost(m, n, k, array, counting)
        for metric in METRICS:
            parts = _sums(getattr(cost, metric), count, cell, len(cases))
            if not parts.any(axis=1).all():  # one element, and MatMuls of one cycle, each counted as none
                raise InputError(
                    f"arrays: {label!r} with dataflow {dataflow} counts no {metric}, of which F is a share"
                )
            frames.append(
                {
                    "model": [model.name for model, _ in cases],
                    "context_length": [length for _, length in cases],
                    "array": [label] * len(cases),
                    "dataflow": [dataflow] * len(cases),
                    "metric": [metric] * len(cases),
                    "projection": parts[:, 0],
                    "attention": parts[:, 1],
                    "fraction": parts[:, 0] / parts.sum(axis=1),
                }
            )
    return pd.DataFrame({name: _joined([frame[name] for frame in frames]) for name in COLUMNS})


def dataflow_cycles(
    models: Iterable[str | Decoder],
    context_lengths: Iterable[int],
    array: SystolicArray,
    counting: str = "reported",
    ifmap: str = "activations",
) -> pd.DataFrame:
    """Total cycles of a decode step, whole model, in each dataflow (Figure 8), and which of them is the fastest.

    Returns
    -------
    DataFrame
        model, context_length, array, ifmap, counting, os, ws, is (cycles), fastest (`os`, `ws` or `is`; tied ones are
        joined by `=`).
    """
    instance("array", array, SystolicArray)
    names = [str(dataflow) for dataflow in Dataflow]
    arrays = [replace(array, dataflow=name) for name in names]
    frame = sweep(models, context_lengths, arrays, counting, ifmap).query("metric == 'cycles'")
    by_dataflow = {name: rows.reset_index(drop=True) for name, rows in frame.groupby("dataflow")}
    totals = by_dataflow[names[0]][["model", "context_length", "array"]].assign(ifmap=ifmap, counting=counting)
    for name in names:
        totals[name] = by_dataflow[name].projection + by_dataflow[name].attention
    least = totals[names].min(axis=1)
    fastest = [
        "=".join(name for name in names if row[name] == best)
        for row, best in zip(totals[names].to_dict("records"), least, strict=True)
    ]
    return totals.assign(fastest=fastest)


def correction_shift(
    models: Iterable[str | Decoder], context_lengths: Iterable[int], arrays: Iterable[SystolicArray]
) -> pd.DataFrame:
    """How far SCALE-Sim's miscounts move F.

    Returns
    -------
    DataFrame
        model, context_length, array, dataflow, metric, reported, corrected (F of each counting), shift (corrected minus
        reported).
    """
    models, context_lengths, arrays = list(models), list(context_lengths), list(arrays)
    frame = sweep(models, context_lengths, arrays, "reported").rename(columns={"fraction": "reported"})
    frame["corrected"] = sweep(models, context_lengths, arrays, "corrected").fraction
    return frame.drop(columns=["projection", "attention"]).assign(shift=frame.corrected - frame.reported)


def _joined(parts: list[Any]) -> Any:
    """Arrays as one array, lists as one list: an array of texts would lose what NumPy takes for padding."""
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else list(chain.from_iterable(parts))


def _sums(values: np.ndarray, count: np.ndarray, cell: np.ndarray, cases: int) -> np.ndarray:
    """Sum of values x count of each part of each case, int64 of shape (cases, 2)."""
    rough = np.bincount(cell, weights=values.astype(float) * count, minlength=2 * cases).reshape(cases, 2)
    if (rough.sum(axis=1) > 0.999 * 2**63).any():
        raise CountOverflowError("sweep: the counts of a whole decode step add up to more than 2**63 - 1")
    sums = np.zeros(2 * cases, dtype=np.int64)
    np.add.at(sums, cell, values * count)
    return sums.reshape(cases, 2)
