"""`/metrics`, read by Prometheus' own parsers; and the dashboard and the page that name what is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain

from ondol.core import measuring, totals
from ondol.core.measuring import Tally
from ondol.core.totals import BOUNDS_MS, OTHERS, Totals
from ondol.dialects.prometheus.dialect import PrometheusDialect
from ondol.dialects.prometheus.exposition import FAMILIES, OPEN_METRICS, PLAIN, STATES, accepted, exposition
from ondol.http.bodies import EMPTY
from ondol.http.messages import Request
from ondol.model.errors import Denied
from ondol.model.invocations import Report, Status
from ondol.model.principals import Kind, Principal
from ondol.testing.pool import a_target

ROOT = Path(__file__).parents[3]
ACCOUNT = a_target().function.account
READERS = {PLAIN: read_plain, OPEN_METRICS: read_open}


def with_calls(*names, status=Status.OK, **more):
    made = Totals()
    tally = Tally()
    for name in names:
        report = Report(
            invocation="i", revision="r", version=None, status=status, duration_ms=40.0, memory_mib=128, memory_peak_mib=1,
            timeout_s=3, ended_s=1e9, init_ms=100.0,
        )  # fmt: skip
        tally.add(a_target(name), report, (1, 1, 1))
    for each in tally.take().sums:
        made.add(each)
    return made


def everything():
    """Totals in which every family has a sample."""
    made = with_calls("f", "f", "g")
    for name in measuring.UNITS:
        made.observe(ACCOUNT, "here", "f", name, 250.0)
    made.gauges = {**dict.fromkeys(STATES, 2.0), "waiting": 1, "memory_mib": 128, "memory_mib_max": 1024, "failed_starts": 3}
    made.lose("records", 7)
    return made


def samples(made, kind=PLAIN, account=ACCOUNT):
    text = exposition(made, account, kind).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in READERS[kind](text)
        for sample in family.samples
    }


@pytest.mark.parametrize("kind", [PLAIN, OPEN_METRICS])
def test_every_family_is_read_by_prometheus_own_parser(kind):
    text = exposition(everything(), ACCOUNT, kind).decode()
    families = {family.name: family for family in READERS[kind](text)}
    assert families.keys() == {family.name for family in FAMILIES}
    for family in FAMILIES:
        assert families[family.name].type == family.kind
        assert families[family.name].samples, family.name
    assert text.endswith("# EOF\n") == (kind == OPEN_METRICS)


def test_calls_are_counted_by_outcome_and_durations_in_cumulative_buckets():
    made = with_calls("f", "f", "f")
    for each in (with_calls("f", status=Status.TIMEOUT),):
        assert ("ondol_invocations_total", ("function", "f"), ("outcome", "timeout"), ("region", "here")) in samples(each)
    found = samples(made)
    labels = (("function", "f"), ("region", "here"))
    assert found["ondol_invocations_total", ("function", "f"), ("outcome", "ok"), ("region", "here")] == 3
    buckets = {
        dict(key[1:])["le"]: value for key, value in found.items() if key[0] == "ondol_invocation_duration_seconds_bucket"
    }
    assert (buckets["0.025"], buckets["0.05"], buckets["+Inf"]) == (0, 3, 3)
    assert list(buckets.values()) == sorted(buckets.values())
    assert found["ondol_invocation_duration_seconds_count", *labels] == 3
    assert found["ondol_invocation_duration_seconds_sum", *labels] == pytest.approx(0.12)
    assert (found["ondol_cold_starts_total", *labels], found["ondol_cold_start_seconds_total", *labels]) == (
        3,
        pytest.approx(0.3),
    )


def test_an_account_sees_its_own_functions_only():
    assert not [key for key in samples(with_calls("f"), account="999999999999") if "function" in dict(key[1:])]


def test_the_number_of_series_is_bounded_whatever_functions_there_are():
    made = with_calls(*(f"f{n}" for n in range(totals.FUNCTIONS_MAX * 2)))
    functions = {dict(key[1:])["function"] for key in samples(made) if "function" in dict(key[1:])}
    assert len(functions) == totals.FUNCTIONS_MAX + 1
    others = samples(made)["ondol_invocations_total", ("function", OTHERS), ("outcome", "ok"), ("region", "here")]
    assert others == totals.FUNCTIONS_MAX


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1))
def test_any_name_comes_through_both_formats(name):
    for kind in READERS:
        found = {dict(key[1:])["function"] for key in samples(with_calls(name), kind) if key[0] == "ondol_invocations_total"}
        assert found == {name}


def test_open_metrics_is_for_whoever_asks_for_it():
    assert accepted("") == accepted("text/plain;version=0.0.4") == accepted("*/*") == PLAIN
    assert accepted("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3") == OPEN_METRICS


# The dialect ---------------------------------------------------------------------------------------------------------------
class Gate:
    def principal(self, request, body_sha256):
        who = request.header("authorization").removeprefix("Bearer ")
        if who == "wrong":
            raise Denied("this key is not one of the node's")
        kind = {"": Kind.ANONYMOUS, "function": Kind.FUNCTION}.get(who, Kind.OWNER)
        return Principal(kind=kind, account=ACCOUNT, region="here", name=who)


async def get(path="/metrics", key="owner", **headers):
    dialect = PrometheusDialect(totals=everything(), gatekeeper=Gate())
    sent = [("authorization", f"Bearer {key}"), *headers.items()] if key else []
    response = await dialect.serve(Request("GET", path, sent, EMPTY), dialect.routes[0])
    return response.status, dict(response.headers), response.body


async def test_the_owner_gets_the_text():
    status, headers, body = await get()
    assert (status, headers["content-type"]) == (200, PLAIN)
    assert b"ondol_invocations_total{" in body
    _, headers, body = await get(accept="application/openmetrics-text")
    assert headers["content-type"] == OPEN_METRICS
    assert body.endswith(b"# EOF\n")


@pytest.mark.parametrize(("key", "status"), [("", 401), ("wrong", 403), ("function", 403)])
async def test_nobody_else_does(key, status):
    found, _, body = await get(key=key)
    assert found == status
    assert b"ondol_" not in body


async def test_below_it_there_is_nothing():
    assert (await get("/metrics/more"))[0] == 404


# What is written of it -----------------------------------------------------------------------------------------------------
def names():
    """Every name that a query can ask for."""
    return {key[0] for key in samples(everything())}


def test_every_metric_that_the_dashboard_asks_for_exists():
    dashboard = json.loads((ROOT / "examples" / "grafana" / "dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [variable["query"]["query"] for variable in dashboard["templating"]["list"] if isinstance(variable["query"], dict)]
    assert len(asked) > 15
    for expression in asked:
        found = re.findall(r"ondol_\w+", expression)
        assert found, expression
        assert set(found) <= names(), expression


def test_every_metric_is_on_the_dashboard():
    text = (ROOT / "examples" / "grafana" / "dashboard.json").read_text()
    assert {family.name for family in FAMILIES if family.name not in text} == set()


def test_every_metric_and_bound_is_documented():
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    for family in FAMILIES:
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        assert f"| `{name}` | {family.kind} |" in page
        assert family.help in page
    assert ", ".join(f"{bound / 1000:g}" for bound in BOUNDS_MS) in page.replace("\n", " ")
    for status in Status:
        assert f"`{status.value}`" in page
    assert f"| {totals.FUNCTIONS_MAX} since the start" in page
