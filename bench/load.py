"""Load from wrk: distinct, pre-signed requests, and what came of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

#: Looks at each answer. Costs the generator time, so it is for warming, not for measuring.
LUA_VERIFY = """
bad, said = 0, ""
seen = {}
function setup(thread) seen[#seen + 1] = thread end
function response(status, headers, body)
  local failed = headers["X-Amz-Function-Error"] or headers["x-amz-function-error"]
  if status ~= 200 or failed or not body:find("hello") then
    bad = bad + 1
    if bad == 1 then said = status .. " " .. body:sub(1, 300) end
  end
end
"""

LUA = """
local requests, at = {}, 0
function init(args)
  local file = assert(io.open(args[1], "rb"))
  while true do
    local size = file:read("*n")
    if not size then break end
    file:read(1)
    requests[#requests + 1] = file:read(size)
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary, latency)
  local bad = 0
  for _, thread in ipairs(seen or {}) do
    bad = bad + thread:get("bad")
    if thread:get("said") ~= "" then io.write("BAD " .. thread:get("said") .. "\\n") end
  end
  io.write(string.format("RESULT %d %d %d %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), summary.errors.status, summary.errors.timeout,
    summary.errors.connect + summary.errors.read + summary.errors.write, bad))
end
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One run of the load."""

    requests: int
    seconds: float
    p50_us: int
    p99_us: int
    failed: int
    #: The first wrong answer, when answers were looked at.
    wrong: str = ""

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds


def available() -> str | None:
    """Why there is no load generator, or None."""
    if shutil.which("wrk"):
        return None
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(
            ["apt-get", "install", "-y", "-q", "wrk"],
            capture_output=True,
            check=False,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
    return None if shutil.which("wrk") else "wrk is missing: apt-get install wrk"


def run(
    url: str, requests: Sequence[bytes], *, connections: int, seconds: int, pin: str | None = None, verify: bool = False
) -> Result:
    """Send `requests` round and round over `connections` keep-alive connections; wrk counts in whole seconds."""
    with tempfile.TemporaryDirectory(prefix="ondol-bench-") as folder:
        script, data = Path(folder, "load.lua"), Path(folder, "requests")
        script.write_text((LUA_VERIFY if verify else "") + LUA)
        data.write_bytes(b"".join(b"%d\n%s" % (len(request), request) for request in requests))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10", "-s", script, url, "--", data]
        if pin is not None:
            command = ["taskset", "-c", pin, *command]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    return parse(done.stdout + done.stderr)


def parse(output: str) -> Result:
    """What the last line of our script says."""
    found = re.search(r"^RESULT((?: \d+){8})$", output, re.MULTILINE)
    if not found:
        raise RuntimeError(f"wrk said nothing of use:\n{output}")
    count, duration_us, p50, p99, *errors = (int(part) for part in found[1].split())
    bad = re.search(r"^BAD (.*)$", output, re.MULTILINE)
    return Result(count, duration_us / 1e6, p50, p99, sum(errors), bad[1] if bad else "")


def plain(url: str, body: bytes) -> list[bytes]:
    """One unsigned POST."""
    parts = urlsplit(url)
    head = f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return [head.encode() + body]


def signed(
    url: str,
    bodies: Sequence[bytes],
    *,
    key: str,
    secret: str,
    region: str,
    service: str,
    headers: Mapping[str, str] | None = None,
) -> list[bytes]:
    """One signed POST per body, by botocore's own signer."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    signer = SigV4Auth(Credentials(key, secret), service, region)
    parts = urlsplit(url)
    made = []
    for body in bodies:
        request = AWSRequest(method="POST", url=url, data=body, headers={"Host": parts.netloc, **(headers or {})})
        signer.add_auth(request)
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        made.append(f"POST {parts.path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return made
