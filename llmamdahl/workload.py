"""What a decode step and a prefill compute: every MatMul of the model, tagged with its part (Table 1, and beyond)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from llmamdahl.errors import InputError, instance, positive_int
from llmamdahl.models import Decoder, Experts, Latent


class Part(StrEnum):
    """Which share of the model a MatMul belongs to."""

    PROJECTION = "projection"
    """Weight times activation; "MatMul-free" once its weights are 1-bit."""
    ATTENTION = "attention"
    """Activation times activation, per head; stays a MatMul."""
    UNQUANTIZED = "unquantized"
    """Weights that 1-bit models keep in high precision (LM head, embedding projections, MoE router); outside F."""


@dataclass(frozen=True, slots=True)
class MatMul:
    """`count` products of activations `m x k` with an operand `k x n` (weights, or K or V of one head)."""

    name: str
    part: Part
    m: int
    n: int
    k: int
    count: int


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass through a decoder: `queries` new tokens for each of `batch` sequences, up to `length` tokens seen."""

    queries: int
    length: int
    batch: int
    absorbed: bool  # latent attention on the cached latents themselves
    layers: int = 1  # alike, and listed together

    @property
    def tokens(self) -> int:
        return self.queries * self.batch


def decode_step(model: Decoder, context_length: int, batch: int = 1) -> tuple[MatMul, ...]:
    """The MatMuls of one decode step of the whole model: one new token for each sequence of the batch.

    Table 1, per decoder block: four projections of d x d, the FFN's two (three with a gate), and per head Q·Kᵀ and
    scores·V over the context. A batch shares the weights (m = batch); each sequence attends to its own K and V.
    Equal MatMuls are one entry, with their number over all layers.

    Models that Table 1 does not have:

    - Grouped-query attention narrows W_K and W_V. Q·Kᵀ and scores·V stay one MatMul a query head and sequence, as the
      paper counts: heads of a group share K and V in memory, not MatMuls.
    - A layer with a window attends to min(l, window) tokens.
    - Fused weights are one wider product: `W_QKV` for W_Q, W_K, W_V; `W_GI` for W_G, W_I.
    - Mixture of experts: the router (d x E) is not quantized. Which experts a token visits depends on the text, so the
      batch x top-k pairs of token and expert are spread as evenly as they go: up to E pairs, each has an expert of its
      own (`expert W_I` etc., m = 1); beyond, every expert works and m differs by one at most. Shared experts are dense
      (`shared W_I` etc., m = batch); their gate, where there is one, is not quantized.
    - Latent attention (DeepSeek) in its absorbed form, which works on the cached latents (arXiv 2405.04434, Section
      2.1.2): queries are mapped into the latent space by `W_UK` (nope_head_dim x kv_rank) and results out of it by
      `W_UV` (kv_rank x v_head_dim), one MatMul a head; Q·Kᵀ has k = kv_rank + rope_head_dim, scores·V n = kv_rank.

    Parameters
    ----------
    context_length
        l, tokens attended to, the current one included; may be above the model's `max_position`.
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
    return _whole(model, _decode(model, context_length, batch))


def decode_layer(model: Decoder, layer: int, context_length: int, batch: int = 1) -> tuple[MatMul, ...]:
    """The MatMuls of one decoder block in a decode step; `layer` counts from 0. Else as `decode_step`.

    >>> from llmamdahl.models import get_model
    >>> [matmul.count for matmul in decode_layer(get_model("opt-6.7b"), 31, context_length=2048)]
    [1, 1, 1, 1, 1, 1, 32, 32]
    """
    instance("model", model, Decoder)
    if layer not in range(model.num_layers):
        raise InputError(f"layer: {layer!r} is no layer of {model.name}; they are 0 to {model.num_layers - 1}")
    return tuple(_block(model, _decode(model, context_length, batch), *_kind(model, layer)))


def prefill(model: Decoder, tokens: int, batch: int = 1) -> tuple[MatMul, ...]:
    """The MatMuls of a prefill of the whole model: a prompt of `tokens` for each sequence of the batch.

    As `decode_step`, with these differences. Projections have m = batch x tokens, and so many tokens are spread over
    the experts. Attention, per head and sequence, has m = n = tokens: that half of it is masked out is not exploited.
    In a layer with a window each query sees min(tokens, window) keys. Latent attention is not absorbed: `W_UK` and
    `W_UV` make K and V of all heads from the latents. Only the last position goes through the LM head (m = batch).

    Raises
    ------
    InputError
        Tokens or a batch that is not a positive whole number; a model that is not a `Decoder`.

    >>> from llmamdahl.models import get_model
    >>> for matmul in prefill(get_model("opt-6.7b"), tokens=512)[3:]:
    ...     print(matmul.name, matmul.part, matmul.m, matmul.n, matmul.k, matmul.count)
    W_X projection 512 4096 4096 32
    W_I projection 512 16384 4096 32
    W_O projection 512 4096 16384 32
    Q·Kᵀ attention 512 512 128 1024
    scores·V attention 512 128 512 1024
    LM head unquantized 1 50272 4096 1
    """
    tokens, batch = positive_int("tokens", tokens), positive_int("batch", batch)
    instance("model", model, Decoder)
    return _whole(model, _Pass(tokens, tokens, batch, absorbed=False))


def num_weights(model: Decoder) -> int:
    """Elements of all weight matrices, every expert's too, and of an untied token embedding.

    The model's parameters but for its norms, biases and learned positions, which is to say about 99% of them.

    >>> from llmamdahl.models import get_model
    >>> num_weights(get_model("llama-7b"))
    6738149376
    """
    return sum(weights_by_part(model).values())


def weights_by_part(model: Decoder) -> dict[Part, int]:
    """The weights of `num_weights`: the projections', and the unquantized ones with the token embedding."""
    step = prefill(model, model.experts.num_experts if model.experts else 1)  # every expert is at work
    weights = {Part.PROJECTION: 0, Part.UNQUANTIZED: 0}
    for matmul in step:
        if matmul.part is not Part.ATTENTION:
            weights[matmul.part] += matmul.n * matmul.k * matmul.count
    if not model.tied_embeddings:
        weights[Part.UNQUANTIZED] += model.vocab_size * model.embedding_size
    return weights


