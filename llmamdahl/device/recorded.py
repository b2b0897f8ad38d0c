"""What was measured on real devices (`data/measured/`), and what it says: F of latency, and whether the law predicts.

Needs neither PyTorch nor a GPU; `measure.py` writes what this reads.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from llmamdahl import amdahl
from llmamdahl.tables import DATA, Row, read_rows, require_value

MEASURED = DATA / "measured"
VERSION = 1
"""Of the method and the columns; rows of different versions are not mixed in one file."""

TOLERANCE = {"float16": 0.005, "bfloat16": 0.02, "float32": 1e-5, "int8": 0.02, "int4": 0.02, "ternary": 0.03}
"""Largest relative L2 error against float64: rounding of the type, of BF16 activations, of 8-bit activations."""

FORMS = ("matmul", "fused")
"""How attention is computed: two MatMuls per head with a softmax between them, or PyTorch's fused kernel."""

KEY = ("model", "context_length", "batch", "dtype", "launch", "weights", "part", "attention")
COLUMNS = {
    "version": int,
    "date": str,
    "device": str,
    "threads": int,
    "torch": str,
    "driver": str,
    "clock_mhz": float,
    "bandwidth_gb_s": float,
    "model": str,
    "context_length": int,
    "batch": int,
    "dtype": str,
    "launch": str,
    "weights": str,
    "part": str,
    "attention": str,
    "copies": int,
    "kilobytes": float,
    "error": float,
    "repetitions": int,
    "p10_us": float,
    "median_us": float,
    "p90_us": float,
}
"""One row a timing of one decoder block's decode step, or of a part of it.

`launch`: `eager`, or `graph` (a CUDA graph, no launch overhead). `weights`: the projections' (`dtype` itself, `int8`,
`int4`, `ternary`). `part`: `projection`, `attention`, `other` (norms, activation, residuals), `block` (all of it).
`attention`: `matmul` (two products and a softmax) or `fused` (`scaled_dot_product_attention`); empty where there is
none. `copies`: how many blocks' buffers are rotated. `kilobytes`: the fewest that must be moved, of one block. `error`:
of the output against float64, relative (L2). Times are of one block.
"""

GPU = "a GPU is recorded"
NO_GPU = "no GPU is recorded; `make measure DEVICE=cuda` on a machine that has one adds its file to data/measured/"

CASE = ["device", "threads", "model", "context_length", "batch", "dtype", "launch"]


def read_rows_of(path: Path) -> list[Row]:
    """One device's file.

    Raises
    ------
    TableError
        A damaged line, a timing measured twice, or rows of another version of the method.
    """
    rows = read_rows(path, COLUMNS, KEY)
    require_value(path, rows, "version", VERSION, "; measure anew into another folder")
    return rows


