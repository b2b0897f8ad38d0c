"""What a caller can catch, and the checks that raise it."""

from __future__ import annotations

import difflib
import operator
from pathlib import Path
from typing import Any

import numpy as np

INT64_MAX = 2**63 - 1
"""The largest count: arrays of counts are int64."""

MAX_BITS = 1000
"""Of a whole number: any size that means something has fewer, and Python prints the product of several such sizes."""


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


def shown(value: object) -> str:
    """`value` as a message quotes it: of a long one the beginning, and the kind of one that Python does not print."""
    try:
        text = repr(value)
    except ValueError:  # an int of more than 4300 digits, or something that holds one
        return f"{type(value).__name__} that is too long to print"
    return text if len(text) <= 300 else f"{text[:300]}..."


def positive_int(field: str, value: object) -> int:
    """`value` as an int >= 1; booleans, floats (2.0 too) and NaN are refused, never rounded."""
    return _at_least(1, field, value, "a positive whole number")


def whole_number(field: str, value: object) -> int:
    """`value` as an int >= 0, refused as by `positive_int`."""
    return _at_least(0, field, value, "a whole number >= 0")


def _at_least(least: int, field: str, value: object, right: str) -> int:
    try:
        number = -1 if isinstance(value, bool) or np.ma.is_masked(value) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < least:
        raise InputError(f"{field}: {shown(value)} is not {right}")
    if number.bit_length() > MAX_BITS:
        raise InputError(f"{field}: a number of {number.bit_length()} bits is too large; {MAX_BITS} bits are the most")
    return number


def one_of(field: str, value: object, choices: tuple[str, ...]) -> str:
    """`value` if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{field}: {shown(value)} is unknown; known: {', '.join(choices)}")
    return str(value)


def unknown(field: str, value: object, choices: list[str], hint: str = "") -> InputError:
    """The error for a `value` that is none of `choices`: it has the nearest of them, or all if none is near."""
    near = difflib.get_close_matches(str(value).casefold(), [choice.casefold() for choice in choices], 3, 0.5)
    named = [choice for folded in near for choice in choices if choice.casefold() == folded]
    help_ = f"did you mean {', '.join(named)}?" if named else f"known: {', '.join(choices)}"
    return InputError(f"{field}: {shown(value)} is unknown; {help_}" + (f" Or give {hint}" if hint else ""))


def is_number(value: object) -> bool:
    """Whether `value` is an int or a float; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def instance(field: str, value: object, kind: type) -> None:
    """Refuse a `value` that is not of this `kind`."""
    if not isinstance(value, kind):
        raise InputError(f"{field}: {shown(value)} is not a {kind.__name__}")


def listed(field: str, values: object, distinct: bool = True) -> list[Any]:
    """`values` as a list of at least one value, no two alike if `distinct`; a string or a single value is no list."""
    found = sequence(field, values)
    if not found:
        raise InputError(f"{field}: nothing is listed; give at least one")
    for value in found if distinct else ():
        try:
            number = found.count(value)
        except (ArithmeticError, TypeError, ValueError):  # of an array, and others that are neither equal nor not
            raise InputError(f"{field}: {shown(value)} is not a single value; list single ones") from None
        if number > 1:
            raise InputError(f"{field}: {shown(value)} is listed {number} times; list it once")
    return found


def sequence(field: str, values: object) -> list[Any]:
    """`values` as a list; a single value, a string or bytes are none."""
    try:
        return list(None if isinstance(values, str | bytes) else values)  # type: ignore[call-overload, no-any-return]
    except TypeError:
        raise InputError(f"{field}: {shown(values)} is not a list; write [{shown(values)}]") from None
