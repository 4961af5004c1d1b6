"""Find the files of a source that an fsspec URL names, such as `zip://docs::handbook.zip`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from workbench.errors import ConfigError, NotFoundError, WorkbenchError, nearest
from workbench.retrieval import patterns
from workbench.retrieval.formats.document import UnreadableError
from workbench.retrieval.local_files import MOST_FILES, FoundFile

_URL = re.compile(r"[a-z][a-z0-9+.-]*(::|://)", re.IGNORECASE)
_SECRET = re.compile(r"(?<=://)[^/@]*@|\?.*")


def is_url(uri: str) -> bool:
    """Return whether a source is a URL: `protocol://…`, or several that are chained by `::`."""
    return _URL.match(uri) is not None


def shown(uri: str) -> str:
    """Return a source for messages, without the user, password and query of a URL."""
    return _SECRET.sub("", uri) if is_url(uri) else uri


def local_path(uri: str) -> Path | None:
    """Return the path that a `file://` URL names; None for another URL."""
    with _translated(uri):
        fs, path = _opened(uri)
        return Path(path) if "file" in _protocols(fs) else None


def find(uri: str) -> list[FoundFile]:
    """Return the files at a URL, or below it, or that match its pattern, in the order of their names.

    ConfigError for a protocol without its library, a server's error and too many files.
    """
    with _translated(uri):
        fs, path = _opened(uri)
        web = "http" in _protocols(fs)  # one page: to list a web site is to crawl it
        top, pattern = patterns.split(path) if "*" in path and not web else (path, "")
        top = top.strip("./") if top in {".", "/"} else top
        if web or (not pattern and fs.isfile(top)):
            return [_file(fs, top, PurePosixPath(_SECRET.sub("", top)).name, uri)]
        paths = [str(found) for found in fs.find(top)]
    if len(paths) > MOST_FILES:
        raise ConfigError(f"{shown(uri)} has more than {MOST_FILES:,} files", hint="name a folder in it")
    named = [(path, path.strip("/").removeprefix(top.strip("/")).strip("/")) for path in paths]
    found = [
        _file(fs, path, name, uri)
        for path, name in named
        if _visible(name) and (not pattern or patterns.matches(pattern, name))
    ]
    if not found:
        raise NotFoundError(f"there are no files at {shown(uri)}", hint="look up the address")
    return sorted(found, key=lambda file: file.name)


def _visible(name: str) -> bool:
    return not any(part.startswith((".", "~$")) for part in name.split("/"))


def _opened(uri: str) -> tuple[Any, str]:
    import fsspec.core

    fs, path = fsspec.core.url_to_fs(uri)
    return fs, str(path)


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _file(fs: Any, path: str, name: str, uri: str) -> FoundFile:
    where = f"{shown(uri)} {name}" if PurePosixPath(shown(uri)).name != name else shown(uri)
    return FoundFile(name=name, where=where, read=lambda most: _bytes(fs, path, most))


def _bytes(fs: Any, path: str, most: int) -> bytes:
    """Return the bytes of a file; UnreadableError when it is too large or its server fails."""
    try:
        with fs.open(path, "rb") as file:
            data: bytes = file.read(most + 1)
    except Exception as error:  # noqa: BLE001 - each protocol has errors of its own
        raise UnreadableError(f"it cannot be read ({type(error).__name__})") from None
    if len(data) > most:
        raise UnreadableError(f"it has more than {most:,} bytes")
    return data


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    """Translate the errors of fsspec and of its protocols into ConfigError and NotFoundError."""
    import fsspec

    try:
        yield
    except WorkbenchError:
        raise
    except FileNotFoundError:
        raise NotFoundError(f"there is nothing at {shown(uri)}", hint="look up the address") from None
    except ImportError as error:
        raise ConfigError(f"cannot open {shown(uri)}: {error}", hint="uv add PACKAGE") from None
    except Exception as error:  # noqa: BLE001 - as in `_bytes`
        protocol = re.split("::|://", uri)[0]
        known = fsspec.available_protocols()
        if protocol not in known:
            message = f"{shown(uri)}: there is no protocol {protocol!r} ({nearest(protocol, known)})"
            raise ConfigError(
                message, hint="give a path, or the URL of a protocol that fsspec knows"
            ) from None
        raise ConfigError(f"cannot open {shown(uri)}: {type(error).__name__}") from None
