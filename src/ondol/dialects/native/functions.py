"""`/functions`: list, show, put, change and remove functions; and their code. Any contract's can be looked at, given code and
removed here; made and configured are web functions only, the others through their own API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from ondol.core.catalog import Index
from ondol.core.deploy import Deployed, Deployments, NewFunction
from ondol.core.resolve import resolve
from ondol.dialects.native.document import (
    COMMAND,
    CONTRACT,
    NAME_FORM,
    FunctionDocument,
    FunctionPage,
    FunctionSettings,
    FunctionWanted,
    Wanted,
    document_of,
    wanted,
    wanted_of,
)
from ondol.dialects.native.downloads import Downloads, LinkQuery
from ondol.dialects.native.finding import WEB_NAMES, function_of, named, names_after
from ondol.dialects.native.operations import Asked, Body, Operation, Reply
from ondol.http.messages import Response
from ondol.model import errors
from ondol.model.functions import Code, Function, Revision
from ondol.model.limits import CODE_ZIPPED_BYTES_MAX

#: A 50 MiB archive in base64, and some.
PUT_BYTES_MAX: Final = 70_167_211
SETTINGS_BYTES_MAX: Final = 256 * 1024
LISTED_MAX: Final = 1000
ZIP: Final = "application/zip"


class PageQuery(Struct, frozen=True, kw_only=True):
    """Which page of a list."""

    limit: Annotated[int, Meta(ge=1, le=LISTED_MAX, description="at most so many")] = 100
    after: Annotated[str, Meta(description="`next` of the page before")] = ""


class CodeQuery(Struct, frozen=True, kw_only=True):
    """Which code."""

    qualifier: Annotated[str | None, Meta(description="a version's number, or an alias; else the latest code")] = None


_SHOWN: Final = Reply("The function, as it is in force now.", FunctionDocument)
_CHANGING: Final = (404, 409, 507)

OPERATIONS: Final = (
    Operation(
        id="functions.list", method="GET", path="/functions", summary="List functions, by name.", action="function:list",
        query=PageQuery, replies={200: Reply("A page of functions.", FunctionPage)},
    ),
    Operation(
        id="functions.show", method="GET", path="/functions/{name}", summary="Show a function.", action="function:read",
        replies={200: Reply("The function.", FunctionDocument)}, refusals=(404,),
    ),
    Operation(
        id="functions.put", method="PUT", path="/functions/{name}",
        summary="Make a web function, or bring it up to date.", action="function:write",
        body=Body(bytes_max=PUT_BYTES_MAX, schema=FunctionWanted, form="bytes"),
        replies={200: _SHOWN, 201: Reply("The new function, in force.", FunctionDocument)}, refusals=_CHANGING,
    ),
    Operation(
        id="functions.change", method="PATCH", path="/functions/{name}",
        summary="Change a web function's settings and keep its code.", action="function:write",
        body=Body(bytes_max=SETTINGS_BYTES_MAX, schema=FunctionSettings), replies={200: _SHOWN}, refusals=_CHANGING,
    ),
    Operation(
        id="functions.remove", method="DELETE", path="/functions/{name}",
        summary="Remove a function with its versions and aliases. Its logs stay.", action="function:delete",
        replies={204: Reply("It is gone.", media=())}, refusals=(404, 409, 507),
    ),
    Operation(
        id="functions.upload", method="PUT", path="/functions/{name}/code",
        summary="Give a function, of any contract, new code: the archive itself.", action="function:write",
        body=Body(bytes_max=CODE_ZIPPED_BYTES_MAX, media=(ZIP, "application/octet-stream"), form="file"),
        replies={200: _SHOWN}, refusals=_CHANGING,
    ),
    Operation(
        id="functions.download", method="GET", path="/functions/{name}/code", summary="The archive, as it was uploaded.",
        action="code:read", query=CodeQuery, replies={200: Reply("The archive.", media=(ZIP,))}, refusals=(404,),
    ),
    Operation(
        id="functions.linked", method="GET", path="/code/{archive}", summary="The archive that a link of GetFunction means.",
        action="", query=LinkQuery, replies={200: Reply("The archive.", media=(ZIP,))}, refusals=(404,),
    ),
)  # fmt: skip


class Functions:
    """The part. `decode`: a PUT's JSON, and the archive out of its `zip_base64`; large ones in the helper process."""

    operations = OPERATIONS

    def __init__(
        self,
        *,
        index: Index,
        deployments: Deployments,
        decode: Callable[[bytes], Awaitable[tuple[dict[str, Any], bytes]]],
        spool: Callable[[], Path],
        interpreter: Callable[[Revision], str],
        downloads: Downloads,
    ) -> None:
        self._index = index
        self._deployments = deployments
        self._decode = decode
        #: A fresh path for a file that the caller removes.
        self._spool = spool
        #: What runs a revision here, for people.
        self._interpreter = interpreter
        self._downloads = downloads

    # Looking ---------------------------------------------------------------------------------------------------------
    async def list(self, asked: Asked) -> FunctionPage:
        limit = asked.query.limit
        names = names_after(self._index, asked, asked.query.after, limit + 1)
        shown = [
            self._document(name, function)
            for name in names[:limit]
            if (function := named(self._index, asked.principal, name)) is not None
        ]
        return FunctionPage(functions=shown, next=names[limit - 1] if len(names) > limit else None)

    async def show(self, asked: Asked) -> FunctionDocument:
        return self._document(asked.path["name"], function_of(self._index, asked))

    def _document(self, name: str, function: Function) -> FunctionDocument:
        deployed = self._deployments.latest(function)
        return document_of(name, deployed, self._index, self._interpreter(deployed.revision))

    # Changing --------------------------------------------------------------------------------------------------------
    async def put(self, asked: Asked) -> tuple[int, FunctionDocument]:
        name, principal = asked.path["name"], asked.principal
        if not NAME_FORM.fullmatch(name):
            raise errors.InvalidSetting("name", f"{name[:80]!r} is no name: 1 to 64 letters, digits, '-' and '_'")
        if self._index.handle("aws", principal.account, principal.region, name) is not None:
            raise errors.AlreadyExists(f"{name} is a function of the AWS API already; remove it, or choose another name")
        document, archive = await self._decode(asked.body)
        wish = wanted_of(document, archive)
        found = self._index.handle(WEB_NAMES, principal.account, principal.region, name)
        deployed = await (self._create(asked, name, wish) if found is None else self._update(found, wish))
        return 200 if found else 201, await self._in_force(name, deployed.function)

    async def change(self, asked: Asked) -> FunctionDocument:
        name = asked.path["name"]
        function = function_of(self._index, asked)
        if self._deployments.latest(function).revision.configuration.contract not in (CONTRACT, COMMAND):
            raise errors.InvalidSetting("contract", f"{name} is a function of the AWS API: change its settings there")
        deployed = await self._update(function, wanted(asked.body))
        return await self._in_force(name, deployed.function)

    async def remove(self, asked: Asked) -> None:
        await self._deployments.delete(function_of(self._index, asked).id)

    async def _create(self, asked: Asked, name: str, wish: Wanted) -> Deployed:
        if not wish.archive:
            raise errors.InvalidSetting("zip_base64", "a new function needs its code: an archive in zip_base64")
        configuration = wish.configuration(None)
        new = NewFunction(
            dialect=WEB_NAMES,
            handle=name,
            account=asked.principal.account,
            region=asked.principal.region,
            name=name,
            code=await self._take(wish.archive),
            configuration=configuration,
            tags={},
        )
        return await self._deployments.create(new)

    async def _update(self, function: Function, wish: Wanted) -> Deployed:
        code = await self._take(wish.archive) if wish.archive else None
        old = self._deployments.latest(function).revision.configuration
        return await self._deployments.update(function, code=code, configuration=wish.configuration(old))

    async def _in_force(self, name: str, function: Function) -> FunctionDocument:
        await self._deployments.in_force(function.id)
        return self._document(name, self._index.function(function.id) or function)

    async def _take(self, archive: bytes) -> Code:
        path = self._spool()
        try:
            await asyncio.to_thread(path.write_bytes, archive)
            return await self._deployments.take(path)
        finally:
            path.unlink(missing_ok=True)

    # Code ------------------------------------------------------------------------------------------------------------
    async def upload(self, asked: Asked) -> FunctionDocument:
        function = function_of(self._index, asked)
        self._deployments.check(function)
        code = await self._deployments.take(asked.body)
        deployed = await self._deployments.update(function, code=code)
        return await self._in_force(asked.path["name"], deployed.function)

    async def download(self, asked: Asked) -> Response:
        target = resolve(self._index, function_of(self._index, asked), asked.query.qualifier, 0.0)
        return await self._downloads.archive(target.revision.code.sha256)

    async def linked(self, asked: Asked) -> Response:
        return await self._downloads.linked(asked.path["archive"], asked.query)
