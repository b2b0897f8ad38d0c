"""The paper's sentences as checks (`data/published/statements.csv`), under the paper's reading and under others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from typing import get_args

import numpy as np
import pandas as pd

from llmamdahl.analysis import crossovers, share, sweep
from llmamdahl.errors import one_of
from llmamdahl.hardware import CLOUD_TPU, Dataflow, SystolicArray, get_array
from llmamdahl.models import CONTEXT_LENGTHS, Decoder, model_names
from llmamdahl.paper.miscounts import dataflow_cycles
from llmamdahl.paper.published import statements
from llmamdahl.question import Metric, Settings
from llmamdahl.roofline import FP16, Precision
from llmamdahl.systolic import Counting, Folds
from llmamdahl.tables import Row
from llmamdahl.workload import Part

CLOCK_MHZ = 700
"""Clock of both arrays where they have a memory: that of TPU v1 (Jouppi et al., ISCA 2017), a 256 x 256 array too."""


@dataclass(frozen=True)
class Reading:
    """What the paper's numbers are computed under: keywords of `analysis.share`, and a memory.

    >>> Reading("DDR3", dram_gb_s=34).array("edge").dram_gb_s
    4.25
    """

    name: str
    settings: Settings = field(default_factory=Settings)
    dram_gb_s: float | None = None
    """Bandwidth of the cloud array's DRAM at `CLOCK_MHZ`, None for no limit; the edge array, with an eighth of the
    columns, has an eighth of it.
    """

    @property
    def metric(self) -> Metric:
        """What stands for the paper's cycles: seconds, if there is a memory to wait for."""
        return "cycles" if self.dram_gb_s is None else "seconds"

    def array(self, name: str) -> SystolicArray:
        """The `cloud` or `edge` array under this reading."""
        array = get_array(name)
        if self.dram_gb_s is None:
            return array
        return replace(array, clock_mhz=CLOCK_MHZ, dram_gb_s=self.dram_gb_s * array.cols / CLOUD_TPU.cols)


PAPER = Reading("paper")

READINGS = (
    PAPER,
    Reading("heads grouped", {"heads": "grouped"}),
    Reading("corrected", {"counting": "corrected"}),
    Reading("pipelined", {"folds": "pipelined"}),
    Reading("corrected, pipelined", {"counting": "corrected", "folds": "pipelined"}),
    Reading("819 GB/s", dram_gb_s=819),
    Reading("205 GB/s", dram_gb_s=204.8),
    Reading("83 GB/s", dram_gb_s=83.2),
    Reading("34 GB/s", dram_gb_s=34),
    Reading("205 GB/s, two bytes", {"baseline": FP16}, dram_gb_s=204.8),
    Reading("34 GB/s, two bytes", {"baseline": FP16}, dram_gb_s=34),
    Reading("34 GB/s, W2", {"baseline": Precision(weights=2)}, dram_gb_s=34),
    Reading("pipelined, 819 GB/s, two bytes", {"folds": "pipelined", "baseline": FP16}, dram_gb_s=819),
    Reading("pipelined, 34 GB/s", {"folds": "pipelined"}, dram_gb_s=34),
    Reading("pipelined, 34 GB/s, W2", {"folds": "pipelined", "baseline": Precision(weights=2)}, dram_gb_s=34),
)
"""The paper's reading, each other reading alone, and combinations that belong together.

Bandwidths: TPU v5e's HBM (819) and TPU v1's DDR3 (34) are in `data/hardware/devices.csv`, as are two channels of
DDR5-5200 (83.2); 204.8 is LPDDR5-6400, 256 bits wide.
"""

CONTEXT_READINGS = (
    PAPER,
    Reading("corrected", {"counting": "corrected"}),
    Reading("pipelined", {"folds": "pipelined"}),
    Reading("34 GB/s", dram_gb_s=34),
    Reading("heads grouped", {"heads": "grouped"}),
    Reading("grouped, corrected", {"heads": "grouped", "counting": "corrected"}),
    Reading("grouped, pipelined", {"heads": "grouped", "folds": "pipelined"}),
    Reading("grouped, pipelined, 819 GB/s", {"heads": "grouped", "folds": "pipelined"}, dram_gb_s=819),
    Reading("grouped, pipelined, 34 GB/s", {"heads": "grouped", "folds": "pipelined"}, dram_gb_s=34),
    Reading(
        "grouped, pipelined, 34 GB/s, W2",
        {"heads": "grouped", "folds": "pipelined", "baseline": Precision(weights=2)},
        dram_gb_s=34,
    ),
)
"""Readings of models whose query heads share K and V, so that `heads` matters: each alone, and combinations."""

