"""The command line: its numbers are the library's, every command has JSON, and bad input is one line."""

import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

import llmamdahl as la
from llmamdahl import cli
from llmamdahl.analysis import crossover_batch, crossover_context_length, share, sweep
from llmamdahl.roofline import Precision
from llmamdahl.scalesim.reports import report_rows, write_reports
from llmamdahl.scalesim.topology import read_topology
from llmamdahl.tables import ROOT

CONFIG = ROOT / "tests" / "data" / "hf_configs" / "Meta-Llama-3.1-8B.json"


def run(*arguments, fails=False):
    done = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    assert (done.exit_code != 0) == fails, done.output
    return done.output


def test_share_prints_what_the_library_computes():
    asked = ["llama-3.1-8b", "--on", "a100 80gb", "-l", 32768, "--batch", 8, "--weights", 2, "--activations", 8]
    found = json.loads(run("share", *asked, "--json"))
    ours = share("llama-3.1-8b", 32768, "A100 80GB", batch=8, precision=Precision(2, 8))
    assert found["hardware"] == "A100 80GB" and found["whole"] == "projection + attention"
    for name in ("projection", "attention", "unquantized", "fraction", "ceiling", "partial_speedup", "total_speedup"):
        assert found[name] == getattr(ours, name)
    text = run("share", *asked)
    assert f"F            {ours.fraction:.4f} = projection / (projection + attention)" in text
    assert f"S_partial    {ours.partial_speedup:.4g} for W2 A8 KV16, from 16 bits" in text
    assert "projection" in text and "bound by memory" in text and "not in the whole" in text


def test_readings_are_options_and_are_named():
    readings = ["--folds", "pipelined", "--clock", 700, "--dram", 2, "--experts", "expected", "--refetches"]
    asked = ["mixtral-8x7b-v0.1", "--on", "edge", "--batch", 3, "--heads", "grouped", "--kv", 4, *readings]
    array = la.SystolicArray(32, 32, name="edge", clock_mhz=700, dram_gb_s=2)
    settings = {"folds": "pipelined", "experts": "expected", "refetches": True, "heads": "grouped"}
    ours = share("mixtral-8x7b-v0.1", 2048, array, batch=3, precision=Precision(cache=4), **settings)
    found = json.loads(run("share", *asked, "--json"))
    assert found["metric"] == "seconds" and found["total_speedup"] == ours.total_speedup > 1
    text = run("share", *asked)
    assert ours.readings in text and "W8 A8 KV4, from 8 bits" in text
    fails = {"--folds": "folds: 'pipelined'", "--clock": "--clock: 700", "--dram": "--dram: 34"}
    for option, message in fails.items():
        value = {"--folds": "pipelined", "--clock": 700, "--dram": 34}[option]
        assert message in run("share", "opt-350m", "--on", "H200", option, value, fails=True)
    assert "--clock: missing; a --dram of 34 needs one" in run("share", "opt-350m", "--dram", 34, fails=True)
    assert "give it a --clock" in run("share", "opt-350m", "--metric", "seconds", fails=True)
    assert "'32k' is not a whole number; write its digits" in run("share", "opt-350m", "-l", "32k", fails=True)


def test_a_ceiling_of_projections_alone_is_called_so():
    asked = ["llama-3.1-8b", "--on", "RTX 4090", "-l", 131072, "--weights", 2, "--activations", 8]
    text = run("share", *asked)
    assert " = 1 / (1 - F)\n" in text and "alone" not in text
    change = Precision(weights=2, activations=8, cache=2)
    both = share("llama-3.1-8b", 131072, "RTX 4090", precision=change)
    assert both.total_speedup > both.ceiling
    text = run("share", *asked, "--kv", 2)
    alone = la.total_speedup(both.fraction, both.partial_speedup)
    assert f"ceiling      {both.ceiling:.4g} = 1 / (1 - F), if only the projections change\n" in text
    assert f"S_total      {both.total_speedup:.4g}, {alone:.4g} by the projections alone" in text


@pytest.mark.parametrize("command", ["share", "crossover", "sweep"])
def test_a_name_wins_over_a_file_that_is_spelled_the_same(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").write_text("no JSON", encoding="utf-8")
    done = CliRunner().invoke(cli.main, [command, "gpt2"])
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["share", "crossover", "sweep"])
def test_a_quantization_that_is_not_used_is_named_on_stderr(command, tmp_path):
    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    path = tmp_path / "config.json"
    for given, said in (({}, ""), ({"quantization_config": {"bits": 4}}, f"{path}: quantization_config is not used")):
        path.write_text(json.dumps(config | given), encoding="utf-8")
        for model in (path, tmp_path):
            done = CliRunner().invoke(cli.main, [command, str(model)])
            assert done.exit_code == 0 and done.stderr.startswith(said) and bool(done.stderr) == bool(said)


