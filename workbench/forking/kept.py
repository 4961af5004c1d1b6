"""Start a template, and keep one while a command runs several processes of the same program."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from workbench import processes
from workbench.files import folders
from workbench.files.socket_folders import socket_folder
from workbench.forking import state, template, templates
from workbench.forking.templates import TemplateOrder

#: Seconds in which a template must listen: it imports what its processes need.
LISTENS_S: Final = 120.0
#: The folder of a command's template in that of the user's sockets, whose paths are short.
_FOLDER: Final = "workbench-kept-"
#: Where the code of a version has its part of this, since versions have it.
_SUPPORT: Final = "workbench/forking/template.py"
_TICK_S: Final = 0.02
#: The folder of the innermost block, and its templates by the key of their orders.
_block: ContextVar[tuple[str, dict[str, subprocess.Popen[bytes]]] | None] = ContextVar("_block", default=None)


def supports(order: TemplateOrder) -> bool:
    """Return whether the code of an order has templates, and this system."""
    return sys.platform == "linux" and (Path(order.cwd) / _SUPPORT).is_file()


def start(order: TemplateOrder, place: Path, log: Any) -> subprocess.Popen[bytes]:
    """Start the template of an order, which listens at `place` and ends with this process."""
    return subprocess.Popen(  # noqa: S603  the interpreter of a version's own environment
        [order.python, *order.flags, "-m", order.module, template.OPTION, str(place)],
        cwd=order.cwd, env={**order.environment, processes.MARK: state.ROOM},
        stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
        umask=0o077,  # it compiles what it imports, below .workbench
    )  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> None:
    """End a template; what it has forked goes on."""
    process.kill()  # it holds nothing that it must release
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def first_on_path(folder: Path, environment: Mapping[str, str]) -> str:
    """Return the PATH of an environment with this folder first and once: equal programs, equal templates."""
    path = environment.get("PATH", os.defpath)
    rest = [item for item in path.split(os.pathsep) if item != str(folder)]
    return os.pathsep.join([str(folder), *rest])


@contextlib.contextmanager
def kept_templates() -> Iterator[None]:
    """Keep a template of each program that is prepared in the block, until it ends.

    A server keeps its own templates, and another system has none: there the block does nothing.
    """
    if os.environ.get(templates.FOLDER_VARIABLE) or sys.platform != "linux":
        yield
        return
    folder = socket_folder(_FOLDER)
    started: dict[str, subprocess.Popen[bytes]] = {}
    before = _block.set((str(folder), started))
    try:
        yield
    finally:
        _block.reset(before)
        for process in started.values():
            end(process)
        folders.remove(folder)


def variables() -> dict[str, str]:
    """Return the variables that tell a child where the templates of this block are, none outside of one."""
    block = _block.get()
    return {} if block is None else {templates.FOLDER_VARIABLE: block[0]}


def folder_for(order: TemplateOrder) -> str | None:
    """Return the folder of the template of an order: that of the block here, or of the server; None for none.

    In a block the first process of a program waits until its template listens. When it cannot, the processes
    of the program start cold.
    """
    block = _block.get()
    if block is None:
        return os.environ.get(templates.FOLDER_VARIABLE)
    folder, started = block
    place = Path(folder) / order.key
    if order.key not in started and supports(order):
        process = started[order.key] = start(order, place, subprocess.DEVNULL)
        until = time.monotonic() + LISTENS_S
        while not place.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(_TICK_S)
    return folder
