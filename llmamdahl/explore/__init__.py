"""The panel for JupyterLab, or as a page of its own (`python -m llmamdahl.explore`)."""

from typing import TYPE_CHECKING, Any

from llmamdahl.explore.asked import Answer, Asked

if TYPE_CHECKING:
    from llmamdahl.explore.panel import Panel

__all__ = ["Answer", "Asked", "Panel"]


def __getattr__(name: str) -> Any:
    """Import the panel when it is first used, so that the page can say that ipywidgets is not installed."""
    if name != "Panel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    from llmamdahl.explore.panel import Panel

    return Panel
