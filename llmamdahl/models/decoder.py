"""A decoder-only LLM by its hyperparameters: what decides which MatMuls it computes, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import Any

from llmamdahl.errors import InputError, instance, positive_int, sequence, whole_number

Windows = tuple[int | None, ...]
"""For each layer how many tokens a query sees at most, or None for all."""


class _FollowsFrom(int):
    """A size that was not given but follows from others: it follows from the new ones after `dataclasses.replace`.

    Handed to another Decoder as it is, it counts as not given there too.
    """


def _check_numbers(owner: str, record: Any, may_be_zero: str = "") -> None:
    """Hold every `int` field of a dataclass to a whole number >= 1, or >= 0, and every `bool` field to a bool."""
    for field in fields(record):
        name, value = f"{owner}{field.name}", getattr(record, field.name)
        if field.type == "int":
            number = whole_number(name, value) if field.name == may_be_zero else positive_int(name, value)
            object.__setattr__(record, field.name, value if isinstance(value, _FollowsFrom) else number)
        elif field.type == "bool":
            instance(name, value, bool)


@dataclass(frozen=True, slots=True)
class Experts:
    """The FFN of a mixture-of-experts layer: a router sends each token to a few of many small FFNs.

    Attributes
    ----------
    num_experts
        E, routed experts of a layer.
    experts_per_token
        How many of them each token visits; at most `num_experts`.
    intermediate_size
        d_FF of one routed expert.
    shared_intermediate_size
        d_FF of what every token visits besides, all shared experts side by side (DeepSeek); 0 for none.
    shared_gate
        True if a d x 1 product weighs the shared experts' output (Qwen2-MoE).
    """

    num_experts: int
    experts_per_token: int
    intermediate_size: int
    shared_intermediate_size: int = 0
    shared_gate: bool = False

    def __post_init__(self) -> None:
        _check_numbers("experts: ", self, may_be_zero="shared_intermediate_size")
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
        Width of the queries' latent; None if queries are one projection.
    nope_head_dim, rope_head_dim
        Width of a query or key head without and with a rotary position; the key's rotary share is one for all heads.
    v_head_dim
        Width of a value head.
    """

    kv_rank: int
    q_rank: int | None
    nope_head_dim: int
    rope_head_dim: int
    v_head_dim: int

    def __post_init__(self) -> None:
        _check_numbers("latent: ", self)
        if self.q_rank is not None:
            object.__setattr__(self, "q_rank", positive_int("latent: q_rank", self.q_rank))


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder-only LLM by its hyperparameters. The first nine suffice for the models of the paper's Table 2.

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
        The longest context the model was trained for; longer ones are computed all the same, as the paper does.
    embedding_size
        Width of the token embedding; OPT-350M's is narrower than its `hidden_size`, with a projection between.
    num_kv_heads
        Heads of K and V, each shared by num_heads/num_kv_heads query heads; `num_heads` unless given. Must divide it.
    head_dim
        Width of one head of Q, K and V; d/h unless given, and then h must divide d. With `latent`: of a query head.
    fused_qkv
        True if Q, K and V are one product with one weight matrix.
    fused_gate_up
        True if the gate and the FFN's first projection are one product (of every expert, in an MoE layer).
    windows
        For each layer how many tokens a query sees at most, itself included, or None for all; () for all everywhere.
    experts
        The FFN of the layers that are a mixture of experts; None if all are dense.
    dense_layers
        Indices of the layers whose FFN is dense all the same; kept in ascending order.
    latent
        Multi-head latent attention in place of separate K and V heads.
    tied_embeddings
        True if the LM head is the token embedding's matrix. It counts once as memory, and as a MatMul either way.

    Raises
    ------
    InputError
        Any of these that is of the wrong kind or contradicts another; the message names it.

    >>> small = Decoder("mine", 96, 2, 6, 256, True, 1000, 2048, 96, num_kv_heads=2)
    >>> small.head_dim, small.num_kv_heads
    (16, 2)
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
    num_kv_heads: int = _FollowsFrom()
    head_dim: int = _FollowsFrom()
    fused_qkv: bool = False
    fused_gate_up: bool = False
    windows: Windows = ()
    experts: Experts | None = None
    dense_layers: tuple[int, ...] = ()
    latent: Latent | None = None
    tied_embeddings: bool = False

    def __post_init__(self) -> None:
        instance("name", self.name, str)
        self._fill_in()
        _check_numbers(f"{self.name}: ", self)
        self._check_attention()
        self._check_layers()

    @property
    def is_plain(self) -> bool:
        """Whether it is a model as in Table 2, which the first nine fields describe."""
        nine = {field.name: getattr(self, field.name) for field in fields(self)[:9]}
        return self == Decoder(**nine, tied_embeddings=self.tied_embeddings)

    def _fill_in(self) -> None:
        """Sizes that were not given; the sizes they follow from may still be wrong, and are checked next."""
        for name in ("hidden_size", "num_heads"):
            positive_int(f"{self.name}: {name}", getattr(self, name))
        if isinstance(self.num_kv_heads, _FollowsFrom):
            object.__setattr__(self, "num_kv_heads", _FollowsFrom(self.num_heads))
        if not isinstance(self.head_dim, _FollowsFrom):
            return
        if isinstance(self.latent, Latent):
            width = self.latent.nope_head_dim + self.latent.rope_head_dim
        elif self.hidden_size % self.num_heads:
            raise InputError(
                f"{self.name}: num_heads: {self.num_heads} does not divide hidden_size {self.hidden_size}; "
                "every head must be equally wide"
            )
        else:
            width = self.hidden_size // self.num_heads
        object.__setattr__(self, "head_dim", _FollowsFrom(width))

    def _check_attention(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise InputError(
                f"{self.name}: num_kv_heads: {self.num_kv_heads} does not divide num_heads {self.num_heads}; "
                "every K and V head serves equally many query heads"
            )
        if self.latent is None:
            return
        instance(f"{self.name}: latent", self.latent, Latent)
        if self.head_dim != self.latent.nope_head_dim + self.latent.rope_head_dim:
            raise InputError(
                f"{self.name}: head_dim: {self.head_dim} is not nope_head_dim + rope_head_dim of latent; leave it out"
            )
        if self.num_kv_heads != self.num_heads:
            raise InputError(
                f"{self.name}: num_kv_heads: {self.num_kv_heads} with latent attention, whose heads share one latent; "
                "leave it out"
            )
        if self.fused_qkv:
            raise InputError(f"{self.name}: fused_qkv: True with latent attention, which has no W_Q, W_K, W_V to fuse")

    def _check_layers(self) -> None:
        if self.fused_gate_up and not self.gated_ffn:
            raise InputError(f"{self.name}: fused_gate_up: True without a gate; set gated_ffn")
        windows = sequence(f"{self.name}: windows", self.windows)
        if windows and len(windows) != self.num_layers:
            raise InputError(
                f"{self.name}: windows: {len(windows)} are given for {self.num_layers} layers; "
                "give one a layer, None where there is none, or ()"
            )
        checked = [None if window is None else positive_int(f"{self.name}: windows", window) for window in windows]
        object.__setattr__(self, "windows", tuple(checked) if any(checked) else ())
        dense = [
            whole_number(f"{self.name}: dense_layers", layer)
            for layer in sequence(f"{self.name}: dense_layers", self.dense_layers)
        ]
        if self.experts is not None:
            instance(f"{self.name}: experts", self.experts, Experts)
        elif dense:
            raise InputError(f"{self.name}: dense_layers: {dense} in a model without experts; leave it out")
        for layer, times in Counter(dense).items():
            if layer >= self.num_layers or times > 1:
                raise InputError(
                    f"{self.name}: dense_layers: {layer} is no layer or listed twice; layers are 0 to "
                    f"{self.num_layers - 1}"
                )
        object.__setattr__(self, "dense_layers", tuple(sorted(dense)))
