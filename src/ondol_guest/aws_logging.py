"""The logging set-up of the AWS contract: a root handler that writes whole records into the log pipe, as text or as JSON."""

import json
import logging
import os
import time
import traceback

TEXT_FORMAT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
TEXT_TIME = "%Y-%m-%dT%H:%M:%S"
JSON_TIME = "%Y-%m-%dT%H:%M:%SZ"
NO_BREAK_SPACE = "\u00a0"

#: Attributes of every record; what else a record has came by `extra` and is shown.
COMMON = frozenset(
    (
        *("name", "msg", "args", "levelname", "levelno", "pathname", "filename", "module", "exc_info", "exc_text"),
        *("stack_info", "lineno", "funcName", "created", "msecs", "relativeCreated", "thread", "threadName"),
        *("processName", "process", "aws_request_id", "tenant_id", "_frame_type"),
    )
)
# A value that is no JSON is shown as its text: a record must not be lost for it.
_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode


def set_up_logging(log):
    """Install the root handler that the environment's variables ask for; the sink that it writes to."""
    as_json = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    level = "DEBUG" if level == "TRACE" else level
    sink = (JsonSink if as_json else TextSink)(log)
    logging.Formatter.converter = time.gmtime
    handler = LambdaLoggerHandler(sink)
    handler.setFormatter(JsonFormatter() if as_json else logging.Formatter(TEXT_FORMAT, TEXT_TIME))
    handler.addFilter(LambdaLoggerFilter(sink))
    root = logging.getLogger()
    if isinstance(getattr(logging, level, None), int) and level.isupper():
        root.setLevel(level)
    root.addHandler(handler)
    return sink


class TextSink:
    """Where records go, and what they are marked with."""

    def __init__(self, log):
        self._log = log
        #: Of the call under way; None while loading.
        self.request_id = None
        self.tenant_id = None

    def log(self, message, frame_type=None):  # noqa: ARG002  # libraries pass it
        self._log.record(message)

    def log_error(self, lines):
        self._log.record("\n".join(lines))

    def log_failure(self, error, encode):  # noqa: ARG002  # JSON needs it
        """Write the error payload of a call, or of loading, to the log."""
        lines = [("[ERROR] %s: %s" if error["errorMessage"] else "[ERROR] %s%s") % (error["errorType"], error["errorMessage"])]
        lines.append("Traceback (most recent call last):")
        for entry in error["stackTrace"]:
            lines.extend(map(_indented, entry.splitlines()) if entry else [""])
        self.log_error(lines)


class JsonSink(TextSink):
    """The same for AWS_LAMBDA_LOG_FORMAT=JSON."""

    def log_failure(self, error, encode):
        record = {"timestamp": time.strftime(JSON_TIME, time.gmtime()), "level": "ERROR"}
        record.update(error)
        self.log_error([encode(record).decode()])


class LambdaLoggerHandler(logging.Handler):
    """Writes records to the sink. Libraries look for its `log_sink`."""

    def __init__(self, log_sink):
        super().__init__()
        self.log_sink = log_sink

    def emit(self, record):
        self.log_sink.log(self.format(record))


class LambdaLoggerFilter(logging.Filter):
    """Marks records with the request that they belong to."""

    def __init__(self, sink):
        super().__init__()
        self._sink = sink

    def filter(self, record):
        record.aws_request_id = self._sink.request_id or ""
        record.tenant_id = self._sink.tenant_id
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object per record."""

    def __init__(self):
        super().__init__(datefmt=JSON_TIME)

    def format(self, record):
        record.levelno = min(50, max(0, record.levelno)) // 10 * 10
        record.levelname = logging.getLevelName(record.levelno)
        as_object = isinstance(record.msg, dict) and not record.args
        shown = {
            "timestamp": self.formatTime(record, self.datefmt),
            "level": record.levelname,
            "message": record.msg if as_object else record.getMessage(),
            "logger": record.name,
        }
        shown.update(_exception(record))
        shown["requestId"] = getattr(record, "aws_request_id", None)
        if record.exc_info:
            shown["location"] = "%s:%s:%s" % (record.pathname, record.funcName, record.lineno)
        shown["tenantId"] = getattr(record, "tenant_id", None)
        for name, value in record.__dict__.items():
            if name not in COMMON and name not in shown:
                shown[name] = value
        return _encode({name: value for name, value in shown.items() if value is not None}) + "\n"


def _exception(record):
    if not record.exc_info:
        return {}
    kind, value, trace = record.exc_info
    return {
        "stackTrace": traceback.format_tb(trace),
        "errorType": kind.__name__ if kind else None,
        "errorMessage": str(value),
    }


def _indented(line):
    """`line` with no-break spaces in front: log viewers drop plain ones."""
    text = line.lstrip(" ")
    return NO_BREAK_SPACE * (len(line) - len(text)) + text
