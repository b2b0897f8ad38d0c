"""Questions about a model on an array or a device: the share of each part, where attention overtakes, and sweeps.

Every function takes the same keywords with the same defaults, which are the paper's; `share` explains them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, groupby, product
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from llmamdahl import amdahl
from llmamdahl.designs import Placed, Workload
from llmamdahl.errors import INT64_MAX, CountOverflowError, InputError, instance, listed, one_of, positive_int, shown
from llmamdahl.hardware import Dataflow, Device, Hardware, SystolicArray, find_array, find_hardware
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
    device_seconds,
    gain,
)
from llmamdahl.systolic import Counting, Folds, gemm_cost
from llmamdahl.workload import Heads, MatMul, Part, Phase, Routing, matmuls, whole

Metric: TypeAlias = Literal["cycles", "memory_accesses", "bytes", "seconds"]
"""What a part costs: on an array cycles or SRAM accesses (exact whole numbers); on a device, or an array with a clock,
seconds; on all of them bytes.
"""

METRICS: tuple[Metric, ...] = ("cycles", "memory_accesses")
"""The metrics of an array: the two panels of Figures 4, 6, 9 and 10."""

COLUMNS = ["model", "context_length", "array", "dataflow", "metric", "projection", "attention", "fraction"]
"""Columns of a sweep; `unquantized` precedes `fraction` if LM head and other unquantized weights are in the whole."""

LONGEST_CONTEXT = 2**30
"""The longest context that the search for a crossover covers, in tokens."""

LARGEST_BATCH = 2**16
"""The largest batch that the search for a crossover covers, in sequences."""

LONGEST_GENERATION = 2**24
"""Most new tokens of a generation: their costs are arrays in memory."""

MOST_PES = 2**40
"""Most processing elements whose shapes are searched."""

CONTEXT_AXIS = {"Q·Kᵀ": "n", "scores·V": "k"}
"""The dimension of each attention MatMul that is the number of tokens attended to (Table 1)."""


class Settings(TypedDict, total=False):
    """The keywords that the functions of this module share; `share` explains them."""

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
    """The parts that F is a share of: `projection + attention`, or also `+ unquantized` (LM head, router)."""
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
    """For seconds: whether `memory` or `arithmetic` bounds most of each part's, before the change."""
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

    @property
    def readings(self) -> str:
        """The readings that are not the paper's, as in `heads grouped, folds pipelined`; empty if there is none."""
        usual = _Case.__dataclass_fields__
        names = [
            name for name in ("heads", "experts", "counting", "folds") if getattr(self, name) != usual[name].default
        ]
        texts = [f"{name} {getattr(self, name)}" for name in names]
        texts += [f"DRAM {self.dram_gb_s:g} GB/s at {self.clock_mhz:g} MHz"] if self.dram_gb_s else []
        return ", ".join([*texts, "re-fetches"] if self.refetches else texts)

    def row(self) -> dict[str, str | float]:
        """A row as `sweep` has it."""
        names = [*COLUMNS[:-1], *(["unquantized"] if "unquantized" in self.whole else []), "fraction"]
        names += ["partial_speedup", "total_speedup"] if self.precision else []
        return {name: getattr(self, "hardware" if name == "array" else name) for name in names}


