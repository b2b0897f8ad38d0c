"""Recorded timings: complete, plausible, and compared with the law."""

from itertools import pairwise, product

import pandas as pd
import pytest

from llmamdahl.device.recorded import (
    COLUMNS,
    GPU,
    MEASURED,
    NO_GPU,
    TOLERANCE,
    VERSION,
    WHOLES,
    against_bandwidth,
    fractions,
    from_bytes,
    gpus,
    kernels_and_bytes,
    law_summary,
    parts,
    predictions,
    read,
    read_rows_of,
    setups,
    sums,
)
from llmamdahl.errors import InputError, TableError
from llmamdahl.hardware import CLOUD_TPU
from llmamdahl.models import CONTEXT_LENGTHS, PRINTED, model_names
from llmamdahl.systolic import gemm_cost
from llmamdahl.tables import write_rows

TIMINGS = read()
MODELS = {*model_names(), *(name + PRINTED for name in model_names("gpt"))}


def made_up(width=0.0):
    """Timings of a device on which the law holds exactly: parts add up, and INT8 makes the projections 4x faster."""
    projection, attention, other = 60.0, 30.0, 10.0
    after = projection / 4
    rest = attention + other
    timed = [
        ("float16", "projection", "", projection),
        ("float16", "other", "", other),
        *(("float16", "attention", form, attention) for form in ("matmul", "fused")),
        *(("float16", "block", form, projection + rest) for form in ("matmul", "fused")),
        ("int8", "projection", "", after),
        *(("int8", "block", form, after + rest) for form in ("matmul", "fused")),
    ]
    case = {name: kind() for name, kind in COLUMNS.items()} | {"version": VERSION, "dtype": "float16"}
    return pd.DataFrame(
        {
            **case,
            "weights": weights,
            "part": part,
            "attention": form,
            "kilobytes": 100.0,
            "bandwidth_gb_s": 10.0,
            "median_us": at,
            "p10_us": at * (1 - width),
            "p90_us": at * (1 + width),
        }
        for weights, part, form, at in timed
    )


def test_from_bytes_uses_only_bytes():
    """F = 80 / 100 and S_partial = 80 / 10 of bytes, which differ from those of the timings."""
    timings = made_up()
    projection = timings.part == "projection"
    timings.loc[projection, "kilobytes"] = [80.0, 10.0]
    table = from_bytes(timings)
    assert table.fraction.tolist() == [0.8, 0.8]
    assert table.partial_speedup.tolist() == [8.0, 8.0]
    assert table.predicted.tolist() == pytest.approx([1 / 0.3] * 2)
    assert table.partial_measured.tolist() == pytest.approx([4.0] * 2)
    assert table.error.tolist() == pytest.approx([0.55 / 0.3 - 1] * 2)


def test_where_the_law_holds_it_predicts_exactly():
    table = predictions(made_up())
    assert table.weights.tolist() == ["int8", "int8"]
    assert table.fraction.tolist() == [0.6, 0.6]
    assert table.partial_speedup.tolist() == [4, 4]
    assert table.measured.tolist() == pytest.approx([100 / 55] * 2)
    assert table.error.abs().max() < 1e-12
    assert table.surplus.abs().max() < 1e-12
    assert table.ceiling.tolist() == pytest.approx([2.5, 2.5])
    summary = law_summary(table)
    assert summary.within_5_percent.tolist() == [1, 1]
    assert summary.above_ceiling.tolist() == [0, 0]


def test_where_the_law_does_not_hold_the_error_is_not_zero():
    timings = made_up()
    timings.loc[(timings.weights == "int8") & (timings.part == "block"), "median_us"] = 25.0
    table = predictions(timings)
    assert table.error.tolist() == pytest.approx([100 / 55 / 4 - 1] * 2)
    assert law_summary(table).above_ceiling.tolist() == [1, 1]


