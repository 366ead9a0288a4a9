"""Metric math and statistics: whatever is written, it is reckoned or refused in a sentence."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.dialects.aws import statistics
from ondol.dialects.aws.metric_math import Grid, Line, Refused, Scope, evaluate
from ondol.model.summaries import Summary, of_values

GRID = Grid(0, 600, 60)
LINES = {"m1": Line({0: 1.0, 60: 2.0, 180: 4.0}, "one"), "m2": Line({60: 5.0, 180: 0.0}, "two"), "none": Line({}, "none")}


def lookup(name):
    if name not in LINES:
        raise Refused(f"no query has the id {name}")
    return LINES[name]


def reckon(text, grid=GRID):
    value = evaluate(text, Scope(lookup=lookup, metrics=lambda: list(LINES.items()), grid=grid))
    return dict(value.points) if isinstance(value, Line) else value


def test_products_bind_closer_than_sums_and_signs_closest():
    assert reckon("1 + 2 * 3 - 8 / 4 / 2") == 6
    assert reckon("-(2 + 3) * --2") == -10
    assert reckon("2 - -1.5e1") == 17


def test_points_of_a_combination_are_where_both_have_one():
    assert reckon("m1 + m2") == {60: 7, 180: 4}
    assert reckon("m1 / m2") == {60: 0.4}


def test_metrics_can_be_chosen_by_a_part_of_their_ids():
    assert reckon('SUM(METRICS("m"))') == {0: 1, 60: 7, 180: 4}
    assert [line.label for line in reckon("METRICS('1')")] == ["one"]


def test_of_one_line_a_sum_is_a_number():
    assert (reckon("SUM(m1)"), reckon("AVG(m1)"), reckon("MIN(m1)"), reckon("SUM(none)")) == (7, 7 / 3, 1, 0)


def test_functions_work_on_arrays_line_by_line():
    assert [dict(line.points) for line in reckon("FLOOR([m1, m2] / 2)")] == [{0: 0, 60: 1, 180: 2}, {60: 2, 180: 0}]
    assert [len(line.points) for line in reckon("FILL([m1, none], 0)")] == [10, 10]
    assert len(reckon("RATE(METRICS())")) == 3


def test_names_of_functions_may_be_small():
    assert reckon("sum(m1)") == 7
    assert reckon("fill(m2, repeat)")[120] == 5


def test_what_grows_beyond_all_numbers_has_no_point():
    assert reckon("m1 * 1e308 * 1e308") == {}
    with pytest.raises(Refused):
        reckon("1e999")
    with pytest.raises(Refused):
        reckon("SUM([m1 * 1e308, m1 * 1e308, m1 * 1e308])")


def test_filling_is_bounded():
    with pytest.raises(Refused, match="at most"):
        reckon("FILL(m1, 0)", Grid(0, 10**9, 60))


PIECES = [
    "m1",
    "m2",
    "x",
    "1",
    "2.5",
    "+",
    "-",
    "*",
    "/",
    "(",
    ")",
    "[",
    "]",
    ",",
    "SUM(",
    "FILL(",
    "METRICS()",
    "REPEAT",
    '"a"',
    " ",
]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(max_size=30))
def test_any_text_is_reckoned_or_refused(text):
    try:
        value = evaluate(text, Scope(lookup=lookup, metrics=lambda: list(LINES.items()), grid=GRID))
    except Refused as error:
        assert str(error)
        return
    lines = value if isinstance(value, list) else [value] if isinstance(value, Line) else []
    assert all(math.isfinite(each) for line in lines for each in line.points.values())


# Statistics --------------------------------------------------------------------------------------------------------------
HUNDRED = of_values([(float(n), 1) for n in range(1, 101)])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SampleCount", 100), ("Sum", 5050), ("Average", 50.5), ("Minimum", 1), ("Maximum", 100), ("p0", 1), ("p50", 50),
        ("p99.9", 100), ("p100", 100), ("tm90", 45.5), ("TM(10%:90%)", 50.5), ("TM(:50)", 25.5), ("tc90", 90), ("TC(10.5:20.5)", 10),
        ("ts90", 4095), ("TS(90:)", 955), ("wm90", 49.95), ("WM(10%:90%)", 50.5), ("PR(:25)", 25), ("PR(25:75)", 50),
        ("IQM", 50.5), ("WM(:50)", 37.75),
    ],
)  # fmt: skip
def test_statistics_of_one_to_a_hundred(name, value):
    assert statistics.parse(name).of(HUNDRED) == pytest.approx(value, rel=0.03)


@pytest.mark.parametrize(
    "name",
    ["", "p", "p101", "p-1", "P50", "p50x", "tm", "TM()", "TM(:)", "TM(10%:90)", "TM(90%:10%)", "TM(:101%)", "PR(:50%)", "Mode", "p" * 999,
     "p5٣"],
)  # fmt: skip
def test_what_is_no_statistic(name):
    assert statistics.parse(name) is None


@given(st.text(max_size=20) | st.from_regex(r"(TM|WM|PR|TC|TS|p|tm)\(?[0-9.]*%?:?[0-9.]*%?\)?", fullmatch=True))
def test_any_name_has_a_value_or_is_none(name):
    statistic = statistics.parse(name)
    if statistic is not None:
        statistic.of(HUNDRED)
        statistic.of(Summary(1, 5, 5, 5))
        assert statistic.simple or statistic.of(Summary(2, 5, 1, 4)) is None


def test_nothing_lies_in_an_empty_range():
    assert statistics.parse("TM(500:600)").of(HUNDRED) is None
    assert statistics.parse("TC(500:600)").of(HUNDRED) == 0
