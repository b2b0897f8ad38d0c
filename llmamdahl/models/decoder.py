"""A decoder-only LLM by its hyperparameters: what decides which MatMuls it computes, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

from llmamdahl.errors import InputError, instance, positive_int, sequence, whole_number

Windows = tuple[int | None, ...]
"""For each layer a number of tokens, or None for no limit."""


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
    """

    num_experts: int
    experts_per_token: int
    intermediate_size: int
    shared_intermediate_size: int = 0
    shared_gate: bool = False
    fused_gate_up: bool = False

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
        h, query heads.
    intermediate_size
        d_FF of a dense layer.
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
    num_kv_heads: int = field(init=False)
    head_dim: int = field(init=False)

    @property
    def is_plain(self) -> bool:
        """Whether it is a model as in Table 2, which the first nine fields describe."""
        nine = {each.name: getattr(self, each.name) for each in fields(self)[:9]}
        return self == Decoder(**nine, tied_embeddings=self.tied_embeddings)

    def __post_init__(self) -> None:
        instance("name", self.name, str)
        _check_numbers(f"{self.name}: ", self)
        for name, kind in (("experts", Experts), ("latent", Latent)):
            if getattr(self, name) is not None:
                instance(f"{self.name}: {name}", getattr(self, name), kind)
        object.__setattr__(self, "num_kv_heads", self.num_heads if self.kv_heads is None else self.kv_heads)
        object.__setattr__(self, "head_dim", _head_dim(self))
        _check_attention(self)
        _check_layers(self)


def _head_dim(model: Decoder) -> int:
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


def _check_numbers(owner: str, record: Experts | Latent | Decoder) -> None:
    """Check what a dataclass was given, by the types of its fields: an `int` is >= 1, or >= 0 if 0 is its default."""
    for each in fields(record):
        if not each.init:
            continue
        name, value = f"{owner}{each.name}", getattr(record, each.name)
        if each.type == "bool":
            instance(name, value, bool)
        elif each.type == "int" or (each.type == "int | None" and value is not None):
            check = whole_number if each.default == 0 else positive_int
            object.__setattr__(record, each.name, check(name, value))


def _check_attention(model: Decoder) -> None:
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
    dense = [
        whole_number(f"{model.name}: dense_layers", layer)
        for layer in sequence(f"{model.name}: dense_layers", model.dense_layers)
    ]
    if dense and model.experts is None:
        raise InputError(f"{model.name}: dense_layers: {dense} in a model without experts; leave it out")
    for layer, times in Counter(dense).items():
        if layer >= model.num_layers or times > 1:
            raise InputError(
                f"{model.name}: dense_layers: {layer} is not a layer or is listed twice; layers are 0 to "
                f"{model.num_layers - 1}"
            )
    object.__setattr__(model, "dense_layers", tuple(sorted(dense)))
