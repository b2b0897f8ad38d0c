"""Published speedups of quantized LLMs (`data/published/speedups.csv`), each compared with its Amdahl ceiling."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from llmamdahl import amdahl
from llmamdahl.analysis import share
from llmamdahl.errors import InputError
from llmamdahl.hardware import get_device
from llmamdahl.models import Decoder, get_model
from llmamdahl.paper.published import PUBLISHED
from llmamdahl.question import Share
from llmamdahl.roofline import Gain, Precision, footprint, matmul_traffic, saving
from llmamdahl.tables import Columns, Row, optional_float, optional_int, read_rows
from llmamdahl.workload import Phase, num_weights

SECONDS = {"us": 1e-6, "ms": 1e-3, "ms/token": 1e-3, "s": 1.0}
BYTES = {"MB": 1e6, "GB": 1e9}
MORE_IS_BETTER = ("tokens/s", "tokens/J", "words", "sequences")
LESS_IS_BETTER = (*SECONDS, *BYTES, "%", "J", "J/token", "W", "M", "bits")
UNITS = (*MORE_IS_BETTER, *LESS_IS_BETTER, "x")
"""Units of `before` and `after`; `x` where only a ratio is printed, in `speedup`."""

PHASES = get_args(Phase)
PREDICTED = {**dict.fromkeys(PHASES, ("tokens/s", *SECONDS)), "memory": (*BYTES,)}
"""Quantities that can be predicted, and the units they are measured in."""

KEY = "system format quantity model device batch context_length baseline source place".split()
COLUMNS: Columns = {
    **dict.fromkeys(("system", "format", "quantity", "model", "device"), str),
    **dict.fromkeys(("batch", "context_length", "parallel"), optional_int),
    **dict.fromkeys(("weight_bits", "activation_bits"), optional_float),
    **dict.fromkeys(("unquantized_bits", "unquantized_bits_after"), optional_float),
    "baseline": str,
    **dict.fromkeys(("before", "after"), optional_float),
    "unit": str,
    **dict.fromkeys(("speedup", "speedup_to"), optional_float),
    **dict.fromkeys(("assumed", "unpredicted", "source", "place"), str),
}
"""One row for each published comparison: `before` with the baseline, `after` with the system, in `unit`.

`quantity`: `decode`, `prefill`, `memory`, or another measured quantity. `speedup`: the ratio, if the source prints it;
`speedup_to`: the upper end, if it prints a range. `parallel`: number of devices that share every layer. `weight_bits`
and `activation_bits`: of the projections, after; `unquantized_bits`: of the other weights, before, and after too unless
`unquantized_bits_after` is given. `assumed`: assumptions of the prediction that the source does not state.
`unpredicted`: why there is no prediction; empty if there is one.
"""


@dataclass(frozen=True, slots=True)
class _Case:
    """The model and the run of one row, as `share` and `saving` take them."""

    quantity: str
    model: Decoder
    context_length: int | None
    batch: int
    before: Precision
    after: Precision
    device: str

    @classmethod
    def of(cls, row: Mapping[Hashable, Any], unquantized: tuple[float, float] | None = None) -> _Case:
        """The case of a row; `unquantized` replaces the row's bits of the other weights, before and after."""
        bits_before, bits_after = row["unquantized_bits"], row["unquantized_bits_after"]
        bits_before, bits_after = unquantized or (bits_before, bits_before if pd.isna(bits_after) else bits_after)
        length, batch = (None if pd.isna(row[name]) else int(row[name]) for name in ("context_length", "batch"))
        return cls(
            quantity=row["quantity"],
            model=get_model(row["model"]),
            context_length=length,
            batch=batch or 1,
            before=Precision(unquantized=bits_before),
            after=Precision(row["weight_bits"], row["activation_bits"], unquantized=bits_after),
            device=row["device"],
        )

    def saving(self, other_bytes: float = 0) -> Gain:
        """Equation (5) for memory, with the LM head in the whole; `other_bytes` are held before and after."""
        return saving(
            self.model,
            self.after,
            self.context_length,
            batch=self.batch,
            baseline=self.before,
            unquantized=True,
            other_bytes=other_bytes,
        )

    def gain(self) -> Gain | Share:
        """Equation (5) for the quantity of the row, with the LM head in the whole."""
        if self.quantity == "memory":
            return self.saving()
        assert self.context_length is not None  # `read_speedups` rejects a row without one
        return share(
            self.model,
            self.context_length,
            get_device(self.device),
            batch=self.batch,
            phase="decode" if self.quantity == "decode" else "prefill",
            precision=self.after,
            baseline=self.before,
            unquantized=True,
        )


