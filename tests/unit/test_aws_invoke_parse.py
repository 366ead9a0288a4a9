"""What an Invoke asks for: a call that says nothing but its function is known by its path, and is the same as looked at closely."""

import itertools

import pytest

from ondol.dialects.aws import invoke
from ondol.dialects.aws.service import ServiceError
from ondol.http.bodies import EMPTY
from ondol.http.messages import Request
from ondol.model.principals import Kind, Principal

CALLER = Principal(kind=Kind.OWNER, account="123456789012", region="us-east-1", name="AKIA")
ELSEWHERE = Principal(kind=Kind.OWNER, account="123456789012", region="eu-west-1", name="AKIA")
TARGETS = (
    "hello",
    "hello:live",
    "hello%3Alive",
    "123456789012:function:hello",
    "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Ahello",
    "no such name",
    "",
    "n" * 300,
)
ENDS = ("/invocations", "/invocations?", "/invocations?Qualifier=1", "/more/invocations")
SAID = (
    {},
    {"x-amz-invocation-type": "Event"},
    {"x-amz-invocation-type": ""},
    {"x-amz-invocation-type": "Nonsense"},
    {"x-amz-log-type": "Tail"},
    {"x-amz-tenant-id": "blue"},
    {"x-amz-tenant-id": ""},
    {"x-amz-client-context": "e30="},
    {"x-amz-client-context": "no"},
    {"x-amz-durable-execution-name": "long"},
    {"x-amzn-trace-id": "Root=1"},
)


def asked(parse, target, said, body=b"{}", caller=CALLER):
    request = Request("POST", target, [("host", "localhost"), *said.items()], EMPTY)
    try:
        return parse(request, body, caller)
    except ServiceError as error:
        return error.code, error.message


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", TARGETS, ids=lambda name: name[:20] or "none")
def test_what_is_remembered_of_a_path_is_what_looking_at_it_finds(name, end):
    target = f"/2015-03-31/functions/{name}{end}"
    for said, body in itertools.product(SAID, (b"", b"{}", b"no JSON")):
        for _ in range(2):  # new, and known
            assert asked(invoke.parse, target, said, body) == asked(invoke._parse, target, said, body)


def test_the_same_path_is_another_function_to_a_caller_elsewhere():
    target = "/2015-03-31/functions/hello/invocations"
    here, there = asked(invoke.parse, target, {}), asked(invoke.parse, target, {}, caller=ELSEWHERE)
    assert (here.named.region, there.named.region) == ("us-east-1", "eu-west-1")
    assert here.context["invoked_arn"] != there.context["invoked_arn"]


def test_long_paths_and_refused_ones_are_not_remembered():
    invoke._plain.cache_clear()
    asked(invoke.parse, f"/2015-03-31/functions/hello/{'x' * 300}/invocations", {})
    asked(invoke.parse, "/2015-03-31/functions/no such name/invocations", {})
    assert invoke._plain.cache_info().currsize == 0


def test_no_call_can_change_what_the_next_one_is_told():
    first = asked(invoke.parse, "/2015-03-31/functions/hello/invocations", {})
    with pytest.raises(TypeError):
        first.context["invoked_arn"] = "another"
