"""Reads files strictly against a type, and writes them atomically with private modes where they hold answers.

An unknown key, a missing key or a wrong type is one `ConfigError` that names the file, the key and the
nearest known key. A file is written beside its path, synced and renamed: a reader finds the old content or
the new one, never a part.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
import itertools
import os
import re
import secrets
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from workbench.errors import ConfigError, NotFoundError, UnavailableError, nearest

T = TypeVar("T")
_UNKNOWN = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
#: Put on a dataclass as `__pydantic_config__`: no key that is not declared, no silent conversion.
STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}


def canonical(value: Any) -> bytes:
    """`value` as canonical JSON: sorted keys, no spaces, UTF-8 (RFC 8785 but for number forms)."""
    import orjson

    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def pretty(value: Any) -> bytes:
    """`value` as sorted, indented JSON with a final newline, for files that people read in diffs."""
    import orjson

    options = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(value, option=options)


def digest(value: Any) -> str:
    """SHA-256, as hex, of bytes or of a value's canonical JSON."""
    return hashlib.sha256(value if isinstance(value, bytes) else canonical(value)).hexdigest()


def write_atomic(path: Path, data: bytes) -> bool:
    """Write `data` atomically; False when the file holds these bytes already."""
    try:
        if path.is_file() and path.read_bytes() == data:
            return False
        make_folder(path.parent)
        aside = aside_of(path)
        try:
            _write_synced(aside, data, 0o600 if _private_top(path) else 0o666)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    return True


def write_once(path: Path, data: bytes) -> bytes:
    """Write `data` for the owner alone unless the file exists; return what the file then holds."""
    try:
        make_folder(path.parent)
        if not path.exists():
            aside = aside_of(path)
            try:
                _write_synced(aside, data, 0o600)
                with contextlib.suppress(FileExistsError):
                    os.link(aside, path)
            finally:
                aside.unlink(missing_ok=True)
            sync_folder(path.parent)
        return read_bytes(path)
    except OSError as error:
        raise unwritable(path, error) from error


def _write_synced(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; `.workbench`, `published` and all below are for their owner alone."""
    top = _private_top(folder)
    if top is not None and top.is_dir() and top.stat().st_mode & 0o077:  # made by an earlier version
        with contextlib.suppress(PermissionError):  # another user's: its owner decides
            top.chmod(0o700)
    missing = itertools.takewhile(lambda path: not path.is_dir(), (folder, *folder.parents))
    for path in reversed(list(missing)):
        path.mkdir(0o700 if top is not None and path.is_relative_to(top) else 0o777, exist_ok=True)


def _private_top(path: Path) -> Path | None:
    """The `.workbench` or `published` folder of a repository that `path` is, or is in."""
    for folder in (path, *path.parents):
        of_repository = folder.name == "published" and (folder.parent / "params.yaml").is_file()
        if folder.name == ".workbench" or of_repository:
            return folder
    return None


def aside_of(path: Path) -> Path:
    """A new path beside `path`, for content that is renamed to it when it is whole."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def asides_of(path: Path) -> list[Path]:
    """The unfinished copies beside `path`, of killed writers and of those at work now."""
    aside = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}")
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    return [path for path in beside if aside.fullmatch(path.name)]


def purge(path: Path) -> None:
    """Remove the unfinished copies beside `path`. The caller is its only writer."""
    try:
        for copy in asides_of(path):
            if copy.is_dir() and not copy.is_symlink():
                shutil.rmtree(copy)
            else:
                copy.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path.parent, error) from error


def sync_folder(folder: Path) -> None:
    """Put renames inside `folder` on the disk, so that they survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unwritable(path: Path, error: OSError) -> UnavailableError:
    """The error for a file that cannot be written, by the system's error number."""
    hints = {
        errno.ENOSPC: "free some space on this disk, then run the same command again",
        errno.EROFS: "the disk is mounted read-only; work in a copy on a writable one",
        errno.EACCES: "check who owns the folder: ls -ld FOLDER",
    }
    hint = hints.get(error.errno or 0, "nothing was changed; run the same command again")
    return UnavailableError(f"cannot write {path}: {error.strerror}", hint=hint)


