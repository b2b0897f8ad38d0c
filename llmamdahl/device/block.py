"""One decode step of one decoder block in PyTorch: what is timed, split as the paper splits it."""

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
    """A decoder block's arithmetic, its weights and KV cache given with each call.

    Activations are (batch, d); K and V of the cache (batch, heads, context length, head_dim), whose last position the
    new token takes.
    """

    def __init__(self, model: Decoder, context_length: int, batch: int, dtype: torch.dtype, device: str):
        self.model, self.batch = model, batch
        self.family = next(row["family"] for row in table2_true() if row["name"] == model.name.removesuffix(PRINTED))
        made = {"dtype": dtype, "device": device}
        self.gain = torch.ones(model.hidden_size, **made)
        half = torch.arange(model.head_dim // 2, dtype=torch.float64)
        angles = (context_length - 1) * 10000.0 ** (-half / len(half))
        self.cos, self.sin = (turn(angles).repeat(2).to(**made) for turn in (torch.cos, torch.sin))

    def norm(self, x: Tensor) -> Tensor:
        if self.family == "llama":
            return functional.rms_norm(x, self.gain.shape, self.gain)
        return functional.layer_norm(x, self.gain.shape, self.gain)

    def rotated(self, x: Tensor) -> Tensor:
        """Rotary position embedding of LLaMA's queries and keys, (batch, d)."""
        heads = x.unflatten(1, (-1, self.model.head_dim))
        first, second = heads.chunk(2, dim=2)
        return (heads * self.cos + torch.cat([-second, first], dim=2) * self.sin).flatten(1)

    def activation(self, up: Tensor, gate: Tensor | None) -> Tensor:
        if gate is not None:
            return functional.silu(gate) * up
        return functional.relu(up) if self.family == "opt" else functional.gelu(up, approximate="tanh")

    def attention(self, form: str, q: Tensor, k: Tensor, v: Tensor, cache: Cache) -> Tensor:
        """Over the cache with the new k and v in it: two MatMuls a head and a softmax, or PyTorch's fused one."""
        query, key, value = (x.view(self.batch, self.model.num_heads, 1, -1) for x in (q, k, v))
        cache[0][:, :, -1:] = key
        cache[1][:, :, -1:] = value
        if form == "fused":
            return functional.scaled_dot_product_attention(query, *cache).flatten(1)
        scores = (query @ cache[0].transpose(2, 3)) * self.model.head_dim**-0.5
        return (scores.softmax(dim=3) @ cache[1]).flatten(1)

    def __call__(self, x: Tensor, linears: Mapping[str, Linear], cache: Cache, form: str) -> Tensor:
        q, k, v = apply(linears, ("W_Q", "W_K", "W_V"), self.norm(x))
        if self.family == "llama":
            q, k = self.rotated(q), self.rotated(k)
        x = x + apply(linears, ("W_X",), self.attention(form, q, k, v, cache))[0]
        *gate, up = apply(linears, [name for name in ("W_G", "W_I") if name in linears], self.norm(x))
        return x + apply(linears, ("W_O",), self.activation(up, *gate or [None]))[0]

    def projections(self, x: Tensor, wide: Tensor, linears: Mapping[str, Linear]) -> list[Tensor]:
        """Every projection, W_O on `wide`, (batch, d_FF), the others on `x`; inputs are shared as in the block."""
        inputs = [name for name in ("W_G", "W_I") if name in linears]
        return [
            *apply(linears, ("W_Q", "W_K", "W_V"), x),
            *apply(linears, ("W_X",), x),
            *apply(linears, inputs, x),
            *apply(linears, ("W_O",), wide),
        ]

    def other(self, x: Tensor, wide: Tensor) -> Tensor:
        """What is neither projection nor attention, as often as in the block."""
        hidden = self.norm(x)
        if self.family == "llama":
            self.rotated(x)
            hidden = self.rotated(hidden)
        x = x + hidden
        self.activation(wide, wide if self.model.gated_ffn else None)
        return x + self.norm(x)


def apply(linears: Mapping[str, Linear], names: Sequence[str], x: Tensor) -> list[Tensor]:
    """These projections of one input, which is prepared once."""
    prepared = linears[names[0]].prepare(x)
    return [linears[name](prepared) for name in names]
