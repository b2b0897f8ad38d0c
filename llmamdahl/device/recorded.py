"""Recorded timings of decoder blocks (`data/measured/`): F of latency, and a test of Amdahl's law.

`timing.py` writes these files. To read them neither PyTorch nor a GPU is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias, get_args

import pandas as pd

from llmamdahl import amdahl
from llmamdahl.errors import one_of
from llmamdahl.tables import DATA, Row, read_rows, require_value

MEASURED = DATA / "measured"
VERSION = 1
"""Version of the method and the columns; a file holds rows of one version only."""

TOLERANCE = {"float16": 0.005, "bfloat16": 0.02, "float32": 1e-5, "int8": 0.02, "int4": 0.02, "ternary": 0.03}
"""Largest relative error (L2) against float64, by type of weights.

It allows for the rounding of the type, of BF16 activations (INT8, INT4) and of 8-bit activations (ternary).
"""

FORMS = ("matmul", "fused")
"""How attention is computed: two MatMuls per head with a softmax between them, or PyTorch's fused kernel."""

KEY = ("model", "context_length", "batch", "dtype", "launch", "weights", "part", "attention")
"""Columns that identify a timing in the file of a device."""

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
"""One row per timing of a decode step of one decoder block, or of a part of it.

clock_mhz
    MHz, at the end of the timings of the case; NaN where it cannot be read.
bandwidth_gb_s
    GB/s, measured at the start of the run.
launch
    `eager`, or `graph` for a CUDA graph, which has no launch overhead.
weights
    Type of the projections' weights: `dtype` itself, `int8`, `int4` or `ternary`.
part
    `projection`, `attention`, `other` (norms, activation, residuals, rotary embedding) or `block` (all of them).
attention
    One of `FORMS`; empty where the part has no attention.
copies
    Number of blocks with separate buffers that are used in turn, so that no cache holds them.
kilobytes
    1000 bytes: the weights with their scales, and K and V, that one block must read.
error
    Relative error (L2) of the output against float64; NaN where it was not computed.
repetitions
    Number of passes.
p10_us, median_us, p90_us
    Microseconds for one block, over the passes.
"""

Whole: TypeAlias = Literal["block", "parts", "two parts"]

WHOLES = {
    "block": "block: projection + attention + other",
    "parts": "sum of the parts timed alone: projection + attention + other",
    "two parts": "sum of two parts timed alone: projection + attention",
}
"""What F of `predictions` is a share of."""

GPU = "a GPU is recorded"
NO_GPU = "no GPU is recorded; `make measure DEVICE=cuda` on a machine that has one adds its file to data/measured/"

CASE = ["device", "threads", "model", "context_length", "batch", "dtype", "launch"]
"""Columns that the timings of one case have in common."""


def read_rows_of(path: Path) -> list[Row]:
    """The rows of one device's file.

    Raises
    ------
    TableError
        A damaged line, two rows of the same timing, or rows of another version of the method.
    """
    rows = read_rows(path, COLUMNS, KEY)
    require_value(path, rows, "version", VERSION, "; measure again into another folder")
    return rows


