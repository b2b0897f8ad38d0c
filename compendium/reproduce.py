"""`make reproduce`: every notebook run from the top, every paper item beside its print, a sample simulated anew."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from compendium import verify
from llmamdahl.errors import InputError
from llmamdahl.paper.published import paper_items
from llmamdahl.scalesim.store import recheck
from llmamdahl.tables import OUTPUT, ROOT

NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "build" / "notebooks"
VERIFIED = ROOT / "build" / "verify"
"""Where `--verify` reproduces figures and results, so that what is there stays to be looked at."""
VOLATILE = "metadata.papermill cell.metadata.papermill cell.metadata.execution metadata.language_info.version"


def execute(notebook: Path, output: Path) -> float:
    """Run a notebook into `build/notebooks/`, without what changes from run to run; the seconds it took.

    Its figures and results go to `output`.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    copy, start = BUILD / notebook.name, time.perf_counter()
    _python(output, "papermill", "--kernel", "python3", "--cwd", NOTEBOOKS, "--no-progress-bar", notebook, copy)
    _python(output, "nbstripout", "--keep-output", "--keep-count", "--keep-id", "--extra-keys", VOLATILE, copy)
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


def _python(output: Path, module: str, *arguments: str | Path) -> None:
    """`python -m module arguments`, whose output (kernels warn of their own set-up) shows only if it fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = {**os.environ, "LLMAMDAHL_OUTPUT": str(output)}
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True)


def print_items(seconds: dict[str, float]) -> None:
    """One line a paper item: cells and statements checked and agreeing, and its notebook's seconds."""
    row = "{:<10} {:>11} {:>16} {:>8}  {:<22} {}".format
    print(row("item", "cells agree", "statements hold", "seconds", "notebook", "known differences"))
    for item in paper_items().to_dict("records"):
        cells, statements = (
            f"{item[f'{kind}_agreeing']} of {item[kind]}" if item[kind] else "-" for kind in ("cells", "statements")
        )
        notebook = item["notebook"].removesuffix(".ipynb")
        took = f"{seconds[notebook]:.1f}" if notebook in seconds else "failed"
        print(row(item["item"], cells, statements, took, notebook, item["known_differences"]))


def main() -> None:
    """`python -m compendium.reproduce [--verify | --accept]`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--verify", action="store_true", help="write into build/verify/ and compare with the commit")
    choice.add_argument("--accept", action="store_true", help="replace notebooks/ by the executed copies")
    options = parser.parse_args()
    start, seconds = time.perf_counter(), dict[str, float]()
    output = VERIFIED if options.verify else OUTPUT
    if options.verify:
        against, files = verify.committed()
        shutil.rmtree(VERIFIED, ignore_errors=True)
    start_here, *others = sorted(NOTEBOOKS.glob("*.ipynb"))
    notebooks = [*others, start_here]  # the map reads what the others write
    # one after the other: kernels that start at the same moment may pick the same port
    for notebook in tqdm(notebooks, unit="notebook", disable=None):
        try:
            seconds[notebook.stem] = execute(notebook, output)
        except subprocess.CalledProcessError as error:
            where = f"{notebook.relative_to(ROOT)} failed; the executed copy is in {BUILD.relative_to(ROOT)}/"
            if not options.verify:  # which goes on, and names the cell
                sys.exit(f"{error.stderr}\n{where}")
    print_items(seconds)
    print("\nEight rows of the store, drawn now and simulated again by SCALE-Sim:")
    try:
        same = recheck()
    except InputError as error:
        print(error)
        same = False
    print(f"\nEverything above took {time.perf_counter() - start:.0f} s.")
    if options.verify:
        copies = {BUILD / notebook.name: notebook.stem in seconds for notebook in notebooks}
        if faults := verify.faults(files, copies, VERIFIED):
            sys.exit(f"\nNot as committed, compared with {against}:\n" + "\n".join(faults))
        print(f"Notebooks, results and figure data are byte for byte those of {against}.")
    if not same:
        sys.exit("SCALE-Sim now says something else than the store")
    if options.accept:
        for notebook in notebooks:
            shutil.copyfile(BUILD / notebook.name, notebook)


if __name__ == "__main__":
    main()
