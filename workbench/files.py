"""Files, read strictly and written whole.

A file is read against a declared type: an unknown key, a missing key or a wrong type is one
`ConfigError` that names file, place and the nearest known key. A file is written aside, synced and
renamed, so that a reader finds the old one or the new one and never half of either.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
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
    """Write `data` whole or not at all; False when the file held these bytes already."""
    try:
        if path.is_file() and path.read_bytes() == data:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = aside_of(path)
        try:
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    return True


def write_once(path: Path, data: bytes) -> bytes:
    """What the file holds: `data`, for its owner alone, unless somebody was first; never half of either."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            aside = aside_of(path)
            try:
                with os.fdopen(os.open(aside, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                with contextlib.suppress(FileExistsError):
                    os.link(aside, path)
            finally:
                aside.unlink(missing_ok=True)
            sync_folder(path.parent)
        return read_bytes(path)
    except OSError as error:
        raise unwritable(path, error) from error


def aside_of(path: Path) -> Path:
    """A new place beside `path`, in which it is written before it is put in place."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def asides_of(path: Path) -> list[Path]:
    """What writers of `path` that were killed left beside it, and what others write now."""
    aside = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}")
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    return [one for one in beside if aside.fullmatch(one.name)]


def purge(path: Path) -> None:
    """Remove what writers of `path` that were killed left beside it; for when nobody else writes it."""
    try:
        for one in asides_of(path):
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            else:
                one.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path.parent, error) from error


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unwritable(path: Path, error: OSError) -> UnavailableError:
    """The error for a file that cannot be written, by what the system said."""
    hints = {
        errno.ENOSPC: "free some space on this disk, then run the same command again",
        errno.EROFS: "the disk is mounted read-only; work in a copy on a writable one",
        errno.EACCES: "you may not write there; check the owner of the folder",
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
        if error.errno != errno.ENXIO:  # of a socket, or of a pipe that nobody reads
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
    """Where a value is that JSON cannot hold, and why: a number too long, a set, an anchor inside itself."""
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
