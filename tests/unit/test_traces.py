"""Trace headers of both forms: what is read, what is not, and that nothing is lost between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.core import traces
from ondol.core.traces import Trace

ID, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
W3C = f"00-{ID}-{PARENT}-01"
FIELDS = f"Root=1-{ID[:8]}-{ID[8:]};Parent={PARENT};Sampled=1"

HEX = "0123456789abcdef"
TRACES = st.builds(
    Trace,
    st.text(HEX, min_size=32, max_size=32).filter(lambda text: int(text, 16)),
    st.text(HEX, min_size=16, max_size=16).filter(lambda text: int(text, 16)),
    st.booleans(),
)


def test_the_same_place_in_both_forms():
    assert traces.parse(W3C) == traces.parse(FIELDS) == Trace(ID, PARENT, True)
    assert traces.fields_of(W3C) == FIELDS
    assert traces.parse(FIELDS).w3c == W3C


@given(TRACES)
def test_over_and_back_loses_nothing(trace):
    assert traces.from_w3c(trace.w3c) == traces.from_fields(trace.fields) == trace
    assert traces.from_fields(traces.fields_of(trace.w3c)) == trace


@pytest.mark.parametrize(
    ("text", "trace"),
    [
        (f"root=1-{ID[:8]}-{ID[8:]}", Trace(ID)),
        (f" Sampled=? ; Root=1-{ID[:8].upper()}-{ID[8:]} ;Lineage=1:abc:0", Trace(ID)),
        (f"Self=1-0-0;Root=1-{ID[:8]}-{ID[8:]};Parent=nonsense;Sampled=0", Trace(ID, "", False)),
        (f"01-{ID}-{PARENT}-03-more", Trace(ID, PARENT, True)),
        (f"00-{ID}-{PARENT}-fe", Trace(ID, PARENT, False)),
    ],
)
def test_what_clients_send_is_read(text, trace):
    assert (traces.from_fields if "oot" in text else traces.from_w3c)(text) == trace


@pytest.mark.parametrize(
    "text",
    [
        "", "x", f"ff-{ID}-{PARENT}-01", f"00-{ID}-{PARENT}-01-more", f"00-{'0' * 32}-{PARENT}-01", f"00-{ID}-{'0' * 16}-01",
        f"00-{ID.upper()}-{PARENT}-01", f"00-{ID}-{PARENT}", f"0-{ID}-{PARENT}-01", "Root=", "Root=1-2-3", f"Root=1-{'0' * 8}-{'0' * 24}",
        "Root=" + "1" * 5000, f"{W3C}\n{W3C}", W3C.replace("4", "４"),
    ],
)  # fmt: skip
def test_what_is_no_trace(text):
    assert traces.parse(text) is None
    assert traces.fields_of(text) == ""


@given(st.text(max_size=80) | st.text("Root=1-;abcdef09Parent", max_size=120))
def test_any_text_is_read_or_is_none(text):
    for read in (traces.parse, traces.from_w3c, traces.from_fields):
        found = read(text)
        assert found is None or traces.from_fields(found.fields) == found


def test_without_a_parent_there_is_no_traceparent():
    assert Trace(ID).w3c == ""
    assert Trace(ID).fields == f"Root=1-{ID[:8]}-{ID[8:]}"


@given(st.binary(min_size=24, max_size=24))
def test_a_fresh_trace_is_valid_and_unsampled(drawn):
    trace = traces.fresh(drawn)
    assert traces.from_w3c(trace.w3c) == trace
    assert trace.sampled is False
