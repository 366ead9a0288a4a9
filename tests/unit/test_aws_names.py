"""What clients call functions, and the ARNs that answers show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.dialects.aws import names
from ondol.dialects.aws.actions import named_action
from ondol.dialects.aws.service import ServiceError


def parse(text, qualifier=None):
    return names.parse(text, qualifier, account="123456789012", region="eu-west-1")


@pytest.mark.parametrize(
    ("text", "name", "qualifier"),
    [
        ("f", "f", None),
        ("f:1", "f", "1"),
        ("f:$LATEST", "f", "$LATEST"),
        ("function:f", "f", None),
        ("123456789012:function:f", "f", None),
        ("123456789012:f", "f", None),
        ("arn:aws:lambda:eu-west-1:123456789012:function:f", "f", None),
        ("arn:aws:lambda:eu-west-1:123456789012:function:f:blue", "f", "blue"),
        ("eu-west-1:123456789012:function:f", "f", None),
    ],
)
def test_all_forms_name_one_function(text, name, qualifier):
    assert parse(text) == names.Named("123456789012", "eu-west-1", name, qualifier)


def test_actions_are_called_as_policies_call_them():
    assert named_action("lambda", "Invoke") == "lambda:Invoke"
    assert named_action("monitoring", "PutMetricData") == "cloudwatch:PutMetricData"


def test_a_separate_qualifier_counts_like_one_inside():
    assert parse("f", "3").qualifier == "3"
    assert parse("f:3", "3").qualifier == "3"


@given(
    st.from_regex(r"[a-zA-Z0-9-_]{1,64}", fullmatch=True),
    st.sampled_from(["eu-west-1", "us-gov-west-1", "cn-north-1", "us-iso-east-1"]),
)
def test_an_arn_that_we_make_is_read_back(name, region):
    arn = names.function_arn("123456789012", region, name, "1")
    assert names.parse(arn, None, account="123456789012", region=region) == names.Named("123456789012", region, name, "1")


@pytest.mark.parametrize("text", ["", "a b", "arn:aws:s3:::bucket", "a:b:c:d", "x" * 10 + "!", "ф", "f\n"])
def test_what_is_no_name_is_refused(text):
    with pytest.raises(ServiceError) as caught:
        parse(text)
    assert caught.value.code == "ValidationException"


def test_regions_have_their_partitions():
    assert [names.partition(region) for region in ("eu-west-1", "cn-north-1", "us-gov-east-1")] == [
        "aws",
        "aws-cn",
        "aws-us-gov",
    ]
