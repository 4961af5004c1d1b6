"""Where the gateway of a repository listens: a private socket, named by the repository and the code."""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import workbench
from workbench.errors import ConfigError

#: Most bytes of the path of a socket, which is shorter on some systems than on Linux.
MOST_PATH: Final = 100
#: The bytes that a name adds to its folder.
_NAME: Final = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPlace:
    """The files of one gateway: it serves the repository in `root` by the code with the digest `code`.

    Callers with other code have another gateway, so that a gateway and its callers are of one version.
    """

    root: Path
    folder: Path
    code: str

    @classmethod
    def of(cls, root: Path) -> GatewayPlace:
        """Return the place of the gateway of a repository for the code of this process.

        Raise ConfigError when another user can enter the folder of sockets.
        """
        return cls(root=root.resolve(), folder=private_folder(), code=code_digest())

    @property
    def name(self) -> str:
        """The name of the files, without a suffix."""
        return f"{_repository(self.root)}-{self.code[:16]}"

    @property
    def socket(self) -> Path:
        """The path of the socket."""
        return self.folder / f"{self.name}.sock"

    @property
    def lock(self) -> Path:
        """The file that is locked while the gateway starts or ends."""
        return self.folder / f"{self.name}.lock"

    @property
    def address(self) -> str:
        """The address that callers connect to."""
        return f"unix:{self.socket}"

    def others(self) -> Iterator[Path]:
        """Yield the sockets of this repository's gateways, of other code too, in their order."""
        yield from sorted(self.folder.glob(f"{_repository(self.root)}-*.sock"))


def private_folder() -> Path:
    """Return the folder of this user's sockets, which is created if missing.

    Raise ConfigError for a link, for a folder of another user, and for one that others may enter.
    """
    user = os.geteuid()
    folder = next(
        folder
        for parent in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp")  # noqa: S108
        if parent
        and Path(parent).is_dir()
        and len(os.fsencode(folder := Path(parent) / f"workbench-{user}")) + _NAME <= MOST_PATH
    )
    try:
        folder.mkdir(0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ConfigError(
            f"the folder of the gateway's socket, {folder}, cannot be made: {error.strerror}",
            hint="export XDG_RUNTIME_DIR=FOLDER   # one that only you may enter",
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user or found.st_mode & 0o077:
        raise ConfigError(
            f"{folder} is not a folder that only its user {user} may enter, so no gateway listens there",
            hint=f"remove {folder}; or export XDG_RUNTIME_DIR=FOLDER   # one that only you may enter",
        )
    return folder


@functools.cache
def code_digest() -> str:
    """Return a digest of the workbench's code and its interpreter, as they are now.

    It is made of the names, sizes and times of the files: to read them all would take longer than a call.
    """
    package = Path(workbench.__file__).parent
    parts = [sys.version, sys.prefix, str(package), *sorted(_states(str(package)))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _states(folder: str) -> Iterator[str]:
    """Yield path, size and time of every Python file below a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _states(entry.path)
            elif entry.name.endswith(".py"):
                found = entry.stat()
                yield f"{entry.path} {found.st_size} {found.st_mtime_ns}"


def _repository(root: Path) -> str:
    return hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]
