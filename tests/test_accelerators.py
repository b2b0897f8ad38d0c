"""Published accelerators and boards: their tables, the limits predicted from them, and the rows that are rejected."""

import pandas as pd
import pytest

from llmamdahl import get_model
from llmamdahl.errors import InputError, TableError
from llmamdahl.paper import accelerators, figures, speedups
from llmamdahl.paper.published import PUBLISHED
from llmamdahl.tables import DATA
from llmamdahl.workload import Part, decode_step


@pytest.fixture(scope="module")
def facts():
    return accelerators.read_facts()


@pytest.fixture(scope="module")
def points():
    return accelerators.read_points()


@pytest.fixture(scope="module")
def table():
    return accelerators.predict()


@pytest.fixture(scope="module")
def predicted(table):
    return table.dropna(subset="predicted")


def at(predicted, system, point=""):
    found = predicted[(predicted.system == system) & predicted.point.str.contains(point, regex=False)]
    return found.squeeze()


def fact(facts, system, quantity):
    return float(facts[(facts.system == system) & (facts.quantity == quantity)].number.item())


def weights(model, part=Part.PROJECTION):
    return sum(mm.n * mm.k * mm.count for mm in decode_step(get_model(model), 1) if mm.part is part)


def test_every_fact_has_a_source(facts):
    assert len(facts) == 377
    for column in ("source", "where", "seen", "system", "quantity"):
        assert (facts[column] != "").all(), column
    assert (facts.number.isna() == (facts.unit == "text")).all()


def test_every_result_is_predicted_or_says_why_not(facts, table, predicted):
    assert len(predicted) == 58 and predicted.system.nunique() == 14
    assert (predicted.reason == "").all() and (predicted.assumed != "").all()
    rest = table[table.predicted.isna()]
    assert (rest.reason != "").all() and (rest.assumed == "").all()
    assert (
        len(table)
        == (facts.role == "result").sum()
        + ((facts.role == "parameter") & facts.reason.str.startswith("distrusted")).sum()
    )


def test_what_is_not_trusted_stays_with_its_reason(table):
    distrusted = table[table.reason.str.startswith("distrusted")]
    for system, point in (
        ("Slim-Llama", "power at 200 MHz"),
        ("FlightLLM", "HBM bandwidth utilisation, decode"),
        ("PD-Swap", "prefill speed"),
        ("Cambricon-LLM", "NPU peak"),
        ("Vec-LUT", "speedup, up to"),
        ("TOM", "throughput"),
        ("LLMPi", "decode speed, Llama-3 8B, Q8_0"),
        ("TeLLMe v2", "memory bandwidth, theoretical"),
        ("PD-Swap", "memory bandwidth, theoretical"),
    ):
        assert ((distrusted.system == system) & (distrusted.point == point)).any(), (system, point)
    assert distrusted.predicted.isna().all()


def test_the_table_is_the_recorded_one(table, tmp_path):
    table.to_csv(tmp_path / "now.csv", index=False)
    now, recorded = (pd.read_csv(path) for path in (tmp_path / "now.csv", DATA / "results" / "accelerators.csv"))
    pd.testing.assert_frame_equal(now, recorded, check_exact=False, rtol=1e-12)


def test_numbers_without_a_prediction_are_kept(facts, table):
    printed = {*zip(facts.system, facts.device, facts.quantity, facts.number, facts.unit, strict=True)}
    missing = table[table.predicted.isna()]
    assert len(missing) > 100
    assert {
        *zip(missing.system, missing.device, missing.point, missing.published, missing.unit, strict=True)
    } <= printed


def test_nothing_published_is_above_its_limit(predicted):
    """OPT 66B on Cambricon-LLM-S is printed as 0.4, 3% above, but 0.35 would be printed so too."""
    assert not predicted.above.any()
    assert predicted.system[predicted.error < 0].tolist() == ["Cambricon-LLM-S"]
    assert predicted.error.min() == pytest.approx(-0.031, abs=5e-4)


