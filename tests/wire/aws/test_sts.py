"""STS over a real socket, with boto3 unmodified: the Query protocol."""

import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ondol.clock import SystemClock
from ondol.dialects.aws.names import caller_arn
from ondol.dialects.aws.sts import Sts
from ondol.model.principals import Kind, Principal
from ondol.testing.aws import ACCOUNT, KEY, REGION, AwsApplication, EchoInvoker, index_with, serving


@pytest.fixture
def application():
    index = index_with("hello")
    application = AwsApplication(services={}, invoker=EchoInvoker(), index=index)
    application.serve("sts", Sts(index, application.grants, application.credentials, SystemClock()).operations)
    return application


@pytest.fixture
def url(application):
    with serving(application) as url:
        yield url


def client(url, **options):
    options = {"aws_access_key_id": KEY.id, "aws_secret_access_key": KEY.secret} | options
    return boto3.client(
        "sts", endpoint_url=url, region_name=REGION, config=Config(retries={"total_max_attempts": 1}), **options
    )


def test_an_owner_is_the_accounts_root(url):
    answer = client(url).get_caller_identity()
    assert (answer["Account"], answer["Arn"], answer["UserId"]) == (ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT)
    assert answer["ResponseMetadata"]["RequestId"] == answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]


def test_a_read_only_key_is_a_user_of_the_account():
    reader = Principal(kind=Kind.READER, account=ACCOUNT, region=REGION, name="AKIAREADER")
    assert caller_arn(reader) == f"arn:aws:iam::{ACCOUNT}:user/AKIAREADER"


def test_a_function_is_its_role_and_name(url, application):
    who = Principal(
        kind=Kind.FUNCTION, account=ACCOUNT, region=REGION, name="olleh", role=f"arn:aws:iam::{ACCOUNT}:role/worker"
    )
    minted = application.credentials.mint(who, now_s=1e9, lifetime_s=9e9)
    answer = client(
        url, aws_access_key_id=minted.access_key_id, aws_secret_access_key=minted.secret, aws_session_token=minted.session_token
    ).get_caller_identity()
    assert answer["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/worker/hello"
    assert answer["UserId"].startswith("AROA")
    assert answer["UserId"].endswith(":hello")


def test_a_presigned_identity_can_be_fetched_by_anybody_who_has_it(url):
    presigned = client(url).generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
    with urllib.request.urlopen(presigned, timeout=10) as response:
        body = response.read().decode()
    assert f"<Account>{ACCOUNT}</Account>" in body


def test_errors_have_the_names_that_query_services_use(url):
    with pytest.raises(ClientError) as caught:
        client(url, aws_secret_access_key="wrong").get_caller_identity()
    assert caught.value.response["Error"]["Code"] == "SignatureDoesNotMatch"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    with pytest.raises(ClientError) as caught:
        client(url, aws_access_key_id="AKIAUNKNOWN").get_caller_identity()
    assert caught.value.response["Error"]["Code"] == "InvalidClientTokenId"
    assert caught.value.response["Error"]["Type"] == "Sender"


def test_sessions_for_users_are_refused_in_words(url):
    with pytest.raises(ClientError) as caught:
        client(url).get_session_token()
    assert "temporary credentials" in caught.value.response["Error"]["Message"]
