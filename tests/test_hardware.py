"""Arrays as SCALE-Sim's .cfg and workloads as its topologies, both also simulated by SCALE-Sim; the datasheets."""

import configparser
import re
from dataclasses import fields, replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmamdahl.errors import MAX_BITS, InputError
from llmamdahl.hardware import (
    CFG,
    CFG_KEYS,
    CLOUD_TPU,
    EDGE_TPU,
    PEAKS,
    Dataflow,
    Device,
    SystolicArray,
    devices,
    find_hardware,
    get_device,
)
from llmamdahl.models import Decoder
from llmamdahl.scalesim.simulator import COUNTS, Run, simulate, to_scalesim_topology
from llmamdahl.systolic import SRAM_COUNTS, gemm_cost
from llmamdahl.workload import MatMul, Part, decode_step

TINY = Decoder("tiny", 48, 2, 4, 96, True, 100, 128, 48)


def run_scalesim(cfg, topology, folder):
    """For each line, the cycles, stalls, SRAM reads and SRAM writes that SCALE-Sim reports for the two files."""
    from scalesim.scale_sim import scalesim

    whole = scalesim(save_disk_space=True, verbose=False, config=str(cfg), topology=str(topology), input_type_gemm=True)
    whole.run_scale(top_path=str(folder))
    layers = whole.runner.single_layer_sim_object_list
    found = [[*layer.get_compute_report_items()[:2], *layer.get_detail_report_items()[2:9:3]] for layer in layers]
    return [dict(zip(COUNTS, map(int, counts), strict=True)) for counts in found]


@pytest.mark.parametrize("dataflow", list(Dataflow))
@pytest.mark.parametrize("batch", [1, 3])
def test_scale_sim_reads_both_files_and_reports_the_same_counts(tmp_path, dataflow, batch):
    array = SystolicArray(16, 8, dataflow, 64, 32, 16, name="100% mine")
    array.to_scalesim_cfg(tmp_path / "mine.cfg")
    lines = to_scalesim_topology(decode_step(TINY, 40, batch), tmp_path / "tiny.csv")
    reported = run_scalesim(tmp_path / "mine.cfg", tmp_path / "tiny.csv", tmp_path)
    assert len(reported) == len(lines)
    for line, counts in zip(lines, reported, strict=True):
        cost = gemm_cost(line.m, line.n, line.k, array)
        assert counts == {"stall_cycles": 0} | {count: getattr(cost, count) for count in SRAM_COUNTS}
        alone = simulate(Run(line.m, line.n, line.k, array))
        assert counts == {name: alone[name] for name in COUNTS}
    assert (tmp_path / "100% mine" / "COMPUTE_REPORT.csv").is_file()


def test_topology_lists_each_matmul_once_with_its_count(tmp_path):
    step = decode_step(TINY, 40)
    lines = to_scalesim_topology(step, tmp_path / "new" / "tiny.csv")
    assert (tmp_path / "new" / "tiny.csv").read_text(encoding="utf-8").splitlines() == [
        "Layer,M,N,K,Part,Count,",
        "W_Q+W_K+W_V+W_X,1,48,48,projection,8,",
        "W_G+W_I,1,96,48,projection,4,",
        "W_O,1,48,96,projection,2,",
        "Q·Kᵀ,1,40,12,attention,8,",
        "scores·V,1,12,40,attention,8,",
        "LM head,1,100,48,unquantized,1,",
    ]
    assert sum(line.count for line in lines) == sum(matmul.count for matmul in step)


