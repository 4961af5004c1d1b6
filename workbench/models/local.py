"""The embedded model: llama.cpp's OpenAI-compatible server, in up to one child process per core."""

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
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

from workbench import files, processes
from workbench.errors import ConfigError, RefusedError, UnavailableError
from workbench.layout import CACHE
from workbench.models import weights
from workbench.models.card import ModelCard
from workbench.models.openai import OpenAIModel
from workbench.types import JSON, Event

_SCRIPT = Path(__file__).with_name("_server.py")
_START_S = 60.0
#: A server takes about 0.4 GB of memory.
_MOST_SERVERS = 8
_Verb = Callable[..., AsyncGenerator[Event, None]]


def cores() -> int:
    """Return the number of cores that this process may use, as limited by `taskset` or a container."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class LocalModel:
    """A model on this machine. Its servers start on demand and end with this process, even if it is killed.

    A server answers one request at a time on one thread, so that answers are byte-identical. Further callers
    wait for a free server; their timeout, in seconds, starts afterwards. At most `n_servers` run, by default
    one per core and no more than eight.
    """

    def __init__(self, card: ModelCard, root: Path, *, n_servers: int | None = None) -> None:
        self.card = card
        self.n_servers = n_servers or min(cores(), _MOST_SERVERS)
        self._cache = root / CACHE
        self._path: Path | None = None
        self._pool: _Pool | None = None

    def __repr__(self) -> str:
        return f"LocalModel({self.card.name!r})"

    def chat(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """Yield the events of `/chat/completions`; RefusedError for a tool that must be called.

        The server would answer with a text instead.
        """
        choice = payload.get("tool_choice")
        if payload.get("tools") and choice not in (None, "auto", "none"):
            raise RefusedError(
                f"{self.card.name!r} is the embedded model and cannot be made to call a tool (tool_choice)",
                hint="leave tool_choice out, or name a card of an endpoint that calls tools",
                status=400,
            )
        return self._ask(OpenAIModel.chat, payload, timeout_s)

    def respond(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncIterator[Event]:  # noqa: ARG002 - the port's
        """Raise RefusedError: the embedded model speaks chat completions."""
        raise RefusedError(
            f"{self.card.name!r} is the embedded model and does not speak /responses",
            hint="call client.chat.completions.create(…) or ws.model().chat(…), or name the card of an "
            "endpoint with /responses",
            status=501,
        )

    def moderate(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncIterator[Event]:  # noqa: ARG002 - the port's
        """Raise RefusedError: the embedded model moderates nothing."""
        raise RefusedError(
            f"{self.card.name!r} is the embedded model and does not moderate",
            hint="name a card of kind moderation: pipelines/models/NAME/1.yaml",
            status=501,
        )

    def embed(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """Yield the event of `/embeddings`; RefusedError unless the card's kind is `embedding`."""
        return self._ask(OpenAIModel.embed, payload, timeout_s)

    def count(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """Yield the input tokens of `chat`, counted with the server's own template in about 2 ms."""
        return self._ask(OpenAIModel.count, payload, timeout_s)

    async def aclose(self) -> None:
        """Stop the servers, starting ones too; the next call starts new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            async with contextlib.AsyncExitStack() as closing:
                closing.push_async_callback(asyncio.to_thread, pool.stop)
                for server in pool.servers:
                    if server.started:  # it has a model only then
                        closing.push_async_callback(server.model.aclose)

    async def _ask(self, verb: _Verb, payload: JSON, timeout_s: float | None) -> AsyncGenerator[Event, None]:
        async with (
            self._server() as server,
            aclosing(verb(server.model, payload, timeout_s=timeout_s)) as events,
        ):
            async for event in events:
                yield event

    @contextlib.asynccontextmanager
    async def _server(self) -> AsyncIterator[_Server]:
        """Reserve a server for one request; replace a server that has ended."""
        loop = asyncio.get_running_loop()
        if self._pool is None or self._pool.loop is not loop:
            if self._pool is not None:
                self._pool.stop()
            self._pool = _Pool(loop, self.n_servers)
            weakref.finalize(self, self._pool.stop)
        pool = self._pool
        async with pool.free:
            if pool is not self._pool:
                raise UnavailableError(
                    f"{self.card.name!r} was closed before the call", hint="repeat the call"
                )
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
        """Return the server that became idle last, or a new one."""
        while pool.idle:
            server = pool.idle.pop()
            if server.process.poll() is None:
                return server
            pool.servers.discard(server)
            server.stop()
            await server.model.aclose()
        if self._path is None:
            self._path = await asyncio.to_thread(self._weights)
        number = next(n for n in range(self.n_servers) if n not in {s.number for s in pool.servers})
        # On the loop's thread, not in a pool's: the system ends the child with the thread that started it.
        server = _Server(number, self._settings(self._path, number), folder=self._cache / "logs")
        pool.servers.add(server)
        try:
            await server.start()
        except BaseException:
            pool.servers.discard(server)
            await asyncio.to_thread(server.stop)  # may take the grace period
            raise
        return server

    def _weights(self) -> Path:
        card = self.card
        if card.weights is None or card.runtime is None:
            raise ConfigError(
                f"the model card {card.reference!r} names no weights or no runtime",
                hint=f"add weights: and runtime: to the card, then workbench save model/{card.name}",
            )
        weights.check_runtime(card.runtime)
        return weights.find(card.weights, cache=self._cache)

    def _settings(self, path: Path, number: int) -> dict[str, object]:
        card = self.card
        settings = dataclasses.asdict(card.server)
        if card.server.port:
            settings["port"] = card.server.port + number
            _check_free(settings["port"], card.name)
        return settings | {"path": str(path), "model": card.model, "embedding": card.kind == "embedding"}


class _Pool:
    """The servers of one event loop. The semaphore `free` admits as many callers as there may be servers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, n_servers: int) -> None:
        self.loop = loop
        self.free = asyncio.Semaphore(n_servers)
        self.servers: set[_Server] = set()
        self.idle: list[_Server] = []

    def stop(self) -> None:
        """Stop every server. Runs at the latest when the interpreter exits."""
        while self.servers:
            self.servers.pop().stop()


