"""The MatMuls of a decode step and of a prefill, each tagged with its part (Table 1, and what Table 1 lacks)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, TypeAlias, get_args

import numpy as np

from llmamdahl.errors import InputError, instance, one_of, positive_int, whole_number
from llmamdahl.models import Decoder, Experts, Indexer, Latent, Recurrent, find_model
from llmamdahl.models.decoder import Mixer

Phase: TypeAlias = Literal["decode", "prefill"]
"""One new token for each sequence, or a whole prompt for each."""

Heads: TypeAlias = Literal["per_head", "grouped"]
"""Attention as one MatMul per query head, or one for all query heads that share a K and V (`decode_step`)."""

Routing: TypeAlias = Literal["even", "expected"]
"""Tokens spread over the experts as evenly as possible, or what a random choice of experts expects (`decode_step`)."""


class Part(StrEnum):
    """The part of the model that a MatMul belongs to.

    >>> [str(part) for part in Part]
    ['projection', 'attention', 'state', 'unquantized']
    """

    PROJECTION = "projection"
    """Weights times activations; "MatMul-free" once the weights are 1-bit."""
    ATTENTION = "attention"
    """Activations times activations, per head; stays a MatMul."""
    STATE = "state"
    """Activations times a recurrent state: as attention, but it does not grow with the context."""
    UNQUANTIZED = "unquantized"
    """Weights that 1-bit models keep in high precision: LM head, embedding projections, MoE router, convolutions."""


def whole(unquantized: bool, state: bool = False) -> tuple[Part, ...]:
    """The parts that F is a share of, projections first; `unquantized` adds the LM head and its like.

    `state` adds the recurrent state, which is in the whole of every model that has one.

    >>> " + ".join(whole(unquantized=False))
    'projection + attention'
    >>> " + ".join(whole(unquantized=True, state=True))
    'projection + attention + state + unquantized'
    """
    instance("unquantized", unquantized, bool)
    return (Part.PROJECTION, Part.ATTENTION, *[Part.STATE] * state, *[Part.UNQUANTIZED] * unquantized)


@dataclass(frozen=True, slots=True)
class MatMul:
    """`count` products of activations `m x k` with an operand `k x n` (weights, or K or V of one head).

    An expected count, of `experts="expected"`, need not be whole. `distinct` is the number of different `k x n`
    operands: fewer than `count` where query heads share a K or V, and 0 for the V of absorbed latents, which is part of
    their K. Of a state, which each head has for itself, it is the number of different `m x k`: of queries or keys.
    `chunk` is the length of a chunk, for attention in a layer with chunks.
    """

    name: str
    part: Part
    m: int
    n: int
    k: int
    count: float
    distinct: float = field(default=None, compare=False)  # type: ignore[assignment]  # never None: `count` if not given
    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.distinct is None:
            object.__setattr__(self, "distinct", self.count)

    def times(self, factor: float) -> MatMul:
        """The same MatMul, `factor` times as often."""
        return replace(self, count=self.count * factor, distinct=self.distinct * factor)


@dataclass(frozen=True, slots=True)
class Elementwise:
    """Work on weights or a state that is no MatMul, of all layers and sequences: see `elementwise`."""

    name: str
    part: Part
    macs: int
    """Products."""
    operand: int
    """Elements of weights read, or of a state read and written."""
    activations: int
    """Elements of activations read and written."""


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass through a decoder: `queries` new tokens in each of `batch` sequences, attending to `length` tokens."""

    queries: int
    length: int
    batch: int
    absorbed: bool  # latent attention on the cached latents
    heads: Heads
    experts: Routing = "even"
    layers: int = 1  # of one kind, listed together

    @property
    def tokens(self) -> int:
        return self.queries * self.batch


_Kind: TypeAlias = tuple[int | None, int | None, bool | None, Mixer, bool]
"""The kind of a layer: its window, its chunk, whether its FFN is a mixture of experts (None: no FFN), its mixer, and
whether it has an indexer.
"""


