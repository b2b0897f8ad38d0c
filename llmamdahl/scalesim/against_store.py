"""The closed form checked against the store, and the trace from a cell of a figure to its runs of SCALE-Sim."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from llmamdahl.errors import InputError
from llmamdahl.hardware import SystolicArray, find_array, get_array
from llmamdahl.models import CONTEXT_LENGTHS, Decoder
from llmamdahl.scalesim.simulator import COUNTS, DRAM_COUNTS
from llmamdahl.scalesim.store import STORE, read_matmuls
from llmamdahl.systolic import gemm_cost
from llmamdahl.workload import Part, decode_step

COMPARED = [name for name in COUNTS + DRAM_COUNTS if name != "stall_cycles"]
"""The counts that the closed form has too. It has no stalls, like the mode in which the simulator runs."""


def closed_form_against_store(folder: Path = STORE) -> pd.DataFrame:
    """Compare the closed form with every row of a store, with no tolerance.

    Parameters
    ----------
    folder
        `STORE`, or `zoo_runs.SAMPLE`.

    Returns
    -------
    DataFrame
        A row per array and dataflow: array, dataflow, rows (of the store), whole (those simulated whole), differ (those
        with a cycle, SRAM or DRAM count that differs; rows simulated by folds have no DRAM counts).
    """
    store = read_matmuls(folder)
    differs = pd.Series(False, index=store.index)
    for (label, dataflow), rows in store.groupby(["array", "dataflow"]):
        array = get_array(str(label), str(dataflow))
        cost = gemm_cost(rows.m.to_numpy(), rows.n.to_numpy(), rows.k.to_numpy(), array)
        for name in COMPARED:
            differs[rows.index] |= (rows[name] != getattr(cost, name)).fillna(False).astype(bool)
    counted = store.assign(rows=1, whole=store.obtained == "whole", differ=differs)
    return counted.groupby(["array", "dataflow"], sort=False)[["rows", "whole", "differ"]].sum().reset_index()


def trace(model: str | Decoder, context_length: int, array: str | SystolicArray) -> pd.DataFrame:
    """The MatMuls behind a cell of Figures 4, 6, 9 and 10: each one of the decode step with its row of the store.

    Parameters
    ----------
    model
        A model of the paper.
    context_length
        A context length of the paper, in tokens.
    array
        An array of Table 3, in any dataflow.

    Returns
    -------
    DataFrame
        name, part, count (how often it occurs in the whole model), m, n, k, cycles and memory_accesses (of one MatMul),
        obtained, runs (the simulator runs behind it, in `data/scalesim/runs.csv`), simulator_version.

    Raises
    ------
    InputError
        An array or a context length that is not in the store.
    """
    design, store = find_array(array), read_matmuls()
    for name in ("rows", "cols", "dataflow", "ifmap_sram_kb", "filter_sram_kb", "ofmap_sram_kb"):
        store = store[store[name] == getattr(design, name)]
    if store.empty:
        raise InputError(f"array: {design} is not in the store; it has the arrays of Table 3, in each dataflow")
    steps = [mm for mm in decode_step(model, context_length) if mm.part is not Part.UNQUANTIZED]
    table = pd.DataFrame([asdict(matmul) for matmul in steps]).astype({"part": str})
    table = table.merge(store, on=["m", "n", "k"], how="left", validate="many_to_one")
    if table.runs.isna().any():
        raise InputError(f"context_length: {context_length} is not in the store; it has {list(CONTEXT_LENGTHS)}")
    table["memory_accesses"] = table.ifmap_sram_reads + table.filter_sram_reads + table.ofmap_sram_writes
    kept = "name part count m n k cycles memory_accesses obtained runs simulator_version".split()
    return table[kept].astype({"cycles": int, "memory_accesses": int})
