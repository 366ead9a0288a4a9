"""A child that waits for its function does, once and for nobody, what it will do for the first call.

After a fork every page that is written to is copied first, and everything looked up for the first time is looked up slowly:
both cost a first call more than its handler does. So the child enters a made-up world, loads a handler from a file, answers
one call into a socket of its own, and forgets: nothing of it is left that a function could see.
"""

import json
import logging
import os
import socket
import sys

import ondol_guest
from ondol_guest import aws, aws_context, aws_trace, frames, guest

_SETTINGS = {
    "guest": "aws",
    "handler": "ondol_guest.rehearsed.handler",
    "runtime": "",
    "variables": {"REHEARSAL_%d" % number: "x" * 24 for number in range(32)},
    "memory_mib": 128,
    "timeout_s": 3,
    "cwd": "/",
    # Not in "path": what lies there wins over what was imported ahead, and this is what that was imported from.
    "path": [],
    "path_last": [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))],
}
_META = {"id": "00000000-0000-4000-8000-000000000000", "deadline_ms": 0, "arn": "", "trace": "Root=0"}
_EVENT = {"text": "x" * 64, "number": 1.5, "list": [None, True, {"a": 1}]}
_MODULE = "ondol_guest.rehearsed"


def rehearse():
    """Go through it; whatever goes wrong, the function's own turn comes as if nothing had been."""
    path, arguments, environment = sys.path[:], sys.argv[:], dict(os.environ)
    streams = sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__
    converter, handlers = logging.Formatter.converter, logging.root.handlers[:]
    try:
        _call_once()
    except Exception:  # noqa: S110  (it only makes the first call quicker)
        pass
    finally:
        sys.path[:], sys.argv[:] = path, arguments
        sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__ = streams
        aws_trace.show(None)
        os.environ.clear()
        os.environ.update(environment)
        aws_context.forget_facts()
        logging.Formatter.converter = converter
        logging.root.handlers[:] = handlers
        sys.modules.pop(_MODULE, None)
        ondol_guest.__dict__.pop("rehearsed", None)
        sys.path_importer_cache.clear()


def _call_once():
    node, inside = socket.socketpair()
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    log = guest.Log(null)
    wire = guest.Wire(inside.fileno(), log)
    try:
        node.sendall(
            frames.pack(frames.INIT, 0, json.dumps(_SETTINGS).encode())
            + frames.pack(frames.ATTACHED)
            + frames.pack_meta(frames.CALL, 1, json.dumps(_META).encode(), json.dumps(_EVENT).encode())
            + frames.pack(frames.STOP, 0, b"")
        )
        guest.put_on(log)
        settings = guest.await_init(wire)
        guest.dress(settings)
        guest.begin(settings, wire)
        guest.await_attached(wire, settings["cwd"])
        guest.move_in(settings)
        aws.serve(wire, settings)
        for frame in frames.FrameReader().feed(node.recv(guest.READ_BYTES)):
            del frame
    finally:
        del guest.after_fork[:]
        node.close()
        inside.close()
        os.close(log.fd)
        os.close(null)
