"""A projection in floating point, and its replacements with INT8, INT4 and ternary weights.

The law is tested with these replacements: each makes the projections faster and leaves attention as it is. They
use the kernels that PyTorch and ONNX Runtime ship, except where neither has one (`ternary.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from llmamdahl.errors import InputError

if TYPE_CHECKING:
    from onnx import ModelProto

GROUP = 64
"""Columns that share a scale in INT4; it divides every k of the paper's models."""

Prepared: TypeAlias = Any
"""Activations as a product takes them: a tensor, the three tensors of `ternary.quantize`, or ONNX Runtime's inputs."""


class Linear:
    """`x -> x W^T` by PyTorch's own product, weights (n, k) and activations (m, k) of one floating-point type.

    The classes below compute the same product from fewer bits.

    Attributes
    ----------
    dtype
        Type of the activations and of the result.
    bytes
        Bytes of the weights and their scales, which one product must read.
    """

    dtype: torch.dtype
    bytes: int

    def __init__(self, weight: Tensor):
        self.weight = weight
        self.dtype = weight.dtype
        self.bytes = weight.nbytes

    def prepare(self, x: Tensor) -> Prepared:
        """Convert activations for `__call__`; projections that share an input share the result."""
        return x

    def __call__(self, prepared: Prepared) -> Tensor:
        """The product (m, n) of prepared activations."""
        return functional.linear(prepared, self.weight)

    def rounded(self, weight: Tensor) -> Tensor:
        """Rows of the original weight, rounded to the values that the product uses, in float64."""
        return weight.double()


class Int8(Linear):
    """INT8 weights with a scale per row; activations stay in floating point.

    On a CPU the product is `torch._weight_int8pack_mm`. On CUDA that kernel gives a whole row to one thread and reads
    uncoalesced (pytorch pull request 190529); there `torch.compile` makes a kernel from `reduction`, which keeps up
    with the memory bus.
    """

    def __init__(self, weight: Tensor):
        self.weight, scale = self._quantized(weight)
        self.scale = scale.to(torch.bfloat16)
        self.dtype = weight.dtype
        self.bytes = self.weight.nbytes + self.scale.nbytes

    @staticmethod
    def _quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
        # the scale is rounded to BF16, the type in which the kernel takes it, before the weights are divided by it
        scale = (weight.abs().amax(dim=1).float() / 127).to(torch.bfloat16).float()
        return (weight / scale[:, None]).round_().clamp_(-127, 127).to(torch.int8), scale

    def prepare(self, x: Tensor) -> Tensor:
        return x if x.is_cuda else x.to(torch.bfloat16)  # the CPU kernel is slow in every other type

    def __call__(self, prepared: Tensor) -> Tensor:
        if prepared.is_cuda:
            return _compiled_reduction()(prepared, self.weight, self.scale)
        return torch._weight_int8pack_mm(prepared, self.weight, self.scale).to(self.dtype)

    def rounded(self, weight: Tensor) -> Tensor:
        values, scale = self._quantized(weight)
        return values.double() * scale.double()[:, None]


