"""Start the workers of the gateway, replace one that ends, and exchange all without losing an answer."""

from __future__ import annotations

import dataclasses
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import orjson

from workbench import processes
from workbench.config import GatewaySettings
from workbench.errors import UnavailableError
from workbench.gateway.metrics import SHARED, forget_worker

#: Seconds in which a worker must accept connections.
_START_S: Final = 60.0
#: Seconds between two looks at the workers, and before one that ended at once is started again.
_LOOK_S, _AGAIN_S = 0.2, 2.0
_log = logging.getLogger("workbench.gateway")


class Supervisor:
    """The workers of one listening socket.

    SIGTERM and SIGINT end them, each when its answers have ended. SIGHUP starts new workers, with code and
    files as they are now, and ends the old ones when the new ones accept connections.
    """

    def __init__(self, root: Path, listener: socket.socket, settings: GatewaySettings) -> None:
        self._root, self._listener, self._settings = root, listener, settings
        self._mark = f"gateway-{os.getpid()}-{time.time_ns()}"
        self._workers: list[subprocess.Popen[bytes]] = []
        self._ending: list[subprocess.Popen[bytes]] = []
        self._stop = self._exchange = False

    def run(self, *, ready: Callable[[], object]) -> None:
        """Run until a signal ends it; `ready` is called when every worker accepts connections.

        Raise UnavailableError when a worker cannot start.
        """
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGHUP, self._note)
        with tempfile.TemporaryDirectory(prefix="workbench-gateway-") as shared:
            environment = {**os.environ, SHARED: shared} if self._settings.workers > 1 else {**os.environ}
            try:
                self._workers = self._started(environment)
                ready()
                while not self._stop:
                    self._look(environment)
                    time.sleep(_LOOK_S)
            finally:
                self._end_all()

    def _note(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._exchange = True
        elif self._stop:
            processes.kill_marked(self._mark)
        self._stop = self._stop or number != signal.SIGHUP

    def _started(self, environment: dict[str, str]) -> list[subprocess.Popen[bytes]]:
        """Return as many workers as the settings state, which all accept connections."""
        begun = [self._begun(environment) for _ in range(self._settings.workers)]
        end = time.monotonic() + _START_S
        for _worker, pipe in begun:
            while not self._stop and not _is_readable(pipe, _LOOK_S) and time.monotonic() < end:
                pass
        told = [bool(_is_readable(pipe, 0) and os.read(pipe, 1)) for _worker, pipe in begun]
        for _worker, pipe in begun:
            os.close(pipe)
        workers = [worker for worker, _pipe in begun]
        if not all(told) and not self._stop:
            for worker in workers:
                _end(worker)
            raise UnavailableError(
                "a worker of the gateway did not start; its error is above", hint="workbench check"
            )
        return workers

    def _begun(self, environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], int]:
        """Start one worker; return it with the pipe on which it says that it accepts connections."""
        settings = orjson.dumps(dataclasses.asdict(self._settings)).decode()
        listener = self._listener.fileno()
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)  # noqa: FBT003 - its only argument
        module = [sys.executable, "-P", "-m", "workbench.processes", "workbench.gateway"]
        worker = processes.start(
            [*module, str(self._root), str(listener), str(writing), settings],
            mark=self._mark, cwd=self._root, environment=environment,
            pass_fds=(listener, writing), start_new_session=True,
        )  # fmt: skip
        os.close(writing)
        return worker, reading

    def _look(self, environment: dict[str, str]) -> None:
        """Replace workers that ended, and all of them when that was asked."""
        for worker in [worker for worker in self._ending if worker.poll() is not None]:
            self._ending.remove(worker)
            self._forget(worker, environment)
        if self._exchange:
            self._exchange = False
            self._exchanged(environment)
        for place, worker in enumerate(self._workers):
            if worker.poll() is not None:
                _log.error("a worker ended with code %d and is started again", worker.returncode)
                self._forget(worker, environment)
                time.sleep(_AGAIN_S)
                new, pipe = self._begun(environment)
                os.close(pipe)
                self._workers[place] = new

    def _forget(self, worker: subprocess.Popen[bytes], environment: dict[str, str]) -> None:
        if SHARED in environment:
            forget_worker(worker.pid, environment[SHARED])

    def _exchanged(self, environment: dict[str, str]) -> None:
        try:
            new = self._started(environment)
        except UnavailableError as error:
            _log.error("the workers stay as they are: %s", error.message)
            return
        old, self._workers = self._workers, new
        for worker in old:
            worker.terminate()
        self._ending += old
        _log.info("%d new workers answer", len(new))

    def _end_all(self) -> None:
        workers = [*self._workers, *self._ending]
        for worker in workers:
            worker.terminate()
        end = time.monotonic() + self._settings.limits.drain_s + 10
        for worker in workers:
            try:
                worker.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        self._listener.close()


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.wait()


def _is_readable(pipe: int, wait_s: float) -> bool:
    poll = select.poll()  # select() takes no descriptor above 1,023
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(wait_s * 1000))
