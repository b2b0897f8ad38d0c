"""Numbers in the text of notebooks that no table beside them shows."""

from dataclasses import replace

import pytest

from llmamdahl import amdahl
from llmamdahl.analysis import crossover_batch, share
from llmamdahl.device import recorded
from llmamdahl.hardware import CLOUD_TPU, get_array
from llmamdahl.models import CONTEXT_LENGTHS, model_names
from llmamdahl.paper.miscounts import dataflow_cycles
from llmamdahl.paper.readings import conclusions_beyond


def fractions(model, lengths, hardware="cloud", **settings):
    return [round(share(model, length, hardware, **settings).fraction, 3) for length in lengths]


def test_01_with_pipelined_folds_and_corrected_counts_ws_is_the_best_on_the_cloud_array():
    corrected = {"folds": "pipelined", "counting": "corrected"}
    cloud, edge = (
        dataflow_cycles(model_names("opt"), CONTEXT_LENGTHS, get_array(name), ifmap="activations", **corrected)
        for name in ("cloud", "edge")
    )
    more = cloud.os / cloud.ws - 1
    assert len(cloud) == 42 and (round(more.min(), 3), round(more.max(), 3)) == (0.005, 0.086)
    assert (edge.ws < edge.os).sum() == 37 and (edge["is"] == edge.os).all()
    for name in ("cloud", "edge"):
        turned = dataflow_cycles(model_names("opt"), CONTEXT_LENGTHS, get_array(name), ifmap="weights", **corrected)
        assert (turned.os == turned.ws).all()


def test_06_f_rises_where_a_chunk_begins():
    assert fractions("llama-4-scout", [8192, 8193]) == [0.535, 0.801]


def test_06_the_memory_at_which_deepseek_v3_is_above_llama():
    for bandwidth, above in ((34, False), (5, False), (4, True), (3, True)):
        array = replace(CLOUD_TPU, clock_mhz=700, dram_gb_s=bandwidth)
        deepseek, llama = (share(name, 2048, array, metric="seconds") for name in ("deepseek-v3", "llama-3.1-8b"))
        assert (deepseek.fraction > llama.fraction) == above


def test_07_a_few_more_tokens_of_a_prompt_can_raise_f():
    assert fractions("mixtral-8x7b-v0.1", [1024, 1028], phase="prefill") == [0.928, 0.945]


def test_11_where_the_conclusions_hold_beyond_the_matrix():
    table = conclusions_beyond()
    assert len(table) == 11
    assert [*table.index[table["(i) 1/(1 - F)"] >= 1.5]] == ["128 x 128", "WS, pipelined"]
    fails = ["160 x 160", "128 x 128", "128 x 128, corrected", "WS, pipelined", "61 GB/s, corrected"]
    assert [*table.index[table["(ii) 1 - F"] <= 0.33]] == fails
    assert [*table.index[table["(iii) F"] <= 0.5]] == ["bytes: W1 A8, K and V 16 bits"]
    assert table["(iii) F"].min() == pytest.approx(0.397, abs=5e-4)


def test_11_what_many_sequences_and_a_real_cpu_do_to_the_conclusions():
    assert crossover_batch("opt-66b", 2048, "cloud") == 8
    assert crossover_batch("opt-66b", 2048, None, metric="bytes") == 28
    timed = recorded.fractions(recorded.read()).query("dtype == 'bfloat16' and attention == 'fused' and batch == 1")
    timed = timed.set_index(["model", "context_length"]).fraction
    assert amdahl.ceiling(timed["opt-350m", 4096]) == pytest.approx(1.35, abs=0.005)
    assert [round(1 - timed[name, 2048], 2) for name in ("opt-1.3b", "opt-2.7b")] == [0.44, 0.39]