def matmuls(
    model: str | Decoder,
    context_length: int,
    *,
    batch: int = 1,
    phase: Phase = "decode",
    heads: Heads = "per_head",
    experts: Routing = "even",
) -> tuple[MatMul, ...]:
    """`decode_step` at this context length or, in the phase `"prefill"`, `prefill` of that many tokens."""
    one_of("phase", phase, get_args(Phase))
    step = decode_step if phase == "decode" else prefill
    return step(model, context_length, batch, heads=heads, experts=experts)


def decode_step(
    model: str | Decoder,
    context_length: int,
    batch: int = 1,
    *,
    heads: Heads = "per_head",
    experts: Routing = "even",
) -> tuple[MatMul, ...]:
    """The MatMuls of one decode step of the whole model: one new token for each sequence of the batch.

    Table 1, per decoder block: four projections of d x d, the two of the FFN (three with a gate), and per head Q·Kᵀ
    and scores·V over the context. A batch shares the weights (m = batch); each sequence attends to its own K and V.
    Equal MatMuls are one entry, with their number over all layers.

    What Table 1 does not cover:

    - Grouped-query attention narrows W_K and W_V. With `heads="per_head"` Q·Kᵀ and scores·V stay one MatMul per query
      head and sequence, as the paper counts: the heads of a group share K and V in memory, but not a MatMul. With
      `heads="grouped"` they are one MatMul per K and V head and sequence, whose rows are the group's queries.
    - A layer with a window attends to min(l, window) tokens.
    - A layer with chunks attends to the tokens of the current one's chunk up to it: (l - 1) mod chunk + 1, so l up to
      the first chunk's end, then 1 again. A cache may keep more of the tokens, but the mask hides the others.
    - Fused weights are one wider product: `W_QKV` for W_Q, W_K, W_V; `W_GI` for W_G, W_I.
    - Mixture of experts: the router (d x E) is not quantized. Which experts a token visits depends on the text. With
      `experts="even"` the batch x top-k pairs of token and expert are spread as evenly as possible. Up to E pairs, each
      pair has its own expert (`expert W_I` etc., m = 1); beyond that every expert is used, and their m differ by at
      most one. With `experts="expected"` each token visits top-k experts at random, independently of the others, and
      counts are the expected numbers of experts with m = 1, 2, ... tokens: E times the binomial probability of m
      successes in `batch` trials of probability top-k / E (expected numbers below 10^-12 are left out). Costs that add
      up over MatMuls are then expected costs. The two are equal at batch 1. Shared experts are dense (`shared W_I`
      etc., m = batch); their gate, if there is one, is not quantized. Experts with a latent compute in that width,
      between `latent W_D` and `latent W_U`.
    - Latent attention (DeepSeek) in its absorbed form, which uses the cached latents directly (arXiv 2405.04434,
      Section 2.1.2): `W_UK` (nope_head_dim x kv_rank) maps queries into the latent space and `W_UV` (kv_rank x
      v_head_dim) maps results out of it, one MatMul per head; Q·Kᵀ has k = kv_rank + rope_head_dim, scores·V has
      n = kv_rank. All heads share the latents, so that with `heads="grouped"` they are one MatMul with m = h.
    - Sparse attention (DeepSeek-V3.2) attends to min(l, top_k) tokens. Its indexer scores all l: `index Q·Kᵀ` is one
      MatMul per index head, or with `heads="grouped"` one for all, which share a key; `index w·scores` (1 x heads times
      heads x l) adds the heads up. Both are attention. `index W_Q` and `index W_K` are projections, which the
      published model has in 8 bits like the others; `index W_w`, the heads' weights, it keeps in high precision
      (deepseek-ai/DeepSeek-V3.2-Exp, inference/model.py): unquantized.
    - A layer with a recurrent state (`Recurrent`) has projections of its own, `state W_...`, and per head and sequence
      `K·S` (delta rule only: what the state S returns for the key), `Kᵀ·V` (the outer product that is added to S) and
      `Q·S`. With `heads="grouped"` the states of the heads that share a query and key lie side by side in one MatMul.
      What is no MatMul (the state's decay, the short convolution) is in `elementwise`.
    - `attention_gate` doubles W_Q.

    Parameters
    ----------
    model
        A name for `get_model`, or a `Decoder`.
    context_length
        l, tokens attended to, the current one included; may be above the model's `max_position`.
    batch
        Sequences decoded together.
    heads
        `"per_head"`, the paper's reading, or `"grouped"`. The same for multi-head attention, where no head shares K
        and V.
    experts
        `"even"` or `"expected"`; only for mixtures of experts in a batch.

    Raises
    ------
    InputError
        A context length or batch that is not a positive whole number; an unknown model, `heads` or `experts`.

    >>> for matmul in decode_step("opt-6.7b", context_length=2048)[:8]:
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
    return _whole(find_model(model), _decode(context_length, batch, heads, experts))


def decode_layer(
    model: str | Decoder,
    layer: int,
    context_length: int,
    *,
    batch: int = 1,
    heads: Heads = "per_head",
    experts: Routing = "even",
) -> tuple[MatMul, ...]:
    """The MatMuls of one decoder block in a decode step; `layer` counts from 0. Otherwise as `decode_step`.

    >>> [matmul.count for matmul in decode_layer("opt-6.7b", 31, context_length=2048)]
    [1, 1, 1, 1, 1, 1, 32, 32]
    """
    decoder = find_model(model)
    if whole_number("layer", layer) >= decoder.num_layers:
        raise InputError(f"layer: {layer!r} is not a layer of {decoder.name}; they are 0 to {decoder.num_layers - 1}")
    return tuple(_block(decoder, _decode(context_length, batch, heads, experts), *_kind(decoder, layer)))


def prefill(
    model: str | Decoder, tokens: int, batch: int = 1, *, heads: Heads = "per_head", experts: Routing = "even"
) -> tuple[MatMul, ...]:
    """The MatMuls of a prefill of the whole model: a prompt of `tokens` for each sequence of the batch.

    As `decode_step`, with these differences. Projections have m = batch x tokens, and that many tokens are spread over
    the experts. Attention has m = n = tokens per head and sequence; the causal mask saves nothing. In a layer with a
    window each query sees min(tokens, window) keys. In a layer with chunks each chunk is a prompt of its own: m = n =
    chunk, and for the last one what is left. Latent attention is not absorbed: `W_UK` and `W_UV` compute K and
    V of all heads from the latents, so that no heads share them. Only the last position goes through the LM head
    (m = batch).

    A model with a recurrent state is rejected: its prefill is computed in chunks, whose length, a choice of the kernel,
    decides what is a MatMul. So is one with an indexer: each query attends to tokens of its own, and how they are
    gathered is a choice of the kernel too.

    Raises
    ------
    InputError
        Tokens or a batch that is not a positive whole number; an unknown model, `heads` or `experts`; a model with a
        recurrent state or an indexer.

    >>> for matmul in prefill("opt-6.7b", tokens=512)[3:]:
    ...     print(matmul.name, matmul.part, matmul.m, matmul.n, matmul.k, matmul.count)
    W_X projection 512 4096 4096 32
    W_I projection 512 16384 4096 32
    W_O projection 512 4096 16384 32
    Q·Kᵀ attention 512 512 128 1024
    scores·V attention 512 128 512 1024
    LM head unquantized 1 50272 4096 1
    """
    tokens, batch = positive_int("tokens", tokens), positive_int("batch", batch)
    one_of("heads", heads, get_args(Heads))
    one_of("experts", experts, get_args(Routing))
    decoder = find_model(model)
    if decoder.recurrent or decoder.indexer:
        what = "a recurrent state, whose chunks" if decoder.recurrent else "an indexer, whose ways to gather tokens"
        raise InputError(
            f"model: {decoder.name} has {what} in a prefill depend on the kernel; only decode is supported"
        )
    return _whole(decoder, _Pass(tokens, tokens, batch, absorbed=False, heads=heads, experts=experts))


def elementwise(model: str | Decoder, batch: int = 1) -> tuple[Elementwise, ...]:
    """What a decode step of the whole model computes with weights or a state and is no MatMul; () without a state.

    - `decay` (state): each element of the state times its decay. Its bytes are those of `K·S`, `Kᵀ·V` and `Q·S`, as it
      is read and written once for all of them.
    - `convolution` (unquantized): a depthwise convolution, `conv_width` products a channel. Its weights stay in high
      precision: they are few, and quantizers of linear layers leave them out.
    - `conv inputs` (state): the convolution's past inputs, of which `conv_width` - 1 are read and one is written.
    - `Δ·A` (unquantized): in Mamba the decay of each element has a weight of its own; later kinds have one a head.

    An array of PEs does not run these, so they have no cycles and no SRAM accesses there; they count as bytes and,
    where memory is waited for, as seconds. Work of the size of a vector (norms, gates, beta, D·x) is left out, as it is
    of attention.

    Raises
    ------
    InputError
        An unknown model; a batch that is not a positive whole number.
    """
    decoder, batch = find_model(model), positive_int("batch", batch)
    if (state := decoder.recurrent) is None:
        return ()
    layers = sum(mixer in ("state", "both") for mixer in decoder.mixers)
    values, channels, width = state.heads * state.value_dim, state.conv_channels, state.conv_width
    found = []
    if matrix := layers * values * state.key_dim:
        found.append(Elementwise("decay", Part.STATE, matrix * batch, 0, 0))
    if state.kind == "mamba":
        found.append(Elementwise("Δ·A", Part.UNQUANTIZED, matrix * batch, matrix, layers * values * batch))
    if taps := layers * channels * width:
        around = 2 * layers * channels * batch
        found.append(Elementwise("convolution", Part.UNQUANTIZED, taps * batch, taps, around))
        found.append(Elementwise("conv inputs", Part.STATE, 0, taps * batch, 0))
    return tuple(found)


def num_weights(model: str | Decoder) -> int:
    """Elements of all weight matrices, those of every expert included, and of an untied token embedding.

    These are the model's parameters without norms, biases and learned positions: about 99% of them.

    >>> num_weights("llama-7b")
    6738149376
    """
    return sum(weights_by_part(model).values())


def weights_by_part(model: str | Decoder) -> dict[Part, int]:
    """The weights that `num_weights` adds up, by part; a token embedding counts as unquantized."""
    decoder = find_model(model)
    weights = {Part.PROJECTION: 0, Part.UNQUANTIZED: 0}
    tokens = decoder.experts.num_experts if decoder.experts else 1  # uses every expert
    for matmul in _whole(decoder, _Pass(tokens, tokens, 1, absorbed=False, heads="per_head")):
        if matmul.part in weights:
            weights[matmul.part] += matmul.n * matmul.k * int(matmul.count)  # whole: spread evenly
    weights[Part.UNQUANTIZED] += sum(each.operand for each in elementwise(decoder) if each.part in weights)
    if not decoder.tied_embeddings:
        weights[Part.UNQUANTIZED] += decoder.vocab_size * decoder.embedding_size
    return weights


def _decode(context_length: int, batch: int, heads: Heads, experts: Routing) -> _Pass:
    length, batch = positive_int("context_length", context_length), positive_int("batch", batch)
    one_of("heads", heads, get_args(Heads))
    one_of("experts", experts, get_args(Routing))
    return _Pass(1, length, batch, absorbed=True, heads=heads, experts=experts)


def _whole(model: Decoder, step: _Pass) -> tuple[MatMul, ...]:
    """All layers, then embedding projections and LM head; equal MatMuls of different kinds of layer are one entry."""
    found: dict[tuple[str, int, int, int, int | None], MatMul] = {}
    for kind, layers in _kinds(model).items():
        for matmul in _block(model, replace(step, layers=layers), *kind):
            key = matmul.name, matmul.m, matmul.n, matmul.k, matmul.chunk
            if known := found.get(key):
                count, distinct = known.count + matmul.count, known.distinct + matmul.distinct
                matmul = replace(matmul, count=count, distinct=distinct)
            found[key] = matmul
    around, d, width = [], model.hidden_size, model.embedding_size
    if width != d:
        around += [
            MatMul("embedding in", Part.UNQUANTIZED, m=step.tokens, n=d, k=width, count=1),
            MatMul("embedding out", Part.UNQUANTIZED, m=step.batch, n=width, k=d, count=1),
        ]
    return *found.values(), *around, MatMul("LM head", Part.UNQUANTIZED, step.batch, model.vocab_size, width, 1)


def _kind(model: Decoder, layer: int) -> _Kind:
    window, chunk = (sizes[layer] if sizes else None for sizes in (model.windows, model.chunks))
    bare = layer in model.layers_without_ffn
    sparse = None if bare else model.experts is not None and layer not in model.dense_layers
    indexes = model.indexer is not None and layer not in model.indexer.shared_layers
    return window, chunk, sparse, model.mixers[layer] if model.mixers else "attention", indexes


def _kinds(model: Decoder) -> dict[_Kind, int]:
    """The number of layers of each kind, in the order in which the kinds appear."""
    shared = model.indexer.shared_layers if model.indexer else ()
    if model.windows or model.chunks or model.mixers or model.layers_without_ffn or shared:
        return Counter(_kind(model, layer) for layer in range(model.num_layers))
    dense = len(model.dense_layers) if model.experts else model.num_layers
    number: dict[_Kind, int] = {
        (None, None, True, "attention", model.indexer is not None): model.num_layers - dense,
        (None, None, False, "attention", model.indexer is not None): dense,
    }
    return {kind: number[kind] for kind in (_kind(model, 0), *number) if number[kind]}


def _seen(step: _Pass, window: int | None, chunk: int | None) -> Iterator[tuple[int, int, int]]:
    """Queries and keys of the attention MatMuls of one head and sequence, and how many there are of this size."""
    if chunk is None or step.length <= chunk:
        yield step.queries, step.length if window is None else min(step.length, window), 1
    elif step.queries == 1:
        yield 1, (step.length - 1) % chunk + 1, 1
    else:
        yield chunk, chunk, step.length // chunk
        if rest := step.length % chunk:
            yield rest, rest, 1


def _block(
    model: Decoder, step: _Pass, window: int | None, chunk: int | None, sparse: bool | None, mixer: Mixer, indexes: bool
) -> Iterator[MatMul]:
    """One decoder block: projections of what mixes the tokens, the FFN, attention, the state."""
    latent, state = model.latent, model.recurrent
    attends, recurs = mixer in ("attention", "both"), mixer in ("state", "both")
    if attends:
        yield from _latent_projections(model, latent, step) if latent else _projections(model, step)
    if indexes and model.indexer and latent and latent.q_rank:
        yield from _index_projections(model.indexer, model.hidden_size, latent.q_rank, step)
    if recurs and state:
        for name, n, k in _recurrent_projections(state, model.hidden_size):
            yield MatMul(f"state {name}", Part.PROJECTION, step.tokens, n, k, step.layers)
    if sparse and model.experts:
        yield from _experts(model, model.experts, step)
    elif sparse is not None:
        yield from _ffn(model, "", model.intermediate_size, step.tokens, step.layers)
    if indexes and model.indexer:
        yield from _index(model.indexer, step)
    if attends:
        yield from _attention(model, step, model.indexer.top_k if model.indexer else window, chunk)
    if recurs and state and state.key_dim:
        yield from _state(state, step)


def _attention(model: Decoder, step: _Pass, window: int | None, chunk: int | None) -> Iterator[MatMul]:
    latent = model.latent
    k, n = model.head_dim, model.head_dim
    if latent and step.absorbed:
        k, n = latent.kv_rank + latent.rope_head_dim, latent.kv_rank
    elif latent:
        n = latent.v_head_dim
    # All heads share absorbed latents, which contain V; otherwise the heads of a group share a K and V.
    shared = model.num_heads if latent and step.absorbed else model.num_heads // model.num_kv_heads
    rows = shared if step.heads == "grouped" else 1
    count = step.layers * step.batch * model.num_heads // rows
    distinct = count * rows // shared
    unique_v = 0 if step.absorbed and latent else distinct
    for queries, keys, times in _seen(step, window, chunk):
        m = queries * rows
        yield MatMul("Q·Kᵀ", Part.ATTENTION, m, keys, k, count * times, distinct * times, chunk)
        yield MatMul("scores·V", Part.ATTENTION, m, n, keys, count * times, unique_v * times, chunk)


def _index_projections(indexer: Indexer, d: int, q_rank: int, step: _Pass) -> Iterator[MatMul]:
    m, heads, width, count = step.tokens, indexer.num_heads, indexer.head_dim, step.layers
    yield MatMul("index W_Q", Part.PROJECTION, m, heads * width, q_rank, count)
    yield MatMul("index W_K", Part.PROJECTION, m, width, d, count)
    yield MatMul("index W_w", Part.UNQUANTIZED, m, heads, d, count)


def _index(indexer: Indexer, step: _Pass) -> Iterator[MatMul]:
    """The indexer's scores of all tokens; all its heads share a key, and its scores stay where they are added up."""
    sequences, heads = step.layers * step.batch, indexer.num_heads
    rows = heads if step.heads == "grouped" else 1
    count = sequences * heads // rows
    yield MatMul("index Q·Kᵀ", Part.ATTENTION, rows, step.length, indexer.head_dim, count, distinct=sequences)
    yield MatMul("index w·scores", Part.ATTENTION, 1, step.length, heads, sequences, distinct=0)


