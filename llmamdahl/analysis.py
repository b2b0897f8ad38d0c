"""Questions about a model on an array or a device: the share of each part, where attention overtakes, and sweeps.

Every function takes the same keywords with the same defaults, which are the paper's; `share` explains them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import chain, groupby, product
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from llmamdahl import amdahl
from llmamdahl.errors import INT64_MAX, CountOverflowError, InputError, instance, listed, one_of, positive_int, shown
from llmamdahl.grid import Placed, Workload
from llmamdahl.hardware import Hardware, SystolicArray
from llmamdahl.models import Decoder
from llmamdahl.question import (
    COLUMNS,
    METRICS,
    Costs,
    Metric,
    Question,
    Settings,
    Share,
    decoders_of,
    labels_of,
    measured_share,
    metrics_asked,
    metrics_of,
    places_of,
    reject_batch,
    sized,
    with_metric,
)
from llmamdahl.roofline import Precision
from llmamdahl.systolic import Counting, Folds
from llmamdahl.workload import Heads, Part, Phase, Routing, whole

LARGEST_BATCH = 2**16
"""The largest batch that the search for a crossover covers, in sequences."""

LONGEST_GENERATION = 2**24
"""Most new tokens of a generation: their costs are arrays in memory."""


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
    measured: Mapping[str, float] | None = None,
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
        Of an array's bytes, and of its seconds if it has a DRAM. False: each MatMul fetches an operand once. True: as
        often as its SRAMs make SCALE-Sim fetch it (`roofline.bytes_fetched_again`).
    precision
        What the bit widths change to, as `Precision(weights=4, activations=16, cache=8)`; widths that are not given
        stay as they are. Cycles and accesses of an array do not depend on bits: there S_partial is 1.
    baseline
        Bit widths before the change. Those that are not given are 16, or on an array 8, since SCALE-Sim's word is one
        byte. Parts, F and the ceiling are of the baseline.
    unquantized
        False: F = projection / (projection + attention), the paper's. True: the weights that stay in high precision
        (LM head, router) are in the whole too, F = projection / (projection + attention + unquantized). A recurrent
        state is in the whole of a model that has one, F = projection / (projection + attention + state).
    measured
        Seconds that were timed, instead of computed ones: of `"projection"`, `"attention"` and, to have the rest
        (norms, activation, residuals, launches) in the whole, `"other"`. `hardware` is then where they were timed: any
        text, an array, a device or None. It goes with batch and phase, and with no other keyword.

    Returns
    -------
    Share
        model, context_length, batch, phase, heads, hardware, dataflow, metric; projection, attention, state,
        unquantized (the cost of each part in the metric); whole (the parts that F is a share of), fraction (F), ceiling
        = 1 / (1 - F). For a change of precision partial_speedup (S_partial: the projections before over after) and
        total_speedup (S_total: the whole before over after, Equation 5). For seconds bound: `memory` or `arithmetic`,
        by part.

    Notes
    -----
    The defaults are the paper's reading: one MatMul per query head, folds one after the other, counts as SCALE-Sim
    reports them, one byte a word, and no limit by memory. An array with a `clock_mhz` and a `dram_gb_s` has a limit:
    each MatMul takes the larger of cycles / clock and bytes / bandwidth; on a device, of operations / peak and bytes /
    bandwidth. Whether the model fits into the memory is not part of the answer (`roofline.fits`).

    Raises
    ------
    InputError
        An unknown model, hardware, phase, metric or reading; a metric or reading that the hardware does not have; a
        context length or batch that is not a positive whole number; measured parts that are not seconds > 0.

    >>> round(share("opt-350m", 2048, "cloud").fraction, 3)  # Figure 4
    0.371
    >>> round(share("opt-350m", 2048, "cloud", unquantized=True).fraction, 3)
    0.354
    >>> hybrid = "qwen3-next-80b-a3b"  # a state in three of four layers
    >>> [round(share(hybrid, l, "cloud", heads="grouped").fraction, 3) for l in (2048, 262144)]
    [0.933, 0.395]
    >>> array = SystolicArray(256, 256, clock_mhz=700, dram_gb_s=34)  # TPU v1's clock and memory
    >>> found = share("opt-350m", 2048, array)
    >>> round(found.fraction, 3), found.metric, found.bound
    (0.69, 'seconds', {'projection': 'memory', 'attention': 'arithmetic'})
    >>> found = share("llama-7b", 2048, "A100 80GB", precision=Precision(weights=2, activations=8))
    >>> round(found.fraction, 3), round(found.partial_speedup, 2), round(found.total_speedup, 2), found.bound
    (0.923, 7.98, 5.2, {'projection': 'memory', 'attention': 'memory'})
    >>> seconds = {"projection": 467e-6, "attention": 20e-6, "other": 8e-6}
    >>> found = share("llama-3.1-8b", 2048, "RTX 4090", measured=seconds)
    >>> round(found.fraction, 3), round(found.ceiling, 1), found.whole
    (0.943, 17.7, 'projection + attention + other')
    """
    settings = Settings(
        batch=batch, phase=phase, heads=heads, experts=experts, metric=metric, counting=counting, folds=folds,
        refetches=refetches, precision=precision, baseline=baseline, unquantized=unquantized,
    )  # fmt: skip
    if measured is None:
        return Question.of(model, hardware, **settings).share(context_length)
    for name, usual in (share.__kwdefaults__ or {}).items():
        if name not in ("batch", "phase", "measured") and settings.get(name) != usual:
            raise InputError(f"{name}: {shown(settings.get(name))} is given, but the parts are measured; leave it out")
    return measured_share(model, context_length, hardware, measured, batch, phase)


