"""The campaign that fills the store (`make simulate`) on this machine or a cluster; it can be killed and resumed."""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from llmamdahl.errors import CutOffError, InputError, positive_int
from llmamdahl.needed import require
from llmamdahl.scalesim.executors import MEMORY, Worker, Workers, dask, processes
from llmamdahl.scalesim.simulator import VERSION, Run, simulate
from llmamdahl.scalesim.store import (
    KEY,
    MATMUL_COLUMNS,
    RUN_COLUMNS,
    Key,
    by_key,
    matmul_row,
    needed_runs,
    paper_matmuls,
    read_matmuls,
    read_runs,
    run_key,
)
from llmamdahl.scalesim.zoo_runs import zoo_matmuls, zoo_sample
from llmamdahl.tables import Row, format_row, write_rows

MODELS: dict[str, Callable[[], list[Run]]] = {
    "paper": lambda: paper_matmuls(),  # looked up when it is called
    "zoo": zoo_matmuls,
    "zoo-sample": zoo_sample,
}
"""What `--models` takes."""

LOST_SECONDS = 60
"""How long a campaign waits for a cluster that has lost all its workers to get one back."""


def fill_store(
    store: Path,
    executor: Executor | None = None,
    jobs: int | None = None,
    workers: Workers | None = None,
    matmuls: Sequence[Run] | None = None,
) -> int:
    """Simulate the runs that the store lacks, then write `runs.csv` and `matmuls.csv`, sorted.

    Each result is appended to `runs.csv` and synced to disk before the next result is taken, so a crash loses only the
    runs in flight. If the crash cut off the last line, that run is simulated again. After any of the errors below, the
    finished runs are still in the store.

    Parameters
    ----------
    store
        The folder of the store; it is made if it is missing.
    executor
        What simulates the runs; by default a pool of `jobs` processes. The rows do not depend on it.
    jobs
        The most runs in flight, by default one per core. There are fewer while they would need more than `MEMORY`
        bytes together.
    workers
        Returns the workers that the executor has now, and replaces `jobs` and `MEMORY`; `executors.dask` yields an
        executor and this.
    matmuls
        What the store is of, by default the MatMuls of the paper.

    Returns
    -------
    int
        How many runs were simulated.

    Raises
    ------
    InputError
        Another campaign has locked the store, `runs.csv` is damaged (`TableError`) or has runs of other MatMuls, or a
        run needs more memory than a worker has.
    OSError
        The store cannot be written: a full disk, a read-only folder.
    BrokenExecutor
        A process of the pool was killed, or the cluster is gone.
    """
    jobs = os.cpu_count() or 1 if jobs is None else positive_int("jobs", jobs)
    here = [Worker(jobs, MEMORY)]
    store.mkdir(parents=True, exist_ok=True)
    path = store / "runs.csv"
    with locked(store):
        for draft in store.glob(".*.csv.*"):  # left by `write_rows` in a campaign that was killed
            draft.unlink()
        runs = _finished_runs(store)
        matmuls = paper_matmuls() if matmuls is None else matmuls
        needed = needed_runs(matmuls)
        if others := len(runs.keys() - {run_key(run) for run in needed}):
            raise InputError(f"{path}: {others} runs of other MatMuls; give a folder of its own to each set of MatMuls")
        todo = [run for run in needed if run_key(run) not in runs]
        if todo:
            # Rows can be appended only to whole lines with the columns in our order.
            write_rows(path, list(RUN_COLUMNS), runs.values())
            place = nullcontext(executor) if executor is not None else processes(jobs)
            with place as pool, path.open("a", encoding="utf-8", newline="") as handle:
                writer = csv.writer(handle, lineterminator="\n")
                for run, result in _simulated(todo, pool, workers or (lambda: here)):
                    row = {**dict(zip(KEY, run_key(run), strict=True)), **result, "simulator_version": VERSION}
                    writer.writerow(format_row(row, RUN_COLUMNS))
                    handle.flush()
                    os.fsync(handle.fileno())
            runs = read_runs(store)  # what is on disk, with all its checks
        write_rows(path, list(RUN_COLUMNS), [runs[key] for key in sorted(runs)])
        write_rows(store / "matmuls.csv", list(MATMUL_COLUMNS), [matmul_row(matmul, runs) for matmul in matmuls])
    return len(todo)


def _finished_runs(store: Path) -> dict[Key, Row]:
    """The runs that earlier campaigns have stored, without a last line that was cut off."""
    path = store / "runs.csv"
    try:
        # a link that leads nowhere, or in a loop, is an error: the runs may be where it should lead
        return read_runs(store) if path.exists() or path.is_symlink() else {}
    except CutOffError as error:
        print(f"{error}; that run is simulated again", file=sys.stderr)
        return by_key(error.rows)