def test_what_is_published_above_its_limit_is_said_so(facts, points, table):
    """Even the smallest number that is printed so has to be above."""
    point = points[0]
    limit = table[table.point == point["quantity"]].predicted.iloc[0]
    for value, above in ((f"{limit * 1.01:.9g}", True), (f"{limit:.1e}", False)):
        row = facts[facts.quantity == point["quantity"]].assign(value=value, number=float(value), unit="tokens/s")
        assert accelerators.predict(row, [point]).above.tolist() == [above]


def test_bandwidths_and_bits_are_those_of_the_facts(facts, points):
    stated = facts[facts.quantity.str.startswith("memory bandwidth")].groupby("system").number.apply(set)
    for point in points:
        system = point["system"]
        if system.startswith("Cambricon-LLM"):
            continue
        assert point["bandwidth_gb_s"] in stated[system], system
        bits = facts[(facts.system == system) & facts.quantity.str.startswith("weight bits")].number.tolist()
        if bits and system != "FlightLLM":
            assert point["weight_bits"] in bits, system


@pytest.mark.parametrize("size", "SML")
def test_cambricon_by_hand(facts, predicted, size):
    """A page for each compute core in each read time, and pages through the channels, against 8 bits a weight."""
    system = f"Cambricon-LLM-{size}"
    channels, chips = (fact(facts, system, name) for name in ("flash channels", "chips a channel"))
    dies, cores = (fact(facts, "Cambricon-LLM", name) for name in ("dies a chip", "compute cores a die"))
    page, read = fact(facts, "Cambricon-LLM", "page") * 1024, fact(facts, "Cambricon-LLM", "page read time") * 1e-6
    flash = channels * (chips * dies * cores * page / read + fact(facts, "Cambricon-LLM", "channel rate") * 1e9)
    d, ff, layers, vocabulary = 4096, 16384, 32, 50272
    moved = layers * (4 * d * d + 2 * d * ff) + vocabulary * d  # weights and LM head
    moved += layers * (4 * 2 * d + 2 * (d + ff)) + d + vocabulary  # what goes into and out of each MatMul
    row = at(predicted, system, "OPT-6.7B")
    assert row.predicted == pytest.approx(flash / moved, rel=1e-4)  # the bandwidth is written with three decimals
    assert row.published == fact(facts, system, "decode speed, OPT-6.7B, W8A8")


def test_llmpi_by_hand(facts, predicted):
    """Llama 3.2 1B in Q4_0 (18 bytes for 32 weights), LM head in Q6_K (210 for 256), 64 tokens of K and V in FP16."""
    d, ff, kv, layers, vocabulary, length = 2048, 8192, 512, 16, 128256, 64
    read = layers * (2 * d * d + 2 * d * kv + 3 * d * ff) * 18 / 32 + vocabulary * d * 210 / 256
    read += 2 * layers * (4 * d + 2 * d + ff + 2 * d + 2 * kv + 2 * ff + d)  # into and out of the projections
    read += 2 * layers * (2 * length * kv + 2 * d) + 2 * (d + vocabulary)
    row = at(predicted, "LLMPi", "Llama-3.2-1B, Q4_0")
    assert row.predicted == pytest.approx(17.1e9 / read)
    assert row.published == 11.68 and row.bound == "memory"


def test_q2_k_is_the_mean_of_the_types_that_llama_cpp_mixes(points):
    """W_X and W_O in Q3_K (110 bytes for 256 weights), W_V in Q3_K or, if four or more heads share it, Q4_K (144)."""
    found = {point["model"]: point for point in points if point["quantity"].endswith("Q2_K")}
    assert len(found) == 5
    for name, point in found.items():
        model = get_model(name)
        shared = model.num_heads >= 4 * model.num_kv_heads
        types = {"W_V": (144 if shared else 110) / 32, "W_X": 110 / 32, "W_O": 110 / 32}
        step = [mm for mm in decode_step(model, 1) if mm.part is Part.PROJECTION]
        bits = sum(types.get(mm.name, 84 / 32) * mm.n * mm.k * mm.count for mm in step)
        assert point["weight_bits"] == pytest.approx(bits / weights(name), abs=5e-5)
        assert point["unquantized_bits"] == 210 / 32


