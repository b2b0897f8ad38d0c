"""The wheel: built, installed next to its run-time dependencies only, and used from another folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import distribution

import pytest
from packaging.requirements import Requirement

from llmamdahl.tables import ROOT

LISTED = ["pyproject.toml", "README.md", "LICENSE", "llmamdahl", "data"]
"""What the wheel is built from."""


def required(names):
    """These distributions and what they need, without extras."""
    found = {}
    waiting = list(names)
    while waiting:
        found[name] = dist = distribution(name := waiting.pop())
        needs = map(Requirement, dist.requires or [])
        applicable = [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
        waiting += [need for need in applicable if need not in found]
    return found.values()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in LISTED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, source / name)
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", folder, source], check=True)
    (path,) = folder.glob("llmamdahl-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Python of an environment that has the wheel and its run-time dependencies only."""
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check", "--target", site]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, wheel], check=True)
    needs = distribution_requirements(wheel)
    for dist in required(needs):
        for top in {file.parts[0] for file in dist.files if file.parts[0] not in ("..", "__pycache__")}:
            if not os.path.lexists(target := os.path.join(site, top)):
                os.symlink(os.path.join(sysconfig.get_path("purelib"), top), target)
    return python


def distribution_requirements(wheel):
    """Names of the wheel's run-time dependencies."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = archive.read(name).decode().splitlines()
    needs = [Requirement(line.removeprefix("Requires-Dist: ")) for line in lines if line.startswith("Requires-Dist: ")]
    return sorted(need.name for need in needs if need.marker is None)


def test_run_time_dependencies_are_what_the_library_needs(wheel):
    assert distribution_requirements(wheel) == ["click", "matplotlib", "numpy", "pandas", "seaborn"]


def test_the_wheel_holds_the_package_and_its_tables_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == {"llmamdahl"}
    tables = {name for name in names if not name.endswith((".py", "/py.typed"))}
    folders = ("hardware", "measured", "models", "published")
    paths = [path for folder in folders for path in (ROOT / "data" / folder).glob("*.csv")]
    assert tables == {f"llmamdahl/data/{path.relative_to(ROOT / 'data')}" for path in paths}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "llmamdahl").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules


USE = """
import json, sys
import llmamdahl as la
assert not la.__file__.startswith(ROOT), la.__file__
from llmamdahl.models import zoo_names
from llmamdahl.device import recorded
model = la.from_hf_config(json.loads(CONFIG))
frame = la.sweep([*zoo_names(), "opt-350m", model], [2048], [la.CLOUD_TPU, la.get_device("H200")])
opt = frame[(frame.model == "opt-350m") & (frame.metric == "cycles")]
la.plots.amdahl_curves(la.curves(opt, [1, 10]), "title").savefig("curves.png")
F = round(opt.fraction.item(), 3)
print(json.dumps([la.get_model("gpt2-xl").num_heads, la.CLOUD_TPU.rows, len(la.devices()), len(frame), F]))
print(sorted({"scalesim", "IPython", "papermill", "torch"} & set(sys.modules)), len(recorded.read()) > 1000)
"""


def run(python, folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [python, *arguments], cwd=folder, env={**environment, "MPLBACKEND": "Agg"}, capture_output=True, text=True
    )


def test_the_wheel_works_from_another_folder(installed, tmp_path):
    config = (ROOT / "tests" / "data" / "hf_configs" / "DeepSeek-V3.json").read_text(encoding="utf-8")
    done = run(installed, tmp_path, "-c", f"ROOT, CONFIG = {str(ROOT)!r}, {config!r}\n{USE}")
    assert done.stderr == ""
    numbers, modules = done.stdout.splitlines()
    assert json.loads(numbers) == [25, 256, 68, 132 * 4, 0.371]
    assert modules == "[] True"
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_the_command_line_of_the_wheel_works(installed, tmp_path):
    done = run(installed, tmp_path, "-m", "llmamdahl", "share", "opt-350m", "--json")
    assert round(json.loads(done.stdout)["fraction"], 3) == 0.371
    assert "version 0.1.0" in run(installed, tmp_path, "-m", "llmamdahl", "--version").stdout


@pytest.mark.parametrize(
    ("command", "missing", "target"),
    [
        (["llmamdahl.explore", "--port", "0"], ["ipywidgets", "voila"], "extras"),
        (["llmamdahl.scalesim.campaign", "store"], ["filelock", "tqdm"], "env"),
        (["llmamdahl.device"], ["torch"], "extras"),
    ],
)
def test_a_program_of_the_wheel_says_what_is_not_installed(installed, tmp_path, command, missing, target):
    done = run(installed, tmp_path, "-m", *command)
    said = f"not installed: {', '.join(missing)}; run `pip install {' '.join(missing)}` or `make {target}`\n"
    assert (done.returncode, done.stderr, done.stdout) == (1, said, "")
    assert run(installed, tmp_path, "-m", command[0], "--help").returncode == 0
    assert not [*tmp_path.iterdir()]


def test_a_table_that_the_wheel_lacks_is_reported(installed, tmp_path):
    done = run(installed, tmp_path, "-c", "from llmamdahl.scalesim.store import read_matmuls; read_matmuls()")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("llmamdahl.errors.TableError: ") and "checkout of the repository" in last


def test_a_bare_checkout_works_with_nothing_installed(tmp_path):
    for name in ("llmamdahl", "data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    code = "import llmamdahl as la; print(la.__file__, round(la.share('opt-350m', 2048, 'cloud').fraction, 3))"
    done = run(sys.executable, tmp_path, "-c", code)
    assert done.stdout.split() == [str(tmp_path / "llmamdahl" / "__init__.py"), "0.371"], done.stderr
