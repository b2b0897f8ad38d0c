"""`make bench`: measure the speeds that README claims, and the memory that each needs."""

from __future__ import annotations

import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from tqdm import tqdm

from compendium.command import BUILD, writing
from compendium.notebooks import NOTEBOOKS, execute
from llmamdahl.analysis import sweep
from llmamdahl.errors import InputError, one_of
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, Dataflow, SystolicArray
from llmamdahl.models import CONTEXT_LENGTHS, model_names, zoo_names
from llmamdahl.scalesim.reports import write_reports
from llmamdahl.scalesim.simulator import Run, folds, simulate
from llmamdahl.scalesim.store import needed_runs, paper_matmuls
from llmamdahl.scalesim.topology import read_topology
from llmamdahl.systolic import gemm_cost
from llmamdahl.tables import RESULTS, ROOT

Lines = list[tuple[str, float, str, str]]
"""What was timed, the value, its unit, and `measured` or, if computed from a measured value, `extrapolated`."""

WHOLE = Run(1, 2048, 2048, EDGE_TPU)
"""The MatMul simulated whole and by folds: a quarter of a minute and 1.3 GB."""


def seconds(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def best(function: Callable[[], object], repetitions: int = 7) -> float:
    """The fewest seconds that a call took."""
    return best_of_each(function, repetitions=repetitions)[0]


def best_of_each(*functions: Callable[[], object], repetitions: int = 7) -> list[float]:
    """The fewest seconds that a call of each took; they take turns, so that a busy machine slows all of them."""
    rounds = [[seconds(function) for function in functions] for _ in range(repetitions)]
    return [min(times) for times in zip(*rounds, strict=True)]


def paper_sweep() -> Lines:
    """F of all models, context lengths, arrays and dataflows of the paper."""
    arrays = [replace(array, dataflow=dataflow) for array in (CLOUD_TPU, EDGE_TPU) for dataflow in Dataflow]
    took = best(lambda: sweep(model_names(), CONTEXT_LENGTHS, arrays))
    return [("`sweep` of the paper: 13 models x 6 lengths x 2 arrays x 3 dataflows", took * 1e3, "ms", "measured")]


def design_space() -> Lines:
    """F of every model of the zoo on many arrays."""
    sizes = list(product((8, 16, 24, 32, 48, 64, 96, 128, 192, 256), range(8, 168, 8)))
    arrays = [SystolicArray(rows, cols, dataflow) for rows, cols in sizes for dataflow in Dataflow]
    lengths = range(512, 512 * 21, 512)
    took = best(lambda: sweep(zoo_names(), lengths, arrays), 5)
    points = len(zoo_names()) * len(lengths) * len(arrays)
    what = f"`sweep` of {len(zoo_names())} models x {len(lengths)} lengths x {len(sizes)} arrays x 3 dataflows"
    counted = f"{len(zoo_names())} models x {len(lengths)} lengths x {len(arrays)} arrays"
    return [
        (what, took, "s", "measured"),
        (f"`sweep` combinations a second: cycles, accesses and F; {counted}", points / took, "", "measured"),
    ]


def million_over_bare() -> Lines:
    """Time of `gemm_cost` on a million MatMuls over that of the bare NumPy formula for the same four counts."""
    m, n, k = np.random.default_rng(0).integers(1, 5000, (3, 1_000_000))
    r, c = EDGE_TPU.rows, EDGE_TPU.cols

    def bare() -> tuple[np.ndarray, ...]:
        number = -(-m // r) * -(-n // c)
        return number * (k + r + c - 2) - 1, -(-n // c) * m * k, -(-m // r) * k * n, m * n + number * (r + c)

    alone, counted, with_dram = best_of_each(
        bare, lambda: gemm_cost(m, n, k, EDGE_TPU), lambda: gemm_cost(m, n, k, EDGE_TPU).ifmap_dram_reads
    )
    what = "run time of `gemm_cost` / the bare NumPy formula: cycles and SRAM of 10^6 MatMuls"
    return [(what, counted / alone, "x", "measured"), ("… with DRAM counts", with_dram / alone, "x", "measured")]


def simulator_over_closed_form() -> Lines:
    """Time of SCALE-Sim over that of `gemm_cost` on the same MatMul, and over that of SCALE-Sim fold by fold."""
    dims = WHOLE.m, WHOLE.n, WHOLE.k
    whole = seconds(lambda: simulate(WHOLE))
    by_folds = seconds(lambda: [simulate(fold) for fold, _ in folds(WHOLE)])
    cost = best(lambda: gemm_cost(*dims, WHOLE.array), 1000)
    with_dram = best(lambda: gemm_cost(*dims, WHOLE.array).ifmap_dram_reads, 1000)
    matmuls = paper_matmuls()
    store_whole, store_runs = (sum(run.weight for run in runs) for runs in (matmuls, needed_runs(matmuls)))
    name = " x ".join(map(str, dims))
    return [
        (f"run time of SCALE-Sim / `gemm_cost`: {name}, edge array", whole / cost, "x", "measured"),
        ("… with DRAM counts", whole / with_dram, "x", "measured"),
        ("run time of SCALE-Sim, whole MatMul / its distinct folds: the same", whole / by_folds, "x", "measured"),
        ("… all 828 whole MatMuls / the 678 runs of the store", store_whole / store_runs, "x", "extrapolated"),
        ("… hours of the 828 whole, on one core", whole / WHOLE.weight * store_whole / 3600, "h", "extrapolated"),
    ]


def reports_over_scalesim() -> Lines:
    """SCALE-Sim against its reports in closed form, on input files that it ships."""
    from scalesim.scale_sim import scalesim  # here, because few measurements need it

    inputs = ROOT / "tests" / "data" / "scalesim"
    cfg, topology = inputs / "configs" / "scale.cfg", inputs / "topologies" / "test.csv"
    with TemporaryDirectory() as folder:

        def ours() -> None:
            write_reports(read_topology(topology), SystolicArray.from_scalesim_cfg(cfg), folder)

        def theirs() -> None:
            run = scalesim(save_disk_space=True, verbose=False, config=str(cfg), topology=str(topology))
            run.run_scale(top_path=folder)

        ratio = seconds(theirs) / best(ours)
    return [("run time of SCALE-Sim / `llmamdahl scalesim`: its test.csv on its scale.cfg", ratio, "x", "measured")]


def questions() -> Lines:
    """Times of `tests/test_speed.py`, the shortest of each."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "benchmarks.json"
        asked = ["tests/test_speed.py", "--benchmark-enable", "--benchmark-only", f"--benchmark-json={report}"]
        quiet = ["-q", "-n0", "-p", "no:nbval", "-o", "addopts=--import-mode=importlib"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *quiet, *asked], cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode:
            raise InputError(f"tests/test_speed.py: {done.stdout.strip()}")
        found = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
    return [(each["extra_info"]["what"], each["stats"]["min"] * 1e3, "ms", "measured") for each in found]


def notebook(path: Path) -> Lines:
    """Time of one notebook in `make reproduce`."""
    return [(f"`make reproduce`: {path.stem}", execute(path, BUILD / "bench"), "s", "measured")]


def with_memory(timed: Callable[[], Lines]) -> tuple[Lines, float]:
    """The lines of `timed`, and the peak memory (MB) of this process or of a child."""
    lines = timed()
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return lines, max(resource.getrusage(each).ru_maxrss for each in who) / 1024


def two_digits(value: float) -> str:
    """`value` to two significant digits, with commas between thousands.

    >>> two_digits(3_512_345), two_digits(0.0123)
    ('3,500,000', '0.012')
    """
    return f"{float(f'{value:.2g}'):,.10g}"


def measure(only: list[str]) -> None:
    """Print README's table of speeds, and write it to `data/results/bench.csv`; rows of what is not measured stay.

    `only` lists functions above or notebooks, by name; all if it is empty.
    """
    functions = [paper_sweep, million_over_bare, design_space, simulator_over_closed_form, reports_over_scalesim]
    known: dict[str, Callable[[], Lines]] = {function.__name__: function for function in functions}
    known |= {path.stem: partial(notebook, path) for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    known["questions"] = questions
    timed = [known[one_of("only", name, tuple(known))] for name in only or known]
    rows = []
    # a new process for each: the peak memory of a process never goes down
    with get_context("spawn").Pool(1, signal.signal, (signal.SIGINT, signal.SIG_IGN), maxtasksperchild=1) as pool:
        for lines, peak in tqdm(pool.imap(with_memory, timed), total=len(timed), disable=None):
            for place, (what, value, unit, how) in enumerate(lines):
                shown = two_digits(value) + (unit if unit in ("", "x") else f" {unit}")
                rows.append({"what": what, "value": shown, "how": how, "peak_mb": "" if place else two_digits(peak)})
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}, pandas {pd.__version__}"
    machine = f"{os.cpu_count()} cores of {platform.machine()}, {versions}"
    table = pd.DataFrame(rows).assign(machine=machine)
    path = RESULTS / "bench.csv"
    if only and path.exists():
        table = pd.concat([pd.read_csv(path, keep_default_na=False, dtype=str), table])
        # a row that begins with … belongs to the last one that does not
        owner = table.what.where(~table.what.str.startswith("…")).ffill()
        table = (
            table.groupby([owner.rename("owner"), table.what.rename("row")], sort=False).last().reset_index(drop=True)
        )
    RESULTS.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, lineterminator="\n")
    print("| what | value | how | peak MB |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row.values()) + " |")


def main() -> None:
    """`python -m compendium.bench [NAME ...]`."""
    with writing():
        measure(sys.argv[1:])


if __name__ == "__main__":
    main()
