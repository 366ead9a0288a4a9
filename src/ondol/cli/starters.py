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
    """The starter for a runtime id, "web" or "command"; None when there is none. `language`: shell or go, of custom ones."""
    if runtime.startswith("provided.al2"):
        return _custom(runtime, language or "shell")
    if language is not None:
        return None
    options = ("--runtime", runtime)
    if re.fullmatch(r"python3\.\d+", runtime):
        return Starter(files={"app.py": _PYTHON, "event.json": EVENT}, options=options)
    if re.fullmatch(r"nodejs\d+\.x", runtime):
        return Starter(files={"index.mjs": _NODE, "event.json": EVENT}, options=options, needs=("node",))
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
    return None
