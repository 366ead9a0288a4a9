"""The emulator of other AWS services: moto's server as one of the node's processes, on a socket that only the desk reaches.

It runs as an ordinary user, keeps everything in memory, ends with the node whatever ends that, and is started again when it
dies, empty. What it answers is moto's business; who may ask it is the desk's.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from ondol.config import Settings, is_loopback
from ondol.model.errors import InvalidSetting
from ondol.node.lines import die_with_parent, receive

#: Of the process, and of its socket.
NAME: Final = "emulator"
_NEEDED: Final = ("moto", "flask", "flask_cors", "werkzeug")


def check(settings: Settings, endpoint: str, say: Callable[[str], None]) -> None:
    """Raise InvalidSetting for an upstream that cannot be; say what an operator has to know of one that can."""
    for each in settings.upstream:
        named, equals, url = each.partition("=")
        parts, own = urlsplit(url if equals else named), urlsplit(endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if port == own.port and parts.hostname and (is_loopback(parts.hostname) or parts.hostname == own.hostname):
            text = f"--upstream {each} is this node itself; name a server that answers what the node does not"
            raise InvalidSetting("upstream", text)
        if settings.with_emulator and not equals:
            text = "--with-emulator is the upstream of all services that --upstream names no server for: write SERVICE=URL"
            raise InvalidSetting("upstream", text)
    if not settings.with_emulator:
        return
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        text = f"--with-emulator needs {', '.join(missing)}: pip install 'ondol[emulator]'"
        raise InvalidSetting("with_emulator", text)
    say("an emulator answers for other AWS services; it keeps everything in memory and forgets it when the node ends")


def serve(line: socket.socket, listener: int) -> None:
    """Until the supervisor says stop, or is gone."""
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()
    # Before it is imported: it reads them once.
    os.environ.update({"MOTO_ALLOW_NONEXISTENT_REGION": "true", "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"})
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):
        """Says nothing of what goes well."""

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            del code, size

    application = DomainDispatcherApplication(create_backend_app)
    make_server("unix://emulator", 0, application, threaded=True, request_handler=Quiet, fd=listener).serve_forever()


def _end_with(line: socket.socket) -> None:
    """Nothing is worth keeping: the word to stop is the end."""
    while True:
        received = receive(line)
        if received is None or "stop" in received[0]:
            os._exit(0)


if __name__ == "__main__":
    die_with_parent()
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
