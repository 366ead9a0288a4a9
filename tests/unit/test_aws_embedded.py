"""The embedded metric format: which log lines are metrics, and that no line can do harm."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.core.totals import Totals
from ondol.dialects.aws import embedded
from ondol.dialects.aws.embedded import embedding, points_of
from ondol.meter import Series
from ondol.testing.clock import VirtualClock

HOME = ("000000000000", "here-1")
NOW_S = 1_700_000_000.0


def line(*metrics, dimensions=None, namespace="App", at_ms=NOW_S * 1000, **values):
    directive = {"Namespace": namespace, "Metrics": [m if isinstance(m, dict) else {"Name": m} for m in metrics]}
    if dimensions is not None:
        directive["Dimensions"] = dimensions
    return json.dumps({"_aws": {"Timestamp": at_ms, "CloudWatchMetrics": [directive]}, **values})


def read(text):
    return points_of(HOME, text, NOW_S, NOW_S)


def test_a_line_of_the_format_is_a_metric_for_each_set_of_dimensions():
    text = line(
        {"Name": "time", "Unit": "Milliseconds"}, "count", dimensions=[["service"], ["service", "zone"], []],
        time=[1, 2, 9], count=4, service="pay", zone="a", requestId="x",
    )  # fmt: skip
    found = {(p.series.name, p.series.dimensions): (p.series.unit, p.summary.sum, p.summary.count) for p in read(text)}
    service, zone = ("service", "pay"), ("zone", "a")
    assert found == {
        **{("time", each): ("Milliseconds", 12, 3) for each in ((service,), (service, zone), ())},
        **{("count", each): ("None", 4, 1) for each in ((service,), (service, zone), ())},
    }


def test_without_dimensions_it_is_a_metric_of_none():
    assert [p.series for p in read(line("m", m=1))] == [Series(*HOME, "App", "m", (), "None")]


def test_its_time_is_the_lines_own_or_when_it_was_written():
    assert [p.at_s for p in read(line("m", m=1, at_ms=NOW_S * 1000 - 60_000))] == [NOW_S - 60]
    assert [p.at_s for p in read(line("m", m=1, at_ms="soon"))] == [NOW_S]


@pytest.mark.parametrize(
    "text",
    [
        "plain", "", "{", "[]", "null", '"CloudWatchMetrics"', '{"_aws": 1}', '{"_aws": {"CloudWatchMetrics": {}}}',
        '{"_aws": {"CloudWatchMetrics": [1, null, []]}}', line("m"), line("m", m="text"), line("m", m=True), line("m", m=[]),
        line("m", m=[1, "x"]), line("m", m=[1] * 101), line("m", m=1e200), line("m", m=10**400), line("m", m=float("nan")),
        line("m", m=1, namespace=""), line("m", m=1, namespace="AWS/Lambda"), line("m", m=1, namespace=5), line("", **{"": 1}),
        line("x" * 256, **{"x" * 256: 1}), line("m", m=1, dimensions=[["missing"]]), line("m", m=1, d=5, dimensions=[["d"]]),
        line("m", m=1, dimensions=[[f"d{n}" for n in range(31)]], **{f"d{n}": "x" for n in range(31)}),
        line("m", m=1, dimensions=5), line("m", m=1, dimensions=[5]), line("m", m=1, dimensions=[[5]]),
        line("m", m=1, at_ms=0), line("m", m=1, at_ms=NOW_S * 1000 + 3 * 3_600_000), "[" * 5000,
    ],
)  # fmt: skip
def test_what_is_not_as_the_format_has_it_is_a_line_and_nothing_else(text):
    assert read(text) == []


def test_a_metric_that_cannot_be_leaves_the_others():
    assert [p.series.name for p in read(line("bad", 5, "good", bad="x", good=2))] == ["good"]


def test_one_line_makes_a_bounded_number_of_points():
    names = [f"m{n}" for n in range(100)]
    text = line(*names, dimensions=[[]] * 100, **dict.fromkeys(names, 1))
    assert len(read(text)) == embedded.POINTS_MAX
    assert len(read(line(*[f"m{n}" for n in range(150)], **{f"m{n}": 1 for n in range(150)}))) == embedded.METRICS_MAX


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["m", "d", "Name", "Unit"]), inner, max_size=3),
    max_leaves=6,
)


@given(st.fixed_dictionaries({"Timestamp": JSON, "CloudWatchMetrics": JSON | st.lists(JSON)}), JSON, JSON)
def test_any_json_is_read_or_passed_over(told, m, d):
    read(json.dumps({"_aws": told, "m": m, "d": d}))


@given(JSON, JSON, JSON, JSON)
def test_any_directive_is_read_or_passed_over(namespace, metrics, dimensions, m):
    directive = {"Namespace": namespace, "Metrics": metrics, "Dimensions": dimensions}
    read(json.dumps({"_aws": {"Timestamp": 1, "CloudWatchMetrics": [directive]}, "m": m, "d": "x"}))
    read(
        json.dumps(
            {"_aws": {"CloudWatchMetrics": [{**directive, "Namespace": "A", "Metrics": [{"Name": "m"}]}]}, "m": m, "d": "x"}
        )
    )


class Meter:
    def __init__(self):
        self.points = []

    def add(self, points):
        self.points += points
        return 1


def test_log_batches_are_read_for_metrics_and_what_is_lost_is_counted():
    meter, totals = Meter(), Totals()
    read = embedding(meter, totals, VirtualClock(wall_s=NOW_S))
    events = [[int(NOW_S * 1000), text] for text in ("hello\n", line("m", m=1) + "\n", '{"a": 1}')]
    read([[*HOME, "/aws/lambda/f", "s", events]])
    assert [p.series.name for p in meter.points] == ["m"]
    assert totals.lost == {"metrics": 1}


@pytest.mark.parametrize(("bound", "limit"), [("LINES_PER_S_MAX", 3), ("CHARS_PER_S_MAX", 2 * len(line("m", m=1)) + 1)])
async def test_a_flood_takes_a_bounded_part_of_each_second_and_leaves_others_theirs(monkeypatch, bound, limit):
    monkeypatch.setattr(embedded, bound, limit)
    meter, totals, clock = Meter(), Totals(), VirtualClock(wall_s=NOW_S)
    read = embedding(meter, totals, clock)
    flood = [[int(NOW_S * 1000), line("m", m=1)]] * 10
    read([["1", "r", "g", "s", flood], ["2", "r", "g", "s", flood[:1]]])
    assert [sum(p.series.account == account for p in meter.points) for account in "12"] == [3, 1]
    assert totals.lost["metrics"] == 7 + 4  # and what this meter says it cannot keep
    await clock.advance(1)
    read([["1", "r", "g", "s", flood[:3]]])
    assert len(meter.points) == 7
