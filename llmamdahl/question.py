"""A question about a model on an array or a device: its checked arguments, and what each part costs.

`analysis` and `design` ask; here is the one place where a keyword, or a reading, arrives.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmamdahl import amdahl
from llmamdahl.errors import (
    INT64_MAX,
    CountOverflowError,
    InputError,
    instance,
    listed,
    one_of,
    positive_int,
    real_number,
    shown,
)
from llmamdahl.hardware import Device, Hardware, SystolicArray, find_hardware
from llmamdahl.models import Decoder, find_model
from llmamdahl.roofline import (
    BYTE,
    FP16,
    Gain,
    Precision,
    Seconds,
    array_seconds,
    bytes_fetched_again,
    bytes_moved,
    bytes_updated,
    device_seconds,
    gain,
)
from llmamdahl.systolic import Counting, Folds, gemm_cost
from llmamdahl.workload import Heads, MatMul, Part, Phase, Routing, elementwise, matmuls, whole

Metric: TypeAlias = Literal["cycles", "memory_accesses", "bytes", "seconds"]
"""What a part costs: on an array cycles or SRAM accesses (exact whole numbers); on a device, or an array with a clock,
seconds; on all of them bytes.
"""

METRICS: tuple[Metric, ...] = ("cycles", "memory_accesses")
"""The metrics of an array: the two panels of Figures 4, 6, 9 and 10."""

_CLOCK = "clock_mhz dram_gb_s"
UNREAD = {"cycles": _CLOCK, "memory_accesses": f"{_CLOCK} folds", "bytes": f"{_CLOCK} folds counting dataflow heads"}
"""What of an array a metric does not depend on; bytes with `refetches` do on the dataflow and on heads."""

COLUMNS = ["model", "context_length", "array", "dataflow", "metric", "projection", "attention", "fraction"]
"""Columns of a sweep; `state` precedes `fraction` if a model has a recurrent state, then `unquantized` if LM head and
other unquantized weights are in the whole.
"""

LONGEST_CONTEXT = 2**30
"""The longest context that the search for a crossover covers, in tokens."""

CONTEXT_AXIS = {"Q·Kᵀ": "n", "scores·V": "k", "index Q·Kᵀ": "n", "index w·scores": "n"}
"""The dimension of each attention MatMul that is the number of tokens attended to (Table 1), or scored (indexer)."""


class Settings(TypedDict, total=False):
    """The keywords of every question; `analysis.share` explains them."""

    batch: int
    phase: Phase
    heads: Heads
    experts: Routing
    metric: Metric | None
    counting: Counting
    folds: Folds
    refetches: bool
    precision: Precision | None
    baseline: Precision | None
    unquantized: bool


@dataclass(frozen=True, slots=True)
class Share:
    """What each part costs, F, and what a change of precision gains.

    Costs are exact ints for `cycles` and `memory_accesses`, floats for `bytes` and `seconds`.

    >>> from llmamdahl import share
    >>> found = share("opt-350m", 2048, "cloud")
    >>> found.projection, found.attention, found.whole
    (1620144, 2744832, 'projection + attention')
    """

    model: str
    context_length: int
    batch: int
    phase: str
    """`decode` or `prefill`; `generation` for both, from `generation_cost`."""
    heads: Heads
    hardware: str
    """Label of the array or device; empty for bytes without either."""
    dataflow: str
    """Of an array; empty for a device."""
    metric: Metric
    projection: float
    attention: float
    unquantized: float
    whole: str
    """The parts that F is a share of: `projection + attention`, or also `+ state` (models with a recurrent state),
    `+ unquantized` (LM head, router) or, where the parts were measured, `+ other`.
    """
    fraction: float
    """F = projection / whole."""
    ceiling: float
    """1 / (1 - F): the limit of S_total for faster projections."""
    precision: Precision | None = None
    """What the bit widths change to, if they change."""
    partial_speedup: float = 1.0
    """S_partial of the projections for that change; 1 without one."""
    total_speedup: float = 1.0
    """S_total of the whole for that change."""
    bound: dict[str, str] = field(default_factory=dict)
    """For seconds: whether `memory` or `arithmetic` bounds most of each part's that is not 0, before the change."""
    baseline: Precision = FP16
    """The bit widths before the change."""
    experts: Routing = "even"
    counting: Counting = "reported"
    folds: Folds = "serial"
    refetches: bool = False
    clock_mhz: float | None = None
    """Of an array whose cycles are turned into seconds."""
    dram_gb_s: float | None = None
    """Bandwidth of an array's DRAM; None if it is never waited for."""
    other: float = 0.0
    """Measured seconds of all else (norms, activation, residuals, launches); 0 if they are not in the whole."""
    state: float = 0.0
    """Of the recurrent state; 0 for a model without one."""

    @property
    def readings(self) -> str:
        """The readings that are not the paper's, as in `heads grouped, folds pipelined`; empty if there is none."""
        usual = Question.__dataclass_fields__
        names = [
            name for name in ("heads", "experts", "counting", "folds") if getattr(self, name) != usual[name].default
        ]
        texts = [f"{name} {getattr(self, name)}" for name in names]
        texts += [f"DRAM {self.dram_gb_s:g} GB/s at {self.clock_mhz:g} MHz"] if self.dram_gb_s else []
        return ", ".join([*texts, "re-fetches"] if self.refetches else texts)

    def row(self) -> dict[str, str | float]:
        """A row as `sweep` has it."""
        more = (name for name in ("state", "unquantized", "other") if name in self.whole)
        names = [*COLUMNS[:-1], *more, "fraction"]
        names += ["partial_speedup", "total_speedup"] if self.precision else []
        return {name: getattr(self, "hardware" if name == "array" else name) for name in names}


