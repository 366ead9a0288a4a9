"""Session policies of AssumeRole: a session may what both its role and they say, whoever asks and wherever it leads."""

import random
import string
from urllib.parse import urlencode

import pytest

from ondol.dialects.aws import codec
from ondol.dialects.aws.credentials import TOKEN_CHARS_MAX
from ondol.dialects.aws.service import ServiceError
from ondol.model.principals import Kind, Principal
from ondol.testing.boto import ACCOUNT, OWNER, REGION, blocking, error
from ondol.testing.control import ARN
from ondol.testing.control import control as control_over
from ondol.testing.iam import LAMBDA, OTHER, ROLE, ROOT, allowing, document, make_role, statement, trusting

ME = f"arn:aws:sts::{ACCOUNT}:assumed-role/worker/me"


@pytest.fixture
async def control(tmp_path):
    async with control_over(tmp_path) as made:
        yield made


@pytest.fixture
async def iam(control):
    return control.client(service="iam")


async def taken_on(control, who=OWNER, role=ROLE, **params):
    """Whoever took the role on with these parameters."""
    sts = control.client(who, "sts")
    answer = await blocking(sts.assume_role, RoleArn=role, RoleSessionName="me", **params)
    return control.holder(answer["Credentials"])


async def refused(control, **params):
    return await error(control.client(service="sts").assume_role, RoleArn=ROLE, RoleSessionName="me", **params)


async def test_a_session_may_what_both_the_role_and_its_own_policy_allow(control, iam):
    await control.create()
    await blocking(make_role, iam, "worker", ROOT, look=allowing(["lambda:Get*", "lambda:List*"]))
    who = await taken_on(control, Policy=allowing(["lambda:GetFunction", "lambda:DeleteFunction"]))
    client = control.client(who)
    await blocking(client.get_function, FunctionName="hello")
    assert await error(client.list_functions) == (
        "AccessDeniedException",
        f"User: {ME} is not authorized to perform: lambda:ListFunctions on resource: * because no session policy allows the "
        "lambda:ListFunctions action",
    )
    code, message = await error(client.delete_function, FunctionName="hello")
    assert (code, "no identity-based policy allows" in message) == ("AccessDeniedException", True), "the role lacks it"
    assert (await blocking(control.client(who, "sts").get_caller_identity))["Arn"] == ME, "that asks for nothing"
    await blocking(control.client(await taken_on(control)).list_functions)


async def test_a_deny_of_the_sessions_own_policy_wins(control, iam):
    await control.create()
    await blocking(make_role, iam, "worker", ROOT, all=allowing("*"))
    policy = document(statement("*"), statement("lambda:Delete*", Effect="Deny"))
    client = control.client(await taken_on(control, Policy=policy))
    await blocking(client.list_functions)
    code, message = await error(client.delete_function, FunctionName="hello")
    assert (code, message.endswith("with an explicit deny in a session policy")) == ("AccessDeniedException", True), message


async def test_what_denies_or_does_not_allow_is_named(control, iam):
    await control.create()
    deny = document(statement("*"), statement("lambda:Delete*", Effect="Deny"))
    await blocking(make_role, iam, "worker", ROOT, all=deny)
    denied = (await error(control.client(await taken_on(control)).delete_function, FunctionName="hello"))[1]
    assert denied.endswith(f"{ARN}hello with an explicit deny in an identity-based policy"), denied
    bound = await blocking(iam.create_policy, PolicyName="bound", PolicyDocument=allowing("lambda:List*"))
    await blocking(iam.put_role_permissions_boundary, RoleName="worker", PermissionsBoundary=bound["Policy"]["Arn"])
    beyond = (await error(control.client(await taken_on(control)).get_function, FunctionName="hello"))[1]
    assert beyond.endswith("because no permissions boundary allows the lambda:GetFunction action"), beyond


