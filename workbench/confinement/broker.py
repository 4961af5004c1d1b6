"""The broker of a run's gateway: it hands connected sockets to one confined process.

The launcher connects to the broker's socket before it confines itself, and the confined process inherits that
connection. On it one byte `c` asks for a connection, and the answer is one byte `c` with one descriptor
(SCM_RIGHTS): a connected Unix stream socket, whose other end the gateway serves. The process asks by
`workbench.remote.descriptors`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from workbench.errors import ConfigError, UnavailableError

#: The environment variable of the inherited connection's descriptor.
DESCRIPTOR_VARIABLE: Final = "WORKBENCH_GATEWAY_FD"
#: The request for a connection, and the byte of its answer.
ASK: Final = b"c"
#: The longest path of a Unix socket on the systems that we know, in bytes.
LONGEST_PATH: Final = 103


class Broker:
    """A one-shot listening socket at `path`, which only this user opens.

    `serve` accepts one connection and removes the socket. At most `most` handed connections are open at once;
    a further request waits.
    """

    def __init__(self, path: Path, *, most: int = 64) -> None:
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise ConfigError(
                f"{path} is too long for a Unix socket: {len(os.fsencode(path))} bytes of {LONGEST_PATH}",
                hint="set TMPDIR to a folder with a short path",
            )
        self.path = path
        self._room = asyncio.Semaphore(most)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(str(path))
            path.chmod(0o600)
            self._listener.listen(1)
            self._listener.settimeout(0)
        except OSError as error:
            self._listener.close()
            raise UnavailableError(
                f"cannot listen on {path}: {error.strerror}", hint="name a new file in a private folder"
            ) from error

    async def serve(self, host: Callable[[socket.socket], Awaitable[None]]) -> None:
        """Hand out connections until the confined process ends; `host` serves the other end of each."""
        loop = asyncio.get_running_loop()
        try:
            asker, _ = await loop.sock_accept(self._listener)
        finally:
            self.close()
        asker.settimeout(0)
        tasks: set[asyncio.Task[None]] = set()
        with asker:
            try:
                while await loop.sock_recv(asker, 1) == ASK:
                    await self._room.acquire()
                    task = loop.create_task(self._hosted(host, _handed(asker)))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            except ConnectionError:
                pass
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _hosted(self, host: Callable[[socket.socket], Awaitable[None]], ours: socket.socket) -> None:
        try:
            await host(ours)
        finally:
            ours.close()
            self._room.release()

    def close(self) -> None:
        """Stop listening and remove the socket's file."""
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


def _handed(asker: socket.socket) -> socket.socket:
    """Hand one end of a new connection to the confined process and return the other."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        try:
            socket.send_fds(asker, [ASK], [theirs.fileno()])
        except OSError as error:  # it asks without reading the answers
            ours.close()
            raise ConnectionAbortedError("the confined process does not read what it asked for") from error
    ours.settimeout(0)
    return ours
