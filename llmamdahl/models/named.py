"""Models by name: those of the paper's Table 2, as they are and as it prints them, and a zoo of current ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from itertools import cycle, islice
from typing import TypeVar

from llmamdahl.errors import InputError, one_of, unknown
from llmamdahl.models.decoder import Decoder, Experts, Indexer, Latent, Recurrent
from llmamdahl.models.huggingface import from_hf_config
from llmamdahl.tables import DATA, Columns, Row, boolean, optional_int, read_rows

T = TypeVar("T")

CONTEXT_LENGTHS = (128, 256, 512, 1024, 2048, 4096)
"""l of Table 2 and of every figure."""

PRINTED = "-printed"
"""Suffix of a model name that asks for Table 2's printed hyperparameters instead of the true ones."""

FAMILY = {"gpt": "GPT", "opt": "OPT", "llama": "LLaMA"}
"""Table 2's families as the paper writes them."""

HOW_TO_LIST = "`llmamdahl models` lists the names"


@cache
def table2_true() -> tuple[Row, ...]:
    """The 13 models of Table 2 with their true hyperparameters and sources (`data/models/true.csv`)."""
    sizes = "hidden_size num_layers num_heads intermediate_size vocab_size max_position embedding_size".split()
    columns: Columns = {
        **dict.fromkeys(("name", "family", "label", "source"), str),
        **dict.fromkeys(sizes, int),
        **dict.fromkeys(("gated_ffn", "tied_embeddings"), boolean),
        "hub": _each(str),
    }
    return tuple(read_rows(DATA / "models" / "true.csv", columns, key=["name"]))


@cache
def table2_printed() -> tuple[Row, ...]:
    """Table 2 as the paper prints it (`data/models/printed.csv`), misprints included."""
    columns = {"name": str, "family": str, "label": str, "d": int, "h": int, "d_ff": int, "l": str, "source": str}
    return tuple(read_rows(DATA / "models" / "printed.csv", columns, key=["name"]))


@cache
def zoo() -> tuple[Row, ...]:
    """Current models with their hyperparameters, published size and sources (`data/models/zoo.csv`).

    `family` is the `model_type` of a config.json. `hub` lists the repositories of the Hugging Face Hub that hold this
    model. `windows` and `chunks` are patterns that repeat over the layers, `all` for none. `released` is the year and
    month, 2024-07. `parameters` is the published size in 10^9, with the digits that are published.
    """
    return _current("zoo")


@cache
def benchmarked() -> tuple[Row, ...]:
    """Models with published speeds that are in no other table (`data/models/benchmarked.csv`).

    The columns are those of `zoo`, but for the release. The speeds are in `data/published/speedups.csv`. A "dummy" has
    random weights and was made for a benchmark.
    """
    return _current("benchmarked")


@cache
def hybrids() -> tuple[Row, ...]:
    """Models with a recurrent state or an indexer (`data/models/hybrids.csv`).

    The columns are those of `zoo` and, for `Recurrent`, `Indexer` and the layers that have one, more: `mixers` is a
    pattern that repeats over the layers, empty for attention in each; `ffn_apart` says that layers that mix tokens have
    no FFN.
    """
    return _current("hybrids")


def model_names(family: str | None = None) -> list[str]:
    """Names of the 13 models of Table 2, in its order.

    Parameters
    ----------
    family
        Only those of one family: `gpt`, `opt` or `llama`.

    Raises
    ------
    InputError
        Another family.

    >>> model_names("llama")
    ['llama-7b', 'llama-13b']
    >>> len(model_names())
    13
    """
    if family is not None:
        one_of("family", family, tuple(dict.fromkeys(row["family"] for row in table2_true())))
    return [row["name"] for row in table2_true() if family in (None, row["family"])]


def zoo_names() -> list[str]:
    """Names of the current models (`zoo`); none of them is in Table 2.

    >>> [name for name in zoo_names() if name.startswith("llama-3.1")]
    ['llama-3.1-8b', 'llama-3.1-70b', 'llama-3.1-405b']
    """
    return [row["name"] for row in zoo()]


def get_model(name: str) -> Decoder:
    """A model by its name, or by the id of its repository on the Hugging Face Hub; case does not matter.

    The names are those of Table 2 (`model_names`), each also with `-printed` appended for the hyperparameters that
    Table 2 prints, those of the zoo (`zoo_names`), of hybrids and sparse attention (`hybrids`), and of models with
    published speeds (`benchmarked`). Nothing is downloaded: an id is known if a column `hub` in `data/models/` lists
    it.

    The printed reading takes d, h and d_FF from Table 2 and the two-matrix FFN from Table 1. What the paper does not
    print (layers, vocabulary, longest context) is the true model's.

    >>> get_model("gpt2-xl").intermediate_size, get_model("gpt2-xl-printed").intermediate_size
    (6400, 1600)
    >>> get_model("meta-llama/Llama-3.1-8B").name
    'llama-3.1-8b'
    >>> get_model("mixtral-8x7b-v0.1").experts.num_experts
    8

    Raises
    ------
    InputError
        An unknown name; the message suggests similar ones. Or `opt-66b-printed`: Table 2 prints h = 76, and
        9216/76 is not a whole number.
    """
    if (model := _named(name)) is None:
        raise unknown("model", name, _names(), HOW_TO_LIST)
    return model