@contextmanager
def locked(folder: Path, name: str = "") -> Iterator[None]:
    """Hold the lock on a folder, the file `.lock` in it; the system releases it when this process ends, killed or not.

    Processes that are forked in the block do not hold the lock, since filelock closes it in them. So a process of a
    pool that outlives a killed campaign does not block the next campaign.

    Raises
    ------
    InputError
        Another process holds the lock; the message names the folder, as `name` if given, that process and its host.
    OSError
        The lock file cannot be created, or the file system has no locks.
    """
    from filelock import FileLock, Timeout

    path = folder / ".lock"
    try:
        lock = FileLock(path, blocking=False, on_acquired=_write_holder).acquire()
    except Timeout:
        holder = "another process"
        with suppress(FileNotFoundError):  # the holder may be finishing right now
            holder = path.read_text(encoding="utf-8") or holder
        raise InputError(f"{name or f'the store {folder}'} is locked by {holder}; retry when it has finished") from None
    with lock:
        try:
            yield
        finally:
            # filelock leaves the file on disk. Remove it before the release: after that, another process may hold it.
            path.unlink(missing_ok=True)


def _write_holder(lock: int) -> None:
    """Write the name of this process into the open lock file, in place of one that a killed campaign left there."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {platform.node()}".encode(), 0)


def _simulated(todo: list[Run], pool: Executor, workers: Workers) -> Iterator[tuple[Run, Row]]:
    """Yield each run with its result when it has finished, and show progress.

    Long runs start first, so that the last ones in flight are short. A run is submitted as soon as the workers have a
    slot and the memory for it next to those in flight; so a shorter run may overtake one that waits for memory.
    """
    from tqdm import tqdm

    waiting, in_flight = list(todo), dict[Future[Row], Run]()
    total = sum(run.weight for run in todo)
    with tqdm(total=total, disable=None, bar_format="{l_bar}{bar}| {elapsed} so far, {remaining} left{postfix}") as bar:
        done = 0
        while waiting or in_flight:
            now = workers()  # those of a cluster come and go
            if now and not in_flight:
                _check_memory(waiting, now)  # a run that fits nowhere would wait indefinitely
            run = next((run for run in waiting if _fit([run, *in_flight.values()], now)), None)
            if run:
                waiting.remove(run)
                in_flight[pool.submit(simulate, run)] = run
                continue
            finished = wait(in_flight, timeout=LOST_SECONDS, return_when=FIRST_COMPLETED).done
            if not finished and not workers():
                raise BrokenExecutor(f"no worker is left after {LOST_SECONDS} seconds; see the workers' logs")
            # A failed run raises here, so the runs that finished with it are stored before it.
            for future in sorted(finished, key=_failed):
                run = in_flight.pop(future)
                yield run, future.result()
                done += 1
                bar.update(run.weight)
                bar.set_postfix_str(f"{done}/{len(todo)} runs")


def _check_memory(runs: list[Run], workers: list[Worker]) -> None:
    """Raise if the largest run needs more memory than the smallest worker has."""
    needed = max(run.memory for run in runs)
    least = min(worker.memory for worker in workers)
    if needed > least:
        raise InputError(
            f"memory: a run needs {needed / 1e9:.1f} GB, and every worker must have that; one has {least / 1e9:.1f} GB"
        )


def _failed(future: Future[Row]) -> bool:
    return future.cancelled() or future.exception() is not None


def _fit(runs: list[Run], workers: list[Worker]) -> bool:
    """Whether these runs can be in flight together.

    The executor chooses the worker of each run, so every worker must have memory for the largest runs that could meet
    there: as many as it has slots. While there is no worker, one run waits for the next.
    """
    memory = sorted((run.memory for run in runs), reverse=True)
    slots = sum(worker.slots for worker in workers)
    return len(runs) <= max(slots, 1) and all(sum(memory[: worker.slots]) <= worker.memory for worker in workers)


def main() -> None:
    """Complete the store in a folder: `python -m llmamdahl.scalesim.campaign`, `make simulate`."""
    parser = argparse.ArgumentParser(description="Simulate MatMuls with SCALE-Sim and store the results.")
    parser.add_argument("folder", type=Path, help="the store: data/scalesim of a checkout, or a new folder")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=int, help="number of processes on this machine; by default one per core")
    where.add_argument("--scheduler", help="address of the scheduler of a Dask cluster, such as tcp://host:8786")
    parser.add_argument("--models", choices=MODELS, default="paper", help="whose MatMuls; by default the paper's")
    options = parser.parse_args()
    require("filelock", "tqdm", make="env")
    store, matmuls = options.folder, MODELS[options.models]()
    kept = "every finished run is kept, and the next campaign resumes from there"
    try:
        if options.scheduler is None:
            made = fill_store(store, jobs=options.jobs, matmuls=matmuls)
        else:
            with dask(options.scheduler) as (executor, workers):
                made = fill_store(store, executor, workers=workers, matmuls=matmuls)
    except KeyboardInterrupt:
        sys.exit(f"stopped; {kept}")
    except BrokenProcessPool:
        sys.exit(f"a worker was killed (out of memory?); {kept}")
    except (BrokenExecutor, OSError) as error:
        sys.exit(f"{store}: {error}; {kept}")
    except InputError as error:
        sys.exit(str(error))
    frame = read_matmuls(store)
    print(
        f"{store}: {made} runs simulated now, {len(read_runs(store))} in total; {len(frame)} MatMuls, "
        f"{(frame.obtained == 'whole').sum()} of them simulated whole; SCALE-Sim {VERSION}"
    )


if __name__ == "__main__":
    main()
