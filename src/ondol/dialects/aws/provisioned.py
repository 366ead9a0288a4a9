"""PutProvisionedConcurrencyConfig, Get…, List…s, Delete…: environments that are up before they are called.

What is asked for stands in the catalog (`core/pins.py`); what has become of it, the fronts' pools are asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from ondol.core.deploy import Deployments
from ondol.core.pins import CONCURRENCY_UNRESERVED_MIN, pinned, shares, unreserved
from ondol.dialects.aws import names, refusals
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.lookup import Lookup
from ondol.dialects.aws.names import LATEST
from ondol.dialects.aws.paging import page
from ondol.dialects.aws.rendering import arn, last_modified
from ondol.dialects.aws.service import Context, Operations, ServiceError
from ondol.model.errors import AlreadyExists, InvalidSetting, NotFound
from ondol.model.functions import Function, Pin

LISTED_MAX: Final = 50
#: What the service says of functions that cannot be loaded; the log says why.
INIT_FAILURE: Final = "FUNCTION_ERROR_INIT_FAILURE"

Params = dict[str, Any]
#: Of each revision, how many environments are up because they are to be, and why there are not more, if that is known.
Keeping = Callable[[], Awaitable[Mapping[str, tuple[int, str]]]]


class Provisioned:
    """The handlers."""

    def __init__(self, deployments: Deployments, lookup: Lookup, keeping: Keeping) -> None:
        self._deployments = deployments
        self._lookup = lookup
        self._keeping = keeping

    def operations(self) -> Operations:
        return {
            "PutProvisionedConcurrencyConfig": self.put,
            "GetProvisionedConcurrencyConfig": self.get,
            "ListProvisionedConcurrencyConfigs": self.list,
            "DeleteProvisionedConcurrencyConfig": self.delete,
        }

    async def put(self, context: Context, params: Params) -> Params:
        named = self._lookup.named(context, "PutProvisionedConcurrencyConfig", params)
        if named.qualifier in (None, LATEST):
            raise refusals.invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
        function = self._there(named)
        wanted = params["ProvisionedConcurrentExecutions"]
        try:
            with self._lookup.changing(function):
                pin = await self._deployments.pins.put(function.id, named.qualifier, wanted)
        except NotFound as error:
            raise _missing(named, error) from error
        except AlreadyExists as error:
            if (named.qualifier or "").isdecimal():
                raise refusals.conflict("Version is pointed by a Provisioned Concurrency alias") from error
            text = "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
            raise refusals.conflict(text) from error
        except InvalidSetting as error:
            raise self._refused(function, named, error) from error
        return _shown(pin, {})  # what is up of it is told from now on

    async def get(self, context: Context, params: Params) -> Params:
        named = self._published(context, "GetProvisionedConcurrencyConfig", params)
        function = self._there(named)
        pin = self._deployments.index.pin(function.id, named.qualifier)
        if pin is None or not pin.aside:
            raise _none()
        return self._told(pin, await self._keeping())

    async def delete(self, context: Context, params: Params) -> Params:
        named = self._published(context, "DeleteProvisionedConcurrencyConfig", params)
        await self._deployments.pins.delete(self._there(named).id, named.qualifier)
        return {}

    async def list(self, context: Context, params: Params) -> Params:
        function = self._lookup.unqualified(context, "ListProvisionedConcurrencyConfigs", params)
        kept = await self._keeping()

        def after(position: str) -> Iterator[tuple[str, Pin]]:
            for pin in self._deployments.index.pins(function.id):
                if pin.aside and pin.qualifier is not None and pin.qualifier > position:
                    yield pin.qualifier, pin

        items, marker = page(params, after, LISTED_MAX, operation="ListProvisionedConcurrencyConfigs")
        shown = [{"FunctionArn": arn(function, pin.qualifier), **self._told(pin, kept)} for pin in items]
        return {"ProvisionedConcurrencyConfigs": shown, **({"NextMarker": marker} if marker else {})}

    # Within ----------------------------------------------------------------------------------------------------------
    def _published(self, context: Context, operation: str, params: Params) -> names.Named:
        named = self._lookup.named(context, operation, params)
        if named.qualifier in (None, LATEST):
            raise refusals.invalid("The function resource provided must be an alias or a published version.")
        return named

    def _there(self, named: names.Named) -> Function:
        function = self._deployments.index.handle(DIALECT, named.account, named.region, named.name)
        if function is None:
            raise refusals.function_not_found(names.function_arn(named.account, named.region, named.name, named.qualifier))
        return function

    def _told(self, pin: Pin, kept: Mapping[str, tuple[int, str]]) -> Params:
        return _shown(
            pin, {revision.id: kept.get(revision.id, (0, "")) for revision, _ in shares(self._deployments.index, pin)}
        )

    def _refused(self, function: Function, named: names.Named, error: InvalidSetting) -> Exception:
        index = self._deployments.index
        others = pinned(index, function.id)
        own = index.pin(function.id, named.qualifier)
        free = unreserved(index, function.account, function.region, but=function.id) - others + (own.environments if own else 0)
        match error.field:
            case "scaled":
                return refusals.invalid("Provisioned concurrency isn't supported for Lambda Managed Instances functions.")
            case "tenants":
                return refusals.without_tenants("Provisioned concurrency")
            case "reserved":
                text = (
                    "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
                )
                return refusals.invalid(text)
            case "unreserved":
                text = f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{free}]."
                return refusals.invalid(text, typed=False)
            case "minimum":
                text = (
                    "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
                    f"minimum value of [{CONCURRENCY_UNRESERVED_MIN}]."
                )
                return refusals.invalid(text, typed=False)
            case _:
                return error


def _shown(pin: Pin, kept: Mapping[str, tuple[int, str]]) -> Params:
    up = min(sum(up for up, _ in kept.values()), pin.environments)
    why = next((why for _, why in kept.values() if why), "")
    status = "READY" if up >= pin.environments else "FAILED" if why else "IN_PROGRESS"
    shown: Params = {
        "RequestedProvisionedConcurrentExecutions": pin.environments,
        "AvailableProvisionedConcurrentExecutions": up,
        "AllocatedProvisionedConcurrentExecutions": up,
        "Status": status,
        "LastModified": last_modified(pin.updated_s),
    }
    if status == "FAILED":
        shown["StatusReason"] = INIT_FAILURE
    return shown


def _missing(named: names.Named, error: NotFound) -> ServiceError:
    missing = names.function_arn(named.account, named.region, named.name, named.qualifier)
    if error.kind == "alias":
        return refusals.not_found(f"Cannot find alias arn: {missing}")
    return refusals.function_not_found(missing)


def _none() -> ServiceError:
    return ServiceError(
        "ProvisionedConcurrencyConfigNotFoundException",
        "No Provisioned Concurrency Config found for this function",
        status=404,
        extra={"Type": "User"},
    )
