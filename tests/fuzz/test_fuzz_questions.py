"""`share` and what takes its keywords: any reading, bits, clock and bandwidth, against sums and each other."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import (
    EXAMPLES,
    NONSENSE,
    REJECTED,
    SETTINGS,
    SIZES,
    SMALL,
    TALLY,
    answer,
    as_size,
    counts_of,
    dataflows,
    fuzz,
    one_in,
)

from llmamdahl import amdahl
from llmamdahl.analysis import (
    LARGEST_BATCH,
    crossover_batch,
    crossover_context_length,
    crossovers,
    curves,
    fraction_by_batch,
    generation_cost,
    share,
    sweep,
)
from llmamdahl.hardware import PEAKS, Device, SystolicArray, devices, find_hardware, get_device
from llmamdahl.models import get_model
from llmamdahl.question import LONGEST_CONTEXT, Share
from llmamdahl.roofline import BYTE, FP16, Precision, matmul_traffic
from llmamdahl.systolic import SRAM_COUNTS
from llmamdahl.workload import Part, matmuls

MODELS = """opt-350m llama-3.1-8b gpt-oss-20b qwen3-30b-a3b gemma-2-2b llama-4-scout deepseek-v3 deepseek-v3.2
qwen3-next-80b-a3b kimi-linear-48b-a3b""".split()
"""One of each kind: with windows, chunks, experts, latents, an indexer, recurrent states."""

BITS = [each for each in Precision.__dataclass_fields__]
WORDS = {
    "phase": ["decode", "prefill"],
    "heads": ["per_head", "grouped"],
    "experts": ["even", "expected"],
    "metric": [None, "cycles", "memory_accesses", "bytes", "seconds"],
    "counting": ["reported", "corrected"],
    "folds": ["serial", "pipelined"],
    "refetches": [False, False, True],
    "unquantized": [False, True],
}
KEYWORDS = f"model models context_length context_lengths hardware arrays batch precision baseline {' '.join(WORDS)}"
NAMED = f"{KEYWORDS} {' '.join((*SRAM_COUNTS, *PEAKS))} prompt_tokens new_tokens sweep device"
NAMED += " memory_accesses ifmap_dram_reads"
"""What an error of a question can name."""

rates = st.one_of(
    st.floats(1e-3, 1e6), st.floats(1, 5000), st.integers(1, 10**4), st.fractions(1, 9, max_denominator=9),
    st.sampled_from([5e-324, 1e-300, 1e300, 1.7e308, np.float32(0.5), np.int16(7)]),
)  # fmt: skip
widths = st.one_of(st.floats(0.5, 16), st.sampled_from([1, 1.58, 2, 4, 8, 16, 64, np.float64(3)]))


def as_positive(value):
    """A number above 0 as a float; None if it is none."""
    real = isinstance(value, int | float | np.integer | np.floating | Fraction)
    if not real or isinstance(value, bool | np.timedelta64):
        return None
    try:
        return float(value) if 0 < float(value) < math.inf else None
    except OverflowError:
        return None


def as_rate(value):
    """A valid rate as a float; None if it is not valid."""
    return number if (number := as_positive(value)) and 1e-12 <= number <= 1e15 else None


@fuzz
@given(st.dictionaries(st.sampled_from(BITS), one_in(12, widths), max_size=6))
def test_precision(bits):
    made = answer(lambda: Precision(**bits), " ".join(BITS))
    known = {name: as_positive(value) for name, value in bits.items() if value is not None}
    good = all(value is not None and value <= 64 for value in known.values())
    assert (made is not REJECTED) == good
    if good:
        assert {name: getattr(made, name) for name in known} == known
        assert made.over(FP16) == Precision(**{**dict.fromkeys(BITS[:5], 16), **known})
        assert eval(repr(made), {"Precision": Precision, "np": np, "Fraction": Fraction}) == made


@fuzz
@given(
    one_in(12, st.text(min_size=1, max_size=9)),
    one_in(12, rates),
    st.dictionaries(st.sampled_from(PEAKS), one_in(12, rates), max_size=5),
)
def test_device(name, bandwidth, peaks):
    made = answer(lambda: Device(name, bandwidth, **peaks), f"name bandwidth_gb_s {' '.join(PEAKS)}")
    given_peaks = {
        peak: value
        for peak, value in peaks.items()
        if value is not None and not (isinstance(value, float) and math.isnan(value))
    }
    rated = {"bandwidth_gb_s": bandwidth, **given_peaks}
    known = {each: as_rate(value) for each, value in rated.items()}
    good = isinstance(name, str) and name and None not in known.values()
    assert (made is not REJECTED) == bool(good)
    if good:
        assert {each: getattr(made, each) for each in known} == known
        assert made.label == name


DEVICES = devices().set_index("name")


@fuzz
@given(
    one_in(
        6,
        st.builds(
            lambda name, change: change(name),
            st.sampled_from([*DEVICES.index]),
            st.sampled_from([str, str, str.upper, str.lower, "  {} ".format, np.str_, "{}x".format, str.encode, list]),
        ),
    )
)
def test_get_device(name):
    found = answer(lambda: get_device(name), "device")
    known = {each.casefold(): each for each in DEVICES.index}
    asked = known.get(name.strip().casefold()) if isinstance(name, str) else None
    assert (found is not REJECTED) == (asked is not None)
    if asked:
        row = DEVICES.loc[asked]
        assert found.name == asked and found.bandwidth_gb_s == row.bandwidth_gb_s
        assert {peak: getattr(found, peak) for peak in PEAKS} == row[[*PEAKS]].astype(object).where(
            row[[*PEAKS]].notna(), None
        ).to_dict()


clocked = st.builds(
    lambda rows, cols, flow, clock, dram: SystolicArray(rows, cols, flow, clock_mhz=clock, dram_gb_s=dram),
    st.integers(1, 300),
    st.integers(1, 300),
    dataflows,
    st.floats(1, 5000),
    st.one_of(st.none(), st.floats(0.01, 5000)),
)
unclocked = st.builds(SystolicArray, st.integers(1, 300), st.integers(1, 300), dataflows)
some_rates = st.one_of(st.floats(1e-12, 1e15), st.floats(1, 5000), st.sampled_from([1e-12, 1e15]))
own_devices = st.builds(
    lambda bandwidth, peaks: Device("mine", bandwidth, **peaks),
    some_rates,
    st.dictionaries(st.sampled_from(PEAKS), some_rates, max_size=5),
)
NAMES = ["cloud", "edge", "64x128", " H200", "RTX 4090"]
places = st.one_of(clocked, clocked, unclocked, st.sampled_from(NAMES), own_devices, st.none())
precisions = st.dictionaries(st.sampled_from(BITS), widths, max_size=4).map(lambda bits: Precision(**bits))


@st.composite
def keywords(draw, odds=40, without=()):
    """Some of the keywords of `share`, one in `odds` of them wrong, or none."""
    values = {name: st.sampled_from(words) for name, words in WORDS.items()}
    values |= {"batch": st.one_of(st.integers(1, 70), SIZES), "precision": precisions, "baseline": precisions}
    names = draw(st.sets(st.sampled_from(sorted(values)), max_size=5)) - {*without}
    return {name: draw(one_in(odds, values[name]) if odds else values[name]) for name in sorted(names)}


def certainly_wrong(model, length, hardware, given):
    """Whether one argument is wrong whatever the others are, or does not go with the hardware."""
    names = isinstance(model, str) and model.strip().lower() in MODELS
    if not names or as_size(length) is None or as_size(given.get("batch", 1)) is None:
        return True
    for name, words in WORDS.items():
        value = given.get(name, words[0])
        if type(value) is not type(words[-1]) and not (isinstance(value, str) and value in words) and value is not None:
            return True
        if value not in words:
            return True
    for name in ("precision", "baseline"):
        if given.get(name) is not None and not isinstance(given[name], Precision):
            return True
    if not isinstance(hardware, SystolicArray):
        changed = [given.get(name, WORDS[name][0]) != WORDS[name][0] for name in ("counting", "folds", "refetches")]
        on_others = ["bytes", None] if hardware is None else ["seconds", "bytes", None]
        return any(changed) or given.get("metric") not in on_others
    return given.get("metric") == "seconds" and hardware.clock_mhz is None


def place_of(hardware):
    """The hardware that a drawn value means; REJECTED if it means none."""
    if isinstance(hardware, SystolicArray | Device | None):
        return hardware
    known = isinstance(hardware, str) and hardware in NAMES
    return find_hardware(hardware) if known else REJECTED


def could_fail(model, length, hardware, given):
    """Whether good arguments can be rejected together: large sizes, no peak, no prefill, small SRAMs, no cycles."""
    decoder, batch = get_model(model), given.get("batch", 1)
    prefill = given.get("phase") == "prefill"
    return (
        max(as_size(length), as_size(batch)) > 6000
        or (isinstance(hardware, Device) and (hardware.name == "mine" or prefill or batch > 1))
        or (prefill and (decoder.recurrent or decoder.indexer))
        or given.get("refetches", False)
        or (isinstance(hardware, SystolicArray) and min(hardware.rows, hardware.cols) == 1)
    )


def close(one, other, relative=1e-9):
    return one == other or math.isclose(one, other, rel_tol=relative, abs_tol=1e-300)


def in_whole(found):
    return {part: getattr(found, part) for part in found.whole.split(" + ")}


def check_share(found):
    """What is so in every answer."""
    parts = in_whole(found)
    assert all(value >= 0 for value in parts.values())
    assert close(found.fraction, float(Fraction(parts["projection"]) / sum(map(Fraction, parts.values()))))
    assert found.ceiling == amdahl.ceiling(found.fraction)
    assert found.precision is not None or found.partial_speedup == found.total_speedup == 1
    assert found.partial_speedup > 0 and found.total_speedup > 0
    assert {*found.bound} == {part for part in parts if found.metric == "seconds" and getattr(found, part)}


@fuzz
@given(one_in(20, st.sampled_from(MODELS)), one_in(20, st.one_of(SMALL, SIZES)), one_in(20, places), keywords())
def test_share(model, length, hardware, given):
    found = answer(lambda: share(model, length, hardware, **given), NAMED)
    place = place_of(hardware)
    if place is REJECTED or certainly_wrong(model, length, place, given):
        assert found is REJECTED
        return
    if found is REJECTED:
        assert could_fail(model, length, place, given)
        return
    check_share(found)
    length, batch = as_size(length), as_size(given.get("batch", 1))
    assert (found.context_length, found.batch) == (length, batch)
    asked = {name: given.get(name, WORDS[name][0]) for name in ("phase", "heads", "experts")}
    if found.metric in ("cycles", "memory_accesses"):
        assert found.partial_speedup == found.total_speedup == 1
        expected = dict.fromkeys(Part, 0)
        for mm in matmuls(get_model(model), length, batch=batch, **asked):
            counts = counts_of(mm.m, mm.n, mm.k, place, found.counting, found.folds)
            expected[mm.part] += (counts[0] if found.metric == "cycles" else sum(counts[1:])) * mm.count
        assert all(close(getattr(found, part), value) for part, value in expected.items())
        assert asked["experts"] == "expected" or {part: getattr(found, part) for part in Part} == expected
    elif not found.refetches and asked["experts"] == "even":
        bits = (given.get("baseline") or Precision()).over(BYTE if isinstance(place, SystolicArray) else FP16)
        where = place if isinstance(place, Device) and found.metric == "seconds" else None
        table = matmul_traffic(model, length, where, batch=batch, phase=asked["phase"], precision=bits)
        moved = table.groupby("part").bytes.sum()
        if found.metric == "bytes":
            assert all(close(getattr(found, part), value) for part, value in moved.items())
        elif isinstance(place, Device):
            sums = table.groupby("part").seconds.sum()
            assert all(close(getattr(found, part), value) for part, value in sums.items())
        elif place.dram_gb_s:
            for part, value in moved.items():
                assert getattr(found, part) >= value / 1e9 / place.dram_gb_s * (1 - 1e-9)


FEW = settings(SETTINGS, max_examples=max(1, EXAMPLES // 4))
"""For tests of which each example asks many questions."""

FIELDS = "clock_mhz dram_gb_s rows cols"


@FEW
@given(
    st.sampled_from(MODELS),
    SMALL,
    one_in(10, rates),
    one_in(10, rates),
    st.floats(1, 1e3),
    keywords(odds=0, without=("metric", "phase", "batch", "precision")),
)
def test_more_bandwidth_or_clock_is_never_slower(model, length, clock, dram, times, given):
    array = answer(lambda: SystolicArray(32, 32, clock_mhz=clock, dram_gb_s=dram), FIELDS)
    good = [rate is None or as_rate(rate) is not None for rate in (clock, dram)]
    assert (array is not REJECTED) == (all(good) and (clock is not None or dram is None))
    if array is REJECTED or array.clock_mhz is None or not 1e-3 <= array.clock_mhz <= 1e6:
        return
    if array.dram_gb_s is None or not 1e-3 <= array.dram_gb_s <= 1e6:
        return
    slow = share(model, length, array, **given)
    check_share(slow)
    for faster in (
        SystolicArray(32, 32, clock_mhz=array.clock_mhz, dram_gb_s=array.dram_gb_s * times),
        SystolicArray(32, 32, clock_mhz=array.clock_mhz * times, dram_gb_s=array.dram_gb_s),
    ):
        fast = share(model, length, faster, **given)
        for part, seconds in in_whole(fast).items():
            assert getattr(slow, part) / times * (1 - 1e-9) <= seconds <= getattr(slow, part) * (1 + 1e-9)


@fuzz
@given(
    st.dictionaries(
        st.one_of(st.sampled_from(["projection", "attention", "other"]), st.text(max_size=3)),
        one_in(12, st.floats(1e-9, 1e3)),
        max_size=4,
    ),
    one_in(15, st.sampled_from([None, "a board", "cloud"])),
)
def test_measured_share(parts, where):
    parts = {"projection": 1e-3, "attention": 2, **parts} if len(parts) < 4 else parts
    found = answer(lambda: share("opt-350m", 9, where, measured=parts), "measured hardware projection attention other")
    good = {"projection", "attention"} <= {*parts} <= {"projection", "attention", "other"}
    good = good and all(as_positive(value) is not None for value in parts.values())
    good = good and float(parts["projection"]) / sum(map(float, parts.values())) > 0
    good = good and isinstance(where, str | None | SystolicArray)
    assert (found is not REJECTED) == good
    if good:
        total = sum(map(float, parts.values()))
        assert close(found.fraction, float(parts["projection"]) / total)
        assert found.whole.split(" + ") == [name for name in ("projection", "attention", "other") if name in parts]


def overtaken(found):
    """Whether F <= 1/2, exactly."""
    parts = {name: Fraction(value) for name, value in in_whole(found).items()}
    return 2 * parts["projection"] <= sum(parts.values())


def near_half(found):
    return abs(found.fraction - 0.5) < 1e-9


@FEW
@given(
    one_in(30, st.sampled_from(MODELS)),
    one_in(30, places),
    keywords(without=("precision", "phase", "experts", "batch")),
    st.integers(1, 64),
    st.floats(0, 1),
)
def test_crossover_context_length(model, hardware, given, batch, place):
    TALLY.clear()
    found = answer(lambda: crossover_context_length(model, hardware, batch=batch, **given), NAMED)
    if found is REJECTED:
        return

    def at(length):
        return share(model, length, hardware, batch=batch, **given)

    exact = at(1).metric in ("cycles", "memory_accesses")
    last = LONGEST_CONTEXT if found is None else found - 1
    if found is not None:
        assert overtaken(at(found)) or (not exact and near_half(at(found)))
    for length in {last, max(1, int(last * place))} if last else ():
        assert not overtaken(at(length)) or (not exact and near_half(at(length)))


@FEW
@given(
    one_in(30, st.sampled_from(MODELS)),
    one_in(30, SMALL),
    one_in(30, st.sampled_from(NAMES)),  # on others a search can take more than ten seconds
    keywords(without=("precision", "batch", "experts")),
    st.floats(0, 1),
)
def test_crossover_batch(model, length, hardware, given, place):
    TALLY.clear()
    found = answer(lambda: crossover_batch(model, length, hardware, **given), NAMED)
    if found is REJECTED:
        return

    def at(batch):
        return share(model, length, hardware, batch=batch, **given)

    exact = at(1).metric in ("cycles", "memory_accesses")
    last = LARGEST_BATCH if found is None else found - 1
    if found is not None:
        assert overtaken(at(found)) or (not exact and near_half(at(found)))
    for batch in {last, max(1, int(last * place))} if last else ():
        assert not overtaken(at(batch)) or (not exact and near_half(at(batch)))


@FEW
@given(
    one_in(30, st.sampled_from(MODELS[:7])),
    one_in(30, st.integers(1, 500)),
    one_in(30, places),
    one_in(30, st.integers(1, 6)),
    keywords(without=("phase", "batch")),
)
def test_generation_cost(model, prompt, hardware, new, given):
    TALLY.clear()
    found = answer(lambda: generation_cost(model, prompt, hardware, new_tokens=new, **given), NAMED)
    if found is REJECTED or max(as_size(prompt), as_size(new)) > 600:
        return
    check_share(found)
    steps = [share(model, prompt, hardware, phase="prefill", **given)]
    steps += [share(model, prompt + place, hardware, **given) for place in range(1, new + 1)]
    for part in in_whole(found):
        assert close(getattr(found, part), sum(getattr(step, part) for step in steps))


@FEW
@given(
    st.lists(st.sampled_from(MODELS), min_size=1, max_size=2, unique=True),
    st.lists(SMALL, min_size=1, max_size=2, unique=True),
    st.lists(places.filter(lambda place: place is not None), min_size=1, max_size=2),
    keywords(),
)
def test_sweep_equals_share(models, lengths, hardware, given):
    TALLY.clear()
    frame = answer(lambda: sweep(models, lengths, hardware, **given), NAMED)
    if frame is REJECTED:
        return
    labels = {(place.label, str(getattr(place, "dataflow", ""))): place for place in map(find_hardware, hardware)}
    for row in frame.to_dict("records"):
        place = labels[row["array"], row["dataflow"]]
        found = share(row["model"], row["context_length"], place, **{**given, "metric": row["metric"]})
        for name in ("projection", "attention", "fraction"):
            assert close(row[name], getattr(found, name)), name
        if given.get("precision") is not None:
            assert close(row["partial_speedup"], found.partial_speedup)
            assert close(row["total_speedup"], found.total_speedup)


@FEW
@given(
    one_in(20, st.lists(one_in(20, st.sampled_from(MODELS)), min_size=1, max_size=2)),
    one_in(20, st.lists(one_in(20, places), min_size=1, max_size=2)),
    one_in(20, st.lists(one_in(20, SIZES), min_size=1, max_size=2)),
    keywords(without=("batch", "precision", "experts", "phase")),
)
def test_tables_of_crossovers_and_batches(models, hardware, batches, given):
    TALLY.clear()
    named = f"{NAMED} batches"
    if hasattr(models, "__next__") or hasattr(hardware, "__next__") or hasattr(batches, "__next__"):
        return  # they can be read once
    table = answer(lambda: crossovers(models, hardware, **given), named)
    if table is not REJECTED:
        for row in table.head(2).to_dict("records"):
            assert pd.isna(row["context_length"]) or 1 <= row["context_length"] <= LONGEST_CONTEXT
    place = next(iter(hardware), None) if isinstance(hardware, list) else hardware
    table = answer(lambda: fraction_by_batch(models, 100, place, batches=batches, **given), named)
    if table is not REJECTED:
        assert table.batch.tolist() == [*map(as_size, batches)] * len(models)
        assert np.allclose(table.ceiling, 1 / (1 - table.fraction))


speedups = st.one_of(st.floats(0.01, 1e6), st.integers(1, 100))


@fuzz
@given(
    st.lists(st.tuples(st.sampled_from(MODELS), SMALL, places, st.booleans()), min_size=1, max_size=2),
    one_in(8, st.one_of(speedups, st.lists(speedups, min_size=1, max_size=3))),
    st.sampled_from(["list", "one", "table", "nonsense"]),
    NONSENSE,
)
def test_curves(asked, partial, form, nonsense):
    try:
        shares = [share(model, length, place, unquantized=more) for model, length, place, more in asked]
    except ValueError:
        return  # `test_share` says when
    passed = {"list": shares, "one": shares[0], "table": pd.DataFrame([each.row() for each in shares])}
    frame = answer(lambda: curves(passed.get(form, nonsense), partial), "shares partial_speedup partial_speedups")
    if form == "nonsense":
        assert frame is REJECTED
        return
    if frame is REJECTED:
        if len({each.whole for each in shares}) == 2:
            return
        values = [as_positive(value) for value in (partial if isinstance(partial, list) else [partial])]
        assert None in values or not values
        return
    if form == "list" and not any(each.state or "unquantized" in each.whole for each in shares):
        expected = []
        for each in shares:
            for fraction in (each.fraction, 1 - each.fraction):
                expected += np.atleast_1d(amdahl.total_speedup(fraction, np.ravel(np.asarray(partial, float)))).tolist()
        assert frame.total_speedup.tolist() == pytest.approx(expected, rel=1e-9)


def test_a_share_is_made_of_its_fields():
    assert {*in_whole(share("opt-350m", 9, "cloud"))} <= {*Share.__dataclass_fields__}