def test_flightllm_reads_what_its_released_case_reads(facts, points, predicted):
    stated = fact(facts, "FlightLLM", "weights read a token, released LLaMA2-7B cases") * 1e9
    every = weights("llama-2-7b") + weights("llama-2-7b", Part.UNQUANTIZED)
    peak = fact(facts, "FlightLLM", "DSPs") * fact(facts, "FlightLLM", "INT8 MACs a DSP") * 2 * 225e6 / 1e12
    for point in (point for point in points if point["system"] == "FlightLLM"):
        assert point["weight_bits"] * every / 8 == pytest.approx(stated, rel=2e-4)
        assert point["peak_tops"] == pytest.approx(peak, abs=5e-5)
    row = at(predicted, "FlightLLM", "context 128")
    assert row.published == pytest.approx(1e3 / 17.506)  # printed as milliseconds
    assert row.published / row.predicted == pytest.approx(0.43, abs=5e-3)  # not the 65.9% that is printed


def test_edgellm_is_bound_by_its_multipliers(facts, predicted):
    peak = fact(facts, "EdgeLLM", "operations per cycle, FP16 x INT4") * 280e6
    row = at(predicted, "EdgeLLM", "GLM-6B")
    least = 2 * (weights("chatglm2-6b") + weights("chatglm2-6b", Part.UNQUANTIZED)) / peak
    attention = 2 * 2 * 28 * 32 * 128 * 512 / peak
    assert row.bound == "arithmetic" and row.predicted == pytest.approx(1 / (least + attention), rel=1e-4)
    assert row.error == pytest.approx(0.045, abs=1e-3)
    assert at(predicted, "EdgeLLM", "Qwen-7B").error == pytest.approx(0.90, abs=5e-3)


def test_tellme_computes_its_lm_head_elsewhere(predicted):
    row = at(predicted, "TeLLMe v2")
    projection = weights("bitnet_b1_58-large") * 1.667 / 8 / 17.1e9
    assert row.whole == "projection + other"
    assert row.predicted == pytest.approx(1 / (projection + 9e-3), rel=0.01)  # activations take the rest
    assert row.fraction == pytest.approx(1 - 9e-3 * row.predicted)


def test_tereffic_reads_every_weight_once(predicted):
    assert at(predicted, "TerEffic v2").predicted == pytest.approx(460e9 / (2.7e9 * 1.6 / 8))


def test_speedups_of_bits_are_predicted_better_than_speeds(predicted):
    """What slows a board down at every width cancels; with Q2_K, where arithmetic binds, it does not."""
    bits = accelerators.speedups_of_bits()
    assert (bits.whole == "projection + attention + unquantized").all()
    assert len(bits) == 17 and (bits.published <= bits.ceiling).all()
    board = predicted[(predicted.system == "LLMPi") & ~predicted.point.str.contains("i2_s")]
    assert bits.error.abs().median() == pytest.approx(0.065, abs=5e-4)
    assert board.error.abs().median() > 10 * bits.error.abs().median()
    worst = bits.after.str.endswith("Q2_K")
    assert bits.error[~worst].abs().max() == pytest.approx(0.115, abs=5e-4)
    assert bits.error[worst].min() == pytest.approx(0.107, abs=5e-4)


def test_a_speedup_of_bits_by_hand():
    row = accelerators.speedups_of_bits().query("after == 'decode speed, Llama-3.2-3B, Q8_0'").squeeze()
    assert row.published == 2.75 / 1.47 and row.before == "decode speed, Llama-3.2-3B, FP16"
    assert row.partial_speedup == pytest.approx(16 / 8.5, rel=2e-3)  # activations stay as wide as they are


