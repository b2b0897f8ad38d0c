"""PIM-LLM, the authors' next paper (Malekar, Elbtity and Zand, MWSCAS 2025, arXiv 2504.01994), from Equation (5).

It puts the projections on RRAM crossbars and leaves attention on the 32 x 32 output-stationary array, at 100 MHz. Its
baseline, "TPU-LLM", computes everything on that array, so a published speedup is the S_total of Equation (5) with F of
the array's cycles. The published numbers (`data/published/accelerators.csv`) come from notes on the paper's full text
in a public collection.
"""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple, get_args

import pandas as pd

from llmamdahl import amdahl
from llmamdahl.analysis import share
from llmamdahl.hardware import SystolicArray
from llmamdahl.models import PRINTED
from llmamdahl.paper.accelerators import read_facts, rounding
from llmamdahl.question import Share
from llmamdahl.systolic import Counting, Folds
from llmamdahl.tables import Row
from llmamdahl.workload import decode_step, whole

CLOCK_MHZ = 100
ARRAY = SystolicArray(32, 32, clock_mhz=CLOCK_MHZ)
"""Its array. The three memories are 8 MB together, as its are; cycles do not depend on them."""

WRITTEN = {"opt-6.7b": "OPT-6.7B", "gpt2-medium": "GPT-2 355M"}
"""Its two models with published speedups, and their names there."""

AS_FITS = {"opt-6.7b": "opt-6.7b", "gpt2-medium": "gpt2-medium" + PRINTED}
"""The d_FF that fits: Table 2 prints d_FF = d for GPT-2."""

LEARNED, PREDICTED = 128, 4096
"""The context length whose published speedup gives S_partial, and the one whose speedup is then predicted."""

SHARE = "share of latency in systolic attention"


class Check(NamedTuple):
    """A published number and its prediction, if there is one."""

    quantity: str
    predicted: float
    spread: float
    """How far the rounding of the numbers that it is predicted from can move it."""
    how: str


def readings() -> pd.DataFrame:
    """Which readings of the cycles fit the published speedups and shares, with one S_partial a model.

    A reading is a counting, a way of folds, and for GPT-2 the true d_FF = 4d or the d_FF = d that Table 2 prints.
    S_partial is what Equation (5) needs for the speedup published at l = 128; with it and F at l = 4096 the speedup
    there follows. Attention's share of the time after the change, (1 - F) S_total = S_total / ceiling, follows at
    l = 128 without an S_partial.

    Returns
    -------
    DataFrame
        model, d_ff, counting, folds, quantity (`share of attention` or `speedup`), context_length, whole, fraction (F
        of cycles), ceiling, partial_speedup, published (as printed), predicted, least, most (predicted from the ends of
        the interval that rounds to the speedup published at l = 128), fits (whether a number from least to most is
        printed so; at l = 4096 attention's share is published as a lower bound).
    """
    published = _published()
    rows: list[Row] = []
    for model, counting, folds in product(WRITTEN, get_args(Counting), get_args(Folds)):
        printed = {
            ("share of attention", LEARNED): published[f"{SHARE}, {WRITTEN[model]}, l={LEARNED}"]["value"],
            ("speedup", PREDICTED): published[_speedup(model, PREDICTED)]["value"],
            ("share of attention", PREDICTED): published[f"{SHARE}, l={PREDICTED}, at least"]["value"],
        }
        learned = _interval(published[_speedup(model, LEARNED)]["value"])
        for name in dict.fromkeys((model, AS_FITS[model])):
            about = {"model": model, "d_ff": "printed" if name.endswith(PRINTED) else "true"}
            at = {
                length: share(name, length, ARRAY, metric="cycles", counting=counting, folds=folds)
                for length in (LEARNED, PREDICTED)
            }
            for (quantity, length), cell in printed.items():
                values = [_after(speedup, at[LEARNED], at[length]) for speedup in learned]
                if quantity != "speedup":
                    values = [value / at[length].ceiling for value in values]
                predicted, least, most = values
                _, low, high = _interval(cell)
                high = math.inf if (quantity, length) == ("share of attention", PREDICTED) else high
                rows.append(
                    {
                        **about,
                        **{"counting": counting, "folds": folds, "quantity": quantity, "context_length": length},
                        **{name: getattr(at[length], name) for name in ("whole", "fraction", "ceiling")},
                        "partial_speedup": amdahl.required_partial_speedup(at[LEARNED].fraction, learned[0]),
                        **{"published": cell, "predicted": predicted, "least": least, "most": most},
                        "fits": least <= high and most >= low,
                    }
                )
    return pd.DataFrame(rows).sort_values(["model", "d_ff"], ascending=False, kind="stable", ignore_index=True)


def further_checks() -> pd.DataFrame:
    """The other published numbers, under the reading that fits: reported cycles, serial folds, d_FF as printed.

    Returns
    -------
    DataFrame
        quantity, published, unit, predicted, error (predicted / published - 1), agrees (whether predicted is printed
        so, given the rounding of what it is predicted from), how (from what, or why it is not predicted). Missing where
        there is no prediction.
    """
    published = _published()
    rows = []
    for check in (*_throughput(published), *_battery(published), *_energy(published)):
        row = published[check.quantity]
        half = _half_of_two_digits(row["number"]) if row["unit"] == "words" else rounding(row["value"])
        away = abs(check.predicted - row["number"])
        rows.append(
            {
                **{"quantity": check.quantity, "published": row["number"], "unit": row["unit"]},
                **{"predicted": check.predicted, "error": check.predicted / row["number"] - 1},
                **{"agrees": None if math.isnan(away) else away <= half + check.spread, "how": check.how},
            }
        )
    return pd.DataFrame(rows).astype({"agrees": "boolean"})


