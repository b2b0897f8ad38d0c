"""The campaign that fills the store (`make simulate`): on this machine or a cluster, killed and resumed at will."""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from llmamdahl.errors import CutOffError, InputError, positive_int
from llmamdahl.scalesim.executors import MEMORY, Worker, Workers, dask, processes
from llmamdahl.scalesim.simulator import VERSION, Run, simulate
from llmamdahl.scalesim.store import (
    KEY,
    MATMUL_COLUMNS,
    RUN_COLUMNS,
    by_key,
    matmul_row,
    needed_runs,
    paper_matmuls,
    read_matmuls,
    read_runs,
    run_key,
)
from llmamdahl.tables import Row, format_row, write_rows

LOST_SECONDS = 60
"""How long a campaign waits for a cluster that has lost all its workers."""


def fill_store(
    store: Path, executor: Executor | None = None, jobs: int | None = None, workers: Workers | None = None
) -> int:
    """Simulate what the store lacks, then write `runs.csv` and `matmuls.csv` in order; returns the runs made.

    Each finished run is appended to `runs.csv` and synced to disk before the next one starts, so that a crash loses
    the runs in flight and no other. A last line that a crash cut off is dropped and simulated again.

    Parameters
    ----------
    executor
        Where runs are made; by default a pool of `jobs` processes. The rows are the same wherever that is.
    jobs
        Runs in flight at once, by default one a core; fewer while they would need more than `MEMORY` together.
    workers
        Says, instead of `jobs` and `MEMORY`, which workers the executor has (`executors.dask` gives both).

    Raises
    ------
    InputError
        Another campaign has locked this store, its `runs.csv` cannot be trusted (`TableError`), or a run needs more
        memory than a worker has.
    OSError
        The store cannot be written: a full disk, a read-only folder.
    BrokenExecutor
        A process was killed, or the cluster is gone. After this as after the others, what was stored is still there.
    """
    jobs = os.cpu_count() or 1 if jobs is None else positive_int("jobs", jobs)
    here = [Worker(jobs, MEMORY)]
    store.mkdir(parents=True, exist_ok=True)
    path = store / "runs.csv"
    with locked(store):
        for draft in store.glob(".*.csv.*"):  # of `write_rows`, killed
            draft.unlink()
        try:
            runs = read_runs(store) if path.exists() else {}
        except CutOffError as error:
            print(f"{error}; it is simulated again", file=sys.stderr)
            runs = by_key(error.rows)
        matmuls = paper_matmuls()
        todo = [run for run in needed_runs(matmuls) if run_key(run) not in runs]
        if todo:
            write_rows(path, list(RUN_COLUMNS), runs.values())  # whole lines, in the columns that are appended below
            place = nullcontext(executor) if executor is not None else processes(jobs)
            with place as pool, path.open("a", encoding="utf-8", newline="") as handle:
                writer = csv.writer(handle, lineterminator="\n")
                for run, result in _simulated(todo, pool, workers or (lambda: here)):
                    row = {**dict(zip(KEY, run_key(run), strict=True)), **result, "simulator_version": VERSION}
                    writer.writerow(format_row(row, RUN_COLUMNS))
                    handle.flush()
                    os.fsync(handle.fileno())
            runs = read_runs(store)
        write_rows(path, list(RUN_COLUMNS), [runs[key] for key in sorted(runs)])
        write_rows(store / "matmuls.csv", list(MATMUL_COLUMNS), [matmul_row(matmul, runs) for matmul in matmuls])
    return len(todo)


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Hold `store/.lock` for the block; the operating system releases it when this process ends, even if it is killed.

    Processes forked in the block do not hold the lock: filelock closes it in them. So a process of a pool that
    outlives a killed campaign does not keep the next campaign out.

    Raises
    ------
    InputError
        Another process holds the lock; the message names that process and its host.
    OSError
        The lock file cannot be created, or the file system has no locks.
    """
    path = store / ".lock"
    try:
        lock = FileLock(path, blocking=False, on_acquired=_write_holder).acquire()
    except Timeout:
        holder = "another process"
        with suppress(FileNotFoundError):  # the holder may be finishing right now
            holder = path.read_text(encoding="utf-8") or holder
        raise InputError(f"the store {store} is locked by {holder}; retry when it has finished") from None
    with lock:
        try:
            yield
        finally:
            # filelock leaves the file there. Remove it while it is still ours: after the release it may be another's.
            path.unlink(missing_ok=True)


def _write_holder(lock: int) -> None:
    """Name this process in the lock file, over the name that a killed campaign left there."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {platform.node()}".encode(), 0)


