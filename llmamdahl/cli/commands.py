"""The command line `llmamdahl`: `share`, `crossover`, `sweep`, `models`, `devices`, `scalesim`."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from configparser import ConfigParser
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
import pandas as pd

from llmamdahl import amdahl, analysis
from llmamdahl.cli.parsing import BITS, COUNT, Group
from llmamdahl.errors import InputError
from llmamdahl.hardware import (
    CLOUD_TPU,
    EDGE_TPU,
    PEAKS,
    Dataflow,
    Device,
    Hardware,
    SystolicArray,
    devices,
    find_hardware,
)
from llmamdahl.models import Decoder, benchmarked, find_model, get_model, hybrids, table2_true, zoo
from llmamdahl.question import METRICS, UNREAD, Metric, Settings, Share
from llmamdahl.roofline import Precision, too_large
from llmamdahl.scalesim.reports import COLUMNS, report_rows, write_reports
from llmamdahl.scalesim.topology import more_than_gemm, read_topology
from llmamdahl.systolic import Counting, Folds
from llmamdahl.workload import Heads, Phase, Routing, num_weights

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="llmamdahl")
def main() -> None:
    """How much faster does a whole LLM get if its projections, the products with weights, get faster?

    F = projection / (projection + attention) is the projections' share of the whole (in models with a recurrent state,
    of projection + attention + state), S_partial how much faster they
    become, and S_total = 1 / (1 - F + F / S_partial) how much faster the model becomes (Amdahl's law).

    MODEL is a name of `llmamdahl models`, a Hugging Face id such as meta-llama/Llama-3.1-8B, or the path of a
    config.json or of its folder. HARDWARE is cloud or edge (the TPUs of the paper), a size such as 128x128 (a systolic
    array), or a name of `llmamdahl devices`.

    \b
    llmamdahl share llama-3.1-8b --on cloud -l 2048
    llmamdahl share path/to/config.json --on "A100 80GB" -l 32768 --batch 8 --weights 2 --activations 8 --kv 16
    llmamdahl crossover llama-3.1-8b --on edge
    llmamdahl sweep opt-350m opt-66b --on cloud --on 64x64 -l 128 -l 2048 --csv > sweep.csv
    llmamdahl scalesim --cfg scale.cfg --topology resnet18.csv -o reports
    """


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
SETTINGS = (
    click.option("--batch", type=COUNT, default=1, show_default=True, help="Sequences computed together."),
    click.option("--phase", type=click.Choice(get_args(Phase)), default="decode", show_default=True,
                 help="One new token for each sequence, or a prompt of LENGTH tokens for each."),
    click.option("--heads", type=click.Choice(get_args(Heads)), default="per_head", show_default=True,
                 help="Attention as one MatMul per query head, or one for all heads that share a K and V."),
    click.option("--experts", type=click.Choice(get_args(Routing)), default="even", show_default=True,
                 help="A batch spread evenly over the experts of a mixture, or as a random choice expects."),
    click.option("--metric", type=click.Choice(get_args(Metric)),
                 help="What the parts cost: on an array cycles, memory_accesses (to its SRAM), bytes or, with a clock, "
                 "seconds; on a device seconds or bytes. By default seconds if there are any, else cycles (sweep: "
                 "all but the bytes of an array)."),
    click.option("--counting", type=click.Choice(get_args(Counting)), default="reported", show_default=True,
                 help="Counts of an array as SCALE-Sim 2.0.2 reports them, or without its miscounts (F is lower)."),
    click.option("--folds", type=click.Choice(get_args(Folds)), default="serial", show_default=True,
                 help="Folds of an array one after the other, as in SCALE-Sim, or overlapped."),
    click.option("--clock", type=float, metavar="MHZ", help="Clock of an array; its cycles then become seconds."),
    click.option("--dram", type=float, metavar="GB/S", help="Bandwidth of an array's DRAM; needs --clock."),
    click.option("--refetches/--no-refetches", default=False, show_default=True,
                 help="Whether bytes of an array, and seconds with --dram, count what its SRAMs fetch again."),
    click.option("--dataflow", type=click.Choice([str(dataflow) for dataflow in Dataflow]),
                 help="Dataflow of an array; os unless given."),
    click.option("--weights", type=BITS, metavar="BITS",
                 help="Change the projections' weights from 16 (on an array 8) to this many bits (crossover: they have "
                 "so many); matters for seconds and bytes."),
    click.option("--activations", type=BITS, metavar="BITS", help="The same for the projections' inputs."),
    click.option("--kv", type=BITS, metavar="BITS", help="The same for K and V."),
    click.option("--state", type=BITS, metavar="BITS", help="The same for a recurrent state."),
    click.option("--lm-head", type=BITS, metavar="BITS", help="The same for LM head, token embedding and router."),
    click.option("--unquantized/--no-unquantized", default=False, show_default=True,
                 help="Whether LM head and router, which 1-bit models keep in high precision, are in the whole."),
    AS_JSON,
)  # fmt: skip
"""Options of every command that asks about a model."""


def settings(command: Command) -> Command:
    """Add the options of `SETTINGS` to a command."""
    for option in reversed(SETTINGS):
        command = option(command)
    return command


@dataclass(frozen=True)
class _Asked:
    """The options of a command in the terms of `analysis`."""

    settings: Settings
    of_array: dict[str, Any]
    """Fields of a `SystolicArray` that were given."""
    as_json: bool

    @classmethod
    def of(
        cls, weights: float | None, activations: float | None, kv: float | None, state: float | None,
        lm_head: float | None, dataflow: str | None, clock: float | None, dram: float | None, as_json: bool,
        **others: Any,
    ) -> _Asked:  # fmt: skip
        options = {"weights": weights, "activations": activations, "kv": kv, "state": state, "lm-head": lm_head}
        given = {name: value for name, value in options.items() if value is not None}
        for name, value in given.items():
            if not 0 < value <= 64:
                raise InputError(f"{name}: {value:g} is not a number of bits; it must be above 0 and at most 64")
        if lm_head is not None and not others["unquantized"]:
            raise InputError(f"lm-head: {lm_head:g} bits are given, but it is not in the whole; add --unquantized")
        fields = {"kv": "cache", "lm-head": "unquantized"}
        precision = Precision(**{fields.get(name, name): value for name, value in given.items()}) if given else None
        of_array = {"dataflow": dataflow, "clock_mhz": clock, "dram_gb_s": dram}
        of_array = {name: value for name, value in of_array.items() if value is not None}
        return cls({**others, "precision": precision}, of_array, as_json)  # type: ignore[typeddict-item]

    def place(self, name: str) -> Hardware:
        """The hardware of this name, with the dataflow, clock and DRAM that were asked for."""
        if len(names := name.split(",")) > 1:
            each = " ".join(f"--on {shlex.quote(one.strip())}" for one in names)
            raise InputError(f"hardware: {name!r} is a list; sweep takes several, as in {each}")
        hardware = find_hardware(name)
        if not self.of_array:
            return hardware
        if not isinstance(hardware, SystolicArray):
            option, value = next(iter(self.of_array.items()))
            raise InputError(f"{option}: {value} is given, but {hardware.label} is not an array; leave it out")
        return replace(hardware, **self.of_array)

    def reject_unused(self, models: Sequence[Decoder], places: Iterable[Hardware]) -> None:
        """Reject an option that changes nothing in any of these models, or on any of this hardware."""
        asked, bits = self.settings, self.settings["precision"] or Precision()
        arrays = [place for place in places if isinstance(place, SystolicArray)]
        readings = {"heads": "grouped", "folds": "pipelined", "counting": "corrected", "experts": "expected"}
        given = self.of_array | {name: value for name, value in readings.items() if value in asked.values()}
        for name in UNREAD.get(asked["metric"] or "", "").split():
            if name in given and not (asked["refetches"] and name in ("dataflow", "heads")):
                raise InputError(
                    f"{name}: {given[name]!r} is given, but {asked['metric']} do not depend on it; leave it out"
                )
        if "heads" in given and not arrays:
            raise InputError("heads: 'grouped' is given, but none of the hardware is an array; leave it out")
        of_models = {
            "state": (bits.state, "a recurrent state", any(model.recurrent for model in models)),
            "kv": (bits.cache, "K and V", any(model.num_heads for model in models)),
            "heads": (given.get("heads"), "heads that share a K and V", any(model.heads_share for model in models)),
            "experts": (given.get("experts"), "experts", any(model.experts for model in models)),
        }
        for name, (value, what, there) in of_models.items():
            if value and not there:
                one = f"{models[0].name} has no {what.removeprefix('a ')}"
                who = one if len(models) == 1 else f"none of the models has {what}"
                text = f"{value:g} bits are" if isinstance(value, float) else f"{value!r} is"
                raise InputError(f"{name}: {text} given, but {who}; leave it out")
        waits = not arrays or not arrays[0].clock_mhz or arrays[0].dram_gb_s
        if asked["refetches"] and not waits and asked["metric"] in (None, "seconds"):
            advice = "add --dram, or ask for --metric bytes"
            raise InputError(f"refetches: True is given, but seconds without a DRAM do not depend on it; {advice}")


SCALESIM_3 = ("SparsitySupport", "UseRamulatorTrace", "IfmapCustomLayout", "FilterCustomLayout")
"""Switches of SCALE-Sim 3 in a .cfg, which change its counts; SCALE-Sim 2.0.2 does not read them."""

ON = click.option(
    "--on",
    metavar="HARDWARE",
    default="cloud",
    show_default=True,
    help="cloud, edge, an array of ROWSxCOLS, or a device.",
)
LENGTH = click.option("-l", "--context-length", metavar="LENGTH", type=COUNT, default=2048, show_default=True,
                      help="Tokens attended to, the new one included.")  # fmt: skip


@main.command()
@click.argument("model")
@ON
@LENGTH
@settings
def share(model: str, on: str, context_length: int, **options: Any) -> None:
    """Parts of MODEL, F, ceiling, S_partial and S_total.

    F is the projections' share of the whole before a change of bits, the ceiling is 1 / (1 - F), S_partial and S_total
    are what the change gains. S_total can be above the ceiling, and then both are explained, if the change makes
    another part than the projections faster too (--kv, --state, --lm-head). A model that does not fit into the memory
    of the device is named on stderr, and so is the quantization of a config.json, which is not used.
    """
    asked = _Asked.of(**options)
    place = asked.place(on)
    asked.reject_unused([find_model(model)], [place])
    found = analysis.share(model, context_length, place, **asked.settings)
    _warn_of_memory(find_model(model), place, [context_length], asked.settings)
    _warn_of_quantization(model)
    if asked.as_json:
        click.echo(_json(_answer(found)))
        return
    longest = find_model(model).max_position
    beyond = f" (trained for {longest})" if context_length > longest else ""
    click.echo(f"{_place(found)}, l = {context_length}{beyond}, batch {found.batch}{_readings(found, model)}")
    for part in ("projection", "attention", *["state"] * ("state" in found.whole), "unquantized"):
        left_out = "" if part in found.whole else "  not in the whole"
        waits = found.dram_gb_s is not None or not found.dataflow  # without a DRAM an array only computes
        bound = f"  bound by {found.bound[part]}" if waits and part in found.bound else ""
        click.echo(f"{part:<12} {_cost(getattr(found, part))} {found.metric}{left_out}{bound}")
    click.echo(f"{'F':<12} {found.fraction:.4f} = projection / ({found.whole})")
    alone = float(amdahl.total_speedup(found.fraction, found.partial_speedup))
    others = not math.isclose(alone, found.total_speedup, rel_tol=1e-9)  # another part changes too
    click.echo(f"{'ceiling':<12} {found.ceiling:.4g} = 1 / (1 - F){', if only the projections change' * others}")
    if found.precision:
        word = "8" if found.dataflow else "16"
        click.echo(
            f"{'S_partial':<12} {found.partial_speedup:.4g} for {_bits(found.precision, word)}, from {word} bits"
        )
        click.echo(f"{'S_total':<12} {found.total_speedup:.4g}{f', {alone:.4g} by the projections alone' * others}")
        _hint_at_bytes(found)


@main.command()
@click.argument("model")
@ON
@click.option("-l", "--context-length", metavar="LENGTH", type=COUNT,
              help="Search for the batch at this context length instead.")  # fmt: skip
@settings
def crossover(model: str, on: str, context_length: int | None, **options: Any) -> None:
    """Context length or batch at which F falls to 1/2.

    There the rest of MODEL (attention and a recurrent state, unless --unquantized adds more) costs as much as its
    projections. It does so at every longer context too; in a larger batch F can rise above 1/2 again. Bits are those of
    the model itself. The context length is found for --phase decode only, the batch for both.
    """
    asked = _Asked.of(**options)
    place = asked.place(on)
    asked.reject_unused([find_model(model)], [place])
    batch, precision = asked.settings["batch"], asked.settings.pop("precision")
    if precision is not None:
        asked.settings["baseline"] = precision
    case = analysis.share(model, context_length or 1, place, **asked.settings)  # for its labels
    _warn_of_quantization(model)
    if context_length is None:
        found = analysis.crossover_context_length(model, place, **asked.settings)
        fixed, value, what, bound = "batch", batch, "context_length", "2**30"
    else:
        if batch != 1:
            raise InputError(f"batch: {batch} is given, but with -l it is searched; leave one out")
        del asked.settings["batch"]
        found = analysis.crossover_batch(model, context_length, place, **asked.settings)
        fixed, value, what, bound = "context_length", context_length, "batch", "2**16"
    if asked.as_json:
        names = ("model", "hardware", "dataflow", "phase", "heads", "experts", "counting", "folds", "metric", "whole")
        click.echo(_json({**{name: getattr(case, name) for name in names}, fixed: value, what: found}))
        return
    fixed, what = fixed.replace("_", " "), what.replace("_", " ")
    bits = "" if precision is None else f", {_bits(case.baseline, '8' if case.dataflow else '16')}"
    reached = f"F <= 1/2 from {what} {found}" if found else f"F > 1/2 up to {what} {bound}"
    click.echo(f"{_place(case)}, {fixed} {value}{_readings(case, model)}{bits}, F of {case.metric}")
    click.echo(f"{reached}, F = projection / ({case.whole})")
    if precision is not None:
        _hint_at_bytes(case)


@main.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--on", metavar="HARDWARE", multiple=True, default=["cloud"], show_default=True, help="Repeatable.")
@click.option("-l", "--context-length", "lengths", metavar="LENGTH", type=COUNT, multiple=True, default=[2048],
              show_default=True, help="Repeatable.")  # fmt: skip
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table.")
@settings
def sweep(models: tuple[str, ...], on: tuple[str, ...], lengths: tuple[int, ...], as_csv: bool, **options: Any) -> None:
    """Parts and F of many models, lengths and hardware.

    One row for each combination of MODELS, context lengths, hardware and metric. Of models with equal names those that
    are read from a path are named as it is given.
    """
    asked = _Asked.of(**options)
    if as_csv and asked.as_json:
        raise InputError("csv: --csv and --json are both given; choose one")
    places, decoders = [asked.place(name) for name in on], _told_apart(models)
    asked.reject_unused(decoders, places)
    frame = analysis.sweep(decoders, lengths, places, **asked.settings)
    for model in models:
        _warn_of_quantization(model)
    for decoder, place in product(decoders, places):
        _warn_of_memory(decoder, place, lengths, asked.settings)
    _print(frame, asked.as_json, as_csv)


@main.command("models")
@click.argument("text", required=False)
@AS_JSON
def list_models(text: str | None, as_json: bool) -> None:
    """List the models, or those that contain TEXT.

    TEXT is searched in names and families.
    """
    rows = [{"name": row["name"], "family": row["family"], "table": "Table 2"} for row in table2_true()]
    for table, models in {"zoo": zoo(), "hybrids": hybrids(), "benchmarked": benchmarked()}.items():
        rows += [{"name": row["name"], "family": row["family"], "table": table} for row in models]
    kept = [row for row in rows if text is None or text.casefold() in f"{row['name']} {row['family']}"]
    for row in kept:
        model = find_model(row["name"])
        row |= {"layers": model.num_layers, "d": model.hidden_size, "heads": model.num_heads}
        row |= {"max_position": model.max_position, "weights_billion": round(num_weights(model) / 1e9, 3)}
    if not kept:
        raise InputError(f"text: no model's name or family contains {text!r}; llmamdahl models lists all")
    _print(pd.DataFrame(kept), as_json)


@main.command("devices")
@AS_JSON
def list_devices(as_json: bool) -> None:
    """List the arrays and devices; with --json also where each number comes from.

    Peaks are 10^12 operations a second, without sparsity; memory is in GB of 2^30 bytes.
    """
    arrays = [{"name": array.name, "kind": f"{array.rows}x{array.cols} array"} for array in (CLOUD_TPU, EDGE_TPU)]
    frame = pd.concat([pd.DataFrame(arrays).assign(source="Table 3"), devices()], ignore_index=True)
    frame = frame[["name", "kind", "bandwidth_gb_s", "memory_gb", *PEAKS, "source"]]
    _print(frame if as_json else frame.drop(columns="source"), as_json)


@main.command()
@click.option("--cfg", required=True, type=click.Path(path_type=Path), help="SCALE-Sim's file of the array.")
@click.option("--topology", required=True, type=click.Path(path_type=Path), help="SCALE-Sim's file of the layers.")
@click.option("--gemm", is_flag=True, help="The topology lists M, N and K (scalesim -i gemm) instead of conv layers.")
@click.option("-o", "--output", metavar="FOLDER", type=click.Path(path_type=Path),
              help="Write the three reports into FOLDER/RUN_NAME, as scalesim -p FOLDER does.")  # fmt: skip
@AS_JSON
def scalesim(cfg: Path, topology: Path, gemm: bool, output: Path | None, as_json: bool) -> None:
    """SCALE-Sim's reports for its input files, a .cfg and a topology.

    The reports are byte for byte those of SCALE-Sim 2.0.2, without a simulation. Without -o the compute report is
    printed.
    """
    array = SystolicArray.from_scalesim_cfg(cfg)
    layers = read_topology(topology, "gemm" if gemm else "conv")
    if gemm and (more := more_than_gemm(topology)):
        click.echo(f"{topology}: {more}; the first 4 are read, as SCALE-Sim 2.0.2 does", err=True)
    _warn_of_scalesim_3(cfg)
    if output is not None:
        try:
            folder = write_reports(layers, array, output)
        except OSError as error:  # that of a full disk does not name the file
            raise OSError(error.errno, error.strerror, error.filename or str(output)) from None
        click.echo(_json({"folder": str(folder)}) if as_json else f"{folder}: {', '.join(sorted(COLUMNS))}")
        return
    rows = report_rows(layers, array)
    if as_json:
        click.echo(_json(rows))
    else:
        _print(pd.DataFrame(rows["COMPUTE_REPORT"]), as_json)


def _told_apart(models: Sequence[str]) -> list[Decoder]:
    """The models; one that is read from a path, and whose name another model has too, is named as the path is given."""
    found = [_model_or_hint(model) for model in models]
    for model in found:
        if (number := found.count(model)) > 1:
            raise InputError(f"models: {model.name!r} is listed {number} times; list it once")
    numbers = Counter(model.name for model in found)
    pairs = zip(models, found, strict=True)
    return [replace(model, name=given) if numbers[model.name] > 1 and _path(given) else model for given, model in pairs]


def _model_or_hint(name: str) -> Decoder:
    """A model of a sweep; of a length or hardware in its place, the message says how an option takes several values."""
    try:
        return find_model(name)
    except InputError:
        option = "-l" if name.isdecimal() else ""
        with suppress(InputError):
            option = option or ("--on" if find_hardware(name) else "")
        if not option:
            raise
    raise InputError(
        f"model: {name!r} is unknown; an option of several values is repeated: {option} {shlex.quote(name)}"
    )


def _path(model: str) -> Path | None:
    """The config.json that a model is read from; None for a name, which wins over a path that is spelled the same."""
    with suppress(InputError):
        get_model(model)
        return None
    return Path(model, "config.json") if Path(model).is_dir() else Path(model)


def _answer(found: Share) -> dict[str, Any]:
    """A share as JSON has it, under the names of its fields; a state only where a model has one."""
    kept = asdict(found)
    if "state" not in found.whole:
        for record in (kept, kept["baseline"], kept["precision"] or {}):
            record.pop("state", None)
    return kept


def _json(value: Any) -> str:
    """JSON, with null for infinity and NaN."""

    def finite(one: Any) -> Any:
        if isinstance(one, dict):
            return {key: finite(inner) for key, inner in one.items()}
        if isinstance(one, list):
            return [finite(inner) for inner in one]
        return None if isinstance(one, float) and not math.isfinite(one) else one

    return json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False)


def _print(frame: pd.DataFrame, as_json: bool, as_csv: bool = False) -> None:
    """A table as JSON records, as CSV with all digits, or aligned for reading."""
    if as_json:
        click.echo(frame.to_json(orient="records", indent=2, double_precision=15, force_ascii=False))
    elif as_csv:
        click.echo(frame.to_csv(index=False, lineterminator="\n"), nl=False)
    else:
        click.echo(frame.to_string(index=False, na_rep="-", float_format=lambda value: f"{value:.6g}"))


def _cost(value: float) -> str:
    return f"{value:>20,}" if isinstance(value, int) else f"{value:>20.6g}"


def _place(found: Share) -> str:
    """Model, hardware and phase."""
    return f"{found.model} on {', '.join(filter(None, (found.hardware, found.dataflow)))}: {found.phase}"


def _warn_of_memory(model: Decoder, place: Hardware, lengths: Iterable[int], settings: Settings) -> None:
    """Name on stderr a model that a device cannot hold, before the change of bits and, if there is one, after it."""
    if not isinstance(place, Device):
        return
    for length in sorted(lengths):
        if needs := too_large(model, place, length, settings["precision"], batch=settings["batch"]):
            click.echo(f"{model.name} does not fit into {place.label}: at l = {length} {needs}", err=True)
            return


def _warn_of_quantization(model: str) -> None:
    """Say on stderr that a `quantization_config` is not used, as `from_hf_config` says in its docstring."""
    path = _path(model)
    if path is not None and path.is_file() and "quantization_config" in json.loads(path.read_text(encoding="utf-8")):
        click.echo(f"{path}: quantization_config is not used; before a change all has 16 bits, on an array 8", err=True)


def _warn_of_scalesim_3(cfg: Path) -> None:
    """Name on stderr what a .cfg, which has been read as that of an array, asks of SCALE-Sim 3 alone."""
    config = ConfigParser(interpolation=None)
    config.read(cfg, encoding="utf-8")
    found = [
        f"{key}: {config[section][key]}"
        for section, key in product(config.sections(), SCALESIM_3)
        if config[section].get(key, "").strip().casefold() == "true"
    ]
    if found:
        click.echo(f"{cfg}: {', '.join(found)}: of SCALE-Sim 3, and not used; the reports are those of 2.0.2", err=True)


def _hint_at_bytes(found: Share) -> None:
    """Say that a change of bits cannot change what an array counts."""
    if found.metric in METRICS:
        click.echo(f"{found.metric} of an array do not depend on bits; try --metric bytes")


def _readings(found: Share, model: str) -> str:
    """Names the readings that are not the paper's, and how heads are counted on an array if they share a K and V."""
    decoder = find_model(model)
    texts = ["heads per_head"] if found.dataflow and found.heads == "per_head" and decoder.heads_share else []
    texts += [found.readings] if found.readings else []
    texts += [f"{found.clock_mhz:g} MHz, no DRAM limit"] if found.clock_mhz and not found.dram_gb_s else []
    return "".join(f", {text}" for text in texts)


def _bits(precision: Precision, word: str) -> str:
    """`W2 A8 KV16`, and the LM head's bits where they are not those of a word."""
    text = f"W{precision.weights:g} A{precision.activations:g} KV{precision.cache:g}"
    head = f"{precision.unquantized:g}"
    text += "" if precision.state is None else f" state {precision.state:g}"
    return text if head == word else f"{text} LM head {head}"
