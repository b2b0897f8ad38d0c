"""A decoder-only LLM by its hyperparameters: what decides which MatMuls it computes, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias, get_args

from llmamdahl.errors import InputError, instance, one_of, positive_int, sequence, whole_number

Windows = tuple[int | None, ...]
"""For each layer a number of tokens, or None for no limit."""


Mixer: TypeAlias = Literal["attention", "state", "both", "none"]
"""What mixes the tokens in a layer: attention, a recurrent state, both side by side, or nothing (an FFN alone)."""

RecurrentKind: TypeAlias = Literal[
    "gated_delta", "gated_delta_split", "kimi_delta", "mamba2", "mamba", "lightning", "convolution"
]
"""A layer with a recurrent state, by what it computes (`Recurrent`)."""


@dataclass(frozen=True, slots=True)
class Experts:
    """The FFN of a mixture-of-experts layer: a router sends each token to a few of many small FFNs.

    Attributes
    ----------
    num_experts
        E, the routed experts of a layer.
    experts_per_token
        How many of them each token visits; at most `num_experts`.
    intermediate_size
        d_FF of one routed expert.
    shared_intermediate_size
        d_FF of the shared experts, which every token visits too, all of them together (DeepSeek); 0 for none.
    fused_gate_up
        True if the gate and the first projection of an expert are one product, in a model with separate ones elsewhere
        (Llama 4); `Decoder.fused_gate_up` is about all FFNs.
    shared_gate
        True if a d x 1 product weighs the output of the shared experts (Qwen2-MoE).
    latent_size
        Width that routed experts compute in, between two projections that all of them share (Nemotron 3 Super); 0 if
        they compute in d.
    """

    num_experts: int
    experts_per_token: int
    intermediate_size: int
    shared_intermediate_size: int = 0
    shared_gate: bool = False
    fused_gate_up: bool = False
    latent_size: int = 0

    def __post_init__(self) -> None:
        _check_numbers("experts: ", self)
        if self.experts_per_token > self.num_experts:
            raise InputError(
                f"experts: experts_per_token: {self.experts_per_token} is above num_experts {self.num_experts}; "
                "a token visits each expert at most once"
            )
        if self.shared_gate and not self.shared_intermediate_size:
            raise InputError("experts: shared_gate: True without shared experts; give shared_intermediate_size")


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, Section 2.1): K and V of all heads from one latent.

    Attributes
    ----------
    kv_rank
        Width of the latent that is cached in place of K and V.
    q_rank
        Width of the latent of the queries; None if one projection computes them.
    nope_head_dim, rope_head_dim
        Width of a query or key head without and with a rotary position; all heads share the rotary part of the key.
    v_head_dim
        Width of a value head.
    """

    kv_rank: int
    q_rank: int | None
    nope_head_dim: int
    rope_head_dim: int
    v_head_dim: int

    @property
    def head_dim(self) -> int:
        """Width of a query or key head, both parts."""
        return self.nope_head_dim + self.rope_head_dim

    def __post_init__(self) -> None:
        _check_numbers("latent: ", self)


@dataclass(frozen=True, slots=True)
class Indexer:
    """Sparse attention of DeepSeek-V3.2 (arXiv 2512.02556, Section 2.1): a query attends to the tokens that score best.

    A score is the sum over heads of w·ReLU(q·k), with one key a token for all heads. A model with an indexer has
    `Latent` attention with a `q_rank`, because the indexer's queries are computed from that latent.

    Attributes
    ----------
    num_heads
        Heads of the indexer's queries.
    head_dim
        Width of one, and of the key.
    top_k
        How many tokens a query attends to at most, itself included.
    shared_layers
        Indices of the layers without an indexer of their own, which attend to the tokens that an earlier layer selected
        (GLM-5.2); kept in ascending order.
    """

    num_heads: int
    head_dim: int
    top_k: int
    shared_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_numbers("indexer: ", self)
        shared = sorted(
            whole_number("indexer: shared_layers", layer)
            for layer in sequence("indexer: shared_layers", self.shared_layers)
        )
        if shared[:1] == [0] or len({*shared}) < len(shared):
            raise InputError(
                f"indexer: shared_layers: {shared} has a layer twice, or layer 0, before which there is none"
            )
        object.__setattr__(self, "shared_layers", tuple(shared))


