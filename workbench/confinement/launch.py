"""The launcher: confine this process as a spec says, then become the command that follows.

`prepared.launcher` returns its command line: an isolated Python with one thread, which imports the standard
library and this room only. Whatever fails is written to the spec's file of failure, and the command does not
run: nothing starts half confined.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from workbench.confinement import landlock, seccomp

#: The exit status of a launcher that did not start its command.
FAILED: Final = 78
_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _CLEAR_ALL = 38, 24, 47, 4
_CAPABILITY_VERSION: Final = 0x20080522
_MOST_CAPABILITIES: Final = 64
_LARGEST_SPEC: Final = 16 << 20


def main() -> None:
    """Run the command after `SPEC --` in the confinement of the spec; this process becomes the command."""
    _, path, _, *command = sys.argv
    spec = read(path)
    with reporting(spec) as failure:
        become(command, spec, failure)


def read(path: str) -> dict[str, Any]:
    """Return the spec of a file."""
    with open(path, "rb") as file:  # noqa: PTH123  pathlib would take a tenth of the launcher's time
        spec: dict[str, Any] = json.loads(file.read(_LARGEST_SPEC))
    return spec


@contextlib.contextmanager
def reporting(spec: Mapping[str, Any]) -> Iterator[int]:
    """Write an error of the block to the spec's file of failure, whose descriptor is given, and exit."""
    failure = os.open(spec["failure"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        yield failure
    except Exception as error:  # noqa: BLE001  nothing may run unconfined
        os.write(failure, f"{type(error).__name__}: {error}".encode())
        sys.exit(FAILED)


def become(command: list[str], spec: Mapping[str, Any], failure: int) -> None:
    """Confine this process and become the command; raise what keeps it from either."""
    environment = enter(spec, failure)
    os.execve(command[0], command, environment)  # noqa: S606  the command of our own runner


def enter(spec: Mapping[str, Any], failure: int) -> dict[str, str]:
    """Confine this process, which has one thread; return the environment of what runs in it from now on.

    Raise what keeps it from that. Only the standard streams, `failure` and the inherited connections are
    open afterwards.
    """
    with contextlib.suppress(PermissionError):  # it leads a session already
        os.setsid()
    os.umask(0o077)
    kept = {name: os.environ[name] for name in spec["kept"] if name in os.environ}
    environment = {**kept, **spec["environment"]}
    connections = {name: _connected(path) for name, path in spec["inherited"].items()}
    environment |= {name: str(descriptor) for name, descriptor in connections.items()}
    _close_others({failure, *connections.values()})
    _redirect(spec["output"])
    for name, value in spec["limits"].items():
        _limit(getattr(resource, name), value)
    _confine(spec)
    return environment


def _connected(path: str) -> int:
    """Connect to a Unix socket and return the descriptor, which the command inherits."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    connection.set_inheritable(True)
    return connection.detach()


def _close_others(kept: set[int]) -> None:
    """Close every descriptor but the standard ones and `kept`: each would be a way out."""
    start = 3
    for descriptor in sorted(kept):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, 1 << 20)


def _redirect(output: str) -> None:
    """Replace the standard streams, of which one may be the user's terminal."""
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    for descriptor, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, target)
    os.closerange(min(null, log), max(null, log) + 1)


def _limit(what: int, value: int) -> None:
    """Set a limit, at most to what this process may have at all."""
    _, most = resource.getrlimit(what)
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    resource.setrlimit(what, (value, value))


def _confine(spec: Mapping[str, Any]) -> None:
    """Give up all privileges, then restrict files, network and signals as far as this machine can."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0), "no_new_privs")
    _drop_capabilities(libc)
    if spec["landlock"]:
        landlock.restrict(spec["rules"])
    if spec["seccomp"]:
        seccomp.refuse(truncate=landlock.abi() < landlock.TRUNCATE_ABI)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Drop every capability, also those that executing a program as root would give back."""
    for capability in range(_MOST_CAPABILITIES):  # refused without the capability to do so, which needs none
        libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)
    libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_CLEAR_ALL), 0, 0, 0)
    header, none = struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24)
    _check(libc.capset(header, none), "capset")


def _check(result: int, what: str) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
