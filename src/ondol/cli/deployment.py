"""Creating a function or bringing it up to date, through the AWS API or the node's own; what `ondol deploy` and the tour do.

What the user leaves out is guessed when a function is new, and kept when it is there already; either way it is told.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ondol.cli import client, package
from ondol.cli.doctor import runtimes_here
from ondol.cli.node import Node
from ondol.cli.shape import Exit, Failure

READY_S_MAX: Final = 60.0
POLL_S: Final = 0.05
ROLE: Final = "ondol"
CUSTOM_RUNTIME: Final = "provided.al2023"
#: Asked for where this machine has no Node.js: the node then says how to get it.
NODE_RUNTIME: Final = "nodejs22.x"
#: How the AWS API is asked for what it has no word for; and the word that asks for nothing in particular.
NETWORK_TAG: Final = "ondol:network"
NETWORK_DEFAULT: Final = "default"
ISOLATION_TAG: Final = "ondol:isolation"
ISOLATION_DEFAULT: Final = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user asked for; None and empty mean not said."""

    name: str
    package: package.Package
    handler: str | None = None
    command: str | None = None
    runtime: str | None = None
    memory_mib: int | None = None
    timeout_s: int | None = None
    network: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    #: A level, or ISOLATION_DEFAULT for the node's; None: as it is.
    isolation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What came of it: "created", "updated" or "unchanged", what was assumed, and the configuration in force."""

    name: str
    change: str
    contract: str
    runtime: str
    handler: str
    memory_mib: int
    timeout_s: int
    code_bytes: int
    assumed: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        names = ("name", "change", "contract", "runtime", "handler", "memory_mib", "timeout_s", "code_bytes")
        return {**{name: getattr(self, name) for name in names}, "assumed": list(self.assumed)}


def deploy_aws(where: Node, wish: Wish) -> Deployed:
    """Create or update a function with the AWS contract."""
    api = client.aws(where, "lambda")
    old = _configuration(where, api, wish.name)
    assumed: list[str] = []
    wanted = _wanted_aws(wish, old, assumed)
    if old is None:
        code = {"ZipFile": wish.package.archive}
        role = f"arn:aws:iam::{where.account}:role/{ROLE}"
        tags = {tag: asked for tag, asked, usual in _wishes(wish) if asked != usual}
        client.ask(where, api.create_function, FunctionName=wish.name, Role=role, Code=code, Tags=tags, **wanted)
        change = "created"
    else:
        change = _update_aws(where, api, wish, wanted, old)
    now = _wait_ready(where, api, wish.name)
    return Deployed(
        name=wish.name,
        change=change,
        contract="aws",
        runtime=now.get("Runtime", ""),
        handler=now.get("Handler", ""),
        memory_mib=now.get("MemorySize", 0),
        timeout_s=now.get("Timeout", 0),
        code_bytes=now.get("CodeSize", len(wish.package.archive)),
        assumed=tuple(assumed),
    )


def recode_aws(where: Node, api: Any, wish: Wish, known: Deployed | None) -> Deployed | None:
    """New code for a function that was deployed before, in two requests; None: it needs more than that, use `deploy_aws`."""
    if known is None or not (wish.handler or package.has_module(wish.package, known.handler)):
        return None
    try:
        client.ask(where, api.update_function_code, FunctionName=wish.name, ZipFile=wish.package.archive)
    except Failure as failure:  # it is gone, or somebody else is at it
        if client.is_missing(failure) or failure.message.startswith("ResourceConflictException:"):
            return None
        raise
    now = _wait_ready(where, api, wish.name)
    return replace(known, change="updated", code_bytes=now.get("CodeSize", len(wish.package.archive)), assumed=())


def _update_aws(where: Node, api: Any, wish: Wish, wanted: dict[str, Any], old: dict[str, Any]) -> str:
    """Send only what differs: new code first, then a new configuration, each waited for."""
    change = "unchanged"
    _wait_ready(where, api, wish.name)
    if old.get("CodeSha256") != _sha256_base64(wish.package.archive):
        client.ask(where, api.update_function_code, FunctionName=wish.name, ZipFile=wish.package.archive)
        _wait_ready(where, api, wish.name)
        change = "updated"
    known = {**old, "Environment": {"Variables": old.get("Environment", {}).get("Variables", {})}}
    if any(known.get(key) != value for key, value in wanted.items()):
        client.ask(where, api.update_function_configuration, FunctionName=wish.name, **wanted)
        change = "updated"
    retagged = [_retag_aws(where, api, wish.name, str(old["FunctionArn"]), *each) for each in _wishes(wish)]
    return "updated" if any(retagged) else change


def _wishes(wish: Wish) -> list[tuple[str, str, str]]:
    """(tag, what is asked for by it, what is had without it) of what the user named."""
    all_ = ((NETWORK_TAG, wish.network, NETWORK_DEFAULT), (ISOLATION_TAG, wish.isolation, ISOLATION_DEFAULT))
    return [(tag, asked, usual) for tag, asked, usual in all_ if asked is not None]


def _retag_aws(where: Node, api: Any, name: str, arn: str, tag: str, asked: str, usual: str) -> bool:  # noqa: PLR0917
    """Whether a tag had to be changed for what is asked."""
    if client.ask(where, api.list_tags, Resource=arn)["Tags"].get(tag, usual) == asked:
        return False
    _wait_ready(where, api, name)
    if asked == usual:
        client.ask(where, api.untag_resource, Resource=arn, TagKeys=[tag])
    else:
        client.ask(where, api.tag_resource, Resource=arn, Tags={tag: asked})
    return True


def _wanted_aws(wish: Wish, old: dict[str, Any] | None, assumed: list[str]) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    kept = old.get("Handler") if old else None
    other = _other_language(wish, old)
    if wish.handler:
        wanted["Handler"] = wish.handler
    elif kept is None or not package.has_module(wish.package, kept):
        guess = other[1] if other else package.guess_aws_handler(wish.package)
        wanted["Handler"] = _guessed(guess, wish, "--handler MODULE.FUNCTION")
        assumed.append(f"handler {wanted['Handler']}")
    if wish.runtime:
        wanted["Runtime"] = wish.runtime
    elif old is None:
        wanted["Runtime"] = newest_runtime(other[0] if other else "python")
        assumed.append(f"runtime {wanted['Runtime']}")
    for key, value, default, unit in (
        ("MemorySize", wish.memory_mib, 128, "MiB of memory"),
        ("Timeout", wish.timeout_s, 3, "s at most"),
    ):
        if value is not None:
            wanted[key] = value
        elif old is None:
            wanted[key] = default
            assumed.append(f"{default} {unit}")
    if wish.variables:
        wanted["Environment"] = {"Variables": dict(wish.variables)}
    return wanted


def deploy_web(where: Node, wish: Wish) -> Deployed:
    """Create or update a function that is a web server."""
    native = client.Native(where)
    try:
        old: dict[str, Any] | None = native.function(wish.name)
    except Failure as failure:
        if not client.is_missing(failure):
            raise
        old = None
    assumed: list[str] = []
    wanted = _wanted_web(wish, old, assumed)
    now = old or {}
    same_code = now.get("code_sha256") == hashlib.sha256(wish.package.archive).hexdigest()
    # Values of variables are not shown by the node, so that given ones always count as a change.
    if same_code and not wish.variables and all(now.get(key) == wanted[key] for key in wanted.keys() - {"contract"}):
        change = "unchanged"
    else:
        change = "updated" if old else "created"
        zipped = {} if same_code else {"zip_base64": base64.b64encode(wish.package.archive).decode()}
        now = native.put(wish.name, {**wanted, **zipped})
    return Deployed(
        name=wish.name,
        change=change,
        contract="web",
        runtime=now.get("runtime", ""),
        handler=now.get("handler", ""),
        memory_mib=now.get("memory_mib", 0),
        timeout_s=now.get("timeout_s", 0),
        code_bytes=now.get("code_bytes", len(wish.package.archive)),
        assumed=tuple(assumed),
    )


def _wanted_web(wish: Wish, old: dict[str, Any] | None, assumed: list[str]) -> dict[str, Any]:
    wanted: dict[str, Any] = {"contract": "web", **_how_web(wish, old, assumed)}
    for key, value, default, unit in (
        ("memory_mib", wish.memory_mib, 128, "MiB of memory"),
        ("timeout_s", wish.timeout_s, 30, "s at most"),
    ):
        if value is not None:
            wanted[key] = value
        elif old is None:
            wanted[key] = default
            assumed.append(f"{default} {unit}")
    if wish.isolation is not None:
        wanted["isolation"] = wish.isolation
    if wish.network is not None:
        wanted["network"] = wish.network
    if wish.variables:
        wanted["variables"] = dict(wish.variables)
    return wanted


def _how_web(wish: Wish, old: dict[str, Any] | None, assumed: list[str]) -> dict[str, str]:
    """What runs it: a command, or an application of some interpreter."""
    was_command = old is not None and old.get("runtime") == "command"
    if wish.command:
        return {"runtime": "command", "handler": wish.command}
    if was_command and not (wish.handler or wish.runtime):
        return {}
    how = {}
    if wish.handler:
        how["handler"] = wish.handler
    elif old is None or was_command or not package.has_module(wish.package, str(old.get("handler"))):
        how["handler"] = _guessed(package.guess_web_handler(wish.package), wish, "--handler MODULE:NAME or --command '…'")
        assumed.append(f"handler {how['handler']}")
    if wish.runtime:
        how["runtime"] = wish.runtime
    elif old is None or was_command:
        how["runtime"] = newest_runtime()
        assumed.append(f"runtime {how['runtime']}")
    return how


def _guessed(guess: str | None, wish: Wish, option: str) -> str:
    if guess is None:
        found = ", ".join(f"{name}.py" for name in sorted(wish.package.modules)) or "no Python file at the top of it"
        raise Failure(Exit.USAGE, f"no handler stands out in {wish.name} ({found}): say which one with {option}.")
    return guess


def newest_runtime(family: str = "python") -> str:
    """What a node on this machine has: the interpreter it runs on itself if it counts, else the newest there is."""
    if family == "provided":
        return CUSTOM_RUNTIME
    own = f"python{sys.version_info.major}.{sys.version_info.minor}" if family == "python" else NODE_RUNTIME
    here = [name for name in runtimes_here() if name.startswith(family)]
    return own if (own in here and family == "python") or not here else here[-1]


def _other_language(wish: Wish, old: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """(family of runtimes, handler): of what was asked for or was there before, else what files say that are not Python's."""
    guess = package.guess_other(wish.package)
    runtime = wish.runtime or (old.get("Runtime", "") if old else "")
    if runtime:
        return guess if guess and runtime.startswith(guess[0]) else None
    return None if wish.handler or package.guess_aws_handler(wish.package) else guess


