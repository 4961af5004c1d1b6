"""Keys in files, which are created on first use for their owner alone, and the keyed digests of names."""

from __future__ import annotations

import contextlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path

from workbench.errors import ConfigError
from workbench.files.atomic import write_once


def load_key(
    path: Path, *, size: int, what: str, variable: str = "", environment: Mapping[str, str] = os.environ
) -> bytes:
    """Return the key of `size` bytes in the environment's `variable`, else in the file at `path`.

    Both hold hexadecimal digits; the file is created on first use. Raise ConfigError for another text; `what`
    names the key in the message.
    """
    where, text = variable, environment.get(variable, "") if variable else ""
    if not text:
        where = str(path)
        text = write_once(path, os.urandom(size).hex().encode()).decode(errors="replace")
    with contextlib.suppress(ValueError):
        if len(key := bytes.fromhex(text.strip())) == size:
            return key
    raise ConfigError(
        f"{where} holds no key: {what} is {2 * size} hexadecimal digits",
        hint=f"restore the key from your backup of .workbench/state; for a new one: openssl rand -hex {size}",
    )


def keyed_digest(key: bytes, *parts: str) -> str:
    """Return the HMAC-SHA256 of texts in hexadecimal digits; no other texts have the same bytes together."""
    coded = [part.encode("utf-8", "surrogatepass") for part in parts]
    message = b"".join(len(part).to_bytes(4) + part for part in coded)
    return hmac.digest(key, message, "sha256").hex()
