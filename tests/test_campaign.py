"""The campaign: the store it makes, and that no stored run is lost or damaged when it is stopped."""

import multiprocessing
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from llmamdahl.errors import CutOffError, InputError
from llmamdahl.hardware import SystolicArray
from llmamdahl.scalesim import campaign
from llmamdahl.scalesim.campaign import fill_store, locked
from llmamdahl.scalesim.executors import MEMORY, Worker
from llmamdahl.scalesim.simulator import Run, simulate
from llmamdahl.scalesim.store import by_key, needed_runs, paper_matmuls, read_matmuls, read_runs

TINY = [Run(1, 9, 20, SystolicArray(4, 4, dataflow)) for dataflow in ("os", "ws", "is")]

SEVERAL = """
import multiprocessing, os
multiprocessing.set_start_method("fork", force=True)  # the default where it did not come from a forkserver
os.setpgid(0, 0)
from llmamdahl.scalesim import campaign
from llmamdahl.hardware import SystolicArray
from llmamdahl.scalesim.simulator import Run

campaign.paper_matmuls = lambda: [
    Run(m, n, 40, SystolicArray(4, 4, flow)) for m in (1, 2, 3) for n in (9, 14, 21) for flow in ("os", "ws", "is")
]
"""
"""What a process of `started` runs first: it makes its own process group, and replaces the paper's MatMuls by 27."""

PROCESSES = multiprocessing.get_context("forkserver")  # fast to start, and forked from a process without threads
PROCESSES.set_forkserver_preload(
    ["llmamdahl.scalesim.campaign", "scalesim.single_layer_sim", "scalesim.topology_utils"]
)


class Here(Executor):
    """Runs each submitted function immediately, in this process."""

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        future.set_result(function(*args, **kwargs))
        return future


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(campaign, "paper_matmuls", lambda: TINY)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def started(code, store, **names):
    """A process that runs `SEVERAL` and then `code`, with `store` and `names` as global names."""
    names |= {"store": store}
    process = PROCESSES.Process(target=exec, args=(f"{SEVERAL}\n{code}", names))
    process.start()
    return process


def command(store, first=""):
    """Run `make simulate` on `SEVERAL`, after the lines `first`; returns its exit status and its stderr."""
    stderr = store.with_suffix(".stderr")
    process = started(f"import sys\nsys.stderr = open({str(stderr)!r}, 'w')\n{first}\n{COMMAND}", store)
    process.join()
    return process.exitcode, stderr.read_text(encoding="utf-8")


def killed(process):
    """Kill the process group, unless the process has ended by itself; returns whether it was killed."""
    if process.exitcode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not made its group yet
            process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def finished_rows(folder):
    if not (folder / "runs.csv").exists():
        return {}
    try:
        return read_runs(folder)  # raises for a duplicate and a damaged line
    except CutOffError as error:
        return by_key(error.rows)


CAMPAIGN = "campaign.fill_store(store, jobs=2)"

COMMAND = """
sys.argv = ["campaign", str(store), "--jobs", "2"]
campaign.main()
"""

