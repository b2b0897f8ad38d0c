"""The store of what SCALE-Sim said (`data/scalesim/`): which runs it holds, and what they add up to.

`runs.csv` holds one line for each run of the simulator. `matmuls.csv` holds one line for each MatMul of the paper's
models, made of those runs alone: the run of the whole MatMul where it is small enough, the runs of its folds
otherwise. Nothing in either comes from the closed form.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd

from llmamdahl.errors import CutOffError, InputError, TableError
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, Dataflow
from llmamdahl.models import CONTEXT_LENGTHS, PRINTED, get_model, model_names
from llmamdahl.scalesim.simulator import (
    COUNTS,
    DRAM_COUNTS,
    UTILISATIONS,
    VERSION,
    Run,
    add_up,
    folds,
    simulate,
    utilisations,
)
from llmamdahl.systolic import gemm_cost
from llmamdahl.tables import DATA, Columns, Row, format_row, optional_int, read_rows, require_value, write_rows
from llmamdahl.workload import Part, decode_step

STORE = DATA / "scalesim"
WHOLE_LIMIT = 2_000_000
"""MatMuls of up to this many multiply-accumulates are simulated whole as well as by folds."""

RECHECK_WEIGHT = 300_000
"""`Run.weight` of the longest row that `recheck` draws: about two seconds."""

KEY = ("m", "n", "k", "rows", "cols", "dataflow", "ifmap_sram_kb", "filter_sram_kb", "ofmap_sram_kb")
Key = tuple[int | str, ...]
"""A run's cells in the columns `KEY`."""

RUN_COLUMNS: dict[str, Callable[[str], object]] = {
    **dict.fromkeys(KEY, int),
    "dataflow": str,
    **dict.fromkeys(COUNTS + DRAM_COUNTS, int),
    **dict.fromkeys(UTILISATIONS, float),
    "simulator_version": str,
}
MATMUL_COLUMNS: dict[str, Callable[[str], object]] = {
    "array": str,
    **RUN_COLUMNS,
    **dict.fromkeys(DRAM_COUNTS, optional_int),
    "obtained": str,
    "runs": str,
}


def paper_matmuls() -> list[Run]:
    """Every distinct MatMul of the paper's 13 models: as printed and as true, both operand orientations.

    The second orientation, weights as ifmap, is `n x k` times `k x m`: the paper does not say which of the two it
    simulated (Table 1 writes the first, Section 3.2 describes the second), and Figure 8 shows what each gives.
    """
    names = [name for base in model_names() for name in (base, base + PRINTED) if name != "opt-66b" + PRINTED]
    shapes = {
        shape
        for name in names
        for length in CONTEXT_LENGTHS
        for matmul in decode_step(get_model(name), length)
        if matmul.part is not Part.UNQUANTIZED
        for shape in ((matmul.m, matmul.n, matmul.k), (matmul.n, matmul.m, matmul.k))
    }
    arrays = [replace(array, dataflow=dataflow) for array in (CLOUD_TPU, EDGE_TPU) for dataflow in Dataflow]
    return [Run(*shape, array) for array in arrays for shape in sorted(shapes)]


def needed_runs(matmuls: Iterable[Run]) -> list[Run]:
    """The simulator runs behind these MatMuls, longest first: the folds of each, and the whole of the small ones."""
    runs: set[Run] = set()
    for matmul in matmuls:
        runs.update(fold for fold, _ in folds(matmul))
        if matmul.m * matmul.n * matmul.k <= WHOLE_LIMIT:
            runs.add(matmul)
    return sorted(runs, key=lambda run: (-run.weight, run_key(run)))


def run_key(run: Run) -> Key:
    """What identifies a run in the store."""
    array = run.array
    sram = (array.ifmap_sram_kb, array.filter_sram_kb, array.ofmap_sram_kb)
    return (run.m, run.n, run.k, array.rows, array.cols, str(array.dataflow), *sram)


def by_key(rows: Iterable[Row]) -> dict[Key, Row]:
    """Rows of `runs.csv` by what identifies their run, as `run_key` gives it."""
    return {tuple(row[name] for name in KEY): row for row in rows}


