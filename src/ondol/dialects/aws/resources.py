"""Which resource an operation is about, as policies name it: an ARN, or "*" where it is about no one thing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ondol.dialects.aws import names
from ondol.dialects.aws.service import ServiceError

Params = Mapping[str, Any]
#: (parameters, account, region) -> ARN.
Finder = Callable[[Params, str, str], str]


def resource_of(service: str, params: Params, account: str, region: str) -> str:
    """The ARN of what a request is about."""
    finder = _FINDERS.get(service)
    return finder(params, account, region) if finder else "*"


def layer_arn(account: str, region: str, name: str, version: int | None = None) -> str:
    """The ARN of a layer, or of one of its versions."""
    arn = f"arn:{names.partition(region)}:lambda:{region}:{account}:layer:{name}"
    return arn if version is None else f"{arn}:{version}"


def mapping_arn(account: str, region: str, uuid: str) -> str:
    """The ARN of an event source mapping."""
    return f"arn:{names.partition(region)}:lambda:{region}:{account}:event-source-mapping:{uuid}"


def conditions_of(service: str, params: Params, account: str, region: str) -> dict[str, tuple[str, ...]]:
    """The condition keys that an operation's own parameters give."""
    told: dict[str, tuple[str, ...]] = {}
    for member, key in _KEYS.get(service, {}).items():
        given = params.get(member)
        if given:
            told[key] = tuple(given) if isinstance(given, list) else (str(given),)
    if service == "lambda" and "FunctionName" in params and ("UUID" in params or "EventSourceArn" in params):
        told["lambda:functionarn"] = (_function(params, account, region),)
    tags = params.get("Tags") or {}
    if isinstance(tags, list):
        tags = {each.get("Key", ""): each.get("Value", "") for each in tags}
    keys = tuple(tags) or tuple(params.get("TagKeys") or ())
    if keys:
        told["aws:tagkeys"] = keys
    return {**told, **{f"aws:requesttag/{key.lower()}": (value,) for key, value in tags.items()}}


#: Service -> parameter -> condition key.
_KEYS: Final[Mapping[str, Mapping[str, str]]] = {
    "lambda": {
        "Layers": "lambda:layer",
        "AuthType": "lambda:functionurlauthtype",
        "FunctionUrlAuthType": "lambda:functionurlauthtype",
        "Principal": "lambda:principal",
        "CodeSigningConfigArn": "lambda:codesigningconfigarn",
    },
    "iam": {"PolicyArn": "iam:policyarn", "PermissionsBoundary": "iam:permissionsboundary"},
}


def _lambda(params: Params, account: str, region: str) -> str:
    if "UUID" in params:
        return mapping_arn(account, region, params["UUID"])
    if "LayerName" in params:
        return _layer(params["LayerName"], params.get("VersionNumber"), account, region)
    for member in ("CodeSigningConfigArn", "Resource", "ResourceArn", "Arn"):
        if "FunctionName" not in params and member in params:
            return str(params[member])
    return _function(params, account, region)


def _layer(name: str, version: int | None, account: str, region: str) -> str:
    """A layer may be named by its ARN, with or without a version; a version beside it wins, as it does for the handler."""
    if not name.startswith("arn:"):
        return layer_arn(account, region, name, version)
    return name if version is None else ":".join([*name.split(":")[:7], str(version)])


def _function(params: Params, account: str, region: str) -> str:
    if "FunctionName" not in params:
        return "*"
    try:
        named = names.parse(params["FunctionName"], params.get("Qualifier"), account=account, region=region)
    except ServiceError:  # the handler says what is wrong with it
        return "*"
    return names.function_arn(named.account, named.region, named.name, named.qualifier)


def _logs(params: Params, account: str, region: str) -> str:
    group = params.get("logGroupName") or params.get("logGroupIdentifier") or ""
    if group.startswith("arn:"):
        group = group.split(":log-group:", 1)[-1].split(":")[0]
    arn = params.get("resourceArn")
    if not group:
        return str(arn) if arn else f"arn:{names.partition(region)}:logs:{region}:{account}:log-group::log-stream:"
    stream = params.get("logStreamName") or ""
    return f"arn:{names.partition(region)}:logs:{region}:{account}:log-group:{group}:log-stream:{stream}"


def _iam(params: Params, account: str, region: str) -> str:
    prefix = f"arn:{names.partition(region)}:iam::{account}"
    path = params.get("Path") or "/"
    if "RoleName" in params:
        return f"{prefix}:role{path}{params['RoleName']}"
    if "PolicyArn" in params:
        return str(params["PolicyArn"])
    return f"{prefix}:policy{path}{params['PolicyName']}" if "PolicyName" in params else "*"


_FINDERS: Final[Mapping[str, Finder]] = {
    "lambda": _lambda,
    "logs": _logs,
    "iam": _iam,
    "sts": lambda params, _account, _region: str(params.get("RoleArn", "*")),
}
