"""The published speedups: their table, the predictions made from it, and the rows that are rejected."""

import math

import pandas as pd
import pytest

from llmamdahl import amdahl
from llmamdahl.errors import InputError, TableError
from llmamdahl.paper import accelerators, speedups
from llmamdahl.paper.published import PUBLISHED
from llmamdahl.tables import DATA


@pytest.fixture(scope="module")
def table():
    return speedups.read_speedups()


@pytest.fixture(scope="module")
def predicted(table):
    return speedups.predict(table)


def decimals(value):
    return len(f"{value}".partition(".")[2].removesuffix("0"))


def rounded(value):
    """The interval of values that round to the printed one; .5 itself rounds either way."""
    half = 0.5 * 10 ** -decimals(value)
    return value - half, value + half


def test_the_predictions_are_those_recorded(predicted, tmp_path):
    predicted.round(6).to_csv(tmp_path / "now.csv", index=False)
    now, recorded = (pd.read_csv(path) for path in (tmp_path / "now.csv", DATA / "results" / "speedups.csv"))
    pd.testing.assert_frame_equal(now, recorded, check_exact=False, atol=1.1e-6, rtol=1e-9)


def test_every_row_is_plausible_and_has_a_source(table):
    assert len(table) == 427
    plausible = table.measured.between(0.5, 100) | table.measured.isna() | (table.unit == "J")  # estimates of energy
    assert plausible.all(), table[~plausible]
    assert (table.baseline[table.before.notna()] != "").all()
    assert (table.source != "").all() and (table.place != "").all()
    assert not table[table.unpredicted == ""].measured.isna().any()
    assert set(table.unit) <= set(speedups.UNITS)


def test_printed_ratios_are_those_of_the_printed_numbers(table):
    """Up to the rounding of all three."""
    both = table.dropna(subset=["before", "after", "speedup"])
    assert len(both) > 60
    for row in both[both.unit.isin(speedups.UNITS) & (both.unit != "x")].itertuples():
        (b0, b1), (a0, a1), (low, high) = map(rounded, (row.before, row.after, row.speedup))
        ratios = (a0 / b1, a1 / b0) if row.unit in speedups.MORE_IS_BETTER else (b0 / a1, b1 / a0)
        assert low <= ratios[1] and ratios[0] <= high, row


def test_at_least_100_speedups_of_6_systems_on_4_devices_are_predicted(predicted):
    speeds = predicted[predicted.quantity != "memory"]
    assert len(predicted) >= 100
    assert speeds.system.nunique() >= 6
    assert speeds.device.nunique() >= 4


def test_no_measurement_is_above_its_ceiling(predicted):
    assert not predicted.above_ceiling.any()
    assert (predicted.predicted <= predicted.ceiling).all()
    kept = predicted[predicted.unquantized_bits_after.isna()]
    assert kept.ceiling.to_numpy() == pytest.approx(amdahl.ceiling(kept.fraction.to_numpy()))
    assert kept.needed_partial_speedup.to_numpy() == pytest.approx(
        amdahl.required_partial_speedup(kept.fraction.to_numpy(), kept.measured.to_numpy())
    )


def test_a_decode_step_by_hand(predicted):
    """I2_S on the i7, 7B: the dummy's own numbers, two bits a weight, embedding in FP32, a cache of 64 tokens."""
    d, ff, layers, rows, length = 4096, 12032, 32, 32002, 64
    weights, cache = layers * (4 * d * d + 3 * d * ff), layers * 2 * d * length * 2
    attention = cache + layers * 2 * d * 2
    head = 4 * rows * d + 2 * (d + rows)
    results = layers * 2 * (4 * d + 2 * ff + d)
    inputs = layers * (4 * d + 2 * d + ff)
    before, after = 2 * weights + 2 * inputs + results, weights / 4 + inputs + results
    row = predicted.query("format == 'I2_S' and model == 'bitnet-7b-dummy' and device == 'Core i7-13700H'").squeeze()
    assert row.fraction == pytest.approx(before / (before + attention + head))
    assert row.predicted == pytest.approx((before + attention + head) / (after + attention + head))
    assert row.measured == 20.62 / 3.3
    assert row.error == pytest.approx(row.predicted / row.measured - 1)
    assert amdahl.total_speedup(row.fraction, row.needed_partial_speedup) == pytest.approx(row.measured)
    read = speedups.bandwidth(predicted).query("format == 'I2_S' and model == 'bitnet-7b-dummy' and unit == 'tokens/s'")
    read = read[read.device == "Core i7-13700H"].squeeze()
    assert read.gb_s_before == pytest.approx((before + attention + head) * 3.3 / 1e9)
    assert read.gb_s_after == pytest.approx((after + attention + head) * 20.62 / 1e9)


