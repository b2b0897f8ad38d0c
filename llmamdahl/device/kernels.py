"""Kernel times of GPUs, measured by NVIDIA for AIConfigurator (`data/measured/kernels/`), added up to decode steps.

A step is the sum of its kernels: every projection by itself (or W_Q, W_K, W_V as one: `fused`), and one fused attention
kernel a layer. Norms, softmax outside of attention, launches and the quantization of activations are not among them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from llmamdahl import amdahl
from llmamdahl.errors import InputError, listed
from llmamdahl.hardware import get_device
from llmamdahl.models import Decoder, find_model, get_model
from llmamdahl.tables import DATA, Columns, Row, positive_float, read_rows
from llmamdahl.workload import Part, decode_step

KERNELS = DATA / "measured" / "kernels"

MODELS = ("gpt2", "gpt2-medium", "opt-350m", "opt-1.3b", "opt-6.7b", "qwen3-0.6b", "qwen3-1.7b", "qwen3-8b")
"""Models whose every projection and attention is among the shapes that NVIDIA timed."""

FUSED = MODELS[1:]
"""Those of them whose W_Q, W_K and W_V were timed as one product too (GPT 125M's has 2304 outputs)."""

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)

BITS = {"bfloat16": 16, "fp8": 8, "fp8_block": 8, "sq": 8, "int8_wo": 8, "int4_wo": 4, "nvfp4": 4.5}
"""Bits of a weight. `sq`: SmoothQuant W8A8; `wo`: weights only; `nvfp4` has a scale of 8 bits for 16 weights."""

SETUP = ["device", "framework", "version"]
STEP = [*SETUP, "model", "qkv", "batch", "context_length"]

GEMM: Columns = {
    **dict.fromkeys(("system", *SETUP, "kernel", "weights"), str),
    **dict.fromkeys(("m", "n", "k"), int),
    "latency_ms": positive_float,
    **dict.fromkeys(("source", "commit"), str),
}
"""One row a projection: m tokens, k inputs, n outputs; `device` is a name in `data/hardware/devices.csv`."""

ATTENTION: Columns = {
    **dict.fromkeys(("system", *SETUP, "kernel", "cache"), str),
    **dict.fromkeys(("batch", "heads", "kv_heads", "head_width", "context_length"), int),
    "latency_ms": positive_float,
    **dict.fromkeys(("source", "commit"), str),
}
"""One row an attention kernel of a decode step: one query a sequence; K and V of `context_length` tokens."""


def read_gemm(path: str | Path = KERNELS / "gemm.csv") -> pd.DataFrame:
    """The times of projections, with the columns of `GEMM`.

    Raises
    ------
    TableError
        An unknown type of weights, a device without a datasheet, a size below 1, two times for one kernel, or as
        `read_rows`; it names the line.
    """
    return _read(path, GEMM, "weights", ("m", "n", "k"))


def read_attention(path: str | Path = KERNELS / "attention.csv") -> pd.DataFrame:
    """The times of attention, with the columns of `ATTENTION`; errors as in `read_gemm`."""
    return _read(path, ATTENTION, "cache", ("batch", "heads", "kv_heads", "head_width", "context_length"))


def _read(path: str | Path, columns: Columns, kind: str, sizes: tuple[str, ...]) -> pd.DataFrame:
    def check(row: Row) -> None:
        if row[kind] not in BITS:
            raise InputError(f"{kind}: {row[kind]!r} is not a known type; known: {', '.join(BITS)}")
        if small := [name for name in sizes if row[name] < 1]:
            raise InputError(f"{small[0]}: {row[small[0]]} is not above 0")
        get_device(row["device"])

    rows = read_rows(Path(path), columns, [*SETUP, kind, *sizes], check)
    return pd.DataFrame(rows, columns=list(columns))


def fused(model: str | Decoder) -> Decoder:
    """The model with W_Q, W_K and W_V as one product, as inference frameworks run it."""
    return replace(find_model(model), fused_qkv=True)