def test_share_on_an_array():
    found = json.loads(run("share", "opt-350m", "--on", "32X32", "--dataflow", "ws", "--unquantized", "--json"))
    ours = share("opt-350m", 2048, la.SystolicArray(32, 32, "ws"), unquantized=True)
    assert (found["projection"], found["fraction"]) == (ours.projection, ours.fraction)
    text = run("share", "opt-350m", "--weights", 2, "-l", 4096)
    assert "cycles of an array do not depend on bits" in text and "(trained for 2048)" in text
    longer = share("opt-350m", 4096, "cloud")
    assert f"F            {longer.fraction:.4f} = " in text and "S_partial    1 for W2 A8 KV8, from 8 bits" in text


def test_a_config_gives_the_numbers_of_its_model():
    from_file, by_name = (json.loads(run("share", model, "--json")) for model in (CONFIG, "llama-3.1-8b"))
    assert from_file.pop("model") != by_name.pop("model")
    assert from_file == by_name


def test_crossover_prints_what_the_library_computes():
    length = crossover_context_length("llama-3.1-8b", "cloud")
    assert json.loads(run("crossover", "llama-3.1-8b", "--json"))["context_length"] == length
    first, second = run("crossover", "llama-3.1-8b").splitlines()
    assert first == "llama-3.1-8b on cloud, os: decode, batch 1, heads per_head, F of cycles"
    assert second == f"F <= 1/2 from context length {length}, F = projection / (projection + attention)"
    batch = crossover_batch("opt-6.7b", 2048, "edge")
    assert f"F <= 1/2 from batch {batch}, " in run("crossover", "opt-6.7b", "--on", "edge", "-l", 2048)
    narrow = json.loads(run("crossover", "llama-3.1-8b", "--on", "H200", "--weights", 2, "--json"))
    ours = crossover_context_length("llama-3.1-8b", "H200", baseline=Precision(weights=2))
    assert (narrow["context_length"], narrow["metric"]) == (ours, "seconds")
    assert json.loads(run("crossover", "gpt2", "--on", "edge", "-l", 1, "--json"))["batch"] is None
    prefill = run("crossover", "opt-350m", "--phase", "prefill", "-l", 4096)
    batch = crossover_batch("opt-350m", 4096, "cloud", phase="prefill")
    assert "cloud, os: prefill, context length 4096" in prefill and f"F <= 1/2 from batch {batch}, " in prefill


def test_sweep_prints_what_the_library_computes():
    asked = ["sweep", "gpt2", "opt-66b", "--on", "cloud", "--on", "edge", "-l", 128, "-l", 4096]
    ours = sweep(["gpt2", "opt-66b"], [128, 4096], ["cloud", "edge"])
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(run(*asked, "--csv"))), ours, rtol=1e-15)
    assert [row["fraction"] for row in json.loads(run(*asked, "--json"))] == pytest.approx(ours.fraction.tolist())
    assert len(run(*asked).splitlines()) == len(ours) + 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["share", "llama-2-13b", "--weights", 4],
            "at l = 2048 26 GB of weights, K and V at 16 bits, 8 GB after the change; it has 24 GB",
        ),
        (["share", "llama-2-13b", "--json"], "at l = 2048 26 GB of weights, K and V at 16 bits; it has 24 GB"),
        (
            ["sweep", "llama-2-13b", "--on", "cloud", "-l", 8192, "-l", 128],
            "at l = 128 24 GB of weights, K and V at 16 bits; it has 24 GB",
        ),
        (["share", "llama-3.1-8b", "--batch", 1], ""),
        (["share", "llama-3.1-8b", "--batch", 64], "at l = 2048 31 GB of weights, K and V at 16 bits; it has 24 GB"),
    ],
)
def test_a_model_that_the_device_cannot_hold_is_named_beside_the_answer(arguments, said):
    done = CliRunner().invoke(cli.main, [*map(str, arguments), "--on", "RTX 4090"])
    assert done.exit_code == 0 and "RTX 4090" in done.stdout and "does not fit" not in done.stdout
    assert done.stderr == (f"{arguments[1]} does not fit into RTX 4090: {said}\n" if said else "")