def test_topology_separates_parts_and_replaces_commas(tmp_path):
    shape = dict(m=1, n=2, k=3, count=5)
    matmuls = [MatMul("a, b", Part.PROJECTION, **shape), MatMul("c", Part.ATTENTION, **shape)] * 2
    lines = to_scalesim_topology(matmuls, tmp_path / "t.csv")
    assert [(line.name, line.count) for line in lines] == [("a, b", 10), ("c", 10)]
    assert (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()[1] == "a; b,1,2,3,projection,10,"
    with pytest.raises(InputError, match=r"^matmuls: nothing is listed"):
        to_scalesim_topology([], tmp_path / "t.csv")


def test_a_percent_sign_in_a_name_is_read_back(tmp_path):
    array = SystolicArray(2, 3, name="5% of 100%")
    array.to_scalesim_cfg(tmp_path / "array.cfg")
    assert SystolicArray.from_scalesim_cfg(tmp_path / "array.cfg") == array


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 10**9), min_size=5, max_size=5),
    dataflow=st.sampled_from(list(Dataflow)),
    name=st.from_regex(r"\A(\w[\w %#;=:.-]{0,20}\w)?\Z"),
)
def test_round_trip(tmp_path_factory, sizes, dataflow, name):
    folder = tmp_path_factory.mktemp("cfg")
    array = SystolicArray(*sizes[:2], dataflow, *sizes[2:], name=name)
    array.to_scalesim_cfg(folder / "one.cfg")
    back = SystolicArray.from_scalesim_cfg(folder / "one.cfg")
    assert (back, back.label, type(back.dataflow)) == (array, array.label, Dataflow)
    back.to_scalesim_cfg(folder / "two.cfg")
    assert (folder / "one.cfg").read_bytes() == (folder / "two.cfg").read_bytes()


def test_reads_a_cfg_in_the_style_of_scale_sim_s_examples(tmp_path):
    # the separators, the order, the case and the extra keys of the examples in SCALE-Sim's repository
    (tmp_path / "scale.cfg").write_text(
        "[general]\nrun_name = scale_example_run_32x32_os\n\n[architecture_presets]\nArrayHeight:    32\n"
        "ArrayWidth:     16\nIfmapSramSzkB:    64\nFilterSramSzkB:   128\nOfmapSramSzkB:    256\nIfmapOffset:    0\n"
        "FilterOffset:   10000000\nOfmapOffset:    20000000\nBandwidth : 10\nDataflow : ws\nMemoryBanks:   1\n\n"
        "[run_presets]\nInterfaceBandwidth: CALC\n"
    )
    array = SystolicArray.from_scalesim_cfg(str(tmp_path / "scale.cfg"))
    assert array == SystolicArray(32, 16, "ws", 64, 128, 256)
    assert array.label == "scale_example_run_32x32_os"


def edited(path, section, key, value):
    """Write the edge array's .cfg with one value changed, or with its key removed if the value is None; the path."""
    EDGE_TPU.to_scalesim_cfg(path)
    config = configparser.RawConfigParser()
    config.read(path)
    if value is None:
        config.remove_option(section, key)
    else:
        config.set(section, key, value)
    with path.open("w") as handle:
        config.write(handle)
    return path


@pytest.mark.parametrize("key", CFG_KEYS.values())
@pytest.mark.parametrize("value", ["0", "-4", "32.0", "1e3", "many", "", "²", "1_000"])
def test_bad_size_is_named(tmp_path, key, value):
    path = edited(tmp_path / "bad.cfg", "architecture_presets", key, value)
    with pytest.raises(InputError, match=f"bad.cfg: {key}: '?{value}'? is not a positive whole number"):
        SystolicArray.from_scalesim_cfg(path)


@pytest.mark.parametrize("value", ["ws_foo", "OS", "", "rs"])
def test_bad_dataflow_is_named(tmp_path, value):
    path = edited(tmp_path / "bad.cfg", "architecture_presets", "Dataflow", value)
    with pytest.raises(InputError, match=f"bad.cfg: Dataflow: '{value}' is unknown; known: os, ws, is"):
        SystolicArray.from_scalesim_cfg(path)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("general", "run_name"),
        ("run_presets", "InterfaceBandwidth"),
        ("architecture_presets", "Dataflow"),
        *(("architecture_presets", key) for key in CFG_KEYS.values()),
    ],
)
def test_missing_key_or_section_is_named(tmp_path, section, key):
    path = edited(tmp_path / "bad.cfg", section, key, None)
    with pytest.raises(InputError, match=rf"bad.cfg: {key} is missing in \[{section}\]"):
        SystolicArray.from_scalesim_cfg(path)
    path.write_text(path.read_text().replace(f"[{section}]", "[other]"))
    with pytest.raises(InputError, match=rf"bad.cfg: \w+ is missing in \[{section}\]"):
        SystolicArray.from_scalesim_cfg(path)


def test_a_mode_with_stalls_is_rejected(tmp_path):
    path = edited(tmp_path / "bad.cfg", "run_presets", "InterfaceBandwidth", "USER")
    with pytest.raises(InputError, match=r"bad\.cfg: InterfaceBandwidth: 'USER' "):
        SystolicArray.from_scalesim_cfg(path)


