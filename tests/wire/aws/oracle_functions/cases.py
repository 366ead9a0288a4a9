"""One handler, many behaviours: `event["case"]` says which. Runs under awslambdaric and under our guest; must run on both alike."""

import collections
import datetime
import decimal
import enum
import logging
import os
import subprocess
import sys
import traceback
import warnings

import helper

logger = logging.getLogger("app")
print("loading cases")
logging.warning("a record while loading")

Point = collections.namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    pass


class Table(dict):
    pass


class HasAsDict:
    def _asdict(self):
        return {"a": 1}


class CustomError(Exception):
    def __init__(self, code, detail):
        super().__init__(code, detail)
        self.code = code


class SpokenError(Exception):
    def __str__(self):
        return "spoken: é"


def circular():
    value = []
    value.append(value)
    return value


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


VALUES = {
    "none": lambda: None,
    "true": lambda: True,
    "integer": lambda: 42,
    "big integer": lambda: 2**200,
    "float": lambda: 1.5,
    "whole float": lambda: 3.0,
    "tiny float": lambda: 1e-300,
    "nan": lambda: float("nan"),
    "infinity": lambda: [float("inf"), float("-inf")],
    "text": lambda: "hello",
    "empty text": lambda: "",
    "control characters": lambda: 'a\x00\x1f"\\/\n\t\x7f\u2028',
    "korean and emoji": lambda: {"온돌": "따뜻한 바닥 🔥"},
    "list": lambda: [1, "2", None, [], {}],
    "nested": lambda: {"a": {"b": [{"c": [1.25, False]}]}},
    "tuple": lambda: (1, 2),
    "named tuple": lambda: Point(1, 2),
    "named tuple inside": lambda: {"at": [Point(1, Point(2, 3))]},
    "decimal": lambda: decimal.Decimal("1.10"),
    "decimals inside": lambda: {"price": [decimal.Decimal("19.990"), decimal.Decimal("1E+5")], "n": 1.0},
    "decimal nan": lambda: decimal.Decimal("NaN"),
    "bytes": lambda: b'{"raw": true}',
    "bytes that are no text": lambda: b"\xff\xfe",
    "bytes inside": lambda: {"b": "é".encode()},
    "bytes inside that are no text": lambda: {"b": b"\xff"},
    "byte array": lambda: bytearray(b"x"),
    "set": lambda: {1},
    "set inside": lambda: {"a": {1}},
    "object": lambda: object.__new__(CustomError),
    "datetime": lambda: datetime.datetime(2026, 1, 1),
    "complex": lambda: 1j,
    "exception as value": lambda: ValueError("x"),
    "class as value": lambda: Point,
    "generator": lambda: (n for n in range(3)),
    "dict view": lambda: {"a": 1}.keys(),
    "integer enum": lambda: {"c": Colour.RED, "l": [Colour.RED]},
    "text subclass": lambda: {"t": Text("x"), Text("k"): 1},
    "dict subclass": lambda: Table(a=1),
    "ordered dict": lambda: collections.OrderedDict([("z", 1), ("a", 2)]),
    "default dict": lambda: collections.defaultdict(list, a=[1]),
    "has _asdict": lambda: HasAsDict(),
    "odd keys": lambda: {1: "a", 1.5: "b", None: "c", True: "d", "s": "e"},
    "odd keys beside a decimal": lambda: {2: decimal.Decimal(1), None: 1, False: 2, 2.5: 3},
    "bytes key": lambda: {b"k": 1},
    "tuple key": lambda: {(1, 2): 3},
    "circular": circular,
    "deep": lambda: deep(100),
    "long list": lambda: list(range(5000)),
}


def raise_from():
    try:
        {}["missing"]
    except KeyError as error:
        raise RuntimeError("outer") from error


def raise_while_handling():
    try:
        helper.divide(1, 0)
    except ZeroDivisionError:
        raise LookupError("second")


def raise_with_notes():
    error = ValueError("noted")
    if hasattr(error, "add_note"):
        error.add_note("a note")
    raise error


def raise_it(error):
    raise error


def recurse(n=0):
    return recurse(n + 1)


def run_compiled():
    exec(compile("def inner():\n    raise ValueError('compiled')\ninner()", "<generated>", "exec"), {})


