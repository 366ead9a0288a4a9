"""What is deployed: functions, revisions, versions, aliases.

A *function* is an opaque id. What a system calls it is a *handle*, a row its dialect owns. A *revision* is immutable code
and configuration: the only thing ever executed, and the pool's key. A *version* is a revision given a number. An *alias*
names one or two weighted versions. Facts that only one dialect knows live in its own namespace of `annotations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from msgspec import Struct

#: The number of the one version of a function that has none: it is published again and again, in its own place.
UNNUMBERED: Final = -1


def version_name(number: int | None) -> str:
    """How a version is called where no system has a word of its own for it; None is the latest revision."""
    return "latest" if number is None else "published" if number == UNNUMBERED else str(number)


class Stage(Enum):
    """How far the last change of a function or version has come."""

    CREATING = "creating"  #: written, and not yet known to every front
    UPDATING = "updating"  #: it works, and its newest revision is not yet known to every front
    READY = "ready"  #: a call that arrives now runs what the catalog says


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A blob named by the SHA-256 of the archive as uploaded."""

    #: lower-case hex
    sha256: str
    zipped_bytes: int
    unpacked_bytes: int
    #: Sets of modules, by name, that its sources import and an interpreter may have ready.
    asks: tuple[str, ...] = ()
    #: It may notice that they were imported before it: it brings some of them, or changes where modules come from. True also of
    #: code that nobody has looked at.
    minds: bool = True
    #: Names of programs in its extensions/, which run beside whatever has it at /opt.
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """How a revision is run. `annotations` maps a dialect's name to whatever it keeps about this revision."""

    #: How the handler is called: a key of the node's contracts ("aws", "web").
    contract: str
    #: What runs it, as asked for ("python3.11", "command").
    runtime: str
    handler: str
    memory_mib: int = 128
    timeout_s: int = 3
    tmp_mib: int = 512
    #: What it reaches: "none", "egress" or "host"; "" for what its node gives those who do not ask.
    network: str = ""
    #: The level of isolation that its owner asked for; "": whatever the node gives.
    isolation: str = ""
    #: So many calls run side by side in one environment, each in a process of its own unless what runs them takes several at a
    #: time; 0: as the contract has it.
    concurrency: int = 0
    #: What is shown beside the code, at /opt: one tree, made of one or more archives.
    opt: Code | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """Immutable code + configuration. Publishing a version makes a revision of its own: it has one number or none."""

    id: str
    account: str
    region: str
    function: str
    #: The function's name when this revision was made; contracts show it to the handler.
    name: str
    code: Code
    configuration: Configuration
    created_s: float
    #: The number it was published under; None for the function's latest.
    version: int | None = None

    @property
    def codes(self) -> tuple[str, ...]:
        """The SHA-256 of all that it needs to run."""
        opt = self.configuration.opt
        return (self.code.sha256, opt.sha256) if opt else (self.code.sha256,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A deployed function; `latest` is the revision that an unqualified call runs."""

    id: str
    account: str
    region: str
    name: str
    latest: str
    created_s: float
    #: Number the next published version gets.
    version_next: int = 1
    stage: Stage = Stage.READY
    #: None: shares the account's unreserved concurrency.
    concurrency_reserved: int | None = None
    #: Each of its calls names a tenant, and no environment serves two. From its making to its end: nothing changes this.
    per_tenant: bool = False
    #: Only its versions run: a call that names none means the one without a number. Nothing changes this either.
    versions_only: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A revision given a number; or the one that has none, and whose revision changes when it is published again."""

    function: str
    #: From 1; or UNNUMBERED.
    number: int
    revision: str
    description: str = ""
    created_s: float = 0.0
    stage: Stage = Stage.READY
    annotations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A name for one version, or for two with weights."""

    function: str
    name: str
    version: int | None  #: None: the latest revision
    #: A second version and the share of calls it gets, 0..1.
    second: int | None = None
    second_weight: float = 0.0
    description: str = ""
    annotations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """So many environments are to be up and loaded, called or not, for calls that come with exactly this qualifier."""

    function: str
    #: Version number or alias; None: calls that name neither.
    qualifier: str | None
    environments: int
    #: Wall time of the last change.
    updated_s: float = 0.0
    #: There are never more of them; None: as many as calls need.
    environments_max: int | None = None
    #: They count as concurrency that is set aside from what the account's other functions share.
    aside: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """What a dialect calls a function."""

    dialect: str
    account: str
    region: str
    name: str
    function: str


class Target(Struct, frozen=True, kw_only=True):
    """What a call resolved to."""

    function: Function
    revision: Revision
    #: The qualifier as the caller gave it, or None.
    qualifier: str | None
