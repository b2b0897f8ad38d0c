"""The paper's statements under other readings: what holds, what does not, and the bandwidths between."""

import math
from itertools import product

import pandas as pd
import pytest

from llmamdahl.analysis import share
from llmamdahl.hardware import CLOUD_TPU, get_array
from llmamdahl.models import CONTEXT_LENGTHS, zoo_names
from llmamdahl.paper.published import errata, statements
from llmamdahl.paper.readings import (
    PAPER,
    READINGS,
    Reading,
    checked,
    conclusions_under,
    contexts_under,
    edge_over_cloud,
    reversing_bandwidth,
    smallest_changes,
    under_readings,
)
from llmamdahl.tables import ROOT

BY_ID = {row["id"]: row for row in statements().to_dict("records")}


@pytest.fixture(scope="module")
def matrix() -> pd.DataFrame:
    return under_readings()


def recorded_as(frame, path, tmp_path):
    """Whether a table is the recorded one, both as pandas writes and reads it."""
    frame.to_csv(tmp_path / "table.csv", index=False)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv"), pd.read_csv(path), check_exact=False, rtol=1e-12)


def test_the_tables_of_notebook_11_are_those_recorded(matrix, tmp_path):
    recorded_as(matrix, ROOT / "figures" / "figure-readings.csv", tmp_path)
    recorded_as(conclusions_under(), ROOT / "figures" / "figure-conclusions.csv", tmp_path)
    recorded_as(contexts_under(zoo_names(), "cloud"), ROOT / "figures" / "figure-contexts.csv", tmp_path)


def test_how_many_statements_hold_under_each_reading(matrix):
    assert len(matrix) == 32 * len(READINGS)
    given = matrix.groupby(["reading", "array"]).dram_gb_s.unique()
    assert given["34 GB/s"].to_dict() == {"cloud": [34], "edge": [4.25]}
    holds = matrix.groupby("reading").holds.sum()
    expected = {"paper": 32, "heads grouped": 32, "corrected": 20, "pipelined": 21, "819 GB/s": 32, "34 GB/s": 18}
    assert {reading: holds[reading] for reading in expected} == expected


def test_what_the_text_of_notebook_11_says(matrix):
    robust = matrix.groupby("id").holds.all()
    assert robust["conclusion"] and robust["amdahl-cloud-large"] and robust["cloud-cycles-with-size"]
    assert not robust[["conclusion-small", "conclusion-medium", "dataflow-cloud", "edge-majority"]].any()
    lost = 32 - matrix.groupby("reading").holds.sum()
    assert {reading for reading, number in lost.items() if number == 0} == {
        "paper", "heads grouped", "819 GB/s", "205 GB/s"
    }  # fmt: skip
    assert lost[lost > 0].min() == 9
    changes = smallest_changes().set_index(["statement", "array"])
    small, medium = (changes.loc[(BY_ID[name]["short"], "cloud")] for name in ("conclusion-small", "conclusion-medium"))
    assert (small.one_switch, small.bandwidth_below) == ("pipelined", 80)
    assert (medium.one_switch, medium.bandwidth_below) == ("pipelined", 117)
    assert math.isnan(changes.loc[(BY_ID["conclusion"]["short"], "edge")].bandwidth_below)
    corrected = Reading("corrected", {"counting": "corrected"})
    small, medium = (reversing_bandwidth(BY_ID[name], corrected) for name in ("conclusion-small", "conclusion-medium"))
    assert (round(small), math.ceil(medium)) == (61, 89)


def test_conclusions_on_both_arrays():
    found = conclusions_under().set_index(["conclusion", "array", "reading"]).sort_index()
    assert found.holds["(iii) large, most"].all() and found.holds["(iii) large, 99%", "edge"].all()
    of_cloud = found.holds["(iii) large, 99%", "cloud"]
    slow = ["34 GB/s", "34 GB/s, two bytes", "pipelined, 34 GB/s"]
    assert of_cloud.index[of_cloud].tolist() == slow
    about = found[["models", "context_lengths"]].groupby("conclusion").first()
    assert about.models.tolist() == ["opt-350m", "opt-1.3b opt-2.7b", "opt-66b", "opt-30b opt-66b"]
    assert about.context_lengths.tolist() == ["4096", "2048", *["128 256 512 1024 2048 4096"] * 2]
    for conclusion in ("(i) small", "(ii) medium"):
        assert found.holds[conclusion, "cloud", "paper"]
        assert not found.holds[conclusion, "edge", "paper"]
        assert not found.holds[conclusion, "cloud", "pipelined"]
        for array, reading in product(("cloud", "edge"), ("34 GB/s, W2", "pipelined, 34 GB/s, W2")):
            assert found.holds[conclusion, array, reading]
    smallest = min(
        share(model, length, "cloud").fraction for model in ("opt-30b", "opt-66b") for length in CONTEXT_LENGTHS
    )
    assert found.value["(iii) large, most", "cloud", "paper"] == smallest


