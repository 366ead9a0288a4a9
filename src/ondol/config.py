"""The node's settings: what can be set, where it is read from, and what each value may be.

A setting is given by a flag of `ondol up`, by `ONDOL_<NAME>`, or in `ondol.toml`; the first of these that names it wins.
This module reads no file at import, knows no room, and starts nothing: rooms get their own frozen limits from whoever wires
them. docs/reference/settings.md is generated from `SPECS`, and a test keeps the two equal.

Invariants: an unknown name is refused, never ignored; a value is checked before anything is started; `Settings` is frozen.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeGuard

ENV_PREFIX: Final = "ONDOL_"
#: Names the settings file; no setting of its own.
CONFIG_ENV: Final = "ONDOL_CONFIG"
CONFIG_FILE: Final = "ondol.toml"
CONFIG_BYTES_MAX: Final = 1_000_000

ISOLATIONS: Final = ("auto", "process", "sandbox", "bwrap", "crun", "gvisor")
#: What no upstream is asked for.
OWN_SERVICES: Final = ("lambda", "logs", "monitoring", "sts", "iam")
MEMORY_MIB_FLOOR: Final = 256


class SettingRefused(Exception):  # noqa: N818  # reads as what happened
    """A setting is unknown or has a value it cannot have. `str()` is one sentence that says how to mend it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything an operator can choose. Units are in the names; see `SPECS` for what each means."""

    listen: str
    data: Path
    isolation: str
    network: str
    open: bool
    account: str
    region: str
    runtime_substitute: str
    fronts: int
    stock_shells: int
    idle_s_max: int
    freeze_s_min: float
    memory_mib_max: int
    disk_reserve_mib: int
    concurrency_max: int
    scaling_max: int
    trust_s_max: float
    public_hosts: tuple[str, ...]
    drain_s: float
    log_level: str
    otel_endpoint: str
    upstream: tuple[str, ...]
    with_emulator: bool
    #: Where each was read, by name: an option, a variable, "NAME in FILE", or "default".
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """The address to listen on, without brackets."""
        return split_listen(self.listen)[0]

    @property
    def port(self) -> int:
        return split_listen(self.listen)[1]

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the listener."""
        return is_loopback(self.host)

    @property
    def url(self) -> str:
        """Where clients of this machine find the node."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  # read, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One setting: how it is called, what it means, and how a value is read."""

    name: str
    doc: str
    #: How the value is written in help and docs ("HOST:PORT"); choices stand in `choices`.
    form: str
    parse: Callable[[Any], Any]
    default: Callable[[], Any]
    #: The default as the docs show it.
    default_text: str
    choices: tuple[str, ...] = ()

    @property
    def env(self) -> str:
        return ENV_PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def switch(self) -> bool:
        """A flag without a value."""
        return self.parse is _boolean


def split_listen(value: str) -> tuple[str, int]:
    """("127.0.0.1", 7979) of "127.0.0.1:7979", "[::1]:7979" or ":7979". Raises ValueError."""
    host, colon, port = value.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65_535:
        raise ValueError("expected HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:7979")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address is written in brackets: [::1]:7979")
    return host or "127.0.0.1", int(port)


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def host_memory_mib() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1024 * 1024)


# How values are read: each takes what a flag, a variable (text) or the file (a TOML value) gave, and raises ValueError ---


def _text(pattern: str, expected: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"expected {expected}")
        return value

    return parse


