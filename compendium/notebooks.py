"""Run notebooks with papermill, each in a kernel of this checkout, and keep copies that are the same in every run."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import nbformat
from nbclient.exceptions import DeadKernelError
from nbstripout import strip_output
from papermill import PapermillExecutionError, execute_notebook
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager, papermill_engines
from tqdm import tqdm

from compendium.command import BUILD
from compendium.kernel import AsyncOwnKernelManager
from llmamdahl.errors import InputError
from llmamdahl.tables import DATA, ROOT, read_rows

NOTEBOOKS = ROOT / "notebooks"
COPIES = BUILD / "notebooks"
"""Where the executed copies are."""
VOLATILE = [
    "metadata.papermill",
    "metadata.language_info.version",
    "metadata.widgets",
    "cell.metadata.papermill",
    "cell.metadata.execution",
]
"""Metadata of a notebook that differs from run to run."""


class StoppedError(InputError):
    """A notebook did not run to its end; the message is one line that names the notebook, the cell and the cause."""


class Running:
    """The kernels that run now, so that all can be ended at once."""

    def __init__(self) -> None:
        self.kernels: set[AsyncOwnKernelManager] = set()

    @contextmanager
    def kernel(self) -> Iterator[AsyncOwnKernelManager]:
        kernel = AsyncOwnKernelManager()
        self.kernels.add(kernel)
        try:
            yield kernel
        finally:
            self.kernels.discard(kernel)
            kernel.remove_folder()

    def end(self) -> None:
        for kernel in list(self.kernels):
            kernel.kill()


class _OwnEngine(Engine):  # type: ignore[misc]  # papermill has no types
    """papermill's engine, with a kernel of this checkout."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, *, place: str, running: Running, output: Path, **_: Any
    ) -> None:
        with running.kernel() as kernel:
            client = PapermillNotebookClient(
                nb_man, km=kernel, timeout=None, resources={"metadata": {"path": str(NOTEBOOKS)}}
            )
            messages = kernel.folder / "stderr"  # of the kernel itself; those of cells are in the notebook
            try:
                with messages.open("w") as stderr:
                    environment = {**os.environ, "LLMAMDAHL_OUTPUT": str(output)}
                    client.execute(env=environment, stderr=stderr, cleanup_kc=True)
            except DeadKernelError:
                codes = [cell for cell in nb_man.nb.cells if cell.cell_type == "code"]
                started = sum(cell.metadata.papermill["status"] != nb_man.PENDING for cell in codes)
                raise StoppedError(f"{place}, cell [{started}]: its kernel was killed (out of memory?)") from None
            except RuntimeError as error:
                said = messages.read_text(errors="replace").strip().splitlines()
                raise StoppedError(f"{place}: its kernel does not start: {said[-1] if said else error}") from None


papermill_engines.register("own", _OwnEngine)
logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it reports is in the StoppedError
logging.getLogger("traitlets").setLevel(logging.CRITICAL)


def execute(notebook: Path, output: Path, running: Running | None = None) -> float:
    """Run a notebook; its executed copy goes to `build/notebooks/`, its figures and results to `output`.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    StoppedError
        A cell failed (the copy shows which), the kernel was killed, or the copy cannot be written.
    """
    start = time.perf_counter()
    copy = COPIES / notebook.name
    draft = copy.with_name(f".{os.getpid()}.{copy.name}")
    place = f"notebooks/{notebook.name}"
    options = {"engine_name": "own", "kernel_name": "python3", "progress_bar": False}
    try:
        COPIES.mkdir(parents=True, exist_ok=True)
        try:
            execute_notebook(
                notebook, draft, **options, request_save_on_cell_execute=False, autosave_cell_every=0,
                place=place, running=running or Running(), output=output.absolute(),
            )  # fmt: skip
        finally:
            if draft.exists():  # it also shows the cell that failed
                _clean(draft)
                draft.replace(copy)
    except PapermillExecutionError as error:
        cause = " | ".join(error.evalue.strip().splitlines()[:5])
        raise StoppedError(f"{place}, cell [{error.exec_count}]: {error.ename}: {cause}") from None
    except OSError as error:
        raise StoppedError(f"{place}: {error}") from None
    return time.perf_counter() - start


