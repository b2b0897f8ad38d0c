"""Prefills from kernel times: OPT 13B and 30B on an A100, whose W8A8 speedups SmoothQuant published.

The FFN's 4 d and the 56 heads of OPT 30B are not on NVIDIA's grid. Their times are read off the straight line between
their two neighbours on it; `left_out` shows how far such lines pass from the grid points between their ends.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from llmamdahl.device.kernels import KERNELS, SETUP, fused, read_attention, read_gemm
from llmamdahl.errors import InputError
from llmamdahl.models import Decoder, get_model
from llmamdahl.workload import Part, prefill

MODELS = ("opt-13b", "opt-30b")
WORK = [*SETUP, "batch", "context_length"]


def read_prefills() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The times of projections and of attention (context_length: the tokens of a prompt), as `kernels.read_gemm`."""
    return read_gemm(KERNELS / "prefill_gemm.csv"), read_attention(KERNELS / "prefill_attention.csv")


def prefill_times() -> pd.DataFrame:
    """The time of a prefill of each model in `MODELS`, for every batch, prompt and type of weights timed.

    W_Q, W_K, W_V are three kernels, and one (`qkv`).

    Returns
    -------
    DataFrame
        The columns of `kernels.steps`, with the tokens of a prompt as context_length, and `interpolated`: the share of
        the time that is read off a line between grid points.
    """
    gemm, attention = read_prefills()
    rows = []
    for _, cores in attention.groupby(WORK, sort=False):
        work = cores[WORK].iloc[0]
        of_setup = gemm[(gemm[SETUP] == work[SETUP]).all(axis=1) & (gemm.m == work.batch * work.context_length)]
        for weights, times in of_setup.groupby("weights", sort=False):
            for name, (qkv, form) in product(MODELS, (("apart", get_model), ("fused", fused))):
                row = {"model": name, "qkv": qkv, "weights": weights, "cache": cores.cache.iloc[0]}
                rows.append(row | work.to_dict() | _prefill(form(name), work.context_length, work.batch, times, cores))
    return pd.DataFrame(rows)


def _prefill(
    model: Decoder, tokens: int, batch: int, gemm: pd.DataFrame, attention: pd.DataFrame
) -> dict[str, float | str | bool]:
    """The times of all layers, from tables of one m and one type of weights."""
    core, drawn = _at(attention.set_index("heads").latency_ms, model.num_heads)
    attention_us = core * 1e3 * model.num_layers
    projection_us, off_grid = 0.0, drawn * attention_us
    for matmul in prefill(model, tokens, batch):
        if matmul.part is Part.PROJECTION:
            along_n = gemm[gemm.k == matmul.k].set_index("n").latency_ms
            along_k = gemm[gemm.n == matmul.n].set_index("k").latency_ms
            time, drawn = _at(along_n, matmul.n) if len(along_n) > len(along_k) else _at(along_k, matmul.k)
            projection_us += time * 1e3 * matmul.count
            off_grid += drawn * time * 1e3 * matmul.count
    whole = projection_us + attention_us
    return {
        "projection_us": projection_us,
        "attention_us": attention_us,
        "whole": "projection + attention",
        "fraction": projection_us / whole,
        "cached": False,  # thousands of tokens share each weight, so the memory is not the bound
        "interpolated": off_grid / whole,
    }


def _at(line: pd.Series, size: int) -> tuple[float, bool]:
    """The time at a size, and whether it is read off the line between two neighbours of that size."""
    line = line.sort_index()
    if not line.empty and line.index[0] <= size <= line.index[-1]:
        return float(np.interp(size, line.index, line)), size not in line.index
    raise InputError(f"{line.index.name}: {size} is not within the sizes timed: {', '.join(map(str, line.index))}")


def left_out() -> pd.DataFrame:
    """Every grid point between two others, and its time by the line between these.

    Returns
    -------
    DataFrame
        along (`n`, `k` or `heads`), size, fixed (the sizes and types that do not change), timed_ms, line_ms, error
        (line / timed - 1).
    """
    gemm, attention = read_prefills()
    lines = [(gemm, "n", [*SETUP, "weights", "m", "k"]), (gemm, "k", [*SETUP, "weights", "m", "n"])]
    lines.append((attention, "heads", [*WORK, "cache", "head_width"]))
    rows = []
    for table, along, fixed in lines:
        for key, group in table.groupby(fixed, sort=False):
            times = group.set_index(along).latency_ms.sort_index()
            for size in times.index[1:-1]:
                line, _ = _at(times.drop(size), size)
                found = {"along": along, "size": size, "fixed": ", ".join(map(str, key)), "timed_ms": times[size]}
                rows.append({**found, "line_ms": line, "error": line / times[size] - 1})
    return pd.DataFrame(rows)