async def test_conditions_and_resources_of_a_session_policy_are_weighed(control, iam):
    for name in ("hello", "other"):
        await control.create(name)
    await blocking(make_role, iam, "worker", ROOT, all=allowing("*"))
    policy = allowing("lambda:*", f"{ARN}hello", Condition={"StringEquals": {"aws:userid": "${aws:userid}"}})
    client = control.client(await taken_on(control, Policy=policy))
    await blocking(client.get_function, FunctionName="hello")
    assert (await error(client.get_function, FunctionName="other"))[0] == "AccessDeniedException"


async def test_managed_policies_narrow_as_they_stand_when_they_are_asked(control, iam):
    await blocking(make_role, iam, "worker", ROOT, all=allowing("*"))
    made = await blocking(iam.create_policy, PolicyName="look", PolicyDocument=allowing("lambda:ListFunctions"))
    arn = made["Policy"]["Arn"]
    who = await taken_on(control, PolicyArns=[{"arn": arn}], Policy=allowing("lambda:GetAccountSettings"))
    client = control.client(who)
    await blocking(client.list_functions)
    await blocking(client.get_account_settings)
    assert (await error(client.list_layers))[0] == "AccessDeniedException"
    await blocking(iam.delete_policy, PolicyArn=arn)
    assert (await error(client.list_functions))[0] == "AccessDeniedException", "a policy that is gone allows nothing"
    reading = "arn:aws:iam::aws:policy/AWSLambda_ReadOnlyAccess"
    client = control.client(await taken_on(control, PolicyArns=[{"arn": reading}]))
    await blocking(client.list_functions)
    assert (await error(client.delete_function, FunctionName="hello"))[0] == "AccessDeniedException"


async def test_a_boundary_bounds_what_a_session_policy_leaves(control, iam):
    await blocking(make_role, iam, "worker", ROOT, all=allowing("*"))
    edge = await blocking(iam.create_policy, PolicyName="edge", PolicyDocument=allowing("lambda:List*"))
    await blocking(iam.put_role_permissions_boundary, RoleName="worker", PermissionsBoundary=edge["Policy"]["Arn"])
    client = control.client(await taken_on(control, Policy=allowing(["lambda:ListFunctions", "lambda:GetAccountSettings"])))
    await blocking(client.list_functions)
    for call in (client.get_account_settings, client.list_layers):
        assert (await error(call))[0] == "AccessDeniedException"


async def test_a_chained_role_needs_the_leave_of_the_first_sessions_policy(control, iam):
    await blocking(make_role, iam, "worker", ROOT, all=allowing("*"))
    second = await blocking(make_role, iam, "second", trusting(AWS=ROLE), all=allowing("*"))
    third = await blocking(make_role, iam, "third", ROOT, all=allowing("*"))
    narrow = await taken_on(control, Policy=allowing("lambda:ListFunctions"))
    for role in (second, third):
        sts = control.client(narrow, "sts")
        assert (await error(sts.assume_role, RoleArn=role, RoleSessionName="me"))[0] == "AccessDenied"
    assuming = await taken_on(control, Policy=allowing("sts:AssumeRole"))
    whole = await taken_on(control, assuming, role=second)
    await blocking(control.client(whole).get_account_settings)
    again = await taken_on(control, assuming, role=third, Policy=allowing("lambda:ListFunctions"))
    await blocking(control.client(again).list_functions)
    assert (await error(control.client(again).get_account_settings))[0] == "AccessDeniedException"


async def test_a_role_that_trusts_the_very_session_takes_it_however_narrow_it_is(control, iam):
    await blocking(make_role, iam, "worker", ROOT, all=allowing("*"))
    second = await blocking(make_role, iam, "second", trusting(AWS=ME), all=allowing("*"))
    narrow = await taken_on(control, Policy=allowing("lambda:ListFunctions"))
    await blocking(control.client(await taken_on(control, narrow, role=second)).get_account_settings)
    await blocking(
        iam.update_assume_role_policy,
        RoleName="second",
        PolicyDocument=document(
            {"Effect": "Allow", "Principal": {"AWS": ME}, "Action": "sts:AssumeRole"},
            {"Effect": "Deny", "Principal": {"AWS": ROLE}, "Action": "sts:AssumeRole"},
        ),
    )
    sts = control.client(narrow, "sts")
    assert (await error(sts.assume_role, RoleArn=second, RoleSessionName="me"))[0] == "AccessDenied"


