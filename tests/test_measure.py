"""Timing decoder blocks at tiny sizes: arithmetic of the block, low-bit products, complete and interrupted runs."""

import importlib.metadata
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if os.environ.get("REQUIRE_EXTRAS"):
    import onnxruntime
    import torch
else:
    torch = pytest.importorskip("torch", reason="the extra `measure` is not installed: make extras")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `measure` is not installed: make extras")

from torch.utils._python_dispatch import TorchDispatchMode

from llmamdahl.device.block import Block
from llmamdahl.device.host import Host
from llmamdahl.device.lowbit import REPLACEMENTS, Int8, Linear, Reference, Ternary, reduction
from llmamdahl.device.recorded import COLUMNS, KEY, against_bandwidth, fractions, predictions, read, read_rows_of, sums
from llmamdahl.device.timing import DTYPES, MODELS, Bench, Timing, checked, measure, passes, time_all
from llmamdahl.errors import InputError, TableError
from llmamdahl.models import PRINTED, get_model, model_names
from llmamdahl.tables import ROOT, write_rows

TINY = {
    name: replace(get_model(name), hidden_size=64, num_heads=4, intermediate_size=192)
    for name in ("gpt2", "opt-350m", "llama-7b")
}
HOST = Host("cpu", "a test", 1, "none", 2**12, 10.0)


def norm(x, family):
    if family == "llama-7b":
        return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + np.finfo(np.float64).eps)
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)


