"""Spans of invocations, as a collector gets them over OTLP/HTTP; and what happens without the extra, or without a collector."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ondol import start
from ondol.config import SettingRefused, load
from ondol.model.invocations import Status
from ondol.sinks import otel
from ondol.sinks.otel import OtelSink
from ondol.testing.collector import Collector
from ondol.testing.suites.recorder import record

pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

W3C = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.close()


async def sent(collector, *records):
    """What of these is lost; the rest is at the collector."""
    lost = []
    sink = OtelSink(collector.url, lose=lost.append)
    sink.take(records)
    await sink.close()
    return sum(lost)


def attributes(span):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


async def test_an_invocation_is_a_span_in_its_callers_trace(collector):
    assert await sent(collector, record("i", "f", trace=W3C, version=3, memory_mib=256, started_ms=1_700_000_000_000)) == 0
    (span,) = collector.spans
    assert collector.paths == ["/v1/traces"]
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("name-of-f", W3C[3:35], W3C[36:52])
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1_700_000_000_000_000_000, 1_700_000_000_001_500_000)
    found = attributes(span)
    assert (found["faas.name"], found["faas.version"], found["faas.invocation_id"]) == ("name-of-f", "3", "i")
    assert (found["faas.coldstart"], found["faas.max_memory"], found["ondol.status"]) == (False, 256 * 2**20, "ok")
    assert span.status.code == 0


async def test_a_parent_that_was_recorded_nowhere_is_none(collector):
    await sent(collector, record("i", trace=W3C[:-1] + "0"))
    (span,) = collector.spans
    assert (span.trace_id.hex(), span.parent_span_id) == (W3C[3:35], b"")


async def test_waiting_and_loading_are_spans_below_it(collector):
    assert await sent(collector, record("i", queue_ms=20.0, start_ms=80.0, started_ms=1_000_000)) == 0
    spans = {span.name: span for span in collector.spans}
    own = spans["name-of-f"]
    assert own.parent_span_id == b""
    assert spans["wait"].parent_span_id == spans["load"].parent_span_id == own.span_id
    assert len({span.trace_id for span in collector.spans}) == 1
    milliseconds = {
        name: ((span.end_time_unix_nano - span.start_time_unix_nano) / 1e6, (span.start_time_unix_nano / 1e6) - 1_000_000)
        for name, span in spans.items()
    }
    assert milliseconds == {"name-of-f": (101.5, -20), "wait": (20, -20), "load": (80, 0)}


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
async def test_a_failure_is_an_error_that_says_which(collector, status):
    await sent(collector, record("i", status=status, exit_status=-9))
    (span,) = collector.spans
    assert (span.status.code, span.status.message) == (2, status.value)
    assert attributes(span)["process.exit.code"] == -9


async def test_many_go_in_batches_and_none_is_lost(collector):
    assert await sent(collector, *(record(str(n)) for n in range(otel.BATCH * 2 + 1))) == 0
    assert len(collector.spans) == otel.BATCH * 2 + 1
    assert len(collector.paths) == 3


async def test_what_a_collector_does_not_take_is_counted(collector):
    collector.status = 400
    assert await sent(collector, record("1"), record("2")) == 2


async def test_what_waits_is_bounded(collector, monkeypatch):
    monkeypatch.setattr(otel, "WAITING_MAX", 3)
    assert await sent(collector, *(record(str(n)) for n in range(5))) == 2
    assert len(collector.spans) == 3


async def test_nobody_waits_for_a_collector_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(otel, "CLOSE_S_MAX", 0.05)
    released = threading.Event()
    sink = OtelSink("http://127.0.0.1:9", lose=lambda count: None)
    monkeypatch.setattr(sink, "_export", lambda batch: released.wait(30))
    sink.take([record("i")])
    async with asyncio.timeout(20):
        await sink.close()
    assert not released.is_set()
    released.set()
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))


# Setting it up -------------------------------------------------------------------------------------------------------------
def test_without_the_extra_the_node_does_not_start_and_says_why_in_a_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(otel.importlib.util, "find_spec", lambda name: None)
    assert start.run(load({"otel_endpoint": "http://127.0.0.1:4318", "data": str(tmp_path / "d")}, environ={})) == 4
    said = capsys.readouterr().err
    assert said == "ondol: --otel-endpoint needs the extra that is not installed: pip install 'ondol[otel]', or leave it out.\n"
    assert not (tmp_path / "d").exists()


def test_without_the_setting_nothing_is_looked_for(monkeypatch):
    monkeypatch.setattr(otel.importlib.util, "find_spec", lambda name: pytest.fail("was looked for"))
    assert otel.missing("") == ""


@pytest.mark.parametrize("url", ["127.0.0.1:4318", "grpc://x", "http://", "http://user@x", "http://x y", "http://x?y", 5])
def test_what_is_no_address_is_refused(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingRefused, match="expected an address"):
        load({"otel_endpoint": url}, environ={})


@pytest.mark.parametrize("given", ["", "/", "/v1/traces"])
async def test_the_address_may_name_the_collector_or_the_place(collector, given):
    collector.url += given
    await sent(collector, record("i"))
    assert collector.paths == ["/v1/traces"]
