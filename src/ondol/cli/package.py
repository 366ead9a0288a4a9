"""From a path to what is deployed: the archive, and guesses about handler and runtime.

The same files always make the same archive, byte for byte, so that a deploy of unchanged code is recognised. Code is read as
text and parsed, never imported. Bounds are checked here, before anything is sent; the node checks everything again.
"""

from __future__ import annotations

import ast
import copy
import io
import os
import re
import stat
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.cli.shape import Exit, Failure
from ondol.model import limits

#: Never part of a function.
EXCLUDED_DIRECTORIES: Final = frozenset(
    {"__pycache__", ".git", ".hg", ".svn", ".venv", ".ondol", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
)
EXCLUDED_SUFFIXES: Final = (".pyc", ".pyo")
#: The handlers looked for, in order.
AWS_HANDLERS: Final = (
    "lambda_function.lambda_handler",
    "lambda_function.handler",
    "app.handler",
    "app.lambda_handler",
    "main.handler",
    "main.lambda_handler",
    "handler.handler",
    "index.handler",
)
WEB_HANDLERS: Final = ("app:app", "main:app", "wsgi:application", "wsgi:app", "asgi:application", "asgi:app", "app:application")
#: The program that a custom runtime is.
BOOTSTRAP: Final = "bootstrap"
#: Zip's own beginning of time.
EPOCH: Final = (1980, 1, 1, 0, 0, 0)
SOURCE_BYTES_MAX: Final = 2_000_000
#: A file that changed less than this ago is read again, whatever its times say.
SETTLED_NS: Final = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An archive ready to be sent."""

    archive: bytes
    #: What a function made of this path would be called.
    name: str
    #: Python source at the top of the archive, by module name.
    modules: dict[str, str]
    files: int
    unpacked_bytes: int
    #: Names of the files at the top of the archive.
    top: frozenset[str] = frozenset()


class Memory:
    """Files as they were packed last, so that packing a folder again compresses only what changed.

    A file counts as unchanged while its inode, size, rights and times are. At most as much is kept as an archive may hold.
    """

    def __init__(self) -> None:
        self._packed: dict[str, tuple[tuple[int, ...], _Packed]] = {}
        self._used: dict[str, tuple[tuple[int, ...], _Packed]] = {}

    def packed(self, name: str, source: Path) -> _Packed:
        """Raises OSError."""
        told = source.lstat()
        state = (told.st_ino, told.st_size, told.st_mode, told.st_mtime_ns, told.st_ctime_ns)
        known = self._packed.get(name)
        # What was written a moment ago may be written again within the same tick of the file system's clock.
        if known is None or known[0] != state or time.time_ns() - told.st_ctime_ns < SETTLED_NS:
            known = (state, _compressed(name, source))
        self._used[name] = known
        return known[1]

    def forget(self) -> None:
        """Keep what was asked for since the last time, and nothing else."""
        self._packed, self._used = self._used, {}


def read(path: Path, memory: Memory | None = None) -> Package:
    """The package made of a folder, a single file or a zip file. Raises Failure."""
    memory = memory or Memory()
    if path.is_dir():
        return _of_folder(path, memory)
    if path.is_file():
        return _of_archive(path) if zipfile.is_zipfile(path) else _of_file(path, memory)
    raise Failure(Exit.USAGE, f"{path} does not exist: give a folder, a file or a zip file.")


def name_of(path: Path) -> str:
    """A function's name made of a path's."""
    stem = path.resolve().name if path.is_dir() else path.stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:64] or "function"


# Archives ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Packed:
    """A file as it stands in an archive: its header's facts, its compressed content, and its text if it is a module's."""

    info: zipfile.ZipInfo
    data: bytes
    module: str | None


def _of_folder(path: Path, memory: Memory) -> Package:
    files = sorted(_walk(path), key=lambda item: item[0])
    if not files:
        raise Failure(Exit.USAGE, f"{path} holds no file to deploy.")
    if len(files) > limits.CODE_ENTRIES_MAX:
        raise Failure(Exit.USAGE, f"{path} holds {len(files):,} files: at most {limits.CODE_ENTRIES_MAX:,} can be deployed.")
    unpacked = sum(source.lstat().st_size for _, source in files)
    _check_unpacked(path, unpacked)
    return _pack(path, files, unpacked, memory)


def _of_file(path: Path, memory: Memory) -> Package:
    unpacked = path.stat().st_size
    _check_unpacked(path, unpacked)
    return _pack(path, [(path.name, path)], unpacked, memory)


def _pack(path: Path, files: list[tuple[str, Path]], unpacked: int, memory: Memory) -> Package:
    buffer = io.BytesIO()
    modules: dict[str, str] = {}
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, source in files:
            try:
                packed = memory.packed(name, source)
            except OSError as error:
                raise Failure(Exit.USAGE, f"{source} cannot be read: {error.strerror}.") from None
            _append(archive, buffer, packed)
            if packed.module is not None:
                modules[name[:-3]] = packed.module
    memory.forget()
    return _checked(path, buffer.getvalue(), modules, [name for name, _ in files], unpacked)


def _append(archive: zipfile.ZipFile, buffer: io.BytesIO, packed: _Packed) -> None:
    """Write an entry that is already compressed: zipfile has no public way, and writes the directory of what it is told of."""
    info = copy.copy(packed.info)
    info.header_offset = buffer.tell()
    buffer.write(info.FileHeader())
    buffer.write(packed.data)
    archive.filelist.append(info)
    archive.NameToInfo[info.filename] = info
    archive.start_dir = buffer.tell()
    archive._didModify = True  # type: ignore[attr-defined]  # noqa: SLF001  # see above


def _compressed(name: str, source: Path) -> _Packed:
    """Raises OSError."""
    info, content = _entry(name, source)
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = deflate.compress(content) + deflate.flush()
    info.CRC, info.file_size, info.compress_size = zlib.crc32(content), len(content), len(data)
    module = "/" not in name and name.endswith(".py") and len(content) <= SOURCE_BYTES_MAX
    return _Packed(info, data, content.decode(errors="replace") if module else None)


def _entry(name: str, source: Path) -> tuple[zipfile.ZipInfo, bytes]:
    """A file with its name, its rights (but not its owner or time), and for a link where it points."""
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system = 3  # Unix: external_attr holds a mode
    info.compress_type = zipfile.ZIP_DEFLATED
    if source.is_symlink():
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        return info, os.fsencode(os.readlink(source))
    mode = 0o755 if source.stat().st_mode & 0o111 else 0o644
    info.external_attr = (stat.S_IFREG | mode) << 16
    return info, source.read_bytes()


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    """(name in the archive, file) for all that belongs in it. Links are kept as links, where they stay inside."""
    inside = root.resolve()
    for directory, directories, names in os.walk(root):
        links = [name for name in directories if os.path.islink(os.path.join(directory, name))]
        directories[:] = sorted(set(directories) - EXCLUDED_DIRECTORIES - set(links))
        for name in (*names, *links):
            source = Path(directory, name)
            if name in EXCLUDED_DIRECTORIES or name.endswith(EXCLUDED_SUFFIXES):
                continue
            if source.is_symlink():
                if _leaves(source.relative_to(root), os.readlink(source)) or not source.resolve().is_relative_to(inside):
                    raise Failure(Exit.USAGE, f"{source} links out of {root}: put a copy of what it points to in its place.")
            elif not source.is_file():
                raise Failure(Exit.USAGE, f"{source} is neither file, folder nor link: take it out of {root}.")
            yield source.relative_to(root).as_posix(), source


def _leaves(name: Path, target: str) -> bool:
    """Whether a link called `name` points out of the archive, even if only to come back."""
    return os.path.isabs(target) or os.path.normpath(name.parent / target).split(os.sep)[0] == os.pardir


def _of_archive(path: Path) -> Package:
    if path.stat().st_size > limits.CODE_ZIPPED_BYTES_MAX:
        _check_zipped(path, path.stat().st_size)
    raw = path.read_bytes()
    modules: dict[str, str] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            infos = archive.infolist()
            unpacked = sum(info.file_size for info in infos)
            _check_unpacked(path, unpacked)
            for info in infos:
                if info.filename.endswith(".py") and info.file_size <= SOURCE_BYTES_MAX:
                    _note_module(modules, info.filename, archive.read(info))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise Failure(Exit.USAGE, f"{path} is not a zip file that can be read: {error}.") from None
    return _checked(path, raw, modules, [info.filename for info in infos], unpacked)


def _checked(path: Path, archive: bytes, modules: dict[str, str], names: list[str], unpacked: int) -> Package:
    _check_zipped(path, len(archive))
    return Package(
        archive=archive,
        name=name_of(path),
        modules=modules,
        files=len(names),
        unpacked_bytes=unpacked,
        top=frozenset(name for name in names if "/" not in name),
    )


def _check_zipped(path: Path, size: int) -> None:
    if size > limits.CODE_ZIPPED_BYTES_MAX:
        raise Failure(Exit.USAGE, f"{path} is {size:,} bytes zipped: at most {limits.CODE_ZIPPED_BYTES_MAX:,} can be deployed.")


def _check_unpacked(path: Path, size: int) -> None:
    if size > limits.CODE_UNPACKED_BYTES_MAX:
        raise Failure(
            Exit.USAGE, f"{path} is {size:,} bytes unpacked: at most {limits.CODE_UNPACKED_BYTES_MAX:,} can be deployed."
        )


def _note_module(modules: dict[str, str], name: str, content: bytes) -> None:
    if "/" not in name and name.endswith(".py") and len(content) <= SOURCE_BYTES_MAX:
        modules[name[:-3]] = content.decode(errors="replace")


# Guesses -------------------------------------------------------------------------------------------------------------------


def guess_aws_handler(package: Package) -> str | None:
    """MODULE.FUNCTION, or None when nothing stands out: a usual name, else the only function that takes two arguments."""
    tops = {name: _top_level(source) for name, source in package.modules.items()}
    for handler in AWS_HANDLERS:
        module, _, function = handler.partition(".")
        if function in tops.get(module, {}):
            return handler
    fitting = [
        f"{module}.{function}"
        for module, names in sorted(tops.items())
        for function, arguments in names.items()
        if arguments == 2 and not function.startswith("_")
    ]
    return fitting[0] if len(fitting) == 1 else None


def guess_other(package: Package) -> tuple[str, str] | None:
    """(family of runtimes, handler) where the files speak for another language than Python; None when nothing stands out."""
    if BOOTSTRAP in package.top:
        return "provided", BOOTSTRAP
    for module in ("index", "app", "main", "handler"):
        if any(f"{module}.{suffix}" in package.top for suffix in ("mjs", "js", "cjs")):
            return "nodejs", f"{module}.handler"
    return None


def guess_web_handler(package: Package) -> str | None:
    """MODULE:NAME of a WSGI or ASGI application, or None."""
    tops = {name: _top_level(source) for name, source in package.modules.items()}
    for handler in WEB_HANDLERS:
        module, _, name = handler.partition(":")
        if name in tops.get(module, {}):
            return handler
    fitting = [f"{module}:{name}" for module, names in sorted(tops.items()) for name in ("app", "application") if name in names]
    return fitting[0] if len(fitting) == 1 else None


def has_module(package: Package, handler: str) -> bool:
    """Whether the archive can hold the file that a handler names; only its top is looked at."""
    module, *rest = re.split(r"[.:]", handler)
    named = {name.partition(".")[0] for name in package.top if name.endswith((".py", ".mjs", ".js", ".cjs"))}
    return "/" in module or len(rest) > 1 or module in named or BOOTSTRAP in package.top


def _top_level(source: str) -> dict[str, int | None]:
    """Names bound at the top of a module: for functions how many arguments they take, else None."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return {}  # the node's own error tells the user more
    found: dict[str, int | None] = {}
    for statement in tree.body:
        match statement:
            case ast.FunctionDef(name=name, args=arguments) | ast.AsyncFunctionDef(name=name, args=arguments):
                found[name] = _argument_count(arguments)
            case ast.ClassDef(name=name):
                found[name] = None
            case ast.Assign(targets=targets):
                found.update(dict.fromkeys((t.id for t in targets if isinstance(t, ast.Name)), None))
            case ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = None
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found.update(dict.fromkeys((n.asname or n.name.partition(".")[0] for n in names), None))
            case _:
                continue
    return found


def _argument_count(arguments: ast.arguments) -> int | None:
    if arguments.vararg or any(default is None for default in arguments.kw_defaults):
        return None
    return len(arguments.posonlyargs) + len(arguments.args)
