"""Kinds of models, by what decides how their attention grows with the context, and their ages and sizes beside an F."""

from __future__ import annotations

import pandas as pd

from llmamdahl.models import Decoder, find_model, zoo
from llmamdahl.workload import num_weights

KINDS = {
    "multi-head": "K and V for each query head",
    "grouped": "query heads share K and V",
    "experts": "mixture of experts",
    "windows": "sliding windows",
    "latent": "latent attention",
}
"""The kinds, from the oldest to the newest, and what they are called in a figure."""


def kind(model: str | Decoder) -> str:
    """The kind of a model, a key of `KINDS`: the last one that describes it.

    A window as long as the longest context the model was trained for is none.

    >>> [kind(name) for name in ("opt-66b", "llama-3.1-8b", "qwen3-30b-a3b", "gpt-oss-20b", "deepseek-v3")]
    ['multi-head', 'grouped', 'experts', 'windows', 'latent']
    """
    decoder = find_model(model)
    if decoder.latent:
        return "latent"
    if any(window and window < decoder.max_position for window in decoder.windows):
        return "windows"
    if decoder.experts:
        return "experts"
    return "grouped" if decoder.num_kv_heads < decoder.num_heads else "multi-head"


def described(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame with a column model, and what the zoo knows of each: kind, released, max_position, billions (of weights).

    Rows are in the order of `KINDS`, and in each kind from the smallest model to the largest.

    >>> described(pd.DataFrame({"model": ["deepseek-v3", "opt-175b", "opt-125m"]})).model.tolist()
    ['opt-125m', 'opt-175b', 'deepseek-v3']
    """
    released = {row["name"]: row["released"] for row in zoo()}
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
