"""The mutator makes the mutants it should, a mutant can live, and the recorded result is of this code."""

import subprocess
import sys

import pandas as pd
import pytest

from compendium.mutants import MODULES, REASONS, sampled, write
from compendium.mutator import mutants, valid
from llmamdahl.tables import DATA, ROOT


def changes(source):
    """What each mutant of a file makes of its lines."""
    return [mutant.shown(source)[1] for mutant in mutants("a.py", source)]


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("x = a < b", ["x = a <= b"]),
        ("x = a >= b != c", ["x = a > b != c", "x = a >= b == c"]),
        ("x = a not  in b", ["x = a in b"]),
        ("x = a is b", ["x = a is not b"]),
        ("x = (a + b) * c", ["x = (a - b) * c", "x = (a + b) / c"]),
        ("x = a // b % c", ["x = a / b % c", "x = a // b // c"]),
        ("x = -a", ["x = a"]),
        ("x = a and b and c", ["x = a or b and c", "x = a and b or c"]),
        ("x = [1, 0.5, 1e9]", ["x = [2, 0.5, 1e9]", "x = [0, 0.5, 1e9]", "x = [1, 1.5, 1e9]", "x = [1, -0.5, 1e9]",
                               "x = [1, 0.5, 2000000000.0]", "x = [1, 0.5, 500000000.0]"]),
        ("x = True", ["x = False"]),
        ("x = 'word'", ["x = 'XXword'"]),
        ("x = f(a, key=b)", ["x = f(a)"]),
        ("x = f(key=b, **c)", ["x = f(**c)"]),
        ("x = a if b else c", ["x = a if (not (b)) else c"]),
        ("x = [a for a in b if not a]", ["x = [a for a in b if a]"]),
        ("x = f'{a} of {b}'", ["x = f'{a} of '", "x = f' of {b}'"]),
        ("f(x)", ["pass"]),
        ("x += a", ["pass", "x -= a"]),
        ("x.y = a", ["pass"]),
        ("raise a", ["pass"]),
        ("assert a", ["assert (not (a))"]),
        ("é = a < b", ["é = a <= b"]),  # places are those of bytes
    ],
)  # fmt: skip
def test_each_operator(line, becomes):
    assert sorted(changes(line)) == sorted(dict.fromkeys(becomes))
    assert all(valid(mutant, line) for mutant in mutants("a.py", line))


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""\n',
        "def f(a: 'A < B' = None) -> 'A':\n    '''Of f.'''\n",
        "X: TypeAlias = int | list[int]\nY: Literal['a']\nZ = Literal['a']\n",
        "if TYPE_CHECKING:\n    x = 1\n",
        "if __name__ == '__main__':\n    x = 1\n",
        "__all__ = ['a']\n",
        "@decorated(slots=True)\nclass C(Base):\n    pass\n",
        "x = zip(a, b, strict=True)\n",
        "x = 'a text of several words'\n",
        "from a import b\n",
    ],
)
def test_what_is_no_program_is_not_changed(source):
    assert changes(source) == []


def test_functions_methods_and_fields_are_changed():
    source = """\
@dataclass
class C:
    a: int = 1

    def f(self, b=2):
        while b:
            break
        return b
"""
    fields, body = ["a: int = 0", "a: int = 2"], ["while (not (b)):", "continue", "return None"]
    assert changes(source) == [*fields, "def f(self, b=1):", "def f(self, b=3):", *body]
    lines = [(mutant.lines.start, mutant.lines.stop - 1) for mutant in mutants("a.py", source)]
    assert lines == [(3, 3), (3, 3), (5, 5), (5, 5), (6, 6), (7, 7), (8, 8)]


def test_a_mutant_that_is_no_python_or_the_same_is_not_taken():
    source = "x = a // (\n    # a comment // here\n    b)\n"
    mutant = mutants("a.py", source)[0]
    assert valid(mutant, source)
    assert not valid(mutant._replace(text="//"), source)
    assert not valid(mutant._replace(text="/ /"), source)


