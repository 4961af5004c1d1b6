"""Describe the environment of a run, and how it differs from the environment that was judged.

What can change an output must match: the lock, the installed packages that it names, Python's minor version,
the system, the processor and a confinement that is not weaker. The rest may differ and is told.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from workbench import files
from workbench.repository.environments import STAMP

#: The variable in which a container names its image.
IMAGE_VARIABLE: Final = "WORKBENCH_IMAGE"
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
_VERSION = re.compile(r"^version(?:_info)?\s*=\s*(\d+\.\d+\.\d+)", re.MULTILINE)
_LEVELS = ("none", "partial", "full")
#: Characters of a digest that a difference shows, and most bytes of a lock.
_SHOWN = 12
_MOST_LOCK = 16_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A part of two environments that is not equal; `matters` for one that can change an output."""

    part: str
    judged: str
    here: str
    matters: bool

    def __str__(self) -> str:
        """Return the part with both values."""
        return f"{self.part} is {self.here or 'unknown'}, judged with {self.judged or 'unknown'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """An environment: interpreter, machine, SHA-256 of the lock and of the installed packages it names.

    `confinement` is the level to which kernels are confined: full, partial or none. `image` names the
    container's image, `libc` and `kernel` the machine's; they and a patch version of Python may differ.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    python: str
    system: str
    machine: str
    lock: str
    packages: str
    confinement: str
    libc: str = ""
    kernel: str = ""
    image: str = ""

    @property
    def digest(self) -> str:
        """The SHA-256 of the parts that must match."""
        return files.digest({**{part: getattr(self, part) for part in _MUST}, "python": _minor(self.python)})

    def to_json(self) -> dict[str, str]:
        """Return the parts by name."""
        return asdict(self)

    def differences(self, here: Fingerprint) -> tuple[Difference, ...]:
        """Return the parts in which the environment `here` differs from this judged one, in their order."""
        found = []
        for part, judged in self.to_json().items():
            other = getattr(here, part)
            if judged != other:
                matters = part in _MUST and not _as_good(part, judged, other)
                found.append(
                    Difference(part=part, judged=_short(judged), here=_short(other), matters=matters)
                )
        return tuple(found)


_MUST = ("python", "system", "machine", "lock", "packages", "confinement")


def fingerprint(python: Path, *, confinement: str) -> Fingerprint:
    """Return the fingerprint of the environment of an interpreter, which is not started."""
    prefix = python.parent.parent
    lock = _text(prefix / STAMP)
    return Fingerprint(
        python=_version(prefix),
        system=platform.system(),
        machine=platform.machine(),
        lock=files.digest(lock.encode()) if lock else "",
        packages=_packages(prefix, lock),
        confinement=confinement,
        libc=" ".join(platform.libc_ver()).strip(),
        kernel=platform.release(),
        image=os.environ.get(IMAGE_VARIABLE, "")[:200],
    )


def _version(prefix: Path) -> str:
    """Return the version of an environment's Python, "" when nothing states it."""
    if prefix == Path(sys.prefix):
        return platform.python_version()
    found = _VERSION.search(_text(prefix / "pyvenv.cfg"))
    return found[1] if found else ""


def _packages(prefix: Path, lock: str) -> str:
    """Return the digest of the installed packages that a lock names, with their versions.

    The names of folders state both. To import the packages' metadata would take a tenth of a second.
    """
    named = {_normal(name) for name in _LOCKED.findall(lock)}
    found = set()
    for folder in prefix.glob("lib/python*/site-packages/*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").rpartition("-")
        if _normal(name) in named:
            found.add((_normal(name), version))
    return files.digest(sorted(map(list, found)))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _as_good(part: str, judged: str, here: str) -> bool:
    """Whether another value of a part gives the same output, and is no weaker."""
    if part == "python":
        return _minor(judged) == _minor(here)
    if part == "confinement" and {judged, here} <= set(_LEVELS):
        return _LEVELS.index(here) >= _LEVELS.index(judged)
    return False


def _short(value: str) -> str:
    return value[:_SHOWN] if len(value) == len(files.digest(b"")) else value


def _text(path: Path) -> str:
    return files.read_text(path, limit=_MOST_LOCK) if path.is_file() else ""