def _simulated(todo: list[Run], pool: Executor, workers: Workers) -> Iterator[tuple[Run, Row]]:
    """Each run with its result as it comes, the longest first, within the workers' memory; shows progress."""
    waiting, flying = list(todo), dict[Future[Row], Run]()
    total = sum(run.weight for run in todo)
    with tqdm(total=total, disable=None, bar_format="{l_bar}{bar}| {elapsed} so far, {remaining} left{postfix}") as bar:
        done = 0
        while waiting or flying:
            now = workers()
            if not flying:
                _check_memory(waiting, now)
            run = next((run for run in waiting if _fit([run, *flying.values()], now)), None)
            if run:
                waiting.remove(run)
                flying[pool.submit(simulate, run)] = run
                continue
            finished = wait(flying, timeout=LOST_SECONDS, return_when=FIRST_COMPLETED).done
            if not finished and not workers():
                raise BrokenExecutor(f"no worker was left for {LOST_SECONDS} seconds (their logs say why)")
            for future in sorted(finished, key=_failed):  # what another run fails at must not cost a result
                run = flying.pop(future)
                yield run, future.result()
                done += 1
                bar.update(run.weight)
                bar.set_postfix_str(f"{done}/{len(todo)} runs")


def _check_memory(runs: list[Run], workers: list[Worker]) -> None:
    """Refuse runs of which one needs more memory than a worker has, or none to have it."""
    needed = max(run.memory for run in runs)
    least = min((worker.memory for worker in workers), default=0)
    if needed > least:
        raise InputError(
            f"memory: a run needs {needed / 1e9:.1f} GB, and every worker must have that; one has {least / 1e9:.1f} GB"
        )


def _failed(future: Future[Row]) -> bool:
    return future.cancelled() or future.exception() is not None


def _fit(runs: list[Run], workers: list[Worker]) -> bool:
    """Whether these runs can be in flight together: any worker can hold the largest of them, should they meet there."""
    memory = sorted((run.memory for run in runs), reverse=True)
    slots = sum(worker.slots for worker in workers)
    return len(runs) <= slots and all(sum(memory[: worker.slots]) <= worker.memory for worker in workers)


def main() -> None:
    """`python -m llmamdahl.scalesim.campaign`, `make simulate`: complete the store in a folder."""
    parser = argparse.ArgumentParser(description="Complete a store of what SCALE-Sim says of the paper's MatMuls.")
    parser.add_argument("folder", type=Path, help="the store: data/scalesim of a checkout, or a new folder")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=int, help="processes of this machine, by default one a core")
    where.add_argument("--scheduler", help="address of a Dask cluster's scheduler, such as tcp://host:8786")
    options = parser.parse_args()
    store = options.folder
    kept = "every finished run is kept, and the next start goes on from there"
    try:
        if options.scheduler is None:
            made = fill_store(store, jobs=options.jobs)
        else:
            with dask(options.scheduler) as (executor, workers):
                made = fill_store(store, executor, workers=workers)
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
        f"{store}: {made} runs made now, {len(read_runs(store))} in all; {len(frame)} MatMuls, "
        f"{(frame.obtained == 'whole').sum()} of them simulated whole; SCALE-Sim {VERSION}"
    )


if __name__ == "__main__":
    main()