def test_memory_is_not_asked_of_arrays_and_of_devices_that_have_no_size():
    assert not CliRunner().invoke(cli.main, ["share", "llama-3.1-405b"]).stderr
    assert not CliRunner().invoke(cli.main, ["share", "llama-3.1-405b", "--on", "Apple M1"]).stderr


def test_models_and_devices():
    names = {row["name"] for row in json.loads(run("models", "--json"))}
    assert {*la.model_names(), *la.zoo_names()} <= names
    found = json.loads(run("models", "LLAMA-3.1", "--json"))
    assert [row["name"] for row in found] == ["llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b"]
    assert "llama-3.1-8b" in run("models", "llama-3.1")
    listed = json.loads(run("devices", "--json"))
    assert [row["name"] for row in listed] == ["cloud", "edge", *la.devices().name]
    assert all(row["source"] for row in listed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["share", "lama-3.1-8b"], "model: 'lama-3.1-8b' is unknown; did you mean llama-3.1-8b"),
        (["share", "gpt2", "--on", "edgy"], "hardware: 'edgy' is unknown; did you mean edge?"),
        (["share", "gpt2", "-l", "0"], "context_length: 0 is not a positive whole number"),
        (["share", "gpt2", "--weights", "0"], "weights: 0 is not a number of bits"),
        (["share", "gpt2", "--kv", "65"], "kv: 65 is not a number of bits"),
        (["share", "gpt2", "--lm-head", "4"], "lm-head: 4 bits are given, but it is not in the whole; add --unquant"),
        (
            ["share", "gpt2", "--on", "H200", "--counting", "corrected"],
            "counting: 'corrected' is given, but H200 is not",
        ),
        (["share", "gpt2", "--on", "H200", "--batch", str(2**999)], "W_I: its bytes or operations are too large"),
        (["share", "nothere/config.json"], "model: 'nothere/config.json': no such file"),
        (
            ["crossover", "gpt2", "--phase", "prefill"],
            "phase: 'prefill' is given, but a context length is found for decode only; leave it out",
        ),
        (["share", "gpt2", "--refetches"], "refetches: True is given, but cycles do not depend on it; ask for"),
        (["sweep", "gpt2", "--refetches"], "refetches: True is given, but cycles do not depend on it; ask for"),
        (["crossover", "gpt2", "--refetches", "--metric", "memory_accesses"], "refetches: True is given, but mem"),
        (["sweep", "gpt2", "--csv", "--json"], "csv: --csv and --json are both given; choose one"),
        (["share", "gpt2", "--on", "H200", "--dataflow", "ws"], "dataflow: ws is given, but H200 is not an array"),
        (
            ["share", "gpt2", "--metric", "seconds"],
            "metric: cloud has no 'seconds'; it has cycles, memory_accesses, bytes",
        ),
        (["crossover", "gpt2", "-l", "128", "--batch", "4"], "batch: 4 is given, but with -l it is searched"),
        (["models", "nonesuch"], "text: no model's name or family contains 'nonesuch'"),
        (["sweep", "gpt2", "--on", "edge", "--on", "EDGE"], "arrays: 'edge, os' is listed 2 times"),
        (["share", "gpt2", "--on", "H200", "--state", "4"], "state: 4 bits are given, but gpt2 has no recurrent state"),
        (["crossover", "gpt2", "--state", "4"], "state: 4 bits are given, but gpt2 has no recurrent state; leave"),
        (["sweep", "gpt2", "opt-1.3b", "--state", "4"], "state: 4 bits are given, but none of the mod"),
        (["share", "mamba2-2.7b", "--on", "H200", "--kv", "4"], "kv: 4 bits are given, but mamba2-2.7b has no K and V"),
        (
            ["share", "gpt2", "--batch", "4", "--experts", "expected"],
            "experts: 'expected' is given, but gpt2 has no experts; leave it out",
        ),
        (
            ["share", "gpt2", "--clock", "700", "--refetches"],
            "refetches: True is given, but seconds without a DRAM do not depend on it; add --dram, or ask for",
        ),
        (["share", "gpt2", "--heads", "grouped"], "heads: 'grouped' is given, but gpt2 has no heads that share a K"),
        (
            ["share", "llama-3.1-8b", "--on", "H200", "--heads", "grouped"],
            "heads: 'grouped' is given, but none of the hardware is an array; leave it out",
        ),
        (
            ["share", "llama-3.1-8b", "--heads", "grouped", "--metric", "bytes"],
            "heads: 'grouped' is given, but bytes do not depend on it; leave it out",
        ),
        (
            ["crossover", "gpt2", "--folds", "pipelined", "--metric", "memory_accesses"],
            "folds: 'pipelined' is given, but memory_accesses do not depend on it; leave it out",
        ),
        (
            ["share", "gpt2", "--counting", "corrected", "--metric", "bytes"],
            "counting: 'corrected' is given, but bytes",
        ),
        (["sweep", "gpt2", "--dataflow", "ws", "--metric", "bytes"], "dataflow: 'ws' is given, but bytes do not"),
        (
            ["share", "gpt2", "--clock", "700", "--metric", "cycles"],
            "--clock: 700.0 is given, but cycles do not depend",
        ),
        (
            ["sweep", "gpt2", "-l", "128", "256"],
            "model: '256' is unknown; an option of several values is repeated: -l 256\n",
        ),
        (
            ["sweep", "gpt2", "--on", "cloud", "A100 80GB"],
            "model: 'A100 80GB' is unknown; an option of several values is repeated: --on 'A100 80GB'\n",
        ),
        (
            ["share", "gpt2", "--on", "cloud,A100 80GB"],
            "hardware: 'cloud,A100 80GB' is a list; sweep takes several, as in --on cloud --on 'A100 80GB'\n",
        ),
        (["sweep", "gpt2", "--on", "cloud, edge"], "hardware: 'cloud, edge' is a list; sweep takes several, as in --o"),
        (["sweep", "gpt2", "--clock", "700", "--refetches", "--metric", "seconds"], "refetches: True is given"),
    ],
)
def test_bad_input_is_reported_in_one_line(arguments, message):
    output = run(*arguments, fails=True)
    assert output.startswith(f"Error: {message}") and len(output.splitlines()) == 1 and len(output) < 300


