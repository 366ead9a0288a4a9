"""Java and Ruby as managed runtimes: what is found, what is said where something is missing, and what is executed."""

from __future__ import annotations

import os
import shutil
import stat

import pytest

from ondol.model.errors import RuntimeMissing
from ondol.runtime import Launch
from ondol.runtimes import clients
from ondol.runtimes.choice import Choice, Family
from ondol.runtimes.interpreters import Interpreter, Interpreters
from ondol.runtimes.managed import JAVA_KIND, RUBY_KIND, ManagedVersions, finders, lacking

CLASS_PATH = "/usr/local/share/ondol/clients/java/*"
PROGRAM = "/var/lib/gems/3.4.0/gems/aws_lambda_ric-3.1.3/bin/aws_lambda_ric"


def java(major, client=CLASS_PATH, release="2.10.1"):
    path = f"/usr/lib/jvm/java-{major}/bin/java"
    return Interpreter(
        path=path, major=major, minor=0, micro=5, prefix=path[:-9], language="java", client=client,
        client_release=release,
    )  # fmt: skip


def ruby(minor, client=PROGRAM):
    return Interpreter(path="/usr/bin/ruby", major=3, minor=minor, micro=1, prefix="/usr", language="ruby", client=client)


def javas(*majors, substitute="none"):
    return ManagedVersions(JAVA_KIND, Interpreters(map(java, majors)), substitute)


def launch(runtime, handler, calls=1, **variables):
    told = {"handler": handler, "runtime": runtime, "variables": variables, "calls_max": calls}
    return Launch(guest="aws", memory_mib=512, timeout_s=3, **told)


# Finding them --------------------------------------------------------------------------------------------------------
@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Finds nothing of the real machine's; makes programs that say what they are told to."""
    monkeypatch.setattr("ondol.runtimes.places._PUBLIC", ())
    monkeypatch.setattr(clients, "_PUBLIC_JARS", str(tmp_path / "public"))

    def program(path, says):
        made = tmp_path / path
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(f"#!/bin/sh\necho '{says}' >&2\necho '{says}'\n")
        made.chmod(0o755)
        return str(made)

    program.home = tmp_path
    return program


def discovered(home, language, *bins):
    found = Interpreters.discover(environment={"PATH": ":".join(str(home / each) for each in bins), "HOME": str(home)})
    return [each for each in found.all(language) if each.path.startswith(str(home))]


@pytest.mark.parametrize(
    ("says", "name", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', "java17", "17.0.15"),
        ('openjdk version "25" 2025-09-16', "java25", "25.0.0"),
        ('java version "1.8.0_392"', "java8", "8.0.0"),
    ],
)
def test_a_java_is_known_by_what_it_says(machine, says, name, version):
    path = machine("jdk/bin/java", says)
    [found] = discovered(machine.home, "java", "jdk/bin")
    assert (found.path, found.name, found.version, found.client) == (path, name, version, "")
    assert found.prefix == str(machine.home / "jdk")


def test_what_is_only_called_java_is_none(machine):
    machine("jdk/bin/java", "hello")
    machine("jdk/bin/javac", 'openjdk version "17.0.15"')
    assert discovered(machine.home, "java", "jdk/bin") == []


def test_javas_client_is_found_once_all_of_it_is_there(machine):
    machine("jdk/bin/java", 'openjdk version "21.0.1"')
    place = machine.home / ".local/share/ondol/clients/java"
    place.mkdir(parents=True)
    for jar in clients.JARS:
        assert discovered(machine.home, "java", "jdk/bin")[0].client == ""
        (place / f"{jar}-2.10.1.jar").touch()
    [found] = discovered(machine.home, "java", "jdk/bin")
    assert (found.client, found.client_release) == (f"{place}/*", "2.10.1")
    shutil.copytree(place, machine.home / "public")
    assert discovered(machine.home, "java", "jdk/bin")[0].client == f"{machine.home}/public/*"


