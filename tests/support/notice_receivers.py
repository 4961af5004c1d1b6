"""Receivers of notices: an HTTP server and a mail server on this machine, which keep what they get."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
import time
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Received:
    """The address of a receiver, what it got, and how it answers: a status, after some seconds."""

    port: int = 0
    got: list = field(default_factory=list)
    status: int = 200
    wait_s: float = 0.0
    drip: bool = False


@contextlib.contextmanager
def http_receiver():
    """A server that takes JSON by POST."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.got.append((self.path, dict(self.headers), json.loads(body)))
            time.sleep(received.wait_s)
            with contextlib.suppress(OSError):
                self.send_response(received.status)
                if received.status == 302:
                    self.send_header("Location", f"http://127.0.0.1:{received.port}/elsewhere")
                self.end_headers()
                while received.drip:
                    self.wfile.write(b"x")
                    time.sleep(0.05)
                self.wfile.write(b"taken")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    received.port = server.server_address[1]
    with _serving(server):
        yield received
    received.drip = False


@contextlib.contextmanager
def mail_receiver(*, refusing=False):
    """A server that speaks SMTP as far as a client needs it; `refusing` refuses every recipient."""
    received = Received()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            self.say("220 here")
            to = []
            while line := self.rfile.readline().strip():
                verb = line.upper()
                if verb.startswith(b"DATA"):
                    self.say("354 go on")
                    got = message_from_bytes(self.message(), policy=policy.default)
                    received.got.append((tuple(to), got))
                    self.say("250 taken")
                elif verb.startswith(b"RCPT"):
                    to.append(line.decode().partition("<")[2].partition(">")[0])
                    self.say("550 nobody here" if refusing else "250 yes")
                else:
                    self.say("221 bye" if verb.startswith(b"QUIT") else "250 yes")

        def message(self):
            lines = []
            while (line := self.rfile.readline()) not in {b".\r\n", b""}:
                lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
            return b"".join(lines)

        def say(self, text):
            self.wfile.write(text.encode() + b"\r\n")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    received.port = server.server_address[1]
    with _serving(server):
        yield received


@contextlib.contextmanager
def _serving(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class FakeOutbox:
    """An outbox in memory with the ledger's rules: a key is posted once, a delivery has a time."""

    def __init__(self, clock):
        self.clock, self.notices, self.due = clock, {}, {}

    def post(self, notice):
        """False for a key that was posted."""
        if notice.key in self.notices:
            return False
        self.notices[notice.key] = notice
        self.due |= {(notice.key, channel): [0, self.clock.now(), ""] for channel in notice.channels}
        return True

    def undelivered(self, limit=50):
        """What is due now."""
        now = self.clock.now()
        return [
            Due(notice=self.notices[key], channel=channel, tries=tries)
            for (key, channel), (tries, when, _) in self.due.items()
            if when is not None and when <= now
        ][:limit]

    def lease_delivery(self, key, channel, until):
        """False for one that is not due."""
        due = self.due[key, channel]
        if due[1] is None or due[1] > self.clock.now():
            return False
        due[1] = until
        return True

    def delivered(self, key, channel, detail=""):
        """It was taken."""
        self.due[key, channel][1:] = [None, "delivered"]

    def failed_delivery(self, key, channel, detail, not_before):
        """It was not."""
        self.due[key, channel] = [self.due[key, channel][0] + 1, not_before, detail]


@dataclass(frozen=True)
class Row:
    """A posted notice."""

    key: str
    job: str
    event: str
    payload: dict
    channels: tuple


@dataclass(frozen=True)
class Due:
    """A delivery that is due."""

    notice: Row
    channel: str
    tries: int
