"""Connected sockets by a descriptor: a confined process opens none itself, and asks for one.

A confined process inherits one end of a Unix socket pair. It writes one byte, and receives one byte with the
descriptor of a socket that is connected to its gateway.
"""

from __future__ import annotations

import os
import socket
import threading

from workbench.errors import UnavailableError

_ASK = b"c"
_lock = threading.Lock()


def ask_for_socket(descriptor: int) -> socket.socket:
    """Return a new connected socket from the process that holds the other end of a descriptor.

    It blocks until the socket comes. Raise UnavailableError when the other end is closed.
    """
    with _lock, socket.socket(fileno=os.dup(descriptor)) as asking:
        try:
            asking.settimeout(None)
            asking.sendall(_ASK)
            data, found, _, _ = socket.recv_fds(asking, 1, 1)
        except OSError as error:
            raise _ended() from error
    if not data or not found:
        raise _ended()
    connected = socket.socket(fileno=found[0])
    connected.settimeout(0)
    return connected


def asked_for_socket(broker: socket.socket) -> bool:
    """Read one request from the gateway's end; return False when the other end is closed."""
    return broker.recv(1) == _ASK


def hand_over(broker: socket.socket) -> socket.socket:
    """Give the other end one socket of a new pair, and return the pair's other socket."""
    kept, given = socket.socketpair()
    with given:
        socket.send_fds(broker, [_ASK], [given.fileno()])
    kept.settimeout(0)
    return kept


def _ended() -> UnavailableError:
    return UnavailableError("the run's gateway has ended", hint="run the command again")
