"""A guest that compiles a function's modules and runs nothing of them: what it makes is kept beside the code.

CALL: JSON {"after": NAME}. RESULT: for some of the modules behind NAME, in order: its name below the code's directory, the
name of its cache file, and that file's content, each after its length (little-endian, 32 bits); both of the latter are empty
for what cannot be compiled. Nothing at the end.

Nothing is imported here once the code's directory may be searched: a module of the function's could have that name.
"""

import json
import marshal
import os
import sys
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash

from ondol_guest import frames

FILES_MAX = 5000
SOURCE_BYTES_MAX = 1 << 20
RESULT_BYTES = 2 << 20
#: Of a header: the source is not looked at again, for it cannot change.
UNCHECKED = 1


def serve(wire, settings):
    """Answer until STOP."""
    sys.path[:] = []
    sys.path_importer_cache.clear()
    top = settings["cwd"]
    names = modules_below(top)
    wire.ready()
    while True:
        kind, _, invocation, payload = wire.recv()
        if kind == frames.CALL:
            _, wish = frames.split_meta(payload)
            after = json.loads(wish)["after"]
            wire.send_meta(frames.RESULT, invocation, b"{}", some(top, [name for name in names if name > after]))
        elif kind == frames.STOP:
            return


def modules_below(top):
    """Source files, as paths below `top`, in order; no link is followed."""
    found = []
    for directory, below, files in os.walk(top):
        below[:] = [name for name in below if name != "__pycache__"]
        for name in files:
            path = os.path.join(directory, name)
            if name.endswith(".py") and not os.path.islink(path):
                found.append(os.path.relpath(path, top))
        if len(found) > FILES_MAX:
            break
    return sorted(found)[:FILES_MAX]


def some(top, names):
    """The first of these modules, compiled."""
    parts = []
    size = 0
    for name in names:
        data = compiled(os.path.join(top, name))
        target = cache_from_source(name).encode() if data else b""
        for part in (name.encode(), target, data):
            parts += [len(part).to_bytes(4, "little"), part]
        size += len(data)
        if size > RESULT_BYTES:
            break
    return b"".join(parts)


def compiled(path):
    """A cache file's content; nothing for what cannot be compiled: whoever imports it will be told why."""
    try:
        with open(path, "rb") as file:
            source = file.read(SOURCE_BYTES_MAX + 1)
        if len(source) > SOURCE_BYTES_MAX:
            return b""
        code = compile(source, path, "exec", dont_inherit=True)
        data = marshal.dumps(code)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError, ImportError, LookupError):
        return b""
    if len(data) > RESULT_BYTES:
        return b""
    return MAGIC_NUMBER + UNCHECKED.to_bytes(4, "little") + source_hash(source) + data