def share(
    model: str | Decoder,
    context_length: int,
    hardware: str | Hardware | None,
    *,
    batch: int = 1,
    phase: Phase = "decode",
    heads: Heads = "per_head",
    experts: Routing = "even",
    metric: Metric | None = None,
    counting: Counting = "reported",
    folds: Folds = "serial",
    refetches: bool = False,
    precision: Precision | None = None,
    baseline: Precision | None = None,
    unquantized: bool = False,
) -> Share:
    """The parts of one decode step (or prefill) of the whole model, F, the ceiling, and S_partial and S_total.

    Parameters
    ----------
    model
        A name (`get_model`), a `Decoder`, or the path of a `config.json`.
    context_length
        l, tokens attended to; the prompt's tokens for the phase `"prefill"`.
    hardware
        A `SystolicArray`, a `Device`, or a name (`find_hardware`): `"cloud"`, `"128x128"`, `"A100 80GB"`. None for
        bytes only.
    batch
        Sequences computed together.
    phase
        `"decode"` (one new token for each sequence) or `"prefill"` (a prompt for each).
    heads
        `"per_head"`, the paper's reading: one attention MatMul per query head. `"grouped"`: one for all query heads
        that share a K and V (`decode_step`). It changes cycles and accesses of an array; bytes read a shared K and V
        once either way.
    experts
        `"even"` or `"expected"`: how a batch is spread over the experts of a mixture (`decode_step`).
    metric
        On an array `"cycles"`, `"memory_accesses"`, `"bytes"` or, if it has a clock, `"seconds"`, which is then the
        default (without a clock `"cycles"` is); on a device `"seconds"` (default) or `"bytes"`. Bytes are those of
        `roofline.matmul_traffic`; seconds are those of `roofline.device_seconds` and `roofline.array_seconds`, the
        larger of two bounds for each MatMul.
    counting, folds
        Of an array, as in `gemm_cost`: counts `"reported"` by SCALE-Sim or `"corrected"`; folds `"serial"`, the paper's
        reading, or `"pipelined"`.
    refetches
        Of an array's bytes and seconds. False: each MatMul fetches an operand once. True: as often as its SRAMs make
        SCALE-Sim fetch it (`roofline.bytes_fetched_again`).
    precision
        What the bit widths change to, as `Precision(weights=4, activations=16, cache=8)`; widths that are not given
        stay as they are. Cycles and accesses of an array do not depend on bits: there S_partial is 1.
    baseline
        Bit widths before the change. Those that are not given are 16, or on an array 8, since SCALE-Sim's word is one
        byte. Parts, F and the ceiling are of the baseline.
    unquantized
        False: F = projection / (projection + attention), the paper's. True: the weights that stay in high precision
        (LM head, router) are in the whole too, F = projection / (projection + attention + unquantized).

    Returns
    -------
    Share
        model, context_length, batch, phase, heads, hardware, dataflow, metric; projection, attention, unquantized (the
        cost of each part in the metric); whole (the parts that F is a share of), fraction (F), ceiling = 1 / (1 - F).
        For a change of precision partial_speedup (S_partial: the projections before over after) and total_speedup
        (S_total: the whole before over after, Equation 5). For seconds bound: `memory` or `arithmetic`, by part.

    Notes
    -----
    The defaults are the paper's reading: one MatMul per query head, folds one after the other, counts as SCALE-Sim
    reports them, one byte a word, and no limit by memory. An array with a `clock_mhz` and a `dram_gb_s` has a limit:
    each MatMul takes the larger of cycles / clock and bytes / bandwidth; on a device, of operations / peak and bytes /
    bandwidth. Whether the model fits into the memory is not checked (`roofline.footprint` gives its bytes).

    Raises
    ------
    InputError
        An unknown model, hardware, phase, metric or reading; a metric or reading that the hardware does not have; a
        context length or batch that is not a positive whole number.

    >>> round(share("opt-350m", 2048, "cloud").fraction, 3)  # Figure 4
    0.371
    >>> round(share("opt-350m", 2048, "cloud", unquantized=True).fraction, 3)
    0.354
    >>> array = SystolicArray(256, 256, clock_mhz=700, dram_gb_s=34)  # TPU v1's clock and memory
    >>> found = share("opt-350m", 2048, array)
    >>> round(found.fraction, 3), found.metric, found.bound
    (0.69, 'seconds', {'projection': 'memory', 'attention': 'arithmetic'})
    >>> found = share("llama-7b", 2048, "A100 80GB", precision=Precision(weights=2, activations=8))
    >>> round(found.fraction, 3), round(found.partial_speedup, 2), round(found.total_speedup, 2), found.bound
    (0.923, 7.98, 5.2, {'projection': 'memory', 'attention': 'memory'})
    """
    case = _Case.of(
        model, hardware, batch=batch, phase=phase, heads=heads, experts=experts, metric=metric, counting=counting,
        folds=folds, refetches=refetches, precision=precision, baseline=baseline, unquantized=unquantized,
    )  # fmt: skip
    return case.share(context_length)


def crossover_context_length(
    model: str | Decoder, hardware: str | Hardware | None, **settings: Unpack[Settings]
) -> int | None:
    """The smallest context length at which F <= 1/2: the rest of the whole has overtaken the projections.

    Without `unquantized` the rest is attention. The answer is exact: in a decode step attention never costs less at a
    longer context, and projections cost the same at every one.

    Parameters
    ----------
    model, hardware, settings
        As in `share`, without `precision` (F is that of `baseline`); the phase is decode.

    Returns
    -------
    int or None
        None if it does not happen up to `LONGEST_CONTEXT` tokens, as when every layer has a sliding window.

    Raises
    ------
    InputError
        As `share`.

    >>> crossover_context_length("opt-350m", "cloud")
    1025
    """
    return _Case.of(model, hardware, **settings).crossover_context_length()


def crossover_batch(
    model: str | Decoder, context_length: int, hardware: str | Hardware | None, **settings: Unpack[Settings]
) -> int | None:
    """The smallest batch at which F <= 1/2.

    A batch shares the weights, so the projections' cycles stay nearly flat until it fills the array, while attention
    grows in proportion. F is not monotone in the batch: the projections jump with every further fold, so F can rise
    above 1/2 again at a larger batch. The answer is the smallest batch even so. It is exact, because the search relies
    only on the fact that no part costs less in a larger batch.

    Parameters
    ----------
    model, context_length, hardware, settings
        As in `share`, without `batch` and `precision` (F is that of `baseline`).

    Returns
    -------
    int or None
        None if it does not happen up to `LARGEST_BATCH` sequences.

    Raises
    ------
    InputError
        As `share`.

    >>> crossover_batch("opt-6.7b", 2048, "cloud")
    4
    """
    _reject_batch(settings)
    case = _Case.of(model, hardware, **settings)
    case.reject_precision()
    return _overtaking(lambda batch: replace(case, batch=batch).share(context_length), LARGEST_BATCH)


def generation_cost(
    model: str | Decoder,
    prompt_tokens: int,
    hardware: str | Hardware | None,
    *,
    new_tokens: int,
    **settings: Unpack[Settings],
) -> Share:
    """The parts of a whole generation, and F: a prefill of the prompt, then a decode step for each new token.

    The decode steps have context lengths prompt_tokens + 1 to prompt_tokens + new_tokens; the last of them is the
    `context_length` of the answer.

    Parameters
    ----------
    model, hardware, settings
        As in `share`, without `phase`.

    Raises
    ------
    InputError
        As `share`; a number of tokens that is not a positive whole number.

    >>> round(generation_cost("opt-6.7b", 512, "cloud", new_tokens=10_000).fraction, 3)
    0.572
    """
    if "phase" in settings:
        raise InputError(f"phase: {settings['phase']!r} is given, but a generation has both phases; leave it out")
    case = _Case.of(model, hardware, **settings)
    prompt, new = positive_int("prompt_tokens", prompt_tokens), positive_int("new_tokens", new_tokens)
    if new > LONGEST_GENERATION:
        raise InputError(f"new_tokens: {new} is too many; at most {LONGEST_GENERATION}")

    if prompt + new > INT64_MAX:
        raise CountOverflowError(f"prompt_tokens: {prompt + new} tokens in all do not fit into a signed 64-bit integer")

    def costs(precision: Precision) -> _Costs:
        found = _Costs()
        replace(case, phase="prefill").add(found, precision, prompt)
        for matmul in case.matmuls(prompt + new):
            if matmul.part is Part.ATTENTION:  # the only part that depends on the context length
                case.add_matmul(found, precision, _at_lengths(matmul, np.arange(prompt + 1, prompt + new + 1)))
            else:
                case.add_matmul(found, precision, matmul.times(new))
        return found

    return replace(case.share_of(prompt + new, costs), phase="generation")