def test_f_of_three_wholes_by_hand():
    """Projections 60, attention 30, other 10; the block takes 20 more than its parts, and 65 after."""
    timings = made_up()
    timings.loc[(timings.weights != "int8") & (timings.part == "block"), "median_us"] = 120.0
    timings.loc[(timings.weights == "int8") & (timings.part == "block"), "median_us"] = 65.0
    three = parts(timings)
    assert three[["projection_us", "attention_us", "other_us"]].to_numpy().tolist() == [[60, 30, 10]] * 2
    fractions_of = {"block": 60 / 120, "parts": 60 / 100, "two parts": 60 / 90}
    for whole, fraction in fractions_of.items():
        table = predictions(timings, whole)
        assert table.fraction.tolist() == pytest.approx([fraction] * 2)
        assert table.predicted.tolist() == pytest.approx([1 / (1 - fraction + fraction / 4)] * 2)
        assert table.surplus.tolist() == pytest.approx([0.2] * 2)
        assert WHOLES[whole] == table.whole[0]
    with pytest.raises(InputError, match=r"^whole: 'model'"):
        predictions(timings, "model")


def test_kernels_and_bytes_are_compared_group_by_group():
    compared = kernels_and_bytes(made_up())
    assert compared.prediction.tolist() == ["kernels"] * 6 + ["bytes"] * 2
    errors = compared.median_error.tolist()
    assert errors[:4] == pytest.approx([0] * 4)  # the block is the sum of its three parts
    assert errors[4:6] == pytest.approx([2 / (100 / 55) - 1] * 2)  # F = 60 / 90 and S_partial = 4 give 2
    assert errors[6:] == pytest.approx([1 - 55 / 100] * 2)  # all kilobytes are alike, so bytes predict 1


def test_fractions_sums_and_bandwidth():
    timings = made_up(width=0.1)
    shares = fractions(timings)
    assert shares.fraction.tolist() == pytest.approx([60 / 90] * 2)
    assert (shares.low < shares.fraction).all()
    assert (shares.fraction < shares.high).all()
    whole = sums(timings)
    assert whole.ratio.tolist() == [1, 1]
    assert whole.attention.tolist() == ["matmul", "fused"]
    assert (whole.low < 1).all()
    assert (whole.high > 1).all()
    limit = against_bandwidth(timings)
    assert set(limit.limit_us) == {10.0}
    assert limit.set_index(["weights", "part"]).share["float16", "projection"] == pytest.approx(1 / 6)


def test_a_missing_gpu_is_reported():
    assert gpus(TIMINGS.assign(launch="eager")) == NO_GPU
    assert gpus(TIMINGS.assign(launch="graph")) == GPU


def test_nothing_recorded_is_an_empty_table(tmp_path):
    empty = read(tmp_path)
    assert list(empty.columns) == list(COLUMNS)
    assert len(setups(empty)) == len(fractions(empty)) == 0


def test_a_row_of_another_version_is_rejected(tmp_path):
    rows = read_rows_of(next(MEASURED.glob("*.csv")))[:3]
    rows[1]["version"] = VERSION + 1
    write_rows(tmp_path / "device.csv", list(COLUMNS), rows)
    with pytest.raises(TableError, match=rf"device.csv, line 3: version: {VERSION + 1} is not {VERSION}") as caught:
        read(tmp_path)
    assert len(caught.value.rows) == 1


def test_all_models_and_context_lengths_are_recorded():
    for _, rows in TIMINGS.groupby(["device", "dtype", "launch", "batch"]):
        assert set(zip(rows.model, rows.context_length, strict=True)) == set(product(MODELS, CONTEXT_LENGTHS))
        kinds = {rows.dtype.iloc[0]} | ({"int8", "int4", "ternary"} if rows.batch.iloc[0] == 1 else set())
        assert set(rows.weights) == kinds
        per_case = 6 + 3 * (len(kinds) - 1)
        assert (rows.groupby(["model", "context_length"]).size() == per_case).all()


def test_recorded_numbers_are_plausible():
    assert (TIMINGS.p10_us <= TIMINGS.median_us).all()
    assert (TIMINGS.median_us <= TIMINGS.p90_us).all()
    assert (TIMINGS.repetitions >= 11).all()
    checked = TIMINGS[TIMINGS.error.notna()]
    assert (checked.error <= checked.weights.map(TOLERANCE)).all()
    assert set(TIMINGS.part[TIMINGS.error.isna()]) <= {"block"}  # whole blocks are compared with float64 at one length
    assert (
        checked[checked.part == "block"].groupby(["device", "dtype", "model"]).ngroups
        == 17 * TIMINGS.groupby(["device", "dtype"]).ngroups
    )


def test_nothing_is_faster_than_the_memory_bus():
    # caches hold less than a third of any working set, so they could make a pass at most 1.5 times faster
    assert against_bandwidth(TIMINGS).share.max() < 1.0


