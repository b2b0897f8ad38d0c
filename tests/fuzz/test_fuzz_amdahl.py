"""Equation (5), its ceiling and its inverse, checked against exact fractions."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from inputs import REJECTED, answer, fuzz, one_in

from llmamdahl import amdahl

shares = st.one_of(
    st.floats(0, 1), st.floats(0, 1), st.sampled_from([0, 1, 0.5, 1 - 2**-53, 2**-60, 5e-324, np.float32(0.25)]),
    st.fractions(0, 1, max_denominator=99),
)  # fmt: skip
factors = st.one_of(
    st.floats(1e-3, 1e6), st.floats(min_value=0, exclude_min=True), st.sampled_from([1, 1.0, math.inf, 5e-324, 1e308]),
    st.integers(1, 10**6), st.just(10**30), st.decimals("0.001", 1000),
)  # fmt: skip


def in_arrays(strategy):
    return st.one_of(
        strategy,
        strategy,
        st.lists(strategy, min_size=1, max_size=3),
        st.lists(strategy.map(float), min_size=1, max_size=3).map(np.array),
        st.lists(strategy.map(float), min_size=1, max_size=3).map(pd.Series),
        strategy.map(lambda value: np.array([[float(value)]])),
        st.just(np.zeros(0)),
    )


def as_numbers(value, good):
    """The value as a float array, or None if an element is not a number or not `good`."""
    if np.ma.is_masked(value):
        return None
    try:
        cells = np.asarray(value, dtype=object)
    except ValueError:
        return None
    if isinstance(value, np.ndarray | pd.Series | pd.DataFrame) and np.asarray(value).dtype.kind not in "iufO":
        return None
    made = np.empty(cells.shape)
    for at, cell in np.ndenumerate(cells):
        real = isinstance(cell, int | float | np.integer | np.floating | Fraction | Decimal)
        if not real or isinstance(cell, bool | np.timedelta64):
            return None
        try:
            made[at] = float(cell)
        except OverflowError:
            return None
    return made if all(good(one) for one in made.ravel().tolist()) else None


def is_share(value):
    return 0 <= value <= 1


def is_factor(value):
    return value > 0


def exact_total(share, factor):
    """S_total of floats, as a Fraction; inf where the time left is 0."""
    share = Fraction(share)
    time = 1 - share + (0 if math.isinf(factor) else share / Fraction(factor))
    return 1 / time if time else math.inf


def close(ours, exact, tolerance=1e-14):
    """Equal to the last digits of a float; below 1e-300 there are no digits to compare."""
    if math.isinf(exact) or exact > Fraction(10) ** 308:
        return ours > 1e307 if not math.isinf(exact) else math.isinf(ours)
    return abs(Fraction(ours) - exact) <= Fraction(tolerance) * exact + Fraction(1, 10**300)


def broadcast(*values):
    try:
        return np.broadcast_arrays(*values) if all(value is not None for value in values) else None
    except ValueError:
        return None


def cells(result, shape):
    """The result's floats one by one, once its type and shape are what they should be."""
    assert type(result) is float if shape == () else (result.shape, result.dtype) == (shape, float)
    return np.ravel(result).tolist()


@fuzz
@given(one_in(6, in_arrays(shares)), one_in(6, in_arrays(factors)))
def test_total_speedup(fraction, partial):
    total = answer(lambda: amdahl.total_speedup(fraction, partial), "fraction partial_speedup")
    both = broadcast(as_numbers(fraction, is_share), as_numbers(partial, is_factor))
    assert (total is REJECTED) == (both is None)
    if both:
        ours = cells(total, both[0].shape)
        for share, factor, one in zip(both[0].ravel().tolist(), both[1].ravel().tolist(), ours, strict=True):
            assert close(one, exact_total(share, factor))
            assert one <= amdahl.ceiling(share)
            assert (one >= 1 - 1e-15) if factor >= 1 else (one <= 1 + 1e-15)


@fuzz
@given(one_in(4, in_arrays(shares)))
def test_ceiling(fraction):
    most = answer(lambda: amdahl.ceiling(fraction), "fraction")
    known = as_numbers(fraction, is_share)
    assert (most is REJECTED) == (known is None)
    if known is not None:
        for share, one in zip(known.ravel().tolist(), cells(most, known.shape), strict=True):
            assert close(one, exact_total(share, math.inf))


@fuzz
@given(one_in(8, in_arrays(shares)), one_in(8, in_arrays(factors)), st.booleans())
def test_required_partial_speedup(fraction, wanted, reachable):
    if reachable:  # without this, most targets would be out of reach
        both = broadcast(as_numbers(fraction, is_share), as_numbers(wanted, is_factor))
        wanted = wanted if both is None else amdahl.total_speedup(fraction, wanted)
    if as_numbers(wanted, is_factor) is None and reachable:
        return  # the total is 0: its factor is too small for a float
    partial = answer(lambda: amdahl.required_partial_speedup(fraction, wanted), "fraction total_speedup")
    both = broadcast(as_numbers(fraction, is_share), as_numbers(wanted, is_factor))
    if both is None:
        assert partial is REJECTED
        return
    pairs = list(zip(both[0].ravel().tolist(), both[1].ravel().tolist(), strict=True))
    beyond = [target > exact_total(share, math.inf) or (share == 0 and target != 1) for share, target in pairs]
    if partial is REJECTED:
        # beyond the ceiling, or F is 0
        assert any(beyond) or not all(share or target == 1 for share, target in pairs)
        return
    for (share, target), one in zip(pairs, cells(partial, both[0].shape), strict=True):
        assert one >= 0
        most = exact_total(share, math.inf)
        assert target == 1 or share > 0
        assert target <= most or close(target, most)
        if target == 1:
            assert one == 1
        elif one > 1e-300:  # put back into Equation (5) it gives the target
            assert close(target, exact_total(share, one))
