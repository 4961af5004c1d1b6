"""The process of a repository's private gateway: it serves one Unix socket, and ends when nobody calls.

`workspace.gateway_process` starts it with its settings as the argument, and gives it the keys of providers
over standard input, so that neither its command nor its environment shows them.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from workbench import config, files, locking
from workbench.config import GatewaySettings
from workbench.errors import ConfigError, WorkbenchError
from workbench.gateway.provider_secrets import hold_keys
from workbench.gateway.server import serve
from workbench.workspace.gateway_place import code_digest

_BACKLOG: Final = 1024
#: From linux/prctl.h: whether other processes of this user may read memory and environment of this one.
_PR_SET_DUMPABLE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateSettings:
    """What the process is started with: `told` is the descriptor that it tells when it listens."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    root: str
    socket: str
    lock: str
    code: str
    idle_s: float
    told: int


class PrivateSocket:
    """The listening socket at a path, which it gets when the gateway answers and loses when it ends."""

    def __init__(self, settings: PrivateSettings) -> None:
        self._settings, self._path = settings, Path(settings.socket)
        self._aside = Path(f"{settings.socket}.{os.getpid()}")
        self._file: tuple[int, int] | None = None
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._aside.unlink(missing_ok=True)
        self.listener.bind(str(self._aside))
        self._aside.chmod(0o600)
        self.listener.listen(_BACKLOG)

    def appear(self) -> None:
        """Give the socket its path, and tell who started the process."""
        found = self._aside.lstat()
        self._file = (found.st_dev, found.st_ino)
        self._aside.rename(self._path)
        os.write(self._settings.told, b"+")
        os.close(self._settings.told)

    def vanish(self) -> None:
        """Remove the path, unless another gateway has taken it."""
        self._aside.unlink(missing_ok=True)
        with locking.locked(Path(self._settings.lock)), contextlib.suppress(FileNotFoundError):
            found = self._path.lstat()
            if (found.st_dev, found.st_ino) == self._file:
                self._path.unlink()


def keep_private() -> None:
    """Keep other processes of this user, unless they are root's, from reading this one's memory."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def main(argument: str) -> None:
    """Serve the private gateway that the settings describe, until it ends."""
    keep_private()
    settings = files.parse(PrivateSettings, json.loads(argument), where="the settings of the gateway")
    os.set_inheritable(settings.told, False)  # noqa: FBT003 - the signature of the standard library
    root = Path(settings.root)
    if code_digest() != settings.code:
        raise ConfigError(
            "the caller has other code of the workbench than this interpreter",
            hint="start the notebook's kernel again; in a terminal, use the .venv of the repository",
        )
    hold_keys(sys.stdin.buffer.read())
    stated = GatewaySettings.of(config.load_params(root).gateway)
    private = PrivateSocket(settings)
    try:
        serve(root, private.listener, stated, ready=private.appear, idle_s=settings.idle_s)
    finally:
        private.vanish()


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except WorkbenchError as error:
        sys.exit(str(error))