def _listen(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text: HOST:PORT")  # noqa: TRY004  # all refusals look alike to the caller
    split_listen(value)
    return value


def _path(value: Any) -> Path:
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
        raise ValueError("expected a directory")
    return Path(value).expanduser().absolute()


def _choice(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return str(value)

    return parse


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError("expected true or false")
    return words[value.lower()]


def _number(low: float, high: float, kind: Callable[[Any], float], what: str) -> Callable[[Any], Any]:
    def parse(value: Any) -> float:
        expected = ValueError(f"expected {what} from {low:,} to {high:,}".replace(",", "_"))
        if isinstance(value, bool) or (kind is int and isinstance(value, float)):
            raise expected
        try:
            number = kind(value)
        except (TypeError, ValueError):
            raise expected from None
        if not low <= number <= high:
            raise expected
        return number

    return parse


def _url(value: Any) -> str:
    """An address of HTTP; "" for none."""
    if value == "":
        return ""
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value, re.ASCII):
        raise ValueError("expected an address such as http://127.0.0.1:4318")
    return value


def _hosts(value: Any) -> tuple[str, ...]:
    names = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not _texts(names):
        raise ValueError("expected host names, separated by commas")
    names = [name.lower() for name in names if name]
    for name in names:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", name):
            raise ValueError(f"{name!r} is no host name (no scheme, no port, no wildcard)")
    return tuple(names)


def _upstreams(value: Any) -> tuple[str, ...]:
    given = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not _texts(given):
        raise ValueError("expected addresses, separated by commas")
    found = tuple(each.rstrip("/") for each in given if each)
    services = []
    for each in found:
        named = re.fullmatch(r"(?:([a-z0-9-]{1,64})=)?https?://([^\s/?#@,]+)", each, re.ASCII)
        if named is None:
            raise ValueError(f"{each!r} is no [SERVICE=]URL without a path, such as http://127.0.0.1:5000")
        if named[1] in OWN_SERVICES:
            raise ValueError(f"{named[1]!r} is served by the node itself")
        services.append(named[1])
    if len(set(services)) < len(services):
        raise ValueError("expected one address for each service, and one for all others")
    return found


def _texts(value: Any) -> TypeGuard[Sequence[str]]:
    return isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value)


