"""What the guest of `make test-v2` boots: a Debian root with its cloud kernel, made once, and a disk with the project, made anew.

Both lie in a cache directory under names that say what they are made of, so that a change makes another one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SUITE, PYTHON = "bookworm", "3.11"
#: systemd as PID 1 with its D-Bus and PAM parts, so that an ordinary user gets a manager of its own; what the tests call.
PACKAGES = (
    "linux-image-cloud-amd64",
    "systemd-sysv",
    "dbus-user-session",
    "libpam-systemd",
    "python3",
    "python3-pip",
    "e2fsprogs",
    "procps",
    "iproute2",
    "zstd",
)
#: What the tests that run in the guest import, besides the project's own dependencies.
TEST_PACKAGES = ("pytest", "pytest-asyncio", "pytest-timeout", "pytest-xdist")
USER, UID = "ondol", 1000
ROOT_MIB, SPARE_MIB = 3072, 64
#: Programs of the host that this takes, with the Debian packages that have them.
NEEDED = {"qemu-system-x86_64": "qemu-system-x86", "mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs"}
PROJECT = Path(__file__).resolve().parents[2]
#: Read by the guest; no file of the project's.
SETTINGS = PROJECT / ".cache" / "v2" / "settings"

_UNIT = """\
[Unit]
Description=The tests of make test-v2
After=systemd-user-sessions.service systemd-logind.service dbus.service
[Service]
Type=oneshot
ExecStartPre=/bin/mount -o ro LABEL=project /opt/project
ExecStart=/bin/sh /opt/project/tests/v2/inside.sh
ExecStopPost=/bin/systemctl --no-block poweroff
StandardInput=null
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
TimeoutStartSec=infinity
LimitNOFILE=65536
[Install]
WantedBy=multi-user.target
"""
_CUSTOMIZE = (
    'echo ondol-v2 > "$1/etc/hostname"',
    'echo "127.0.0.1 localhost ondol-v2" > "$1/etc/hosts"',
    f'chroot "$1" useradd --create-home --uid {UID} --shell /bin/bash {USER}',
    f'mkdir -p "$1/var/lib/systemd/linger" "$1/opt/project" && touch "$1/var/lib/systemd/linger/{USER}"',
    f'echo /opt/project/site > "$1/usr/lib/python3/dist-packages/project.pth"',
    'echo /opt/project/src >> "$1/usr/lib/python3/dist-packages/project.pth"',
    'chroot "$1" systemctl mask serial-getty@ttyS0.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer',
    'chroot "$1" systemctl mask systemd-timesyncd.service e2scrub_all.timer e2scrub_reap.service fstrim.timer',
    'chroot "$1" systemctl enable ondol-v2.service',
)


class Missing(Exception):
    """Something of the host is not there, and cannot be installed by us."""


@dataclass(frozen=True)
class Image:
    """A root file system, never written to, and how it is booted."""

    root: Path
    kernel: Path
    initrd: Path


def install_what_is_missing() -> None:
    """With apt, as root. Raises Missing."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [package for program, package in NEEDED.items() if shutil.which(program, path=path) is None]
    if not missing:
        return
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=600", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing(f"make test-v2 needs {', '.join(missing)}: run it as root, or first: sudo {' '.join(command)}")
    print(f"installing {', '.join(missing)} ...", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "-o", "DPkg::Lock::Timeout=600", "update", "-qq"], command):
        ran = subprocess.run(step, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ran.returncode != 0:
        raise Missing(f"{' '.join(command)} failed: {ran.stdout[-2000:]}")


def root_image(cache: Path) -> Image:
    """The root file system, made when there is none of this kind. Takes some minutes."""
    made_of = repr((SUITE, PACKAGES, _UNIT, _CUSTOMIZE, ROOT_MIB))
    place = cache / f"root-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    image = Image(place / "root.ext4", place / "vmlinuz", place / "initrd.img")
    with _locked(cache):
        if not place.exists():
            _make_root(place)
    return image


def _make_root(place: Path) -> None:
    if os.geteuid() != 0:
        raise Missing("making the guest's root file system needs root; run make test-v2 as root once")
    print(f"making the guest's root file system (Debian {SUITE}; once, some minutes) ...", flush=True)
    making = place.with_suffix(".new")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    tree, unit = making / "tree", making / "ondol-v2.service"
    unit.write_text(_UNIT)
    hooks = [f"--customize-hook=copy-in {unit} /etc/systemd/system"]
    hooks += [f"--customize-hook={each}" for each in _CUSTOMIZE]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", *hooks]
    command += ['--aptopt=Acquire::Languages "none"', SUITE, str(tree)]
    subprocess.run(command, check=True)
    for name, wanted in (("vmlinuz", "vmlinuz-*"), ("initrd.img", "initrd.img-*")):
        shutil.copy(max((tree / "boot").glob(wanted)), making / name)
    _filesystem(making / "root.ext4", tree, "root", ROOT_MIB)
    shutil.rmtree(tree)
    making.rename(place)


def project_disk(cache: Path, python: str) -> Path:
    """The project as it is now, with what it depends on, as the guest's second disk."""
    with _locked(cache):
        site = _site(cache, python)
        tree, disk = cache / "project", cache / "project.ext4"
        shutil.rmtree(tree, ignore_errors=True)
        for name in _files():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, tree / name)
        shutil.copy(SETTINGS, tree / "settings")
        shutil.copytree(site, tree / "site", symlinks=True)
        size = sum(path.lstat().st_size + 4096 for path in tree.rglob("*"))
        _filesystem(disk, tree, "project", size // (1 << 20) + SPARE_MIB)
        shutil.rmtree(tree)
    return disk


def _files() -> list[str]:
    """What belongs to the project: git's files where there is git, else what is in its directories."""
    ran = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=PROJECT, capture_output=True, text=True)
    if ran.returncode == 0:
        return [name for name in ran.stdout.splitlines() if (PROJECT / name).is_file()]
    found = [path for room in ("src", "tests", "examples") for path in (PROJECT / room).rglob("*") if path.is_file()]
    return ["pyproject.toml", *(str(path.relative_to(PROJECT)) for path in found if "__pycache__" not in path.parts)]


def _site(cache: Path, python: str) -> Path:
    """Everything to import, for the guest's Python, unpacked. Built of wheels only, by the host's pip."""
    wanted = sorted([*tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"], *TEST_PACKAGES])
    place = cache / f"site-{hashlib.sha256(repr((PYTHON, wanted)).encode()).hexdigest()[:12]}"
    if place.exists():
        return place
    print("fetching the guest's Python packages ...", flush=True)
    making = place.with_suffix(".new")
    shutil.rmtree(making, ignore_errors=True)
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)]
    platforms += ["--platform=manylinux2014_x86_64", "--platform=manylinux2010_x86_64", "--platform=manylinux1_x86_64"]
    command = [python, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--target", str(making)]
    command += ["--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp", *platforms, *wanted]
    subprocess.run(command, check=True)
    making.rename(place)
    return place


def _filesystem(disk: Path, tree: Path, label: str, mib: int) -> None:
    making = disk.with_suffix(".making")
    making.unlink(missing_ok=True)
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    command = ["mkfs.ext4", "-q", "-F", "-L", label, "-E", "root_owner=0:0", "-d", str(tree), str(making), f"{mib}M"]
    subprocess.run(command, check=True, env={**os.environ, "PATH": path})
    making.rename(disk)


@contextmanager
def _locked(cache: Path):
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