@pytest.mark.parametrize(
    "arguments",
    [
        ["--state", 4, "--kv", 4, "--on", "H200"],
        ["--experts", "expected", "--batch", 4],
        ["--dataflow", "ws", "--refetches", "--metric", "bytes", "--heads", "grouped"],
    ],
)
def test_a_sweep_takes_what_matters_to_one_of_its_models(arguments):
    assert "mamba2-2.7b" in run("sweep", "gpt2", "mamba2-2.7b", "mixtral-8x7b-v0.1", *arguments)


@pytest.mark.parametrize(
    ("command", "twice", "name"),
    [
        ("share", ["--on", "cloud", "--on", "edge"], "on: --on"),
        ("share", ["-l", 128, "--context-length", 128], "context-length: --context-length"),
        ("crossover", ["--phase", "decode", "--phase", "prefill"], "phase: --phase"),
        ("sweep", ["--refetches", "--no-refetches"], "refetches: --refetches/--no-refetches"),
    ],
)
def test_a_single_option_given_twice_is_rejected(command, twice, name):
    assert run(command, "gpt2", *twice, fails=True) == f"Error: {name} is given 2 times; give it once\n"


def test_a_part_of_0_seconds_is_bound_by_nothing():
    text = run("share", "mamba2-2.7b", "--on", "H200")
    assert re.search(r"(?m)^attention +0 seconds$", text) and re.search(r"(?m)^state .* bound by memory$", text)
    assert {*json.loads(run("share", "mamba2-2.7b", "--on", "H200", "--json"))["bound"]} == {"projection", "state"}


def test_models_of_one_name_are_told_apart_by_their_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    for folder, layers in {"v1": 32, "v2": 30, "v3": 32}.items():
        path = tmp_path / folder / "model" / "config.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({**config, "num_hidden_layers": layers}), encoding="utf-8")
    rows = json.loads(run("sweep", "v1/model", "v2/model/", "gpt2", "--metric", "cycles", "--json"))
    assert [row["model"] for row in rows] == ["v1/model", "v2/model/", "gpt2"]
    assert rows[0]["projection"] > rows[1]["projection"]
    (tmp_path / "llama-3.1-70b.json").write_text(json.dumps(config), encoding="utf-8")
    done = CliRunner().invoke(cli.main, ["sweep", "llama-3.1-70b.json", "llama-3.1-70b", "--on", "RTX 4090", "--json"])
    assert {row["model"] for row in json.loads(done.stdout)} == {"llama-3.1-70b.json", "llama-3.1-70b"}
    assert done.stderr.startswith("llama-3.1-70b does not fit into RTX 4090")
    said = "is listed 2 times; list it once\n"
    assert run("sweep", "v1/model", "v2/model", "v3/model", fails=True) == f"Error: models: 'model' {said}"
    assert run("sweep", "gpt2", "GPT2", fails=True) == f"Error: models: 'gpt2' {said}"
    assert json.loads(run("sweep", "v1/model", "--json"))[0]["model"] == "model"


