"""SCALE-Sim 2.0.2's three reports of a topology, in milliseconds: the text it would write, digit by digit.

Cycles and SRAM counts are those of `gemm_cost`, as are the DRAM counts of filters and results, and of ifmaps whose
windows share no word. The rest is of `trace.py`: start and stop cycles, and the DRAM reads of other ifmaps.

Cycles of memories are floats, as in the simulator. It dates SRAM reads one cycle after they are asked for, a result and
a write to DRAM with the cycle itself. Bandwidths are words a cycle: SRAM words over the total cycles, DRAM words over
the cycles from start to stop. For WS and IS compute utilisation divides by cols - 1 cycles a fold more than one takes.

Mapping efficiency and compute utilisation are averages over folds, added up one by one with Python's `sum`. So the last
digits too are those of the simulator, if it runs under the same version of Python: from 3.12 on `sum` makes up for its
rounding (a relative difference of at most 1.5e-14, in 120 of the 6752 cells of `tests/data/scalesim/`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

from llmamdahl.errors import InputError, instance, listed
from llmamdahl.hardware import Dataflow, SystolicArray
from llmamdahl.scalesim import trace
from llmamdahl.scalesim.topology import ConvLayer, GemmLayer, Layer
from llmamdahl.systolic import GemmCost, gemm_cost
from llmamdahl.tables import Row

MOST_FOLDS = 2**26
"""Of a layer, which take a second to add up."""

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
"""The reports and their columns, in SCALE-Sim's order. Counts are words of a byte, bandwidths words a cycle."""


Values = tuple[list[float], list[float], list[float]]
"""A row of each report, without its number."""


class Accesses(NamedTuple):
    """What SCALE-Sim says of one memory and one layer."""

    start: float
    stop: float
    words: int

    @property
    def bandwidth(self) -> float:
        """Words a cycle, from start to stop."""
        return self.words / (self.stop - self.start + 1)


def report_rows(layers: Iterable[Layer], array: SystolicArray) -> dict[str, list[Row]]:
    """The rows of SCALE-Sim's three reports.

    Parameters
    ----------
    layers
        Of `read_topology`, or `ConvLayer` and `GemmLayer` made by hand.
    array
        The systolic array, simulated without stalls (`InterfaceBandwidth: CALC`).

    Returns
    -------
    dict of str to list of dict
        The keys of `COLUMNS`; for each a row a layer, by column. `str` of a value is what SCALE-Sim writes.

    Raises
    ------
    InputError
        No layer, or one without a report; it names the layer. A layer may take a single cycle, by which SCALE-Sim
        divides as 0; a read buffer may hold fewer words than the array can ask for in one cycle, where it can divide by
        0; or overlapping windows (`trace.MOST_ACCESSES`) or folds (`MOST_FOLDS`) may be too many to go through.
    CountOverflowError
        A count above 2**63 - 1.

    >>> from llmamdahl.hardware import EDGE_TPU
    >>> conv = ConvLayer("Conv1", 224, 224, 7, 7, 3, 64, 2, 2)
    >>> rows = report_rows([conv, GemmLayer("logits", 1, 1000, 512)], EDGE_TPU)
    >>> [row["Total Cycles"] for row in rows["COMPUTE_REPORT"]]
    [158421, 18367]
    >>> rows["DETAILED_ACCESS_REPORT"][0]["DRAM IFMAP Reads"]  # 224 x 224 x 3, each once
    150528
    """
    instance("array", array, SystolicArray)
    reports: dict[str, list[Row]] = {name: [] for name in COLUMNS}
    known: dict[Layer, Values] = {}  # networks repeat their layers
    for number, layer in enumerate(listed("layers", layers, distinct=False)):
        if not isinstance(layer, ConvLayer | GemmLayer):
            raise InputError(f"layers: {layer!r} is not a ConvLayer or a GemmLayer")
        sizes = replace(layer, name="")
        try:
            known[sizes] = known.get(sizes) or _layer_values(layer, array)
        except InputError as error:
            raise type(error)(f"layer {number} ({layer.name}): {error}") from None
        for (name, columns), row in zip(COLUMNS.items(), known[sizes], strict=True):
            reports[name].append(dict(zip(columns, (number, *row), strict=True)))
    return reports


