"""The MatMuls of the current models: which there are, and that the simulated sample of them equals the closed form."""

import csv
import random
import sys
from bisect import bisect_right
from dataclasses import replace

import pytest

from compendium.campaigns import BEYOND, TRIED, Took, makespan, table
from llmamdahl.errors import InputError
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, Dataflow, SystolicArray
from llmamdahl.models import get_model
from llmamdahl.scalesim import campaign
from llmamdahl.scalesim.against_store import closed_form_against_store
from llmamdahl.scalesim.campaign import fill_store
from llmamdahl.scalesim.executors import MEMORY
from llmamdahl.scalesim.simulator import COUNTS, DRAM_COUNTS, UTILISATIONS, Run, simulate, utilisations
from llmamdahl.scalesim.store import (
    KEY,
    MATMUL_COLUMNS,
    matmul_row,
    needed_runs,
    read_matmuls,
    read_runs,
    run_key,
)
from llmamdahl.scalesim.zoo_runs import SAMPLE, SAMPLE_SIZE, SAMPLE_WEIGHT, zoo_matmuls, zoo_sample
from llmamdahl.tables import DATA, format_row
from llmamdahl.workload import decode_step

DESIGNS = [replace(array, dataflow=flow) for array in (CLOUD_TPU, EDGE_TPU) for flow in Dataflow]


@pytest.fixture(scope="module")
def every():
    return zoo_matmuls()


@pytest.fixture(scope="module")
def stored():
    """The MatMuls of the stored sample."""
    return [Run(*row[:3], SystolicArray(*row[3:])) for row in read_matmuls(SAMPLE)[[*KEY]].itertuples(index=False)]


def test_every_matmul_is_there(every):
    found = {(run.m, run.n, run.k, run.array) for run in every}
    for name in ("llama-3.1-8b", "qwen3-next-80b-a3b"):  # of the zoo and of the hybrids
        for heads in ("per_head", "grouped"):
            for matmul in decode_step(get_model(name), 4096, heads=heads):
                assert (
                    matmul.part == "unquantized"
                    or {(matmul.m, matmul.n, matmul.k, array) for array in DESIGNS} <= found
                ), matmul
    assert len(found) == len(every)


def test_few_need_too_much_memory(every):
    """The share that is left out, as `data/README.md` states it."""
    left_out = {*zoo_matmuls(None)} - {*every}
    assert 0 < len(left_out) < 0.005 * len(every)
    assert all(max(run.memory for run in needed_runs([matmul])) > MEMORY for matmul in left_out)


def test_the_stored_sample_equals_the_closed_form():
    compared = closed_form_against_store(SAMPLE)
    assert compared.differ.tolist() == [0] * 6
    assert compared.rows.tolist() == [SAMPLE_SIZE / 6] * 6 and SAMPLE_SIZE >= 200
    assert compared.whole.min() >= 15  # those have DRAM counts too
    runs = read_runs(SAMPLE)
    for (m, n, k, *array), row in runs.items():
        assert utilisations(Run(m, n, k, SystolicArray(*array)), row["cycles"]) == {
            name: row[name] for name in UTILISATIONS
        }


def test_the_stored_sample_is_made_of_its_runs(stored):
    runs = read_runs(SAMPLE)
    assert runs.keys() == {run_key(run) for run in needed_runs(stored)}
    named = {run_key(array_run): array_run for array_run in zoo_matmuls()}
    made = [format_row(matmul_row(named[run_key(matmul)], runs), MATMUL_COLUMNS) for matmul in stored]
    with (SAMPLE / "matmuls.csv").open(newline="", encoding="utf-8") as handle:
        assert list(csv.reader(handle)) == [list(MATMUL_COLUMNS), *made]