def test_a_mutant_survives_no_tests_and_dies_of_real_ones():
    code = """
from pathlib import Path
from tempfile import TemporaryDirectory
from compendium import mutants as module
from compendium.mutants import Copy, Mutant, chosen, mutants
from llmamdahl.tables import ROOT

module.PATIENCE = 1
file = "llmamdahl/amdahl.py"
source = (ROOT / file).read_text()
with TemporaryDirectory() as folder:
    copy = Copy(Path(folder) / "checkout", 1)
    files = {name: copy.recorded(name) for name in ("tests/test_amdahl.py", "tests/test_tables.py", file)}
    (law,) = [each for each in mutants(file, source) if "share * partial))" in each.shown(source)[1]]
    first, rest = chosen(law, files)
    print(*sorted({test.file for test in [*first, *rest]}))
    print(copy.outcome(law, []), copy.outcome(None, first), copy.outcome(law, first))
    start = source.index("    share, partial =")
    endless = Mutant(file, start, start, "    while True: pass\\n", law.lines)
    print(copy.outcome(endless, first), copy.outcome(Mutant(file, 0, 0, "import nothing\\n", law.lines), first))
    stack = "    share, partial = [bytes(1 << 30) for _ in range(100)]\\n"
    print(copy.outcome(Mutant(file, start, start, stack, law.lines), first))
    assert (copy.folder / file).read_text() == source
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout.splitlines() == [
        "llmamdahl/amdahl.py tests/test_amdahl.py",
        "survived survived killed",
        "timed_out killed",
        "killed",
    ], ran.stderr


def test_the_recorded_result_is_of_these_modules_and_adds_up():
    table = pd.read_csv(DATA / "results" / "mutants.csv", index_col="module")
    assert [*table.index] == [*MODULES, "all"]
    assert (table.loc[MODULES].sum()[["sampled", "killed", "timed_out", "survived"]] == table.loc["all"].iloc[:4]).all()
    assert (table.killed + table.timed_out + table.survived == table.sampled).all()
    assert ((table.killed + table.timed_out) / table.sampled).round(4).tolist() == table.share.tolist()
    assert table.sampled["all"] >= 400 and table.share["all"] >= 0.97
    assert len(pd.read_csv(DATA / "results" / "mutants-survivors.csv")) == table.survived["all"]


@pytest.mark.parametrize("path", [DATA / "results" / "mutants-survivors.csv", REASONS], ids=lambda path: path.name)
def test_survivors_are_mutants_of_lines_that_exist(path):
    rows = pd.read_csv(path)
    assert rows.reason.dropna().str.len().min() > 10
    assert path != REASONS or rows.reason.notna().all()  # a survivor without a reason is one that a test should find
    for file, those in rows.groupby("file"):
        source = (ROOT / file).read_text(encoding="utf-8")
        assert {*zip(those.before, those.after, strict=True)} <= {
            mutant.shown(source) for mutant in mutants(file, source)
        }


def test_a_sample_is_that_of_its_seed_and_from_all_files():
    assert sampled("dram", 20, 1) == sampled("dram", 20, 1) != sampled("dram", 20, 2)
    assert len({*sampled("dram", 20, 1)}) == 20
    assert len({mutant.file for mutant in sampled("paper", 100, 1)}) > 6
    assert len(sampled("dram", 10**6, 1)) < 1000


def test_a_sample_stays_where_other_lines_change(tmp_path, monkeypatch):
    path = tmp_path / "a.py"
    monkeypatch.setattr("compendium.mutants.files_of", lambda module: [str(path)])

    def drawn(lines):
        source = "\n".join(lines)
        path.write_text(source)
        return [mutant.shown(source) for mutant in sampled("any", 25, 1)]

    lines = [f"x{place} = {place} + y" for place in range(40)]
    kept = [shown for shown in drawn(["z = 7", *lines]) if shown[0] in lines]
    assert len(kept) >= 23  # `z = 7` has two mutants
    assert kept == drawn(lines)[: len(kept)]


def test_the_result_is_counted_by_module_and_survivors_get_their_reasons(tmp_path, monkeypatch, capsys):
    first, second = sampled("dram", 2, 1)
    source = (ROOT / first.file).read_text(encoding="utf-8")
    monkeypatch.setattr("compendium.mutants.reasons", lambda: {(first.file, *first.shown(source)): "it is the same"})
    found = [("dram", first, "survived"), ("dram", second, "timed_out"), ("dram", second, "killed")]
    write([*found, ("paper", second, "survived")], tmp_path)
    assert (tmp_path / "mutants.csv").read_text().splitlines() == [
        "module,sampled,killed,timed_out,survived,share",
        "dram,3,1,1,1,0.6667", "paper,1,0,0,1,0.0000", "all,4,1,1,2,0.5000",
    ]  # fmt: skip
    rows = pd.read_csv(tmp_path / "mutants-survivors.csv", keep_default_na=False)
    assert {*zip(rows.before, rows.after, rows.reason, strict=True)} == {
        (*first.shown(source), "it is the same"), (*second.shown(source), ""),
    }  # fmt: skip
    assert "dram  3  1  1  1  0.6667" in capsys.readouterr().out