def read_speedups(path: str | Path = PUBLISHED / "speedups.csv") -> pd.DataFrame:
    """The published comparisons, with the speedup that each measured.

    Returns
    -------
    DataFrame
        `COLUMNS` and `measured`: how many times faster, or smaller in memory. It is the ratio of `before` and `after`
        if both are printed, otherwise the printed `speedup`, otherwise missing.

    Raises
    ------
    TableError
        An unknown unit, a speedup without a baseline, a value above 100%, a row to predict that lacks a known model or
        device, bits, batch, context length or one of the two numbers, or as `read_rows`; it names the line.
    """
    rows = read_rows(Path(path), COLUMNS, KEY, _complete)
    return pd.DataFrame(rows).astype(dict.fromkeys(("batch", "context_length", "parallel"), "Int64"))


def _complete(row: Row) -> None:
    row["measured"] = _measured(row)
    if not row["unpredicted"]:
        _require(row)


def _measured(row: Row) -> float | None:
    unit, before, after = row["unit"], row["before"], row["after"]
    if unit not in UNITS:
        raise InputError(f"unit: {unit!r} is unknown; known: {', '.join(UNITS)}")
    if (before or row["speedup"]) and not row["baseline"]:
        raise InputError("baseline: empty, though there is a speedup; say what it is a speedup over")
    if unit == "%" and max(before or 0, after or 0) > 100:
        raise InputError(f"before, after: {before} and {after} are percent of the baseline; they must be at most 100")
    if before and after and unit != "x":
        return float(after / before if unit in MORE_IS_BETTER else before / after)
    ratio: float | None = row["speedup"]
    return ratio


def _require(row: Row) -> None:
    """Raise an InputError for a row to predict that lacks a value the prediction needs."""
    quantity, unit = row["quantity"], row["unit"]
    if quantity not in PREDICTED:
        raise InputError(f"quantity: {quantity!r} has no prediction; say why in unpredicted")
    if unit not in PREDICTED[quantity]:
        raise InputError(f"unit: {unit!r} is not a unit of {quantity}; its units are {', '.join(PREDICTED[quantity])}")
    needed = ["weight_bits", "activation_bits", "unquantized_bits", "parallel", "before", "after"]
    for name in (*needed, *(("batch", "context_length") if quantity in PHASES else ())):
        if row[name] is None:
            raise InputError(f"{name}: empty, though a prediction needs it; fill it in, or say why not in unpredicted")
    if quantity in PHASES:
        get_device(row["device"])
    get_model(row["model"])


def predict(table: pd.DataFrame, unquantized: tuple[float, float] | None = None) -> pd.DataFrame:
    """S_total of each row that can be predicted, from shapes, bit widths and the datasheet only; nothing is fitted.

    Decode and prefill are predicted by `analysis.share` on the row's device, memory by `roofline.saving`.

    Parameters
    ----------
    table
        Rows of `read_speedups`.
    unquantized
        Bits of the unquantized weights (LM head, embedding), before and after, instead of the row's.

    Returns
    -------
    DataFrame
        The row, with whole (the parts that F is a share of), fraction (F, of time or of bytes held), partial_speedup,
        predicted, others (what attention and the LM head take after, in units of the whole before: 1 - F if the LM head
        keeps its bits), ceiling (1 / others), error (predicted / measured - 1), needed_partial_speedup (the S_partial
        with which F / S_partial + others is 1 / measured, which is Equation (5); `inf` at or above the ceiling),
        above_ceiling.
    """
    _table("table", table, "read_speedups", "unpredicted")
    rows = table[table.unpredicted == ""]
    gains = [_Case.of(row, unquantized).gain() for row in rows.to_dict("records")]
    predicted = rows.assign(
        whole="projection + attention + unquantized",
        **{name: [getattr(gain, name) for gain in gains] for name in ("fraction", "partial_speedup")},
        predicted=[gain.total_speedup for gain in gains],
    )
    # what is not the projections: 1 - F, or less if the LM head is quantized too
    others = 1 / predicted.predicted - predicted.fraction / predicted.partial_speedup
    predicted = predicted.assign(others=others, ceiling=1 / others)
    # Equation (5) has no solution above the ceiling; at the ceiling S_partial is infinite
    left = (1 / predicted.measured - others).clip(lower=0)
    return predicted.assign(
        error=predicted.predicted / predicted.measured - 1,
        needed_partial_speedup=predicted.fraction / left,
        above_ceiling=predicted.measured > predicted.ceiling,
    ).reset_index(drop=True)


