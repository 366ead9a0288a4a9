"""Function URLs, the control plane's half: Create, Get, Update, Delete, List. They are kept in the function's document."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from ondol.core.deploy import Deployments
from ondol.dialects.aws import refusals
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.lookup import Found, Lookup
from ondol.dialects.aws.names import LATEST
from ondol.dialects.aws.paging import page
from ondol.dialects.aws.rendering import arn
from ondol.dialects.aws.service import Context, Operations
from ondol.model.functions import Function

Params = dict[str, Any]
Read = Mapping[str, Any]

LISTED_MAX: Final = 50
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_MISSING: Final = "The resource you requested does not exist."
_NO_FUNCTION: Final = "Function does not exist"


class UrlConfigs:
    """The handlers."""

    def __init__(self, deployments: Deployments, lookup: Lookup) -> None:
        self._deployments = deployments
        self._lookup = lookup

    def operations(self) -> Operations:
        return {
            "CreateFunctionUrlConfig": self.create,
            "GetFunctionUrlConfig": self.get,
            "UpdateFunctionUrlConfig": self.update,
            "DeleteFunctionUrlConfig": self.delete,
            "ListFunctionUrlConfigs": self.list,
        }

    async def create(self, context: Context, params: Params) -> Params:
        found = self._found(context, "CreateFunctionUrlConfig", params, _NO_FUNCTION)
        if found.function.per_tenant:
            raise refusals.without_tenants("A function URL")
        now = _now(self._deployments)
        made: Params = {
            "Id": "".join(secrets.choice(_LETTERS) for _ in range(32)),
            "AuthType": params["AuthType"],
            "InvokeMode": params.get("InvokeMode") or "BUFFERED",
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        if params.get("Cors"):
            made["Cors"] = params["Cors"]

        def change(own: Read) -> Read:
            urls = own.get("Urls", {})
            if _at(found) in urls:
                raise refusals.conflict(
                    f"Failed to create function url config for [functionArn = {arn(found.function, found.qualifier)}]. "
                    "Error message:  FunctionUrlConfig exists for this Lambda function"
                )
            return {**own, "Urls": {**urls, _at(found): made}}

        await self._change(found, change)
        shown = _shown(context, found.function, _at(found), made)
        del shown["LastModifiedTime"]
        return shown

    async def get(self, context: Context, params: Params) -> Params:
        found = self._found(context, "GetFunctionUrlConfig", params, _MISSING)
        return _shown(context, found.function, _at(found), _there(urls(found.function), found))

    async def update(self, context: Context, params: Params) -> Params:
        found = self._found(context, "UpdateFunctionUrlConfig", params, _NO_FUNCTION)
        now = _now(self._deployments)
        changes = {member: params[member] for member in ("AuthType", "Cors", "InvokeMode") if params.get(member) is not None}

        def change(own: Read) -> Read:
            kept = own.get("Urls", {})
            new = {**_there(kept, found), **changes, "LastModifiedTime": now}
            if not new.get("Cors"):  # an empty one takes it away
                new.pop("Cors", None)
            return {**own, "Urls": {**kept, _at(found): new}}

        changed = await self._change(found, change)
        return _shown(context, found.function, _at(found), changed["Urls"][_at(found)])

    async def delete(self, context: Context, params: Params) -> Params:
        found = self._found(context, "DeleteFunctionUrlConfig", params, _MISSING)

        def change(own: Read) -> Read:
            kept = own.get("Urls", {})
            _there(kept, found)
            return {**own, "Urls": {at: url for at, url in kept.items() if at != _at(found)}}

        await self._change(found, change)
        return {}

    async def list(self, context: Context, params: Params) -> Params:
        function = self._found(context, "ListFunctionUrlConfigs", params, _NO_FUNCTION).function

        def after(position: str) -> Iterator[tuple[str, Params]]:
            for at, url in sorted(urls(function).items()):
                if at > position:
                    yield at, _shown(context, function, at, url)

        items, marker = page(params, after, LISTED_MAX, operation="ListFunctionUrlConfigs")
        return {"FunctionUrlConfigs": items, **({"NextMarker": marker} if marker else {})}

    # Within --------------------------------------------------------------------------------------------------------------
    def _found(self, context: Context, operation: str, params: Params, missing: str) -> Found:
        """The function, and the alias that is asked for. Raises a 404 that says `missing`."""
        named = self._lookup.named(context, operation, params)
        function = self._deployments.index.handle(DIALECT, named.account, named.region, named.name)
        if function is None:
            raise refusals.not_found(missing)
        if named.qualifier not in (None, LATEST) and not self._deployments.index.alias(function.id, named.qualifier or ""):
            raise refusals.not_found(missing)
        return Found(function, None if named.qualifier == LATEST else named.qualifier)

    async def _change(self, found: Found, change: Any) -> Read:
        with self._lookup.changing(found.function):
            return await self._deployments.annotate(found.function.id, DIALECT, change)


def urls(function: Function) -> Read:
    """A function's URLs, by alias; "$LATEST" for the bare one's."""
    kept: Read = function.annotations.get(DIALECT, {}).get("Urls", {})
    return kept


def address(url_id: str, region: str, endpoint: str) -> str:
    """Where a URL is, for a client that reached the node at `endpoint`: a name below localhost needs no resolver's help; under
    another name than that, a path.
    """
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if host in ("127.0.0.1", "::1", "localhost") or host.endswith(".localhost"):
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{url_id}.lambda-url.{region}.localhost{port}/"
    return f"{endpoint}/lambda-url/{url_id}/"


def _shown(context: Context, function: Function, at: str, url: Read) -> Params:
    shown: Params = {
        "FunctionUrl": address(url["Id"], function.region, context.endpoint),
        "FunctionArn": arn(function, None if at == LATEST else at),
        "AuthType": url["AuthType"],
        "CreationTime": url["CreationTime"],
        "LastModifiedTime": url["LastModifiedTime"],
        "InvokeMode": url["InvokeMode"],
    }
    return {**shown, "Cors": dict(url["Cors"])} if url.get("Cors") else shown


def _at(found: Found) -> str:
    return found.qualifier or LATEST


def _there(kept: Read, found: Found) -> Read:
    url: Read | None = kept.get(_at(found))
    if url is None:
        raise refusals.not_found(_MISSING)
    return url


def _now(deployments: Deployments) -> str:
    at = datetime.fromtimestamp(deployments.wall_s(), UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
