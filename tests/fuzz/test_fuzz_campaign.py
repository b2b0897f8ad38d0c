"""Campaigns that are started, killed, interrupted, run out of disk and started again, in any order."""

import os
import re
import shutil
import signal
import time
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import psutil
from campaigns import FAILURES, MATMULS, Started
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from inputs import EXAMPLES, SETTINGS

from llmamdahl.errors import CutOffError
from llmamdahl.scalesim.store import by_key, needed_runs, read_runs

KEPT = "every finished run is kept, and the next campaign resumes from there"
NUMBER = len(needed_runs(MATMULS))
HAPPENED = Counter()
"""What the campaigns of all examples went through."""


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@cache
def uninterrupted():
    """The files of a store that was filled without interruption, and its rows."""
    folder = Path(mkdtemp())
    status, stdout, stderr = Started(folder, jobs=2).end()
    assert (status, stderr) == (0, "") and f"{NUMBER} runs simulated now, {NUMBER} in total; " in stdout
    files, rows = content(folder), read_runs(folder)
    shutil.rmtree(folder)
    return files, rows


class Campaigns(RuleBasedStateMachine):
    """One store, at most one campaign that is at work, and the rows that must be there."""

    def __init__(self):
        super().__init__()
        self.store = Path(mkdtemp()) / "store"
        self.running = None
        self.seen = {}

    def started(self, **started):
        """The results are those of SCALE-Sim, which takes longer than all the rest."""
        return Started(self.store, results=uninterrupted()[1], **started)

    def rows(self):
        """The rows on disk and whether the file ends with a line that was cut off."""
        if not (self.store / "runs.csv").exists():
            return {}, False
        try:
            return read_runs(self.store), False  # raises for a duplicate or a damaged row
        except CutOffError as error:
            return by_key(error.rows), True

    def missing(self):
        return NUMBER - len(self.rows()[0])

    @invariant()
    def nothing_is_lost_or_changed(self):
        now, _ = self.rows()
        assert self.seen.items() <= now.items() <= uninterrupted()[1].items()
        self.seen = now
        matmuls = self.store / "matmuls.csv"
        assert not matmuls.exists() or matmuls.read_bytes() == uninterrupted()[0]["matmuls.csv"]

    def over(self, how=Started.end):
        """The campaign at work ends."""
        running, self.running = self.running, None
        return how(running)

    def ended(self, ending, *expected):
        """Check how a campaign ended: its status, one of `expected`, and that it said so in one line."""
        status, stdout, stderr = ending
        assert status in expected, ending
        *before, last = stderr.splitlines() or [""]
        unread = (status == -signal.SIGKILL and not stderr) or (not before and last.endswith(KEPT))
        if self.was_cut and not unread:  # it did not end before it had read the file
            first = before.pop(0) if before else last
            assert first.endswith("the last line is cut off (no newline at its end); that run is simulated again")
            last = "" if first is last else last
        assert not before, stderr
        if status == 0:
            assert last == "" and f"{self.to_do} runs simulated now, {NUMBER} in total; " in stdout
            assert content(self.store) == uninterrupted()[0]
        elif status == 1:
            assert last.endswith(f"; {KEPT}"), stderr
        return last

    # Which row is on disk when a campaign ends can depend on the machine. So no rule and no draw depends on it: a rule
    # that needs a campaign at work starts one, and one that needs none kills it.

    @rule(jobs=st.integers(1, 3))
    def start(self, jobs):
        if self.running:
            self.kill(group=True)
        self.begin(jobs)

    def begin(self, jobs=2):
        self.was_cut, self.to_do, self.jobs = self.rows()[1], self.missing(), jobs
        HAPPENED["resumed"] += 0 < self.to_do < NUMBER
        self.running = self.started(jobs=jobs)
        self.running.wait_for(min(jobs, self.to_do))

    def at_work(self):
        """Whether a campaign is at work, which now waits for tokens; it has none to wait for in a complete store."""
        if not self.running:
            self.begin()
        if not self.missing():
            self.finish()
        return self.running is not None

    @rule(number=st.integers(1, 8))
    def let_runs_finish(self, number):
        if self.at_work() and number < (missing := self.missing()):
            self.running.let(number)
            self.running.wait_for(max(0, min(number, missing - self.jobs)))  # those that take the places of these
            deadline = time.monotonic() + 30
            while self.missing() > missing - number:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            HAPPENED["runs finished"] += 1

    @rule()
    def finish(self):
        if not self.running:
            self.begin()
        self.ended(self.over(), 0)

    @rule(group=st.booleans())
    def kill(self, group):
        if self.at_work():
            self.ended(self.over(lambda running: running.kill(group)), -signal.SIGKILL)
            HAPPENED["killed"] += 1

    @rule()
    def interrupt(self):
        if self.at_work():
            os.killpg(self.running.process.pid, signal.SIGINT)  # as Ctrl-C does
            assert self.ended(self.over(), 1) == f"stopped; {KEPT}"
            HAPPENED["interrupted"] += 1

    @rule(which=st.integers(0, 2))
    def kill_a_worker(self, which):
        if self.at_work():
            workers = psutil.Process(self.running.process.pid).children()
            assert len(workers) == self.jobs
            workers[which % len(workers)].kill()
            # none, if the other one finished the last run before the campaign noticed
            assert self.ended(self.over(), 0, 1) in ("", f"a worker was killed (out of memory?); {KEPT}")
            HAPPENED["worker killed"] += 1

    @rule()
    def second_start(self):
        if self.at_work():
            before, pid = content(self.store), self.running.process.pid
            status, _, stderr = self.started().end()
            refused = rf"the store {self.store} is locked by process {pid} on \S+; retry when it has finished\n"
            assert status == 1 and re.fullmatch(refused, stderr), stderr
            assert content(self.store) == before
            HAPPENED["refused"] += 1

    def none_at_work(self):
        if self.running:
            self.kill(group=False)

    def until_it_ends(self, *expected, **started):
        self.was_cut, self.to_do, self.running = self.rows()[1], self.missing(), self.started(**started)
        ending = self.over()
        self.ended(ending, *expected)
        return ending[0]

    @rule(more=st.integers(-3000, 3000), jobs=st.integers(1, 2))
    def disk_full(self, more, jobs):
        """No file may grow beyond its present size, and `more` bytes."""
        self.none_at_work()
        path = self.store / "runs.csv"
        size = path.stat().st_size if path.exists() else 0
        status = self.until_it_ends(0, 1, largest_file=max(0, size + more), jobs=jobs)
        HAPPENED["disk full"] += status == 1

    @rule(step=st.integers(1, 40), failure=st.sampled_from(FAILURES))
    def step_on_disk(self, step, failure):
        """The process is killed before a step on disk, or the step fails."""
        self.none_at_work()
        status = self.until_it_ends(0, -signal.SIGKILL if failure == "kill" else 1, at_step=(step, failure))
        HAPPENED[failure if status else "all steps done"] += 1

    @rule(share=st.floats(0, 1, exclude_max=True))
    def power_is_cut(self, share):
        """A part of the last row did not reach the disk; then that row was not recorded."""
        self.none_at_work()
        rows, cut = self.rows()
        if rows and not cut:
            path = self.store / "runs.csv"
            text = path.read_bytes()
            last = text.splitlines(keepends=True)[-1]
            path.write_bytes(text[: len(text) - 1 - int(share * (len(last) - 1))])
            self.seen, cut = self.rows()
            assert cut and len(self.seen) == len(rows) - 1
            HAPPENED["line cut"] += 1

    def teardown(self):
        self.none_at_work()
        self.nothing_is_lost_or_changed()
        assert self.until_it_ends(0, jobs=2) == 0
        shutil.rmtree(self.store.parent)


def test_campaigns_in_any_order():
    HAPPENED.clear()
    examples = max(1, EXAMPLES // 20)  # each starts tens of processes
    run_state_machine_as_test(Campaigns, settings=settings(SETTINGS, max_examples=examples, stateful_step_count=20))
    expected = ["resumed", "killed", "disk full"]
    if EXAMPLES >= 1000:  # of fewer, some may meet only complete stores on a slow machine
        expected += ["refused", "runs finished", "interrupted", "worker killed", "line cut", "all steps done"]
        expected += FAILURES
    assert EXAMPLES < 200 or all(HAPPENED[each] for each in expected), HAPPENED