INSTEAD = """
def simulate(run):
    {}

simulate.__module__ = "llmamdahl.scalesim.campaign"  # forked pool processes find it under this name
campaign.simulate = simulate
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A store of `SEVERAL` that was filled without interruption, and the seconds that took."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    started("", folder).join()  # the first one is slow
    start = time.monotonic()
    process = started(CAMPAIGN, folder)
    process.join()
    assert process.exitcode == 0
    return folder, time.monotonic() - start


def test_campaign_fills_a_store(tiny, tmp_path):
    tmp_path = tmp_path / "new" / "store"
    assert fill_store(tmp_path, Here()) == len(needed_runs(TINY))
    first = content(tmp_path)
    assert set(first) == {"runs.csv", "matmuls.csv"}
    assert fill_store(tmp_path, Here()) == 0
    assert content(tmp_path) == first
    for matmul in TINY:
        reported = simulate(matmul)
        row = read_matmuls(tmp_path).query("dataflow == @matmul.array.dataflow").iloc[0]
        assert {name: row[name] for name in reported} == reported


def test_a_line_that_was_cut_off_is_simulated_again(tiny, tmp_path, capsys):
    fill_store(tmp_path, Here())
    whole = content(tmp_path)
    path = tmp_path / "runs.csv"
    path.write_bytes(path.read_bytes()[:-17])
    assert fill_store(tmp_path, Here()) == 1
    assert "the last line is cut off (no newline at its end); that run is simulated again" in capsys.readouterr().err
    assert content(tmp_path) == whole


def test_a_file_with_columns_in_another_order_is_completed(tiny, tmp_path):
    fill_store(tmp_path, Here())
    whole = content(tmp_path)
    lines = [line.split(",") for line in whole["runs.csv"].decode().splitlines()]
    moved = [",".join([*cells[1:], cells[0]]) for cells in lines[:4]]
    (tmp_path / "runs.csv").write_text("\n".join(moved) + "\n", encoding="utf-8")
    assert fill_store(tmp_path, Here()) == len(lines) - 4
    assert content(tmp_path) == whole


def test_a_campaign_that_fails_keeps_its_runs_and_resumes(tiny, tmp_path, monkeypatch):
    calls = []

    def fails_at_the_third(run):
        calls.append(run)
        if len(calls) == 3:
            raise RuntimeError("the machine is on fire")
        return simulate(run)

    with monkeypatch.context() as patch:
        patch.setattr(campaign, "simulate", fails_at_the_third)
        with pytest.raises(RuntimeError, match="on fire"):
            fill_store(tmp_path, Here(), jobs=1)
    assert len(read_runs(tmp_path)) == 2
    assert b"\r" not in (tmp_path / "runs.csv").read_bytes()
    assert not (tmp_path / "matmuls.csv").exists()
    assert fill_store(tmp_path, Here()) == len(needed_runs(TINY)) - 2


def test_a_failed_run_does_not_lose_the_runs_that_finished_with_it(tiny, tmp_path):
    class First(Here):
        """The first run in flight fails, and the others have finished."""

        def submit(self, function, /, *args, **kwargs):
            if not submitted:
                future = Future()
                future.set_exception(BrokenProcessPool("killed"))
            else:
                future = super().submit(function, *args, **kwargs)
            submitted.append(future)
            return future

    submitted: list = []
    with pytest.raises(BrokenProcessPool):
        fill_store(tmp_path, First(), jobs=5)
    assert len(submitted) == 5
    assert len(read_runs(tmp_path)) == 4


@pytest.fixture
def in_flight(monkeypatch):
    """Run a campaign on the paper's runs with made-up results; returns the runs in flight at each submission."""

    def watch(store, **workers):
        flying, seen = {}, []

        class Slow(Executor):
            def submit(self, function, /, run):
                future = Future()
                flying[future] = run
                seen.append(list(flying.values()))
                return future

        def wait(futures, **_):
            assert set(futures) == set(flying)
            first = next(iter(flying))
            del flying[first]
            first.set_result(result)
            return SimpleNamespace(done={first})

        monkeypatch.setattr(campaign, "wait", wait)
        monkeypatch.setattr(campaign, "matmul_row", lambda *_: dict.fromkeys(campaign.MATMUL_COLUMNS))
        fill_store(store, Slow(), **workers)
        return seen

    result = simulate(TINY[0])
    return watch


def test_longest_first_within_the_memory_of_this_machine(in_flight, tmp_path):
    paper = needed_runs(paper_matmuls())
    assert [run.weight for run in paper] == sorted((run.weight for run in paper), reverse=True)
    seen = in_flight(tmp_path, jobs=40)
    assert seen[0] == paper[:1]
    assert {run for runs in seen for run in runs} == set(paper) and len(seen) == len(paper)
    assert max(len(runs) for runs in seen) == 40
    assert max(sum(run.memory for run in runs) for runs in seen) <= MEMORY


