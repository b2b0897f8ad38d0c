"""SCALE-Sim's finite-bandwidth mode against the larger of cycles and words / bandwidth (`make bandwidth`).

`python tests/user_mode.py 400` simulates 400 random MatMuls in both modes of SCALE-Sim 2.0.2,
`InterfaceBandwidth: CALC` (never stalls) and `USER` (a number of words a cycle), and writes
`data/results/user-mode.csv`. `python tests/user_mode.py opt-350m` simulates OPT 350M on the edge array (two minutes on
two cores, 1 GB for each) and writes `data/results/user-mode-opt-350m.csv`.

How USER charges for the DRAM, read in the source of 2.0.2 (`memory/`, `compute/`) and replayed by `replayed`:

- Each memory has the whole bandwidth to itself (`single_layer_sim.py:145-148`).
- The first half of an SRAM is filled before cycle 0 (`read_buffer.py:283`).
- A word that is not in the active half moves a window over the operand half an SRAM ahead, as often as it takes
  (`read_buffer.py:238`, `:325`). The window turns from the end to the start, so a word left behind costs a trip around
  the operand. Words are left behind where the array asks for them in another order than they are fetched in. It asks
  for a fold of the stationary operand in reverse (`systolic_compute_ws.py:254`, `systolic_compute_is.py:213`). Other
  operands are fetched along diagonals that run on from fold to fold (`systolic_compute_os.py:128`), while the array
  ends a fold before it starts the next (`:253`).
- Each move costs half an SRAM / bandwidth cycles and one more, whatever it brings (`read_buffer.py:335`, `:367`), from
  the end of the previous move on.
- Half the ofmap SRAM is drained when more than half is in use. Its words are free as soon as their drain starts
  (`write_buffer.py:229`). Draining what is left takes no cycle of the layer
  (`double_buffered_scratchpad_mem.py:198`, before `:209`).
- The array stalls for the slowest of the three memories (`double_buffered_scratchpad_mem.py:190`). A stall for results
  counts one cycle less (`:188`), and a line in which both operands moved early counts as a stall of -1.
"""

import configparser
import random
import signal
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from llmamdahl.analysis import share
from llmamdahl.hardware import EDGE_TPU, Dataflow, SystolicArray
from llmamdahl.models import get_model
from llmamdahl.scalesim.simulator import DRAM_COUNTS, Run, simulate
from llmamdahl.systolic import gemm_cost
from llmamdahl.tables import RESULTS, boolean, write_rows
from llmamdahl.workload import Part, decode_step

MEMORIES = ("ifmap", "filter", "ofmap")

QUIET = signal.SIGINT, signal.SIG_DFL
"""Processes end without a word on Ctrl-C, which is reported once."""

COLUMNS = {
    **dict.fromkeys(("m", "n", "k", "rows", "cols"), int),
    "dataflow": str,
    **dict.fromkeys(("ifmap_sram_kb", "filter_sram_kb", "ofmap_sram_kb", "bandwidth"), int),
    **dict.fromkeys(("calc_cycles", "user_cycles", "stall_cycles"), int),
    **dict.fromkeys(("words_once", "words_refetched"), int),
    **dict.fromkeys(("separate_once", "separate_refetched", "shared_once", "shared_refetched"), int),
    **dict.fromkeys(("ifmap_moves", "filter_moves", "uncharged_cycles", "overcharged_cycles"), int),
    "charged": str,
    "impossible": boolean,
    "why": str,
}
"""Columns of `user-mode.csv`; `data/README.md` says what they hold."""

LONGEST = 60_000
"""The largest `Run.weight` of a drawn run: about a third of a second in each mode."""


class Replay(NamedTuple):
    """USER's cycles by the rules above, and what they are made of."""

    cycles: int  # as reported: the index of the last cycle
    stalls: int
    moves: tuple[int, int]  # of the ifmap's window and of the filter's
    last_drain: int  # cycles from the last cycle until the last result has left