OS_WINS = "share of cases that OS wins"
STATISTICS: dict[str, Callable[[np.ndarray], float]] = {
    "value": lambda cells: cells.item(),
    "smallest": lambda cells: cells.min(),
    "largest": lambda cells: cells.max(),
    "smallest rise with model size": lambda cells: np.diff(cells, axis=1).min(),
    "largest rise with context length": lambda cells: np.diff(cells, axis=0).max(),
    "smallest ceiling of attention": lambda cells: (1 / cells).min(),
    "largest ceiling of attention": lambda cells: (1 / cells).max(),
    "smallest ceiling of projections": lambda cells: (1 / (1 - cells)).min(),
    "largest ceiling of projections": lambda cells: (1 / (1 - cells)).max(),
    "cells that round to 0.5": lambda cells: (cells.round(1) == 0.5).sum(),
}
"""Statistics of a map of shares: rows are context lengths, ascending; columns are models, from small to large."""

RELATIONS: dict[str, Callable[[float, str, str], bool]] = {
    "rounds to": lambda value, ours, printed: ours == printed,
    "is": lambda value, ours, printed: value == float(printed),
    "more than": lambda value, ours, printed: bool(value > float(printed)),
    "less than": lambda value, ours, printed: bool(value < float(printed)),
}


def checked(statement: Row, reading: Reading = PAPER) -> Row:
    """Our value of a statement under a reading, and whether the statement holds.

    Returns
    -------
    dict
        value (a number), ours (as text, with the decimals that the paper prints where the two are compared as text),
        holds.

    Raises
    ------
    InputError
        A statistic or relation that is not known.
    """
    lengths = tuple(int(length) for length in statement["context_lengths"].split())
    models = tuple(statement["models"].split())
    statistic, relation, printed = (statement[name] for name in ("statistic", "relation", "printed"))
    one_of(f"statement {statement['id']}: statistic", statistic, (*STATISTICS, OS_WINS))
    one_of(f"statement {statement['id']}: relation", relation, tuple(RELATIONS))
    if statistic == OS_WINS:
        value = _share_os_wins(reading, statement["array"], models, lengths)
    else:
        metric = reading.metric if statement["metric"] == "cycles" else statement["metric"]
        settings = tuple(reading.settings.items())
        shares = _map(reading.array(statement["array"]), metric, models, lengths, settings)
        value = float(STATISTICS[statistic](shares if statement["part"] == Part.PROJECTION else 1 - shares))
    ours = f"{value:.{len(printed.partition('.')[2])}f}" if relation in ("rounds to", "is") else f"{value:.4g}"
    return {"value": value, "ours": ours, "holds": RELATIONS[relation](value, ours, printed)}


def under_readings(readings: Iterable[Reading] = READINGS) -> pd.DataFrame:
    """Every statement under every reading.

    Returns
    -------
    DataFrame
        One row for each statement and reading: id, item, short (the statement in a few words), asserts (`magnitude`, a
        printed number, or `kind`, which part matters), array, metric, printed (with its relation), whole (the parts
        that F is a share of), reading, dram_gb_s (of this array, at `CLOCK_MHZ`; NaN for no limit), value, ours, holds.
    """
    rows = []
    for row in statements().to_dict("records"):
        statement = {str(name): cell for name, cell in row.items()}
        about = {name: statement[name] for name in ("id", "item", "short", "asserts", "array", "metric")}
        about |= {"printed": f"{statement['relation']} {statement['printed']}", "whole": "projection + attention"}
        for reading in readings:
            rows.append({**about, **_under(reading, statement["array"]), **checked(statement, reading)})
    return pd.DataFrame(rows)


