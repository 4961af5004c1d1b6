"""Restrict this process's files, TCP and signals with Linux's Landlock.

Landlock needs no privilege, and nothing takes a restriction back: children and executed programs have it too.
A process may use a file when a rule for the file or for a folder above it allows the access. `stat`,
`readlink`, `chmod` and extended attributes are not part of it; `workbench.confinement.seccomp` refuses those
that change a file. The launcher imports this module, so it needs the standard library only.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Mapping
from typing import Final

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1  # the flag that asks for the ABI
_PATH_BENEATH: Final = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG, _MAKE_SOCK = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 9
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

#: Rights to files and folders.
READ: Final = _READ_FILE | _READ_DIR
EXECUTE: Final = _READ_FILE | _EXECUTE
#: A folder to write in. It has no right to make links, pipes or devices, which could mislead its reader.
WRITE: Final = (
    READ | _WRITE_FILE | _TRUNCATE | _REFER | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SOCK
)
#: A device such as /dev/null.
DEVICE: Final = _READ_FILE | _WRITE_FILE | _TRUNCATE

#: The rights of a rule for a file that is no folder.
_OF_A_FILE: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
#: How many of the file rights, counted from the lowest bit, each ABI knows.
_RIGHTS: Final = (0, 13, 14, 15, 15, 16)
_TCP: Final = 0b11  # bind and connect, since ABI 4
_SCOPES: Final = 0b11  # abstract Unix sockets and signals, since ABI 6
_TCP_ABI: Final = 4
#: The first ABI that keeps signals within the confined processes.
SIGNALS_ABI: Final = 6
#: The first ABI that has the right to truncate.
TRUNCATE_ABI: Final = 3


def abi() -> int:
    """Return the ABI of this machine's Landlock, 0 when it has none."""
    if not sys.platform.startswith("linux"):
        return 0
    found = _libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    return max(0, int(found))


def restrict(rules: Mapping[str, int]) -> None:
    """Restrict this process to the rights of `rules`, by path; OSError when the system refuses.

    A path that does not exist is left out. The process must have no_new_privs.
    """
    version = abi()
    rights = (1 << _RIGHTS[min(version, len(_RIGHTS) - 1)]) - 1
    tcp, scopes = (_TCP if version >= _TCP_ABI else 0), (_SCOPES if version >= SIGNALS_ABI else 0)
    handled = struct.pack("=QQQ", rights, tcp, scopes)
    size = 24 if version >= SIGNALS_ABI else 16 if version >= _TCP_ABI else 8
    ruleset = _call(_CREATE_RULESET, handled, ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for path, access in rules.items():
            _allow(ruleset, path, access & rights)
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    """Add the rule of one path."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _OF_A_FILE
        rule = struct.pack("=Qi", access, descriptor)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
