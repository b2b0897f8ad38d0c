"""`python -m llmamdahl`: the command line."""

from llmamdahl.cli import main

main()
