"""What a caller can catch, and the checks that raise it."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

INT64_MAX = 2**63 - 1
"""The largest count: arrays of counts are int64."""

MAX_BITS = 1000
"""Most bits of a whole number: real sizes have far fewer, and Python can print the product of several such numbers."""

MAX_SHOWN = 300
"""Characters of a value, or of a list of choices, that a message quotes."""


class InputError(ValueError):
    """A value that cannot be used; the message names the field, the value and what would be right.

    >>> from llmamdahl import amdahl
    >>> amdahl.ceiling(1.5)
    Traceback (most recent call last):
    llmamdahl.errors.InputError: fraction: 1.5 is not between 0 and 1
    """


class CountOverflowError(InputError, OverflowError):
    """A count that does not fit into a signed 64-bit integer."""


class TableError(InputError):
    """A damaged data file.

    Attributes
    ----------
    path, line
        Where the damage is; `line` counts from 1, and the header is line 1.
    rows
        The good rows before the damage, so that nothing already computed is lost.
    """

    def __init__(self, path: Path, line: int, problem: str, rows: list[dict[str, Any]] | None = None):
        super().__init__(f"{path}, line {line}: {problem}")
        self.path, self.line, self.rows = path, line, rows or []


class CutOffError(TableError):
    """A data file without a newline at its end: its writer was stopped in the middle of the last line."""


def shown(value: object) -> str:
    """`value` as a message quotes it: cut to `MAX_SHOWN`, or only its type where Python cannot print it."""
    try:
        text = repr(value)
    except ValueError:  # an int of more than 4300 digits, or something that holds one
        return f"{type(value).__name__} that is too long to print"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def unknown(field: str, value: object, choices: Iterable[str], hint: str = "") -> InputError:
    """The error for a `value` that is not one of `choices`; the caller raises it.

    Parameters
    ----------
    field
        The argument that the value was given for.
    value
        What was given, of any type.
    choices
        The known values. The message lists all of them if that takes at most `MAX_SHOWN` characters; if not, it
        suggests those that contain the value, or else up to three similar ones. Case is ignored, and so is everything
        up to the last `/` of the value, so that a repository id suggests a name.
    hint
        Advice for a long list of choices without a similar one; by default the message lists the first choices.

    >>> print(unknown("dataflow", "rs", ["os", "ws", "is"]))
    dataflow: 'rs' is unknown; known: os, ws, is
    """
    names = list(choices)
    listed = f"known: {', '.join(names)}"
    if len(listed) <= MAX_SHOWN:
        return InputError(f"{field}: {shown(value)} is unknown; {listed}")
    word = value.rpartition("/")[2].lower() if isinstance(value, str) else ""
    by_lower = {name.lower(): name for name in names}
    # Names are short, and the time that difflib takes grows with the square of the longer one.
    containing = [name for name in by_lower if len(word) > 1 and word in name]
    near = ", ".join(by_lower[name] for name in containing or get_close_matches(word[:MAX_SHOWN], by_lower))
    advice = f"did you mean {near[:MAX_SHOWN]}?" if near else hint or f"{listed[:MAX_SHOWN]}..."
    return InputError(f"{field}: {shown(value)} is unknown; {advice}")


def positive_int(field: str, value: object) -> int:
    """`value` as an int >= 1; booleans, floats (also 2.0) and NaN are rejected, never rounded."""
    return _at_least(1, field, value, "a positive whole number")


def whole_number(field: str, value: object) -> int:
    """`value` as an int >= 0; rejected as by `positive_int`."""
    return _at_least(0, field, value, "a whole number >= 0")


def _at_least(least: int, field: str, value: object, right: str) -> int:
    try:
        counts = type(value) is int or not (isinstance(value, bool) or np.ma.is_masked(value))  # NumPy is slow
        number = operator.index(value) if counts else -1  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < least:
        raise InputError(f"{field}: {shown(value)} is not {right}")
    if number.bit_length() > MAX_BITS:
        raise InputError(f"{field}: a number of {number.bit_length()} bits is too large; at most {MAX_BITS}")
    return number


def one_of(field: str, value: object, choices: tuple[str, ...]) -> str:
    """`value` if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise unknown(field, value, choices)
    return str(value)


def real_number(value: object) -> float | None:
    """A number (also NumPy's) as an int or float; None for a boolean, or for a `value` that a float cannot hold."""
    if not isinstance(value, Real) or isinstance(value, bool | np.timedelta64):
        return None
    number: float | Real = value.item() if isinstance(value, np.generic) else value
    try:
        if not isinstance(number, int | float):  # a Fraction or a long double, which cannot always be printed as floats
            number = float(number)
        return number if math.isfinite(number) else None
    except OverflowError:
        return None


def instance(field: str, value: object, kind: type) -> None:
    """Reject a `value` that is not of this `kind`."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise InputError(f"{field}: {shown(value)} is not {article} {kind.__name__}")


def listed(field: str, values: object, distinct: bool = True) -> list[Any]:
    """`values` as a list of at least one value, no two equal if `distinct`; a string or a single value is rejected."""
    found = sequence(field, values)
    if not found:
        raise InputError(f"{field}: nothing is listed; give at least one")
    if not distinct or _all_differ(found):
        return found
    for value in found:
        try:
            number = found.count(value)
        except (ArithmeticError, TypeError, ValueError):  # arrays and others whose == is not True or False
            raise InputError(f"{field}: {shown(value)} is not a single value; list single values") from None
        if number > 1:
            raise InputError(f"{field}: {shown(value)} is listed {number} times; list it once")
    return found


def _all_differ(values: list[Any]) -> bool:
    """Whether no two are equal, in a time that grows in proportion to their number; False if they have no hash."""
    try:
        return len({*values}) == len(values)
    except TypeError:
        return False


def sequence(field: str, values: object) -> list[Any]:
    """`values` as a list; a single value, a string or bytes are rejected."""
    try:
        return list(None if isinstance(values, str | bytes) else values)  # type: ignore[call-overload, no-any-return]
    except TypeError:
        raise InputError(f"{field}: {shown(values)} is not a list; write [{shown(values)}]") from None
