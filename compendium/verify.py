"""`make verify`: what does not come out as committed, by file, cell and value."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import takewhile, zip_longest
from pathlib import Path

from llmamdahl.errors import InputError
from llmamdahl.scalesim.store import rebuild_store
from llmamdahl.tables import ROOT, Row

FOLDERS = ("compendium", "data", "figures", "llmamdahl", "notebooks")
"""What is compared, but for PNGs: a figure is its CSV, and a notebook holds its pictures."""

SHOWN = 5
"""Differences of one file that are listed; the rest is counted."""


def committed(root: Path = ROOT) -> tuple[str, dict[Path, bytes]]:
    """The files that others are held to, and their name: git's last commit or, where git has none, what is on disk."""
    command = ["git", "-C", str(root), "archive", "HEAD", *FOLDERS]
    done = subprocess.run(command, capture_output=True) if shutil.which("git") else None
    if not done or done.returncode:
        return "the files as they were (git knows of no commit here)", on_disk(root)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        files = {Path(item.name): archive.extractfile(item) for item in archive if item.isfile()}
    return "the last commit", {path: file.read() for path, file in files.items() if file and path.suffix != ".png"}


def on_disk(root: Path) -> dict[Path, bytes]:
    """The files of `FOLDERS` under `root`, by their path from there."""
    found = (path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file())
    files = {path.relative_to(root): path for path in found if path.suffix != ".png"}
    hidden = (".", "__pycache__")  # drafts, checkpoints
    return {
        path: file.read_bytes() for path, file in files.items() if not any(p.startswith(hidden) for p in path.parts)
    }


def moved(old: dict[Path, bytes], new: dict[Path, bytes]) -> list[str]:
    """The differences of two sets of files, one a line, at most `SHOWN` a file; empty if and only if all are equal."""
    found = []
    for path in sorted(old.keys() | new.keys()):
        if path not in new or path not in old:
            found.append(f"{path}: {'is missing' if path in old else 'is new'}")
        elif old[path] != new[path]:
            changes = list(_changes(path, old[path].decode(errors="replace"), new[path].decode(errors="replace")))
            changes = changes or ["differs in bytes that are no part of a cell or a line"]
            found += [f"{path}, {change}" for change in changes[:SHOWN]]
            found += [f"{path}: and {len(changes) - SHOWN} more"] * (len(changes) > SHOWN)
    return found


def _changes(path: Path, old: str, new: str) -> list[str]:
    by_kind = {".csv": _of_table, ".ipynb": _of_notebook}.get(path.suffix, _of_lines)
    return list(by_kind(old, new)) or list(_of_lines(old, new))


def _of_table(old: str, new: str) -> Iterator[str]:
    """Cells of a CSV, each by its line, its row (the leading columns that tell all rows apart) and its column."""
    before, after = (list(csv.reader(text.splitlines())) for text in (old, new))
    if before[:1] != after[:1] or [*map(len, before)] != [*map(len, after)]:
        yield from _of_lines(old, new)
        return
    header, *rows = before
    apart = (n for n in range(1, len(header)) if len({tuple(row[:n]) for row in rows}) == len(rows))
    width = next(apart, len(header))
    for line, (was, now) in enumerate(zip(before, after, strict=True), start=1):
        row = ", ".join(f"{name}={cell[:30]}" for name, cell in zip(header[:width], was, strict=False))
        for name, one, other in zip(header, was, now, strict=False):
            if one != other:
                yield f"line {line} ({row}), {name}: {_beside(one, other)}"


