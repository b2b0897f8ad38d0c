"""Read and write the CSV files of `data/`: each cell has a type, and an error names the file and the line."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmamdahl.errors import CutOffError, InputError, TableError, shown

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
"""The checkout, where there is one."""

DATA = PACKAGE / "data" if (PACKAGE / "data").is_dir() else ROOT / "data"
"""In an installed wheel, the tables that come with the package; in a checkout, all of `data/`."""

OUTPUT = (Path.cwd() if DATA.parent == PACKAGE else ROOT) / os.environ.get("LLMAMDAHL_OUTPUT", "")
"""Where figures and results are written: the checkout, or the folder that LLMAMDAHL_OUTPUT names. Without a checkout,
the working folder.
"""
FIGURES = OUTPUT / "figures"
RESULTS = OUTPUT / "data" / "results"

NUMBER = re.compile(r"nan|-?(0|[1-9][0-9]*)(\.[0-9]+)?(e[-+]?[0-9]+)?")
"""A number as Python writes it."""

Row = dict[str, Any]
Columns = Mapping[str, Callable[[str], Any]]
Check = Callable[[Row], object]


def boolean(cell: str) -> bool:
    """`true` or `false`, as the CSV files of `data/` write it."""
    return {"true": True, "false": False}[cell]


def optional_int(cell: str) -> int | None:
    """A whole number, or None for an empty cell."""
    return int(cell) if cell else None


def positive_float(cell: str) -> float:
    """A number above 0 and not infinite."""
    if not 0 < (value := float(cell)) < math.inf:
        raise ValueError
    return value


def optional_float(cell: str) -> float | None:
    """A number above 0 and not infinite, or None for an empty cell."""
    return positive_float(cell) if cell else None


def read_rows(path: Path, columns: Columns, key: Sequence[str] = (), check: Check | None = None) -> list[Row]:
    """The rows of a CSV file, each cell converted by its column's type.

    `check` sees each row, may add to it, and raises an `InputError` if it is not right; with it, there must be a row.

    Raises
    ------
    TableError
        A file that cannot be read, a byte that is not UTF-8, a missing column or one given twice, a cell of the wrong
        type, a number in another form than Python writes it, a row of the wrong length, a line that does not end in a
        newline (the writer was cut off), two rows with the same `key`, or a row that `check` rejects. It names file and
        line, and carries the good rows before that line.
    """
    text = _text(path)
    ended = text.count("\n")
    reader = csv.reader(io.StringIO(text, newline="\n"), strict=True)  # no other character ends a line
    rows: list[Row] = []
    seen: dict[tuple[Any, ...], int] = {}
    try:
        header = next(reader, [])
        _check_header(path, header, columns, text)
        for cells in reader:
            line = reader.line_num
            if line > ended:
                raise CutOffError(path, line, "the last line is cut off (no newline at its end)", rows)
            if len(cells) != len(header):
                raise TableError(path, line, f"{len(cells)} cells where the header has {len(header)}", rows)
            row: Row = {}
            for name, cell in zip(header, cells, strict=True):
                if name in columns:
                    try:
                        row[name] = _value(columns[name], cell)
                    except (ValueError, KeyError) as error:
                        kind = getattr(columns[name], "__name__", "value")
                        right = f"; write {error.right}" if isinstance(error, _SpellingError) else ""
                        problem = f"{name}: {shown(cell)} is not a valid {kind}{right}"
                        raise TableError(path, line, problem, rows) from None
            if key:
                identity = tuple(row[name] for name in key)
                if identity in seen:
                    named = ", ".join(f"{name}={row[name]}" for name in key)
                    raise TableError(path, line, f"duplicate of line {seen[identity]} ({named})", rows)
                seen[identity] = line
            if check:
                try:
                    check(row)
                except InputError as error:
                    raise TableError(path, line, str(error), rows) from None
            rows.append(row)
    except csv.Error as error:  # a quote that is not closed, a cell above 131,072 characters
        if reader.line_num > ended:
            raise CutOffError(path, reader.line_num, f"the last line is cut off ({error})", rows) from None
        raise TableError(path, reader.line_num, f"not a line of CSV: {error}", rows) from None
    if check and not rows:
        raise TableError(path, 2, "no row below the header")
    return rows


def _text(path: Path) -> str:
    """The content of a CSV file."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise TableError(path, line, "a byte that is not UTF-8") from None
    except FileNotFoundError:
        raise TableError(
            path, 1, "no such file; an installed package has some of the tables, a checkout of the repository all"
        ) from None
    except OSError as error:  # a folder, a loop of links, no permission
        raise TableError(path, 1, f"cannot be read ({error.strerror}); a CSV file is needed here") from None
    if text.startswith("\ufeff"):
        raise TableError(path, 1, "a byte order mark before the header; save the file as UTF-8 without it")
    if "\0" in text:
        raise TableError(path, text[: text.index("\0")].count("\n") + 1, "a NUL character; a CSV file has none")
    return text


def _check_header(path: Path, header: list[str], columns: Columns, text: str) -> None:
    twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    missing = [name for name in columns if name not in header]
    if header and "\n" not in text:
        raise TableError(path, 1, "the header is cut off (no newline at its end)")
    if twice:
        raise TableError(path, 1, f"column {', '.join(twice)} occurs twice; name each column once")
    if missing:
        raise TableError(path, 1, f"column {', '.join(missing)} is missing; found {', '.join(header) or 'nothing'}")


class _SpellingError(ValueError):
    """A number that is written in another way than `right`."""

    def __init__(self, right: float):
        self.right = right


def _value(kind: Callable[[str], Any], cell: str) -> Any:
    """A cell's value; `int` and `float` also take 1_000, spaces and the digits of other scripts, which are rejected."""
    value = kind(cell)
    if isinstance(value, int | float) and not isinstance(value, bool) and not NUMBER.fullmatch(cell):
        raise _SpellingError(value)
    return value


def require_value(path: Path, rows: list[Row], column: str, value: object, advice: str = "") -> None:
    """Raise a `TableError` at the first row of `path` where `column` is not `value`; it carries the rows before it."""
    for line, row in enumerate(rows, start=2):
        if row[column] != value:
            raise TableError(path, line, f"{column}: {row[column]} is not {value}{advice}", rows[: line - 2])


def format_row(row: Mapping[str, Any], columns: Iterable[str]) -> list[str]:
    """A row's cells as text: None is empty, booleans are lower case, floats have all their digits."""
    values = (row[name] for name in columns)
    return ["" if each is None else str(each).lower() if isinstance(each, bool) else str(each) for each in values]


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a CSV file in one step: readers see the old file or the new one, even after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(format_row(row, columns) for row in rows)
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)  # still there if the disk was full
