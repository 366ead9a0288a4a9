"""Guest half of the web contract for Python callables: WSGI and ASGI applications, called without an adapter library.

`handler` is `module:attribute` (or `module.attribute`). Which interface it speaks is seen from the callable: a coroutine
function (or an object whose __call__ is one) is ASGI, everything else WSGI; ONDOL_INTERFACE=wsgi|asgi decides otherwise.

One request at a time. A request's body comes as the CALL's own bytes and then BODY frames; the response goes as one RESULT
when it is whole at once, and else as RESULT with MORE, BODY frames and an END. Both directions keep to frames.py's credit.
"""

import importlib
import inspect
import io
import json
import os
import sys
import traceback
from urllib.parse import unquote_to_bytes

from ondol_guest import frames
from ondol_guest.guest import Gone
from ondol_guest.web_stream import Stream, finish, split_host


class NotAnApplication(Exception):  # noqa: N818  # reads as what happened
    """The handler names nothing that can be called."""


def load(handler):
    """The callable that `handler` names. Raises ImportError, AttributeError, NotAnApplication or what the module raises."""
    module, colon, attribute = handler.partition(":")
    if not colon:
        module, _, attribute = handler.rpartition(".")
    if not module or not attribute:
        raise NotAnApplication("handler %r: expected module:attribute, such as app:app" % handler)
    found = importlib.import_module(module.replace("/", "."))
    for name in attribute.split("."):
        found = getattr(found, name)
    if not callable(found):
        raise NotAnApplication("handler %r names %r, which cannot be called" % (handler, type(found).__name__))
    return found


def speaks_asgi(application):
    """Whether the callable is an ASGI application."""
    forced = os.environ.get("ONDOL_INTERFACE", "")
    if forced:
        return forced == "asgi"
    call = application if inspect.isroutine(application) else type(application).__call__
    return inspect.iscoroutinefunction(call) and not inspect.isclass(application)


def serve(wire, settings):
    """Load the application, say READY, answer calls until the wire closes."""
    try:
        application = load(settings["handler"])
        asgi = speaks_asgi(application)
    except BaseException as error:  # whatever the module raises, sys.exit too, is the function's failure to load
        traceback.print_exc()
        sys.stderr.flush()
        meta = {"type": type(error).__name__, "message": str(error)}
        wire.send_meta(frames.INIT_FAILED, 0, meta)
        raise SystemExit(1) from None
    if asgi:
        import asyncio

        from ondol_guest.web_asgi import serve_asgi

        asyncio.run(serve_asgi(wire, application))
    else:
        wire.ready()
        serve_wsgi(wire, application)


# WSGI ---------------------------------------------------------------------------------------------------------------------


def serve_wsgi(wire, application):
    """Answer calls one after the other."""
    while True:
        kind, flags, invocation, payload = wire.recv()
        if kind == frames.STOP:
            return
        if kind == frames.CALL:
            _answer_wsgi(wire, application, invocation, flags, payload)


def _answer_wsgi(wire, application, invocation, flags, payload):
    meta, body = frames.split_meta(payload)
    request = json.loads(meta)
    stream = Stream(wire, invocation, body, bool(flags & frames.MORE))
    response = Response(stream)
    try:
        chunks = application(environ_of(request, stream), response.start)
        try:
            if isinstance(chunks, (list, tuple)) and len(chunks) <= 1 and not response.sent:
                response.whole(chunks[0] if chunks else b"")
            else:
                for chunk in chunks:
                    response.write(chunk)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        response.end()
    except Gone:
        raise
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        response.fail()
    finally:
        stream.drop()


class Input(io.RawIOBase):
    """wsgi.input over a Stream."""

    def __init__(self, stream):
        super().__init__()
        self._stream = stream
        self._rest = b""

    def readable(self):
        return True

    def readinto(self, buffer):
        if not self._rest:
            self._rest = self._stream.chunk()
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


class Response:
    """start_response and write, as frames."""

    def __init__(self, stream):
        self._wire = stream.wire
        self._stream = stream
        self._head = None
        self.sent = False

    def start(self, status, headers, exc_info=None):
        if exc_info is not None and self.sent:
            raise exc_info[1].with_traceback(exc_info[2])
        self._head = {"status": int(status.split(None, 1)[0]), "headers": [[name, value] for name, value in headers]}
        return self.write

    def whole(self, body):
        """The response in one frame, when it fits."""
        if len(body) > frames.CREDIT_BYTES:
            self.write(body)
            return
        self._result(self._opened(), body)
        self.sent = True
        self._head = None

    def write(self, data):
        if not data:
            return  # the head waits for the first bytes: until then the application may change it
        if not self.sent:
            self._result(self._opened(), b"", frames.MORE)
            self.sent = True
        for at in range(0, len(data), frames.CHUNK_BYTES):
            chunk = data[at : at + frames.CHUNK_BYTES]
            self._stream.spend(len(chunk))
            self._wire.send(frames.BODY, self._stream.invocation, chunk)

    def end(self):
        if self.sent and self._head is None:
            return
        if not self.sent:
            self.whole(b"")
            return
        finish(self._wire, self._stream.invocation)

    def fail(self):
        """The application raised: an error when nothing went out yet, else a cut-off body."""
        if self.sent and self._head is None:
            return
        if not self.sent:
            meta = {"status": 500, "headers": [["content-type", "text/plain; charset=utf-8"]]}
            body = b"Internal Server Error"
            self._result(meta, body)
            return
        finish(self._wire, self._stream.invocation, cut=True)

    def _opened(self):
        if self._head is None:
            raise AssertionError("the application answered before it called start_response")
        return self._head

    def _result(self, meta, body, flags=0):
        self._wire.send_meta(frames.RESULT, self._stream.invocation, meta, body, flags)


def environ_of(request, stream):
    """PEP 3333's environ of a request."""
    headers = request.get("headers", ())
    environ = {
        "REQUEST_METHOD": request["method"],
        "SCRIPT_NAME": _text(request.get("root", "")),
        "PATH_INFO": _text(request.get("path", "/")),
        "QUERY_STRING": request.get("query", ""),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": split_host(request.get("client", ""))[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.get("scheme", "http"),
        "wsgi.input": io.BufferedReader(Input(stream)),
        "wsgi.input_terminated": True,  # a body without a Content-Length can be read to its end
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "ondol.request_id": request.get("id", ""),
    }
    for name, value in headers:
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        environ[key] = environ[key] + "," + value if key in environ else value
    host, port = split_host(environ.get("HTTP_HOST", "localhost"))
    environ["SERVER_NAME"], environ["SERVER_PORT"] = host, port or "80"
    return environ


def _text(path):
    return unquote_to_bytes(path).decode("latin-1")
