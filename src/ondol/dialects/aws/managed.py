"""Functions on managed instances: several calls in one environment, published versions only, and how many environments.

    attach            CapacityProviderConfig at CreateFunction and UpdateFunctionConfiguration, with what goes along
    Put-, GetFunctionScalingConfig     how many environments of a version are up at least, and at most

Differences from the service, all told in docs/reference/aws.md: calls start environments (the service starts them ahead, by
load, three at first).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from ondol.core.catalog import Index
from ondol.core.deploy import Deployments
from ondol.core.resolve import number_of
from ondol.dialects.aws import names, refusals
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.lookup import Lookup
from ondol.dialects.aws.rendering import arn, state
from ondol.dialects.aws.service import Context, Operations, ServiceError
from ondol.model.errors import NotFound
from ondol.model.functions import UNNUMBERED, Configuration, Function, Pin, Revision
from ondol.model.items import Item

Params = dict[str, Any]

KIND: Final = "capacity-provider"
MEMBER: Final = "CapacityProviderConfig"
_INSTANCES: Final = "LambdaManagedInstancesCapacityProviderConfig"
VERSIONS_MAX: Final = 100
CALLS_MAX: Final = 1600
MEMORY_MIB_MIN: Final = 2048
#: Of these each call has a process of its own, and an environment holds so many; all others have one process for all calls.
_APART: Final = frozenset(("python", "nodejs"))
PROCESSES_MAX: Final = 256
#: Calls for each vCPU, where nothing is said; of custom runtimes one in all.
_PER_VCPU: Final[Mapping[str, int]] = {"python": 16, "nodejs": 64, "java": 32}
_GIB_PER_VCPU: Final = 2.0
#: The oldest of each that the documented system takes; it takes no Ruby.
_OLDEST: Final = {"python": (3, 13), "nodejs": (22, 0), "java": (21, 0)}
_RUNTIME: Final = re.compile(r"(python|nodejs|java)(\d+)(?:\.(\d+|x))?$")


class Managed:
    """The handlers of the scaling configuration."""

    def __init__(self, deployments: Deployments, lookup: Lookup) -> None:
        self._deployments = deployments
        self._lookup = lookup

    def operations(self) -> Operations:
        return {"PutFunctionScalingConfig": self.put, "GetFunctionScalingConfig": self.get}

    async def put(self, context: Context, params: Params) -> Params:
        function, qualifier, number = self._version(context, "PutFunctionScalingConfig", params)
        wanted = params.get("FunctionScalingConfig") or {}
        least, most = wanted.get("MinExecutionEnvironments"), wanted.get("MaxExecutionEnvironments")
        if least is not None and most is not None and least > most:
            raise refusals.invalid("MinExecutionEnvironments can't be greater than MaxExecutionEnvironments")
        pins = self._deployments.pins
        with self._lookup.changing(function):
            if wanted:
                await pins.scale(function.id, qualifier, least or 0, most)
            else:
                await pins.delete(function.id, qualifier)
        return {"FunctionState": "Deactivated" if most == 0 else state(self._deployments.version(function, number))["State"]}

    async def get(self, context: Context, params: Params) -> Params:
        function, qualifier, _ = self._version(context, "GetFunctionScalingConfig", params)
        pin = self._deployments.index.pin(function.id, qualifier)
        config = {} if pin is None else _config(pin)
        return {
            "FunctionArn": arn(function, qualifier),
            "AppliedFunctionScalingConfig": config,
            "RequestedFunctionScalingConfig": config,
        }

    def _version(self, context: Context, operation: str, params: Params) -> tuple[Function, str, int]:
        """The function, and its published version as it is called and by its number."""
        found = self._lookup.function(context, operation, params)
        function, qualifier = found.function, found.qualifier or ""
        if not function.versions_only:
            text = "The function provided by the arn does not contain a capacity provider configuration"
            raise ServiceError("AccessDeniedException", text, status=403, message_key="Message")
        number = number_of(qualifier) or 0  # the model lets nothing else in than a version's number or name
        try:
            self._deployments.version(function, number)
        except NotFound:
            raise refusals.function_not_found(arn(function, qualifier)) from None
        return function, names.version_name(number), number


def _config(pin: Pin) -> Params:
    most = {} if pin.environments_max is None else {"MaxExecutionEnvironments": pin.environments_max}
    return {"MinExecutionEnvironments": pin.environments, **most}


# What a function's parameters say ------------------------------------------------------------------------------------------
def defaults(params: Params) -> Params:
    """The parameters of CreateFunction with what goes along with a capacity provider where nothing is said."""
    logging = params.get("LoggingConfig") or {}
    _check_format(logging)
    return {"MemorySize": MEMORY_MIB_MIN, **params, "LoggingConfig": {"LogFormat": "JSON", **logging}}


def attach(index: Index, context: Context, wanted: Configuration, params: Params) -> Configuration:
    """`wanted` as it runs on the capacity provider that `params` name. Raises ServiceError."""
    before = wanted.annotations.get(DIALECT, {}).get(MEMBER, {}).get(_INSTANCES, {})
    given = {**before, **(params.get(MEMBER) or {}).get(_INSTANCES, {})}
    _check_format(params.get("LoggingConfig") or {})
    family = _check_runtime(wanted.runtime)
    if wanted.memory_mib < MEMORY_MIB_MIN:
        text = f"Lambda Managed Instance functions must have memory size greater than or equal to {MEMORY_MIB_MIN}"
        raise ServiceError("ValidationException", text, status=400)
    provider = given["CapacityProviderArn"]
    item = find(index, provider)
    if item is None or (item.account, item.region) != (context.account, context.region):
        raise absent(provider)
    ratio = float(given.get("ExecutionEnvironmentMemoryGiBPerVCpu", _GIB_PER_VCPU))
    vcpus = wanted.memory_mib / 1024 / ratio
    if vcpus < 1:
        raise refusals.invalid(
            f"{wanted.memory_mib} MB at {ratio:g} GiB for each vCPU are less than one vCPU, which an environment has at least."
        )
    side_by_side = _side_by_side(family, vcpus, given.get("PerExecutionEnvironmentMaxConcurrency"))
    config = {
        "CapacityProviderArn": provider,
        "PerExecutionEnvironmentMaxConcurrency": side_by_side,
        "ExecutionEnvironmentMemoryGiBPerVCpu": ratio,
    }
    own = {**wanted.annotations.get(DIALECT, {}), MEMBER: {_INSTANCES: config}}
    return replace(wanted, concurrency=side_by_side, annotations={**wanted.annotations, DIALECT: own})


def _side_by_side(family: str, vcpus: float, asked: int | None) -> int:
    """How many calls an environment runs at a time."""
    most = PROCESSES_MAX if family in _APART else CALLS_MAX
    if asked is None:
        return min(int(vcpus * _PER_VCPU.get(family, 0)), most) or 1
    if asked > most:
        raise refusals.not_built(
            f"{asked} calls at a time in one environment", f"Each has a process of its own: {PROCESSES_MAX} at most."
        )
    return asked


def check_publish_to(params: Mapping[str, Any], *, versions_only: bool) -> None:
    """Raise where a version without a number is to be published, and what runs is $LATEST."""
    if params.get("Publish") and params.get("PublishTo") and not versions_only:
        raise refusals.invalid("Publishing to LATEST_PUBLISHED is only supported for Lambda Managed Instances.")


def check_publication(index: Index, function: Function, params: Mapping[str, Any]) -> None:
    """Raise where `params` publish what a function cannot have, or one version more than its provider may have."""
    check_publish_to(params, versions_only=function.versions_only)
    replaced = params.get("PublishTo") and index.version(function.id, UNNUMBERED) is not None
    if params.get("Publish") and not replaced:
        check_room(index, provider_of(function, index))


def check_room(index: Index, provider: str) -> None:
    """Raise when a provider has as many versions as one may have."""
    if provider and sum(number is not None for _, number in attached(index, provider)) >= VERSIONS_MAX:
        text = (
            f"The maximum number of function versions ({VERSIONS_MAX}) for the capacity provider {provider} has been exceeded."
        )
        raise ServiceError(
            "FunctionVersionsPerCapacityProviderLimitExceededException", text, status=400, extra={"Type": "User"}
        )


def _check_format(logging: Mapping[str, Any]) -> None:
    if logging.get("LogFormat") == "Text":
        raise refusals.invalid(
            'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change the '
            'LogFormat to "JSON" and try again.'
        )


def _check_runtime(runtime: str) -> str:
    """The family of a runtime that runs on managed instances here."""
    found = _RUNTIME.match(runtime)
    if found is not None and (int(found[2]), int(found[3]) if (found[3] or "x") != "x" else 0) >= _OLDEST[found[1]]:
        return found[1]
    if runtime == "provided.al2023":
        return "provided"
    raise refusals.invalid(f"Runtime {runtime} is not supported for Lambda Managed Instances functions.")


# Providers and what is attached to them ------------------------------------------------------------------------------------
def provider_arn(item: Item) -> str:
    return f"arn:{names.partition(item.region)}:lambda:{item.region}:{item.account}:{KIND}:{item.name}"


def find(index: Index, wanted: str) -> Item | None:
    """The provider that an ARN names."""
    parts = wanted.split(":")
    return index.item(DIALECT, KIND, parts[4], parts[3], parts[6]) if len(parts) == 7 else None


def absent(wanted: str) -> ServiceError:
    return refusals.not_found(f"Capacity provider not found: {wanted}")


def named_by(configuration: Configuration) -> str:
    """The ARN of the provider that it names, or ""."""
    own = configuration.annotations.get(DIALECT, {})
    return str(own.get(MEMBER, {}).get(_INSTANCES, {}).get("CapacityProviderArn", ""))


def provider_of(function: Function, index: Index) -> str:
    return _provider(index.revision(function.id, function.latest)) if function.versions_only else ""


def _provider(revision: Revision | None) -> str:
    return named_by(revision.configuration) if revision else ""


def attached(index: Index, provider: str) -> Iterator[tuple[Function, int | None]]:
    """The functions and versions that run on it; None for what may still be changed."""
    for function in index.functions():
        if not function.versions_only:
            continue
        if _provider(index.revision(function.id, function.latest)) == provider:
            yield function, None
        for version in index.versions(function.id):
            if _provider(index.revision(function.id, version.revision)) == provider:
                yield function, version.number
