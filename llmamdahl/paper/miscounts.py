"""What SCALE-Sim's miscounts change: which dataflow is the fastest (Figure 8), and F (Figures 4 and 6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, Unpack

import pandas as pd

from llmamdahl.analysis import sweep
from llmamdahl.hardware import Dataflow, Hardware, find_array
from llmamdahl.models import Decoder
from llmamdahl.question import Settings
from llmamdahl.workload import whole


def dataflow_cycles(
    models: Iterable[str | Decoder],
    context_lengths: Iterable[int],
    array: str | Hardware,
    *,
    ifmap: Literal["activations", "weights"] = "activations",
    **settings: Unpack[Settings],
) -> pd.DataFrame:
    """Total cycles of a decode step, whole model, in each dataflow (Figure 8), and which of them is the fastest.

    Settings are those of `analysis.share`; with `metric="seconds"` the totals are seconds.

    Returns
    -------
    DataFrame
        model, context_length, array, ifmap, counting, os, ws, is (cycles), fastest (`os`, `ws` or `is`; tied ones are
        joined by `=`).
    """
    design = find_array(array)
    names = [str(dataflow) for dataflow in Dataflow]
    arrays = [replace(design, dataflow=name) for name in names]
    settings.setdefault("metric", "cycles")
    frame = sweep(models, context_lengths, arrays, ifmap=ifmap, **settings)
    cycles = (frame.projection + frame.attention).to_numpy().reshape(len(names), -1)
    totals = frame[["model", "context_length", "array"]].head(cycles.shape[1])
    totals = totals.assign(ifmap=ifmap, counting=settings.get("counting", "reported"))
    totals = totals.assign(**dict(zip(names, cycles, strict=True)))
    least = totals[names].min(axis=1)
    fastest = [
        "=".join(name for name in names if row[name] == best)
        for row, best in zip(totals[names].to_dict("records"), least, strict=True)
    ]
    return totals.assign(fastest=fastest)


def correction_shift(
    models: Iterable[str | Decoder], context_lengths: Iterable[int], arrays: Iterable[str | Hardware]
) -> pd.DataFrame:
    """How far SCALE-Sim's miscounts move F.

    Returns
    -------
    DataFrame
        model, context_length, array, dataflow, metric, reported, corrected (F of each counting), whole (the parts that
        F is a share of), shift (corrected minus reported).
    """
    models, context_lengths, arrays = list(models), list(context_lengths), list(arrays)
    frame = sweep(models, context_lengths, arrays).rename(columns={"fraction": "reported"})
    frame["corrected"] = sweep(models, context_lengths, arrays, counting="corrected").fraction
    frame["whole"] = " + ".join(whole(unquantized=False))
    return frame.drop(columns=["projection", "attention"]).assign(shift=frame.corrected - frame.reported)
