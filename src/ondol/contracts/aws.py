"""The AWS contract, host half: what AWS Lambda tells a function, and says around and in place of its answers. Pure.

Texts and forms are those that AWS was recorded to give; where none was found a comment says so. The platform's lines under
`LogFormat: JSON` are in aws_json.

`Invocation.context` may hold: invoked_arn, client_context (JSON text or an object), cognito_identity (the same).
`annotations["aws"]` of a configuration may hold LoggingConfig (LogGroup, LogFormat, ApplicationLogLevel,
SystemLogLevel).
"""

from __future__ import annotations

import hashlib
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ondol.contract import Place
from ondol.model.functions import UNNUMBERED, Configuration, Revision, Target
from ondol.model.invocations import Invocation, Outcome, Report, Status
from ondol.model.limits import RESULT_BYTES_MAX, STREAM_BYTES_MAX
from ondol.runtime import Answer, LogSink

#: Where AWS's own services listen in a sandbox. Nothing does here; libraries only look whether the names are set.
_RUNTIME_API: Final = "169.254.100.1:9001"
_XRAY_HOST: Final = "169.254.100.1"

#: What a function may set for itself; everything else of the platform's is the platform's.
_DEFAULTS: Final[Mapping[str, str]] = {
    "LANG": "en_US.UTF-8",
    "TZ": ":UTC",
    "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
    # Harmless although the shell is no Amazon Linux: the interpreter was forked, so only programs that a function starts read
    # it; directories that are not there are skipped, and /lib64 and /usr/lib64 are searched anyway. Programs and libraries
    # that a function brings along count on it.
    "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
}
#: More of them, by how the runtime's id begins.
_DEFAULTS_OF: Final[Mapping[str, Mapping[str, str]]] = {
    "python": {"LC_CTYPE": "C.UTF-8", "PYTHONPATH": "/var/runtime"},
    # No managed language is there, so neither are its directories.
    "provided": {
        "PATH": "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "LD_LIBRARY_PATH": "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    },
}

_json: Final = msgspec.json.Encoder().encode
#: What few calls say, in the guest's words and in an invocation's context.
_SELDOM: Final = (("client_context", "client_context"), ("identity", "cognito_identity"))

#: Of an answer's meta, what callers may want to know: the media type of a body, the type of an error that ended one.
_HEAD: Final = ("content_type", "error_type")
_NO_HEAD: Final[Mapping[str, str]] = {}

#: How the platform of AWS, written in Go, calls signals.
_SIGNALS: Final[Mapping[int, str]] = {
    signal.SIGHUP: "hangup",
    signal.SIGINT: "interrupt",
    signal.SIGQUIT: "quit",
    signal.SIGILL: "illegal instruction",
    signal.SIGTRAP: "trace/breakpoint trap",
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "floating point exception",
    signal.SIGKILL: "killed",
    signal.SIGUSR1: "user defined signal 1",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGUSR2: "user defined signal 2",
    signal.SIGPIPE: "broken pipe",
    signal.SIGALRM: "alarm clock",
    signal.SIGTERM: "terminated",
    signal.SIGXCPU: "CPU time limit exceeded",
    signal.SIGXFSZ: "file size limit exceeded",
    signal.SIGSYS: "bad system call",
}

#: What callers and logs are told of a call that the platform ended.
ERROR_TYPES: Final[Mapping[Status, str]] = {
    Status.TIMEOUT: "Sandbox.Timedout",
    Status.CRASHED: "Runtime.ExitError",
    Status.OUT_OF_MEMORY: "Runtime.OutOfMemory",
    Status.TOO_LARGE: "Function.ResponseSizeTooLarge",
}


