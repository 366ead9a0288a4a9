"""The server's reading of bytes against h11's, which is strict and written by others.

Where both accept a request they must have read the same one. Where h11 refuses and we do not, the reason must be one of these, none
of which can make two parties disagree about where a request ends:
- bare carriage returns or line feeds before a request line, and more than one space in it (llhttp skips them);
- a request line of another protocol's name over TCP ("RTSP/1.0"), which llhttp reads as that version of HTTP.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing.http1 import POISON, ours, theirs, tolerated


token = st.text("abcXYZ-_09", min_size=1, max_size=8)
value = st.text("abc =;,/*09\t\xe9", max_size=12).map(str.strip)
plain_header = st.tuples(token.map(lambda name: f"x-{name}"), value)
content = st.binary(max_size=60)


@st.composite
def requests(draw):
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]))
    target = "/" + draw(st.text("ab/%20?=&.~", max_size=15))
    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: localhost",
        *(f"{n}: {v}" for n, v in draw(st.lists(plain_header, max_size=4))),
    ]
    body = draw(content)
    kind = draw(st.sampled_from(["none", "length", "chunked"]))
    tail = b""
    if kind == "length":
        lines.append(f"Content-Length: {len(body)}")
        tail = body
    elif kind == "chunked":
        lines.append("Transfer-Encoding: chunked")
        cut = draw(st.integers(0, len(body)))
        tail = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:cut], body[cut:]) if part) + b"0\r\n\r\n"
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + tail


def split(data, cuts):
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]


quick = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 2000), max_size=12))
def test_valid_requests_are_read_as_h11_reads_them_however_they_are_cut(messages, cuts):
    data = b"".join(messages)
    expected, complaint = theirs(data)
    assert (complaint, len(expected)) == ("", len(messages))
    assert ours(split(data, cuts)) == (expected, False)


@st.composite
def mutated(draw):
    data = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.sampled_from([0, 0, 0, 1, 1, 2, 5]))
        data = data[:at] + draw(st.sampled_from([*POISON, b""])) + data[at + cut :]
    return data


@quick
@given(mutated(), st.lists(st.integers(0, 2000), max_size=4))
@example(
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
    [],
)
def test_no_mutation_makes_us_read_another_request_than_h11_does(data, cuts):
    expected, complaint = theirs(data)
    seen, _ = ours(split(data, cuts))
    common = min(len(seen), len(expected))
    assert seen[:common] == expected[:common]
    if len(seen) > len(expected):
        assert tolerated(complaint), (complaint, seen)


@quick
@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from(POISON)), max_size=12))
def test_garbage_is_answered_or_waited_for_and_never_breaks_the_server(pieces):
    seen, _ = ours(pieces)
    assert len(seen) <= len(pieces) + 1
