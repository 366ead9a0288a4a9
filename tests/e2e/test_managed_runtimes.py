"""Java's managed runtime on a machine that has AWS's client for it, and what a machine without says."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench import programs
from ondol.runtimes.interpreters import Interpreters
from ondol.testing import capacity, kept
from ondol.testing.calls import Called
from ondol.testing.node import executable, running_node
from tests.e2e.test_new import begin
from tests.e2e.test_runtime_clients import files_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

HANDLER = "example.Handler::handleRequest"
#: A capacity provider takes Java from 21 on, and 2 GiB at least; the nearest runs it.
NEAREST = ("--runtime-substitute", "nearest", "--memory-mib-max", "8192")


@pytest.fixture(scope="module")
def jars():
    """The function's own archive, and those of AWS's client."""
    found = files_of(programs.jars)
    return (
        next(jar for jar in found if jar.name == "function-1.jar").read_bytes(),
        [jar for jar in found if jar.parent.name == "dependency"],
    )


@pytest.fixture(scope="module")
def home():
    """A user's; not below /tmp, in whose place shells have their own."""
    kept.CACHE.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="home-", dir=kept.CACHE))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def machine(possible, jars, home):
    """A node of its own, where somebody put the client into a place of theirs."""
    place = home / "ondol/clients/java"
    place.mkdir(parents=True)
    for jar in jars[1]:
        shutil.copy(jar, place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(home))
        with running_node(*NEAREST) as node:
            yield node


@pytest.fixture
def aws(machine):
    return machine.client("lambda")


@pytest.fixture
def runtime():
    """Of the Java that Maven uses."""
    here = Path(shutil.which("java") or "").resolve()
    return next(each.name for each in Interpreters.discover().all("java") if each.path == str(here))


def test_a_function_in_java_runs_from_classes_or_an_archive_in_lib(deploy_archive, aws, jars, runtime):
    for code in (jars[0], executable({"lib/function.jar": jars[0]})):
        function = deploy_archive(code, runtime=runtime, handler=HANDLER, MemorySize=512, Timeout=10)
        for event in (1, {"a": "✓"}):
            called = Called(aws, function, event)
            assert (called.error, called.answer["event"]) == (None, event)
            assert called.answer["id"] == called.id
            assert called.lines == ["called"]
        raised = Called(aws, function, "raise")
        assert (raised.error, raised.answer["errorType"]) == ("Unhandled", "java.lang.IllegalStateException")


def test_a_wrapper_starts_the_virtual_machine(machine, deploy_archive, aws, jars, runtime):
    code = executable({"lib/function.jar": jars[0], "wrap": '#!/bin/sh\necho wrapped "$1"\nexec "$@"\n'})
    settings = {"Environment": {"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap"}}}
    function = deploy_archive(code, runtime=runtime, handler=HANDLER, MemorySize=512, Timeout=10, **settings)
    called = Called(aws, function, 1)
    assert called.answer["event"] == 1
    assert "wrapped /" in machine.ondol("logs", function).stdout


def test_a_class_that_is_not_there_is_told_as_awss_client_tells_it(deploy_archive, aws, jars, runtime):
    function = deploy_archive(jars[0], runtime=runtime, handler="example.Absent::handle", MemorySize=512, Timeout=10)
    called = Called(aws, function, 1)
    assert called.error == "Unhandled"
    assert "example.Absent" in called.answer["errorMessage"]


