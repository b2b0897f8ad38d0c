"""What a decode step computes: every MatMul of the model, tagged with the part it belongs to (Table 1)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from llmamdahl.errors import instance, positive_int
from llmamdahl.models import Decoder


class Part(StrEnum):
    """Which share of the model a MatMul belongs to."""

    PROJECTION = "projection"
    """Weight times activation; "MatMul-free" once its weights are 1-bit."""
    ATTENTION = "attention"
    """Activation times activation, per head; stays a MatMul."""
    UNQUANTIZED = "unquantized"
    """Weights that 1-bit models keep in high precision (LM head, embedding projections); outside the paper's F."""


@dataclass(frozen=True, slots=True)
class MatMul:
    """`count` products of activations `m x k` with an operand `k x n` (weights, or K or V of one head)."""

    name: str
    part: Part
    m: int
    n: int
    k: int
    count: int


def decode_step(model: Decoder, context_length: int, batch: int = 1) -> tuple[MatMul, ...]:
    """The MatMuls of one decode step of the whole model: one new token for each sequence of the batch.

    Table 1, per decoder block: four projections of d x d, the FFN's two (three with a gate), and per head Q·Kᵀ and
    scores·V over the context. A batch shares the weights (m = batch); each sequence attends to its own K and V.

    Parameters
    ----------
    context_length
        l, tokens attended to, the current one included.
    batch
        Sequences decoded together.

    Raises
    ------
    InputError
        A context length or batch that is not a positive whole number; a model that is not a `Decoder`.

    >>> from llmamdahl.models import get_model
    >>> for matmul in decode_step(get_model("opt-6.7b"), context_length=2048)[:8]:
    ...     print(matmul.name, matmul.part, matmul.m, matmul.n, matmul.k, matmul.count)
    W_Q projection 1 4096 4096 32
    W_K projection 1 4096 4096 32
    W_V projection 1 4096 4096 32
    W_X projection 1 4096 4096 32
    W_I projection 1 16384 4096 32
    W_O projection 1 4096 16384 32
    Q·Kᵀ attention 1 2048 128 1024
    scores·V attention 1 128 2048 1024
    """
    instance("model", model, Decoder)
    length, batch = positive_int("context_length", context_length), positive_int("batch", batch)
    d, d_ff, layers = model.hidden_size, model.intermediate_size, model.num_layers
    head_dim, heads = model.head_dim, layers * model.num_heads * batch

    def weights(name: str, k: int, n: int, part: Part = Part.PROJECTION, count: int = layers) -> MatMul:
        return MatMul(name, part, m=batch, n=n, k=k, count=count)

    matmuls = [weights(name, d, d) for name in ("W_Q", "W_K", "W_V", "W_X")]
    matmuls += [weights(name, d, d_ff) for name in (("W_G", "W_I") if model.gated_ffn else ("W_I",))]
    matmuls += [
        weights("W_O", d_ff, d),
        MatMul("Q·Kᵀ", Part.ATTENTION, m=1, n=length, k=head_dim, count=heads),
        MatMul("scores·V", Part.ATTENTION, m=1, n=head_dim, k=length, count=heads),
    ]
    if model.embedding_size != d:
        matmuls += [
            weights("embedding in", model.embedding_size, d, Part.UNQUANTIZED, 1),
            weights("embedding out", d, model.embedding_size, Part.UNQUANTIZED, 1),
        ]
    return (*matmuls, weights("LM head", model.embedding_size, model.vocab_size, Part.UNQUANTIZED, 1))
