"""What Lambda's control plane answers when it says no: recorded texts, each under the reason for it.

Only texts and codes; who finds the reason is the handlers' business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ondol.dialects.aws.service import ServiceError

_USER = {"Type": "User"}


def invalid(message: str, *, typed: bool = True) -> ServiceError:
    """The parameters are well-formed, and what they ask for cannot be. `typed`: most of these texts came with a Type."""
    return ServiceError("InvalidParameterValueException", message, status=400, extra=_USER if typed else {})


def tags_of(params: Mapping[str, Any]) -> dict[str, str]:
    """The tags that a request gives. Raises for names that the service keeps for itself; its text for that was not found."""
    tags: dict[str, str] = params.get("Tags") or {}
    if reserved := sorted(key for key in tags if key.lower().startswith("aws:")):
        raise invalid(f"Tag keys that begin with aws: are reserved: {', '.join(reserved)}")
    return tags


def out_of_range(member: str, value: object, constraint: str) -> ServiceError:
    """A value that today's service refuses although its model has room for it."""
    text = f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"
    return ServiceError("ValidationException", text, status=400)


def not_found(message: str) -> ServiceError:
    return ServiceError("ResourceNotFoundException", message, status=404, extra=_USER, message_key="Message")


def function_not_found(arn: str) -> ServiceError:
    return not_found(f"Function not found: {arn}")


def conflict(message: str) -> ServiceError:
    return ServiceError("ResourceConflictException", message, status=409, extra=_USER)


def still_pending() -> ServiceError:
    return conflict("The operation cannot be performed at this time. The function is currently in the following state: Pending")


def update_in_progress(arn: str) -> ServiceError:
    return conflict(f"The operation cannot be performed at this time. An update is in progress for resource: {arn}")


def stale_revision() -> ServiceError:
    message = (
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
    )
    return ServiceError("PreconditionFailedException", message, status=412, extra=_USER)


def functions_only() -> ServiceError:
    return invalid(
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
        "Please specify either a function name or an unqualified function ARN."
    )


def other_account(who: str, operation: str, arn: str) -> ServiceError:
    """Another account's function that does not let the caller (an ARN) in."""
    message = (
        f"User: {who} is not authorized to perform: lambda:{operation} on resource: {arn} "
        f"because no resource-based policy allows the lambda:{operation} action"
    )
    return ServiceError("AccessDeniedException", message, status=403, message_key="Message")


def too_large(message: str) -> ServiceError:
    return ServiceError("RequestEntityTooLargeException", message, status=413)


def storage_exceeded() -> ServiceError:
    return ServiceError("CodeStorageExceededException", "Code storage limit exceeded.", status=400, extra=_USER)


def without_tenants(what: str) -> ServiceError:
    """The code is documented; no text was found."""
    return invalid(f"{what} is not supported for functions with tenant isolation mode enabled.")


def not_built(what: str, instead: str) -> ServiceError:
    """A documented thing that this release does not do: said in the only words that clients show to people."""
    return invalid(f"Ondol does not do {what} yet. {instead}")