def test_the_starter_deploys_and_answers(machine, tmp_path, name, runtime):
    begin(machine, tmp_path / name, "--runtime", runtime)
    done = machine.ondol("invoke", name, "--data", '{"name": "Ada"}', "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["payload"] == {"greeting": "Hello, Ada."}
    assert machine.ondol("rm", name).returncode == 0


def test_show_says_what_runs_it(machine, deploy_archive, jars, runtime):
    function = deploy_archive(jars[0], runtime=runtime, handler=HANDLER)
    assert "ondol/clients/java" in machine.ondol("show", function).stdout


def test_the_nodes_doctor_knows_the_client(machine, runtime):
    told = json.loads(machine.ondol("doctor", "--node", machine.endpoint, "--json").stdout)
    [found] = [each for each in told["findings"] if each["what"] == runtime]
    assert found["ok"]


# Several calls in one environment -----------------------------------------------------------------------------------
def attached(aws, name, code, calls):
    """`Meeting`, for so many calls at a time."""
    capacity.provide(aws)
    return capacity.attach(aws, name, code, calls=calls, Runtime="java21", Handler="example.Meeting::handle", Timeout=60)


def test_calls_of_java_meet_in_one_process_each_in_a_thread_of_its_own(aws, jars, name):
    function = attached(aws, name, jars[0], calls=4)
    with ThreadPoolExecutor(4) as threads:
        called = list(threads.map(lambda _: Called(aws, function, {"calls": 4}), range(4)))
    assert [(each.error, each.answer["met"]) for each in called] == [(None, 4)] * 4
    assert len({each.answer["process"] for each in called}) == 1
    assert len({each.answer["thread"] for each in called}) == 4
    for each in called:
        [line] = [json.loads(line) for line in each.lines if "met 4" in line]
        assert line["AWSRequestId"] == "ID", "another call's line"
    aws.delete_function(FunctionName=function)


def test_a_client_of_java_that_asks_once_at_a_time_is_refused_with_the_release_that_is_needed(possible, jars, tmp_path):
    place = tmp_path / "ondol/clients/java"
    place.mkdir(parents=True)
    for jar in jars[1]:
        (place / re.sub(r"(interface-client)-[\d.]+\.jar", r"\1-2.7.0.jar", jar.name)).touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path))
        with running_node(*NEAREST) as node:
            aws = node.client("lambda")
            function = attached(aws, "f", jars[0], calls=2)
            with pytest.raises(aws.exceptions.InvalidRuntimeException, match=r"2\.7\.0 in .* take 2\.8\.0 or newer"):
                aws.invoke(FunctionName=function, Payload=b"{}")


@pytest.fixture(scope="module")
def bare(possible, tmp_path_factory):
    """A node where nobody has a client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("bare")))
        with running_node() as node:
            yield node


def test_without_its_client_a_runtime_is_refused_by_name_and_the_doctor_says_what_to_install(bare, jars, runtime):
    aws = bare.client("lambda")
    aws.create_function(
        FunctionName="f", Runtime=runtime, Handler=HANDLER, Role="arn:aws:iam::000000000000:role/any", Code={"ZipFile": jars[0]}
    )
    with pytest.raises(aws.exceptions.InvalidRuntimeException, match="install aws-lambda-java-runtime-interface-client"):
        aws.invoke(FunctionName="f")
    told = json.loads(bare.ondol("doctor", "--node", bare.endpoint, "--json").stdout)
    [found] = [each for each in told["findings"] if each["what"] == runtime]
    assert not found["ok"]
    assert "aws-lambda-java-core" in found["mend"]


# Ruby ----------------------------------------------------------------------------------------------------------------
#: In the place of AWS's gem, which no registry here has: found, shown and started as that is, and speaks the Runtime API.
GEM = """
$stdout.sync = true
require "json"
require "net/http"
file, name = ARGV[0].split(".")
require file
api = "http://#{ENV["AWS_LAMBDA_RUNTIME_API"]}/2018-06-01/runtime/invocation/"
loop do
  asked = Net::HTTP.get_response(URI(api + "next"))
  answer = Object.send(name, event: JSON.parse(asked.body, quirks_mode: true), context: nil)
  Net::HTTP.post(URI(api + asked["Lambda-Runtime-Aws-Request-Id"] + "/response"), JSON.generate(answer))
end
"""
RUBY_HANDLER = """
require "mine"
def handler(event:, context:)
  puts "called"
  { event: event, mine: MINE, gems: Gem.path, ruby: RUBY_VERSION }
end
"""


@pytest.fixture(scope="module")
def ruby_machine(possible, home):
    """A node of its own, where a user has a client for the Ruby that is here."""
    found = Interpreters.discover().all("ruby")
    if not found:
        pytest.skip("no ruby on this machine")
    ruby = found[-1]
    program = home / f"gem/ruby/{ruby.major}.{ruby.minor}.0/gems/aws_lambda_ric-9.9.9/bin/aws_lambda_ric"
    program.parent.mkdir(parents=True)
    program.write_text(GEM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(home))
        with running_node("--runtime-substitute", "nearest") as node:
            yield node, ruby


def test_a_function_in_ruby_runs_by_the_gem_and_finds_its_own(ruby_machine, name):
    node, ruby = ruby_machine
    lambda_client = node.client("lambda")
    lambda_client.create_function(
        FunctionName=name, Runtime="ruby3.4", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any", MemorySize=256,
        Code={"ZipFile": executable({"app.rb": RUBY_HANDLER, "mine.rb": "MINE = 7"})},
    )  # fmt: skip
    called = Called(lambda_client, name, {"a": "✓"})
    assert (called.error, called.answer["event"], called.answer["mine"]) == (None, {"a": "✓"}, 7)
    assert called.answer["ruby"] == ruby.version
    assert f"/var/task/vendor/bundle/ruby/{ruby.major}.{ruby.minor}.0" in called.answer["gems"]
    assert called.lines == ["called"]
    lambda_client.delete_function(FunctionName=name)
