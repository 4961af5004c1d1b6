"""The seccomp filter of each processor, run by an interpreter of its few instructions."""

from __future__ import annotations

import errno
import re
import struct

import pytest

from workbench.confinement import seccomp

ALLOWED, KILLED = "allowed", "killed"
#: The number of each architecture, and those of a few calls.
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NUMBERS = {
    "read": (0, 63), "openat": (257, 56), "execve": (59, 221), "connect": (42, 203), "fchmod": (91, 52),
    "socket": (41, 198), "socketpair": (53, 199), "clone": (56, 220), "ioctl": (16, 29), "fcntl": (72, 25),
    "prlimit64": (302, 261), "setpriority": (141, 140), "sched_setscheduler": (144, 119),
}  # fmt: skip
UNIX, INET, NETLINK, STREAM, DATAGRAM, PACKETS, NONBLOCKING = 1, 2, 16, 1, 2, 5, 0o4000
HIGH = 1 << 32  # what a caller adds to an argument of 32 bits, and the kernel ignores


def answer(processor: str, number: int, *arguments: int, architecture: int | None = None, **options: bool):
    """What the filter answers to a call: `ALLOWED`, `KILLED`, or the number of an error."""
    data = struct.pack(
        "<iIQ6Q", number, architecture or ARCHITECTURES[processor], 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6]
    )
    steps = [
        struct.unpack("=HBBI", step)
        for step in seccomp.program(processor, truncate=options.get("truncate", False))
    ]
    word, at = 0, 0
    while True:
        code, on, off, value = steps[at]
        at += 1
        if code == 0x20:  # load
            word = struct.unpack_from("<I", data, value)[0]
        elif code == 0x54:  # and
            word &= value
        elif code == 0x06:  # return
            return {0x7FFF0000: ALLOWED, 0x80000000: KILLED}.get(value, value & 0xFFFF)
        else:
            holds = {0x15: word == value, 0x25: word > value, 0x45: bool(word & value)}[code]
            at += on if holds else off


CALLS = [
    ("read", (), ALLOWED),
    ("openat", (), ALLOWED),
    ("execve", (), ALLOWED),
    ("connect", (), errno.EPERM),
    ("fchmod", (), 0),
    ("socket", (UNIX, STREAM), ALLOWED),
    ("socket", (UNIX + HIGH, STREAM | NONBLOCKING), ALLOWED),
    ("socket", (UNIX, DATAGRAM), errno.EPERM),
    ("socket", (UNIX, PACKETS), errno.EPERM),
    ("socket", (INET, STREAM), errno.EPERM),
    ("socket", (INET + HIGH, STREAM), errno.EPERM),
    ("socket", (NETLINK, STREAM), errno.EOPNOTSUPP),
    ("socketpair", (UNIX, STREAM | NONBLOCKING), ALLOWED),
    ("socketpair", (UNIX, PACKETS), ALLOWED),
    ("socketpair", (UNIX, DATAGRAM), errno.EPERM),
    ("socketpair", (INET, STREAM), errno.EPERM),
    ("clone", (0x3D0F00,), ALLOWED),  # a thread
    ("clone", (0x10000011,), errno.EPERM),  # a process in a user namespace
    ("ioctl", (1, 0x5401), ALLOWED),  # TCGETS
    ("ioctl", (1, 0x5412), errno.EPERM),  # TIOCSTI
    ("ioctl", (1, 0x5412 + HIGH), errno.EPERM),
    ("ioctl", (1, 0x541C), errno.EPERM),
    ("ioctl", (1, 0x40086602), errno.EPERM),  # FS_IOC_SETFLAGS
    ("ioctl", (1, 0x40049409), errno.EPERM),  # FICLONE
    ("ioctl", (1, 0x541B), ALLOWED),  # FIONREAD
    ("ioctl", (1, 0x8912), errno.EPERM),  # SIOCGIFCONF
    ("ioctl", (1, 0x8927 + HIGH), errno.EPERM),  # SIOCGIFHWADDR
    ("fcntl", (1, 2), ALLOWED),  # F_SETFD
    ("fcntl", (1, 6), ALLOWED),  # F_SETLK
    ("fcntl", (1, 1024 + HIGH), errno.EPERM),  # F_SETLEASE
    ("prlimit64", (0, 7), ALLOWED),
    ("prlimit64", (1, 7), errno.EPERM),
    ("setpriority", (0, 0), ALLOWED),
    ("setpriority", (0, 1), errno.EPERM),
    ("setpriority", (2, 0), errno.EPERM),
    ("sched_setscheduler", (0,), ALLOWED),
    ("sched_setscheduler", (1,), 0),
]


@pytest.mark.parametrize("processor", ARCHITECTURES)
@pytest.mark.parametrize(("name", "arguments", "expected"), CALLS)
def test_a_call_is_allowed_or_refused_by_its_number_and_arguments(processor, name, arguments, expected):
    number = NUMBERS[name][list(ARCHITECTURES).index(processor)]
    assert answer(processor, number, *arguments) == expected


@pytest.mark.parametrize("processor", ARCHITECTURES)
def test_other_architectures_and_numbers_that_the_tables_do_not_know_are_refused(processor):
    assert answer(processor, 0, architecture=0x40000003) == KILLED  # 32 bits
    assert answer(processor, 462) == ALLOWED
    assert answer(processor, 463) == errno.ENOSYS
    assert answer(processor, 0x40000000 | 41) == errno.ENOSYS  # x32
    assert answer(processor, -1) == errno.ENOSYS


@pytest.mark.parametrize("processor", ARCHITECTURES)
def test_truncating_by_path_is_refused_only_where_landlock_has_no_right_for_it(processor):
    number = {"x86_64": 76, "aarch64": 45}[processor]
    assert answer(processor, number) == ALLOWED
    assert answer(processor, number, truncate=True) == errno.EPERM


def test_a_processor_without_a_table_is_an_error():
    with pytest.raises(OSError, match="riscv64"):
        seccomp.program("riscv64", truncate=False)


def test_the_tables_name_each_call_and_each_number_once():
    texts = [text for text in vars(seccomp).values() if isinstance(text, str)]
    table = ",".join(text for text in texts if re.fullmatch(r"\s*(\w+ \d+ (\d+|None),?\s*)+", text))
    for column in (0, 1):
        found = [row.split() for row in table.split(",") if row.split()[column + 1] != "None"]
        assert len(seccomp.numbers(table, column)) == len(found)
        assert len({row[column + 1] for row in found}) == len(found)
