"""README's examples run, its speeds are those of the last `make bench`, and it stays short."""

import csv
import doctest
import re
import shlex
import shutil

import pytest
from click.testing import CliRunner

from llmamdahl import cli
from llmamdahl.tables import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (llmamdahl .*)$", README, re.MULTILINE)


def test_it_is_short():
    assert len(README.splitlines()) <= 150


def test_its_python_prints_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "tests" / "data" / "hf_configs" / "DeepSeek-V3.json", tmp_path / "config.json")
    (code,) = re.findall(r"```pycon\n(.*?)```", README, re.DOTALL)
    test = doctest.DocTestParser().get_doctest(code, {}, "README.md", "README.md", 0)
    assert len(test.examples) >= 10
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0
    assert (tmp_path / "gain.png").stat().st_size > 10_000


def test_it_shows_commands():
    assert len(COMMANDS) >= 2  # with none, the next test would be skipped


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_print_what_it_shows(command):
    done = CliRunner().invoke(cli.main, shlex.split(command)[1:])
    assert done.exit_code == 0, done.output
    shown = README.split(f"$ {command}\n")[1].split("\n$ ")[0].split("\n```")[0]
    assert shown == done.output.rstrip("\n")


def test_it_names_every_command():
    assert all(f"`{name}`" in README for name in cli.main.commands)


def test_its_speeds_are_measured():
    with (ROOT / "data" / "results" / "bench.csv").open(encoding="utf-8", newline="") as handle:
        measured = {row["what"]: row["value"].rstrip("x") for row in csv.DictReader(handle)}
    speeds = README.split("Speed (`make bench`")[1].split("\n\n")[0]
    for what in ("SCALE-Sim / `gemm_cost`", "SCALE-Sim / `llmamdahl scalesim`", "combinations a second"):
        (value,) = [value for name, value in measured.items() if what in name]
        assert f" {value} " in speeds.replace("\n", " "), what
