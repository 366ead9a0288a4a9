"""Tools that deploy functions, unmodified: chalice, Ansible, Terraform, SAM, aioboto3, and more of the aws command."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from ondol.testing import clients
from ondol.testing.iam import allowing, make_role, trusting
from ondol.testing.node import zipped

# The first run installs the tools; the cache keeps them.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

PROGRAMS = Path(__file__).with_name("programs")
ROLE = "arn:aws:iam::000000000000:role/any"
HELLO = "def handler(event, context):\n    print('here', event)\n    return {'got': event}\n"
LAYERED = "import shared\ndef handler(event, context):\n    return {'got': event, 'of the layer': shared.X}\n"


@pytest.fixture
def run(node, tmp_path):
    """Runs a program beside the test's files, without whatever configuration the machine has; its standard output."""

    def run(*command, status=0, **more):
        env = {
            **node.environment(), "HOME": str(tmp_path), "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "SAM_CLI_TELEMETRY": "0", **more.pop("env", {}),
        }  # fmt: skip
        settings = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 400, **more}
        done = subprocess.run([str(word) for word in command], env=env, check=False, **settings)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + (done.stderr if status else "")

    return run


@pytest.fixture
def archives(tmp_path):
    """A function that needs a layer, and the layer."""
    code, layer = tmp_path / "code.zip", tmp_path / "layer.zip"
    code.write_bytes(zipped({"app.py": LAYERED}))
    layer.write_bytes(zipped({"python/shared.py": "X = 1\n"}))
    return code, layer


def test_chalice_deploys_calls_changes_and_deletes_functions(node, run, name, tmp_path):
    chalice = clients.venv("chalice", "setuptools") / "chalice"
    source = "from chalice import Chalice\napp = Chalice(app_name={!r})\n@app.lambda_function()\ndef greet(event, context):\n    return [{}, event]\n"
    settings = {
        "version": "2.0",
        "app_name": name,
        "stages": {"dev": {"environment_variables": {"MODE": "fast"}, "tags": {"a": "b"}}},
    }
    (tmp_path / ".chalice").mkdir()
    (tmp_path / ".chalice" / "config.json").write_text(json.dumps(settings))
    (tmp_path / "requirements.txt").touch()
    for number in (1, 2):
        (tmp_path / "app.py").write_text(source.format(name, number))
        run(chalice, "deploy")
        assert json.loads(run(chalice, "invoke", "--name", "greet", input='{"n": 1}')) == [number, {"n": 1}]
    assert node.client().get_function(FunctionName=f"{name}-dev-greet")["Tags"]["a"] == "b"
    run(chalice, "logs", "--name", "greet")
    run(chalice, "delete")
    assert name not in json.dumps([each["RoleName"] for each in node.client("iam").list_roles(PathPrefix="/")["Roles"]])
    assert name not in json.dumps([each["FunctionName"] for each in node.client().list_functions()["Functions"]])


def test_ansibles_modules_make_functions_layers_aliases_and_policies_and_change_nothing_twice(run, name, archives):
    playbook = clients.venv("ansible", "boto3") / "ansible-playbook"
    code, layer = archives
    run(playbook, PROGRAMS / "playbook.yml", "-e", f"name={name}", "-e", f"code={code}", "-e", f"layer={layer}")


def test_terraform_makes_what_it_then_finds_unchanged_and_destroys_it(run, name, archives, tmp_path):
    terraform = clients.program("terraform")
    code, layer = archives
    (tmp_path / "main.tf").write_text((PROGRAMS / "main.tf").read_text())
    env = {"TF_VAR_name": name, "TF_VAR_code": str(code), "TF_VAR_layer": str(layer), "CHECKPOINT_DISABLE": "1"}
    env |= {each: os.environ[each] for each in ("HOME", "TF_CLI_CONFIG_FILE") if each in os.environ}
    plugins = os.environ.get("ONDOL_TERRAFORM_PLUGINS", "")
    try:
        run(terraform, "init", "-no-color", *([f"-plugin-dir={plugins}"] if plugins else []), env=env)
    except AssertionError as error:
        if not plugins and "Failed to query available provider" in str(error):
            pytest.skip(
                "Terraform's own registry is not to be had here, and ONDOL_TERRAFORM_PLUGINS names no folder of plugins"
            )
        clients.absent(f"Terraform finds no AWS provider (a folder of plugins: ONDOL_TERRAFORM_PLUGINS): {str(error)[-300:]}")
    run(terraform, "apply", "-auto-approve", "-no-color", env=env)
    assert json.loads(json.loads(run(terraform, "output", "-json", env=env))["said"]["value"])["got"] == {"n": 1}
    run(terraform, "plan", "-detailed-exitcode", "-no-color", env=env)  # 2 would say that something differs
    run(terraform, "destroy", "-auto-approve", "-no-color", env=env)


def test_sam_calls_a_function_by_its_arn_and_is_told_that_there_is_no_cloudformation(aws, run, deploy):
    sam = clients.venv("aws-sam-cli") / "sam"
    arn = aws.get_function(FunctionName=deploy(HELLO))["Configuration"]["FunctionArn"]
    assert json.loads(run(sam, "remote", "invoke", arn, "--event", '{"n": 1}').splitlines()[-1]) == {"got": {"n": 1}}
    told = run(sam, "remote", "invoke", arn, "--event", "{}", "--parameter", "InvocationType=DryRun", "--output", "json")
    assert json.loads(told)["StatusCode"] == 204
    assert "Ondol does not have cloudformation" in run(sam, "list", "stack-outputs", "--stack-name", "x", status=1)


def test_aioboto3_makes_waits_calls_at_once_streams_and_pages(run, name, tmp_path):
    python = clients.venv("aioboto3") / "python"
    (tmp_path / "code.zip").write_bytes(zipped({"app.py": HELLO}))
    (tmp_path / "client.py").write_text((PROGRAMS / "aio.py").read_text())
    saw = json.loads(run(python, "client.py", name))
    assert saw["answers"] == [{"got": number} for number in range(10)]
    assert json.loads(saw["stream"]) == {"got": 1}
    assert name in saw["listed"]


def test_the_aws_command_takes_a_role_on_by_its_profile(node, run, deploy, name):
    function = deploy(HELLO)
    iam, key = node.client("iam"), node.credentials
    make_role(iam, name, trusting(AWS="000000000000"), list=allowing("lambda:ListFunctions"))
    from_file = {"AWS_CONFIG_FILE": "config", "AWS_PROFILE": "chained", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    Path(run("pwd").strip(), "config").write_text(
        f"[profile base]\naws_access_key_id = {key['AWS_ACCESS_KEY_ID']}\naws_secret_access_key = {key['AWS_SECRET_ACCESS_KEY']}\n"
        f"[profile chained]\nrole_arn = arn:aws:iam::000000000000:role/{name}\nsource_profile = base\n"
    )
    aws_command = (Path(os.sys.executable).parent / "aws",)
    listed = run(*aws_command, "lambda", "list-functions", "--query", "Functions[].FunctionName", env=from_file)
    assert function in json.loads(listed)
    said = run(*aws_command, "lambda", "get-function", "--function-name", function, env=from_file, status=255)
    assert "is not authorized to perform: lambda:GetFunction" in said
    iam.delete_role_policy(RoleName=name, PolicyName="list")
    iam.delete_role(RoleName=name)
