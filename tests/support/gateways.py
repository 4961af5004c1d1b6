"""Gateways as tests run them: `workbench gateway` as a process, and raw requests over its sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench import registry
from workbench.identities.owner_token import make_owner_token

WORKBENCH = Path(sys.executable).parent / "workbench"
NOTES = "description: What was said.\nkind: episodic\nembedding: wordllama-256\ncandidates: 20\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningGateway:
    """A gateway that answers at `host` and `port`. `log` is the file with what it wrote."""

    root: Path
    host: str
    port: int
    key: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

    def connected(self, **options) -> socket.socket:
        found = socket.create_connection((self.host, self.port), timeout=20)
        for name, value in options.items():
            found.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        return found

    def sent(self, data: bytes) -> bytes:
        """Return what the gateway answers to some bytes until it closes the connection, for 20 seconds."""
        with self.connected() as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
            return read_all(connection)

    def request(
        self, method: str, path: str, body: bytes = b"", *, headers: str = "", key: str = ""
    ) -> bytes:
        """Return the answer to one request, head included."""
        return self.sent(request(method, path, body, headers=headers, key=key or self.key))

    def signal(self, number: int) -> None:
        self.process.send_signal(number)


def request(method: str, path: str, body: bytes = b"", *, headers: str = "", key: str = "") -> bytes:
    length = f"content-length: {len(body)}\r\n" if body else ""
    head = f"{method} {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n{length}{headers}"
    return f"{head}authorization: Bearer {key}\r\n\r\n".encode() + body


def read_all(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            found += piece
    return found


def status_of(answer: bytes) -> int:
    """Return the status of an answer; 0 for none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


@contextlib.contextmanager
def running_gateway(root: Path, *options: str) -> Iterator[RunningGateway]:
    """Run `workbench gateway` on a free port; at the end of the block it ends by itself, without a trace."""
    key, log = make_owner_token(root), root / "gateway.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [WORKBENCH, "gateway", "--address", "127.0.0.1:0", *options],
            cwd=root, stdout=subprocess.PIPE, stderr=file, env={**os.environ, "OPENAI_API_KEY": "unused"},
        )  # fmt: skip
        try:
            line = process.stdout.readline().decode()
            assert "the gateway answers at http://" in line, log.read_text()
            host, _, port = line.split("http://")[1].split()[0].rpartition(":")
            yield RunningGateway(root=root, host=host, port=int(port), key=key, log=log, process=process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    assert "Traceback" not in log.read_text()


def with_notes(root: Path) -> Path:
    """Give a repository an episodic memory."""
    registry.save_version(root, "memory", "notes", NOTES.encode(), author="t", reason="notes", parent=None)
    return root


def until(found, *, seconds: float = 20):
    """Return what `found` returns once it is true."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.05)
    return value