def test_a_ceiling_with_a_narrower_lm_head_by_hand():
    """FP16 over what is left with infinitely fast projections: the LM head in Q6_K, and attention as it is."""
    row = accelerators.speedups_of_bits().query("after == 'decode speed, Llama-3.2-1B, Q2_K'").squeeze()
    head, blocks = weights("llama-3.2-1b", Part.UNQUANTIZED), weights("llama-3.2-1b")
    assert 0.99 < row.ceiling / ((blocks + head) * 16 / (head * 6.5625)) < 1  # K, V and activations take the rest
    of_seconds = speedups.predict(speedups.read_speedups()).query("format == 'Q2_K' and model == 'llama-3.2-1b'")
    assert row.ceiling == pytest.approx(of_seconds.ceiling.item(), rel=1e-4)  # as in notebook 16


def test_without_a_narrower_lm_head_the_ceiling_is_that_of_f():
    row = accelerators.speedups_of_bits().query("after == 'decode speed, Llama-3 8B, Q4_0'").squeeze()
    assert row.before.endswith("Q6_K") and row.ceiling == pytest.approx(1 / (1 - row.fraction))


def test_summary_counts_what_is_predicted(table):
    summary = accelerators.summary(table).set_index("system")
    assert summary.points.sum() == 58 and summary.above.sum() == 0
    assert summary.points["LLMPi"] == 24
    flight = summary.loc["FlightLLM"]
    assert flight["lowest"] < flight["median"] < flight["highest"] == pytest.approx(0.43, abs=5e-3)
    with pytest.raises(InputError, match=r"^predicted: not a table of `predict`"):
        accelerators.summary(pd.DataFrame({"system": []}))


@pytest.mark.parametrize(
    ("name", "old", "new", "match"),
    [
        ("accelerators", ",result,", ",outcome,", "line 2: role: 'outcome' is unknown; known: result, parameter"),
        ("accelerators", ",11.6,x,", ",eleven,x,", "line 2: value: 'eleven' is not a number, though its unit is not"),
        ("accelerator_points", ",llama-3.2-1b,", ",,", "line 2: model, weights: give one of the two"),
        ("accelerator_points", ",llama-3.2-1b,", ",llama-9,", "line 2: model: 'llama-9' is unknown"),
        (
            "accelerator_points",
            "llama-3.2-1b,,64,16.0,16,16,",
            "llama-3.2-1b,,64,16.0,16,,",
            "line 2: cache_bits: empty",
        ),
        ("accelerator_points", ",64,16.0,", ",64,0,", "line 2"),
    ],
)
def test_bad_rows_are_rejected(tmp_path, name, old, new, match):
    text = (PUBLISHED / f"{name}.csv").read_text(encoding="utf-8")
    path = tmp_path / f"{name}.csv"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    read = accelerators.read_facts if name == "accelerators" else accelerators.read_points
    with pytest.raises(TableError, match=match):
        read(path)


def test_results_and_points_must_belong_together(facts, points):
    with pytest.raises(InputError, match=r"LLMPi, .*: needs either a row in the table of points or a reason"):
        accelerators.predict(facts, points[1:])
    with pytest.raises(InputError, match="nonsense: a point without a published result"):
        accelerators.predict(facts, [*points, {**points[0], "quantity": "nonsense"}])
    other = facts.assign(unit=facts.unit.where(facts.quantity != points[0]["quantity"], "GOPS"))
    with pytest.raises(
        InputError, match=rf"^{points[0]['system']}, {points[0]['quantity']}: 'GOPS' has no prediction; say"
    ):
        accelerators.predict(other, points)


def test_the_figure_shows_every_prediction(table, predicted):
    axis = figures.limit_scatter(table, "title").axes[0]
    drawn = [tuple(point) for group in axis.collections for point in group.get_offsets().tolist()]
    assert sorted(drawn) == sorted(zip(predicted.predicted, predicted.published, strict=True))
    assert len(axis.collections) == predicted.system.nunique()
    low, high = axis.get_xlim()
    assert low < predicted.published.min() and high > predicted.predicted.max() and axis.get_ylim() == (low, high)