@pytest.mark.parametrize("text", ["no section", "[general]\nrun_name = a\nrun_name = b\n", "[a]\n[a]\n", "\xff"])
def test_a_file_that_is_not_a_cfg_is_rejected(tmp_path, text):
    (tmp_path / "bad.cfg").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"bad\.cfg: not a SCALE-Sim \.cfg"):
        SystolicArray.from_scalesim_cfg(tmp_path / "bad.cfg")
    with pytest.raises(InputError, match=r"none\.cfg: cannot be read \(No such file or directory\)$"):
        SystolicArray.from_scalesim_cfg(tmp_path / "none.cfg")
    with pytest.raises(InputError, match="cannot be read"):
        SystolicArray.from_scalesim_cfg(tmp_path)
    path = edited(tmp_path / "bad.cfg", "general", "run_name", "50%")
    with pytest.raises(InputError, match=r"bad\.cfg: run_name: '50%' has a single %"):
        SystolicArray.from_scalesim_cfg(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("# comment\n\nrun_name = a\n[general]\n", "'run_name = a' comes before the first \\[section\\] \\(line 3\\)"),
        ("[general]\nrun_name = a\nRUN_NAME = b\n", "run_name occurs twice in \\[general\\] \\(line 3\\)"),
        ("[general]\n[run_presets]\n[general]\n", "\\[general\\] occurs twice \\(line 3\\)"),
        (
            "[general]\n\nrun_name\n[run_presets]\nother",
            "neither a \\[section\\] nor a key with its value \\(line 3\\)",
        ),
        ("[general]\n\n\xff", "a byte that is not UTF-8 \\(line 3\\)"),
        ("", "the file is empty; SCALE-Sim needs \\[general\\], \\[architecture_presets\\] and \\[run_presets\\]"),
        ("\n# comment\n", "it has no \\[section\\]; SCALE-Sim needs .*"),
    ],
)
def test_the_line_that_is_not_valid_cfg_is_named(tmp_path, text, problem):
    (tmp_path / "bad.cfg").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=f"bad.cfg: not a SCALE-Sim .cfg: {problem}$"):
        SystolicArray.from_scalesim_cfg(tmp_path / "bad.cfg")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("ArrayWidth = 32", "arraywidth:0", "ArrayWidth: 0 is not a positive whole number (line 6)"),
        ("ArrayWidth = 32", "ArrayWidth = " + "9" * 5000, "a number of 5000 digits is too large (line 6)"),
        ("ArrayWidth = 32\n", "", "ArrayWidth is missing in [architecture_presets]; SCALE-Sim needs it (line 4)"),
        ("Dataflow = os", "Dataflow = rs", "Dataflow: 'rs' is unknown; known: os, ws, is (line 13)"),
        (
            "Offset = 0",
            "Offset: -3",
            "IfmapOffset: '-3' is not a whole number >= 0; -1 is SCALE-Sim's null address (line 10)",
        ),
        (
            "OfmapOffset = 20000000",
            "OfmapOffset: x",
            "OfmapOffset: 'x' is not a whole number >= 0; -1 is SCALE-Sim's null address (line 12)",
        ),
        ("= CALC", "= USER", "lets the array stall; only the stall-free mode CALC is supported (line 17)"),
        ("= CALC", "= 5%", "'5%' has a single %; write %% for it, and values instead of %(key)s (line 17)"),
        ("[run_presets]", "[presets]", "InterfaceBandwidth is missing in [run_presets]; SCALE-Sim needs it"),
        (
            "run_name = edge",
            "[extra]\nrun_name = edge",
            "run_name is missing in [general]; SCALE-Sim needs it (line 1)",
        ),
        ("[general]", "[x]\nArrayWidth = 0\n[general]", None),  # the same key in another section
    ],
)
def test_the_line_of_a_key_is_named(tmp_path, old, new, problem):
    EDGE_TPU.to_scalesim_cfg(tmp_path / "bad.cfg")
    text = (tmp_path / "bad.cfg").read_text()
    assert old in text
    (tmp_path / "bad.cfg").write_text(text.replace(old, new))
    if problem is None:
        assert SystolicArray.from_scalesim_cfg(tmp_path / "bad.cfg") == EDGE_TPU
        return
    with pytest.raises(InputError, match=re.escape(problem) + "$"):
        SystolicArray.from_scalesim_cfg(tmp_path / "bad.cfg")


