"""The templates of a server with --warm: one for each version of code that ran, and one for the command.

A run that finds no template starts cold and orders one. `WarmTemplates.look` starts what is ordered, and ends
what is idle, too large or too many. What cannot be kept runs cold, and the log says so in one line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workbench import processes
from workbench.config.operations import WarmLimits
from workbench.errors import WorkbenchError
from workbench.files import folders
from workbench.files.socket_folders import socket_folder
from workbench.forking import kept as kept_templates
from workbench.forking import templates
from workbench.forking.templates import ForkedProcess, TemplateOrder

#: The folder of templates in that of the user's sockets, whose paths are short.
_FOLDER: Final = "workbench-warm-"
#: The program of the command's template.
COMMAND: Final = "workbench.cli.jobs_template"
#: Most characters of a template's last line that the log quotes.
_MOST_SAID: Final = 300
_PACKAGE: Final = Path(processes.__file__).parent
_log = logging.getLogger("workbench.scheduler")


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeptTemplate:
    """A template that was started, when, and on which code."""

    order: TemplateOrder
    process: subprocess.Popen[bytes]
    started: float
    #: The state of the installed code before the template imported it.
    code: object


class WarmTemplates:
    """The templates of one server, in a private folder that goes with it.

    `limits` are read at each look. The template of the command counts as one more than they allow. `code`
    tells the state of the installed code, which a template must not be older than. The methods may be called
    from several threads.
    """

    def __init__(self, limits: Callable[[], WarmLimits], *, code: Callable[[], object] | None = None) -> None:
        self.folder = socket_folder(_FOLDER)
        self._limits, self._code = limits, code or _installed
        self._kept: dict[str, _KeptTemplate] = {}
        self._listening: set[str] = set()
        self._cold: set[str] = set()
        self._lock = threading.Lock()
        self._closed = False

    def variables(self) -> Mapping[str, str]:
        """Return what tells the processes of a server where its templates are."""
        return {templates.FOLDER_VARIABLE: str(self.folder)}

    def start(
        self, order: TemplateOrder, arguments: Sequence[str], *, mark: str, environment: Mapping[str, str],
        stream: int,
    ) -> ForkedProcess | None:  # fmt: skip
        """Return a process of a template; None, when it must be started cold, orders the template.

        A template that imported its modules before the code was updated is ended: what is imported late is
        new.
        """
        with self._lock:
            kept = self._kept.get(order.key)
            if kept is not None and kept.code != self._code():
                self._end(order.key, "its code was updated")
        return templates.forked(
            self.folder, order, arguments, mark=mark, environment=environment, streams=(stream, stream)
        )

    def order(self, order: TemplateOrder) -> None:
        """Order a template before its first run."""
        templates.place_order(self.folder, order)

    def look(self) -> None:
        """Start the templates that were ordered, and end those that are idle, too large or too many."""
        with self._lock:
            if self._closed:
                return
            limits = self._limits()
            for key, kept in list(self._kept.items()):
                self._check(key, kept, limits)
            for path in sorted(self.folder.glob("*.json"), key=_used, reverse=True):
                if path.stem not in self._kept and path.stem not in self._cold:
                    self._start(path)
            versions = [key for key, kept in self._kept.items() if not self._is_command(kept.order)]
            for key in sorted(versions, key=self._used, reverse=True)[limits.templates :]:
                self._end(key, f"more than {limits.templates} templates are in use")

    def close(self) -> None:
        """End all templates and remove the folder; processes that they forked are not touched."""
        with self._lock:
            self._closed = True
            for kept in self._kept.values():
                kept_templates.end(kept.process)
            self._kept.clear()
            folders.remove(self.folder)

    def _start(self, path: Path) -> None:
        try:
            order = templates.read_order(path)
        except WorkbenchError as error:
            self._refuse(path.stem, path.stem, error.message)
            return
        if not self._is_command(order) and not kept_templates.supports(order):
            self._refuse(path.stem, order.name, "this code has no templates")
            return
        place, code = path.with_suffix(""), self._code()
        with place.with_suffix(".log").open("wb") as log:
            process = kept_templates.start(order, place, log)
        self._kept[path.stem] = _KeptTemplate(
            order=order, process=process, started=time.monotonic(), code=code
        )

    def _check(self, key: str, kept: _KeptTemplate, limits: WarmLimits) -> None:
        """End or forget a template that died, is idle or is too large; say that a new one listens."""
        code = kept.process.poll()
        size = _resident_mb(kept.process.pid)
        large = f"its template has {size:.0f} MB, more than warm.memory_mb, {limits.memory_mb:g}"
        if key in self._listening:
            if code is not None:
                self._end(key, f"its template ended with code {code}")
            elif size > limits.memory_mb:
                self._end(key, large)
            elif time.time() - self._used(key) > limits.idle_s:
                self._end(key, f"no run used its template for {limits.idle_s:g} s")
        elif code is not None:
            self._refuse(key, kept.order.name, self._said(key) or f"its template ended with code {code}")
        elif size > limits.memory_mb:
            self._refuse(key, kept.order.name, large)
        elif (self.folder / key).exists():
            self._listening.add(key)
            _log.info("%s is warm: its runs are forked from process %d", kept.order.name, kept.process.pid)
        elif time.monotonic() - kept.started > kept_templates.LISTENS_S:
            self._refuse(
                key, kept.order.name, f"its template did not listen within {kept_templates.LISTENS_S:g} s"
            )

    def _end(self, key: str, why: str) -> None:
        """End a template; the next run of its version is cold and orders another one."""
        kept = self._kept.pop(key)
        self._listening.discard(key)
        for path in (self.folder / key, self.folder / f"{key}.json"):
            path.unlink(missing_ok=True)
        kept_templates.end(kept.process)
        _log.info("%s is cold until its next run: %s", kept.order.name, why)

    def _refuse(self, key: str, name: str, why: str) -> None:
        """Let the runs of a version start cold as long as this server runs; the order stays."""
        self._cold.add(key)
        if (kept := self._kept.pop(key, None)) is not None:
            kept_templates.end(kept.process)
        (self.folder / key).unlink(missing_ok=True)
        _log.info("%s is not kept warm: %s; its runs start cold", name, why)

    def _is_command(self, order: TemplateOrder) -> bool:
        return order.module == COMMAND

    def _used(self, key: str) -> float:
        return _used(self.folder / f"{key}.json")

    def _said(self, key: str) -> str:
        """Return the last line that a template wrote."""
        with contextlib.suppress(OSError):
            text = (self.folder / f"{key}.log").read_text(encoding="utf-8", errors="replace")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            return lines[-1][:_MOST_SAID] if lines else ""
        return ""


def _installed() -> object:
    """Return what changes when this package is updated, or another one is installed beside it."""
    files = [entry for folder, _, _ in os.walk(_PACKAGE) for entry in os.scandir(folder) if entry.is_file()]
    states = (entry.stat() for entry in files if entry.name.endswith(".py"))
    newest = [(state.st_mtime_ns, state.st_size) for state in states]
    return sum(hash(state) for state in newest), Path(sysconfig.get_path("purelib")).stat().st_mtime_ns


def _used(path: Path) -> float:
    """Return when an order was last used, in seconds of the clock of files."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _resident_mb(pid: int) -> float:
    """Return the memory of a process that is in RAM, in MB; 0 for one that has ended."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 1e6
    return 0.0