@dataclass(frozen=True, slots=True)
class Recurrent:
    """A layer that keeps a state of a fixed size, one `key_dim x value_dim` matrix a head, in place of K and V.

    A step multiplies the state by a decay, adds k^T v and returns q times the state (linear attention). In the
    state-space models q is C, k is B and v is x; the delta rule replaces v by beta (v - k times the state). Queries and
    keys are shared by equally many heads.

    Attributes
    ----------
    kind
        `gated_delta` (Gated DeltaNet, arXiv 2412.06464, with the projections of Qwen3-Next), `gated_delta_split` (with
        those of Qwen3.5, which are not fused), `kimi_delta` (Kimi Linear, arXiv 2510.26692), `mamba2` (arXiv
        2405.21060), `mamba` (arXiv 2312.00752: a single head), `lightning` (MiniMax-01, arXiv 2501.08313) or
        `convolution` (LFM2: a gated short convolution is all there is). `workload.decode_step` lists their MatMuls.
    heads
        Heads of values, each with a state of its own; 1 for `mamba` and `convolution`.
    key_heads
        Heads of queries and keys (groups of B and C).
    value_dim
        Width of a value (channels of a head).
    key_dim
        Width of a query and key (state size N); 0 for `convolution`.
    conv_width
        Tokens under the depthwise convolution before the state, the current one included; 0 for none (`lightning`).
    rank
        Width between the two projections of Delta; `mamba` only.

    Raises
    ------
    InputError
        A value of the wrong type, or one that the kind does not have.
    """

    kind: RecurrentKind
    heads: int
    key_heads: int
    value_dim: int
    key_dim: int = 0
    conv_width: int = 0
    rank: int = 0

    @property
    def delta_rule(self) -> bool:
        """Whether the state is corrected by what it already returns for the key."""
        return self.kind in ("gated_delta", "gated_delta_split", "kimi_delta")

    @property
    def conv_channels(self) -> int:
        """Channels of the convolution: queries, keys and values, or values only."""
        values = self.heads * self.value_dim
        return values if self.kind in ("mamba", "convolution") else values + 2 * self.key_heads * self.key_dim

    @property
    def state_size(self) -> int:
        """Elements of a layer's state for one sequence: the matrices, and the past inputs of the convolution."""
        return self.heads * self.key_dim * self.value_dim + max(self.conv_width - 1, 0) * self.conv_channels

    def __post_init__(self) -> None:
        one_of("recurrent: kind", self.kind, get_args(RecurrentKind))
        _check_numbers("recurrent: ", self)
        needed = {"key_dim": self.kind != "convolution", "conv_width": self.kind != "lightning"}
        for name, has in {**needed, "rank": self.kind == "mamba"}.items():
            if has is not (getattr(self, name) > 0):
                problem = "is missing; give it" if has else f"{getattr(self, name)} is given; leave it out"
                raise InputError(f"recurrent: {name}: {problem} for kind {self.kind!r}")
        if self.heads % self.key_heads or (self.kind in ("mamba", "convolution") and self.heads > 1):
            raise InputError(
                f"recurrent: heads: {self.heads} with {self.key_heads} key_heads; every key head serves equally many "
                "heads, and mamba and convolution have one"
            )
        if self.kind == "kimi_delta" and (self.key_heads, self.key_dim) != (self.heads, self.value_dim):
            raise InputError("recurrent: kimi_delta has queries and keys as many and as wide as values")


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder-only LLM by its hyperparameters. The first nine suffice for the models of the paper's Table 2.

    `num_kv_heads` and `head_dim` are computed, from `kv_heads` and `head_width` if those are given and from the other
    sizes if not. After `dataclasses.replace` they are computed again.

    Attributes
    ----------
    name
        Its name in every table of this compendium.
    hidden_size
        d, the embedding dimension of Table 2.
    num_layers
        Number of decoder blocks. Table 2 does not print it; it cancels in F.
    num_heads
        h, query heads; 0 if no layer has attention.
    intermediate_size
        d_FF of a dense layer; 0 if no layer has an FFN.
    gated_ffn
        True if the FFN has a third weight matrix, its gate (LLaMA). The paper's Table 1 has none.
    vocab_size
        Columns of the LM head.
    max_position
        The longest context the model was trained for, in tokens; longer ones are computed too, as the paper does.
    embedding_size
        Width of the token embedding; in OPT-350M it is below `hidden_size`, with a projection between the two.
    kv_heads
        Heads of K and V, each shared by equally many query heads; None for one per query head.
    head_width
        Width of one head of Q, K and V; None for d/h, which must be whole, or for what `latent` says.
    fused_qkv
        True if Q, K and V are one product with one weight matrix.
    fused_gate_up
        True if the gate and the first projection of the FFN are one product (of every expert, in an MoE layer).
    windows
        For each layer how many tokens a query sees at most, itself included, or None for all; () for all in each layer.
    chunks
        For each layer how many tokens a chunk has, or None; () for none in each layer. Attention stays within a chunk:
        a query sees the tokens from the last multiple of that number on (Llama 4). A layer has a window or chunks.
    experts
        The FFN of the layers that are a mixture of experts; None if all are dense.
    dense_layers
        Indices of the layers that have a dense FFN although `experts` is given; kept in ascending order.
    latent
        Multi-head latent attention in place of separate K and V heads.
    tied_embeddings
        True if the LM head is the matrix of the token embedding. It counts once as memory, and as a MatMul either way.
    mixers
        For each layer `attention`, `state`, `both` or `none`, as `Mixer` says; () for attention in each layer.
    recurrent
        The layers with a state; None if there are none.
    layers_without_ffn
        Indices of the layers that have no FFN; kept in ascending order.
    attention_gate
        True if W_Q is twice as wide, because it also computes a gate of attention's result (Qwen3-Next).
    indexer
        Sparse attention: each query attends to the tokens that an indexer selects.
    num_kv_heads
        Heads of K and V: `kv_heads`, or `num_heads`.
    head_dim
        Width of one head: `head_width`, or d/h, or with `latent` that of a query head.

    Raises
    ------
    InputError
        A value of the wrong type, or two that contradict each other; the message names them.

    >>> small = Decoder("mine", 96, 2, 6, 256, True, 1000, 2048, 96, kv_heads=2)
    >>> small.head_dim, small.num_kv_heads
    (16, 2)
    >>> from dataclasses import replace
    >>> replace(small, num_heads=12).head_dim
    8
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
    # Stored separately from `num_kv_heads` and `head_dim`, so that `replace` computes those again; models are compared
    # by the computed values.
    kv_heads: int | None = field(default=None, compare=False)
    head_width: int | None = field(default=None, compare=False)
    fused_qkv: bool = False
    fused_gate_up: bool = False
    windows: Windows = ()
    chunks: Windows = ()
    experts: Experts | None = None
    dense_layers: tuple[int, ...] = ()
    latent: Latent | None = None
    tied_embeddings: bool = False
    mixers: tuple[Mixer, ...] = ()
    recurrent: Recurrent | None = None
    layers_without_ffn: tuple[int, ...] = ()
    attention_gate: bool = False
    indexer: Indexer | None = None
    num_kv_heads: int = field(init=False)
    head_dim: int = field(init=False)

    @property
    def is_plain(self) -> bool:
        """Whether it is a model as in Table 2, which the first nine fields describe."""
        nine = {each.name: getattr(self, each.name) for each in fields(self)[:9]}
        return self == Decoder(**nine, tied_embeddings=self.tied_embeddings)

    @property
    def heads_share(self) -> bool:
        """Whether query heads share a K and V, so that `heads` of a question matters."""
        return self.num_kv_heads < self.num_heads or self.latent is not None

    def __post_init__(self) -> None:
        instance("name", self.name, str)
        _check_numbers(f"{self.name}: ", self)
        kinds = {"experts": Experts, "latent": Latent, "recurrent": Recurrent, "indexer": Indexer}
        for name, kind in kinds.items():
            if getattr(self, name) is not None:
                instance(f"{self.name}: {name}", getattr(self, name), kind)
        object.__setattr__(self, "num_kv_heads", self.num_heads if self.kv_heads is None else self.kv_heads)
        _check_mixers(self)
        object.__setattr__(self, "head_dim", _head_dim(self))
        _check_attention(self)
        _check_layers(self)