def _recurrent_projections(state: Recurrent, d: int) -> tuple[tuple[str, int, int], ...]:
    """Name, n and k of each: inputs and gates of the state, as in transformers 5.23.0, and its result's."""
    q, v, heads, each = state.key_heads * state.key_dim, state.heads * state.value_dim, state.heads, state.value_dim
    inputs: dict[str, tuple[tuple[str, int, int], ...]] = {
        "gated_delta": (("W_QKVZ", 2 * q + 2 * v, d), ("W_BA", 2 * heads, d)),  # qwen3_next
        "gated_delta_split": (("W_QKV", 2 * q + v, d), ("W_Z", v, d), ("W_B", heads, d), ("W_A", heads, d)),  # qwen3_5
        "kimi_delta": (
            *(("W_Q", q, d), ("W_K", q, d), ("W_V", v, d), ("W_B", heads, d)),
            *(("W_FA", each, d), ("W_FB", q, each), ("W_GA", each, d), ("W_GB", v, each)),  # of decay and output gate
        ),
        "mamba2": (("W_I", 2 * v + 2 * q + heads, d),),  # z, x, B, C, Delta
        "mamba": (("W_I", 2 * v, d), ("W_ΔBC", state.rank + 2 * q, v), ("W_Δ", v, state.rank)),
        "lightning": (("W_QKV", 2 * q + v, d), ("W_G", v, d)),  # minimax
        "convolution": (("W_I", 3 * v, d),),  # lfm2
    }
    return *inputs[state.kind], ("W_X", d, v)


