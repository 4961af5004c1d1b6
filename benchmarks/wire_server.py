"""A fast OpenAI-compatible server for the benchmarks, run as a script in a process of its own.

It answers every chat completion after 20 ms, whole or as 25 events, without looking at the request. The first
line of its output is the base URL. Environment: DELAY_S.
"""

from __future__ import annotations

import asyncio
import os

DELAY_S = float(os.environ.get("DELAY_S", "0.02"))
_TEXT = "word " * 24
_SHARED = '"id":"chatcmpl-1","created":1790000000,"model":"m"'
_USAGE = '{"prompt_tokens":30,"completion_tokens":24,"total_tokens":54}'
_WHOLE = (
    f'{{{_SHARED},"object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant",'
    f'"content":"{_TEXT}"}},"finish_reason":"stop"}}],"usage":{_USAGE}}}'
).encode()


def _event(delta: str, finish: str = "null", usage: str = "null") -> bytes:
    chunk = (
        f'{{{_SHARED},"object":"chat.completion.chunk","choices":[{{"index":0,"delta":{delta},'
        f'"finish_reason":{finish}}}],"usage":{usage}}}'
    )
    return f"data: {chunk}\n\n".encode()


EVENTS = [_event('{"content":"word "}')] * 24 + [_event("{}", '"stop"', _USAGE)]


def _head(kind: str, size: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{size}\r\n\r\n".encode()


PLAIN = _head("application/json", f"Content-Length: {len(_WHOLE)}") + _WHOLE
BEGIN = _head("text/event-stream", "Transfer-Encoding: chunked")
CHUNKS = [b"%x\r\n%b\r\n" % (len(event), event) for event in [*EVENTS, b"data: [DONE]\n\n"]]


class Wire(asyncio.Protocol):
    """Answers each request of a connection; requests do not overlap."""

    def connection_made(self, transport):
        self.transport, self.received = transport, b""

    def data_received(self, data):
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(body) < length:
            return
        streamed, self.received = b'"stream":true' in body.replace(b" ", b""), b""
        loop = asyncio.get_running_loop()
        loop.call_later(DELAY_S, self.stream if streamed else self.answer, *([0] if streamed else []))

    def answer(self):
        self.transport.write(PLAIN)

    def stream(self, number):
        """Write the events one by one, each in a turn of its own, so that a client sees them apart."""
        if self.transport.is_closing():
            return
        if number == 0:
            self.transport.write(BEGIN)
        self.transport.write(CHUNKS[number])
        if number + 1 < len(CHUNKS):
            asyncio.get_running_loop().call_soon(self.stream, number + 1)
        else:
            self.transport.write(b"0\r\n\r\n")


async def main():
    server = await asyncio.get_running_loop().create_server(Wire, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
