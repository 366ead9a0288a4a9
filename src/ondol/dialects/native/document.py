"""The native API's JSON of a function, both ways: checked on its way in, complete on its way out."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from ondol.core.catalog import Index
from ondol.core.deploy import Deployed
from ondol.dialects.native.reading import as_shape
from ondol.model import limits
from ondol.model.errors import InvalidPayload, InvalidSetting
from ondol.model.functions import Configuration

NAME_FORM: Final = re.compile(r"[a-zA-Z0-9-_]{1,64}")
CONTRACT: Final = "web"
COMMAND: Final = "command"
#: Larger bodies are decoded by the helper.
INLINE_BYTES_MAX: Final = 1024 * 1024
#: What the helper must be able to do.
JOBS: Final = {"native.decode": "ondol.dialects.native.document:decode"}
_RUNTIME_FORM: Final = re.compile(r"python3\.\d{1,2}|command")
_DEFAULTS: Final = {"memory_mib": 128, "timeout_s": 30, "tmp_mib": 512}
#: Asks for no level of isolation in particular.
_NODES_OWN: Final = "node"
_DEFAULT_NETWORK: Final = "default"
_Network = Literal["default", "none", "egress", "host"]
_Text = Annotated[str, Meta(min_length=1, max_length=1024)]


class FunctionSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a web function's owner decides. What is left out, or null, stays as it is; a new function gets the default."""

    contract: Annotated[str | None, Meta(description="`web`: other functions are deployed through their own API")] = None
    runtime: Annotated[_Text | None, Meta(description="`python3.N`, or `command`; needed when new")] = None
    handler: Annotated[_Text | None, Meta(description="`MODULE:NAME`, or the command; needed when new")] = None
    memory_mib: Annotated[int, Meta(ge=limits.MEMORY_MIB_MIN, le=limits.MEMORY_MIB_MAX)] | None = None
    timeout_s: Annotated[int, Meta(ge=limits.TIMEOUT_S_MIN, le=limits.TIMEOUT_S_MAX)] | None = None
    tmp_mib: Annotated[int, Meta(ge=limits.TMP_MIB_MIN, le=limits.TMP_MIB_MAX)] | None = None
    isolation: Annotated[_Text | None, Meta(description="a level, not less than the node's; `node`: the node's")] = None
    network: Annotated[_Network | None, Meta(description="what it reaches; `default`: what the node gives")] = None
    variables: Annotated[dict[str, str] | None, Meta(description="replaces all; at most 4,096 bytes together")] = None