class ResultBuffer:
    """The ofmap SRAM of USER, `memory/write_buffer.py`."""

    def __init__(self, size, bandwidth):
        self.half, self.bandwidth = size // 2, bandwidth
        self.free = size
        self.lines, self.in_line = [], 0  # words of each line that waits to be drained, and of the one being filled
        self.drain_end = 0

    def write(self, words, now):
        """Take the results of one cycle; return the cycle in which the last of them has a place."""
        for _ in range(words):
            self.in_line += 1
            self.free -= 1
            if self.in_line == self.bandwidth:
                self._close_line()
            if now < self.drain_end:
                if self.free <= 0:
                    now = self.drain_end
            elif self.free < self.half:
                self._close_line()
                count = -(-self.half // self.bandwidth)
                drained, self.lines = self.lines[:count], self.lines[count:]
                # nulls in any line but the last count as words, and all of them are free at once
                self.free += (len(drained) - 1) * self.bandwidth + drained[-1]
                self.drain_end = now + len(drained) - 1
        return now

    def left(self, now):
        """Cycles from `now` on until the drain in progress has ended and the other words have left."""
        return max(self.drain_end - now, 0) + -(-(sum(self.lines) + self.in_line) // self.bandwidth)

    def _close_line(self):
        if self.in_line:
            self.lines.append(self.in_line)
            self.in_line = 0


def window_moves(order, demand, size):
    """How often each line of requests moves the window over an operand, `memory/read_buffer.py`.

    `order` has the operand's addresses as they are prefetched, `demand` a line of addresses for each cycle (-1: none);
    `size` are the words of the SRAM.
    """
    in_set = -(-size // 100)
    order = order[order != -1].tolist()
    sets = {address: index // in_set for index, address in enumerate(order)}
    number, half = len(order) // in_set + 1, -(-(size // 2) // in_set)
    active = min(number, half)
    step = min(number - active, half)
    start, moves = 0, []
    for line in demand.tolist():
        count = 0
        for address in line:
            while address != -1 and (sets[address] - start) % number >= active:
                start = (start + step) % number
                count += 1
        moves.append(count)
    return moves


def as_first_asked(demand):
    """An operand's addresses in the order in which the array asks for them first."""
    asked = demand[demand != -1]
    return asked[np.sort(np.unique(asked, return_index=True)[1])]


def simulated(run, bandwidth):
    """SCALE-Sim's layer after it has run in its mode USER with `bandwidth` words a cycle."""
    from scalesim.scale_config import scale_config
    from scalesim.single_layer_sim import single_layer_sim
    from scalesim.topology_utils import topologies

    with TemporaryDirectory() as folder:
        path = Path(folder) / "array.cfg"
        run.array.to_scalesim_cfg(path)
        parser = configparser.ConfigParser()
        parser.read(path, encoding="utf-8")
        parser["architecture_presets"]["Bandwidth"] = str(bandwidth)
        parser["run_presets"]["InterfaceBandwidth"] = "USER"
        with path.open("w", encoding="utf-8") as handle:
            parser.write(handle)
        config = scale_config()
        config.read_conf_file(str(path))
    topology = topologies()
    topology.append_layer_entry(["matmul", run.m, run.k, 1, run.k, 1, run.n, 1, 1])
    layer = single_layer_sim()
    layer.set_params(0, config, topology, verbose=False)
    layer.run()
    return layer


def reported(run, bandwidth):
    """The cycles and stall cycles that USER reports."""
    return tuple(simulated(run, bandwidth).get_compute_report_items()[:2])


def read_srams(run):
    """Words of the ifmap SRAM and of the filter SRAM."""
    return 1024 * run.array.ifmap_sram_kb, 1024 * run.array.filter_sram_kb


def move_cycles(run, bandwidth):
    """What USER charges for a move of the ifmap's window and of the filter's."""
    return tuple(-(-size // 2 // bandwidth) + 1 for size in read_srams(run))


def replayed(layer, run, bandwidth):
    """Replay USER by the rules above; only the order of the requests is taken from SCALE-Sim."""
    orders, demands = layer.compute_system.get_prefetch_matrices(), layer.compute_system.get_demand_matrices()
    sizes = read_srams(run)
    moves = [window_moves(*each) for each in zip(orders, demands, sizes, strict=False)]
    charge = move_cycles(run, bandwidth)
    results = ResultBuffer(1024 * run.array.ofmap_sram_kb, bandwidth)
    ends, stalls, last = [-1, -1], 0, 0
    for line, words in enumerate((demands[2] != -1).sum(axis=1).tolist()):
        cycle = line + stalls
        waits = [0, 0]
        for i in (0, 1):
            if moves[i][line]:
                ends[i] += moves[i][line] * charge[i]
                waits[i] = ends[i] - (cycle + 1)  # below 0 if the words came early
        last = results.write(words, cycle)
        stalls += max(*waits, last - cycle - 1)
    return Replay(last, stalls, tuple(map(sum, moves)), results.left(last))


def words_moved(run):
    """Words of ifmap, filter and ofmap: each once, and as they cross the DRAM's interface (`llmamdahl.dram`)."""
    cost = gemm_cost(run.m, run.n, run.k, run.array, counting="corrected")  # without null addresses
    once = run.m * run.k, run.k * run.n, run.m * run.n
    return once, tuple(getattr(cost, name) for name in DRAM_COUNTS)


def compared(run, bandwidth):
    """One row of `user-mode.csv`, and whether `replayed` gives SCALE-Sim's cycles and stalls."""
    layer = simulated(run, bandwidth)
    user, stalls = layer.get_compute_report_items()[:2]
    replay = replayed(layer, run, bandwidth)
    calc = simulate(run)["cycles"]
    once, refetched = words_moved(run)

    def ours(words):
        return max(calc, -(-words // bandwidth))

    expected = ours(max(refetched))
    halves = [size // 2 for size in read_srams(run)]
    # What is missing from the memory that bounds ours, and what is too much in the memory that USER charges most for.
    fills = [-(-min(words, half) // bandwidth) for words, half in zip(once, halves, strict=False)]
    slowest = max(range(3), key=lambda i: refetched[i])
    charges = [count * cycles for count, cycles in zip(replay.moves, move_cycles(run, bandwidth), strict=True)]
    needed = [max(words - half, 0) for words, half in zip(refetched, halves, strict=False)]
    dearest = max((0, 1), key=lambda i: charges[i])
    charged, why = verdict(user, calc, expected), ""
    if charged == "less":
        why = "last drain" if slowest == 2 else "first fill"
    elif charged == "more":
        enough = -(-needed[dearest] // halves[dearest])
        demand = layer.compute_system.get_demand_matrices()[dearest]
        in_order = sum(window_moves(as_first_asked(demand), demand, read_srams(run)[dearest]))
        around = "order of prefetches" if in_order <= enough else "trips to read again"
        why = around if replay.moves[dearest] > enough else "whole prefetches"
    row = {
        **{name: getattr(run if name in "mnk" else run.array, name) for name in list(COLUMNS)[:9]},
        "bandwidth": bandwidth,
        "calc_cycles": calc,
        "user_cycles": user,
        "stall_cycles": stalls,
        "words_once": sum(once),
        "words_refetched": sum(refetched),
        "separate_once": ours(max(once)),
        "separate_refetched": expected,
        "shared_once": ours(sum(once)),
        "shared_refetched": ours(sum(refetched)),
        **dict(zip(("ifmap_moves", "filter_moves"), replay.moves, strict=True)),
        "uncharged_cycles": [*fills, replay.last_drain][slowest],
        "overcharged_cycles": charges[dearest] - needed[dearest] // bandwidth,
        "charged": charged,
        "impossible": user < -(-max(once) // bandwidth),
        "why": why,
    }
    return row, (replay.cycles, replay.stalls) == (user, stalls)


def verdict(user, calc, expected):
    """How USER's cycles compare with ours."""
    if user == calc == expected:
        return "no wait"
    if abs(user - expected) <= 0.05 * expected:
        return "agrees"
    return "less" if user < expected else "more"


def drawn(number, seed=0):
    """Random MatMuls with a bandwidth; of every other one, the words of a memory take longer than the array.

    The first of a seed do not depend on `number`.
    """
    rng = random.Random(seed)
    cases = []
    while len(cases) < number:
        srams = [int(2 ** rng.uniform(0, 6.02)) if rng.random() < 0.5 else 1 for _ in range(3)]  # 1 to 64 kB
        array = SystolicArray(rng.randint(4, 32), rng.randint(4, 32), rng.choice(list(Dataflow)), *srams)
        run = Run(*(int(2 ** rng.uniform(0, 8.24)) for _ in range(3)), array)  # 1 to 302
        bandwidth = int(2 ** rng.uniform(0, 6.02))
        waits = max(words_moved(run)[1]) > bandwidth * gemm_cost(run.m, run.n, run.k, array).cycles
        if run.weight <= LONGEST and (waits or len(cases) % 2):
            cases.append((run, bandwidth))
    return cases


def summary(rows):
    """MatMuls for each verdict and reason, and how many of them are charged less than one pass of their words needs."""
    found = {}
    for row in rows:
        counts = found.setdefault((row["charged"], row["why"]), Counter())
        counts += Counter(matmuls=1, impossible=row["impossible"])
    return {key: (found[key]["matmuls"], found[key]["impossible"]) for key in sorted(found)}


def shown(rows):
    """The summary as text, and how many MatMuls agree with the other readings of ours."""
    lines = [f"{'USER charges':<38}{'MatMuls':>8}{'impossible':>12}"]
    for (charged, why), counts in summary(rows).items():
        lines.append(f"{charged + (': ' if why else '') + why:<38}{counts[0]:>8}{counts[1]:>12}")
    for name in ("separate_once", "separate_refetched", "shared_once", "shared_refetched"):
        counts = Counter(verdict(row["user_cycles"], row["calc_cycles"], row[name]) for row in rows)
        lines.append(f"{name}: {', '.join(f'{counts[key]} {key}' for key in sorted(counts))}")
    return "\n".join(lines)


BANDWIDTHS = (64, 32, 16, 8)
"""Words a cycle for OPT 350M."""

OPT_COLUMNS = {
    **dict.fromkeys(("bandwidth", "user_projection", "user_attention"), int),
    **dict.fromkeys(("user", "separate", "shared", "share"), float),
}
"""Columns of `user-mode-opt-350m.csv`."""


def opt_350m():
    """OPT 350M at l = 2048 on the edge array: USER's cycles, and F by USER and by ours.

    Ours are the larger of cycles and words / bandwidth of each MatMul. Words are those of the three operands once:
    `separate` with a bandwidth for each memory, as USER has it, `shared` with one for all three. `share` is
    `llmamdahl.share`, which counts weights, K and V.
    """
    matmuls = [each for each in decode_step(get_model("opt-350m"), 2048) if each.part != Part.UNQUANTIZED]
    runs = {each: Run(each.m, each.n, each.k, EDGE_TPU) for each in matmuls}
    cases = sorted({(run.weight, run.m, run.n, run.k, width) for run in runs.values() for width in BANDWIDTHS})
    cases = [(Run(*dims, EDGE_TPU), width) for _, *dims, width in reversed(cases)]  # the longest first
    with ProcessPoolExecutor(initializer=signal.signal, initargs=QUIET) as pool:
        found = tqdm(pool.map(reported, *zip(*cases, strict=True)), total=len(cases), disable=None)
        user = dict(zip(cases, (cycles for cycles, _ in found), strict=True))
    rows = []
    for width in BANDWIDTHS:
        totals = {by: Counter() for by in ("user", "separate", "shared")}
        for each, run in runs.items():
            calc, (once, _) = gemm_cost(run.m, run.n, run.k, EDGE_TPU).cycles, words_moved(run)
            totals["user"][each.part] += each.count * user[run, width]
            totals["separate"][each.part] += each.count * max(calc, -(-max(once) // width))
            totals["shared"][each.part] += each.count * max(calc, -(-sum(once) // width))
        array = replace(EDGE_TPU, clock_mhz=1000, dram_gb_s=width)  # a byte a word, 10^9 cycles a second
        cycles = totals["user"][Part.PROJECTION], totals["user"][Part.ATTENTION]
        fractions = [total[Part.PROJECTION] / total.total() for total in totals.values()]
        fractions.append(share("opt-350m", 2048, array, metric="seconds").fraction)
        rows.append(dict(zip(OPT_COLUMNS, (width, *cycles, *fractions), strict=True)))
    return rows


def main(what):
    """Write one of the two CSV files; the number of MatMuls whose USER cycles `replayed` does not give."""
    if what == "opt-350m":
        rows = opt_350m()
        write_rows(RESULTS / "user-mode-opt-350m.csv", [*OPT_COLUMNS], rows)
        for row in rows:
            found = ", ".join(f"{by} {row[by]:.4f}" for by in list(OPT_COLUMNS)[3:])
            print(f"{row['bandwidth']:>2} words a cycle, F: {found}")
        return 0
    with ProcessPoolExecutor(initializer=signal.signal, initargs=QUIET) as pool:
        found = pool.map(compared, *zip(*drawn(int(what)), strict=True), chunksize=5)
        rows, same = zip(*tqdm(found, total=int(what), disable=None), strict=True)
    write_rows(RESULTS / "user-mode.csv", [*COLUMNS], rows)
    print(shown(rows))
    return same.count(False)


if __name__ == "__main__":
    try:
        if unexplained := main(sys.argv[1]):
            sys.exit(f"{unexplained} MatMuls take other cycles in SCALE-Sim than `replayed` has")
    except KeyboardInterrupt:
        sys.exit("stopped")
