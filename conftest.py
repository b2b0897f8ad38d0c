"""Tests run the package of this checkout, also in the kernels that nbval starts, and one run writes at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from _pytest.doctest import DoctestModule

import llmamdahl
from llmamdahl.errors import InputError
from llmamdahl.tables import OUTPUT, ROOT

HERE = Path(__file__).resolve().parent

if Path(llmamdahl.__file__).resolve().parents[1] != HERE:
    pytest.exit(f"this is the checkout {HERE}, but Python loads the llmamdahl of {ROOT}; use make test", 4)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    from compendium.command import BUILD, locked

    if config.pluginmanager.hasplugin("nbval"):
        import nbval.kernel

        from compendium.kernel import OwnKernelManager

        nbval.kernel.KernelManager = OwnKernelManager  # as in `make reproduce`
    if OUTPUT != ROOT and not hasattr(config, "workerinput"):  # `make test`; its processes write what it locked
        try:
            BUILD.mkdir(parents=True, exist_ok=True)
            lock = locked(BUILD, f"the output folder {OUTPUT}")
            lock.__enter__()
        except InputError as error:
            pytest.exit(str(error), 4)
        except OSError as error:
            pytest.exit(f"{OUTPUT} cannot be written ({error.strerror}); set LLMAMDAHL_OUTPUT to a folder that can", 4)
        config.add_cleanup(lambda: lock.__exit__(None, None, None))


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path):
    """Look for no doctests in tests: that would import a broken test file first, and skip it without an error."""
    found = yield
    return [each for each in found if not (isinstance(each, DoctestModule) and (HERE / "tests") in file_path.parents)]