@pytest.mark.parametrize("name", ["a/b", "a\nb", " a", "..\\a", ".", ".."])
def test_a_label_that_cannot_name_a_folder_is_rejected(tmp_path, name):
    with pytest.raises(InputError, match=r"^name: .* cannot name SCALE-Sim's folder"):
        replace(CLOUD_TPU, name=name).to_scalesim_cfg(tmp_path / "a.cfg")


def test_a_missing_folder_is_created(tmp_path):
    path = tmp_path / "new" / "folder" / "array.cfg"
    EDGE_TPU.to_scalesim_cfg(path)
    assert SystolicArray.from_scalesim_cfg(path) == EDGE_TPU


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dram_gb_s": 34}, "clock_mhz: missing; a dram_gb_s of 34 needs one"),
        ({"clock_mhz": 0}, "clock_mhz: 0 is not a number above 0"),
        ({"clock_mhz": 700, "dram_gb_s": -1}, "dram_gb_s: -1 is not a number above 0"),
        ({"clock_mhz": "fast"}, "clock_mhz: 'fast' is not a number above 0"),
    ],
)
def test_a_bad_clock_or_memory_is_named(given, message):
    with pytest.raises(InputError, match=f"^{message}"):
        SystolicArray(32, 32, **given)


def test_rates_up_to_the_greatest_are_taken():
    assert SystolicArray(32, 32, clock_mhz=1e15, dram_gb_s=1e-12).clock_mhz == 1e15
    with pytest.raises(InputError, match=r"^clock_mhz: 1100000000000000.0 is not between 1e-12 and 1e\+15"):
        SystolicArray(32, 32, clock_mhz=1.1e15)


DEVICES = devices().set_index("name")


def test_datasheets_of_the_devices_that_people_have():
    assert len(DEVICES) == 68 and DEVICES.bandwidth_gb_s.gt(0).all()
    assert set(DEVICES.kind) == {"gpu", "tpu", "accelerator", "soc", "cpu"}
    assert (DEVICES.source.str.len() > 20).all() and not DEVICES.source.str.contains("\n").any()


def test_a_narrower_format_is_not_slower():
    """NVIDIA cut INT8 down in the B300, and Google's v5p and v6e run FP8 as fast as BF16."""
    slower = DEVICES[DEVICES.int8_tops < DEVICES.fp16_tflops].index
    assert list(slower) == ["B300", "GB300"]
    eight, four = DEVICES[["int8_tops", "fp8_tflops"]].max(axis=1), DEVICES[["int4_tops", "fp4_tflops"]].max(axis=1)
    for wide, narrow in ((DEVICES.fp16_tflops, eight), (eight, four), (DEVICES.fp16_tflops, DEVICES.fp8_tflops)):
        both = wide.notna() & narrow.notna()
        assert both.sum() > 5 and (narrow[both] >= wide[both]).all()


WITH_SPARSITY = {  # as printed, in the order of PEAKS
    "A100 80GB": (624, 1248, None, 2496, None),
    "RTX A6000": (309.7, 619.4, None, 1238.7, None),
    "A10": (250, 500, None, 1000, None),
    "A30": (330, 661, None, 1321, None),
    "A40": (299.4, 598.6, None, 1197.4, None),
    "H100 SXM": (1979, 3958, 3958, None, None),
    "H100 PCIe": (1513, 3026, 3026, None, None),
    "H200": (1979, 3958, 3958, None, None),
    "B200": (4500, 9000, 9000, None, 18000),
    "B300": (4500, 307, 9000, None, None),  # its FP4 gains less by sparsity
    "GB200": (5000, 10000, 10000, None, 20000),
    "GB300": (5000, 330, 10000, None, None),
    "L4": (242, 485, 485, 970, None),
    "L40S": (None, 1466, 1466, None, None),
    "RTX 3090": (142, 568, None, None, None),
    "RTX 4090": (330.4, 1321.2, 660.6, 2642, None),
    "RTX 4060 Ti": (None, 353, None, 706, None),
    "RTX 5060 Ti": (None, None, None, None, 759),
    "RTX 5090": (419, 1676, 838, None, 3352),
    "DGX Spark GB10": (None, None, None, None, 1000),
    "Jetson Orin Nano 8GB": (None, 40, None, None, None),
    "Jetson Orin Nano Super": (None, 67, None, None, None),
    "Jetson AGX Orin 64GB": (None, 171, None, None, None),
    "Jetson Thor T5000": (517, 1035, 1035, None, 2070),
    "MI300X": (2614.9, 5229.8, 5229.8, None, None),
    "MI325X": (2614.9, 5229.8, 5229.8, None, None),
}


