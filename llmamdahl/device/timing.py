"""Time one decode step of one decoder block, and its parts, with PyTorch (Section 3.2, Appendix D of the paper).

Method
------
**Workload.** One decoder block of each model, at its true dimensions and with random weights, computes one decode step:
one new token per sequence attends to a KV cache of `context_length` tokens, the new one included. Three parts are timed
alone: the projections; attention, both as two MatMuls per head with a softmax between them and as PyTorch's fused
kernel; and "other", that is two norms, the activation function, two residual additions and LLaMA's rotary embedding.
The whole block is timed as well. There are no biases. At batch 1 the projections are also timed with INT8, INT4 and
ternary weights, alone and in the block. These timings test Equation (5), which predicts the speedup of the block from
the speedup of its projections.

**Cold caches.** A decode step reads each weight once, after the weights of all other layers, so it reads them from
memory and not from a cache. Each timing therefore cycles through several copies of its weights and KV cache, which
together occupy at least `COLD` times the last-level cache. One pass runs every copy once; its time, divided by the
number of copies, is one sample. "Other" reads neither weights nor a KV cache and has one copy.

**Correctness.** Each output is first compared with a float64 reference that uses the same rounded weights. A kernel
with a relative error (L2) above `recorded.TOLERANCE` is not timed.

**Schedule.** All timings of a case (model, context length, batch, type of numbers) take turns, one pass each, so that a
change of clock frequency or of background load affects all of them equally. A first pass of each warms up and is not
timed. At least `MIN_PASSES` passes follow, until the 95% confidence interval of every median is within 1% of it or the
time budget is spent. The median and the 10th and 90th percentiles are recorded.

**Clocks.** On a CPU, wall-clock time. On a GPU, CUDA events around each pass, for two ways to launch it: `eager`, where
PyTorch launches each operation, and `graph`, where a captured CUDA graph is replayed without that overhead.
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
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from llmamdahl.device.block import Block, Cache
from llmamdahl.device.host import Host, seconds
from llmamdahl.device.lowbit import REPLACEMENTS, Linear, Reference
from llmamdahl.device.recorded import COLUMNS, FORMS, MEASURED, TOLERANCE, VERSION, read_rows_of
from llmamdahl.errors import InputError, listed, one_of, positive_int
from llmamdahl.models import CONTEXT_LENGTHS, PRINTED, Decoder, get_model, model_names
from llmamdahl.tables import Row, require_value, write_rows
from llmamdahl.workload import Part, decode_step

COLD = 3
"""Smallest working set of a timing, in sizes of the last-level cache."""

MIN_PASSES, MAX_PASSES = 11, 9_999

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}

MODELS = [name for base in model_names() for name in ((base, base + PRINTED) if base.startswith("gpt") else (base,))]
"""The 13 models of Table 2 at their true dimensions, and the GPT models as printed too."""


@dataclass
class Timing:
    """The timing of a block or of one of its parts.

    Attributes
    ----------
    weights, part, attention, copies, error, launch
        Columns of `recorded.COLUMNS`.
    bytes
        Bytes of weights and KV cache that one copy must read.
    run
        One pass over all copies.
    seconds
        The samples: for each pass its time divided by `copies`.
    """

    weights: str
    part: str
    attention: str
    copies: int
    bytes: int
    error: float
    run: Callable[[], object]
    launch: str = "eager"
    seconds: list[float] = field(default_factory=list)

    @property
    def steady(self) -> bool:
        """Whether the 95% confidence interval of the median is within 1% of it."""
        ordered, number = sorted(self.seconds), len(self.seconds)
        # The number of samples below the true median is binomial, n trials of probability 1/2: mean n/2, standard
        # deviation sqrt(n)/2. So the ranks n/2 +- 1.96 sqrt(n)/2 bound the median with 95% confidence, whatever the
        # distribution of the samples.
        reach = 0.98 * math.sqrt(number)
        low = max(0, math.floor(number / 2 - reach))
        high = min(number - 1, math.ceil(number / 2 + reach))
        return ordered[high] - ordered[low] <= 0.02 * statistics.median(ordered)


@dataclass
class Projections:
    """The projections of a block with one type of weights.

    Attributes
    ----------
    copies
        Equal products, by name of the MatMul; each copy has its own weights in memory.
    reference
        The same products in float64.
    error
        Relative error of their outputs against the reference.
    """

    copies: list[dict[str, Linear]]
    reference: dict[str, Linear]
    error: float

    @property
    def bytes(self) -> int:
        """Bytes of the weights and scales of one copy."""
        return sum(linear.bytes for linear in self.copies[0].values())


@dataclass
class Step:
    """A decode step at one context length: the block, its KV caches and the new token's queries, keys and values.

    `exact` and `exact_cache` are the float64 reference.
    """

    block: Block
    exact: Block
    caches: list[Cache]
    exact_cache: Cache
    qkv: tuple[Tensor, Tensor, Tensor]


class Bench:
    """The weights of one model on a host, in the given type and with fewer bits, ready to be timed.

    Parameters
    ----------
    dtype
        Type of weights, KV cache and activations: `float16`, `bfloat16` or `float32`.
    replacements
        Names of `lowbit.REPLACEMENTS` to time as well.

    Attributes
    ----------
    projections
        The projections by type of weights: `dtype` itself and the replacements.
    skipped
        For each replacement that this host cannot run, or that fails the comparison with float64, the reason.

    Raises
    ------
    MemoryError
        A model that does not fit; the message says how much memory it needs.
    """

    def __init__(self, model: Decoder, batch: int, dtype: str, host: Host, replacements: Iterable[str]):
        self.model = model
        self.batch = batch
        self.dtype = dtype
        self.host = host
        shapes = {mm.name: (mm.n, mm.k) for mm in decode_step(model, 1) if mm.part is Part.PROJECTION}
        self._require(self._bytes_of_weights([n * k for n, k in shapes.values()]))
        weights = {name: self._random(n, k).mul_(k**-0.5) for name, (n, k) in shapes.items()}
        self.x = self._random(batch, model.hidden_size)
        self.wide = self._random(batch, model.intermediate_size)
        self.projections = {dtype: self._make_projections(dtype, Linear, weights)}
        self.skipped: dict[str, str] = {}
        for kind in replacements:
            try:
                self.projections[kind] = self._make_projections(kind, REPLACEMENTS[kind], weights)
            except Exception as error:  # libraries raise many types for a device that they do not support
                self.skipped[kind] = f"{type(error).__name__}: {error}".splitlines()[0]

    def _bytes_of_weights(self, sizes: list[int]) -> int:
        """An estimate for projections of these sizes, in elements."""
        original = sum(sizes) * int(DTYPES[self.dtype].itemsize)
        replaced = sum(sizes) * 2  # one byte in INT8, half a byte in INT4, a quarter in ternary, and their scales
        copies = 4 * 2 * COLD * self.host.cache  # four types of weights; the last copy may exceed COLD caches
        quantizing = 16 * max(sizes)  # float32 and float64 versions of one weight
        return original + replaced + copies + quantizing + 2**30  # and 1 GiB for PyTorch itself

    def _require(self, need: int) -> None:
        free = self.host.free
        if need > free:
            raise MemoryError(f"it needs about {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(shape, dtype=DTYPES[self.dtype], device=self.host.kind)

    def _number_of_copies(self, size: int) -> int:
        """Copies of this many bytes that exceed the last-level cache `COLD` times."""
        return math.ceil(COLD * self.host.cache / size)

    def _block(self, context_length: int, dtype: torch.dtype) -> Block:
        return Block(self.model, context_length, self.batch, dtype, self.host.kind)

    def _make_projections(self, kind: str, make: type[Linear], weights: dict[str, Tensor]) -> Projections:
        """Projections with this type of weights, compared with float64 before they are copied."""
        first = {name: make(weight) for name, weight in weights.items()}
        reference: dict[str, Linear] = {name: Reference(linear, weights[name]) for name, linear in first.items()}
        block = self._block(1, DTYPES[self.dtype])
        ours = torch.cat(block.projections(self.x, self.wide, first), dim=1)
        exact = torch.cat(block.projections(self.x, self.wide, reference), dim=1)
        error = checked(f"{kind} projections", ours, exact, TOLERANCE[kind])
        projections = Projections([first], reference, error)
        for _ in range(self._number_of_copies(projections.bytes) - 1):
            # a plain Linear holds the tensor that it is given, so each copy gets a clone
            projections.copies.append({name: make(weight.clone()) for name, weight in weights.items()})
        return projections

    def timings(self, context_length: int, check_blocks: bool = True) -> list[Timing]:
        """Everything to be timed at this context length.

        Each output is compared with float64: parts always, whole blocks if `check_blocks`.
        """
        step = self._step(context_length)
        timings = [self._timing_of_other(step)]
        timings += [self._timing_of_attention(step, form) for form in FORMS]
        for kind, projections in self.projections.items():
            timings.append(self._timing_of_projections(step, kind, projections))
            timings += [self._timing_of_block(step, form, kind, projections, check_blocks) for form in FORMS]
        return timings

    def _step(self, context_length: int) -> Step:
        model = self.model
        shape = (2, self.batch, model.num_heads, context_length, model.head_dim)
        # K and V, their float64 version and its temporaries; and the copies, the last of which may exceed COLD caches
        self._require(16 * math.prod(shape) + 2 * COLD * self.host.cache)
        first = self._random(*shape)
        return Step(
            block=self._block(context_length, DTYPES[self.dtype]),
            exact=self._block(context_length, torch.float64),
            caches=[_cache(first.clone()) for _ in range(self._number_of_copies(first.nbytes))],
            exact_cache=_cache(first.double()),
            qkv=(
                self._random(self.batch, model.hidden_size),
                self._random(self.batch, model.hidden_size),
                self._random(self.batch, model.hidden_size),
            ),
        )

    def _timing_of_other(self, step: Step) -> Timing:
        ours = step.block.other(self.x, self.wide)
        exact = step.exact.other(self.x.double(), self.wide.double())
        error = checked("other", ours, exact, TOLERANCE[self.dtype])
        run = passes(step.block.other, [(self.x, self.wide)])
        return Timing(self.dtype, "other", attention="", copies=1, bytes=0, error=error, run=run)

    def _timing_of_attention(self, step: Step, form: str) -> Timing:
        q, k, v = step.qkv
        ours = step.block.attention(form, q, k, v, step.caches[0])
        # the reference is the two MatMuls for either form
        exact = step.exact.attention("matmul", q.double(), k.double(), v.double(), step.exact_cache)
        error = checked(f"{form} attention", ours, exact, TOLERANCE[self.dtype])
        run = passes(partial(step.block.attention, form, q, k, v), [(cache,) for cache in step.caches])
        size, copies = _bytes_of_cache(step.caches[0]), len(step.caches)
        return Timing(self.dtype, "attention", attention=form, copies=copies, bytes=size, error=error, run=run)

    def _timing_of_projections(self, step: Step, kind: str, projections: Projections) -> Timing:
        run = passes(partial(step.block.projections, self.x, self.wide), [(copy,) for copy in projections.copies])
        size, copies = projections.bytes, len(projections.copies)
        return Timing(kind, "projection", attention="", copies=copies, bytes=size, error=projections.error, run=run)

    def _timing_of_block(self, step: Step, form: str, kind: str, projections: Projections, check: bool) -> Timing:
        error = math.nan
        if check:
            ours = step.block(self.x, projections.copies[0], step.caches[0], form)
            exact = step.exact(self.x.double(), projections.reference, step.exact_cache, form)
            error = checked(f"block, {kind}, {form} attention", ours, exact, TOLERANCE[kind])
        # a block holds weights and a KV cache, so it needs fewer copies than either of them alone
        size = projections.bytes + _bytes_of_cache(step.caches[0])
        copies = self._number_of_copies(size)
        pairs = list(zip(projections.copies, step.caches, strict=False))[:copies]
        run = passes(partial(step.block, self.x, form=form), pairs)
        return Timing(kind, "block", attention=form, copies=copies, bytes=size, error=error, run=run)


def _cache(both: Tensor) -> Cache:
    return both[0], both[1]


def _bytes_of_cache(cache: Cache) -> int:
    return int(cache[0].nbytes + cache[1].nbytes)


def passes(one: Callable[..., object], arguments: Sequence[tuple[object, ...]]) -> Callable[[], None]:
    """A function that calls `one` with each of these arguments in turn."""

    def run() -> None:
        for each in arguments:
            one(*each)

    return run


def checked(what: str, ours: Tensor, exact: Tensor, tolerance: float) -> float:
    """The relative error ||ours - exact|| / ||exact||.

    Raises
    ------
    RuntimeError
        An error above `tolerance`, or a NaN.
    """
    error = float((ours.double() - exact).norm() / exact.norm())
    if not error <= tolerance:
        raise RuntimeError(f"{what}: relative error {error:.2g} against float64, above {tolerance}; not timed")
    return error


def captured(timing: Timing) -> Timing:
    """The same pass as a CUDA graph, which replays its launches as one."""
    # A capture records launches only. A first call also compiles kernels and allocates workspaces, which a capture does
    # not allow; so one pass runs before it, on a side stream, as PyTorch requires.
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        timing.run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        timing.run()
    return replace(timing, run=graph.replay, launch="graph", seconds=[])


def time_all(timings: list[Timing], kind: str, budget: float) -> None:
    """Add samples to all timings, one pass of each in turn, until every median is steady or the budget is spent.

    Parameters
    ----------
    kind
        `cuda` or `cpu`.
    budget
        Seconds for all timings together; `MIN_PASSES` passes are made even if they take longer.
    """
    for timing in timings:
        timing.run()
    start = time.perf_counter()
    for number in range(1, MAX_PASSES + 1):
        for timing in timings:
            timing.seconds.append(seconds(kind, timing.run) / timing.copies)
        spent = time.perf_counter() - start
        if number >= MIN_PASSES and (spent > budget or all(timing.steady for timing in timings)):
            return


def rows_of(timings: list[Timing], bench: Bench, context_length: int) -> list[Row]:
    """The rows of a case, with the columns of `recorded.COLUMNS`."""
    host = bench.host
    case: Row = {
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
    return [case | _row(timing) for timing in timings]


def _row(timing: Timing) -> Row:
    microseconds = [second * 1e6 for second in timing.seconds]
    tenths = statistics.quantiles(microseconds, n=10)
    return {
        "launch": timing.launch,
        "weights": timing.weights,
        "part": timing.part,
        "attention": timing.attention,
        "copies": timing.copies,
        "kilobytes": timing.bytes / 1e3,
        "error": float(f"{timing.error:.3g}"),
        "repetitions": len(microseconds),
        "p10_us": round(tenths[0], 3),
        "median_us": round(statistics.median(microseconds), 3),
        "p90_us": round(tenths[-1], 3),
    }


@dataclass
class Recording:
    """The CSV file of a host while `measure` adds cases to it.

    Attributes
    ----------
    total, made
        Cases to measure, and cases measured so far.
    skipped
        A line for each model or replacement that was skipped, with the reason.
    """

    path: Path
    rows: list[Row]
    total: int
    made: int = 0
    skipped: list[str] = field(default_factory=list)
    start: float = field(default_factory=time.perf_counter)

    def add(self, case: list[Row]) -> None:
        """Write the file again, with the rows of one more case, and report progress."""
        self.rows += case
        write_rows(self.path, list(COLUMNS), self.rows)
        self.made += 1
        left = (time.perf_counter() - self.start) / self.made * (self.total - self.made)
        row = case[0]
        what = f"{row['model']}, l = {row['context_length']}, batch {row['batch']}, {row['dtype']}"
        _progress(self.made, self.total, left, what)


def measure(
    host: Host,
    models: Iterable[str | Decoder] = MODELS,
    context_lengths: Iterable[int] = CONTEXT_LENGTHS,
    batches: Iterable[int] = (1,),
    dtype: str = "float16",
    folder: Path = MEASURED,
    budget: float = 1.0,
) -> tuple[int, list[str]]:
    """Time every case that the file of this host lacks; the file is written again after each case.

    Replacements with fewer bits are timed at batch 1.

    Parameters
    ----------
    folder
        Folder of the file, which is made if it is missing.
    budget
        Seconds for the timings of a case.

    Returns
    -------
    made, skipped
        The number of cases measured now, and a line for each model or replacement that was skipped, with the reason.

    Raises
    ------
    InputError
        An unknown model or dtype, a context length or batch that is not a positive whole number, or one listed twice.
    TableError
        A damaged file, or one of another version of the method, PyTorch or driver; nothing is overwritten.
    """
    one_of("dtype", dtype, tuple(DTYPES))
    decoders = [_measurable(model) for model in listed("model", models, distinct=False)]
    listed("model", [model.name for model in decoders])
    lengths = [positive_int("context_length", length) for length in listed("context_length", context_lengths)]
    sizes = [positive_int("batch", batch) for batch in listed("batch", batches)]
    path = folder / host.file
    rows = _rows_so_far(path, host)

    done = {(row["model"], row["context_length"], row["batch"], row["dtype"]) for row in rows}
    todo: dict[tuple[Decoder, int], list[int]] = {}
    for model, batch in product(decoders, sizes):
        todo[model, batch] = [length for length in lengths if (model.name, length, batch, dtype) not in done]

    recording = Recording(path, rows, total=sum(map(len, todo.values())))
    for (model, batch), missing in todo.items():
        if not missing:
            continue
        replacements = REPLACEMENTS if batch == 1 else ()
        try:
            # nothing else holds the bench, so its weights are freed before those of the next model are made
            _add_cases(recording, Bench(model, batch, dtype, host, replacements), missing, budget)
        except (MemoryError, RuntimeError) as error:  # PyTorch's out-of-memory error is a RuntimeError
            recording.skipped.append(f"{model.name}, batch {batch}, {dtype}: {error}".splitlines()[0])
    return recording.made, recording.skipped


def _measurable(model: str | Decoder) -> Decoder:
    """A model that `block.Block` can compute (GPT-2, OPT or LLaMA), by its name; any other is rejected."""
    decoder = get_model(model) if isinstance(model, str) else model
    if decoder.name.removesuffix(PRINTED) not in model_names() or not decoder.is_plain:
        raise InputError(f"model: {decoder.name!r} cannot be measured; those of Table 2 can: {', '.join(MODELS)}")
    return decoder


def _rows_so_far(path: Path, host: Host) -> list[Row]:
    """The rows of the file, if there is one; all must come from this host and its software."""
    rows = read_rows_of(path) if path.exists() or path.is_symlink() else []
    for column, now in (("torch", torch.__version__), ("driver", host.driver), ("device", host.name)):
        require_value(path, rows, column, now, "; measure into another folder")
    return rows


def _add_cases(recording: Recording, bench: Bench, lengths: list[int], budget: float) -> None:
    """Time one model at each of these context lengths."""
    recording.skipped += [f"{bench.model.name}, {kind}: {reason}" for kind, reason in bench.skipped.items()]
    for length in lengths:
        # float64 blocks are slow, and their parts are compared at every length: compare whole blocks at one length only
        recording.add(_case(bench, length, budget, check_blocks=length == lengths[0]))


def _case(bench: Bench, context_length: int, budget: float, check_blocks: bool) -> list[Row]:
    timings = bench.timings(context_length, check_blocks)
    if bench.host.kind == "cuda":
        timings += [captured(timing) for timing in timings]
    time_all(timings, bench.host.kind, budget)
    return rows_of(timings, bench, context_length)


def _progress(made: int, total: int, left: float, what: str) -> None:
    """Print a progress bar with the time left; not by tqdm, which a bare GPU machine may lack."""
    bar = "#" * (20 * made // total)
    line = f"[{bar:<20}] {made}/{total} cases, {left // 60:.0f}:{left % 60:02.0f} left; {what}"
    if sys.stderr.isatty():
        print(f"\r{line:<110}", end="", file=sys.stderr)
    else:
        print(line, file=sys.stderr)
