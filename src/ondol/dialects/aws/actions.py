"""What an operation of AWS's does to what, in the core's words: the action that `ondol.core.permit` is asked about.

An operation that is not named here asks for an action of its own, which nobody but an owner may: a new operation is closed to
read-only keys until somebody decides what it is. Their names may stand here before the operations are built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_LOOKING_AT_FUNCTIONS: Final = (
    "GetAlias",
    "GetCapacityProvider",
    "GetCodeSigningConfig",
    "GetEventSourceMapping",
    "GetFunction",
    "GetFunctionCodeSigningConfig",
    "GetFunctionConcurrency",
    "GetFunctionConfiguration",
    "GetFunctionEventInvokeConfig",
    "GetFunctionRecursionConfig",
    "GetFunctionScalingConfig",
    "GetFunctionUrlConfig",
    "GetLayerVersion",
    "GetLayerVersionByArn",
    "GetLayerVersionPolicy",
    "GetPolicy",
    "GetProvisionedConcurrencyConfig",
    "GetResourcePolicy",
    "GetRuntimeManagementConfig",
    "ListAliases",
    "ListCapacityProviders",
    "ListCodeSigningConfigs",
    "ListEventSourceMappings",
    "ListFunctionEventInvokeConfigs",
    "ListFunctionUrlConfigs",
    "ListFunctionVersionsByCapacityProvider",
    "ListFunctionsByCodeSigningConfig",
    "ListLayerVersions",
    "ListLayers",
    "ListProvisionedConcurrencyConfigs",
    "ListTags",
    "ListVersionsByFunction",
)
_CHANGING_FUNCTIONS: Final = (
    "AddLayerVersionPermission",
    "AddPermission",
    "CreateAlias",
    "CreateCapacityProvider",
    "CreateCodeSigningConfig",
    "CreateEventSourceMapping",
    "CreateFunction",
    "CreateFunctionUrlConfig",
    "DeleteAlias",
    "DeleteCapacityProvider",
    "DeleteCodeSigningConfig",
    "DeleteEventSourceMapping",
    "DeleteFunctionCodeSigningConfig",
    "DeleteFunctionConcurrency",
    "DeleteFunctionEventInvokeConfig",
    "DeleteFunctionUrlConfig",
    "DeleteLayerVersion",
    "DeleteProvisionedConcurrencyConfig",
    "DeleteResourcePolicy",
    "PublishLayerVersion",
    "PublishVersion",
    "PutFunctionCodeSigningConfig",
    "PutFunctionConcurrency",
    "PutFunctionEventInvokeConfig",
    "PutFunctionRecursionConfig",
    "PutFunctionScalingConfig",
    "PutProvisionedConcurrencyConfig",
    "PutResourcePolicy",
    "PutRuntimeManagementConfig",
    "RemoveLayerVersionPermission",
    "RemovePermission",
    "TagResource",
    "UntagResource",
    "UpdateAlias",
    "UpdateCapacityProvider",
    "UpdateCodeSigningConfig",
    "UpdateEventSourceMapping",
    "UpdateFunctionCode",
    "UpdateFunctionConfiguration",
    "UpdateFunctionEventInvokeConfig",
    "UpdateFunctionUrlConfig",
)
_WRITING_LOGS: Final = (
    "CreateLogGroup",
    "CreateLogStream",
    "DeleteRetentionPolicy",
    "PutLogEvents",
    "PutRetentionPolicy",
    "TagLogGroup",
    "TagResource",
    "UntagLogGroup",
    "UntagResource",
)
_LOOKING_AT_ROLES: Final = (
    "GetPolicy",
    "GetPolicyVersion",
    "GetRole",
    "GetRolePolicy",
    "ListAttachedRolePolicies",
    "ListInstanceProfilesForRole",
    "ListPolicies",
    "ListPolicyVersions",
    "ListRolePolicies",
    "ListRoleTags",
    "ListRoles",
)
_CHANGING_ROLES: Final = (
    "AttachRolePolicy",
    "CreatePolicy",
    "CreatePolicyVersion",
    "CreateRole",
    "DeletePolicy",
    "DeletePolicyVersion",
    "DeleteRole",
    "DeleteRolePermissionsBoundary",
    "DeleteRolePolicy",
    "DetachRolePolicy",
    "PutRolePermissionsBoundary",
    "PutRolePolicy",
    "SetDefaultPolicyVersion",
    "TagRole",
    "UntagRole",
    "UpdateAssumeRolePolicy",
    "UpdateRole",
)

#: By the service's name in the SigV4 scope.
ACTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "lambda": {
        "ListFunctions": "function:list",
        **dict.fromkeys(_LOOKING_AT_FUNCTIONS, "function:read"),
        **dict.fromkeys(_CHANGING_FUNCTIONS, "function:write"),
        "DeleteFunction": "function:delete",
        "GetAccountSettings": "account:read",
    },
    "logs": {
        **dict.fromkeys(("DescribeLogGroups", "DescribeLogStreams", "ListTagsForResource", "ListTagsLogGroup"), "log:list"),
        **dict.fromkeys(("FilterLogEvents", "GetLogEvents", "StartLiveTail", "TestMetricFilter"), "log:read"),
        **dict.fromkeys(_WRITING_LOGS, "log:write"),
        **dict.fromkeys(("DeleteLogGroup", "DeleteLogStream"), "log:delete"),
    },
    "monitoring": {
        "ListMetrics": "metric:list",
        **dict.fromkeys(("GetMetricData", "GetMetricStatistics"), "metric:read"),
        "PutMetricData": "metric:write",
    },
    "sts": dict.fromkeys(("AssumeRole", "GetFederationToken", "GetSessionToken"), "session:create"),
    "iam": {**dict.fromkeys(_LOOKING_AT_ROLES, "role:read"), **dict.fromkeys(_CHANGING_ROLES, "role:write")},
}


#: Services whose actions policies, and so refusals, give another name than the scope of a signature.
_IN_POLICIES: Final = {"monitoring": "cloudwatch"}


def named_action(service: str, operation: str) -> str:
    """The action as AWS's policies and refusals name it."""
    return f"{_IN_POLICIES.get(service, service)}:{operation}"


def action_of(service: str, operation: str) -> str:
    """The action in the core's words; one of the operation's own where it has none."""
    return ACTIONS.get(service, {}).get(operation, f"{service}:{operation}")