def test_weight_and_memory_of_a_run_by_hand():
    """Four folds of 20 + 2 * 4 + 8 cycles, each of which steps 4 + 2 * 8 ports."""
    run = Run(5, 9, 20, SystolicArray(4, 8, "os"))
    assert run.weight == 5 * 9 * 20 + 4 * 36 * 20 // 32
    assert run.memory == 400 * 5 * 9 * 20 + 150_000_000


def test_any_worker_of_a_cluster_can_hold_the_largest_runs_in_flight(in_flight, tmp_path):
    seen = in_flight(tmp_path, workers=lambda: [Worker(2, 5_000_000_000), Worker(1, 4_000_000_000)])
    assert max(len(runs) for runs in seen) == 3
    for runs in seen:
        largest, *others = sorted((run.memory for run in runs), reverse=True)
        assert largest <= 4_000_000_000
        assert largest + max(others, default=0) <= 5_000_000_000


@pytest.mark.parametrize(("memory", "shown"), [(0, "0.0"), (3_900_000_000, "3.9")])
def test_a_worker_too_small_for_a_run_is_rejected_before_the_first_run(in_flight, tmp_path, memory, shown):
    workers = [Worker(1, 9_000_000_000), Worker(1, memory)]
    with pytest.raises(InputError, match=rf"^memory: a run needs 3\.\d+ GB, and every worker .* one has {shown}"):
        in_flight(tmp_path, workers=lambda: workers)
    assert read_runs(tmp_path) == {}


def test_memory_may_be_used_to_the_last_byte():
    small, large = sorted(TINY, key=lambda run: run.memory)[::2]
    campaign._check_memory([small, large], [Worker(1, large.memory)])
    with pytest.raises(InputError, match=r"^memory: a run needs "):
        campaign._check_memory([small, large], [Worker(1, large.memory - 1)])
    assert campaign._fit([small, large], [Worker(2, small.memory + large.memory)])
    assert not campaign._fit([small, large], [Worker(2, small.memory + large.memory - 1)])
    assert not campaign._fit([small, large], [Worker(1, small.memory + large.memory)])


def test_a_cluster_that_lost_its_workers_is_given_up_and_one_that_has_some_is_waited_for(monkeypatch, tmp_path):
    class Stuck(Executor):
        def submit(self, function, /, run):
            return Future()

    monkeypatch.setattr(campaign, "LOST_SECONDS", 0.01)
    answers = iter([[Worker(9, MEMORY)]] * 8)
    with pytest.raises(BrokenExecutor, match=r"no worker is left after 0\.01 seconds; see the workers' logs"):
        fill_store(tmp_path, Stuck(), workers=lambda: next(answers, []))
    assert next(answers, None) is None


def test_a_cluster_without_a_worker_for_a_while_gets_one_run_until_it_has_one(tiny, tmp_path):
    started, answers = [], iter([[], [], [Worker(1, MEMORY)], []])

    class Counting(Here):
        def submit(self, function, /, run):
            started.append(run)
            return super().submit(function, run)

    number = fill_store(tmp_path, Counting(), workers=lambda: next(answers, [Worker(2, MEMORY)]))
    assert started == needed_runs(TINY) and number == len(started)
    assert not campaign._fit(started[:2], [])


