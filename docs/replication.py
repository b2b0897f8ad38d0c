"""Writes the tables of `replication.md` from `data/results/`: `python docs/replication.py`, after `make reproduce`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from llmamdahl.tables import ROOT, Row, read_rows

REPORT = Path(__file__).with_suffix(".md")
RESULTS = ROOT / "data" / "results"
BLOCK = re.compile(r"(<!-- table: ([a-z0-9-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def items() -> str:
    """One row for each item of the paper, and their sum."""
    columns = dict.fromkeys(("item", "about", "notebook"), str)
    counts = ("cells_agreeing", "cells", "statements_agreeing", "statements")
    rows = read_rows(RESULTS / "paper-items.csv", columns | dict.fromkeys(counts, int), key=["item"])
    total = {"item": "All", "about": "", "notebook": ""} | {name: sum(row[name] for row in rows) for name in counts}
    return table(
        ("item", "what", "printed cells that agree", "checks of sentences that hold", "notebook"),
        (
            (
                row["item"],
                row["about"],
                of(row["cells_agreeing"], row["cells"]),
                of(row["statements_agreeing"], row["statements"]),
                row["notebook"][:2],
            )
            for row in [*rows, total]
        ),
    )


def figure_6() -> str:
    """The 84 printed cells of Figure 6: one row for each quantity and context length, one column for each model."""
    cells = {tuple(row["cell"].split(" l=")): row for row in agreement("figure-06") if row["kind"] == "cell"}
    grid = {(quantity, *rest.split()): row for (quantity, rest), row in cells.items()}
    models = list(dict.fromkeys(model for _, _, model in grid))
    lines = dict.fromkeys((quantity, length) for quantity, length, _ in grid)
    return table(
        ("F of", "l", *(model.removeprefix("opt-").upper() for model in models)),
        (
            (quantity.replace("_", " "), length, *(printed_and_ours(grid[quantity, length, model]) for model in models))
            for quantity, length in lines
        ),
    )


def sentences() -> str:
    """The sentences that print a share, with our share to four digits; as printed, it rounds to the printed digits."""
    rows = [row for name in ("figure-04", "figure-06") for row in agreement(name)]
    shares = [row for row in rows if row["criterion"].startswith("rounds to ")]
    lines = []
    for words, group in groupby(shares, key=itemgetter("words")):
        checks = list(group)
        printed = [row["printed"] for row in checks]
        ours = [float(share) + float(row["difference"]) for share, row in zip(printed, checks, strict=True)]
        lines.append(
            (
                words,
                ", ".join(printed),
                ", ".join(f"{share:.4f}" for share in ours),
                ", ".join(row["cell"] for row in checks),
            )
        )
    return table(("sentence", "printed", "ours", "check"), lines)


def disagreeing() -> str:
    """The printed cells that disagree, each with the id of its erratum."""
    rows = [row for path in sorted((RESULTS / "agreement").glob("*.csv")) for row in agreement(path.stem)]
    return table(
        ("item", "cell", "printed", "true", "erratum"),
        (
            (row["item"], row["cell"], row["printed"], row["ours"], row["erratum"])
            for row in rows
            if row["agrees"] != "True"
        ),
    )


def agreement(name: str) -> list[Row]:
    """The rows of one file of `data/results/agreement/`."""
    columns = dict.fromkeys(
        ("item", "kind", "cell", "words", "printed", "criterion", "ours", "difference", "agrees", "erratum"), str
    )
    return read_rows(RESULTS / "agreement" / f"{name}.csv", columns, key=["kind", "cell"])


def printed_and_ours(row: Row) -> str:
    """The printed value, with ours behind it where they differ."""
    return row["printed"] if row["agrees"] == "True" else f"{row['printed']} (ours {row['ours']})"


def of(part: int, whole: int) -> str:
    """`26 of 27`, or a dash where there is nothing to count."""
    return f"{part} of {whole}" if whole else "-"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


TABLES = {"items": items, "figure-6": figure_6, "sentences": sentences, "disagreeing": disagreeing}


def filled(text: str) -> str:
    """`text` with every table between `<!-- table: NAME -->` and `<!-- end -->` made again from the results."""
    return BLOCK.sub(lambda block: f"{block[1]}{TABLES[block[2]]()}{block[3]}", text)


if __name__ == "__main__":
    REPORT.write_text(filled(REPORT.read_text(encoding="utf-8")), encoding="utf-8")
