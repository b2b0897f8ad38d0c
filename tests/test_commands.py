"""The commands behind `make` write one at a time, and report what stops them in one line, without a traceback."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from compendium import reproduce
from compendium.command import locked
from llmamdahl.tables import ROOT


def command(module, *options, output, **more):
    variables = {**os.environ, "LLMAMDAHL_OUTPUT": str(output), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", module, *options], env=variables, cwd=ROOT, **pipes, **more)


ALL = [("compendium.reproduce",), ("compendium.reproduce", "--verify"), ("compendium.docs",)]


@pytest.mark.parametrize("asked", [*ALL, ("compendium.bench",)])
def test_a_second_run_names_the_first(asked, tmp_path):
    (tmp_path / "build").mkdir()
    with locked(tmp_path / "build"):
        process = command(*asked, output=tmp_path)
        output, errors = process.communicate()
    holder = f"process {os.getpid()} on "
    assert process.returncode == 1 and output == ""
    assert re.fullmatch(rf"the output folder {tmp_path} is locked by {holder}.*; retry when it has finished\n", errors)


@pytest.mark.parametrize("asked", ALL)
def test_a_folder_that_cannot_be_written_is_named(asked):
    process = command(*asked, output="/proc/none")  # nobody can write there, root included
    _, errors = process.communicate()
    advice = "set LLMAMDAHL_OUTPUT to a folder that can"
    assert process.returncode == 1
    assert errors == f"/proc/none cannot be written (No such file or directory); {advice}\n"


def test_ctrl_c_is_one_line_and_leaves_nothing_half_written(tmp_path):
    process = command("compendium.reproduce", "--jobs", "2", output=tmp_path, start_new_session=True)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if ": notebook 2 of " in line:
            break
    deadline = time.monotonic() + 60
    while not (children := kernels(process.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert (re.sub(r".*: notebook \d+ of .*\n", "", "".join(lines)) + errors).endswith("stopped\n")
    assert "Traceback" not in errors and errors.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "build" not in path.parts]
    assert not [path for path in (tmp_path / "build").rglob("*.ipynb")]
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{child}") for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with locked(tmp_path / "build"):  # it was released
        pass


def kernels(parent):
    """The processes of the kernels that a process has started."""
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "ipykernel_launcher" in line]


def test_ctrl_c_while_libraries_are_imported_is_one_line(tmp_path):
    process = command("compendium.reproduce", output=tmp_path, start_new_session=True)
    while not loaded(process.pid, "pandas"):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (output, errors) == ("", "stopped\n")


def loaded(pid, name):
    with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
        return name in file.read()


def test_figures_and_results_are_put_in_place_file_by_file(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "OUTPUT", tmp_path / "output")
    drafts = tmp_path / "drafts"
    for name in ("figures/a.png", "data/results/b.csv"):
        (drafts / name).parent.mkdir(parents=True)
        (drafts / name).write_text(name)
    (tmp_path / "output" / "figures").mkdir(parents=True)
    (tmp_path / "output" / "figures" / "a.png").write_text("old")
    reproduce.publish(drafts)
    places = (tmp_path / "output").rglob("*.*")
    files = {str(path.relative_to(tmp_path / "output")): path.read_text() for path in places}
    assert files == {name: name for name in ("figures/a.png", "data/results/b.csv")}
    assert not [path for path in drafts.rglob("*") if path.is_file()]
