"""The AWS contract's guest half: `handler(event, context)`, behaving as the `awslambdaric` library does.

What a function can observe is the same: how its handler is found and what is said when it is not, the context object, how
results become JSON, what an exception looks like to the caller and in the log, the logging set-up. `tests/wire/aws` runs
both on the same functions. Deliberate differences: the warning after a failed load is short (the rest of AWS's speaks of its
own runtime updates), and a result that is no UTF-8 is a Runtime.MarshalError instead of the end of the process.

Meta of a CALL (JSON): id, deadline_ms, arn, trace, and where the caller said so client_context,
identity (both JSON text or an object), tenant, and `stream`: true, when an answer may come bit by bit (aws_stream).
Meta of a RESULT: empty, or {"too_large": bytes} in place of a body that the node would not take.
"""

import importlib
import json
import logging
import os
import sys
import traceback

from ondol_guest import aws_trace, frames
from ondol_guest.aws_context import LambdaContext
from ondol_guest.aws_json import Encoder
from ondol_guest.aws_logging import set_up_logging

#: 6 MiB and room for an envelope.
RESULT_BYTES_MAX = 6 * 1024 * 1024 + 100

LOAD_WARNING = "LAMBDA_WARNING: Unhandled exception. The most likely cause is an issue in the function code.\r"


#: What a generator function returns.
GENERATOR = type(_ for _ in ())

#: (value, where it ends) of the JSON text at a place. Most of what json.loads costs for a small text is not reading it.
scan = json.JSONDecoder().scan_once


class Fault(Exception):  # noqa: N818  # AWS's word
    """A failure that the runtime names itself, in place of an exception's class."""

    def __init__(self, kind, message, trace=None):
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.trace = trace


def begin(wire):
    """Set up what needs no file of the function's: its variables are there."""
    wire.begun = Guest(wire)


def serve(wire, settings):
    """Load the handler, then answer calls until STOP."""
    guest = wire.begun or Guest(wire)
    if not guest.load(settings["handler"]):
        sys.exit(1)
    wire.ready()
    recv = wire.recv
    flags = 0
    while True:
        near = flags >> frames.CPU_SHIFT
        kind, flags, invocation, payload = recv() if not near else recv_near(recv, near - 1)
        if kind == frames.CALL:
            guest.call(invocation, payload)
        elif kind == frames.STOP:
            return


def recv_near(recv, cpu):
    """The next frame, waited for on the CPU where its sender is. Whoever takes it up may run wherever it might before."""
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, (cpu,))
    except OSError:  # the function gave that one up, or the machine did
        return recv()
    try:
        return recv()
    finally:
        os.sched_setaffinity(0, allowed)


class Guest:
    """One loaded function."""

    def __init__(self, wire):
        self.wire = wire
        self.sink = set_up_logging(wire.log)
        self.encode = Encoder(os.environ.get("AWS_EXECUTION_ENV", "")).encode
        self.handler = None

    def load(self, name):
        """Find the handler; False when that failed and the node was told."""
        try:
            self.handler = find_handler(name)
            return True
        except Fault as fault:
            error = make_error(fault.message, fault.kind, fault.trace, "")
        except Exception:
            error = error_of(*sys.exc_info(), "")
        logging.getLogger().warning(LOAD_WARNING)
        self.sink.log_failure(error, self.encode)
        self.wire.send_meta(frames.INIT_FAILED, 0, {"init_ms": self.wire.init_ms()}, self.encode(error))
        return False

    def call(self, invocation, payload):
        """Answer one CALL."""
        meta, event = frames.split_meta(payload)
        meta = scan(meta.decode(), 0)[0]
        request = meta["id"]
        self.sink.request_id = request
        self.sink.tenant_id = meta.get("tenant")
        aws_trace.show(meta.get("trace"))
        error = None
        try:
            context = make_context(meta)
            event = decode(event)
            response = self.handler(event, context)
            if isinstance(response, GENERATOR) and meta.get("stream"):
                importlib.import_module("ondol_guest.aws_stream").answer(self, invocation, response, request)
                return
            body = self.marshal(response)
        except Fault as fault:
            error = make_error(fault.message, fault.kind, fault.trace, request)
        except Exception:
            error = error_of(*sys.exc_info(), request)
        if error is None:
            self.answer(invocation, body, 0)
        else:
            self.sink.log_failure(error, self.encode)
            self.answer(invocation, self.encode(error), frames.ERROR)

    def marshal(self, response):
        """The result as bytes: bytes as they are, all else as JSON."""
        if isinstance(response, bytes):
            return response
        try:
            return self.encode(response)
        except Exception as error:
            raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % error) from None

    def answer(self, invocation, body, flags):
        """Send the result, or how large it was when the node would not take it."""
        if len(body) > RESULT_BYTES_MAX:
            meta = {"too_large": len(body)}
            self.wire.send_meta(frames.RESULT, invocation, meta, b"", frames.ERROR)
        else:
            self.wire.send_meta(frames.RESULT, invocation, b"", body, flags)


