"""The three reports that SCALE-Sim 2.0.2 writes for a topology, equal to its own byte for byte, in milliseconds.

`gemm_cost` gives the cycles, the SRAM counts and the DRAM counts, except the DRAM reads of an ifmap whose windows
overlap or extend past its edge. `windows.py` gives those, and `trace.py` the start and stop cycles.

Start and stop cycles are floats, as in the simulator. It reports an SRAM read one cycle after the request, and results
and DRAM writes in the cycle itself. Bandwidths are in words per cycle: SRAM words over the total cycles, DRAM words
over the cycles from start to stop.

Mapping efficiency and compute utilisation are averages over folds, added one by one with Python's `sum`. So their last
digits equal SCALE-Sim's if both run on the same version of Python. From 3.12 on, `sum` compensates for rounding, which
changes 120 of the 6752 cells in `tests/data/scalesim/`, by at most 1.5e-14 of their value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

from llmamdahl.dram import array_requests
from llmamdahl.errors import InputError, instance, listed, shown
from llmamdahl.hardware import SystolicArray
from llmamdahl.scalesim import trace, windows
from llmamdahl.scalesim.simulator import Run
from llmamdahl.scalesim.topology import ConvLayer, GemmLayer, Layer
from llmamdahl.systolic import GemmCost, gemm_cost
from llmamdahl.tables import Row

MAX_FOLDS = 2**26
"""Folds of the largest layer whose utilisations are averaged, which takes a second."""

COLUMNS = {
    "COMPUTE_REPORT": (
        "LayerID",
        "Total Cycles",
        "Stall Cycles",
        "Overall Util %",
        "Mapping Efficiency %",
        "Compute Util %",
    ),
    "BANDWIDTH_REPORT": (
        "LayerID",
        *(f"Avg {operand} {memory} BW" for memory in ("SRAM", "DRAM") for operand in ("IFMAP", "FILTER", "OFMAP")),
    ),
    "DETAILED_ACCESS_REPORT": (
        "LayerID",
        *(
            f"{memory} {operand} {what}"
            for memory in ("SRAM", "DRAM")
            for operand, words in (("IFMAP", "Reads"), ("Filter", "Reads"), ("OFMAP", "Writes"))
            for what in ("Start Cycle", "Stop Cycle", words)
        ),
    ),
}
"""The reports and their columns, in SCALE-Sim's order. Counts are words of one byte, bandwidths words per cycle."""

Values = tuple[list[float], list[float], list[float]]
"""A row of each report, without its `LayerID`."""


class MemoryUse(NamedTuple):
    """Accesses of one layer to one memory, as SCALE-Sim reports them: first and last cycle, and words."""

    start: float
    stop: float
    words: int

    @property
    def bandwidth(self) -> float:
        """Words per cycle, from start to stop."""
        return self.words / (self.stop - self.start + 1)


def report_rows(layers: Iterable[Layer], array: SystolicArray) -> dict[str, list[Row]]:
    """The rows of SCALE-Sim's three reports.

    Parameters
    ----------
    layers
        Layers from `read_topology`, or your own `ConvLayer` and `GemmLayer`.
    array
        The systolic array, simulated without stalls (`InterfaceBandwidth: CALC`).

    Returns
    -------
    dict of str to list of dict
        For each key of `COLUMNS`, one row per layer. SCALE-Sim writes `str` of each value.

    Raises
    ------
    InputError
        There is no layer, or a layer has no report; the message names it. A layer has no report if it takes a single
        cycle, if the array can request more words in one cycle than a read buffer holds (SCALE-Sim divides by zero in
        the first case, and can do so in the second), or if it has more than `MAX_FOLDS` folds or, in overlapping
        windows, more than `windows.MAX_ACCESSES` words.
    CountOverflowError
        A count above 2**63 - 1.

    >>> from llmamdahl.hardware import EDGE_TPU
    >>> conv = ConvLayer("Conv1", 224, 224, 7, 7, 3, 64, 2, 2)
    >>> rows = report_rows([conv, GemmLayer("logits", 1, 1000, 512)], EDGE_TPU)
    >>> [row["Total Cycles"] for row in rows["COMPUTE_REPORT"]]
    [158421, 18367]
    >>> rows["DETAILED_ACCESS_REPORT"][0]["DRAM IFMAP Reads"]  # each of 224 x 224 x 3 words once
    150528
    """
    instance("array", array, SystolicArray)
    reports: dict[str, list[Row]] = {name: [] for name in COLUMNS}
    known: dict[Layer, Values] = {}  # networks repeat their layers
    for number, layer in enumerate(listed("layers", layers, distinct=False)):
        if not isinstance(layer, ConvLayer | GemmLayer):
            raise InputError(f"layers: {shown(layer)} is not a ConvLayer or a GemmLayer")
        sizes = replace(layer, name="")
        try:
            known[sizes] = known.get(sizes) or _layer_values(layer, array)
        except InputError as error:
            raise type(error)(f"layer {number} ({layer.name}): {error}") from None
        for (name, columns), row in zip(COLUMNS.items(), known[sizes], strict=True):
            reports[name].append(dict(zip(columns, (number, *row), strict=True)))
    return reports


