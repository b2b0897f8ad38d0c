"""What several files of tests share: one thread of PyTorch, and the site, built once."""

import os
import subprocess
import sys

import pytest
from filelock import FileLock

from llmamdahl.tables import ROOT


@pytest.fixture(scope="module")
def one_thread():
    """Use one thread of PyTorch: where sizes are tiny, threads cost more time than they save."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def start_build(folder, seed):
    """Start `make docs` with an output folder and an order of sets of its own."""
    environment = {**os.environ, "LLMAMDAHL_OUTPUT": str(folder), "PYTHONHASHSEED": seed}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-m", "compendium.docs"], cwd=ROOT, env=environment, **pipes)


@pytest.fixture(scope="session")
def sites(tmp_path_factory):
    """Two builds, in folders of different names: what the first is tested for, the second has to repeat."""
    if not os.environ.get("REQUIRE_EXTRAS"):
        pytest.importorskip("myst_nb", reason="the extra `docs` is not installed: make docs")
    top = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        top = top.parent  # of all workers
    folders = [top / name for name in ("site", "another-site")]
    with FileLock(top / "sites.lock"):
        if not (top / "sites.built").exists():
            builds = [start_build(folder, seed) for folder, seed in zip(folders, "12", strict=True)]
            said = [build.communicate(timeout=600)[0] for build in builds]
            assert [build.returncode for build in builds] == [0, 0], said
            (top / "sites.built").touch()
    return [folder / "build" / "site" for folder in folders]


@pytest.fixture(scope="session")
def site(sites):
    return sites[0]
