"""Services that are not here, asked by boto3 unmodified: each client reads what is missing, in its own protocol."""

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ondol.dialects.aws.dialect import SERVICES
from ondol.testing.aws import KEY, REGION, AwsApplication, EchoInvoker, index_with, serving

#: One service of each way to write an error, and what is asked of it.
ASKED = {
    "dynamodb": ("list_tables", {}, "ListTables"),
    "sqs": ("list_queues", {}, "ListQueues"),
    "kinesis": ("list_streams", {}, "ListStreams"),
    "cloudformation": ("list_stacks", {}, "ListStacks"),
    "ec2": ("describe_instances", {}, "DescribeInstances"),
    "apigateway": ("get_rest_apis", {}, "GET"),
    "route53": ("list_hosted_zones", {}, "GET"),
    "s3": ("put_object", {"Bucket": "bucket", "Key": "key", "Body": b"x" * 100_000}, "PUT"),
}


@pytest.fixture(scope="module")
def endpoint():
    with serving(AwsApplication(services={}, invoker=EchoInvoker(), index=index_with())) as url:
        yield url


def client(service, endpoint, key=KEY.id, secret=KEY.secret):
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    return boto3.client(
        service, endpoint_url=endpoint, region_name=REGION, aws_access_key_id=key, aws_secret_access_key=secret, config=config
    )


def refused(service, endpoint, **who):
    operation, params, _ = ASKED[service]
    with pytest.raises(ClientError) as caught:
        getattr(client(service, endpoint, **who), operation)(**params)
    return caught.value.response


@pytest.mark.parametrize("service", ASKED)
def test_a_service_that_is_not_here_is_named_with_what_is(endpoint, service):
    answer = refused(service, endpoint)
    assert answer["Error"]["Code"] == "NotImplemented"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert answer["Error"]["Message"].startswith(
        f"Ondol does not have {service} ({ASKED[service][2]}); what it has of AWS is lambda, "
    )
    assert all(each in answer["Error"]["Message"] for each in SERVICES)


@pytest.mark.parametrize("service", ASKED)
def test_a_stranger_is_told_only_that_the_key_is_unknown(endpoint, service):
    answer = refused(service, endpoint, key="AKIAUNKNOWNUNKNOWN00")
    assert answer["Error"]["Code"] in ("UnrecognizedClientException", "InvalidClientTokenId")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_a_service_nobody_has_heard_of_is_not_repeated(endpoint):
    import urllib3

    credential = f"{KEY.id}/20260101/{REGION}/<script>/aws4_request"
    with urllib3.PoolManager() as pool:
        answer = pool.request(
            "GET",
            endpoint,
            headers={"authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"},
        )
    assert answer.status in (400, 403)
    assert b"script" not in answer.data
