"""Packages that a program needs besides those of the library; nothing but the standard library is imported here."""

import sys
from importlib.util import find_spec


def require(*names: str, make: str = "extras") -> None:
    """End the program, with one line, if one of these packages is not installed; `make` is the target that does it."""
    if missing := [name for name in names if find_spec(name) is None]:
        sys.exit(f"not installed: {', '.join(missing)}; run `pip install {' '.join(missing)}` or `make {make}`")
