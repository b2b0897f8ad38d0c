"""The commands behind `make` write one at a time, and report what stops them in one line, without a traceback."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from compendium import reproduce
from compendium.command import locked
from llmamdahl.tables import ROOT


def command(module, *options, output, **more):
    variables = {**os.environ, "LLMAMDAHL_OUTPUT": str(output), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", module, *options], env=variables, cwd=ROOT, **pipes, **more)


@pytest.fixture(params=["reproduce", "reproduce --verify", "reproduce --accept", "docs", "bench"])
def main(request, monkeypatch):
    """Returns the last words of a command with this output folder."""
    name, *options = request.param.split()
    module = import_module(f"compendium.{name}")
    monkeypatch.setattr(sys, "argv", [name, *options])

    def run(output):
        monkeypatch.setattr("compendium.command.OUTPUT", output)
        monkeypatch.setattr("compendium.command.BUILD", output / "build")
        with pytest.raises(SystemExit) as caught:
            module.main()
        return caught.value.code  # text: Python prints it, and exits with 1

    return run


def test_a_second_run_names_the_first(main, tmp_path):
    (tmp_path / "build").mkdir()
    with locked(tmp_path / "build"):
        said = main(tmp_path)
    holder = rf"process {os.getpid()} on \S+"
    assert re.fullmatch(f"the output folder {tmp_path} is locked by {holder}; retry when it has finished", said)


def test_a_folder_that_cannot_be_written_is_named(main):
    said = main(Path("/proc/none"))  # nobody can write there, root included
    advice = "set LLMAMDAHL_OUTPUT to a folder that can"
    assert said == f"/proc/none cannot be written (No such file or directory); {advice}"


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


def make(*arguments, folder=ROOT, **variables):
    """What a `make` that fails prints to stderr."""
    command = ["make", "--no-print-directory", "-C", folder, *arguments]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("JOB=2", "there is no variable JOB; there are APP_ARGS DEVICE "),
        ("JOBS=x", "JOBS: 'x' is not a whole number above 0"),
        ("JOBS=0", "JOBS: '0' is not a whole number above 0"),
        ("MATMULS=1e3", "MATMULS: '1e3' is not a whole number above 0"),
        ("PORT=", "PORT: '' is not a whole number above 0"),
        ("DEVICE=tpu", "DEVICE: 'tpu' is unknown; known: cuda, cpu"),
    ],
)
def test_make_names_what_it_does_not_know_before_it_starts(given, said):
    (line,) = make("test", given)
    assert re.fullmatch(rf"Makefile:\d+: \*\*\* {re.escape(said)}.*\.  Stop\.", line)


def test_a_target_that_does_not_exist_is_named():
    assert make("repoduce")[0] == "make: there is no target 'repoduce'; make help lists them"


def test_every_variable_that_a_recipe_uses_can_be_set():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = {*re.findall(r"[A-Z_]+", "".join(re.findall(r"(?m)^(?:NUMBERS|TEXTS) :=(.*)$", text)))}
    used = {*re.findall(r"\$\(([A-Z_]+)\)", text[text.index("\nhelp:") :])}
    assert used - {"BIN", "ENV", "MAKE", "MAKEFILE_LIST", "PY"} <= known
    assert known - used == {"FUZZ_EXAMPLES", "LLMAMDAHL_OUTPUT", "REQUIRE_EXTRAS"}  # these reach the programs


def test_what_cannot_be_installed_is_one_line(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements-docs.lock").write_text("no-such-package==1\n")
    without = f'#!/bin/sh\n[ "$1" = -c ] || exec {sys.executable} "$@"\nexit 1\n'  # no import succeeds
    (tmp_path / "python").write_text(without)
    (tmp_path / "python").chmod(0o755)
    variables = {"CONDA_PREFIX": str(tmp_path), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    variables |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    (said, _) = make("docs", folder=tmp_path, **variables)
    reason = "No matching distribution found for no-such-package==1"
    assert said == f"requirements-docs.lock cannot be installed: {reason}; is there a network?"


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
