"""Between the parameters of CreateFunction and UpdateFunctionConfiguration and the neutral `Configuration`.

What every system knows (handler, memory, variables …) goes into the neutral fields; what only Lambda knows is kept in
`annotations["aws"]` under the service's own member names. Pure. The codec has checked lengths, patterns and enums before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ondol.dialects.aws import runtimes
from ondol.dialects.aws.refusals import invalid, not_built, out_of_range, without_tenants
from ondol.model.functions import Code, Configuration, Function
from ondol.model.limits import ENVIRONMENT_BYTES_MAX, MEMORY_MIB_MAX, TIMEOUT_S_MAX, TMP_MIB_MAX

DIALECT: Final = "aws"
LAYERS_MAX: Final = 5
#: What happens to a function that calls itself for ever, if nobody says otherwise.
TERMINATE: Final = "Terminate"

#: Set by the service itself in every environment.
RESERVED_VARIABLES: Final = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
    }
)
#: Kept and shown again as given. Nothing acts on DeadLetterConfig, KMSKeyArn, VpcConfig, TracingConfig, SnapStart or
#: Architectures yet; LoggingConfig's format and levels are the contract's business.
KEPT: Final = (
    "Role", "Description", "DeadLetterConfig", "KMSKeyArn", "TracingConfig", "VpcConfig", "LoggingConfig", "SnapStart",
    "Architectures",
)  # fmt: skip
#: What would change how a function runs, and is not built: refused rather than kept in silence.
_REFUSED: Final = {
    "FileSystemConfigs": ("network file systems", "Deploy without FileSystemConfigs; /tmp is 512 to 10240 MB of disk."),
    "ImageConfig": ("container images", "Deploy the code as a zip archive."),
    "DurableConfig": ("durable functions", "Deploy without DurableConfig."),
    "RuntimeConfig": ("runtimes of one's own choice", "Deploy without RuntimeConfig."),
    "AcceleratorConfig": ("accelerators", "Deploy without AcceleratorConfig."),
}


def recursion(function: Function) -> str:
    """Whether a chain of calls that comes back to this function too often is ended."""
    return str(function.annotations.get(DIALECT, {}).get("RecursiveLoop", TERMINATE))


def created(params: Mapping[str, Any]) -> Configuration:
    """The configuration of a new function. Raises ServiceError."""
    refuse_unbuilt(params)
    runtime, handler = params.get("Runtime"), params.get("Handler")
    if not runtime or not handler:
        raise invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
    empty = Configuration(contract=DIALECT, runtime=runtime, handler=handler, annotations={DIALECT: {}})
    return _with(empty, params)


def updated(old: Configuration, params: Mapping[str, Any]) -> Configuration:
    """`old` with what `params` names. Raises ServiceError."""
    refuse_unbuilt(params)
    return _with(old, params)


def with_layers(old: Configuration, layers: Sequence[Mapping[str, Any]], opt: Code | None) -> Configuration:
    """`old` with these layers and the one tree that was made of them."""
    return replace(_kept(old, {"Layers": [dict(layer) for layer in layers]}), opt=opt)


def with_architectures(old: Configuration, architectures: list[str] | None) -> Configuration:
    """What UpdateFunctionCode may change of a configuration."""
    return _kept(old, {"Architectures": architectures}) if architectures else old


def refuse_unbuilt(params: Mapping[str, Any]) -> None:
    """Raise for what would have to be acted on."""
    if len(params.get("Layers") or []) > LAYERS_MAX:
        raise invalid("Cannot reference more than 5 layers.")
    for member, (what, instead) in _REFUSED.items():
        if params.get(member):
            raise not_built(what, instead)


def check_tenants(params: Mapping[str, Any]) -> None:
    """Raise for what a function that keeps its tenants apart cannot have."""
    if _applied_on(params) == "PublishedVersions":
        raise without_tenants("SnapStart")
    if params.get("CapacityProviderConfig"):
        raise without_tenants("A capacity provider")


def _with(old: Configuration, params: Mapping[str, Any]) -> Configuration:
    runtime = params.get("Runtime") or old.runtime
    if "Runtime" in params:
        runtimes.check(runtime)
    if _applied_on(params) == "PublishedVersions":
        runtimes.check_snapshots(runtime)
    new = replace(
        old,
        runtime=runtime,
        handler=params.get("Handler") or old.handler,
        memory_mib=_memory(params.get("MemorySize", old.memory_mib)),
        timeout_s=_at_most(TIMEOUT_S_MAX, "timeout", params.get("Timeout", old.timeout_s)),
        tmp_mib=_at_most(TMP_MIB_MAX, "ephemeralStorage.size", params.get("EphemeralStorage", {}).get("Size", old.tmp_mib)),
    )
    kept = {member: params[member] for member in KEPT if params.get(member) is not None}
    if "LoggingConfig" in kept:
        kept["LoggingConfig"] = _logging(_own(old).get("LoggingConfig", {}), kept["LoggingConfig"])
    if "Environment" in params:
        # Told apart from no environment at all, because answers show the difference.
        kept["HasEnvironment"] = True
        new = replace(new, variables=_variables(params["Environment"].get("Variables") or {}))
    return _kept(new, kept)


def _kept(old: Configuration, members: Mapping[str, Any]) -> Configuration:
    return replace(old, annotations={**old.annotations, DIALECT: {**_own(old), **members}})


def _own(configuration: Configuration) -> Mapping[str, Any]:
    return configuration.annotations.get(DIALECT, {})


def _variables(variables: Mapping[str, str]) -> dict[str, str]:
    if taken := [name for name in variables if name in RESERVED_VARIABLES]:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have provided "
            "contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(taken)}"
        )
    measured = json.dumps(variables, separators=(",", ":"), ensure_ascii=False)
    if len(measured.encode()) > ENVIRONMENT_BYTES_MAX:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have provided "
            f"exceeded the 4KB limit. String measured: {measured}"
        )
    return dict(variables)


def _memory(mib: int) -> int:
    if mib > MEMORY_MIB_MAX:
        raise invalid(
            f"'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to {MEMORY_MIB_MAX}"
        )
    return mib


def _at_most(limit: int, member: str, value: int) -> int:
    if value > limit:
        raise out_of_range(member, value, f"Member must have value less than or equal to {limit}")
    return value


def _logging(old: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Levels go with JSON only; going back to text forgets them."""
    new = {**old, **given}
    if new.get("LogFormat", "Text") == "JSON":
        return {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO", **new}
    if given.get("ApplicationLogLevel") or given.get("SystemLogLevel"):
        raise invalid("ApplicationLogLevel and SystemLogLevel go with LogFormat JSON only; set it, or leave them out.")
    return {member: value for member, value in new.items() if not member.endswith("LogLevel")}


def _applied_on(params: Mapping[str, Any]) -> str:
    return str((params.get("SnapStart") or {}).get("ApplyOn", "None"))
