"""What extensions send their node: any bytes are a registration, a subscription, or a refusal; and what is subscribed stays inside."""

from __future__ import annotations

import json

from ondol.runtimes.company_errors import Refusal
from ondol.runtimes.company_http import events_of
from ondol.runtimes.telemetry_wanted import HOSTS, SCHEMAS, TYPES, Api, wanted

_WANTED = {
    "schemaVersion": "2022-12-13", "types": ["platform", "function", "extension"],
    "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 100},
    "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/a?b=c", "method": "POST", "encoding": "JSON"},
}  # fmt: skip
SEEDS = [
    b'{"events": ["INVOKE", "SHUTDOWN"]}',
    b'{"events": [], "configurationKeys": []}',
    json.dumps(_WANTED).encode(),
    json.dumps({**_WANTED, "schemaVersion": "2021-03-18"}).encode(),
    json.dumps({**_WANTED, "destination": {"protocol": "TCP", "port": 8080}}).encode(),
    json.dumps({**_WANTED, "destination": {"protocol": "TCP", "URI": "tcp://sandbox:8081"}}).encode(),
]
TOKENS = [
    b"null", b"true", b"[]", b"{}", b"-1", b"1e999", b"9" * 400, b"[" * 3000, b"NaN", b"\\u0000", b"\\ud800", b"\xff", b'"INVOKE"',
    b'"URI"', b"http://", b"tcp://", b"sandbox", b"@", b":", b"//", b"\\r\\n", b"[::1]", b"127.0.0.1", b"%00", b"0", b"65536", b" ",
]  # fmt: skip


def one(data: bytes) -> None:
    """Any bytes as the body of each request."""
    try:
        events = events_of(data)
        assert all(isinstance(event, str) for event in events)
    except Refusal as refusal:
        assert refusal.kind == "InvalidRequestFormat"
        assert len(str(refusal)) < 1000
    for api in Api:
        try:
            found = wanted(data, api)
        except Refusal as refusal:
            assert refusal.kind == "ValidationError"
            assert len(str(refusal)) < 2000
            continue
        assert found.types
        assert set(found.types) <= set(TYPES)
        assert found.schema in SCHEMAS[api]
        assert 0 < found.port < 65536
        assert found.method in ("POST", "PUT")
        assert found.path.startswith("/")
        assert all("!" <= char <= "~" for char in found.path)
        assert 1000 <= found.items_max <= 10_000
        assert 262_144 <= found.bytes_max <= 1_048_576
        assert 25 <= found.timeout_ms <= 30_000
    assert HOSTS[0] == "sandbox.localdomain"
