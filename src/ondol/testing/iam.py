"""Policies and roles as tests want them: documents as text, and a role with its policies through anybody's IAM client."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ondol.model.principals import Kind, Principal
from ondol.testing.boto import ACCOUNT, REGION

VERSION = "2012-10-17"


def document(*statements: Mapping[str, Any]) -> str:
    """A policy of these statements, as text."""
    return json.dumps({"Version": VERSION, "Statement": list(statements)})


def statement(action: str | Sequence[str], resource: str | Sequence[str] = "*", **more: Any) -> dict[str, Any]:
    """One that allows; `more`: other elements, and another Effect."""
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def allowing(action: str | Sequence[str], resource: str | Sequence[str] = "*", **more: Any) -> str:
    """A policy of one `statement`, as text."""
    return document(statement(action, resource, **more))


def trusting(condition: Mapping[str, Any] | None = None, **principal: Any) -> str:
    """Whom a role trusts, as text: `trusting(AWS="123456789012")`, `trusting(Service="lambda.amazonaws.com")`."""
    one: dict[str, Any] = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return document(one | ({"Condition": condition} if condition else {}))


#: What the role of a function says of whom it trusts.
LAMBDA = trusting(Service="lambda.amazonaws.com")


#: An account's owners may take the role on.
ROOT = trusting(AWS=ACCOUNT)
#: The role "worker" of the usual account.
ROLE = f"arn:aws:iam::{ACCOUNT}:role/worker"
#: Somebody of another account.
OTHER = Principal(kind=Kind.OWNER, account="999999999999", region=REGION, name="AKIAOTHER")


def make_role(iam: Any, name: str, trust: str = LAMBDA, **policies: str) -> str:
    """A role with these policies of its own, by their names, made with boto3's client; its ARN."""
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
    for policy, text in policies.items():
        iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=text)
    return str(made["Role"]["Arn"])
