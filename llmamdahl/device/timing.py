"""The two parts of a decoder block timed on a real device, with PyTorch (Section 3.2, Appendix D) -> `data/measured/`.

Method. One decode step of one decoder block, at the model's true sizes, weights random. Every timing goes over several
copies of its buffers, together at least `COLD` times the last-level cache, because a decode step reads each weight once
and finds it in no cache. Each output is held to a float64 reference before it is timed. All timings of a case (model,
context length, batch) take turns, pass by pass, so that a change of clock or load meets them all; passes go on until
every median is known to 1% or the time is up. On a GPU times come from device events, with the launches as PyTorch
makes them (`eager`) and from a CUDA graph (`graph`), which leaves launch overhead out.

A block is its projections, its attention over a KV cache that holds `context_length` tokens, the new one included, and
the rest ("other"): two norms, the activation, two residual additions, LLaMA's rotary embedding. Biases are left out.

Runs from a bare checkout: needs PyTorch and pandas, and for ternary weights Triton on a GPU, ONNX Runtime on a CPU.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch

from llmamdahl.device.block import Block, Cache
from llmamdahl.device.host import Host, seconds
from llmamdahl.device.lowbit import REPLACEMENTS, Linear, Reference
from llmamdahl.device.recorded import COLUMNS, MEASURED, TOLERANCE, VERSION, read_rows_of
from llmamdahl.errors import InputError, one_of, positive_int
from llmamdahl.models import CONTEXT_LENGTHS, PRINTED, Decoder, get_model, model_names
from llmamdahl.tables import Row, require_value, write_rows
from llmamdahl.workload import Part, decode_step

COLD = 3
"""Working set of every timing, in last-level caches, at least."""

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}

MODELS = [name for base in model_names() for name in ((base, base + PRINTED) if base.startswith("gpt") else (base,))]
"""The 13 models as they are, GPT also as printed."""


@dataclass
class Timing:
    """One timed thing: `run` makes a pass over all its copies; `seconds` is what each pass took, for one of them."""

    weights: str
    part: str
    attention: str
    copies: int
    bytes: int
    error: float
    run: Callable[[], Any]
    launch: str = "eager"
    seconds: list[float] = field(default_factory=list)

    @property
    def steady(self) -> bool:
        """Whether the median is known to 1%: half the width of its 95% confidence interval, by order statistics."""
        ordered, number = sorted(self.seconds), len(self.seconds)
        reach = 0.98 * math.sqrt(number)
        low, high = max(0, math.floor(number / 2 - reach)), min(number - 1, math.ceil(number / 2 + reach))
        return ordered[high] - ordered[low] <= 0.02 * statistics.median(ordered)


class Bench:
    """One model's weights on a device, as they are and with fewer bits, ready to be timed.

    Parameters
    ----------
    dtype
        Type of weights, KV cache and activations: `float16`, `bfloat16` or `float32`.
    replacements
        Which of `lowbit.REPLACEMENTS` to time besides. One that this device cannot run, or that computes something
        else, is left out, with the reason in `skipped`.

    Raises
    ------
    MemoryError
        A model that does not fit; the message says how much it needs.
    """

    def __init__(self, model: Decoder, batch: int, dtype: str, host: Host, replacements: Iterable[str]):
        self.model, self.batch, self.dtype, self.host = model, batch, dtype, host
        self.options: dict[str, Any] = {"dtype": DTYPES[dtype], "device": host.kind}
        shapes = {mm.name: (mm.n, mm.k) for mm in decode_step(model, 1) if mm.part is Part.PROJECTION}
        sizes = [n * k for n, k in shapes.values()]
        # weights, the same with fewer bits, their copies, and what quantizing the largest takes for a while
        item = self.options["dtype"].itemsize
        self._require(sum(sizes) * (item + 2) + 8 * COLD * host.cache + 16 * max(sizes) + 2**30)
        weights = {name: self._random(*shape).mul_(shape[1] ** -0.5) for name, shape in shapes.items()}
        self.x, self.wide = self._random(batch, model.hidden_size), self._random(batch, model.intermediate_size)
        self.linears: dict[str, list[dict[str, Linear]]] = {}
        self.references: dict[str, dict[str, Linear]] = {}
        self.errors: dict[str, float] = {}
        self.skipped: dict[str, str] = {}
        self._add(dtype, Linear, weights)
        for kind in replacements:
            try:
                self._add(kind, REPLACEMENTS[kind], weights)
            except Exception as error:  # whatever a library says of a device that it does not support
                self.skipped[kind] = f"{type(error).__name__}: {error}".splitlines()[0]

    def _random(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, **self.options)

    def _add(self, kind: str, make: type[Linear], weights: dict[str, torch.Tensor]) -> None:
        first = {name: make(weight) for name, weight in weights.items()}
        references: dict[str, Linear] = {name: Reference(linear, weights[name]) for name, linear in first.items()}
        block = Block(self.model, 1, self.batch, DTYPES[self.dtype], self.host.kind)
        ours = torch.cat(block.projections(self.x, self.wide, first), dim=1)
        exact = torch.cat(block.projections(self.x, self.wide, references), dim=1)
        self.errors[kind] = checked(f"{kind} projections", ours, exact, TOLERANCE[kind])
        copies = self._copies(sum(linear.bytes for linear in first.values()))
        more = ({name: make(weight.clone()) for name, weight in weights.items()} for _ in range(copies - 1))
        self.linears[kind], self.references[kind] = [first, *more], references

    def _copies(self, size: int) -> int:
        return math.ceil(COLD * self.host.cache / size)

    def _require(self, need: int) -> None:
        free = self.host.free
        if need > free:
            raise MemoryError(f"it needs about {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")

    def timings(self, context_length: int, check_blocks: bool = True) -> list[Timing]:
        """Everything to be timed at this context length, checked against float64 (whole blocks if `check_blocks`)."""
        model, dtype = self.model, self.dtype
        block = Block(model, context_length, self.batch, DTYPES[dtype], self.host.kind)
        exact = Block(model, context_length, self.batch, torch.float64, self.host.kind)
        shape = (2, self.batch, model.num_heads, context_length, model.head_dim)
        self._require(16 * math.prod(shape) + 2 * COLD * self.host.cache)  # the cache, its copies, all in float64
        first = self._random(*shape)
        caches: list[Cache] = [tuple(first.clone()) for _ in range(self._copies(first.nbytes))]
        cache64: Cache = tuple(first.double())
        q, k, v = (self._random(self.batch, model.hidden_size) for _ in range(3))
        x, x64, wide = self.x, self.x.double(), self.wide

        error = checked("other", block.other(x, wide), exact.other(x64, wide.double()), TOLERANCE[dtype])
        found = [Timing(dtype, "other", "", 1, 0, error, passes(block.other, [(x, wide)]))]
        reference = exact.attention("matmul", q.double(), k.double(), v.double(), cache64)
        for form in ("matmul", "fused"):
            ours = block.attention(form, q, k, v, caches[0])
            error = checked(f"{form} attention", ours, reference, TOLERANCE[dtype])
            run = passes(partial(block.attention, form, q, k, v), [(cache,) for cache in caches])
            found.append(Timing(dtype, "attention", form, len(caches), first.nbytes, error, run))
        for kind, copies in self.linears.items():
            size = sum(linear.bytes for linear in copies[0].values())
            run = passes(partial(block.projections, x, wide), [(linears,) for linears in copies])
            found.append(Timing(kind, "projection", "", len(copies), size, self.errors[kind], run))
            number = self._copies(size + first.nbytes)
            for form in ("matmul", "fused"):
                error = math.nan
                if check_blocks:
                    ours, reference = (
                        block(x, copies[0], caches[0], form),
                        exact(x64, self.references[kind], cache64, form),
                    )
                    error = checked(f"block, {kind}, {form} attention", ours, reference, TOLERANCE[kind])
                run = passes(partial(block, x, form=form), list(zip(copies, caches, strict=False))[:number])
                found.append(Timing(kind, "block", form, number, size + first.nbytes, error, run))
        return found


def passes(one: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> Callable[[], None]:
    """A pass: `one` with each of these arguments in turn."""

    def run() -> None:
        for each in arguments:
            one(*each)

    return run


def checked(what: str, ours: torch.Tensor, exact: torch.Tensor, tolerance: float) -> float:
    """||ours - exact|| / ||exact||, refused above `tolerance` (a NaN is above)."""
    error = float((ours.double() - exact).norm() / exact.norm())
    if not error <= tolerance:
        raise RuntimeError(f"{what}: relative error {error:.2g} against float64, above {tolerance}; not timed")
    return error


def captured(timing: Timing) -> Timing:
    """The same pass as a CUDA graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        timing.run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        timing.run()
    return replace(timing, run=graph.replay, launch="graph", seconds=[])