def _state(state: Recurrent, step: _Pass) -> Iterator[MatMul]:
    sequences, shared = step.layers * step.batch, state.heads // state.key_heads
    beside = shared if step.heads == "grouped" else 1
    n, k, count = state.value_dim * beside, state.key_dim, sequences * state.heads // beside
    distinct = sequences * state.key_heads
    if state.delta_rule:
        yield MatMul("K·S", Part.STATE, 1, n, k, count, distinct)
    yield MatMul("Kᵀ·V", Part.STATE, k, n, 1, count, distinct)
    yield MatMul("Q·S", Part.STATE, 1, n, k, count, distinct)


def _projections(model: Decoder, step: _Pass) -> Iterator[MatMul]:
    d, q, kv = model.hidden_size, model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    gated = 2 * q if model.attention_gate else q
    widths = {"W_QKV": q + 2 * kv} if model.fused_qkv else {"W_Q": gated, "W_K": kv, "W_V": kv}
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


def _ffn(
    model: Decoder, prefix: str, width: int, m: int, count: float, fused_gate_up: bool = False, latent: int = 0
) -> Iterator[MatMul]:
    """The matrices of `count` FFNs of this width, dense or experts, each for `m` tokens; between d or a latent."""
    d = latent or model.hidden_size
    if model.fused_gate_up or fused_gate_up:
        yield MatMul(f"{prefix}W_GI", Part.PROJECTION, m, n=2 * width, k=d, count=count)
    else:
        for name in ("W_G", "W_I") if model.gated_ffn else ("W_I",):
            yield MatMul(f"{prefix}{name}", Part.PROJECTION, m, n=width, k=d, count=count)
    yield MatMul(f"{prefix}W_O", Part.PROJECTION, m, n=d, k=width, count=count)


