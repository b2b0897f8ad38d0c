"""Joules by part: by hand, their ranges, what is rejected, and what others published."""

import csv
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from llmamdahl import question
from llmamdahl.analysis import share, sweep
from llmamdahl.errors import InputError, TableError
from llmamdahl.hardware import SystolicArray
from llmamdahl.paper import energies as published
from llmamdahl.paper.figures import energy_fractions
from llmamdahl.roofline import BYTE, Precision
from llmamdahl.silicon import energy as module
from llmamdahl.silicon.energy import Range, energies, energy_sweep, joules
from llmamdahl.workload import MatMul, Part, decode_step, whole

TERNARY = Precision(weights=2)
ONE_MEBIBYTE = SystolicArray(32, 32, ifmap_sram_kb=1024, filter_sram_kb=1024, ofmap_sram_kb=1024)
RANGES = ("joules", "joules_after", "dram_share", "fraction", "ceiling", "partial_speedup", "total_speedup")


@pytest.fixture
def one_block(monkeypatch):
    """Two MatMuls instead of a model's: 1 x 128 times 128 x 64, three times, and 1 x 64 times 64 x 100, once."""
    step = (
        MatMul("W_Q", Part.PROJECTION, m=1, n=64, k=128, count=3),
        MatMul("Q·Kᵀ", Part.ATTENTION, m=1, n=100, k=64, count=1),
    )
    monkeypatch.setattr(question, "matmuls", lambda *_, **__: step)


def ends(found, bits, part, component):
    (row,) = found.parts.query("bits == @bits and part == @part and component == @component").to_dict("records")
    return row["low"], row["high"]


def test_two_matmuls_by_hand(one_block):
    found = joules("opt-350m", 100, ONE_MEBIBYTE, node=45, precision=TERNARY)
    macs = 3 * 64 * 128
    # INT8 multiplication 0.2 pJ; addition 0.03 (8 bits) to 0.1 (32 bits); ternary weights need the addition only
    assert ends(found, "before", "projection", "arithmetic") == pytest.approx((0.23e-12 * macs, 0.3e-12 * macs))
    assert ends(found, "after", "projection", "arithmetic") == pytest.approx((0.03e-12 * macs, 0.1e-12 * macs))
    assert ends(found, "after", "attention", "arithmetic") == pytest.approx((0.23e-12 * 6400, 0.3e-12 * 6400))
    # OS: 2 folds read 128 activations each and 64 x 128 weights, and SCALE-Sim reports 64 + 2 x 64 writes;
    # 100 pJ for 64 bits of 1 MiB
    activations, weights = 3 * (2 * 128 + 64 + 2 * 64), 3 * 64 * 128
    read = 8 * (activations + weights) * 100e-12 / 64
    assert ends(found, "before", "projection", "SRAM") == pytest.approx((read, read))
    read = (8 * activations + 2 * weights) * 100e-12 / 64
    assert ends(found, "after", "projection", "SRAM") == pytest.approx((read, read))
    # every weight, 128 activations in, 64 results out; attention: K and the query, its scores stay on the chip
    bits = 8 * 3 * (64 * 128 + 128 + 64)
    assert ends(found, "before", "projection", "DRAM") == pytest.approx((bits * 1300e-12 / 64, bits * 2600e-12 / 64))
    bits = 8 * (6400 + 64)
    assert ends(found, "before", "attention", "DRAM") == pytest.approx((bits * 1300e-12 / 64, bits * 2600e-12 / 64))


def test_the_counts_are_those_of_share():
    for heads in ("per_head", "grouped"):
        found = joules("llama-3.1-8b", 4096, ONE_MEBIBYTE, heads=heads, unquantized=True)
        moved, accesses = (
            share("llama-3.1-8b", 4096, ONE_MEBIBYTE, heads=heads, metric=metric, unquantized=True)
            for metric in ("bytes", "memory_accesses")
        )
        for part in whole(unquantized=True):
            assert ends(found, "before", part, "DRAM")[0] == pytest.approx(getattr(moved, part) * 8 * 1300e-12 / 64)
            assert ends(found, "before", part, "SRAM")[0] == pytest.approx(getattr(accesses, part) * 8 * 100e-12 / 64)


