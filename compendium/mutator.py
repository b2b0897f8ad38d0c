"""Mutants of a Python file: small wrong changes, each of which a test should notice.

The operators are those of mutation testing: the bound of a comparison, an arithmetic operator, a constant, a negated
condition, `and` and `or`, a dropped statement, keyword or return value, and the values that a message names. Nothing
is changed in docstrings, annotations, decorators, `if TYPE_CHECKING`, `__all__`, or texts (strings with a space).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from itertools import pairwise
from typing import NamedTuple

OPERATORS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.In: ("in", "not in"), ast.NotIn: (r"not\s+in", "in"),
    ast.Is: ("is", "is not"), ast.IsNot: (r"is\s+not", "is"),
    ast.And: ("and", "or"), ast.Or: ("or", "and"),
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "//"), ast.Pow: ("**", "*"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"),
    ast.LShift: ("<<", ">>"), ast.RShift: (">>", "<<"), ast.MatMult: ("@", "*"),
}  # fmt: skip
"""How an operator is written, and what it becomes."""

ALWAYS_EQUIVALENT = {"strict", "encoding"}
"""Keywords that are not mutated: `strict` of `zip` checks the code itself, and UTF-8 is the default here."""


class Mutant(NamedTuple):
    """Bytes `start` to `end` of a file become `text`."""

    file: str
    start: int
    end: int
    text: str
    lines: range
    """Lines of the statement, or of the head of the compound statement, that is changed."""

    def applied(self, source: str) -> str:
        """The file with the change."""
        data = source.encode()
        return (data[: self.start] + self.text.encode() + data[self.end :]).decode()

    def shown(self, source: str) -> tuple[str, str]:
        """The changed lines before and after, each as one line of text."""
        data = source.encode()
        first = data.rfind(b"\n", 0, self.start) + 1
        last = (data + b"\n").index(b"\n", max(self.start, self.end - 1))
        after = data[first : self.start] + self.text.encode() + data[self.end : last]
        before, changed = (" ".join(part.decode().split()) for part in (data[first:last], after))
        return before, changed


def mutants(file: str, source: str) -> list[Mutant]:
    """All mutants of a file, in the order of its text.

    >>> for mutant in mutants("a.py", "def half(n):\\n    return n / 2\\n"):
    ...     print(*mutant.shown("def half(n):\\n    return n / 2\\n"), sep=" -> ")
    return n / 2 -> return None
    return n / 2 -> return n * 2
    return n / 2 -> return n / 1
    return n / 2 -> return n / 3
    """
    tree = ast.parse(source)
    return sorted(set(_Mutator(file, source).statements(tree.body)), key=lambda mutant: mutant[:4])


def valid(mutant: Mutant, source: str) -> bool:
    """Whether the mutant is Python, and another program than the file."""
    try:
        return _dumped(mutant.applied(source)) != _dumped_once(source)
    except SyntaxError:
        return False


def _dumped(source: str) -> str:
    return ast.dump(ast.parse(source))


_dumped_once = cache(_dumped)  # the file is that of many mutants


class _Mutator:
    def __init__(self, file: str, source: str):
        self.file = file
        self.data = source.encode()
        self.starts = [0, *(place + 1 for place, byte in enumerate(self.data) if byte == ord("\n"))]
        self.lines = range(0)

    def place(self, line: int | None, column: int | None) -> int:
        assert line is not None and column is not None
        return self.starts[line - 1] + column

    def span(self, node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        return self.place(node.lineno, node.col_offset), self.place(node.end_lineno, node.end_col_offset)

    def change(self, start: int, end: int, text: str) -> Mutant:
        return Mutant(self.file, start, end, text, self.lines)

    def replaced(self, node: ast.expr | ast.stmt, text: str) -> Mutant:
        return self.change(*self.span(node), text)

    def statements(self, body: list[ast.stmt]) -> Iterator[Mutant]:
        for statement in body:
            inner = getattr(statement, "body", None)
            last = inner[0].lineno - 1 if inner else statement.end_lineno or 0
            self.lines = range(statement.lineno, max(last, statement.lineno) + 1)
            if not _skipped(statement):
                yield from self.statement(statement)

    def statement(self, node: ast.stmt) -> Iterator[Mutant]:
        if _droppable(node):
            yield self.replaced(node, "pass")
        match node:
            case ast.Return(value=ast.expr() as value) if not _is_none(value):
                yield self.replaced(node, "return None")
            case ast.Break():
                yield self.replaced(node, "continue")
            case ast.Continue():
                yield self.replaced(node, "break")
            case ast.AugAssign(op=operator) if type(operator) in OPERATORS:
                yield from self.operator(operator, self.span(node.target)[1], self.span(node.value)[0])
            case ast.If(test=test) | ast.While(test=test) | ast.Assert(test=test):
                yield self.negated(test)
        match node:
            case ast.FunctionDef(args=arguments, body=body):
                for default in [*arguments.defaults, *arguments.kw_defaults]:
                    if default is not None:
                        yield from self.expression(default)
                yield from self.statements(body)
            case ast.AnnAssign(value=assigned):  # and not its annotation
                yield from self.any(assigned)
            case _:
                for field, value in ast.iter_fields(node):
                    if field in ("decorator_list", "bases", "targets", "target"):
                        continue
                    for each in value if isinstance(value, list) else [value]:
                        yield from self.any(each)

    def any(self, node: object) -> Iterator[Mutant]:
        match node:
            case ast.stmt():
                yield from self.statements([node])
            case ast.expr():
                yield from self.expression(node)
            case ast.ExceptHandler(body=body) | ast.match_case(body=body):
                yield from self.statements(body)
            case ast.withitem(context_expr=expression) | ast.keyword(value=expression):
                yield from self.expression(expression)

    def expression(self, node: ast.expr) -> Iterator[Mutant]:
        match node:
            case ast.JoinedStr():
                yield from self.values_named(node)
                return
            case ast.Subscript(value=ast.Name(id="Literal")) | ast.Lambda(body=ast.Constant(value=None)):
                return
            case ast.Call(func=ast.Name(id="cast" | "TypeVar" | "isinstance")):
                return
            case ast.Constant(value=value):
                yield from (self.replaced(node, text) for text in _other_constants(value))
            case ast.Compare(left=left, ops=operators, comparators=rights):
                for operator, first, second in zip(operators, [left, *rights], rights, strict=False):
                    yield from self.operator(operator, self.span(first)[1], self.span(second)[0])
            case ast.BoolOp(op=operator, values=values):
                for first, second in pairwise(values):
                    yield from self.operator(operator, self.span(first)[1], self.span(second)[0])
            case ast.BinOp(left=left, op=operator, right=right):
                yield from self.operator(operator, self.span(left)[1], self.span(right)[0])
            case ast.UnaryOp(operand=operand):
                start, end = self.span(operand)
                yield self.replaced(node, self.data[start:end].decode())
            case ast.IfExp(test=test):
                yield self.negated(test)
            case ast.Call(keywords=keywords):
                yield from (self.without(each) for each in keywords if each.arg and each.arg not in ALWAYS_EQUIVALENT)
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.keyword(arg=str() as name) if name in ALWAYS_EQUIVALENT:
                    pass
                case ast.comprehension(iter=iterated, ifs=conditions):
                    yield from self.expression(iterated)
                    for condition in conditions:
                        yield self.negated(condition)
                        yield from self.expression(condition)
                case _:
                    yield from self.any(child)

    def operator(self, operator: ast.AST, start: int, end: int) -> Iterator[Mutant]:
        """The operator that stands between two operands, becoming another one."""
        written, other = OPERATORS[type(operator)]
        pattern = written if written[0].isalpha() else re.escape(written)
        found = re.search(pattern.encode(), self.data[start:end])
        if found:
            yield self.change(start + found.start(), start + found.end(), other)

    def negated(self, test: ast.expr) -> Mutant:
        start, end = self.span(test)
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self.replaced(test, ast.unparse(test.operand))
        return self.replaced(test, f"(not ({self.data[start:end].decode()}))")

    def without(self, keyword: ast.keyword) -> Mutant:
        """A call without a keyword and one of the commas beside it."""
        start, end = self.span(keyword)
        after = re.match(rb"\s*,\s*", self.data[end:])
        before = re.search(rb",\s*$", self.data[:start])
        if after:
            end += after.end()
        elif before:
            start = before.start()
        return self.change(start, end, "")

    def values_named(self, node: ast.JoinedStr) -> Iterator[Mutant]:
        """A message that does not name one of its values. Python 3.11 has no places inside an f-string."""
        for place, part in enumerate(node.values):
            if isinstance(part, ast.FormattedValue):
                other = deepcopy(node)
                del other.values[place]
                yield self.replaced(node, ast.unparse(other))


def _skipped(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom() | ast.Pass():
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Compare(left=ast.Name(id="__name__"))):
            return True
        case ast.AnnAssign(annotation=ast.Name(id="TypeAlias")) | ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
    return False


def _droppable(node: ast.stmt) -> bool:
    match node:
        case ast.Raise() | ast.Delete() | ast.AugAssign() | ast.Expr(value=ast.Call()):
            return True
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            return True
    return False


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _other_constants(value: object) -> list[str]:
    match value:
        case bool():
            return [str(not value)]
        case int():
            return [str(value + 1), str(value - 1)]
        case float():  # of a large one, 1 more or less is within rounding
            return [repr(value + 1), repr(value - 1)] if abs(value) < 1000 else [repr(value * 2), repr(value / 2)]
        case str() if " " not in value:
            return [repr("XX" + value)]
    return []
