"""The same MatMuls read as memory traffic: bytes by bit width, time as the roofline has it, and the law of both.

Decoding is bound by what must be read. Bytes are known from shapes and bit widths alone, so F, S_partial and S_total of
quantization follow with no constant fitted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache

import pandas as pd

from llmamdahl import amdahl
from llmamdahl.errors import InputError, instance, one_of, positive_int
from llmamdahl.models import Decoder
from llmamdahl.tables import DATA, Columns, Row, optional_float, positive_float, read_rows
from llmamdahl.workload import MatMul, Part, decode_step, prefill, weights_by_part

PHASES = {"decode": decode_step, "prefill": prefill}
"""What is computed: one new token for each sequence, or a prompt for each."""

WIDE = 16
"""Bits of what no format here narrows: attention's activations, and every result as it is written."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Precision:
    """Bits of each kind of number; 1.58 (log2 3) and 1.67 (five bits for three weights) are bits too.

    Attributes
    ----------
    weights
        Of the projections' weights, with their share of scales and padding if a format has any.
    activations
        Of what the projections multiply them with; at 8 or fewer they run at the device's INT8 peak.
    cache
        Of K and V.
    unquantized
        Of the weights that 1-bit models keep: LM head, token embedding, routers.
    """

    weights: float = 16
    activations: float = 16
    cache: float = 16
    unquantized: float = 16

    def __post_init__(self) -> None:
        for item in fields(self):
            bits = getattr(self, item.name)
            if not _is_number(bits) or not 0 < bits <= 64:
                raise InputError(f"{item.name}: {bits!r} is not a number of bits; it must be above 0 and at most 64")

    def of(self, part: Part) -> float:
        """Bits of what a part's MatMuls multiply activations with: weights, or K and V."""
        return {Part.PROJECTION: self.weights, Part.ATTENTION: self.cache, Part.UNQUANTIZED: self.unquantized}[part]


FP16 = Precision()


@dataclass(frozen=True, slots=True)
class Device:
    """A device by its datasheet (`data/hardware/devices.csv`).

    Attributes
    ----------
    bandwidth_gb_s
        Of its memory, 10^9 bytes a second.
    fp16_tflops, int8_tops
        10^12 operations a second, a multiply-accumulate being two, without sparsity; None where none is published.
    """

    name: str
    bandwidth_gb_s: float
    fp16_tflops: float | None = None
    int8_tops: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InputError(f"name: {self.name!r} does not name a device; write a word or two")
        for item in fields(self)[1:]:
            value = getattr(self, item.name)
            missing = value is None and item.name != "bandwidth_gb_s"
            if not missing and not (_is_number(value) and 0 < value < math.inf):
                raise InputError(f"{self.name}: {item.name}: {value!r} is not a number above 0")


@dataclass(frozen=True, slots=True)
class Gain:
    """What the law says of a change of precision: Equation (5) of bytes or of time."""

    fraction: float
    """F, the projections' share of the whole before."""
    partial_speedup: float
    """S_partial of the projections."""
    ceiling: float
    """1 / (1 - F): of faster projections alone. S_total can pass it where K and V or the other weights narrow too."""
    total_speedup: float
    """S_total: Equation (5), for several parts where more than the projections changed."""


@cache
def devices() -> tuple[Row, ...]:
    """`data/hardware/devices.csv`: name, kind, bandwidth_gb_s, fp16_tflops, int8_tops, source.

    Raises
    ------
    TableError
        A device without a bandwidth, or with a peak that is not a number above 0; it names the line.
    """
    columns: Columns = {
        **dict.fromkeys(("name", "kind", "source"), str),
        "bandwidth_gb_s": positive_float,
        **dict.fromkeys(("fp16_tflops", "int8_tops"), optional_float),
    }
    return tuple(read_rows(DATA / "hardware" / "devices.csv", columns, key=["name"]))


