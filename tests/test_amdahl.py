"""Equation (5): its identities and its refusals."""

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
def test_the_whole_or_nothing(speedup):
    assert amdahl.total_speedup(1, speedup) == pytest.approx(speedup)
    assert amdahl.total_speedup(0, speedup) == 1


@given(fractions, speedups)
def test_the_ceiling_bounds_it(fraction, speedup):
    assert amdahl.total_speedup(fraction, speedup) <= amdahl.ceiling(fraction)


@given(st.floats(0.01, 1), st.floats(1e-2, 1e3))
def test_the_inverse_inverts(fraction, speedup):
    total = amdahl.total_speedup(fraction, speedup)
    assert amdahl.required_partial_speedup(fraction, total) == pytest.approx(speedup, rel=1e-6)


def test_by_hand():
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
def test_bad_fraction(bad):
    for call in (amdahl.ceiling, lambda f: amdahl.total_speedup(f, 2), lambda f: amdahl.required_partial_speedup(f, 2)):
        with pytest.raises(InputError, match="fraction: "):
            call(bad)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), "fast"])
def test_bad_speedup(bad):
    with pytest.raises(InputError, match="partial_speedup: "):
        amdahl.total_speedup(0.5, bad)
    with pytest.raises(InputError, match="total_speedup: "):
        amdahl.required_partial_speedup(0.5, bad)


@pytest.mark.parametrize(("fraction", "target"), [(0.5, 2.1), (0, 1.5), (0, 0.5), (0.9, 10.5)])
def test_target_out_of_reach(fraction, target):
    with pytest.raises(InputError, match="out of reach"):
        amdahl.required_partial_speedup(fraction, target)
    with pytest.raises(InputError, match=f"{target:g} is out of reach for F = {fraction:g}"):
        amdahl.required_partial_speedup([0.99, fraction], [1, target])


@pytest.mark.parametrize("function", [amdahl.total_speedup, amdahl.required_partial_speedup])
def test_shapes_must_broadcast(function):
    with pytest.raises(InputError, match=r"\(2,\)"):
        function([0.5, 0.5], [1.5, 1.5, 1.5])