def test_of_several_releases_of_javas_client_the_oldest_counts(machine):
    machine("jdk/bin/java", 'openjdk version "21.0.1"')
    place = machine.home / "public"
    place.mkdir()
    for name in (*(f"{jar}-2.10.1" for jar in clients.JARS), f"{clients.JARS[0]}-2.9.0-linux-x86_64"):
        (place / f"{name}.jar").touch()
    assert discovered(machine.home, "java", "jdk/bin")[0].client_release == "2.9.0"


def test_a_client_that_came_since_the_interpreter_was_asked_is_found(machine, tmp_path):
    machine("rubies/bin/ruby3.4", "ruby\n3.4.1")
    environment = {"PATH": str(machine.home / "rubies/bin"), "HOME": str(machine.home)}

    def look():
        found = Interpreters.discover(tmp_path / "kept.json", environment).all("ruby")
        return [each for each in found if each.path.startswith(str(machine.home))]

    [before] = look()
    assert (before.name, before.version, before.client) == ("ruby3.4", "3.4.1", "")
    gem = "rubies/lib/ruby/gems/3.4.0/gems/aws_lambda_ric-3.1.3/bin/aws_lambda_ric"
    program = machine(gem, "")
    machine(gem.replace("3.1.3", "3.0.10"), "")
    assert look()[0].client == program
    os.chmod(program, stat.S_IRUSR)
    os.unlink(program)
    os.rmdir(os.path.dirname(program))
    os.rmdir(os.path.dirname(os.path.dirname(program)))
    assert "3.0.10" in look()[0].client


# What is missing -----------------------------------------------------------------------------------------------------
def test_what_is_on_the_machine_runs_as_asked():
    found = javas(17, 21)
    assert (found.missing("java21"), found.substitute_for("java21")) == (None, None)
    assert found.describe("java17") == (
        "/usr/lib/jvm/java-17/bin/java (17.0.5), by the client in /usr/local/share/ondol/clients/java"
    )


@pytest.mark.parametrize("runtime", ["java8", "java8.al2", "java17.al2023"])
def test_an_image_s_name_behind_the_version_changes_nothing(runtime):
    assert javas(8, 17).missing(runtime) is None


def test_an_interpreter_that_is_missing_is_named_with_how_to_get_it_and_its_client():
    said = javas(17).missing("java21")
    assert "java21 is not on this machine (found: java17). Install Java 21" in said
    assert "openjdk-21-jre-headless" in said
    assert "aws-lambda-java-serialization-*.jar" in said
    assert "--runtime-substitute nearest" in said
    said = ManagedVersions(RUBY_KIND, Interpreters([])).missing("ruby3.4")
    assert "ruby3.4 is not on this machine (found: none)" in said
    assert "gem install aws_lambda_ric" in said


@pytest.mark.parametrize(
    ("found", "client"), [(java(21, ""), "aws-lambda-java-core"), (ruby(4, ""), "gem install aws_lambda_ric")]
)
def test_a_client_that_is_missing_is_named_with_how_to_get_it(found, client):
    finder = finders(Interpreters([found]), "none")[found.language]
    said = finder.missing(found.name)
    assert said == lacking(found)
    assert client in said
    assert "provided.al2023" in said
    with pytest.raises(RuntimeMissing, match="runtime interface client"):
        finder.program(launch(found.name, "x"))


def test_what_has_all_it_needs_lacks_nothing():
    assert [lacking(each) for each in (java(21), ruby(4))] == [None, None]
    assert lacking(Interpreter(path="/p", major=3, minor=11, micro=0, prefix="/")) is None


@pytest.mark.parametrize("runtime", ["java", "javanese", "java17.x", "ruby", "ruby3"])
def test_no_version_is_no_runtime(runtime):
    finder = finders(Interpreters([java(17), ruby(4)]), "nearest")["ruby" if "ruby" in runtime else "java"]
    assert "is unknown" in finder.missing(runtime)


