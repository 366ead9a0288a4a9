"""What a request to S3 does to what, in the words of policies: S3's actions are not called as its operations. Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote

from ondol.http.guard import hostname
from ondol.http.messages import Request

#: (action, resource) pairs: all of them must be allowed.
Needs = list[tuple[str, str]]

QUERY_FIELDS_MAX: Final = 100
#: What a bucket's sub-resource is called in actions.
_OF_BUCKETS: Final[Mapping[str, str]] = {
    "accelerate": "AccelerateConfiguration",
    "acl": "BucketAcl",
    "analytics": "AnalyticsConfiguration",
    "cors": "BucketCORS",
    "encryption": "EncryptionConfiguration",
    "intelligent-tiering": "IntelligentTieringConfiguration",
    "inventory": "InventoryConfiguration",
    "lifecycle": "LifecycleConfiguration",
    "location": "BucketLocation",
    "logging": "BucketLogging",
    "metrics": "MetricsConfiguration",
    "notification": "BucketNotification",
    "object-lock": "BucketObjectLockConfiguration",
    "ownershipControls": "BucketOwnershipControls",
    "policy": "BucketPolicy",
    "policyStatus": "BucketPolicyStatus",
    "publicAccessBlock": "BucketPublicAccessBlock",
    "replication": "ReplicationConfiguration",
    "requestPayment": "BucketRequestPayment",
    "tagging": "BucketTagging",
    "versioning": "BucketVersioning",
    "website": "BucketWebsite",
}
_OF_OBJECTS: Final[Mapping[str, str]] = {
    "acl": "ObjectAcl",
    "attributes": "ObjectAttributes",
    "legal-hold": "ObjectLegalHold",
    "retention": "ObjectRetention",
    "tagging": "ObjectTagging",
    "torrent": "ObjectTorrent",
}
#: Sub-resources whose removal has an action of its own; that of others counts as putting.
_REMOVED: Final = frozenset({"policy", "website", "tagging"})
_LISTS: Final[Mapping[str, str]] = {"versions": "ListBucketVersions", "uploads": "ListBucketMultipartUploads"}


def needs(request: Request, body: bytes | None) -> Needs:
    """What the request needs to be allowed. `body`: the whole of it where objects to be deleted are named in it."""
    bucket, key = _place(request)
    query = dict(parse_qsl(request.query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX))
    if not bucket:
        return [("s3:ListAllMyBuckets", "*")]
    if not key:
        return _bucket(request.method, query, f"arn:aws:s3:::{bucket}", body)
    found = [(f"s3:{_object(request.method, query)}", f"arn:aws:s3:::{bucket}/{key}")]
    source = unquote(request.header("x-amz-copy-source")).partition("?versionId=")
    if source[0]:
        found.append(("s3:GetObjectVersion" if source[2] else "s3:GetObject", f"arn:aws:s3:::{source[0].lstrip('/')}"))
    return found


def _place(request: Request) -> tuple[str, str]:
    """(bucket, key), from the path, or from the host and the path."""
    host, path = hostname(request.header("host")), unquote(request.path)
    label, _, rest = host.partition(".")
    if rest and (rest == "localhost" or rest.startswith(("s3.", "s3-"))) and label != "s3":
        return label, path[1:]
    bucket, _, key = path[1:].partition("/")
    return bucket, key


def _bucket(method: str, query: Mapping[str, str], arn: str, body: bytes | None) -> Needs:
    if method == "POST" and "delete" in query:
        return [(f"s3:{action}", f"{arn}/{key}") for action, key in _deleted(body or b"")]
    for name, noun in _OF_BUCKETS.items():
        if name in query:
            return [(f"s3:{_verb(method, name)}{noun}", arn)]
    if method in ("GET", "HEAD"):
        listed = next((action for name, action in _LISTS.items() if name in query), "ListBucket")
        return [(f"s3:{listed}", arn)]
    return [(f"s3:{'PutObject' if method == 'POST' else _verb(method, '', 'Create') + 'Bucket'}", arn)]


def _object(method: str, query: Mapping[str, str]) -> str:
    version = "Version" if "versionId" in query else ""
    for name, noun in _OF_OBJECTS.items():
        if name in query:
            return _verb(method, "tagging" if name == "tagging" else "") + noun.replace("Object", f"Object{version}", 1)
    if "uploadId" in query and method in ("GET", "DELETE"):
        return "ListMultipartUploadParts" if method == "GET" else "AbortMultipartUpload"
    if method in ("GET", "HEAD") or "select" in query:
        return f"GetObject{version}"
    if "restore" in query:
        return "RestoreObject"
    return f"DeleteObject{version}" if method == "DELETE" else "PutObject"


def _verb(method: str, name: str, put: str = "Put") -> str:
    if method in ("GET", "HEAD"):
        return "Get"
    return "Delete" if method == "DELETE" and (not name or name in _REMOVED) else put


def _deleted(body: bytes) -> list[tuple[str, str]]:
    """(action, key) of each object that the document names; all of the bucket where it cannot be read."""
    try:
        tree = ET.fromstring(body)  # noqa: S314  # expat refuses what grows beyond measure, and the body is bounded
    except ET.ParseError:
        return [("DeleteObject", "*")]
    found = []
    for element in tree.iter():
        if element.tag.rpartition("}")[2] == "Object":
            told = {child.tag.rpartition("}")[2]: child.text or "" for child in element}
            found.append(("DeleteObjectVersion" if told.get("VersionId") else "DeleteObject", told.get("Key", "*")))
    return found or [("DeleteObject", "*")]
