"""Run SCALE-Sim on one MatMul, whole or fold by fold, and write a workload in its topology format."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path

from llmamdahl.errors import InputError, listed, positive_int
from llmamdahl.hardware import Dataflow, SystolicArray
from llmamdahl.tables import Row, write_rows
from llmamdahl.workload import MatMul

VERSION = "2.0.2"
"""The SCALE-Sim release of every simulated number here; the paper used version 2 ("Scale-Sim V2", Appendix A)."""

COUNTS = (
    "cycles",
    "stall_cycles",
    "ifmap_sram_reads",
    "filter_sram_reads",
    "ofmap_sram_writes",
)
"""Counts that add up over folds."""

DRAM_COUNTS = ("ifmap_dram_reads", "filter_dram_reads", "ofmap_dram_writes")
"""Counts that do not add up over folds: the next fold does not fetch the words that the last one left in a buffer."""

UTILISATIONS = ("overall_utilisation", "mapping_efficiency", "compute_utilisation")
"""Percentages of SCALE-Sim's COMPUTE_REPORT, rounded to ten significant digits: the simulator adds up floats, and the
digits after those depend on the version of Python."""


@dataclass(frozen=True, slots=True)
class Run:
    """The input of one simulator run: a MatMul `m x k` times `k x n`, and the array."""

    m: int
    n: int
    k: int
    array: SystolicArray

    def __post_init__(self) -> None:
        for name in ("m", "n", "k"):
            object.__setattr__(self, name, positive_int(name, getattr(self, name)))

    @property
    def spatial(self) -> tuple[int, int, int]:
        """Extents along the array's rows, along its columns, and in time (Samajdar et al., ISPASS 2020, Table III)."""
        return {
            Dataflow.OS: (self.m, self.n, self.k),
            Dataflow.WS: (self.k, self.n, self.m),
            Dataflow.IS: (self.k, self.m, self.n),
        }[Dataflow(self.array.dataflow)]

    @property
    def fold_steps(self) -> int:
        """Cycles that SCALE-Sim counts for a fold in compute utilisation (derived in `utilisations`)."""
        time, array = self.spatial[2], self.array
        if array.dataflow == Dataflow.OS:
            lines = time - 1 + array.rows
        else:
            lines = array.rows + (array.rows + array.cols + time - 2)
        return lines + array.cols - 1

    @property
    def weight(self) -> int:
        """Estimate of the simulator's run time, in units of about 5 microseconds: elements visited, cycles stepped."""
        (along_rows, along_cols, time), array = self.spatial, self.array
        num_folds = -(-along_rows // array.rows) * -(-along_cols // array.cols)
        cycles = num_folds * (time + 2 * array.rows + array.cols)
        return self.m * self.n * self.k + cycles * (array.rows + 2 * array.cols) // 32

    @property
    def memory(self) -> int:
        """Upper estimate of the memory of a run, in bytes (measured: 120 MB plus at most 375 bytes per element)."""
        return 400 * self.m * self.n * self.k + 150_000_000


def simulate(run: Run) -> Row:
    """Simulate one MatMul with SCALE-Sim in its stall-free mode (`InterfaceBandwidth: CALC`).

    Parameters
    ----------
    run
        The MatMul and its array. Time and memory grow with `m n k`: `Run.weight`, `Run.memory`.

    Returns
    -------
    dict
        As reported: `COUNTS` (cycles, words), `DRAM_COUNTS` (words of one byte), `UTILISATIONS` (percent).

    Raises
    ------
    InputError
        SCALE-Sim is not installed, or not in `VERSION`. It cannot simulate the run: it divides by zero where a run
        takes a single cycle (1 x 1 x 1 on a 1 x 1 array), and where a buffer is filled twice in one cycle.
    """
    try:
        installed = version("scalesim")
    except PackageNotFoundError:
        raise InputError(f"scalesim: not installed; pip install scalesim=={VERSION}") from None
    if installed != VERSION:
        raise InputError(f"scalesim: version {installed} is installed; the store is made with {VERSION}")
    from scalesim.scale_config import scale_config  # imported here, since that alone takes longer than a sweep
    from scalesim.single_layer_sim import single_layer_sim
    from scalesim.topology_utils import topologies

    array = run.array
    config = scale_config()
    sizes = [array.rows, array.cols, array.ifmap_sram_kb, array.filter_sram_kb, array.ofmap_sram_kb]
    # run name, sizes, then the simulator's own default address offsets
    config.update_from_list(["run", *sizes, 0, 10_000_000, 20_000_000, str(array.dataflow), "CALC", ""])
    topology = topologies()
    # the convolution that SCALE-Sim's reader makes of a GEMM: an image of m x k, n filters of 1 x k
    topology.append_layer_entry(["matmul", run.m, run.k, 1, run.k, 1, run.n, 1, 1])
    layer = single_layer_sim()
    layer.set_params(0, config, topology, verbose=False)
    try:
        layer.run()
    except ZeroDivisionError:
        problem = "a buffer is filled twice in one cycle, and SCALE-Sim divides by the cycles between; use more SRAM"
        raise InputError(f"{run}: {problem}") from None
    try:
        cycles, stalls, *percentages = layer.get_compute_report_items()
    except ZeroDivisionError:
        raise InputError(f"{run}: takes one cycle, which SCALE-Sim counts as none and then divides by") from None
    detail = layer.get_detail_report_items()  # first cycle, last cycle and count, for each of six memories
    counts = (cycles, stalls, *detail[2::3])
    return {
        **{name: int(count) for name, count in zip(COUNTS + DRAM_COUNTS, counts, strict=True)},
        **{name: _ten_digits(value) for name, value in zip(UTILISATIONS, percentages, strict=True)},
    }


def folds(run: Run) -> list[tuple[Run, int]]:
    """The distinct folds (fillings of the array) of a MatMul, each as a separate MatMul, with its number.

    There are at most four: the full array, the remainder along the rows, along the columns, and along both.

    >>> from llmamdahl.hardware import EDGE_TPU
    >>> [(fold.m, fold.n, fold.k, count) for fold, count in folds(Run(1, 100, 64, EDGE_TPU))]
    [(1, 32, 64, 3), (1, 4, 64, 1)]
    """
    along_rows, along_cols, time = run.spatial

    def pieces(extent: int, size: int) -> list[tuple[int, int]]:
        full, rest = divmod(extent, size)
        return [piece for piece in ((size, full), (rest, 1)) if all(piece)]

    made = []
    # The inverse of `Run.spatial`: from extents on the array back to m, n and k.
    for (rows, down), (cols, across) in product(pieces(along_rows, run.array.rows), pieces(along_cols, run.array.cols)):
        m, n, k = {
            Dataflow.OS: (rows, cols, time),
            Dataflow.WS: (time, cols, rows),
            Dataflow.IS: (cols, time, rows),
        }[Dataflow(run.array.dataflow)]
        made.append((replace(run, m=m, n=n, k=k), down * across))
    return made


def add_up(run: Run, parts: list[tuple[Row, int]]) -> Row:
    """The row that SCALE-Sim would report for `run`, from the rows it reported for its folds.

    Counts add up. The reported cycles are the index of the last cycle, so one is added for each fold and one is taken
    off at the end. Overall utilisation follows from those cycles; the other two are averages over folds, of what the
    simulator reported for each (`utilisations`). DRAM counts do not add up: they are None.
    """
    number = sum(count for _, count in parts)
    row: Row = {name: sum(part[name] * count for part, count in parts) for name in COUNTS}
    row["cycles"] += number - 1
    row |= dict.fromkeys(DRAM_COUNTS)
    row["overall_utilisation"] = utilisations(run, row["cycles"])["overall_utilisation"]
    for name in UTILISATIONS[1:]:
        row[name] = _ten_digits(math.fsum(part[name] * count for part, count in parts) / number)
    return row


def utilisations(run: Run, cycles: int) -> dict[str, float]:
    """The three percentages of SCALE-Sim's COMPUTE_REPORT, from a MatMul's shape and its reported cycles.

    The array has R x C processing elements. A fold uses `rows` x `cols` of them, for `time` MACs each.

    - Overall utilisation is MACs / (R C cycles), of the whole MatMul, with the reported cycles, which are one too few
      (`single_layer_sim.py`, `calc_report_data`).
    - Mapping efficiency is the average over folds of rows cols / (R C).
    - Compute utilisation is the average over folds of rows cols time / (R C steps). The simulator takes the steps of a
      fold from a demand matrix: its lines, plus C - 1 for the skew of its columns (`cycles_this_fold`). Output
      stationary (`compute/systolic_compute_os.py`) takes the matrix of the results: time - 1 lines before the first of
      them, then R lines. The others (`systolic_compute_ws.py`, `systolic_compute_is.py`) take the matrix of the
      stationary operand: R lines that load it, then R + C + time - 2 lines in which the other operand streams and the
      results leave. That counts C - 1 cycles twice, so it is C - 1 more than a fold's cycles there.

    Parameters
    ----------
    run
        A MatMul of one fold or more.
    cycles
        As SCALE-Sim reports them for the whole MatMul.

    Returns
    -------
    dict
        `UTILISATIONS`, in percent.

    >>> from llmamdahl.hardware import EDGE_TPU
    >>> utilisations(Run(32, 32, 62, EDGE_TPU), cycles=123)
    {'overall_utilisation': 50.40650407, 'mapping_efficiency': 100.0, 'compute_utilisation': 50.0}
    """
    array, time = run.array, run.spatial[2]
    elements = array.rows * array.cols
    parts = folds(run)
    # All folds take the same number of steps, so the average over folds of the elements in use gives both averages.
    in_use = sum(fold.spatial[0] * fold.spatial[1] * count for fold, count in parts) / sum(count for _, count in parts)
    shares = run.m * run.n * run.k / (elements * cycles), in_use / elements, in_use * time / (elements * run.fold_steps)
    return {name: _ten_digits(100 * share) for name, share in zip(UTILISATIONS, shares, strict=True)}


def to_scalesim_topology(matmuls: Iterable[MatMul], path: str | Path) -> tuple[MatMul, ...]:
    """Write a workload as a GEMM topology of SCALE-Sim (`scalesim -i gemm`), one line per distinct MatMul.

    SCALE-Sim knows no repetitions and takes minutes for a large MatMul. So MatMuls of the same part and shape share a
    line, with their names joined by `+`. Their part and count are in columns five and six, which SCALE-Sim ignores: to
    get a total, multiply its result for a line by the count. SCALE-Sim skips the first line, needs a comma at the end
    of each line, and ends a cell at every comma, so a comma in a name is written as a semicolon.

    Parameters
    ----------
    matmuls
        Such as `workload.decode_step` returns.
    path
        The file to write.

    Returns
    -------
    tuple of MatMul
        The lines: element i is `LayerID` i of SCALE-Sim's reports.

    Raises
    ------
    InputError
        No MatMuls.

    >>> from tempfile import TemporaryDirectory
    >>> from llmamdahl.models import get_model
    >>> from llmamdahl.workload import decode_step
    >>> with TemporaryDirectory() as folder:
    ...     lines = to_scalesim_topology(decode_step(get_model("gpt2"), 128)[:6], Path(folder) / "gpt2.csv")
    ...     print((Path(folder) / "gpt2.csv").read_text(encoding="utf-8"), end="")
    Layer,M,N,K,Part,Count,
    W_Q+W_K+W_V+W_X,1,768,768,projection,48,
    W_I,1,3072,768,projection,12,
    W_O,1,768,3072,projection,12,
    """
    lines: dict[tuple[object, ...], MatMul] = {}
    for matmul in listed("matmuls", matmuls, distinct=False):
        shape = matmul.part, matmul.m, matmul.n, matmul.k
        if before := lines.get(shape):
            name = before.name if matmul.name in before.name.split("+") else f"{before.name}+{matmul.name}"
            lines[shape] = replace(before, name=name, count=before.count + matmul.count)
        else:
            lines[shape] = matmul
    rows = [
        {
            "Layer": mm.name.replace(",", ";"),
            "M": mm.m,
            "N": mm.n,
            "K": mm.k,
            "Part": mm.part,
            "Count": mm.count,
            "": "",
        }
        for mm in lines.values()
    ]
    write_rows(Path(path), [*rows[0]], rows)
    return tuple(lines.values())


def _ten_digits(value: float) -> float:
    return float(f"{value:.10g}")