@pytest.mark.parametrize("option", ["--weights", "--activations", "--kv", "--state", "--lm-head"])
def test_bits_that_are_no_number(option):
    said = run("share", "gpt2", option, "ternary", fails=True).splitlines()[-1]
    assert said.endswith("'ternary' is not a number of bits; write one, as in 1.58 for ternary weights")
    assert "'2,58' is not a number of bits" in run("share", "gpt2", option, "2,58", fails=True)


def test_an_unknown_format_names_the_table_of_the_known_ones_where_it_is(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "zzz"}', encoding="utf-8")
    table = re.search(r"more of (\S+)$", run("share", tmp_path, fails=True).strip())[1]
    assert Path(table).is_absolute() and "llama" in Path(table).read_text(encoding="utf-8")


INPUTS = ROOT / "tests" / "data" / "scalesim"


def test_scalesim_writes_scale_sim_s_reports(tmp_path):
    asked = ["scalesim", "--cfg", INPUTS / "configs" / "alexnet_os_128x96.cfg"]
    asked += ["--topology", INPUTS / "topologies" / "alexnet.csv"]
    run(*asked, "-o", tmp_path)
    reports = sorted((INPUTS / "reports" / "alexnet" / "alexnet_os_128x96").glob("*.csv"))
    layers = read_topology(INPUTS / "topologies" / "alexnet.csv")
    of_library = write_reports(layers, la.SystolicArray.from_scalesim_cfg(asked[2]), tmp_path / "library")
    assert len(reports) == 3
    for report in reports:  # tests/test_reports.py compares those of the library with SCALE-Sim's
        assert (tmp_path / "alexnet_os_128x96" / report.name).read_bytes() == (of_library / report.name).read_bytes()
    rows = json.loads(run(*asked, "--json"))
    assert [row["Total Cycles"] for row in rows["COMPUTE_REPORT"]] == pd.read_csv(
        reports[[report.stem for report in reports].index("COMPUTE_REPORT")], skipinitialspace=True
    )["Total Cycles"].tolist()
    assert len(run(*asked).splitlines()) == 6
    assert run("scalesim", "--cfg", "none.cfg", "--topology", "none.csv", fails=True).startswith("Error: none.cfg: ")


def scalesim(cfg, topology, *options):
    done = CliRunner().invoke(cli.main, ["scalesim", "--cfg", str(cfg), "--topology", str(topology), *options])
    assert done.exit_code == 0, done.output
    return done


def test_convolutions_read_as_gemm_are_named_beside_scale_sim_s_reports():
    cfg, topology = INPUTS / "configs" / "scale.cfg", INPUTS / "topologies" / "test.csv"
    done = scalesim(cfg, topology, "--gemm", "--json")
    cells = topology.read_text(encoding="utf-8").splitlines()[1].count(",")
    known = (
        "a GEMM has 4, its name, M, N and K, and a convolution 8 or 9; the first 4 are read, as SCALE-Sim 2.0.2 does"
    )
    assert done.stderr == f"{topology}: line 2 has {cells} cells before its last comma; {known}\n"
    array = la.SystolicArray.from_scalesim_cfg(cfg)
    assert json.loads(done.stdout) == json.loads(json.dumps(report_rows(read_topology(topology, "gemm"), array)))
    assert not scalesim(cfg, topology).stderr


def test_a_gemm_topology_is_read_without_a_word(tmp_path):
    (tmp_path / "gemm.csv").write_text("Layer, M, N, K,,\nQ, 1, 768, 768, ,\n", encoding="utf-8")
    assert not scalesim(INPUTS / "configs" / "scale.cfg", tmp_path / "gemm.csv", "--gemm").stderr


