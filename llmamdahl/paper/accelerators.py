"""Published accelerators of 1-bit and other quantized LLMs (`data/published/accelerators.csv`), predicted.

Nothing is fitted: seconds of a decode step are those of `roofline.device_seconds`, from bytes, bandwidth and, where it
is stated, the peak rate. They are the least that the stated hardware needs, so a prediction is a limit: a published
speed above it means that something stated, or assumed here, is not so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from llmamdahl.analysis import share
from llmamdahl.errors import InputError
from llmamdahl.hardware import Device
from llmamdahl.models import get_model
from llmamdahl.paper.published import PUBLISHED
from llmamdahl.question import Share
from llmamdahl.roofline import Precision
from llmamdahl.tables import Columns, Row, optional_float, optional_int, positive_float, read_rows

POINT = ["system", "device", "quantity"]
"""What names a predicted number, in both tables."""

ROLES = ("result", "parameter")
UNITS = ("tokens/s", "ms")
"""Units that are predicted, both as tokens a second; `ms` is the time of a decode step."""

FACTS: Columns = {
    "system": str,
    "year": int,
    "device": str,
    **dict.fromkeys(("process_nm", "clock_mhz"), optional_float),
    **dict.fromkeys(("quantity", "value", "unit", "baseline", "role", "reason", "source", "where", "seen"), str),
}
"""One row for each number that a source states, `value` as it prints it; `data/README.md` explains the columns."""

POINTS: Columns = {
    **dict.fromkeys((*POINT, "model"), str),
    "weights": optional_float,
    "context_length": optional_int,
    **dict.fromkeys(("weight_bits", "activation_bits"), positive_float),
    **dict.fromkeys(("cache_bits", "unquantized_bits"), optional_float),
    "bandwidth_gb_s": positive_float,
    **dict.fromkeys(("peak_tops", "other_ms"), optional_float),
    "assumed": str,
}
"""One row for each predicted number: what its prediction needs; `data/README.md` explains the columns."""


@dataclass(frozen=True, slots=True)
class StepSeconds:
    """The seconds of a predicted decode step, by part."""

    projection: float
    attention: float
    unquantized: float
    other: float
    """Stated work elsewhere, which is not overlapped."""
    bound: str
    """What bounds the projections: `memory` or `arithmetic`."""

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return self.projection + self.attention + self.unquantized + self.other


def read_facts(path: str | Path = PUBLISHED / "accelerators.csv") -> pd.DataFrame:
    """What sources state about accelerators: `FACTS`, and `number`, the value as a number (NaN for a text).

    Raises
    ------
    TableError
        An unknown role, a value that is not a number though its unit is not `text`, or as `read_rows`; it names the
        line.
    """
    return pd.DataFrame(read_rows(Path(path), FACTS, [*POINT, "baseline"], _check_fact))


def _check_fact(row: Row) -> None:
    if row["role"] not in ROLES:
        raise InputError(f"role: {row['role']!r} is unknown; known: {', '.join(ROLES)}")
    row["number"] = float("nan") if row["unit"] == "text" else _number(row["value"])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"value: {text!r} is not a number, though its unit is not 'text'") from None


def read_points(path: str | Path = PUBLISHED / "accelerator_points.csv") -> list[Row]:
    """What the predictions are made from (`POINTS`).

    Raises
    ------
    TableError
        A row with neither a known model nor a number of weights, a context without bits of K and V, or as `read_rows`;
        it names the line.
    """
    return read_rows(Path(path), POINTS, POINT, _check_point)


def _check_point(row: Row) -> None:
    if (row["model"] == "") == (row["weights"] is None):
        raise InputError("model, weights: give one of the two, a model's name or how many weights are read")
    if row["model"]:
        get_model(row["model"])
    if row["context_length"] is not None and row["cache_bits"] is None:
        raise InputError("cache_bits: empty, though there is a context_length")


def decode_seconds(point: Row) -> StepSeconds:
    """The seconds of a decode step of one row of `read_points`.

    Without a context length attention is left out, without `unquantized_bits` the LM head is.
    """
    other = (point["other_ms"] or 0) / 1e3
    if not point["model"]:
        read = point["weights"] * point["weight_bits"] / 8
        return StepSeconds(read / 1e9 / point["bandwidth_gb_s"], 0, 0, other, "memory")
    found = _share(point)
    attention = found.attention if point["context_length"] else 0
    unquantized = found.unquantized if point["unquantized_bits"] else 0
    return StepSeconds(found.projection, attention, unquantized, other, found.bound["projection"])


def _share(point: Row, change: Row | None = None) -> Share:
    """The parts of the step; `change` is the same point at other bits."""
    peak = point["peak_tops"]
    return share(
        point["model"],
        point["context_length"] or 1,
        Device(point["system"], point["bandwidth_gb_s"], fp16_tflops=peak, int8_tops=peak),
        baseline=_bits(point),
        precision=_bits(change) if change else None,
        unquantized=True,
    )


def _bits(point: Row) -> Precision:
    """Attention's activations and all results are as wide as the projections' activations."""
    return Precision(
        weights=point["weight_bits"],
        activations=point["activation_bits"],
        cache=point["cache_bits"],
        unquantized=point["unquantized_bits"],
        results=point["activation_bits"],
    )


def predict(facts: pd.DataFrame | None = None, points: list[Row] | None = None) -> pd.DataFrame:
    """Every published result, with a prediction or the reason why there is none, and every number that is not trusted.

    Returns
    -------
    DataFrame
        system, device, point (the quantity), model, context_length, assumed (what the source does not state), whole
        (the parts that F is a share of), fraction (F, of seconds), bound (of the projections), predicted, published,
        unit, error (predicted / published - 1), above (whether the published speed, even if it was rounded up, is above
        the limit), reason, source, where. NaN and empty where there is no prediction. A predicted point is in tokens a
        second, even if a step's milliseconds are printed; other results are in the unit that is printed.

    Raises
    ------
    InputError
        A result with neither a point nor a reason, with both, or a point without a result.
    """
    facts = read_facts() if facts is None else facts
    at = {tuple(point[name] for name in POINT): point for point in (read_points() if points is None else points)}
    rows = []
    for fact in facts.to_dict("records"):
        distrusted = str(fact["reason"]).startswith("distrusted")
        if fact["role"] != "result" and not distrusted:
            continue
        key = tuple(fact[name] for name in POINT)
        point = at.pop(key, None)
        if (point is None) == (fact["reason"] == ""):
            raise InputError(f"{', '.join(key)}: needs either a row in the table of points or a reason")
        about = {"system": fact["system"], "device": fact["device"], "point": fact["quantity"]}
        rest = {name: fact[name] for name in ("reason", "source", "where")}
        rows.append({**about, **(_predicted(point, fact["value"], fact["unit"]) if point else {}), **rest})
        rows[-1].setdefault("published", fact["number"])
        rows[-1].setdefault("unit", fact["unit"])
    if at:
        raise InputError(f"{', '.join(next(iter(at)))}: a point without a published result")
    columns = "system device point model context_length assumed whole fraction bound predicted published unit".split()
    table = pd.DataFrame(rows, columns=[*columns, "error", "above", "reason", "source", "where"])
    texts = ["model", "assumed", "whole", "bound"]
    return table.assign(**table[texts].fillna(""), above=table.above.eq(True)).astype({"context_length": "Int64"})


def _predicted(point: Row, value: str, unit: str) -> Row:
    if unit not in UNITS:
        raise InputError(f"{point['system']}, {point['quantity']}: {unit!r} has no prediction; say why in reason")
    step = decode_seconds(point)
    parts = [("projection", step.projection), ("attention", step.attention), ("unquantized", step.unquantized)]
    predicted, half = 1 / step.seconds, rounding(value)
    published, least = (
        _speed(number, unit) for number in (float(value), float(value) + half * (1 if unit == "ms" else -1))
    )
    return {
        **{name: point[name] for name in ("model", "context_length", "assumed")},
        "whole": " + ".join([*(name for name, seconds in parts if seconds), *(["other"] if step.other else [])]),
        "fraction": step.projection / step.seconds,
        "bound": step.bound,
        "predicted": predicted,
        "published": published,
        "unit": UNITS[0],
        "error": predicted / published - 1,
        "above": least > predicted,
    }


def _speed(number: float, unit: str) -> float:
    """Tokens a second of a speed, or of a decode step's milliseconds."""
    return number if unit == UNITS[0] else 1e3 / number


