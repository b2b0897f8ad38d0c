"""The site, built once for all tests that look at it."""

import os
import subprocess
import sys

import pytest

from llmamdahl.tables import ROOT


def start_build(folder, seed):
    """Start `make docs` in a folder of its own, with its own order of sets."""
    command = [sys.executable, "-m", "compendium.docs", str(folder / "site")]
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="session")
def sites(tmp_path_factory):
    """Two builds, in folders of different names: what the first is tested for, the second has to repeat."""
    if not os.environ.get("REQUIRE_EXTRAS"):
        pytest.importorskip("myst_nb", reason="the extra `docs` is not installed: make docs")
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "another")]
    builds = [start_build(folder, seed) for folder, seed in zip(folders, "12", strict=True)]
    said = [build.communicate(timeout=600)[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0], said
    return [folder / "site" for folder in folders]


@pytest.fixture(scope="session")
def site(sites):
    return sites[0]
