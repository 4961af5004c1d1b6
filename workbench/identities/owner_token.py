"""The owner's token: a secret file of the gateway that proves its reader to be the user of the process."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from workbench import files
from workbench.errors import ConfigError
from workbench.layout import OWNER_TOKEN

#: What the token begins with, so that it is told from API keys and from an issuer's tokens.
PREFIX: Final = "wbo_"
_FORM: Final = re.compile(r"wbo_[0-9a-f]{64}")
_MOST_BYTES: Final = 200


def make_owner_token(home: Path) -> str:
    """Return the owner's token of the folder of state `home`; write it, readable by its owner, if missing.

    Raise ConfigError for a file that others can read or that holds no token, and UnavailableError when it
    cannot be written.
    """
    files.write_once(home / OWNER_TOKEN, f"{PREFIX}{secrets.token_hex(32)}\n".encode())
    return owner_token(home)


def owner_token(home: Path) -> str:
    """Return the owner's token; raise ConfigError when it is missing, damaged or readable by others."""
    path = home / OWNER_TOKEN
    try:
        return _read(path)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no file {path}", hint="workbench gateway   # it makes the file"
        ) from None


def owner_digest(home: Path) -> bytes:
    """Return the SHA-256 digest of the owner's token, and no bytes at all while there is no usable one."""
    try:
        return _digest(_path_of(home))
    except (OSError, ConfigError):
        return b""


@functools.lru_cache(maxsize=64)
def _path_of(home: Path) -> Path:
    """Return the path of the token; each request asks, and to join a path takes longer than to look at it."""
    return home / OWNER_TOKEN


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        text = os.read(descriptor, _MOST_BYTES).decode(errors="replace").strip()
    finally:
        os.close(descriptor)
    private = stat.S_ISREG(status.st_mode) and not status.st_mode & 0o077
    if not private or status.st_uid != os.geteuid():
        raise ConfigError(
            f"{path} can be read by others, so it proves nothing",
            hint=f"rm {path}   # the gateway makes a new one when it starts",
        )
    if not _FORM.fullmatch(text):
        raise ConfigError(
            f"{path} holds no token", hint=f"rm {path}   # the gateway makes a new one when it starts"
        )
    return text


@files.until_changed
def _digest(path: Path) -> bytes:
    return hashlib.sha256(_read(path).encode()).digest()