def sweep(
    models: Iterable[str | Decoder],
    context_lengths: Iterable[int],
    arrays: Iterable[str | Hardware],
    *,
    ifmap: Literal["activations", "weights"] = "activations",
    **settings: Unpack[Settings],
) -> pd.DataFrame:
    """`share` for every combination of models, context lengths and arrays or devices, as one tidy table.

    Parameters
    ----------
    models
        Names, `Decoder`s or paths, as in `share`.
    context_lengths
        l, tokens attended to.
    arrays
        Systolic arrays, devices or names of either; two with the same label and dataflow are rejected.
    ifmap
        Which operand an array's ifmap memory holds: `"activations"` (Section 3.2 puts weights, K and V into the weight
        memory) or `"weights"` (the order in which Table 1 writes the products).
    settings
        As in `share`. Without a `metric`, arrays have `cycles` and `memory_accesses`, devices `seconds` and `bytes`.

    Returns
    -------
    DataFrame
        model, context_length, array (label of the array or device), dataflow, metric, projection, attention,
        fraction; with `unquantized`, a column of that name before `fraction`. F is the projections' share of the parts
        listed. Counts are int64, or float64 where a device's bytes or seconds are in the same column. With `precision`,
        partial_speedup and total_speedup follow.

    Raises
    ------
    InputError
        As `share`; an empty list, hardware with equal labels, or an array with 0 reported cycles.
    CountOverflowError
        A sum above 2**63 - 1.

    >>> sweep(["opt-350m"], [2048], ["cloud"]).loc[0, "fraction"].round(3)
    np.float64(0.371)
    """
    one_of("ifmap", ifmap, ("activations", "weights"))
    decoders, places = _models(models), _places(arrays)
    lengths = [positive_int("context_length", length) for length in listed("context_lengths", context_lengths)]
    workloads: list[Workload] = []
    tables = []
    for (_, metrics), those in groupby(places, key=lambda place: (type(place), _asked(place, settings))):
        hardware = list(those)
        cases = [_Case.of(decoders[0], hardware[0], **_with(settings, metric)) for metric in metrics]
        designs = [place for place in hardware if isinstance(place, SystolicArray)]
        vectorised = designs and not cases[0].refetches
        if ifmap != "activations" and cases[0].refetches:
            raise InputError(f"ifmap: {ifmap!r} is given, but re-fetches are those of activations; leave one out")
        if ifmap != "activations" and (not designs or "bytes" in metrics):
            raise InputError(f"ifmap: {ifmap!r} is given, but {metrics[0]} of {cases[0].label} do not depend on it")
        if vectorised:
            workloads = workloads or _workloads(decoders, lengths, cases[0], ifmap)  # the same for every array
            tables.append(_on_arrays(workloads, decoders, lengths, cases, designs))
        else:
            each = [
                replace(case, model=model, hardware=place) for place, case, model in product(hardware, cases, decoders)
            ]
            tables.append(pd.DataFrame([case.share(length).row() for case in each for length in lengths]))
    return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)


def curves(shares: Share | Iterable[Share] | pd.DataFrame, partial_speedups: ArrayLike) -> pd.DataFrame:
    """Equation (5) for faster projections and for faster attention (Figures 5, 7, 11 and 12).

    Parameters
    ----------
    shares
        What `share`, `generation_cost` or `sweep` returns: each part's cost, so that each part's F is its own share of
        the whole.
    partial_speedups
        S_partial of the part that becomes faster.

    Returns
    -------
    DataFrame
        model, context_length, array, dataflow, metric, whole (the parts it is made of), part (`projection` or
        `attention`: the one that becomes faster), partial_speedup, total_speedup.

    Raises
    ------
    InputError
        A table without the parts' costs, S_partial <= 0 or NaN.

    >>> curves(share("opt-350m", 2048, "cloud"), [1, 100]).total_speedup.round(2).tolist()
    [1.0, 1.58, 1.0, 2.65]
    """
    if isinstance(shares, pd.DataFrame):
        frame = shares
    else:
        found = listed("shares", [shares] if isinstance(shares, Share) else shares, distinct=False)
        for each in found:
            instance("shares", each, Share)
        frame = pd.DataFrame([each.row() for each in found])
    keys = ["model", "context_length", "array", "dataflow", "metric"]
    if missing := [name for name in (*keys, "projection", "attention", "fraction") if name not in frame]:
        raise InputError(f"shares: column {', '.join(missing)} is missing; give what `share` or `sweep` returns")
    speedups = pd.DataFrame({"partial_speedup": _vector("partial_speedups", partial_speedups)})
    rest = frame.get("unquantized", 0) / (frame.projection / frame.fraction)
    of_part = {"projection": frame.fraction, "attention": 1 - frame.fraction - rest}
    kinds = whole(unquantized="unquantized" in frame)
    points = frame[keys].assign(whole=" + ".join(kinds)).merge(pd.DataFrame({"part": [*of_part]}), how="cross")
    points["fraction"] = np.stack([*of_part.values()], axis=1).ravel()
    points = points.merge(speedups, how="cross")
    points["total_speedup"] = amdahl.total_speedup(points.fraction.to_numpy(), points.partial_speedup.to_numpy())
    return points.drop(columns="fraction")


