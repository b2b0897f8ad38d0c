"""The published times of a layer's three parts: their table, what is rejected, and the ceilings."""

import pandas as pd
import pytest

from llmamdahl.errors import InputError, TableError
from llmamdahl.paper import breakdowns
from llmamdahl.paper.figures import third_part_lines
from llmamdahl.paper.published import PUBLISHED

FILE = PUBLISHED / "breakdowns.csv"


@pytest.fixture(scope="module")
def table():
    return breakdowns.read_breakdowns()


def test_rows_without_all_parts_or_a_method_are_excluded(table):
    assert len(table) == 50
    assert (table.source != "").all() and (table["where"] != "").all() and (table.seen == "yes").all()
    excluded = table[table.excluded != ""]
    assert excluded.excluded.value_counts().to_dict() == {"no attention": 6, "modelled": 1, "method not given": 1}
    assert not table[table.excluded == ""][["projection_us", "attention_us", "other_us"]].isna().any(axis=None)


def test_ceilings_by_hand():
    table = pd.DataFrame({"projection_us": [60.0, 1], "attention_us": [20.0, 1], "other_us": [20.0, None]})
    (row,) = breakdowns.ceilings(table).to_dict("records")
    assert [*row][:4] == [*table.columns, "other_share"]
    assert row["fraction"] == pytest.approx(0.75) and row["fraction_of_three"] == pytest.approx(0.6)
    assert row["ceiling"] == pytest.approx(4) and row["ceiling_of_three"] == pytest.approx(2.5)
    assert row["other_share"] == pytest.approx(0.2) and row["ratio"] == pytest.approx(0.625)


def test_the_third_part_lowers_every_published_ceiling(table):
    found = breakdowns.ceilings(table[table.excluded == ""])
    assert len(found) == 42
    assert (found.ratio < 1).all()
    # ceiling = whole / rest, so the ratio can be read off the parts: (whole + other) rest / (rest + other) whole
    row = found.iloc[0]
    two, rest = row.projection_us + row.attention_us, row.attention_us
    assert row.ratio == pytest.approx((two + row.other_us) / (rest + row.other_us) * rest / two)
    grouped = breakdowns.third_part(found, ["device", "model", "phase"])
    assert grouped.cases.sum() == 42 and (grouped.lowest <= grouped.ratio).all()


def test_the_figure_has_two_lines_a_source(table):
    found = breakdowns.ceilings(table[(table.excluded == "") & (table.phase == "decode")])
    found = found.assign(setup=found.device + ", " + found.model)
    figure = third_part_lines(found, "The third part")
    drawn = sum(len(axis.lines) for axis in figure.axes)
    assert drawn == 2 * found.setup.nunique()


@pytest.mark.parametrize(("lengths", "ticks"), [([96, 128, 300, 1024], [128, 1024]), ([96, 300], [96, 300])])
def test_powers_of_two_have_ticks_if_there_are_any(table, lengths, ticks):
    row = breakdowns.ceilings(table[table.excluded == ""]).iloc[[0] * len(lengths)]
    figure = third_part_lines(row.assign(setup="one", context_length=lengths), "The third part")
    assert [*figure.axes[0].get_xticks()] == ticks


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("0.973,", "0.983,", "fraction: 0.983 is not that of the parts, 0.9730"),
        ("o_proj 38.131", "o_proj 39.131", "projection_us: 467.087 is not the sum of its kernels, 468.087"),
        ("layernorm 1.851 twice", "layernorm 1.851", "other_us: 8.469 is not the sum of its kernels, 6.619"),
        ("layernorm 1.851 twice", "layernorm", "other_us: 'layernorm; rotary"),
        (",8.469,", ",,", "excluded: empty, though other is not given"),
        ("467.087", "-467.087", "projection_us: '-467.087' is not a valid positive_float"),
    ],
)
def test_a_wrong_row_is_rejected_with_its_line(tmp_path, before, after, message):
    header, first, *_ = FILE.read_text(encoding="utf-8").splitlines(keepends=True)
    assert before in first
    path = tmp_path / "breakdowns.csv"
    path.write_text(header + first.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(TableError) as caught:
        breakdowns.read_breakdowns(path)
    assert message in str(caught.value) and "line 2" in str(caught.value)


def test_ceilings_need_the_three_parts():
    with pytest.raises(InputError, match="no column other_us"):
        breakdowns.ceilings(pd.DataFrame({"projection_us": [1.0], "attention_us": [1.0]}))
