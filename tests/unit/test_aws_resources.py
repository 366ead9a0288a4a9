"""Which resource a request is about: whatever form it is named in, policies see one ARN."""

import pytest

from ondol.dialects.aws.resources import resource_of

A, R = "123456789012", "eu-west-1"
LAMBDA = f"arn:aws:lambda:{R}:{A}"
OTHER = f"arn:aws:lambda:{R}:999999999999"


@pytest.mark.parametrize(
    ("service", "params", "arn"),
    [
        ("lambda", {}, "*"),
        ("lambda", {"FunctionName": "f"}, f"{LAMBDA}:function:f"),
        ("lambda", {"FunctionName": f"{A}:function:f"}, f"{LAMBDA}:function:f"),
        ("lambda", {"FunctionName": f"{LAMBDA}:function:f"}, f"{LAMBDA}:function:f"),
        ("lambda", {"FunctionName": "f:live"}, f"{LAMBDA}:function:f:live"),
        ("lambda", {"FunctionName": "f", "Qualifier": "1"}, f"{LAMBDA}:function:f:1"),
        ("lambda", {"FunctionName": f"{OTHER}:function:f"}, f"{OTHER}:function:f"),
        ("lambda", {"FunctionName": "f", "CodeSigningConfigArn": f"{LAMBDA}:code-signing-config:x"}, f"{LAMBDA}:function:f"),
        ("lambda", {"FunctionName": "no name!"}, "*"),
        ("lambda", {"LayerName": "l"}, f"{LAMBDA}:layer:l"),
        ("lambda", {"LayerName": "l", "VersionNumber": 2}, f"{LAMBDA}:layer:l:2"),
        ("lambda", {"LayerName": f"{LAMBDA}:layer:l", "VersionNumber": 2}, f"{LAMBDA}:layer:l:2"),
        ("lambda", {"LayerName": f"{LAMBDA}:layer:l:1", "VersionNumber": 2}, f"{LAMBDA}:layer:l:2"),
        ("lambda", {"LayerName": f"{OTHER}:layer:l:1"}, f"{OTHER}:layer:l:1"),
        ("lambda", {"Arn": f"{OTHER}:layer:l:1"}, f"{OTHER}:layer:l:1"),
        ("lambda", {"UUID": "u", "FunctionName": "f"}, f"{LAMBDA}:event-source-mapping:u"),
        ("lambda", {"Resource": f"{LAMBDA}:function:f"}, f"{LAMBDA}:function:f"),
        ("lambda", {"ResourceArn": f"{LAMBDA}:function:f"}, f"{LAMBDA}:function:f"),
        ("logs", {"logGroupName": "/g"}, f"arn:aws:logs:{R}:{A}:log-group:/g:log-stream:"),
        ("logs", {"logGroupName": "/g", "logStreamName": "s"}, f"arn:aws:logs:{R}:{A}:log-group:/g:log-stream:s"),
        (
            "logs",
            {"logGroupIdentifier": f"arn:aws:logs:{R}:{A}:log-group:/g"},
            f"arn:aws:logs:{R}:{A}:log-group:/g:log-stream:",
        ),
        ("logs", {}, f"arn:aws:logs:{R}:{A}:log-group::log-stream:"),
        ("iam", {"RoleName": "r"}, f"arn:aws:iam::{A}:role/r"),
        ("iam", {"RoleName": "r", "Path": "/team/"}, f"arn:aws:iam::{A}:role/team/r"),
        ("iam", {"PolicyName": "p", "PolicyDocument": "{}"}, f"arn:aws:iam::{A}:policy/p"),
        ("iam", {"RoleName": "r", "PolicyArn": "arn:aws:iam::aws:policy/x"}, f"arn:aws:iam::{A}:role/r"),
        ("iam", {}, "*"),
        ("sts", {"RoleArn": "arn:aws:iam::1:role/r"}, "arn:aws:iam::1:role/r"),
        ("monitoring", {"Namespace": "n"}, "*"),
    ],
)
def test_the_resource_of_a_request(service, params, arn):
    assert resource_of(service, params, A, R) == arn
