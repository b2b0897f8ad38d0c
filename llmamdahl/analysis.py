"""Questions about a model on an array, answered by solving: when attention overtakes, what a generation costs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from llmamdahl import amdahl
from llmamdahl.errors import CountOverflowError, InputError, instance, listed, one_of, positive_int
from llmamdahl.hardware import Dataflow, SystolicArray
from llmamdahl.models import Decoder, get_model
from llmamdahl.systolic import gemm_cost
from llmamdahl.workload import MatMul, Part, decode_step, prefill

LONGEST_CONTEXT = 2**30
"""Tokens up to which a crossover is looked for."""

LARGEST_BATCH = 2**16
"""Sequences up to which a crossover is looked for."""

CONTEXT_AXIS = {"Q·Kᵀ": "n", "scores·V": "k"}
"""The dimension of each attention MatMul that counts the tokens attended to (Table 1)."""


@dataclass(frozen=True, slots=True)
class Share:
    """What each part costs (cycles or memory accesses, exact), and the fraction F that goes with it."""

    projection: int
    attention: int
    unquantized: int
    fraction: float


def share(
    model: str | Decoder,
    context_length: int,
    array: SystolicArray,
    batch: int = 1,
    metric: str = "cycles",
    counting: str = "reported",
    unquantized: bool = False,
) -> Share:
    """The parts of one decode step of the whole model, and F.

    Parameters
    ----------
    model
        A name for `get_model`, or a `Decoder`.
    context_length, batch
        As in `decode_step`.
    metric
        `"cycles"` or `"memory_accesses"`.
    counting
        `"reported"` or `"corrected"`, as in `gemm_cost`.
    unquantized
        False: F = projection / (projection + attention), the paper's. True: the weights that stay in high precision
        are part of the whole, F = projection / (projection + attention + unquantized).

    Raises
    ------
    InputError
        An unknown model, metric or counting; a context length or batch that is not a positive whole number.

    >>> from llmamdahl.hardware import CLOUD_TPU
    >>> round(share("opt-350m", 2048, CLOUD_TPU).fraction, 3)
    0.371
    >>> round(share("opt-350m", 2048, CLOUD_TPU, unquantized=True).fraction, 3)
    0.354
    """
    step = decode_step(_decoder(model), context_length, batch)
    return _share(_totals(step, array, metric, counting), unquantized)


def prefill_share(
    model: str | Decoder,
    tokens: int,
    array: SystolicArray,
    batch: int = 1,
    metric: str = "cycles",
    counting: str = "reported",
    unquantized: bool = False,
) -> Share:
    """The parts of a prefill of `tokens` tokens, and F; other parameters and refusals as in `share`.

    >>> from llmamdahl.hardware import CLOUD_TPU
    >>> round(prefill_share("opt-350m", 2048, CLOUD_TPU).fraction, 3)
    0.371
    """
    return _share(_totals(prefill(_decoder(model), tokens, batch), array, metric, counting), unquantized)


def crossover_context_length(
    model: str | Decoder,
    array: SystolicArray,
    metric: str = "cycles",
    counting: str = "reported",
    batch: int = 1,
) -> int | None:
    """The smallest context length at which attention has overtaken the projections: F <= 1/2.

    Exact: attention never costs less at a longer context, and projections cost the same at every one.

    Returns
    -------
    int or None
        None if it does not happen up to `LONGEST_CONTEXT` tokens, as when every layer has a sliding window.

    Raises
    ------
    InputError
        As `share`.

    >>> from llmamdahl.hardware import CLOUD_TPU
    >>> crossover_context_length("opt-350m", CLOUD_TPU)
    1025
    """
    decoder = _decoder(model)
    return _overtaking(lambda length: share(decoder, length, array, batch, metric, counting), LONGEST_CONTEXT)


def crossover_batch(
    model: str | Decoder,
    context_length: int,
    array: SystolicArray,
    metric: str = "cycles",
    counting: str = "reported",
) -> int | None:
    """The smallest batch at which attention has overtaken the projections: F <= 1/2.

    A batch shares the weights, so the projections' cycles stay nearly flat until it fills the array, while attention
    grows in proportion. F is not monotone in the batch: the projections jump with every further fold, so F can rise
    above 1/2 again at a larger batch. The answer is the smallest batch all the same, and exact: it rests only on the
    fact that neither part costs less in a larger batch.

    Returns
    -------
    int or None
        None if it does not happen up to `LARGEST_BATCH` sequences.

    Raises
    ------
    InputError
        As `share`.

    >>> from llmamdahl.hardware import CLOUD_TPU
    >>> crossover_batch("opt-6.7b", 2048, CLOUD_TPU)
    4
    """
    decoder = _decoder(model)
    return _overtaking(lambda batch: share(decoder, context_length, array, batch, metric, counting), LARGEST_BATCH)


def crossovers(
    models: Iterable[str | Decoder],
    arrays: Iterable[SystolicArray],
    counting: str = "reported",
    batch: int = 1,
) -> pd.DataFrame:
    """`crossover_context_length` of every model, array and metric.

    Returns
    -------
    DataFrame
        model, max_position (the longest context it was trained for), array, dataflow, metric, context_length (whole
        numbers, missing where attention never overtakes).

    Raises
    ------
    InputError
        As `share`; an empty list, models of one name, or arrays alike in label and dataflow.
    """
    decoders = [_decoder(model) for model in listed("models", models)]
    listed("models", [model.name for model in decoders])
    designs = listed("arrays", arrays, distinct=False)
    for array in designs:
        instance("arrays", array, SystolicArray)
    listed("arrays", [f"{array.label}, {array.dataflow}" for array in designs])
    rows = [
        {
            "model": model.name,
            "max_position": model.max_position,
            "array": array.label,
            "dataflow": str(array.dataflow),
            "metric": metric,
            "context_length": crossover_context_length(model, array, metric, counting, batch),
        }
        for array in designs
        for metric in METRICS
        for model in decoders
    ]
    return pd.DataFrame(rows).astype({"context_length": "Int64"})


def compare(
    models: Iterable[str], arrays: Iterable[SystolicArray], question: Callable[[str, SystolicArray], object]
) -> pd.DataFrame:
    """The answer to a question of a model and an array for each of them: models down, arrays across.

    >>> from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU
    >>> compare(["opt-6.7b"], [CLOUD_TPU, EDGE_TPU], lambda model, array: crossover_batch(model, 2048, array))
              cloud  edge
    opt-6.7b      4    10
    """
    names, designs = listed("models", models), listed("arrays", arrays)
    return pd.DataFrame({array.label: [question(name, array) for name in names] for array in designs}, index=names)


def generation_cost(
    model: str | Decoder,
    prompt_tokens: int,
    new_tokens: int,
    array: SystolicArray,
    batch: int = 1,
    metric: str = "cycles",
    counting: str = "reported",
    unquantized: bool = False,
) -> Share:
    """The parts of a whole generation, and F: a prefill of the prompt, then a decode step for each new token.

    The decode steps have context lengths prompt_tokens + 1 to prompt_tokens + new_tokens. Other parameters as in
    `share`.

    Raises
    ------
    InputError
        As `share`; a number of tokens that is not a positive whole number.

    >>> from llmamdahl.hardware import CLOUD_TPU
    >>> round(generation_cost("opt-6.7b", 512, 10_000, CLOUD_TPU).fraction, 3)
    0.572
    """
    decoder = _decoder(model)
    prompt, new = positive_int("prompt_tokens", prompt_tokens), positive_int("new_tokens", new_tokens)
    before = prefill(decoder, prompt, batch)
    last = decode_step(decoder, prompt + new, batch)
    fixed = [replace(matmul, count=matmul.count * new) for matmul in last if matmul.part is not Part.ATTENTION]
    counts = _totals([*before, *fixed], array, metric, counting)
    lengths = np.arange(prompt + 1, prompt + new + 1)
    for matmul in last:
        if matmul.part is Part.ATTENTION:
            counts[Part.ATTENTION] += _over_lengths(matmul, lengths, array, metric, counting)
    return _share(counts, unquantized)


def fraction_by_batch(
    models: Iterable[str | Decoder],
    context_length: int,
    batches: Iterable[int],
    array: SystolicArray,
    metric: str = "cycles",
    counting: str = "reported",
) -> pd.DataFrame:
    """F of a decode step and its ceiling against the number of sequences decoded together.

    Returns
    -------
    DataFrame
        model, context_length, batch, array, dataflow, metric, fraction, ceiling: 1 / (1 - F).

    Raises
    ------
    InputError
        As `share`; an empty list, a model or batch listed twice.
    """
    decoders = [_decoder(model) for model in listed("models", models)]
    listed("models", [model.name for model in decoders])
    instance("array", array, SystolicArray)
    rows = [
        {
            "model": model.name,
            "context_length": context_length,
            "batch": batch,
            "array": array.label,
            "dataflow": str(array.dataflow),
            "metric": metric,
            "fraction": share(model, context_length, array, batch, metric, counting).fraction,
        }
        for model in decoders
        for batch in listed("batches", batches)
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(ceiling=amdahl.ceiling(frame.fraction.to_numpy()))


def fraction_by_array_size(
    model: str | Decoder,
    context_length: int,
    sizes: Iterable[int],
    dataflow: Dataflow | str = Dataflow.OS,
    counting: str = "reported",
) -> pd.DataFrame:
    """F and its ceiling against the size of a square array, at one context length: what a 1-bit model wants.

    Parameters
    ----------
    sizes
        Rows, and as many columns, of each array.

    Returns
    -------
    DataFrame
        The rows of `sweep`, with size and ceiling: 1 / (1 - F).

    Raises
    ------
    InputError
        As `sweep`; a size that is not a positive whole number.

    >>> frame = fraction_by_array_size("opt-6.7b", 2048, [32, 128]).query("metric == 'cycles'")
    >>> frame[["size", "fraction", "ceiling"]].round(3).values.tolist()
    [[32.0, 0.906, 10.653], [128.0, 0.859, 7.115]]
    """
    checked = [positive_int("sizes", size) for size in listed("sizes", sizes)]
    arrays = [SystolicArray(size, size, dataflow) for size in checked]
    frame = sweep([model], [context_length], arrays, counting)
    frame.insert(3, "size", np.repeat(checked, len(METRICS)))
    return frame.assign(ceiling=amdahl.ceiling(frame.fraction.to_numpy()))


def _decoder(model: str | Decoder) -> Decoder:
    decoder = get_model(model) if isinstance(model, str) else model
    instance("model", decoder, Decoder)
    return decoder


def _totals(matmuls: Iterable[MatMul], array: SystolicArray, metric: str, counting: str) -> dict[Part, int]:
    one_of("metric", metric, METRICS)
    counts = dict.fromkeys(Part, 0)  # Python's ints: these sums cannot overflow
    for matmul in matmuls:
        cost = gemm_cost(matmul.m, matmul.n, matmul.k, array, counting)
        counts[matmul.part] += int(getattr(cost, metric)) * matmul.count
    return counts


def _share(counts: dict[Part, int], unquantized: bool) -> Share:
    projection, attention, rest = (counts[part] for part in (Part.PROJECTION, Part.ATTENTION, Part.UNQUANTIZED))
    whole = projection + attention + (rest if unquantized else 0)
    if not whole:  # MatMuls of one cycle, each counted as none
        raise InputError("array: it counts no cycles for all of this, of which F would be a share")
    return Share(projection, attention, rest, projection / whole)


def _overtaking(parts: Callable[[int], Share], bound: int) -> int | None:
    """The smallest x from 1 to `bound` at which attention >= projection; neither may decrease as x grows.

    Below the x where attention reaches what the projections cost now, it is less than that, so less than what they
    cost there: all these x are out, and the search goes on at that one.
    """
    x = 1
    while x <= bound and (now := parts(x)).attention < now.projection:
        x = bisect_left(range(bound + 1), now.projection, lo=x + 1, key=lambda other: parts(other).attention)
    return x if x <= bound else None


def _over_lengths(matmul: MatMul, lengths: np.ndarray, array: SystolicArray, metric: str, counting: str) -> int:
    """What an attention MatMul of the longest of these context lengths costs over all of them, together.

    Its context dimension there is the longest length, or the layer's window if that is shorter; at another length it
    is the smaller of the two.
    """
    if (axis := CONTEXT_AXIS.get(matmul.name)) is None:
        raise InputError(f"model: {matmul.name!r} is attention of an unknown kind; known: {', '.join(CONTEXT_AXIS)}")
    dims = {"m": matmul.m, "n": matmul.n, "k": matmul.k}
    dims[axis] = np.minimum(lengths, dims[axis])
    cost = gemm_cost(**dims, array=array, counting=counting)
    each: list[int] = getattr(cost, metric).tolist()  # Python's ints, as in `_totals`
    return sum(each) * matmul.count


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