def conclusions_under(readings: Iterable[Reading] = READINGS) -> pd.DataFrame:
    """The three conclusions of Section 5 under every reading, each on both arrays.

    (i) and (ii) are checked as in `statements`, (iii) also as "the majority of computations": F > 1/2 for OPT 30B and
    66B at every context length.

    Returns
    -------
    DataFrame
        conclusion, models and context_lengths (that it is checked on), array, checked (what must hold), reading,
        dram_gb_s (of this array, at `CLOCK_MHZ`; NaN for no limit), value, holds.
    """
    by_id = {str(row["id"]): {str(name): cell for name, cell in row.items()} for row in statements().to_dict("records")}
    most = by_id["conclusion"] | {"statistic": "smallest", "printed": "0.5", "models": "opt-30b opt-66b"}
    cases = [
        ("(i) small", "1/(1 - F) < 1.5", by_id["conclusion-small"]),
        ("(ii) medium", "1 - F > 0.33", by_id["conclusion-medium"]),
        ("(iii) large, most", "F > 0.5", most),
        ("(iii) large, 99%", "F > 0.99", by_id["conclusion"]),
    ]
    rows = []
    for reading, (conclusion, text, statement), array in product(readings, cases, ("cloud", "edge")):
        found = checked(statement | {"array": array}, reading)
        about = {"conclusion": conclusion, **{name: statement[name] for name in ("models", "context_lengths")}}
        about |= {"array": array, "checked": text, **_under(reading, array)}
        rows.append({**about, "value": found["value"], "holds": found["holds"]})
    return pd.DataFrame(rows)


def _under(reading: Reading, array: str) -> Row:
    """A reading's columns, with the bandwidth of this array."""
    return {"reading": reading.name, "dram_gb_s": reading.array(array).dram_gb_s}


def conclusions_beyond() -> pd.DataFrame:
    """What the three conclusions are checked on, beyond `READINGS`: other arrays, dataflows, and bits of K and V.

    Returns
    -------
    DataFrame
        Index: the reading. Columns: (i) 1/(1 - F), OPT 350M at l = 4096; (ii) 1 - F, the lower of OPT 1.3B and 2.7B at
        l = 2048; (iii) F, the lowest of OPT 30B and 66B at every context length of the paper.
    """
    corrected: Settings = {"counting": "corrected"}
    pipelined: Settings = {"folds": "pipelined"}
    cases: dict[str, tuple[SystolicArray, Settings]] = {
        "the paper's: OS, 256 x 256": (CLOUD_TPU, {}),
        "192 x 192": (SystolicArray(192, 192), {}),
        "160 x 160": (SystolicArray(160, 160), {}),
        "128 x 128": (SystolicArray(128, 128), {}),
        "128 x 128, corrected": (SystolicArray(128, 128), corrected),
        "IS, pipelined": (replace(CLOUD_TPU, dataflow="is"), pipelined),
        "WS, pipelined": (replace(CLOUD_TPU, dataflow="ws"), pipelined),
        "61 GB/s, corrected": (Reading("", dram_gb_s=61).array("cloud"), corrected),
        "89 GB/s, corrected": (Reading("", dram_gb_s=89).array("cloud"), corrected),
        "bytes: W1 A8, K and V 8 bits": (CLOUD_TPU, {"metric": "bytes", "baseline": Precision(weights=1)}),
        "bytes: W1 A8, K and V 16 bits": (CLOUD_TPU, {"metric": "bytes", "baseline": Precision(weights=1, cache=16)}),
    }
    found = {}
    for name, (array, settings) in cases.items():
        one, two, three = (
            [share(model, length, array, **settings).fraction for model in models for length in lengths]
            for models, lengths in [
                (["opt-350m"], (4096,)),
                (["opt-1.3b", "opt-2.7b"], (2048,)),
                (["opt-30b", "opt-66b"], CONTEXT_LENGTHS),
            ]
        )
        found[name] = {"(i) 1/(1 - F)": 1 / (1 - max(one)), "(ii) 1 - F": 1 - max(two), "(iii) F": min(three)}
    return pd.DataFrame(found).T


def contexts_under(
    models: Iterable[str | Decoder], array: str, readings: Iterable[Reading] = CONTEXT_READINGS
) -> pd.DataFrame:
    """The context length at which F falls to 1/2 (`analysis.crossovers`) under every reading; with a column reading."""
    models, tables = list(models), []
    for reading in readings:
        settings: Settings = {**reading.settings, "metric": reading.metric}
        tables.append(crossovers(models, [reading.array(array)], **settings).assign(reading=reading.name))
    return pd.concat(tables, ignore_index=True)


