"""The closed form checked against the store, and a figure's cell followed down to its runs of SCALE-Sim."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd

from llmamdahl.errors import InputError, instance
from llmamdahl.hardware import SystolicArray, get_array
from llmamdahl.models import CONTEXT_LENGTHS, get_model
from llmamdahl.scalesim.store import read_matmuls
from llmamdahl.systolic import gemm_cost
from llmamdahl.workload import Part, decode_step

SRAM_COUNTS = ("cycles", "ifmap_sram_reads", "filter_sram_reads", "ofmap_sram_writes")
"""The counts of `GemmCost` that add up over folds."""


def closed_form_against_store() -> pd.DataFrame:
    """The closed form held to every row of the store: rows, and rows where any count differs, by array and dataflow."""
    store = read_matmuls()
    differs = pd.Series(False, index=store.index)
    for (name, dataflow), rows in store.groupby(["array", "dataflow"]):
        array = get_array(str(name), str(dataflow))
        cost = gemm_cost(rows.m.to_numpy(), rows.n.to_numpy(), rows.k.to_numpy(), array)
        for count in SRAM_COUNTS:
            differs[rows.index] |= rows[count] != getattr(cost, count)
    counted = store.assign(rows=1, whole=store.obtained == "whole", differ=differs)
    return counted.groupby(["array", "dataflow"], sort=False)[["rows", "whole", "differ"]].sum().reset_index()


def trace(model: str, context_length: int, array: SystolicArray) -> pd.DataFrame:
    """Where a cell of Figures 4, 6, 9 and 10 comes from: each MatMul of the decode step with its row of the store.

    Returns
    -------
    DataFrame
        name, part, count (how often in the whole model), m, n, k, cycles and memory_accesses (of one), obtained, runs
        (the simulator runs behind it, in `data/scalesim/runs.csv`), simulator_version.
    """
    instance("array", array, SystolicArray)
    store = read_matmuls()
    for name in ("rows", "cols", "dataflow", "ifmap_sram_kb", "filter_sram_kb", "ofmap_sram_kb"):
        store = store[store[name] == getattr(array, name)]
    if store.empty:
        raise InputError(f"array: {array} is not in the store; it has the arrays of Table 3, in each dataflow")
    steps = [mm for mm in decode_step(get_model(model), context_length) if mm.part is not Part.UNQUANTIZED]
    table = pd.DataFrame([asdict(matmul) for matmul in steps]).astype({"part": str})
    table = table.merge(store, on=["m", "n", "k"], how="left", validate="many_to_one")
    if table.runs.isna().any():
        raise InputError(f"context_length: {context_length} is not in the store; it has {list(CONTEXT_LENGTHS)}")
    table["memory_accesses"] = table.ifmap_sram_reads + table.filter_sram_reads + table.ofmap_sram_writes
    kept = "name part count m n k cycles memory_accesses obtained runs simulator_version".split()
    return table[kept].astype({"cycles": int, "memory_accesses": int})
