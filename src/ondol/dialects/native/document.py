"""The native API's JSON of a function, both ways: checked on its way in, complete on its way out."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ondol.core.catalog import Index
from ondol.core.deploy import Deployed
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
_RANGES: Final = {
    "memory_mib": (limits.MEMORY_MIB_MIN, limits.MEMORY_MIB_MAX),
    "timeout_s": (limits.TIMEOUT_S_MIN, limits.TIMEOUT_S_MAX),
    "tmp_mib": (limits.TMP_MIB_MIN, limits.TMP_MIB_MAX),
}
_DEFAULTS: Final = {"memory_mib": 128, "timeout_s": 30, "tmp_mib": 512}
_TEXTS: Final = ("contract", "runtime", "handler")
_KNOWN: Final = frozenset({*_RANGES, *_TEXTS, "variables"})


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


def wanted_of(document: Mapping[str, Any], archive: bytes) -> Wanted:
    """What a PUT's JSON asks for. Raises InvalidSetting with the field's name."""
    for name, value in document.items():
        if name not in _KNOWN:
            raise InvalidSetting(name, f"{name!r} is no setting of a function; there are {', '.join(sorted(_KNOWN))}")
        _check(name, value)
    if document.get("contract", CONTRACT) != CONTRACT:
        raise InvalidSetting("contract", f"only {CONTRACT!r} functions are put here; deploy others through their own API")
    return Wanted(given={name: value for name, value in document.items() if value is not None}, archive=archive)


def _check(name: str, value: Any) -> None:
    if value is None:
        return
    if name in _RANGES:
        low, high = _RANGES[name]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InvalidSetting(name, f"{name} is {value!r}; a whole number from {low} to {high} is expected")
    elif name == "variables":
        _check_variables(value)
    elif not isinstance(value, str) or not 0 < len(value) <= 1024:
        raise InvalidSetting(name, f"{name} is a text of 1 to 1024 characters")
    elif "\0" in value:
        raise InvalidSetting(name, f"{name} holds a NUL, which no module's name or command line can")
    elif name == "runtime" and not _RUNTIME_FORM.fullmatch(value):
        raise InvalidSetting(name, f"runtime {value!r}: expected python3.N, or command for a program that listens on $PORT")


def _check_variables(value: Any) -> None:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise InvalidSetting("variables", "variables are an object of texts")
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


def document_of(name: str, deployed: Deployed, index: Index, interpreter: str) -> dict[str, Any]:
    """What is shown of a function. Values of its variables are not: they often are secrets."""
    function, revision = deployed.function, deployed.revision
    configuration = revision.configuration
    return {
        "name": name,
        "contract": configuration.contract,
        "runtime": configuration.runtime,
        "interpreter": interpreter,
        "handler": configuration.handler,
        "memory_mib": configuration.memory_mib,
        "timeout_s": configuration.timeout_s,
        "tmp_mib": configuration.tmp_mib,
        "variables": sorted(configuration.variables),
        "created_s": function.created_s,
        "updated_s": revision.created_s,
        "code_bytes": revision.code.zipped_bytes,
        "code_sha256": revision.code.sha256,
        "state": function.stage.value,
        "versions": [version.number for version in index.versions(function.id)],
        "aliases": [alias.name for alias in index.aliases(function.id)],
        "tags": dict(function.tags),
    }
