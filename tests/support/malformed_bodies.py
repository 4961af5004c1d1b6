"""Bodies of malformed requests: encodings, JSON of any shape and depth, odd texts, the native protocol."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from dataclasses import dataclass

ROUTES = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/responses/input_tokens",
    "/v1/memories/notes/search",
    "/v1/memories/notes/remember",
    "/v1/memories/notes/forget",
    "/workbench/v1/calls",
    "/workbench/v1/verbs/calls",
    "/workbench/v1/verbs/impact",
    "/workbench/v1/verbs/outcome",
    "/workbench/v1/verbs/content",
    "/workbench/v1/secrets",
    "/v1/files",
    "/v1/batches",
    "/v1/models",
    "/health",
    "/metrics",
    "/use-cases/small/v1/chat/completions",
)


@dataclass(frozen=True, slots=True)
class Malformed:
    """The bytes that are sent, and how many answers there are at most."""

    data: bytes
    answers: int
    kind: str


class BodyGrammar:
    """Makes malformed bodies by a seed; with a valid `key` they reach what reads a body."""

    def __init__(self, seed: int, key: str) -> None:
        self._chance, self._key = random.Random(seed), key

    def _one(self, values):
        return self._chance.choice(values)

    def _head(self, *more: str, method: str = "POST", path: str = "", close: bool = True) -> bytes:
        lines = [
            f"{method} {path or self._one(ROUTES)} HTTP/1.1",
            "host: gateway",
            f"authorization: Bearer {self._key}",
        ]
        lines += ["connection: close"] * close
        return "\r\n".join([*lines, *more, "", ""]).encode()

    def _sent(self, body: bytes, kind: str, *more: str, path: str = "", answers: int = 1) -> Malformed:
        return Malformed(self._head(f"content-length: {len(body)}", *more, path=path) + body, answers, kind)

    def _encoding(self) -> Malformed:
        text = json.dumps(
            {"model": "smollm2-135m", "messages": [{"role": "user", "content": "größer"}]}, ensure_ascii=False
        )
        code = self._one(("utf-16", "utf-32", "utf-8-sig", "latin-1", "utf-7", "utf-16-le", "cp037"))
        kind = self._one(
            (
                "application/json; charset=utf-16",
                "text/plain",
                "multipart/form-data; boundary=a",
                "",
                "application/x-www-form-urlencoded",
                "application/json, text/html",
                "\x7f",
            )
        )
        return self._sent(text.encode(code), "encoding", f"content-type: {kind}")

    def _json(self) -> Malformed:
        body = self._one(
            (
                b"",
                b"{",
                b"[",
                b"nul",
                b"NaN",
                b"Infinity",
                b"1e999",
                b"-",
                b'"',
                b'"\\ud800"',
                b'{"a":1,"a":2}',
                b"{'a':1}",
                b"{}{}",
                b"\xff\xfe",
                b"\x00",
                b'{"model":"\xc3"}',
                b"[" * 400,
                b'{"a":' * 300,
                b"9" * 5_000,
                b"1" + b"0" * 400,
                b'{"model":"\\u0000"}',
                b'{"messages":NaN}',
                b"true",
                b"\xef\xbb\xbf{}",
                b"// a\n{}",
            )
        )
        return self._sent(body, "json")

    def _value(self, depth: int = 3):
        simple = (
            None,
            True,
            False,
            0,
            -1,
            2**63,
            -(2**70),
            1e308,
            0.1,
            "",
            "a",
            "\x00",
            "\u202e",
            "x" * 5_000,
            "\ud800",
            "smollm2-135m",
            [],
            {},
            "../../etc/passwd",
            "{{7*7}}",
            "$(id)",
            "NaN",
        )
        if depth == 0 or self._chance.random() < 0.5:
            return self._one(simple)
        if self._chance.random() < 0.5:
            return [self._value(depth - 1) for _ in range(self._chance.randint(0, 4))]
        names = (
            "role",
            "content",
            "type",
            "text",
            "name",
            "$frame",
            "$value",
            "$reply",
            "id",
            "__class__",
            "function",
        )
        return {self._one(names): self._value(depth - 1) for _ in range(self._chance.randint(0, 4))}

    def _shape(self) -> Malformed:
        known = (
            "messages",
            "input",
            "stream",
            "tools",
            "tool_choice",
            "response_format",
            "max_tokens",
            "temperature",
            "n",
            "stream_options",
            "stop",
            "logit_bias",
            "user",
            "metadata",
            "seed",
            "encoding_format",
            "dimensions",
            "query",
            "k",
            "text",
            "subject",
            "ids",
            "where",
            "groups",
            "reasoning",
            "store",
            "include",
        )
        body = {"model": self._one(("smollm2-135m", "smollm2-135m", self._value(1)))}
        body |= {self._one(known): self._value() for _ in range(self._chance.randint(1, 6))}
        if self._chance.random() < 0.5:
            body.setdefault("messages", [{"role": "user", "content": "a"}])
        return self._sent(json.dumps(body).encode(), "shape")

    def _deep(self) -> Malformed:
        levels = self._one((50, 199, 201, 500, 900, 1_100, 5_000, 100_000))
        opening, closing = self._one((("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")))
        middle = opening * levels + "1" + closing * levels
        whole = self._one(
            (
                '{"model":"smollm2-135m","messages":%s}',
                '{"model":"smollm2-135m","messages":[{"role":"user","content":%s}]}',
                '{"query":%s}',
                '{"use_case":"small","arguments":{"since":%s}}',
                '{"use_case":"small","arguments":%s}',
                '{"model":"smollm2-135m","input":%s}',
                "%s",
                '{"format":1,"port":"model","payload":%s}',
            )
        )
        return self._sent((whole % middle).encode(), "deep", "workbench-protocol: 1")

    def _unicode(self) -> Malformed:
        text = "".join(
            chr(
                self._chance.choice(
                    (self._chance.randrange(1, 0xD800), self._chance.randrange(0xE000, 0x110000))
                )
            )
            for _ in range(60)
        )
        text += self._one(
            ("\ufffe", "\U0010ffff", "a\u0301" * 100, "\u200d" * 50, "ﷺ" * 50, "\x1b[2J", "İ" * 30)
        )
        body = self._one(
            (
                {"model": text, "messages": [{"role": "user", "content": "a"}]},
                {"query": text, "k": 1},
                {"text": text},
                {"model": "smollm2-135m", "messages": [{"role": text, "content": text}]},
                {text: text},
                {"use_case": text},
                {"subject": text},
            )
        )
        return self._sent(
            json.dumps(body, ensure_ascii=self._chance.random() < 0.5).encode(),
            "unicode",
            "workbench-protocol: 1",
        )

    def _compressed(self) -> Malformed:
        plain = self._one((b"{}", b" " * 2_000_000, b'{"model":"smollm2-135m"}'))
        name, made = self._one(
            (
                ("gzip", gzip.compress(plain)),
                ("deflate", zlib.compress(plain)),
                ("br", b"\x0b\x02\x80{}\x03"),
                ("gzip, gzip", gzip.compress(gzip.compress(plain))),
                ("identity, gzip", plain[:50]),
                ("zstd", b"(\xb5/\xfd\x00"),
                ("x" * 300, b"{}"),
                ("", b"{}"),
            )
        )
        return self._sent(made, "compressed", f"content-encoding: {name}")

    def _native(self) -> Malformed:
        good = {
            "format": 1,
            "port": "model",
            "operation": "chat",
            "target": "smollm2-135m",
            "use_case": "small",
            "caller": "c1",
            "payload": {"messages": [{"role": "user", "content": "a"}]},
        }
        if self._chance.random() < 0.4:
            good |= {
                "port": "memory",
                "target": "notes",
                "operation": self._one(("search", "items", "add", "forget", "no")),
                "payload": {"query": self._value(), "items": self._value(), "what": self._value()},
            }
        names = (
            *good,
            "tenant",
            "purpose",
            "session",
            "subject",
            "principal",
            "seconds",
            "retries",
            "defaulted",
            "fallbacks",
            "declared",
            "passages",
            "prompt",
            "invocation",
            "run_scope",
            "ended",
            "labels",
            "version",
        )
        for _ in range(self._chance.randint(1, 3)):
            good[self._one(names)] = self._value()
        return self._sent(
            json.dumps(good).encode(), "native", "workbench-protocol: 1", path="/workbench/v1/calls"
        )

    def _verb(self) -> Malformed:
        verb = self._one(
            (
                "calls",
                "costs",
                "sessions",
                "outcome",
                "outcomes",
                "why",
                "content",
                "impact",
                "released",
                "budget",
                "endpoints",
                "close",
                "__class__",
            )
        )
        names = (
            "since",
            "tenant",
            "session",
            "trace",
            "limit",
            "lazy",
            "by",
            "reply",
            "content",
            "reason",
            "name",
            "value",
            "trace_id",
            "frame",
            "on",
            "outcomes",
            "held",
            "self",
        )
        frame = {"$frame": self._one(("", "QVJST1cx", "!", "QVJST1cxAAD/////" * 30, 3, None))}
        forms = (
            frame,
            {"$lazy_frame": "QVJST1cx"},
            {"$reply": self._value()},
            {"$value": "Impact", "fields": self._value()},
        )
        given = {
            self._one(names): self._one((*forms, self._value())) for _ in range(self._chance.randint(0, 3))
        }
        body = {"use_case": "small", "arguments": given}
        if self._chance.random() < 0.3:
            body[self._one(("principal", "tenant", "session", "x"))] = self._value()
        return self._sent(
            json.dumps(body).encode(), "verb", "workbench-protocol: 1", path=f"/workbench/v1/verbs/{verb}"
        )
