"""What the panel asks: one `share`, its numbers as a table, and the same question on the command line."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import get_args

from llmamdahl import amdahl
from llmamdahl.analysis import share
from llmamdahl.errors import InputError, one_of, real_number, shown
from llmamdahl.hardware import Dataflow, Device, Hardware, SystolicArray, find_hardware
from llmamdahl.models import find_model, get_model
from llmamdahl.question import METRICS, UNREAD, Metric, Settings, Share
from llmamdahl.roofline import Precision, too_large
from llmamdahl.systolic import Counting, Folds
from llmamdahl.workload import Heads, Part, Phase

OPTIONS = {
    "phase": "--phase",
    "batch": "--batch",
    "metric": "--metric",
    "dataflow": "--dataflow",
    "clock_mhz": "--clock",
    "dram_gb_s": "--dram",
    "folds": "--folds",
    "counting": "--counting",
    "heads": "--heads",
    "unquantized": "--unquantized",
    "weights": "--weights",
    "activations": "--activations",
    "cache": "--kv",
}
"""Options of `llmamdahl share`, by the fields of `Asked`; the line names those that are not at their default."""

OF_ARRAY = ("dataflow", "clock_mhz", "dram_gb_s", "folds", "counting")
"""Fields that ask nothing of a device."""

BITS = ("weights", "activations", "cache")

ALWAYS, HEADERS = (Part.PROJECTION, Part.ATTENTION, Part.UNQUANTIZED), {"unquantized": "LM head"}
"""Columns of the table whether in the whole or not, and the name of one."""

FASTEST = 10**6
"""The largest speedup of a part that can be set."""


@dataclass(frozen=True)
class Answer:
    """What the panel shows, besides `share`'s own numbers."""

    share: Share
    """Parts, F and the ceiling before the change of bits, and what the change gains."""
    fractions: dict[str, float]
    """Each part's share of the whole, in `share.whole`'s order; that of the projections is F."""
    total_speedup: float
    """S_total of the speedups that are set."""
    by_bits: dict[str, float]
    """Each part's speedup by the change of bits; empty without one, or where it cannot matter."""

    def ceiling(self, part: str) -> float:
        """1 / (1 - F) of a part: the limit of S_total if it alone becomes faster."""
        return float(amdahl.ceiling(self.fractions[part]))


