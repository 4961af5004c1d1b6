"""The listening socket of the gateway: a port of the loopback or a public one, or a private Unix socket."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from workbench.config import GatewaySettings
from workbench.errors import ConfigError, UnavailableError

#: Most bytes of a Unix socket's path, on the system with the shortest one.
_MOST_PATH = 100


def listen(settings: GatewaySettings) -> socket.socket:
    """Return the socket that settings name, bound; raise UnavailableError for one that is taken.

    A Unix socket is open for this user alone, and replaces one that no process listens on. Raise ConfigError
    for an address of another machine, and for a path that is another user's or no socket.
    """
    if settings.socket is not None:
        return _unix(Path(settings.socket))
    host, port = settings.place
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ConfigError(f"no machine is called {host!r}", hint="--address 127.0.0.1:8340") from None
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen()  # a bound port that does not listen can be bound by another process too
    except OSError as error:
        found.close()
        raise _refused(error, settings.address) from None
    return found


def address_of(listener: socket.socket, settings: GatewaySettings) -> str:
    """Return the address of a socket as clients write it."""
    if settings.socket is not None:
        return f"unix:{settings.socket}"
    host, port = listener.getsockname()[:2]
    return f"{'https' if settings.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _refused(error: OSError, address: str) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return UnavailableError(
            f"the address {address} is taken: another process listens there",
            hint="workbench gateway --address 127.0.0.1:0   # takes a free port",
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return ConfigError(f"this user may not listen on {address}", hint="take a port above 1023")
    return ConfigError(
        f"this machine cannot listen on {address}: {error.strerror}", hint="--address 127.0.0.1:8340"
    )


def _unix(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _MOST_PATH:
        raise ConfigError(
            f"the path of the socket has more than {_MOST_PATH} bytes: {path}", hint="--socket PATH"
        )
    _remove_stale(path)
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        found.bind(str(path))
        found.listen()
    except OSError as error:
        found.close()
        raise ConfigError(
            f"no socket can be made at {path}: {error.strerror}", hint="name a path in a folder of yours"
        ) from None
    finally:
        os.umask(before)
    return found


def _remove_stale(path: Path) -> None:
    """Remove a socket that no process listens on; raise ConfigError for what may not be removed."""
    try:
        status = path.lstat()
    except OSError:
        return
    if status.st_uid != os.geteuid():
        raise ConfigError(f"{path} belongs to another user", hint="--socket PATH in a folder of yours")
    if not stat.S_ISSOCK(status.st_mode):
        raise ConfigError(f"{path} is no socket", hint="--socket PATH with another name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return
    raise UnavailableError(f"the socket {path} is taken: another process listens there", hint="--socket PATH")