def crossovers(
    models: Iterable[str | Decoder], arrays: Iterable[str | Hardware], **settings: Unpack[Settings]
) -> pd.DataFrame:
    """`crossover_context_length` of every model, array or device, and metric; arguments as in `sweep`.

    Returns
    -------
    DataFrame
        model, max_position (the longest context it was trained for), array, dataflow, metric, whole (the parts that F
        is a share of), context_length (whole numbers, missing where F never falls to 1/2).

    >>> crossovers(["opt-350m"], ["cloud", "A100 80GB"], unquantized=True).context_length.tolist()
    [873, 5443, 5606, 5606]
    """
    decoders, rows = _models(models), []
    for place in _places(arrays):
        for metric in _asked(place, settings):
            case = _Case.of(decoders[0], place, **_with(settings, metric))
            for model in decoders:
                rows.append(
                    {
                        "model": model.name,
                        "max_position": model.max_position,
                        **_labels(place),
                        "metric": case.metric,
                        "whole": " + ".join(whole(case.unquantized)),
                        "context_length": replace(case, model=model).crossover_context_length(),
                    }
                )
    return pd.DataFrame(rows).astype({"context_length": "Int64"})


def fraction_by_batch(
    models: Iterable[str | Decoder],
    context_length: int,
    hardware: str | Hardware,
    *,
    batches: Iterable[int],
    **settings: Unpack[Settings],
) -> pd.DataFrame:
    """F and its ceiling against the number of sequences decoded together; other arguments as in `share`.

    Returns
    -------
    DataFrame
        The columns of `sweep` with batch after context_length, and ceiling: 1 / (1 - F).

    >>> fraction_by_batch(["opt-6.7b"], 2048, "cloud", batches=[1, 8]).fraction.round(3).tolist()
    [0.778, 0.305]
    """
    _reject_batch(settings)
    decoders, sizes = _models(models), [positive_int("batches", batch) for batch in listed("batches", batches)]
    case = _Case.of(decoders[0], hardware, **settings)
    found = [replace(case, model=model, batch=batch).share(context_length) for model in decoders for batch in sizes]
    frame = pd.DataFrame([{**each.row(), "ceiling": each.ceiling} for each in found])
    frame.insert(2, "batch", sizes * len(decoders))
    return frame


