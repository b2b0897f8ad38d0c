"""A campaign on a real Dask cluster on loopback gives the rows of a process pool, even if workers are killed."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Executor
from contextlib import contextmanager

import pytest

from llmamdahl.errors import InputError
from llmamdahl.hardware import SystolicArray
from llmamdahl.scalesim import campaign, executors
from llmamdahl.scalesim.campaign import fill_store
from llmamdahl.scalesim.executors import Worker, dask
from llmamdahl.scalesim.simulator import Run
from llmamdahl.scalesim.store import needed_runs

if not os.environ.get("REQUIRE_EXTRAS"):
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed: make extras")

MATMULS = [Run(1, n, k, SystolicArray(8, 8, flow)) for n in (30, 44) for k in (90, 200) for flow in ("os", "ws", "is")]


@pytest.fixture(autouse=True)
def matmuls(monkeypatch):
    monkeypatch.setattr(campaign, "paper_matmuls", lambda: MATMULS)


def client_of(address):
    from distributed import Client  # imported here, so that pytest can skip this file without it

    return Client(address, set_as_default=False)


@contextmanager
def cluster(folder, number, **scheduler_options):
    """Start a scheduler and `number` workers of one thread and 8 GB; yields its address and all the processes."""
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    deadline, made = time.monotonic() + 60, []

    def dask_command(*arguments, **environment):
        command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        made.append(subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, **quiet))

    def wait_until(ready):
        while not ready():
            assert time.monotonic() < deadline and all(process.poll() is None for process in made)
            time.sleep(0.05)

    try:
        dask_command(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file), **scheduler_options
        )
        wait_until(lambda: file.exists() and file.read_text(encoding="utf-8").endswith("}"))
        address = json.loads(file.read_text(encoding="utf-8"))["address"]
        for _ in range(number):
            dask_command("worker", address, "--nthreads", "1", "--no-nanny", "--memory-limit", "8GB")
        with client_of(address) as client:
            wait_until(lambda: len(client.scheduler_info()["workers"]) == number)
        yield address, made
    finally:
        for process in made:
            process.kill()
            process.wait()


class Through(Executor):
    """Passes runs on to another executor, and calls `before` before each."""

    def __init__(self, executor, before):
        self.executor, self.before, self.submitted = executor, before, []

    def submit(self, function, /, run):
        self.before(len(self.submitted))
        self.submitted.append(run)
        return self.executor.submit(function, run)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("cluster"), 2) as made:
        yield made


@pytest.fixture
def processes_store(tmp_path):
    fill_store(tmp_path / "processes", jobs=2)
    return content(tmp_path / "processes")


def hanging(function, pid, wanted, hangs):
    """`function`, but in the process `pid`, once the file `wanted` is there, it makes the file `hangs` and waits."""

    def run_or_hang(run):
        if os.getpid() == pid and os.path.exists(wanted):
            with open(hangs, "w"):
                time.sleep(600)
        return function(run)

    return run_or_hang


def test_killing_one_of_two_workers_loses_no_run(tmp_path, two_workers, processes_store):
    """The worker is killed in the middle of a run, on a machine of any speed: it hangs in that run until then."""
    address, (_, victim, other) = two_workers
    wanted, hangs, killed = tmp_path / "wanted", tmp_path / "hangs", []

    class Hanging(Through):
        def submit(self, function, /, run):
            return super().submit(hanging(function, victim.pid, str(wanted), str(hangs)), run)

    def kill_in_the_middle(submitted):
        if submitted == 10:
            wanted.touch()
        if hangs.exists() and not killed:
            victim.kill()
            victim.wait()
            killed.append(submitted)

    with client_of(address) as client:
        assert set(client.run(os.getpid).values()) == {victim.pid, other.pid}
    with dask(address) as (executor, workers):
        assert workers() == [Worker(1, 6_400_000_000)] * 2
        through = Hanging(executor, kill_in_the_middle)
        made = fill_store(tmp_path / "cluster", through, workers=workers)
        assert workers() == [Worker(1, 6_400_000_000)]
    runs = needed_runs(MATMULS)
    assert 10 < killed[0] < len(runs) - 10
    assert made == len(runs)
    assert sorted(through.submitted, key=str) == sorted(runs, key=str)  # once each: Dask repeats the lost run
    assert content(tmp_path / "cluster") == processes_store


def test_the_command_fills_the_same_store(tmp_path, two_workers, processes_store, monkeypatch, capsys):
    address, _ = two_workers
    monkeypatch.setattr(sys, "argv", ["campaign", str(tmp_path / "cluster"), "--scheduler", address])
    campaign.main()
    assert f"{len(needed_runs(MATMULS))} runs simulated now" in capsys.readouterr().out
    assert content(tmp_path / "cluster") == processes_store


def test_workers_are_found_while_the_client_asks_for_their_number(two_workers):
    """A client asks every two seconds, and its answer, which names no worker, replaces what another call stored."""
    from dask import config

    with config.set({"distributed.client.scheduler-info-interval": "1ms"}), dask(two_workers[0]) as (_, workers):
        assert all(workers() for _ in range(300))


def test_the_executor_of_the_caller_s_client_fills_the_same_store(tmp_path, two_workers, processes_store):
    with client_of(two_workers[0]) as client:
        fill_store(tmp_path / "cluster", client.get_executor(), jobs=3)
    assert content(tmp_path / "cluster") == processes_store


def test_a_run_that_kills_its_workers_is_reported(tmp_path):
    class Deadly(Through):
        def submit(self, function, /, run):
            return self.executor.submit(os._exit, 1)

    with cluster(tmp_path, 1, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as (address, _):
        with pytest.raises(BrokenExecutor, match="a run was lost together with its worker several times"):
            with dask(address) as (executor, workers):
                fill_store(tmp_path / "store", Deadly(executor, None), workers=workers)
    with cluster(tmp_path, 1) as (address, _), pytest.MonkeyPatch.context() as patch:
        patch.setattr(campaign, "LOST_SECONDS", 1)
        with pytest.raises(BrokenExecutor, match="no worker is left after 1 seconds"):
            with dask(address) as (executor, workers):
                fill_store(tmp_path / "store", Deadly(executor, None), workers=workers)


def test_a_scheduler_that_ends_or_has_no_worker_is_reported(tmp_path, monkeypatch):
    with cluster(tmp_path, 1) as (address, (scheduler, _)):
        with pytest.raises(BrokenExecutor, match=f"the Dask scheduler at {address} is gone"):
            with dask(address) as (executor, workers):
                before = Through(executor, lambda submitted: scheduler.kill() if submitted == 9 else None)
                fill_store(tmp_path / "store", before, workers=workers)
    monkeypatch.setattr(executors, "CONNECT_SECONDS", 1)
    with cluster(tmp_path, 1) as (address, (scheduler, _)), dask(address) as (_, workers):
        scheduler.kill()
        for _ in range(4):  # while the client reconnects, and when it has given up
            with pytest.raises(BrokenExecutor, match=f"the Dask scheduler at {address} is gone"):
                workers()
            time.sleep(0.5)
    with cluster(tmp_path, 0) as (address, _):
        with pytest.raises(InputError, match=f"scheduler: {address} has no worker; start one: dask worker {address}"):
            with dask(address):
                pass
    start = time.monotonic()
    with pytest.raises(InputError, match=rf"scheduler: no answer from {address} \(Timed out"):
        with dask(address):
            pass
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("bad", ["", "here", "localhost:8786", "tcp://localhost", "tcp://localhost:one", "ftp://a:1"])
def test_a_bad_address_is_rejected(bad):
    with pytest.raises(InputError, match=f"scheduler: '{bad}' is not an address such as tcp://host:8786"):
        with dask(bad):
            pass