def find_model(model: str | os.PathLike[str] | Decoder) -> Decoder:
    """The model that an argument `model` means: a `Decoder` itself, a name, or a path.

    Parameters
    ----------
    model
        A `Decoder`, which is returned as it is; a name or repository id (`get_model`); or the path of a `config.json`
        or of the folder that holds one (`from_hf_config`). A name wins over a path that is spelled the same.

    Raises
    ------
    InputError
        Neither a known name nor a path that exists; the message suggests similar names. Also as `get_model` and
        `from_hf_config`. The message names `model`.

    >>> find_model("GPT2-XL") == get_model("gpt2-xl") == find_model(get_model("gpt2-xl"))
    True
    """
    if isinstance(model, Decoder):
        return model
    if (known := _named(model)) is not None:
        return known
    if isinstance(model, str | os.PathLike) and (os.path.exists(model) or os.fspath(model).endswith(".json")):
        try:
            return from_hf_config(model)
        except InputError as error:
            raise InputError(f"model: {str(error).removeprefix('config: ')}") from None
    raise unknown("model", model, _names(), f"{HOW_TO_LIST}; or give the path of a config.json, or a Decoder")


def _current(table: str) -> tuple[Row, ...]:
    sizes = "hidden_size num_layers num_heads num_kv_heads head_dim intermediate_size vocab_size max_position"
    numbers = "num_experts experts_per_token expert_intermediate_size shared_intermediate_size"
    latent = "kv_rank q_rank nope_head_dim rope_head_dim v_head_dim"
    columns: Columns = {
        **dict.fromkeys(("name", "family", "parameters", "parameters_source", "source"), str),
        **dict.fromkeys((*sizes.split(), "embedding_size"), int),
        **dict.fromkeys(("gated_ffn", "fused_qkv", "fused_gate_up", "shared_gate", "tied_embeddings"), boolean),
        **dict.fromkeys((*numbers.split(), *latent.split()), optional_int),
        **_MORE[table],
        "hub": _each(str),
        "windows": _windows,
        "dense_layers": _each(int),
    }
    return tuple(read_rows(DATA / "models" / f"{table}.csv", columns, key=["name"]))


@cache
def _rows() -> dict[str, Row]:
    """Every model's row, by its name and by each of its repository ids, in lower case."""
    rows = (*table2_true(), *zoo(), *hybrids(), *benchmarked())
    return {key.lower(): row for row in rows for key in (row["name"], *row["hub"])}


def _names() -> list[str]:
    return list(dict.fromkeys(row["name"] for row in _rows().values()))


def _named(name: object) -> Decoder | None:
    """The model of that name, or None; only a string is a name."""
    key = name.strip().lower() if isinstance(name, str) else ""
    if key in _rows():
        return _of_row(key)
    printed = {row["name"] + PRINTED: row for row in table2_printed()}
    return _as_printed(printed[key]) if key in printed else None


@cache
def _of_row(key: str) -> Decoder:
    """A model is made and checked once; it cannot be changed."""
    return _decoder(_rows()[key])


def _as_printed(row: Row) -> Decoder:
    return replace(
        get_model(row["name"]),
        name=row["name"] + PRINTED,
        hidden_size=row["d"],
        num_heads=row["h"],
        intermediate_size=row["d_ff"],
        gated_ffn=False,
    )


def _decoder(row: Row) -> Decoder:
    """The model of a row of any table; Table 2 has no columns for features that its models lack."""
    made: Row = {field.name: row[field.name] for field in fields(Decoder) if field.init and field.name in row}
    made |= {"kv_heads": row.get("num_kv_heads") or None, "head_width": row.get("head_dim") or None}
    for name in ("windows", "chunks"):
        if row.get(name):
            made[name] = tuple(islice(cycle(row[name]), row["num_layers"]))
    if row.get("num_experts"):
        made["experts"] = Experts(
            row["num_experts"],
            row["experts_per_token"],
            row["expert_intermediate_size"],
            row["shared_intermediate_size"] or 0,
            row["shared_gate"],
            row.get("fused_experts", False),
            latent_size=row.get("expert_latent_size") or 0,
        )
    if row.get("kv_rank"):
        made["latent"] = Latent(**{field.name: row[field.name] for field in fields(Latent)})
    if row.get("mixers"):
        made["mixers"] = tuple(islice(cycle(row["mixers"]), row["num_layers"]))
        made["recurrent"] = Recurrent(row["state_kind"], *(row[name] or 0 for name in _STATE))
        apart = [layer for layer, mixer in enumerate(made["mixers"]) if row["ffn_apart"] and mixer != "none"]
        made["layers_without_ffn"] = tuple(apart)
    if row.get("index_heads"):
        heads, width, top_k = (row[name] for name in _INDEX)
        made["indexer"] = Indexer(heads, width, top_k, row["index_shared_layers"])
    return Decoder(**made)


def _each(kind: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """The type of a cell that lists values, with a space between them."""
    return lambda cell: tuple(kind(value) for value in cell.split())


def _windows(cell: str) -> tuple[int | None, ...]:
    return tuple(None if each == "all" else int(each) for each in cell.split())


_STATE = ("state_heads", "key_heads", "value_dim", "key_dim", "conv_width", "state_rank")
_INDEX = ("index_heads", "index_head_dim", "index_top_k")
_RELEASE = dict.fromkeys(("released", "released_source"), str)
_MORE: dict[str, Columns] = {
    "zoo": {**_RELEASE, "chunks": _windows, "fused_experts": boolean},
    "hybrids": {
        **_RELEASE,
        "state_kind": str,
        **dict.fromkeys(("ffn_apart", "attention_gate"), boolean),
        **dict.fromkeys((*_STATE, *_INDEX, "expert_latent_size"), optional_int),
        "mixers": _each(str),
        "index_shared_layers": _each(int),
    },
    "benchmarked": {},
}
"""The columns that only some of the tables have."""
