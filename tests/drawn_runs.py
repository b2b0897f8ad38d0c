"""SCALE-Sim's results of random MatMuls that tests draw; `python -m tests.drawn_runs` simulates and records them."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from llmamdahl.scalesim.simulator import VERSION, simulate
from llmamdahl.scalesim.store import KEY, RUN_COLUMNS, read_runs, run_key
from llmamdahl.tables import write_rows

RECORDED = Path(__file__).parent / "data" / "drawn"


def simulated(runs):
    """Yield the counts of each run as SCALE-Sim reports them, on all cores."""
    with ProcessPoolExecutor() as pool:
        yield from pool.map(simulate, runs, chunksize=5)


def recorded(runs):
    """The recorded counts of each run; one in ten is simulated again."""
    rows = read_runs(RECORDED)
    found = [rows[run_key(run)] for run in runs]
    for row, again in zip(found[::10], simulated(runs[::10]), strict=True):
        assert again.items() <= row.items()
    return found


if __name__ == "__main__":
    from tests import test_dram, test_store

    runs = [*dict.fromkeys([*test_dram.drawn(200), *test_store.of_any_shape()])]
    versions = {"simulator_version": VERSION}
    rows = [
        dict(zip(KEY, run_key(run), strict=True)) | counts | versions
        for run, counts in zip(runs, simulated(runs), strict=True)
    ]
    write_rows(RECORDED / "runs.csv", list(RUN_COLUMNS), rows)