def _table(argument: str, frame: object, made_by: str, *columns: str) -> None:
    """Raise an InputError for an argument that is not a table with these columns."""
    missing = [column for column in columns if not isinstance(frame, pd.DataFrame) or column not in frame]
    if missing:
        raise InputError(f"{argument}: not a table of `{made_by}`; it has no column {', '.join(missing)}")


def summary(predicted: pd.DataFrame, by: str | list[str]) -> pd.DataFrame:
    """How close the predictions come to the measured speedups, by group.

    Returns
    -------
    DataFrame
        `by`, cases, devices, measured and predicted (medians), median_error (median of the absolute errors),
        within_20_percent (share of the cases), worst (the error farthest from 0), above_ceiling (share of the cases).
    """
    _table("predicted", predicted, "predict", "error", *([by] if isinstance(by, str) else by))
    groups = predicted.assign(size=predicted.error.abs()).groupby(by, sort=False)
    return groups.agg(
        cases=("error", "size"),
        devices=("device", "nunique"),
        measured=("measured", "median"),
        predicted=("predicted", "median"),
        median_error=("size", "median"),
        within_20_percent=("size", lambda errors: (errors <= 0.2).mean()),
        worst=("error", lambda errors: max(errors, key=abs)),
        above_ceiling=("above_ceiling", "mean"),
    ).reset_index()


def capacity(predicted: pd.DataFrame) -> pd.DataFrame:
    """The memory rows of `predict`, and a second prediction that knows how much other memory the baseline held.

    A run holds more than weights and cache: buffers, the software itself. `other_gb` is the baseline's printed memory
    minus its weights and cache. The second prediction assumes that the system holds the same other memory, or none if
    `other_gb` is negative. It uses the memory before, but not the memory after.

    Returns
    -------
    DataFrame
        The rows, with other_gb (10^9 bytes for each device), predicted_with_other and error_with_other.
    """
    _table("predicted", predicted, "predict", "needed_partial_speedup")
    rows = predicted[predicted.quantity == "memory"]
    others, gains = [], []
    for row in rows.to_dict("records"):
        case = _Case.of(row)
        held = row["before"] * BYTES[row["unit"]] * row["parallel"]
        others.append(held - sum(footprint(case.model, case.before, case.context_length, batch=case.batch).values()))
        gains.append(case.saving(max(0.0, others[-1])).total_speedup)
    table = rows.assign(other_gb=others / rows.parallel.astype(float) / 1e9, predicted_with_other=gains)
    return table.assign(error_with_other=table.predicted_with_other / table.measured - 1).reset_index(drop=True)


def bandwidth(predicted: pd.DataFrame) -> pd.DataFrame:
    """How fast each decode step read its bytes, before and after, and the datasheet's bandwidth.

    If memory is the bottleneck and the bytes are counted right, `gb_s_before` and `gb_s_after` are equal.
    `share_before` needs no quantized run.

    Returns
    -------
    DataFrame
        The rows, with gb_s_before, gb_s_after, gb_s_datasheet (GB/s for each device), share_before (gb_s_before /
        gb_s_datasheet).
    """
    _table("predicted", predicted, "predict", "needed_partial_speedup")
    rows = predicted[predicted.quantity == "decode"]
    rates: dict[str, list[float]] = {"gb_s_before": [], "gb_s_after": [], "gb_s_datasheet": []}
    for row in rows.to_dict("records"):
        case = _Case.of(row)
        for name, precision in (("before", case.before), ("after", case.after)):
            step = matmul_traffic(case.model, row["context_length"], batch=case.batch, precision=precision)
            moved = float(step.bytes.sum()) / row["parallel"]
            took = 1 / row[name] if row["unit"] == "tokens/s" else row[name] * SECONDS[row["unit"]]
            rates[f"gb_s_{name}"].append(moved / took / 1e9)
        rates["gb_s_datasheet"].append(get_device(row["device"]).bandwidth_gb_s)
    table = rows.assign(**rates)
    return table.assign(share_before=table.gb_s_before / table.gb_s_datasheet).reset_index(drop=True)


