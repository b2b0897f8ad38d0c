# ruff: noqa: N803 (Triton writes its compile-time arguments in capitals)
"""Ternary weights at two bits each, and their product with 8-bit activations on a GPU, in Triton.

The arithmetic is BitNet b1.58's: weights in {-1, 0, 1}, each row of activations scaled so that its largest is 127 and
rounded, products added in 32-bit integers. Those sums are exact, so the kernel is held to the unpacked product bit for
bit. `w·x = (w + 1)·x - sum(x)` keeps the packed values unsigned.
"""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def pack(weight: torch.Tensor) -> torch.Tensor:
    """Four ternary weights to a byte: int8 (n, k) -> uint8 (n, k/4); k must be a multiple of 16.

    Byte j of a row holds columns j, j + k/4, j + 2k/4 and j + 3k/4, lowest bits first, each plus one. Four neighbouring
    bytes, shifted and masked, are then four neighbouring weights, in the lanes of one 32-bit word.
    """
    planes = (weight + 1).to(torch.uint8).unflatten(1, (4, -1))
    return planes[:, 0] | planes[:, 1] << 2 | planes[:, 2] << 4 | planes[:, 3] << 6


def unpack(packed: torch.Tensor) -> torch.Tensor:
    """The inverse of `pack`: uint8 (n, k/4) -> int8 (n, k)."""
    return torch.cat([(packed >> shift & 3).to(torch.int8) - 1 for shift in (0, 2, 4, 6)], dim=1)


def quantize(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of activations (m, k) as int8, with each row's scale (float32, m) and the sum of its int8 (int32, m)."""
    rows, columns = x.shape
    values = torch.empty(rows, columns, dtype=torch.int8, device=x.device)
    scales = torch.empty(rows, dtype=torch.float32, device=x.device)
    sums = torch.empty(rows, dtype=torch.int32, device=x.device)
    _quantize[(rows,)](x, values, scales, sums, columns, BLOCK=triton.next_power_of_2(columns), num_warps=16)
    return values, scales, sums


def product(
    quantized: tuple[torch.Tensor, torch.Tensor, torch.Tensor], packed: torch.Tensor, scale: float, dtype: torch.dtype
) -> torch.Tensor:
    """(m, k) activations from `quantize` times packed ternary weights (n, k/4) of one scale -> (m, n)."""
    values, scales, sums = quantized
    out = torch.empty(len(values), len(packed), dtype=dtype, device=values.device)
    words = packed.shape[1] // 4
    block = min(256, triton.next_power_of_2(words))
    rows = 4
    _product[(triton.cdiv(len(packed), rows), len(values))](
        *(values.view(torch.int32), scales, sums, packed.view(torch.int32), out, scale, len(packed), words),
        ROWS=rows,
        BLOCK=block,
        ASM=not INTERPRETED and torch.version.hip is None,
    )
    return out


@triton.jit
def _quantize(x, values, scales, sums, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    here = at < columns
    data = tl.load(x + row * columns + at, mask=here, other=0.0).to(tl.float32)
    largest = tl.maximum(tl.max(tl.abs(data), axis=0), 1e-30)
    rounded = tl.floor(data * (127.0 / largest) + 0.5)
    tl.store(values + row * columns + at, rounded.to(tl.int8), mask=here)
    tl.store(scales + row, largest / 127.0)
    tl.store(sums + row, tl.sum(rounded.to(tl.int32), axis=0))


@triton.jit
def _dot4(weights, values, total, ASM: tl.constexpr):
    """total + the dot product of four unsigned and four signed bytes, in each 32-bit lane."""
    if ASM:
        return tl.inline_asm_elementwise(
            "dp4a.u32.s32 $0, $1, $2, $3;",
            "=r,r,r,r",
            [weights, values, total],
            dtype=tl.int32,
            is_pure=True,
            pack=1,
        )
    for byte in tl.static_range(4):
        total += (weights >> 8 * byte & 0xFF) * (values << 24 - 8 * byte >> 24)
    return total


@triton.jit
def _product(
    values,
    scales,
    sums,
    packed,
    out,
    scale,
    num_rows,
    words,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    ASM: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(1)
    total = tl.zeros([ROWS, BLOCK], dtype=tl.int32)
    for start in range(0, words, BLOCK):
        at = start + tl.arange(0, BLOCK)
        here = at < words
        word = tl.load(
            packed + row[:, None] * words + at[None, :], mask=(row < num_rows)[:, None] & here[None, :], other=0
        )
        for plane in tl.static_range(4):
            x = tl.load(values + (token * 4 + plane) * words + at, mask=here, other=0)
            x, weights = tl.broadcast(x[None, :], word >> 2 * plane & 0x03030303)
            total = _dot4(weights, x, total, ASM)
    exact = tl.sum(total, axis=1) - tl.load(sums + token)
    result = exact.to(tl.float32) * (tl.load(scales + token) * scale)
    tl.store(out + token * num_rows + row, result.to(out.dtype.element_ty), mask=row < num_rows)
