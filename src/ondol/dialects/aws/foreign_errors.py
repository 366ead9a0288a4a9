"""What goes wrong before a request gets to a service that Ondol does not serve, said so that the service's clients read it.

There is no model to go by for a service that nobody has asked for: the request itself shows which protocol it speaks.
"""

from __future__ import annotations

from typing import Final
from xml.sax.saxutils import escape

import msgspec

from ondol.dialects.aws import cbor, codec, codec_cbor
from ondol.dialects.aws.service import ServiceError
from ondol.http.messages import Request, Response

#: Services whose errors are XML although their requests are plain HTTP; True: wrapped as the older ones wrap theirs.
_XML: Final = {"s3": False, "s3express": False, "route53": True, "cloudfront": True}
#: What S3 calls errors that others call otherwise.
_S3_CODES: Final = {
    "MissingAuthenticationTokenException": "AccessDenied",
    "UnrecognizedClientException": "InvalidAccessKeyId",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "IncompleteSignatureException": "AuthorizationHeaderMalformed",
    "ExpiredTokenException": "ExpiredToken",
    "AccessDeniedException": "AccessDenied",
    "ServiceException": "InternalError",
    "ServiceUnavailableException": "ServiceUnavailable",
}


def render(service: str, request: Request, error: ServiceError, request_id: str) -> Response:
    """The error in the protocol that the request speaks. `service`: its name in the signature's scope."""
    status = error.status or 400
    side = "Sender" if status < 500 else "Receiver"
    ids = [("x-amzn-RequestId", request_id), *error.headers]
    if request.header("smithy-protocol") == codec_cbor.NAME:
        body = cbor.encode({"__type": error.code, "message": error.message})
        return Response(status, [("Content-Type", codec_cbor.KIND), ("smithy-protocol", codec_cbor.NAME), *ids], body)
    if request.header("x-amz-target"):
        code = codec.QUERY_CODES.get(error.code, error.code)
        once_query = [("x-amzn-query-error", f"{code};{side}")] if service == "sqs" else []
        headers = [("Content-Type", "application/x-amz-json-1.0"), *once_query, *ids]
        return Response(status, headers, msgspec.json.encode({"__type": error.code, "message": error.message}))
    if service in _XML:
        code = _S3_CODES.get(error.code, error.code)
        inner = f"<Code>{escape(code)}</Code><Message>{escape(error.message)}</Message>"
        tail = f"<RequestId>{request_id}</RequestId>"
        text = f"<Error>{inner}{tail}</Error>"
        if _XML[service]:
            text = f"<ErrorResponse><Error><Type>{side}</Type>{inner}</Error>{tail}</ErrorResponse>"
        return _xml(status, text, [*ids, ("x-amz-request-id", request_id)])
    if request.header("content-type").startswith("application/x-www-form-urlencoded") or "Action=" in request.query:
        code = codec.QUERY_CODES.get(error.code, error.code)
        inner = f"<Code>{escape(code)}</Code><Message>{escape(error.message)}</Message>"
        if service == "ec2":
            return _xml(
                status, f"<Response><Errors><Error>{inner}</Error></Errors><RequestID>{request_id}</RequestID></Response>", ids
            )
        tail = f"<RequestId>{request_id}</RequestId>"
        return _xml(status, f"<ErrorResponse><Error><Type>{side}</Type>{inner}</Error>{tail}</ErrorResponse>", ids)
    headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", error.code), *ids]
    return Response(status, headers, msgspec.json.encode({"message": error.message}))


def _xml(status: int, text: str, headers: list[tuple[str, str]]) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return Response(status, [("Content-Type", "application/xml"), *headers], body)
