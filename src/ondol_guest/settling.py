"""What a zygote does before its first fork, so that its children share more of its memory with it, and with each other.

A page is shared until one of the two writes to it, and a child writes wherever a count of references stands, or a free place is
that it puts something in. Nothing can be done about the first, but that what has been run before need not be run in again:
since 3.11 an interpreter rewrites code in its first calls. The second can: when every gap in the zygote's memory is filled,
what a child makes lies together, on pages of its own.
"""

import ctypes
import gc
import os
import re
import sys

from ondol_guest import rehearsal

#: An interpreter has rewritten a function by then (3.11: after eight calls).
CALLS = 10
#: What an object of bytes takes besides its bytes, and the two sizes that are less.
_BYTES_EXTRA, _OBJECT, _FLOAT = 33, 16, 32
_FILL_BYTES_MAX = 8 * 1024 * 1024
_CHUNKS = (32768, 16384, 8192, 4096, 2048, 1024, 512, 256, 128, 96, 64, 48, 32, 24)
_CLASS = re.compile(r"^\s+\d+\s+(\d+)\s+\d+\s+\d+\s+(\d+)\s*$", re.MULTILINE)
_kept = []


def settle():
    """Last thing before forks: from here on every object that there is stays, and the collector passes over it."""
    for _ in range(CALLS):
        rehearsal.rehearse()
    gc.collect()
    try:
        fill_gaps(free_places(told_of_memory()))
        fill_chunks()
    except (AttributeError, OSError, ValueError):
        pass  # another interpreter, another C library: its children share less
    gc.freeze()


def told_of_memory():
    """What the interpreter tells of its small objects, as it does on its standard error stream."""
    fd = os.memfd_create("told")
    before = os.dup(2)
    try:
        os.dup2(fd, 2)
        sys._debugmallocstats()  # noqa: SLF001  # there is no other way to be told
        return os.pread(fd, os.lseek(fd, 0, os.SEEK_END), 0).decode("ascii", "replace")
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(fd)


def free_places(told):
    """{size in bytes: free places between objects of that size}."""
    return {int(size): int(count) for size, count in _CLASS.findall(told)}


def fill_gaps(places):
    """Put an object into each."""
    left = _FILL_BYTES_MAX
    for size, count in sorted(places.items()):
        count = min(count, left // size)  # noqa: PLW2901
        left -= count * size
        if size == _OBJECT:
            _kept.append([object() for _ in range(count)])
        elif size == _FLOAT:
            _kept.append([number + 0.5 for number in range(count)])
        else:
            _kept.append([bytes(size - _BYTES_EXTRA) for _ in range(count)])


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks"),
            *("fordblks", "keepcost"),
        )
    ]


def fill_chunks():
    """The same for the C library's memory, up to where it ends. What is taken is never given back."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _Mallinfo
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    libc.sbrk.restype, libc.sbrk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
    end = libc.sbrk(0) - libc.mallinfo2().keepcost
    left = _FILL_BYTES_MAX
    for size in _CHUNKS:
        while left > 0:
            place = libc.malloc(size)
            if not place or place >= end:
                libc.free(place)
                break
            left -= size