def _published() -> dict[str, Row]:
    facts = read_facts()
    rows = facts[facts.system == "PIM-LLM"].to_dict("records")
    return {str(row["quantity"]): {str(name): cell for name, cell in row.items()} for row in rows}


def _speedup(model: str, context_length: int) -> str:
    return f"speedup, {WRITTEN[model]} decode, l={context_length}"


def _gain(model: str, context_length: int) -> str:
    return f"tokens a joule gain, {WRITTEN[model]}, l={context_length}"


def _interval(printed: str) -> tuple[float, float, float]:
    """A printed number, and the ends of the interval that rounds to it."""
    number, half = float(printed), rounding(printed)
    return number, number - half, number + half


def _half_of_two_digits(number: float) -> float:
    """Half a unit of the second digit.

    >>> _half_of_two_digits(1.6e6)
    50000.0
    """
    return float(0.5 * 10 ** (math.floor(math.log10(number)) - 1))


def _after(speedup: float, learned: Share, wanted: Share) -> float:
    """S_total where it is wanted, with the S_partial that gives `speedup` where it is learned."""
    partial = amdahl.required_partial_speedup(learned.fraction, speedup)
    return float(amdahl.total_speedup(wanted.fraction, partial))


def _throughput(published: dict[str, Row]) -> list[Check]:
    """10^9 MACs a second of OPT 6.7B, without the LM head: the published numbers count a MAC as one operation."""
    model, checks = "opt-6.7b", []
    learned = share(model, LEARNED, ARRAY, metric="cycles")
    for length in (1024, PREDICTED):
        before = share(model, length, ARRAY, metric="cycles")
        seconds = (before.projection + before.attention) / 1e6 / CLOCK_MHZ
        predicted, least, most = (
            _macs(model, length) / seconds * _after(speedup, learned, before) / 1e9
            for speedup in _interval(published[_speedup(model, LEARNED)]["value"])
        )
        how = f"MACs of a step over its time, with S_partial from l = {LEARNED}"
        checks.append(Check(f"throughput, {WRITTEN[model]}, l={length}", predicted, (most - least) / 2, how))
    why = "Equation (5) does not divide the time beside attention's"
    return [*checks, Check("share of latency in crossbar, DAC and ADC, at most", math.nan, 0, why)]


def _macs(model: str, context_length: int) -> float:
    step = decode_step(model, context_length)
    return sum(mm.m * mm.n * mm.k * mm.count for mm in step if mm.part in whole(unquantized=False))


def _battery(published: dict[str, Row]) -> list[Check]:
    """Words of a battery, from two other numbers that are published: the gain in tokens a joule, and GOPS/W."""
    checks = []
    for model, length in (("opt-6.7b", LEARNED), ("opt-6.7b", PREDICTED), ("gpt2-medium", PREDICTED)):
        quantity = f"words per 5 Wh battery, {WRITTEN[model]}, l={length}"
        baseline = float(published[quantity]["baseline"].removeprefix("TPU-LLM "))  # printed before its number
        gain = 1 + published[_gain(model, length)]["number"]
        spread = _half_of_two_digits(baseline) * gain
        checks.append(Check(quantity, baseline * gain, spread, "the baseline's words and the gain in tokens a joule"))
    model = "opt-6.7b"
    joules = published["battery"]["number"] * 3600
    tokens_a_joule = published[f"energy efficiency, {WRITTEN[model]}, l={PREDICTED}"]["number"] * 1e9
    words = joules * tokens_a_joule / _macs(model, PREDICTED) / published["tokens a word"]["number"]
    quantity = f"words per 5 Wh battery, {WRITTEN[model]}, l={PREDICTED}"
    checks.append(Check(quantity, words, 0, "GOPS/W at this l, MACs of a step, tokens a word"))
    why = "the power is not stated"
    return checks + [
        Check(f"energy efficiency, {WRITTEN[model]}, l={length}", math.nan, 0, why) for length in (1024, PREDICTED)
    ]


def _energy(published: dict[str, Row]) -> list[Check]:
    """Gains in tokens a joule, if energy were in proportion to cycles before the change and attention's did not change.

    Equation (5) of energy then has the F of cycles: with one S_partial of energy the gain moves towards none as the
    context grows, and it never turns from a loss into a gain. The published gains do both.
    """
    lengths = {"opt-6.7b": LEARNED, "gpt2-medium": 1024}
    known = {"opt-6.7b": _gain("opt-6.7b", LEARNED), "gpt2-medium": "tokens a joule, GPT-2 355M, l=256 to 1024"}
    checks = []
    for model, length in lengths.items():
        learned, wanted = (share(AS_FITS[model], at, ARRAY, metric="cycles") for at in (length, PREDICTED))
        predicted = _after(1 + published[known[model]]["number"], learned, wanted) - 1
        how = f"energy in proportion to cycles, with the S_partial of energy that l = {length} needs"
        checks.append(Check(_gain(model, PREDICTED), predicted, 0, how))
        checks.append(Check(known[model], math.nan, 0, f"the prediction at l = {PREDICTED} is made from it"))
    why = "which of the two models it belongs to is not certain"
    return checks + [
        Check(f"tokens a joule gain at l=2048, {one} of two models (which is which is not certain)", math.nan, 0, why)
        for one in ("first", "second")
    ]
