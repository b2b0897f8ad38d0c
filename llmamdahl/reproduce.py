"""`make reproduce`: every notebook run from the top, every paper item beside its print, a sample simulated anew."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from llmamdahl.published import paper_items
from llmamdahl.store import recheck
from llmamdahl.tables import FIGURES, RESULTS, ROOT

NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "build" / "notebooks"
VOLATILE = "metadata.papermill cell.metadata.papermill cell.metadata.execution metadata.language_info.version"


def execute(notebook: Path) -> float:
    """Run a notebook into `build/notebooks/`, without what changes from run to run; the seconds it took."""
    BUILD.mkdir(parents=True, exist_ok=True)
    copy, start = BUILD / notebook.name, time.perf_counter()
    _python("papermill", "--kernel", "python3", "--cwd", NOTEBOOKS, "--no-progress-bar", notebook, copy)
    _python("nbstripout", "--keep-output", "--keep-count", "--keep-id", "--extra-keys", VOLATILE, copy)
    _drop_widgets(copy)
    return time.perf_counter() - start


def _drop_widgets(copy: Path) -> None:
    """Leave of a panel its text: a widget's id is new in each run, and means nothing without its kernel."""
    notebook = json.loads(copy.read_text(encoding="utf-8"))
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    copy.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def _python(module: str, *arguments: str | Path) -> None:
    """`python -m module arguments`, whose output (kernels warn of their own set-up) shows only if it fails."""
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=True, capture_output=True, text=True)


def produced() -> dict[Path, bytes]:
    """What a run writes and `verify` compares. Figures are compared by the CSV behind them."""
    files = [*FIGURES.glob("*.csv"), *RESULTS.rglob("*.csv")]
    return {path.relative_to(ROOT): path.read_bytes() for path in files}


def differences(before: dict[Path, bytes]) -> list[str]:
    """The files that this run did not reproduce byte for byte, each with its first line that moved."""
    after = produced()
    for copy in BUILD.glob("*.ipynb"):
        committed = (NOTEBOOKS / copy.name).relative_to(ROOT)
        before[committed], after[committed] = (NOTEBOOKS / copy.name).read_bytes(), copy.read_bytes()
    moved = []
    for path in sorted(before.keys() | after.keys()):
        old, new = (versions.get(path, b"").decode().splitlines() for versions in (before, after))
        if old != new:
            line = next((at for at, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), None)
            line = min(len(old), len(new)) if line is None else line
            shown = [lines[line].strip()[:90] if line < len(lines) else "(no such line)" for lines in (old, new)]
            moved.append(f"{path}, line {line + 1}: was {shown[0]!r}, is {shown[1]!r}")
    return moved


def print_items(seconds: dict[str, float]) -> None:
    """One line a paper item: cells and statements checked and agreeing, and its notebook's seconds."""
    row = "{:<10} {:>11} {:>16} {:>8}  {:<22} {}".format
    print(row("item", "cells agree", "statements hold", "seconds", "notebook", "known differences"))
    for item in paper_items().to_dict("records"):
        cells, statements = (
            f"{item[f'{kind}_agreeing']} of {item[kind]}" if item[kind] else "-" for kind in ("cells", "statements")
        )
        notebook = item["notebook"].removesuffix(".ipynb")
        took = f"{seconds[notebook]:.1f}"
        print(row(item["item"], cells, statements, took, notebook, item["known_differences"]))


def main() -> None:
    """`python -m llmamdahl.reproduce [--verify | --accept]`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--verify", action="store_true", help="compare with what was there and fail on a difference")
    parser.add_argument("--accept", action="store_true", help="replace notebooks/ by the executed copies")
    options = parser.parse_args()
    start, before, seconds = time.perf_counter(), produced(), {}
    start_here, *others = sorted(NOTEBOOKS.glob("*.ipynb"))
    # one after the other: kernels that start at the same moment may pick the same port
    for notebook in tqdm([*others, start_here], unit="notebook", disable=None):  # the map reads what the others write
        try:
            seconds[notebook.stem] = execute(notebook)
        except subprocess.CalledProcessError as error:
            where = f"{notebook.relative_to(ROOT)} failed; the executed copy is in {BUILD.relative_to(ROOT)}/"
            sys.exit(f"{error.stderr}\n{where}")
    print_items(seconds)
    print("\nEight rows of the store, drawn now and simulated again by SCALE-Sim:")
    if not recheck():
        sys.exit("SCALE-Sim now says something else than the store")
    print(f"\nEverything above took {time.perf_counter() - start:.0f} s.")
    if options.accept:
        for copy in BUILD.glob("*.ipynb"):
            (NOTEBOOKS / copy.name).write_bytes(copy.read_bytes())
    if options.verify and (moved := differences(before)):
        sys.exit("Not as committed:\n" + "\n".join(moved))
    if options.verify:
        print("Notebooks, results and figure data are byte for byte as they were before.")


if __name__ == "__main__":
    main()
