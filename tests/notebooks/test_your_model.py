"""Notebook 08 run from the command line on configs of three kinds, with bits, a memory and other readings."""

import json
import os
import re
import subprocess
import sys

import pytest

from llmamdahl import Precision, SystolicArray, share
from llmamdahl.tables import ROOT

CONFIGS = ["DeepSeek-V3", "Qwen3-30B-A3B", "bitnet-b1.58-2B-4T"]


@pytest.mark.parametrize("name", CONFIGS)
def test_notebook_08_on_a_config(name, tmp_path):
    config = ROOT / "tests" / "data" / "hf_configs" / f"{name}.json"
    copy = tmp_path / "executed.ipynb"
    command = [sys.executable, "-m", "papermill", ROOT / "notebooks" / "08-your-model.ipynb", copy, "--cwd", tmp_path]
    parameters = {
        "model": config, "rows": 64, "cols": 64, "batch": 2, "heads": "grouped", "folds": "pipelined",
        "counting": "corrected", "clock_mhz": 700, "dram_gb_s": 34, "weights": 2, "cache": 4,
    }  # fmt: skip
    command += [word for name, value in parameters.items() for word in ("-p", name, value)]
    environment = {**os.environ, "LLMAMDAHL_OUTPUT": str(tmp_path)}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "figures" / "figure-your-model.png").exists()
    cells = json.loads(copy.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    shown = "".join("".join(output.get("data", {}).get("text/plain", "")) for output in outputs)
    array = SystolicArray(64, 64, clock_mhz=700, dram_gb_s=34)
    asked = {"batch": 2, "heads": "grouped", "folds": "pipelined", "counting": "corrected"}
    found = share(str(config), 8192, array, precision=Precision(weights=2, cache=4), **asked)
    assert found.readings == "heads grouped, counting corrected, folds pipelined, DRAM 34 GB/s at 700 MHz"
    assert f"'readings': '{found.readings}'" in shown
    assert f"{found.fraction:.6f}" in shown
    assert re.search(rf"seconds +{found.partial_speedup:.3f} +{found.total_speedup:.3f}\n", shown)
