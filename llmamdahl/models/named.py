"""Models by name: those of the paper's Table 2, as it prints them and as they are, and a zoo of current ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from llmamdahl.errors import InputError, one_of, shown
from llmamdahl.models.decoder import Decoder, Experts, Latent
from llmamdahl.models.huggingface import from_hf_config
from llmamdahl.tables import DATA, Columns, Row, boolean, optional_int, read_rows

CONTEXT_LENGTHS = (128, 256, 512, 1024, 2048, 4096)
"""l of Table 2 and of every figure."""

PRINTED = "-printed"
"""Suffix of a model name that asks for Table 2's printed hyperparameters instead of the true ones."""

TIED = {"gpt": True, "opt": True, "llama": False}
"""Whether the LM head is the token embedding's matrix, by Table 2's families: defaults of their formats in `hf.py`."""


@cache
def table2_true() -> tuple[Row, ...]:
    """The 13 models of Table 2 with their true hyperparameters and sources (`data/models/true.csv`)."""
    sizes = "hidden_size num_layers num_heads intermediate_size vocab_size max_position embedding_size".split()
    columns: Columns = {
        **dict.fromkeys(("name", "family", "label", "source"), str),
        **dict.fromkeys(sizes, int),
        "gated_ffn": boolean,
    }
    return tuple(read_rows(DATA / "models" / "true.csv", columns, key=["name"]))


@cache
def table2_printed() -> tuple[Row, ...]:
    """Table 2 as the paper prints it (`data/models/printed.csv`), misprints included."""
    columns = {"name": str, "family": str, "label": str, "d": int, "h": int, "d_ff": int, "l": str, "source": str}
    return tuple(read_rows(DATA / "models" / "printed.csv", columns, key=["name"]))


def model_names(family: str | None = None) -> list[str]:
    """Names of the 13 models in Table 2's order, or of one family: `gpt`, `opt` or `llama`; another is refused.

    >>> model_names("llama")
    ['llama-7b', 'llama-13b']
    """
    if family is not None:
        one_of("family", family, tuple(dict.fromkeys(row["family"] for row in table2_true())))
    return [row["name"] for row in table2_true() if family in (None, row["family"])]


@cache
def zoo(table: str = "zoo") -> tuple[Row, ...]:
    """Current models with their hyperparameters, published size and sources (`data/models/zoo.csv`).

    `family` is the `model_type` of a config.json. `windows` is a pattern that repeats over the layers, `all` for no
    window. `parameters` is the published size in 10^9, with the digits that are published. Another table of the same
    columns is `benchmarked`: models that speeds were published of (`data/published/speedups.csv`) and that are in no
    other table; "dummies" have random weights and were made for that.
    """
    sizes = "hidden_size num_layers num_heads num_kv_heads head_dim intermediate_size vocab_size max_position"
    numbers = "num_experts experts_per_token expert_intermediate_size shared_intermediate_size"
    latent = "kv_rank q_rank nope_head_dim rope_head_dim v_head_dim"
    columns: Columns = {
        **dict.fromkeys(("name", "family", "parameters", "parameters_source", "source"), str),
        **dict.fromkeys((*sizes.split(), "embedding_size"), int),
        **dict.fromkeys(("gated_ffn", "fused_qkv", "fused_gate_up", "tied_embeddings"), boolean),
        **dict.fromkeys((*numbers.split(), *latent.split()), optional_int),
        "windows": _each(lambda cell: None if cell == "all" else int(cell)),
        "dense_layers": _each(int),
    }
    return tuple(read_rows(DATA / "models" / f"{table}.csv", columns, key=["name"]))


def zoo_names() -> list[str]:
    """Names of the zoo's models; none of them is in Table 2.

    >>> "llama-3.1-8b" in zoo_names()
    True
    """
    return [row["name"] for row in zoo()]


def get_model(name: str) -> Decoder:
    """A model by name: of Table 2; with `-printed` appended, as Table 2 prints it; of the zoo; or `benchmarked`.

    The printed reading takes d, h and d_FF from Table 2 and the two-matrix FFN from Table 1. What the paper does not
    print (layers, vocabulary, longest context) is the true model's.

    >>> get_model("gpt2-xl").intermediate_size, get_model("gpt2-xl-printed").intermediate_size
    (6400, 1600)
    >>> get_model("mixtral-8x7b-v0.1").experts
    Experts(num_experts=8, experts_per_token=2, intermediate_size=14336, shared_intermediate_size=0, shared_gate=False)

    Raises
    ------
    InputError
        An unknown name, or `opt-66b-printed`: Table 2 prints h = 76, and 9216/76 is not a whole number.
    """
    true = {row["name"]: row for row in table2_true()}
    known = name if isinstance(name, str) else ""
    base = known.removesuffix(PRINTED)
    if base in true:
        row = true[base]
        made = {field.name: row[field.name] for field in fields(Decoder) if field.name in row}
        model = Decoder(**made, tied_embeddings=TIED[row["family"]])
        return model if base == name else _as_printed(model, name)
    others = {row["name"]: row for row in (*zoo(), *zoo("benchmarked"))}
    if known in others:
        return _of_the_zoo(others[known])
    raise InputError(
        f"model: {shown(name)} is unknown; known: {', '.join(true)}, each also with {PRINTED!r} appended; and "
        f"{', '.join(others)}"
    )


def find_model(text: str | Decoder) -> Decoder:
    """A model by its name, or by the path of its config.json or the folder that holds one."""
    if isinstance(text, Decoder):
        return text
    if not isinstance(text, str):
        raise InputError(f"model: {shown(text)} is not a Decoder, a name or a path")
    known = {row["name"] for row in (*table2_true(), *zoo(), *zoo("benchmarked"))}
    if text.removesuffix(PRINTED) in known:
        return get_model(text)
    if Path(text).exists():
        return from_hf_config(text)
    raise InputError(f"model: {text!r} is neither a known model nor a path here; pick a name, or give a config.json")


def _as_printed(model: Decoder, name: str) -> Decoder:
    row = next(row for row in table2_printed() if row["name"] == model.name)
    return replace(
        model, name=name, hidden_size=row["d"], num_heads=row["h"], intermediate_size=row["d_ff"], gated_ffn=False
    )


def _of_the_zoo(row: Row) -> Decoder:
    made: Row = {field.name: row[field.name] for field in fields(Decoder) if field.name in row}
    if row["windows"]:
        made["windows"] = tuple(islice(cycle(row["windows"]), row["num_layers"]))
    if row["num_experts"]:
        made["experts"] = Experts(
            row["num_experts"],
            row["experts_per_token"],
            row["expert_intermediate_size"],
            row["shared_intermediate_size"] or 0,
        )
    if row["kv_rank"]:
        made["latent"] = Latent(**{field.name: row[field.name] for field in fields(Latent)})
    return Decoder(**made)


def _each(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """The type of a cell that lists values, with a space between them."""
    return lambda cell: tuple(kind(value) for value in cell.split())