def rotated(x, position, head_dim):
    """Rotary embedding with complex numbers: it rotates each pair (i, i + head_dim / 2) of a head by its own angle."""
    heads = x.reshape(len(x), -1, head_dim)
    pairs = heads[..., : head_dim // 2] + 1j * heads[..., head_dim // 2 :]
    turned = pairs * np.exp(1j * position / 10000 ** (2 * np.arange(head_dim // 2) / head_dim))
    return np.concatenate([turned.real, turned.imag], axis=2).reshape(x.shape)


def decoder_block(name, x, weights, keys, values):
    """An independent version of the block, in NumPy, one head at a time."""
    model, batch = TINY[name], len(x)
    length = keys.shape[2]
    hidden = norm(x, name)
    q, k, v = (hidden @ weights[which].T for which in ("W_Q", "W_K", "W_V"))
    if name == "llama-7b":
        q, k = (rotated(one, length - 1, model.head_dim) for one in (q, k))
    attended = np.empty_like(x)
    for sequence in range(batch):
        for head in range(model.num_heads):
            at = slice(head * model.head_dim, (head + 1) * model.head_dim)
            ks = np.concatenate([keys[sequence, head, :-1], k[None, sequence, at]])
            vs = np.concatenate([values[sequence, head, :-1], v[None, sequence, at]])
            scores = np.exp(ks @ q[sequence, at] / math.sqrt(model.head_dim))
            attended[sequence, at] = scores / scores.sum() @ vs
    x = x + attended @ weights["W_X"].T
    hidden = norm(x, name)
    up = hidden @ weights["W_I"].T
    if name == "gpt2":
        inner = 0.5 * up * (1 + np.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
    elif name == "opt-350m":
        inner = np.maximum(up, 0)
    else:
        gate = hidden @ weights["W_G"].T
        inner = gate / (1 + np.exp(-gate)) * up
    return x + inner @ weights["W_O"].T


@pytest.mark.parametrize("form", ["matmul", "fused"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", list(TINY))
def test_the_block_computes_what_the_model_does(name, batch, form):
    model, length = TINY[name], 9
    rng = np.random.default_rng(0)
    names = ["W_Q", "W_K", "W_V", "W_X", "W_I", *(["W_G"] if model.gated_ffn else [])]
    weights = {which: rng.normal(size=(192 if which in ("W_I", "W_G") else 64, 64)) / 8 for which in names}
    weights["W_O"] = rng.normal(size=(64, 192)) / 14
    x = rng.normal(size=(batch, 64))
    keys, values = rng.normal(size=(2, batch, model.num_heads, length, model.head_dim))
    expected = decoder_block(name, x, weights, keys, values)
    block = Block(model, length, batch, torch.float64, "cpu")
    linears = {which: Linear(torch.from_numpy(weight)) for which, weight in weights.items()}
    ours = block(torch.from_numpy(x), linears, (torch.from_numpy(keys), torch.from_numpy(values)), form)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("kind", list(REPLACEMENTS))
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(("n", "k"), [(64, 128), (160, 1600), (32, 192)])
def test_fewer_bits_compute_the_product_of_their_rounded_weights(kind, dtype, n, k):
    weight = torch.randn(n, k, dtype=DTYPES[dtype])
    x = torch.randn(1, k, dtype=DTYPES[dtype])
    linear = REPLACEMENTS[kind](weight)
    exact = Reference(linear, weight)(x)
    ours = linear(linear.prepare(x))
    assert ours.dtype == DTYPES[dtype]
    assert checked(kind, ours, exact, 0.03) > 0
    assert linear.bytes < {"int8": 0.6, "int4": 0.4, "ternary": 0.4}[kind] * n * k * 2
    rounding = float((linear.rounded(weight) - weight.double()).norm() / weight.double().norm())
    assert rounding < {"int8": 0.02, "int4": 0.2, "ternary": 0.6}[kind]


@pytest.mark.parametrize(("n", "k"), [(64, 128), (160, 1600), (1, 32), (33, 4096)])
def test_ternary_is_exact_bit_for_bit(n, k):
    values = torch.randint(-1, 2, (n, k)).float()
    x = torch.randint(-127, 128, (2, k)).float()
    x[:, ::32] = 127  # the largest of each block, so that quantizing leaves these activations as they are
    linear = Ternary(values, scale=1.0)
    assert torch.equal(linear(linear.prepare(x)).long(), x.long() @ values.long().T)


def test_the_int8_sum_for_gpus_is_the_same_product():
    weight, x = torch.randn(48, 160), torch.randn(1, 160)
    int8 = Int8(weight)
    ours = reduction(x, int8.weight, int8.scale)
    assert checked("reduction", ours, Reference(int8, weight)(x), 1e-6) < 1e-6


def run_python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_triton_kernel_is_exact_bit_for_bit():
    pytest.importorskip("triton") if not os.environ.get("REQUIRE_EXTRAS") else None
    code = """
import torch
from llmamdahl.device import ternary
for m, n, k in ((1, 7, 32), (1, 64, 1600), (3, 33, 768), (1, 5, 11008)):
    weight = torch.randint(-1, 2, (n, k), dtype=torch.int8)
    x = torch.randint(-127, 128, (m, k)).float()
    x[:, 3] = 127
    packed = ternary.pack(weight)
    assert torch.equal(ternary.unpack(packed), weight) and packed.nbytes == n * k // 4
    ours = ternary.product(ternary.quantize(x), packed, 1.0, torch.float32)
    print(torch.equal(ours.long(), x.long() @ weight.long().T))
x = torch.randn(2, 100) * torch.tensor([[1e-3], [1e3]])
values, scales, sums = ternary.quantize(x)
print(bool((values * scales[:, None] - x).abs().max(dim=1).values.le(scales * 0.5001).all()))
print(torch.equal(sums, values.sum(dim=1, dtype=torch.int32)))
"""
    assert run_python(code, TRITON_INTERPRET="1") == ["True"] * 6


def test_the_triton_kernel_compiles_for_a_gpu_and_uses_its_dot_product():
    pytest.importorskip("triton") if not os.environ.get("REQUIRE_EXTRAS") else None
    code = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from llmamdahl.device import ternary
types = "*i32 *fp32 *i32 *i32 *fp16 fp32 i32 i32 constexpr constexpr constexpr".split()
names = ternary._product.arg_names
source = ASTSource(ternary._product, dict(zip(names, types)), {"ROWS": 4, "BLOCK": 256, "ASM": True})
ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
print(ptx.count("dp4a.u32.s32") > 0)
"""
    assert run_python(code)[-1] == "True"


def test_a_width_that_is_not_a_multiple_of_the_group_is_rejected():
    with pytest.raises(InputError, match="k: 100 is not a multiple of 64"):
        REPLACEMENTS["int4"](torch.randn(8, 100))
    with pytest.raises(InputError, match="k: 40 is not a multiple of 32"):
        Ternary(torch.randn(8, 40))


@pytest.fixture
def tiny(tmp_path):
    return {"models": list(TINY.values()), "context_lengths": [8, 40], "folder": tmp_path, "budget": 0.0}


def test_every_case_is_measured_once(tiny, tmp_path):
    made, skipped = measure(HOST, dtype="float32", **tiny)
    assert (made, skipped) == (6, [])
    rows = read_rows_of(tmp_path / HOST.file)
    assert len(rows) == 6 * 15
    assert {row["weights"] for row in rows} == {"float32", *REPLACEMENTS}
    assert all(row["error"] < 0.03 for row in rows if row["context_length"] == 8)
    assert all(row["copies"] * row["kilobytes"] >= 3 * 4.096 for row in rows if row["part"] != "other")
    assert measure(HOST, dtype="float32", **tiny) == (0, [])
    more = measure(HOST, dtype="bfloat16", batches=(1, 2), **tiny)
    assert more == (12, [])
    timings = read(tmp_path)
    assert set(timings[timings.batch == 2].weights) == {"bfloat16"}  # fewer bits are timed at batch 1
    assert len(fractions(timings)) == 18 * 2
    assert len(predictions(timings)) == 12 * 3 * 2
    assert len(sums(timings)) == 18 * 2
    assert (against_bandwidth(timings).share > 0).all()


def test_an_interrupted_run_continues(tiny, tmp_path, monkeypatch):
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        time_all(*arguments)

    monkeypatch.setattr("llmamdahl.device.timing.time_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(HOST, dtype="float32", **tiny)
    before = (tmp_path / HOST.file).read_text()
    assert len(read_rows_of(tmp_path / HOST.file)) == 3 * 15
    assert measure(HOST, dtype="float32", **tiny)[0] == 3
    assert (tmp_path / HOST.file).read_text().startswith(before)


@pytest.mark.parametrize(("column", "value"), [("version", 99), ("torch", "1.0"), ("driver", "another")])
def test_rows_of_another_version_are_not_added_to(tiny, tmp_path, column, value):
    measure(HOST, dtype="float32", **{**tiny, "context_lengths": [8], "models": [TINY["gpt2"]]})
    path = tmp_path / HOST.file
    rows = read_rows_of(path)
    rows[2][column] = value
    write_rows(path, list(COLUMNS), rows)
    before = path.read_bytes()
    with pytest.raises(TableError, match=rf"line 4: {column}.*{value}"):
        measure(HOST, dtype="float32", **tiny)
    assert path.read_bytes() == before


def test_a_model_that_does_not_fit_is_skipped_and_the_others_are_measured(tiny, monkeypatch):
    monkeypatch.setattr(Host, "free", property(lambda self: 2**31))
    big = replace(TINY["opt-350m"], hidden_size=2**14, intermediate_size=2**16)
    made, skipped = measure(HOST, dtype="float32", **{**tiny, "models": [big, TINY["gpt2"]]})
    assert made == 2
    assert skipped == ["opt-350m, batch 1, float32: it needs about 37.6 GB, and 2.1 GB are free"]


def test_a_kernel_with_wrong_results_is_not_timed(tiny, monkeypatch):
    monkeypatch.setattr(Int8, "__call__", lambda self, x: torch.zeros(len(x), len(self.weight)))
    made, skipped = measure(HOST, dtype="float32", **{**tiny, "models": [TINY["gpt2"]]})
    assert made == 2
    assert skipped == [
        "gpt2, int8: RuntimeError: int8 projections: relative error 1 against float64, above 0.02; not timed"
    ]
    assert "int8" not in {row["weights"] for row in read_rows_of(tiny["folder"] / HOST.file)}
    with pytest.raises(RuntimeError, match="not timed"):
        checked("nan", torch.tensor([math.nan]), torch.tensor([1.0]), 0.1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_an_error():
    with pytest.raises(InputError, match=r"'cuda' is asked for.*DEVICE=cpu"):
        Host.find("cuda")
    done = subprocess.run(
        [sys.executable, "-m", "llmamdahl.device", "--device", "cuda"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("device: 'cuda'")


def test_bad_arguments_are_named():
    for arguments, match in (
        ({"models": ["opt-1b"]}, "model: 'opt-1b' is unknown; did you mean opt-"),
        ({"models": ["llama-3.1-8b"]}, "model: 'llama-3.1-8b' cannot be measured; those of Table 2 can: gpt2, "),
        ({"models": [replace(TINY["gpt2"], fused_qkv=True)]}, "model: 'gpt2' cannot be measured"),
        ({"context_lengths": [0]}, "context_length: 0 is not a positive whole number"),
        ({"batches": [0]}, "batch: 0 is not a positive whole number"),
        ({"dtype": "int8"}, "dtype: 'int8' is unknown; known: "),
        ({"models": ["gpt2", get_model("gpt2")]}, "model: 'gpt2' is listed 2 times"),
        ({"context_lengths": [8, 16, 8]}, "context_length: 8 is listed 2 times"),
        ({"batches": []}, "batch: nothing is listed"),
    ):
        with pytest.raises(InputError, match=match):
            measure(HOST, **arguments)
    with pytest.raises(InputError, match="device: 'tpu' is unknown; known: "):
        Host.find("tpu")


def distributions(*names):
    """These installed distributions and everything that they require."""
    found, todo = set(), [Requirement(name) for name in names]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            extras = ["", *requirement.extras]
            if not needed.marker or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                todo += [needed] if canonicalize_name(needed.name) not in found else []
        found.add(name)
    return found


def installed(folder, *names):
    """A folder that holds these distributions, what they require, and nothing else."""
    folder.mkdir()
    for name in distributions(*names):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(distribution.locate_file(top))
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the package and its data, which is not installed."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("llmamdahl", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run_bare(checkout, packages, *arguments):
    """Python in the checkout, without site-packages (-S) but with these packages."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)


def test_the_command_runs_from_a_bare_checkout_with_pytorch_and_pandas(checkout, tmp_path):
    packages = installed(tmp_path / "packages", "torch", "numpy", "pandas")
    assert not (packages / "matplotlib").exists()
    # the command itself, on a host with a small last-level cache: copies of it take seconds, not minutes
    code = """
import runpy, sys
from llmamdahl.device.host import Host
Host.find = lambda kind, threads: Host(kind, "a test", threads, "none", 2**12, 10.0)
runpy.run_module("llmamdahl.device", run_name="__main__")
print(sys.modules["llmamdahl"].__file__)
"""
    options = ["--device", "cpu", "--models", "gpt2", "--context-lengths", "8", "--dtypes", "float32", "--seconds", "0"]
    done = run_bare(checkout, packages, "-c", code, *options)
    assert done.returncode == 0, done.stderr
    summary, package = done.stdout.splitlines()
    assert summary == f"{checkout / 'data' / 'measured' / HOST.file}: 12 timings of a test, 10.0 GB/s"
    assert package == str(checkout / "llmamdahl" / "__init__.py")
    assert "skipped: gpt2, ternary: ModuleNotFoundError" in done.stderr
    rows = read_rows_of(checkout / "data" / "measured" / HOST.file)
    assert {row["weights"] for row in rows} == {"float32", "int8", "int4"}


@pytest.mark.parametrize("names", [(), ("numpy",), ("numpy", "pandas")])
def test_without_pytorch_the_command_says_how_to_get_it(checkout, tmp_path, names):
    packages = installed(tmp_path / "packages", *names)
    done = run_bare(checkout, packages, "-m", "llmamdahl.device", "--device", "cuda")
    assert done.returncode == 1
    missing = [name for name in ("torch", "numpy", "pandas") if name not in names]
    assert (
        done.stderr == f"not installed: {', '.join(missing)}; run `pip install {' '.join(missing)}` or `make extras`\n"
    )
    helped = run_bare(checkout, packages, "-m", "llmamdahl.device", "--help")
    assert helped.returncode == 0, helped.stderr
    assert helped.stdout.startswith("usage: python -m llmamdahl.device [-h] [--device {cuda,cpu}]")


class Operations(TorchDispatchMode):
    """Counts the operations of PyTorch that are not views, by name and shapes."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if not operation.is_view:
            self.seen[operation.name(), *(tuple(each.shape) for each in args if isinstance(each, torch.Tensor))] += 1
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", list(TINY))
def test_the_operations_of_a_block_are_those_of_its_parts(name):
    """Each as often and with the same shapes: so a time of the parts counts nothing twice and leaves nothing out."""
    done = {}
    for timing in Bench(TINY[name], 3, "float32", HOST, REPLACEMENTS).timings(8):
        with Operations() as operations:
            timing.run()
        assert all(number % timing.copies == 0 for number in operations.seen.values())
        once = Counter({each: number // timing.copies for each, number in operations.seen.items()})
        done[timing.part, timing.attention, timing.weights] = once
    blocks = {case: whole for case, whole in done.items() if case[0] == "block"}
    assert len(blocks) == 2 * (1 + len(REPLACEMENTS))
    for (_, form, kind), whole in blocks.items():
        others = done["attention", form, "float32"] + done["other", "", "float32"]
        assert whole == done["projection", "", kind] + others


def test_steady_is_a_narrow_confidence_interval():
    timing = Timing("float32", "block", "", 1, 1, 0.0, passes(print, []))
    timing.seconds = [1 + 0.001 * (at % 2) for at in range(20)]
    assert timing.steady
    timing.seconds = [1 + 0.1 * (at % 2) for at in range(20)]
    assert not timing.steady
    timing.seconds = [1.0] * 25 + [9.0] * 3  # a few slow passes do not move the median
    assert timing.steady


def test_the_default_models_are_those_of_table_2():
    assert len(MODELS) == 17
    assert set(MODELS) == {*model_names(), *(name + PRINTED for name in model_names("gpt"))}
    assert set(KEY) <= set(COLUMNS)