class AwsContract:
    """`ondol.contract.Contract` for AWS Lambda's handlers."""

    name = "aws"
    guest = "aws"
    concurrency = 1
    stream_bytes_max: int | None = STREAM_BYTES_MAX

    def __init__(self, json: Callable[[str, str], AwsContract] | None = None) -> None:
        """`json` makes the one for revisions with LogFormat JSON, from their SystemLogLevel and ApplicationLogLevel."""
        self._json = json

    def of(self, revision: Revision) -> AwsContract:
        config = _logging(revision.configuration)
        if self._json is None or config.get("LogFormat") != "JSON":
            return self
        return self._json(config.get("SystemLogLevel") or "INFO", config.get("ApplicationLogLevel") or "INFO")

    def log_place(self, revision: Revision, place: Place) -> tuple[str, str]:
        own = f"/aws/lambda/{revision.name}"
        group = _logging(revision.configuration).get("LogGroup") or own
        day = time.strftime("%Y/%m/%d", time.gmtime(place.started_s))
        name = "" if group == own else revision.name  # several functions may share a group of their choice
        return group, f"{day}/{name}[{version_label(place.version)}]{place.environment}"

    def variables(self, revision: Revision, place: Place) -> Mapping[str, str]:
        """The function's own come over the defaults and under what is the platform's."""
        configuration = revision.configuration
        group, stream = self.log_place(revision, place)
        variables = {
            **_DEFAULTS,
            **_defaults_of(configuration.runtime),
            # Not AWS's: it makes SDKs inside the function talk to this node.
            "AWS_ENDPOINT_URL": place.endpoint,
            **configuration.variables,
            "AWS_ACCESS_KEY_ID": place.access_key_id,
            "AWS_SECRET_ACCESS_KEY": place.secret,
            "AWS_SESSION_TOKEN": place.session_token,
            "AWS_REGION": revision.region,
            "AWS_DEFAULT_REGION": revision.region,
            "AWS_LAMBDA_FUNCTION_NAME": revision.name,
            "AWS_LAMBDA_FUNCTION_VERSION": version_label(place.version),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration.memory_mib),
            "AWS_LAMBDA_INITIALIZATION_TYPE": _initialization(configuration, place),
            "AWS_LAMBDA_LOG_GROUP_NAME": group,
            "AWS_LAMBDA_LOG_STREAM_NAME": stream,
            "AWS_LAMBDA_RUNTIME_API": _RUNTIME_API,
            "AWS_XRAY_DAEMON_ADDRESS": f"{_XRAY_HOST}:2000",
            "_AWS_XRAY_DAEMON_ADDRESS": _XRAY_HOST,
            "_AWS_XRAY_DAEMON_PORT": "2000",
            "LAMBDA_TASK_ROOT": "/var/task",
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "PWD": "/var/task",
            "SHLVL": "0",
            "_HANDLER": configuration.handler,
            **_log_format(configuration),
        }
        if not configuration.runtime.startswith("provided"):
            variables["AWS_EXECUTION_ENV"] = f"AWS_Lambda_{configuration.runtime}"
        if configuration.concurrency and not configuration.runtime.startswith("nodejs"):
            # Not for Node.js: its libraries take it for a process that runs several calls, and here each has its own.
            variables["AWS_LAMBDA_MAX_CONCURRENCY"] = str(configuration.concurrency)
        return variables

    def meta(self, invocation: Invocation, target: Target, *, deadline_ms: int) -> bytes:
        context = invocation.context
        meta: dict[str, Any] = {
            "id": invocation.id,
            "deadline_ms": deadline_ms,
            "arn": context.get("invoked_arn") or invoked_arn(target),
            "trace": invocation.trace,
        }
        if invocation.streamed:
            meta["stream"] = True
        if invocation.tenant is not None:
            meta["tenant"] = invocation.tenant
        for name, key in _SELDOM:
            if key in context:
                meta[name] = context[key]
        return _json(meta)

    def sifted(self, sink: LogSink) -> LogSink:
        return sink

    def opening(self, revision: Revision, place: Place) -> Sequence[str]:
        runtime = revision.configuration.runtime
        arn = runtime_version_arn(revision.region, runtime)
        lines = [f"INIT_START Runtime Version: {runtime_version(runtime)}\tRuntime Version ARN: {arn}\n"]
        if place.substitute is not None:
            lines.append(f"{runtime} is not on this machine: {place.substitute} runs this function in its place\n")
        return lines

    def started(self, invocation: Invocation, target: Target) -> Sequence[str]:
        return (f"START RequestId: {invocation.id} Version: {version_label(target.revision.version)}\n",)

    def settled(self, report: Report) -> Sequence[str]:
        status = report.status
        lines = (f"END RequestId: {report.invocation}\n", _report_line(report))
        if status is Status.OK:
            return lines
        if status is Status.TIMEOUT:
            return (f"{timestamp(report.ended_s)} {report.invocation} {timed_out(report)}\n\n", *lines)
        if status is Status.CRASHED or status is Status.OUT_OF_MEMORY:
            return (f"RequestId: {report.invocation} Error: {exited(report)}\nRuntime.ExitError\n", *lines)
        return lines

    def outcome(self, invocation: Invocation, report: Report, answer: Answer | None) -> Outcome:
        body: Any = b"null" if answer is None else answer.body
        head: Mapping[str, str] = _NO_HEAD
        message = None if report.status is Status.OK else self._message(invocation, report)
        if message is not None:
            body = msgspec.json.encode({"errorType": ERROR_TYPES[report.status], "errorMessage": message})
            head = {"error_type": ERROR_TYPES[report.status]}
        elif answer is not None and answer.meta:
            head = {name: answer.meta[name] for name in _HEAD if isinstance(answer.meta.get(name), str)}
        return Outcome(status=report.status, body=body, target_version=report.version, report=report, head=head)

    def _message(self, invocation: Invocation, report: Report) -> str | None:
        """What the platform says in the function's place; None when the function spoke for itself."""
        if report.status is Status.TOO_LARGE:
            most = STREAM_BYTES_MAX if invocation.streamed else RESULT_BYTES_MAX
            return f"Response payload size exceeded maximum allowed payload size ({most} bytes)."
        if report.status is Status.TIMEOUT:
            return f"RequestId: {invocation.id} Error: {timed_out(report)}"
        if report.status is Status.CRASHED or report.status is Status.OUT_OF_MEMORY:
            return f"RequestId: {invocation.id} Error: {exited(report)}"
        return None


