"""A copied or renamed checkout runs its own package, in kernels too, or says in one line that it does not."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compendium import environment
from llmamdahl.tables import ROOT


@pytest.fixture
def copy(tmp_path):
    """A copy of this checkout; its Python is this one, in which this checkout is installed."""
    left_out = shutil.ignore_patterns(".*", "build", "__pycache__", "*.egg-info", "rtl", "measured")
    shutil.copytree(ROOT, tmp_path / "copy", ignore=left_out)
    return tmp_path / "copy"


def python(copy, *arguments):
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    variables["LLMAMDAHL_OUTPUT"] = str(copy.parent / "output")
    return subprocess.run([sys.executable, *arguments], cwd=copy, env=variables, capture_output=True, text=True)


def test_nbval_in_a_copy_runs_the_copy(copy):
    notebook = "notebooks/09-explore.ipynb"
    with (copy / "llmamdahl" / "amdahl.py").open("a", encoding="utf-8") as file:
        file.write("\n\n_right = combined_speedup\n\n\ndef combined_speedup(*given):\n    return 2 * _right(*given)\n")
    done = python(copy, "-m", "pytest", "-q", "-p", "compendium", "-p", "no:cacheprovider", notebook)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Cell execution" not in done.stderr and " failed" in done.stdout.splitlines()[-1]


def test_tests_and_commands_of_a_copy_stop_if_they_would_run_another_package(copy):
    start = f"import sys, llmamdahl.tables; sys.path.insert(0, {str(copy)!r}); "
    wrong = f"this is the checkout {copy}, but Python loads the llmamdahl of {ROOT}; use make"
    outside = copy.parent
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "LLMAMDAHL_OUTPUT": str(outside / "output")}
    for code in ("import compendium", f"import pytest; sys.exit(pytest.main(['-q', {str(copy / 'tests')!r}]))"):
        command = [sys.executable, "-c", start + code]
        done = subprocess.run(command, cwd=outside, env=variables, capture_output=True, text=True)
        assert done.returncode and "Traceback" not in done.stderr
        assert wrong in done.stdout + done.stderr


def test_a_broken_test_file_is_an_error(copy):
    (copy / "tests" / "test_broken.py").write_text("import no_such_module\n", encoding="utf-8")
    done = python(copy, "-m", "pytest", "-q", "-p", "compendium", "-p", "no:cacheprovider", "tests/test_broken.py")
    assert done.returncode == 2 and "ModuleNotFoundError: No module named 'no_such_module'" in done.stdout


@pytest.fixture
def made(tmp_path):
    """A checkout with a .venv that is complete."""
    for name in environment.LOCKED:
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    say(tmp_path)
    return tmp_path


def say(root):
    python = environment.which_python(str(root / ".venv" / "bin" / "python"))
    (root / ".venv" / ".complete").write_text(environment.made_for(python, root), encoding="utf-8")


def test_an_environment_names_its_checkout_its_python_and_its_lock(made):
    assert environment.stale("", made) == ""
    renamed = made.rename(made.with_name("renamed"))
    assert environment.stale("", renamed) == f"it was made for checkout {made}, not for checkout {renamed}"
    say(renamed)
    assert environment.stale("", renamed) == ""
    assert environment.stale("/usr/bin/python4 4.0.0", renamed).endswith("not for Python /usr/bin/python4 4.0.0")
    (renamed / "requirements.lock").write_text("numpy==3\n", encoding="utf-8")
    assert environment.stale("", renamed).startswith("it was made for requirements.lock and pyproject.toml of SHA-256 ")
    (renamed / ".venv" / "bin" / "python").unlink()  # as after an upgrade of the system
    assert "it was made for Python " in environment.stale("", renamed)
    (renamed / ".venv" / ".complete").unlink()
    assert environment.stale("", renamed) == "it is missing or incomplete"


def test_make_remakes_the_environment_of_another_checkout(made, tmp_path):
    """Here without a package index, so that it says what it does, and fails with one line."""
    root = made.rename(made.with_name(made.name + "-renamed"))
    shutil.copy(ROOT / "Makefile", root)
    (root / "compendium").mkdir()
    shutil.copy(ROOT / "compendium" / "environment.py", root / "compendium")
    variables = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull, "PATH": PATH}
    variables.pop("CONDA_PREFIX", None)
    done = subprocess.run(["make", "-C", root, "verify"], env=variables, capture_output=True, text=True)
    assert f"making .venv, because it was made for checkout {made}, not for checkout {root}" in done.stdout
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (said, _) = done.stderr.splitlines()  # the last one is make's
    assert re.fullmatch(r"\.venv could not be made: No matching distribution found for .*; is there a network\?", said)
    assert not (root / ".venv" / ".complete").exists()


PATH = os.pathsep.join(folder for folder in os.environ["PATH"].split(os.pathsep) if not (Path(folder) / "uv").exists())
