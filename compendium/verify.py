"""`make verify`: every difference between the committed and the reproduced files, by file, cell and value."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import takewhile, zip_longest
from pathlib import Path

from llmamdahl.errors import InputError
from llmamdahl.scalesim.store import rebuild_store
from llmamdahl.tables import ROOT, Row

FOLDERS = ("compendium", "data", "figures", "llmamdahl", "notebooks")
PICTURES = (".png", ".svg")
"""Folders to compare, without their PNGs: a figure is compared by its CSV, and notebooks hold their pictures."""

SHOWN = 5
"""How many differences of one file are listed; the rest are counted."""


def committed(root: Path = ROOT) -> tuple[str, dict[Path, bytes]]:
    """The files to compare with, and a name for them: git's last commit or, if there is none, the files on disk."""
    command = ["git", "-C", str(root), "archive", "HEAD", *FOLDERS]
    done = subprocess.run(command, capture_output=True) if shutil.which("git") else None
    if not done or done.returncode:
        return "the files before this run (git has no commit here)", on_disk(root)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        files = {Path(item.name): archive.extractfile(item) for item in archive if item.isfile()}
    kept = {path: file.read() for path, file in files.items() if file and path.suffix not in PICTURES}
    return "the last commit", kept


def on_disk(root: Path) -> dict[Path, bytes]:
    """The files of `FOLDERS` under `root`, by their path relative to it; hidden files are left out."""
    found = (path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file())
    files = {path.relative_to(root): path for path in found if path.suffix not in PICTURES}
    hidden = (".", "__pycache__")  # drafts, checkpoints
    return {
        path: file.read_bytes() for path, file in files.items() if not any(p.startswith(hidden) for p in path.parts)
    }


def moved(old: dict[Path, bytes], new: dict[Path, bytes]) -> list[str]:
    """The differences between two sets of files, one a line, at most `SHOWN` a file; empty only if all are equal."""
    found = []
    for path in sorted(old.keys() | new.keys()):
        if path not in new or path not in old:
            found.append(f"{path}: {'is missing' if path in old else 'is new'}")
        elif old[path] != new[path]:
            changes = list(_changes(path, old[path].decode(errors="replace"), new[path].decode(errors="replace")))
            # such as a different line ending, or a missing newline at the end
            changes = changes or ["differs in bytes that are in no cell and no line"]
            found += [f"{path}, {change}" for change in changes[:SHOWN]]
            found += [f"{path}: and {len(changes) - SHOWN} more"] * (len(changes) > SHOWN)
    return found


def _changes(path: Path, old: str, new: str) -> list[str]:
    """Differences of one file, in the terms of its kind; as lines if those show none."""
    by_kind = {".csv": _of_table, ".ipynb": _of_notebook}.get(path.suffix, _of_lines)
    return list(by_kind(old, new)) or list(_of_lines(old, new))


def _of_table(old: str, new: str) -> Iterator[str]:
    """Changed cells of a CSV: each with its line, the leading cells that identify its row, and its column."""
    before, after = (list(csv.reader(text.splitlines())) for text in (old, new))
    if before[:1] != after[:1] or [*map(len, before)] != [*map(len, after)]:
        yield from _of_lines(old, new)  # cells cannot be paired
        return
    header, *rows = before
    # the fewest leading columns that no two rows have in common
    distinct = (n for n in range(1, len(header)) if len({tuple(row[:n]) for row in rows}) == len(rows))
    width = next(distinct, len(header))
    for line, (was, now) in enumerate(zip(before, after, strict=True), start=1):
        row = ", ".join(f"{name}={cell[:30]}" for name, cell in zip(header[:width], was, strict=False))
        for name, one, other in zip(header, was, now, strict=False):
            if one != other:
                yield f"line {line} ({row}), {name}: {_arrow(one, other)}"