def _configuration(where: Node, api: Any, name: str) -> dict[str, Any] | None:
    try:
        return dict(client.ask(where, api.get_function_configuration, FunctionName=name))
    except Failure as failure:
        if client.is_missing(failure):
            return None
        raise


def _wait_ready(where: Node, api: Any, name: str) -> dict[str, Any]:
    """The configuration once the function is active and its last update done. Raises Failure after READY_S_MAX."""
    until = time.monotonic() + READY_S_MAX
    while True:
        now = dict(client.ask(where, api.get_function_configuration, FunctionName=name))
        state, update = now.get("State", "Active"), now.get("LastUpdateStatus", "Successful")
        if "Failed" in (state, update):
            reason = now.get("StateReason") or now.get("LastUpdateStatusReason") or "the node gave no reason"
            raise Failure(Exit.REFUSED, f"{name} was not deployed: {reason}")
        if state in ("Active", "Inactive") and update == "Successful":
            return now
        if time.monotonic() > until:
            raise Failure(
                Exit.REFUSED, f"{name} is still {state}, update {update}, after {READY_S_MAX:.0f} s: see 'ondol show {name}'."
            )
        time.sleep(POLL_S)


def _sha256_base64(raw: bytes) -> str:
    return base64.b64encode(hashlib.sha256(raw).digest()).decode()
