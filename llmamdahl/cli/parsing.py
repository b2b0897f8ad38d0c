"""How the command line reads options: their types, and each problem as one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from llmamdahl.errors import InputError

OPTIONS = {
    "clock_mhz": "--clock",
    "dram_gb_s": "--dram",
    "; give each its own `name`": "; leave one out",
    ", or a Decoder": "",
    "give a config.json, its folder, or a dict": "give a config.json or its folder",
}
"""What messages of the library say, and what it is on the command line."""


class Command(click.Command):
    """Reject an option that is given twice and takes one value, of which click keeps the last."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        *_, given = self.make_parser(ctx).parse_args(args=[*args])
        for param, number in Counter(given).items():
            if number > 1 and isinstance(param, click.Option) and not param.multiple:
                names = "/".join(name for name in (*param.opts, *param.secondary_opts) if name.startswith("--"))
                raise InputError(f"{names[2:].partition('/')[0]}: {names} is given {number} times; give it once")
        return super().parse_args(ctx, args)


class Group(click.Group):
    """Show errors of input and files as click shows its own: one line, exit status 1."""

    command_class = Command

    def make_context(self, *args: Any, **others: Any) -> click.Context:
        with _in_one_line():  # --help and --version print here
            return super().make_context(*args, **others)

    def invoke(self, ctx: click.Context) -> Any:
        with _in_one_line():
            return super().invoke(ctx)


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        message = str(error)
        for words, option in OPTIONS.items():
            message = message.replace(words, option)
        raise click.ClickException(message) from None
    except BrokenPipeError:  # the reader of our output has what it needs
        raise
    except OSError as error:
        file = error.filename or "standard output"  # what is printed is the one file without a name
        raise click.ClickException(f"{file}: cannot be read or written ({error.strerror})") from None


class Number(click.ParamType[float]):
    """A number of one type; the message says how it is written."""

    def __init__(self, number: type[int] | type[float], right: str):
        self.number, self.right = number, right
        self.name = "integer" if number is int else "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return self.number(value)
        except ValueError:
            self.fail(f"{value!r} is not {self.right}", param, ctx)


COUNT = Number(int, "a whole number; write its digits and nothing else, as in 32768")
BITS = Number(float, "a number of bits; write one, as in 1.58 for ternary weights")