@pytest.mark.parametrize("statement", ["conclusion-small", "amdahl-cloud-medium-attention"])
def test_a_bandwidth_that_reverses_is_where_the_statement_turns(statement):
    row = BY_ID[statement]
    turning = reversing_bandwidth(row)
    assert checked(row, Reading("above", dram_gb_s=turning * 1.01))["holds"]
    assert not checked(row, Reading("below", dram_gb_s=turning * 0.99))["holds"]
    assert reversing_bandwidth(row, Reading("pipelined", {"folds": "pipelined"})) == math.inf


def test_a_reading_gives_the_edge_array_an_eighth_of_the_bandwidth():
    reading = Reading("some", dram_gb_s=80)
    assert reading.array("cloud").dram_gb_s == 80 and reading.array("edge").dram_gb_s == 10
    assert reading.array("cloud").clock_mhz == reading.array("edge").clock_mhz == 700
    rows = conclusions_under([PAPER, reading]).drop_duplicates(["reading", "array"]).set_index(["reading", "array"])
    assert rows.dram_gb_s["some"].to_dict() == {"cloud": 80, "edge": 10} and rows.dram_gb_s["paper"].isna().all()
    assert PAPER.array("cloud") == CLOUD_TPU and PAPER.metric == "cycles" and reading.metric == "seconds"


def test_contexts_under_readings_are_the_crossovers():
    rows = contexts_under(["llama-3.1-8b", "deepseek-v3"], "cloud")
    assert rows.index.is_unique
    found = rows.pivot(index="reading", columns="model", values="context_length")
    assert found.loc["paper"].to_dict() == {"llama-3.1-8b": 8193, "deepseek-v3": 3280}
    assert found.loc["heads grouped"].to_dict() == {"llama-3.1-8b": 33_281, "deepseek-v3": 444_673}


def test_the_edge_array_uses_its_pes_better_for_projections_under_every_reading():
    """Section 4.3 says that it is less efficient there; the erratum has the ranges."""
    found = edge_over_cloud()
    assert found.index.is_unique and len(found) == 12 * 2 * 7 * 6 and not found.isna().any(axis=None)
    cycles, accesses = (found[found.metric == name] for name in ("cycles", "memory_accesses"))
    assert cycles.projection.max() < 64 and (cycles.projection > cycles.attention).all() and (cycles["shift"] > 0).all()
    (evidence,) = errata().query("id == 'edge-efficiency'").evidence
    low, high = cycles.projection.min(), cycles.projection.max()
    assert f"takes {low:.1f} to {high:.1f} times as many cycles for the projections" in evidence
    assert f"each PE does {64 / high:.1f} to {64 / low:.1f} times as much" in evidence
    assert f"and {cycles.attention.min():.1f} to {cycles.attention.max():.1f} times as many for attention" in evidence
    assert f"F of cycles differs by up to {cycles['shift'].max():.3f}" in evidence
    assert f"F of memory accesses by at most {accesses['shift'].abs().max():.3f}" in evidence


def test_edge_over_cloud_is_that_of_share():
    keys = ["model", "context_length", "metric", "dataflow", "folds", "counting"]
    row = edge_over_cloud().set_index(keys).loc[("opt-1.3b", 512, "cycles", "is", "serial", "corrected")]
    edge, cloud = (share("opt-1.3b", 512, get_array(name, "is"), counting="corrected") for name in ("edge", "cloud"))
    assert row.projection == edge.projection / cloud.projection
    assert row.attention == edge.attention / cloud.attention
    assert row["shift"] == edge.fraction - cloud.fraction
