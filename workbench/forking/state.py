"""The state of a forked process: its mark, its environment, and nothing random that another one has too."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from workbench.processes import MARK

#: The room for a mark in the environment with which a template is started.
ROOM: Final = "-" * 120
#: Where /proc/PID/stat has the address of the environment, counted behind the name of the program.
_ENV_START: Final = 47
#: The variables that modules set when they were imported.
_set_by_imports: Final[dict[str, str]] = {}


def set_mark(mark: str) -> None:
    """Write a mark over the room for it in this process's first environment, which others read in /proc.

    Raise ValueError when the process was started without that room, or when the mark is longer.
    """
    block = Path("/proc/self/environ").read_bytes()
    room = f"{MARK}={ROOM}".encode()
    place = block.find(room + b"\0")
    written = f"{MARK}={mark}".encode()
    if place < 0 or len(written) + 3 > len(room):
        raise ValueError(f"no room for the mark {mark[:40]!r} in the environment of this process")
    # The rest of the room becomes a variable without a name that readers know.
    written += b"\0_=" + b"-" * (len(room) - len(written) - 3)
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    ctypes.memmove(int(fields[_ENV_START]) + place, written, len(written))


def note_imports() -> None:
    """Note the variables that modules set in this process since it started: its forked processes get them."""
    block = Path("/proc/self/environ").read_bytes().split(b"\0")
    started = {os.fsdecode(item.partition(b"=")[0]) for item in block}
    _set_by_imports.update({name: value for name, value in os.environ.items() if name not in started})


def replace_environment(environment: Mapping[str, str]) -> None:
    """Replace the variables of this process, and what the C library and Python took from the former ones.

    Those that modules set when they were imported stay, as if they were imported now.
    """
    os.environ.clear()
    os.environ.update({**_set_by_imports, **environment})
    time.tzset()
    tempfile.tempdir = None


def renew_randomness() -> None:
    """Draw anew what modules drew when they were imported; Python's own `random` does so by itself."""
    numbers: Any = sys.modules.get("numpy.random")
    if numbers is not None:
        numbers.seed()
    processes: Any = sys.modules.get("multiprocessing.process")
    if processes is not None:
        processes.current_process().authkey = os.urandom(32)


def restart_imports(environment: Mapping[str, str], *, without: str) -> None:
    """Let Python import and warn as if it had started with an environment.

    PYTHONPATH replaces the former one and the folder `without`; `sitecustomize` runs, and PYTHONWARNINGS
    holds.
    """
    former = {"", without, *os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    added = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*added, *(path for path in sys.path if path not in former)]
    sys.path_importer_cache.clear()
    replace_environment(environment)
    options = [option for option in environment.get("PYTHONWARNINGS", "").split(",") if option]
    warnings._processoptions(options)  # type: ignore[attr-defined]  # noqa: SLF001  as Python does at its start
    sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
