"""Attempts of one tenant's key to reach another tenant, each in two forms that must be answered alike.

An attempt names things of the other tenant; its twin names things that do not exist. An answer that tells one
from the other, or holds anything of the other tenant that the attempt did not name, is a leak.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

CALLS = "/workbench/v1/calls"
VERBS = "/workbench/v1/verbs/"
#: What an answer has of its own: ids and times differ between two equal answers.
_OWN = re.compile(
    rb',?"[a-z_]*(_s|created|began|new)": ?(?:[0-9.e-]+|true|false)|[0-9]{8}-[0-9a-f]{16}|\b[0-9a-f]{16,64}\b'
    rb"|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|\+00:00)?|content-length: [0-9]+"
)
_FRAME = re.compile(rb'"\$(?:lazy_)?frame": "([^"]*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What an attempt names: things of the other tenant, or their twins of the same length."""

    tenant: str
    use_case: str
    trace: str
    session: str
    subject: str
    item: str
    content: str
    principal: str
    key_id: str
    caller: str
    run: str
    response: str
    memory: str
    mark: str

    def names(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request; texts may name fields of a target in braces: `<tenant>`."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: object = None
    kind: str = ""

    def against(self, target: Target) -> Attempt:
        def named(text: str) -> str:
            for name, value in target.names().items():
                text = text.replace(f"<{name}>", value)
            return text

        body = None if self.body is None else json.loads(named(json.dumps(self.body)))
        headers = tuple((name, named(value)) for name, value in self.headers)
        return Attempt(method=self.method, path=named(self.path), headers=headers, body=body, kind=self.kind)


@dataclass(slots=True)
class Asker:
    """One connection that is kept, with a key."""

    host: str
    port: int
    key: str
    _connection: http.client.HTTPConnection | None = field(default=None)

    def ask(self, attempt: Attempt) -> tuple[int, bytes]:
        """Return the status and the body, the headers before it."""
        for last in (False, True):
            connection = self._connection or http.client.HTTPConnection(self.host, self.port, timeout=30)
            self._connection = connection
            try:
                return self._asked(connection, attempt)
            except (http.client.HTTPException, OSError):
                self.close()
                if last:
                    raise
        raise AssertionError

    def _asked(self, connection: http.client.HTTPConnection, attempt: Attempt) -> tuple[int, bytes]:
        body = b"" if attempt.body is None else json.dumps(attempt.body).encode()
        connection.putrequest(
            attempt.method, quote(attempt.path, safe="/%?=&@:+,;~"), skip_accept_encoding=True
        )
        if not any(name.lower() == "authorization" for name, _ in attempt.headers):
            connection.putheader("authorization", f"Bearer {self.key}")
        for name, value in attempt.headers:
            connection.putheader(name, value.encode("utf-8", "surrogatepass"))
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        found = connection.getresponse()
        told = b"\n".join(f"{n}: {v}".encode("latin-1") for n, v in found.getheaders() if n != "date")
        return found.status, told + b"\n\n" + found.read()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def opened(answer: bytes) -> bytes:
    """Return an answer with its frames as texts: the columns, whether there are rows, and whose they are."""
    import polars as pl

    def text(found: re.Match[bytes]) -> bytes:
        frame = pl.read_ipc(io.BytesIO(base64.b64decode(found[1])))
        named = [name for name in ("tenant", "use_case", "api_key", "principal") if name in frame.columns]
        return repr((frame.columns, frame.height > 0, [sorted(set(frame[name])) for name in named])).encode()

    return _FRAME.sub(text, answer)


def told(answer: bytes, *targets: Target) -> bytes:
    """Return an opened answer without what attempts named, and without ids and times of its own."""
    for name, value in (named for target in targets for named in target.names().items()):
        for form in {
            value,
            json.dumps(value)[1:-1],
            quote(value),
            value.lower(),
            value.upper(),
            value.title(),
        }:
            answer = answer.replace(form.encode(), f"<{name}>".encode())
    return _OWN.sub(b"", answer)


def leaks(
    asker: Asker, attempt: Attempt, target: Target, twin: Target, *, hidden: Sequence[str]
) -> list[str]:
    """Return what an attempt found out: the names of what leaked; `hidden` is in no answer to it."""
    named, found = attempt.against(target), []
    answers = [asker.ask(named), asker.ask(attempt.against(twin))]
    (status, body), (twins, other) = [(status, opened(body)) for status, body in answers]
    if not named.path.startswith("/metrics") and (status, told(body, target, twin)) != (
        twins,
        told(other, target, twin),
    ):
        found.append("existence")
    if max(status, twins) >= 500:
        found.append("failure")
    stated = repr(named)
    names = target.names()
    if attempt.path.startswith(("/workbench/", "/v1/memories/")):  # acme's own items and records have names
        names = {name: names[name] for name in ("trace", "item", "content", "key_id")}
    unnamed = [value for value in names.values() if value not in stated]
    found += [value for value in (*hidden, *unnamed) if value.encode() in body + other]
    return found