def time_all(timings: list[Timing], kind: str, budget: float) -> None:
    """Passes of all timings in turn, at least 11, until every median is steady or `budget` seconds are over."""
    for timing in timings:
        timing.run()
    start = time.perf_counter()
    for number in range(1, 10_000):
        for timing in timings:
            timing.seconds.append(seconds(kind, timing.run) / timing.copies)
        if number >= 11 and (time.perf_counter() - start > budget or all(timing.steady for timing in timings)):
            return


def rows_of(timings: list[Timing], bench: Bench, context_length: int) -> list[Row]:
    """A case's rows, as `measured.COLUMNS` describes them."""
    host = bench.host
    case = {
        "version": VERSION,
        "date": date.today().isoformat(),
        "device": host.name,
        "threads": host.threads,
        "torch": torch.__version__,
        "driver": host.driver,
        "clock_mhz": host.clock,
        "bandwidth_gb_s": host.bandwidth,
        "model": bench.model.name,
        "context_length": context_length,
        "batch": bench.batch,
        "dtype": bench.dtype,
    }
    rows = []
    for timing in timings:
        at = [second * 1e6 for second in sorted(timing.seconds)]
        tenth = statistics.quantiles(at, n=10)
        rows.append(
            {
                **case,
                **{name: getattr(timing, name) for name in ("launch", "weights", "part", "attention", "copies")},
                "kilobytes": timing.bytes / 1e3,
                "error": float(f"{timing.error:.3g}"),
                "repetitions": len(at),
                "p10_us": round(tenth[0], 3),
                "median_us": round(statistics.median(at), 3),
                "p90_us": round(tenth[-1], 3),
            }
        )
    return rows


