"""What belongs to one version or alias of a function and is kept in the function's document: it goes when they go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.core.deploy import Deployments
from ondol.dialects.aws.configuration import DIALECT
from ondol.model.errors import NotFound

#: Members of the function's annotations that map a qualifier to something.
BY_QUALIFIER: Final = ("Policies", "Urls", "RuntimeManagement")


async def forget(deployments: Deployments, function: str, qualifier: str) -> None:
    """Remove all that belongs to a version or alias that is gone."""

    def change(own: Mapping[str, Any]) -> Mapping[str, Any]:
        changed = dict(own)
        for member in BY_QUALIFIER:
            if qualifier in own.get(member, {}):
                changed[member] = {key: value for key, value in own[member].items() if key != qualifier}
        return changed

    try:
        await deployments.annotate(function, DIALECT, change)
    except NotFound:  # the function went, too
        return
