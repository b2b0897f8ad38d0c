"""Amdahl's Law of LLMs (Section 3.3, Equation 5): its value, its limit, its inverse, and several improved parts."""

from __future__ import annotations

from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from llmamdahl.errors import InputError, shown

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

    Returns `inf` where the target is the ceiling itself, 1 where the target is 1, and the target where F = 1.

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
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        budget = np.where(target == limit, 0, 1 / target - (1 - share))  # of the time, what the improved part may take
        partial = np.where(budget > 0, share / budget, np.inf)
    return _plain(np.where((target == 1) | (share == 1), target, partial))


def combined_speedup(fractions: ArrayLike, speedups: ArrayLike) -> Number:
    """S_total = 1 / sum(F_i / S_i): Equation (5) for several parts, each improved by its own factor.

    Parameters
    ----------
    fractions
        F_i of every part along the last axis, the untouched ones too: together they are the whole, 1.
    speedups
        S_i > 0 of each part, 1 for an untouched one, `inf` for one that vanishes.

    Raises
    ------
    InputError
        Fractions outside [0, 1] or that do not add up to 1 (to 1e-9), S_i <= 0, NaN, or shapes that do not broadcast.

    >>> combined_speedup([0.6, 0.3, 0.1], [4, 2, 1])
    2.5
    """
    remaining = _remaining(fractions, speedups)
    with np.errstate(divide="ignore"):
        return _plain(1 / remaining.sum(axis=-1))


def next_part(fractions: ArrayLike, speedups: ArrayLike) -> Any:
    """Index of the bottleneck: the part with the most time left, F_i / S_i, so the one to improve next.

    Arguments and refusals as in `combined_speedup`; of parts that are level, the first. An int, or an integer array.

    >>> next_part([0.7, 0.3], [[1, 1], [2, 1], [3, 1]])  # F = 0.7: at 3x projections, attention has become it
    array([0, 0, 1])
    """
    bottleneck = np.argmax(_remaining(fractions, speedups), axis=-1)
    return bottleneck if bottleneck.ndim else int(bottleneck)


def bottleneck_shift(fraction: ArrayLike) -> Number:
    """S_partial = F / (1 - F): there F/S_partial = 1 - F, and beyond it the rest is the bottleneck.

    At this S_partial the model is at half its ceiling. Below 1 (F < 1/2) the rest is the bottleneck from the start;
    `inf` for F = 1.

    >>> bottleneck_shift(0.75), bottleneck_shift(1)
    (3.0, inf)
    """
    share = _fraction(fraction)
    with np.errstate(divide="ignore"):
        return _plain(share / (1 - share))


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


def _remaining(fractions: ArrayLike, speedups: ArrayLike) -> Number:
    """F_i / S_i, an array with the parts along its last axis."""
    shares, factors = _broadcast(np.atleast_1d(_fraction(fractions, "fractions")), "speedups", speedups)
    whole = shares.sum(axis=-1)
    _checked("fractions: their sum", whole, abs(whole - 1) <= 1e-9, "1; list every part, improved or not")
    return shares / factors


def _fraction(value: ArrayLike, field: str = "fraction") -> Number:
    share = _numbers(field, value)
    return _checked(field, share, (share >= 0) & (share <= 1), "between 0 and 1")


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
        values = np.asanyarray(value)
        if values.dtype == object:  # Fraction, Decimal, an int above 64 bits
            known = all(isinstance(one, Real | Decimal) and not isinstance(one, bool) for one in values.ravel())
        else:
            known = values.dtype.kind in "iuf" and not np.ma.is_masked(values)
        if known:
            return np.asarray(values, dtype=float)
    except OverflowError:
        raise InputError(f"{field}: {shown(value)} is too large for a float") from None
    except (TypeError, ValueError):
        pass
    raise InputError(f"{field}: {shown(value)} is not a number, or an array of them")


def _checked(field: str, values: Number, good: Number, right: str) -> Number:
    if not good.all():
        bad = values.ravel()[int(np.argmin(good))]
        raise InputError(f"{field}: {bad} is not {right}")
    return values


def _plain(values: Number) -> Number:
    """A Python float for a scalar, the array otherwise."""
    return values if np.ndim(values) else float(values)
