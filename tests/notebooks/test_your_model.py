"""Notebook 08 run from the command line on configs of three kinds."""

import json
import os
import subprocess
import sys

import pytest

from llmamdahl.tables import ROOT

CONFIGS = ["DeepSeek-V3", "Qwen3-30B-A3B", "bitnet-b1.58-2B-4T"]


@pytest.mark.parametrize("name", CONFIGS)
def test_notebook_08_on_a_config(name, tmp_path):
    config = ROOT / "tests" / "data" / "hf_configs" / f"{name}.json"
    copy = tmp_path / "executed.ipynb"
    command = [sys.executable, "-m", "papermill", ROOT / "notebooks" / "08-your-model.ipynb", copy, "--cwd", tmp_path]
    command += [
        "-p",
        "model",
        config,
        "-p",
        "rows",
        "64",
        "-p",
        "cols",
        "64",
        "-p",
        "batch",
        "2",
        "-p",
        "heads",
        "grouped",
    ]
    environment = {**os.environ, "LLMAMDAHL_OUTPUT": str(tmp_path)}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "figures" / "figure-your-model.png").exists()
    cells = json.loads(copy.read_text(encoding="utf-8"))["cells"]
    assert not [output for cell in cells for output in cell.get("outputs", []) if output["output_type"] == "error"]
