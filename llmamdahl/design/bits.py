"""Which bits to change first: those of the weights, or those of K and V."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from llmamdahl.errors import InputError, instance, listed, positive_int, shown
from llmamdahl.hardware import Hardware
from llmamdahl.models import Decoder
from llmamdahl.question import (
    METRICS,
    Costs,
    Question,
    Settings,
    decoders_of,
    labels_of,
    places_of,
    reject_batch,
    sized,
)
from llmamdahl.roofline import Precision
from llmamdahl.workload import Part

COLUMNS = [
    "model",
    "context_length",
    "batch",
    "array",
    "dataflow",
    "metric",
    "whole",
    "fraction",
    "change",
    "projection_speedup",
    "attention_speedup",
    "total_speedup",
]


def gains(
    models: Iterable[str | Decoder],
    context_lengths: Iterable[int],
    hardware: Iterable[str | Hardware],
    *,
    changes: Mapping[str, Precision],
    batches: Iterable[int] = (1,),
    **settings: Unpack[Settings],
) -> pd.DataFrame:
    """What each change of bit widths gains in a decode step, at every context length and batch.

    Parameters
    ----------
    models, context_lengths, hardware
        As in `sweep`.
    changes
        Names and bit widths, as in `{"W4": Precision(weights=4), "KV4": Precision(cache=4)}`; each is a change from
        `baseline`, whose widths stay where a change gives none.
    batches
        Sequences decoded together.
    settings
        As in `share`, without `batch` and `precision`. The metric is seconds (an array needs a clock) or bytes.

    Returns
    -------
    DataFrame
        model, context_length, batch, array (label of the array or device), dataflow, metric, whole (the parts of the
        whole), fraction (F before the change), change, projection_speedup, attention_speedup, total_speedup: the cost
        before over that after, of each of the two parts and of the whole. 1 where the array's cycles or the device's
        operations take longer than the bytes both before and after.

    Raises
    ------
    InputError
        As `share`; no changes, or one that is not a `Precision`; a phase other than decode; a metric that does not
        depend on bits.

    >>> changes = {"W4": Precision(weights=4), "KV4": Precision(cache=4)}
    >>> frame = gains(["llama-3.1-8b"], [2048, 131_072], ["H200"], changes=changes)
    >>> frame[["context_length", "change", "total_speedup"]].round(2)
       context_length change  total_speedup
    0            2048     W4           3.78
    1          131072     W4           1.51
    2            2048    KV4           1.01
    3          131072    KV4           1.71
    """
    reject_batch(settings)
    if not isinstance(changes, Mapping) or not changes:
        raise InputError(f"changes: {shown(changes)} is not a dict of names and their `Precision`")
    decoders, places = decoders_of(models), places_of(hardware)
    lengths = [positive_int("context_length", length) for length in listed("context_lengths", context_lengths)]
    sizes = [positive_int("batches", batch) for batch in listed("batches", batches)]
    tables = []
    for place, model in product(places, decoders):
        case = Question.of(model, place, **settings)
        _check(case, {f"changes: {name}": change for name, change in changes.items()})
        precisions = [case.baseline, *(change.over(case.baseline) for change in changes.values())]
        costs = np.array([_at_lengths(replace(case, batch=batch), precisions, lengths) for batch in sizes])
        before, after = costs[:, :1], costs[:, 1:]  # batch, change, part, context length
        projection, attention, *_ = np.moveaxis(
            np.divide(before, after, out=np.ones_like(after), where=after > 0), 2, 0
        )
        whole = before.sum(axis=2)
        columns = {
            "fraction": before[:, :, 0] / whole,
            "projection_speedup": projection,
            "attention_speedup": attention,
            "total_speedup": whole / after.sum(axis=2),
        }
        table = pd.MultiIndex.from_product([sizes, changes, lengths], names=["batch", "change", "context_length"])
        tables.append(
            table.to_frame(index=False).assign(
                model=model.name,
                **labels_of(place),
                metric=case.metric,
                whole=" + ".join(case.parts),
                **{name: np.broadcast_to(column, projection.shape).ravel() for name, column in columns.items()},
            )
        )
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def change_crossover(
    model: str | Decoder,
    hardware: str | Hardware | None,
    *,
    first: Precision,
    second: Precision,
    longest: int = 2**17,
    **settings: Unpack[Settings],
) -> int | None:
    """The smallest context length from which on, up to `longest`, the second change gains more than the first.

    Where both gain the same (as where bits gain nothing) the second does not gain more; a difference of the times below
    1e-12 of them is rounding. Every length is tried, because the gain of fewer bits is not monotone in the context
    where cycles or operations bound some of the MatMuls.

    Where memory is the bound of all MatMuls, K and V pay more than the weights, both from and to the same bits, once
    the step reads more of their elements than weights. That is where F of bytes falls below 1/2 (but for the bytes of
    activations), and in l * batch = 6 d for a decoder block of OPT: 12 d^2 weights over 2 d elements a token.

    Parameters
    ----------
    first, second
        Bit widths after each change; those that are not given stay at `baseline`.
    longest
        The longest context tried, in tokens.
    settings
        As in `share`, without `precision`; the phase is decode.

    Returns
    -------
    int or None
        None if the second does not gain more at `longest`.

    Raises
    ------
    InputError
        As `gains`.

    >>> change_crossover("opt-6.7b", "H200", first=Precision(weights=4), second=Precision(cache=4))  # 6 * 4096 + 1
    24577
    """
    case = Question.of(model, hardware, **settings)
    _check(case, {"first": first, "second": second})
    lengths = np.arange(1, positive_int("longest", longest) + 1)
    one, two = _at_lengths(case, [change.over(case.baseline) for change in (first, second)], lengths).sum(axis=1)
    slower = np.flatnonzero(two >= one * (1 - 1e-12))
    answer = int(slower[-1]) + 2 if slower.size else 1
    return answer if answer <= longest else None


def _check(case: Question, changes: Mapping[str, Precision]) -> None:
    """Reject what is not a change of bit widths, and a case in which changes cannot be compared."""
    for name, change in changes.items():
        instance(name, change, Precision)
    if case.precision is not None:
        raise InputError("precision: it is given apart from the changes that are compared; leave it out")
    if case.phase != "decode":
        raise InputError(f"phase: {case.phase!r} is given, but changes are compared in decode only; leave it out")
    if case.metric in METRICS:
        raise InputError(
            f"metric: {case.metric} of {case.label} do not depend on bits; give bytes, or seconds and a clock_mhz"
        )


def _at_lengths(case: Question, precisions: Sequence[Precision], lengths: ArrayLike) -> NDArray[np.float64]:
    """Bytes or seconds of a decode step: an array of precision x part of the whole x context length."""
    costs = np.zeros((len(precisions), len(case.parts), np.size(lengths)))
    step = case.matmuls(int(np.max(lengths)))
    matmuls = [sized(matmul, lengths) if matmul.part is Part.ATTENTION else matmul for matmul in step]
    known: dict[tuple[object, ...], NDArray[np.float64]] = {}  # a part's costs, by all that they depend on
    for at_precision, precision in zip(costs, precisions, strict=True):
        updates = Costs()
        case.add_elementwise(updates, precision)
        for cost, part in zip(at_precision, case.parts, strict=True):
            widths = part, precision.of(part), precision.of_inputs(part), precision.of_results()
            if widths in known:
                cost[:] = known[widths]
                continue
            known[widths] = cost
            cost += updates.parts[part]
            for matmul in matmuls:
                if matmul.part is part:
                    cost += case.cost(matmul, precision)
    return costs
