"""IAM and STS, with boto3 unmodified: roles, policies, taking roles on, and what that lets one do."""

import json

import pytest

from ondol.model.principals import Kind, Principal
from ondol.testing.boto import ACCOUNT, OWNER, REGION, blocking, error
from ondol.testing.control import ARN
from ondol.testing.control import control as control_over
from ondol.testing.iam import LAMBDA, OTHER, ROLE, ROOT, allowing, make_role, trusting


@pytest.fixture
async def control(tmp_path):
    async with control_over(tmp_path) as made:
        yield made


@pytest.fixture
async def iam(control):
    return control.client(service="iam")


async def session(control, trust=ROOT, principal=OWNER, **policies):
    """A role with these policies, and who took it on."""
    await blocking(make_role, control.client(service="iam"), "worker", trust, **policies)
    sts = control.client(principal, "sts")
    answer = await blocking(sts.assume_role, RoleArn=ROLE, RoleSessionName="me")
    return control.holder(answer["Credentials"])


async def test_a_role_is_made_shown_listed_changed_and_deleted(iam):
    made = await blocking(
        iam.create_role, RoleName="worker", Path="/team/", AssumeRolePolicyDocument=LAMBDA, Description="works",
        Tags=[{"Key": "team", "Value": "floor"}],
    )  # fmt: skip
    role = made["Role"]
    assert role["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/team/worker"
    assert role["AssumeRolePolicyDocument"] == json.loads(LAMBDA)
    assert role["RoleId"].startswith("AROA") and len(role["RoleId"]) == 21
    assert (await blocking(iam.get_role, RoleName="worker"))["Role"] == role
    assert await error(iam.create_role, RoleName="worker", AssumeRolePolicyDocument=LAMBDA) == (
        "EntityAlreadyExists",
        "Role with name worker already exists.",
    )
    await blocking(iam.update_role, RoleName="worker", Description="rests", MaxSessionDuration=7200)
    await blocking(iam.update_assume_role_policy, RoleName="worker", PolicyDocument=ROOT)
    await blocking(iam.tag_role, RoleName="worker", Tags=[{"Key": "stage", "Value": "test"}])
    await blocking(iam.untag_role, RoleName="worker", TagKeys=["team"])
    changed = (await blocking(iam.get_role, RoleName="worker"))["Role"]
    assert (changed["Description"], changed["MaxSessionDuration"]) == ("rests", 7200)
    assert changed["AssumeRolePolicyDocument"] == json.loads(ROOT)
    assert changed["Tags"] == [{"Key": "stage", "Value": "test"}]
    assert [each["RoleName"] for each in (await blocking(iam.list_roles, PathPrefix="/team/"))["Roles"]] == ["worker"]
    assert (await blocking(iam.list_roles, PathPrefix="/other/"))["Roles"] == []
    await blocking(iam.delete_role, RoleName="worker")
    missing = ("NoSuchEntity", "The role with name worker cannot be found.")
    assert await error(iam.get_role, RoleName="worker") == missing
    assert await error(iam.delete_role, RoleName="worker") == missing


async def test_roles_are_listed_in_pages(iam):
    for name in ("a", "b", "c"):
        await blocking(iam.create_role, RoleName=name, AssumeRolePolicyDocument=LAMBDA)
    pages = iam.get_paginator("list_roles").paginate(PaginationConfig={"PageSize": 2})
    found = await blocking(lambda: [[role["RoleName"] for role in page["Roles"]] for page in pages])
    assert found == [["a", "b"], ["c"]]


async def test_roles_of_one_account_are_nobody_elses(control, iam):
    await blocking(iam.create_role, RoleName="worker", AssumeRolePolicyDocument=LAMBDA)
    others = control.client(OTHER, "iam")
    assert (await blocking(others.list_roles))["Roles"] == []
    assert (await error(others.get_role, RoleName="worker"))[0] == "NoSuchEntity"
    await blocking(others.create_role, RoleName="worker", AssumeRolePolicyDocument=LAMBDA)


async def test_a_roles_own_policies(iam):
    await blocking(iam.create_role, RoleName="worker", AssumeRolePolicyDocument=LAMBDA)
    text = allowing("lambda:InvokeFunction")
    await blocking(iam.put_role_policy, RoleName="worker", PolicyName="call", PolicyDocument=text)
    shown = await blocking(iam.get_role_policy, RoleName="worker", PolicyName="call")
    assert shown["PolicyDocument"] == json.loads(text)
    assert (await blocking(iam.list_role_policies, RoleName="worker"))["PolicyNames"] == ["call"]
    assert (await error(iam.delete_role, RoleName="worker"))[0] == "DeleteConflict"
    assert (await error(iam.put_role_policy, RoleName="worker", PolicyName="x", PolicyDocument="{"))[0] == (
        "MalformedPolicyDocument"
    )
    await blocking(iam.delete_role_policy, RoleName="worker", PolicyName="call")
    assert await error(iam.get_role_policy, RoleName="worker", PolicyName="call") == (
        "NoSuchEntity",
        "The role policy with name call cannot be found.",
    )


async def test_managed_policies_their_versions_and_where_they_are_attached(iam):
    made = (await blocking(iam.create_policy, PolicyName="call", PolicyDocument=allowing("lambda:InvokeFunction")))["Policy"]
    arn = made["Arn"]
    assert arn == f"arn:aws:iam::{ACCOUNT}:policy/call"
    assert (await error(iam.create_policy, PolicyName="call", PolicyDocument=allowing("a:b")))[0] == "EntityAlreadyExists"
    second = await blocking(iam.create_policy_version, PolicyArn=arn, PolicyDocument=allowing("lambda:*"), SetAsDefault=True)
    assert second["PolicyVersion"]["VersionId"] == "v2"
    listed = (await blocking(iam.list_policy_versions, PolicyArn=arn))["Versions"]
    assert [(each["VersionId"], each["IsDefaultVersion"]) for each in listed] == [("v2", True), ("v1", False)]
    shown = await blocking(iam.get_policy_version, PolicyArn=arn, VersionId="v1")
    assert shown["PolicyVersion"]["Document"]["Statement"][0]["Action"] == "lambda:InvokeFunction"
    assert (await error(iam.delete_policy_version, PolicyArn=arn, VersionId="v2"))[0] == "DeleteConflict"
    await blocking(iam.set_default_policy_version, PolicyArn=arn, VersionId="v1")
    await blocking(iam.delete_policy_version, PolicyArn=arn, VersionId="v2")
    await blocking(iam.create_role, RoleName="worker", AssumeRolePolicyDocument=LAMBDA)
    await blocking(iam.attach_role_policy, RoleName="worker", PolicyArn=arn)
    await blocking(iam.attach_role_policy, RoleName="worker", PolicyArn=arn)
    attached = (await blocking(iam.list_attached_role_policies, RoleName="worker"))["AttachedPolicies"]
    assert attached == [{"PolicyName": "call", "PolicyArn": arn}]
    assert (await blocking(iam.get_policy, PolicyArn=arn))["Policy"]["AttachmentCount"] == 1
    assert (await error(iam.delete_policy, PolicyArn=arn))[1] == "Cannot delete a policy attached to entities."
    await blocking(iam.detach_role_policy, RoleName="worker", PolicyArn=arn)
    await blocking(iam.delete_policy, PolicyArn=arn)
    assert (await blocking(iam.list_policies, Scope="Local"))["Policies"] == []
    assert await error(iam.attach_role_policy, RoleName="worker", PolicyArn=arn) == (
        "NoSuchEntity",
        f"Policy {arn} does not exist or is not attachable.",
    )


async def test_aws_own_policies_are_listed_by_scope_beside_the_accounts(iam):
    await blocking(iam.create_policy, PolicyName="call", PolicyDocument=allowing("lambda:InvokeFunction"))

    async def listed(**params):
        pages = await blocking(lambda: list(iam.get_paginator("list_policies").paginate(**params)))
        return [policy["PolicyName"] for page in pages for policy in page["Policies"]]

    assert await listed(Scope="Local") == ["call"]
    of_aws = await listed(Scope="AWS", PaginationConfig={"PageSize": 2})
    assert {"AWSLambdaBasicExecutionRole", "AdministratorAccess"} <= set(of_aws)
    assert sorted(await listed()) == sorted(["call", *of_aws])
    assert "AdministratorAccess" not in await listed(PathPrefix="/service-role/")


async def test_aws_own_policies_can_be_attached_and_those_about_what_is_here_looked_at(iam):
    await blocking(iam.create_role, RoleName="worker", AssumeRolePolicyDocument=LAMBDA)
    basic = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
    for arn in (basic, "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"):
        await blocking(iam.attach_role_policy, RoleName="worker", PolicyArn=arn)
    shown = (await blocking(iam.get_policy, PolicyArn=basic))["Policy"]
    assert (shown["PolicyName"], shown["Path"], shown["AttachmentCount"]) == (
        "AWSLambdaBasicExecutionRole",
        "/service-role/",
        1,
    )
    version = await blocking(iam.get_policy_version, PolicyArn=basic, VersionId=shown["DefaultVersionId"])
    assert "logs:PutLogEvents" in version["PolicyVersion"]["Document"]["Statement"][0]["Action"]
    for call, params in ((iam.delete_policy, {}), (iam.get_policy_version, {"VersionId": "v9"})):
        assert (await error(call, PolicyArn=basic, **params))[0] == "NoSuchEntity"
    assert (await error(iam.get_policy, PolicyArn="arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"))[0] == "NoSuchEntity"


# Taking a role on ---------------------------------------------------------------------------------------------------------
async def test_a_session_is_its_role_and_may_what_the_role_says(control):
    await control.create()
    who = await session(control, look=allowing("lambda:GetFunction*", f"{ARN}hello"))
    assert (await blocking(control.client(who, "sts").get_caller_identity))["Arn"] == (
        f"arn:aws:sts::{ACCOUNT}:assumed-role/worker/me"
    )
    client = control.client(who)
    assert (await blocking(client.get_function, FunctionName="hello"))["Configuration"]["FunctionName"] == "hello"
    assert await error(client.delete_function, FunctionName="hello") == (
        "AccessDeniedException",
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/worker/me is not authorized to perform: lambda:DeleteFunction on resource: "
        f"{ARN}hello because no identity-based policy allows the lambda:DeleteFunction action",
    )
    assert (await error(client.get_function, FunctionName="other"))[0] == "AccessDeniedException"


async def test_a_deny_wins_and_a_boundary_bounds(control):
    await control.create()
    who = await session(control, all=allowing("*"), no=allowing("lambda:Delete*", Effect="Deny"))
    client, iam = control.client(who), control.client(service="iam")
    assert (await error(client.delete_function, FunctionName="hello"))[0] == "AccessDeniedException"
    await blocking(client.list_functions)
    made = await blocking(iam.create_policy, PolicyName="edge", PolicyDocument=allowing("lambda:GetFunction"))
    await blocking(iam.put_role_permissions_boundary, RoleName="worker", PermissionsBoundary=made["Policy"]["Arn"])
    assert (await error(client.list_functions))[0] == "AccessDeniedException"
    await blocking(client.get_function, FunctionName="hello")


async def test_whom_a_role_does_not_trust_may_not_take_it_on(control, iam):
    await blocking(iam.create_role, RoleName="worker", AssumeRolePolicyDocument=LAMBDA)
    refusal = f"User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: sts:AssumeRole on resource: {ROLE}"
    sts = control.client(service="sts")
    assert await error(sts.assume_role, RoleArn=ROLE, RoleSessionName="me") == ("AccessDenied", refusal)
    missing = await error(sts.assume_role, RoleArn=f"{ROLE}s", RoleSessionName="me")
    assert missing == ("AccessDenied", f"{refusal}s"), "whether a role is there is not told"
    reader = Principal(kind=Kind.READER, account=ACCOUNT, region=REGION, name="AKIAREADER")
    assert (await error(control.client(reader, "sts").assume_role, RoleArn=ROLE, RoleSessionName="me"))[0] == "AccessDenied"


async def test_another_account_takes_a_role_on_with_the_external_id_that_is_asked_for(control, iam):
    trust = trusting({"StringEquals": {"sts:ExternalId": "secret"}}, AWS=f"arn:aws:iam::{OTHER.account}:root")
    await blocking(make_role, iam, "worker", trust)
    sts = control.client(OTHER, "sts")
    assert (await error(sts.assume_role, RoleArn=ROLE, RoleSessionName="me"))[0] == "AccessDenied"
    answer = await blocking(sts.assume_role, RoleArn=ROLE, RoleSessionName="me", ExternalId="secret")
    who = control.holder(answer["Credentials"])
    assert (who.account, who.kind) == (ACCOUNT, Kind.SESSION)


async def test_how_long_a_session_lasts(control, iam):
    await blocking(iam.create_role, RoleName="worker", AssumeRolePolicyDocument=ROOT)
    sts, now_s = control.client(service="sts"), control.desk.clock.wall_s()
    answer = await blocking(sts.assume_role, RoleArn=ROLE, RoleSessionName="me", DurationSeconds=900)
    assert answer["Credentials"]["Expiration"].timestamp() == int(now_s + 900)
    assert await error(sts.assume_role, RoleArn=ROLE, RoleSessionName="me", DurationSeconds=7200) == (
        "ValidationError",
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
    )


async def test_a_session_of_a_role_that_is_gone_may_nothing(control):
    who = await session(control, all=allowing("*"))
    client, iam = control.client(who), control.client(service="iam")
    await blocking(client.list_functions)
    await blocking(iam.delete_role_policy, RoleName="worker", PolicyName="all")
    assert (await error(client.list_functions))[0] == "AccessDeniedException"
    await blocking(iam.delete_role, RoleName="worker")
    assert (await error(client.list_functions))[0] == "AccessDeniedException"
    await blocking(iam.create_role, RoleName="worker", AssumeRolePolicyDocument=ROOT)
    await blocking(iam.put_role_policy, RoleName="worker", PolicyName="all", PolicyDocument=allowing("*"))
    assert (await error(client.list_functions))[0] == "AccessDeniedException", "another role of the same name"


@pytest.mark.parametrize(
    ("condition", "operation", "good", "bad"),
    [
        (
            {"StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}},
            "create_function_url_config",
            {"AuthType": "AWS_IAM"},
            {"AuthType": "NONE"},
        ),
        (
            {"StringEquals": {"lambda:Principal": "s3.amazonaws.com"}},
            "add_permission",
            {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"},
            {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "*"},
        ),
        (
            {"ForAllValues:StringEquals": {"aws:TagKeys": ["stage"]}},
            "tag_resource",
            {"Resource": f"{ARN}hello", "Tags": {"stage": "test"}},
            {"Resource": f"{ARN}hello", "Tags": {"stage": "test", "team": "floor"}},
        ),
        (
            {"StringEquals": {"aws:ResourceTag/team": "floor"}},
            "get_function",
            {"FunctionName": "hello"},
            {"FunctionName": "other"},
        ),
    ],
)
async def test_conditions_on_what_is_asked_for(control, condition, operation, good, bad):
    await control.create(Tags={"team": "floor"})
    await control.create("other")
    who = await session(control, some=allowing("lambda:*", Condition=condition))
    call = getattr(control.client(who), operation)
    named = {} if operation in ("tag_resource", "get_function") else {"FunctionName": "hello"}
    assert (await error(call, **named, **bad))[0] == "AccessDeniedException"
    await blocking(call, **named, **good)


# Roles of functions ---------------------------------------------------------------------------------------------------------
async def test_a_role_that_is_not_known_is_taken_and_one_that_does_not_trust_the_service_is_not(control, iam):
    await control.create("free", Role=f"arn:aws:iam::{ACCOUNT}:role/unknown")
    await blocking(iam.create_role, RoleName="worker", AssumeRolePolicyDocument=ROOT)
    client = control.client()
    refusal = ("InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda.")
    assert await error(client.update_function_configuration, FunctionName="free", Role=ROLE) == refusal
    await blocking(iam.update_assume_role_policy, RoleName="worker", PolicyDocument=LAMBDA)
    await blocking(client.update_function_configuration, FunctionName="free", Role=ROLE)


async def test_another_accounts_role_cannot_be_passed(control):
    others = control.client(OTHER, "iam")
    await blocking(others.create_role, RoleName="worker", AssumeRolePolicyDocument=LAMBDA)
    await control.create()
    code, message = await error(
        control.client().update_function_configuration, FunctionName="hello", Role=f"arn:aws:iam::{OTHER.account}:role/worker"
    )
    assert (code, message) == ("AccessDeniedException", "Cross-account pass role is not allowed.")


async def test_a_caller_in_a_role_needs_to_be_allowed_to_pass_one(control):
    await control.create()
    who = await session(control, change=allowing("lambda:*"))
    client, wanted = control.client(who), f"arn:aws:iam::{ACCOUNT}:role/other"
    assert await error(client.update_function_configuration, FunctionName="hello", Role=wanted) == (
        "AccessDeniedException",
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/worker/me is not authorized to perform: iam:PassRole on resource: {wanted}",
    )
    passing = allowing("iam:PassRole", wanted, Condition={"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}})
    iam = control.client(service="iam")
    await blocking(iam.put_role_policy, RoleName="worker", PolicyName="pass", PolicyDocument=passing)
    await blocking(client.update_function_configuration, FunctionName="hello", Role=wanted)


async def test_a_function_may_what_its_role_says(control):
    await control.create(Role=ROLE)
    function = control.desk.index.handle("aws", ACCOUNT, REGION, "hello")
    who = Principal(kind=Kind.FUNCTION, account=ACCOUNT, region=REGION, name=function.id, role=ROLE)
    client, iam = control.client(who), control.client(service="iam")
    code, message = await error(client.list_functions)
    assert message.startswith(f"User: arn:aws:sts::{ACCOUNT}:assumed-role/worker/hello is not authorized to perform")
    await blocking(iam.create_role, RoleName="worker", AssumeRolePolicyDocument=LAMBDA)
    await blocking(iam.attach_role_policy, RoleName="worker", PolicyArn="arn:aws:iam::aws:policy/AWSLambda_ReadOnlyAccess")
    assert [each["FunctionName"] for each in (await blocking(client.list_functions))["Functions"]] == ["hello"]
    await blocking(iam.update_assume_role_policy, RoleName="worker", PolicyDocument=ROOT)
    assert (await error(client.list_functions))[0] == "AccessDeniedException", "a role that does not trust functions"
