"""environment.yml, pyproject.toml and requirements.lock say the same, and this environment is what they say."""

import re
import tomllib
from importlib.metadata import version

import yaml
from packaging.requirements import Requirement

from llmamdahl.tables import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = [
    line
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_has_exact_pins_and_no_address():
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in LOCK)
    names = [normal(line.split("==")[0]) for line in LOCK]
    assert names == sorted(set(names), key=names.index)


def test_the_lock_pins_everything_that_pyproject_asks_for():
    pins = {normal(name): pin for name, pin in (line.split("==") for line in LOCK)}
    extras = [name for names in PROJECT["optional-dependencies"].values() for name in names]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *extras]):
        assert requirement.specifier.contains(pins[normal(requirement.name)]), requirement


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
