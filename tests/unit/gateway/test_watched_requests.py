"""A request whose client leaves: its block is cancelled, by our server's connection or by that of another."""

from __future__ import annotations

import asyncio

import pytest
from uvicorn.server import ServerState

from workbench.config import GatewayLimits
from workbench.gateway.connections import BoundedProtocol, uvicorn_config
from workbench.gateway.exchange import CONNECTION, GatewayExchange


class Connection:
    """A connection that its client closes when a test says so."""

    def __init__(self, *, lost: bool = False) -> None:
        self.lost, self.left = lost, None

    def watch(self, left):
        self.left = left
        if self.lost:
            left()

    def unwatch(self, left):
        if self.left is left:
            self.left = None


def exchange(connection: Connection | None = None, *, messages=()) -> GatewayExchange:
    coming = [*messages]

    async def receive():
        if not coming:
            await asyncio.Event().wait()
        return {"type": coming.pop(0)}

    async def send(_message):
        pass

    scope = {"method": "POST", "path": "/v1/models", **({CONNECTION: connection} if connection else {})}
    return GatewayExchange(scope, receive, send)


async def no_app(_scope, _receive, _send):
    pass


async def waiting(asked: GatewayExchange, ended: list[str]) -> str:
    async with asked.watched():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
    assert asyncio.current_task().cancelling() == 0
    return "went on"


def test_a_client_that_leaves_ends_the_block_and_not_the_task():
    async def main():
        connection, ended = Connection(), []
        asked = exchange(connection)
        task = asyncio.create_task(waiting(asked, ended))
        await asyncio.sleep(0)
        connection.left()
        assert (await task, ended, asked.left) == ("went on", ["cancelled"], True)
        assert connection.left is None

    asyncio.run(main())


@pytest.mark.parametrize("ours", [True, False], ids=["our server", "another server"])
def test_a_client_that_has_left_before_ends_the_block_at_once(ours):
    async def main():
        ended = []
        asked = exchange(Connection(lost=True)) if ours else exchange(messages=["http.disconnect"])
        assert await waiting(asked, ended) == "went on"
        assert asked.left and ended == ["cancelled"]

    asyncio.run(main())


def test_a_client_that_leaves_after_its_answer_and_another_cancellation_are_as_without_the_block():
    async def main():
        connection = Connection()
        asked = exchange(connection)
        async with asked.watched():
            await asked.begin(200, [])
            await asked.end()
            connection.left()
        await asyncio.sleep(0)
        assert not asked.left
        task = asyncio.create_task(waiting(exchange(Connection()), ended := []))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["cancelled"]

    asyncio.run(main())


class Transport(asyncio.Transport):
    """A transport that is read from when it is not paused."""

    def __init__(self) -> None:
        super().__init__()
        self.closing, self.paused = False, False

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False


def test_a_connection_tells_the_request_that_is_watched_last_and_reads_on():
    async def main():
        told: list[str] = []
        first, second = (lambda: told.append("first")), (lambda: told.append("second"))
        limits, state = GatewayLimits(), ServerState()
        protocol = BoundedProtocol(
            uvicorn_config(no_app, limits), state, limits=limits, _loop=asyncio.get_running_loop()
        )
        transport = Transport()
        protocol.connection_made(transport)
        protocol.flow.pause_reading()  # a second request came before the answer to the first
        protocol.watch(first)
        assert not transport.paused
        protocol.watch(second)
        protocol.unwatch(first)
        protocol.connection_lost(None)
        assert told == ["second"]
        protocol.watch(first)
        assert told == ["second", "first"]

    asyncio.run(main())