def _defaults_of(runtime: str) -> Mapping[str, str]:
    if runtime.startswith("nodejs"):
        layers = f"/opt/nodejs/node{runtime.removeprefix('nodejs').partition('.')[0]}/node_modules:/opt/nodejs/node_modules"
        return {"NODE_PATH": f"{layers}:/var/runtime/node_modules:/var/runtime:/var/task"}
    return next((more for begins, more in _DEFAULTS_OF.items() if runtime.startswith(begins)), {})


def version_label(version: int | None) -> str:
    """A version as AWS writes it."""
    return "$LATEST" if version is None else "$LATEST.PUBLISHED" if version == UNNUMBERED else str(version)


def invoked_arn(target: Target) -> str:
    """The function as it was called: unqualified when no qualifier was given."""
    function = target.function
    arn = f"arn:aws:lambda:{function.region}:{function.account}:function:{function.name}"
    return arn if target.qualifier is None else f"{arn}:{target.qualifier}"


def runtime_version(runtime: str) -> str:
    """AWS's form for a runtime's release."""
    language = runtime.rstrip("0123456789.x") if runtime.startswith(("python", "nodejs")) else runtime
    return f"{language}:{runtime[len(language) :].removesuffix('.x')}.v1" if runtime != language else runtime


def runtime_version_arn(region: str, runtime: str) -> str:
    """AWS's form; the 64 digits are the hash of the runtime's id, so that they are the same wherever they are shown."""
    return f"arn:aws:lambda:{region}::runtime:{hashlib.sha256(runtime.encode()).hexdigest()}"


def _initialization(configuration: Configuration, place: Place) -> str:
    if "CapacityProviderConfig" in configuration.annotations.get("aws", {}):
        return "lambda-managed-instances"
    return "provisioned-concurrency" if place.pinned else "on-demand"


def _logging(configuration: Configuration) -> Mapping[str, Any]:
    config = configuration.annotations.get("aws", {}).get("LoggingConfig")
    return config if isinstance(config, Mapping) else {}


def _log_format(configuration: Configuration) -> dict[str, str]:
    config = _logging(configuration)
    if config.get("LogFormat") != "JSON":
        return {}
    return {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": config.get("ApplicationLogLevel") or "INFO"}


def timed_out(report: Report) -> str:
    """What the log and the caller are told of a timeout."""
    return f"Task timed out after {report.timeout_s:.2f} seconds"


def exited(report: Report) -> str:
    """How the process ended, for the log and the caller."""
    status = -signal.SIGKILL if report.status is Status.OUT_OF_MEMORY else report.exit_status
    if not status:
        return "Runtime exited without providing a reason"
    if status > 0:
        return f"Runtime exited with error: exit status {status}"
    return f"Runtime exited with error: signal: {_SIGNALS.get(-status, f'signal {-status}')}"


def _report_line(report: Report) -> str:
    # A call that ran out of time is shown, and billed, with its limit: what went on while it was being ended is not its.
    limit_ms = report.timeout_s * 1000
    duration_ms = limit_ms if report.status is Status.TIMEOUT else report.duration_ms
    billed_ms = math.ceil(round(duration_ms + (report.init_ms or 0.0), 3)) or 1
    init = "" if report.init_ms is None else f"Init Duration: {report.init_ms:.2f} ms\t"
    status = "" if report.status is Status.OK else _report_status(report.status)
    return (
        f"REPORT RequestId: {report.invocation}\tDuration: {duration_ms:.2f} ms\tBilled Duration: {billed_ms} ms\t"
        f"Memory Size: {report.memory_mib} MB\tMax Memory Used: {report.memory_peak_mib} MB\t{init}{status}\n"
    )


def _report_status(status: Status) -> str:
    if status is Status.TIMEOUT:
        return "Status: timeout"
    if status in ERROR_TYPES:  # recorded for ExitError and OutOfMemory; for too large a response it is inferred
        return f"Status: error\tError Type: {ERROR_TYPES[status]}"
    return ""


def timestamp(at_s: float) -> str:
    """A moment as AWS writes it, to the millisecond."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s))
    return f"{whole}.{int(at_s * 1000) % 1000:03d}Z"
