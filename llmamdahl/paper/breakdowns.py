"""The third part of a layer: published times of projections, attention and the rest (`data/published/breakdowns.csv`).

The paper's F is projection / (projection + attention). Norms, activation, residuals, rotary embedding and all-reduce
are a third part, which no faster projection shortens, so they lower the ceiling.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from llmamdahl import amdahl
from llmamdahl.errors import InputError
from llmamdahl.paper.published import PUBLISHED
from llmamdahl.tables import Columns, Row, optional_float, optional_int, positive_float, read_rows

PARTS = ("projection", "attention", "other")

TEXTS = ("device", "framework", "model", "weight_format", "cache_format", "phase", "source", "where", "seen")

KEY = ("device", "framework", "model", "batch", "context_length", "phase")

COLUMNS: Columns = {
    **dict.fromkeys((*TEXTS, "caution", "excluded", *(f"{part}_parts" for part in PARTS)), str),
    **dict.fromkeys(("batch", "context_length", "parallel"), optional_int),
    "projection_us": positive_float,
    **dict.fromkeys(("attention_us", "other_us", "fraction"), optional_float),
}
"""One row for each published layer: microseconds of its parts.

`parallel`: devices that share the layer. `fraction`: projection / (projection + attention). `projection_parts`,
`attention_parts`, `other_parts`: the kernels that a time is the sum of, as `name time; name time twice`; empty if it is
one. `caution`: where a number is not what it seems. `excluded`: why no conclusion rests on the row; empty if one may.
"""


def read_breakdowns(path: str | Path = PUBLISHED / "breakdowns.csv") -> pd.DataFrame:
    """The published layers, in microseconds; the columns are those of `COLUMNS`.

    Raises
    ------
    TableError
        An F that is not that of the parts, a time that is not the sum of its kernels, a row that lacks a part and does
        not say so in `excluded`, or as `read_rows`; it names the line.
    """
    rows = read_rows(Path(path), COLUMNS, KEY, _check)
    return pd.DataFrame(rows).astype(dict.fromkeys(("batch", "context_length", "parallel"), "Int64"))


def _check(row: Row) -> None:
    missing = [part for part in PARTS if row[f"{part}_us"] is None]
    if missing and not row["excluded"]:
        raise InputError(f"excluded: empty, though {', '.join(missing)} is not given; say why the row is incomplete")
    for part in PARTS:
        _check_sum(f"{part}_us", row[f"{part}_us"], row[f"{part}_parts"])
    if row["attention_us"] is None:
        if row["fraction"] is not None:
            raise InputError(f"fraction: {row['fraction']}, but attention_us is empty")
        return
    fraction = row["projection_us"] / (row["projection_us"] + row["attention_us"])
    if row["fraction"] is None or abs(row["fraction"] - fraction) > 0.5e-4 + 1e-9:  # four digits
        raise InputError(f"fraction: {row['fraction']} is not that of the parts, {fraction:.4f}")


def _check_sum(name: str, total: float | None, kernels: str) -> None:
    """Raise an InputError unless `total` is the sum of the kernels, up to the rounding of each to 0.001."""
    if not kernels:
        return
    found = [re.fullmatch(r"(.+) ([\d.]+)( twice)?", kernel) for kernel in kernels.split("; ")]
    if None in found:
        raise InputError(f"{name}: {kernels!r} is not a list like 'up 3.1; norm 0.5 twice'")
    times = [float(each[2]) for each in found if each for _ in range(1 + bool(each[3]))]
    if total is None or abs(total - sum(times)) > 0.0005 * (1 + len(times)) + 1e-9:
        raise InputError(f"{name}: {total} is not the sum of its kernels, {sum(times):g}")


def ceilings(table: pd.DataFrame) -> pd.DataFrame:
    """F and its ceiling without the third part, as the paper has them, and with it.

    Parameters
    ----------
    table
        Rows of `read_breakdowns`, or of `recorded.parts`: columns projection_us, attention_us and other_us.

    Returns
    -------
    DataFrame
        The rows that have all three parts, with other_share (other / whole), fraction (of projection + attention),
        fraction_of_three, ceiling, ceiling_of_three, ratio (ceiling_of_three / ceiling).
    """
    names = [f"{part}_us" for part in PARTS]
    if missing := [name for name in names if name not in table]:
        raise InputError(f"table: it has no column {', '.join(missing)}")
    rows = table.dropna(subset=names).reset_index(drop=True)
    projection, attention, other = (rows[name].to_numpy(float) for name in names)
    two, three = projection + attention, projection + attention + other
    limits = [amdahl.ceiling(projection / whole) for whole in (two, three)]
    return rows.assign(
        other_share=other / three,
        fraction=projection / two,
        fraction_of_three=projection / three,
        ceiling=limits[0],
        ceiling_of_three=limits[1],
        ratio=limits[1] / limits[0],
    )


def third_part(table: pd.DataFrame, by: str | list[str]) -> pd.DataFrame:
    """How much lower the ceiling is with the third part in the whole, by group of `ceilings`.

    Returns
    -------
    DataFrame
        `by`, cases, the shortest and longest context_length, the medians of other_share, ceiling and ceiling_of_three,
        and the ratio of the two: its median, lowest and highest value.
    """
    return (
        table.groupby(by, sort=False)
        .agg(
            cases=("ratio", "size"),
            shortest=("context_length", "min"),
            longest=("context_length", "max"),
            other_share=("other_share", "median"),
            ceiling=("ceiling", "median"),
            ceiling_of_three=("ceiling_of_three", "median"),
            ratio=("ratio", "median"),
            lowest=("ratio", "min"),
            highest=("ratio", "max"),
        )
        .reset_index()
    )
