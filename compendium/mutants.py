"""`make mutants`: how many small wrong changes of the package the tests notice (mutation testing).

A sample of mutants (`compendium.mutator`), the same number from each module of `MODULES`, is written one by one into a
copy of the checkout. A mutant dies if a test fails that runs its lines. Beforehand each test file runs once under
coverage.py, in the same copy, which tells the lines and the time of each test. A mutant meets the tests of its lines
and then the other tests of files that reach them (because of caches, only the first test runs some lines), the fastest
up to `SECONDS` in all; those of the likeliest files come first. So a survivor may still die in `make test`: tests left
out here are slow, start processes of their own, compare times, or need an extra.

Each mutant has a process, forked from one that has imported the libraries, but not the package. So imports are as in a
new process, and cost half a second instead of three.

Why not mutmut or cosmic-ray: mutmut 3.8 mutates bodies of functions alone, so neither fields of dataclasses nor tables
nor anything decorated (each `property` and `cache`), and draws no sample. Cosmic-ray 8.7 writes into the checkout, and
starts pytest anew for each mutant, on all tests.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gc
import importlib
import math
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from tqdm import tqdm

from compendium.command import writing
from compendium.mutator import Mutant, mutants, valid
from llmamdahl.errors import InputError
from llmamdahl.tables import RESULTS, ROOT, read_rows

MODULES = "amdahl systolic dram workload roofline hardware analysis models scalesim paper".split()
"""Files and folders of the package."""

ELSEWHERE = ("llmamdahl/scalesim/executors.py",)
"""Not mutated: it runs in processes of its own, or on Dask, which is an extra; `tests/test_cluster.py` starts both."""

REASONS = ROOT / "tests" / "data" / "mutants.csv"
"""Why a mutant may live: `file`, the changed lines `before` and `after`, and the `reason`; by hand."""

APART = """test_cluster test_checkout test_commands test_docs test_door test_environment test_measure test_mutants
test_pes test_verify test_wheel test_workflow""".split()
"""Files that start processes, or look at the checkout itself; so do `tests/notebooks` and `browser`."""

LIBRARIES = """IPython click coverage filelock hypothesis.extra.numpy ipywidgets matplotlib.pyplot nbformat numpy pandas
scalesim.scale_sim seaborn yaml""".split()
"""Imported once, for all mutants."""

FIRST = 4
"""Test files whose tests of the mutated lines come first."""
SECONDS = 30
"""Of tests, for one mutant: processor time that they took without it, under coverage.py."""
SLOW = 20
"""Seconds of processor time above which a test is left out."""
PATIENCE = 5
"""How many times longer than without the mutant a test may compute, and seconds added to that."""
STUCK = 180
"""Seconds after which a process that has not ended is killed; there is no limit without a mutant."""
MEMORY = 8 << 30
"""Bytes of address space of a process that runs tests."""
CONTROLS = 4
"""Times that tests run without a mutant: if one fails, a death means nothing."""

Line = tuple[str, int]
"""A file of the package, and a line of it."""

KILLED, TIMED_OUT, SURVIVED = "killed", "timed_out", "survived"


class Timed(NamedTuple):
    """What one test did without a mutant."""

    name: str
    seconds: float
    lines: frozenset[Line]

    @property
    def file(self) -> str:
        """Of the test, relative to the checkout."""
        return self.name.split("::")[0]


class Suite(NamedTuple):
    """A file of tests: `lines` are those that any of them runs, or that run when it is imported."""

    tests: tuple[Timed, ...]
    lines: frozenset[Line]

    def affinity(self, file: str) -> float:
        """How much of what its tests run is in one file of the package."""
        ran = frozenset[Line]().union(*(test.lines for test in self.tests))
        return sum(where == file for where, _ in ran) / max(len(ran), 1)


class Recorder:
    """A pytest plugin that notes the time and the lines of each test."""

    def __init__(self, coverage: Any):
        self.coverage = coverage
        self.seconds: dict[str, float] = {}
        self.skipped: set[str] = set()
        self.failed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        """One test, with its setup."""
        self.coverage.switch_context(item.nodeid)
        begun = sum(os.times()[:4])
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = sum(os.times()[:4]) - begun
            self.coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember the tests that notice nothing, and those that fail although nothing is wrong."""
        if report.skipped:
            self.skipped.add(report.nodeid)
        if report.failed:
            self.failed.append(report.nodeid)