@pytest.mark.parametrize(
    ("principal", "narrow"), [(ROLE, False), (ME, True), ("*", False), (f"arn:aws:iam::{ACCOUNT}:root", False)]
)
async def test_a_functions_policy_goes_beyond_a_session_policy_only_where_it_names_the_session(control, iam, principal, narrow):
    await control.create()
    await blocking(make_role, iam, "worker", ROOT, nothing=allowing("logs:GetLogEvents"))
    function = control.desk.index.handle("aws", ACCOUNT, REGION, "hello")
    policy = document({
        "Effect": "Allow", "Principal": {"AWS": principal}, "Action": "lambda:InvokeFunction", "Resource": f"{ARN}hello",
    })  # fmt: skip
    await control("PutResourcePolicy", ResourceArn=f"{ARN}hello", Policy=policy)
    function = control.desk.index.handle("aws", ACCOUNT, REGION, "hello")

    def may(who):
        return control.access.grants.may_function(who, "lambda:InvokeFunction", function, None)

    assert may(await taken_on(control)) is (principal != f"arn:aws:iam::{ACCOUNT}:root")
    assert may(await taken_on(control, Policy=allowing("lambda:ListFunctions"))) is narrow
    assert may(await taken_on(control, Policy=allowing("lambda:Invoke*"))) is (principal != f"arn:aws:iam::{ACCOUNT}:root")


async def test_a_session_of_another_account_needs_its_own_policy_too(control, iam):
    await control.create()
    others = control.client(OTHER, "iam")
    away = await blocking(make_role, others, "away", trusting(AWS=OTHER.account), all=allowing("*"))
    await control("PutResourcePolicy", ResourceArn=f"{ARN}hello", Policy=document({
        "Effect": "Allow", "Principal": {"AWS": OTHER.account}, "Action": "lambda:*", "Resource": f"{ARN}hello",
    }))  # fmt: skip
    for policy, may in ((allowing("lambda:GetFunction", f"{ARN}hello"), True), (allowing("lambda:ListFunctions"), False)):
        client = control.client(await taken_on(control, OTHER, role=away, Policy=policy))
        if may:
            await blocking(client.get_function, FunctionName=f"{ARN}hello")
        else:
            assert (await error(client.get_function, FunctionName=f"{ARN}hello"))[0] == "AccessDeniedException"


async def test_what_a_session_passes_to_a_function_is_weighed_too(control, iam):
    passed = await blocking(make_role, iam, "passed", LAMBDA)
    await blocking(make_role, iam, "worker", ROOT, all=allowing("*"))
    await control.create()
    for policy, may in ((allowing(["lambda:*", "iam:PassRole"]), True), (allowing("lambda:*"), False)):
        client = control.client(await taken_on(control, Policy=policy))
        if may:
            await blocking(client.update_function_configuration, FunctionName="hello", Role=passed)
            await control.desk.settled()
        else:
            found = await error(client.update_function_configuration, FunctionName="hello", Role=passed, Timeout=7)
            assert "iam:PassRole" in found[1]


# What is refused ----------------------------------------------------------------------------------------------------------
async def test_a_text_that_is_no_policy_is_malformed(control, iam):
    await blocking(make_role, iam, "worker", ROOT)
    assert await refused(control, Policy="{") == ("MalformedPolicyDocument", "This policy contains invalid Json")
    with_principal = document(statement("lambda:*") | {"Principal": "*"})
    code, message = await refused(control, Policy=with_principal)
    assert (code, message) == ("MalformedPolicyDocument", "Policy document should not specify a principal.")


async def test_a_policy_that_is_not_the_roles_accounts_cannot_narrow(control, iam):
    await blocking(make_role, iam, "worker", ROOT)
    for arn, text in (
        (f"arn:aws:iam::{ACCOUNT}:policy/none", "does not exist"),
        (f"arn:aws:iam::{OTHER.account}:policy/none", f"is not one of the role's account {ACCOUNT}"),
        ("arn:aws:iam::nonsense", "is not one of the role's account"),
    ):
        code, message = await refused(control, PolicyArns=[{"arn": arn}])
        assert (code, text in message) == ("ValidationError", True), message


