"""What requests to other services need to be allowed, in the words of policies."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.dialects.aws import foreign_needs
from ondol.dialects.aws.service import ServiceError
from ondol.http.bodies import Whole
from ondol.http.messages import Request

ACCOUNT, REGION = "123456789012", "eu-west-1"


def needs(service, method, target, body=b"", **headers):
    named = [("host", "127.0.0.1"), *((name.replace("_", "-"), value) for name, value in headers.items())]
    return foreign_needs.needs(service, Request(method, target, named, Whole(body)), body, ACCOUNT, REGION)


@pytest.mark.parametrize("method, target, wanted", [
    ("GET", "/", [("s3:ListAllMyBuckets", "*")]),
    ("PUT", "/bag", [("s3:CreateBucket", "arn:aws:s3:::bag")]),
    ("GET", "/bag?list-type=2&prefix=x", [("s3:ListBucket", "arn:aws:s3:::bag")]),
    ("HEAD", "/bag", [("s3:ListBucket", "arn:aws:s3:::bag")]),
    ("DELETE", "/bag", [("s3:DeleteBucket", "arn:aws:s3:::bag")]),
    ("DELETE", "/bag?cors", [("s3:PutBucketCORS", "arn:aws:s3:::bag")]),
    ("DELETE", "/bag?policy", [("s3:DeleteBucketPolicy", "arn:aws:s3:::bag")]),
    ("GET", "/bag/a%20b/c", [("s3:GetObject", "arn:aws:s3:::bag/a b/c")]),
    ("GET", "/bag/k?versionId=1", [("s3:GetObjectVersion", "arn:aws:s3:::bag/k")]),
    ("GET", "/bag/k?tagging", [("s3:GetObjectTagging", "arn:aws:s3:::bag/k")]),
    ("PUT", "/bag/k?partNumber=1&uploadId=u", [("s3:PutObject", "arn:aws:s3:::bag/k")]),
    ("DELETE", "/bag/k?uploadId=u", [("s3:AbortMultipartUpload", "arn:aws:s3:::bag/k")]),
])  # fmt: skip
def test_s3_s_actions(method, target, wanted):
    assert needs("s3", method, target) == wanted


def test_a_copy_needs_to_read_its_source_too():
    found = needs("s3", "PUT", "/bag/to", x_amz_copy_source="other/from%20here")
    assert found == [("s3:PutObject", "arn:aws:s3:::bag/to"), ("s3:GetObject", "arn:aws:s3:::other/from here")]


def test_the_removal_of_several_objects_needs_each_of_them():
    body = b'<Delete xmlns="x"><Object><Key>a</Key></Object><Object><Key>b</Key><VersionId>1</VersionId></Object></Delete>'
    assert needs("s3", "POST", "/bag?delete", body) == [
        ("s3:DeleteObject", "arn:aws:s3:::bag/a"), ("s3:DeleteObjectVersion", "arn:aws:s3:::bag/b"),
    ]  # fmt: skip


@pytest.mark.parametrize("service, target, params, wanted", [
    ("sqs", "AmazonSQS.SendMessage", {"QueueUrl": f"http://h/{ACCOUNT}/q"}, [f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"]),
    ("sqs", "AmazonSQS.SendMessage", {"QueueUrl": "http://h/999999999999/q"}, [f"arn:aws:sqs:{REGION}:999999999999:q"]),
    ("dynamodb", "DynamoDB_20120810.Query", {"TableName": "t", "IndexName": "i"},
     [f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/t/index/i"]),
    ("dynamodb", "DynamoDB_20120810.BatchGetItem", {"RequestItems": {"a": {}, "b": {}}},
     [f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{each}" for each in "ab"]),
    ("dynamodb", "DynamoDB_20120810.TransactWriteItems", {"TransactItems": [{"Put": {"TableName": "a"}}]},
     [f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/a"]),
    ("dynamodb", "DynamoDB_20120810.ExecuteStatement", {"Statement": "select"}, ["*"]),
    ("ssm", "AmazonSSM.GetParameter", {"Name": "/a/b"}, [f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/a/b"]),
    ("states", "AWSStepFunctions.StartExecution", {"stateMachineArn": "arn:aws:states:x"}, ["arn:aws:states:x"]),
])  # fmt: skip
def test_json_requests(service, target, params, wanted):
    found = needs(service, "POST", "/", json.dumps(params).encode(), x_amz_target=target)
    assert found == [(f"{service}:{target.rpartition('.')[2]}", each) for each in wanted]


def test_forms_and_paths():
    form = {"content_type": "application/x-www-form-urlencoded"}
    found = needs("sns", "POST", "/", b"Action=Publish&TopicArn=arn%3Aaws%3Asns%3Ax&Message=m", **form)
    assert found == [("sns:Publish", "arn:aws:sns:x")]
    found = needs("sqs", "POST", f"/{ACCOUNT}/q", b"Action=SendMessage&MessageBody=m", **form)
    assert found == [("sqs:SendMessage", f"arn:aws:sqs:{REGION}:{ACCOUNT}:q")]
    assert needs("scheduler", "GET", "/schedules") == [("scheduler:ListSchedules", "*")]


def test_a_service_that_nobody_knows_is_denied():
    with pytest.raises(ServiceError, match="cannot tell which action"):
        needs("no-such", "GET", "/x")


@given(
    st.sampled_from(["s3", "sqs", "dynamodb", "events", "secretsmanager", "ssm"]),
    st.sampled_from(["GET", "POST", "DELETE"]), st.text(alphabet="/?&=%ab.<{}[]\"delete", max_size=40),
    st.one_of(st.binary(max_size=80), st.recursive(st.none() | st.text(max_size=3), lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["TableName", "QueueUrl", "RequestItems", "TransactItems", "Entries", "Name"]), inner)).map(
            lambda made: json.dumps(made).encode())),
    st.sampled_from(["", "X.Do"]),
)  # fmt: skip
def test_whatever_comes_is_read_or_refused(service, method, target, body, called):
    try:
        assert needs(service, method, f"/{target}", body, x_amz_target=called)
    except ServiceError:
        pass
