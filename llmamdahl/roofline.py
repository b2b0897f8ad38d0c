"""The same MatMuls as memory traffic: bytes by bit width, seconds by the roofline, and what a model holds in memory.

A decode step is usually bound by the bytes that it must read. They depend only on shapes and bit widths, so F,
S_partial and S_total of quantization follow without a fitted constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import pandas as pd

from llmamdahl import amdahl
from llmamdahl.errors import CountOverflowError, InputError, instance, positive_int, real_number, shown
from llmamdahl.hardware import Device, get_device
from llmamdahl.models import Decoder, find_model
from llmamdahl.workload import MatMul, Part, Phase, decode_step, matmuls, weights_by_part, whole

WIDE = 16
"""Bit width of tensors that stay in 16 bits: attention's activations, and every result as it is written."""


@dataclass(frozen=True, slots=True)
class Precision:
    """Bit widths of each kind of tensor; they need not be whole (1.58 is log2 3, 1.67 packs three weights in 5 bits).

    Attributes
    ----------
    weights
        Of the projections' weights, including their share of scales and padding if the format has any.
    activations
        Of the projections' inputs; at 8 bits or fewer the projections run at the device's INT8 peak.
    cache
        Of K and V.
    unquantized
        Of the weights that 1-bit models keep in high precision: LM head, token embedding, routers.

    >>> Precision(weights=2, activations=8)
    Precision(weights=2, activations=8, cache=16, unquantized=16)
    """

    weights: float = 16
    activations: float = 16
    cache: float = 16
    unquantized: float = 16

    def __post_init__(self) -> None:
        for item in fields(self):
            given = getattr(self, item.name)
            bits = real_number(given)
            if bits is None or not 0 < bits <= 64:
                raise InputError(
                    f"{item.name}: {shown(given)} is not a number of bits; it must be above 0 and at most 64"
                )
            object.__setattr__(self, item.name, bits)

    def of(self, part: Part) -> float:
        """Bits of the `k x n` operand of a part's MatMuls: weights, or K and V."""
        return {Part.PROJECTION: self.weights, Part.ATTENTION: self.cache, Part.UNQUANTIZED: self.unquantized}[part]


FP16 = Precision()


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


def operations(matmul: MatMul) -> int:
    """Operations of all `count` products; a multiply-accumulate is two."""
    return 2 * matmul.m * matmul.n * matmul.k * matmul.count


def bytes_moved(matmul: MatMul, model: Decoder, precision: Precision, phase: Phase) -> float:
    """The fewest bytes that all `count` products can move; `matmul_traffic` says what is read and written."""
    try:
        return (_operands(matmul, model, phase) * precision.of(matmul.part) + _activation_bits(matmul, precision)) / 8
    except OverflowError:
        raise _too_large(matmul) from None


def seconds(matmul: MatMul, model: Decoder, precision: Precision, phase: Phase, device: Device) -> Seconds:
    """Seconds of all `count` products on a device: operations over the peak, bytes over the bandwidth.

    Raises
    ------
    InputError
        The device has no peak for this MatMul. In a decode step a MatMul of one row (m = 1) needs none: its seconds are
        those of its bytes.
    CountOverflowError
        Bytes or operations that are too large for a float.
    """
    narrow = matmul.part is Part.PROJECTION and precision.activations <= 8
    peak = _peak(device, "int8_tops" if narrow else "fp16_tflops", optional=phase == "decode" and matmul.m == 1)
    memory = bytes_moved(matmul, model, precision, phase) / 1e9 / device.bandwidth_gb_s
    try:
        return Seconds(operations(matmul) / 1e12 / peak, memory)
    except OverflowError:
        raise _too_large(matmul) from None


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
    as `decode_step` spreads it over, which is the most there can be. Seconds are max(operations / peak, bytes /
    bandwidth), one MatMul at a time: projections at the INT8 peak if their activations have 8 bits or fewer, everything
    else at the FP16 peak.

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
            "bytes": bytes_moved(matmul, decoder, precision, phase),
        }
        if where is not None:
            row["seconds"] = max(seconds(matmul, decoder, precision, phase, where))
        rows.append(row)
    return pd.DataFrame(rows)


def footprint(
    model: str | Decoder, precision: Precision = FP16, context_length: int | None = None, *, batch: int = 1
) -> dict[Part, float]:
    """Bytes held in memory, by part: the projections' weights, the other weights, and attention's K and V.

    All weights count, those of every expert and the token embedding included, but not norms and biases (about 1%).
    Without a context length there is no cache.
    """
    decoder = find_model(model)
    instance("precision", precision, Precision)
    weights = weights_by_part(decoder)
    elements = {part: weights.get(part, 0) for part in Part}
    if positive_int("batch", batch) > 1 and context_length is None:
        raise InputError(f"batch: {batch} without a cache is the same as 1; give context_length")
    if context_length is not None:
        step = decode_step(decoder, context_length, batch)
        cached = (_operands(matmul, decoder, "decode") for matmul in step if matmul.part is Part.ATTENTION)
        elements[Part.ATTENTION] = sum(cached)
    return {part: number * precision.of(part) / 8 for part, number in elements.items()}


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
    instance("baseline", baseline, Precision)
    other = real_number(other_bytes)
    if other is None or other < 0:
        raise InputError(f"other_bytes: {shown(other_bytes)} is not a number of bytes >= 0")
    before, after = (footprint(model, bits, context_length, batch=batch) for bits in (baseline, precision))
    parts = [part for part in whole(unquantized) if before[part]]
    return gain(
        [before[part] for part in parts] + [other] * (other > 0),
        [after[part] for part in parts] + [other] * (other > 0),
    )


def gain(before: list[float], after: list[float]) -> Gain:
    """Equation (5) from the cost of each part before and after a change, the projections first."""
    fractions = [cost / sum(before) for cost in before]
    speedups = [old / new for old, new in zip(before, after, strict=True)]
    total = amdahl.combined_speedup(fractions, speedups)
    return Gain(fractions[0], speedups[0], float(amdahl.ceiling(fractions[0])), float(total))


def _too_large(matmul: MatMul) -> CountOverflowError:
    return CountOverflowError(f"{matmul.name}: its bytes or operations are too large for a float; use smaller sizes")


def _operands(matmul: MatMul, model: Decoder, phase: Phase) -> int:
    """Elements of the distinct `k x n` operands of a MatMul: weights, or K or V, which a group's query heads share."""
    elements = matmul.n * matmul.k * matmul.count
    if matmul.part is not Part.ATTENTION:
        return elements
    if model.latent and phase == "decode":  # all heads share one latent, which contains V
        return elements // model.num_heads if matmul.name == "Q·Kᵀ" else 0
    return elements * model.num_kv_heads // model.num_heads


def _activation_bits(matmul: MatMul, precision: Precision) -> float:
    """Bits of the `m x k` read and the `m x n` written, without attention's scores, which stay on the chip."""
    read, written = matmul.m * matmul.k * matmul.count, matmul.m * matmul.n * matmul.count
    if matmul.part is Part.ATTENTION:
        return WIDE * (read if matmul.name == "Q·Kᵀ" else written)
    return read * (precision.activations if matmul.part is Part.PROJECTION else WIDE) + written * WIDE


def _peak(device: Device, name: str, *, optional: bool) -> float:
    """Peak rate, 10^12 operations a second; infinite if it is not published and `optional`."""
    peak: float | None = getattr(device, name)
    if peak is None and not optional:
        raise InputError(
            f"device: {device.name} has no {name}, which a batch or a prefill needs; give a Device with one"
        )
    return math.inf if peak is None else peak