def measure(
    host: Host,
    models: Iterable[str | Decoder] = MODELS,
    context_lengths: Iterable[int] = CONTEXT_LENGTHS,
    batches: Iterable[int] = (1,),
    dtype: str = "float16",
    folder: Path = MEASURED,
    budget: float = 1.0,
) -> tuple[int, list[str]]:
    """Time every case that the device's file lacks, and write the file anew after each.

    Replacements with fewer bits are timed at batch 1. Returns the cases measured now, and what was skipped and why.

    Raises
    ------
    InputError
        An unknown model or dtype, a context length or batch that is not a positive whole number.
    TableError
        A damaged file, or one of another version of the method, PyTorch or driver; nothing is overwritten.
    """
    one_of("dtype", dtype, tuple(DTYPES))
    decoders = [get_model(model) if isinstance(model, str) else model for model in models]
    for model in decoders:  # what is timed is GPT-2's, OPT's or LLaMA's block, as the name says
        if model.name.removesuffix(PRINTED) not in model_names() or not model.is_plain:
            raise InputError(f"model: {model.name!r} cannot be measured; those of Table 2 can: {', '.join(MODELS)}")
    lengths = [positive_int("context_length", length) for length in context_lengths]
    path = folder / host.file
    rows = read_rows_of(path) if path.exists() else []
    for name, now in (("torch", torch.__version__), ("driver", host.driver), ("device", host.name)):
        require_value(path, rows, name, now, "; measure into another folder")
    done = {(row["model"], row["context_length"], row["batch"], row["dtype"]) for row in rows}
    sizes = [positive_int("batch", batch) for batch in batches]
    todo = [
        (model, batch, [length for length in lengths if (model.name, length, batch, dtype) not in done])
        for model in decoders
        for batch in sizes
    ]
    total, skipped, start = sum(len(missing) for _, _, missing in todo), list[str](), time.perf_counter()
    made = 0
    for model, batch, missing in todo:
        if not missing:
            continue
        try:
            for case in _measured(model, batch, dtype, host, missing, budget, skipped):
                rows += case
                write_rows(path, list(COLUMNS), rows)
                made += 1
                left = (time.perf_counter() - start) / made * (total - made)
                _progress(made, total, left, f"{model.name}, l = {case[0]['context_length']}, batch {batch}, {dtype}")
        except (MemoryError, RuntimeError) as error:  # PyTorch's out-of-memory error is a RuntimeError
            skipped.append(f"{model.name}, batch {batch}, {dtype}: {error}".splitlines()[0])
    return made, skipped


def _measured(
    model: Decoder, batch: int, dtype: str, host: Host, lengths: list[int], budget: float, skipped: list[str]
) -> Iterable[list[Row]]:
    """The rows of one model at each of these context lengths; what was left out is added to `skipped`."""
    bench = Bench(model, batch, dtype, host, REPLACEMENTS if batch == 1 else ())
    skipped += [f"{model.name}, {kind}: {reason}" for kind, reason in bench.skipped.items()]
    for length in lengths:
        timings = bench.timings(length, check_blocks=length == lengths[0])
        if host.kind == "cuda":
            timings += [captured(timing) for timing in timings]
        time_all(timings, host.kind, budget)
        yield rows_of(timings, bench, length)


def _progress(made: int, total: int, left: float, what: str) -> None:
    """A bar with the time left, without tqdm: a bare GPU machine may not have it."""
    bar = "#" * (20 * made // total)
    line = f"[{bar:<20}] {made}/{total} cases, {left // 60:.0f}:{left % 60:02.0f} left; {what}"
    print(f"\r{line:<110}" if sys.stderr.isatty() else line, end="" if sys.stderr.isatty() else "\n", file=sys.stderr)