def reduction(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Activations (m, k) times INT8 weights (n, k) with a scale per row, written as a sum; compiled on CUDA."""
    return ((x[:, None, :].float() * weight.float()).sum(dim=2) * scale.float()).to(x.dtype)


@cache
def _compiled_reduction() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    compiled: Callable[[Tensor, Tensor, Tensor], Tensor] = torch.compile(reduction, dynamic=True)
    return compiled


class Int4(Linear):
    """INT4 weights with a scale per 64 columns of a row; activations in BF16 (PyTorch's `_weight_int4pack_mm`)."""

    def __init__(self, weight: Tensor):
        values, scale = self._quantized(weight)
        self.dtype = weight.dtype
        # the kernel reads (k / GROUP, n, 2): a scale and a zero point, which is 0 as the weights are symmetric
        zero = torch.zeros_like(scale)
        self.scales = torch.stack([scale, zero], dim=2).transpose(0, 1).to(torch.bfloat16).contiguous()
        if weight.is_cuda:
            # two weights per byte, then PyTorch's own layout for tensor cores: 4 or 8 tiles of 16 columns at a time
            pairs = (values[:, ::2] << 4 | values[:, 1::2]).to(torch.uint8)
            self.weight = torch._convert_weight_to_int4pack(pairs, 8 if values.shape[1] % 128 == 0 else 4)
        else:
            self.weight = torch._convert_weight_to_int4pack_for_cpu(values, 1)
        self.bytes = self.weight.nbytes + self.scales.nbytes

    @staticmethod
    def _quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
        if weight.shape[1] % GROUP:
            raise InputError(f"k: {weight.shape[1]} is not a multiple of {GROUP}, the group of INT4 scales")
        groups = weight.unflatten(1, (-1, GROUP))
        scale = (groups.abs().amax(dim=2).float() / 7).to(torch.bfloat16).float()
        # the kernels store -8 ... 7 as 0 ... 15
        return ((groups / scale[:, :, None]).round_().clamp_(-8, 7) + 8).to(torch.int32).flatten(1), scale

    def prepare(self, x: Tensor) -> Tensor:
        return x.to(torch.bfloat16)

    def __call__(self, prepared: Tensor) -> Tensor:
        multiply = torch._weight_int4pack_mm if prepared.is_cuda else torch._weight_int4pack_mm_for_cpu
        return multiply(prepared, self.weight, GROUP, self.scales).to(self.dtype)

    def rounded(self, weight: Tensor) -> Tensor:
        values, scale = self._quantized(weight)
        return ((values.double() - 8).unflatten(1, (-1, GROUP)) * scale.double()[:, :, None]).flatten(1)


class Ternary(Linear):
    """BitNet b1.58: weights in {-1, 0, 1} times their mean magnitude, at two bits each, with 8-bit activations.

    The product is a Triton kernel of this project on a GPU, and ONNX Runtime's on a CPU.

    Parameters
    ----------
    weight
        (n, k), k a multiple of 32.
    scale
        Factor of the ternary values; by default the mean magnitude of `weight`.
    """

    def __init__(self, weight: Tensor, scale: float | None = None):
        if weight.shape[1] % 32:
            raise InputError(f"k: {weight.shape[1]} is not a multiple of 32, which packed ternary weights need")
        self.scale = float(weight.abs().float().mean()) if scale is None else scale
        make = TritonProduct if weight.is_cuda else OnnxProduct
        self.product = make(self._values(weight), self.scale, weight.dtype)
        self.dtype = weight.dtype
        self.bytes = self.product.bytes

    def _values(self, weight: Tensor) -> Tensor:
        return (weight / self.scale).round_().clamp_(-1, 1).to(torch.int8)

    def prepare(self, x: Tensor) -> Prepared:
        return self.product.prepare(x)

    def __call__(self, prepared: Prepared) -> Tensor:
        return self.product(prepared)

    def rounded(self, weight: Tensor) -> Tensor:
        return self._values(weight).double() * self.scale


class TritonProduct:
    """The ternary product on a GPU, by the kernels of `ternary.py`; int8 `values` (n, k) are packed once."""

    def __init__(self, values: Tensor, scale: float, dtype: torch.dtype):
        from llmamdahl.device import ternary  # needs Triton, which comes with PyTorch's CUDA builds

        self.kernels = ternary
        self.packed = ternary.pack(values)
        self.scale = scale
        self.dtype = dtype
        self.bytes = self.packed.nbytes

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.kernels.quantize(x)

    def __call__(self, prepared: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return self.kernels.product(prepared, self.packed, self.scale, self.dtype)


class OnnxProduct:
    """The ternary product on a CPU, by ONNX Runtime's `MatMulNBits` at two bits.

    It has one scale per block of up to 128 activations, where BitNet has one per token.
    """

    def __init__(self, values: Tensor, scale: float, dtype: torch.dtype):
        import onnxruntime

        weights, scales = _packed_blocks(values, scale)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        model = _matmul_nbits(weights, scales).SerializeToString()
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.dtype = dtype
        self.bytes = weights.nbytes + scales.nbytes

    def prepare(self, x: Tensor) -> dict[str, np.ndarray]:
        return {"x": x.float().numpy()}

    def __call__(self, prepared: dict[str, np.ndarray]) -> Tensor:
        return torch.from_numpy(self.session.run(None, prepared)[0]).to(self.dtype)


def _packed_blocks(values: Tensor, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Ternary int8 (n, k) as `MatMulNBits` takes them: uint8 (n, k / block, block / 4), float32 scales (n, k / block).

    >>> weights, scales = _packed_blocks(torch.tensor([[-1, 0, 1, 1] + [0] * 28]), 0.5)
    >>> weights.shape, f"{weights[0, 0, 0]:08b}", f"{weights[0, 0, 1]:08b}", scales.tolist()
    ((1, 1, 8), '11111001', '10101010', [[0.5]])
    """
    rows, columns = values.shape
    # the largest block that divides k: fewer scales to read, for weights and for activations
    block = next(size for size in (128, 64, 32) if columns % size == 0)
    # two bits hold 0 ... 3 and the operator subtracts its default zero point, 2; the first weight is in the lowest bits
    fours = (values + 2).to(torch.uint8).unflatten(1, (-1, 4))
    packed = fours[:, :, 0] | fours[:, :, 1] << 2 | fours[:, :, 2] << 4 | fours[:, :, 3] << 6
    weights = packed.reshape(rows, columns // block, block // 4).numpy()
    return weights, np.full((rows, columns // block), scale, dtype=np.float32)


def _matmul_nbits(weights: np.ndarray, scales: np.ndarray) -> ModelProto:
    """An ONNX model of one `MatMulNBits` (com.microsoft): x (m, k) float32 -> y (m, n) float32."""
    from onnx import TensorProto, helper, numpy_helper

    rows, blocks, quarter = weights.shape
    block = 4 * quarter
    columns = blocks * block
    node = helper.make_node(
        "MatMulNBits",
        inputs=["x", "weight", "scale"],
        outputs=["y"],
        domain="com.microsoft",
        K=columns,
        N=rows,
        bits=2,
        block_size=block,
        accuracy_level=4,  # activations in INT8; the other levels multiply in floating point
    )
    graph = helper.make_graph(
        [node],
        "ternary",
        inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, columns])],
        outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, rows])],
        initializer=[numpy_helper.from_array(weights, "weight"), numpy_helper.from_array(scales, "scale")],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


REPLACEMENTS = {"int8": Int8, "int4": Int4, "ternary": Ternary}


class Reference(Linear):
    """The product of a `Linear` in float64, with weights rounded as it rounds them."""

    def __init__(self, linear: Linear, weight: Tensor):
        self.linear = linear
        self.weight = weight

    def __call__(self, prepared: Tensor) -> Tensor:
        # a few rows at a time: float64 copies of 0.5 GB, where the whole weight might not fit
        step = max(1, 2**26 // self.weight.shape[1])
        rows = self.weight.split(step)
        return torch.cat([prepared.double() @ self.linear.rounded(part).T for part in rows], dim=1)