def fraction_by_array_size(
    model: str | Decoder,
    context_length: int,
    sizes: Iterable[int],
    *,
    dataflow: Dataflow | str = Dataflow.OS,
    clock_mhz: float | None = None,
    dram_gb_s: float | None = None,
    **settings: Unpack[Settings],
) -> pd.DataFrame:
    """F and its ceiling against the size of a square array, at one context length.

    Parameters
    ----------
    sizes
        Rows, and as many columns, of each array.
    dataflow, clock_mhz, dram_gb_s
        Of every array, as in `SystolicArray`.

    Returns
    -------
    DataFrame
        The rows of `sweep`, with size and ceiling: 1 / (1 - F).

    Raises
    ------
    InputError
        As `sweep`; a size that is not a positive whole number.

    >>> frame = fraction_by_array_size("opt-6.7b", 2048, [32, 128], metric="cycles")
    >>> frame[["size", "fraction", "ceiling"]].round(3).values.tolist()
    [[32.0, 0.906, 10.653], [128.0, 0.859, 7.115]]
    """
    checked = [positive_int("sizes", size) for size in listed("sizes", sizes)]
    arrays = [SystolicArray(size, size, dataflow, clock_mhz=clock_mhz, dram_gb_s=dram_gb_s) for size in checked]
    frame = sweep([model], [context_length], arrays, **settings)
    frame.insert(3, "size", np.repeat(checked, len(frame) // len(checked)))
    return frame.assign(ceiling=amdahl.ceiling(frame.fraction.to_numpy()))


def compare(
    models: Iterable[str | Decoder],
    arrays: Iterable[str | Hardware],
    question: Callable[[Decoder, Hardware], object],
) -> pd.DataFrame:
    """The answer to `question` for each model on each array or device: one row a model, one column an array or device.

    >>> compare(["opt-6.7b"], ["cloud", "edge"], lambda model, array: crossover_batch(model, 2048, array))
              cloud  edge
    opt-6.7b      4    10
    """
    decoders, places = _models(models), _places(arrays)
    answers = {place.label: [question(model, place) for model in decoders] for place in places}
    return pd.DataFrame(answers, index=[model.name for model in decoders])


def array_shapes(
    model: str | Decoder,
    context_length: int,
    array: str | SystolicArray,
    *,
    dataflows: Iterable[Dataflow | str] = tuple(Dataflow),
    **settings: Unpack[Settings],
) -> pd.DataFrame:
    """What a decode step (or prefill) costs on every shape rows x cols with as many PEs as `array`, best first.

    Every factorization of rows x cols is there, in every dataflow, so the first row is the best of all. A shape is not
    free: it can take a word at each of its rows and columns in each cycle, and the SRAMs must deliver them.
    rows + cols is smallest for a square, so every faster shape needs more SRAM bandwidth than that.

    Parameters
    ----------
    model, context_length, settings
        As in `share`. With a `precision` the order is still that of the costs before the change.
    array
        The array, or its name, whose number of PEs, SRAM sizes, clock and DRAM are kept.
    dataflows
        Those to try.

    Returns
    -------
    DataFrame
        The columns of `sweep` in one metric; after dataflow rows, cols and words_a_cycle (rows + cols); before
        fraction cost (of the whole) and whole (the parts it is made of). Shapes of equal cost are in the order of
        words_a_cycle.

    Raises
    ------
    InputError
        As `sweep`; more than `MOST_PES` PEs. With `refetches` also a shape that requests more words in one cycle than
        a read buffer holds (`gemm_cost`).

    >>> array_shapes("llama-3.1-8b", 2048, "cloud").loc[:2, ["array", "dataflow", "words_a_cycle", "cost"]]
         array dataflow  words_a_cycle      cost
    0  32x2048       os           2080  11483552
    1  64x1024       os           1088  13968544
    2  16x4096       os           4112  14384608
    """
    design = find_array(array)
    if (pes := design.rows * design.cols) > MOST_PES:
        raise InputError(f"array: {design.label} has {pes} PEs, too many to try every shape; at most {MOST_PES}")
    flows = [one_of("dataflows", flow, tuple(Dataflow)) for flow in listed("dataflows", dataflows)]
    small = np.arange(1, math.isqrt(pes) + 1)
    rows = sorted({side for low in small[pes % small == 0].tolist() for side in (low, pes // low)})
    shapes = [replace(design, rows=high, cols=pes // high, dataflow=flow, name="") for high in rows for flow in flows]
    frame = sweep([model], [context_length], shapes, **_with(settings, _asked(design, settings)[0]))
    parts = [str(part) for part in Part if str(part) in frame]
    sides = {"rows": [shape.rows for shape in shapes], "cols": [shape.cols for shape in shapes]}
    frame = frame.assign(**sides, words_a_cycle=lambda table: table.rows + table.cols)
    frame = frame.assign(cost=frame[parts].sum(axis=1), whole=" + ".join(parts))
    order = [*COLUMNS[:4], *sides, "words_a_cycle", "metric", *parts, "cost", "whole", "fraction"]
    frame = frame[order + [name for name in frame if name not in order]]
    return frame.sort_values(["cost", "words_a_cycle"], kind="stable", ignore_index=True)


def gains(
    models: Iterable[str | Decoder],
    context_lengths: Iterable[int],
    hardware: Iterable[str | Hardware],
    *,
    changes: Mapping[str, Precision],
    batches: Iterable[int] = (1,),
    **settings: Unpack[Settings],
) -> pd.DataFrame:
    """What each change of bit widths gains in a decode step, at every context length and batch.

    Parameters
    ----------
    models, context_lengths, hardware
        As in `sweep`.
    changes
        Names and bit widths, as in `{"W4": Precision(weights=4), "KV4": Precision(cache=4)}`; each is a change from
        `baseline`, whose widths stay where a change gives none.
    batches
        Sequences decoded together.
    settings
        As in `share`, without `batch` and `precision`. The metric is seconds (an array needs a clock) or bytes.

    Returns
    -------
    DataFrame
        model, context_length, batch, array (label of the array or device), dataflow, metric, whole (the parts of the
        whole), fraction (F before the change), change, projection_speedup, attention_speedup, total_speedup: the cost
        before over that after, of each of the two parts and of the whole. 1 where the array's cycles or the device's
        operations take longer than the bytes both before and after.

    Raises
    ------
    InputError
        As `share`; no changes, or one that is not a `Precision`; a phase other than decode; a metric that does not
        depend on bits.

    >>> changes = {"W4": Precision(weights=4), "KV4": Precision(cache=4)}
    >>> frame = gains(["llama-3.1-8b"], [2048, 131_072], ["H200"], changes=changes)
    >>> frame[["context_length", "change", "total_speedup"]].round(2)
       context_length change  total_speedup
    0            2048     W4           3.78
    1          131072     W4           1.51
    2            2048    KV4           1.01
    3          131072    KV4           1.71
    """
    _reject_batch(settings)
    if not isinstance(changes, Mapping) or not changes:
        raise InputError(f"changes: {shown(changes)} is not a dict of names and their `Precision`")
    decoders, places = _models(models), _places(hardware)
    lengths = [positive_int("context_length", length) for length in listed("context_lengths", context_lengths)]
    sizes = [positive_int("batches", batch) for batch in listed("batches", batches)]
    tables = []
    for place, model in product(places, decoders):
        case = _Case.of(model, place, **settings)
        case.check_changes({f"changes: {name}": change for name, change in changes.items()})
        for batch in sizes:
            of_batch, parts = replace(case, batch=batch), whole(case.unquantized)
            before = of_batch.at_lengths(case.baseline, lengths)
            labels = {"model": model.name, "context_length": lengths, "batch": batch, **_labels(place)}
            total = np.sum([before[part] for part in parts], axis=0)
            fraction = before[Part.PROJECTION] / total
            labels |= {"metric": case.metric, "whole": " + ".join(parts), "fraction": fraction}
            for name, change in changes.items():
                after = of_batch.at_lengths(change.over(case.baseline), lengths)
                speedups = {f"{part}_speedup": before[part] / after[part] for part in (Part.PROJECTION, Part.ATTENTION)}
                speedups["total_speedup"] = total / np.sum([after[part] for part in parts], axis=0)
                tables.append(pd.DataFrame({**labels, "change": name, **speedups}))
    return pd.concat(tables, ignore_index=True)


def change_crossover(
    model: str | Decoder,
    hardware: str | Hardware | None,
    *,
    first: Precision,
    second: Precision,
    longest: int = 2**17,
    **settings: Unpack[Settings],
) -> int | None:
    """The smallest context length from which on, up to `longest`, the second change gains more than the first.

    Where both gain the same (as where bits gain nothing) the second does not gain more; a difference of the times below
    1e-12 of them is rounding. Every length is tried, because the gain of fewer bits is not monotone in the context
    where cycles or operations bound some of the MatMuls.

    Where memory is the bound of all MatMuls, K and V pay more than the weights, both from and to the same bits, once
    the step reads more of their elements than weights. That is where F of bytes falls below 1/2 (but for the bytes of
    activations), and in l * batch = 6 d for a decoder block of OPT: 12 d^2 weights over 2 d elements a token.

    Parameters
    ----------
    first, second
        Bit widths after each change; those that are not given stay at `baseline`.
    longest
        The longest context tried, in tokens.
    settings
        As in `share`, without `precision`; the phase is decode.

    Returns
    -------
    int or None
        None if the second does not gain more at `longest`.

    Raises
    ------
    InputError
        As `gains`.

    >>> change_crossover("opt-6.7b", "H200", first=Precision(weights=4), second=Precision(cache=4))  # 6 * 4096 + 1
    24577
    """
    case = _Case.of(model, hardware, **settings)
    case.check_changes({"first": first, "second": second})
    lengths = range(1, positive_int("longest", longest) + 1)
    parts = whole(case.unquantized)
    one, two = (
        np.sum([costs[part] for part in parts], axis=0)
        for costs in (case.at_lengths(change.over(case.baseline), lengths) for change in (first, second))
    )
    slower = np.flatnonzero(two >= one * (1 - 1e-12))
    answer = int(slower[-1]) + 2 if slower.size else 1
    return answer if answer <= longest else None


class _Costs:
    """The cost of each part and, if costs are seconds, how much of it is bound by memory."""

    def __init__(self) -> None:
        self.parts: dict[Part, float] = dict.fromkeys(Part, 0)  # ints stay ints: these sums cannot overflow
        self.memory_bound: dict[Part, float] = dict.fromkeys(Part, 0)


@dataclass(frozen=True, slots=True)
class _Case:
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
    def of(cls, model: str | Decoder, hardware: str | Hardware | None, **settings: Unpack[Settings]) -> _Case:
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
            "metric": _metrics(place)[0] if metric is None else metric,
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
        label, known = self.label, [*_metrics(self.hardware)]
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
            if getattr(self, name) != usual and not isinstance(self.hardware, SystolicArray):
                raise InputError(
                    f"{name}: {getattr(self, name)!r} is given, but {self.label} is not an array; leave it out"
                )

    @property
    def label(self) -> str:
        """What the case runs on, for messages."""
        return self.hardware.label if self.hardware else "no hardware"

    def share(self, context_length: int) -> Share:
        """`analysis.share` at a context length."""
        length = positive_int("context_length", context_length)

        def costs(precision: Precision) -> _Costs:
            found = _Costs()
            self.add(found, precision, length)
            return found

        return self.share_of(length, costs)

    def crossover_context_length(self) -> int | None:
        """`analysis.crossover_context_length` of this model on this hardware."""
        self.reject_precision()
        if self.phase != "decode":
            raise InputError(f"phase: {self.phase!r} is given, but this crossover is of decode only; leave it out")
        fixed, attention = _Costs(), []
        for matmul in self.matmuls(LONGEST_CONTEXT):
            if matmul.part is Part.ATTENTION:
                attention.append(matmul)
            else:
                self.add_matmul(fixed, self.baseline, matmul)
        missing = fixed.parts[Part.PROJECTION] - sum(fixed.parts[part] for part in whole(self.unquantized)[2:])

        def overtaken(lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
            costs = [self.cost(_at_lengths(matmul, lengths), self.baseline) for matmul in attention]
            return np.broadcast_to(sum(costs) >= missing, lengths.shape)

        # F > 1/2 at `low` and F <= 1/2 at `high`, unless it never is; 64 lengths between them at a time.
        low, high = 0, LONGEST_CONTEXT
        if not overtaken(np.array([high]))[0]:
            return None
        while high - low > 1:
            lengths = np.unique(np.linspace(low + 1, high, 64, dtype=np.int64))
            found = int(np.argmax(overtaken(lengths)))
            low, high = int(lengths[found - 1]) if found else low, int(lengths[found])
        return high

    def reject_precision(self) -> None:
        """Reject a change of precision: a crossover is that of the baseline's F."""
        if self.precision is not None:
            raise InputError("precision: a crossover has one set of bit widths; give it as baseline")

    def check_changes(self, changes: Mapping[str, Precision]) -> None:
        """Reject what is not a change of bit widths, and a case in which changes cannot be compared."""
        for name, change in changes.items():
            instance(name, change, Precision)
        if self.precision is not None:
            raise InputError("precision: it is given apart from the changes that are compared; leave it out")
        if self.phase != "decode":
            raise InputError(f"phase: {self.phase!r} is given, but changes are compared in decode only; leave it out")
        if self.metric in METRICS:
            raise InputError(
                f"metric: {self.metric} of {self.label} do not depend on bits; give bytes, or seconds and a clock_mhz"
            )

    def matmuls(self, context_length: int) -> tuple[MatMul, ...]:
        """The MatMuls of the phase; on a device one for each query head, whose peak one sequence does not need."""
        heads = self.heads if isinstance(self.hardware, SystolicArray) else "per_head"
        return matmuls(
            self.model, context_length, batch=self.batch, phase=self.phase, heads=heads, experts=self.experts
        )

    def add(self, costs: _Costs, precision: Precision, context_length: int) -> None:
        """Add all MatMuls of a decode step, or of a prefill."""
        for matmul in self.matmuls(context_length):
            self.add_matmul(costs, precision, matmul)

    def add_matmul(self, costs: _Costs, precision: Precision, matmul: MatMul) -> None:
        """Add a MatMul, or several: n or k can be an array of sizes."""
        costs.parts[matmul.part] += _total(self.cost(matmul, precision))
        if self.metric == "seconds":
            arithmetic, memory = self.seconds(matmul, precision)
            costs.memory_bound[matmul.part] += _total(np.where(memory >= arithmetic, memory, 0))

    def cost(self, matmul: MatMul, precision: Precision) -> Any:
        """Cost of all products of the MatMul: a number, or an array of them if n or k is one."""
        if self.metric == "bytes":
            return self.bytes(matmul, precision)
        if self.metric == "seconds":
            return np.maximum(*self.seconds(matmul, precision))
        assert isinstance(self.hardware, SystolicArray)
        m, n, k = matmul.m, matmul.n, matmul.k
        cost = getattr(gemm_cost(m, n, k, self.hardware, counting=self.counting, folds=self.folds), self.metric)
        if isinstance(cost, np.ndarray) and int(cost.max()) * matmul.count > INT64_MAX:
            cost = cost.astype(object)  # Python's ints, which cannot overflow
        return cost * matmul.count

    def at_lengths(self, precision: Precision, lengths: Sequence[int]) -> dict[Part, NDArray[np.float64]]:
        """Bytes or seconds of each part of a decode step at each context length."""
        costs = {part: np.zeros(len(lengths)) for part in Part}
        for matmul in self.matmuls(max(lengths)):
            sized = _at_lengths(matmul, lengths) if matmul.part is Part.ATTENTION else matmul
            both = self.seconds(sized, precision) if self.metric == "seconds" else [self.bytes(sized, precision)]
            costs[matmul.part] += np.max(np.broadcast_arrays(*both), axis=0)
        return costs

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

    def share_of(self, context_length: int, costs: Callable[[Precision], _Costs]) -> Share:
        """F, the ceiling and what the change of precision gains, from the parts' costs at a precision."""
        before, parts = costs(self.baseline), whole(self.unquantized)
        total = sum(before.parts[part] for part in parts)
        if not total:  # SCALE-Sim reports one cycle too few, so 0 for a MatMul of one cycle
            raise InputError("hardware: SCALE-Sim reports 0 cycles for every part, so F is not defined")
        gained = self._gain(before, costs)
        bound = {
            str(part): "memory" if 2 * before.memory_bound[part] >= before.parts[part] else "arithmetic"
            for part in (parts if self.metric == "seconds" else ())
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

    def _gain(self, before: _Costs, costs: Callable[[Precision], _Costs]) -> Gain:
        if self.metric in METRICS or self.precision is None:  # counts do not depend on bits
            return gain([1.0], [1.0])
        after, parts = costs(self.precision), whole(self.unquantized)
        return gain([before.parts[part] for part in parts], [after.parts[part] for part in parts])


def _workloads(models: list[Decoder], lengths: list[int], case: _Case, ifmap: str) -> list[Workload]:
    """The MatMuls of a sweep: those that are the same at every context length, and those that are not."""
    parts = whole(case.unquantized)
    fixed: list[Placed] = []
    varying: list[Placed] = []
    for row, model in enumerate(models):
        of_model = replace(case, model=model)
        if case.phase == "decode":
            for mm in of_model.matmuls(max(lengths)):
                if mm.part is Part.ATTENTION:
                    varying.append((row, range(len(lengths)), 1, _at_lengths(mm, lengths)))
                elif mm.part in parts:
                    fixed.append((row, 0, parts.index(mm.part), mm))
        else:
            steps = enumerate(map(of_model.matmuls, lengths))
            varying += [
                (row, place, parts.index(mm.part), mm) for place, step in steps for mm in step if mm.part in parts
            ]
    return [
        Workload.of((len(models), width, len(parts)), placed, swapped=ifmap == "weights")
        for width, placed in ((1, fixed), (len(lengths), varying))
        if placed
    ]


def _on_arrays(
    workloads: list[Workload],
    models: list[Decoder],
    lengths: list[int],
    cases: list[_Case],
    arrays: list[SystolicArray],
) -> pd.DataFrame:
    """The rows of a sweep on these arrays, all of which have the metrics of `cases`."""
    case, metrics = cases[0], [case.metric for case in cases]

    parts = whole(case.unquantized)

    def costs_at(precision: Precision) -> NDArray[Any]:
        each = [
            workload.costs(arrays, metrics, precision, counting=case.counting, folds=case.folds)
            for workload in workloads
        ]
        kind = np.result_type(*chain.from_iterable(each))
        costs = np.empty((len(parts), len(arrays), len(metrics), len(models), len(lengths)), kind)
        for number, found in enumerate(zip(*each, strict=True)):
            costs[:, :, number] = found[0]
            for more in found[1:]:
                costs[:, :, number] += more
        return costs

    before = costs_at(case.baseline)
    total = before.sum(axis=0)
    if not total.all():  # SCALE-Sim reports one cycle too few, so 0 for a MatMul of one cycle
        place, metric = np.argwhere(total == 0)[0][:2]
        raise InputError(
            f"arrays: SCALE-Sim reports 0 {metrics[metric]} on {arrays[place].label!r} with dataflow "
            f"{_labels(arrays[place])['dataflow']} for every part, so F is not defined"
        )
    # The axes of a column, as it is flattened: arrays, metrics, models, lengths.
    labels = [_labels(array) for array in arrays]
    names: dict[str, tuple[list[str], int]] = {
        "model": ([model.name for model in models], 2),
        "array": ([label["array"] for label in labels], 0),
        "dataflow": ([label["dataflow"] for label in labels], 0),
        "metric": ([str(metric) for metric in metrics], 1),
    }
    places = np.indices(total.shape, dtype=np.intp, sparse=True)
    columns: dict[str, Any] = {
        name: pd.array(texts, dtype="str").take(np.broadcast_to(places[axis], total.shape).ravel())
        for name, (texts, axis) in names.items()
    }
    columns["context_length"] = np.broadcast_to(lengths, total.shape).ravel()
    columns |= {str(part): before[number].ravel() for number, part in enumerate(parts)}
    columns["fraction"] = (before[0] / total).ravel()
    if case.precision:
        after = costs_at(case.precision)
        gained = [
            np.where(part == 0, 1, part / np.where(later == 0, 1, later))
            for part, later in zip(before, after, strict=True)
        ]
        columns["partial_speedup"] = gained[0].ravel()
        speedup = amdahl.combined_speedup(np.stack(before / total, axis=-1), np.stack(gained, axis=-1))
        columns["total_speedup"] = np.asarray(speedup).ravel()
    order = [*COLUMNS[:-1], *map(str, parts[2:]), "fraction", *[name for name in columns if "speedup" in name]]
    return pd.DataFrame({name: columns[name] for name in order}, copy=False)


def _at_lengths(matmul: MatMul, lengths: ArrayLike) -> MatMul:
    """One attention MatMul of a decode step for many context lengths, with an array as its context dimension.

    `matmul` is that of the longest: its context dimension is that length, or the layer's window if that is smaller. At
    any other length the dimension is the smaller of that length and the one of `matmul`.
    """
    if (axis := CONTEXT_AXIS.get(matmul.name)) is None:
        raise InputError(f"model: {matmul.name!r} is attention of an unknown kind; known: {', '.join(CONTEXT_AXIS)}")
    try:
        sizes = np.minimum(np.asarray(lengths, dtype=np.int64), min(getattr(matmul, axis), INT64_MAX))
    except OverflowError:
        raise CountOverflowError("context_length: above 2**63 - 1") from None
    return replace(matmul, **{axis: sizes})  # type: ignore[arg-type]  # only this module puts arrays into a MatMul


def _reject_batch(settings: Settings) -> None:
    if "batch" in settings:
        raise InputError(f"batch: {settings['batch']} is given, but the batch is what varies here; leave it out")


def _models(models: Iterable[str | Decoder]) -> list[Decoder]:
    decoders = [find_model(model) for model in listed("models", models)]
    listed("models", [model.name for model in decoders])
    return decoders


def _places(arrays: Iterable[str | Hardware]) -> list[Hardware]:
    """Arrays and devices that a table can tell apart."""
    places = [find_hardware(array) for array in listed("arrays", arrays, distinct=False)]
    labels = Counter(", ".join(filter(None, _labels(place).values())) for place in places)
    if (repeated := labels.most_common(1)[0])[1] > 1:
        raise InputError(f"arrays: {repeated[0]!r} is listed {repeated[1]} times; give each its own `name`")
    return places


def _labels(place: Hardware) -> dict[str, str]:
    return {"array": place.label, "dataflow": str(place.dataflow) if isinstance(place, SystolicArray) else ""}


def _asked(place: Hardware, settings: Settings) -> tuple[Metric, ...]:
    """The metric that was asked for, or every metric that a sweep of this hardware has."""
    metric = settings.get("metric")
    return _metrics(place) if metric is None else (metric,)


def _with(settings: Settings, metric: Metric) -> Settings:
    return {**settings, "metric": metric}


def _metrics(place: Hardware | None) -> tuple[Metric, ...]:
    """The metrics that a sweep of this hardware has; the first is the default of `share`."""
    if place is None:
        return ("bytes",)
    if isinstance(place, Device):
        return ("seconds", "bytes")
    return METRICS if place.clock_mhz is None else ("seconds", *METRICS)


def _overtaking(share_at: Callable[[int], Share], bound: int) -> int | None:
    """The smallest x from 1 to `bound` at which F <= 1/2; no part may decrease as x grows.

    Until x reaches the value where the rest of the whole costs what the projections cost now, the rest costs less than
    that, so less than the projections cost there: all these x are excluded, and the search continues at that value.
    """

    def rest(found: Share) -> float:
        return found.attention + (found.unquantized if "unquantized" in found.whole else 0)

    x = 1
    while x <= bound and rest(now := share_at(x)) < now.projection:
        x = bisect_left(range(bound + 1), now.projection, lo=x + 1, key=lambda other: rest(share_at(other)))
    return x if x <= bound else None


def _total(values: ArrayLike) -> float:
    """The sum of a number or an array, exact for ints of any size."""
    array = np.atleast_1d(values)
    if array.dtype.kind == "f" or (array.dtype.kind == "i" and int(array.max()) * array.size <= INT64_MAX):
        total: float = array.sum().item()
    else:
        total = sum(array.tolist())
    return total


def _vector(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """A number or a list of them as a float vector."""
    try:
        vector = np.atleast_1d(np.asarray(values, dtype=float))
    except (TypeError, ValueError):
        raise InputError(f"{name}: {shown(values)} is not a number, or a list of them") from None
    if vector.ndim > 1:
        raise InputError(f"{name}: an array of {vector.ndim} dimensions is not a list of numbers")
    return vector
