"""Roles and managed policies as the catalog keeps them, and what a role may. Reads the index and nothing else.

A role the node does not know (deployers write any ARN there) is no error; it grants nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from ondol.core.catalog import Index
from ondol.dialects.aws import policy
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.policy import Kind, Policy
from ondol.dialects.aws.policy_words import PolicyError
from ondol.model.items import Item

ROLE, POLICY = "role", "policy"
LAMBDA: Final = "lambda.amazonaws.com"

_LOGS: Final = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
#: What those of AWS's own policies grant whose services are here; the others can be attached and grant nothing here.
_OF_AWS: Final[Mapping[str, list[str]]] = {
    "AdministratorAccess": ["*"],
    "PowerUserAccess": ["lambda:*", "logs:*", "cloudwatch:*", "sts:GetCallerIdentity"],
    "AWSLambda_FullAccess": ["lambda:*", "logs:DescribeLogGroups", "logs:DescribeLogStreams", "logs:GetLogEvents",
                             "logs:FilterLogEvents", "cloudwatch:GetMetricData", "cloudwatch:ListMetrics", "iam:PassRole"],
    "AWSLambda_ReadOnlyAccess": ["lambda:Get*", "lambda:List*", "logs:DescribeLogGroups", "logs:FilterLogEvents"],
    "CloudWatchLogsFullAccess": ["logs:*"],
    "CloudWatchFullAccess": ["cloudwatch:*", "logs:*"],
    "service-role/AWSLambdaBasicExecutionRole": _LOGS,
    "service-role/AWSLambdaVPCAccessExecutionRole": _LOGS,
    "service-role/AWSLambdaSQSQueueExecutionRole": _LOGS,
    "service-role/AWSLambdaKinesisExecutionRole": _LOGS,
    "service-role/AWSLambdaDynamoDBExecutionRole": _LOGS,
    "service-role/AWSLambdaRole": ["lambda:InvokeFunction"],
}  # fmt: skip
_AWS_PREFIX: Final = ":iam::aws:policy/"


def role(index: Index, arn: str, account: str) -> Item | None:
    """The role of `account` that `arn` names; None for one that the node does not know."""
    item = index.item(DIALECT, ROLE, account, "", arn.rpartition("/")[2])
    return item if item is not None and item.value["Arn"] == arn else None


def anybodys(index: Index, arn: str) -> Item | None:
    """The role that `arn` names, of whichever account its ARN says."""
    parts = arn.split(":")
    return role(index, arn, parts[4]) if len(parts) == 6 else None


def managed(index: Index, arn: str) -> Item | None:
    """The managed policy of an account's own that `arn` names."""
    parts = arn.split(":")
    if len(parts) != 6:
        return None
    item = index.item(DIALECT, POLICY, parts[4], "", arn.rpartition("/")[2])
    return item if item is not None and item.value["Arn"] == arn else None


def is_of_aws(arn: str) -> bool:
    """Whether it is one of AWS's own managed policies."""
    return _AWS_PREFIX in arn


def known_of_aws() -> list[str]:
    """The ARNs of those of AWS's own policies that say something here."""
    return [f"arn:aws{_AWS_PREFIX}{name}" for name in _OF_AWS]


def trust(item: Item) -> Policy:
    """Who may take the role on."""
    return policy.parse(item.value["Trust"], Kind.TRUST)


def policies(index: Index, item: Item) -> Iterator[Policy]:
    """Everything that says what the role may."""
    for text in item.value.get("Inline", {}).values():
        yield policy.parse(text, Kind.IDENTITY)
    for arn in item.value.get("Attached", ()):
        yield from attached(index, arn)


def attached(index: Index, arn: str) -> Iterator[Policy]:
    """The managed policy that `arn` names, if there is one that says something here."""
    if is_of_aws(arn):
        text = document_of_aws(arn)
        if text is not None:
            yield policy.parse(text, Kind.IDENTITY)
        return
    item = managed(index, arn)
    if item is not None:
        yield policy.parse(default_document(item), Kind.IDENTITY)


def narrowing(index: Index, scope: Iterable[str]) -> Iterator[Policy]:
    """The policies that narrow a session: texts, and ARNs of managed ones. One that is gone by now allows nothing."""
    for each in scope:
        if each.startswith("arn:"):
            yield from attached(index, each)
        else:
            yield policy.parse(each, Kind.IDENTITY)


def document_of_aws(arn: str) -> str | None:
    """What one of AWS's own policies says here; None for those that say nothing here."""
    actions = _OF_AWS.get(arn.partition(_AWS_PREFIX)[2])
    if actions is None:
        return None
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    return msgspec.json.encode({"Version": policy.VERSIONS[0], "Statement": [statement]}).decode()


def default_document(item: Item) -> str:
    """The text of a managed policy's version in force."""
    return str(item.value["Versions"][item.value["Default"]]["Document"])


def function_policy(annotations: Mapping[str, Mapping[str, Any]], qualifier: str) -> list[Policy]:
    """What a function, or one of its versions or aliases, lets others do: none or one policy."""
    document = annotations.get(DIALECT, {}).get("Policies", {}).get(qualifier)
    if not document:
        return []
    try:
        return [policy.of_document(document, Kind.RESOURCE)]
    except PolicyError:  # written by another release
        return []