def test_every_fraction_names_its_whole(table, predicted):
    """Time and bytes have the LM head in the whole; the multiply-accumulates of BitNet's table leave it out."""
    for tables in (
        predicted,
        speedups.capacity(predicted),
        speedups.bandwidth(predicted),
        speedups.transfer(predicted),
    ):
        assert set(tables.whole) == {"projection + attention + unquantized"}
    assert set(speedups.energy(table).whole) == {"projection + attention"}


def test_several_devices_share_the_bytes(predicted):
    """OPT 175B on eight devices: 44 GB each. Its weights, all but 1% of 175e9, take 350e9 / 8 bytes of that."""
    rows = speedups.capacity(predicted).query("model == 'opt-175b' and context_length == 512 and batch == 1")
    weights = 96 * 12 * 12288**2 + 50272 * 12288
    cache = 96 * 2 * 12288 * 512
    assert rows.squeeze().other_gb == pytest.approx(44 - 2 * (weights + cache) / 8 / 1e9)


def test_other_tables_are_rejected(table, predicted):
    for question in (speedups.capacity, speedups.bandwidth, speedups.transfer):
        with pytest.raises(InputError, match=r"^predicted: not a table of `predict`; it has no column needed"):
            question(table)
    with pytest.raises(InputError, match=r"^predicted: not a table of `predict`; it has no column nonsense"):
        speedups.summary(predicted, "nonsense")
    for question in (speedups.predict, speedups.realised, speedups.energy):
        with pytest.raises(InputError, match=r"^table: not a table of `read_speedups`"):
            question(16)
    with pytest.raises(TableError, match=r"^absent\.csv, line 1: no such file"):
        speedups.read_speedups("absent.csv")


def test_capacity_by_hand(predicted):
    """BitNet b1.58 3B: 7.89 GB. The weights take 2 (P + E) bytes; the rest is other memory."""
    projections, embedding = 26 * (4 * 3200**2 + 3 * 3200 * 8640), 32002 * 3200
    rows = speedups.capacity(predicted)
    row = rows[(rows.system == "BitNet b1.58") & (rows.model == "bitnet_b1_58-3b")].squeeze()
    other = 7.89e9 - 2 * (projections + embedding)
    assert row.other_gb == pytest.approx(other / 1e9)
    assert row.predicted == pytest.approx(2 * (projections + embedding) / (projections / 4 + 2 * embedding))
    assert row.predicted_with_other == pytest.approx(7.89e9 / (projections / 4 + 2 * embedding + other))
    assert row.measured == 7.89 / 2.22
    row = rows[(rows.system == "BitBLAS") & (rows.before == 7595)].squeeze()
    assert row.unit == "MB" and row.other_gb == pytest.approx(7.595 - 2 * (projections + embedding) / 1e9, abs=0.02)
    nothing_else = rows[rows.other_gb < 0]
    assert (nothing_else.predicted_with_other == nothing_else.predicted).all() and len(nothing_else)


def test_other_bits_of_the_unquantized_weights(table):
    rows = table[table.model == "bitnet-1b-dummy"]
    kept, narrow = (speedups.predict(rows, bits).predicted for bits in ((16, 16), (16, 4)))
    assert (narrow > kept).all()
    assert (speedups.predict(rows, (32, 32)).predicted == speedups.predict(rows).predicted).all()


def test_an_lm_head_that_is_quantized_too_by_hand(predicted):
    """Llama 3.2 1B in Q4_0 on the Raspberry Pi 5: 4.5 bits, the tied LM head from 16 to Q6_K, a cache of 64 tokens."""
    d, kv, ff, layers, rows, length = 2048, 512, 8192, 16, 128256, 64
    weights, cache = layers * (2 * d * d + 2 * d * kv + 3 * d * ff), layers * 2 * kv * length * 2
    attention = cache + layers * 2 * d * 2
    head, head_after = (bits / 8 * rows * d + 2 * (d + rows) for bits in (16, 6.5625))
    results, inputs = layers * 2 * (2 * d + 2 * kv + 2 * ff + d), layers * (4 * d + 2 * d + ff)
    before, after = 2 * weights + 2 * inputs + results, 4.5 / 8 * weights + inputs + results
    row = predicted.query("system == 'LLMPi' and format == 'Q4_0' and model == 'llama-3.2-1b'").squeeze()
    assert row.predicted == pytest.approx((before + attention + head) / (after + attention + head_after))
    assert row.measured == 11.68 / 3.81
    others = (attention + head_after) / (before + attention + head)
    assert row.ceiling == pytest.approx(1 / others)
    assert row.needed_partial_speedup == pytest.approx(row.fraction / (3.81 / 11.68 - others))
    read = speedups.bandwidth(predicted).query("system == 'LLMPi' and format == 'Q4_0' and model == 'llama-3.2-1b'")
    assert read.gb_s_after.item() == pytest.approx((after + attention + head_after) * 11.68 / 1e9)


