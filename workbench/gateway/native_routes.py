"""The route of the native protocol: calls that another workbench states, answered as lines of JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, nullcontext
from functools import partial
from typing import Any, Final

from workbench import _sync
from workbench.errors import ConfigError
from workbench.gateway.exchange import GatewayExchange, encoded
from workbench.gateway.failures import told
from workbench.gateway.gateway import Gateway, Stated
from workbench.identities.grants import Grant
from workbench.remote.calls import AskedCall
from workbench.remote.protocol import HEADER, LINES, MOST_BYTES, VERSION

#: Bytes of an answer that are sent at once.
_AT_ONCE: Final = 2**20
_HEAD: Final = encoded({"content-type": LINES, HEADER: VERSION, "cache-control": "no-cache"})


async def answer_native(gateway: Gateway, exchange: GatewayExchange, grant: Grant) -> None:
    """Answer a call that a caller states; raise ConfigError for one of another version, or an odd one."""
    check_version(exchange)
    asked = AskedCall.read(await exchange.body(most=min(MOST_BYTES, gateway.most_bytes)))
    stated = Stated(use_case=asked.use_case, tenant=asked.tenant or None, purpose=asked.purpose or None)
    with gateway.stream_of(grant) if asked.streamed else nullcontext():
        async with gateway.entered(grant, stated) as caller:
            shown = partial(told, root=gateway.root, grant=grant)
            lines = gateway.serving.serve(asked, caller.resolver, shown=shown)
            await answer_lines(exchange, lines, streamed=asked.streamed)


async def answer_lines(
    exchange: GatewayExchange, lines: AsyncIterator[bytes], *, streamed: bool = True
) -> None:
    """Send the lines of an answer, as they come when it is `streamed`; a client that leaves closes them."""
    reading: Any = _sync.iterate_async(lines)
    async with exchange.watched(), aclosing(reading):
        if streamed:
            await exchange.begin(200, _HEAD)
            async for line in reading:
                await exchange.piece(line)
            await exchange.end()
        else:
            await _answer_at_once(exchange, reading)


async def _answer_at_once(exchange: GatewayExchange, lines: AsyncIterator[bytes]) -> None:
    """Send an answer in one piece, which takes the fewest system calls; a long one in several."""
    pieces: list[bytes] = []
    size = 0
    async for line in lines:
        pieces.append(line)
        size += len(line)
        if size > _AT_ONCE:
            if not exchange.started:
                await exchange.begin(200, _HEAD)
            await exchange.piece(b"".join(pieces))
            pieces, size = [], 0
    if exchange.started:
        await exchange.end(b"".join(pieces))
    else:
        await exchange.whole(200, b"".join(pieces), _HEAD)


def check_version(exchange: GatewayExchange) -> None:
    """Raise ConfigError for a request that speaks another version of the protocol."""
    found = exchange.header(HEADER.lower().encode())
    if found != VERSION:
        raise ConfigError(
            f"the request speaks the protocol {(found or 'none')[:20]!r}, and this gateway {VERSION!r}",
            hint="workbench gateway stop   # the next call starts the gateway of this version",
        )
