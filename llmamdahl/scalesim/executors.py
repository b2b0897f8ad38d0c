"""Where runs of the simulator are made: processes of this machine, or the workers of a Dask cluster."""

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
"""Bytes that the runs in flight may need together on this machine, or on a Dask worker that has no memory limit."""

CONNECT_SECONDS = 10
"""How long a Dask scheduler may take to answer, and to name its first worker."""

PAUSE = 0.8
"""The part of its memory limit that a Dask worker can fill before it pauses (`distributed.worker.memory.pause`)."""


class Worker(NamedTuple):
    """What has memory of its own: this machine as a whole, or one worker of a cluster."""

    slots: int
    """Runs it makes at once."""
    memory: int
    """Bytes they may need together."""


Workers = Callable[[], list[Worker]]
"""The workers there are now."""


@contextmanager
def processes(jobs: int) -> Iterator[Executor]:
    """A pool of `jobs` processes of this machine, which end at once if this one is killed or the block fails."""
    stay, leave = multiprocessing.Pipe(duplex=False)
    pool = ProcessPoolExecutor(jobs, initializer=_start_process, initargs=(stay, leave))
    try:
        yield pool
    except BaseException:
        leave.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        leave.close()


def _start_process(stay: Connection, leave: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # of Ctrl-C it dies without a word: the campaign says what is to say
    leave.close()  # from now on the other process alone has it, and its end is the end of `stay`
    threading.Thread(target=_end_with, args=(stay,), daemon=True).start()


def _end_with(stay: Connection) -> None:
    """By itself, a process of a pool whose own was killed would wait for work for ever, and keep its memory."""
    stay.poll(None)
    os._exit(1)


@contextmanager
def dask(address: str) -> Iterator[tuple[Executor, Workers]]:
    """The executor of a Dask cluster, and the cluster's workers with their threads and memory limits.

    Every worker needs this package and SCALE-Sim, and the versions of Python and Dask that are here; one without them
    ends at its first run. Dask itself makes a run again whose worker was lost.

    Raises
    ------
    InputError
        Dask is not installed, no scheduler answers at `address`, or it has no worker.
    BrokenExecutor
        In the `with` block: the scheduler is gone, or a run was lost with its worker several times over.
    """
    try:
        from distributed import Client, KilledWorker  # here, because it is an extra
    except ImportError:
        raise InputError("a Dask cluster needs the extra `cluster`, which is not installed: make extras") from None
    if not re.fullmatch(r"(tcp|tls)://(\[.+\]|[^\[\]:/]+):\d+", address):
        raise InputError(f"scheduler: {address!r} is not an address such as tcp://host:8786")
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it would log is said once, by the error
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except OSError as error:
        raise InputError(f"scheduler: none answers at {address} ({error})") from None

    def workers() -> list[Worker]:
        try:
            found = client.scheduler_info(n_workers=-1)["workers"].values()
        except OSError:
            raise BrokenExecutor(f"the Dask scheduler at {address} is gone") from None
        limits = [worker["memory_limit"] for worker in found]  # None: no limit
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
            raise BrokenExecutor(f"a run was lost with its worker several times (out of memory?): {error}") from None
