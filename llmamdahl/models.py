"""The models of the paper's Table 2: as it prints them, and as they are."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache

from llmamdahl.errors import InputError, instance, one_of, positive_int
from llmamdahl.tables import DATA, Columns, Row, boolean, read_rows

PRINTED = "-printed"
"""Suffix of a model name that asks for Table 2's printed hyperparameters instead of the true ones."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder-only LLM with multi-head attention, by its hyperparameters.

    Attributes
    ----------
    name
        Its name in every table of this compendium.
    hidden_size
        d, the embedding dimension of Table 2.
    num_layers
        Number of decoder blocks. Table 2 does not print it; it cancels in F.
    num_heads
        h; must divide `hidden_size`.
    intermediate_size
        d_FF.
    gated_ffn
        True if the FFN has a third weight matrix, its gate (LLaMA). The paper's Table 1 has none.
    vocab_size
        Columns of the LM head.
    max_position
        The longest context the model was trained for; longer ones are computed all the same, as the paper does.
    embedding_size
        Width of the token embedding; OPT-350M's is narrower than its `hidden_size`, with a projection between.
    """

    name: str
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    gated_ffn: bool
    vocab_size: int
    max_position: int
    embedding_size: int

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.type == "int":
                size = positive_int(f"{self.name}: {field.name}", getattr(self, field.name))
                object.__setattr__(self, field.name, size)
        instance(f"{self.name}: gated_ffn", self.gated_ffn, bool)
        if self.hidden_size % self.num_heads:
            raise InputError(
                f"{self.name}: num_heads: {self.num_heads} does not divide hidden_size {self.hidden_size}; "
                "every head must be equally wide"
            )

    @property
    def head_dim(self) -> int:
        """d/h, the width of one attention head."""
        return self.hidden_size // self.num_heads


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


def get_model(name: str) -> Decoder:
    """A model of Table 2 by name; with `-printed` appended, as Table 2 prints it.

    The printed reading takes d, h and d_FF from Table 2 and the two-matrix FFN from Table 1. What the paper does not
    print (layers, vocabulary, longest context) is the true model's.

    >>> get_model("gpt2-xl").intermediate_size, get_model("gpt2-xl-printed").intermediate_size
    (6400, 1600)

    Raises
    ------
    InputError
        An unknown name, or `opt-66b-printed`: Table 2 prints h = 76, and 9216/76 is not a whole number.
    """
    true = {row["name"]: row for row in table2_true()}
    base = str(name).removesuffix(PRINTED)
    if base not in true:
        raise InputError(f"model: {name!r} is unknown; known: {', '.join(true)}, each also with {PRINTED!r} appended")
    model = Decoder(**{field.name: true[base][field.name] for field in fields(Decoder)})
    if base == name:
        return model
    row = next(row for row in table2_printed() if row["name"] == base)
    return replace(
        model, name=name, hidden_size=row["d"], num_heads=row["h"], intermediate_size=row["d_ff"], gated_ffn=False
    )
