# ruff: noqa: N803 (Triton writes its compile-time arguments in capitals)
"""The product of ternary weights, at two bits each, and 8-bit activations on a GPU, in Triton.

The arithmetic is that of BitNet b1.58: weights are in {-1, 0, 1}; each row of activations is scaled so that its largest
magnitude is 127, then rounded; products are summed in 32-bit integers. These sums are exact, so the tests compare the
kernel with the unpacked product bit for bit. The packed values are unsigned, w + 1 in {0, 1, 2}; the kernel uses
`w·x = (w + 1)·x - sum(x)`.
"""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether Triton runs the kernels in Python, on a CPU, as the tests do; it cannot run inline assembly there."""


def pack(weight: torch.Tensor) -> torch.Tensor:
    """Pack four ternary weights into a byte: int8 (n, k) -> uint8 (n, k/4); k must be a multiple of 16.

    Byte j of a row holds columns j, j + k/4, j + 2k/4 and j + 3k/4, lowest bits first, each plus one.
    """
    # One quarter of the columns per pair of bits: the kernel loads four neighbouring bytes as a 32-bit word, and one
    # shift and mask of that word gives the weights of four neighbouring columns, a byte each, as dp4a takes them.
    planes = (weight + 1).to(torch.uint8).unflatten(1, (4, -1))
    return planes[:, 0] | planes[:, 1] << 2 | planes[:, 2] << 4 | planes[:, 3] << 6


def unpack(packed: torch.Tensor) -> torch.Tensor:
    """The inverse of `pack`: uint8 (n, k/4) -> int8 (n, k)."""
    return torch.cat([(packed >> shift & 3).to(torch.int8) - 1 for shift in (0, 2, 4, 6)], dim=1)


def quantize(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Round activations (m, k) to 8 bits.

    Returns
    -------
    values, scales, sums
        int8 (m, k), float32 (m) and int32 (m). `x` is about `scales[:, None] * values`; `sums` are the rows' sums.
    """
    rows, columns = x.shape
    values = torch.empty(rows, columns, dtype=torch.int8, device=x.device)
    scales = torch.empty(rows, dtype=torch.float32, device=x.device)
    sums = torch.empty(rows, dtype=torch.int32, device=x.device)
    _quantize[(rows,)](x, values, scales, sums, columns, BLOCK=triton.next_power_of_2(columns), num_warps=16)
    return values, scales, sums


def product(
    quantized: tuple[torch.Tensor, torch.Tensor, torch.Tensor], packed: torch.Tensor, scale: float, dtype: torch.dtype
) -> torch.Tensor:
    """Activations from `quantize` (m, k) times packed ternary weights (n, k/4) that share one scale -> (m, n)."""
    values, scales, sums = quantized
    out = torch.empty(len(values), len(packed), dtype=dtype, device=values.device)
    # Both operands are read as 32-bit words: 16 weights, and 4 activations.
    words = packed.shape[1] // 4
    # A program computes 4 rows of the result for one token, so that each activation it loads serves 4 rows of weights;
    # it takes at most 256 words of a row at a time.
    rows = 4
    block = min(256, triton.next_power_of_2(words))
    grid = (triton.cdiv(len(packed), rows), len(values))
    _product[grid](
        values.view(torch.int32),
        scales,
        sums,
        packed.view(torch.int32),
        out,
        scale,
        len(packed),
        words,
        ROWS=rows,
        BLOCK=block,
        ASM=not INTERPRETED and torch.version.hip is None,  # dp4a exists on NVIDIA GPUs only
    )
    return out


@triton.jit
def _quantize(x, values, scales, sums, columns, BLOCK: tl.constexpr):
    # one program per row, which it holds whole: BLOCK is at least k
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    here = at < columns
    data = tl.load(x + row * columns + at, mask=here, other=0.0).to(tl.float32)
    # the lower bound keeps a row of zeros from being divided by zero
    largest = tl.maximum(tl.max(tl.abs(data), axis=0), 1e-30)
    rounded = tl.floor(data * (127.0 / largest) + 0.5)
    tl.store(values + row * columns + at, rounded.to(tl.int8), mask=here)
    tl.store(scales + row, largest / 127.0)
    tl.store(sums + row, tl.sum(rounded.to(tl.int32), axis=0))


@triton.jit
def _dot4(weights, values, total, ASM: tl.constexpr):
    """total + the dot product of four unsigned and four signed bytes, in each 32-bit lane."""
    # dp4a is the whole dot product in one instruction
    if ASM:
        return tl.inline_asm_elementwise(
            "dp4a.u32.s32 $0, $1, $2, $3;",
            "=r,r,r,r",
            [weights, values, total],
            dtype=tl.int32,
            is_pure=True,
            pack=1,
        )
    # a shift left, then an arithmetic shift right, extends the sign of the byte
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
    # a partial sum per row and lane; the lanes are added up once, after the loop
    total = tl.zeros([ROWS, BLOCK], dtype=tl.int32)
    for start in range(0, words, BLOCK):
        at = start + tl.arange(0, BLOCK)
        here = at < words
        word = tl.load(
            packed + row[:, None] * words + at[None, :], mask=(row < num_rows)[:, None] & here[None, :], other=0
        )
        # plane p holds the p-th quarter of the columns (see `pack`), so its activations start p quarters into the row
        for plane in tl.static_range(4):
            x = tl.load(values + (token * 4 + plane) * words + at, mask=here, other=0)
            x, weights = tl.broadcast(x[None, :], word >> 2 * plane & 0x03030303)
            total = _dot4(weights, x, total, ASM)
    # undo the + 1 of the packed weights, then apply the scale of the token and that of the weights
    exact = tl.sum(total, axis=1) - tl.load(sums + token)
    result = exact.to(tl.float32) * (tl.load(scales + token) * scale)
    tl.store(out + token * num_rows + row, result.to(out.dtype.element_ty), mask=row < num_rows)
