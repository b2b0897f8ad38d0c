"""What a caller can catch, and the checks that raise it."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from pathlib import Path
from typing import Any

INT64_MAX = 2**63 - 1
"""The largest count: arrays of counts are int64."""


class InputError(ValueError):
    """A value that cannot be used; the message names the field, the value and what would be right."""


class CountOverflowError(InputError, OverflowError):
    """A count that does not fit into a signed 64-bit integer."""


class TableError(InputError):
    """A data file that cannot be trusted as it stands.

    Attributes
    ----------
    path, line
        Where the damage is; `line` counts from 1, the header being line 1.
    rows
        What was read before the damage and is good, so that nothing already computed is lost.
    """

    def __init__(self, path: Path, line: int, problem: str, rows: list[dict[str, Any]] | None = None):
        super().__init__(f"{path}, line {line}: {problem}")
        self.path, self.line, self.rows = path, line, rows or []


class CutOffError(TableError):
    """A data file whose last line has no end: its writer was stopped in the middle of it."""


def positive_int(field: str, value: object) -> int:
    """`value` as an int >= 1; booleans, floats (2.0 too) and NaN are refused, never rounded."""
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < 1:
        raise InputError(f"{field}: {value!r} is not a positive whole number")
    return number


def whole_number(field: str, value: object) -> int:
    """`value` as an int >= 0, refused as by `positive_int`."""
    try:
        return 0 if value == 0 and not isinstance(value, bool | float) else positive_int(field, value)
    except InputError:
        raise InputError(f"{field}: {value!r} is not a whole number >= 0") from None


def one_of(field: str, value: object, choices: tuple[str, ...]) -> str:
    """`value` if it is one of `choices`."""
    if value not in choices:
        raise InputError(f"{field}: {value!r} is unknown; known: {', '.join(choices)}")
    return str(value)


def instance(field: str, value: object, kind: type) -> None:
    """Refuse a `value` that is not of this `kind`."""
    if not isinstance(value, kind):
        raise InputError(f"{field}: {value!r} is not a {kind.__name__}")


def listed(field: str, values: object, distinct: bool = True) -> list[Any]:
    """`values` as a list of at least one value, no two alike if `distinct`; a string or a single value is no list."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(f"{field}: {values!r} is not a list; write [{values!r}]")
    found = list(values)
    if not found:
        raise InputError(f"{field}: nothing is listed; give at least one")
    for value in found if distinct else ():
        if found.count(value) > 1:
            raise InputError(f"{field}: {value!r} is listed {found.count(value)} times; list it once")
    return found