def open_regular(path: Path, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
    """A descriptor of a regular file, at once; ConfigError for a pipe, a device or a folder.

    Any other error is the system's own OSError, as of `os.open`.
    """
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno != errno.ENXIO:  # of a socket, and of a pipe that nobody reads
            raise
        raise ConfigError(f"cannot read {path}: {error.strerror}: not a regular file") from None
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return descriptor
    os.close(descriptor)
    what = "Is a directory" if stat.S_ISDIR(kind) else "not a regular file"
    raise ConfigError(f"cannot read {path}: {what}", hint=f"ls -l {path}   # a file is expected there")


def read_bytes(path: Path, *, limit: int = 1 << 30) -> bytes:
    """A regular file's bytes, as many as `limit` at most; errors as of `open_regular`."""
    with open(open_regular(path), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ConfigError(
            f"{path} is larger than {limit} bytes", hint=f"ls -l {path}   # is it the right file?"
        )
    return data


def read_text(path: Path, *, hint: str = "") -> str:
    """A UTF-8 file's text."""
    try:
        return io.TextIOWrapper(io.BytesIO(read_bytes(path)), encoding="utf-8").read()
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}", hint=hint) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint=hint) from None


def parse_yaml(text: str, *, where: str, hint: str = "") -> dict[str, Any]:
    """A YAML 1.2 mapping; duplicate keys and syntax errors are named by line."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        raw = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark else ""
        problem = str(error.problem or error.context or "not YAML").splitlines()[0]
        raise ConfigError(f"{where}{line}: {problem}") from None
    except YAMLError as error:
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}") from None
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else type(raw).__name__
        raise ConfigError(f"{where}: expected a mapping of keys, found {found}", hint=hint)
    return raw


def read_yaml(path: Path, *, hint: str = "") -> dict[str, Any]:
    """A YAML file's mapping."""
    return parse_yaml(read_text(path, hint=hint), where=str(path), hint=hint)


def yaml_text(raw: Mapping[str, Any]) -> str:
    """`raw` as block YAML in its own order, lines as long as they are: the same bytes for the same value."""
    from ruamel.yaml import YAML

    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = False, False  # type: ignore[assignment]
    yaml.width = 1_000_000
    yaml.dump(dict(raw), stream)
    return stream.getvalue()


def parse(kind: type[T], raw: Mapping[str, Any], *, where: str, hint: str = "") -> T:
    """`raw` as a `kind` (a dataclass with `__pydantic_config__ = STRICT`), or one clear error."""
    import orjson
    from pydantic import TypeAdapter, ValidationError

    try:
        # Through JSON, because there a strict reading still takes a list for a tuple and a day for a text.
        return TypeAdapter(kind).validate_json(orjson.dumps(raw, option=orjson.OPT_NON_STR_KEYS))
    except TypeError:
        raise ConfigError(f"{where}: {_beyond_json(raw)}", hint=hint) from None
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        first = min(found, key=lambda one: one["type"] not in _UNKNOWN)  # a typo explains a gap
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: {_explain(kind, first, place)}", hint=hint) from None


def _beyond_json(raw: Any, place: str = "", depth: int = 0) -> str:
    """The key of the first value that JSON cannot hold, and why; "" when there is none."""
    import orjson

    if depth > 100:
        return f"{place[:40]}…: nested too deep"
    of_list = enumerate(raw) if isinstance(raw, list | tuple) else ()
    parts = raw.items() if isinstance(raw, Mapping) else of_list
    for key, value in parts:
        if found := _beyond_json(value, f"{place}.{key}" if place else str(key), depth + 1):
            return found
    shell = dict.fromkeys(raw) if isinstance(raw, Mapping) else [] if of_list else raw
    try:
        orjson.dumps(shell, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        return f"{place or 'value'}: {str(error)[:1].lower()}{str(error)[1:]}"
    return ""


def _explain(kind: type[Any], first: Mapping[str, Any], place: str) -> str:
    if first["type"] in _UNKNOWN:
        known = _fields_at(kind, first["loc"][:-1])
        return f"unknown key {place!r} ({nearest(str(first['loc'][-1]), known)})"
    if first["type"] in {"missing", "missing_argument", "missing_keyword_only_argument"}:
        return f"missing key {place!r}"
    return f"{place or 'value'}: {first['msg'][:1].lower()}{first['msg'][1:]}"


def _fields_at(kind: Any, place: tuple[Any, ...]) -> list[str]:
    """Names of the fields of the dataclass found by following `place` into `kind`."""
    import typing

    for part in place:
        if dataclasses.is_dataclass(kind):
            kind = typing.get_type_hints(kind).get(str(part), Any)
        else:  # a mapping's value, or one item of a list
            kind = next((a for a in reversed(typing.get_args(kind)) if a is not Ellipsis), Any)
    return [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