def _of_notebook(old: str, new: str) -> Iterator[str]:
    """Changed cells of a notebook: each with its place, counted from 1, and its execution count."""
    try:
        before, after = ({cell["id"]: cell for cell in json.loads(text)["cells"]} for text in (old, new))
    except (ValueError, KeyError, TypeError):
        return  # not a notebook: `_changes` compares its lines
    for number, (key, cell) in enumerate(before.items(), start=1):
        name = f"cell {number}" + (f" [{cell['execution_count']}]" if cell.get("execution_count") else "")
        if key not in after:
            yield f"{name}: is missing"
            continue
        was, now = _by_kind(cell), _by_kind(after[key])
        for kind in was.keys() | now.keys() if was != now else ():
            one, other = was.get(kind, ""), now.get(kind, "")
            if kind.startswith("image/") and one != other:
                yield f"{name}, output: another picture"
            # a table is in the output twice, as HTML and as text: once is enough
            elif kind != "text/html" or was.get("text/plain") == now.get("text/plain"):
                yield from (f"{name}, {kind}, {change}" for change in _of_lines(one, other))
    yield from (f"cell {number}: is new" for number, key in enumerate(after, start=1) if key not in before)


def _by_kind(cell: Row) -> dict[str, str]:
    """The content of a cell as text: its source, its outputs by MIME type, and the rest."""
    kinds = {"source": "".join(cell["source"])}
    for output in cell.get("outputs", []):
        data = output.get("data") or {output["output_type"]: output.get("text", output.get("evalue", ""))}
        for kind, text in data.items():
            shown = "".join(text) if isinstance(text, str | list) else json.dumps(text, sort_keys=True)
            kinds[kind] = kinds.get(kind, "") + shown + "\n"
    rest = {name: value for name, value in cell.items() if name not in ("source", "outputs")}
    return {**kinds, "the rest of the cell": json.dumps(rest, indent=1, sort_keys=True)}


def _of_lines(old: str, new: str) -> Iterator[str]:
    """Changed lines, each with its number in the old text."""
    before, after = old.splitlines(), new.splitlines()
    for tag, start, end, first, last in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag != "equal":
            for at, (one, other) in enumerate(zip_longest(before[start:end], after[first:last]), start=start + 1):
                yield f"line {at}: {_arrow(one, other)}"


def _arrow(old: str | None, new: str | None, width: int = 70) -> str:
    """`old -> new`; of long texts, the part where they first differ."""
    if old is None or new is None:
        return f"{_quoted(old, 0, width)} -> {_quoted(new, 0, width)}"
    # padding of a text table moves with every change: show it only if nothing else differs
    flat = " ".join(old.split()), " ".join(new.split())
    one, other = flat if flat[0] != flat[1] else (old, new)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    start = max(0, alike - 20) if max(len(one), len(other)) > width else 0
    return f"{_quoted(one, start, width)} -> {_quoted(other, start, width)}"


def _quoted(text: str | None, start: int, width: int) -> str:
    return "nothing" if text is None else repr(text[start : start + width])


def faults(files: dict[Path, bytes], copies: Sequence[Path], stopped: Sequence[str], output: Path) -> list[str]:
    """All differences from the committed files: those on disk, and those that this run made.

    Parameters
    ----------
    files
        The committed files.
    copies
        The executed notebooks that ran to the end.
    stopped
        Why the others did not, one line each.
    output
        The folder into which the notebooks wrote.
    """
    found = [f"on disk: {change}" for change in moved(files, on_disk(ROOT))]
    try:
        rebuild_store(output / "data" / "scalesim")
    except InputError as error:
        found.append(f"reproduced: the store: {error}")
    found += [f"reproduced: {line}" for line in sorted(stopped)]
    made = on_disk(output) | {Path("notebooks") / copy.name: copy.read_bytes() for copy in copies}
    due = made.keys() & files.keys()
    # a notebook that stopped is listed already, without the files it has not written
    if not stopped:
        due |= {path for path in files if path.parts[0] == "figures" or "agreement" in path.parts}
    return found + [f"reproduced: {change}" for change in moved({path: files[path] for path in due}, made)]
