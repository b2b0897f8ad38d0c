"""Executors that simulate the runs of a campaign: processes of this machine, or the workers of a Dask cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

from llmamdahl.errors import InputError

MEMORY = 7_000_000_000
"""Bytes that all runs in flight may use on this machine, or on a Dask worker without a memory limit."""

CONNECT_SECONDS = 10
"""Timeout for the first answer of a Dask scheduler, and then for its first worker."""

PAUSE = 0.8
"""The fraction of its memory limit at which a Dask worker pauses (`distributed.worker.memory.pause`)."""


class Worker(NamedTuple):
    """One pool of memory: this machine as a whole, or one worker of a cluster."""

    slots: int
    """How many runs it simulates at once."""
    memory: int
    """Bytes that these runs may use together."""


Workers = Callable[[], list[Worker]]
"""Returns the workers that an executor has now."""


@contextmanager
def processes(jobs: int) -> Iterator[Executor]:
    """A pool of `jobs` processes of this machine, which exit at once when the block ends or this process is killed.

    If its parent is killed, a process of a `ProcessPoolExecutor` waits for work indefinitely, and keeps its memory. So
    each one watches a pipe. Only this process holds the other end, which is closed when this process ends for any
    reason.
    """
    watched, held = multiprocessing.Pipe(duplex=False)
    pool = ProcessPoolExecutor(jobs, initializer=_start_process, initargs=(watched, held))
    try:
        # The first task forks all processes, and until `_start_process` each would print a traceback at Ctrl-C.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            pool.submit(int)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield pool
    finally:
        # Before `shutdown`, which waits for them: if the block failed, runs are in flight; and a process that waits for
        # work would never end if another one was killed while it held the lock on the queue.
        held.close()
        pool.shutdown(cancel_futures=True)


def _start_process(watched: Connection, held: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at Ctrl-C the parent reports it and closes the pipe
    held.close()  # the copy that the fork made
    threading.Thread(target=_exit_when_closed, args=(watched,), daemon=True).start()


def _exit_when_closed(watched: Connection) -> None:
    watched.poll(None)
    os._exit(1)


@contextmanager
def dask(address: str) -> Iterator[tuple[Executor, Workers]]:
    """Connect to a Dask cluster.

    Every worker needs this package, SCALE-Sim, and the versions of Python and Dask that this process has; a worker
    without them fails at its first run. Dask repeats a run if its worker is lost.

    Parameters
    ----------
    address
        Of the scheduler: `tcp://host:port` or `tls://host:port`.

    Yields
    ------
    Executor
        It runs on the cluster.
    Workers
        A function that returns the workers of the cluster, with their threads and memory limits.

    Raises
    ------
    InputError
        Dask is not installed, `address` is malformed, no scheduler answers there, or the scheduler has no worker.
    BrokenExecutor
        Raised in the `with` block: the scheduler is gone, or a run was lost together with its worker several times.
    """
    try:
        from distributed import Client, KilledWorker  # imported here, since it is an extra
    except ImportError:
        raise InputError("a Dask cluster needs the extra `cluster`, which is not installed: make extras") from None
    if not re.fullmatch(r"(tcp|tls)://(\[.+\]|[^\[\]:/]+):\d+", address):
        raise InputError(f"scheduler: {address!r} is not an address such as tcp://host:8786")
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # the errors raised below report it once
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except OSError as error:
        raise InputError(f"scheduler: no answer from {address} ({error})") from None

    def workers() -> list[Worker]:
        try:
            # not `client.scheduler_info`: its answer lacks the workers whenever the client's own timer asked last
            found = client.sync(client.scheduler.identity, n_workers=-1)["workers"].values()
        except (OSError, AttributeError):  # a client that has stopped reconnecting has no `scheduler`
            raise BrokenExecutor(f"the Dask scheduler at {address} is gone") from None
        limits = [worker["memory_limit"] for worker in found]  # None if there is no limit
        memory = [MEMORY if limit is None else int(PAUSE * limit) for limit in limits]
        return [Worker(worker["nthreads"], size) for worker, size in zip(found, memory, strict=True)]

    with client:
        try:
            client.wait_for_workers(1, CONNECT_SECONDS)
        except TimeoutError:
            raise InputError(f"scheduler: {address} has no worker; start one: dask worker {address}") from None
        try:
            yield client.get_executor(), workers
        except CancelledError:
            raise BrokenExecutor(f"the Dask scheduler at {address} is gone") from None
        except KilledWorker as error:
            raise BrokenExecutor(
                f"a run was lost together with its worker several times (out of memory?): {error}"
            ) from None