@pytest.mark.parametrize("node", [45, 7])
@pytest.mark.parametrize("array", ["edge", "cloud", None])
@pytest.mark.parametrize("settings", [{}, {"batch": 8, "heads": "grouped"}, {"phase": "prefill", "unquantized": True}])
def test_ranges_are_ordered_and_add_up(node, array, settings):
    found = joules("llama-3.1-8b", 512, array, node=node, precision=TERNARY, **settings)
    for name in RANGES:
        low, high = getattr(found, name)
        assert 0 < low <= high, name
    assert found.fraction.high < 1 and found.dram_share.high < 1
    assert found.ceiling == pytest.approx((1 / (1 - found.fraction.low), 1 / (1 - found.fraction.high)))
    sums = found.parts.groupby("bits")[["low", "high"]].sum()
    assert sums.loc["before"].tolist() == pytest.approx(found.joules)
    assert sums.loc["after"].tolist() == pytest.approx(found.joules_after)
    assert found.total_speedup.high <= found.ceiling.high and found.partial_speedup.low > 1


def test_no_constants_within_their_ranges_leave_the_answer(monkeypatch):
    """Corners are enough: random choices inside the ranges stay inside the answer."""
    settings = {"node": 45, "batch": 4, "precision": Precision(weights=4, cache=6)}
    found = joules("llama-3.1-8b", 2048, "cloud", **settings)
    assert found.fraction.low < found.fraction.high and found.total_speedup.low < found.total_speedup.high
    keep, random = module._Constants._keep, np.random.default_rng(0)
    drawn = {}

    def chosen(self, name, value, rows):
        keep(self, name, value, rows)
        drawn.setdefault(name, random.uniform(*value))
        self.ranges[name] = Range(drawn[name], drawn[name])
        return name

    monkeypatch.setattr(module._Constants, "_keep", chosen)
    for _ in range(100):
        drawn.clear()
        inside = joules("llama-3.1-8b", 2048, "cloud", **settings)
        for name in RANGES:
            (low, high), (one, same) = getattr(found, name), getattr(inside, name)
            assert one == same
            assert low * (1 - 1e-12) <= one <= high * (1 + 1e-12), name


@pytest.mark.parametrize("node", [45, 7])
@pytest.mark.parametrize("activations", [8, 16])
def test_narrower_weights_never_cost_more(node, activations):
    before = None
    for bits in (16, 12, 8, 6, 4, 2, 1.58, 1):
        found = joules("opt-1.3b", 1024, "edge", node=node, baseline=Precision(bits, activations))
        if before:
            assert found.joules.low < before.joules.low and found.joules.high < before.joules.high
        before = found


def test_f_of_energy_of_one_sequence_is_that_of_bytes():
    """Both parts read each byte from the DRAM once and use it once; so no array and no node matters."""
    for node, array, model in ((45, "edge", "opt-6.7b"), (45, "cloud", "opt-66b"), (7, "cloud", "gpt2")):
        found, moved = joules(model, 2048, array, node=node), share(model, 2048, array, metric="bytes")
        assert found.fraction == pytest.approx((moved.fraction, moved.fraction), abs=1e-3)


def test_an_sram_lies_between_its_neighbours():
    sizes = {8: (10, 10), 16: (10, 20), 1024: (100, 100), 4096: (100, 200), 2: (5, 10)}
    known = module._Constants.of(45, None)
    for size, picojoules in sizes.items():
        assert known.ranges[known.sram(size)] == pytest.approx([end / 64 for end in picojoules])


def test_energies_have_sources_and_grow_with_size():
    table = energies()
    assert (table.source != "").all() and (table["where"] != "").all()
    for _, rows in table[table.size_kb.notna()].groupby("process_nm"):
        picojoules = (rows.energy_pj / rows.bits).to_numpy()
        assert rows.size_kb.is_monotonic_increasing and (np.diff(picojoules) > 0).all()


def test_a_mac_that_others_model_lies_in_its_range():
    """AccelForge's TPUv4i model (examples/arches/tpu_v4i.yaml) has 0.084 pJ a MAC at 7 nm."""
    found = joules("opt-350m", 128, None, node=7, baseline=BYTE)
    macs = sum(mm.m * mm.n * mm.k * mm.count for mm in decode_step("opt-350m", 128) if mm.part is not Part.UNQUANTIZED)
    low, high = found.parts[found.parts.component == "arithmetic"][["low", "high"]].sum() / macs / 1e-12
    assert low < 0.084 < high


