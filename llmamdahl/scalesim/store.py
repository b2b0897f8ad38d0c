"""The store of SCALE-Sim's results (`data/scalesim/`): which runs it holds, and the MatMuls they add up to.

`runs.csv` holds one line for each run of the simulator. `matmuls.csv` holds one line for each MatMul of the paper's
models, computed only from those runs: from the run of the whole MatMul if it is small enough to be simulated, else
from the runs of its folds. Neither file contains a number from the closed form.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from llmamdahl.errors import CutOffError, InputError, TableError
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, Dataflow
from llmamdahl.models import CONTEXT_LENGTHS, PRINTED, get_model, model_names
from llmamdahl.scalesim.executors import processes
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
"""MatMuls of at most this many multiply-accumulates are simulated whole as well as by folds."""

RECHECK_WEIGHT = 300_000
"""The largest `Run.weight` of the runs behind a row that `recheck` may draw: about two seconds."""

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
    """Every distinct MatMul of the paper's 13 models, on both arrays of Table 3, in each dataflow.

    Each model is taken with the hyperparameters that the paper prints (Table 2) and with the true ones, and each MatMul
    in both operand orientations. In the second orientation, `n x k` times `k x m`, the weights are the ifmap. The paper
    does not say which of the two it simulated: Table 1 writes the first, Section 3.2 describes the second. Figure 8
    shows the result of each.
    """
    # OPT 66B's printed 76 heads do not divide its hidden size, so it has no MatMuls as printed.
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
    """The simulator runs behind these MatMuls, longest first: the folds of each, and the small MatMuls whole."""
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
    """Rows of `runs.csv` by the key of their run, as `run_key` returns it."""
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
    """`matmuls.csv` as a DataFrame: one row per distinct MatMul, array and dataflow.

    Returns
    -------
    DataFrame
        The columns of `data/README.md`, "scalesim/". DRAM counts are `<NA>` where a MatMul was simulated by folds.

    Raises
    ------
    TableError
        As `read_runs`.
    """
    frame = pd.DataFrame(_read(store / "matmuls.csv", MATMUL_COLUMNS), columns=list(MATMUL_COLUMNS))
    return frame.astype(dict.fromkeys(DRAM_COUNTS, "Int64"))


def _read(path: Path, columns: Columns) -> list[Row]:
    if not path.exists() and not path.is_symlink():  # as in an installed package, which comes without the store
        raise TableError(
            path,
            1,
            "no such file; SCALE-Sim's results are read from a checkout of the repository: clone it and run "
            "`pip install -e .` there, or simulate them again with `make simulate STORE=folder`",
        )
    advice = "; make simulate STORE=folder starts another store"
    try:
        rows = read_rows(path, columns, KEY)
    except CutOffError as error:
        # A campaign repairs a line that was cut off. Report first what it cannot repair.
        require_value(path, error.rows, "simulator_version", VERSION, advice)
        raise
    require_value(path, rows, "simulator_version", VERSION, advice)
    return rows


def matmul_row(matmul: Run, runs: dict[Key, Row], obtained: str | None = None) -> Row:
    """A MatMul's line of `matmuls.csv`, computed from the runs behind it.

    Parameters
    ----------
    matmul
        The whole MatMul.
    runs
        Rows of `runs.csv`, by key.
    obtained
        `"whole"` or `"folds"`; by default whole if `runs` has that run.

    Returns
    -------
    dict
        `MATMUL_COLUMNS`; the cell `runs` lists each run as `number x (m, n, k)`.

    Raises
    ------
    InputError
        A run that is needed and missing.
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
    """Write the two files of the store as they must be, so that a comparison shows every wrong number in `store`.

    Counts of runs come from the closed form and utilisations from `utilisations`. Each line of `matmuls.csv` is
    computed from those rows. Nothing is simulated, and `store` is read only to check that no run is missing.

    Parameters
    ----------
    folder
        Where `runs.csv` and `matmuls.csv` are written.
    store
        The folder of the store to compare with.

    Raises
    ------
    InputError
        A store that cannot be read (`TableError`) or lacks a run.
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
        **utilisations(run, int(cost.cycles)),
        "simulator_version": VERSION,
    }


def whole_and_by_folds(store: Path = STORE) -> pd.DataFrame:
    """Every MatMul of several folds that was simulated both whole and by folds, and whether the results agree.

    Returns
    -------
    DataFrame
        array, the columns `KEY`, num_folds, each of `COUNTS` twice (`_whole` and `_folds`), and equal: whether all
        counts are the same and all utilisations agree to eight of their ten digits. Those are averages of floats.
    """
    runs, rows = read_runs(store), []
    for matmul in paper_matmuls():
        num_folds = sum(number for _, number in folds(matmul))
        if num_folds > 1 and run_key(matmul) in runs:
            whole, folded = (matmul_row(matmul, runs, obtained) for obtained in ("whole", "folds"))
            row = {name: whole[name] for name in ("array", *KEY)}
            row["num_folds"] = num_folds
            for name in COUNTS:
                row[f"{name}_whole"], row[f"{name}_folds"] = whole[name], folded[name]
            counted = all(whole[name] == folded[name] for name in COUNTS)
            averaged = all(f"{whole[name]:.8g}" == f"{folded[name]:.8g}" for name in UTILISATIONS)
            rows.append({**row, "equal": counted and averaged})
    return pd.DataFrame(rows)


def _made_of_runs(store: Path, runs: dict[Key, Row]) -> list[Row]:
    """The rows of `matmuls.csv`, each checked against its runs."""
    path = store / "matmuls.csv"
    rows, matmuls = _read(path, MATMUL_COLUMNS), paper_matmuls()
    if len(rows) != len(matmuls):
        raise TableError(path, len(rows) + 1, f"{len(rows)} MatMuls; the paper's models have {len(matmuls)}", rows)
    for line, (row, matmul) in enumerate(zip(rows, matmuls, strict=True), start=2):
        if row != matmul_row(matmul, runs):
            raise TableError(
                path, line, "not the sum of its runs in runs.csv; `make verify` names the number", rows[: line - 2]
            )
    return rows


def recheck(rows: int = 8, store: Path = STORE) -> bool:
    """Simulate random rows of `matmuls.csv` again, and print the new counts next to the stored ones.

    The rows are drawn from the MatMuls with short runs, so that this takes seconds. A MatMul that was simulated by
    folds is simulated by folds again.

    Parameters
    ----------
    rows
        How many rows are drawn.
    store
        The folder of the store.

    Returns
    -------
    bool
        Whether every count and utilisation is the same.

    Raises
    ------
    TableError
        A row of `matmuls.csv`, drawn or not, that is not the sum of its runs.
    InputError
        A run is missing from the store, or SCALE-Sim is not installed in the version of the store.
    """
    runs, short = read_runs(store), []
    # `_made_of_runs` also checks the rows that are not drawn because their runs are too long.
    for matmul, stored in zip(paper_matmuls(), _made_of_runs(store, runs), strict=True):
        again = [matmul] if stored["obtained"] == "whole" else [fold for fold, _ in folds(matmul)]
        if sum(run.weight for run in again) <= RECHECK_WEIGHT:
            short.append((stored, matmul, again))
    table, drawn = [], random.sample(short, rows)
    with processes(os.cpu_count() or 1) as pool:
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
    print(f"drawn from the {len(short)} of {len(paper_matmuls())} rows with runs of about two seconds or less")
    return bool(frame.equal.all())


def _accesses(row: Row) -> int:
    return int(row["ifmap_sram_reads"] + row["filter_sram_reads"] + row["ofmap_sram_writes"])
