"""Which levels this machine gives besides the keeper's: each tool that is installed is tried by starting a small guest with it.

For `ondol doctor` and for the node's start. A try is a child that stages a view of its own in namespaces of its own, so nothing
of it stays. Knows nothing of lines. Blocks: up to TRY_S_MAX seconds for each thing tried.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ondol.disk import write_whole
from ondol.keeper import probe_limits
from ondol.keeper.cgroups import Cgroups
from ondol.keeper.trying import Finding
from ondol.launcher.tools import TOOLS, Tool

TRY_S_MAX = 20.0
VERSION_S_MAX = 5.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: gVisor's ways of catching system calls: what the program takes by itself first.
_PLATFORMS = ("", "systrap", "ptrace")
_MEANS = {
    "process": "plain processes with limits: stops accidents only, for development",
    "bwrap": "the sandbox's walls, put up by bubblewrap",
    "crun": "the sandbox's walls, put up by an OCI runtime",
    "gvisor": "system calls are answered by gVisor's kernel, not the machine's",
}
_GET = {
    "bwrap": "apt install bubblewrap (Debian, Ubuntu), dnf install bubblewrap (Fedora)",
    "crun": "apt install crun (Debian, Ubuntu), dnf install crun (Fedora)",
    "gvisor": "apt install runsc (Debian), or put the program runsc from gvisor.dev into /usr/local/bin",
}


@dataclass(frozen=True)
class Found:
    """One level."""

    level: str
    ok: bool
    #: Version, what it means, and the failure where there is one.
    detail: str
    mend: str = ""
    program: str = ""
    options: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """As the launcher's `--level` wants it."""
        return "=".join(filter(None, (self.level, self.program, " ".join(self.options))))


def find(levels: Sequence[str] = tuple(TOOLS), cache: Path | None = None) -> dict[str, Found]:
    """What there is, by level. `cache` keeps what was tried, and is believed while program, kernel and user are the same."""
    known = _read(cache)

    def look(level: str) -> tuple[list[Any], Found]:
        program = shutil.which(TOOLS[level].program, path=_PATH) if TOOLS[level].program else ""
        stamp = _stamp(program)
        return stamp, _believed(level, program, stamp, known.get(level)) or _look(level, program)

    groups = probe_limits.groups() if any(TOOLS[level].needs_memory_group for level in levels) else None
    with ThreadPoolExecutor(len(TOOLS)) as threads:  # they wait for processes, all of them
        looked = dict(zip(levels, threads.map(look, levels), strict=True))
    facts = {
        level: {"stamp": stamp, "options": list(found.options), "detail": found.detail}
        for level, (stamp, found) in looked.items()
        if found.ok
    }
    if cache is not None and facts != known:
        with suppress(OSError):  # then it is tried again the next time
            write_whole(cache, json.dumps(facts).encode())
    return {level: _bounded(found, groups) for level, (_, found) in looked.items()}


def _bounded(found: Found, groups: Cgroups | None) -> Found:
    """Not to be had where nothing would bound its functions' memory. Never believed: who starts a node chooses its group."""
    if not found.ok or not TOOLS[found.level].needs_memory_group or groups is None or "memory" in groups.controllers:
        return found
    detail = f"{found.detail}; but nothing would bound the memory of its functions: {groups.missing}"
    return replace(found, ok=False, detail=detail, mend=probe_limits.how_to_mend("memory", groups))


def _believed(level: str, program: str | None, stamp: list[Any], kept: Any) -> Found | None:
    """What was found before. The file lies where front and desk may write: what root will execute is not taken from it."""
    if not isinstance(kept, dict) or kept.get("stamp") != stamp or program is None:
        return None
    options = next((each for each in _choices(level) if list(each) == kept.get("options")), None)
    if options is None:
        return None
    return Found(level, ok=True, detail=str(kept.get("detail")), program=program, options=options)


def findings(found: Mapping[str, Found]) -> list[Finding]:
    """For the doctor."""
    return [
        Finding(f"isolation level {one.level}", ok=one.ok, needed=False, detail=one.detail, mend=one.mend, means=_without(one))
        for one in found.values()
    ]


def _without(one: Found) -> str:
    return "" if one.ok else f"neither a node nor a function can ask for it ({_MEANS[one.level]})"


def word(level: str) -> str:
    """`level` as the launcher's `--level` wants it. Raises OSError where it cannot be had."""
    found = find([level])[level]
    if not found.ok:
        raise OSError(f"{level}: {found.detail}. {found.mend}")
    return found.word


