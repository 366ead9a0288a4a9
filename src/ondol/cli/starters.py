"""What a new function begins with, per runtime: a folder's files and how it is deployed. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

EVENT: Final = '{"name": "Ada"}\n'

_PYTHON: Final = '''"""A function: called with an event, answers with what becomes JSON."""


def handler(event, context):
    name = event.get("name", "world")
    print(f"greeting {name}")
    return {"greeting": f"Hello, {name}."}
'''

_NODE: Final = """// A function: called with an event, answers with what becomes JSON.
export const handler = async (event, context) => {
  const name = event.name ?? "world";
  console.log(`greeting ${name}`);
  return { greeting: `Hello, ${name}.` };
};
"""

_SHELL: Final = """#!/bin/sh
# A custom runtime: takes one event after the other from the Runtime API, and answers each. Needs curl and sed.
set -eu
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while true; do
    event=$(curl -sS -D /tmp/headers "$api/next")
    id=$(sed -n 's/^lambda-runtime-aws-request-id: *//Ip' /tmp/headers | tr -d '\\r')
    echo "greeting $event" >&2
    curl -sS -X POST -d "{\\"greeting\\": \\"Hello from a shell.\\", \\"event\\": $event}" "$api/$id/response" >/dev/null
done
"""

_GO: Final = """package main

import (
	"context"
	"log"

	"github.com/aws/aws-lambda-go/lambda"
)

type event struct {
	Name string `json:"name"`
}

type answer struct {
	Greeting string `json:"greeting"`
}

func handle(ctx context.Context, e event) (answer, error) {
	log.Printf("greeting %s", e.Name)
	return answer{Greeting: "Hello, " + e.Name + "."}, nil
}

func main() {
	lambda.Start(handle)
}
"""

_GO_BUILD: Final = """#!/bin/sh
# Makes dist/bootstrap, which is what is deployed.
set -eu
cd "$(dirname "$0")"
mkdir -p dist
[ -f go.mod ] || go mod init function
go mod tidy
CGO_ENABLED=0 go build -tags lambda.norpc -o dist/bootstrap .
cp event.json dist/
"""

_RUST: Final = """use lambda_runtime::{run, service_fn, Error, LambdaEvent};
use serde_json::{json, Value};

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let name = event.payload["name"].as_str().unwrap_or("world");
    println!("greeting {name}");
    Ok(json!({"greeting": format!("Hello, {name}.")}))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(handle)).await
}
"""

_RUST_CRATE: Final = """[package]
name = "bootstrap"
version = "0.1.0"
edition = "2021"

[dependencies]
lambda_runtime = { version = "1", default-features = false }
serde_json = "1"
tokio = { version = "1", features = ["rt", "macros"] }

[profile.release]
strip = true
"""

_RUST_BUILD: Final = """#!/bin/sh
# Makes dist/bootstrap, which is what is deployed.
set -eu
cd "$(dirname "$0")"
mkdir -p dist
cargo build --quiet --release
cp "${CARGO_TARGET_DIR:-target}/release/bootstrap" event.json dist/
"""

_JAVA: Final = """package function;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.Map;

public class Handler implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    @Override
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        Object name = event.getOrDefault("name", "world");
        System.out.println("greeting " + name);
        return Map.of("greeting", "Hello, " + name + ".");
    }
}
"""

_JAVA_POM: Final = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>function</groupId>
  <artifactId>function</artifactId>
  <version>1</version>
  <properties>
    <maven.compiler.source>{release}</maven.compiler.source>
    <maven.compiler.target>{release}</maven.compiler.target>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <dependencies>
    <dependency>
      <groupId>com.amazonaws</groupId>
      <artifactId>{artifact}</artifactId>
      <version>{version}</version>
    </dependency>
  </dependencies>
</project>
"""

_JAVA_BUILD: Final = """#!/bin/sh
# Makes dist/, which is what is deployed: the function and all that it needs in dist/lib.
set -eu
cd "$(dirname "$0")"
mkdir -p dist
mvn -q -B package dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=dist/lib
cp target/function-1.jar dist/lib/
cp event.json dist/
"""

_JAVA_BOOTSTRAP: Final = """#!/bin/sh
# Runs the client of the Runtime API, which is in lib/ with the function.
exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "/var/task/lib/*" \\
    com.amazonaws.services.lambda.runtime.api.client.AWSLambda "$_HANDLER"
"""