ERRORS = {
    "value error": lambda: raise_it(ValueError("bad value")),
    "without a message": lambda: raise_it(ValueError()),
    "key error": lambda: {}["missing"],
    "non-text arguments": lambda: raise_it(ValueError(1, {"a": None})),
    "custom class": lambda: raise_it(CustomError(7, "detail")),
    "class with its own text": lambda: raise_it(SpokenError()),
    "unicode and lines": lambda: raise_it(ValueError("첫 줄\nsecond line\n  third")),
    "from another": raise_from,
    "while handling another": raise_while_handling,
    "with notes": raise_with_notes,
    "in another module": lambda: helper.divide(1, 0),
    "recursion": recurse,
    "compiled code": run_compiled,
    "syntax error at run time": lambda: compile("a b", "later.py", "exec"),
    "import error at run time": lambda: __import__("not_there"),
    "assertion": lambda: helper.check(False),
    "stop iteration": lambda: next(iter(())),
    "group": lambda: raise_it(ExceptionGroup("many", [ValueError("a"), KeyError("b")])),
    "timeout error": lambda: raise_it(TimeoutError("slow")),
    "unicode error": lambda: b"\xff".decode(),
}


def log_levels():
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL, 25):
        logger.log(level, "at %d", level)


def log_at_info():
    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.INFO)
    logger.info("informed")
    logger.debug("not shown")
    logging.getLogger().setLevel(before)


def log_exception():
    try:
        helper.divide(1, 0)
    except ZeroDivisionError:
        logger.exception("it failed: %s", "really")


def log_in_order():
    print("one")
    sys.stdout.flush()
    os.write(1, b"two\n")
    logger.error("three")
    print("four", file=sys.stderr)
    subprocess.run(["echo", "five"], check=True)
    os.write(2, b"six\n")
    print("seven")


def log_many_lines():
    print("multi\nline\n\nwith an empty one")
    print("a", "b", sep="\n", end="")


def log_parts():
    sys.stdout.write("no ")
    sys.stdout.write("newline yet")
    sys.stdout.write("\n")
    sys.stdout.writelines(["x\n", "y\n"])


def log_with_handler_of_its_own():
    handler = logging.StreamHandler(sys.stdout)
    other = logging.getLogger("other")
    other.addHandler(handler)
    other.warning("twice")
    other.removeHandler(handler)


def log_traceback():
    try:
        raise_from()
    except RuntimeError:
        traceback.print_exc()


def log_objects():
    logger.warning({"a": 1, "b": "é"})
    logger.warning("with extra", extra={"order": 17, "odd": object, "none": None})
    logger.warning("%s and %r", Point(1, 2), b"x")


def log_basic_config():
    logging.basicConfig(level=logging.DEBUG)
    logger.debug("basicConfig changes nothing")


LOGS = {
    "levels": log_levels,
    "at info": log_at_info,
    "exception": log_exception,
    "in order": log_in_order,
    "many lines": log_many_lines,
    "in parts": log_parts,
    "handler of its own": log_with_handler_of_its_own,
    "traceback": log_traceback,
    "objects": log_objects,
    "basic config": log_basic_config,
    "multi-line record": lambda: logger.warning("first\nsecond\n\tthird"),
    "empty record": lambda: logger.warning(""),
    "warning": lambda: warnings.warn("careful", stacklevel=1),
    "carriage return": lambda: print("50%\r100%"),
    "no text": lambda: os.write(1, b"\xff\xfe bytes\n"),
}


def shown(thing):
    return None if thing is None else {name: getattr(thing, name) for name in thing.__slots__}


def context_fields(context):
    names = (
        "aws_request_id function_name function_version invoked_function_arn memory_limit_in_mb log_group_name log_stream_name "
        "tenant_id"
    ).split()
    fields = {name: getattr(context, name) for name in names}
    fields["identity"] = shown(context.identity)
    fields["client_context"] = client = shown(context.client_context)
    if client and client["client"] is not None:
        client["client"] = shown(client["client"])
    fields["remaining"] = 0 < context.get_remaining_time_in_millis() <= 60_000
    fields["remaining is an int"] = type(context.get_remaining_time_in_millis()) is int
    fields["w3c"] = context.w3c()
    fields["repr"] = repr(context)
    fields["class"] = type(context).__name__
    fields["trace"] = os.environ.get("_X_AMZN_TRACE_ID")
    return fields


def handler(event, context):
    kind = event["kind"]
    if kind == "value":
        return VALUES[event["case"]]()
    if kind == "error":
        return ERRORS[event["case"]]()
    if kind == "log":
        LOGS[event["case"]]()
        return None
    if kind == "echo":
        return event
    if kind == "context log":
        context.log("from the context\nin two lines\n")
        context.log(17)
        return None
    return context_fields(context)