def find_handler(name):
    """The object that "a/b.c.handler" names. Raises Fault, and whatever the module's code raises."""
    try:
        module_name, attribute = name.rsplit(".", 1)
    except ValueError as error:
        raise Fault("Runtime.MalformedHandlerName", "Bad handler '%s': %s" % (name, error)) from None
    if module_name.split(".")[0] in sys.builtin_module_names:
        message = "Cannot use built-in module %s as a handler module" % module_name
        raise Fault("Runtime.BuiltInModuleConflict", message)
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        message = "Unable to import module '%s': %s" % (module_name, error)
        raise Fault("Runtime.ImportModuleError", message) from None
    except SyntaxError as error:
        message = "Syntax error in module '%s': %s" % (module_name, error)
        trace = ['  File "%s" Line %s\n    %s' % (error.filename, error.lineno, error.text)]
        raise Fault("Runtime.UserCodeSyntaxError", message, trace) from None
    try:
        return getattr(module, attribute)
    except AttributeError:
        message = "Handler '%s' missing on module '%s'" % (attribute, module_name)
        raise Fault("Runtime.HandlerNotFound", message) from None


def decode(event):
    """The event as Python data."""
    try:
        text = event.decode()
        value, end = scan(text, 0)
    except Exception:  # white space in front, or no JSON
        end = -1
    if end >= 0 and end == len(text):
        return value
    try:
        return json.loads(event)
    except Exception as error:
        raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % error) from None


def make_context(meta):
    """The handler's second argument."""
    client_context, identity = meta.get("client_context"), meta.get("identity")
    return LambdaContext(
        meta["id"],
        None if client_context is None else parsed(client_context, "Client Context"),
        None if identity is None else parsed(identity, "Cognito Identity"),
        meta["deadline_ms"],
        meta.get("arn"),
        meta.get("tenant"),
    )


def parsed(value, name):
    """`value`, out of its JSON text when it is one; None for nothing."""
    if not isinstance(value, str):
        return value
    if not value:
        return None
    try:
        return json.loads(value)
    except Exception as error:
        message = "Unable to parse %s JSON: %s" % (name, error)
        raise Fault("Runtime.LambdaContextUnmarshalError", message) from None


def error_of(kind, value, trace, request):
    """The payload of an exception that the function raised."""
    return make_error(str(value), kind.__name__, traceback.format_list(frames_of(trace)), request)


def make_error(message, kind, trace, request):
    """The payload that callers get for a failure; always these four keys."""
    return {"errorMessage": message or "", "errorType": kind or "", "requestId": request, "stackTrace": trace or []}


def frames_of(trace):
    """The traceback's entries from the first one outside the guest on; all of them when there is none."""
    entries = [(f.filename, f.lineno, f.name, f.line) for f in traceback.extract_tb(trace)]
    own = os.path.dirname(find_handler.__code__.co_filename)
    for index, entry in enumerate(entries):
        if os.path.dirname(entry[0]) != own:
            return entries[index:]
    return entries