def transfer(predicted: pd.DataFrame) -> pd.DataFrame:
    """A test of Equation (5) with a fitted S_partial: S_partial of some models predicts S_total of the others.

    Unlike `predict` this fits a constant. For each device, system and format, the models are sorted by size; the median
    `needed_partial_speedup` of every other one predicts the rest, and then the other way round. The rival does not use
    the law: it predicts the median S_total of the same models.

    Returns
    -------
    DataFrame
        The decode rows of groups with at least two models, with learned (S_partial), transferred (S_total by Equation
        (5)), rival (S_total), error_transferred, error_rival.
    """
    groups = ["device", "system", "format"]
    _table("predicted", predicted, "predict", "needed_partial_speedup")
    rows = predicted[predicted.quantity == "decode"]
    sizes = pd.Series({model: num_weights(get_model(model)) for model in rows.model.unique()})
    # models of one group take turns, by size, between the two halves; groups of one model drop out
    rank = rows.assign(size=rows.model.map(sizes)).groupby(groups)["size"].rank("dense").astype(int)
    rows = rows.assign(half=rank % 2)[rank.groupby([rows[name] for name in groups]).transform("max") > 1]
    tested = []
    for half in (0, 1):
        known = rows[rows.half != half].groupby(groups)[["needed_partial_speedup", "measured"]].median().reset_index()
        known.columns = pd.Index([*groups, "learned", "rival"])
        tested.append(rows[rows.half == half].merge(known, on=groups))
    table = pd.concat(tested, ignore_index=True).drop(columns="half")
    transferred = 1 / (table.others + table.fraction / table.learned)
    table = table.assign(transferred=transferred, error_transferred=transferred / table.measured - 1)
    return table.assign(error_rival=table.rival / table.measured - 1)


def rivals_by_size(transferred: pd.DataFrame) -> pd.DataFrame:
    """The law beside rivals that know the size of a model, each told what the others of its group reached.

    `neighbours` are the next smaller and the next larger model, whose mean is taken; `line` is a straight line through
    all others against the logarithm of the number of weights. The law takes S_partial from them, the rival S_total.

    Parameters
    ----------
    transferred
        A table of `transfer`; its groups have at least three models.

    Returns
    -------
    DataFrame
        Index: neighbours, line. Columns: law and rival (medians of the absolute errors), law_closer (the groups in
        which the law's median is the smaller one), groups.
    """
    _table("transferred", transferred, "transfer", "transferred")
    size = transferred.model.map({model: np.log(num_weights(get_model(model))) for model in transferred.model.unique()})
    sized = transferred.assign(size=size).sort_values("size", kind="stable")
    groups = [group for _, group in sized.groupby(["device", "system", "format"], sort=False)]

    def neighbours(group: pd.DataFrame, column: str) -> pd.Series:
        return pd.concat([group[column].shift(1), group[column].shift(-1)], axis=1).mean(axis=1)

    def line(group: pd.DataFrame, column: str) -> pd.Series:
        others = [group.drop(index) for index in group.index]
        fits = [np.polyfit(other["size"], other[column], 1) for other in others]
        return pd.Series([np.polyval(*each) for each in zip(fits, group["size"], strict=True)], group.index)

    found = {}
    for guess in (neighbours, line):
        errors = []
        for group in groups:
            law = 1 / (group.others + group.fraction / guess(group, "needed_partial_speedup"))
            both = pd.DataFrame({"law": law, "rival": guess(group, "measured")})
            errors.append(both.div(group.measured, axis=0).sub(1).abs())
        closer = sum(each.law.median() < each.rival.median() for each in errors)
        found[guess.__name__] = {**pd.concat(errors).median(), "law_closer": closer, "groups": len(groups)}
    return pd.DataFrame(found).T