def edge_over_cloud() -> pd.DataFrame:
    """How each part of OPT fares on the edge array, in every dataflow and under every reading of folds and counting.

    Section 4.3 gives the reason for the edge array's high F: the small array is less efficient at the projections.

    Returns
    -------
    DataFrame
        model, context_length, metric, dataflow, folds, counting; projection and attention (the edge array's count over
        the cloud array's, which has 64 times as many PEs); shift (F on the edge array minus F on the cloud array).
    """
    tables = []
    for dataflow, folds, counting in product(Dataflow, get_args(Folds), get_args(Counting)):
        cloud, edge = (
            sweep(model_names("opt"), CONTEXT_LENGTHS, [get_array(name, dataflow)], folds=folds, counting=counting)
            for name in ("cloud", "edge")
        )
        table = edge[["model", "context_length", "metric", "dataflow"]].assign(folds=folds, counting=counting)
        ratios = {part: edge[part] / cloud[part] for part in ("projection", "attention")}
        tables.append(table.assign(**ratios, shift=edge.fraction - cloud.fraction))
    return pd.concat(tables, ignore_index=True)


def smallest_changes() -> pd.DataFrame:
    """What reverses the statements that depend on cycles and say which part matters, and conclusion (iii).

    Returns
    -------
    DataFrame
        statement, array, one_switch (the readings that reverse it alone, without a memory), bandwidth_below
        (`reversing_bandwidth`, NaN if no bandwidth reverses it).
    """
    switches = [reading for reading in READINGS if len(reading.settings) == 1 and reading.dram_gb_s is None]
    rows = []
    for row in statements().to_dict("records"):
        statement = {str(name): cell for name, cell in row.items()}
        if statement["metric"] != "cycles" or (statement["asserts"] != "kind" and statement["id"] != "conclusion"):
            continue
        fails = [reading.name for reading in switches if not checked(statement, reading)["holds"]]
        about = {"statement": statement["short"], "array": statement["array"]}
        below = reversing_bandwidth(statement)
        rows.append({**about, "one_switch": ", ".join(fails), "bandwidth_below": below})
    return pd.DataFrame(rows)


def reversing_bandwidth(statement: Row, reading: Reading = PAPER, lowest: float = 1) -> float | None:
    """The bandwidth below which a statement stops to hold, as the cloud array's in GB/s at `CLOCK_MHZ`.

    Searched downwards from a bandwidth that is never waited for, in steps of a fifth, then to three digits.

    Returns
    -------
    float or None
        None if the statement holds down to `lowest`; infinity if it does not hold without a limit either.
    """

    def holds(bandwidth: float) -> bool:
        return bool(checked(statement, replace(reading, dram_gb_s=bandwidth))["holds"])

    # no array takes more than a word of at most 8 bytes for each column, and row, and result in a cycle
    above = 3 * 8 * CLOUD_TPU.cols * CLOCK_MHZ / 1e3
    if not holds(above):
        return math.inf
    while holds(below := above / 1.2):
        above = below
        if above < lowest:
            return None
    while above / below > 1.001:
        middle = math.sqrt(above * below)
        above, below = (middle, below) if holds(middle) else (above, middle)
    return float(f"{above:.3g}")


@cache
def _map(
    array: SystolicArray,
    metric: Metric,
    models: tuple[str, ...],
    lengths: tuple[int, ...],
    settings: tuple[tuple[str, object], ...],
) -> np.ndarray:
    """F by context length (rows) and model (columns)."""
    frame = sweep(models, lengths, [array], metric=metric, **dict(settings))  # type: ignore[arg-type]  # `Settings`
    return frame.fraction.to_numpy().reshape(len(models), len(lengths)).T  # a sweep is in the order of its arguments


def _share_os_wins(reading: Reading, array: str, models: tuple[str, ...], lengths: tuple[int, ...]) -> float:
    settings: Settings = {**reading.settings, "metric": reading.metric}
    totals = (
        dataflow_cycles(models, lengths, reading.array(array), ifmap="activations", **settings),
        dataflow_cycles(models, lengths, reading.array(array), ifmap="weights", **settings),
    )
    return float(np.mean([found.fastest == "os" for found in totals]))
