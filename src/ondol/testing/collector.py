"""An OpenTelemetry collector that keeps what it is sent: OTLP/HTTP on a free port. Needs the extra `ondol[otel]`."""

from __future__ import annotations

import http.server
import threading
from typing import Any


class Collector:
    """Takes spans, or answers with another status. `close` it."""

    def __init__(self) -> None:
        #: What it answers.
        self.status = 200
        #: All spans that came, and the path of every request.
        self.spans: list[Any] = []
        self.paths: list[str] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, path: str, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self.paths.append(path)
        if self.status == 200:
            request = ExportTraceServiceRequest.FromString(body)
            self.spans += [span for each in request.resource_spans for scope in each.scope_spans for span in scope.spans]

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the library's word
                collector._take(self.path, self.rfile.read(int(self.headers["Content-Length"])))  # its other half
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """A test says what it sees itself."""

        return Handler
