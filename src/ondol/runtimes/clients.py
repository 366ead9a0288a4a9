"""Where Java and Ruby are, and where AWS's own clients of the Runtime API for them: what their managed runtimes are made of.

A client is looked for anew each time, since it comes and goes without its interpreter. Looks at files only.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ondol.runtimes.places import Language, data_home, of_home, under

JAVA: Final = "java"
RUBY: Final = "ruby"

#: What is in a directory that holds Java's client, by how the archives are called before their version; others are with them,
#: which ones depends on its release.
JARS: Final = ("aws-lambda-java-runtime-interface-client", "aws-lambda-java-core", "aws-lambda-java-serialization")
GEM: Final = "aws_lambda_ric"
#: Where they are for everybody, and for one user.
_PUBLIC_JARS: Final = "/usr/local/share/ondol/clients/java"
_OWN_JARS: Final = "ondol/clients/java"

_JAVA_SAYS: Final = re.compile(r'version "(?:1\.)?(\d+)(?:\.(\d+))?(?:\.(\d+))?')
_RUBY_NAME: Final = re.compile(r"ruby(\d\.\d+)?$")
_RELEASE: Final = re.compile(rf"{JARS[0]}-(\d+(?:\.\d+)*)[^/]*$")
_VERSION: Final = re.compile(r"-(\d+(?:\.\d+)*)(?:\.jar)?$")


def newest(paths: Iterable[str]) -> str:
    """The path that ends in the highest version number; "" of none."""
    numbered = {path: found[1] for path in paths if (found := _VERSION.search(path))}
    return max(numbered, key=lambda path: [int(part) for part in numbered[path].split(".")], default="")


# Java -----------------------------------------------------------------------------------------------------------------
def _java_usable(_path: str, resolved: str) -> bool:
    return os.path.basename(resolved) == "java"


def _java_places(environment: Mapping[str, str]) -> Iterable[str]:
    if environment.get("JAVA_HOME"):
        yield os.path.join(environment["JAVA_HOME"], "bin")
    yield from under("/usr/lib/jvm", "*/bin")
    for root in of_home(environment, "SDKMAN_DIR", ".sdkman"):
        yield from under(root, "candidates/java/*/bin")
    for root in of_home(environment, "ASDF_DATA_DIR", ".asdf"):
        yield from under(root, "installs/java/*/bin")
    yield from under(os.path.join(data_home(environment), "mise/installs/java"), "*/bin")


def _java_understood(path: str, said: str) -> dict[str, Any] | None:
    found = _JAVA_SAYS.search(said)
    if found is None:
        return None
    major, minor, micro = (int(part or 0) for part in found.groups())
    return {"major": major, "minor": minor, "micro": micro, "prefix": os.path.dirname(os.path.dirname(path))}


def java_client(_known: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Java's client, as a class path: a directory that holds nothing else; "" where none has all of `JARS`."""
    for place in (_PUBLIC_JARS, os.path.join(data_home(environment), _OWN_JARS)):
        if all(glob.glob(os.path.join(glob.escape(place), f"{jar}-[0-9]*.jar")) for jar in JARS):
            return os.path.join(os.path.realpath(place), "*")
    return ""


def java_release(client: str) -> str:
    """The release of a client in a directory, such as 2.10.1; the oldest where there are more."""
    names = glob.glob(f"{glob.escape(client.removesuffix('/*'))}/{JARS[0]}-[0-9]*.jar")
    releases = [found[1] for name in names if (found := _RELEASE.search(name))]
    return min(releases, key=lambda release: [int(part) for part in release.split(".")], default="")


# Ruby -----------------------------------------------------------------------------------------------------------------
def _ruby_usable(_path: str, resolved: str) -> bool:
    return _RUBY_NAME.fullmatch(os.path.basename(resolved)) is not None


def _ruby_places(environment: Mapping[str, str]) -> Iterable[str]:
    for root in of_home(environment, "RBENV_ROOT", ".rbenv"):
        yield from under(root, "versions/*/bin")
    for root in of_home(environment, "ASDF_DATA_DIR", ".asdf"):
        yield from under(root, "installs/ruby/*/bin")
    for root in of_home(environment, "rvm_path", ".rvm"):
        yield from under(root, "rubies/*/bin")
    yield from under(os.path.join(data_home(environment), "mise/installs/ruby"), "*/bin")


def _ruby_understood(path: str, said: str) -> dict[str, Any] | None:
    engine, version = said.split()
    major, minor, micro = (int(part) for part in version.split("."))
    prefix = os.path.dirname(os.path.dirname(path))
    return {"major": major, "minor": minor, "micro": micro, "prefix": prefix} if engine == "ruby" else None


def ruby_client(known: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """The program of Ruby's client, in the gem's own directory; "" where this Ruby has none."""
    release = f"{known['major']}.{known['minor']}.[0-9]*"
    roots = (
        os.path.join(known["prefix"], "lib/ruby/gems"),
        "/var/lib/gems",
        os.path.join(data_home(environment), "gem/ruby"),
        os.path.join(environment.get("HOME", ""), ".gem/ruby"),
    )
    for root in roots:
        found = newest(glob.glob(os.path.join(glob.escape(root), release, "gems", f"{GEM}-[0-9]*")))
        if found and os.path.isfile(program := os.path.join(found, "bin", GEM)):
            return os.path.realpath(program)
    return ""


MANAGED: Final[Sequence[Language]] = (
    Language(
        name=JAVA,
        opt="j*",
        pattern="java",
        usable=_java_usable,
        more=_java_places,
        # Releases before 9 say it by the standard error only.
        probe=lambda path: ["/bin/sh", "-c", 'exec "$0" -version 2>&1', path],
        understand=_java_understood,
        client=java_client,
    ),
    Language(
        name=RUBY,
        opt="ruby",
        pattern="ruby*",
        usable=_ruby_usable,
        more=_ruby_places,
        probe=lambda path: [path, "--disable-gems", "-e", "puts RUBY_ENGINE, RUBY_VERSION"],
        understand=_ruby_understood,
        client=ruby_client,
    ),
)