def _decode(model: Decoder, context_length: int, batch: int) -> _Pass:
    instance("model", model, Decoder)
    length, batch = positive_int("context_length", context_length), positive_int("batch", batch)
    return _Pass(1, length, batch, absorbed=True)


def _whole(model: Decoder, step: _Pass) -> tuple[MatMul, ...]:
    """All layers, and what is around them; equal MatMuls of layers that differ elsewhere are one entry."""
    found: dict[tuple[str, int, int, int], MatMul] = {}
    for (window, sparse), layers in _kinds(model).items():
        for matmul in _block(model, replace(step, layers=layers), window, sparse):
            key = matmul.name, matmul.m, matmul.n, matmul.k
            known = found.get(key)
            found[key] = replace(matmul, count=known.count + matmul.count) if known else matmul
    around, d, width = [], model.hidden_size, model.embedding_size
    if width != d:
        around += [
            MatMul("embedding in", Part.UNQUANTIZED, m=step.tokens, n=d, k=width, count=1),
            MatMul("embedding out", Part.UNQUANTIZED, m=step.batch, n=width, k=d, count=1),
        ]
    return *found.values(), *around, MatMul("LM head", Part.UNQUANTIZED, step.batch, model.vocab_size, width, 1)


def _kind(model: Decoder, layer: int) -> tuple[int | None, bool]:
    """What tells layers apart: the window, and whether the FFN is a mixture of experts."""
    window = model.windows[layer] if model.windows else None
    return window, model.experts is not None and layer not in model.dense_layers


def _kinds(model: Decoder) -> dict[tuple[int | None, bool], int]:
    """The number of layers of each kind, in the order in which the kinds appear."""
    if model.windows:
        return Counter(_kind(model, layer) for layer in range(model.num_layers))
    dense = len(model.dense_layers) if model.experts else model.num_layers
    number: dict[tuple[int | None, bool], int] = {(None, True): model.num_layers - dense, (None, False): dense}
    return {kind: number[kind] for kind in (_kind(model, 0), *number) if number[kind]}


