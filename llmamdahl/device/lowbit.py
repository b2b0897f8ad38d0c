"""A projection as it is, 16 or 32 bits a weight, and what takes its place to put the law to the test: fewer bits."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from llmamdahl.errors import InputError

GROUP = 64
"""Columns that share a scale in INT4; it divides every k of the paper's models."""


class Linear:
    """`x -> x W^T` as it is: weights (n, k) and activations (m, k) of one floating-point type, PyTorch's own product.

    The classes below are the same with fewer bits. `bytes` is what one product must read of the weights.
    """

    def __init__(self, weight: Tensor):
        self.weight, self.dtype, self.bytes = weight, weight.dtype, weight.nbytes

    def prepare(self, x: Tensor) -> Any:
        """Activations as `__call__` takes them; done once for the projections that share an input."""
        return x

    def __call__(self, prepared: Any) -> Tensor:
        return functional.linear(prepared, self.weight)

    def rounded(self, weight: Tensor) -> Tensor:
        """Rows of the weight it was made from, as its product sees them: rounded to its bits, in float64."""
        return weight.double()


class Int8(Linear):
    """INT8 weight-only, a scale a row: `torch._weight_int8pack_mm` on a CPU, a compiled reduction on a GPU.

    On CUDA, PyTorch's own kernel gives a whole row to one thread and reads uncoalesced (pytorch pull request 190529),
    while `torch.compile` turns the same sum into a kernel that a memory bus can keep up with.
    """

    def __init__(self, weight: Tensor):
        self.weight, scale = self._quantized(weight)
        self.scale, self.dtype = scale.to(torch.bfloat16), weight.dtype
        self.bytes = self.weight.nbytes + self.scale.nbytes

    @staticmethod
    def _quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
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
    """(m, k) activations times int8 weights (n, k), each row with its scale, as one sum: what Int8 compiles on CUDA."""
    return ((x[:, None, :].float() * weight.float()).sum(dim=2) * scale.float()).to(x.dtype)


@cache
def _compiled_reduction() -> Any:
    return torch.compile(reduction, dynamic=True)


class Int4(Linear):
    """INT4 weight-only, a scale for each 64 columns of a row: PyTorch's `_weight_int4pack_mm`, activations in BF16."""

    def __init__(self, weight: Tensor):
        values, scale = self._quantized(weight)
        self.dtype = weight.dtype
        self.scales = torch.stack([scale, torch.zeros_like(scale)], dim=2).transpose(0, 1).to(torch.bfloat16)
        self.scales = self.scales.contiguous()
        if weight.is_cuda:
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
    """Weights in {-1, 0, 1} times their mean magnitude, two bits each, with 8-bit activations: BitNet b1.58.

    On a GPU it is our Triton kernel (`ternary.py`), on a CPU ONNX Runtime's `MatMulNBits`, which gives each block of up
    to 128 activations a scale of its own.

    Parameters
    ----------
    weight
        (n, k), k a multiple of 32.
    scale
        What the ternary values are multiplied by; without it, the mean magnitude of `weight`.
    """

    def __init__(self, weight: Tensor, scale: float | None = None):
        if weight.shape[1] % 32:
            raise InputError(f"k: {weight.shape[1]} is not a multiple of 32, which packed ternary weights need")
        self.scale = float(weight.abs().float().mean()) if scale is None else scale
        self.dtype = weight.dtype
        values = self._values(weight)
        if weight.is_cuda:
            from llmamdahl.device import ternary

            self.weight = ternary.pack(values)
            self.bytes = self.weight.nbytes
        else:
            self.session, self.bytes = _onnx_session(values, self.scale)

    def _values(self, weight: Tensor) -> Tensor:
        return (weight / self.scale).round_().clamp_(-1, 1).to(torch.int8)

    def prepare(self, x: Tensor) -> Any:
        if not x.is_cuda:
            return {"x": x.float().numpy()}
        from llmamdahl.device import ternary

        return ternary.quantize(x)

    def __call__(self, prepared: Any) -> Tensor:
        if isinstance(prepared, dict):
            return torch.from_numpy(self.session.run(None, prepared)[0]).to(self.dtype)
        from llmamdahl.device import ternary

        return ternary.product(prepared, self.weight, self.scale, self.dtype)

    def rounded(self, weight: Tensor) -> Tensor:
        return self._values(weight).double() * self.scale


def _onnx_session(values: Tensor, scale: float) -> tuple[Any, int]:
    """An ONNX Runtime session of one two-bit `MatMulNBits` with these ternary weights, and the bytes it reads."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rows, columns = values.shape
    block = next(size for size in (128, 64, 32) if columns % size == 0)
    fours = (values + 2).to(torch.uint8).unflatten(1, (-1, 4))  # its zero point at two bits is 2
    packed = fours[:, :, 0] | fours[:, :, 1] << 2 | fours[:, :, 2] << 4 | fours[:, :, 3] << 6
    constants = {
        "weight": packed.reshape(rows, columns // block, block // 4).numpy(),
        "scale": np.full((rows, columns // block), scale, dtype=np.float32),
    }
    node = helper.make_node(
        *("MatMulNBits", ["x", *constants], ["y"]),
        **{"domain": "com.microsoft", "K": columns, "N": rows, "bits": 2, "block_size": block, "accuracy_level": 4},
    )
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, size])
        for name, size in (("x", columns), ("y", rows))
    )
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([node], "ternary", [x], [y], initializers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, sum(array.nbytes for array in constants.values())


REPLACEMENTS = {"int8": Int8, "int4": Int4, "ternary": Ternary}


class Reference(Linear):
    """The product that a `Linear` stands for, in float64, with the weights rounded as it rounds them."""

    def __init__(self, linear: Linear, weight: Tensor):
        self.linear, self.weight = linear, weight

    def __call__(self, prepared: Tensor) -> Tensor:
        step = max(1, 2**26 // self.weight.shape[1])  # rows at a time: float64 copies of 0.5 GB
        rows = self.weight.split(step)
        return torch.cat([prepared.double() @ self.linear.rounded(part).T for part in rows], dim=1)