@pytest.mark.parametrize("node", [None, 45.0, True, 0, "45", 16, 28])
def test_an_energy_without_a_known_node_is_rejected(node):
    with pytest.raises(InputError, match=r"^node: "):
        joules("opt-350m", 128, "edge", node=node)


def test_a_node_says_what_is_known_of_it():
    with pytest.raises(InputError, match=r"node: 16 nm has no energies; .* so give 45 or 7$"):
        joules("opt-350m", 128, "edge", node=16)
    with pytest.raises(InputError, match=r"28 nm has no energy of int mul .*a DRAM; known there: PE FP16 .*0\.77 pJ"):
        joules("opt-350m", 128, "edge", node=28)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"memory": "HBM2"}, "memory: 'HBM2' is unknown; known: DRAM"),
        ({"memory": "DRAM", "node": 7}, "memory: 'DRAM' is unknown; known: HBM2, GDDR6"),
        ({"baseline": Precision(weights=32)}, "weights: 32 bits have no energy"),
        ({"precision": Precision(results=17)}, "results: 17 bits have no energy"),
        ({"precision": 2}, "precision: 2 is not a Precision"),
        ({"array": None, "refetches": True}, "refetches: True is given, but no hardware is not an array"),
        ({"array": None, "counting": "corrected"}, "counting: 'corrected' is given, but no hardware is not"),
        ({"metric": "cycles"}, "metric: 'cycles' is given, but joules do not depend on it"),
        ({"folds": "pipelined"}, "folds: 'pipelined' is given, but joules do not depend on it"),
        ({"counting": "exact"}, "counting: 'exact' is unknown"),
        ({"batch": 0}, "batch: 0 is not"),
        ({"array": "A100 80GB"}, "array: 'A100 80GB' is unknown"),
        ({"unquantized": 1}, "unquantized: 1 is not a bool"),
    ],
)
def test_what_cannot_be_computed_is_named(settings, message):
    with pytest.raises(InputError, match=re.escape(message)):
        joules("opt-350m", 128, **{"array": "edge", **settings})


@pytest.mark.parametrize("cells", ["int add,8,,,1,s,w,yes", "int add,8,45,,0,s,w,yes", "int add,8,45,,1,s,w,maybe"])
def test_a_damaged_table_of_energies_is_named(cells, tmp_path, monkeypatch):
    (tmp_path / "hardware").mkdir()
    header = (module.DATA / "hardware" / "energy.csv").read_text(encoding="utf-8").splitlines()[0]
    (tmp_path / "hardware" / "energy.csv").write_text(f"{header}\n{cells}\n", encoding="utf-8")
    monkeypatch.setattr(module, "DATA", tmp_path)
    module._rows.cache_clear()
    try:
        with pytest.raises(TableError, match=r"line 2: (process_nm|energy_pj|seen): "):
            energies()
    finally:
        module._rows.cache_clear()


def test_a_sweep_has_the_rows_of_energy():
    frame = energy_sweep(["opt-350m", "gpt2"], [128, 256], ["edge", "cloud"], node=7, precision=TERNARY)
    assert len(frame) == 8
    last = joules("gpt2", 256, "cloud", node=7, precision=TERNARY)
    assert frame.iloc[-1].to_dict() == last.row()
    assert last.row()["total_speedup_high"] == last.total_speedup.high
    with pytest.raises(InputError, match=r"^arrays: nothing is listed"):
        energy_sweep(["gpt2"], [128], [])


@pytest.fixture(scope="module")
def others():
    return published.published_energy()


def test_every_published_energy_is_predicted_or_says_why(others):
    assert len(others) == 55
    assert (others.node.notna() != (others.unpredicted != "")).all()
    assert others.node.notna().sum() == 10 and others.gain.notna().sum() == 12
    assert (others.source != "").all() and (others["where"] != "").all()


