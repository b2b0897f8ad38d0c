"""How SCALE-Sim's finite-bandwidth mode charges for the DRAM, each rule on a MatMul by hand (`user_mode.py`)."""

import math

import pytest

from llmamdahl.hardware import EDGE_TPU, SystolicArray
from llmamdahl.scalesim.simulator import Run, simulate
from llmamdahl.systolic import gemm_cost
from llmamdahl.tables import DATA, read_rows
from tests.user_mode import (
    COLUMNS,
    OPT_COLUMNS,
    as_first_asked,
    compared,
    drawn,
    reported,
    simulated,
    summary,
    window_moves,
)


def on(dataflow, rows, cols, m, n, k):
    return Run(m, n, k, SystolicArray(rows, cols, dataflow, 1, 1, 1))


def test_an_operand_in_half_its_sram_is_never_waited_for():
    row, _ = compared(on("os", 4, 32, 1, 32, 16), 1)  # 512 words of filter, half of 1 kB
    assert row["user_cycles"] == row["calc_cycles"] == 16 + 4 + 32 - 2 - 1
    assert row["separate_once"] == 512
    assert row["impossible"] and (row["charged"], row["why"]) == ("less", "first fill")


@pytest.mark.parametrize("bandwidth", [1, 2, 8, 10, 64])
def test_a_move_is_charged_in_full_whatever_it_brings(bandwidth):
    # 1 kB has sets of ceil(1024 / 100) = 11 words, so ceil(512 / 11) = 47 sets or 517 words are there at the start. Of
    # 33 x 16 words along 48 diagonals, the last 11 are those of diagonals 44 to 47 and one of diagonal 43, which the
    # array asks for in cycle 43. It then has the words of cycles 44 on too.
    cycles, stalls = reported(on("os", 4, 16, 1, 16, 33), bandwidth)
    arrived = -1 + math.ceil(512 / bandwidth) + 1  # although 11 words are fetched
    assert stalls == max(0, arrived - (43 + 1))
    assert cycles == 33 + 4 + 16 - 2 - 1 + stalls


@pytest.mark.parametrize(
    ("run", "operand"),
    [
        (on("ws", 16, 32, 1, 32, 32), "filter"),  # a fold of the stationary operand is asked for in reverse
        (on("is", 16, 32, 32, 1, 32), "ifmap"),
        (on("os", 4, 16, 1, 32, 32), "filter"),  # the diagonals of the prefetch run on into the next fold
    ],
    ids=["ws", "is", "os"],
)
def test_another_order_of_prefetches_costs_trips_around_the_operand(run, operand):
    # 1024 words: 517 are there at the start and one move brings the others, but SCALE-Sim makes three
    row, same = compared(run, 1)
    assert same and row[f"{operand}_moves"] == 3
    assert row["user_cycles"] > 1024 + row["calc_cycles"]  # more than one word after the other, and then the array
    assert (row["charged"], row["why"]) == ("more", "order of prefetches")
    demand = simulated(run, 1).compute_system.get_demand_matrices()[("ifmap", "filter").index(operand)]
    assert sum(window_moves(as_first_asked(demand), demand, 1024)) == 1


def test_results_leave_for_free_and_fill_one_and_a_half_times_their_sram():
    # The 513th result starts to drain 512, whose space is free at once: the 1536th is the first that waits.
    row, _ = compared(on("ws", 4, 32, 47, 32, 1), 1)  # 1504 results, one word a cycle, 1 kB
    assert row["user_cycles"] == row["calc_cycles"] == 47 + 2 * 4 + 32 - 2 - 1
    assert row["impossible"] and (row["charged"], row["why"]) == ("less", "last drain")
    assert reported(on("ws", 4, 32, 48, 32, 1), 1)[1] > 400  # 1536 results


def test_two_early_moves_in_one_cycle_are_a_stall_of_minus_one():
    # both operands have 16 x 64 words, and leave their first half in the same cycle, long after the second has come
    run = on("os", 16, 16, 16, 16, 64)
    assert reported(run, 64) == (simulate(run)["cycles"] - 1, -1)


def test_the_memories_do_not_share_the_bandwidth():
    # 16 x 200 words of filter, beside 200 words of ifmap, and then beside as many as of filter
    row, _ = compared(on("os", 16, 16, 1, 16, 200), 1)
    both, _ = compared(on("os", 16, 16, 16, 16, 200), 1)
    assert both["ifmap_moves"] == both["filter_moves"] == row["filter_moves"] > 0
    assert abs(both["user_cycles"] - row["user_cycles"]) <= 1
    assert both["shared_once"] == 6400 + 256 and row["shared_once"] == 3400 + 16


def test_the_trace_lacks_words_of_an_operand_that_is_read_once():
    # 2048 words, four times half the SRAM. A move asks for the addresses from `num_lines` on, not from where the last
    # one ended, and turns by columns where rows are meant (read_buffer.py:383, :385).
    addresses = simulated(on("os", 4, 16, 1, 16, 128), 8).memory_system.filter_buf.get_trace_matrix()[:, 1:]
    assert addresses.size == 2048
    assert len({*addresses[addresses != -1]}) == 1032


def test_random_matmuls_are_replayed_exactly():
    for (run, bandwidth), row in zip(drawn(24), committed(), strict=False):
        found, same = compared(run, bandwidth)
        assert same, (run, bandwidth)
        assert found == row


def committed():
    return read_rows(DATA / "results" / "user-mode.csv", COLUMNS)


def test_the_committed_comparison():
    rows = committed()
    # verdict and reason: MatMuls, and how many of them are charged less than their words take once each
    assert summary(rows) == {
        ("agrees", ""): (21, 11),
        ("less", "first fill"): (87, 87),
        ("less", "last drain"): (77, 76),
        ("more", "order of prefetches"): (75, 0),
        ("more", "trips to read again"): (11, 0),
        ("more", "whole prefetches"): (4, 0),
        ("no wait", ""): (125, 0),
    }
    # The reasons are enough. With the fill or the drain charged none is below ours; without the moves and words that
    # the DRAM counts have no need for, none is 5% above.
    for row in rows:
        if row["charged"] == "less":
            assert row["user_cycles"] + row["uncharged_cycles"] >= row["separate_refetched"]
        if row["charged"] == "more":
            assert row["user_cycles"] - row["overcharged_cycles"] <= 1.05 * row["separate_refetched"]


def test_opt_350m():
    rows = read_rows(DATA / "results" / "user-mode-opt-350m.csv", OPT_COLUMNS, key=["bandwidth"])
    assert [row["bandwidth"] for row in rows] == [64, 32, 16, 8]
    assert [round(row["user"], 3) for row in rows] == [0.706, 0.773, 0.844, 0.904]
    attention = 24 * 16 * sum(gemm_cost(1, n, k, EDGE_TPU).cycles for n, k in [(2048, 64), (64, 2048)])
    for row in rows:
        assert row["user_attention"] == attention  # K and V fit: no bandwidth makes attention wait
        assert row["user"] == row["user_projection"] / (row["user_projection"] + attention)
        assert row["user"] > row["separate"] >= row["shared"]
    # From 16 to 8 words a cycle W_I and W_O, 4 MB each, take three more times 2 MB / 8 - 2 MB / 16 cycles in each
    # layer. The second half would be one move.
    assert rows[3]["user_projection"] - rows[2]["user_projection"] == 24 * 2 * 3 * 2**21 // 16
