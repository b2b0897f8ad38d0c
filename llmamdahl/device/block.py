"""One decode step of one decoder block in PyTorch, split into the parts that the paper distinguishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from llmamdahl.device.lowbit import Linear
from llmamdahl.models import PRINTED, Decoder, table2_true

Cache = tuple[Tensor, Tensor]
"""K and V, each (batch, heads, context length, head_dim)."""


class Block:
    """The arithmetic of a GPT-2, OPT or LLaMA block; weights and KV cache are passed with each call.

    Activations are (batch, d). The new token's K and V are written to the last position of the cache.

    Parameters
    ----------
    context_length
        Tokens attended to, the new one included; it also sets the angles of LLaMA's rotary embedding.
    device
        Where PyTorch computes: `cuda` or `cpu`.
    """

    def __init__(self, model: Decoder, context_length: int, batch: int, dtype: torch.dtype, device: str):
        self.model = model
        self.batch = batch
        self.family = next(row["family"] for row in table2_true() if row["name"] == model.name.removesuffix(PRINTED))
        self.ffn_inputs = ("W_G", "W_I") if model.gated_ffn else ("W_I",)
        self.gain = torch.ones(model.hidden_size, dtype=dtype, device=device)
        # the position's angles are computed in float64 and rounded once; both halves of a head use the same ones
        half = torch.arange(model.head_dim // 2, dtype=torch.float64)
        angles = (context_length - 1) * 10000.0 ** (-half / len(half))
        self.cos = torch.cos(angles).repeat(2).to(device, dtype)
        self.sin = torch.sin(angles).repeat(2).to(device, dtype)

    def norm(self, x: Tensor) -> Tensor:
        """RMSNorm in LLaMA, LayerNorm in GPT-2 and OPT, with gain 1 and no bias."""
        if self.family == "llama":
            return functional.rms_norm(x, self.gain.shape, self.gain)
        return functional.layer_norm(x, self.gain.shape, self.gain)

    def rotated(self, x: Tensor) -> Tensor:
        """Rotary position embedding of LLaMA's queries or keys, (batch, d)."""
        heads = x.unflatten(1, (-1, self.model.head_dim))
        first, second = heads.chunk(2, dim=2)
        return (heads * self.cos + torch.cat([-second, first], dim=2) * self.sin).flatten(1)

    def activation(self, up: Tensor, gate: Tensor | None) -> Tensor:
        """SwiGLU in LLaMA, ReLU in OPT, GELU (tanh form) in GPT-2; tensors are (batch, d_FF)."""
        if gate is not None:
            return functional.silu(gate) * up
        return functional.relu(up) if self.family == "opt" else functional.gelu(up, approximate="tanh")

    def attention(self, form: str, q: Tensor, k: Tensor, v: Tensor, cache: Cache) -> Tensor:
        """Attention over the cache, after the new k and v are written to it.

        With `form` `"matmul"` each head is two MatMuls with a softmax between them, as in the paper; with `"fused"` it
        is PyTorch's `scaled_dot_product_attention`.
        """
        query, key, value = (x.view(self.batch, self.model.num_heads, 1, -1) for x in (q, k, v))
        cache[0][:, :, -1:] = key
        cache[1][:, :, -1:] = value
        if form == "fused":
            return functional.scaled_dot_product_attention(query, *cache).flatten(1)
        scores = (query @ cache[0].transpose(2, 3)) * self.model.head_dim**-0.5
        return (scores.softmax(dim=3) @ cache[1]).flatten(1)

    def __call__(self, x: Tensor, linears: Mapping[str, Linear], cache: Cache, form: str) -> Tensor:
        """The whole block: attention and FFN, each with its norm before it and its residual after it."""
        q, k, v = apply(linears, ("W_Q", "W_K", "W_V"), self.norm(x))
        if self.family == "llama":
            q, k = self.rotated(q), self.rotated(k)
        x = x + apply(linears, ("W_X",), self.attention(form, q, k, v, cache))[0]
        *gate, up = apply(linears, self.ffn_inputs, self.norm(x))
        return x + apply(linears, ("W_O",), self.activation(up, gate[0] if gate else None))[0]

    def projections(self, x: Tensor, wide: Tensor, linears: Mapping[str, Linear]) -> list[Tensor]:
        """Every projection: W_O of `wide`, (batch, d_FF), the others of `x`; they share inputs as in the block."""
        return [
            *apply(linears, ("W_Q", "W_K", "W_V"), x),
            *apply(linears, ("W_X",), x),
            *apply(linears, self.ffn_inputs, x),
            *apply(linears, ("W_O",), wide),
        ]

    def other(self, x: Tensor, wide: Tensor) -> Tensor:
        """All operations that are neither projection nor attention, as many times as the block has them."""
        hidden = self.norm(x)
        if self.family == "llama":
            self.rotated(x)
            hidden = self.rotated(hidden)
        x = x + hidden
        self.activation(wide, wide if self.model.gated_ffn else None)
        return x + self.norm(x)


def apply(linears: Mapping[str, Linear], names: Sequence[str], x: Tensor) -> list[Tensor]:
    """Several projections of one input, which is prepared once."""
    prepared = linears[names[0]].prepare(x)
    return [linears[name](prepared) for name in names]
