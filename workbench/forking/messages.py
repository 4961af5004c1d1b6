"""The messages between a template process, what asks it for a process, and the processes that it forks.

A message is four bytes of length and one JSON value; descriptors travel with its first byte. `FORMAT` is the
number of this exchange: who asks is today's workbench, and the template is that of a version's own code.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from workbench.errors import UnavailableError

FORMAT: Final = 1
_LENGTH: Final = struct.Struct("!I")
#: Most bytes of a message: an environment has at most two million on Linux.
_MOST: Final = 16 << 20
#: Most descriptors of a message.
_MOST_DESCRIPTORS: Final = 8


def send(connection: socket.socket, value: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send one message; raise OSError when the other end has closed."""
    data = json.dumps(value).encode()
    data = _LENGTH.pack(len(data)) + data
    sent = socket.send_fds(connection, [data[:1]], list(descriptors))
    connection.sendall(data[sent:])


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return the next message and its descriptors, and read no byte of the one after it.

    Raise UnavailableError when the other end closes before the message is whole.
    """
    first, descriptors, _, _ = socket.recv_fds(connection, 1, _MOST_DESCRIPTORS)
    try:
        length = _LENGTH.unpack(first + _exactly(connection, _LENGTH.size - len(first)))[0]
        value = json.loads(_exactly(connection, length))
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return value, descriptors


def _exactly(connection: socket.socket, length: int) -> bytes:
    """Return this number of bytes, of which a message has not more than `_MOST`."""
    if length > _MOST:
        raise UnavailableError(f"a message of a template has {length:,} bytes", hint="start the server anew")
    parts = bytearray()
    while len(parts) < length:
        part = connection.recv(min(length - len(parts), 1 << 20))
        if not part:
            raise UnavailableError("a template closed its connection", hint="run it again")
        parts += part
    return bytes(parts)