def write_reports(layers: Iterable[Layer], array: SystolicArray, folder: str | Path) -> Path:
    """Write the three files that SCALE-Sim would write with `-p folder`, and the folders they need.

    Returns
    -------
    Path
        Where they are: `folder / array.run_name`.

    Raises
    ------
    InputError
        As `report_rows`, and a label that cannot be the name of a folder.

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
    cost, grid = gemm_cost(layer.m, layer.n, layer.k, array), trace.folds(layer, array)
    cycles = int(cost.cycles)
    if not cycles:
        raise InputError("takes one cycle, which SCALE-Sim counts as none and then divides by")
    sram = _sram(layer, array, cost, grid)
    dram = _dram(layer, array, cost, grid)
    bandwidths = [memory.words / cycles for memory in sram] + [memory.bandwidth for memory in dram]
    return [cycles, 0, *_utilisations(layer, array, grid)], bandwidths, [*chain(*sram, *dram)]


def _utilisations(layer: Layer, array: SystolicArray, grid: trace.Folds) -> tuple[float, float, float]:
    """Overall utilisation, mapping efficiency and compute utilisation, in percent, rounded where SCALE-Sim rounds."""
    elements, time = array.rows * array.cols, trace.spatial(layer, array.dataflow)[2]
    cycles = grid.cycles + (0 if array.dataflow == Dataflow.OS else array.cols - 1)
    return (
        layer.m * layer.n * layer.k * 100 / (grid.last_cycle * elements),
        _average(lambda used: used / elements, grid) * 100,
        _average(lambda used: used * time / (elements * cycles), grid) * 100,
    )


def _average(value: Callable[[int], float], grid: trace.Folds) -> float:
    """Average over the folds, in their order, of a value of the elements that one uses."""
    number = grid.down * grid.across
    if number > MOST_FOLDS:
        raise InputError(f"{number} folds; a utilisation of each is added up, and more than {MOST_FOLDS} take too long")
    column, last = (
        [value(grid.rows * cols)] * (grid.down - 1) + [value(grid.last_rows * cols)]
        for cols in (grid.cols, grid.last_cols)
    )
    return sum(chain(chain.from_iterable(repeat(column, grid.across - 1)), last)) / number


def _sram(layer: Layer, array: SystolicArray, cost: GemmCost, grid: trace.Folds) -> list[Accesses]:
    """First and last access and words of the three SRAMs: those of the first fold and of the last."""
    words = map(int, (cost.ifmap_sram_reads, cost.filter_sram_reads, cost.ofmap_sram_writes))
    found = []
    for shape, latency, number in zip(trace.demands(layer, array), (1, 1, 0), words, strict=True):
        first = shape(grid.used_rows(0), grid.used_cols(0)).first
        last = shape(grid.last_rows, grid.last_cols)
        stop = grid.start(grid.down - 1, grid.across - 1) + last.cycle(last.words - 1)
        found.append(Accesses(float(first + latency), float(stop + latency), number))
    # The last accesses to the ifmap may have no address.
    if isinstance(layer, ConvLayer) and trace.sticks_out(layer):
        found[0] = found[0]._replace(stop=float(trace.last_ifmap_cycle(layer, array, grid) + 1))
    return found


def _dram(layer: Layer, array: SystolicArray, cost: GemmCost, grid: trace.Folds) -> list[Accesses]:
    """First and last cycle of DRAM and words, of the three operands."""
    # The closed form rejects a buffer that the array can fill in one cycle, so it comes first for every layer.
    words = [int(cost.ifmap_dram_reads), int(cost.filter_dram_reads)]
    shapes = trace.demands(layer, array)
    kilobytes = array.ifmap_sram_kb, array.filter_sram_kb
    operands = zip(words, trace.readings(layer, array, grid), shapes, kilobytes, strict=False)
    filled = [trace.last_fill_cycle(*operand, grid) for operand in operands]
    # It takes each pass over the ifmap for m x k distinct words: true unless windows overlap or stick out.
    if isinstance(layer, ConvLayer) and not trace.asked_once(layer):
        words[0], filled[0] = trace.conv_fetches(layer, array, grid)
    requests = [shape(grid.used_rows(0), grid.used_cols(0)).first for shape in shapes[:2]]
    spans = [trace.read_span(*operand) for operand in zip(words, filled, requests, kilobytes, strict=True)]
    spans.append(trace.write_span(layer, array, grid))
    return [
        Accesses(float(start), float(stop), number)
        for (start, stop), number in zip(spans, [*words, int(cost.ofmap_dram_writes)], strict=True)
    ]
