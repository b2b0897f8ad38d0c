"""The command line, `llmamdahl`."""

from llmamdahl.cli.commands import main

__all__ = ["main"]