def test_every_number_of_llmpi_is_in_a_row_once_and_runs_that_swap_have_no_prediction(table):
    """27 numbers of each quantity: 5 of FP16, 20 of the other formats, 2 of bitnet.cpp without a baseline."""
    rows = table[table.system == "LLMPi"]
    assert rows.groupby("quantity").size().to_dict() == {"decode": 22, "energy": 22, "words per battery": 22}
    printed = accelerators.read_facts().query("system == 'LLMPi' and role == 'result'").value.astype(float)
    numbers = [*rows.after, *rows.groupby(["quantity", "model"]).before.first().dropna()]
    assert sorted(numbers) == sorted(printed) and len(numbers) == 81
    swapping = rows[rows.unpredicted.str.contains("swaps")]
    assert set(swapping.model) == {"phi-3-mini-4k", "llama-3.1-8b"} and len(swapping) == 3 * 8
    speeds = rows[rows.unpredicted == ""]
    assert len(speeds) == 12 and set(speeds.quantity) == {"decode"} and set(speeds.model) & set(swapping.model) == set()


def test_transfer_is_the_law_where_one_partial_speedup_holds(predicted):
    """Speedups made with one S_partial are transferred exactly; the rival, without the law, misses them."""
    rows = predicted[predicted.model.str.contains("dummy")]
    made = rows.assign(measured=amdahl.total_speedup(rows.fraction.to_numpy(), 5.0), needed_partial_speedup=5.0)
    transferred = speedups.transfer(made)
    assert len(transferred) == len(rows)
    assert not {*speedups.transfer(predicted).columns} & {"half", "size"}
    assert transferred.error_transferred.abs().max() < 1e-12
    assert transferred.error_rival.abs().max() > 0.1


def test_rivals_that_know_the_size_do_as_well_as_the_law(predicted):
    table = speedups.rivals_by_size(speedups.transfer(predicted)).round(3)
    assert table.loc["neighbours"].tolist() == [0.066, 0.060, 9, 20]
    assert table.loc["line"].tolist() == [0.072, 0.056, 5, 20]


def test_rivals_by_size_by_hand(predicted):
    """One S_partial for all: the law is exact. Gains 1, 2 and 9 at sizes that double: neighbours give 2, 5 and 2."""
    transferred = speedups.transfer(predicted)
    group = transferred[(transferred.system == "LLMPi") & (transferred.format == "Q8_0")]
    order = ["llama-3.2-1b", "gemma-2-2b", "llama-3.2-3b"]
    assert sorted(group.model) == sorted(order)
    made = group.assign(measured=1 / (group.others + group.fraction / 5), needed_partial_speedup=5.0)
    exact = speedups.rivals_by_size(made)
    assert exact.law.max() < 1e-12 and (exact.law_closer == 1).all() and (exact.groups == 1).all()
    gains = made.assign(measured=made.model.map(dict(zip(order, (1.0, 2.0, 9.0), strict=True))))
    assert speedups.rivals_by_size(gains).rival["neighbours"] == pytest.approx(1)  # the median of 1/1, 3/2 and 7/9
    with pytest.raises(InputError, match=r"transferred: .*transfer"):
        speedups.rivals_by_size(predicted.drop(columns=["fraction"]))


def test_transfer_learns_only_from_the_other_half(predicted):
    """Changing a speedup changes no prediction in its own half of the rows, its own included."""
    before = speedups.transfer(predicted)
    changed = predicted.copy()
    where = changed.index[(changed.format == "I2_S") & (changed.model == "bitnet-7b-dummy")]
    changed.loc[where, ["measured", "needed_partial_speedup"]] = 1.0
    moved = before.model[(before.transferred != speedups.transfer(changed).transferred).to_numpy()]
    assert len(moved) and "bitnet-7b-dummy" not in set(moved)
    assert set(before[before.format == "I2_S"].model) > set(moved)


def test_realised_gives_the_range_of_each_kernel(table):
    ranges = speedups.realised(table).set_index(["system", "format", "device", "kind"])
    kernel = ranges.loc["BitNet GPU kernel", "W2A8", "A100 40GB", "kernel"]
    assert (kernel.cases, kernel.low, kernel.high) == (8, 18.87 / 14.9, 112.39 / 30.99)
    int2 = ranges.loc["BitBLAS", "INT8xINT2", "A100 80GB", "kernel"]
    assert (int2.cases, int2.low, int2.high) == (1, 6.0, 8.2) and math.isnan(int2["median"])
    known = ranges.dropna()
    assert ((known.low <= known["median"]) & (known["median"] <= known.high)).all()