def test_tokens_per_joule_follow_from_what_is_printed(others):
    rules = {
        r"([\d.]+) tokens/J": lambda tokens: tokens,
        r"(?:about )?([\d.]+) tokens/s at (?:about )?([\d.]+) W": lambda tokens, watts: tokens / watts,
        r"([\d.]+) tokens/s at ([\d.]+) mW": lambda tokens, milliwatts: 1000 * tokens / milliwatts,
        r"([\d.]+) J/token": lambda joules: 1 / joules,
        r"([\d.]+) million words of 1.5 tokens from 5 Wh": lambda words: words * 1e6 * 1.5 / (5 * 3600),
    }
    checked = 0
    for row in others[others.tokens_per_joule.notna()].to_dict("records"):
        for pattern, rule in rules.items():
            if found := re.match(pattern + r"(, \S+)?$", row["as_printed"]):
                numbers = [float(number) for number in found.groups()[:-1]]
                assert rule(*numbers) == pytest.approx(row["tokens_per_joule"], rel=1e-5), row["as_printed"]
                checked += 1
    assert checked == others.tokens_per_joule.notna().sum() - 4  # TerEffic's tokens/s/W, EdgeLLM's two sources


def test_operations_explain_less_than_a_board_needs_and_more_than_a_chip_without_its_memory(others):
    rows = others[others.node.notna()]
    boards = rows[rows.system.isin(["TeLLMe v2", "PD-Swap", "LlamaF", "MEADOW", "FlightLLM", "BitNet 2B"])]
    assert len(boards) == 6 and boards.explained_high.between(0.07, 0.27).all()
    chips = rows[~rows.index.isin(boards.index)]
    assert set(chips.system) == {"TPU-LLM", "VitaLLM (ISCAS)"}
    assert (chips.DRAM_low > 20 * chips.joules).all()  # their powers are without the DRAM
    assert (chips.arithmetic_high < chips.joules).all()
    assert (chips.SRAM_low[chips.system == "TPU-LLM"] > 7 * chips.joules[chips.system == "TPU-LLM"]).all()


def test_gains_follow_from_bytes_and_stay_below_their_ceilings(others):
    rows = others[others.gain.notna()]
    assert (rows.gain < rows.ceiling).all()
    errors = rows.predicted_gain / rows.gain - 1
    assert errors.between(-0.12, 0.15).all() and errors.abs().median() < 0.09


def test_a_gain_by_hand(others):
    """Llama 3.2 1B, Q4_0 over FP16: weights 16 -> 4.5 bits, LM head 16 -> 6.5625, K and V stay."""
    row = others[(others.model == "llama-3.2-1b") & (others.weights == 4.5)].iloc[0]
    assert row.gain == pytest.approx(4.21 / 1.21)
    head, blocks = 128256 * 2048, 16 * (2048 * (2048 + 2 * 512 + 2048) + 3 * 2048 * 8192)
    # less than the ratio of the weights, because K, V and activations stay
    weights = (blocks + head) * 16 / (blocks * 4.5 + head * 6.5625)
    assert 0.99 * weights < row.predicted_gain < weights


@pytest.mark.parametrize(
    "change, message",
    [
        ({"unpredicted": "x"}, "node, unpredicted: both given"),
        ({"node": ""}, "node, unpredicted: neither given"),
        ({"weights": ""}, "weights: empty, though a prediction needs it"),
        ({"seen": "perhaps"}, "seen: 'perhaps' is not one of yes, partly, no"),
        ({"model": "gpt5"}, "model: 'gpt5' is unknown"),
    ],
)
def test_a_damaged_published_energy_is_named(change, message, tmp_path):
    header, row = published.ENERGIES.read_text(encoding="utf-8").splitlines()[:2]
    cells = dict(zip(header.split(","), next(csv.reader([row])), strict=True)) | change
    path = tmp_path / "energies.csv"
    path.write_text(header + "\n" + ",".join(f'"{cell}"' for cell in cells.values()) + "\n", encoding="utf-8")
    with pytest.raises(TableError, match=f"line 2: {re.escape(message)}"):
        published.published_energy(path)


def test_the_figure_has_a_band_a_model_and_a_line_a_metric():
    models, arrays = ["opt-350m", "gpt2"], ["edge", "cloud"]
    bands = energy_sweep(models, [128, 4096], arrays, node=7)
    lines = pd.concat([sweep(models, [128, 4096], arrays, metric=metric) for metric in ("bytes", "cycles")])
    figure = energy_fractions(bands, lines, "F of energy")
    assert [axis.get_title() for axis in figure.axes] == [f"{array} array" for array in arrays]
    assert [(len(axis.collections), len(axis.lines)) for axis in figure.axes] == [(2, 4), (2, 4)]
    assert "F of energy, 7 nm, HBM2: lowest to highest" in [text.get_text() for text in figure.legends[0].get_texts()]
    plt.close(figure)