def _head_dim(model: Decoder) -> int:
    if not model.num_heads:
        return 0
    if model.head_width is not None:
        return model.head_width
    if model.latent is not None:
        return model.latent.head_dim
    if model.hidden_size % model.num_heads:
        raise InputError(
            f"{model.name}: num_heads: {model.num_heads} does not divide hidden_size {model.hidden_size}; "
            "every head must be equally wide"
        )
    return model.hidden_size // model.num_heads


def _check_numbers(owner: str, record: Experts | Latent | Indexer | Recurrent | Decoder) -> None:
    """Check what a dataclass was given, by the types of its fields: an `int` is >= 1, or >= 0 if 0 is its default."""
    for each in fields(record):
        if not each.init:
            continue
        name, value = f"{owner}{each.name}", getattr(record, each.name)
        if each.type == "bool":
            instance(name, value, bool)
        elif each.type == "int" or (each.type == "int | None" and value is not None):
            optional = each.default == 0 or (
                isinstance(record, Decoder)
                and each.name in ("num_heads", "intermediate_size")
                and type(value) is int
                and not value
            )
            check = whole_number if optional else positive_int
            object.__setattr__(record, each.name, check(name, value))


def _check_mixers(model: Decoder) -> None:
    """Check what mixes the tokens of each layer, and that sizes are 0 where no layer uses them."""
    mixers = sequence(f"{model.name}: mixers", model.mixers)
    for mixer in mixers:
        one_of(f"{model.name}: mixers", mixer, get_args(Mixer))
    if mixers and len(mixers) != model.num_layers:
        raise InputError(
            f"{model.name}: mixers: {len(mixers)} are given for {model.num_layers} layers; give one a layer, or ()"
        )
    bare = _check_indices(model, "layers_without_ffn")
    if (model.recurrent is None) is any(mixer in ("state", "both") for mixer in mixers):
        raise InputError(f"{model.name}: recurrent: give it if mixers has layers with a state, and only then")
    if empty := [layer for layer in bare if mixers and mixers[layer] == "none"]:
        raise InputError(f"{model.name}: layers_without_ffn: layer {empty[0]} has neither an FFN nor a mixer")
    # If every layer has attention alone, store (), so that such models compare equal.
    object.__setattr__(model, "mixers", tuple(mixers) if {*mixers} - {"attention"} else ())
    used = {
        "num_heads": not mixers or not {"attention", "both"}.isdisjoint(mixers),
        "intermediate_size": len(bare) < model.num_layers,
    }
    for name, needed in used.items():
        if needed:
            positive_int(f"{model.name}: {name}", getattr(model, name))
        elif getattr(model, name):
            raise InputError(f"{model.name}: {name}: {getattr(model, name)} in a model where no layer uses it; give 0")