@pytest.mark.parametrize("name", WITH_SPARSITY)
def test_peaks_are_half_of_those_with_sparsity(name):
    printed = dict(zip(PEAKS, WITH_SPARSITY[name], strict=True))
    for column, number in printed.items():
        assert number is None or DEVICES.loc[name, column] == pytest.approx(number / 2, rel=0.01), column


@pytest.mark.parametrize(
    ("faster", "slower"),
    [
        ("H200", "H100 SXM"),
        ("H100 SXM", "A100 80GB"),
        ("A100 80GB", "A100 40GB"),
        ("B300", "B200"),
        ("GB200", "B200"),
        ("RTX 5090", "RTX 4090"),
        ("RTX 4090", "RTX 3090"),
        ("MI355X", "MI325X"),
        ("MI325X", "MI300X"),
        ("MI300X", "MI250X"),
        ("Gaudi 3", "Gaudi 2"),
        ("TPU v7", "TPU v5p"),
        ("TPU v6e", "TPU v5e"),
        ("Apple M4 Max", "Apple M3 Max"),
        ("Apple M2", "Apple M1"),
        ("Jetson Orin Nano Super", "Jetson Orin Nano 8GB"),
        ("Xeon 6980P", "EPYC 9654"),
        ("EPYC 9654", "Xeon Platinum 8480+"),
    ],
)
def test_bandwidths_are_in_order(faster, slower):
    rates = DEVICES.bandwidth_gb_s
    assert rates[faster] > rates[slower]


def test_a_device_with_two_dies_or_halves_has_twice_the_rate():
    rates, peaks = DEVICES.bandwidth_gb_s, DEVICES.fp16_tflops
    for whole, half in (("Apple M1 Ultra", "Apple M1 Max"), ("Apple M2 Ultra", "Apple M2 Max"), ("MI250X", "MI210")):
        assert rates[whole] == pytest.approx(2 * rates[half], rel=1e-3)
    assert rates["Apple M4 Max"] == 2 * rates["Apple M4 Pro"]
    assert peaks["MI250X"] / peaks["MI210"] == pytest.approx(2 * 110 / 104, rel=1e-3)  # CUs a die


@pytest.mark.parametrize(
    ("name", "bits", "megatransfers"),
    [
        ("MI210", 4096, 3200),
        ("MI250X", 8192, 3200),
        ("RTX 3090", 384, 19500),
        ("RTX 4090", 384, 21000),
        ("RTX 5090", 512, 28000),
        ("RTX 4060 Ti", 128, 18000),
        ("RTX 5060 Ti", 128, 28000),
        ("RX 7900 XTX", 384, 20000),
        ("Arc A770 16GB", 256, 17500),
        ("T4", 256, 10000),
        ("DGX Spark GB10", 256, 8533),
        ("Jetson Thor T5000", 256, 8533),
        ("Jetson AGX Orin 64GB", 256, 6400),
        ("Jetson Orin Nano 8GB", 128, 4266),
        ("Jetson Orin Nano Super", 128, 6400),
        ("Ryzen AI Max+ 395", 256, 8000),
        ("Snapdragon X Elite", 128, 8448),
        ("Apple M1", 128, 4266),
        ("Core i7-13700H", 128, 5200),
        ("Core Ultra 7 155H", 128, 7467),
        ("Core Ultra 7 258V", 128, 8533),
        ("EPYC 9654", 12 * 64, 4800),
        ("Xeon Platinum 8480+", 8 * 64, 4800),
        ("Xeon 6980P", 12 * 64, 8800),
        ("Raspberry Pi 5", 32, 4267),
    ],
)
def test_a_bandwidth_is_the_width_of_the_bus_times_its_rate(name, bits, megatransfers):
    """10^9 bytes a second: neither bits nor 2^30 bytes."""
    assert DEVICES.bandwidth_gb_s[name] == pytest.approx(bits / 8 * megatransfers / 1e3, rel=0.005)


