"""Notebooks show the same whatever the user's settings are, and one that stops is named with its cell and the cause."""

import json

import nbformat
import pytest

from compendium import notebooks
from compendium.kernel import OwnKernelManager
from compendium.notebooks import StoppedError, execute, execute_all
from llmamdahl.tables import ROOT

PICTURE = "import matplotlib.pyplot as plt\nfigure, axis = plt.subplots(figsize=(2, 1))\naxis.plot([1, 3, 2]);"
SHOWN = """
import os, sys
import llmamdahl
print(llmamdahl.__file__)
print(os.environ["LC_ALL"], sys.warnoptions, os.environ["OMP_NUM_THREADS"], plt.rcParams["font.size"])
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Returns the outputs of the cells of a new notebook."""
    monkeypatch.setattr(notebooks, "COPIES", tmp_path / "copies")

    def cells(*sources, name="new.ipynb"):
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        nbformat.write(made, tmp_path / name)
        execute(tmp_path / name, tmp_path / "output")
        copy = json.loads((tmp_path / "copies" / name).read_text(encoding="utf-8"))
        return [cell["outputs"] for cell in copy["cells"]]

    return cells


def test_the_user_s_settings_change_nothing(run, tmp_path, monkeypatch):
    for name in ("MPLBACKEND", "MPLCONFIGDIR", "PYTHONPATH", "PYTHONWARNINGS"):
        monkeypatch.delenv(name, raising=False)
    before = run(PICTURE, SHOWN)
    assert [output["output_type"] for output in before[0]] == ["display_data"] and "image/png" in before[0][0]["data"]
    assert before[1][0]["text"] == [f"{ROOT}/llmamdahl/__init__.py\n", "C.UTF-8 [] 1 10.0\n"]
    profile = tmp_path / "user" / "profile_default" / "startup"
    profile.mkdir(parents=True)
    (profile / "own.py").write_text("print('started')")
    (tmp_path / "user" / "matplotlibrc").write_text("font.size: 30\n")
    (tmp_path / "user" / "llmamdahl.py").write_text("")
    settings = {
        "MPLBACKEND": "Agg", "MATPLOTLIBRC": str(tmp_path / "user"), "MPLCONFIGDIR": "/proc/none", "HOME": "/proc/none",
        "PYTHONPATH": str(tmp_path / "user"), "PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1", "LC_ALL": "C",
        "IPYTHONDIR": str(tmp_path / "user"), "OMP_NUM_THREADS": "3", "JUPYTER_DATA_DIR": "/proc/none",
        "JUPYTER_RUNTIME_DIR": "/proc/none",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert run(PICTURE, SHOWN) == before


def test_nbval_starts_the_same_kernels():
    import nbval.kernel

    assert nbval.kernel.KernelManager is OwnKernelManager


def test_a_cell_that_fails_is_named_with_its_error(run, tmp_path):
    with pytest.raises(StoppedError) as caught:
        run("1", "open('/dev/full', 'w').write('a' * 100_000)")
    assert str(caught.value) == "notebooks/new.ipynb, cell [2]: OSError: [Errno 28] No space left on device"
    copy = json.loads((tmp_path / "copies" / "new.ipynb").read_text(encoding="utf-8"))
    assert "No space left" in json.dumps(copy)


def test_a_killed_kernel_is_named_with_the_cell(run):
    with pytest.raises(StoppedError) as caught:
        run("1", "import os\nos.kill(os.getpid(), 9)", "2")
    assert str(caught.value) == "notebooks/new.ipynb, cell [2]: its kernel was killed (out of memory?)"


def test_a_kernel_that_does_not_start_is_reported(run, monkeypatch):
    monkeypatch.setattr("compendium.kernel.THREADS", ())
    monkeypatch.setattr("compendium.kernel.DROPPED", ())
    monkeypatch.setattr(
        "compendium.kernel.get_kernel_dict", lambda: {"argv": ["python", "-c", "raise SystemExit('no ipykernel')"]}
    )
    with pytest.raises(StoppedError, match=r"^notebooks/new\.ipynb: its kernel does not start: no ipykernel$"):
        run("1")


def test_a_copy_that_cannot_be_written_is_named(run, monkeypatch, tmp_path):
    monkeypatch.setattr(notebooks, "COPIES", tmp_path / "new.ipynb" / "copies")
    with pytest.raises(StoppedError, match=r"^notebooks/new.ipynb: .*Not a directory: .*$"):
        run("1")


def test_notebooks_run_side_by_side_and_one_that_fails_ends_the_others(run, tmp_path, capfd, monkeypatch):
    for name, source in {"one": "import time\ntime.sleep(600)", "two": "raise KeyError('a')"}.items():
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(made, tmp_path / f"{name}.ipynb")
    paths = [tmp_path / "one.ipynb", tmp_path / "two.ipynb"]
    with pytest.raises(StoppedError, match=r"^notebooks/two.ipynb, cell \[1\]: KeyError: 'a'$"):
        execute_all(paths, tmp_path / "output", jobs=2)
    shown = capfd.readouterr().err.splitlines()
    # either thread may write first
    assert sorted(line.split(",")[0] for line in shown) == ["one: notebook 1 of 2", "two: notebook 2 of 2"]
    assert all(line.endswith(" s left") for line in shown)
    seconds, stopped = execute_all(paths[1:], tmp_path / "output", jobs=2, keep_going=True)
    assert (seconds, stopped) == ({}, {"two": "notebooks/two.ipynb, cell [1]: KeyError: 'a'"})
    assert {path.name for path in (tmp_path / "copies").iterdir()} == {"two.ipynb"}  # no draft is left
