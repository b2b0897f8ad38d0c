"""`make reproduce`: run every notebook, list every paper item, simulate a sample of the store again."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
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
"""Where `--verify` writes figures and results; they are kept for inspection."""
VOLATILE = "metadata.papermill cell.metadata.papermill cell.metadata.execution metadata.language_info.version"
"""Metadata of a notebook that differs from run to run."""


def execute(notebook: Path, output: Path) -> float:
    """Run a notebook; its executed copy goes to `build/notebooks/`, its figures and results to `output`.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    CalledProcessError
        A cell failed; the copy shows which.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    copy, start = BUILD / notebook.name, time.perf_counter()
    _python(output, "papermill", "--kernel", "python3", "--cwd", NOTEBOOKS, "--no-progress-bar", notebook, copy)
    # two runs must give the same bytes, so that a copy can be committed and compared
    _python(output, "nbstripout", "--keep-output", "--keep-count", "--keep-id", "--extra-keys", VOLATILE, copy)
    _drop_widgets(copy)
    return time.perf_counter() - start


def _drop_widgets(copy: Path) -> None:
    """Keep only the text of a panel: a widget has a new id in each run, and shows nothing without its kernel."""
    notebook = json.loads(copy.read_text(encoding="utf-8"))
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    copy.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def _python(output: Path, module: str, *arguments: str | Path) -> None:
    """Run `python -m module arguments` on this checkout; its messages are shown only if it fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    # kernels start in notebooks/, where another installed llmamdahl would come before this checkout
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "LLMAMDAHL_OUTPUT": str(output), "PYTHONPATH": path}
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True)


def execute_all(notebooks: Sequence[Path], output: Path, keep_going: bool) -> dict[str, float]:
    """Run notebooks one after the other; return the seconds of each that finished, by name.

    A notebook that fails ends the program, unless `keep_going`.
    """
    seconds = {}
    # not in parallel: kernels that start at the same moment may take the same port
    for notebook in tqdm(notebooks, unit="notebook", disable=None):
        try:
            seconds[notebook.stem] = execute(notebook, output)
        except subprocess.CalledProcessError as error:
            if not keep_going:
                where = f"{notebook.relative_to(ROOT)} failed; the executed copy is in {BUILD.relative_to(ROOT)}/"
                sys.exit(f"{error.stderr}\n{where}")
    return seconds


def print_items(seconds: dict[str, float]) -> None:
    """Print one line for each paper item: what was checked and agrees, and the seconds of its notebook."""
    row = "{:<10} {:>11} {:>16} {:>8}  {:<22} {}".format
    print(row("item", "cells agree", "statements hold", "seconds", "notebook", "known differences"))
    for item in paper_items().to_dict("records"):
        cells, statements = (
            f"{item[f'{kind}_agreeing']} of {item[kind]}" if item[kind] else "-" for kind in ("cells", "statements")
        )
        notebook = item["notebook"].removesuffix(".ipynb")
        took = f"{seconds[notebook]:.1f}" if notebook in seconds else "failed"
        print(row(item["item"], cells, statements, took, notebook, item["known_differences"]))


def store_is_reproduced() -> bool:
    """Simulate eight random rows of the store again, and print them."""
    print("\nEight random rows of the store, simulated again with SCALE-Sim:")
    try:
        return recheck()
    except InputError as error:
        print(error)
        return False


def main() -> None:
    """`python -m compendium.reproduce [--verify | --accept]`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--verify", action="store_true", help="write into build/verify/ and compare with the commit")
    choice.add_argument("--accept", action="store_true", help="replace notebooks/ by the executed copies")
    options = parser.parse_args()
    start = time.perf_counter()
    output = VERIFIED if options.verify else OUTPUT
    if options.verify:
        against, files = verify.committed()  # before any notebook writes
        shutil.rmtree(VERIFIED, ignore_errors=True)
    start_here, *others = sorted(NOTEBOOKS.glob("*.ipynb"))
    notebooks = [*others, start_here]  # the map in notebook 00 reads the results of the others
    # verify names the cell that failed, together with all other differences
    seconds = execute_all(notebooks, output, keep_going=options.verify)
    print_items(seconds)
    same = store_is_reproduced()
    print(f"\nEverything above took {time.perf_counter() - start:.0f} s.")
    if options.verify:
        copies = {BUILD / notebook.name: notebook.stem in seconds for notebook in notebooks}
        if faults := verify.faults(files, copies, VERIFIED):
            sys.exit(f"\nDifferences from {against}:\n" + "\n".join(faults))
        print(f"Notebooks, results and figure data are byte for byte those of {against}.")
    if not same:
        sys.exit("SCALE-Sim and the store disagree; the rows are above")
    if options.accept:
        for notebook in notebooks:
            shutil.copyfile(BUILD / notebook.name, notebook)


if __name__ == "__main__":
    main()
