"""`make simulate` in a process of its own: its runs wait for tokens, and a step on disk can fail or be its last."""

import errno
import functools
import multiprocessing
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from llmamdahl.hardware import SystolicArray
from llmamdahl.scalesim import campaign
from llmamdahl.scalesim.simulator import COUNTS, DRAM_COUNTS, UTILISATIONS, Run, simulate
from llmamdahl.scalesim.store import run_key

MATMULS = [Run(m, n, 10, SystolicArray(4, 4, flow)) for m, n in ((1, 9), (2, 6)) for flow in ("os", "ws", "is")]

PROCESSES = multiprocessing.get_context("forkserver")  # fast to start, and forked from a process without threads
PROCESSES.set_forkserver_preload(
    ["llmamdahl.scalesim.campaign", "scalesim.single_layer_sim", "scalesim.topology_utils"]
)

STEPS = ((os, "ftruncate"), (os, "pwrite"), (os, "fsync"), (Path, "replace"), (Path, "unlink"))
"""What a campaign calls to change its files, or to be sure of them, besides `write`."""

FAILURES = ("kill", errno.ENOSPC, errno.EDQUOT, errno.EIO)

GATE = SimpleNamespace()
"""In a campaign and its processes: the pipe of tokens, that in which a run says that it has come, and known results."""


def gated(run):
    """`simulate`, or what it returned before, with a token; without one once the pipe of tokens is closed."""
    os.write(GATE.came, b".")
    os.read(GATE.tokens, 1)
    known = GATE.results.get(run_key(run))
    return simulate(run) if known is None else {name: known[name] for name in COUNTS + DRAM_COUNTS + UTILISATIONS}


def counted(step, left, failure):
    """The function `step`, which kills the process or raises an error when `left` steps have been taken."""

    @functools.wraps(step)
    def one(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            if failure == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(failure, os.strerror(failure))
        return step(*args, **kwargs)

    return one


def command(store, jobs, tokens, came, stdout, stderr, results, at_step, largest_file):
    """Run `make simulate` on `MATMULS`; the four after `jobs` are ends of pipes."""
    multiprocessing.set_start_method("fork", force=True)  # the default where it did not come from a forkserver
    os.setpgid(0, 0)
    os.dup2(stdout.fileno(), 1)
    os.dup2(stderr.fileno(), 2)
    for each in (stdout, stderr):
        each.close()
    GATE.tokens, GATE.came, GATE.results = tokens.fileno(), came.fileno(), results
    campaign.paper_matmuls, campaign.simulate = (lambda: MATMULS), gated
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if at_step is not None:
        number, failure = at_step
        left = [number]
        for where, name in STEPS:
            setattr(where, name, counted(getattr(where, name), left, failure))
    sys.argv = ["campaign", str(store), "--jobs", str(jobs)]
    campaign.main()


class Started:
    """A campaign in a process of its own; `results` (by key) are those that need no SCALE-Sim.

    `at_step`: the number of a step on disk, and how it fails. `largest_file`: to how many bytes a file can grow.
    """

    def __init__(self, store, jobs=1, results=None, at_step=None, largest_file=None):
        (tokens, self.tokens), (self.came, came) = PROCESSES.Pipe(duplex=False), PROCESSES.Pipe(duplex=False)
        (self.stdout, stdout), (self.stderr, stderr) = PROCESSES.Pipe(duplex=False), PROCESSES.Pipe(duplex=False)
        ends = tokens, came, stdout, stderr
        self.process = PROCESSES.Process(
            target=command, args=(store, jobs, *ends, results or {}, at_step, largest_file)
        )
        self.process.start()
        for end in ends:
            end.close()  # of these pipes, only the campaign and its processes have these ends now

    def wait_for(self, number):
        """Wait until so many runs have come to the gate since the last time, or the campaign has ended."""
        while number and (came := os.read(self.came.fileno(), number)):
            number -= len(came)

    def let(self, number):
        """Let so many runs through the gate."""
        os.write(self.tokens.fileno(), b"." * number)

    def end(self):
        """Let all runs through, and wait for the end; returns the exit status, stdout and stderr.

        That a pipe has ended also says that no process of the campaign is left.
        """
        self.tokens.close()
        try:
            said = [read_to_the_end(pipe) for pipe in (self.stdout, self.stderr)]
        except AssertionError:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
        self.process.join()
        for pipe in (self.came, self.stdout, self.stderr):
            pipe.close()
        return self.process.exitcode, *said

    def kill(self, group):
        """Kill the campaign, with its processes or alone."""
        (os.killpg if group else os.kill)(self.process.pid, signal.SIGKILL)
        return self.end()


def read_to_the_end(pipe, seconds=30):
    text, deadline = b"", time.monotonic() + seconds
    while True:
        assert select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0], f"still running: {text!r}"
        more = os.read(pipe.fileno(), 65536)
        if not more:
            return text.decode()
        text += more
