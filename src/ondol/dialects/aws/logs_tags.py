"""Tags of log groups: by ARN, and by the group's name as the service did it before."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from ondol.dialects.aws.logs_parts import Params, group_named, invalid
from ondol.dialects.aws.service import Context, Operations, ServiceError
from ondol.journal import GroupSettings, LogStore

TAGS_MAX: Final = 50


class Tags:
    """The handlers."""

    def __init__(self, store: LogStore) -> None:
        self._store = store

    def operations(self) -> Operations:
        return {
            "TagResource": self.tag,
            "UntagResource": self.untag,
            "ListTagsForResource": self.list,
            "TagLogGroup": self.tag,
            "UntagLogGroup": self.untag,
            "ListTagsLogGroup": self.list,
        }

    async def tag(self, context: Context, params: Params) -> Params:
        await self._change(context, params, params["tags"], ())
        return {}

    async def untag(self, context: Context, params: Params) -> Params:
        await self._change(context, params, {}, params.get("tagKeys") or params.get("tags") or ())
        return {}

    async def list(self, context: Context, params: Params) -> Params:
        return {"tags": dict((await self._change(context, params, {}, ())).tags)}

    async def _change(self, context: Context, params: Params, add: Mapping[str, str], remove: Collection[str]) -> GroupSettings:
        def changed(settings: GroupSettings) -> GroupSettings:
            tags = {**settings.tags, **add}
            if len(tags) > TAGS_MAX:
                raise ServiceError("TooManyTagsException", f"A resource can have at most {TAGS_MAX} tags.")
            return replace(settings, tags={key: value for key, value in tags.items() if key not in remove})

        group = params.get("logGroupName") or _group(params["resourceArn"])
        return await self._store.configure(context.account, context.region, group, changed)


def _group(arn: str) -> str:
    if arn.split(":")[5:6] != ["log-group"]:
        raise invalid(f"{arn} is not the ARN of a log group, and nothing else has tags here.")
    return group_named(arn)
