"""The sweep: its numbers come from the store alone, it is fast, it rejects bad input, and the dataflows tie."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from compendium.bench import paper_sweep
from llmamdahl import amdahl
from llmamdahl.analysis import curves, share, sweep
from llmamdahl.errors import CountOverflowError, InputError
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, Dataflow, SystolicArray
from llmamdahl.models import CONTEXT_LENGTHS, PRINTED, get_model, model_names
from llmamdahl.paper.miscounts import dataflow_cycles
from llmamdahl.question import COLUMNS, METRICS
from llmamdahl.roofline import Precision
from llmamdahl.scalesim.store import read_matmuls
from llmamdahl.workload import Part, decode_step

READINGS = [name for base in model_names() for name in (base, base + PRINTED) if name != "opt-66b-printed"]
ARRAYS = [replace(array, dataflow=dataflow) for array in (CLOUD_TPU, EDGE_TPU) for dataflow in Dataflow]


@pytest.mark.parametrize("ifmap", ["activations", "weights"])
def test_every_number_is_made_of_rows_of_the_store(ifmap):
    frame = sweep(READINGS, CONTEXT_LENGTHS, ARRAYS, ifmap=ifmap)
    assert list(frame.columns) == COLUMNS
    assert len(frame) == len(READINGS) * 6 * len(ARRAYS) * len(METRICS)
    store = read_matmuls()
    store["memory_accesses"] = store.ifmap_sram_reads + store.filter_sram_reads + store.ofmap_sram_writes
    stored = store.set_index(["array", "dataflow", "m", "n", "k"])[list(METRICS)].to_dict("index")
    for row in frame.itertuples():
        parts = dict.fromkeys(("projection", "attention"), 0)
        for mm in decode_step(get_model(row.model), row.context_length):
            if mm.part is not Part.UNQUANTIZED:
                shape = (mm.m, mm.n, mm.k) if ifmap == "activations" else (mm.n, mm.m, mm.k)
                parts[mm.part] += stored[(row.array, row.dataflow, *shape)][row.metric] * mm.count
        assert (row.projection, row.attention) == (parts["projection"], parts["attention"])
        assert row.fraction == parts["projection"] / sum(parts.values())


def test_the_whole_paper_takes_at_most_50_ms():
    ((_, milliseconds, unit, _),) = paper_sweep()
    assert unit == "ms" and milliseconds < 50


@pytest.mark.parametrize("array", [CLOUD_TPU, EDGE_TPU])
@pytest.mark.parametrize(("ifmap", "tied"), [("activations", "os=is"), ("weights", "os=ws")])
def test_os_wins_as_reported_and_ties_once_the_drain_is_counted(array, ifmap, tied):
    reported = dataflow_cycles(model_names("opt"), CONTEXT_LENGTHS, array, ifmap=ifmap)
    corrected = dataflow_cycles(model_names("opt"), CONTEXT_LENGTHS, array, counting="corrected", ifmap=ifmap)
    assert len(reported) == len(corrected) == 42
    assert set(reported.fastest) == {"os"}
    assert set(corrected.fastest) == {tied}


def test_the_tie_needs_pairs_and_a_square_array():
    names = ["gpt2", "opt-6.7b"]
    assert set(dataflow_cycles(names, [100, 3000], SystolicArray(100, 100), counting="corrected").fastest) == {"os=is"}
    assert "os=is" not in set(dataflow_cycles(names, [100, 3000], SystolicArray(128, 64), counting="corrected").fastest)
    assert "os=is" not in set(dataflow_cycles(["llama-7b"], CONTEXT_LENGTHS, CLOUD_TPU, counting="corrected").fastest)


def test_corrected_accesses_tie_too():
    by_dataflow = [
        sweep(model_names("opt"), CONTEXT_LENGTHS, [replace(CLOUD_TPU, dataflow=dataflow)], counting="corrected")
        for dataflow in ("os", "is")
    ]
    columns = ["projection", "attention", "fraction"]
    pd.testing.assert_frame_equal(by_dataflow[0][columns], by_dataflow[1][columns])


def test_own_decoder_and_own_array():
    model = replace(get_model("opt-350m"), name="mine", num_heads=8)
    frame = sweep([model], [77], [SystolicArray(17, 5, "ws", name="odd")])
    assert frame[["model", "array", "dataflow"]].drop_duplicates().to_numpy().tolist() == [["mine", "odd", "ws"]]


def test_curves_follow_equation_5():
    frame = sweep(["opt-350m"], [2048], [CLOUD_TPU]).query("metric == 'cycles'")
    by_part = curves(frame, [1, 4]).set_index(["part", "partial_speedup"]).total_speedup
    fraction = frame.fraction.item()
    assert by_part["projection", 4] == 1 / (1 - fraction + fraction / 4)
    assert by_part["attention", 4] == pytest.approx(1 / (fraction + (1 - fraction) / 4))
    assert by_part["attention", 1] == pytest.approx(1)


@pytest.mark.parametrize("field", ["models", "context_lengths", "arrays"])
def test_an_empty_list_is_named(field):
    arguments = {"models": ["gpt2"], "context_lengths": [128], "arrays": [EDGE_TPU]} | {field: []}
    with pytest.raises(InputError, match=rf"^{field}: nothing is listed"):
        sweep(**arguments)


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match=r"^ifmap: 'both' is unknown; known: activations, weights"):
        sweep(["gpt2"], [128], [EDGE_TPU], ifmap="both")
    with pytest.raises(InputError, match=r"^models: 'gpt2' is not a list"):
        sweep("gpt2", [128], [EDGE_TPU])
    with pytest.raises(InputError, match=r"^context_length: 0 is not a positive whole number"):
        sweep(["gpt2"], [128, 0], [EDGE_TPU])
    with pytest.raises(InputError, match=r"^arrays: '4x4, os' is listed 2 times; give each its own `name`"):
        sweep(["gpt2"], [128], [SystolicArray(4, 4), SystolicArray(4, 4, ifmap_sram_kb=1)])


@pytest.mark.parametrize("length", [2**50, 2**62, 2**70])
def test_sums_that_overflow_are_rejected(length):
    with pytest.raises(CountOverflowError, match=r"above 2\*\*63 - 1|more than 2\*\*63 - 1"):
        sweep(["opt-66b"], [128, length], [SystolicArray(1, 1)])


def test_fraction_is_a_plain_number():
    assert sweep(["gpt2"], np.array([128, 256]), [EDGE_TPU]).dtypes["fraction"].kind == "f"


@pytest.mark.parametrize(
    ("models", "lengths", "arrays", "match"),
    [
        ("opt-350m", [128], [CLOUD_TPU], "^models: 'opt-350m' is not a list"),
        (None, [128], [CLOUD_TPU], "^models: None is not a list"),
        ([None], [128], [CLOUD_TPU], "^model: None is unknown"),
        (["opt-350m"], 128, [CLOUD_TPU], "^context_lengths: 128 is not a list"),
        (["opt-350m"], [128], CLOUD_TPU, r"^arrays: SystolicArray\(.* is not a list"),
        (["opt-350m"], [128], ["cloudy"], "hardware: 'cloudy' is unknown; did you mean cloud\\?"),
        (["opt-350m"], [128], [None], "hardware: None is not a SystolicArray"),
        (["opt-350m", "opt-350m"], [128], [CLOUD_TPU], "^models: 'opt-350m' is listed 2 times"),
        (["opt-350m"], [128, 128], [CLOUD_TPU], "^context_lengths: 128 is listed 2 times"),
    ],
)
def test_a_list_of_the_wrong_things_is_named(models, lengths, arrays, match):
    with pytest.raises(InputError, match=f"^{match}"):
        sweep(models, lengths, arrays)


def test_devices_and_arrays_in_one_sweep():
    asked = {"batch": 4, "precision": Precision(weights=2, activations=8), "unquantized": True}
    frame = sweep(["opt-350m", "gpt2"], [128, 512], ["edge", "A100 80GB"], **asked)
    assert frame.metric.drop_duplicates().tolist() == ["cycles", "memory_accesses", "seconds", "bytes"]
    names = [*COLUMNS[:-1], "unquantized", "fraction", "partial_speedup", "total_speedup"]
    assert list(frame.columns) == names
    for row in frame.itertuples(index=False):
        found = share(row.model, row.context_length, row.array, metric=row.metric, **asked)
        assert list(row) == list(found.row().values())
    on_array = frame[frame.array == "edge"]
    assert (on_array[["partial_speedup", "total_speedup"]] == 1).all(axis=None)  # cycles do not depend on bits


def test_the_lm_head_is_never_drawn_as_attention():
    """With the LM head in the whole, the share of attention is not the rest of F."""
    found = share("opt-350m", 2048, "A100 80GB", unquantized=True)
    whole = found.projection + found.attention + found.unquantized
    drawn = curves(found, [10]).set_index("part")
    assert set(drawn.whole) == {"projection + attention + unquantized"}
    for part in ("projection", "attention"):
        share_of_part = getattr(found, part) / whole
        assert drawn.total_speedup[part] == pytest.approx(amdahl.total_speedup(share_of_part, 10))
    with pytest.raises(InputError, match=r"^shares: column projection, attention is missing; give what `share`"):
        curves(sweep(["gpt2"], [128], [EDGE_TPU]).drop(columns=["projection", "attention"]), [10])


def test_counts_that_fit_one_by_one_and_not_together_are_rejected():
    """Q·Kᵀ and scores·V each have about half of 2^63 memory accesses."""
    asked = {"batch": 2**36 * 13 // 10, "metric": "memory_accesses"}
    with pytest.raises(CountOverflowError, match="the counts of a whole decode step add up to more than"):
        sweep(["opt-350m"], [2048], [EDGE_TPU], **asked)
    below = sweep(["opt-350m"], [2048], [EDGE_TPU], **{**asked, "batch": 2**36 * 12 // 10}).iloc[0]
    assert 0.9 * 2**63 < below.attention < 2**63 and below.attention > below.projection


def test_an_answer_does_not_depend_on_what_is_asked_beside_it():
    alone = sweep(["opt-350m"], [2048], [EDGE_TPU])
    many = sweep(["opt-66b", "opt-350m"], [128, 2048], [CLOUD_TPU, EDGE_TPU])
    same = many.query("model == 'opt-350m' and context_length == 2048 and array == 'edge'").reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, same)