def test_progress_counts_runs_and_their_weights(tiny, tmp_path, monkeypatch):
    shown = []

    class Bar:
        def __init__(self, **settings):
            shown.append(settings["total"])

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        update = set_postfix_str = lambda self, value: shown.append(value)

    monkeypatch.setattr("tqdm.tqdm", Bar)
    number = fill_store(tmp_path, Here())
    weights = [run.weight for run in needed_runs(TINY)]
    assert (shown[0], sorted(shown[1::2])) == (sum(weights), sorted(weights))
    assert shown[2::2] == [f"{done}/{number} runs" for done in range(1, number + 1)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "stopped; every finished run is kept, and the next campaign resumes from there"),
        (BrokenProcessPool(), "a worker was killed (out of memory?); every finished run is kept, and the next"),
        (BrokenExecutor("the cluster is gone"), "STORE: the cluster is gone; every finished run is kept, and the"),
        (OSError("no space left"), "STORE: no space left; every finished run is kept, and the next campaign resumes"),
        (InputError("jobs: 0"), "jobs: 0"),
    ],
)
def test_the_command_says_what_stopped_it(error, said, monkeypatch, tmp_path):
    asked = []

    def fails(store, **settings):
        asked.append((store, settings))
        raise error

    monkeypatch.setattr(campaign, "fill_store", fails)
    monkeypatch.setitem(campaign.MODELS, "paper", lambda: TINY)
    monkeypatch.setattr(sys, "argv", ["campaign", str(tmp_path), "--jobs", "3"])
    with pytest.raises(SystemExit, match="^" + re.escape(said.replace("STORE", str(tmp_path)))):
        campaign.main()
    assert asked == [(tmp_path, {"jobs": 3, "matmuls": TINY})]