def _check_indices(model: Decoder, name: str) -> tuple[int, ...]:
    """Check a field that lists layers, and store it in ascending order."""
    given = [
        whole_number(f"{model.name}: {name}", each) for each in sequence(f"{model.name}: {name}", getattr(model, name))
    ]
    for layer, times in Counter(given).items():
        if layer >= model.num_layers or times > 1:
            raise InputError(
                f"{model.name}: {name}: {layer} is not a layer or is listed twice; layers are 0 to "
                f"{model.num_layers - 1}"
            )
    object.__setattr__(model, name, tuple(sorted(given)))
    return tuple(sorted(given))


def _check_attention(model: Decoder) -> None:
    if model.indexer and (model.latent is None or model.latent.q_rank is None or model.windows or model.chunks):
        raise InputError(f"{model.name}: indexer: it needs latent attention with a q_rank, and no windows or chunks")
    if model.indexer and (beyond := [each for each in model.indexer.shared_layers if each >= model.num_layers]):
        raise InputError(
            f"{model.name}: indexer: shared_layers: {beyond[0]} is not a layer; there are {model.num_layers}"
        )
    if model.attention_gate and (model.latent or model.fused_qkv):
        raise InputError(f"{model.name}: attention_gate: True with latent or fused_qkv, which have no W_Q to widen")
    if not model.num_heads:
        return
    if model.num_heads % model.num_kv_heads:
        raise InputError(
            f"{model.name}: num_kv_heads: {model.num_kv_heads} does not divide num_heads {model.num_heads}; "
            "every K and V head serves equally many query heads"
        )
    if model.latent is None:
        return
    if model.head_dim != model.latent.head_dim:
        raise InputError(
            f"{model.name}: head_dim: {model.head_dim} is not nope_head_dim + rope_head_dim of latent; "
            "leave head_width out"
        )
    if model.num_kv_heads != model.num_heads:
        raise InputError(
            f"{model.name}: num_kv_heads: {model.num_kv_heads} with latent attention, where all heads "
            "share one latent; leave kv_heads out"
        )
    if model.fused_qkv:
        raise InputError(f"{model.name}: fused_qkv: True with latent attention, which has no W_Q, W_K, W_V to fuse")


def _check_layers(model: Decoder) -> None:
    if (model.fused_gate_up or (model.experts and model.experts.fused_gate_up)) and not model.gated_ffn:
        raise InputError(f"{model.name}: fused_gate_up: True without a gate; set gated_ffn")
    for name in ("windows", "chunks"):
        sizes = sequence(f"{model.name}: {name}", getattr(model, name))
        if sizes and len(sizes) != model.num_layers:
            raise InputError(
                f"{model.name}: {name}: {len(sizes)} are given for {model.num_layers} layers; "
                "give one a layer, None where there is none, or ()"
            )
        checked = [None if size is None else positive_int(f"{model.name}: {name}", size) for size in sizes]
        # If no layer has one, store (), so that such models compare equal.
        object.__setattr__(model, name, tuple(checked) if any(checked) else ())
    for layer, both in enumerate(zip(model.windows, model.chunks, strict=False)):
        if all(both):
            raise InputError(f"{model.name}: chunks: {both[1]} in layer {layer}, which has a window; give one of them")
    different = {size for size in model.chunks if size}
    if len(different) > 1:
        raise InputError(f"{model.name}: chunks: {sorted(different)} differ; all layers with chunks need equal ones")
    if dense := _check_indices(model, "dense_layers"):
        if model.experts is None:
            raise InputError(f"{model.name}: dense_layers: {[*dense]} in a model without experts; leave it out")
        if bare := {*dense} & {*model.layers_without_ffn}:
            raise InputError(f"{model.name}: dense_layers: {min(bare)} is in layers_without_ffn too")
