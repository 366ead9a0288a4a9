"""AddPermission, RemovePermission, GetPolicy and the whole-policy forms: their shapes and refusals, and what they let others do."""

import json

import pytest

from ondol.clock import SystemClock
from ondol.core.admit import Admission
from ondol.core.invoke import Invoker
from ondol.dialects.aws.invoke import Invoke
from ondol.dialects.aws.service import ServiceError
from ondol.http.bodies import Whole
from ondol.http.messages import Request
from ondol.model.principals import Kind, Principal
from ondol.testing.boto import ACCOUNT, REGION, blocking, error
from ondol.testing.control import ARN
from ondol.testing.control import control as control_over
from ondol.testing.iam import document, make_role, statement, trusting

OTHER = Principal(kind=Kind.OWNER, account="999999999999", region=REGION, name="AKIAOTHER")
INVOKE = {"FunctionName": "hello", "Action": "lambda:InvokeFunction"}


@pytest.fixture
async def control(tmp_path):
    async with control_over(tmp_path) as made:
        await made.create()
        yield made


@pytest.fixture
async def client(control):
    return control.client()


async def may_call(control, who, function=f"{ARN}hello"):
    """Whether a dry run of a call gets through, and what it is answered if not."""
    grants = control.access.grants
    invoker = Invoker(
        index=control.desk.index, admission=Admission(), pool=None, contracts={}, telemetry=None, clock=SystemClock(),
        draw=lambda: 0.5, enqueue=None, wait_s_max=1.0, grants=grants,
    )  # fmt: skip
    request = Request(
        "POST", f"/2015-03-31/functions/{function}/invocations", [("x-amz-invocation-type", "DryRun")], Whole(b"{}")
    )
    try:
        return (await Invoke(index=control.desk.index, invoker=invoker, grants=grants)(request, b"{}", who, "id")).status
    except ServiceError as refused:
        return refused.code, refused.message


async def test_a_statement_is_added_shown_and_removed(client):
    added = await blocking(
        client.add_permission, **INVOKE, StatementId="bucket", Principal="s3.amazonaws.com",
        SourceArn="arn:aws:s3:::bucket", SourceAccount=ACCOUNT,
    )  # fmt: skip
    statement = {
        "Sid": "bucket",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": f"{ARN}hello",
        "Condition": {
            "StringEquals": {"AWS:SourceAccount": ACCOUNT},
            "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"},
        },
    }
    assert json.loads(added["Statement"]) == statement
    shown = await blocking(client.get_policy, FunctionName="hello")
    assert json.loads(shown["Policy"]) == {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}
    await blocking(client.remove_permission, FunctionName="hello", StatementId="bucket", RevisionId=shown["RevisionId"])
    missing = ("ResourceNotFoundException", "The resource you requested does not exist.")
    assert await error(client.get_policy, FunctionName="hello") == missing


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("*", "*"),
        ("123456789012", {"AWS": "arn:aws:iam::123456789012:root"}),
        ("arn:aws:iam::123456789012:role/worker", {"AWS": "arn:aws:iam::123456789012:role/worker"}),
        ("events.amazonaws.com", {"Service": "events.amazonaws.com"}),
    ],
)
async def test_the_forms_of_a_principal(client, given, written):
    added = await blocking(client.add_permission, **INVOKE, StatementId="s", Principal=given)
    assert json.loads(added["Statement"])["Principal"] == written


@pytest.mark.parametrize(
    ("params", "code", "message"),
    [
        (
            {"Principal": "invalid.nonaws.com"},
            "InvalidParameterValueException",
            "The provided principal was invalid. Please check the principal and try again.",
        ),
        (
            {"Qualifier": "$LATEST"},
            "InvalidParameterValueException",
            "We currently do not support adding policies for $LATEST.",
        ),
        ({"Qualifier": "3"}, "ResourceNotFoundException", f"Function not found: {ARN}hello:3"),
        ({"FunctionName": "none"}, "ResourceNotFoundException", f"Function not found: {ARN}none"),
        (
            {"FunctionUrlAuthType": "NONE"},
            "InvalidParameterValueException",
            "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action",
        ),
        (
            {"RevisionId": "11111111-2222-4333-8444-555555555555"},
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest "
            "Revision Id",
        ),
    ],
)
async def test_what_cannot_be_added(client, params, code, message):
    usual = {**INVOKE, "StatementId": "s", "Principal": "s3.amazonaws.com"}
    assert await error(client.add_permission, **{**usual, **params}) == (code, message)


