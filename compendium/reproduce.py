"""`make reproduce`: run every notebook, list every paper item, simulate a sample of the store again."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from compendium import verify
from compendium.command import BUILD, cores, writing
from compendium.notebooks import COPIES, NOTEBOOKS, execute_all
from llmamdahl.errors import InputError, positive_int
from llmamdahl.paper.published import paper_items
from llmamdahl.scalesim.store import recheck
from llmamdahl.tables import OUTPUT

DRAFTS = BUILD / "reproduce"
"""Where notebooks write figures and results, until they have run to their end."""
VERIFIED = BUILD / "verify"
"""Where `--verify` writes them; they are kept for inspection."""


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
    print("Eight random rows of the store, simulated again with SCALE-Sim:")
    try:
        return recheck()
    except InputError as error:
        print(error)
        return False


def publish(folder: Path) -> None:
    """Move every file of `folder` to its place in `OUTPUT`, each in one step."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        place = OUTPUT / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)


def reproduce(jobs: int) -> dict[str, float]:
    """Run every notebook, then put its figures and results in place; return the seconds of each.

    Raises
    ------
    StoppedError
        A notebook did not run to its end; the files of the notebooks that did are in `DRAFTS`.
    """
    start_here, *others = sorted(NOTEBOOKS.glob("*.ipynb"))
    seconds: dict[str, float] = {}
    for notebooks in (others, [start_here]):  # the map in notebook 00 reads the results of the others
        shutil.rmtree(DRAFTS, ignore_errors=True)
        seconds |= execute_all(notebooks, DRAFTS, jobs)[0]
        publish(DRAFTS)
    return seconds


def run(options: argparse.Namespace) -> None:
    """What `main` does, with the lock held."""
    start = time.perf_counter()
    same = store_is_reproduced()  # first: its processes are forked, so there must be no threads yet
    print(flush=True)
    notebooks = sorted(NOTEBOOKS.glob("*.ipynb"))
    if options.verify:
        against, files = verify.committed()  # before any notebook writes
        shutil.rmtree(VERIFIED, ignore_errors=True)
        # all faults are named, so the other notebooks run on; notebook 00 reads the results that are committed
        seconds, stopped = execute_all(notebooks, VERIFIED, options.jobs, keep_going=True)
    else:
        seconds = reproduce(options.jobs)
    print_items(seconds)
    print(f"\nEverything above took {time.perf_counter() - start:.0f} s.")
    if options.verify:
        copies = [COPIES / notebook.name for notebook in notebooks if notebook.stem in seconds]
        if faults := verify.faults(files, copies, list(stopped.values()), VERIFIED):
            sys.exit(f"\nDifferences from {against}:\n" + "\n".join(faults))
        print(f"Notebooks, results and figure data are byte for byte those of {against}.")
    if not same:
        sys.exit("SCALE-Sim and the store disagree; the rows are above")
    if options.accept:
        for notebook in notebooks:
            draft = notebook.with_name(f".{notebook.name}")
            shutil.copyfile(COPIES / notebook.name, draft)
            draft.replace(notebook)


def main() -> None:
    """`python -m compendium.reproduce [--verify | --accept] [--jobs N]`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--verify", action="store_true", help="write into build/verify/ and compare with the commit")
    choice.add_argument("--accept", action="store_true", help="replace notebooks/ by the executed copies")
    parser.add_argument("--jobs", type=int, help="how many notebooks run at a time; by default one for each core")
    options = parser.parse_args()
    with writing():
        options.jobs = cores() if options.jobs is None else positive_int("jobs", options.jobs)
        run(options)


if __name__ == "__main__":
    main()
