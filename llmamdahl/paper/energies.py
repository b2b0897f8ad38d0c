"""Joules a token that others published, next to the energies of the operations they need; and gains in tokens a joule.

A row of `data/published/energies.csv` is one published number. Rows without a prediction say why; they are kept.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from llmamdahl.analysis import share
from llmamdahl.errors import InputError
from llmamdahl.paper.accelerators import ceiling_of_change
from llmamdahl.paper.published import PUBLISHED
from llmamdahl.roofline import Precision
from llmamdahl.silicon.energy import COMPONENTS, SEEN, joules
from llmamdahl.tables import Columns, Row, optional_float, optional_int, read_rows

ENERGIES = PUBLISHED / "energies.csv"

BITS = ("weights", "activations", "cache")

TEXTS = ("system", "hardware", "model", "array", "memory", "as_printed", "assumed", "unpredicted")

COLUMNS: Columns = {
    **dict.fromkeys((*TEXTS, "source", "where", "seen"), str),
    **dict.fromkeys((*BITS, "unquantized", "tokens_per_joule", "before", "before_weights"), optional_float),
    **dict.fromkeys(("context_length", "node"), optional_int),
}


def published_energy(path: str | Path = ENERGIES) -> pd.DataFrame:
    """Published joules a token next to those of arithmetic, SRAM and DRAM by `silicon.energy`; nothing is fitted.

    The energies of operations leave out everything else that a board or a chip spends, so that they should add up to
    less than what was measured: `explained` is at most 1. It is above 1 where the published power leaves something out
    that is counted here, such as the DRAM.

    Gains in tokens a joule are predicted where a baseline on the same board was published, by the bytes of both: that
    is Equation (5) of bytes, and it takes all energy as proportional to them.

    Returns
    -------
    DataFrame
        The columns of the file, and joules (published, a token); low and high (predicted, a token) of each component
        and of their sum; explained_low and explained_high (predicted / published); gain (published tokens a joule over
        `before`), fraction (F of bytes, with the LM head in the whole), ceiling (`accelerators.ceiling_of_change`) and
        predicted_gain; constants (the weakest mark of an energy that was used, as in `silicon.energy.SEEN`). Missing
        where there is no prediction.

    Raises
    ------
    TableError
        A row with neither a prediction nor a reason, or with both; bits or a context length that a prediction lacks;
        as `read_rows`. It names the line.
    """
    rows = read_rows(Path(path), COLUMNS, ["system", "model", "context_length", "as_printed"], _complete)
    return pd.DataFrame(rows).astype(dict.fromkeys(("context_length", "node"), "Int64"))


def _complete(row: Row) -> None:
    _require(row)
    row["joules"] = 1 / row["tokens_per_joule"] if row["tokens_per_joule"] else None
    row |= _predicted(row) if row["node"] else {}
    row |= _gains(row) if row["before"] else {}


def _require(row: Row) -> None:
    """Raise an InputError for a row whose prediction, or whose reason for none, is incomplete."""
    if bool(row["node"]) == bool(row["unpredicted"]):
        has = "both" if row["node"] else "neither"
        raise InputError(f"node, unpredicted: {has} given; a row has a node for its prediction, or says why not")
    if row["seen"] not in SEEN:
        raise InputError(f"seen: {row['seen']!r} is not one of {', '.join(SEEN)}")
    if row["node"] or row["before"]:
        needed = [
            *BITS,
            "context_length",
            "tokens_per_joule",
            *(("before_weights", "unquantized") * bool(row["before"])),
        ]
        if missing := [name for name in needed if row[name] is None]:
            raise InputError(f"{', '.join(missing)}: empty, though a prediction needs it")


def _predicted(row: Row) -> Row:
    """Joules a token, by component."""
    weights, activations, cache = (row[name] for name in BITS)
    found = joules(
        row["model"],
        row["context_length"],
        row["array"] or None,
        node=row["node"],
        memory=row["memory"],
        baseline=Precision(weights, activations, cache, row["unquantized"], activations),
        unquantized=row["unquantized"] is not None,
    )
    sums = found.parts.groupby("component")[["low", "high"]].sum()
    ends = {f"{name}_{end}": sums[end][name].item() for name in COMPONENTS for end in ("low", "high")}
    shares = {f"explained_{end}": getattr(found.joules, end) / row["joules"] for end in ("low", "high")}
    return {**ends, **found.joules._asdict(), **shares, "constants": found.seen}


def _gains(row: Row) -> Row:
    """How many times more tokens a joule than the baseline, whose weights all have `before_weights` bits."""
    before = Precision(row["before_weights"], 16, 16, row["before_weights"], 16)
    after = Precision(row["weights"], row["activations"], row["cache"], row["unquantized"], row["activations"])
    found = share(row["model"], row["context_length"], None, baseline=before, precision=after, unquantized=True)
    return {
        "gain": row["tokens_per_joule"] / row["before"],
        "fraction": found.fraction,
        "ceiling": ceiling_of_change(found),
        "predicted_gain": found.total_speedup,
    }
