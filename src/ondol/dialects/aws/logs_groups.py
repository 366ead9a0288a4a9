"""Log groups: CreateLogGroup, DeleteLogGroup, DescribeLogGroups, PutRetentionPolicy, DeleteRetentionPolicy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from ondol.dialects.aws.logs_parts import Params, group_arn, group_named, invalid, must_exist, opened, sealed
from ondol.dialects.aws.service import Context, Operations, ServiceError
from ondol.journal import Group, GroupSettings, LogStore

DESCRIBED_MAX: Final = 50
RETENTION_DAYS: Final = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip

#: What a group may not ask for yet, and why.
_NOT_BUILT: Final = {
    "kmsKeyId": "log groups are not encrypted with keys of their own",
    "deletionProtectionEnabled": "log groups are not protected against deletion",
}


class Groups:
    """The handlers."""

    def __init__(self, store: LogStore) -> None:
        self._store = store

    def operations(self) -> Operations:
        return {
            "CreateLogGroup": self.create,
            "DeleteLogGroup": self.delete,
            "DescribeLogGroups": self.describe,
            "PutRetentionPolicy": self.put_retention,
            "DeleteRetentionPolicy": self.delete_retention,
        }

    async def create(self, context: Context, params: Params) -> Params:
        for member, reason in _NOT_BUILT.items():
            if params.get(member):
                raise ServiceError("NotImplemented", f"{reason} yet: leave {member} out.", status=501)
        if params.get("logGroupClass", "STANDARD") != "STANDARD":
            raise invalid("logGroupClass: there is one class of log groups here, STANDARD.")
        settings = GroupSettings(tags=params.get("tags") or {})
        await self._store.create(context.account, context.region, params["logGroupName"], settings)
        return {}

    async def delete(self, context: Context, params: Params) -> Params:
        await must_exist(self._store, context, params["logGroupName"])
        await self._store.drop(context.account, context.region, params["logGroupName"])
        return {}

    async def describe(self, context: Context, params: Params) -> Params:
        if params.get("logGroupClass", "STANDARD") != "STANDARD":
            return {"logGroups": []}
        prefix, pattern = params.get("logGroupNamePrefix", ""), params.get("logGroupNamePattern", "")
        if prefix and pattern:
            raise invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
        if params.get("logGroupIdentifiers"):
            if prefix or pattern:
                raise invalid("logGroupIdentifiers cannot be combined with a prefix or a pattern.")
            return {"logGroups": await self._named(context, params["logGroupIdentifiers"])}
        limit = params.get("limit", DESCRIBED_MAX)
        after = opened(params.get("nextToken"), str) or ""
        found: list[Group] = []
        while len(found) <= limit:
            groups = await self._store.groups(
                context.account, context.region, prefix=prefix, after=after, limit=DESCRIBED_MAX + 1
            )
            found.extend(each for each in groups if pattern in each.name)
            if len(groups) <= DESCRIBED_MAX:
                break
            after = groups[-1].name
        result: Params = {"logGroups": [_described(context, each, brief=bool(pattern)) for each in found[:limit]]}
        if len(found) > limit:
            result["nextToken"] = sealed(found[limit - 1].name)
        return result

    async def put_retention(self, context: Context, params: Params) -> Params:
        days = params["retentionInDays"]
        if days not in RETENTION_DAYS:
            raise invalid(
                f"1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: "
                f"Member must satisfy enum value set: [{', '.join(map(str, RETENTION_DAYS))}]"
            )
        await self._retain(context, params["logGroupName"], days)
        return {}

    async def delete_retention(self, context: Context, params: Params) -> Params:
        await self._retain(context, params["logGroupName"], None)
        return {}

    async def _retain(self, context: Context, group: str, days: int | None) -> None:
        await self._store.configure(
            context.account, context.region, group, lambda settings: replace(settings, retention_days=days)
        )

    async def _named(self, context: Context, identifiers: list[str]) -> list[dict[str, Any]]:
        described = []
        for name in dict.fromkeys(map(group_named, identifiers)):
            found = await self._store.groups(context.account, context.region, prefix=name, limit=1)
            described += [_described(context, each) for each in found if each.name == name]
        return described


def _described(context: Context, group: Group, *, brief: bool = False) -> dict[str, Any]:
    arn = group_arn(context, group.name)
    told: dict[str, Any] = {"logGroupName": group.name, "creationTime": group.created_ms, "arn": f"{arn}:*"}
    if brief:  # as the service answers a search by pattern
        return told
    return {
        **told,
        "retentionInDays": group.settings.retention_days,
        "metricFilterCount": 0,
        "storedBytes": group.stored_bytes,
        "logGroupClass": "STANDARD",
        "logGroupArn": arn,
    }