class _Server:
    """One server: its child process, its log and, once started, the adapter that calls it."""

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
                env=processes.inherited(),
                process_group=0,  # an interrupt at the terminal is for the caller
            )

    async def start(self) -> None:
        """Wait until the server is ready; raise UnavailableError with the end of its log if it is not."""
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
        """Return whether the process has ended; wait up to 0.2 s, because its connections break first."""
        for _ in range(20):
            if self.process.poll() is not None:
                return True
            await asyncio.sleep(0.01)
        return False

    def died(self, what: str) -> UnavailableError:
        """Return the error for a server that ended or hangs, with the last lines of its log."""
        code = self.process.poll()
        how = "" if code is None else f" (signal {-code})" if code < 0 else f" (exit code {code})"
        try:
            lines = self._log.read_text("utf-8", "replace").strip().splitlines()[-5:]
        except OSError:
            lines = []
        quoted = "".join(f"\n    {line}" for line in lines)
        return UnavailableError(
            f"the embedded model's server {what}{how}{quoted}",
            hint="repeat the call, which starts a new server; signal 9 often means that memory ran out",
        )

    def stop(self) -> None:
        """Stop the process and remove its log; do nothing in a fork, whose parent still uses the server."""
        if os.getpid() != self._owner:
            return
        processes.stop(self.process)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()  # after the end: closing waits for a reader
        self._log.unlink(missing_ok=True)


def _check_free(port: int, name: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(
                f"port {port} of the model card {name!r} is taken: {error.strerror}",
                hint=f"set server.port: 0 in the card for any free port; lsof -i :{port} shows the process",
            ) from None