class Selection:
    """A pytest plugin that runs these tests in this order, each for a limited time."""

    def __init__(self, tests: Sequence[Timed]):
        self.places = {test.name: place for place, test in enumerate(tests)}
        self.seconds = {test.name: test.seconds for test in tests}

    def pytest_configure(self) -> None:
        """Let Hypothesis stop at the first example that fails."""
        import hypothesis  # not in the parent process: it reads settings when it is imported

        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutants", deadline=None, database=None, phases=phases)
        hypothesis.settings.load_profile("mutants")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests that were chosen."""
        items[:] = sorted((each for each in items if each.nodeid in self.places), key=lambda it: self.places[it.nodeid])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        """SIGPROF, which nobody catches, ends a process that computes for too long."""
        signal.setitimer(signal.ITIMER_PROF, PATIENCE * (self.seconds[item.nodeid] + 1))
        return (yield)


class Copy:
    """A copy of the checkout in which mutants are tried."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.seed = folder, seed
        for name in _git_files():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
        subprocess.run([sys.executable, "-m", "compileall", "-q", "llmamdahl"], cwd=folder, check=True)

    def forked(self, work: Callable[[], int], limit: float = math.inf) -> int:
        """The exit status of a process that does `work` with the package of this copy, or minus a signal."""
        with (self.folder.parent / "output").open("wb") as output:
            child = os.fork()
            if not child:
                status = 70
                try:
                    self._enter(output.fileno())
                    status = work()
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(status)
        try:
            return _ended(child, limit)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # what tests have started, and the child itself after Ctrl-C

    def _enter(self, output: int) -> None:
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(self.folder)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.dont_write_bytecode = True
        os.environ |= {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        os.environ.pop("LLMAMDAHL_OUTPUT", None)
        sys.path[:] = [str(self.folder), *(each for each in sys.path if Path(each).resolve() != ROOT)]
        for name in [name for name in sys.modules if name.split(".")[0] in ("llmamdahl", "compendium")]:
            del sys.modules[name]

    def pytest(self, files: Iterable[str], plugin: object) -> int:
        """Run tests in this process, until one fails."""
        addopts = "--doctest-modules --doctest-ignore-import-errors --import-mode=importlib"
        plugins = [word for name in ("nbval", "xdist", "cacheprovider") for word in ("-p", f"no:{name}")]
        selected = ["-m", "not timing", *plugins, f"--hypothesis-seed={self.seed}", *files]
        return int(pytest.main(["-q", "-o", f"addopts={addopts}", *selected], plugins=[plugin]))

    def recorded(self, file: str) -> Suite:
        """Times and lines of the tests of one file, without a mutant."""

        def work() -> int:
            from coverage import Coverage

            coverage = Coverage(data_file=None, config_file=False, include=[f"{self.folder}/llmamdahl/*"])
            recorder = Recorder(coverage)
            coverage.start()
            self.pytest([file], recorder)
            coverage.stop()
            data = coverage.get_data()
            lines: dict[str, set[Line]] = {name: set() for name in ("", *recorder.seconds)}
            for path in data.measured_files():
                where = str(Path(path).relative_to(self.folder))
                for line, contexts in data.contexts_by_lineno(path).items():
                    for context in contexts:
                        lines[context].add((where, line))
            if recorder.failed:
                return 1
            kept = [name for name, spent in recorder.seconds.items() if name not in recorder.skipped and spent <= SLOW]
            tests = [(name, recorder.seconds[name], lines[name]) for name in kept]
            found.write_bytes(pickle.dumps((tests, set[Line]().union(*lines.values()))))
            return 0

        found = self.folder.parent / "recorded"
        if self.forked(work):
            raise InputError(f"{file}: its tests do not pass without a mutant:\n{self.said()}")
        tests, reached = pickle.loads(found.read_bytes())
        return Suite(tuple(Timed(name, spent, frozenset(lines)) for name, spent, lines in tests), frozenset(reached))

    def outcome(self, mutant: Mutant | None, tests: Sequence[Timed]) -> str:
        """What becomes of a mutant that meets these tests; with none, of the package as it is."""
        if not tests:
            return SURVIVED

        def work() -> int:
            signal.setitimer(signal.ITIMER_PROF, PATIENCE * 5)
            if mutant:
                try:
                    importlib.import_module(mutant.file.removesuffix(".py").replace("/", "."))
                except Exception:
                    return 1
            return self.pytest(["-x", *dict.fromkeys(test.file for test in tests)], Selection(tests))

        with self._mutated(mutant):
            status = self.forked(work, STUCK if mutant else math.inf)
        if status == 0:
            return SURVIVED
        if status in (-signal.SIGPROF, -signal.SIGKILL):
            return TIMED_OUT
        if status in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED) or status < 0:
            return KILLED
        raise InputError(f"{mutant}: the tests ended with status {status}:\n{self.said()}")

    @contextlib.contextmanager
    def _mutated(self, mutant: Mutant | None) -> Iterator[None]:
        if mutant is None:
            yield
            return
        path = self.folder / mutant.file
        source, before = path.read_text(encoding="utf-8"), path.stat()
        try:
            path.write_text(mutant.applied(source), encoding="utf-8")
            os.utime(path, (before.st_atime, before.st_mtime + 10))  # so that the compiled file is not taken for it
            yield
        finally:
            path.write_text(source, encoding="utf-8")
            os.utime(path, (before.st_atime, before.st_mtime))

    def said(self) -> str:
        """The last lines that the last process has printed."""
        return (self.folder.parent / "output").read_text(encoding="utf-8", errors="replace")[-3000:]