def rounding(printed: str) -> float:
    """Half a unit of the last digit that is printed: how far a rounded number can be from what it stands for.

    >>> rounding("79.2"), rounding("55")
    (0.05, 0.5)
    """
    return 0.5 * 10.0 ** -len(printed.partition(".")[2])


def ceiling_of_change(found: Share) -> float:
    """What is left of S_total of a change of bits with an infinite S_partial.

    It is 1 / (1 - F), or more if the LM head gets narrower too.
    """
    return 1 / (1 / found.total_speedup - found.fraction / found.partial_speedup)


def speedups_of_bits(facts: pd.DataFrame | None = None) -> pd.DataFrame:
    """S_total of narrower weights, wherever one board ran one model at several widths: the widest is the baseline.

    Returns
    -------
    DataFrame
        system, device, model, before, after (the quantities), whole, fraction (F of seconds), partial_speedup
        (S_partial), ceiling (`ceiling_of_change`), predicted (S_total), published, error.
    """
    facts = read_facts() if facts is None else facts
    speeds = facts[facts.unit.isin(UNITS)]
    printed = {
        tuple(row[name] for name in POINT): _speed(row["number"], row["unit"]) for row in speeds.to_dict("records")
    }
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for point in read_points():
        groups.setdefault((point["system"], point["device"], point["model"]), []).append(point)
    rows = []
    for (system, device, model), points in groups.items():
        before = max(points, key=lambda point: float(point["weight_bits"]))
        for after in (point for point in points if point["weight_bits"] < before["weight_bits"]):
            found = _share(before, after)
            published = printed[(system, device, after["quantity"])] / printed[(system, device, before["quantity"])]
            rows.append(
                {
                    **{"system": system, "device": device, "model": model},
                    **{"before": before["quantity"], "after": after["quantity"], "whole": found.whole},
                    **{name: getattr(found, name) for name in ("fraction", "partial_speedup")},
                    **{"ceiling": ceiling_of_change(found), "predicted": found.total_speedup, "published": published},
                    "error": found.total_speedup / published - 1,
                }
            )
    return pd.DataFrame(rows)


def summary(predicted: pd.DataFrame) -> pd.DataFrame:
    """The part of its limit that each system reaches.

    Returns
    -------
    DataFrame
        system, points, lowest, median and highest (of published / predicted), above (points above the limit).
    """
    if not isinstance(predicted, pd.DataFrame) or "error" not in predicted:
        raise InputError("predicted: not a table of `predict`; it has no column error")
    groups = predicted.assign(reached=1 / (1 + predicted.error)).dropna(subset="error").groupby("system", sort=False)
    return groups.agg(
        points=("reached", "size"),
        lowest=("reached", "min"),
        median=("reached", "median"),
        highest=("reached", "max"),
        above=("above", "sum"),
    ).reset_index()
