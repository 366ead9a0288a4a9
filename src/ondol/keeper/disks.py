"""A shell's /tmp as a file system of its own: a sparse image on a loop device, so that "full" is what a full disk is.

For a keeper that is root on the host and a machine with loop devices and mkfs.ext4; elsewhere /tmp is a watched directory
(`quota.py`). An image is a copy of a template, made once per size: 1.7 ms and 64 KiB on disk. Loop devices clear themselves
when the shell's mount namespace goes. Knows nothing of shells. Invariant: no function ever writes to an image but through its
mounted file system.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import struct
import subprocess

from ondol import syscalls

TMP_MIB_DEFAULT = 512
MKFS_S_MAX = 20.0
_TRIES_MAX = 32
_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_AUTOCLEAR, _DIRECT_IO = 4, 16
_LOOP_MAJOR, _CONTROL = 7, os.makedev(10, 237)
_BLOCK_BYTES = 4096
#: fd and block size; loop_info64 (device to encrypt key: 20 words and three texts); reserved.
_CONFIG = struct.Struct("=II5Q4I64s64s32s2Q64s")
_ATTRIBUTES = syscalls.ATTR_NOSUID | syscalls.ATTR_NODEV


class Disks:
    """Images and templates in one directory."""

    def __init__(self, directory: str, *, mib: int = TMP_MIB_DEFAULT) -> None:
        self._directory = directory
        self._mkfs = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin:/bin")
        #: Why there are none; empty when there are.
        self.missing = "mkfs.ext4 is not installed (Debian: e2fsprogs)" if self._mkfs is None else ""
        if not self.missing:
            try:
                self.template(mib)
            except (OSError, subprocess.SubprocessError) as error:
                self.missing = f"no loop device can be used ({error})"

    def make(self, path: str, mib: int, uid: int, gid: int) -> int:
        """A new disk in the image file `path`, as a detached mount, empty and this user's."""
        image = _copy(self.template(mib), path)
        try:
            mounted = _mount(image)
        finally:
            os.close(image)
        os.chown(f"/proc/self/fd/{mounted}", uid, gid)
        return mounted

    def template(self, mib: int) -> str:
        """The template of this size; made when missing, which takes some 30 ms."""
        path = f"{self._directory}/.disk-{mib}"
        if os.path.exists(path):
            return path
        assert self._mkfs is not None
        making = f"{path}.new"
        with open(making, "wb") as file:
            file.truncate(mib << 20)
        features = [
            "-O",
            "^has_journal,^resize_inode",
            "-E",
            "lazy_itable_init=1,nodiscard",
            "-b",
            str(_BLOCK_BYTES),
            "-i",
            "8192",
            "-m",
            "0",
        ]
        subprocess.run([self._mkfs, "-q", "-F", *features, making], check=True, timeout=MKFS_S_MAX, capture_output=True)
        image = os.open(making, os.O_RDWR | os.O_CLOEXEC)
        try:
            mounted = _mount(image)
        finally:
            os.close(image)
        try:
            os.rmdir(f"/proc/self/fd/{mounted}/lost+found")
            os.chmod(f"/proc/self/fd/{mounted}", 0o1777)  # noqa: S103
        finally:
            os.close(mounted)
        os.rename(making, path)
        return path


def _copy(template: str, path: str) -> int:
    """Copy what is not a hole; the new file's descriptor."""
    source = os.open(template, os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            size, at = os.fstat(source).st_size, 0
            os.ftruncate(target, size)
            while (start := _next_data(source, at)) is not None:
                at = os.lseek(source, start, os.SEEK_HOLE)
                while start < at:
                    start += os.copy_file_range(source, target, at - start, start, start)
        except OSError:
            os.close(target)
            raise
    finally:
        os.close(source)
    return target


def _next_data(fd: int, at: int) -> int | None:
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise


def _mount(image: int) -> int:
    device, path = _loop(image)
    try:
        # A new image's inode tables are zeros: no thread of the kernel's need write them.
        return syscalls.filesystem("ext4", {"source": path, "noinit_itable": ""}, _ATTRIBUTES)
    finally:
        os.close(device)  # the mount holds it now, or it clears itself


def _loop(image: int) -> tuple[int, str]:
    """A loop device over the file. Others take devices, too: the one that was free may not be any more."""
    control = _open_device("/dev/loop-control", stat.S_IFCHR, _CONTROL)
    try:
        for attempt in range(_TRIES_MAX):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            path = f"/dev/loop{number}"
            device = _open_device(path, stat.S_IFBLK, os.makedev(_LOOP_MAJOR, number))
            flags = _AUTOCLEAR | (_DIRECT_IO if attempt < _TRIES_MAX // 2 else 0)
            numbers = (image, _BLOCK_BYTES, 0, 0, 0, 0, 0, 0, 0, 0, flags)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, _CONFIG.pack(*numbers, b"ondol", b"", b"", 0, 0, b""))
            except OSError as error:
                os.close(device)
                if error.errno not in (errno.EBUSY, errno.EINVAL):
                    raise
            else:
                return device, path
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no loop device is free")


def _open_device(path: str, kind: int, number: int) -> int:
    """Open it; made where it is missing: a container's /dev is not told of the devices that the kernel makes."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        os.mknod(path, 0o600 | kind, number)
        return os.open(path, flags)
