"""AWS's policy language: what policies allow, deny and leave open."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.dialects.aws.policy import Asked, Caller, Decision, Kind, decide, parse
from ondol.dialects.aws.policy_words import PolicyError, filled, glob

ROLE = "arn:aws:iam::123456789012:role/worker"
FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:hello"


def policy(*statements, kind=Kind.IDENTITY, version="2012-10-17"):
    return parse(json.dumps({"Version": version, "Statement": list(statements)}), kind)


def allow(**more):
    return {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "*"} | more


def asked(action="lambda:InvokeFunction", resource=FUNCTION, caller=None, **context):
    keys = {key.replace("__", ":").lower(): (value if isinstance(value, tuple) else (value,)) for key, value in context.items()}
    return Asked(action=action, resource=resource, caller=caller or Caller(), context=keys)


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("*", "", True),
        ("a*c", "abbc", True),
        ("a*c", "abbd", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("*:function:he*o", FUNCTION, True),
        ("", "a", False),
        ("**a**", "bab", True),
    ],
)
def test_wildcards(pattern, text, fits):
    assert glob(pattern, text) is fits


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_wildcards_are_those_of_file_names(pattern, text):
    from fnmatch import fnmatchcase

    assert glob(pattern, text) == fnmatchcase(text, pattern)


def test_a_pattern_of_many_stars_takes_no_time():
    assert not glob("*a" * 60 + "b", "a" * 3000)


def test_nothing_said_is_a_no_and_a_deny_wins():
    assert decide([], asked()) is Decision.SILENT
    assert decide([policy(allow())], asked()) is Decision.ALLOWED
    assert decide([policy(allow()), policy(allow(Effect="Deny"))], asked()) is Decision.DENIED
    assert decide([policy(allow(Effect="Deny"), allow())], asked()) is Decision.DENIED


@pytest.mark.parametrize(
    ("statement", "decision"),
    [
        ({"Action": "lambda:invoke*"}, Decision.ALLOWED),
        ({"Action": ["s3:*", "lambda:InvokeFunction"]}, Decision.ALLOWED),
        ({"Action": "lambda:Get*"}, Decision.SILENT),
        ({"Resource": "arn:aws:lambda:*:*:function:hel*"}, Decision.ALLOWED),
        ({"Resource": FUNCTION.replace("hello", "HELLO")}, Decision.SILENT),
        ({"Resource": f"{FUNCTION}:*"}, Decision.SILENT),
        ({"Resource": [FUNCTION, "arn:aws:s3:::x"]}, Decision.ALLOWED),
    ],
)
def test_actions_whatever_their_case_and_resources_as_they_are_written(statement, decision):
    assert decide([policy(allow(**statement))], asked()) is decision


def test_not_action_and_not_resource_are_all_else():
    without = {"Effect": "Allow", "NotAction": "iam:*", "NotResource": f"{FUNCTION}-secret"}
    assert decide([policy(without)], asked()) is Decision.ALLOWED
    assert decide([policy(without)], asked(action="iam:CreateRole")) is Decision.SILENT
    assert decide([policy(without)], asked(resource=f"{FUNCTION}-secret")) is Decision.SILENT


@pytest.mark.parametrize(
    ("principal", "caller", "decision"),
    [
        ("*", Caller(), Decision.ALLOWED),
        ({"AWS": "*"}, Caller(), Decision.ALLOWED),
        ({"AWS": ROLE}, Caller(names=frozenset({ROLE})), Decision.ALLOWED),
        ({"AWS": ROLE}, Caller(names=frozenset({ROLE + "x"})), Decision.SILENT),
        ({"AWS": "123456789012"}, Caller(names=frozenset({"arn:aws:iam::123456789012:root"})), Decision.ALLOWED),
        ({"AWS": "arn:aws:iam::123456789012:role/*"}, Caller(names=frozenset({ROLE})), Decision.SILENT),
        ({"Service": ["s3.amazonaws.com", "sns.amazonaws.com"]}, Caller(service="sns.amazonaws.com"), Decision.ALLOWED),
        ({"Service": "s3.amazonaws.com"}, Caller(service="sns.amazonaws.com"), Decision.SILENT),
        ({"Federated": "cognito-identity.amazonaws.com"}, Caller(names=frozenset({ROLE})), Decision.SILENT),
    ],
)
def test_principals(principal, caller, decision):
    assert decide([policy(allow(Principal=principal), kind=Kind.RESOURCE)], asked(caller=caller)) is decision


@pytest.mark.parametrize(
    ("operator", "wanted", "value", "holds"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", ["a", "b"], "b", True),
        ("StringEquals", "a*", "ab", False),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringNotEquals", ["a", "b"], "c", True),
        ("StringEqualsIgnoreCase", "A", "a", True),
        ("StringLike", "a*", "ab", True),
        ("StringNotLike", "a*", "ab", False),
        ("NumericLessThan", 10, "9", True),
        ("NumericGreaterThanEquals", "10", "10", True),
        ("NumericEquals", "10", "no number", False),
        ("DateLessThan", "2030-01-01T00:00:00Z", "2026-01-01T00:00:00Z", True),
        ("DateGreaterThan", "2030-01-01T00:00:00Z", "1767225600", False),
        ("Bool", True, "true", True),
        ("Bool", "false", "true", False),
        ("IpAddress", "10.0.0.0/8", "10.1.2.3", True),
        ("IpAddress", "10.0.0.0/8", "11.1.2.3", False),
        ("NotIpAddress", ["10.0.0.0/8", "::1/128"], "11.1.2.3", True),
        ("ArnLike", "arn:aws:s3:::bucket*", "arn:aws:s3:::bucket-1", True),
        ("ArnLike", "arn:aws:*:bucket", "arn:aws:s3:::bucket", False),
        ("ArnEquals", "arn:aws:s3:*:*:bucket", "arn:aws:s3:::bucket", True),
        ("ArnNotLike", "arn:aws:s3:::bucket", "arn:aws:s3:::other", True),
        ("Null", "false", "there", True),
        ("Null", "true", "there", False),
    ],
)
def test_conditions(operator, wanted, value, holds):
    found = decide([policy(allow(Condition={operator: {"aws:Key": wanted}}))], asked(AWS__key=value))
    assert (found is Decision.ALLOWED) is holds


@pytest.mark.parametrize(
    ("operator", "holds"),
    [
        ("StringEquals", False),
        ("StringEqualsIfExists", True),
        ("StringNotEquals", True),
        ("Null", True),
        ("ForAllValues:StringEquals", True),
        ("ForAnyValue:StringEquals", False),
    ],
)
def test_a_key_that_is_missing(operator, holds):
    wanted = "true" if operator == "Null" else "a"
    found = decide([policy(allow(Condition={operator: {"aws:Key": wanted}}))], asked())
    assert (found is Decision.ALLOWED) is holds


def test_every_operator_and_every_key_must_hold():
    conditions = {"StringEquals": {"aws:A": "1", "aws:B": "2"}, "Bool": {"aws:C": "true"}}
    statement = policy(allow(Condition=conditions))
    assert decide([statement], asked(aws__a="1", aws__b="2", aws__c="true")) is Decision.ALLOWED
    for missing in ("aws__a", "aws__b", "aws__c"):
        given_keys = {"aws__a": "1", "aws__b": "2", "aws__c": "true"} | {missing: "other"}
        assert decide([statement], asked(**given_keys)) is Decision.SILENT


def test_sets_of_values():
    some = policy(allow(Condition={"ForAnyValue:StringEquals": {"aws:TagKeys": ["a", "b"]}}))
    every = policy(allow(Condition={"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}))
    assert decide([some], asked(aws__tagkeys=("a", "c"))) is Decision.ALLOWED
    assert decide([every], asked(aws__tagkeys=("a", "c"))) is Decision.SILENT
    assert decide([every], asked(aws__tagkeys=("a", "b"))) is Decision.ALLOWED


def test_variables_in_resources_and_conditions():
    resource = "arn:aws:lambda:*:*:function:${aws:PrincipalTag/team}-*"
    context = {"aws:principaltag/team": ("floor",)}
    question = Asked(action="lambda:InvokeFunction", resource=f"{FUNCTION[: -len('hello')]}floor-1", context=context)
    assert decide([policy(allow(Resource=resource))], question) is Decision.ALLOWED
    assert decide([policy(allow(Resource=resource))], asked()) is Decision.SILENT
    # The old version of the language has none.
    assert decide([policy(allow(Resource=resource), version="2008-10-17")], question) is Decision.SILENT
    assert filled("${key, 'none'}${*}${$}", {}) == "none\x00$"


def test_a_value_never_becomes_a_wildcard():
    statement = policy(allow(Resource="arn:aws:lambda:*:*:function:${aws:userid}"))
    assert decide([statement], asked(aws__userid="*")) is Decision.SILENT


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("{", Kind.IDENTITY),
        ("[]", Kind.IDENTITY),
        ("{}", Kind.IDENTITY),
        ('{"Statement": []}', Kind.IDENTITY),
        (json.dumps({"Version": "2020-01-01", "Statement": allow()}), Kind.IDENTITY),
        (json.dumps({"Statement": allow(Effect="Maybe")}), Kind.IDENTITY),
        (json.dumps({"Statement": allow(Action="everything")}), Kind.IDENTITY),
        (json.dumps({"Statement": allow(NotAction="a:b")}), Kind.IDENTITY),
        (json.dumps({"Statement": {"Effect": "Allow", "Action": "a:b"}}), Kind.IDENTITY),
        (json.dumps({"Statement": allow(Resource="bucket")}), Kind.IDENTITY),
        (json.dumps({"Statement": allow(Principal="*")}), Kind.IDENTITY),
        (json.dumps({"Statement": allow(Condition={"StringMatches": {"a": "b"}})}), Kind.IDENTITY),
        (json.dumps({"Statement": allow(Extra=1)}), Kind.IDENTITY),
        (json.dumps({"Statement": allow(Principal="*")}), Kind.TRUST),
        (json.dumps({"Statement": allow()}), Kind.RESOURCE),
        (json.dumps({"Statement": allow(Principal={"AWS": "somebody"})}), Kind.RESOURCE),
    ],
)
def test_what_is_no_policy_is_refused(text, kind):
    with pytest.raises(PolicyError):
        parse(text, kind)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text("a:*?${}, '", max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
WORDS = ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "Condition"]
VALUES = JSON | st.sampled_from(["Allow", "Deny", "*", "lambda:*", FUNCTION, {"AWS": "*"}, {"StringLike": {"aws:a": "*"}}])


@given(st.sampled_from(list(Kind)), st.dictionaries(st.sampled_from(WORDS), VALUES), JSON)
def test_whatever_is_written_is_refused_or_decides(kind, statement, other):
    for document in ({"Version": "2012-10-17", "Statement": statement}, {"Statement": [statement, other]}, other):
        try:
            made = parse(json.dumps(document), kind)
        except PolicyError:
            continue
        assert decide([made], asked(aws__a="b")) in Decision


@given(st.text(max_size=30), st.dictionaries(st.text(max_size=4), st.lists(st.text(max_size=4), max_size=2), max_size=2))
def test_any_text_can_be_filled(text, context):
    assert filled(text, context) is None or isinstance(filled(text, context), str)


@pytest.mark.parametrize("operator", ["DateLessThan", "NumericEquals", "IpAddress", "ArnLike", "Bool"])
@given(wanted=st.text(max_size=12), value=st.text(max_size=12))
def test_no_value_of_a_condition_is_a_crash(operator, wanted, value):
    statement = policy(allow(Condition={operator: {"aws:Key": wanted}}))
    assert decide([statement], asked(aws__key=value)) in Decision