@dataclass(frozen=True, slots=True)
class Question:
    """The checked arguments of `share`, without the context length."""

    model: Decoder
    hardware: Hardware | None
    metric: Metric
    batch: int = 1
    phase: Phase = "decode"
    heads: Heads = "per_head"
    experts: Routing = "even"
    counting: Counting = "reported"
    folds: Folds = "serial"
    refetches: bool = False
    precision: Precision | None = None
    baseline: Precision = FP16
    unquantized: bool = False

    @classmethod
    def of(cls, model: str | Decoder, hardware: str | Hardware | None, **settings: Unpack[Settings]) -> Question:
        if misspelt := settings.keys() - Settings.__annotations__.keys():
            known = ", ".join(Settings.__annotations__)
            raise TypeError(f"unexpected keyword {', '.join(sorted(misspelt))}; known: {known}")
        place = None if hardware is None else find_hardware(hardware)
        word = BYTE if isinstance(place, SystolicArray) else FP16
        given = {name: value for name, value in settings.items() if name not in ("metric", "baseline")}
        metric, before = settings.get("metric"), settings.get("baseline")
        if before is not None:
            instance("baseline", before, Precision)
        given |= {
            "metric": metrics_of(place)[0] if metric is None else metric,
            "baseline": word if before is None else before.over(word),
        }
        case = cls(find_model(model), place, **given)  # type: ignore[arg-type]  # checked below
        case._reject_metric()
        case._reject_readings()
        if case.precision is not None:
            instance("precision", case.precision, Precision)
            case = replace(case, precision=case.precision.over(case.baseline))
        instance("unquantized", case.unquantized, bool)
        return replace(case, batch=positive_int("batch", case.batch))

    def _reject_metric(self) -> None:
        label, known = self.label, [*metrics_of(self.hardware)]
        if isinstance(self.hardware, SystolicArray):
            known += ["bytes"]
        if not isinstance(self.metric, str) or self.metric not in known:
            clock = "; give it a clock_mhz" if self.metric == "seconds" else ""
            raise InputError(f"metric: {label} has no {shown(self.metric)}; it has {', '.join(known)}{clock}")

    def _reject_readings(self) -> None:
        one_of("phase", self.phase, get_args(Phase))
        one_of("heads", self.heads, get_args(Heads))
        one_of("experts", self.experts, get_args(Routing))
        one_of("counting", self.counting, get_args(Counting))
        one_of("folds", self.folds, get_args(Folds))
        instance("refetches", self.refetches, bool)
        of_arrays = {"counting": "reported", "folds": "serial", "refetches": False}
        for name, usual in of_arrays.items():
            given = getattr(self, name)
            if given != usual and not isinstance(self.hardware, SystolicArray):
                raise InputError(f"{name}: {given!r} is given, but {self.label} is not an array; leave it out")
        if self.refetches and self.metric in METRICS:
            advice = "ask for the metric bytes, or for seconds of an array with a DRAM"
            raise InputError(f"refetches: True is given, but {self.metric} do not depend on it; {advice}")

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that F is a share of."""
        return whole(self.unquantized, self.model.recurrent is not None)

    @property
    def label(self) -> str:
        """What the case runs on, for messages."""
        return self.hardware.label if self.hardware else "no hardware"

    def share(self, context_length: int) -> Share:
        """`analysis.share` at a context length."""
        length = positive_int("context_length", context_length)

        def costs(precision: Precision) -> Costs:
            found = Costs()
            self.add(found, precision, length)
            return found

        return self.share_of(length, costs)

    def crossover_context_length(self) -> int | None:
        """`analysis.crossover_context_length` of this model on this hardware."""
        self.reject_precision()
        if self.phase != "decode":
            advice = "leave it out, or give a context length and search for the batch"
            raise InputError(f"phase: {self.phase!r} is given, but a context length is found for decode only; {advice}")
        longest = self.matmuls(LONGEST_CONTEXT)
        fixed, attention = Costs(), [matmul for matmul in longest if matmul.part is Part.ATTENTION]
        for matmul in longest:
            if matmul.part is not Part.ATTENTION:
                self.add_matmul(fixed, self.baseline, matmul)
        self.add_elementwise(fixed, self.baseline)
        rounding = 1e-12 if self.metric in ("bytes", "seconds") else 0  # a tie of floats counts
        missing = fixed.parts[Part.PROJECTION] * (1 - rounding) - sum(fixed.parts[part] for part in self.parts[2:])

        def overtaken(lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
            costs = [self.cost(sized(matmul, lengths), self.baseline) for matmul in attention]
            return np.broadcast_to(sum(costs) >= missing, lengths.shape)

        chunk = next((matmul.chunk for matmul in attention if matmul.chunk), LONGEST_CONTEXT)
        # Attention costs less again where a chunk begins, so the search is for the chunk, by its end, and then in it.
        ends = LONGEST_CONTEXT // chunk
        last = _first(lambda chunks: overtaken(chunks * chunk), 0, ends) or ends + 1
        return _first(overtaken, (last - 1) * chunk, min(last * chunk, LONGEST_CONTEXT))

    def reject_precision(self) -> None:
        """Reject a change of precision: a crossover is that of the baseline's F."""
        if self.precision is not None:
            raise InputError("precision: a crossover has one set of bit widths; give it as baseline")

    def matmuls(self, context_length: int) -> tuple[MatMul, ...]:
        """The MatMuls of the phase; on a device one for each query head, whose peak one sequence does not need."""
        heads = self.heads if isinstance(self.hardware, SystolicArray) else "per_head"
        return matmuls(
            self.model, context_length, batch=self.batch, phase=self.phase, heads=heads, experts=self.experts
        )

    def add(self, costs: Costs, precision: Precision, context_length: int) -> None:
        """Add all MatMuls of a decode step, or of a prefill; those that differ in m alone at once."""
        alike: dict[tuple[str, int, int], list[MatMul]] = {}
        for matmul in self.matmuls(context_length):
            alike.setdefault((matmul.name, matmul.n, matmul.k), []).append(matmul)
        for each in alike.values():
            for matmul in each if len(each) < 4 else [_stacked(each)]:  # fewer are faster one by one
                self.add_matmul(costs, precision, matmul)
        if self.model.recurrent:
            self.add_elementwise(costs, precision)

    def add_elementwise(self, costs: Costs, precision: Precision) -> None:
        """Add what is no MatMul: bytes, and seconds where memory is waited for, but no cycles and no accesses."""
        for update in elementwise(self.model, self.batch) if self.metric in ("bytes", "seconds") else ():
            cost = bytes_updated(update, precision)
            if self.metric == "seconds":
                where = self.hardware
                rate = where.bandwidth_gb_s if isinstance(where, Device) else getattr(where, "dram_gb_s", None)
                cost = cost / 1e9 / rate if rate else 0
                costs.memory_bound[update.part] += cost
            costs.parts[update.part] += cost

    def add_matmul(self, costs: Costs, precision: Precision, matmul: MatMul) -> None:
        """Add a MatMul, or several: n or k can be an array of sizes."""
        if self.metric != "seconds":
            costs.parts[matmul.part] += total_of(self.cost(matmul, precision))
            return
        arithmetic, memory = self.seconds(matmul, precision)
        costs.parts[matmul.part] += total_of(np.maximum(arithmetic, memory))
        costs.memory_bound[matmul.part] += total_of(memory * (memory >= arithmetic))

    def cost(self, matmul: MatMul, precision: Precision) -> Any:
        """Cost of all products of the MatMul: a number, or an array of them if n or k is one."""
        if self.metric == "bytes":
            return self.bytes(matmul, precision)
        if self.metric == "seconds":
            return np.maximum(*self.seconds(matmul, precision))
        assert isinstance(self.hardware, SystolicArray)
        m, n, k = matmul.m, matmul.n, matmul.k
        cost = getattr(gemm_cost(m, n, k, self.hardware, counting=self.counting, folds=self.folds), self.metric)
        if isinstance(cost, np.ndarray) and int(cost.max()) * np.max(matmul.count) > INT64_MAX:
            cost = cost.astype(object)  # Python's ints, which cannot overflow
        return cost * matmul.count

    def bytes(self, matmul: MatMul, precision: Precision) -> float:
        """Bytes that the MatMul moves, with what an array fetches again if that is asked for."""
        moved = bytes_moved(matmul, precision)
        if self.refetches and isinstance(self.hardware, SystolicArray):
            moved = moved + bytes_fetched_again(matmul, precision, self.hardware)
        return moved

    def seconds(self, matmul: MatMul, precision: Precision) -> Seconds:
        """Seconds of the MatMul by each of its two bounds."""
        if isinstance(self.hardware, Device):
            return device_seconds(matmul, precision, self.phase, self.hardware)
        assert isinstance(self.hardware, SystolicArray)
        return array_seconds(
            matmul, precision, self.hardware, counting=self.counting, folds=self.folds, refetches=self.refetches
        )

    def share_of(self, context_length: int, costs: Callable[[Precision], Costs]) -> Share:
        """F, the ceiling and what the change of precision gains, from the parts' costs at a precision."""
        before, parts = costs(self.baseline), self.parts
        total = total_of([before.parts[part] for part in parts])
        if not total:  # SCALE-Sim reports one cycle too few, so 0 for a MatMul of one cycle
            raise InputError("hardware: SCALE-Sim reports 0 cycles for every part, so F is not defined")
        gained = self._gain(before, costs)
        bound = {
            str(part): "memory" if 2 * before.memory_bound[part] >= before.parts[part] else "arithmetic"
            for part in (parts if self.metric == "seconds" else ())
            if before.parts[part]
        }
        fraction = before.parts[Part.PROJECTION] / total
        return Share(
            model=self.model.name,
            context_length=context_length,
            batch=self.batch,
            phase=self.phase,
            heads=self.heads,
            experts=self.experts,
            counting=self.counting,
            folds=self.folds,
            refetches=self.refetches,
            clock_mhz=getattr(self.hardware, "clock_mhz", None),
            dram_gb_s=getattr(self.hardware, "dram_gb_s", None),
            baseline=self.baseline,
            hardware=self.hardware.label if self.hardware else "",
            dataflow=str(self.hardware.dataflow) if isinstance(self.hardware, SystolicArray) else "",
            metric=self.metric,
            **{str(part): before.parts[part] for part in Part},
            whole=" + ".join(parts),
            fraction=fraction,
            ceiling=float(amdahl.ceiling(fraction)),
            precision=self.precision,
            partial_speedup=gained.partial_speedup,
            total_speedup=gained.total_speedup,
            bound=bound,
        )

    def _gain(self, before: Costs, costs: Callable[[Precision], Costs]) -> Gain:
        if self.metric in METRICS or self.precision is None:  # counts do not depend on bits
            return Gain(1.0, 1.0, math.inf, 1.0)
        after = costs(self.precision)
        parts = [part for part in self.parts if before.parts[part] or part is Part.PROJECTION]
        return gain([before.parts[part] for part in parts], [after.parts[part] for part in parts])


