"""Run a server of jobs until a signal ends it, with its health over HTTP and the delivery of notices."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from workbench.display import harmless
from workbench.scheduler.server import JobServer

#: Seconds between two deliveries of notices, between two looks while runs end, and for threads to end.
_DELIVER_S: Final = 2.0
_ENDING_S: Final = 0.1
_LAST_S: Final = 5.0
_log = logging.getLogger("workbench.scheduler")


def serve(
    server: JobServer,
    *,
    listener: socket.socket | None = None,
    deliver: Callable[[], object] = lambda: None,
    grace_s: float = 30.0,
) -> None:
    """Run a server until SIGTERM or SIGINT, or until what its options state is done.

    After a signal no run starts. Those that run have `grace_s` seconds to end; then they are killed, and
    their slots wait for the next server. A second signal ends the waiting. `deliver` is called every two
    seconds in a thread of its own, so that a slow channel delays no run.
    """
    stop = _Stop()
    with stop.on_signals(), _health(server, listener), _delivering(deliver):
        try:
            while not stop.asked.is_set() and not server.is_done():
                stop.asked.wait(server.tick())
            end = time.monotonic() + grace_s
            while server.children and time.monotonic() < end and not stop.at_once.is_set():
                server.poll()
                stop.at_once.wait(_ENDING_S)
        finally:
            server.end()
            server.leave()


def log_to_stderr() -> None:
    """Write the log of the server to the standard error."""
    ours = logging.getLogger("workbench.scheduler")
    if not ours.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
        ours.addHandler(handler)
        ours.setLevel(logging.INFO)
        ours.propagate = False


class _OneLine(logging.Formatter):
    """Writes a message without a line of its own making: an error may quote what somebody committed."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name of the library
        """Return the line of a record; further lines of its message are indented."""
        return harmless(super().formatMessage(record)).replace("\n", "\n  ")


class _Stop:
    """The signals that a server got: the first one ends its work, the second one its grace."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.at_once = threading.Event()

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Note SIGTERM and SIGINT during a block; outside of the main thread nothing is noted."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, *_: object) -> None:
        (self.at_once if self.asked.is_set() else self.asked).set()


@contextlib.contextmanager
def _health(server: JobServer, listener: socket.socket | None) -> Iterator[None]:
    """Serve the health of a server during a block, in a thread of its own."""
    if listener is None:
        yield
        return
    from workbench.scheduler.health import HealthServer

    health = HealthServer(server, listener)
    thread = threading.Thread(
        target=lambda: asyncio.run(health.serve([listener])), name="workbench-health", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        health.should_exit = True
        thread.join(_LAST_S)


@contextlib.contextmanager
def _delivering(deliver: Callable[[], object]) -> Iterator[None]:
    """Deliver notices during a block, and once more at its end."""
    ended = threading.Event()

    def run() -> None:
        while True:
            last = ended.wait(_DELIVER_S)
            try:
                deliver()
            except Exception as error:  # noqa: BLE001  a thread that ends would deliver nothing any more
                _log.error("notices wait: %s: %s", type(error).__name__, error)
            if last:
                return

    thread = threading.Thread(target=run, name="workbench-notices", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_LAST_S)
