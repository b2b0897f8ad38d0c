"""The panel for JupyterLab."""

from llmamdahl.explore.panel import Answer, Panel, answer

__all__ = ["Answer", "Panel", "answer"]
