"""The registry of ways out of a confinement, and what they share: system calls, children and programs."""
# The ways are system calls; pathlib hides them.
# ruff: noqa: PTH123, PLW1510

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from typing import Any

WAYS: dict[str, Callable[[Any], Any]] = {}
ARM = platform.machine() == "aarch64"
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None
NO_SUCH_CALL, NOT_PERMITTED = 38, 1


class Refused(Exception):
    """The way has no effect, though no error says so."""


def way(function):
    WAYS[function.__name__] = function
    return function


def call(x86: int, arm: int, *arguments: Any) -> int:
    """A system call by its number; OSError when it fails."""
    result = LIBC.syscall(ctypes.c_long(arm if ARM else x86), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def in_child(act: Callable[[], Any]) -> None:
    """Fork and act there; Refused when the child fails or is killed."""
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            act()
            os._exit(0)
        os._exit(9)
    _, status = os.waitpid(child, 0)
    if status:
        raise Refused(f"the child ended with {status}")


def read(path) -> bytes:
    with open(path, "rb") as file:
        data = file.read(64)
    if not data:
        raise Refused("nothing to read")
    return data


def unchanged(before: Any, after: Any) -> None:
    if before == after:
        raise Refused("nothing changed")


def fails(act: Callable[[], Any]) -> str:
    """Why an act failed, "" when it did not."""
    try:
        act()
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    return ""


def run(command: list[str], **options: Any) -> None:
    done = subprocess.run(command, capture_output=True, timeout=20, **options)
    if done.returncode:
        raise Refused(f"ended with {done.returncode}: {done.stderr[-80:]!r}")
