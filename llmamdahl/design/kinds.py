"""Kinds of models, by what decides how their attention grows with the context, and their ages and sizes beside an F."""

from __future__ import annotations

import pandas as pd

from llmamdahl.errors import InputError, shown, unknown
from llmamdahl.models import Decoder, find_model, hybrids, zoo
from llmamdahl.workload import num_weights

KINDS = {
    "multi-head": "K and V for each query head",
    "grouped": "query heads share K and V",
    "experts": "mixture of experts",
    "windows": "windows or chunks",
    "latent": "latent attention",
    "sparse": "sparse attention",
    "recurrent": "recurrent states",
}
"""The kinds, from the oldest to the newest, and what they are called in a figure."""


def kind(model: str | Decoder) -> str:
    """The kind of a model, a key of `KINDS`: the last one that describes it.

    A window or chunk as long as the longest context the model was trained for is none.

    >>> [kind(name) for name in ("opt-66b", "llama-3.1-8b", "qwen3-30b-a3b", "gpt-oss-20b", "deepseek-v3")]
    ['multi-head', 'grouped', 'experts', 'windows', 'latent']
    >>> [kind(name) for name in ("deepseek-v3.2", "kimi-linear-48b-a3b")]
    ['sparse', 'recurrent']
    """
    decoder = find_model(model)
    if decoder.recurrent:
        return "recurrent"
    if decoder.indexer:
        return "sparse"
    if decoder.latent:
        return "latent"
    if any(size and size < decoder.max_position for size in (*decoder.windows, *decoder.chunks)):
        return "windows"
    if decoder.experts:
        return "experts"
    return "grouped" if decoder.num_kv_heads < decoder.num_heads else "multi-head"


def described(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame with a column model, and what is known of each: kind, released, max_position, billions (of weights).

    The models are those of `zoo` and `hybrids`. Rows are in the order of `KINDS`, and in each kind from the smallest
    model to the largest.

    Raises
    ------
    InputError
        A frame without a column model, or with a model of no table with a release.

    >>> described(pd.DataFrame({"model": ["deepseek-v3", "opt-175b", "opt-125m"]})).model.tolist()
    ['opt-125m', 'opt-175b', 'deepseek-v3']
    """
    released = {row["name"]: row["released"] for row in (*zoo(), *hybrids())}
    if not isinstance(frame, pd.DataFrame) or "model" not in frame:
        raise InputError(f"frame: {shown(frame)} is not a frame with a column model")
    for name in frame.model.unique():
        if name not in released:
            raise unknown("model", name, released)
    known = pd.DataFrame(
        {
            "model": name,
            "kind": kind(name),
            "released": released[name],
            "max_position": find_model(name).max_position,
            "billions": num_weights(name) / 1e9,
        }
        for name in frame.model.unique()
    )
    order = known.kind.map({name: place for place, name in enumerate(KINDS)})
    known = known.assign(order=order).sort_values(["order", "billions"], kind="stable").drop(columns="order")
    return known.merge(frame.drop(columns="max_position", errors="ignore"), on="model")