def _of_notebook(old: str, new: str) -> Iterator[str]:
    """Cells of a notebook, each by its place, counted from 1, and its execution count."""
    try:
        before, after = ({cell["id"]: cell for cell in json.loads(text)["cells"]} for text in (old, new))
    except (ValueError, KeyError, TypeError):
        return
    for number, (key, cell) in enumerate(before.items(), start=1):
        name = f"cell {number}" + (f" [{cell['execution_count']}]" if cell.get("execution_count") else "")
        if key not in after:
            yield f"{name}: is missing"
            continue
        was, now = _seen(cell), _seen(after[key])
        for kind in was.keys() | now.keys() if was != now else ():
            one, other = was.get(kind, ""), now.get(kind, "")
            if kind.startswith("image/") and one != other:
                yield f"{name}, output: another picture"
            elif kind != "text/html" or was.get("text/plain") == now.get("text/plain"):  # the same table, in plain text
                yield from (f"{name}, {kind}, {change}" for change in _of_lines(one, other))
    yield from (f"cell {number}: is new" for number, key in enumerate(after, start=1) if key not in before)


def _seen(cell: Row) -> dict[str, str]:
    """What a cell holds, as text by kind: its source, its outputs by MIME type, and the rest."""
    kinds = {"source": "".join(cell["source"])}
    for output in cell.get("outputs", []):
        data = output.get("data") or {output["output_type"]: output.get("text", output.get("evalue", ""))}
        for kind, text in data.items():
            shown = "".join(text) if isinstance(text, str | list) else json.dumps(text, sort_keys=True)
            kinds[kind] = kinds.get(kind, "") + shown + "\n"
    rest = {name: value for name, value in cell.items() if name not in ("source", "outputs")}
    return {**kinds, "the rest of the cell": json.dumps(rest, indent=1, sort_keys=True)}


def _of_lines(old: str, new: str) -> Iterator[str]:
    before, after = old.splitlines(), new.splitlines()
    for tag, start, end, first, last in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag != "equal":
            for at, (one, other) in enumerate(zip_longest(before[start:end], after[first:last]), start=start + 1):
                yield f"line {at}: {_beside(one, other)}"


def _beside(old: str | None, new: str | None, width: int = 70) -> str:
    """`old -> new`, of long ones the part where they first differ."""
    if old is None or new is None:
        return f"{_quoted(old, 0, width)} -> {_quoted(new, 0, width)}"
    flat = " ".join(old.split()), " ".join(new.split())
    one, other = flat if flat[0] != flat[1] else (old, new)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    start = max(0, alike - 20) if max(len(one), len(other)) > width else 0
    return f"{_quoted(one, start, width)} -> {_quoted(other, start, width)}"


def _quoted(text: str | None, start: int, width: int) -> str:
    return "nothing" if text is None else repr(text[start : start + width])


def stopped_at(copy: Path) -> str:
    """The cell at which an executed copy of a notebook stopped, and the error there."""
    cells = json.loads(copy.read_text(encoding="utf-8"))["cells"] if copy.exists() else []
    for cell in cells:
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                error = " | ".join(output["evalue"].strip().splitlines()[:SHOWN])
                return f"notebooks/{copy.name}, cell [{cell['execution_count']}]: fails: {output['ename']}: {error}"
    return f"notebooks/{copy.name}: did not run to its end"


def faults(files: dict[Path, bytes], copies: dict[Path, bool], output: Path) -> list[str]:
    """What is otherwise than `files`, the committed ones: on the disk, and as reproduced.

    `copies` are the executed notebooks, each with whether it ran to its end; `output` is the folder they wrote into.
    """
    found = [f"on disk: {change}" for change in moved(files, on_disk(ROOT))]
    try:
        rebuild_store(output / "data" / "scalesim")
    except InputError as error:
        found.append(f"reproduced: the store: {error}")
    found += [f"reproduced: {stopped_at(copy)}" for copy, ended in copies.items() if not ended]
    made = on_disk(output) | {Path("notebooks") / copy.name: copy.read_bytes() for copy in copies if copies[copy]}
    due = made.keys() & files.keys()
    if all(copies.values()):  # what a notebook that stopped has not written is no news
        due |= {path for path in files if path.parts[0] == "figures" or "agreement" in path.parts}
    return found + [f"reproduced: {change}" for change in moved({path: files[path] for path in due}, made)]
