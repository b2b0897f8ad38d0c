"""Amdahl's Law of LLMs (Section 3.3, Equation 5): its value, its limit and its inverse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from llmamdahl.errors import InputError

Number = Any  # a float, or a float array of the broadcast shape of the arguments


def total_speedup(fraction: ArrayLike, partial_speedup: ArrayLike) -> Number:
    """S_total = 1 / (1 - F + F / S_partial), Equation (5).

    Parameters
    ----------
    fraction
        F in [0, 1], the improved part's share of the whole: of cycles, memory accesses or latency. Array or number.
    partial_speedup
        S_partial > 0, how many times faster the part becomes; `inf` gives the ceiling.

    Raises
    ------
    InputError
        F outside [0, 1], S_partial <= 0, or NaN.

    >>> total_speedup(0.5, 2)
    1.3333333333333333
    """
    share, partial = _broadcast(_fraction(fraction), "partial_speedup", partial_speedup)
    with np.errstate(divide="ignore", over="ignore"):
        return _plain(1 / ((1 - share) + share / partial))


def ceiling(fraction: ArrayLike) -> Number:
    """1 / (1 - F): what S_total approaches as S_partial grows without bound; `inf` for F = 1.

    >>> ceiling(0.75), ceiling(1)
    (4.0, inf)
    """
    return total_speedup(fraction, np.inf)


def required_partial_speedup(fraction: ArrayLike, total_speedup: ArrayLike) -> Number:
    """S_partial = F / (1/S_total - (1 - F)): Equation (5) solved for the part's speedup.

    Returns `inf` where the target is the ceiling itself, and 1 where F = 0 and the target is 1.

    Raises
    ------
    InputError
        F outside [0, 1], a target <= 0 or NaN, or one that no S_partial > 0 reaches: above the ceiling 1/(1-F), or
        other than 1 with F = 0.

    >>> required_partial_speedup(0.75, 2)
    3.0
    """
    share, target = _broadcast(_fraction(fraction), "total_speedup", total_speedup)
    limit = np.asarray(ceiling(share))
    unreachable = (target > limit) | ((share == 0) & (target != 1))
    if unreachable.any():
        where = int(np.argmax(unreachable))
        part, wanted, most = (float(values.ravel()[where]) for values in (share, target, limit))
        bound = f"at most the ceiling 1/(1-F) = {most:g}" if part else "1, since no part is improved"
        raise InputError(f"total_speedup: {wanted:g} is out of reach for F = {part:g}; it can be {bound}")
    budget = np.where(target == limit, 0, 1 / target - (1 - share))  # of the time, what the improved part may take
    with np.errstate(divide="ignore", invalid="ignore"):
        partial = np.where(budget > 0, share / budget, np.inf)
    return _plain(np.where(share == 0, 1.0, partial))


def curves(fractions: pd.DataFrame, partial_speedups: ArrayLike) -> pd.DataFrame:
    """Equation (5) for each part of each row of a sweep (Figures 5, 7, 11 and 12).

    Returns
    -------
    DataFrame
        model, context_length, array, dataflow, metric, part (`projection`: F is its share; `attention`: 1 - F),
        partial_speedup, total_speedup.
    """
    speedups = np.atleast_1d(_positive("partial_speedup", partial_speedups))
    keys = ["model", "context_length", "array", "dataflow", "metric"]
    points = fractions[[*keys, "fraction"]].merge(pd.DataFrame({"part": ["projection", "attention"]}), how="cross")
    points["fraction"] = points.fraction.where(points.part == "projection", 1 - points.fraction)
    points = points.merge(pd.DataFrame({"partial_speedup": speedups}), how="cross")
    points["total_speedup"] = total_speedup(points.fraction.to_numpy(), points.partial_speedup.to_numpy())
    return points.drop(columns="fraction")


def _fraction(value: ArrayLike) -> Number:
    share = _numbers("fraction", value)
    return _checked("fraction", share, (share >= 0) & (share <= 1), "between 0 and 1")


def _positive(field: str, value: ArrayLike) -> Number:
    number = _numbers(field, value)
    return _checked(field, number, number > 0, "above 0")


def _broadcast(share: Number, field: str, value: ArrayLike) -> tuple[Number, Number]:
    speedup = _positive(field, value)
    try:
        return tuple(np.broadcast_arrays(share, speedup))  # type: ignore[return-value]
    except ValueError:
        raise InputError(f"{field}: shape {speedup.shape} does not broadcast against F's, {share.shape}") from None


def _numbers(field: str, value: ArrayLike) -> Number:
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{field}: {value!r} is not a number") from None


def _checked(field: str, values: Number, good: Number, right: str) -> Number:
    if not good.all():
        bad = values.ravel()[int(np.argmin(good))]
        raise InputError(f"{field}: {bad} is not {right}")
    return values


def _plain(values: Number) -> Number:
    """A Python float for a scalar, the array otherwise."""
    return values if np.ndim(values) else float(values)