async def test_a_statements_id_is_taken_once(client):
    usual = {**INVOKE, "StatementId": "s1", "Principal": "s3.amazonaws.com"}
    await blocking(client.add_permission, **usual)
    assert await error(client.add_permission, **usual) == (
        "ResourceConflictException",
        "The statement id (s1) provided already exists. Please provide a new statement id, or remove the existing statement.",
    )


async def test_what_cannot_be_removed(client):
    removing = {"FunctionName": "hello", "StatementId": "s"}
    none = "No policy is associated with the given resource."
    assert await error(client.remove_permission, **removing) == ("ResourceNotFoundException", none)
    await blocking(client.add_permission, **INVOKE, StatementId="other", Principal="s3.amazonaws.com")
    lost = "Statement s is not found in resource policy."
    assert await error(client.remove_permission, **removing) == ("ResourceNotFoundException", lost)
    gone = f"No policy found for: {ARN}none"
    assert await error(client.remove_permission, FunctionName="none", StatementId="s") == ("ResourceNotFoundException", gone)
    stale = "11111111-2222-4333-8444-555555555555"
    code, _ = await error(client.remove_permission, FunctionName="hello", StatementId="other", RevisionId=stale)
    assert code == "PreconditionFailedException"


async def test_a_policy_has_room_for_twenty_kilobytes(client):
    long = f"arn:aws:s3:::{'b' * 1000}"

    def fill():
        for number in range(30):
            client.add_permission(**INVOKE, StatementId=f"s{number}", Principal="s3.amazonaws.com", SourceArn=long)

    code, message = await error(fill)
    assert code == "PolicyLengthExceededException"
    assert message.startswith("The final policy size (") and message.endswith(") is bigger than the limit (20480).")


async def test_versions_and_aliases_have_policies_of_their_own_which_go_with_them(client):
    await blocking(client.publish_version, FunctionName="hello")
    await blocking(client.create_alias, FunctionName="hello", Name="live", FunctionVersion="1")
    for qualifier in ("1", "live"):
        added = await blocking(
            client.add_permission, **INVOKE, StatementId="s", Principal="s3.amazonaws.com", Qualifier=qualifier
        )
        assert json.loads(added["Statement"])["Resource"] == f"{ARN}hello:{qualifier}"
        await blocking(client.get_policy, FunctionName="hello", Qualifier=qualifier)
    assert (await error(client.get_policy, FunctionName="hello"))[0] == "ResourceNotFoundException"
    await blocking(client.delete_alias, FunctionName="hello", Name="live")
    await blocking(client.create_alias, FunctionName="hello", Name="live", FunctionVersion="1")
    assert (await error(client.get_policy, FunctionName="hello", Qualifier="live"))[0] == "ResourceNotFoundException"
    await blocking(client.get_policy, FunctionName="hello", Qualifier="1")


async def test_a_whole_policy_is_put_shown_and_deleted(client):
    policy = document(statement("lambda:*", f"{ARN}hello", Effect="Deny", Principal="*"))
    put = await blocking(client.put_resource_policy, ResourceArn=f"{ARN}hello", Policy=policy)
    shown = await blocking(client.get_resource_policy, ResourceArn=f"{ARN}hello")
    assert json.loads(shown["Policy"]) == json.loads(policy)
    assert shown["RevisionId"] == put["RevisionId"]
    code, message = await error(client.put_resource_policy, ResourceArn=f"{ARN}hello", Policy='{"Statement": 1}')
    assert code == "InvalidParameterValueException" and "not valid" in message
    await blocking(client.delete_resource_policy, ResourceArn=f"{ARN}hello")
    assert (await error(client.get_resource_policy, ResourceArn=f"{ARN}hello"))[0] == "ResourceNotFoundException"


