"""AWS Lambda's control plane over fakes, for the tests of its operations."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ondol.dialects.aws.access import Access
from ondol.dialects.aws.control import control_plane, no_front
from ondol.dialects.aws.credentials import Credentials
from ondol.dialects.aws.grants import Grants
from ondol.dialects.aws.iam import Iam
from ondol.dialects.aws.objects import Objects
from ondol.dialects.aws.provisioned import Keeping
from ondol.dialects.aws.service import Operations
from ondol.dialects.aws.sts import Sts
from ondol.dialects.aws.upstreams import Server, Upstreams
from ondol.model.principals import Principal
from ondol.testing import boto
from ondol.testing.desk import Desk, desk

ROLE = f"arn:aws:iam::{boto.ACCOUNT}:role/anything"
ARN = f"arn:aws:lambda:{boto.REGION}:{boto.ACCOUNT}:function:"


def archive(text: str = "def handler(event, context): return event", name: str = "app.py") -> bytes:
    """A zip file, the same bytes for the same text."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as opened:
        opened.writestr(zipfile.ZipInfo(name), text)
    return made.getvalue()


@dataclass(frozen=True)
class Control:
    """The operations of one account, called by name with parameters, or through boto3."""

    desk: Desk
    operations: Operations
    #: IAM's and STS's, by the service's name.
    others: Mapping[str, Operations]
    access: Access
    credentials: Credentials

    async def __call__(self, operation: str, principal: Principal = boto.OWNER, **params: Any) -> dict[str, Any]:
        """Call a handler directly: `await control("GetFunction", FunctionName="f")`."""
        return await self.operations[operation](boto.context(principal), params)

    async def create(self, name: str = "hello", *, settle: bool = True, **params: Any) -> dict[str, Any]:
        """CreateFunction with the usual, and by default wait until it is Active."""
        usual = {
            "FunctionName": name, "Runtime": "python3.12", "Role": ROLE, "Handler": "app.handler",
            "Code": {"ZipFile": archive()},
        }  # fmt: skip
        answer = await self("CreateFunction", **{**usual, **params})
        if settle:
            await self.desk.settled()
        return answer

    async def update_code(self, name: str = "hello", text: str = "def handler(event, context): return 2", **params: Any) -> Any:
        """UpdateFunctionCode, and wait until it is Successful."""
        answer = await self("UpdateFunctionCode", FunctionName=name, ZipFile=archive(text), **params)
        await self.desk.settled()
        return answer

    def client(self, principal: Principal = boto.OWNER, service: str = "lambda") -> Any:
        """boto3's client of the service; call it with `blocking`."""
        operations = self.operations if service == "lambda" else self.others[service]
        return boto.client(service, operations, principal, access=self.access)

    def holder(self, given: Mapping[str, Any]) -> Principal:
        """Who holds the credentials that AssumeRole answered."""
        found = self.credentials.lookup(given["AccessKeyId"], given["SessionToken"], now_s=self.desk.clock.wall_s())
        assert found is not None
        return found[1]


@contextlib.asynccontextmanager
async def control(
    path: Path, keeping: Keeping = no_front, upstreams: Mapping[str, Server] | None = None
) -> AsyncIterator[Control]:
    """A control plane with its files below `path`. `keeping`: what the pools would say that they keep up."""
    async with desk(path / "code") as made:
        grants, credentials = Grants(made.index, made.clock), Credentials(bytes(32))
        operations = control_plane(
            made.deployments,
            spool=path,
            objects=Objects(Upstreams(upstreams or {}, "test"), grants, made.index, credentials, made.clock),
            code_url=lambda code, told: f"{told.endpoint}/code/{code.sha256}",
            grants=grants,
            keeping=keeping,
        )
        others = {
            "iam": Iam(made.deployments.items, made.clock).operations(),
            "sts": Sts(made.index, grants, credentials, made.clock).operations,
        }
        yield Control(made, operations, others, Access(made.index, grants), credentials)
