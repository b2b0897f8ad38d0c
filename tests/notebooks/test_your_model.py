"""Notebook 08 run by papermill on configs of three kinds, with bits, a memory and other readings."""

import csv
import json
import os
import re
import subprocess
import sys

import pytest
from papermill import PapermillExecutionError, execute_notebook

from compendium.kernel import environment
from compendium.notebooks import Running
from llmamdahl import Precision, SystolicArray, share
from llmamdahl.tables import ROOT

NOTEBOOK = ROOT / "notebooks" / "08-your-model.ipynb"
CONFIGS = ["DeepSeek-V3", "Qwen3-30B-A3B", "bitnet-b1.58-2B-4T"]


def run(folder, **parameters):
    """Notebook 08 with its output in `folder`; what the cells show."""
    own = {"engine_name": "own", "kernel_name": "python3", "progress_bar": False}
    own |= {"place": NOTEBOOK.name, "running": Running(), "output": folder}
    return shown(execute_notebook(NOTEBOOK, None, parameters, **own)["cells"])


def shown(cells):
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "".join("".join(output.get("data", {}).get("text/plain", "")) for output in outputs)


@pytest.mark.parametrize("name", CONFIGS)
def test_notebook_08_on_a_config(name, tmp_path):
    config = str(ROOT / "tests" / "data" / "hf_configs" / f"{name}.json")
    parameters = {
        "model": config, "rows": 64, "cols": 64, "batch": 2, "heads": "grouped", "folds": "pipelined",
        "counting": "corrected", "clock_mhz": 700, "dram_gb_s": 34, "weights": 2, "cache": 4,
    }  # fmt: skip
    seen = run(tmp_path, **parameters)
    assert (tmp_path / "build" / "your-model" / "amdahl-curves.png").exists()
    array = SystolicArray(64, 64, clock_mhz=700, dram_gb_s=34)
    asked = {"batch": 2, "heads": "grouped", "folds": "pipelined", "counting": "corrected"}
    found = share(config, 8192, array, precision=Precision(weights=2, cache=4), **asked)
    assert found.readings == "heads grouped, counting corrected, folds pipelined, DRAM 34 GB/s at 700 MHz"
    assert f"'readings': '{found.readings}'" in seen
    assert f"{found.fraction:.6f}" in seen
    assert re.search(rf"seconds +{found.partial_speedup:.3f} +{found.total_speedup:.3f}\n", seen)


def test_notebook_08_on_a_device_from_the_command_line(tmp_path):
    asked = {"model": "opt-350m", "device": "H100 SXM", "weights": 4, "batch": 16, "context_length": 4096}
    copy = tmp_path / "executed.ipynb"
    command = [sys.executable, "-m", "papermill", NOTEBOOK, copy, "--cwd", tmp_path]
    command += [word for name, value in asked.items() for word in ("-p", name, value)]
    variables = {**environment(os.environ, tmp_path), "LLMAMDAHL_OUTPUT": str(tmp_path)}
    done = subprocess.run([*map(str, command)], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = shown(json.loads(copy.read_text(encoding="utf-8"))["cells"])
    found = share("opt-350m", 4096, "H100 SXM", batch=16, precision=Precision(weights=4))
    with (tmp_path / "build" / "your-model" / "gain.csv").open(encoding="utf-8", newline="") as handle:
        gains = {int(row["context_length"]): float(row["total_speedup"]) for row in csv.DictReader(handle)}
    assert [*gains] == [128, 256, 512, 1024, 2048]  # as far as it was trained
    expected = share("opt-350m", 2048, "H100 SXM", batch=16, precision=Precision(weights=4)).total_speedup
    assert gains[2048] == pytest.approx(expected) and expected > 1.1
    assert found.fraction < 0.5 and f"attention, {1 - found.fraction:.1%} of the seconds" in seen
    assert re.search(rf"seconds +{found.partial_speedup:.3f} +{found.total_speedup:.3f}\n", seen)


def test_notebook_08_rejects_a_mistyped_parameter(tmp_path):
    with pytest.raises(PapermillExecutionError) as mistyped:
        run(tmp_path, modle="opt-350m")
    with pytest.raises(PapermillExecutionError, match="InputError: device: dataflow, folds, counting"):
        run(tmp_path, device="H100 SXM", folds="pipelined")
    (known,) = re.findall(r"InputError: parameter: 'modle' is unknown; known: (.*)", str(mistyped.value))
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    (cell,) = [one for one in notebook["cells"] if "parameters" in one["metadata"].get("tags", [])]
    names = re.findall(r"(?m)^(\w+) =", "".join(cell["source"]))
    assert known.split(", ") == sorted({*names} - {"parameters"})
