"""Several accounts and regions on one node: nothing of one is to be seen in another."""

import asyncio
import json

import pytest
from botocore.exceptions import ClientError

from ondol.model.principals import Kind, Principal
from ondol.testing.boto import ACCOUNT, REGION, blocking
from ondol.testing.control import ROLE, archive
from ondol.testing.control import control as control_over
from ondol.testing.iam import LAMBDA

ELSEWHERE = {
    "another account": Principal(kind=Kind.OWNER, account="999999999999", region=REGION, name="AKIAOTHER"),
    "another region": Principal(kind=Kind.OWNER, account=ACCOUNT, region="us-east-1", name="AKIAEXAMPLE"),
}
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"
PUBLISHERS = {"SigningProfileVersionArns": [f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/p"]}


def everything(client, settled):
    """One of each; what names it afterwards."""
    client.create_function(FunctionName="hello", Runtime="python3.12", Role=ROLE, Handler="app.handler", Publish=True,
                           Code={"ZipFile": archive()}, Tags={"a": "1"})  # fmt: skip
    settled()
    client.create_alias(FunctionName="hello", Name="live", FunctionVersion="1")
    client.add_permission(FunctionName="hello", StatementId="s", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com")
    client.put_function_event_invoke_config(FunctionName="hello", MaximumRetryAttempts=0)
    client.put_function_concurrency(FunctionName="hello", ReservedConcurrentExecutions=5)
    client.create_function_url_config(FunctionName="hello", AuthType="NONE")
    client.publish_layer_version(LayerName="tools", Content={"ZipFile": archive("x = 1", "python/tools.py")})
    return {
        "mapping": client.create_event_source_mapping(FunctionName="hello", EventSourceArn=QUEUE)["UUID"],
        "signing": client.create_code_signing_config(AllowedPublishers=PUBLISHERS)["CodeSigningConfig"]["CodeSigningConfigArn"],
        "function": client.get_function(FunctionName="hello")["Configuration"]["FunctionArn"],
    }


@pytest.mark.parametrize("where", ELSEWHERE)
async def test_nothing_of_one_is_seen_in_another(tmp_path, where):
    async with control_over(tmp_path) as control:
        loop = asyncio.get_running_loop()

        def settled():
            asyncio.run_coroutine_threadsafe(control.desk.settled(), loop).result(30)

        mine, theirs = control.client(), control.client(ELSEWHERE[where])
        names = await blocking(everything, mine, settled)

        def look():
            assert theirs.list_functions(FunctionVersion="ALL")["Functions"] == []
            assert theirs.list_layers()["Layers"] == []
            assert theirs.list_layer_versions(LayerName="tools")["LayerVersions"] == []
            assert theirs.list_event_source_mappings()["EventSourceMappings"] == []
            assert theirs.list_code_signing_configs()["CodeSigningConfigs"] == []
            usage = theirs.get_account_settings()
            assert usage["AccountUsage"] == {"TotalCodeSize": 0, "FunctionCount": 0}
            assert usage["AccountLimit"]["UnreservedConcurrentExecutions"] == 1000
            own = mine.get_account_settings()["AccountUsage"]
            assert own["FunctionCount"] == 1
            assert own["TotalCodeSize"] == 2 * len(archive()) + len(archive("x = 1", "python/tools.py"))
            of_function = (
                theirs.get_function, theirs.get_function_configuration, theirs.list_versions_by_function, theirs.list_aliases,
                theirs.get_policy, theirs.get_function_event_invoke_config, theirs.get_function_concurrency,
                theirs.get_function_url_config, theirs.list_function_url_configs, theirs.get_function_recursion_config,
                theirs.get_runtime_management_config, theirs.get_function_code_signing_config, theirs.delete_function,
            )  # fmt: skip
            for call in of_function:
                for name in ("hello", names["function"]):
                    with pytest.raises(ClientError) as refused:
                        call(FunctionName=name)
                    assert refused.value.response["Error"]["Code"] in ("ResourceNotFoundException", "AccessDeniedException")
            for call, params in (
                (theirs.get_layer_version, {"LayerName": "tools", "VersionNumber": 1}),
                (theirs.get_event_source_mapping, {"UUID": names["mapping"]}),
                (theirs.get_code_signing_config, {"CodeSigningConfigArn": names["signing"]}),
                (theirs.list_tags, {"Resource": names["function"]}),
                (theirs.list_tags, {"Resource": names["signing"]}),
            ):
                with pytest.raises(ClientError) as refused:
                    call(**params)
                assert refused.value.response["Error"]["Code"] in ("ResourceNotFoundException", "AccessDeniedException")

        await blocking(look)
        assert (await blocking(everything, theirs, settled))["function"] != names["function"], "every name is free there"


async def test_roles_belong_to_an_account_in_all_its_regions(tmp_path):
    async with control_over(tmp_path) as control:
        await blocking(control.client(service="iam").create_role, RoleName="worker", AssumeRolePolicyDocument=LAMBDA)
        same = control.client(ELSEWHERE["another region"], "iam")
        other = control.client(ELSEWHERE["another account"], "iam")
        assert [role["RoleName"] for role in (await blocking(same.list_roles))["Roles"]] == ["worker"]
        assert (await blocking(other.list_roles))["Roles"] == []