def _clean(path: Path) -> None:
    """Drop what differs from run to run, so that a copy can be committed and compared byte by byte."""
    notebook = nbformat.read(path, nbformat.NO_CONVERT)  # type: ignore[no-untyped-call]
    strip_output(notebook, keep_output=True, keep_count=True, keep_id=True, extra_keys=VOLATILE)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            # a widget has a new id in each run, and shows nothing without its kernel: only its text is kept
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    text = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    path.write_text(f"{text}\n", encoding="utf-8")


def execute_all(
    notebooks: Sequence[Path], output: Path, jobs: int, keep_going: bool = False
) -> tuple[dict[str, float], dict[str, str]]:
    """Run notebooks side by side, the longest first, and show progress.

    Parameters
    ----------
    jobs
        How many run at a time.
    keep_going
        Whether the others go on when one stops; otherwise they are ended, and its error is raised.

    Returns
    -------
    tuple of two dicts by name
        The seconds of each notebook that finished, and why the others did not.
    """
    running, seconds, stopped = Running(), dict[str, float](), dict[str, str]()
    progress = _Progress([notebook.stem for notebook in notebooks], jobs)

    def run(notebook: Path) -> float:
        progress.start(notebook.stem)
        return execute(notebook, output, running)

    with ThreadPoolExecutor(jobs) as pool, progress:
        order = sorted(notebooks, key=lambda notebook: -progress.expected[notebook.stem])
        left = {pool.submit(run, notebook): notebook.stem for notebook in order}
        try:
            while left:
                for future in wait(left, timeout=1, return_when=FIRST_COMPLETED).done:
                    name = left.pop(future)
                    try:
                        seconds[name] = future.result()
                    except StoppedError as error:
                        if not keep_going:
                            raise
                        stopped[name] = str(error)
                    progress.end(name, seconds.get(name))
                progress.show()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(future.done() for future in left):  # after an error or Ctrl-C
                running.end()
                wait(left, timeout=0.1)
    return seconds, stopped


class _Progress:
    """Names the notebooks that run and the time left: in a bar in a terminal, elsewhere one line a notebook."""

    def __init__(self, names: Sequence[str], jobs: int) -> None:
        self.names, self.jobs = names, jobs
        self.expected = expected_seconds(names)
        self.started, self.ended = dict[str, float](), dict[str, float | None]()
        self.bar = tqdm(total=len(names), disable=None, bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt}{postfix}")

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def start(self, name: str) -> None:
        self.started[name] = time.perf_counter()
        if self.bar.disable:
            line = f"{name}: notebook {len(self.started)} of {len(self.names)}, about {self.left():.0f} s left"
            sys.stderr.write(f"{line}\n")  # in one step: threads write side by side
            sys.stderr.flush()
        self.show()

    def end(self, name: str, seconds: float | None) -> None:
        self.ended[name] = seconds
        self.bar.update()

    def show(self) -> None:
        now = [name for name in self.started if name not in self.ended]
        self.bar.set_postfix_str(f"about {self.left():.0f} s left; {', '.join(now)}")

    def left(self) -> float:
        """Seconds until all have finished, from what they are expected to take and what those that ended took."""
        known = {name: took for name, took in self.ended.items() if took}
        slower = sum(known.values()) / sum(self.expected[name] for name in known) if known else 1
        now = time.perf_counter()
        each = [
            max(0, self.expected[name] * slower - (now - self.started.get(name, now)))
            for name in self.names
            if name not in self.ended
        ]
        return max(sum(each) / self.jobs, *each, 0)


def expected_seconds(names: Sequence[str]) -> dict[str, float]:
    """What `make bench` measured for each notebook; the median for one that is newer."""
    measured = {}
    if (path := DATA / "results" / "bench.csv").exists():
        for row in read_rows(path, {"what": str, "value": str}):
            if row["what"].startswith("`make reproduce`: "):
                measured[row["what"].split(": ")[1]] = float(row["value"].removesuffix(" s"))
    usual = median(measured.values() or [10])
    return {name: measured.get(name, usual) for name in names}