def measured_share(
    model: str | Decoder, context_length: int, where: object, measured: Mapping[str, float], batch: int, phase: Phase
) -> Share:
    """`analysis.share` of parts that were timed."""
    instance("measured", measured, Mapping)
    names = [name for name in ("projection", "attention", "other") if name in measured]
    if names[:2] != ["projection", "attention"] or len(names) < len(measured):
        keys = ", ".join(map(shown, measured)) or "nothing"
        raise InputError(f"measured: {keys} given; it takes projection, attention and, if it was timed, other")
    for name in names:
        if (real_number(measured[name]) or 0) <= 0:
            raise InputError(f"measured: {name}: {shown(measured[name])} is not a number of seconds > 0")
    if not isinstance(where, str | Hardware | None):
        raise InputError(f"hardware: {shown(where)} is not the name of what the parts were timed on")
    projection, *rest = (float(measured[name]) for name in names)
    fraction = projection / (projection + sum(rest))
    if not fraction:
        raise InputError(f"measured: {shown(dict(measured))}: F is 0 in a float, so nothing can be said")
    length, batch = positive_int("context_length", context_length), positive_int("batch", batch)
    return Share(
        find_model(model).name, length, batch, one_of("phase", phase, get_args(Phase)), "per_head",
        hardware=where if isinstance(where, str) else where.label if where else "", dataflow="", metric="seconds",
        projection=projection, attention=rest[0], unquantized=0.0, other=sum(rest[1:]), whole=" + ".join(names),
        fraction=fraction, ceiling=float(amdahl.ceiling(fraction)),
    )  # fmt: skip


