"""Models of the zoo against their config.json (`tests/data/zoo_configs/`).

Files with `architectures` are copies of those on Hugging Face, from the wheel aiconfigurator-core 0.12.0 (Apache-2.0).
The others have the keys of one, written from the sources that the table names.
"""

import json
from dataclasses import replace

import pytest

from llmamdahl.models import from_hf_config, get_model
from llmamdahl.tables import ROOT

CONFIGS = sorted((ROOT / "tests" / "data" / "zoo_configs").glob("*.json"))


def test_there_are_many():
    copies = [path for path in CONFIGS if "architectures" in json.loads(path.read_text(encoding="utf-8"))]
    assert len(CONFIGS) >= 120 and len(copies) >= 29


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_zoo_and_the_config_are_one_model(path):
    model, read = get_model(path.stem), from_hf_config(path)
    if model.name in ("llama-4-scout", "minimax-text-01"):  # trained for less than they have positions
        assert model.max_position < read.max_position
        read = replace(read, max_position=model.max_position)
    assert replace(read, name=model.name) == model