SPECS: Final[tuple[Spec, ...]] = (
    Spec(
        name="listen",
        doc="Address and port that the node listens on. Port 0 takes a free one. Anything but a loopback address lets other "
        "machines in: they need the node's keys.",
        form="HOST:PORT",
        parse=_listen,
        default=lambda: "127.0.0.1:7979",
        default_text="127.0.0.1:7979",
    ),
    Spec(
        name="data",
        doc="Directory with everything the node keeps. One node per directory.",
        form="DIR",
        parse=_path,
        default=lambda: Path(".ondol").absolute(),
        default_text="./.ondol",
    ),
    Spec(
        name="isolation",
        doc="What stands between functions. `auto` takes the best level that needs nothing else and prints what is missing; a "
        "named level that cannot be had refuses to start. `process` stops accidents only; `sandbox` needs nothing else; "
        "`bwrap`, `crun` and `gvisor` need bubblewrap, crun and gVisor's runsc. A function may ask for more than its node "
        "gives, never for less.",
        form="LEVEL",
        parse=_choice(*ISOLATIONS),
        default=lambda: "auto",
        default_text="auto",
        choices=ISOLATIONS,
    ),
    Spec(
        name="network",
        doc="What functions may reach besides their node. `none`: nothing. `egress`: the world, but nothing of this machine, "
        "of other functions, or link-local. `auto` is `egress` where the machine can, else `none`, and says so. `host` is "
        "`auto`, and functions that ask for it share the machine's network. A function may ask for less by itself.",
        form="KIND",
        parse=_choice("auto", "none", "egress", "host"),
        default=lambda: "auto",
        default_text="auto",
        choices=("auto", "none", "egress", "host"),
    ),
    Spec(
        name="open",
        doc="Ask nobody for a key. Refused unless the listener is on a loopback address.",
        form="",
        parse=_boolean,
        default=lambda: False,
        default_text="false",
    ),
    Spec(
        name="account",
        doc="The account that owns the node's functions and keys: twelve digits.",
        form="ID",
        parse=_text(r"[0-9]{12}", "twelve digits, such as 000000000000"),
        default=lambda: "000000000000",
        default_text="000000000000",
    ),
    Spec(
        name="region",
        doc="The region that clients of this node use.",
        form="NAME",
        parse=_text(r"[a-z]{2,12}(-[a-z]{2,16}){1,2}-[0-9]{1,2}", "a region's name, such as us-east-1"),
        default=lambda: "us-east-1",
        default_text="us-east-1",
    ),
    Spec(
        name="runtime_substitute",
        doc="What happens to a function whose interpreter is not on this machine: `none` answers with an error that says how "
        "to get it, `nearest` runs it on the nearest interpreter there is and says so in its log.",
        form="RULE",
        parse=_choice("none", "nearest"),
        default=lambda: "none",
        default_text="none",
        choices=("none", "nearest"),
    ),
    Spec(
        name="fronts",
        doc="Processes that take calls, each on a core of its own. More of them take more calls at a time; each keeps "
        "environments of its own, so that a function that is called seldom has more cold starts.",
        form="COUNT",
        parse=_number(1, 64, int, "a whole number"),
        default=lambda: 1,
        default_text="1",
    ),
    Spec(
        name="stock_shells",
        doc="Empty sandboxes kept ready of each kind, so that a cold start does not wait for one to be made; more, up to 64 "
        "per front, while as many are needed at once. Shared out among the fronts; 0 keeps none.",
        form="COUNT",
        parse=_number(0, 1_000, int, "a whole number"),
        default=lambda: 8,
        default_text="8",
    ),
    Spec(
        name="idle_s_max",
        doc="Seconds that an environment may wait for its next call before it is ended.",
        form="SECONDS",
        parse=_number(1, 86_400, int, "whole seconds"),
        default=lambda: 600,
        default_text="600",
    ),
    Spec(
        name="freeze_s_min",
        doc="Seconds without a call after which an environment is frozen: what its function left running uses no processor "
        "until the next call. Needs control groups of version 2 (`ondol doctor`).",
        form="SECONDS",
        parse=_number(0.05, 86_400, float, "seconds"),
        default=lambda: 5.0,
        default_text="5",
    ),
    Spec(
        name="memory_mib_max",
        doc="Memory that all environments together may be promised, in MiB. Each front has an equal part, and a function has "
        "to fit into that.",
        form="MIB",
        parse=_number(MEMORY_MIB_FLOOR, 16_777_216, int, "whole MiB"),
        default=lambda: max(MEMORY_MIB_FLOOR, host_memory_mib() * 3 // 4),
        default_text="three quarters of the machine's",
    ),
    Spec(
        name="disk_reserve_mib",
        doc="What of the data directory's disk functions leave free together, in MiB, however much each may keep in /tmp. "
        "Under it no environment is started, and the one that holds most is ended. 0 keeps nothing.",
        form="MIB",
        parse=_number(0, 16_777_216, int, "whole MiB"),
        default=lambda: 256,
        default_text="256",
    ),
    Spec(
        name="concurrency_max",
        doc="Calls of one account that may be running or waiting at a time; the next one is told to try again later.",
        form="COUNT",
        parse=_number(1, 100_000, int, "a whole number"),
        default=lambda: 1000,
        default_text="1000",
    ),
    Spec(
        name="scaling_max",
        doc="New environments that one function may get for its calls at once, and in each 10 seconds after that; a call that "
        "would need more is told to try again later.",
        form="COUNT",
        parse=_number(1, 100_000, int, "a whole number"),
        default=lambda: 1000,
        default_text="1000",
    ),
    Spec(
        name="trust_s_max",
        doc="Longest that a call waits for environments that are up, because that seems quicker than starting another one, in "
        "seconds; 0 starts one for every waiting call.",
        form="SECONDS",
        parse=_number(0, 60, float, "seconds"),
        default=lambda: 1.0,
        default_text="1",
    ),
    Spec(
        name="public_hosts",
        doc="Host names, besides those of the listener, under which the node is reached. A request for any other is "
        "refused, so that a web page cannot talk to the node behind its reader's back.",
        form="NAME,…",
        parse=_hosts,
        default=lambda: (),
        default_text="none",
    ),
    Spec(
        name="drain_s",
        doc="Seconds that calls under way are given to end when the node stops.",
        form="SECONDS",
        parse=_number(0, 900, float, "seconds"),
        default=lambda: 2.5,
        default_text="2.5",
    ),
    Spec(
        name="log_level",
        doc="How much the node itself says on its standard error.",
        form="LEVEL",
        parse=_choice("debug", "info", "warning", "error"),
        default=lambda: "info",
        default_text="info",
        choices=("debug", "info", "warning", "error"),
    ),
    Spec(
        name="otel_endpoint",
        doc="Where an OpenTelemetry collector takes spans of invocations, over OTLP/HTTP. Needs the extra `ondol[otel]`.",
        form="URL",
        parse=_url,
        default=lambda: "",
        default_text="none",
    ),
    Spec(
        name="upstream",
        doc="Where requests to services of AWS's go that Ondol does not serve, as they came: an address for all, or one for a "
        "service by its name in signatures (`s3=http://127.0.0.1:9000`). Code in S3 is read from there, too.",
        form="[SERVICE=]URL,…",
        parse=_upstreams,
        default=lambda: (),
        default_text="none",
    ),
    Spec(
        name="with_emulator",
        doc="Start an emulator of many AWS services (S3, SQS, SNS, DynamoDB …) beside the node, as the upstream of all that "
        "`upstream` names no server for. In memory: what it holds ends with the node. Needs the extra `ondol[emulator]`.",
        form="",
        parse=_boolean,
        default=lambda: False,
        default_text="false",
    ),
)

assert [*(spec.name for spec in SPECS), "sources"] == [each.name for each in fields(Settings)]


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> Settings:
    """The settings in force. `flags` holds what was given on the command line, by name; None means not given.

    `config` names the settings file; without it `ONDOL_CONFIG` does, else `ondol.toml` of the working directory if it is there.
    Raises SettingRefused.
    """
    environ = os.environ if environ is None else environ
    flags = {name: value for name, value in (flags or {}).items() if value is not None}
    file, path = _read_file(config, environ)
    _refuse_unknown(flags, environ, file, path)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for spec in SPECS:
        for source, where in (
            (flags.get(spec.name), spec.flag),
            (environ.get(spec.env), spec.env),
            (file.get(spec.name), f"{spec.name} in {path}"),
        ):
            if source is not None:
                values[spec.name], sources[spec.name] = _parsed(spec, source, where), where
                break
        else:
            values[spec.name], sources[spec.name] = spec.default(), "default"
    settings = Settings(**values, sources=sources)
    _check_together(settings)
    return settings


def _parsed(spec: Spec, source: Any, where: str) -> Any:
    try:
        return spec.parse(source)
    except ValueError as error:
        raise SettingRefused(f"{where}: {source!r} cannot be used: {error}.") from None


def _check_together(settings: Settings) -> None:
    """What no single value can tell."""
    if settings.open and not settings.loopback:
        raise SettingRefused(
            f"--open lets everybody in without a key, so it needs a loopback address, and {settings.listen} is none: "
            "listen on 127.0.0.1, or leave --open out."
        )
    share_mib = settings.memory_mib_max // settings.fronts
    if share_mib < MEMORY_MIB_FLOOR:
        raise SettingRefused(
            f"--fronts {settings.fronts} leaves each front {share_mib} of {settings.memory_mib_max} MiB, "
            f"and one needs {MEMORY_MIB_FLOOR}: "
            f"start at most {settings.memory_mib_max // MEMORY_MIB_FLOOR}, or give more with --memory-mib-max."
        )


def _read_file(config: Path | None, environ: Mapping[str, str]) -> tuple[dict[str, Any], Path]:
    named = config or (Path(environ[CONFIG_ENV]) if environ.get(CONFIG_ENV) else None)
    path = named or Path(CONFIG_FILE)
    try:
        with path.open("rb") as file:
            raw = file.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        if named is None:
            return {}, path
        raise SettingRefused(f"settings file {path} does not exist.") from None
    except OSError as error:
        raise SettingRefused(f"settings file {path} cannot be read: {error.strerror}.") from None
    if len(raw) > CONFIG_BYTES_MAX:
        raise SettingRefused(f"settings file {path} is larger than {CONFIG_BYTES_MAX} bytes: that is no settings file.")
    try:
        return tomllib.loads(raw.decode()), path
    except ValueError as error:
        raise SettingRefused(f"settings file {path} is not valid TOML: {error}.") from None


def _refuse_unknown(flags: Mapping[str, Any], environ: Mapping[str, str], file: Mapping[str, Any], path: Path) -> None:
    names = [spec.name for spec in SPECS]
    variables = [spec.env for spec in SPECS]
    for name in flags:
        if name not in names:
            raise SettingRefused(_unknown("setting", name, names))
    for name in environ:
        if name.startswith(ENV_PREFIX) and name not in variables and name != CONFIG_ENV:
            raise SettingRefused(_unknown("environment variable", name, [*variables, CONFIG_ENV]))
    for name in file:
        if name not in names:
            raise SettingRefused(_unknown(f"setting in {path}:", name, names))


def _unknown(what: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    mend = f"did you mean {near[0]}?" if near else "docs/reference/settings.md lists all that there are."
    return f"unknown {what} {name}: {mend}"