def test_what_a_cfg_asks_of_scale_sim_3_is_named(tmp_path):
    text = (INPUTS / "configs" / "scale.cfg").read_text(encoding="utf-8")
    for key in ("IfmapCustomLayout", "SparsitySupport", "UseRamulatorTrace"):
        text, count = re.subn(rf"(?m)^({key} *[:=] *)\S+$", r"\1True", text)
        assert count == 1, key
    (tmp_path / "three.cfg").write_text(text, encoding="utf-8")
    topology = INPUTS / "topologies" / "test.csv"
    done, plain = (scalesim(cfg, topology) for cfg in (tmp_path / "three.cfg", INPUTS / "configs" / "scale.cfg"))
    found = {"UseRamulatorTrace: True", "IfmapCustomLayout: True", "SparsitySupport: True"}
    path, _, said = done.stderr.removesuffix("\n").partition(": ")
    assert (path, {*said.partition(": of ")[0].split(", ")}) == (str(tmp_path / "three.cfg"), found)
    assert said.endswith(": of SCALE-Sim 3, and not used; the reports are those of 2.0.2") and "\n" not in said
    assert (done.stdout, plain.stderr) == (plain.stdout, "")


def test_reports_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("here")
    asked = ["scalesim", "--cfg", INPUTS / "configs" / "scale.cfg", "--topology", INPUTS / "topologies" / "test.csv"]
    said = run(*asked, "-o", tmp_path / "file", fails=True)
    assert said.startswith(f"Error: {tmp_path}/file/") and "cannot be read or written (Not a directory)" in said
    assert (tmp_path / "file").read_text() == "here"
    cfg = (INPUTS / "configs" / "scale.cfg").read_text()
    (tmp_path / "up.cfg").write_text(re.sub(r"(?m)^run_name *=.*$", "run_name = ..", cfg))
    said = run("scalesim", "--cfg", tmp_path / "up.cfg", *asked[3:], "-o", tmp_path / "out", fails=True)
    assert said.startswith("Error: name: '..' cannot name SCALE-Sim's folder of reports")
    assert not [*tmp_path.glob("*.csv")]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["share", "opt-350m"], ["share", "--help"], ["--help"], ["--version"]])
def test_a_standard_output_that_is_full_is_named(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "llmamdahl", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
    assert done.returncode == 1
    assert done.stderr == "Error: standard output: cannot be read or written (No space left on device)\n"


def test_a_disk_that_is_full_is_named_by_the_folder_of_reports(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("llmamdahl.cli.commands.write_reports", full)
    asked = ["scalesim", "--cfg", INPUTS / "configs" / "scale.cfg", "--topology", INPUTS / "topologies" / "test.csv"]
    said = run(*asked, "-o", tmp_path, fails=True)
    assert said == f"Error: {tmp_path}: cannot be read or written (No space left on device)\n"


def test_help_names_every_command_and_option():
    whole = run("--help")
    for name, command in cli.main.commands.items():
        assert f"\n  {name} " in whole
        text = run(name, "--help")
        assert all(option.opts[-1] in text for option in command.params if option.param_type_name == "option")
        assert all(option.help for option in command.params if option.param_type_name == "option")


def test_python_m_llmamdahl():
    done = subprocess.run(
        [sys.executable, "-m", "llmamdahl", "share", "gpt2"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.startswith("gpt2 on cloud, os: decode, l = 2048 (trained for 1024), batch 1\n")


def test_heads_are_named_where_they_matter():
    """On an array, if query heads share a K and V; not in multi-head attention, nor on a device."""
    assert ", batch 1, heads per_head\n" in run("share", "llama-3.1-8b")
    assert "heads" not in run("share", "opt-6.7b") + run("share", "llama-3.1-8b", "--on", "H200")
    text = run("share", "llama-3.1-8b", "--heads", "grouped")
    assert ", batch 1, heads grouped\n" in text and "F            0.9387 = " in text
    assert "heads grouped" in run("crossover", "llama-3.1-8b", "--heads", "grouped")


def test_a_crossover_keeps_the_name_of_its_model_and_says_where_bits_do_not_matter():
    text = run("crossover", "bitnet_b1_58-large", "--weights", 2)
    assert text.startswith("bitnet_b1_58-large on cloud, os: decode, batch 1, W2 A8 KV8, F of cycles\n")
    assert text.endswith("cycles of an array do not depend on bits; try --metric bytes\n")
    assert "depend on bits" not in run("crossover", "bitnet_b1_58-large", "--weights", 2, "--on", "H200")


def test_a_clock_without_a_memory_is_named_and_bounds_nothing():
    text = run("share", "opt-6.7b", "--clock", 700)
    assert text.splitlines()[0].endswith(", batch 1, 700 MHz, no DRAM limit") and "bound by" not in text
    waits = run("share", "opt-6.7b", "--clock", 700, "--dram", 34)
    assert "DRAM 34 GB/s at 700 MHz\n" in waits and "bound by memory" in waits
