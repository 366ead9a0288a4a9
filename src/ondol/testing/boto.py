"""boto3, unmodified, talking to handlers in the same process: through the codec, without sockets or signatures checked.

boto3 blocks, handlers run on the loop: `blocking` runs a test's client calls on a thread beside it.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError

from ondol.dialects.aws import codec, errors
from ondol.dialects.aws.access import Access
from ondol.dialects.aws.service import Context, Operations, ServiceError
from ondol.http.messages import Response
from ondol.model.errors import OndolError
from ondol.model.principals import Kind, Principal

Made = TypeVar("Made")

ACCOUNT, REGION = "123456789012", "eu-west-1"
OWNER = Principal(kind=Kind.OWNER, account=ACCOUNT, region=REGION, name="AKIAEXAMPLE")


def context(principal: Principal = OWNER) -> Context:
    """What handlers are told in tests."""
    return Context(
        request_id="11111111-2222-3333-4444-555555555555", principal=principal, account=principal.account,
        region=principal.region, endpoint="http://127.0.0.1:7979",
    )  # fmt: skip


def client(
    name: str, operations: Operations, principal: Principal = OWNER, *, service: str = "", access: Access | None = None
) -> Any:
    """A boto3 client whose requests go to `operations` on the running loop.

    `service`: what its signatures are scoped to, where boto3 calls it otherwise. `access`: who may is asked of it, too.
    """
    loop = asyncio.get_running_loop()
    service = service or name
    made = boto3.client(
        name,
        region_name=principal.region,
        endpoint_url="http://127.0.0.1:7979",
        aws_access_key_id="AKIAEXAMPLE",
        aws_secret_access_key="example",  # noqa: S106  # nothing checks it
        config=Config(retries={"total_max_attempts": 1}),
    )

    def send(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        answering = asyncio.run_coroutine_threadsafe(_answer(service, operations, principal, request, access), loop)
        response = answering.result(timeout=60)
        assert isinstance(response.body, bytes)
        return AWSResponse(request.url, response.status, dict(response.headers), _Raw(response.body))

    made.meta.events.register("before-send", send)
    return made


async def blocking(call: Callable[..., Made], *args: Any, **kwargs: Any) -> Made:
    """Run what blocks beside the loop."""
    return await asyncio.to_thread(call, *args, **kwargs)


async def error(call: Callable[..., object], **params: Any) -> tuple[str, str]:
    """Code and message of the error that the call must be answered with; AssertionError when it is not."""
    try:
        answer = await blocking(call, **params)
    except ClientError as refused:
        return refused.response["Error"]["Code"], refused.response["Error"]["Message"]
    raise AssertionError(f"it was answered: {answer}")


async def _answer(
    service: str, operations: Operations, principal: Principal, request: AWSPreparedRequest, access: Access | None
) -> Response:
    told = context(principal)
    parts = urlsplit(request.url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    headers = [(name.lower(), _text(value)) for name, value in request.headers.items()]
    body = request.body or b""
    protocol = codec.protocol_of(service, target, headers)
    try:
        call = codec.decode(service, request.method, target, headers, body.encode() if isinstance(body, str) else body)
        if call.operation not in operations:
            raise codec.not_built(service, call.operation)
        if access is not None:
            acting = access.acting(principal, service, call.operation, call.params)
            told = replace(told, principal=acting, caller=principal)
        result = await operations[call.operation](told, call.params)
        return codec.encode(call, result, told.request_id)
    except ServiceError as error:
        return codec.encode_error(service, protocol, error, told.request_id)
    except OndolError as error:
        return codec.encode_error(service, protocol, errors.translate(error, target), told.request_id)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


class _Raw(io.BytesIO):
    """As much of urllib3's response as botocore reads."""

    def stream(self, **_: Any) -> Any:
        while chunk := self.read(65536):
            yield chunk