def write_reports(layers: Iterable[Layer], array: SystolicArray, folder: str | Path) -> Path:
    """Write the three files that SCALE-Sim would write with `-p folder`; create folders that do not exist.

    Returns
    -------
    Path
        The folder of the files, `folder / array.run_name`.

    Raises
    ------
    InputError
        The errors of `report_rows`, or a label of the array that cannot name a folder.

    >>> from tempfile import TemporaryDirectory
    >>> from llmamdahl.hardware import EDGE_TPU
    >>> with TemporaryDirectory() as folder:
    ...     path = write_reports([GemmLayer("Q", 1, 32, 768)], EDGE_TPU, folder)
    ...     print(path.name, (path / "COMPUTE_REPORT.csv").read_text(encoding="utf-8"), sep="\\n", end="")
    edge
    LayerID, Total Cycles, Stall Cycles, Overall Util %, Mapping Efficiency %, Compute Util %,
    0, 829, 0, 2.8950542822677927, 3.125, 2.891566265060241,
    """
    reports = report_rows(layers, array)
    path = Path(folder) / array.run_name
    path.mkdir(parents=True, exist_ok=True)
    for name, rows in reports.items():
        lines = [COLUMNS[name], *(row.values() for row in rows)]
        text = "".join(", ".join(map(str, line)) + ",\n" for line in lines)
        (path / f"{name}.csv").write_text(text, encoding="utf-8")
    return path


def _layer_values(layer: Layer, array: SystolicArray) -> Values:
    """The rows of a layer."""
    cost = gemm_cost(layer.m, layer.n, layer.k, array)
    run = Run(layer.m, layer.n, layer.k, array)
    cycles, grid = int(cost.cycles), trace.fold_grid(run)
    if not cycles:
        raise InputError("takes a single cycle; SCALE-Sim reports it as 0 cycles and then divides by them")
    sram = _sram(layer, run, cost, grid)
    dram = _dram(layer, run, cost, grid)
    bandwidths = [memory.words / cycles for memory in sram] + [memory.bandwidth for memory in dram]
    return [cycles, 0, *_utilisations(run, grid)], bandwidths, [*chain(*sram, *dram)]


def _utilisations(run: Run, grid: trace.FoldGrid) -> tuple[float, float, float]:
    """Overall utilisation, mapping efficiency and compute utilisation, in percent (`simulator.utilisations`).

    The order of operations is SCALE-Sim's, so that every step rounds as it does there.
    """
    elements, time, steps = run.array.rows * run.array.cols, run.spatial[2], run.fold_steps
    return (
        run.m * run.n * run.k * 100 / (grid.last_cycle * elements),
        _average(lambda used: used / elements, grid) * 100,
        _average(lambda used: used * time / (elements * steps), grid) * 100,
    )


def _average(value: Callable[[int], float], grid: trace.FoldGrid) -> float:
    """Average over the folds, in their order, of a function of the processing elements that a fold uses."""
    number = grid.down * grid.across
    if number > MAX_FOLDS:
        raise InputError(f"{number} folds; utilisations are added up fold by fold, for at most {MAX_FOLDS}")
    # All columns of folds but the last have the same values, and so do all folds of a column but the last.
    column, last = (
        [value(grid.array.rows * cols)] * (grid.down - 1) + [value(grid.last_rows * cols)]
        for cols in (grid.array.cols, grid.last_cols)
    )
    return sum(chain(chain.from_iterable(repeat(column, grid.across - 1)), last)) / number


def _sram(layer: Layer, run: Run, cost: GemmCost, grid: trace.FoldGrid) -> list[MemoryUse]:
    """Use of the ifmap, filter and ofmap SRAM."""
    words = map(int, (cost.ifmap_sram_reads, cost.filter_sram_reads, cost.ofmap_sram_writes))
    found = []
    for pattern, latency, number in zip(trace.access_patterns(run), (1, 1, 0), words, strict=True):
        # The first access is in the first fold, and the last access in the last.
        first = pattern(grid.used_rows(0), grid.used_cols(0)).first
        last = pattern(grid.last_rows, grid.last_cols)
        stop = grid.start(grid.down - 1, grid.across - 1) + last.cycle(last.words - 1)
        found.append(MemoryUse(float(first + latency), float(stop + latency), number))
    # The last accesses may be to null addresses, for which SCALE-Sim records no cycle.
    if isinstance(layer, ConvLayer) and windows.past_edge(layer):
        found[0] = found[0]._replace(stop=float(windows.last_ifmap_cycle(layer, grid) + 1))
    return found


def _dram(layer: Layer, run: Run, cost: GemmCost, grid: trace.FoldGrid) -> list[MemoryUse]:
    """Use of the DRAM by ifmap, filter and ofmap."""
    # Read the closed form first: it raises an error for a buffer that the array can fill in one cycle.
    words = [int(cost.ifmap_dram_reads), int(cost.filter_dram_reads)]
    patterns = trace.access_patterns(run)
    kilobytes = run.array.ifmap_sram_kb, run.array.filter_sram_kb
    *requests, _ = array_requests(run.m, run.n, run.k, run.array)
    operands = zip(words, requests, patterns, kilobytes, strict=False)
    filled = [trace.last_fill_cycle(*operand, grid) for operand in operands]
    # The closed form assumes that each pass over the ifmap requests m x k distinct words. Replay other ifmaps.
    if isinstance(layer, ConvLayer) and not windows.requested_once(layer):
        words[0], filled[0] = windows.conv_fetches(layer, grid)
    first = [pattern(grid.used_rows(0), grid.used_cols(0)).first for pattern in patterns[:2]]
    spans = [trace.read_span(*operand) for operand in zip(words, filled, first, kilobytes, strict=True)]
    spans.append(trace.write_span(run, patterns[2], grid))
    return [
        MemoryUse(float(start), float(stop), number)
        for (start, stop), number in zip(spans, [*words, int(cost.ofmap_dram_writes)], strict=True)
    ]
