"""Malformed requests by a grammar: lines, headers, framing, smuggling, encodings, and JSON of any shape."""

from __future__ import annotations

from collections.abc import Callable

from malformed_bodies import ROUTES, BodyGrammar, Malformed

#: What a smuggled request asks for; no answer may be to it.
SMUGGLED = b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n"
METHODS = (
    "GET",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PRI",
    "QUERY",
    "get",
    "G\u00cbT",
    "",
    "POST\t",
    "PROPFIND",
    "M-SEARCH",
    "A" * 300,
)
VERSIONS = (
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/3",
    "HTTP/1.2",
    "HTTP/11",
    "http/1.1",
    "HTTP/1.1 x",
    "",
    "HTTQ/1.1",
    "HTTP/1.10",
    "ICAP/1.0",
    "RTSP/1.0",
)
ODD = (
    "\x00",
    "\r",
    "\n",
    "\x7f",
    "\u00e9",
    "\u202e",
    "\ud83d\ude00",
    "%00",
    "%0d%0a",
    "%c0%ae",
    "..",
    "//",
    ";",
    "\\",
    "\t",
    "\ufeff",
    "%",
    "%zz",
    "{name}",
    "#",
    "?",
    "*",
    "@",
    "[::1]",
    "a" * 9000,
)
ENDS = (b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" \r\n", b"\n\n", b"")