def steps(
    models: Iterable[str | Decoder] = MODELS,
    *,
    gemm: pd.DataFrame | None = None,
    attention: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The time of one decode step of each model, for every device, type of weights, context length and batch timed.

    Nothing is interpolated: a device that was not timed at a model's number or width of heads has no row for it.

    Parameters
    ----------
    models
        Names or decoders.
    gemm, attention
        Tables of `read_gemm` and `read_attention`; by default the recorded ones.

    Returns
    -------
    DataFrame
        device, framework, version, model, qkv (`apart` or `fused`), batch, context_length, weights, cache,
        projection_us, attention_us (all layers; the LM head is left out), whole, fraction (F of latency), cached
        (whether a projection reads its weights faster than the datasheet's memory can deliver them, so that they come
        from a cache).

    Raises
    ------
    InputError
        A model with a projection or an attention that was timed on no device; it names the shape and the nearest one.
    """
    gemm = read_gemm() if gemm is None else gemm
    attention = read_attention() if attention is None else attention
    found = [_step(find_model(model), gemm, attention) for model in listed("models", models)]
    table = pd.concat(found, ignore_index=True).assign(whole="projection + attention")
    table["fraction"] = table.projection_us / (table.projection_us + table.attention_us)
    times = ["projection_us", "attention_us", "whole", "fraction", "cached"]
    return table[[*STEP, "weights", "cache", *times]]


def _step(model: Decoder, gemm: pd.DataFrame, attention: pd.DataFrame) -> pd.DataFrame:
    if model.mixers or model.indexer:
        raise InputError(
            f"model: {model.name} has layers with a state or with an indexer, which were timed on no device"
        )
    names = ["batch", "heads", "kv_heads", "head_width", "context_length"]
    own = attention[
        (attention.heads == model.num_heads)
        & (attention.kv_heads == model.num_kv_heads)
        & (attention.head_width == model.head_dim)
    ]
    if own.empty:
        asked = f"{model.num_heads} heads, {model.num_kv_heads} of K and V, {model.head_dim} wide"
        known = attention[names[1:4]].drop_duplicates().itertuples(index=False)
        listing = "; ".join(f"{one[0]}, {one[1]}, {one[2]}" for one in known)
        raise InputError(f"model: {model.name}'s attention ({asked}) was timed on no device; timed: {listing}")
    own = own.assign(attention_us=own.latency_ms * 1e3 * model.num_layers)

    # a shape once, with the number of projections that have it
    counts: dict[tuple[int, int], float] = {}
    for matmul in decode_step(model, 1):
        if matmul.part is Part.PROJECTION:
            counts[matmul.n, matmul.k] = counts.get((matmul.n, matmul.k), 0) + matmul.count
    timed = set(zip(gemm.n, gemm.k, strict=True))
    if missing := [shape for shape in counts if shape not in timed]:
        n, k = missing[0]
        near = min(timed, key=lambda shape: (abs(shape[0] - n) + abs(shape[1] - k), shape))
        raise InputError(
            f"model: {model.name}'s projection of {k} inputs and {n} outputs was timed on no device; "
            f"the nearest has {near[1]} and {near[0]}"
        )
    shapes = pd.DataFrame([(n, k, count) for (n, k), count in counts.items()], columns=["n", "k", "count"])
    each = gemm.merge(shapes, on=["n", "k"])
    rates = {name: get_device(name).bandwidth_gb_s for name in each.device.unique()}
    moved = each.n * each.k * each.weights.map(BITS) / 8
    each = each.assign(
        projection_us=each.latency_ms * 1e3 * each["count"],
        cached=moved / (each.latency_ms * 1e6) > each.device.map(rates),
    )
    by = each.groupby([*SETUP, "weights", "m"], sort=False)
    sums = by.agg(projection_us=("projection_us", "sum"), cached=("cached", "any"), timed=("n", "size")).reset_index()
    whole = sums[sums.timed == len(shapes)].rename(columns={"m": "batch"})
    qkv = "fused" if model.fused_qkv else "apart"
    return own.merge(whole, on=[*SETUP, "batch"]).assign(model=model.name, qkv=qkv)


def cached_attention(steps: pd.DataFrame) -> pd.DataFrame:
    """The rows of `steps` whose attention reads K and V faster than the datasheet's memory delivers them.

    K and V come from a cache there. `cached` of `steps` does not say so, since it looks at weights alone.

    Returns
    -------
    DataFrame
        The columns of `steps` and at_memory: F, if attention took the time that the memory needs for K and V.
    """
    sizes = {
        name: 2 * decoder.num_layers * decoder.num_kv_heads * decoder.head_dim / 8
        for name in steps.model.unique()
        for decoder in [get_model(name)]
    }
    rates = {name: get_device(name).bandwidth_gb_s for name in steps.device.unique()}
    moved = steps.batch * steps.context_length * steps.model.map(sizes) * steps.cache.map(BITS)
    memory_us = moved / steps.device.map(rates) / 1e3
    table = steps.assign(at_memory=steps.projection_us / (steps.projection_us + memory_us))
    return table[memory_us > steps.attention_us]


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """S_partial as the kernels have it, and S_total by Equation (5), for every type of weights but bfloat16.

    Parameters
    ----------
    table
        Rows of `steps`. F is that of bfloat16 weights and a bfloat16 cache.

    Returns
    -------
    DataFrame
        device, framework, version, model, qkv, batch, context_length, weights, whole, fraction, ceiling, bits_speedup
        (16 over the bits of a weight), partial_speedup, total_speedup, cached (of either).
    """
    usual = table[table.cache == "bfloat16"]
    before, after = usual[usual.weights == "bfloat16"], usual[usual.weights != "bfloat16"]
    both = after.merge(before, on=STEP, suffixes=("", "_before"), validate="many_to_one")
    fraction = both.fraction_before.to_numpy()
    partial = (both.projection_us_before / both.projection_us).to_numpy()
    return both[[*STEP, "weights", "whole"]].assign(
        fraction=fraction,
        ceiling=amdahl.ceiling(fraction),
        bits_speedup=16 / both.weights.map(BITS),
        partial_speedup=partial,
        total_speedup=amdahl.total_speedup(fraction, partial),
        cached=both.cached | both.cached_before,
    )
