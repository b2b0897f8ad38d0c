"""How the time of a sweep grows with its models, lengths and arrays, and a share's with sequences (`make bench`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product

import pandas as pd
from tqdm import tqdm

from compendium.command import writing
from llmamdahl.analysis import share, sweep
from llmamdahl.hardware import SystolicArray
from llmamdahl.models import zoo_names
from llmamdahl.tables import RESULTS

ARRAYS = [SystolicArray(rows, cols) for rows, cols in product(range(8, 264, 8), range(8, 264, 8))]
SIZES = [4**power for power in range(9)]


def calls() -> list[tuple[str, int, Callable[[], object]]]:
    """What grows, the number of them, and the call that is timed; all else stays at 8 models, lengths and arrays."""
    models, lengths, arrays = zoo_names()[:8], range(512, 512 * 9, 512), ARRAYS[:8]
    found: list[tuple[str, int, Callable[[], object]]] = []
    for number in SIZES:
        if number <= len(zoo_names()):
            found.append(("models", number, lambda n=number: sweep(zoo_names()[:n], lengths, arrays)))  # type: ignore[misc]
        if number <= 4**7:
            found.append(("context lengths", number, lambda n=number: sweep(models, range(1, n + 1), arrays)))  # type: ignore[misc]
        if number <= len(ARRAYS):
            found.append(("arrays", number, lambda n=number: sweep(models, lengths, ARRAYS[:n])))  # type: ignore[misc]
        for name, model, experts in (
            ("sequences", "llama-3.1-8b", "even"),
            ("sequences, experts even", "qwen3-30b-a3b", "even"),
            ("sequences, experts expected", "qwen3-30b-a3b", "expected"),
        ):
            ask = {"batch": number, "experts": experts}
            found.append((name, number, lambda m=model, a=ask: share(m, 2048, "cloud", **a)))  # type: ignore[misc]
    return found


def cpu_seconds(call: Callable[[], object], least: float = 0.3) -> float:
    """The fewest seconds of CPU of a call, of as many as take `least` seconds, but of three at least."""
    call()
    times: list[float] = []
    while sum(times) < least or len(times) < 3:
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def measure() -> None:
    """Time every call, and write `data/results/growth.csv`."""
    rows = [
        {"what": what, "number": number, "seconds": float(f"{cpu_seconds(call):.3g}")}
        for what, number, call in tqdm(calls(), disable=None)
    ]
    frame = pd.DataFrame(rows).sort_values(["what", "number"], ignore_index=True)
    before = frame.groupby("what").seconds.shift()
    frame["times_the_last"] = (frame.seconds / before).round(2)
    RESULTS.mkdir(parents=True, exist_ok=True)
    frame.to_csv(RESULTS / "growth.csv", index=False, lineterminator="\n")
    print(frame.to_string(index=False))


def main() -> None:
    """`python -m compendium.growth`."""
    with writing():
        measure()


if __name__ == "__main__":
    main()
