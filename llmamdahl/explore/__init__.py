"""The panel for JupyterLab, or as a page of its own (`python -m llmamdahl.explore`)."""

from llmamdahl.explore.asked import Answer, Asked
from llmamdahl.explore.panel import Panel

__all__ = ["Answer", "Asked", "Panel"]