def get_device(name: str) -> Device:
    """A device of `devices()` by its name.

    >>> get_device("A100 80GB")
    Device(name='A100 80GB', bandwidth_gb_s=2039.0, fp16_tflops=312.0, int8_tops=624.0)
    """
    known = {row["name"]: row for row in devices()}
    row = known[one_of("device", name, tuple(known))]
    return Device(**{item.name: row[item.name] for item in fields(Device)})


def matmul_traffic(
    model: Decoder,
    context_length: int,
    precision: Precision = FP16,
    batch: int = 1,
    device: Device | None = None,
    phase: str = "decode",
) -> pd.DataFrame:
    """Operations, bytes and, on a device, seconds of each MatMul of a decode step or a prefill.

    The fewest bytes that each can move: every weight, K and V is read once, activations are read and results written
    once by each MatMul, and attention's scores stay on the chip. Query heads that share a K or V share its reading; a
    decode step with latent attention reads its latents once, for Q·Kᵀ. Of experts a batch reads as many as
    `decode_step` spreads it over, which is the most there can be. Time is max(operations / peak, bytes / bandwidth), a
    MatMul at a time: projections at the INT8 peak if their activations have 8 bits or fewer, all else at the FP16 peak.

    Parameters
    ----------
    context_length, batch
        As in `decode_step`, or the prompt's tokens if `phase` is `"prefill"`.
    device
        None for operations and bytes alone. Where the datasheet lacks the peak that is needed, bytes alone bound one
        sequence's decode step; a batch or a prefill is refused.

    Returns
    -------
    DataFrame
        name, part, operations, bytes, seconds (with a device only).

    Raises
    ------
    InputError
        An unknown phase, a peak that a batch or a prefill needs and the device lacks, or as `decode_step`.
    """
    instance("model", model, Decoder)
    instance("precision", precision, Precision)
    if isinstance(device, str):
        raise InputError(f"device: {device!r} is a name; get_device({device!r}) looks it up")
    if device is not None:
        instance("device", device, Device)
    matmuls = PHASES[one_of("phase", phase, tuple(PHASES))](model, context_length, batch)
    rows = []
    for matmul in matmuls:
        operations = 2 * matmul.m * matmul.n * matmul.k * matmul.count
        operands = _operands(matmul, model, phase) * precision.of(matmul.part)
        moved = (operands + _activation_bits(matmul, precision)) / 8
        row: Row = {"name": matmul.name, "part": str(matmul.part), "operations": operations, "bytes": moved}
        if device is not None:
            narrow = matmul.part is Part.PROJECTION and precision.activations <= 8
            alone = phase == "decode" and matmul.m == 1
            compute = operations / 1e12 / _peak(device, "int8_tops" if narrow else "fp16_tflops", alone)
            row["seconds"] = max(compute, moved / 1e9 / device.bandwidth_gb_s)
        rows.append(row)
    return pd.DataFrame(rows)


def speedup(
    model: Decoder,
    context_length: int,
    after: Precision,
    before: Precision = FP16,
    batch: int = 1,
    device: Device | None = None,
    phase: str = "decode",
) -> Gain:
    """The law of a change of precision: of bytes moved, or with a device of time; arguments as `matmul_traffic`.

    Where bytes bound every MatMul before and after, the device cancels and both are the same: as for one sequence's
    decode step of a dense model on every device of `devices()` whose peaks are published.

    >>> from llmamdahl.models import get_model
    >>> gain = speedup(get_model("llama-7b"), 2048, Precision(weights=2, activations=8))
    >>> round(gain.fraction, 3), round(gain.partial_speedup, 2), round(gain.ceiling, 2), round(gain.total_speedup, 2)
    (0.906, 7.98, 10.69, 4.83)
    """
    _instances(before=before, after=after)
    measure = "bytes" if device is None else "seconds"
    costs = [
        matmul_traffic(model, context_length, precision, batch, device, phase).groupby("part")[measure].sum()
        for precision in (before, after)
    ]
    return _gain(*costs)


