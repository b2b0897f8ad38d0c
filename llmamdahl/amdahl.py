"""Amdahl's Law of LLMs (Section 3.3, Equation 5): its value, its limit, its inverse, and several improved parts.

Every function takes numbers or arrays that broadcast against each other, and returns a float or a float array.
"""

from __future__ import annotations

from decimal import Decimal
from numbers import Real
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmamdahl.errors import InputError, shown

Floats: TypeAlias = NDArray[np.float64]


def total_speedup(fraction: ArrayLike, partial_speedup: ArrayLike) -> float | Floats:
    """S_total = 1 / (1 - F + F / S_partial), Equation (5).

    Parameters
    ----------
    fraction
        F in [0, 1], the improved part's share of the whole: of cycles, memory accesses, bytes or seconds.
    partial_speedup
        S_partial > 0: how many times faster the part becomes; `inf` gives the ceiling.

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


def ceiling(fraction: ArrayLike) -> float | Floats:
    """1 / (1 - F): what S_total approaches as S_partial grows without bound; `inf` for F = 1.

    >>> ceiling(0.75), ceiling(1)
    (4.0, inf)
    """
    return total_speedup(fraction, np.inf)


def required_partial_speedup(fraction: ArrayLike, total_speedup: ArrayLike) -> float | Floats:
    """S_partial = F / (1/S_total - (1 - F)): Equation (5) solved for the part's speedup.

    Returns `inf` where the target is the ceiling itself, 1 where the target is 1, and the target where F = 1.

    Raises
    ------
    InputError
        F outside [0, 1], a target <= 0 or NaN, or one that is out of reach: above the ceiling 1/(1-F), or other
        than 1 with F = 0.

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
        # the share of the time that is left for the improved part
        budget = np.where(target == limit, 0, 1 / target - (1 - share))
        partial = share / budget
    return _plain(np.where((target == 1) | (share == 1), target, partial))


def combined_speedup(fractions: ArrayLike, speedups: ArrayLike) -> float | Floats:
    """S_total = 1 / sum(F_i / S_i): Equation (5) for several parts, each improved by its own factor.

    Parameters
    ----------
    fractions
        F_i of every part along the last axis, unimproved parts included; they add up to 1.
    speedups
        S_i > 0 of each part: 1 for an unimproved part, `inf` for one that vanishes.

    Raises
    ------
    InputError
        Fractions outside [0, 1] or that do not add up to 1 (to 1e-9), S_i <= 0, NaN, or shapes that do not broadcast.

    >>> combined_speedup([0.6, 0.3, 0.1], [4, 2, 1])
    2.5
    """
    remaining = _remaining(fractions, speedups)
    with np.errstate(divide="ignore", over="ignore"):
        return _plain(1 / remaining.sum(axis=-1))


def next_part(fractions: ArrayLike, speedups: ArrayLike) -> int | NDArray[np.int64]:
    """Index of the bottleneck, the part with the most time left (F_i / S_i): the one to improve next.

    Parameters and errors as in `combined_speedup`. Returns an int, or an integer array; of several parts with
    equal time left, the first.

    >>> next_part([0.7, 0.3], [[1, 1], [2, 1], [3, 1]])  # F = 0.7: attention, once projections are 3x faster
    array([0, 0, 1])
    """
    bottleneck = np.argmax(_remaining(fractions, speedups), axis=-1)
    return bottleneck if bottleneck.ndim else int(bottleneck)


def bottleneck_shift(fraction: ArrayLike) -> float | Floats:
    """S_partial = F / (1 - F), at which F/S_partial = 1 - F: beyond it the rest of the model is the bottleneck.

    At this S_partial the model has half its ceiling. A value below 1 (F < 1/2) means that the rest is the bottleneck
    from the start; `inf` for F = 1.

    >>> bottleneck_shift(0.75), bottleneck_shift(1)
    (3.0, inf)
    """
    share = _fraction(fraction)
    with np.errstate(divide="ignore"):
        return _plain(share / (1 - share))


def _remaining(fractions: ArrayLike, speedups: ArrayLike) -> Floats:
    """F_i / S_i, an array with the parts along its last axis."""
    shares, factors = _broadcast(np.atleast_1d(_fraction(fractions, "fractions")), "speedups", speedups)
    whole = shares.sum(axis=-1)
    _checked("fractions: their sum", whole, abs(whole - 1) <= 1e-9, "1; list every part, improved or not")
    with np.errstate(over="ignore"):  # a part that takes forever
        return shares / factors


def _fraction(value: ArrayLike, field: str = "fraction") -> Floats:
    share = numbers(field, value)
    return _checked(field, share, (share >= 0) & (share <= 1), "between 0 and 1")


def _positive(field: str, value: ArrayLike) -> Floats:
    number = numbers(field, value)
    return _checked(field, number, number > 0, "above 0")


def _broadcast(share: Floats, field: str, value: ArrayLike) -> tuple[Floats, Floats]:
    speedup = _positive(field, value)
    try:
        first, second = np.broadcast_arrays(share, speedup)
    except ValueError:
        raise InputError(f"{field}: shape {speedup.shape} does not broadcast against F's, {share.shape}") from None
    return first, second


def numbers(field: str, value: ArrayLike) -> Floats:
    """A real number, or an array of them, as floats; an `InputError` names the field."""
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


def _checked(field: str, values: Floats, good: NDArray[np.bool_], right: str) -> Floats:
    if not good.all():
        raise InputError(f"{field}: {values.ravel()[int(np.argmin(good))]} is not {right}")
    return values


def _plain(values: Floats) -> float | Floats:
    """A Python float for a scalar, the array otherwise."""
    return values if np.ndim(values) else float(values)
