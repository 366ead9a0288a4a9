"""The service models that botocore ships, as the codec reads them: operations, and shapes with their traits.

Read as data, with no botocore code: importing botocore costs a node more than the whole of its start may take. A model is read
when its service is first asked for and kept for the process's life. Knows nothing of HTTP bodies or handlers.
"""

from __future__ import annotations

import gzip
import importlib.util
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import msgspec

#: Services as the SigV4 scope names them, where their model's folder is called otherwise.
_FOLDERS = {"monitoring": "cloudwatch"}


class UnknownServiceError(Exception):
    """There is no model of that name."""


class Shape:
    """One shape with its traits; `members`, `element`, `key` and `value` are `Member`s."""

    __slots__ = ("_members", "_shapes", "name", "traits", "type")

    def __init__(self, name: str, traits: dict[str, Any], shapes: Shapes) -> None:
        self.name = name
        self.traits = traits
        self.type: str = traits["type"]
        self._shapes = shapes
        self._members: dict[str, Member] | None = None

    @property
    def members(self) -> dict[str, Member]:
        """A structure's members by name, in the model's order."""
        if self._members is None:
            made = self.traits.get("members", {})
            self._members = {name: Member(name, ref, self._shapes) for name, ref in made.items()}
        return self._members

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(self.traits.get("required", ()))

    @property
    def element(self) -> Member:
        """A list's element."""
        return Member("member", self.traits["member"], self._shapes)

    @property
    def key(self) -> Member:
        return Member("key", self.traits["key"], self._shapes)

    @property
    def value(self) -> Member:
        return Member("value", self.traits["value"], self._shapes)

    @property
    def payload(self) -> str | None:
        """The member that is the whole body, if any."""
        return self.traits.get("payload")


class Member:
    """A use of a shape: inside a structure, list or map, with the traits of that place."""

    __slots__ = ("location", "name", "shape", "traits", "wire_name")

    def __init__(self, name: str, ref: dict[str, Any], shapes: Shapes) -> None:
        self.name = name
        self.traits = ref
        self.shape = shapes.shape(ref["shape"])
        #: Where it travels: "uri", "querystring", "header", "headers", "statusCode", or "" for the body.
        self.location: str = ref.get("location", "")
        #: What it is called where it stands.
        self.wire_name: str = ref.get("locationName") or self.shape.traits.get("locationName") or name

    @property
    def timestamp_format(self) -> str | None:
        return self.traits.get("timestampFormat") or self.shape.traits.get("timestampFormat")

    @property
    def flattened(self) -> bool:
        return bool(self.traits.get("flattened") or self.shape.traits.get("flattened"))


class Shapes:
    """All shapes of one service, made when first asked for."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self._raw = raw
        self._made: dict[str, Shape] = {}

    def shape(self, name: str) -> Shape:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = Shape(name, self._raw[name], self)
        return made

    def names(self) -> list[str]:
        return list(self._raw)

    def __contains__(self, name: str) -> bool:
        return name in self._raw


class Operation:
    """One operation of a service."""

    def __init__(self, raw: dict[str, Any], shapes: Shapes) -> None:
        self.name: str = raw["name"]
        http = raw.get("http", {})
        self.method: str = http.get("method", "POST")
        self.uri: str = http.get("requestUri", "/")
        self.status: int = http.get("responseCode", 200)
        self.result_wrapper: str | None = raw.get("output", {}).get("resultWrapper")
        self._raw = raw
        self._shapes = shapes

    @cached_property
    def input(self) -> Shape | None:
        return self._shape("input")

    @cached_property
    def output(self) -> Shape | None:
        return self._shape("output")

    def _shape(self, side: str) -> Shape | None:
        ref = self._raw.get(side)
        return self._shapes.shape(ref["shape"]) if ref else None


class Model:
    """One service's model."""

    def __init__(self, service: str, raw: dict[str, Any]) -> None:
        self.service = service
        self.metadata: dict[str, Any] = raw["metadata"]
        self.shapes = Shapes(raw["shapes"])
        self.operations = {name: Operation(each, self.shapes) for name, each in raw["operations"].items()}
        extra = ("query",) if "awsQueryCompatible" in self.metadata else ()
        #: All protocols that are spoken. A service that once was Query still answers it.
        self.protocols: tuple[str, ...] = (*self.metadata.get("protocols", (self.protocol,)), *extra)

    @property
    def protocol(self) -> str:
        """The service's own: "rest-json", "json" or "query"."""
        return str(self.metadata["protocol"])

    @property
    def json_version(self) -> str:
        return str(self.metadata.get("jsonVersion", "1.0"))

    @property
    def namespace(self) -> str:
        """The XML namespace of Query answers."""
        made = f"https://{self.metadata['endpointPrefix']}.amazonaws.com/doc/{self.metadata['apiVersion']}/"
        return str(self.metadata.get("xmlNamespace", made))

    def error(self, code: str) -> Shape | None:
        """The shape of an error, by its shape's name or its code on the wire."""
        if code in self.shapes:
            shape = self.shapes.shape(code)
            return shape if shape.traits.get("exception") else None
        return None


@cache
def model(service: str) -> Model:
    """The newest model of a service. Raises UnknownServiceError."""
    folder = _data() / _FOLDERS.get(service, service)
    if "/" in service or "." in service or not folder.is_dir():
        raise UnknownServiceError(service)
    versions = sorted(each for each in folder.iterdir() if each.is_dir())
    if not versions:
        raise UnknownServiceError(service)
    return Model(service, _read(versions[-1]))


def _data() -> Path:
    spec = importlib.util.find_spec("botocore")
    if spec is None or spec.origin is None:
        raise RuntimeError("botocore is not installed, and Ondol reads its service models: pip install botocore")
    return Path(spec.origin).parent / "data"


def _read(folder: Path) -> dict[str, Any]:
    packed = folder / "service-2.json.gz"
    text = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / "service-2.json").read_bytes()
    raw: dict[str, Any] = msgspec.json.decode(text)
    return raw
