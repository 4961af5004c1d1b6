"""Refuse system calls of this process with a seccomp filter: connections, tracing, mounts and others.

A filter needs no privilege, and nothing takes it back: children and executed programs have it too. It covers
what Landlock does not see. It sees numbers and no path, so that what depends on a path is Landlock's. A
system call that is newer than the tables is refused too. The launcher imports this module, so it needs the
standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Mapping
from typing import Final, NamedTuple

_PR_SET_SECCOMP: Final = 22
_MODE_FILTER: Final = 2
_GET_ACTION_AVAIL: Final = 2
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
#: Instructions of the filter language: load a word, return, and jumps when equal, greater or with a bit set.
_LOAD, _RETURN, _EQUAL, _GREATER, _BITS, _AND = 0x20, 0x06, 0x15, 0x25, 0x45, 0x54
#: Where the words of a call are: its number, the architecture, and the low word of its first argument.
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, 16
#: The newest system call that the tables know: mseal. From 424 on all machines have the same numbers.
_NEWEST: Final = 462

_UNIX, _NETLINK, _STREAM, _SEQPACKET = 1, 16, 1, 5
_NAMESPACES: Final = 0x7E020000  # the flags of `clone` that make a namespace
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C  # they put input into a terminal
#: The kinds of `ioctl` that change a file's flags or blocks, also of one that is open for reading.
_OF_FILES: Final = (0x5800, 0x6600, 0x9400)
#: The kind of `ioctl` by which any socket, a Unix socket too, tells addresses of the machine's network.
_OF_NETWORKS: Final = 0x8900
#: The command of `fcntl` by which who reads a file makes others wait to write it.
_LEASE: Final = 1024


class _Processor(NamedTuple):
    """A processor: the number of its architecture, its column in the tables, the number of `seccomp`."""

    architecture: int
    column: int
    seccomp: int


_PROCESSORS: Final = {"x86_64": _Processor(0xC000003E, 0, 317), "aarch64": _Processor(0xC00000B7, 1, 277)}

#: Each refused system call with its number on x86_64 and on aarch64; None: it has no such call.
_TABLE: Final = """
add_key 248 217, bpf 321 280, chroot 161 51, connect 42 203, execveat 322 281, fanotify_init 300 262,
fanotify_mark 301 263, io_uring_enter 426 426, io_uring_register 427 427, io_uring_setup 425 425,
ioprio_set 251 30, kcmp 312 272, keyctl 250 219, mount 165 40, mount_setattr 442 442, move_mount 429 429,
open_by_handle_at 304 265, open_tree 428 428, perf_event_open 298 241, pidfd_getfd 438 438, pivot_root 155 41,
process_madvise 440 440, process_mrelease 448 448, process_vm_readv 310 270, process_vm_writev 311 271,
ptrace 101 117, request_key 249 218, setns 308 268, umount2 166 39, unshare 272 97, userfaultfd 323 282,
fsconfig 431 431, fsmount 432 432, fsopen 430 430, fspick 433 433, statmount 457 457, listmount 458 458,
name_to_handle_at 303 264, inotify_init 253 None, inotify_init1 294 26, inotify_add_watch 254 27,
setpgid 109 154, setsid 112 157, migrate_pages 256 238, move_pages 279 239,
shmget 29 194, shmat 30 196, shmctl 31 195, semget 64 190, semop 65 193, semctl 66 191, semtimedop 220 192,
msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187, mq_open 240 180, mq_unlink 241 181,
chown 92 None, lchown 94 None, fchown 93 55, fchownat 260 54,
acct 163 89, adjtimex 159 171, clock_adjtime 305 266, clock_settime 227 112, settimeofday 164 170,
init_module 175 105, finit_module 313 273, delete_module 176 106, kexec_load 246 104, kexec_file_load 320 294,
ioperm 173 None, iopl 172 None, modify_ldt 154 None, lookup_dcookie 212 18, quotactl 179 60,
quotactl_fd 443 443, reboot 169 142, sethostname 170 161, setdomainname 171 162, swapon 167 224,
swapoff 168 225, syslog 103 116, vhangup 153 58
"""
#: As if this machine did not have them, so that libraries do without.
_UNKNOWN: Final = "clone3 435 435, memfd_create 319 279, memfd_secret 447 447, fchmodat2 452 452"
#: Modes and times stay as they are, and the caller is not told: a copy succeeds with the mode of a new file.
_IGNORED: Final = """
chmod 90 None, fchmod 91 52, fchmodat 268 53, utime 132 None, utimes 235 None, futimesat 261 None,
utimensat 280 88
"""
#: As if no file system had extended attributes.
_UNSUPPORTED: Final = """
setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, getxattr 191 8, lgetxattr 192 9, fgetxattr 193 10,
listxattr 194 11, llistxattr 195 12, flistxattr 196 13, removexattr 197 14, lremovexattr 198 15,
fremovexattr 199 16
"""
#: Refused where Landlock has no right to truncate: the path of a file that may not be opened.
_TRUNCATE: Final = "truncate 76 45"
#: Calls whose first argument is a process, 0 for the calling thread: the limits of others are refused, and
#: their scheduling is ignored, since libzmq ends the process when it may not set that of its threads.
_LIMITS: Final = "prlimit64 302 261"
_SCHEDULING: Final = """
sched_setaffinity 203 122, sched_setattr 314 274, sched_setparam 142 118, sched_setscheduler 144 119
"""
_SOCKET, _SOCKETPAIR, _CLONE = "socket 41 198", "socketpair 53 199", "clone 56 220"
_IOCTL, _FCNTL, _SETPRIORITY = "ioctl 16 29", "fcntl 72 25", "setpriority 141 140"


def available() -> bool:
    """Return whether this machine has filters, and a processor that the tables know."""
    machine = _machine()
    if machine is None:
        return False
    libc, action = ctypes.CDLL(None, use_errno=True), ctypes.c_uint32(_ERRNO)
    flags = ctypes.c_uint32(0)
    return bool(libc.syscall(machine.seccomp, _GET_ACTION_AVAIL, flags, ctypes.byref(action)) == 0)


def refuse(*, truncate: bool) -> None:
    """Refuse the system calls of the tables in this process, with `truncate` that of a path too.

    The process must have one thread and no_new_privs. Raise OSError when the system refuses.
    """
    instructions = program(os.uname().machine, truncate=truncate)
    code = b"".join(instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("@HP", len(instructions), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), described, 0, 0):
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp: {os.strerror(error)}")


def _machine() -> _Processor | None:
    if not sys.platform.startswith("linux") or sys.maxsize < 1 << 32:
        return None
    return _PROCESSORS.get(os.uname().machine)


def program(name: str, *, truncate: bool) -> list[bytes]:
    """Return the instructions of the filter for a processor, with `truncate` the call of a path refused."""
    machine = _PROCESSORS.get(name)
    if machine is None:
        raise OSError(errno.ENOSYS, f"seccomp: no table for the processor {name}")
    answers = {_TABLE + (f", {_TRUNCATE}" if truncate else ""): errno.EPERM}
    answers |= {_UNKNOWN: errno.ENOSYS, _IGNORED: 0, _UNSUPPORTED: errno.EOPNOTSUPP}
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, machine.architecture, on=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        _step(_GREATER, _NEWEST, off=1),
        _step(
            _RETURN, _ERRNO | errno.ENOSYS
        ),  # also the second set of numbers of x86_64, which begins at 2**30
    ]
    for table, answer in answers.items():
        for number in numbers(table, machine.column).values():
            steps += [_step(_EQUAL, number, off=1), _step(_RETURN, _ERRNO | answer)]
    for number, test in _tests(machine.column).items():
        steps += [_step(_EQUAL, number, off=len(test)), *test]
    return [*steps, _step(_RETURN, _ALLOW)]


def numbers(table: str, column: int) -> Mapping[str, int]:
    """Return the number of each system call of a table that the machine of a column has."""
    rows = (row.split() for row in table.replace("\n", " ").split(",") if row.strip())
    return {name: int(found) for name, *columns in rows if (found := columns[column]) != "None"}


def _tests(column: int) -> Mapping[int, list[bytes]]:
    """Return the calls that depend on an argument: each test ends by refusing or allowing the call."""
    refused, allowed = _step(_RETURN, _ERRNO | errno.EPERM), _step(_RETURN, _ALLOW)
    first, second = _step(_LOAD, _ARGUMENT), _step(_LOAD, _ARGUMENT + 8)
    kind = [second, _step(_AND, 0xF)]
    # libzmq ends the process on any other error of a netlink socket.
    netlink = [_step(_EQUAL, _NETLINK, off=1), _step(_RETURN, _ERRNO | errno.EOPNOTSUPP)]
    unix = [first, _step(_EQUAL, _UNIX, on=3), *netlink, refused, *kind, _step(_EQUAL, _STREAM, on=1)]
    terminal = [_step(_EQUAL, _TIOCSTI, on=1), _step(_EQUAL, _TIOCLINUX, off=1), refused]
    by_kind = [_step(_AND, 0xFF00)]
    for each in (*_OF_FILES, _OF_NETWORKS):
        by_kind += [_step(_EQUAL, each, off=1), refused]
    limits = [first, _step(_EQUAL, 0, on=1), refused, allowed]
    scheduling = [first, _step(_EQUAL, 0, on=1), _step(_RETURN, _ERRNO), allowed]
    tests = {
        _SOCKET: [*unix, refused, allowed],
        _SOCKETPAIR: [*unix, _step(_EQUAL, _SEQPACKET, off=1), allowed, refused],
        _CLONE: [first, _step(_BITS, _NAMESPACES, off=1), refused, allowed],
        _IOCTL: [second, *terminal, *by_kind, allowed],
        _FCNTL: [second, _step(_EQUAL, _LEASE, off=1), refused, allowed],
        _SETPRIORITY: [
            first,
            _step(_EQUAL, 0, on=1),
            refused,
            second,
            _step(_EQUAL, 0, on=1),
            refused,
            allowed,
        ],
    }
    found = {number: test for table, test in tests.items() for number in numbers(table, column).values()}
    found |= dict.fromkeys(numbers(_LIMITS, column).values(), limits)
    return found | dict.fromkeys(numbers(_SCHEDULING, column).values(), scheduling)


def _step(code: int, value: int, *, on: int = 0, off: int = 0) -> bytes:
    """Return one instruction; a jump leaves out `on` instructions when its test holds, `off` when not."""
    return struct.pack("=HBBI", code, on, off, value)
