"""The same function in each language: what is measured, and what tests of AWS's own clients call.

Called with a text it does what that says: "raise", "exit", "sleep" (a minute), "fill" (all of its memory), "stream" (where its
client can). Anything else it answers as {"event": …, "id": …, "arn": …}, and writes a line. What has to be compiled is built
where its toolchain is, and kept below `.cache/clients` by what it was built from; `Missing` says what is not there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.runtimes.interpreters import Interpreters
from ondol.testing.kept import kept

HERE: Final = Path(__file__).parent
JAVA_CLIENT: Final = "com.amazonaws.services.lambda.runtime.api.client.AWSLambda"

PYTHON: Final = """
import os, time

def handler(event, context):
    if event == "raise":
        raise ValueError("no")
    if event == "exit":
        os._exit(3)
    if event == "sleep":
        time.sleep(60)
    if event == "fill":
        kept = []
        while True:
            kept.append(b"x" * 10_000_000)
    if event == "stream":
        return streamed()
    print("called")
    return {"event": event, "id": context.aws_request_id, "arn": context.invoked_function_arn}

def streamed():
    yield b"first"
    time.sleep(0.02)
    yield b"then"
"""

_NODE: Final = """
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
EXPORT.handler = async (event, context) => {
  if (event === 'raise') throw new RangeError('no');
  if (event === 'exit') process.exit(3);
  if (event === 'sleep') await wait(60_000);
  if (event === 'fill') for (const kept = []; ;) kept.push(Buffer.alloc(10_000_000, 1));
  console.log('called');
  return { event, id: context.awsRequestId, arn: context.invokedFunctionArn };
};
EXPORT.streamed = awslambda.streamifyResponse(async (event, stream) => {
  stream.write('first');
  await wait(20);
  stream.end('then');
});
"""
COMMONJS: Final = _NODE.replace("EXPORT.", "exports.")
ES_MODULE: Final = _NODE.replace("EXPORT.", "export const ")

SHELL: Final = r"""#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
post() { curl -sS -o /dev/null -X POST "$@"; }
while true; do
    curl -sS -D /tmp/headers -o /tmp/event "$api/next"
    id=$(sed -n 's/^lambda-runtime-aws-request-id: *//Ip' /tmp/headers | tr -d '\r')
    arn=$(sed -n 's/^lambda-runtime-invoked-function-arn: *//Ip' /tmp/headers | tr -d '\r')
    case "$(head -c 10 /tmp/event)" in
        '"raise"') post -d '{"errorType": "Function.No", "errorMessage": "no"}' "$api/$id/error" ;;
        '"exit"') exit 3 ;;
        '"sleep"') sleep 60 ;;
        '"fill"') exec tail /dev/zero ;;
        '"stream"')
            { printf first; sleep 0.02; printf then; } |
                post -T - -H 'Lambda-Runtime-Function-Response-Mode: streaming' "$api/$id/response" ;;
        *)
            echo called
            { printf '{"event": '; cat /tmp/event; printf ', "id": "%s", "arn": "%s"}' "$id" "$arn"; } >/tmp/answer
            post --data-binary @/tmp/answer "$api/$id/response" ;;
    esac
done
"""


class Missing(Exception):
    """What a program is built or run with is not on this machine; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One language's function."""

    name: str
    runtime: str
    handler: str
    #: Makes the archive's files, by name. Raises Missing.
    files: Callable[[], Mapping[str, str | bytes]]
    memory_mib: int = 128
    #: Its client can answer in parts; by which handler, where that is another.
    streams: bool = True
    stream_handler: str = ""
    #: How often its first call is measured, in comparison.
    weight: float = 1.0


def needs(*tools: str) -> None:
    """Raises Missing where one of these commands is not on this machine."""
    for tool in tools:
        if shutil.which(tool) is None:
            raise Missing(f"no {tool} on this machine")


def built(language: str, build: Callable[[Path], None], *results: str) -> list[Path]:
    """What `build` makes of a copy of a language's sources; made once for all that ask at the same time, or later."""
    source = HERE / language
    contents = b"".join(path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file())

    def make(place: Path) -> None:
        shutil.copytree(source, place, dirs_exist_ok=True)
        build(place)

    place = kept(f"{language}-{hashlib.sha256(contents).hexdigest()[:12]}", make)
    return [path for pattern in results for path in sorted(place.glob(pattern))]


def _run(*words: str, at: Path, **variables: str) -> None:
    ran = subprocess.run(words, cwd=at, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(words)}: {ran.stdout[-2000:]}{ran.stderr[-2000:]}")


def go() -> dict[str, str | bytes]:
    needs("go")
    made = built(
        "go",
        lambda at: _run("go", "build", "-tags", "lambda.norpc", "-o", "bootstrap", ".", at=at, CGO_ENABLED="0"),
        "bootstrap",
    )
    return {"bootstrap": made[0].read_bytes()}


def rust() -> dict[str, str | bytes]:
    needs("cargo")

    def build(at: Path) -> None:
        _run("cargo", "build", "--quiet", "--locked", "--release", at=at, CARGO_TARGET_DIR=str(at / "target"))

    return {"bootstrap": built("rust", build, "target/release/bootstrap")[0].read_bytes()}


def jars() -> list[Path]:
    """The function's own archive, and those that its client consists of."""
    needs("mvn", "java")
    goals = ("package", "dependency:copy-dependencies", "-DincludeScope=runtime")
    return built("java", lambda at: _run("mvn", "-q", "-B", *goals, at=at), "target/*.jar", "target/dependency/*.jar")


def java() -> dict[str, str | bytes]:
    made = jars()
    program = Path(shutil.which("java") or "").resolve()
    if not program.is_relative_to("/usr"):
        raise Missing(f"{program} is not below /usr, so no function sees it")
    start = (
        f'#!/bin/sh\nexec {program} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "/var/task/lib/*" {JAVA_CLIENT} "$_HANDLER"\n'
    )
    return {"bootstrap": start, **{f"lib/{jar.name}": jar.read_bytes() for jar in made}}


def shell() -> dict[str, str | bytes]:
    if not os.path.exists("/usr/bin/curl"):
        raise Missing("no /usr/bin/curl on this machine")
    return {"bootstrap": SHELL}


def programs() -> list[Program]:
    """One for each language, and for each Python and the newest Node.js that are here."""
    found = Interpreters.discover()
    pythons = [
        Program(
            name=f"Python {each.major}.{each.minor}", runtime=each.name, handler="app.handler", files=lambda: {"app.py": PYTHON}
        )
        for each in found.all()
    ]
    nodes = [
        Program(
            name=f"Node.js {each.major}, {kind}", runtime=each.name, handler="index.handler", stream_handler="index.streamed",
            files=lambda file=file, text=text: {file: text},  # type: ignore[misc]  # bound now, not when it is called
        )
        for each in found.all("nodejs")[-1:]
        for kind, file, text in (("CommonJS", "index.js", COMMONJS), ("ES module", "index.mjs", ES_MODULE))
    ]  # fmt: skip
    custom = "provided.al2023"
    return [
        *pythons,
        *nodes,
        Program(name="Go", runtime=custom, handler="bootstrap", files=go),
        Program(name="Rust", runtime=custom, handler="bootstrap", files=rust, stream_handler="streamed"),
        Program(
            name="Java", runtime=custom, handler="example.Handler::handleRequest", files=java, memory_mib=512, streams=False,
            weight=0.4,
        ),
        Program(name="a shell's bootstrap", runtime=custom, handler="bootstrap", files=shell),
    ]  # fmt: skip
