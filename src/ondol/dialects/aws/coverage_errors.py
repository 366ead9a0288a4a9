"""Which of the errors that Lambda's model documents for its operations are answered here, and why the others never are. Data.

A test provokes all that are said to be answered and compares both tables with the model; docs/reference/aws-lambda.md is made
of them. Operations that are refused as a whole are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

#: What the node's own failure is answered as, whatever was asked for.
EVERYWHERE: Final = "ServiceException"

#: Operation -> the errors that it answers when there is reason to, besides the one of EVERYWHERE; without their "Exception".
ANSWERED: Final[Mapping[str, str]] = {
    "AddLayerVersionPermission": (
        "InvalidParameterValue PolicyLengthExceeded PreconditionFailed ResourceConflict ResourceNotFound"
    ),
    "AddPermission": "InvalidParameterValue PolicyLengthExceeded PreconditionFailed ResourceConflict ResourceNotFound",
    "CreateAlias": "InvalidParameterValue ResourceConflict ResourceNotFound",
    "CreateCapacityProvider": "CapacityProviderLimitExceeded InvalidParameterValue ResourceConflict",
    "CreateCodeSigningConfig": "",
    "CreateEventSourceMapping": "InvalidParameterValue ResourceConflict",
    "CreateFunction": (
        "CodeSigningConfigNotFound CodeStorageExceeded CodeVerificationFailed "
        "FunctionVersionsPerCapacityProviderLimitExceeded InvalidParameterValue ResourceConflict"
    ),
    "CreateFunctionUrlConfig": "InvalidParameterValue ResourceConflict ResourceNotFound",
    "DeleteAlias": "InvalidParameterValue ResourceNotFound",
    "DeleteCapacityProvider": "ResourceConflict ResourceNotFound",
    "DeleteCodeSigningConfig": "ResourceConflict ResourceNotFound",
    "DeleteEventSourceMapping": "ResourceNotFound",
    "DeleteFunction": "InvalidParameterValue ResourceConflict ResourceNotFound",
    "DeleteFunctionCodeSigningConfig": "InvalidParameterValue ResourceNotFound",
    "DeleteFunctionConcurrency": "InvalidParameterValue ResourceNotFound",
    "DeleteFunctionEventInvokeConfig": "InvalidParameterValue ResourceNotFound",
    "DeleteFunctionUrlConfig": "InvalidParameterValue ResourceNotFound",
    "DeleteLayerVersion": "InvalidParameterValue",
    "DeleteProvisionedConcurrencyConfig": "InvalidParameterValue ResourceNotFound",
    "DeleteResourcePolicy": "PreconditionFailed ResourceNotFound",
    "GetAccountSettings": "",
    "GetAlias": "InvalidParameterValue ResourceNotFound",
    "GetCapacityProvider": "ResourceNotFound",
    "GetCodeSigningConfig": "ResourceNotFound",
    "GetEventSourceMapping": "ResourceNotFound",
    "GetFunction": "InvalidParameterValue ResourceNotFound",
    "GetFunctionCodeSigningConfig": "InvalidParameterValue ResourceNotFound",
    "GetFunctionConcurrency": "InvalidParameterValue ResourceNotFound",
    "GetFunctionConfiguration": "InvalidParameterValue ResourceNotFound",
    "GetFunctionEventInvokeConfig": "InvalidParameterValue ResourceNotFound",
    "GetFunctionRecursionConfig": "ResourceNotFound",
    "GetFunctionScalingConfig": "ResourceNotFound",
    "GetFunctionUrlConfig": "InvalidParameterValue ResourceNotFound",
    "GetLayerVersion": "InvalidParameterValue ResourceNotFound",
    "GetLayerVersionByArn": "ResourceNotFound",
    "GetLayerVersionPolicy": "InvalidParameterValue ResourceNotFound",
    "GetPolicy": "InvalidParameterValue ResourceNotFound",
    "GetProvisionedConcurrencyConfig": "InvalidParameterValue ProvisionedConcurrencyConfigNotFound ResourceNotFound",
    "GetResourcePolicy": "ResourceNotFound",
    "GetRuntimeManagementConfig": "InvalidParameterValue ResourceNotFound",
    "Invoke": (
        "InvalidParameterValue InvalidRequestContent InvalidRuntime "
        "NoPublishedVersion RecursiveInvocation ResourceNotFound TooManyRequests"
    ),
    "InvokeAsync": "InvalidRequestContent InvalidRuntime ResourceNotFound",
    "InvokeWithResponseStream": (
        "InvalidParameterValue InvalidRequestContent InvalidRuntime "
        "NoPublishedVersion RecursiveInvocation ResourceNotFound TooManyRequests"
    ),
    "ListAliases": "InvalidParameterValue ResourceNotFound",
    "ListCapacityProviders": "InvalidParameterValue",
    "ListCodeSigningConfigs": "InvalidParameterValue",
    "ListEventSourceMappings": "InvalidParameterValue",
    "ListFunctionEventInvokeConfigs": "InvalidParameterValue ResourceNotFound",
    "ListFunctionUrlConfigs": "InvalidParameterValue ResourceNotFound",
    "ListFunctionVersionsByCapacityProvider": "InvalidParameterValue ResourceNotFound",
    "ListFunctions": "InvalidParameterValue",
    "ListFunctionsByCodeSigningConfig": "InvalidParameterValue ResourceNotFound",
    "ListLayerVersions": "InvalidParameterValue",
    "ListLayers": "InvalidParameterValue",
    "ListProvisionedConcurrencyConfigs": "InvalidParameterValue ResourceNotFound",
    "ListTags": "InvalidParameterValue ResourceNotFound",
    "ListVersionsByFunction": "InvalidParameterValue ResourceNotFound",
    "PublishLayerVersion": "CodeStorageExceeded InvalidParameterValue",
    "PublishVersion": (
        "FunctionVersionsPerCapacityProviderLimitExceeded InvalidParameterValue PreconditionFailed ResourceConflict "
        "ResourceNotFound"
    ),
    "PutFunctionCodeSigningConfig": "CodeSigningConfigNotFound InvalidParameterValue ResourceNotFound",
    "PutFunctionConcurrency": "InvalidParameterValue ResourceNotFound",
    "PutFunctionEventInvokeConfig": "InvalidParameterValue ResourceNotFound",
    "PutFunctionRecursionConfig": "ResourceNotFound",
    "PutFunctionScalingConfig": "InvalidParameterValue ResourceNotFound",
    "PutProvisionedConcurrencyConfig": "InvalidParameterValue ResourceConflict ResourceNotFound",
    "PutResourcePolicy": "InvalidParameterValue PreconditionFailed ResourceNotFound",
    "PutRuntimeManagementConfig": "InvalidParameterValue ResourceNotFound",
    "RemoveLayerVersionPermission": "InvalidParameterValue PreconditionFailed ResourceNotFound",
    "RemovePermission": "InvalidParameterValue PreconditionFailed ResourceNotFound",
    "TagResource": "InvalidParameterValue ResourceNotFound",
    "UntagResource": "InvalidParameterValue ResourceNotFound",
    "UpdateAlias": "InvalidParameterValue PreconditionFailed ResourceNotFound",
    "UpdateCapacityProvider": "InvalidParameterValue ResourceNotFound",
    "UpdateCodeSigningConfig": "ResourceNotFound",
    "UpdateEventSourceMapping": "InvalidParameterValue ResourceNotFound",
    "UpdateFunctionCode": (
        "CodeStorageExceeded CodeVerificationFailed InvalidParameterValue PreconditionFailed ResourceConflict ResourceNotFound"
    ),
    "UpdateFunctionConfiguration": "InvalidParameterValue PreconditionFailed ResourceConflict ResourceNotFound",
    "UpdateFunctionEventInvokeConfig": "InvalidParameterValue ResourceNotFound",
    "UpdateFunctionUrlConfig": "InvalidParameterValue ResourceNotFound",
}

_NO_VPC: Final = "there are no VPCs: VpcConfig is kept and shown"
_NO_KEYS: Final = "nothing is encrypted with keys of KMS: KMSKeyArn is kept and shown"
_NO_FILES: Final = "there are no network file systems: FileSystemConfigs is refused at deploy"
_NO_SNAPSHOTS: Final = "there are no snapshots: SnapStart is kept and stays Off"
_NO_BUILDS: Final = "a runtime is the interpreter that is installed, and code is a zip archive"
_IN_THE_MODEL: Final = "what can be wrong with its parameters the model says: ValidationException"
#: Error -> why no operation answers it, or none that is not in ANSWERED.
NEVER: Final[Mapping[str, str]] = {
    "AliasLimitExceeded": "aliases are not counted",
    "CodeArtifactUserDeleted": _NO_BUILDS,
    "CodeArtifactUserFailed": _NO_BUILDS,
    "CodeArtifactUserPending": _NO_BUILDS,
    "CodeSigningConfigNotFound": "a configuration that a function has cannot be deleted",
    "CodeStorageExceeded": "a version is the code of its function, kept once",
    "CodeVerificationFailed": "its code was let in when it was uploaded",
    "DurableExecutionAlreadyStarted": "there are no durable executions: DurableExecutionName is refused",
    "EC2AccessDenied": _NO_VPC,
    "EC2Throttled": _NO_VPC,
    "EC2Unexpected": _NO_VPC,
    "EFSIO": _NO_FILES,
    "EFSMountConnectivity": _NO_FILES,
    "EFSMountFailure": _NO_FILES,
    "EFSMountTimeout": _NO_FILES,
    "ENILimitReached": _NO_VPC,
    "ENINotReady": _NO_VPC,
    "InvalidCodeSignature": "signatures are not read: what Enforce keeps out is answered CodeVerificationFailedException",
    "InvalidParameterValue": _IN_THE_MODEL,
    "InvalidSecurityGroupID": _NO_VPC,
    "InvalidSubnetID": _NO_VPC,
    "InvalidZipFile": "archives are looked at when they are uploaded: InvalidParameterValueException",
    "KMSAccessDenied": _NO_KEYS,
    "KMSDisabled": _NO_KEYS,
    "KMSInvalidState": _NO_KEYS,
    "KMSNotFound": _NO_KEYS,
    "ModeNotSupported": "every function takes every invocation type",
    "PolicyLengthExceeded": "the model holds the policy to that length: ValidationException",
    "PublicPolicy": "public access is not blocked for an account",
    "RequestTooLarge": "a payload over 6 MiB is answered RequestEntityTooLargeException, as recorded from AWS",
    "ResourceConflict": "a change that loses a race is made again; only one that loses many in a row is answered so",
    "ResourceInUse": "a mapping changes at once",
    "ResourceNotReady": "a call waits for the function to be there",
    "RuntimeAliasDeleted": _NO_BUILDS,
    "RuntimeVersionDeleted": _NO_BUILDS,
    "S3FilesMountConnectivity": _NO_FILES,
    "S3FilesMountFailure": _NO_FILES,
    "S3FilesMountTimeout": _NO_FILES,
    "SerializedRequestEntityTooLarge": (
        "a payload over 6 MiB is answered RequestEntityTooLargeException, as recorded from AWS"
    ),
    "ServiceQuotaExceeded": "there is no quota that is paid for",
    "SnapStart": _NO_SNAPSHOTS,
    "SnapStartNotReady": _NO_SNAPSHOTS,
    "SnapStartRegenerationFailure": _NO_SNAPSHOTS,
    "SnapStartTimeout": _NO_SNAPSHOTS,
    "SubnetIPAddressLimitReached": _NO_VPC,
    "TooManyRequests": "the control plane is not throttled",
    "UnsupportedMediaType": "a payload is JSON whatever its content type says",
}
#: (operation, error) -> why, where it is another reason.
NEVER_BY: Final[Mapping[tuple[str, str], str]] = {
    (
        "CreateEventSourceMapping",
        "ResourceNotFound",
    ): "no such function is InvalidParameterValueException, as recorded from AWS",
    ("CreateFunction", "ResourceNotFound"): "a layer that is not there is InvalidParameterValueException, as recorded from AWS",
    ("DeleteFunctionCodeSigningConfig", "CodeSigningConfigNotFound"): "to take away what is not there changes nothing",
    ("DeleteLayerVersion", "ResourceNotFound"): "to take away what is not there changes nothing",
    ("GetFunctionCodeSigningConfig", "CodeSigningConfigNotFound"): "a function without one answers an empty object",
    ("Invoke", "ResourceConflict"): "a call during an update runs the code that is in force",
    ("InvokeAsync", "ResourceConflict"): "a call during an update runs the code that is in force",
    ("InvokeWithResponseStream", "ResourceConflict"): "a call during an update runs the code that is in force",
    ("ListEventSourceMappings", "ResourceNotFound"): "a function that is not there has none",
    ("ListLayerVersions", "ResourceNotFound"): "a layer that is not there has none",
    ("PublishLayerVersion", "ResourceNotFound"): "a layer is made with its first version",
}


def answered(operation: str) -> tuple[str, ...]:
    """The errors that an operation answers, by their names in the model."""
    return (*(f"{each}Exception" for each in ANSWERED[operation].split()), EVERYWHERE)


def why_never(operation: str, error: str) -> str:
    """Why an operation never answers an error, named as in the model; "" where nothing is said."""
    short = error.removesuffix("Exception")
    return NEVER_BY.get((operation, short)) or NEVER.get(short, "")


def rows() -> Iterator[tuple[str, str, str]]:
    """(error, by which operations it is never answered, why), in order; "" stands for all that do not answer it."""
    for error, why in sorted(NEVER.items()):
        yield error, "", why
        yield from ((error, operation, because) for (operation, each), because in NEVER_BY.items() if each == error)
    others = sorted({error for _, error in NEVER_BY} - NEVER.keys())
    for error in others:
        yield from ((error, operation, because) for (operation, each), because in NEVER_BY.items() if each == error)
