"""What the commands of the compendium share: one writes at a time, and errors are one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from llmamdahl.errors import InputError
from llmamdahl.scalesim.campaign import locked
from llmamdahl.tables import OUTPUT

BUILD = OUTPUT / "build"
"""What is made on the way, and can be deleted."""


@contextmanager
def output_locked() -> Iterator[None]:
    """Hold the lock on `OUTPUT`, so that two runs do not write the same files.

    Raises
    ------
    InputError
        The folder cannot be written, or another run holds the lock; the message names it.
    """
    try:
        BUILD.mkdir(parents=True, exist_ok=True)
        (BUILD / ".lock").touch()
    except OSError as error:
        advice = "; set LLMAMDAHL_OUTPUT to a folder that can"
        raise InputError(f"{OUTPUT} cannot be written ({error.strerror}){advice}") from None
    with locked(BUILD, f"the output folder {OUTPUT}"):
        yield


@contextmanager
def writing() -> Iterator[None]:
    """Hold the lock on `OUTPUT`, and end the program with one line if something cannot be used, read or written.

    Ctrl-C ends every command of the compendium with one line (`compendium/__init__.py`).
    """
    try:
        with output_locked():
            yield
    except (InputError, OSError) as error:
        sys.exit(str(error))


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
