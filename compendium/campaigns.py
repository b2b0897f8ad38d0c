"""What simulating the current models would take (`make bench`): runs, hours and memory, from a part that is simulated.

The part is every eighth MatMul of `zoo_sample`, in a store of its own, on processes of this machine and then on Dask
workers. `Run.weight` scales its time to all runs. Measured hours are those of this machine as busy as it was:
`cores_used` says how many cores the part got. Extrapolated hours are for workers with a core each, from the seconds of
CPU that a single process took, and those that Dask took more.
"""

from __future__ import annotations

import heapq
import os
import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pandas as pd
import psutil
from tqdm import tqdm

from compendium.command import writing
from llmamdahl.scalesim.campaign import fill_store
from llmamdahl.scalesim.executors import MEMORY, PAUSE, dask
from llmamdahl.scalesim.simulator import Run
from llmamdahl.scalesim.store import needed_runs
from llmamdahl.scalesim.zoo_runs import zoo_matmuls, zoo_sample
from llmamdahl.tables import RESULTS

TRIED = (("processes", 1), ("processes", 2), ("Dask", 2), ("Dask", 4))
BEYOND = (1, 2, 4, 8, 16, 64)
"""Numbers of Dask workers, each with a core of its own, for which hours are extrapolated."""


@contextmanager
def dask_workers(number: int) -> Iterator[str]:
    """The address of a Dask cluster on loopback, of `number` processes of one thread."""
    from distributed import LocalCluster  # here, since it is an extra

    memory = f"{MEMORY / PAUSE:.0f}B"
    options = {"threads_per_worker": 1, "memory_limit": memory, "dashboard_address": None, "processes": True}
    with LocalCluster(n_workers=number, **options) as cluster:
        yield cluster.scheduler_address


class Took(NamedTuple):
    """Seconds of a campaign: of the clock, and of CPU in the processes that simulated."""

    clock: float
    cpu: float


def seconds(matmuls: list[Run], executor: str, workers: int) -> Took:
    """How long a campaign takes to fill a new store; the start of the Dask cluster does not count."""
    before = ended_cpu()
    with TemporaryDirectory() as folder:
        if executor == "processes":
            start, started = time.perf_counter(), 0.0
            fill_store(Path(folder), jobs=workers, matmuls=matmuls)
            clock = time.perf_counter() - start
        else:
            with dask_workers(workers) as address, dask(address) as (cluster, found):
                children = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
                started = sum(times.user + times.system for times in children)
                start = time.perf_counter()
                fill_store(Path(folder), cluster, workers=found, matmuls=matmuls)
                clock = time.perf_counter() - start
    return Took(clock, ended_cpu() - before - started)


def ended_cpu() -> float:
    """Seconds of CPU of all processes that this one started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def makespan(runs: list[Run], workers: int) -> int:
    """The weight of the runs that the busiest worker gets, if whoever is free takes the longest run that is left.

    >>> from llmamdahl.hardware import EDGE_TPU
    >>> one = Run(1, 32, 500, EDGE_TPU)
    >>> makespan([one] * 3, 2) == 2 * one.weight
    True
    """
    busy = [0] * workers
    for run in runs:
        heapq.heapreplace(busy, busy[0] + run.weight)
    return max(busy)


def table(timed: dict[tuple[str, int], Took], part: list[Run]) -> pd.DataFrame:
    """The rows of `zoo-campaign.csv`, from what each of `TRIED` took for the runs of `part`."""
    fitting, every = (needed_runs(zoo_matmuls(limit)) for limit in (MEMORY, None))
    weight = sum(run.weight for run in part)
    overhead = max(1.0, timed["Dask", 2].cpu / timed["processes", 2].cpu)
    pace = overhead * timed["processes", 1].cpu / weight
    rows: list[dict[str, object]] = []
    for (executor, workers), took in timed.items():
        rows.append(
            {
                **{"runs": len(fitting), "executor": executor, "workers": workers, "part_runs": len(part)},
                "part_seconds": round(took.clock, 1),
                "cores_used": round(took.cpu / took.clock, 2),
                "hours": two_digits(took.clock / weight * sum(run.weight for run in fitting) / 3600),
                "gb_a_worker": two_digits(max(run.memory for run in fitting) / 1e9),
                "how": "measured on a part",
            }
        )
    for runs in (fitting, every):
        for workers in BEYOND:
            rows.append(
                {
                    **{"runs": len(runs), "executor": "Dask", "workers": workers},
                    "hours": two_digits(pace * makespan(runs, workers) / 3600),
                    "gb_a_worker": two_digits(max(run.memory for run in runs) / 1e9),
                    "how": "extrapolated",
                }
            )
    return pd.DataFrame(rows).astype({"part_runs": "Int64"})


def two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def measure() -> None:
    """Time the part, print the table, and write it to `data/results/zoo-campaign.csv`."""
    matmuls = zoo_sample()[::8]
    timed = {tried: seconds(matmuls, *tried) for tried in tqdm(TRIED, disable=None)}
    frame = table(timed, needed_runs(matmuls))
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    frame["machine"] = f"{os.cpu_count()} cores of {platform.machine()}, Python {platform.python_version()}"
    RESULTS.mkdir(parents=True, exist_ok=True)
    frame.to_csv(RESULTS / "zoo-campaign.csv", index=False, lineterminator="\n")
    print(frame.drop(columns="machine").to_string(index=False))
    print(f"the largest process of the part took {largest:.2g} GB")


def main() -> None:
    """`python -m compendium.campaigns`."""
    with writing():
        measure()


if __name__ == "__main__":
    main()