def read_runs(store: Path = STORE) -> dict[Key, Row]:
    """The runs of `runs.csv`, by key.

    Raises
    ------
    TableError
        No such file, a damaged line, a duplicate, or a run of another version of the simulator. The error carries the
        good rows.
    """
    return by_key(_read(store / "runs.csv", RUN_COLUMNS))


def read_matmuls(store: Path = STORE) -> pd.DataFrame:
    """`matmuls.csv` as a DataFrame: one row a distinct MatMul, array and dataflow; empty DRAM counts are `<NA>`."""
    frame = pd.DataFrame(_read(store / "matmuls.csv", MATMUL_COLUMNS), columns=list(MATMUL_COLUMNS))
    return frame.astype(dict.fromkeys(DRAM_COUNTS, "Int64"))


def _read(path: Path, columns: Columns) -> list[Row]:
    if not path.exists():  # as in an installed package, which comes without the store
        raise TableError(
            path,
            1,
            "no such file; SCALE-Sim's results are read from a checkout of the repository: clone it and run "
            "`pip install -e .` there, or simulate them again with `make simulate STORE=folder`",
        )
    advice = "; make simulate STORE=folder starts another store"
    try:
        rows = read_rows(path, columns, KEY)
    except CutOffError as error:  # which a campaign mends: what it cannot mend is said first
        require_value(path, error.rows, "simulator_version", VERSION, advice)
        raise
    require_value(path, rows, "simulator_version", VERSION, advice)
    return rows


def matmul_row(matmul: Run, runs: dict[Key, Row], obtained: str | None = None) -> Row:
    """A MatMul's line of `matmuls.csv` from the runs behind it.

    `obtained` is `"whole"` or `"folds"`; by default whole if that run is there. `runs` names each run as
    `number x (m, n, k)`.
    """
    parts = folds(matmul)
    whole = runs.get(run_key(matmul))
    obtained = obtained or ("whole" if whole else "folds")
    if obtained == "whole":
        if not whole:
            raise InputError(f"the store has no whole run of {matmul}; run `make simulate`")
        counts, parts = {name: whole[name] for name in COUNTS + DRAM_COUNTS + UTILISATIONS}, [(matmul, 1)]
    else:
        missing = [fold for fold, _ in parts if run_key(fold) not in runs]
        if missing:
            raise InputError(f"the store has no run of {missing[0]}; run `make simulate`")
        counts = add_up(matmul, [(runs[run_key(fold)], number) for fold, number in parts])
    return {
        "array": matmul.array.label,
        **dict(zip(KEY, run_key(matmul), strict=True)),
        **counts,
        "simulator_version": VERSION,
        "obtained": obtained,
        "runs": " + ".join(f"{number} x ({run.m}, {run.n}, {run.k})" for run, number in parts),
    }


def rebuild_store(folder: Path, store: Path = STORE) -> None:
    """Write into `folder` what the files of `store` must contain, so that a comparison shows every wrong number.

    Of `runs.csv` only the list of runs is read. Their counts come from the closed form, their utilisations from
    `utilisations`. Each line of `matmuls.csv` is made from those rows.

    Raises
    ------
    InputError
        A store that cannot be read (`TableError`), or that lacks a run.
    """
    stored, matmuls = read_runs(store), paper_matmuls()
    needed = {run_key(run): run for run in needed_runs(matmuls)}
    if missing := sorted(needed.keys() - stored.keys()):
        raise InputError(f"the store has no run of {needed[missing[0]]}; run `make simulate`")
    runs = {key: _derived(needed[key]) for key in sorted(needed)}
    write_rows(folder / "runs.csv", list(RUN_COLUMNS), runs.values())
    write_rows(folder / "matmuls.csv", list(MATMUL_COLUMNS), [matmul_row(matmul, runs) for matmul in matmuls])