def test_there_are_as_many_jobs_as_cores(tiny, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(campaign, "processes", lambda jobs: asked.append(jobs) or nullcontext(Here()))
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    fill_store(tmp_path)
    assert asked == [5]


def test_a_failed_run_is_one_that_was_cancelled_or_has_an_error():
    good, bad, cancelled = Future(), Future(), Future()
    good.set_result({})
    bad.set_exception(OSError())
    assert cancelled.cancel()
    assert [campaign._failed(future) for future in (good, bad, cancelled)] == [False, True, True]


@pytest.mark.parametrize("bad", [0, -1, 1.5])
def test_a_bad_number_of_jobs_is_named(tmp_path, bad):
    with pytest.raises(InputError, match=rf"^jobs: {bad} is not a positive whole number"):
        fill_store(tmp_path, jobs=bad)


def test_20_kills_at_random_moments_lose_nothing(uninterrupted, tmp_path):
    """Campaigns are killed with their workers and started again; each ends with the store of one that was not."""
    reference, seconds = uninterrupted
    stored, moment = read_runs(reference), random.Random(6)
    kills, resumed, store, seen = 0, 0, tmp_path / "0", {}
    while kills < 20 or seen:
        process = started(CAMPAIGN, store)
        process.join(moment.uniform(0, seconds / 2) if kills < 20 else None)
        if killed(process):
            kills += 1
            now = finished_rows(store)
            assert seen.items() <= now.items() <= stored.items()
            resumed += len(seen) < len(now)
            seen = now
        else:
            assert process.exitcode == 0
            assert content(store) == content(reference)
            store, seen = tmp_path / str(kills), {}
    assert resumed >= 10  # most kills hit a campaign that had stored something


def test_a_kill_before_any_step_on_disk_loses_nothing(uninterrupted, tmp_path):
    """One kill before each sync, replacement and removal of a file, from the first rewriting to the last."""
    stored, whole = (kind(uninterrupted[0]) for kind in (read_runs, content))
    code = """
import os, signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

def counted(step):
    def one(*args, **kwargs):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*args, **kwargs)
    return one

os.fsync, Path.replace, Path.unlink = map(counted, (os.fsync, Path.replace, Path.unlink))
campaign.fill_store(store, ThreadPoolExecutor(1), jobs=1)
"""
    base = tmp_path / "base"  # lacks only the last rows, so that few steps are of the same kind
    base.mkdir()
    lines = whole["runs.csv"].splitlines(keepends=True)
    (base / "runs.csv").write_bytes(b"".join(lines[:-3]))
    (base / "matmuls.csv").write_bytes(b"old\n")
    before, step, seen = read_runs(base), 0, set()
    while True:
        step += 1
        store = tmp_path / str(step)
        shutil.copytree(base, store)
        process = started(f"left = {step}\n{code}", store)
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        now = finished_rows(store)
        assert before.items() <= now.items() <= stored.items()
        assert (store / "matmuls.csv").read_bytes() in (b"old\n", whole["matmuls.csv"])
        seen.add((len(now) - len(before), *sorted(re.sub(r"\d+", "PID", name) for name in content(store))))
        resumed = started(CAMPAIGN, store)
        resumed.join()
        assert resumed.exitcode == 0
        assert content(store) == whole
    assert content(store) == whole
    assert step > 10
    files = (".lock", "matmuls.csv", "runs.csv")
    # the draft of the first rewriting, one to three rows appended, the draft of each file in the last rewriting
    drafts = {(0, ".lock", ".runs.csv.PID", *files[1:]), (3, ".lock", ".runs.csv.PID", *files[1:])}
    assert drafts | {(3, ".lock", ".matmuls.csv.PID", *files[1:])} | {(rows, *files) for rows in range(4)} <= seen


def running_campaign(store):
    """Start a campaign of two processes that never end; returns it, and a pipe that these processes keep open."""
    reader, writer = PROCESSES.Pipe(duplex=False)
    process = started(INSTEAD.format("held.send(1); import time; time.sleep(600)") + CAMPAIGN, store, held=writer)
    writer.close()
    assert reader.recv() == reader.recv() == 1
    return process, reader


def test_the_processes_of_a_killed_campaign_exit(tmp_path):
    process, reader = running_campaign(tmp_path)
    process.kill()
    assert reader.poll(10)
    with pytest.raises(EOFError):  # no process holds the other end
        reader.recv()


def test_a_second_campaign_on_a_store_is_rejected(uninterrupted, tmp_path):
    first, _ = running_campaign(tmp_path)
    before = content(tmp_path)
    start = time.monotonic()
    second = subprocess.run(
        [sys.executable, "-m", "llmamdahl.scalesim.campaign", str(tmp_path)], capture_output=True, text=True, timeout=30
    )
    assert second.returncode == 1
    assert re.fullmatch(
        rf"the store {tmp_path} is locked by process {first.pid} on \S+; retry when it has finished\n", second.stderr
    )
    assert time.monotonic() - start < 10
    with pytest.raises(InputError, match=f"is locked by process {first.pid} on "):
        fill_store(tmp_path, Here())
    assert content(tmp_path) == before
    first.kill()
    first.join()
    third = started(CAMPAIGN, tmp_path)  # starts at once, although the first could not clean up
    third.join()
    assert third.exitcode == 0
    assert content(tmp_path) == content(uninterrupted[0])


def test_a_process_that_outlives_a_campaign_does_not_hold_its_lock(tmp_path):
    """The processes of an executor that the caller made can do so."""
    code = """
import time
from llmamdahl.scalesim.campaign import locked
with locked(store):
    if os.fork() == 0:
        held.send(os.getpid())
    time.sleep(600)
"""
    reader, writer = PROCESSES.Pipe(duplex=False)
    process = started(code, tmp_path, held=writer)
    outlives = reader.recv()
    with pytest.raises(InputError, match=f"is locked by process {process.pid} on "):
        with locked(tmp_path):
            pass
    process.kill()
    process.join()
    with locked(tmp_path):
        os.kill(outlives, signal.SIGKILL)  # raises if it had ended
    assert content(tmp_path) == {}


def test_the_lock_names_its_holder_and_is_exclusive_within_a_process_too(tmp_path):
    (tmp_path / ".lock").write_text("process 4000000 on a-host-with-a-long-name, which was killed", encoding="utf-8")
    with locked(tmp_path):
        holder = (tmp_path / ".lock").read_text(encoding="utf-8")
        assert holder == f"process {os.getpid()} on {platform.node()}"
        with pytest.raises(InputError, match=re.escape(f"the store {tmp_path} is locked by {holder}; retry when")):
            with locked(tmp_path):
                pass
    assert content(tmp_path) == {}
    with locked(tmp_path):
        pass


@pytest.fixture
def most(uninterrupted, tmp_path):
    """A store that lacks the last ten runs."""
    store = tmp_path / "store"
    shutil.copytree(uninterrupted[0], store)
    lines = (store / "runs.csv").read_bytes().splitlines(keepends=True)
    (store / "runs.csv").write_bytes(b"".join(lines[:-10]))
    return store


KEPT = r".*; every finished run is kept, and the next campaign resumes from there\n"


def test_a_killed_worker_is_reported(uninterrupted, most):
    before = read_runs(most)
    assert command(most, INSTEAD.format("os.kill(os.getpid(), 9)")) == (1, Matching(f"a worker was killed{KEPT}"))
    assert read_runs(most) == before
    assert command(most) == (0, "")
    assert content(most) == content(uninterrupted[0])


def test_processes_end_although_one_was_killed_with_the_lock_on_their_queue(tmp_path):
    """Here nobody holds the lock, and nobody releases it."""
    code = """
from llmamdahl.scalesim.executors import processes
reader, writer = os.pipe()
with processes(2) as pool:
    for _ in range(2):
        pool.submit(os.read, reader, 1)
    pool._call_queue._rlock.acquire()  # a process that waits for work has it, one that reads has not
    os.write(writer, b"..")
"""
    process = started(code, tmp_path)
    process.join(30)
    assert not killed(process) and process.exitcode == 0


def test_ctrl_c_while_processes_start_is_one_line(tmp_path):
    late = """
import signal, time
from llmamdahl.scalesim import executors
start, once = executors._start_process, multiprocessing.Lock()

def late(*pipe):  # Ctrl-C comes here first
    if once.acquire(block=False):
        os.killpg(0, signal.SIGINT)
    time.sleep(0.1)
    start(*pipe)

executors._start_process = late
"""
    assert command(tmp_path / "store", late) == (1, Matching(f"stopped{KEPT}"))


class Matching(str):
    """A regular expression that equals every string it matches."""

    def __eq__(self, other):
        return re.fullmatch(str(self), other) is not None

    __hash__ = str.__hash__


LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"


def test_a_full_disk_loses_no_finished_run(uninterrupted, most):
    before = content(most)
    size = len(before["runs.csv"])
    too_large = Matching(rf"{most}: \[Errno 27\] File too large{KEPT}")
    assert command(most, LIMIT.format(size - 1)) == (1, too_large)  # no room to rewrite it
    assert content(most) == before
    assert command(most, LIMIT.format(size + 40)) == (1, too_large)  # no room for one more row
    after = content(most)
    assert after.keys() == before.keys()
    assert after["matmuls.csv"] == before["matmuls.csv"]
    assert after["runs.csv"][:size] == before["runs.csv"]
    assert len(after["runs.csv"]) == size + 40  # a line cut off
    status, stderr = command(most)
    assert (status, stderr.count("\n")) == (0, 1)
    assert "the last line is cut off (no newline at its end); that run is simulated again" in stderr
    assert content(most) == content(uninterrupted[0])


def test_a_read_only_store_is_reported_and_stays_as_it_is(most):
    before = content(most)
    most.chmod(0o555)
    as_nobody = """
from pathlib import Path
os.chdir(store)
store = Path(".")
if os.geteuid() == 0:  # root ignores permissions
    os.seteuid(65534)
"""
    # the path is the lock file or, where nobody may not enter pytest's folder, the store
    assert command(most, as_nobody) == (1, Matching(rf"\.: \[Errno 13\] Permission denied: '{most}(/\.lock)?'{KEPT}"))
    most.chmod(0o755)
    assert content(most) == before


def test_a_row_of_another_simulator_version_is_rejected(most):
    path = most / "runs.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:6], lines[6].replace("2.0.2", "3.0.0"), *lines[7:], "1,2"]), encoding="utf-8")
    before = content(most)
    rejected = Matching(
        r".*/runs\.csv, line 7: simulator_version: 3\.0\.0 is not 2\.0\.2; make simulate STORE=folder .*\n"
    )
    assert command(most) == (1, rejected)  # and leaves the last line, which is cut off
    assert content(most) == before


def test_a_file_in_place_of_the_store_is_reported_and_kept(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    status, stderr = command(tmp_path / "file")
    assert (status, stderr.count("\n")) == (1, 1) and "File exists" in stderr
    assert (tmp_path / "file").read_bytes() == b"mine"
