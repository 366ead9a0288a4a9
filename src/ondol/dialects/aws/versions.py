"""PublishVersion and ListVersionsByFunction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ondol.core.deploy import Deployed, Deployments
from ondol.dialects.aws import managed, names, refusals
from ondol.dialects.aws.lookup import Lookup
from ondol.dialects.aws.paging import page
from ondol.dialects.aws.rendering import code_sha256, listed, version
from ondol.dialects.aws.rendering import configuration as shown
from ondol.dialects.aws.service import Context, Operations
from ondol.model.functions import Function

LISTED_MAX: Final = 50

Params = dict[str, Any]


class Versions:
    """The handlers of what concerns published versions."""

    def __init__(self, deployments: Deployments, lookup: Lookup) -> None:
        self._deployments = deployments
        self._lookup = lookup

    def operations(self) -> Operations:
        return {"PublishVersion": self.publish, "ListVersionsByFunction": self.list}

    async def publish(self, context: Context, params: Params) -> Params:
        function = self._lookup.unqualified(context, "PublishVersion", params)
        managed.check_publication(self._deployments.index, function, {**params, "Publish": True})
        actual = code_sha256(self._deployments.latest(function).revision.code)
        expected = params.get("CodeSha256")
        with self._lookup.changing(function):
            self._deployments.check(function, params.get("RevisionId"))
            if expected and expected != actual:
                raise refusals.invalid(
                    f"CodeSHA256 ({expected}) is different from current CodeSHA256 in $LATEST ({actual}). "
                    "Please try again with the CodeSHA256 in $LATEST."
                )
            deployed = await self._deployments.publish(
                function,
                unnumbered=bool(params.get("PublishTo")),
                description=params.get("Description"),
                if_etag=params.get("RevisionId"),
            )
        return shown(deployed, qualifier=version(deployed))

    async def list(self, context: Context, params: Params) -> Params:
        function = self._lookup.function(context, "ListVersionsByFunction", params).function
        items, marker = page(
            params, lambda after: self._entries(function, after), LISTED_MAX, operation="ListVersionsByFunction"
        )
        versions = [listed(deployed, qualifier=version(deployed)) for deployed in items]
        return {"Versions": versions, **({"NextMarker": marker} if marker else {})}

    def _entries(self, function: Function, after: str) -> Iterator[tuple[str, Deployed]]:
        """$LATEST first, then the published ones."""
        least = int(after) if after.isdecimal() else -1
        if least < 0:
            yield str(names.place(None)), self._deployments.latest(function)
        for published in self._deployments.index.versions(function.id):
            if (at := names.place(published.number)) > least:
                yield str(at), self._deployments.version(function, published.number)