class Grammar(BodyGrammar):
    """Makes malformed requests by a seed; with a valid `key` they reach what reads a body."""

    def __init__(self, seed: int, key: str) -> None:
        super().__init__(seed, key)
        self.kinds: dict[str, Callable[[], Malformed]] = {
            "line": self._line,
            "headers": self._headers,
            "chunks": self._chunks,
            "smuggling": self._smuggling,
            "encoding": self._encoding,
            "json": self._json,
            "shape": self._shape,
            "deep": self._deep,
            "unicode": self._unicode,
            "compressed": self._compressed,
            "upgrade": self._upgrade,
            "preface": self._preface,
            "http09": self._old,
            "pipeline": self._pipeline,
            "native": self._native,
            "verb": self._verb,
            "garbage": self._garbage,
        }

    def make(self, number: int) -> Malformed:
        """Return a request, of each kind in turn."""
        kinds = list(self.kinds.values())
        return kinds[number % len(kinds)]()

    def _line(self) -> Malformed:
        path = self._one(ROUTES)
        at = self._chance.randrange(len(path) + 1)
        odd = self._one(("method", "path", "version", "space"))
        path = path[:at] + self._one(ODD) + path[at:] if odd == "path" else path
        space = self._one(("  ", "\t", "", "\x0b", "\r")) if odd == "space" else " "
        method = self._one(METHODS) if odd == "method" else self._one(METHODS[:8])
        first = space.join([method, path, self._one(VERSIONS) if odd == "version" else "HTTP/1.1"])
        head = f"{first}\r\nhost: a\r\nauthorization: Bearer {self._key}\r\nconnection: close\r\n\r\n"
        return Malformed(head.encode("utf-8", "surrogatepass"), 2, "line")

    def _headers(self) -> Malformed:
        names = (
            "host",
            "authorization",
            "content-length",
            "content-type",
            "workbench-tenant",
            "workbench-use-case",
            "workbench-purpose",
            "workbench-session",
            "workbench-subject",
            "x-stainless-timeout",
            "expect",
            "te",
            "connection",
            "trailer",
            "range",
            "cookie",
            "x-forwarded-for",
            "forwarded",
            "accept-encoding",
        )
        values = (
            "",
            " ",
            "0",
            "-1",
            "1e9",
            "nan",
            "inf",
            "99999999999999999999",
            "a, b",
            "100-continue",
            "close, upgrade",
            "é",
            "\u202e",
            "x" * 3000,
            "%s%n",
            "../../etc",
            "'; --",
            "small\x0bsmall",
            "\x01",
            "None",
            "{}",
        )
        made = b""
        for _ in range(self._chance.randint(1, 4)):
            colon = self._one((": ", ": ", ": ", ": ", ":", " : ", "", ":\t", ":\r\n ", ": \x00"))
            line = f"{self._one(names)}{colon}{self._one(values)}"
            made += line.encode() + (self._one(ENDS) if self._chance.random() < 0.1 else b"\r\n")
        start = f"POST {self._one(ROUTES)} HTTP/1.1\r\nauthorization: Bearer {self._key}\r\n".encode()
        return Malformed(start + made + b"connection: close\r\n\r\n{}", 3, "headers")

    def _chunks(self) -> Malformed:
        size = self._one(
            (
                b"-1",
                b"0x5",
                b'5;ext="\r\n',
                b"ffffffffffffffff",
                b"fffffffffffffffff",
                b"5 ",
                b" 5",
                b"",
                b"g",
                b"5\n",
                b"0",
                b"00000000000000000005",
                b"5;" + b"a" * 9000,
                b"+5",
            )
        )
        end = self._one(ENDS)
        body = (
            size
            + end
            + b"{}   "
            + self._one(ENDS)
            + self._one((b"0\r\n\r\n", b"0\r\nhost: b\r\n\r\n", b"", b"0\r\n"))
        )
        name = self._one(
            ("transfer-encoding: chunked", "Transfer-Encoding:chunked", "transfer-encoding: Chunked")
        )
        return Malformed(self._head(name) + body, 1, "chunks")

    def _smuggling(self) -> Malformed:
        name = self._one(
            (
                "transfer-encoding: chunked\r\ncontent-length: 4",
                "content-length: 4\r\ntransfer-encoding: chunked",
                "transfer-encoding: xchunked\r\ncontent-length: 4",
                "transfer-encoding : chunked",
                "transfer-encoding:\x0bchunked",
                "x: y\ntransfer-encoding: chunked",
                "transfer-encoding: chunked, identity",
                "transfer-encoding: identity, chunked",
                "transfer-encoding: chunked\r\ntransfer-encoding: identity",
                "content-length: 4\r\ncontent-length: 40",
                "content-length: 4, 40",
                "content-length: +4",
                "content-length: 0\r\n content-length: 40",
                "content-length: 4 ",
                "content_length: 40\r\ncontent-length: 4",
                "transfer-encoding: gzip, chunked",
                "connection: content-length\r\ncontent-length: 4",
            )
        )
        path = self._one(ROUTES[:14])
        head = (
            f"POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {self._key}\r\n{name}\r\n\r\n".encode()
        )
        # A first answer must close the connection: what follows is of a length that two readers dispute.
        return Malformed(
            head + b"0\r\n\r\n" + SMUGGLED, 2 if "_" in name or "connection" in name else 1, "smuggling"
        )

    def _upgrade(self) -> Malformed:
        to = self._one(("websocket", "h2c", "TLS/1.0", "IRC/6.9", "websocket, h2c", "\x00"))
        more = [
            f"upgrade: {to}",
            f"connection: {self._one(('upgrade', 'Upgrade, HTTP2-Settings', 'keep-alive, Upgrade'))}",
        ]
        more += [
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-version: 13",
            "http2-settings: AAMAAABk",
        ]
        method = self._one(("GET", "POST", "CONNECT"))
        return Malformed(self._head(*more, method=method, close=False) + SMUGGLED, 1, "upgrade")

    def _preface(self) -> Malformed:
        frames = self._one((b"", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"\x00" * 40, SMUGGLED))
        return Malformed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames, 1, "preface")

    def _old(self) -> Malformed:
        path = self._one(ROUTES).encode()
        return Malformed(
            self._one(
                (
                    b"GET " + path + b"\r\n\r\n",
                    b"GET " + path + b"\n\n",
                    b"GET\r\n\r\n",
                    path + b"\r\n\r\n",
                    b"GET " + path + b" HTTP/0.9\r\n\r\n",
                )
            ),
            1,
            "http09",
        )

    def _pipeline(self) -> Malformed:
        number = self._chance.randint(2, 12)
        good = [self._head(method="GET", path="/health", close=False) for _ in range(number)]
        good[self._chance.randrange(number)] = self._one(
            (b"\x00\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", self._json().data)
        )
        return Malformed(b"".join(good) + self._head(method="GET", path="/health"), number + 1, "pipeline")

    def _garbage(self) -> Malformed:
        whole = bytearray(self._one((self._json, self._headers, self._chunks, self._shape))().data[:3_000])
        for _ in range(self._chance.randint(1, 8)):
            whole[self._chance.randrange(len(whole))] = self._chance.randrange(256)
        return Malformed(bytes(whole), 4, "garbage")