class Costs:
    """The cost of each part and, if costs are seconds, how much of it is bound by memory."""

    def __init__(self) -> None:
        self.parts: dict[Part, float] = dict.fromkeys(Part, 0)  # ints stay ints: these sums cannot overflow
        self.memory_bound: dict[Part, float] = dict.fromkeys(Part, 0)


def _first(found: Callable[[NDArray[np.int64]], NDArray[np.bool_]], low: int, high: int) -> int | None:
    """The first number above `low`, up to `high`, that is `found`, as are all after it; 1024 of them at a time."""
    first = None
    while low < high:
        numbers = np.arange(high, low, (low - high) // 1024)  # the highest first: an error is about that
        those = np.flatnonzero(found(numbers))
        if not those.size:
            break
        place = int(those[-1])
        first = int(numbers[place])
        low, high = int(numbers[place + 1]) if place + 1 < numbers.size else low, first - 1
    return first


def sized(matmul: MatMul, lengths: ArrayLike) -> MatMul:
    """One attention MatMul of a decode step for many context lengths, with an array as its context dimension.

    `matmul` is that of the longest: its context dimension is that length, or the layer's window if that is smaller. At
    any other length the dimension is the smaller of that length and the one of `matmul`. In a layer with chunks it is
    the place of the last token in its chunk, counted from 1.
    """
    if (axis := CONTEXT_AXIS.get(matmul.name)) is None:
        raise InputError(f"model: {matmul.name!r} is attention of an unknown kind; known: {', '.join(CONTEXT_AXIS)}")
    try:
        sizes, longest = np.asarray(lengths, dtype=np.int64), min(getattr(matmul, axis), INT64_MAX)
        sizes = (sizes - 1) % matmul.chunk + 1 if matmul.chunk else np.minimum(sizes, longest)
    except OverflowError:
        raise CountOverflowError("context_length: above 2**63 - 1") from None
    return replace(matmul, **{axis: sizes})  # type: ignore[arg-type]  # only this module puts arrays into a MatMul


def _stacked(matmuls: list[MatMul]) -> MatMul:
    """MatMuls that differ in m, as experts with other numbers of tokens do, as one with arrays."""
    fields = {name: np.array([getattr(each, name) for each in matmuls]) for name in ("m", "count", "distinct")}
    return replace(matmuls[0], **fields)  # type: ignore[arg-type]  # only this module puts arrays into a MatMul


def total_of(values: ArrayLike) -> float:
    """The sum of a number or an array, exact for ints of any size."""
    if isinstance(values, int | float):
        return values if type(values) is int else float(values)
    array = np.atleast_1d(values)
    fits = array.dtype.kind == "f" or (array.dtype.kind == "i" and int(array.max()) * array.size <= INT64_MAX)
    total: float = array.sum().item() if fits else sum(array.tolist())
    return total


def metrics_of(place: Hardware | None) -> tuple[Metric, ...]:
    """The metrics that a sweep of this hardware has; the first is the default of `share`."""
    if place is None:
        return ("bytes",)
    if isinstance(place, Device):
        return ("seconds", "bytes")
    return METRICS if place.clock_mhz is None else ("seconds", *METRICS)


def metrics_asked(place: Hardware, settings: Settings) -> tuple[Metric, ...]:
    """The metric that was asked for, or every metric that a sweep of this hardware has."""
    metric = settings.get("metric")
    return metrics_of(place) if metric is None else (metric,)


def with_metric(settings: Settings, metric: Metric) -> Settings:
    return {**settings, "metric": metric}


def decoders_of(models: Iterable[str | Decoder]) -> list[Decoder]:
    decoders = [find_model(model) for model in listed("models", models)]
    listed("models", [model.name for model in decoders])
    return decoders


def places_of(arrays: Iterable[str | Hardware]) -> list[Hardware]:
    """Arrays and devices that a table can tell apart."""
    places = [find_hardware(array) for array in listed("arrays", arrays, distinct=False)]
    labels = Counter(", ".join(filter(None, labels_of(place).values())) for place in places)
    if (repeated := labels.most_common(1)[0])[1] > 1:
        raise InputError(f"arrays: {repeated[0]!r} is listed {repeated[1]} times; give each its own `name`")
    return places


def labels_of(place: Hardware) -> dict[str, str]:
    return {"array": place.label, "dataflow": str(place.dataflow) if isinstance(place, SystolicArray) else ""}


def reject_batch(settings: Settings) -> None:
    if "batch" in settings:
        raise InputError(f"batch: {shown(settings['batch'])} is given, but the batch is what varies here; leave it out")