def read(folder: Path = MEASURED) -> pd.DataFrame:
    """Every file of `folder`, one below the other, with the columns of `COLUMNS`."""
    rows = [row for path in sorted(folder.glob("*.csv")) for row in read_rows_of(path)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def setups(timings: pd.DataFrame) -> pd.DataFrame:
    """What was measured where: one row a device, dtype, launch and batch."""
    by = timings.groupby(["device", "threads", "dtype", "launch", "batch"], sort=False)
    return by.agg(
        models=("model", "nunique"),
        timings=("model", "size"),
        repetitions=("repetitions", "median"),
        bandwidth_gb_s=("bandwidth_gb_s", "first"),
        torch=("torch", "first"),
        driver=("driver", "first"),
        date=("date", "max"),
    ).reset_index()


def gpus(timings: pd.DataFrame) -> str:
    """Whether a GPU is among the devices, in words."""
    return GPU if (timings.launch == "graph").any() else NO_GPU


def fractions(timings: pd.DataFrame) -> pd.DataFrame:
    """F of latency: projection / (projection + attention), of the medians, as Figure 13 defines it.

    Returns
    -------
    DataFrame
        `CASE`, attention (`matmul` or `fused`), projection_us, attention_us, fraction, low and high (F with either
        part at its 10th and the other at its 90th percentile).
    """
    as_is = timings[timings.weights == timings.dtype]
    projection, attention = (as_is[as_is.part == part] for part in ("projection", "attention"))
    pairs = attention.merge(projection, on=CASE, suffixes=("_a", "_p"), validate="many_to_one")
    share = pairs.median_us_p / (pairs.median_us_p + pairs.median_us_a)
    return pairs[CASE].assign(
        attention=pairs.attention_a,
        projection_us=pairs.median_us_p,
        attention_us=pairs.median_us_a,
        fraction=share,
        low=pairs.p10_us_p / (pairs.p10_us_p + pairs.p90_us_a),
        high=pairs.p90_us_p / (pairs.p90_us_p + pairs.p10_us_a),
    )


def sums(timings: pd.DataFrame) -> pd.DataFrame:
    """The parts timed alone, added up, beside the whole block timed at once.

    Returns
    -------
    DataFrame
        `CASE`, attention, parts_us (projection + attention + other), block_us, ratio (parts / block), low and high (of
        the ratio, with the parts and the block at opposite percentiles, 10th and 90th).
    """
    as_is = timings[timings.weights == timings.dtype].rename(columns={"attention": "form"})
    wide = as_is.pivot_table(index=[*CASE, "form"], columns="part", values=["p10_us", "median_us", "p90_us"])
    tables = []
    for form in FORMS:
        here, none = (wide.xs(value, level="form") for value in (form, ""))
        parts = {
            at: none[at, "projection"] + none[at, "other"] + here[at, "attention"]
            for at in ("p10_us", "median_us", "p90_us")
        }
        tables.append(
            pd.DataFrame(
                {
                    "attention": form,
                    "parts_us": parts["median_us"],
                    "block_us": here["median_us", "block"],
                    "ratio": parts["median_us"] / here["median_us", "block"],
                    "low": parts["p10_us"] / here["p90_us", "block"],
                    "high": parts["p90_us"] / here["p10_us", "block"],
                }
            ).reset_index()
        )
    return pd.concat(tables, ignore_index=True).dropna()


def predictions(timings: pd.DataFrame) -> pd.DataFrame:
    """Amdahl's law put to the test: S_total predicted from the parts, beside S_total measured on the whole block.

    F is the projections' share of the block's measured latency (at most 1, should they measure slower alone), and
    S_partial the speedup of the projections timed alone. Equation (5) predicts S_total from them; the block with the
    faster projections in it gives the measured one. Nothing is fitted.

    Returns
    -------
    DataFrame
        `CASE`, attention, weights, fraction, partial_speedup, ceiling, predicted, measured, error (predicted /
        measured - 1), spread (half the width of measured S_total between the 10th and 90th percentiles, relative),
        surplus (how much longer the block took before than its parts timed alone, relative).
    """
    whole, alone = (timings[timings.part == part] for part in ("block", "projection"))
    kept = ["weights", "p10_us", "median_us", "p90_us"]
    alone = alone[[*CASE, *kept]]
    both = whole[[*CASE, "attention", *kept]].merge(alone, on=[*CASE, "weights"], suffixes=("", "_alone"))
    as_is = both.weights == both.dtype
    pairs = both[~as_is].merge(both[as_is].drop(columns="weights"), on=[*CASE, "attention"], suffixes=("", "_before"))
    fraction = (pairs.median_us_alone_before / pairs.median_us_before).clip(upper=1)
    partial = pairs.median_us_alone_before / pairs.median_us_alone
    measured = pairs.median_us_before / pairs.median_us
    predicted = amdahl.total_speedup(fraction.to_numpy(), partial.to_numpy())
    table = pairs[[*CASE, "attention", "weights"]].assign(
        fraction=fraction,
        partial_speedup=partial,
        ceiling=amdahl.ceiling(fraction.to_numpy()),
        predicted=predicted,
        measured=measured,
        error=predicted / measured - 1,
        spread=(pairs.p90_us_before / pairs.p10_us - pairs.p10_us_before / pairs.p90_us) / 2 / measured,
    )
    whole = sums(timings)
    surplus = whole[[*CASE, "attention"]].assign(surplus=1 / whole.ratio - 1)
    return table.merge(surplus, on=[*CASE, "attention"], how="left", validate="many_to_one")


def from_bytes(timings: pd.DataFrame) -> pd.DataFrame:
    """S_total of `predictions` again, this time predicted from bytes alone: no timing enters.

    F is the projections' share of the bytes that a block must read, S_partial how many times fewer they read after.

    Returns
    -------
    DataFrame
        `CASE`, attention, weights, fraction, partial_speedup, ceiling, predicted (all of bytes), partial_measured
        (S_partial of the projections timed alone), measured, spread (as in `predictions`), error (predicted / measured
        - 1).
    """
    whole, alone = (timings[timings.part == part] for part in ("block", "projection"))
    blocks = whole[whole.weights == whole.dtype].set_index([*CASE, "attention"]).kilobytes
    moved = alone.set_index([*CASE, "weights"]).kilobytes
    measured = predictions(timings)
    before = moved.loc[pd.MultiIndex.from_frame(measured[CASE].assign(weights=measured.dtype))].to_numpy()
    after = moved.loc[pd.MultiIndex.from_frame(measured[[*CASE, "weights"]])].to_numpy()
    fraction = before / blocks.loc[pd.MultiIndex.from_frame(measured[[*CASE, "attention"]])].to_numpy()
    predicted = amdahl.total_speedup(fraction, before / after)
    return measured[[*CASE, "attention", "weights"]].assign(
        fraction=fraction,
        partial_speedup=before / after,
        ceiling=amdahl.ceiling(fraction),
        predicted=predicted,
        partial_measured=measured.partial_speedup,
        measured=measured.measured,
        spread=measured.spread,
        error=predicted / measured.measured - 1,
    )


def law_summary(predicted: pd.DataFrame) -> pd.DataFrame:
    """How well `predictions` predict, by what replaced the projections.

    Returns
    -------
    DataFrame
        device, dtype, launch, weights, attention, cases, partial_speedup and measured (medians), median_error (of the
        absolute ones), within_5_percent, within_10_percent (shares of the cases), worst (the error farthest from 0),
        spread (median; what repetitions alone differ by), above_ceiling (cases measured above 1/(1 - F)).
    """
    size = predicted.assign(absolute=predicted.error.abs(), above=predicted.measured > predicted.ceiling)
    by = size.groupby(["device", "dtype", "launch", "weights", "attention"], sort=False)
    return by.agg(
        cases=("error", "size"),
        partial_speedup=("partial_speedup", "median"),
        measured=("measured", "median"),
        median_error=("absolute", "median"),
        within_5_percent=("absolute", lambda errors: (errors <= 0.05).mean()),
        within_10_percent=("absolute", lambda errors: (errors <= 0.10).mean()),
        worst=("error", lambda errors: max(errors, key=abs)),
        spread=("spread", "median"),
        above_ceiling=("above", "sum"),
    ).reset_index()


def against_bandwidth(timings: pd.DataFrame) -> pd.DataFrame:
    """How near each timing comes to the device's bus: `limit_us`, bytes over the measured bandwidth, and `share` of it.

    `share` is limit / median: 1 at the bus's speed, less where launches, arithmetic or a poor kernel hold it up.
    """
    moving = timings[timings.part != "other"]
    limit = moving.kilobytes / moving.bandwidth_gb_s
    columns = [*CASE, "weights", "part", "attention", "kilobytes", "median_us"]
    return moving[columns].assign(limit_us=limit, share=limit / moving.median_us)