@dataclass(frozen=True)
class Asked:
    """The values of the panel's controls; names and defaults are those of `share` and `SystolicArray`.

    >>> Asked("opt-350m").answer().share.fraction == share("opt-350m", 2048, "cloud").fraction
    True
    """

    model: str = "opt-6.7b"
    context_length: int = 2048
    batch: int = 1
    phase: Phase = "decode"
    hardware: str = "cloud"
    """A name, as `find_hardware` knows it: an array or a device."""
    dataflow: str = str(Dataflow.OS)
    clock_mhz: float | None = None
    dram_gb_s: float | None = None
    metric: Metric | None = None
    """None: seconds if there are any, else cycles."""
    weights: float | None = None
    """Bits after a change, as `activations` and `cache`; None: as before it."""
    activations: float | None = None
    cache: float | None = None
    heads: Heads = "per_head"
    folds: Folds = "serial"
    counting: Counting = "reported"
    unquantized: bool = False
    projection: float = 10
    """How many times faster the projections become, as `attention` of attention."""
    attention: float = 1

    @property
    def set_to(self) -> dict[str, float]:
        """How many times faster each part becomes that can."""
        return {"projection": self.projection, "attention": self.attention}

    def place(self) -> Hardware:
        """The device; or the array, with the dataflow, clock and DRAM that are asked for."""
        place = find_hardware(self.hardware)
        if isinstance(place, SystolicArray):
            place = replace(place, dataflow=self.dataflow, clock_mhz=self.clock_mhz, dram_gb_s=self.dram_gb_s)
        return place

    def used(self) -> Asked:
        """The question without what cannot change its answer, which the command line rejects; all of it is checked."""
        self.precision()
        for name, known in {"heads": Heads, "folds": Folds, "counting": Counting}.items():
            one_of(name, getattr(self, name), get_args(known))
        model, is_array = find_model(self.model), isinstance(self.place(), SystolicArray)
        unread = {*OF_ARRAY} if not is_array else {*UNREAD.get(self.metric or "", "").split()}
        unread |= set() if model.num_heads else {"cache"}
        usual = {field.name: field.default for field in fields(self) if field.name in unread}
        if self.heads == "grouped" and not (is_array and model.heads_share):
            usual["heads"] = "per_head"
        return replace(self, **usual)  # type: ignore[arg-type]

    def precision(self) -> Precision | None:
        """The change of bits, if there is one."""
        bits = {name: getattr(self, name) for name in BITS if getattr(self, name) is not None}
        return Precision(**bits) if bits else None

    def answer(self) -> Answer:
        """The panel's numbers; what an array alone can be asked is left out for a device.

        Raises
        ------
        InputError
            As `share`; a speedup of a part below 1 or above `FASTEST`.
        """
        for part, given in self.set_to.items():
            if not 1 <= (real_number(given) or 0) <= FASTEST:
                raise InputError(f"S {part}: {shown(given)} is not a number from 1 to {FASTEST}")
        used = self.used()
        place, precision = used.place(), used.precision()
        settings = Settings(
            batch=used.batch, phase=used.phase, heads=used.heads, metric=used.metric, unquantized=used.unquantized
        )
        if isinstance(place, SystolicArray):
            settings |= Settings(folds=used.folds, counting=used.counting)
        found = share(self.model, self.context_length, place, **(settings | Settings(precision=precision)))
        parts = found.whole.split(" + ")
        total = sum(getattr(found, part) for part in parts)
        fractions = {part: getattr(found, part) / total for part in parts}
        set_to = [self.set_to.get(part, 1) for part in parts]
        by_bits = {}
        if precision and found.metric not in METRICS:
            after = share(self.model, self.context_length, place, **(settings | Settings(baseline=precision)))
            pairs = {part: (getattr(found, part), getattr(after, part)) for part in parts}
            by_bits = {part: before / now if now else 1.0 for part, (before, now) in pairs.items()}
        return Answer(found, fractions, float(amdahl.combined_speedup([*fractions.values()], set_to)), by_bits)

    def command(self) -> str:
        """The line that asks `llmamdahl share` the same; a path in it is absolute."""
        model = self.model
        try:
            get_model(model)
        except InputError:
            model = str(Path(model).absolute())
        usual = {field.name: field.default for field in fields(self)}
        words = ["llmamdahl", "share", model, "--on", self.hardware, "-l", str(self.context_length)]
        used = self.used()
        for name, option in OPTIONS.items():
            value = getattr(used, name)
            if value != usual[name]:
                words += [option] if value is True else [option, str(value)]
        return shlex.join(words)

    def table(self, answer: Answer) -> list[list[str]]:
        """A header and rows of text: cost and share of each part, its speedup as set and by bits, and its ceiling."""
        found = answer.share
        number = "{:,}" if found.metric in METRICS else "{:.6g}"
        costs = {str(part): getattr(found, part) for part in Part if part in found.whole or part in ALWAYS}
        total = sum(costs[part] for part in answer.fractions)
        rows = [
            ["", *(HEADERS.get(part, part) for part in costs), "model"],
            [found.metric.replace("_", " "), *(number.format(cost) for cost in (*costs.values(), total))],
            ["share of the whole", *(_text(answer.fractions, part, ".4f", "not in it") for part in costs), "1"],
        ]
        if found.bound:
            rows.append(["bound by", *(found.bound.get(part, "") for part in costs), ""])
        rows.append(["S, as set", *(_text(self.set_to, part, "g") for part in costs), f"{answer.total_speedup:.4g}"])
        if answer.by_bits and (bits := found.precision):
            label = f"S of W{bits.weights:g} A{bits.activations:g} KV{bits.cache:g}"
            rows.append([label, *(_text(answer.by_bits, part, ".4g") for part in costs), f"{found.total_speedup:.4g}"])
        ceilings = {part: answer.ceiling(part) for part in self.set_to}
        rows.append(["ceiling", *(_text(ceilings, part, ".4g") for part in costs), ""])
        return rows

    def notes(self, answer: Answer) -> list[str]:
        """What a reader has to know about the numbers."""
        found, longest = answer.share, find_model(self.model).max_position
        notes = [f"F = {found.fraction:.4f} = projection / ({found.whole}), of {found.metric.replace('_', ' ')}"]
        notes += [found.readings] if found.readings else []
        if answer.by_bits:
            notes.append(f"bits before the change: {found.baseline.weights:g}")
        elif self.precision():
            notes.append(f"{found.metric} of an array do not depend on bits; try the metric bytes, or give a clock")
        if self.context_length > longest:
            notes.append(f"beyond the {longest} tokens it was trained for")
        place = self.place()
        if isinstance(place, Device):
            needs = too_large(self.model, place, self.context_length, self.precision(), batch=self.batch)
            notes += [f"it does not fit into {place.label}: {needs}"] if needs else []
        return notes


def number(text: str) -> int | float | str:
    """What a control's text means: a number, or the text itself, which `share` then rejects."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _text(values: dict[str, float], part: str, form: str, missing: str = "") -> str:
    return format(values[part], form) if part in values else missing
