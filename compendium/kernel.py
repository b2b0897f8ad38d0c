"""Jupyter kernels that run the package of this checkout, in an environment that does not depend on who starts them."""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Mapping
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Any

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager, KernelManager

from compendium.command import BUILD
from llmamdahl.tables import ROOT

DROPPED = (
    "COLUMNS",
    "IPYTHON",
    "JUPYTER",
    "LANG",
    "LC_",
    "LINES",
    "MATPLOTLIB",
    "MPL",
    "NO_COLOR",
    "PYTHON",
    "PY_COLORS",
)
"""First letters of the variables that can change what a notebook shows."""

THREADS = (
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""One each: a sum that several threads share may round differently on a machine with other cores."""


def environment(given: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The variables of a kernel: those given, without what can change what a notebook shows.

    Parameters
    ----------
    folder
        A folder that only this kernel uses, in place of the user's settings of IPython.
    """
    kept = {name: value for name, value in given.items() if not name.startswith(DROPPED)}
    return {
        **kept,
        **dict.fromkeys(THREADS, "1"),
        "IPYTHONDIR": str(folder / "ipython"),
        "LC_ALL": "C.UTF-8",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": str(_matplotlib_folder(folder)),
        # kernels start in notebooks/, where another installed llmamdahl would come before this checkout
        "PYTHONPATH": str(ROOT),
    }


def _matplotlib_folder(folder: Path) -> Path:
    """Where Matplotlib keeps its list of fonts, which takes seconds to make; it warns if it cannot write there."""
    kept = BUILD / "matplotlib"
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError:
        return folder
    return kept if os.access(kept, os.W_OK) else folder


class _ThisPython(KernelSpecManager):
    """Knows no kernel but that of this Python, whatever the user has installed as `python3`."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


class OwnKernelManager(KernelManager):
    """Starts a kernel of this checkout. Its sockets, connection file and settings are in a folder of its own.

    Sockets are files: two kernels that start at the same moment may take the same port.
    """

    def __init__(self, **options: Any) -> None:
        # the path of a socket has at most about 100 characters
        parent = gettempdir() if len(gettempdir()) < 60 else "/tmp"
        self.folder = Path(mkdtemp(prefix="kernel-", dir=parent))
        self.remove_folder = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        places = {"ip": str(self.folder / "socket"), "connection_file": str(self.folder / "connection.json")}
        options |= {"transport": "ipc", **places}
        super().__init__(**{**options, "kernel_spec_manager": _ThisPython()})

    async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
        options["env"] = environment(options["env"], self.folder)
        await super()._async_launch_kernel(kernel_cmd, **options)

    def kill(self) -> None:
        """End the kernel at once, from any thread."""
        process = getattr(self.provisioner, "process", None)
        if process is not None:
            process.kill()


class AsyncOwnKernelManager(OwnKernelManager, AsyncKernelManager):
    """`OwnKernelManager` for nbclient."""
