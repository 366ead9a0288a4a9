"""Requests as botocore writes them, without sending them: for tests of what reads them."""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import urlsplit

import botocore.serialize
from botocore.awsrequest import AWSRequest, prepare_request_dict
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel

#: Services by their signature's scope, where botocore calls them otherwise.
_FOLDERS = {"monitoring": "cloudwatch"}


@cache
def service_model(service: str) -> ServiceModel:
    """Botocore's own view of a service."""
    return ServiceModel(Loader().load_service_model(_FOLDERS.get(service, service), "service-2"), service)


def wire_request(
    protocol: str, operation: OperationModel, params: dict[str, Any]
) -> tuple[str, str, list[tuple[str, str]], bytes]:
    """(method, target, headers, body) as botocore sends them; it checks nothing of the parameters."""
    serializer = botocore.serialize.create_serializer(protocol, include_validation=False)
    request = serializer.serialize_to_request(params, operation)
    prepare_request_dict(request, endpoint_url="http://127.0.0.1:7979")
    prepared = AWSRequest(
        method=request["method"], url=request["url"], data=request["body"], headers=request["headers"]
    ).prepare()
    parts = urlsplit(prepared.url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    body = prepared.body or b""
    body = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else body.read()
    headers = [(k.lower(), v.decode("latin-1") if isinstance(v, bytes) else v) for k, v in prepared.headers.items()]
    return prepared.method, target, headers, body