def test_empty_cells_are_none_and_read_as_nan():
    assert get_device("Apple M4").fp16_tflops is None and pd.isna(DEVICES.fp16_tflops["Apple M4"])
    assert {name: getattr(get_device("B200"), name) for name in PEAKS} == {
        "fp16_tflops": 2250,
        "int8_tops": 4500,
        "fp8_tflops": 4500,
        "int4_tops": None,
        "fp4_tflops": 9000,
    }


def test_a_row_of_the_table_makes_its_device():
    columns = [item.name for item in fields(Device)]
    for row in devices()[columns].to_dict("records"):
        assert Device(**row) == get_device(row["name"])


def test_a_memory_in_a_name_is_the_memory():
    named = {name: re.search(r"(\d+)GB", name) for name in DEVICES.index}
    sizes = {name: int(size[1]) for name, size in named.items() if size}
    assert len(sizes) == 6 and all(DEVICES.memory_gb[name] == size for name, size in sizes.items())
    assert DEVICES.memory_gb.between(8, 288).sum() == DEVICES.memory_gb.count() == 39
    assert DEVICES.memory_gb[DEVICES.kind == "cpu"].isna().all()  # as much as is put in


@pytest.mark.parametrize(
    ("part", "near"),
    [
        ("H100", "H100 SXM, H100 PCIe"),
        ("4090", "RTX 4090"),
        ("m4 max", "Apple M4 Max"),
        ("mi355", "MI355X"),
        ("Orin", "Jetson Orin Nano 8GB, Jetson Orin Nano Super, Jetson AGX Orin 64GB"),
        ("h100sxm", "H100 SXM"),
    ],
)
def test_a_part_of_a_name_is_not_completed_but_suggests_the_names(part, near):
    for field, find in (("device", get_device), ("hardware", find_hardware)):
        with pytest.raises(InputError, match=f"^{field}: '{part}' is unknown; did you mean {near}\\?$"):
            find(part)
    with pytest.raises(InputError, match=r"^device: 'abacus' is unknown; `llmamdahl devices` lists the names"):
        get_device("abacus")


def test_keys_are_not_put_into_other_values(tmp_path):
    """As SCALE-Sim's configparser does: a value that doubles 50 times would take all memory."""
    nest = "".join(f"a{level + 1} = %(a{level})s%(a{level})s\n" for level in range(50))
    text = CFG.format(run_name="%(a50)s", dataflow="os", **{name: 8 for name in CFG_KEYS})
    (tmp_path / "nest.cfg").write_text(text.replace("run_name", f"a0 = aaaa\n{nest}run_name"), encoding="utf-8")
    assert (tmp_path / "nest.cfg").stat().st_size < 2048
    with pytest.raises(InputError, match=r"nest\.cfg: run_name: '%\(a50\)s' has a single %; .* \(line 53\)$"):
        SystolicArray.from_scalesim_cfg(tmp_path / "nest.cfg")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("9" * 5000, "ArrayHeight: a number of 5000 digits is too large"),
        ("1" * MAX_BITS, r"ArrayHeight: a number of \d+ bits is too large"),
        ("٣٢", "ArrayHeight: '٣٢' is not a positive whole number"),
        ("3_2", "ArrayHeight: '3_2' is not a positive whole number"),
        ("3\0", r"not a SCALE-Sim \.cfg: a NUL character \(line 5\)"),
    ],
)
def test_a_number_in_another_form_is_rejected(tmp_path, value, problem):
    path = edited(tmp_path / "bad.cfg", "architecture_presets", "ArrayHeight", value)
    with pytest.raises(InputError, match=rf"bad\.cfg: {problem}"):
        SystolicArray.from_scalesim_cfg(path)


def test_a_byte_order_mark_is_named(tmp_path):
    EDGE_TPU.to_scalesim_cfg(tmp_path / "bad.cfg")
    (tmp_path / "bad.cfg").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "bad.cfg").read_bytes())
    with pytest.raises(InputError, match=r"a byte order mark \(line 1\); save it as UTF-8 without it"):
        SystolicArray.from_scalesim_cfg(tmp_path / "bad.cfg")


def test_sizes_that_are_not_given_are_those_of_the_docstring():
    array = SystolicArray(8, 16)
    assert (array.dataflow, array.clock_mhz, array.dram_gb_s) == (Dataflow.OS, None, None)
    assert (array.ifmap_sram_kb, array.filter_sram_kb, array.ofmap_sram_kb) == (2048, 4096, 2048)