async def test_policies_are_up_to_what_a_token_holds(control, iam):
    await blocking(make_role, iam, "worker", ROOT)
    rng = random.Random(6)
    long = allowing("lambda:" + "".join(rng.choices(string.ascii_letters, k=1800)))
    fitting = long[:-2] + " " * (2048 - len(long)) + long[-2:]
    assert len(fitting) == 2048
    sts = control.client(service="sts")
    answer = await blocking(sts.assume_role, RoleArn=ROLE, RoleSessionName="me", Policy=fitting)
    token = answer["Credentials"]["SessionToken"]
    assert answer["SessionTokenSize"] == len(token) <= TOKEN_CHARS_MAX
    assert answer["SessionTokenUtilization"] == answer["PackedPolicySize"] == round(len(token) * 100 / TOKEN_CHARS_MAX)
    assert control.holder(answer["Credentials"]).scope == (fitting,)
    code, message = await refused(control, Policy=fitting + " ")
    assert (code, "2049" in message, "2048" in message) == ("PackedPolicyTooLarge", True, True)
    arns = [{"arn": f"arn:aws:iam::aws:policy/{n}"} for n in range(11)]
    assert (await refused(control, PolicyArns=arns))[0] == "ValidationError"


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"Tags": [{"Key": "k", "Value": "v"}]}, "Tags, session tags"),
        ({"TransitiveTagKeys": ["k"]}, "TransitiveTagKeys, session tags"),
        ({"SourceIdentity": "somebody"}, "SourceIdentity, source identities"),
        ({"MinimumSessionTokenSize": 4096}, "MinimumSessionTokenSize, tokens that are longer"),
        ({"SerialNumber": f"arn:aws:iam::{ACCOUNT}:mfa/me", "TokenCode": "123456"}, "SerialNumber, MFA"),
        (
            {"ProvidedContexts": [{"ProviderArn": "arn:aws:iam::aws:contextProvider/I", "ContextAssertion": "abcd"}]},
            "ProvidedContexts, context assertions",
        ),
    ],
)
async def test_what_policies_could_look_at_and_do_not_is_refused_rather_than_passed_over(control, iam, params, text):
    await blocking(make_role, iam, "worker", ROOT)
    code, message = await refused(control, **params)
    assert (code, text in message) == ("ValidationError", True), message


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"DurationSeconds": 899}, "Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater"),
        ({"DurationSeconds": 43201}, "'43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less"),
        ({"RoleSessionName": "a b"}, "Value 'a b' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular"),
        ({"RoleSessionName": "a"}, "Value 'a' at 'roleSessionName' failed to satisfy constraint: Member must have length greater"),
        ({"RoleSessionName": "a" * 65}, "at 'roleSessionName' failed to satisfy constraint: Member must have length less"),
        ({"RoleArn": "worker"}, "Value 'worker' at 'roleArn' failed to satisfy constraint: Member must have length greater"),
    ],
)  # fmt: skip
def test_malformed_parameters_are_refused_in_the_services_words(params, text):
    form = {"Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": ROLE, "RoleSessionName": "me"} | params
    with pytest.raises(ServiceError) as caught:
        codec.decode("sts", "POST", "/", [("content-type", "application/x-www-form-urlencoded")], urlencode(form).encode())
    assert caught.value.code == "ValidationException", "which Query's clients read as ValidationError"
    assert text in caught.value.message


async def test_a_chained_session_lasts_an_hour_at_most(control, iam):
    await blocking(make_role, iam, "worker", ROOT, all=allowing("*"))
    second = await blocking(make_role, iam, "second", trusting(AWS=ROLE))
    await blocking(iam.update_role, RoleName="second", MaxSessionDuration=7200)
    sts = control.client(await taken_on(control), "sts")
    assert await error(sts.assume_role, RoleArn=second, RoleSessionName="me", DurationSeconds=7200) == (
        "ValidationError",
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
    )
