"""`share` of parts that were timed: by hand, with and without the third part, and what is rejected."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from llmamdahl import CLOUD_TPU, InputError, Precision, share
from llmamdahl.hardware import get_device

TWO = {"projection": 3e-3, "attention": 1e-3}
THREE = {**TWO, "other": 1e-3}


def test_two_parts_are_the_papers_whole():
    found = share("opt-350m", 2048, "a V100", measured=TWO)
    assert found.fraction == pytest.approx(0.75) and found.ceiling == pytest.approx(4)
    assert (found.whole, found.other, found.metric) == ("projection + attention", 0.0, "seconds")
    assert (found.model, found.hardware, found.context_length) == ("opt-350m", "a V100", 2048)
    assert "other" not in found.row()


def test_the_third_part_is_in_the_whole_if_it_is_given():
    found = share("opt-350m", 2048, "a V100", measured=THREE)
    assert found.fraction == pytest.approx(0.6) and found.ceiling == pytest.approx(2.5)
    assert (found.whole, found.other) == ("projection + attention + other", 1e-3)
    assert found.row()["other"] == 1e-3
    assert json.loads(json.dumps(asdict(found)))["other"] == 1e-3


@pytest.mark.parametrize(
    ("where", "label"),
    [(None, ""), ("CPU", "CPU"), (CLOUD_TPU, "cloud"), (get_device("A100 80GB"), "A100 80GB")],
)
def test_hardware_says_where_it_was_timed(where, label):
    assert share("opt-350m", 2048, where, measured=TWO, batch=4, phase="prefill").hardware == label


def test_numpy_numbers_are_seconds():
    assert share("opt-350m", 1, None, measured=dict.fromkeys(TWO, np.float32(0.5))).fraction == 0.5
    assert share("opt-350m", 1, None, measured=dict.fromkeys(TWO, 1)).fraction == 0.5


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        ({}, "measured: nothing given"),
        ({"projection": 1.0}, "measured: 'projection' given; it takes projection, attention"),
        ({**TWO, "head": 1.0}, "'head'"),
        ({**TWO, 3: 1.0}, "3 given"),
        ({**TWO, "other": 0}, "measured: other: 0 is not a number of seconds > 0"),
        ({**TWO, "projection": -1.0}, "projection: -1.0"),
        ({**TWO, "attention": math.nan}, "attention: nan"),
        ({**TWO, "attention": math.inf}, "attention: inf"),
        ({**TWO, "attention": "1"}, "attention: '1'"),
        ({**TWO, "attention": True}, "attention: True"),
        ([1.0, 2.0], "measured: [1.0, 2.0] is not a Mapping"),
    ],
)
def test_wrong_parts_are_rejected(measured, message):
    with pytest.raises(InputError) as caught:
        share("opt-350m", 2048, None, measured=measured)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "other",
    [
        {"precision": Precision(weights=2)},
        {"baseline": Precision(weights=16)},
        {"metric": "seconds"},
        {"heads": "grouped"},
        {"folds": "pipelined"},
        {"counting": "corrected"},
        {"experts": "expected"},
        {"refetches": True},
        {"unquantized": True},
    ],
)
def test_readings_do_not_go_with_measured_parts(other):
    (name,) = other
    with pytest.raises(InputError, match=f"^{name}: .* is given, but the parts are measured; leave it out"):
        share("opt-350m", 2048, None, measured=TWO, **other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no such model", 1, None), "model"),
        (("opt-350m", 0, None), "context_length: 0"),
        (("opt-350m", 1, 7), "hardware: 7"),
    ],
)
def test_the_case_is_checked_too(arguments, message):
    with pytest.raises(InputError, match=f"^{message}"):
        share(*arguments, measured=TWO)
    with pytest.raises(InputError, match=r"^batch: 0"):
        share("opt-350m", 1, None, measured=TWO, batch=0)
    with pytest.raises(InputError, match=r"^phase"):
        share("opt-350m", 1, None, measured=TWO, phase="both")
