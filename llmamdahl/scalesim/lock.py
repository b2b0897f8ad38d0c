"""One process at a time in a folder, without a trace when it is gone."""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from llmamdahl.errors import InputError

_held: set[BinaryIO] = set()


def _let_go() -> None:
    for lock in _held:
        lock.close()


# else the processes of a pool would share the lock, and keep it if they outlive a process that was killed
os.register_at_fork(after_in_child=_let_go)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder/.lock`; the system releases it when this process ends, however it does.

    Raises
    ------
    InputError
        Another holds it; it names the process.
    OSError
        The file cannot be made or locked.
    """
    path = folder / ".lock"
    with path.open("a+b", buffering=0) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(lock.fileno()), path.stat())
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:  # locked, or its holder ended and removed it after it was opened here
            lock.seek(0)
            holder = lock.read().decode() or "another process"
            raise InputError(f"{folder}: {holder} is at work here; one at a time, so start again when it has ended")
        _held.add(lock)
        try:
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {platform.node()}".encode())
            yield
        finally:
            path.unlink(missing_ok=True)
            _held.discard(lock)