def _look(level: str, program: str | None) -> Found:
    means = _MEANS[level]
    if level == "process":
        return Found(level, ok=True, detail=means)
    if program is None:
        return Found(level, ok=False, detail=f"{TOOLS[level].program} is not installed", mend=_GET[level])
    version = _version(program)
    said = []
    for options in _choices(level):
        failure = _try(replace(TOOLS[level], program=program, options=options))
        if not failure:
            detail = f"{version} at {program}: {means}"
            return Found(level, ok=True, detail=detail, program=program, options=options)
        said.append(failure if not options else f"with {' '.join(options)}: {failure}")
    mend = "it is installed and starts nothing here: `ondol doctor` as root, or outside a container, may tell more"
    return Found(level, ok=False, detail=f"{version} at {program} does not work: {'; '.join(said)}", mend=mend)


def _choices(level: str) -> list[tuple[str, ...]]:
    if level != "gvisor":
        return [()]
    return [(f"-platform={platform}",) if platform else () for platform in _PLATFORMS]


def _version(program: str) -> str:
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=VERSION_S_MAX, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"version unknown ({error})"
    return (done.stdout.strip() or done.stderr.strip() or "version unknown").splitlines()[0]


def _try(tool: Tool) -> str:
    """Why `tool` starts no guest here; empty when it does. A launcher of its own is started, as a node does."""
    top = Path(tempfile.mkdtemp(prefix="ondol-try-"))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, tempfile.TemporaryFile() as said:
        (top / "code").mkdir()
        (top / "ondol_guest").mkdir()
        (top / "ondol_guest" / "launched.py").write_text("import os\nos.write(0, b'+')\nos.read(0, 1)\n")
        top.chmod(0o755)
        interpreter = os.path.realpath(sys.executable)
        main = Path(__file__).with_name("__main__.py")
        command = [sys.executable, "-I", "-S", str(main), "--supervisor-fd", str(theirs.fileno()), "--data", str(top)]
        command += ["--node-id", f"try{os.getpid()}{tool.level}", "--disks", "none", "--interpreters", interpreter]
        command += ["--runtime", f"ondol_guest={top / 'ondol_guest'}"]
        command += ["--level", Found(tool.level, ok=True, detail="", program=tool.program, options=tool.options).word]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        theirs.close()
        try:
            failure = _converse(ours, tool.level, interpreter)
        finally:
            _end(process, ours)
            shutil.rmtree(top, ignore_errors=True)
        if failure and not failure.strip("."):
            said.seek(0)
            failure = said.read(2000).decode("utf-8", "replace").strip() or "nothing came up"
    return failure


def _converse(supervisor: socket.socket, level: str, interpreter: str) -> str:
    """Ask for one guest. What went wrong; "." where only the launcher's own messages can tell."""
    line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with line:
        with theirs:
            socket.send_fds(supervisor, [b'{"line":"front"}'], [theirs.fileno()])
        # Of its own: gVisor names a socket of the whole machine by it, and another node may be trying.
        shell = f"try-{secrets.token_hex(4)}"
        wanted = {"n": 1, "op": "prepare", "account": "0", "shell": shell, "level": level, "interpreter": interpreter}
        wanted["network"] = TOOLS[level].networks[0]
        line.send(json.dumps(wanted).encode())
        while _readable(line, TRY_S_MAX):
            try:
                data, fds, _, _ = socket.recv_fds(line, 65536, 8)
            except OSError:
                data, fds = b"", []
            for fd in fds:
                os.close(fd)
            told = json.loads(data) if data else {"n": 1, "message": "."}
            if "n" in told:  # the end of a guest is told in front of the answer
                return str(told.get("message", ""))
        return f"no guest came up within {TRY_S_MAX:g} s"


def _readable(sock: socket.socket, seconds: float) -> bool:
    return bool(select.select([sock], [], [], seconds)[0])


def _end(process: subprocess.Popen[bytes], supervisor: socket.socket) -> None:
    supervisor.close()
    try:
        process.wait(TRY_S_MAX)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _stamp(program: str | None) -> list[Any]:
    """What a finding holds for."""
    facts = os.stat(program) if program else None
    return [program, facts and facts.st_mtime_ns, facts and facts.st_size, os.uname().release, os.geteuid()]


def _read(cache: Path | None) -> dict[str, Any]:
    try:
        known = json.loads(cache.read_text()) if cache is not None else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
