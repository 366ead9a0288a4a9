"""Load from wrk: distinct, pre-signed requests, and what came of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

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
local bad = 0
function response(status) if status ~= 200 then bad = bad + 1 end end
function done(summary, latency)
  io.write(string.format("RESULT %d %d %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), summary.errors.status, summary.errors.timeout,
    summary.errors.connect + summary.errors.read + summary.errors.write))
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

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds


def available() -> str | None:
    """Why there is no load generator, or None."""
    return None if shutil.which("wrk") else "wrk is missing: apt-get install wrk"


def run(url: str, requests: Sequence[bytes], *, connections: int, seconds: float, pin: str | None = None) -> Result:
    """Send `requests` round and round over `connections` keep-alive connections."""
    with tempfile.TemporaryDirectory() as folder:
        script, data = Path(folder, "load.lua"), Path(folder, "requests")
        script.write_text(LUA)
        data.write_bytes(b"".join(b"%d\n%s" % (len(request), request) for request in requests))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10", "-s", script, url, "--", data]
        if pin is not None:
            command = ["taskset", "-c", pin, *command]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if not found:
        raise RuntimeError(f"wrk said nothing of use:\n{output}")
    count, duration_us, p50, p99, *errors = (int(part) for part in found.groups())
    return Result(count, duration_us / 1e6, p50, p99, sum(errors))


def plain(url: str, body: bytes) -> list[bytes]:
    """One unsigned POST."""
    parts = urlsplit(url)
    head = f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return [head.encode() + body]


def signed(url: str, bodies: Sequence[bytes], *, key: str, secret: str, region: str, service: str) -> list[bytes]:
    """One signed POST per body, by botocore's own signer."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    signer = SigV4Auth(Credentials(key, secret), service, region)
    parts = urlsplit(url)
    made = []
    for body in bodies:
        request = AWSRequest(method="POST", url=url, data=body, headers={"Host": parts.netloc})
        signer.add_auth(request)
        headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        made.append(f"POST {parts.path} HTTP/1.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return made