@pytest.mark.parametrize(("asked", "chosen"), [("java21", "java25"), ("java11", "java17"), ("java29", "java25")])
def test_a_newer_java_stands_in_before_an_older_one(asked, chosen):
    found = javas(17, 25, substitute="nearest")
    assert (found.missing(asked), found.substitute_for(asked)) == (None, chosen)
    assert f"instead of {asked}" in found.describe(asked)


def test_the_choice_knows_them_and_carries_them_by_a_python():
    python = Interpreter(path="/usr/bin/python3.11", major=3, minor=11, micro=0, prefix="/usr")
    here = Interpreters([python, java(17), ruby(4)])
    found = finders(here, "none")
    choice = Choice(here, others={Family.JAVA: found["java"], Family.RUBY: found["ruby"]})
    for runtime in ("java17", "ruby3.4"):
        assert choice.missing(runtime) is None
        assert choice.carrier(runtime) is python
    assert "java21 is not on this machine" in choice.missing("java21")


# What is executed ----------------------------------------------------------------------------------------------------
def test_java_runs_the_client_with_the_functions_classes_behind_it():
    told = javas(17).program(launch("java17", "example.Handler::handle", MINE="1"))
    assert told["argv"][0] == "/usr/lib/jvm/java-17/bin/java"
    assert told["argv"][-4:] == [
        "-cp", f"{CLASS_PATH}:/var/task:/var/task/lib/*:/opt/java/lib/*",
        "com.amazonaws.services.lambda.runtime.api.client.AWSLambda", "example.Handler::handle",
    ]  # fmt: skip
    assert "-XX:MaxHeapSize=445644k" in told["argv"]
    assert (told["variables"]["MINE"], told["cwd"], told["wire"]) == ("1", "/var/task", False)


def test_ruby_runs_the_gems_program_and_finds_the_functions_gems():
    program = ManagedVersions(RUBY_KIND, Interpreters([ruby(4)])).program
    told = program(launch("ruby3.4", "app.handler"))
    assert told["argv"] == ["/usr/bin/ruby", "-I", PROGRAM.removesuffix("/bin/aws_lambda_ric") + "/lib", PROGRAM, "app.handler"]
    assert told["variables"]["GEM_PATH"] == "/var/task/vendor/bundle/ruby/3.4.0:/opt/ruby/gems/3.4.0:"
    assert told["variables"]["RUBYLIB"] == "/var/task:/opt/ruby/lib"
    assert program(launch("ruby3.4", "app.handler", GEM_PATH="/mine"))["variables"]["GEM_PATH"] == "/mine"


@pytest.mark.parametrize(
    ("release", "calls", "goes"), [("2.10.1", 2, True), ("2.8.0", 9, True), ("2.7.0", 2, False), ("2.7.0", 1, True)]
)
def test_a_client_of_java_that_asks_once_at_a_time_runs_no_calls_side_by_side(release, calls, goes):
    program = ManagedVersions(JAVA_KIND, Interpreters([java(21, release=release)])).program
    if goes:
        assert program(launch("java21", "x::y", calls=calls))["argv"][-1] == "x::y"
        return
    with pytest.raises(RuntimeMissing, match=r"2\.7\.0 in /usr/local/.* asks for one call at a time; .* take 2\.8\.0 or newer"):
        program(launch("java21", "x::y", calls=calls))


def test_calls_of_ruby_do_not_run_side_by_side():
    with pytest.raises(RuntimeMissing, match="Calls of Ruby do not run side by side"):
        ManagedVersions(RUBY_KIND, Interpreters([ruby(4)])).program(launch("ruby3.4", "app.handler", calls=2))


def test_a_wrapper_starts_them():
    told = javas(17).program(launch("java17", "x::y", AWS_LAMBDA_EXEC_WRAPPER="/opt/wrap"))
    assert told["argv"][:2] == ["/opt/wrap", "/usr/lib/jvm/java-17/bin/java"]