def test_energy_by_hand(table):
    d, layers, tokens = 4096, 32, 512
    row = speedups.energy(table).set_index(["model", "node"]).loc["opt-6.7b", "7nm"]
    projections, attention = 12 * d * d * tokens * layers, 2 * tokens * tokens * d * layers
    assert row.fraction == pytest.approx(projections / (projections + attention))
    assert row.partial_speedup == pytest.approx((1.14 + 0.54) / (0.02 + 0.04))
    assert row.total_speedup == amdahl.total_speedup(row.fraction, row.partial_speedup)


def test_summary_by_hand():
    frame = pd.DataFrame({"system": ["a", "a", "b"], "device": ["x", "y", "x"], "measured": [2.0, 4.0, 3.0]})
    frame = frame.assign(predicted=[2.2, 6.0, 3.0], error=[0.1, 0.5, 0.0], above_ceiling=[False, True, False])
    a, b = speedups.summary(frame, "system").itertuples()
    assert (a.cases, a.devices, a.measured, a.median_error, a.within_20_percent) == (2, 2, 3.0, 0.3, 0.5)
    assert (a.worst, a.above_ceiling, b.median_error) == (0.5, 0.5, 0.0)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("unit", "parsecs", "unit: 'parsecs' is unknown; known: tokens/s, tokens/J, words, sequences, us"),
        ("baseline", "", "baseline: empty, though there is a speedup; say what it is a speedup over"),
        ("device", "Core i9", "device: 'Core i9' is unknown; `llmamdahl devices` lists"),
        ("model", "bitnet-8b-dummy", "model: 'bitnet-8b-dummy' is unknown; did you mean bitnet-"),
        ("weight_bits", "", "weight_bits: empty, though a prediction needs it; fill it in, or say why not"),
        ("context_length", "", "context_length: empty, though a prediction needs it"),
        ("before", "", "before: empty, though a prediction needs it"),
        ("unit", "GB", "unit: 'GB' is not a unit of decode; its units are tokens/s, us, ms"),
        ("unit", "%", "unit: '%' is not a unit of decode; its units are tokens/s, us, ms"),
        ("before", "-3", "before: '-3' is not a valid optional_float"),
        ("quantity", "joy", "quantity: 'joy' has no prediction; say why in unpredicted"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path, table, column, value, problem):
    raw = pd.read_csv(PUBLISHED / "speedups.csv", dtype=str, keep_default_na=False)
    at = raw.index[(raw.format == "I2_S") & (raw.unpredicted == "")][0]
    raw.loc[at, column] = value
    raw.to_csv(tmp_path / "speedups.csv", index=False, lineterminator="\n")
    with pytest.raises(TableError, match=rf"speedups\.csv, line {at + 2}: {problem}") as caught:
        speedups.read_speedups(tmp_path / "speedups.csv")
    assert len(caught.value.rows) == at


def test_more_than_100_percent_of_the_baseline_is_rejected(tmp_path):
    raw = pd.read_csv(PUBLISHED / "speedups.csv", dtype=str, keep_default_na=False)
    at = raw.index[(raw.unit == "%") & (raw.before != "")][0]
    raw.loc[at, "after"] = "140"
    raw.to_csv(tmp_path / "speedups.csv", index=False, lineterminator="\n")
    with pytest.raises(TableError, match=rf"line {at + 2}: before, after: .* and 140.0 are percent .* at most 100"):
        speedups.read_speedups(tmp_path / "speedups.csv")


def test_measured_is_larger_for_faster(table):
    rates = table[table.unit.isin(["tokens/s"])].dropna(subset=["before"])
    assert (rates.measured == rates.after / rates.before).all()
    times = table[table.unit == "ms"].dropna(subset=["before"])
    assert (times.measured == times.before / times.after).all()
    assert math.isclose(table[table.system == "PIM-LLM"].measured.max(), 80)


def test_another_embedding_moves_every_number_but_the_ceilings():
    """With the bits of the rows themselves the numbers are those of `predict`; dummies alone change."""
    table = speedups.read_speedups()
    usual, halved = (speedups.with_embedding(table, bits) for bits in ((32, 32), (16, 16)))
    predicted = speedups.predict(table)
    assert usual["speeds"] == pytest.approx(predicted[predicted.quantity != "memory"].error.abs().median())
    assert usual["law"] == pytest.approx(speedups.transfer(predicted).error_transferred.abs().median())
    assert halved["bus_used"] > usual["bus_used"] and halved["law"] > usual["law"]
    assert usual["rival"] == halved["rival"]  # it does not use F
    assert usual["above_ceiling"] == halved["above_ceiling"] == 0