def _ended(child: int, limit: float) -> int:
    """The exit status of a child, or minus the signal that killed it, at the latest after so many seconds."""
    end = time.monotonic() + limit
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.01)


def _git_files() -> list[str]:
    """All files of the checkout that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def files_of(module: str) -> list[str]:
    """Python files of a module that are mutated, relative to the checkout.

    >>> files_of("amdahl")
    ['llmamdahl/amdahl.py']
    """
    path = ROOT / "llmamdahl" / module
    paths = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return [name for each in paths if (name := str(each.relative_to(ROOT))) not in ELSEWHERE]


def sampled(module: str, number: int, seed: int) -> list[Mutant]:
    """`number` mutants of a module, all with the same probability; fewer if it has fewer.

    Where a mutant stands in the draw depends on its own lines and the seed alone: of a module whose other lines change,
    the sample stays, but for the mutants of those lines.
    """
    sources = {file: (ROOT / file).read_text(encoding="utf-8") for file in files_of(module)}

    def place(mutant: Mutant) -> bytes:
        return sha256(repr((seed, mutant.file, mutant.shown(sources[mutant.file]))).encode()).digest()

    every = [mutant for file, source in sources.items() for mutant in mutants(file, source)]
    return [*islice((mutant for mutant in sorted(every, key=place) if valid(mutant, sources[mutant.file])), number)]


def suites() -> list[str]:
    """Files of tests that a mutant may meet, relative to the checkout."""
    tests = [path for part in ("tests", "tests/fuzz") for path in sorted((ROOT / part).glob("test_*.py"))]
    doctests = [
        path for path in sorted((ROOT / "llmamdahl").rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")
    ]
    return [str(path.relative_to(ROOT)) for path in [*tests, *doctests] if path.stem not in APART]


def chosen(mutant: Mutant, files: dict[str, Suite]) -> tuple[list[Timed], list[Timed]]:
    """The tests that a mutant meets first, and those that it meets if it survives."""
    lines = {(mutant.file, line) for line in mutant.lines}
    reached = [name for name, file in files.items() if file.lines & lines]
    reached.sort(key=lambda name: -files[name].affinity(mutant.file))
    ranks = {name: rank for rank, name in enumerate(reached)}
    tests = [test for name in reached for test in files[name].tests]
    # Those that run the lines, and among them the fastest, so that as many as possible fit.
    tests.sort(key=lambda test: (not test.lines & lines, test.seconds))
    within: list[Timed] = []
    spent = 0.0
    for test in tests:
        if spent + test.seconds <= SECONDS:
            within.append(test)
            spent += test.seconds
    within.sort(key=lambda test: (not test.lines & lines, ranks[test.file], test.seconds))
    likeliest = set(list(dict.fromkeys(test.file for test in within))[:FIRST])
    first = [test for test in within if test.file in likeliest]
    return first, [test for test in within if test.file not in likeliest]


def outcomes(number: int, seed: int) -> list[tuple[str, Mutant, str]]:
    """The module, the mutant and what became of it, for a sample of about `number`.

    Raises
    ------
    InputError
        Tests do not run, or one fails, without a mutant.
    """
    each, more = divmod(number, len(MODULES))
    sample = [
        (module, mutant)
        for place, module in enumerate(MODULES)
        for mutant in sampled(module, each + (place < more), seed)
    ]
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # what is there stays: a collection in a child would copy its memory
    with TemporaryDirectory() as folder:
        copy = Copy(Path(folder) / "checkout", seed)
        files = {name: copy.recorded(name) for name in tqdm(suites(), "tests", disable=None)}
        found = []
        for place, (module, mutant) in enumerate(tqdm(sample, "mutants", disable=None)):
            first, rest = chosen(mutant, files)
            if place % max(len(sample) // CONTROLS, 1) == 0 and copy.outcome(None, [*first, *rest]) != SURVIVED:
                raise InputError(f"a test fails without a mutant:\n{copy.said()}")
            outcome = copy.outcome(mutant, first)
            found.append((module, mutant, copy.outcome(mutant, rest) if outcome == SURVIVED else outcome))
    return found


def reasons() -> dict[tuple[str, str, str], str]:
    """Why some mutants may live, by file and changed lines before and after."""
    names = ("file", "before", "after", "reason")
    rows = read_rows(REASONS, dict.fromkeys(names, str), key=names[:3])
    return {(row["file"], row["before"], row["after"]): row["reason"] for row in rows}


def write(found: Sequence[tuple[str, Mutant, str]], folder: Path) -> None:
    """Write `mutants.csv` (numbers by module) and `mutants-survivors.csv`, and print them."""
    counts = Counter((module, outcome) for module, _, outcome in found)
    rows = []
    for name in [*MODULES, "all"]:
        killed, timed_out, survived = (
            sum(counts[module, outcome] for module in MODULES if name in (module, "all"))
            for outcome in (KILLED, TIMED_OUT, SURVIVED)
        )
        if number := killed + timed_out + survived:
            rows.append([name, number, killed, timed_out, survived, f"{(killed + timed_out) / number:.4f}"])
    known, survivors = reasons(), []
    for _, mutant, outcome in found:
        if outcome == SURVIVED:
            shown = mutant.shown((ROOT / mutant.file).read_text(encoding="utf-8"))
            survivors.append([mutant.file, *shown, known.get((mutant.file, *shown), "")])
    _table(folder / "mutants.csv", ["module", "sampled", KILLED, TIMED_OUT, SURVIVED, "share"], rows)
    _table(folder / "mutants-survivors.csv", ["file", "before", "after", "reason"], sorted(survivors))


def _table(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows([header, *rows])
    for row in rows:
        print(*row, sep="  ")


def main() -> None:
    """`python -m compendium.mutants`."""
    parser = argparse.ArgumentParser(description="How many mutants of the package the tests kill.")
    parser.add_argument("--sample", type=int, default=400, help="mutants, the same number from each module")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with writing():
        write(outcomes(arguments.sample, arguments.seed), RESULTS)


if __name__ == "__main__":
    main()
