"""Passing a role to a function: whether the service may take it on, and whether the caller may pass it."""

from __future__ import annotations

from ondol.core.catalog import Index
from ondol.dialects.aws import errors, refusals, roles
from ondol.dialects.aws.grants import IN_ROLES, Grants
from ondol.dialects.aws.service import Context, ServiceError


def check(context: Context, index: Index, grants: Grants, arn: str) -> None:
    """Raise what the service says of a role that a function cannot have. One that the node does not know grants nothing, and is
    taken as it is: deployers write any ARN where nobody looks.
    """
    asker = context.asker
    if asker.kind in IN_ROLES:
        told = {"iam:passedtoservice": (roles.LAMBDA,)}
        if not grants.may(asker, "iam:PassRole", arn, asker.account, context=told):
            raise errors.not_authorized_plainly(grants.arn(asker), "iam:PassRole", arn)
    item = roles.anybodys(index, arn)
    if item is None:
        return
    if item.account != context.account:
        raise ServiceError(
            "AccessDeniedException", "Cross-account pass role is not allowed.", status=403, message_key="Message"
        )
    if not grants.trusts_service(item, roles.LAMBDA):
        raise refusals.invalid("The role defined for the function cannot be assumed by Lambda.")
