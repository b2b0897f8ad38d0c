"""Models of the zoo against their config.json (`tests/data/zoo_configs/`), where one was found."""

from dataclasses import replace

import pytest

from llmamdahl.models import from_hf_config, get_model
from llmamdahl.tables import ROOT

CONFIGS = sorted((ROOT / "tests" / "data" / "zoo_configs").glob("*.json"))


def test_there_are_many():
    assert len(CONFIGS) >= 60


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_zoo_and_the_config_are_one_model(path):
    model = get_model(path.stem)
    assert replace(from_hf_config(path), name=model.name) == model
