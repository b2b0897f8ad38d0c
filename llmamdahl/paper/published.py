"""The paper's printed values (`data/published/`), and the map of its tables and figures (notebook 00)."""

from __future__ import annotations

import re

import pandas as pd

from llmamdahl.tables import DATA, RESULTS, Row, read_rows

PUBLISHED = DATA / "published"
RECORDED = DATA / "results" / "agreement"
COLUMNS = ["item", "kind", "cell", "words", "printed", "criterion", "ours", "difference", "agrees", "erratum"]
"""Columns of an agreement table: `kind` is `cell` (of a table or figure) or `statement` (of the text, in `words`).

`printed` is empty where the paper prints no number; then the number in `criterion` is this project's.
"""


def as_printed(fraction: float) -> str:
    """F as Figure 6 prints it: rounded to four decimals, then to three, as a binary float.

    This rule gives all 84 printed cells. In seven of them the fourth decimal is a 5, and whether the float is below it
    (0.8055) or above it (0.9915) decides. In decimal arithmetic, where these are ties, rounding half up gives 82 cells
    and half to even 81; rounding once gives 80 (notebook 03).

    >>> as_printed(0.80554)
    '0.805'
    """
    return f"{round(float(fraction), 4):.3f}"


def printed_rows(name: str, columns: str, key: list[str]) -> list[Row]:
    """`data/published/NAME.csv`, every cell as the printed string."""
    return read_rows(PUBLISHED / f"{name}.csv", dict.fromkeys(columns.split(), str), key)


def table1() -> pd.DataFrame:
    """Table 1 as printed: `rows x inner` times `inner x columns`, per block or per head."""
    return pd.DataFrame(printed_rows("table1", "block name rows inner columns per source", ["name"]))


def table3() -> pd.DataFrame:
    """Table 3 as printed, MB as kB."""
    columns = "array rows cols ifmap_sram_kb ofmap_sram_kb filter_sram_kb source"
    return pd.DataFrame(printed_rows("table3", columns, ["array"]))


def figure6() -> pd.DataFrame:
    """The 84 cells of Figure 6 as strings: metric, context_length, model, printed."""
    types = {"metric": str, "context_length": int, "model": str, "printed": str}
    return pd.DataFrame(read_rows(PUBLISHED / "figure6.csv", types, ["metric", "context_length", "model"]))


def statements() -> pd.DataFrame:
    """The paper's sentences that can be checked, and how each is checked.

    `asserts` is `magnitude` for a printed number and `kind` for a sentence about which part matters.
    """
    columns = "id item section words short asserts array metric part models context_lengths statistic relation"
    columns += " printed reading"
    return pd.DataFrame(printed_rows("statements", columns, ["id"]))


def errata() -> pd.DataFrame:
    """Errors of the paper (kind `error`), miscounts of the `simulator`, and what the paper leaves `open`."""
    return pd.DataFrame(printed_rows("errata", "id kind item cells printed true evidence notebook", ["id"]))


def record(table: pd.DataFrame) -> pd.DataFrame:
    """Write an agreement table to `data/results/agreement/`, one file an item, and return it; notebook 00 reads it."""
    folder = RESULTS / "agreement"
    folder.mkdir(parents=True, exist_ok=True)
    for item, rows in table.groupby("item"):
        rows.to_csv(folder / f"{slug(str(item))}.csv", index=False, lineterminator="\n")
    return table


def slug(item: str) -> str:
    """The stem of an item's files.

    >>> slug("Figure 6")
    'figure-06'
    """
    word, number = item.lower().split()
    return f"{word}-{int(number):02d}"


def recorded() -> pd.DataFrame:
    """All agreement tables that the notebooks have written, as one table."""
    paths = [RECORDED / f"{slug(item['item'])}.csv" for item in _items()]
    rows = [row for path in paths if path.exists() for row in read_rows(path, dict.fromkeys(COLUMNS, str))]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.assign(agrees=table.agrees == "True")


def paper_items() -> pd.DataFrame:
    """The map: one row for each table or figure of the paper.

    Returns
    -------
    DataFrame
        item, about, notebook, png, csv, agreement (paths, empty where there is no such file), cells and statements
        (numbers checked), cells_agreeing and statements_agreeing, known_differences (ids of `errata`).
    """
    notes, checked = errata(), recorded()
    rows: list[Row] = []
    for item in _items():
        noted = [_names(errata_item, item["item"]) for errata_item in notes.item]
        those = checked[checked.item == item["item"]]
        row: Row = {name: item[name] for name in ("item", "about")} | {"notebook": f"{item['notebook']}.ipynb"}
        row |= {end: f"figures/{item['figure']}.{end}" if item["figure"] else "" for end in ("png", "csv")}
        row["agreement"] = f"data/results/agreement/{slug(item['item'])}.csv" if len(those) else ""
        for kind in ("cell", "statement"):
            agrees = those.agrees[those.kind == kind]
            row |= {f"{kind}s": len(agrees), f"{kind}s_agreeing": int(agrees.sum())}
        rows.append({**row, "known_differences": ", ".join(notes.id[noted])})
    return pd.DataFrame(rows)


def record_items() -> pd.DataFrame:
    """Write the map to `data/results/paper-items.csv`, and return it."""
    items = paper_items()
    RESULTS.mkdir(parents=True, exist_ok=True)
    items.to_csv(RESULTS / "paper-items.csv", index=False, lineterminator="\n")
    return items


def _items() -> list[Row]:
    return printed_rows("items", "item notebook figure about", ["item"])


def _names(errata_item: str, item: str) -> bool:
    """Whether "Figures 9 and 10" names "Figure 9"."""
    word, number = item.split()
    return errata_item.startswith(word) and number in re.findall(r"\d+", errata_item)
