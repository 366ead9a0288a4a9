"""From what is deployed to the service's FunctionConfiguration: state, ARNs, defaults and times as Lambda shows them. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ondol.core.deploy import Deployed
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.names import LATEST, function_arn, partition, version_name
from ondol.model.functions import Code, Function, Revision, Stage

_CREATING: Final = "The function is being created."
#: Only GetFunction and its kind show these; listings leave them out.
_UNLISTED: Final = frozenset(
    {
        "State",
        "StateReason",
        "StateReasonCode",
        "LastUpdateStatus",
        "LastUpdateStatusReason",
        "LastUpdateStatusReasonCode",
        "RuntimeVersionConfig",
    }
)


def configuration(deployed: Deployed, *, qualifier: str | None = None) -> dict[str, Any]:
    """FunctionConfiguration; `qualifier` is what the ARN ends in (a version, an alias, $LATEST), None for the bare one."""
    revision, own = deployed.revision, _own(deployed.revision)
    neutral = revision.configuration
    shown: dict[str, Any] = {
        "FunctionName": revision.name,
        "FunctionArn": arn(deployed.function, qualifier),
        "Runtime": neutral.runtime,
        "Role": own.get("Role", ""),
        "Handler": neutral.handler,
        "CodeSize": revision.code.zipped_bytes,
        "Description": description(deployed),
        "Timeout": neutral.timeout_s,
        "MemorySize": neutral.memory_mib,
        "LastModified": last_modified(revision.created_s),
        "CodeSha256": code_sha256(revision.code),
        "Version": version(deployed),
        "TracingConfig": own.get("TracingConfig") or {"Mode": "PassThrough"},
        "RevisionId": deployed.etag,
        **state(deployed),
        "PackageType": "Zip",
        "Architectures": own.get("Architectures") or ["x86_64"],
        "EphemeralStorage": {"Size": neutral.tmp_mib},
        "SnapStart": {"ApplyOn": (own.get("SnapStart") or {}).get("ApplyOn", "None"), "OptimizationStatus": "Off"},
        "RuntimeVersionConfig": {"RuntimeVersionArn": _runtime_version_arn(revision)},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{revision.name}", **own.get("LoggingConfig", {})},
    }
    if provider := own.get("CapacityProviderConfig"):
        shown["CapacityProviderConfig"] = provider
    if deployed.function.per_tenant:
        shown["TenancyConfig"] = {"TenantIsolationMode": "PER_TENANT"}
    if own.get("Layers"):
        shown["Layers"] = [dict(layer) for layer in own["Layers"]]
    if own.get("KMSKeyArn"):
        shown["KMSKeyArn"] = own["KMSKeyArn"]
    if (own.get("DeadLetterConfig") or {}).get("TargetArn"):
        shown["DeadLetterConfig"] = own["DeadLetterConfig"]
    if own.get("HasEnvironment"):
        shown["Environment"] = {"Variables": dict(neutral.variables)}
    if vpc := own.get("VpcConfig"):
        shown["VpcConfig"] = {"SubnetIds": [], "SecurityGroupIds": [], "VpcId": "", "Ipv6AllowedForDualStack": False, **vpc}
    return shown


def listed(deployed: Deployed, *, qualifier: str | None = None) -> dict[str, Any]:
    """FunctionConfiguration as ListFunctions and ListVersionsByFunction show it."""
    shown = configuration(deployed, qualifier=qualifier)
    return {member: value for member, value in shown.items() if member not in _UNLISTED}


def arn(function: Function, qualifier: str | None = None) -> str:
    return function_arn(function.account, function.region, function.name, qualifier)


def version(deployed: Deployed) -> str:
    return version_name(deployed.version.number) if deployed.version else LATEST


def description(deployed: Deployed) -> str:
    """A version describes itself, or else as its function did when it was published."""
    own = str(_own(deployed.revision).get("Description", ""))
    return (deployed.version.description if deployed.version else "") or own


def code_sha256(code: Code) -> str:
    return base64.b64encode(bytes.fromhex(code.sha256)).decode()


def last_modified(at_s: float) -> str:
    """ISO 8601 with milliseconds and an offset without a colon."""
    return f"{datetime.fromtimestamp(at_s, UTC).isoformat(timespec='milliseconds').removesuffix('+00:00')}+0000"


def state(deployed: Deployed) -> dict[str, str]:
    """What a function or version is doing, in the service's members."""
    active = "ActiveNonInvocable" if deployed.function.versions_only and deployed.version is None else "Active"
    stage = deployed.version.stage if deployed.version else deployed.function.stage
    match stage:
        case Stage.CREATING:
            return {"State": "Pending", "StateReason": _CREATING, "StateReasonCode": "Creating"}
        case Stage.UPDATING:
            return {
                "State": active,
                "LastUpdateStatus": "InProgress",
                "LastUpdateStatusReason": _CREATING,
                "LastUpdateStatusReasonCode": "Creating",
            }
        case Stage.READY:
            return {"State": active, "LastUpdateStatus": "Successful"}


def _own(revision: Revision) -> Mapping[str, Any]:
    return revision.configuration.annotations.get(DIALECT, {})


def _runtime_version_arn(revision: Revision) -> str:
    """The service names each build of a runtime; ours are named after the runtime."""
    digest = hashlib.sha256(revision.configuration.runtime.encode()).hexdigest()
    return f"arn:{partition(revision.region)}:lambda:{revision.region}::runtime:{digest}"