def _block(model: Decoder, step: _Pass, window: int | None, sparse: bool) -> Iterator[MatMul]:
    """One decoder block: attention's projections, the FFN, attention."""
    latent = model.latent
    yield from _latent_projections(model, latent, step) if latent else _projections(model, step)
    if sparse and model.experts:
        yield from _experts(model, model.experts, step)
    else:
        yield from _ffn(model, "", model.intermediate_size, step.tokens, step.layers)
    keys = step.length if window is None else min(step.length, window)
    k, n = model.head_dim, model.head_dim
    if latent and step.absorbed:
        k, n = latent.kv_rank + latent.rope_head_dim, latent.kv_rank
    elif latent:
        n = latent.v_head_dim
    heads = step.layers * model.num_heads * step.batch
    yield MatMul("Q·Kᵀ", Part.ATTENTION, m=step.queries, n=keys, k=k, count=heads)
    yield MatMul("scores·V", Part.ATTENTION, m=step.queries, n=n, k=keys, count=heads)


def _projections(model: Decoder, step: _Pass) -> Iterator[MatMul]:
    d, q, kv = model.hidden_size, model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    widths = {"W_QKV": q + 2 * kv} if model.fused_qkv else {"W_Q": q, "W_K": kv, "W_V": kv}
    for name, width in widths.items():
        yield MatMul(name, Part.PROJECTION, m=step.tokens, n=width, k=d, count=step.layers)
    yield MatMul("W_X", Part.PROJECTION, m=step.tokens, n=d, k=q, count=step.layers)


def _latent_projections(model: Decoder, latent: Latent, step: _Pass) -> Iterator[MatMul]:
    d, heads, m = model.hidden_size, model.num_heads, step.tokens
    if latent.q_rank is None:
        yield MatMul("W_Q", Part.PROJECTION, m, n=heads * model.head_dim, k=d, count=step.layers)
    else:
        yield MatMul("W_DQ", Part.PROJECTION, m, n=latent.q_rank, k=d, count=step.layers)
        yield MatMul("W_UQ", Part.PROJECTION, m, n=heads * model.head_dim, k=latent.q_rank, count=step.layers)
    yield MatMul("W_DKV", Part.PROJECTION, m, n=latent.kv_rank + latent.rope_head_dim, k=d, count=step.layers)
    if step.absorbed:
        yield MatMul("W_UK", Part.PROJECTION, m, n=latent.kv_rank, k=latent.nope_head_dim, count=step.layers * heads)
        yield MatMul("W_UV", Part.PROJECTION, m, n=latent.v_head_dim, k=latent.kv_rank, count=step.layers * heads)
    else:
        yield MatMul("W_UK", Part.PROJECTION, m, n=heads * latent.nope_head_dim, k=latent.kv_rank, count=step.layers)
        yield MatMul("W_UV", Part.PROJECTION, m, n=heads * latent.v_head_dim, k=latent.kv_rank, count=step.layers)
    yield MatMul("W_X", Part.PROJECTION, m, n=d, k=heads * latent.v_head_dim, count=step.layers)


def _ffn(model: Decoder, prefix: str, width: int, m: int, count: int) -> Iterator[MatMul]:
    """The matrices of `count` FFNs of this width, dense or experts, each for `m` tokens."""
    d = model.hidden_size
    if model.fused_gate_up:
        yield MatMul(f"{prefix}W_GI", Part.PROJECTION, m, n=2 * width, k=d, count=count)
    else:
        for name in ("W_G", "W_I") if model.gated_ffn else ("W_I",):
            yield MatMul(f"{prefix}{name}", Part.PROJECTION, m, n=width, k=d, count=count)
    yield MatMul(f"{prefix}W_O", Part.PROJECTION, m, n=d, k=width, count=count)


def _experts(model: Decoder, experts: Experts, step: _Pass) -> Iterator[MatMul]:
    d = model.hidden_size
    yield MatMul("router", Part.UNQUANTIZED, step.tokens, n=experts.num_experts, k=d, count=step.layers)
    each, more = divmod(step.tokens * experts.experts_per_token, experts.num_experts)
    for m, count in ((each + 1, more), (each, experts.num_experts - more)):
        if m and count:
            yield from _ffn(model, "expert ", experts.intermediate_size, m, step.layers * count)
    if experts.shared_intermediate_size:
        yield from _ffn(model, "shared ", experts.shared_intermediate_size, step.tokens, step.layers)
    if experts.shared_gate:
        yield MatMul("shared gate", Part.UNQUANTIZED, step.tokens, n=1, k=d, count=step.layers)
