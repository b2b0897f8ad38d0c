"""What only this repository needs: `make reproduce`, `verify`, `docs`, `mutants`, `synthesize`, `bench`."""

import sys
from pathlib import Path
from types import TracebackType

from llmamdahl.tables import ROOT

HERE = Path(__file__).resolve().parents[1]

if HERE != ROOT:
    sys.exit(f"this is the checkout {HERE}, but Python loads the llmamdahl of {ROOT}; use make, or PYTHONPATH={HERE}")

# nbformat imports it for a check of IRIs that no notebook needs, and it takes a second to build its grammars
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # so that importing it fails


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report Ctrl-C in one line, also while the libraries are imported; every other error as Python does."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _one_line