def crossover_context_length(
    model: str | Decoder, hardware: str | Hardware | None, **settings: Unpack[Settings]
) -> int | None:
    """The smallest context length at which F <= 1/2: the rest of the whole has overtaken the projections.

    Without `unquantized` the rest is attention and, in a model that has one, the recurrent state. The answer is exact:
    in a decode step attention never costs less at a longer context, and projections cost the same at every one.

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
    return Question.of(model, hardware, **settings).crossover_context_length()


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
    reject_batch(settings)
    case = Question.of(model, hardware, **settings)
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
        As `share`; a number of tokens that is not a positive whole number; a model without a prefill (`prefill`).

    >>> round(generation_cost("opt-6.7b", 512, "cloud", new_tokens=10_000).fraction, 3)
    0.572
    """
    if "phase" in settings:
        raise InputError(f"phase: {shown(settings['phase'])} is given, but a generation has both phases; leave it out")
    case = Question.of(model, hardware, **settings)
    prompt, new = positive_int("prompt_tokens", prompt_tokens), positive_int("new_tokens", new_tokens)
    if new > LONGEST_GENERATION:
        raise InputError(f"new_tokens: {new} is too many; at most {LONGEST_GENERATION}")

    if prompt + new > INT64_MAX:
        raise CountOverflowError(f"prompt_tokens: {prompt + new} tokens in all do not fit into a signed 64-bit integer")

    def costs(precision: Precision) -> Costs:
        found = Costs()
        replace(case, phase="prefill").add(found, precision, prompt)
        for matmul in case.matmuls(prompt + new):
            if matmul.part is Part.ATTENTION:  # the only part that depends on the context length
                case.add_matmul(found, precision, sized(matmul, np.arange(prompt + 1, prompt + new + 1)))
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
        model, context_length, array (label of the array or device), dataflow, metric, projection, attention, fraction;
        with `unquantized`, a column of that name before `fraction`, and before that `state` if a model has a recurrent
        state. F is the projections' share of the parts listed. Counts are int64, or float64 where a device's bytes or
        seconds are in the same column. With `precision`, partial_speedup and total_speedup follow.

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
    decoders, places = decoders_of(models), places_of(arrays)
    lengths = [positive_int("context_length", length) for length in listed("context_lengths", context_lengths)]
    workloads: list[Workload] = []
    tables = []
    # arrays with a clock and those without one are asked apart, so that a metric that some lack is rejected
    for _, those in groupby(places, key=lambda place: (type(place), metrics_of(place))):
        hardware = list(those)
        metrics = metrics_asked(hardware[0], settings)
        cases = [Question.of(decoders[0], hardware[0], **with_metric(settings, metric)) for metric in metrics]
        designs = [place for place in hardware if isinstance(place, SystolicArray)]
        parts = whole(cases[0].unquantized, any(model.recurrent for model in decoders))
        vectorised = designs and not cases[0].refetches
        if ifmap != "activations" and cases[0].refetches:
            raise InputError(f"ifmap: {ifmap!r} is given, but re-fetches are those of activations; leave one out")
        if ifmap != "activations" and (not designs or "bytes" in metrics):
            raise InputError(f"ifmap: {ifmap!r} is given, but {metrics[0]} of {cases[0].label} do not depend on it")
        if vectorised:
            workloads = workloads or _workloads(decoders, lengths, cases[0], ifmap, parts)  # the same for every array
            tables.append(_on_arrays(workloads, decoders, lengths, cases, designs, parts))
        else:
            each = [
                replace(case, model=model, hardware=place) for place, case, model in product(hardware, cases, decoders)
            ]
            tables.append(_table([case.share(length) for case in each for length in lengths]))
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
        Not what these return, a table without the parts' costs, shares of different wholes, S_partial <= 0 or NaN.

    >>> curves(share("opt-350m", 2048, "cloud"), [1, 100]).total_speedup.round(2).tolist()
    [1.0, 1.58, 1.0, 2.65]
    """
    if isinstance(shares, pd.DataFrame):
        frame = shares
    else:
        found = [shares] if isinstance(shares, Share) else shares
        if isinstance(found, str | bytes) or not isinstance(found, Iterable):
            raise InputError(f"shares: {shown(found)} is not what `share` or `sweep` returns; ask one of them first")
        found = listed("shares", found, distinct=False)
        for each in found:
            instance("shares", each, Share)
        frame = _table(found)
    keys = ["model", "context_length", "array", "dataflow", "metric"]
    if missing := [name for name in (*keys, "projection", "attention", "fraction") if name not in frame]:
        raise InputError(f"shares: column {', '.join(missing)} is missing; give what `share` or `sweep` returns")
    for name in ("state", "unquantized"):
        if name in frame and frame[name].isna().any():
            raise InputError(f"shares: {name} is in the whole of only some of them; give those with it apart")
    speedups = pd.DataFrame({"partial_speedup": _vector("partial_speedups", partial_speedups)})
    rest = (frame.get("unquantized", 0) + frame.get("state", 0)) / (frame.projection / frame.fraction)
    of_part = {"projection": frame.fraction, "attention": 1 - frame.fraction - rest}
    kinds = whole(unquantized="unquantized" in frame, state="state" in frame)
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
    decoders, rows = decoders_of(models), []
    for place in places_of(arrays):
        for metric in metrics_asked(place, settings):
            case = Question.of(decoders[0], place, **with_metric(settings, metric))
            for model in decoders:
                rows.append(
                    {
                        "model": model.name,
                        "max_position": model.max_position,
                        **labels_of(place),
                        "metric": case.metric,
                        "whole": " + ".join(replace(case, model=model).parts),
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
    reject_batch(settings)
    decoders, sizes = decoders_of(models), [positive_int("batches", batch) for batch in listed("batches", batches)]
    case = Question.of(decoders[0], hardware, **settings)
    found = [replace(case, model=model, batch=batch).share(context_length) for model in decoders for batch in sizes]
    frame = _table(found).assign(ceiling=[each.ceiling for each in found])
    frame.insert(2, "batch", sizes * len(decoders))
    return frame


def _workloads(
    models: list[Decoder], lengths: list[int], case: Question, ifmap: str, parts: tuple[Part, ...]
) -> list[Workload]:
    """The MatMuls of a sweep: those that are the same at every context length, and those that are not."""
    fixed: list[Placed] = []
    varying: list[Placed] = []
    for row, model in enumerate(models):
        of_model = replace(case, model=model)
        if case.phase == "decode":
            for mm in of_model.matmuls(max(lengths)):
                if mm.part is Part.ATTENTION:
                    varying.append((row, range(len(lengths)), 1, sized(mm, lengths)))
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
    cases: list[Question],
    arrays: list[SystolicArray],
    parts: tuple[Part, ...],
) -> pd.DataFrame:
    """The rows of a sweep on these arrays, all of which have the metrics of `cases`."""
    case, metrics = cases[0], [case.metric for case in cases]

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
        updated = Part.STATE in parts and not {*metrics} <= {*METRICS}
        for place, number, row in np.ndindex(len(arrays), len(metrics), len(models)) if updated else ():
            updates = Costs()
            replace(cases[number], model=models[row], hardware=arrays[place]).add_elementwise(updates, precision)
            costs[:, place, number, row] += np.array([updates.parts[part] for part in parts])[:, None].astype(kind)
        return costs

    before = costs_at(case.baseline)
    total = before.sum(axis=0)
    if not total.all():  # SCALE-Sim reports one cycle too few, so 0 for a MatMul of one cycle
        place, metric = np.argwhere(total == 0)[0][:2]
        raise InputError(
            f"arrays: SCALE-Sim reports 0 {metrics[metric]} on {arrays[place].label!r} with dataflow "
            f"{labels_of(arrays[place])['dataflow']} for every part, so F is not defined"
        )
    # The axes of a column, as it is flattened: arrays, metrics, models, lengths.
    labels = [labels_of(array) for array in arrays]
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


def _table(shares: Iterable[Share]) -> pd.DataFrame:
    """A row for each share; if one of them has a state, it is 0 in the others."""
    frame = pd.DataFrame([each.row() for each in shares])
    if "state" in frame:
        first = [*COLUMNS[:-1], "state"]
        frame = frame.fillna({"state": 0})[first + [name for name in frame if name not in first]]
    return frame


def _overtaking(share_at: Callable[[int], Share], bound: int) -> int | None:
    """The smallest x from 1 to `bound` at which F <= 1/2; no part may decrease as x grows.

    Until x reaches the value where the rest of the whole costs what the projections cost now, the rest costs less than
    that, so less than the projections cost there: all these x are excluded, and the search continues at that value.
    """

    def rest(found: Share) -> float:
        cost = found.attention + found.state + (found.unquantized if "unquantized" in found.whole else 0)
        return cost * (1 + 1e-12) if isinstance(cost, float) else cost  # a tie of rounded bytes or seconds counts

    x = 1
    while x <= bound and rest(now := share_at(x)) < now.projection:
        low, high = x + 1, bound + 1
        if now.projection < bound * rest(now):
            near = math.ceil(x * (now.projection / rest(now)))  # that value, if the rest is in proportion to x
            for other in (near, near - 1):
                if low <= other < high:
                    low, high = (low, other) if rest(share_at(other)) >= now.projection else (other + 1, high)
        x = bisect_left(range(high), now.projection, lo=low, key=lambda other: rest(share_at(other)))
    return x if x <= bound else None


def _vector(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """A number or a list of them as a float vector."""
    vector = np.atleast_1d(amdahl.numbers(name, values))
    if vector.ndim > 1:
        raise InputError(f"{name}: an array of {vector.ndim} dimensions is not a list of numbers")
    return vector
