"""The keys of sealed content: one for each tenant and subject, encrypted with a master key.

To destroy a subject's key is to erase everything that was kept about it: nobody can decrypt it again.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from workbench import files
from workbench.errors import CorruptError, NotFoundError
from workbench.files.keys import keyed_digest, load_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: The variable that holds the master key, as 64 hexadecimal digits.
KEY_VARIABLE: Final = "WORKBENCH_CONTENT_KEY"
_BYTES: Final = 32
_NONCE: Final = 12
_MASTER: Final = "master.key"
_MOST_FILE: Final = 4_096
#: Most keys that a process remembers.
_MOST_KNOWN: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectKey:
    """The key of a tenant's subject: the digest that names the file, and the id of this key of it."""

    name: str
    id: str
    key: bytes = field(repr=False)

    def encrypt(self, data: bytes, about: bytes) -> bytes:
        """Return encrypted data, which decrypts only with the same `about`."""
        nonce = os.urandom(_NONCE)
        return nonce + _cipher(self.key).encrypt(nonce, data, about)

    def decrypt(self, data: bytes, about: bytes) -> bytes:
        """Return the decrypted data; CorruptError for data that was changed."""
        from cryptography.exceptions import InvalidTag

        try:
            return _cipher(self.key).decrypt(data[:_NONCE], data[_NONCE:], about)
        except (InvalidTag, ValueError):
            raise CorruptError(
                "sealed content was changed, or is of another key",
                hint="restore .workbench/state with its content-keys from one backup",
            ) from None


class ContentKeys:
    """The keys in a folder, which its owner alone can read."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str] = os.environ) -> None:
        self.folder, self._folder = folder, str(folder)
        self._environment = environment
        self._known: dict[str, tuple[int, SubjectKey]] = {}

    def name_of(self, tenant: str, subject: str) -> str:
        """Return the keyed digest of a tenant's subject; "" is the subject of content about no person."""
        return _name_of(self._master, tenant, subject)

    def of(self, tenant: str, subject: str) -> SubjectKey:
        """Return the key of a tenant's subject, created on first use and again after it was erased."""
        name = self.name_of(tenant, subject)
        found = self._kept(name)
        if found is not None:
            return found
        fresh = os.urandom(_BYTES)
        key_id = secrets.token_hex(8)
        nonce = os.urandom(_NONCE)
        wrapped = nonce + _cipher(self._master).encrypt(nonce, fresh, f"{name}|{key_id}".encode())
        record = {"id": key_id, "key": base64.b64encode(wrapped).decode()}
        files.write_once(self._path(name), orjson.dumps(record))
        made = self._kept(name)  # another process may have been first
        if made is None:
            raise NotFoundError("a key of sealed content was erased while it was made", hint="try again")
        return made

    def named(self, name: str, key_id: str) -> SubjectKey:
        """Return the key with a name and an id; raise NotFoundError when it was erased."""
        found = self._kept(name)
        if found is None or found.id != key_id:
            raise NotFoundError(
                "the content is erased: its key was destroyed", hint="workbench audit show --action erase"
            )
        return found

    def erase(self, tenant: str, subject: str) -> bool:
        """Destroy the key of a tenant's subject; return whether there was one."""
        name = self.name_of(tenant, subject)
        path = self._path(name)
        self._known.pop(name, None)
        with files.writing(path):
            try:
                with path.open("r+b") as file:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(0)
                    file.write(os.urandom(size))
                    file.flush()
                    os.fsync(file.fileno())
                path.unlink()
            except FileNotFoundError:
                return False
            files.sync_folder(path.parent)
        return True

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.key"

    def _kept(self, name: str) -> SubjectKey | None:
        """Return the key in its file, which another process may have erased since it was read."""
        try:  # each call asks, and a Path takes longer
            inode = os.stat(f"{self._folder}/{name[:2]}/{name}.key").st_ino  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            self._known.pop(name, None)
            return None
        known = self._known.get(name)
        if known is None or known[0] != inode:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            with contextlib.suppress(FileNotFoundError):
                known = self._known[name] = (inode, self._read(name, self._path(name)))
        return known[1] if known is not None else None

    def _read(self, name: str, path: Path) -> SubjectKey:
        from cryptography.exceptions import InvalidTag

        try:
            record = orjson.loads(files.read_bytes(path, limit=_MOST_FILE))
            wrapped = base64.b64decode(record["key"])
            about = f"{name}|{record['id']}".encode()
            key = _cipher(self._master).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], about)
            return SubjectKey(name=name, id=str(record["id"]), key=key)
        except (InvalidTag, ValueError, KeyError, TypeError):
            raise CorruptError(
                f"{path} is damaged, or of another master key",
                hint=f"restore it from your backup, or put back {_MASTER} or {KEY_VARIABLE}",
            ) from None

    @functools.cached_property
    def _master(self) -> bytes:
        """The key that encrypts the others: of the environment, else of the file created on first use."""
        return load_key(
            self.folder / _MASTER,
            size=_BYTES,
            what="the master key of content",
            variable=KEY_VARIABLE,
            environment=self._environment,
        )


@functools.lru_cache(maxsize=_MOST_KNOWN)
def _name_of(master: bytes, tenant: str, subject: str) -> str:
    return keyed_digest(master, tenant, subject)[:32]


@functools.lru_cache(maxsize=1_024)
def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