def read(folder: Path = MEASURED) -> pd.DataFrame:
    """The rows of all files in `folder`, with the columns of `COLUMNS`."""
    rows = [row for path in sorted(folder.glob("*.csv")) for row in read_rows_of(path)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def setups(timings: pd.DataFrame) -> pd.DataFrame:
    """The recorded setups: one row per device, type of numbers, launch and batch.

    Returns
    -------
    DataFrame
        device, threads, dtype, launch, batch, models and timings (their numbers), repetitions (median),
        bandwidth_gb_s, torch, driver, date (of the last timing).
    """
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
    """A sentence on whether a GPU is among the devices: `GPU` or `NO_GPU`."""
    return GPU if (timings.launch == "graph").any() else NO_GPU


def fractions(timings: pd.DataFrame) -> pd.DataFrame:
    """F of latency, as in Figure 13: projection / (projection + attention), of the medians.

    Returns
    -------
    DataFrame
        `CASE`, attention (one of `FORMS`), projection_us, attention_us, fraction, low and high (F with the projections
        at their 10th and attention at its 90th percentile, and the reverse).
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
    """The sum of the parts timed alone, next to the time of the whole block.

    Returns
    -------
    DataFrame
        `CASE`, attention, parts_us (projection + attention + other), block_us, ratio (parts / block), low and high (the
        ratio with the parts at their 10th and the block at its 90th percentile, and the reverse).
    """
    as_is = timings[timings.weights == timings.dtype].rename(columns={"attention": "form"})
    wide = as_is.pivot_table(index=[*CASE, "form"], columns="part", values=["p10_us", "median_us", "p90_us"])
    tables = []
    for form in FORMS:
        # projections and "other" have no attention in them, so their form is empty
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


def parts(timings: pd.DataFrame) -> pd.DataFrame:
    """The three parts of each block, timed alone, before any replacement.

    Returns
    -------
    DataFrame
        `CASE`, attention (one of `FORMS`), projection_us, attention_us, other_us (medians).
    """
    other = timings[(timings.part == "other") & (timings.weights == timings.dtype)]
    rest = other[[*CASE, "median_us"]].rename(columns={"median_us": "other_us"})
    two = fractions(timings)[[*CASE, "attention", "projection_us", "attention_us"]]
    return two.merge(rest, on=CASE, validate="many_to_one")


def predictions(timings: pd.DataFrame, whole: Whole = "block") -> pd.DataFrame:
    """A test of Amdahl's law: S_total predicted by Equation (5) from the parts, next to S_total of the whole block.

    S_partial is the speedup of the projections timed alone. The measured S_total compares the block with and without
    the replacement. Nothing is fitted.

    Parameters
    ----------
    whole
        What F, the projections' share before the change, is a share of. `"block"`: the block's latency; F is at most 1,
        though alone the projections can take longer than the block. `"parts"`: the sum of the three parts, timed alone
        like the projections. `"two parts"`: of projections and attention, as the paper's F.

    Returns
    -------
    DataFrame
        `CASE`, attention, weights, whole, fraction, partial_speedup, ceiling, predicted, measured, error (predicted /
        measured - 1), spread (half the distance between the lowest and highest S_total that 10th and 90th percentiles
        give, over measured), surplus (block / sum of its parts timed alone - 1, before the change).

    Raises
    ------
    InputError
        Another `whole`.
    """
    one_of("whole", whole, tuple(WHOLES))
    # one row per block, with the percentiles of its projections alone (`_alone`)
    blocks, alone = (timings[timings.part == part] for part in ("block", "projection"))
    kept = ["weights", "p10_us", "median_us", "p90_us"]
    alone = alone[[*CASE, *kept]]
    both = blocks[[*CASE, "attention", *kept]].merge(alone, on=[*CASE, "weights"], suffixes=("", "_alone"))
    # each replacement is paired with the same case before it (`_before`)
    as_is = both.weights == both.dtype
    pairs = both[~as_is].merge(both[as_is].drop(columns="weights"), on=[*CASE, "attention"], suffixes=("", "_before"))
    pairs = pairs.merge(parts(timings), on=[*CASE, "attention"], how="left", validate="many_to_one")
    two = pairs.projection_us + pairs.attention_us
    shared = {"block": pairs.median_us_before, "parts": two + pairs.other_us, "two parts": two}[whole]
    fraction = (pairs.median_us_alone_before / shared).clip(upper=1)
    partial = pairs.median_us_alone_before / pairs.median_us_alone
    measured = pairs.median_us_before / pairs.median_us
    predicted = amdahl.total_speedup(fraction.to_numpy(), partial.to_numpy())
    return pairs[[*CASE, "attention", "weights"]].assign(
        whole=WHOLES[whole],
        fraction=fraction,
        partial_speedup=partial,
        ceiling=amdahl.ceiling(fraction.to_numpy()),
        predicted=predicted,
        measured=measured,
        error=predicted / measured - 1,
        spread=(pairs.p90_us_before / pairs.p10_us - pairs.p10_us_before / pairs.p90_us) / 2 / measured,
        surplus=pairs.median_us_before / (two + pairs.other_us) - 1,
    )


def from_bytes(timings: pd.DataFrame) -> pd.DataFrame:
    """S_total predicted only from bytes, next to the measured one of `predictions`; no timing enters the prediction.

    F is the projections' share of the bytes that a block must read; S_partial is the ratio of the bytes of the
    projections before and after.

    Returns
    -------
    DataFrame
        `CASE`, attention, weights, whole, fraction, partial_speedup, ceiling, predicted (all from bytes),
        partial_measured (S_partial of the projections timed alone), measured, spread (as in `predictions`), error
        (predicted / measured - 1).
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
        whole="projection + attention",
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
    """The errors of `predictions`, by the type of the replacement.

    Returns
    -------
    DataFrame
        device, dtype, launch, weights, attention, cases, partial_speedup and measured (medians), median_error (of
        absolute errors), within_5_percent, within_10_percent (fractions of the cases), worst (the error farthest from
        0), spread (median), above_ceiling (number of cases measured above 1/(1 - F)).
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


def kernels_and_bytes(timings: pd.DataFrame) -> pd.DataFrame:
    """How well each source of F and S_partial predicts whole blocks: timed kernels, for each of `WHOLES`, and bytes.

    Returns
    -------
    DataFrame
        prediction (`kernels` or `bytes`), whole, device, dtype, launch, attention, weights, cases, median_error and
        within_10_percent as in `law_summary`; a row of each prediction for each replacement.
    """
    sources = [("kernels", predictions(timings, whole)) for whole in get_args(Whole)]
    sources.append(("bytes", from_bytes(timings)))
    kept = ["device", "dtype", "launch", "attention", "weights", "cases", "median_error", "within_10_percent"]
    tables = [
        law_summary(table)[kept].assign(prediction=name, whole=str(table.whole.iloc[0])) for name, table in sources
    ]
    return pd.concat(tables, ignore_index=True)[["prediction", "whole", *kept]]


def against_bandwidth(timings: pd.DataFrame) -> pd.DataFrame:
    """Each timing next to the time that its bytes take at the measured bandwidth of the device.

    Returns
    -------
    DataFrame
        `CASE`, weights, part, attention, kilobytes, median_us, limit_us (bytes / bandwidth), share (limit_us /
        median_us). The share is 1 at full bandwidth, and less where launches, arithmetic or a slow kernel take longer.
    """
    moving = timings[timings.part != "other"]
    limit = moving.kilobytes / moving.bandwidth_gb_s
    columns = [*CASE, "weights", "part", "attention", "kilobytes", "median_us"]
    return moving[columns].assign(limit_us=limit, share=limit / moving.median_us)