def _experts(model: Decoder, experts: Experts, step: _Pass) -> Iterator[MatMul]:
    d = model.hidden_size
    yield MatMul("router", Part.UNQUANTIZED, step.tokens, n=experts.num_experts, k=d, count=step.layers)
    width, latent = experts.intermediate_size, experts.latent_size
    if latent:
        yield MatMul("latent W_D", Part.PROJECTION, step.tokens, n=latent, k=d, count=step.layers)
    for m, count in (_even if step.experts == "even" else _expected)(experts, step.tokens):
        yield from _ffn(model, "expert ", width, m, step.layers * count, experts.fused_gate_up, latent)
    if latent:
        yield MatMul("latent W_U", Part.PROJECTION, step.tokens, n=d, k=latent, count=step.layers)
    if experts.shared_intermediate_size:
        yield from _ffn(model, "shared ", experts.shared_intermediate_size, step.tokens, step.layers)
    if experts.shared_gate:
        yield MatMul("shared gate", Part.UNQUANTIZED, step.tokens, n=1, k=d, count=step.layers)


MOST_EXPECTED = 2**24
"""Most tokens that are spread over experts at random: each number of tokens that an expert may get has its MatMuls."""


def _even(experts: Experts, tokens: int) -> list[tuple[int, int]]:
    """Tokens of an expert, and the number of experts with so many, spread as evenly as possible."""
    each, more = divmod(tokens * experts.experts_per_token, experts.num_experts)
    loads = [(each + 1, more), (each, experts.num_experts - more)]
    return [(m, count) for m, count in loads if m and count]


def _expected(experts: Experts, tokens: int) -> list[tuple[int, float]]:
    """Tokens of an expert, and the expected number of experts with so many, if each token chooses at random."""
    if experts.experts_per_token == experts.num_experts:
        return [(tokens, experts.num_experts)]
    if tokens > MOST_EXPECTED:
        raise InputError(f"experts: 'expected' is for at most {MOST_EXPECTED} tokens, not {tokens}; use 'even'")
    chance = experts.experts_per_token / experts.num_experts
    # Beyond 10 standard deviations, and 50 tokens for small means, a binomial probability is far below 10^-12.
    mean, width = tokens * chance, 10 * math.sqrt(tokens * chance * (1 - chance)) + 50
    m = np.arange(max(0, int(mean - width)), min(tokens, int(mean + width)) + 1)
    # P(m) / P(m - 1) = (tokens - m + 1) / m * chance / (1 - chance); as logarithms, which cannot overflow
    steps = np.log((tokens - m[1:] + 1) / m[1:] * (chance / (1 - chance)))
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    weights = np.exp(logs - logs.max())
    counts = experts.num_experts * weights / weights.sum()
    return [(int(load), float(count)) for load, count in zip(m, counts, strict=True) if load and count >= 1e-12]