def footprint(
    model: Decoder, precision: Precision = FP16, context_length: int | None = None, batch: int = 1
) -> pd.Series[float]:
    """Bytes that must be held, by part: the projections' weights, the other weights, and attention's K and V.

    Weights are all there are, every expert's and the token embedding's too; norms and biases, about 1%, are not. With
    no context length there is no cache.
    """
    instance("model", model, Decoder)
    instance("precision", precision, Precision)
    weights = weights_by_part(model)
    elements = {part: weights.get(part, 0) for part in Part}
    if positive_int("batch", batch) > 1 and context_length is None:
        raise InputError(f"batch: {batch} without a cache is the same as 1; give context_length")
    if context_length is not None:
        step = decode_step(model, context_length, batch)
        cached = (_operands(matmul, model, "decode") for matmul in step if matmul.part is Part.ATTENTION)
        elements[Part.ATTENTION] = sum(cached)
    return pd.Series({str(part): number * precision.of(part) / 8 for part, number in elements.items()})


def saving(
    model: Decoder,
    after: Precision,
    before: Precision = FP16,
    context_length: int | None = None,
    batch: int = 1,
    other_bytes: float = 0,
) -> Gain:
    """Amdahl's law of capacity: how many times less memory a change of precision leaves, from `footprint`.

    `other_bytes` are held besides, before and after (buffers, the software itself).

    >>> from llmamdahl.models import get_model
    >>> gain = saving(get_model("bitnet_b1_58-3b"), Precision(weights=1.58))
    >>> round(gain.partial_speedup, 2), round(gain.total_speedup, 2), round(gain.ceiling, 1)
    (10.13, 7.9, 32.5)
    """
    _instances(before=before, after=after)
    if not _is_number(other_bytes) or not 0 <= other_bytes < math.inf:
        raise InputError(f"other_bytes: {other_bytes!r} is not a number of bytes >= 0")
    costs = [footprint(model, precision, context_length, batch) for precision in (before, after)]
    for cost in costs:
        cost["other"] = other_bytes
    return _gain(*costs)


def _instances(**precisions: Precision) -> None:
    for name, precision in precisions.items():
        instance(name, precision, Precision)


def _gain(before: pd.Series[float], after: pd.Series[float]) -> Gain:
    """Equation (5) of the costs of each part, before and after."""
    before, after = (costs[before > 0] for costs in (before, after))
    shares, speedups = before / before.sum(), before / after
    part = str(Part.PROJECTION)
    return Gain(
        float(shares[part]),
        float(speedups[part]),
        amdahl.ceiling(float(shares[part])),
        amdahl.combined_speedup(shares.to_numpy(), speedups.to_numpy()),
    )


def _operands(matmul: MatMul, model: Decoder, phase: str) -> int:
    """Elements of the distinct `k x n` operands of a MatMul: weights, or K or V, which a group's query heads share."""
    elements = matmul.n * matmul.k * matmul.count
    if matmul.part is not Part.ATTENTION:
        return elements
    if model.latent and phase == "decode":  # one latent for all heads; V is a part of it
        return elements // model.num_heads if matmul.name == "Q·Kᵀ" else 0
    return elements * model.num_kv_heads // model.num_heads


def _activation_bits(matmul: MatMul, precision: Precision) -> float:
    """Of the `m x k` that is read and the `m x n` that is written; scores, between attention's two, are neither."""
    read, written = matmul.m * matmul.k * matmul.count, matmul.m * matmul.n * matmul.count
    if matmul.part is Part.ATTENTION:
        return WIDE * (read if matmul.name == "Q·Kᵀ" else written)
    return read * (precision.activations if matmul.part is Part.PROJECTION else WIDE) + written * WIDE


def _peak(device: Device, name: str, alone: bool) -> float:
    """10^12 operations a second; infinite where none is published, which only one sequence's decode step may be."""
    peak: float | None = getattr(device, name)
    if peak is None and not alone:
        raise InputError(
            f"device: {device.name} has no {name}, which a batch or a prefill needs; give a Device with one"
        )
    return math.inf if peak is None else peak