class FunctionWanted(FunctionSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A web function as it shall be: its settings, and its code."""

    zip_base64: Annotated[str | None, Meta(description="the archive in base64; needed when new")] = None


class FunctionDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is shown of a function. Values of its variables are not: they often are secrets."""

    name: str
    contract: str
    runtime: str
    interpreter: Annotated[str, Meta(description="what runs it here")]
    handler: str
    memory_mib: int
    timeout_s: int
    tmp_mib: int
    isolation: Annotated[str, Meta(description="the level it was deployed for; `node`: the node's")]
    network: Annotated[str, Meta(description="what it reaches; `default`: what the node gives")]
    variables: Annotated[list[str], Meta(description="names only")]
    created_s: float
    updated_s: float
    code_bytes: int
    code_sha256: str
    state: str
    versions: list[int]
    aliases: list[str]
    tags: dict[str, str]
    reserved_concurrency: Annotated[int | None, Meta(description="calls at once that are kept for it, and all it gets")]
    settings: Annotated[dict[str, dict[str, Any]], Meta(description="what other APIs keep of it, by API, in their own words")]


class FunctionPage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Functions of every contract, by name."""

    functions: list[FunctionDocument]
    next: Annotated[str | None, Meta(description="give it as `after` for the next page; null on the last")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a PUT asks for; what it does not name stays as it is, or is the default."""

    given: Mapping[str, Any]
    archive: bytes

    def configuration(self, old: Configuration | None) -> Configuration:
        """The whole configuration. Raises InvalidSetting where a new function lacks something."""
        for name in ("runtime", "handler"):
            if old is None and name not in self.given:
                raise InvalidSetting(name, f"a new function needs {name!r}")
        base = msgspec.to_builtins(old) if old else _DEFAULTS
        whole = {**base, **self.given}
        # A program is a contract of its own inside: it has another guest half.
        whole["contract"] = COMMAND if whole["runtime"] == COMMAND else CONTRACT
        return msgspec.convert(whole, Configuration)


def decode(body: bytes) -> tuple[dict[str, Any], bytes]:
    """A PUT's JSON, and the archive out of it. Pure, so that a helper process can do it. Raises InvalidPayload."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidPayload(f"the body is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidPayload("the body is no JSON object")
    packed = document.pop("zip_base64", "") or ""
    try:
        return document, base64.b64decode(packed, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise InvalidPayload("zip_base64 is not base64 text") from None


def decoding(ask: Callable[..., Awaitable[Any]]) -> Callable[[bytes], Awaitable[tuple[dict[str, Any], bytes]]]:
    """`decode`, in the helper process where the body is large."""

    async def decoded(body: bytes) -> tuple[dict[str, Any], bytes]:
        if len(body) <= INLINE_BYTES_MAX:
            return decode(body)
        document, archive = await ask("native.decode", body=body)
        return document, archive

    return decoded


def wanted_of(document: Mapping[str, Any], archive: bytes = b"") -> Wanted:
    """What a PUT's or PATCH's JSON asks for. Raises InvalidSetting with the field's name."""
    return wanted(as_shape(document, FunctionSettings), archive)


def wanted(settings: FunctionSettings, archive: bytes = b"") -> Wanted:
    """The settings, where they can be. Raises InvalidSetting with the field's name."""
    given = {name: value for name in settings.__struct_fields__ if (value := getattr(settings, name)) is not None}
    if given.get("contract", CONTRACT) != CONTRACT:
        raise InvalidSetting("contract", f"only {CONTRACT!r} functions are put here; deploy others through their own API")
    for name in ("runtime", "handler"):
        if "\0" in given.get(name, ""):
            raise InvalidSetting(name, f"{name} holds a NUL, which no module's name or command line can")
    runtime = given.get("runtime", COMMAND)
    if not _RUNTIME_FORM.fullmatch(runtime):
        raise InvalidSetting(
            "runtime", f"runtime {runtime!r}: expected python3.N, or command for a program that listens on $PORT"
        )
    _check_variables(given.get("variables", {}))
    if given.get("isolation") == _NODES_OWN:
        given["isolation"] = ""
    if given.get("network") == _DEFAULT_NETWORK:
        given["network"] = ""
    return Wanted(given=given, archive=archive)


def _check_variables(value: Mapping[str, str]) -> None:
    for name in value:
        if not re.fullmatch(r"[a-zA-Z_]\w*", name, re.ASCII):
            raise InvalidSetting("variables", f"{name!r} is no name of an environment variable")
        if not _sayable(value[name]):
            raise InvalidSetting(
                "variables", f"the value of {name!r} holds a NUL or half a surrogate pair: no process can have it"
            )
    size = sum(len(k.encode()) + len(v.encode()) for k, v in value.items())
    if size > limits.ENVIRONMENT_BYTES_MAX:
        raise InvalidSetting("variables", f"variables take {size} bytes, at most {limits.ENVIRONMENT_BYTES_MAX} are allowed")


def _sayable(text: str) -> bool:
    """Whether an environment can hold it."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def document_of(name: str, deployed: Deployed, index: Index, interpreter: str) -> FunctionDocument:
    """What is shown of a function."""
    function, revision = deployed.function, deployed.revision
    configuration = revision.configuration
    return FunctionDocument(
        name=name,
        contract=configuration.contract,
        runtime=configuration.runtime,
        interpreter=interpreter,
        handler=configuration.handler,
        memory_mib=configuration.memory_mib,
        timeout_s=configuration.timeout_s,
        tmp_mib=configuration.tmp_mib,
        isolation=configuration.isolation or _NODES_OWN,
        network=configuration.network or _DEFAULT_NETWORK,
        variables=sorted(configuration.variables),
        created_s=function.created_s,
        updated_s=revision.created_s,
        code_bytes=revision.code.zipped_bytes,
        code_sha256=revision.code.sha256,
        state=function.stage.value,
        versions=[version.number for version in index.versions(function.id)],
        aliases=[alias.name for alias in index.aliases(function.id)],
        tags=dict(function.tags),
        reserved_concurrency=function.concurrency_reserved,
        settings=_settings(function.annotations, configuration.annotations),
    )


def _settings(*annotations: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each dialect keeps of function and revision together: roles, layers, URLs and the like."""
    merged: dict[str, dict[str, Any]] = {}
    for kept in annotations:
        for dialect, members in kept.items():
            merged.setdefault(dialect, {}).update(members)
    return {dialect: members for dialect, members in sorted(merged.items()) if members}
