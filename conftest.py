"""Tests run the package of this checkout, also in the kernels that nbval starts, and one run writes at a time."""

from __future__ import annotations

import signal
from pathlib import Path

import hypothesis
import pytest
from _pytest.doctest import DoctestModule

import llmamdahl
from llmamdahl.errors import InputError
from llmamdahl.tables import OUTPUT, ROOT

SLOW = (
    "test_pes test_docs test_measure test_commands test_reports test_cluster test_your_model test_campaign "
    "04-gpu-validation test_verify test_hf test_store test_analysis test_checkout test_systolic test_dram "
    "13-shapes-and-bits 07-serving 11-what-it-rests-on test_site 12-where-speedup-comes-from 06-modern-models "
    "test_explore test_hardware"
).split()
"""The files that take longest, in this order."""

HERE = Path(__file__).resolve().parent

if Path(llmamdahl.__file__).resolve().parents[1] != HERE:
    pytest.exit(f"this is the checkout {HERE}, but Python loads the llmamdahl of {ROOT}; use make test", 4)


hypothesis.settings.register_profile("this machine may be busy", deadline=None)
hypothesis.settings.load_profile("this machine may be busy")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    # a job that a shell starts in the background ignores Ctrl-C, as do all processes that it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("filterwarnings", "error::RuntimeWarning")  # of NumPy, about a division that nobody expects
    from compendium.command import output_locked

    if config.pluginmanager.hasplugin("nbval"):
        import nbval.kernel

        from compendium.kernel import OwnKernelManager

        nbval.kernel.KernelManager = OwnKernelManager  # as in `make reproduce`
    if OUTPUT != ROOT and not hasattr(config, "workerinput"):  # `make test`; its processes write what it locked
        lock = output_locked()
        try:
            lock.__enter__()
        except (InputError, OSError) as error:
            pytest.exit(str(error), 4)
        config.add_cleanup(lambda: lock.__exit__(None, None, None))


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path):
    """Look for no doctests in tests: that would import a broken test file first, and skip it without an error."""
    found = yield
    return [each for each in found if not (isinstance(each, DoctestModule) and (HERE / "tests") in file_path.parents)]


def pytest_collection_modifyitems(items):
    """Start the files that take longest first, so that no process is left with one of them at the end."""
    order = {name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