def _derived(run: Run) -> Row:
    """A run's line of `runs.csv`, computed without the simulator."""
    cost = gemm_cost(run.m, run.n, run.k, run.array)
    return {
        **dict(zip(KEY, run_key(run), strict=True)),
        **{name: getattr(cost, name) for name in COUNTS + DRAM_COUNTS if name != "stall_cycles"},
        "stall_cycles": 0,  # by definition of the simulator's stall-free mode
        **utilisations(run, cost.cycles),
        "simulator_version": VERSION,
    }


def whole_and_by_folds(store: Path = STORE) -> pd.DataFrame:
    """Every MatMul of several folds that was simulated both ways: its counts each way, and whether all are equal.

    Counts are compared as they are; utilisations, which are averages of floats, to eight of their ten digits.
    """
    runs, rows = read_runs(store), []
    for matmul in paper_matmuls():
        parts = folds(matmul)
        if run_key(matmul) in runs and (len(parts) > 1 or parts[0][1] > 1):
            whole, folded = (matmul_row(matmul, runs, obtained) for obtained in ("whole", "folds"))
            row = {name: whole[name] for name in ("array", *KEY)}
            row["num_folds"] = sum(number for _, number in parts)
            for name in COUNTS:
                row[f"{name}_whole"], row[f"{name}_folds"] = whole[name], folded[name]
            counted = all(whole[name] == folded[name] for name in COUNTS)
            averaged = all(f"{whole[name]:.8g}" == f"{folded[name]:.8g}" for name in UTILISATIONS)
            rows.append({**row, "equal": counted and averaged})
    return pd.DataFrame(rows)


def _made_of_runs(store: Path, runs: dict[Key, Row]) -> list[Row]:
    """The rows of `matmuls.csv`, each held to the runs it is made of."""
    path = store / "matmuls.csv"
    rows, matmuls = _read(path, MATMUL_COLUMNS), paper_matmuls()
    if len(rows) != len(matmuls):
        raise TableError(path, len(rows) + 1, f"it has {len(rows)} MatMuls, the paper's models {len(matmuls)}", rows)
    for line, (row, matmul) in enumerate(zip(rows, matmuls, strict=True), start=2):
        if row != matmul_row(matmul, runs):
            raise TableError(
                path, line, "not what its runs in runs.csv add up to; `make verify` names the number", rows[: line - 2]
            )
    return rows


def recheck(rows: int = 8, store: Path = STORE) -> bool:
    """Simulate `rows` of `matmuls.csv` again, drawn at random, and print them beside the stored ones.

    Every row is first held to the runs it is made of (a `TableError` names the first that is not their sum).
    Drawn among the MatMuls whose runs are short, so that the whole takes seconds; those of folds are made of folds
    again. True if every count and utilisation is the same.
    """
    runs, short = read_runs(store), []
    for matmul, stored in zip(paper_matmuls(), _made_of_runs(store, runs), strict=True):
        again = [matmul] if stored["obtained"] == "whole" else [fold for fold, _ in folds(matmul)]
        if sum(run.weight for run in again) <= RECHECK_WEIGHT:
            short.append((stored, matmul, again))
    table = []
    with ProcessPoolExecutor() as pool:
        drawn = random.sample(short, rows)
        results = list(pool.map(simulate, [run for _, _, again in drawn for run in again]))
    for stored, matmul, again in drawn:
        made = {run_key(run): results.pop(0) for run in again}
        fresh = matmul_row(matmul, made, stored["obtained"])
        table.append(
            {
                **{name: stored[name] for name in ("array", "dataflow", "m", "n", "k", "obtained")},
                "cycles": stored["cycles"],
                "cycles again": fresh["cycles"],
                "accesses": _accesses(stored),
                "accesses again": _accesses(fresh),
                "equal": format_row(stored, MATMUL_COLUMNS) == format_row(fresh, MATMUL_COLUMNS),
            }
        )
    frame = pd.DataFrame(table)
    print(frame.to_string(index=False))
    print(f"drawn among the {len(short)} of {len(paper_matmuls())} rows whose runs take about two seconds or less")
    return bool(frame.equal.all())


def _accesses(row: Row) -> int:
    return int(row["ifmap_sram_reads"] + row["filter_sram_reads"] + row["ofmap_sram_writes"])
