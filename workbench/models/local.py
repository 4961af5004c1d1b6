"""The embedded model: llama.cpp's own OpenAI-compatible server, one child process per core."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

from workbench import files
from workbench.errors import ConfigError, UnavailableError
from workbench.layout import CACHE
from workbench.models import weights
from workbench.models.card import ModelCard
from workbench.models.openai import OpenAIModel
from workbench.types import JSON, Event

_SCRIPT = Path(__file__).with_name("_server.py")
_START_S = 60.0
#: A server holds about 0.4 GB, so a machine with many cores does not get one for each.
_MOST_SERVERS = 8


def cores() -> int:
    """Cores this process may use, which `taskset` and containers narrow."""
    if hasattr(os, "sched_getaffinity"):  # Linux has it, others do not
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class LocalModel:
    """A model on this machine. Servers start on demand and end with this process, however it ends.

    Each serves one request at a time on one thread, which keeps answers byte-identical; further
    callers wait here, and their waiting is not counted against their timeout. At most `n_servers`
    run (default: one per core, eight at most).
    """

    def __init__(self, card: ModelCard, root: Path, *, n_servers: int | None = None) -> None:
        self.card = card
        self.n_servers = n_servers or min(cores(), _MOST_SERVERS)
        self._cache = root / CACHE
        self._path: Path | None = None
        self._pool: _Pool | None = None

    def __repr__(self) -> str:
        return f"LocalModel({self.card.name!r})"

    async def chat(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """`/chat/completions`, as any endpoint answers it."""
        async with (
            self._server() as server,
            aclosing(server.model.chat(payload, timeout_s=timeout_s)) as events,
        ):
            async for event in events:
                yield event

    async def embed(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """`/embeddings`; refused by a model whose card is not of kind `embedding`."""
        async with (
            self._server() as server,
            aclosing(server.model.embed(payload, timeout_s=timeout_s)) as events,
        ):
            async for event in events:
                yield event

    async def count(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """What `chat` takes in, by the server's own template and tokenizer: about 2 ms."""
        async with (
            self._server() as server,
            aclosing(server.model.count(payload, timeout_s=timeout_s)) as events,
        ):
            async for event in events:
                yield event

    async def aclose(self) -> None:
        """Stop the servers; the next call starts new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            async with contextlib.AsyncExitStack() as closing:
                closing.push_async_callback(asyncio.to_thread, pool.stop)
                for server in pool.servers:
                    if server.started:  # it has a model only then
                        closing.push_async_callback(server.model.aclose)

    @contextlib.asynccontextmanager
    async def _server(self) -> AsyncIterator[_Server]:
        """A server that answers nobody else meanwhile; one found dead is replaced."""
        loop = asyncio.get_running_loop()
        if self._pool is None or self._pool.loop is not loop:
            if self._pool is not None:
                self._pool.stop()
            self._pool = _Pool(loop, self.n_servers)
            weakref.finalize(self, self._pool.stop)
        pool = self._pool
        async with pool.free:
            server = await self._ready(pool)
            try:
                yield server
            except UnavailableError as error:
                if await server.ended():
                    raise server.died("ended while it answered") from error
                raise
            finally:
                pool.idle.append(server)

    async def _ready(self, pool: _Pool) -> _Server:
        """The server that was idle for the shortest time, or a new one."""
        while pool.idle:
            server = pool.idle.pop()
            if server.process.poll() is None:
                return server
            pool.servers.remove(server)
            server.stop()
            await server.model.aclose()
        if self._path is None:
            self._path = await asyncio.to_thread(self._weights)
        number = next(n for n in range(self.n_servers) if n not in {s.number for s in pool.servers})
        # On this thread and not on a passing one: the child ends with the thread that started it.
        server = _Server(number, self._settings(self._path, number), folder=self._cache / "logs")
        pool.servers.append(server)
        try:
            await server.start()
        except BaseException:
            pool.servers.remove(server)
            await asyncio.to_thread(server.stop)  # one that hangs takes its time
            raise
        return server

    def _weights(self) -> Path:
        card = self.card
        if card.weights is None or card.runtime is None:
            raise ConfigError(f"the model card {card.name!r} names no weights or no runtime")
        weights.check_runtime(card.runtime)
        return weights.find(card.weights, cache=self._cache)

    def _settings(self, path: Path, number: int) -> dict[str, object]:
        card = self.card
        settings = dataclasses.asdict(card.server)
        if card.server.port:
            settings["port"] = card.server.port + number
            _check_free(settings["port"], card.name)
        return settings | {
            "path": str(path),
            "model": card.model,
            "embedding": card.kind == "embedding",
        }


class _Pool:
    """The servers of one event loop. `free` counts callers, so that a waiting one waits here."""

    def __init__(self, loop: asyncio.AbstractEventLoop, n_servers: int) -> None:
        self.loop = loop
        self.free = asyncio.Semaphore(n_servers)
        self.servers: list[_Server] = []
        self.idle: list[_Server] = []

    def stop(self) -> None:
        """End every server. Called at the latest when the interpreter ends."""
        while self.servers:
            self.servers.pop().stop()


class _Server:
    """One child process, its log, and the way to talk to it."""

    def __init__(self, number: int, settings: dict[str, object], *, folder: Path) -> None:
        self.number = number
        self.model: OpenAIModel
        self.started = False
        self._owner = os.getpid()
        self._log = folder / f"{settings['model']}.{self._owner}.{number}.log"
        with files.writing(self._log):
            files.make_folder(folder)
            self._log.touch(0o600)
            log = self._log.open("wb")
        with log:
            self.process = subprocess.Popen(  # noqa: S603 - our own script, by our own interpreter
                [sys.executable, "-P", str(_SCRIPT), json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                process_group=0,  # an interrupt at the terminal is for the caller
            )

    async def start(self) -> None:
        """Wait until it can answer; UnavailableError quotes its log when it cannot start."""
        try:
            async with asyncio.timeout(_START_S):
                address = await asyncio.to_thread(self._address)
        except TimeoutError:
            raise self.died(f"was not ready after {_START_S:g} s") from None
        if not address:
            await self.ended()
            raise self.died("ended when it started")
        self.model, self.started = OpenAIModel(address + "/v1"), True

    def _address(self) -> str:
        for line in self.process.stdout or ():
            if line.startswith(b"http://"):
                return line.decode().strip()
        return ""

    async def ended(self) -> bool:
        """Whether the process is gone; a connection breaks a moment before that is known."""
        for _ in range(20):
            if self.process.poll() is not None:
                return True
            await asyncio.sleep(0.01)
        return False

    def died(self, what: str) -> UnavailableError:
        """The error for a server that ended by itself or hangs, with the last lines of its log."""
        code = self.process.poll()
        how = "" if code is None else f" (signal {-code})" if code < 0 else f" (exit code {code})"
        try:
            lines = self._log.read_text("utf-8", "replace").strip().splitlines()[-5:]
        except OSError:
            lines = []
        said = "".join(f"\n    {line}" for line in lines)
        return UnavailableError(
            f"the embedded model's server {what}{how}{said}",
            hint="ask again: a new one is started; signal 9 often means that memory ran out",
        )

    def stop(self) -> None:
        """End it, and remove its log. Does nothing in a fork, whose parent still uses it."""
        if os.getpid() != self._owner:
            return
        if self.process.stdin is not None:
            self.process.stdin.close()  # which tells it to end
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()  # only now: it waits for whoever still reads it
        self._log.unlink(missing_ok=True)


def _check_free(port: int, name: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(
                f"port {port}, which the model card {name!r} asks for, is taken: {error.strerror}",
                hint="set server.port: 0 in the card to take any free port, or end what listens there",
            ) from None
