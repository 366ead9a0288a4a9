"""Signed requests to AWS services that a node does not have: refused in the way that the service's clients read.

A tool that asks CloudFormation first, or keeps its state in S3, then says what is missing; an answer in a form that its parser
cannot take would look like a broken network. The form is told from the request, and no model of such a service is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from ondol.dialects.aws import codec_cbor, codec_json, errors
from ondol.dialects.aws.service import ServiceError
from ondol.http.messages import Request, Response

#: As much of a form as is looked at for the operation's name.
_FORM_BYTES_MAX: Final = 4096
#: An operation's or a service's name, as far as it is repeated; anything else is a stranger's text.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9.-]{0,63}")
#: Services whose errors are a bare <Error>: those of REST and XML, by the name in the signature's scope.
_REST_XML: Final = frozenset({"s3", "s3express", "s3-outposts"})
_WRAPPED_XML: Final = frozenset({"cloudfront", "route53"})
#: What the services of XML call what the signature's reader calls otherwise.
_XML_CODES: Final[Mapping[str, str]] = {
    "AccessDeniedException": "AccessDenied",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "IncompleteSignatureException": "IncompleteSignature",
    "ExpiredTokenException": "ExpiredToken",
    "ServiceException": "InternalFailure",
}


class Form(Enum):
    """How a service writes an error."""

    JSON = "json"  #: {"__type": …}
    CBOR = "cbor"  #: the same, in CBOR
    REST_JSON = "rest-json"  #: the code in a header
    QUERY = "query"  #: <ErrorResponse>
    EC2 = "ec2"  #: <Response><Errors>
    S3 = "s3"  #: <Error>


def answer(request: Request, service: str, error: ServiceError, request_id: str) -> Response:
    """The error as the clients of `service` read it."""
    return _written(error, form_of(request, service), request_id)


def form_of(request: Request, service: str) -> Form:
    """The form that the clients of `service` read, by what they sent."""
    kind = request.header("content-type").partition(";")[0].strip().lower()
    if request.header("smithy-protocol") == codec_cbor.NAME:
        return Form.CBOR
    if request.header("x-amz-target"):
        return Form.JSON
    if service == "ec2":
        return Form.EC2
    if service in _REST_XML:
        return Form.S3
    if kind == "application/x-www-form-urlencoded" or "Action=" in request.query or service in _WRAPPED_XML:
        return Form.QUERY
    return Form.REST_JSON


def not_here(request: Request, service: str, served: Sequence[str]) -> ServiceError:
    """That the service is not here, and how to get it. The body is not read."""
    named = service if _NAME.fullmatch(service) else "this service"
    message = (
        f"Ondol does not have {named} ({_operation(request)}); what it has of AWS is {', '.join(served)}. "
        "Nothing was changed. Start the node with --upstream URL to have others by a server of yours, or with --with-emulator; "
        "docs/reference/clients.md says which tools need which services."
    )
    return ServiceError("NotImplemented", message, status=501)


def _operation(request: Request) -> str:
    """What was asked for, as it is worth repeating."""
    body = request.body.buffered or b""
    form = f"{request.query}&{body[:_FORM_BYTES_MAX].decode('latin-1') if b'Action=' in body[:_FORM_BYTES_MAX] else ''}"
    name = request.header("x-amz-target").rpartition(".")[2] or next(iter(parse_qs(form).get("Action", [])), "")
    return name if _NAME.fullmatch(name) else request.method


def _written(error: ServiceError, form: Form, request_id: str) -> Response:
    status, message = error.status or 400, error.message
    identity = ("x-amzn-RequestId", request_id)
    if form is Form.REST_JSON:
        return errors.render_json(error, status=status, code=error.code, key="message", request_id=request_id)
    if form is Form.JSON:
        body = codec_json.encode({"__type": error.code, "message": message})
        return Response(status, [("Content-Type", "application/x-amz-json-1.1"), identity], body)
    if form is Form.CBOR:
        headers = [("Content-Type", codec_cbor.KIND), ("smithy-protocol", codec_cbor.NAME), identity]
        return Response(status, headers, codec_cbor.write_error(error.code, "message", message, {}))
    return Response(status, [("Content-Type", "text/xml"), identity], _xml(error, form, status, request_id).encode())


def _xml(error: ServiceError, form: Form, status: int, request_id: str) -> str:
    code = escape(_XML_CODES.get(error.code, error.code))
    inner = f"<Code>{code}</Code><Message>{escape(error.message)}</Message>"
    if form is Form.S3:
        text = f"<Error>{inner}<RequestId>{request_id}</RequestId></Error>"
    elif form is Form.EC2:
        text = f"<Response><Errors><Error>{inner}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
    else:
        fault = f"<Type>{'Sender' if status < 500 else 'Receiver'}</Type>"
        text = f"<ErrorResponse><Error>{fault}{inner}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'
