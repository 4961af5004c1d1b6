"""A fresh clone runs its own code, stays clean, and works with the network cut."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)"
LOOPBACK = (
    "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"
)


def test_a_clone_is_clean_and_runs_its_own_code(fresh_clone):
    where = fresh_clone.run("python", "-c", "import workbench; print(workbench.__file__)")
    assert where.strip() == str(fresh_clone.folder / "workbench" / "__init__.py")
    assert fresh_clone.status() == ""


def test_without_network_only_the_loopback_of_its_own_is_left(fresh_clone):
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = ("127.0.0.1", str(server.server_port))
        fresh_clone.run("python", "-c", CONNECT, *there)
        refused = fresh_clone.run("python", "-c", CONNECT, *there, network=False, code=1)
        assert "ConnectionRefusedError" in refused
        server.shutdown()
    fresh_clone.run("python", "-c", LOOPBACK, network=False)