def test_the_stored_sample_has_matmuls_of_every_size(every, stored):
    """Of each design, as many that SCALE-Sim takes so long for as in the zoo, but for the longest."""

    def weight(matmul):
        return sum(run.weight for run in needed_runs([matmul]))

    assert {*stored} <= {*every}  # models that are added later do not change the stored sample
    for design in DESIGNS:
        weights = sorted(weight(matmul) for matmul in every if matmul.array == design)
        drawn = sorted(weight(matmul) for matmul in stored if matmul.array == design)
        shares = [
            (bisect_right(drawn, each) / len(drawn), bisect_right(weights, each) / len(weights)) for each in weights
        ]
        assert max(abs(of_sample - of_all) for of_sample, of_all in shares) < 0.1, design
    assert max(run.weight for run in needed_runs(stored)) > SAMPLE_WEIGHT / 2
    assert sum(matmul.m > 1 for matmul in stored) >= 50  # of grouped heads, of experts and of states


def test_a_stored_run_is_what_scale_sim_reports_now():
    runs = read_runs(SAMPLE)
    short = [key for key in sorted(runs) if key[0] * key[1] * key[2] < 20_000]
    for key in random.Random(3).sample(short, 3):
        reported = simulate(Run(*key[:3], SystolicArray(*key[3:])))
        assert {name: runs[key][name] for name in COUNTS + DRAM_COUNTS + UTILISATIONS} == reported


@pytest.mark.parametrize(
    ("number", "problem"),
    [(10, "10 is not a multiple of 6"), (0, "0 is not a positive"), (60_000, "60000 is too many")],
)
def test_a_bad_size_of_a_sample_is_named(number, problem):
    with pytest.raises(InputError, match=f"^number: {problem}"):
        zoo_sample(number)


def test_a_sample_depends_on_its_seed_alone():
    assert zoo_sample(12, 1) == zoo_sample(12, 1) != zoo_sample(12, 2)


TINY = [Run(1, 9, 20, SystolicArray(4, 4))]


def test_a_store_of_other_matmuls_is_rejected_and_kept(tmp_path):
    fill_store(tmp_path, jobs=1, matmuls=TINY)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=rf"{tmp_path}/runs\.csv: \d+ runs of other MatMuls; give a folder of its own"):
        fill_store(tmp_path, jobs=1, matmuls=[Run(1, 9, 21, SystolicArray(4, 4))])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    more = [*TINY, Run(1, 9, 21, SystolicArray(4, 4))]
    assert fill_store(tmp_path, jobs=1, matmuls=more) > 0  # more MatMuls complete a store
    assert len(read_matmuls(tmp_path)) == 2


def test_the_command_takes_the_models(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(campaign.MODELS, "zoo-sample", lambda: TINY)
    monkeypatch.setattr(sys, "argv", ["campaign", str(tmp_path), "--jobs", "1", "--models", "zoo-sample"])
    campaign.main()
    assert " 1 MatMuls, " in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["campaign", str(tmp_path), "--models", "mine"])
    with pytest.raises(SystemExit):
        campaign.main()
    assert "argument --models: invalid choice: 'mine'" in capsys.readouterr().err


def test_hours_follow_from_the_part_that_was_timed(every):
    part = needed_runs(zoo_sample(6))
    took = {tried: Took(10 / tried[1], 5) for tried in TRIED}
    frame = table(took, part)
    runs = needed_runs(every)
    scale = sum(run.weight for run in runs) / sum(run.weight for run in part) / 3600
    measured = frame[frame.how == "measured on a part"]
    assert measured.hours.tolist() == [float(f"{each.clock * scale:.2g}") for each in took.values()]
    assert measured.cores_used.tolist() == [0.5, 1, 1, 2]
    assert {*measured.runs} == {len(runs)}
    beyond = frame[frame.how == "extrapolated"]
    for _, each in beyond.groupby("runs"):
        assert each.workers.tolist() == [*BEYOND]
        assert each.hours.is_monotonic_decreasing
    assert beyond.hours.iloc[0] == float(f"{5 * scale:.2g}")
    longest = max(run.weight for run in runs)
    assert makespan(runs, 10**4) == longest
    assert sum(run.weight for run in runs) / 7 <= makespan(runs, 7) <= sum(run.weight for run in runs) / 7 + longest


def test_the_table_says_what_was_measured_and_what_extrapolated():
    with (DATA / "results" / "zoo-campaign.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    measured = [(row["executor"], int(row["workers"])) for row in rows if row["how"] == "measured on a part"]
    assert measured == [*TRIED]
    assert {row["how"] for row in rows if not row["part_seconds"]} == {"extrapolated"}