#: What the starters are built from: an artifact of AWS's and its release.
_JAVA_CORE: Final = ("aws-lambda-java-core", "1.4.0")
_JAVA_CLIENT: Final = ("aws-lambda-java-runtime-interface-client", "2.10.1")

_WSGI: Final = '''"""A web application (WSGI): any framework's `app` goes in its place."""


def app(environ, start_response):
    start_response("200 OK", [("content-type", "text/plain")])
    yield b"Hello, "
    yield environ["PATH_INFO"].strip("/").encode("latin-1") or b"world"
    yield b".\\n"
'''

_COMMAND: Final = '''"""A program that listens on $PORT: any language's server goes in its place."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"Hello from a server.\\n"
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Starter:
    """Files by name, which of them are programs, and what follows `ondol deploy FOLDER`."""

    files: dict[str, str]
    programs: frozenset[str] = frozenset()
    #: Below the new folder: what is deployed.
    deployed: str = ""
    options: tuple[str, ...] = ()
    #: A program of the folder that has to run first, and again after each change.
    build: str = ""
    #: Programs that it needs on this machine.
    needs: tuple[str, ...] = field(default=())


_SERVERS: Final = {
    "web": Starter(files={"app.py": _WSGI}, options=("--contract", "web")),
    "command": Starter(files={"server.py": _COMMAND}, options=("--contract", "web", "--command", "python3 server.py")),
}


def starter(runtime: str, language: str | None) -> Starter | None:
    """The starter for a runtime id, "web" or "command"; None when there is none. `language`: of custom ones."""
    if runtime.startswith("provided.al2"):
        return _custom(runtime, language or "shell")
    if language is not None:
        return None
    options = ("--runtime", runtime)
    if re.fullmatch(r"python3\.\d+", runtime):
        return Starter(files={"app.py": _PYTHON, "event.json": EVENT}, options=options)
    if re.fullmatch(r"nodejs\d+\.x", runtime):
        return Starter(files={"index.mjs": _NODE, "event.json": EVENT}, options=options, needs=("node",))
    if (java := re.fullmatch(r"java(\d+)(\.al2|\.al2023)?", runtime)) is not None:
        return _java(runtime, java[1], _JAVA_CORE, {}, _JAVA_BUILD)
    return _SERVERS.get(runtime)


def _custom(runtime: str, language: str) -> Starter | None:
    options = ("--runtime", runtime, "--handler", "bootstrap")
    if language == "shell":
        files = {"bootstrap": _SHELL, "event.json": EVENT}
        return Starter(files=files, programs=frozenset({"bootstrap"}), options=options, needs=("curl",))
    if language == "go":
        return Starter(
            files={"main.go": _GO, "build.sh": _GO_BUILD, "event.json": EVENT},
            programs=frozenset({"build.sh"}), deployed="dist", options=options, build="build.sh", needs=("go",),
        )  # fmt: skip
    if language == "rust":
        files = {"src/main.rs": _RUST, "Cargo.toml": _RUST_CRATE, "build.sh": _RUST_BUILD, "event.json": EVENT}
        return Starter(
            files=files, programs=frozenset({"build.sh"}), deployed="dist", options=options, build="build.sh", needs=("cargo",),
        )  # fmt: skip
    if language == "java":
        return _java(runtime, "11", _JAVA_CLIENT, {"bootstrap": _JAVA_BOOTSTRAP}, f"{_JAVA_BUILD}cp bootstrap dist/\n")
    return None


def _java(runtime: str, release: str, needs: tuple[str, str], more: dict[str, str], build: str) -> Starter:
    """`needs`: artifact and release that the function is built from."""
    pom = _JAVA_POM.format(release=release, artifact=needs[0], version=needs[1])
    files = {"src/main/java/function/Handler.java": _JAVA, "pom.xml": pom, "build.sh": build, "event.json": EVENT, **more}
    return Starter(
        files=files,
        programs=frozenset({"build.sh", *more}),
        deployed="dist",
        options=("--runtime", runtime, "--handler", "function.Handler::handleRequest", "--memory", "512"),
        build="build.sh",
        needs=("mvn", "java"),
    )
