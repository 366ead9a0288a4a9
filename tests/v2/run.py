"""`make test-v2`: the tests of isolation in a guest whose control groups are version 2 only, as root and as an ordinary user.

    python tests/v2/run.py [--runs root,unit,container,user] [--tests "FILE ..."] [--minutes-max N] [-- PYTEST ARGUMENT ...]

The guest is a QEMU machine without KVM (so it runs wherever QEMU does, ten to twenty times slower than its host) with Debian's
cloud kernel. It has no network. Its console is shown as it comes; the reports are left beside the image, in JUnit's format.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import image

#: What functions see of it through a whole node, and what they try against it. The attacks that are left out (on the lines to
#: the node, its listener, its keys) meet neither control groups nor the kernel.
NODE_TESTS = (
    "tests/e2e/test_handlers.py",
    "tests/e2e/attacks/test_exhaustion.py",
    "tests/e2e/attacks/test_neighbours.py",
    "tests/e2e/attacks/test_kernel_surface.py",
    "tests/e2e/attacks/test_escape.py",
)
#: What depends on control groups, on who runs the node, or on the kernel.
ROOT_TESTS = (
    "tests/unit/test_keeper_cgroups.py",
    "tests/e2e/test_shells_isolation.py",
    "tests/e2e/test_shells_life.py",
    "tests/e2e/test_shells_killed.py",
    "tests/e2e/test_shells_cgroups.py",
    "tests/e2e/test_doctor.py",
    "tests/e2e/test_kills.py",
    *NODE_TESTS,
)
USER_TESTS = (
    "tests/unit/test_keeper_cgroups.py",
    "tests/e2e/test_shells_isolation.py",
    "tests/e2e/test_shells_life.py",
    "tests/e2e/test_shells_killed.py",
    "tests/e2e/test_shells_cgroups.py",
    *NODE_TESTS,
)
#: For places that differ in nothing but the group they are in.
GROUP_TESTS = ("tests/e2e/test_shells_cgroups.py",)
RUNS = ("root", "unit", "container", "user")
#: How much more time than usual the tests give what they wait for.
PATIENCE = "10"
MEMORY_MIB, CPUS = 4096, 2
CACHE = image.PROJECT / ".cache" / "v2"
REPORTS = CACHE / "reports"


def main(argv: list[str]) -> int:
    options = _options(argv)
    try:
        image.install_what_is_missing()
        root = image.root_image(CACHE)
        _write_settings(options)
        project = image.project_disk(CACHE, sys.executable)
    except image.Missing as missing:
        print(f"test-v2: {missing}", file=sys.stderr)
        return 2
    REPORTS.mkdir(parents=True, exist_ok=True)
    said = REPORTS / "said"
    said.unlink(missing_ok=True)
    _boot(root, project, said, options.minutes_max)
    return _verdict(said.read_bytes() if said.exists() else b"", options.runs.split(","))


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/v2/run.py", description="The tests of isolation under control groups v2.")
    parser.add_argument("--runs", default=",".join(RUNS), help="as whom and where: any of %(default)s")
    parser.add_argument("--tests", default="", help="other tests than the usual ones")
    parser.add_argument("--minutes-max", type=int, default=300, help="the guest is ended after this long (%(default)s)")
    parser.add_argument("arguments", nargs="*", metavar="PYTEST-ARGUMENT")
    return parser.parse_args(argv)


def _write_settings(options: argparse.Namespace) -> None:
    """What the guest's script reads, put among the project's files."""
    names = {
        "RUNS": options.runs,
        "ROOT_TESTS": options.tests or " ".join(ROOT_TESTS),
        "GROUP_TESTS": options.tests or " ".join(GROUP_TESTS),
        "USER_TESTS": options.tests or " ".join(USER_TESTS),
        "ARGUMENTS": shlex.join(options.arguments or ["-v", "--tb=short", "--color=no"]),
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in names.items()]
    image.SETTINGS.write_text("\n".join([*lines, f"export ONDOL_TEST_PATIENCE={PATIENCE}", ""]))


def _boot(root: image.Image, project: Path, said: Path, minutes_max: int) -> None:
    """Run the guest to its end, and show its console."""
    kernel = "root=/dev/vda rw console=ttyS0 quiet loglevel=3 systemd.show_status=0 panic=-1 mitigations=off"
    command = [
        *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(CPUS), "-m", str(MEMORY_MIB)),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio", "-serial", f"file:{said}"),
        *("-kernel", str(root.kernel), "-initrd", str(root.initrd), "-append", kernel),
        *("-drive", f"file={root.root},if=virtio,format=raw,snapshot=on"),
        *("-drive", f"file={project},if=virtio,format=raw,readonly=on"),
        *("-device", "virtio-rng-pci"),
    ]
    print(f"booting the guest ({CPUS} CPUs, {MEMORY_MIB} MiB) ...", flush=True)
    environment = {**os.environ, "TMPDIR": str(CACHE)}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment) as guest:
        limit = threading.Timer(minutes_max * 60, guest.kill)
        limit.start()
        before = signal.signal(signal.SIGTERM, lambda *_: guest.kill())
        try:
            assert guest.stdout is not None
            for line in guest.stdout:
                sys.stdout.write(line.decode(errors="replace").replace("\r", ""))
                sys.stdout.flush()
        finally:
            limit.cancel()
            guest.kill()
            signal.signal(signal.SIGTERM, before)


def _verdict(said: bytes, runs: list[str]) -> int:
    """Write the reports down, say a line for each run, and give the worst status."""
    worst = 0
    for run in runs:
        told = re.search(rb"^run %s (\d+)$" % run.encode(), said, re.MULTILINE)
        if told is None:
            print(f"test-v2: {run}: the guest ended before its tests did")
            worst = max(worst, 1)
            continue
        counts, report = "no report", re.compile(rb"report %s (\d+)\n" % run.encode()).search(said)
        if report is not None:
            text = said[report.end() : report.end() + int(report[1])]
            (REPORTS / f"{run}.xml").write_bytes(text)
            suite = next(iter(ElementTree.fromstring(text).iter("testsuite"))).attrib
            bad = int(suite["failures"]) + int(suite["errors"])
            passed = int(suite["tests"]) - bad - int(suite["skipped"])
            counts = f"{passed} passed, {bad} failed, {suite['skipped']} skipped in {float(suite['time']):.0f} s"
        print(f"test-v2: {run}: {counts}; pytest's status {told[1].decode()}; {REPORTS / run}.xml")
        worst = max(worst, int(told[1]))
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
