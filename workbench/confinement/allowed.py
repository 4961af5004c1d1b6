"""The values of a confinement: what a confined process may open, and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The files and folders that a confined process may use; a folder stands for everything below it.

    The Python installation and the libraries of the system are readable without being named, and Python alone
    may be executed. `hidden` takes files and folders out of `read`. There is no network: a confined process
    cannot open a connection.
    """

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    execute: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """The limits of each confined process: bytes of data, bytes of one file, and processes of the user.

    None is no limit. The system exempts root from the limit of processes.
    """

    memory: int | None = None
    file_size: int | None = None
    processes: int | None = None
