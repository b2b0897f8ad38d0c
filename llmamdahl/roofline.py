"""The same MatMuls as memory traffic: bytes by bit width, seconds by the roofline, and what a model holds in memory.

A decode step is usually bound by the bytes that it must read. They depend only on shapes and bit widths, so F,
S_partial and S_total of quantization follow without a fitted constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from llmamdahl import amdahl
from llmamdahl.errors import CountOverflowError, InputError, instance, positive_int, real_number, shown
from llmamdahl.hardware import Device, SystolicArray, get_device
from llmamdahl.models import Decoder, find_model
from llmamdahl.systolic import Counting, Folds, gemm_cost
from llmamdahl.workload import (
    Elementwise,
    MatMul,
    Part,
    Phase,
    decode_step,
    elementwise,
    matmuls,
    weights_by_part,
    whole,
)

WIDE = 16
"""Bit width of a tensor whose width is not given."""

FORMATS = {
    WIDE: ("fp16_tflops",),
    8: ("int8_tops", "fp8_tflops"),
    4: ("int8_tops", "fp8_tflops", "int4_tops", "fp4_tflops"),
}
"""Peaks of a `Device` at which operands of at most so many bits can be multiplied; the fastest of them counts, as bits
do not say whether numbers are integers. Four bits run at an 8-bit peak where the device has no 4-bit one.
"""


@dataclass(frozen=True, slots=True, repr=False)
class Precision:
    """Bit widths of each kind of tensor; they need not be whole (1.58 is log2 3, 1.67 packs three weights in 5 bits).

    A width that is not given stays what it is before the change; where nothing comes before, it is 16.

    Attributes
    ----------
    weights
        Of the projections' weights, including their share of scales and padding if the format has any.
    activations
        Of the projections' inputs. The wider of them and the weights decides at which peak of a device the projections
        run (`FORMATS`).
    cache
        Of K and V.
    unquantized
        Of the weights that 1-bit models keep in high precision: LM head, token embedding, routers.
    results
        Of attention's activations, of the inputs of unquantized weights, and of every result as it is written.
    state
        Of a recurrent state (the convolution's past inputs included); that of `results` if it is not given. It is not
        that of `cache`, because runtimes that store K and V in fewer bits keep the state in 16 or 32.

    >>> Precision(weights=2, activations=8)
    Precision(weights=2, activations=8)
    """

    weights: float | None = None
    activations: float | None = None
    cache: float | None = None
    unquantized: float | None = None
    results: float | None = None
    state: float | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            given = getattr(self, item.name)
            bits = real_number(given)
            if given is not None and (bits is None or not 0 < bits <= 64):
                raise InputError(
                    f"{item.name}: {shown(given)} is not a number of bits; it must be above 0 and at most 64"
                )
            object.__setattr__(self, item.name, bits)

    def __repr__(self) -> str:
        given = ((item.name, getattr(self, item.name)) for item in fields(self))
        return f"Precision({', '.join(f'{name}={bits}' for name, bits in given if bits is not None)})"

    def over(self, before: Precision) -> Precision:
        """This precision, with the widths of `before` where none is given.

        >>> Precision(weights=2).over(BYTE)
        Precision(weights=2, activations=8, cache=8, unquantized=8, results=8)
        """
        if self is before:
            return self
        widths = {item.name: getattr(self, item.name) for item in fields(self)}
        return Precision(**{name: getattr(before, name) if bits is None else bits for name, bits in widths.items()})

    def of(self, part: Part) -> float:
        """Bits of the `k x n` operand of a part's MatMuls: weights, K and V, or a state."""
        if part is Part.STATE:
            return self.of_results() if self.state is None else self.state
        bits = {Part.PROJECTION: self.weights, Part.ATTENTION: self.cache, Part.UNQUANTIZED: self.unquantized}[part]
        return WIDE if bits is None else bits

    def of_inputs(self, part: Part) -> float:
        """Bits of the `m x k` operand of a part's MatMuls."""
        bits = self.activations if part is Part.PROJECTION else self.results
        return WIDE if bits is None else bits

    def of_results(self) -> float:
        """Bits of every `m x n`."""
        return WIDE if self.results is None else self.results


FP16 = Precision(16, 16, 16, 16, 16)
"""Two bytes a word: the baseline on a device."""

BYTE = Precision(8, 8, 8, 8, 8)
"""One byte a word, as SCALE-Sim has it: the baseline on an array."""


class Seconds(NamedTuple):
    """Time of a MatMul by either bound; the roofline takes the larger."""

    arithmetic: float
    memory: float


@dataclass(frozen=True, slots=True)
class Gain:
    """Equation (5) of a change of precision."""

    fraction: float
    """F, the projections' share of the whole before the change."""
    partial_speedup: float
    """S_partial of the projections."""
    ceiling: float
    """1 / (1 - F), the limit of S_total if only projections change. With fewer bits elsewhere S_total can exceed it."""
    total_speedup: float
    """S_total: Equation (5), for several parts if more than the projections changed."""


def operations(matmul: MatMul) -> float:
    """Operations of all `count` products; a multiply-accumulate is two."""
    return 2 * matmul.m * matmul.n * matmul.k * matmul.count


def bytes_moved(matmul: MatMul, precision: Precision) -> float:
    """The fewest bytes that all `count` products can move; `matmul_traffic` says what is read and written."""
    matmul = _with_floats(matmul)
    try:
        if matmul.part is Part.STATE:
            return _state_bits(matmul, precision) / 8
        operands = matmul.n * matmul.k * matmul.distinct * precision.of(matmul.part)
        return (operands + _activation_bits(matmul, precision)) / 8
    except OverflowError:
        raise _too_large(matmul) from None


def bytes_updated(update: Elementwise, precision: Precision) -> float:
    """Bytes that an element-wise update moves: weights or a state, and the activations that it reads and writes."""
    return (update.operand * precision.of(update.part) + update.activations * precision.of_results()) / 8


def bytes_fetched_again(matmul: MatMul, precision: Precision, array: SystolicArray) -> float:
    """Bytes that all `count` products move in addition, because operands do not fit into the array's SRAMs.

    From SCALE-Sim's exact DRAM counts: words of an operand beyond the first fetch of each, and words of the result
    beyond one write of each (the partial sums of WS and IS, which SCALE-Sim writes one after the other). Null addresses
    that SCALE-Sim counts as writes are left out. 0 where every operand of a MatMul is fetched once.
    """
    m, n, k = matmul.m, matmul.n, matmul.k
    cost = gemm_cost(m, n, k, array, counting="corrected")
    bits = (
        (cost.ifmap_dram_reads - m * k) * precision.of_inputs(matmul.part)
        + (cost.filter_dram_reads - n * k) * precision.of(matmul.part)
        + (cost.ofmap_dram_writes - m * n) * precision.of_results()
    )
    total: float = bits * matmul.count / 8  # type: ignore[assignment]  # or an array, of sizes in an array
    return total


def device_seconds(matmul: MatMul, precision: Precision, phase: Phase, device: Device) -> Seconds:
    """Seconds of all `count` products on a device: operations over the peak, bytes over the bandwidth.

    Raises
    ------
    InputError
        The device has no peak for this MatMul. In a decode step a MatMul of one row (m = 1), and of a state, needs
        none: its seconds are those of its bytes.
    CountOverflowError
        Bytes or operations that are too large for a float.
    """
    matmul = _with_floats(matmul)
    bits = max(precision.of_inputs(matmul.part), precision.of(matmul.part)) if matmul.part is Part.PROJECTION else WIDE
    single = matmul.m == 1 if isinstance(matmul.m, int) else bool(np.all(matmul.m == 1))  # experts differ in m
    one = phase == "decode" and (single or matmul.part is Part.STATE)
    peak = _peak(device, bits, optional=one)
    memory = bytes_moved(matmul, precision) / 1e9 / device.bandwidth_gb_s
    try:
        return Seconds(operations(matmul) / 1e12 / peak, memory)
    except OverflowError:
        raise _too_large(matmul) from None


def array_seconds(
    matmul: MatMul,
    precision: Precision,
    array: SystolicArray,
    *,
    counting: Counting = "reported",
    folds: Folds = "serial",
    refetches: bool = False,
) -> Seconds:
    """Seconds of all `count` products on an array: cycles over the clock, bytes over the DRAM's bandwidth.

    Parameters
    ----------
    counting, folds
        Of the cycles, as in `gemm_cost`; they do not depend on bits.
    refetches
        False: the fewest bytes (`bytes_moved`). True: also those of `bytes_fetched_again`.

    Raises
    ------
    InputError
        An array without a clock.

    >>> from llmamdahl.hardware import SystolicArray
    >>> array = SystolicArray(256, 256, clock_mhz=700, dram_gb_s=34)  # TPU v1's
    >>> max(array_seconds(MatMul("W_Q", Part.PROJECTION, 1, 1024, 1024, count=1), BYTE, array))  # 1 MB over 34 GB/s
    3.090070588235294e-05
    """
    if array.clock_mhz is None:
        raise InputError(f"hardware: {array.label} has no clock, so cycles have no seconds; give it a clock_mhz")
    cycles = gemm_cost(matmul.m, matmul.n, matmul.k, array, counting=counting, folds=folds).cycles
    memory: float = 0
    if array.dram_gb_s is not None:
        memory = bytes_moved(matmul, precision) / 1e9 / array.dram_gb_s
        if refetches:
            memory = memory + bytes_fetched_again(matmul, precision, array) / 1e9 / array.dram_gb_s
    arithmetic: float = cycles * matmul.count / 1e6 / array.clock_mhz  # type: ignore[assignment]  # or an array
    return Seconds(arithmetic, memory)


def matmul_traffic(
    model: str | Decoder,
    context_length: int,
    device: str | Device | None = None,
    *,
    batch: int = 1,
    phase: Phase = "decode",
    precision: Precision = FP16,
) -> pd.DataFrame:
    """Operations, bytes and, on a device, seconds of each MatMul of a decode step or a prefill.

    Bytes are the fewest that each MatMul can move: every weight, K and V is read once; each MatMul reads its
    activations and writes its results once; attention's scores stay on the chip. Query heads that share a K or V share
    its reading, and a decode step with latent attention reads its latents once, for Q·Kᵀ. A batch reads as many experts
    as `decode_step` spreads it over, which is the most there can be. A state is read once, for Q·S, and written once,
    by Kᵀ·V; what `elementwise` lists follows the MatMuls, and its seconds are those of its bytes. Seconds are
    max(operations / peak, bytes / bandwidth), one MatMul at a time: projections at the peak of a format that holds
    weights and activations (`FORMATS`), everything else at the FP16 peak.

    Parameters
    ----------
    model
        A name for `get_model`, or a `Decoder`.
    context_length, batch
        As in `decode_step`, or the prompt's tokens if `phase` is `"prefill"`.
    device
        A device or its name; None for operations and bytes only. If the datasheet lacks a peak, the seconds of
        one sequence's decode step are those of its bytes; a batch or a prefill is rejected.

    Returns
    -------
    DataFrame
        name, part, operations, bytes, seconds (with a device only).

    Raises
    ------
    InputError
        An unknown model, device or phase, a peak that a batch or a prefill needs and the device lacks, or as
        `decode_step`.

    >>> matmul_traffic("opt-6.7b", 2048, "A100 80GB").groupby("part").seconds.sum().round(5).to_dict()
    {'attention': 0.00053, 'projection': 0.00632, 'unquantized': 0.0002}
    """
    decoder = find_model(model)
    instance("precision", precision, Precision)
    where = get_device(device) if isinstance(device, str) else device
    if where is not None:
        instance("device", where, Device)
    rows = []
    for matmul in matmuls(decoder, context_length, batch=batch, phase=phase):
        row = {
            "name": matmul.name,
            "part": str(matmul.part),
            "operations": operations(matmul),
            "bytes": bytes_moved(matmul, precision),
        }
        if where is not None:
            row["seconds"] = max(device_seconds(matmul, precision, phase, where))
        rows.append(row)
    for update in elementwise(decoder, batch):
        moved = bytes_updated(update, precision)
        row = {"name": update.name, "part": str(update.part), "operations": 2 * update.macs, "bytes": moved}
        rows.append(row if where is None else {**row, "seconds": moved / 1e9 / where.bandwidth_gb_s})
    return pd.DataFrame(rows)


def footprint(
    model: str | Decoder, precision: Precision = FP16, context_length: int | None = None, *, batch: int = 1
) -> dict[Part, float]:
    """Bytes held in memory, by part: the projections' weights, the other weights, attention's K and V, and the state.

    All weights count, those of every expert and the token embedding included, but not norms and biases (about 1%).
    Without a context length there is no cache and no state.
    """
    decoder = find_model(model)
    instance("precision", precision, Precision)
    weights = weights_by_part(decoder)
    elements = {part: weights.get(part, 0) for part in Part}
    if positive_int("batch", batch) > 1 and context_length is None:
        raise InputError(f"batch: {batch} without a cache is the same as 1; give context_length")
    if context_length is not None:
        # An indexer selects from the K and V of all tokens, so that all are kept, besides its own keys.
        step = decode_step(replace(decoder, indexer=None), context_length, batch)
        if decoder.indexer:
            step += tuple(mm for mm in decode_step(decoder, context_length, batch) if mm.name.startswith("index "))
        attention = (matmul for matmul in step if matmul.part is Part.ATTENTION)
        elements[Part.ATTENTION] = sum(matmul.n * matmul.k * int(matmul.distinct) for matmul in attention)
        if decoder.recurrent:
            layers = sum(mixer in ("state", "both") for mixer in decoder.mixers)
            elements[Part.STATE] = layers * batch * decoder.recurrent.state_size
    return {part: number * precision.of(part) / 8 for part, number in elements.items()}


def fits(
    model: str | Decoder, device: str | Device, context_length: int, precision: Precision = FP16, *, batch: int = 1
) -> bool | None:
    """Whether `footprint` fits into the memory of a device; None if the device has no `memory_gb`.

    What is computed on the way takes more memory, so a model that fits can still be too large.

    >>> fits("llama-2-13b", "RTX 4090", 4096), fits("llama-2-13b", "RTX 4090", 4096, Precision(weights=4))
    (False, True)
    """
    place = get_device(device) if isinstance(device, str) else device
    instance("device", place, Device)
    instance("precision", precision, Precision)
    held = sum(footprint(model, precision.over(FP16), context_length, batch=batch).values())
    return None if place.memory_gb is None else held <= place.memory_gb * 2**30


def too_large(
    model: str | Decoder, device: Device, context_length: int, change: Precision | None = None, *, batch: int = 1
) -> str:
    """What a model needs at 16 bits, and after a change of bits, if a device cannot hold it; empty if `fits`.

    >>> too_large("llama-2-13b", get_device("RTX 4090"), 4096, Precision(weights=4))
    '27 GB of weights, K and V at 16 bits, 10 GB after the change; it has 24 GB'
    """
    if fits(model, device, context_length, batch=batch) is not False:
        return ""
    before, now = (
        sum(footprint(model, precision.over(FP16), context_length, batch=batch).values()) / 2**30
        for precision in (FP16, change or FP16)
    )
    after = f", {now:.0f} GB after the change" if change else ""
    return f"{before:.0f} GB of weights, K and V at 16 bits{after}; it has {device.memory_gb:g} GB"


def saving(
    model: str | Decoder,
    precision: Precision,
    context_length: int | None = None,
    *,
    batch: int = 1,
    baseline: Precision = FP16,
    unquantized: bool = False,
    other_bytes: float = 0,
) -> Gain:
    """Amdahl's law of capacity: how many times less memory a change of precision needs, from `footprint`.

    Parameters
    ----------
    precision, baseline
        After and before the change.
    unquantized
        Whether LM head, token embedding and routers are in the whole. A model in memory has them.
    other_bytes
        Held in addition, before and after (buffers, the software itself).

    >>> gain = saving("bitnet_b1_58-3b", Precision(weights=1.58), unquantized=True)
    >>> round(gain.partial_speedup, 2), round(gain.total_speedup, 2), round(gain.ceiling, 1)
    (10.13, 7.9, 32.5)
    """
    instance("precision", precision, Precision)
    instance("baseline", baseline, Precision)
    other = real_number(other_bytes)
    if other is None or other < 0:
        raise InputError(f"other_bytes: {shown(other_bytes)} is not a number of bytes >= 0")
    before, after = (
        footprint(model, bits, context_length, batch=batch) for bits in (baseline, precision.over(baseline))
    )
    parts = [part for part in whole(unquantized, state=True) if before[part]]
    return gain(
        [before[part] for part in parts] + [other] * (other > 0),
        [after[part] for part in parts] + [other] * (other > 0),
    )


def gain(before: list[float], after: list[float]) -> Gain:
    """Equation (5) from the cost of each part before and after a change, the projections first."""
    all_parts = math.fsum(before)  # as exact in every Python: since 3.12 `sum` of floats is compensated
    fractions = [cost / all_parts for cost in before]
    speedups = [old / new for old, new in zip(before, after, strict=True)]
    total = amdahl.combined_speedup(fractions, speedups)
    return Gain(fractions[0], speedups[0], float(amdahl.ceiling(fractions[0])), float(total))


def _with_floats(matmul: MatMul) -> MatMul:
    """The MatMul with floats where n or k is an array of sizes: products of floats cannot wrap."""
    sizes = {axis: size.astype(float) for axis in ("n", "k") if isinstance(size := getattr(matmul, axis), np.ndarray)}
    return replace(matmul, **sizes) if sizes else matmul  # type: ignore[arg-type]  # only `analysis` has such MatMuls


def _too_large(matmul: MatMul) -> CountOverflowError:
    return CountOverflowError(f"{matmul.name}: its bytes or operations are too large for a float; use smaller sizes")


def _activation_bits(matmul: MatMul, precision: Precision) -> float:
    """Bits of the `m x k` read and the `m x n` written, without attention's scores, which stay on the chip."""
    read = matmul.m * matmul.k * matmul.count * precision.of_inputs(matmul.part)
    written = matmul.m * matmul.n * matmul.count * precision.of_results()
    if matmul.part is Part.ATTENTION:
        return written if matmul.name == "scores·V" else read
    return read + written


def _state_bits(matmul: MatMul, precision: Precision) -> float:
    """Bits of a MatMul of a state, which is on the chip from one read to one write; so is what K·S returns."""
    if matmul.name == "K·S":
        return 0
    # The state is the n x k that Q·S reads (m = 1), or the m x n that Kᵀ·V writes (k = 1).
    state = matmul.m * matmul.n * matmul.k * matmul.count
    vectors = matmul.m * matmul.k * matmul.distinct + matmul.n * matmul.count
    return state * precision.of(Part.STATE) + vectors * precision.of_results()


def _peak(device: Device, bits: float, *, optional: bool) -> float:
    """Peak rate of operands of these bits, 10^12 operations a second; infinite if none is published and `optional`.

    The fraction of a number of bits is the share of scales, and not computed with.
    """
    names = FORMATS[4 if int(bits) <= 4 else 8 if int(bits) <= 8 else WIDE]
    published = [peak for name in names if (peak := getattr(device, name)) is not None]
    if not published and not optional:
        raise InputError(
            f"device: {device.name} has no {' or '.join(names)}, which a batch or a prefill needs; bytes do not, "
            "nor does a decode step of one sequence"
        )
    return max(published, default=math.inf)
