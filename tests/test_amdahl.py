"""Equation (5): its identities, and the input that it rejects."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmamdahl import amdahl
from llmamdahl.errors import InputError

fractions = st.floats(0, 1)
speedups = st.floats(1e-3, 1e6)


@given(fractions)
def test_no_improvement_changes_nothing(fraction):
    assert amdahl.total_speedup(fraction, 1) == pytest.approx(1)


@given(speedups)
def test_s_total_is_s_partial_for_f_1_and_1_for_f_0(speedup):
    assert amdahl.total_speedup(1, speedup) == pytest.approx(speedup)
    assert amdahl.total_speedup(0, speedup) == 1


@given(fractions, speedups)
def test_no_speedup_is_above_the_ceiling(fraction, speedup):
    assert amdahl.total_speedup(fraction, speedup) <= amdahl.ceiling(fraction)


@given(st.floats(0.01, 1), st.floats(1e-2, 1e3))
def test_required_partial_speedup_inverts_total_speedup(fraction, speedup):
    total = amdahl.total_speedup(fraction, speedup)
    assert amdahl.required_partial_speedup(fraction, total) == pytest.approx(speedup, rel=1e-6)


def test_equation_5_by_hand():
    # three quarters of the time, made three times faster: 1/4 + 1/4 of the time is left
    assert amdahl.total_speedup(0.75, 3) == 2
    assert amdahl.ceiling(0.75) == 4
    assert amdahl.required_partial_speedup(0.75, 2) == 3
    assert amdahl.required_partial_speedup(0.75, 4) == np.inf
    assert amdahl.required_partial_speedup(0, 1) == 1


def test_arrays_broadcast():
    total = amdahl.total_speedup(np.array([[0.5], [0.75]]), np.array([1.0, 2.0, np.inf]))
    assert total.shape == (2, 3)
    assert total[1].tolist() == [1, 1 / (0.25 + 0.375), 4]


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan"), "half", None])
def test_a_bad_fraction_is_named(bad):
    for call in (amdahl.ceiling, lambda f: amdahl.total_speedup(f, 2), lambda f: amdahl.required_partial_speedup(f, 2)):
        with pytest.raises(InputError, match=r"^fraction: .* is not (between 0 and 1|a number)"):
            call(bad)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), "fast"])
def test_a_bad_speedup_is_named(bad):
    with pytest.raises(InputError, match=r"^partial_speedup: .* is not (above 0|a number)"):
        amdahl.total_speedup(0.5, bad)
    with pytest.raises(InputError, match=r"^total_speedup: .* is not (above 0|a number)"):
        amdahl.required_partial_speedup(0.5, bad)


@pytest.mark.parametrize(("fraction", "target"), [(0.5, 2.1), (0, 1.5), (0, 0.5), (0.9, 10.5)])
def test_a_target_out_of_reach_is_rejected(fraction, target):
    most = f"at most the ceiling 1/(1-F) = {1 / (1 - fraction):g}" if fraction else "1, since no part is improved"
    message = f"^{re.escape(f'total_speedup: {target:g} is out of reach for F = {fraction:g}; it can be {most}')}$"
    for call in ((fraction, target), ([0.99, fraction], [1, target])):
        with pytest.raises(InputError, match=f"^{message}"):
            amdahl.required_partial_speedup(*call)


@pytest.mark.parametrize("function", [amdahl.total_speedup, amdahl.required_partial_speedup])
def test_shapes_must_broadcast(function):
    with pytest.raises(InputError, match=r"_speedup: shape \(3,\) does not broadcast against F's, \(2,\)"):
        function([0.5, 0.5], [1.5, 1.5, 1.5])


@st.composite
def improved_parts(draw):
    """Fractions that add up to 1 within rounding, and a speedup for each."""
    weights = draw(st.lists(st.floats(1e-3, 1), min_size=1, max_size=6))
    factors = draw(st.lists(speedups, min_size=len(weights), max_size=len(weights)))
    return np.array(weights) / sum(weights), np.array(factors)


@given(fractions, speedups)
def test_two_parts_with_one_improved_follow_equation_5(fraction, speedup):
    combined = amdahl.combined_speedup([fraction, 1 - fraction], [speedup, 1])
    assert combined == pytest.approx(amdahl.total_speedup(fraction, speedup))


@given(improved_parts(), speedups)
def test_parts_with_equal_speedups_give_that_speedup(parts, speedup):
    shares, factors = parts
    assert amdahl.combined_speedup(shares, np.full(len(shares), speedup)) == pytest.approx(speedup)
    assert factors.min() * (1 - 1e-9) <= amdahl.combined_speedup(shares, factors) <= factors.max() * (1 + 1e-9)


@given(improved_parts(), st.data())
def test_a_part_may_be_split_and_the_order_does_not_matter(parts, data):
    shares, factors = parts
    order = data.draw(st.permutations(range(len(shares))))
    halves = np.repeat(shares[order] / 2, 2), np.repeat(factors[order], 2)
    assert amdahl.combined_speedup(*halves) == pytest.approx(amdahl.combined_speedup(shares, factors))


@given(improved_parts())
def test_removing_the_next_part_gains_most(parts):
    shares, factors = parts
    gone = np.where(np.eye(len(shares), dtype=bool), np.inf, factors)
    totals = np.atleast_1d(amdahl.combined_speedup(shares, gone))
    best = amdahl.next_part(shares, factors)
    assert isinstance(best, int)
    assert totals[best] == pytest.approx(totals.max())


@given(st.floats(0.01, 0.99))
def test_the_bottleneck_shifts_at_half_the_ceiling(fraction):
    shift = amdahl.bottleneck_shift(fraction)
    assert amdahl.total_speedup(fraction, shift) == pytest.approx(amdahl.ceiling(fraction) / 2)
    both = [fraction, 1 - fraction]
    assert amdahl.next_part(both, [[shift * 0.999, 1], [shift * 1.001, 1]]).tolist() == [0, 1]


def test_several_parts_by_hand():
    # 60% four times, 30% twice, 10% untouched: 0.15 + 0.15 + 0.1 of the time is left
    assert amdahl.combined_speedup([0.6, 0.3, 0.1], [4, 2, 1]) == pytest.approx(2.5)
    assert amdahl.combined_speedup([0.5, 0.5], [np.inf, np.inf]) == np.inf
    assert amdahl.combined_speedup([[0.5, 0.5], [1, 0]], [[2, 1], [4, 1]]).tolist() == [1 / 0.75, 4]
    assert amdahl.next_part([0.5, 0.5], [1, 1]) == 0
    assert amdahl.bottleneck_shift([0, 0.5, 0.75, 1]).tolist() == [0, 1, 3, np.inf]


@pytest.mark.parametrize("function", [amdahl.combined_speedup, amdahl.next_part])
def test_bad_parts_are_named(function):
    with pytest.raises(InputError, match=r"^fractions: their sum: 0\.9 is not 1; list every part"):
        function([0.5, 0.4], [2, 1])
    with pytest.raises(InputError, match=r"^fractions: their sum"):
        function([[0.5, 0.5], [0.5, 0.500001]], [2, 1])
    with pytest.raises(InputError, match=r"^fractions: -0\.5 is not between 0 and 1"):
        function([1.5 - 2, 1.5], [2, 1])
    with pytest.raises(InputError, match=r"^speedups: 0"):
        function([0.5, 0.5], [2, 0])
    with pytest.raises(InputError, match=r"^speedups: shape \(3,\)"):
        function([0.5, 0.5], [2, 1, 1])
    with pytest.raises(InputError, match=r"^fraction: 2\.0 is not between 0 and 1"):
        amdahl.bottleneck_shift(2)


@pytest.mark.parametrize("values", [np.array([0.5, True], dtype=object), [True], np.ma.masked_array([0.5], [True])])
def test_what_only_looks_like_a_number_is_rejected(values):
    with pytest.raises(InputError, match=r"(?s)^fraction: .* is not a number, or an array of them$"):
        amdahl.ceiling(values)


def test_speedups_at_the_ends_of_the_floats_give_no_warning():
    largest = np.finfo(float).max
    assert amdahl.total_speedup(1, 5e-324) == 0 and amdahl.total_speedup(1, largest) >= largest
    assert amdahl.combined_speedup([1.0], [largest]) >= largest and amdahl.combined_speedup([1.0], [5e-324]) == 0