def test_weights_move_the_bytes_of_their_bits():
    bits = {"float32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "int4": 4, "ternary": 2}
    for weights, rows in TIMINGS[TIMINGS.part == "projection"].groupby("weights"):
        per_weight = rows.kilobytes * 8e3 / rows.model.map(number_of_weights)
        assert per_weight.between(bits[weights], bits[weights] * 1.26).all(), weights


def number_of_weights(name):
    from llmamdahl.models import get_model
    from llmamdahl.workload import Part, decode_step

    return sum(mm.n * mm.k for mm in decode_step(get_model(name), 1) if mm.part is Part.PROJECTION)


def test_the_parts_sum_to_the_block_within_noise():
    whole = sums(TIMINGS)
    assert whole.ratio.median() == pytest.approx(1, abs=0.05)
    assert whole.ratio.between(0.8, 1.2).all()


def test_the_law_predicts_the_recorded_speedups():
    table = predictions(TIMINGS)
    assert table.model.nunique() >= 5
    assert table.context_length.nunique() >= 4
    assert table.error.abs().median() < 0.05
    assert table.error.notna().all()


def test_kernels_predict_recorded_blocks_better_than_bytes():
    # notebook 15
    table = TIMINGS[TIMINGS.device == "AMD EPYC AVX512"]
    medians = {whole: round(predictions(table, whole).error.abs().median(), 3) for whole in WHOLES}
    assert medians == {"block": 0.033, "parts": 0.021, "two parts": 0.027}
    assert round(from_bytes(table).error.abs().median(), 2) == 0.35
    missed = kernels_and_bytes(table).query("median_error > 0.1")
    assert (missed.prediction == "bytes").all() and len(missed) == 11


def test_how_f_lies_on_the_cpu():
    # the sentences of notebook 04
    timed = fractions(TIMINGS[(TIMINGS.device == "AMD EPYC AVX512") & (TIMINGS.batch == 1)])
    table = timed.pivot(index=["context_length", "model"], columns=["dtype", "attention"], values="fraction")
    table = table[~table.index.get_level_values("model").str.endswith(PRINTED)]
    bf16, float32 = table["bfloat16"], table["float32"]
    assert (table.groupby("model").diff().dropna() < 0).all(axis=None)
    lower = [
        (form, length, larger)
        for form, family in product(("matmul", "fused"), ("gpt", "opt", "llama"))
        for length, (smaller, larger) in product(CONTEXT_LENGTHS, pairwise(model_names(family)))
        if bf16[form][length, larger] <= bf16[form][length, smaller]
    ]
    assert lower == [("matmul", length, "opt-2.7b") for length in (512, 1024, 2048, 4096)]
    between = float32.ge(bf16.fused, axis=0) & float32.le(bf16.matmul, axis=0)
    assert between.loc[1024:].all(axis=None)


def test_where_the_cycles_of_attention_go_on_the_cloud_array():
    # the sentences of notebook 04: a head of OPT 350M at l = 2048 has eight folds of Q·Kᵀ and one of scores·V
    cycles = sum(gemm_cost(1, n, k, CLOUD_TPU).cycles for n, k in ((2048, 64), (64, 2048)))
    products, filling = 2048 * 64 // 256, 256 + 256 - 2
    shares = [part / cycles for part in (2 * products, 2048 - products, 9 * filling)]
    assert [round(share, 2) for share in shares] == [0.14, 0.21, 0.64]


def test_how_the_errors_of_the_law_lie():
    # the sentences of notebook 15
    table = predictions(TIMINGS[TIMINGS.device == "AMD EPYC AVX512"])
    assert len(table) == 1224
    assert round((table.error < 0).mean(), 2) == 0.63
    assert table.error.quantile([0.25, 0.5, 0.75]).round(3).tolist() == [-0.051, -0.014, 0.015]
    narrow = table[table.weights.isin(["int4", "ternary"])]
    group = narrow.groupby(["model", "dtype", "weights", "attention"]).error.agg(["size", "min", "max"])
    assert len(group) == 136 and (group["size"] == 6).all()
    low = group[group["max"] < 0]
    assert (len(low), round(low["min"].min(), 2), (group["min"] > 0).sum()) == (27, -0.27, 2)
    large = low.index.get_level_values("model").isin(
        ["opt-6.7b", "opt-13b", "opt-30b", "opt-66b", "llama-7b", "llama-13b"]
    )
    assert large.sum() == 1
