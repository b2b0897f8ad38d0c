"""Compare SCALE-Sim 3.0.0 with 2.0.2 and the closed form, on the MatMuls of `test_dram.py` (`make witness`).

3.0.0 needs an older NumPy than this environment has, so it runs in its own environment, build/witness. It reads
each MatMul from input files in its own formats, and the counts are read from its reports.
"""

import configparser
import csv
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

PYTHON = "build/witness/bin/python"
VERSION = "3.0.0"

QUIET = signal.SIGINT, signal.SIG_DFL
"""Processes end without a word on Ctrl-C, which is reported once."""

NEW_KEYS = {
    "run_presets": {"UseRamulatorTrace": "False"},
    "architecture_presets": {"ReadRequestBuffer": "32", "WriteRequestBuffer": "32"},
    "layout": {
        "IfmapCustomLayout": "False", "FilterCustomLayout": "False",
        "IfmapSRAMBankBandwidth": "10", "IfmapSRAMBankNum": "10", "IfmapSRAMBankPort": "2",
        "FilterSRAMBankBandwidth": "10", "FilterSRAMBankNum": "10", "FilterSRAMBankPort": "2",
    },
    "sparsity": {"SparsitySupport": "false"},
}  # fmt: skip
"""Keys that a .cfg of 3.0.0 needs and one of 2.0.2 does not: Ramulator, layouts and sparsity, all off."""

REPORTED = {
    "COMPUTE_REPORT.csv": {"Total Cycles": "cycles", "Stall Cycles": "stall_cycles"},
    "DETAILED_ACCESS_REPORT.csv": {
        "SRAM IFMAP Reads": "ifmap_sram_reads",
        "SRAM Filter Reads": "filter_sram_reads",
        "SRAM OFMAP Writes": "ofmap_sram_writes",
        "DRAM IFMAP Reads": "ifmap_dram_reads",
        "DRAM Filter Reads": "filter_dram_reads",
        "DRAM OFMAP Writes": "ofmap_dram_writes",
    },
}
"""Columns of 3.0.0's reports, with our names for them."""


def write_input(run, folder):
    """Write the input files of 3.0.0 for one run."""
    folder.mkdir()
    run.array.to_scalesim_cfg(folder / "array.cfg")
    config = configparser.ConfigParser()
    config.read(folder / "array.cfg", encoding="utf-8")
    config.read_dict(NEW_KEYS)
    with (folder / "array.cfg").open("w", encoding="utf-8") as handle:
        config.write(handle)
    topology = f"Layer,M,N,K,\nmatmul,{run.m},{run.n},{run.k},\n"
    (folder / "topology.csv").write_text(topology, encoding="utf-8")
    (folder / "layout.csv").write_text("Layer,\n", encoding="utf-8")  # required but not read


def simulate(folder):
    """Simulate the run that `write_input` wrote into a folder; called in the environment of 3.0.0."""
    from scalesim.scale_sim import scalesim

    if version("scalesim") != VERSION:
        sys.exit(f"scalesim {version('scalesim')} is not {VERSION}; remove build/witness")
    files = {name: f"{folder}/{name}.csv" for name in ("topology", "layout")}
    layer = scalesim(save_disk_space=True, verbose=False, config=f"{folder}/array.cfg", input_type_gemm=True, **files)
    layer.run_scale(top_path=f"{folder}/reports")


def read_reports(folder):
    """The counts in the reports, by our names."""
    counts = {}
    for file, columns in REPORTED.items():
        (path,) = folder.glob(f"reports/*/{file}")
        with path.open(encoding="utf-8", newline="") as handle:
            (row,) = csv.DictReader(handle, skipinitialspace=True)
        counts |= {name: int(float(row[column])) for column, name in columns.items()}
    return counts


def main(number):
    """Print the counts that differ, and return their number."""
    from llmamdahl.scalesim import simulator
    from llmamdahl.systolic import gemm_cost
    from tests.test_dram import drawn

    names = simulator.COUNTS + simulator.DRAM_COUNTS
    runs = drawn(number)
    with TemporaryDirectory() as place:
        folders = [Path(place) / str(index) for index in range(number)]
        for run, folder in zip(runs, folders, strict=True):
            write_input(run, folder)
        subprocess.run([PYTHON, __file__, "--simulate", *map(str, folders)], check=True)
        new = [read_reports(folder) for folder in folders]
    with ProcessPoolExecutor(initializer=signal.signal, initargs=QUIET) as pool:
        old = list(tqdm(pool.map(simulator.simulate, runs, chunksize=5), "2.0.2", number, disable=None))
    differ = {"2.0.2": Counter(), "the closed form": Counter()}
    for run, row, before in zip(runs, new, old, strict=True):
        cost = gemm_cost(run.m, run.n, run.k, run.array)
        closed = {name: 0 if name == "stall_cycles" else getattr(cost, name) for name in names}
        for other, counts in zip(differ, (before, closed), strict=True):
            for name in names:
                if row[name] != counts[name]:
                    differ[other][name] += 1
                    print(f"{run}: {name} is {row[name]} in {VERSION}, {counts[name]} in {other}")
    print(f"{'of ' + str(number) + ' MatMuls, differ':<26}" + "".join(f"{'from ' + other:>24}" for other in differ))
    for name in names:
        print(f"{name:<26}" + "".join(f"{differ[other][name]:>24}" for other in differ))
    return sum(counter.total() for counter in differ.values())


if __name__ == "__main__":
    try:
        if sys.argv[1] == "--simulate":
            signal.signal(*QUIET)
            with ProcessPoolExecutor(initializer=signal.signal, initargs=QUIET) as pool:
                folders = sys.argv[2:]
                list(tqdm(pool.map(simulate, folders, chunksize=5), VERSION, len(folders), disable=None))
        elif found := main(int(sys.argv[1])):
            sys.exit(f"{found} counts of SCALE-Sim {VERSION} differ; they are listed above")
    except KeyboardInterrupt:
        sys.exit("stopped")