# What it lets others do ---------------------------------------------------------------------------------------------------
async def test_another_account_calls_a_function_once_it_is_let_in(control, client):
    refusal = (
        f"User: arn:aws:iam::{OTHER.account}:root is not authorized to perform: lambda:InvokeFunction on resource: {ARN}hello "
        "because no resource-based policy allows the lambda:InvokeFunction action"
    )
    assert await may_call(control, OTHER) == ("AccessDeniedException", refusal)
    await blocking(client.add_permission, **INVOKE, StatementId="s", Principal=OTHER.account)
    assert await may_call(control, OTHER) == 204
    third = Principal(kind=Kind.OWNER, account="888888888888", region=REGION, name="AKIATHIRD")
    assert (await may_call(control, third))[0] == "AccessDeniedException"
    assert (await may_call(control, OTHER, f"{ARN}none"))[0] == "AccessDeniedException", "what is not there is not told"
    await blocking(client.remove_permission, FunctionName="hello", StatementId="s")
    assert (await may_call(control, OTHER))[0] == "AccessDeniedException"


async def test_a_condition_that_a_caller_does_not_meet_keeps_it_out(control, client):
    await blocking(client.add_permission, **INVOKE, StatementId="s", Principal=OTHER.account, SourceArn="arn:aws:s3:::bucket")
    assert (await may_call(control, OTHER))[0] == "AccessDeniedException"


async def test_a_statement_for_an_alias_lets_in_to_the_alias_alone(control, client):
    await blocking(client.publish_version, FunctionName="hello")
    await blocking(client.create_alias, FunctionName="hello", Name="live", FunctionVersion="1")
    await blocking(client.add_permission, **INVOKE, StatementId="s", Principal=OTHER.account, Qualifier="live")
    assert await may_call(control, OTHER, f"{ARN}hello:live") == 204
    for other in ("", ":1"):
        assert (await may_call(control, OTHER, f"{ARN}hello{other}"))[0] == "AccessDeniedException"


async def test_another_account_looks_at_a_function_that_lets_it_and_nothing_else(control, client):
    others = control.client(OTHER)
    await blocking(
        client.add_permission, FunctionName="hello", Action="lambda:GetFunction", StatementId="s", Principal=OTHER.account
    )
    shown = await blocking(others.get_function, FunctionName=f"{ARN}hello")
    assert shown["Configuration"]["FunctionArn"] == f"{ARN}hello"
    for refused in (others.delete_function, others.get_function_configuration, others.get_policy):
        assert (await error(refused, FunctionName=f"{ARN}hello"))[0] == "AccessDeniedException"
    assert (await blocking(others.list_functions))["Functions"] == []
    assert (await error(others.get_function, FunctionName="hello"))[0] == "ResourceNotFoundException"


async def test_a_function_may_be_called_by_another_whose_role_its_policy_names(control, client):
    role = f"arn:aws:iam::{ACCOUNT}:role/caller"
    await control.create("caller", Role=role)
    function = control.desk.index.handle("aws", ACCOUNT, REGION, "caller")
    who = Principal(kind=Kind.FUNCTION, account=ACCOUNT, region=REGION, name=function.id, role=role)
    assert (await may_call(control, who))[1].startswith(f"User: arn:aws:sts::{ACCOUNT}:assumed-role/caller/caller is not")
    await blocking(client.add_permission, **INVOKE, StatementId="s", Principal=role)
    assert await may_call(control, who) == 204


async def test_a_role_that_does_not_trust_functions_is_none_of_theirs(control, client):
    role, iam = f"arn:aws:iam::{ACCOUNT}:role/late", control.client(service="iam")
    await control.create("caller", Role=role)
    function = control.desk.index.handle("aws", ACCOUNT, REGION, "caller")
    who = Principal(kind=Kind.FUNCTION, account=ACCOUNT, region=REGION, name=function.id, role=role)
    await blocking(client.add_permission, **INVOKE, StatementId="s", Principal=role)
    await blocking(make_role, iam, "late", trusting(AWS=ACCOUNT))
    assert (await may_call(control, who))[0] == "AccessDeniedException"


async def test_a_function_that_may_not_call_is_not_told_what_is_there(control):
    await control.create("caller")
    function = control.desk.index.handle("aws", ACCOUNT, REGION, "caller")
    who = Principal(kind=Kind.FUNCTION, account=ACCOUNT, region=REGION, name=function.id, role="")
    assert [(await may_call(control, who, name))[0] for name in ("hello", "none")] == ["AccessDeniedException"] * 2