def with_embedding(table: pd.DataFrame, bits: tuple[float, float]) -> dict[str, float]:
    """What notebook 10 finds if the dummies' embedding and LM head have these bits, before and after.

    Dummies are the models with random weights on which bitnet.cpp, llama.cpp and T-MAC were timed. Returned are
    `bus_used`, `speeds`, `law` and `rival`, the medians of the absolute errors (decode steps whose baseline uses more
    than half of the bandwidth; all speeds; both of `transfer`), `law_closer`, the number of groups of `transfer` in
    which the law's median is the smaller one, and `above_ceiling`, a number of speeds.
    """
    _table("table", table, "read_speedups", "unpredicted")
    dummies = table.model.str.endswith("-dummy")
    predicted = pd.concat([predict(table[dummies], bits), predict(table[~dummies])], ignore_index=True)
    speeds, read = predicted[predicted.quantity != "memory"], bandwidth(predicted)
    tested = transfer(predicted)
    errors = tested[["error_transferred", "error_rival"]].abs().set_axis(["law", "rival"], axis=1)
    groups = errors.groupby([tested[name] for name in ("device", "system", "format")]).median()
    return {
        "bus_used": read[read.share_before > 0.5].error.abs().median(),
        "speeds": speeds.error.abs().median(),
        **errors.median(),
        "law_closer": (groups.law < groups.rival).sum(),
        "above_ceiling": speeds.above_ceiling.sum(),
    }


def realised(table: pd.DataFrame) -> pd.DataFrame:
    """The S_partial that each system reached: in a whole decode step of one sequence, or in a single kernel.

    For a whole step it is `needed_partial_speedup` of `predict`; for a kernel it is the printed speedup, with both ends
    of a range.

    Returns
    -------
    DataFrame
        device, system, format, kind (`step` or `kernel`), cases, low, median (missing if only a range is printed),
        high; sorted by device and low.
    """
    _table("table", table, "read_speedups", "unpredicted")
    groups = ["device", "system", "format"]
    one = table[table.batch == 1]
    steps = predict(one[one.quantity == "decode"])
    steps = steps[groups].assign(kind="step", low=steps.needed_partial_speedup)
    kernels = one[one.quantity == "kernel"]
    kernels = kernels[groups].assign(kind="kernel", low=kernels.measured.astype(float), high=kernels.speedup_to)
    both = pd.concat([steps, kernels])
    both = both.assign(median=both.low.where(both.high.isna()), high=both.high.fillna(both.low).astype(float))
    found = both.groupby([*groups, "kind"]).agg(
        cases=("low", "size"), low=("low", "min"), median=("median", "median"), high=("high", "max")
    )
    return found.reset_index().sort_values(["device", "low"], ignore_index=True)


def energy(table: pd.DataFrame, context_length: int = 512) -> pd.DataFrame:
    """Amdahl's law of arithmetic energy: S_partial as BitNet estimates it, F from the shapes.

    BitNet's Table 1 (arXiv 2310.11453) prints the energy of the projections' multiplications and additions for 512
    tokens, in FP16 and with 1-bit weights. F is their share of the multiply-accumulates of a prefill, without the LM
    head; each one of attention is assumed to cost as much as one of the projections. Memory accesses are left out: the
    table has no energy for them.

    Returns
    -------
    DataFrame
        model, node, whole (the parts that F is a share of), fraction, partial_speedup, ceiling, total_speedup.
    """
    _table("table", table, "read_speedups", "unpredicted")
    rows = table[(table.system == "BitNet") & (table.quantity == "energy") & (table.baseline == "FP16")]
    rows = rows.assign(node=rows.device.str.split().str[0])
    sums = rows.groupby(["model", "node"], sort=False)[["before", "after"]].sum().reset_index()
    shares = []
    for model in sums.model:
        macs = matmul_traffic(get_model(model), context_length, phase="prefill").groupby("part").operations.sum()
        shares.append(macs["projection"] / (macs["projection"] + macs["attention"]))
    partial = (sums.before / sums.after).to_numpy()
    return sums[["model", "node"]].assign(
        whole="projection + attention",
        fraction=shares,
        partial_speedup=partial,
        ceiling=amdahl.ceiling(shares),
        total_speedup=amdahl.total_speedup(shares, partial),
    )
