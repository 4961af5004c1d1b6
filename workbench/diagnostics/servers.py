"""What runs of a Weaviate server, and whether the key of memories is there: asked, never started."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from workbench.config import DEFAULT_MEMORY_URL, MemoryServer
from workbench.diagnostics.findings import Finding, tried
from workbench.layout import MEMORY_KEY, STATE
from workbench.memory import cipher
from workbench.memory.weaviate.errors import OLDEST

#: Seconds for one answer: what is on this machine or near it takes milliseconds.
_PATIENCE_S = 0.8
_GRPC_PORT = 50051
DEFAULT = MemoryServer(url=DEFAULT_MEMORY_URL)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """An HTTP answer: its status, and its JSON when it is some."""

    status: int
    body: Any = None


def server(
    where: MemoryServer,
    *,
    tenants: tuple[str, ...] = (),
    needed: bool,
    environment: Mapping[str, str] = os.environ,
) -> Iterator[Finding]:
    """A server: does it answer, accept the key, answer a real read, and on gRPC too."""
    what = f"weaviate at {where.url}"
    ready = _get(where.url, "/v1/.well-known/ready")
    if ready is None:
        own = urlsplit(where.url).hostname in {"127.0.0.1", "localhost", "::1"}
        mend = "make weaviate" if own else "start it, or correct memory_url in params.yaml"
        yield Finding(what=what, state="missing", detail="nobody answers", mend=mend, needed=needed)
        return
    if ready.status != 200:
        detail = f"it is starting, or is no Weaviate (status {ready.status})"
        mend = "workbench doctor   # again in half a minute"
        yield Finding(what=what, state="broken", detail=detail, mend=mend, needed=needed)
        return
    key, finding = _key(where, tenants, environment, needed=needed)
    if finding is not None:
        yield finding
    yield _read(where, key, needed=needed)
    yield _grpc(where, needed=needed)


def _key(
    where: MemoryServer, tenants: tuple[str, ...], environment: Mapping[str, str], *, needed: bool
) -> tuple[str | None, Finding | None]:
    """A key to ask with, and the finding when a variable named for one is not set."""
    if where.api_key_env is None:
        return None, None
    named = dict.fromkeys(map(where.key_variable, tenants or ("",)))
    unset = [variable for variable in named if not environment.get(variable)]
    found = next((environment[variable] for variable in named if environment.get(variable)), None)
    if not unset:
        return found, None
    mend = "\n              ".join(f"export {variable}=…" for variable in unset)
    detail = f"not set: {', '.join(unset)}"
    return found, Finding(what="weaviate key", state="missing", detail=detail, mend=mend, needed=needed)


def _read(where: MemoryServer, key: str | None, *, needed: bool) -> Finding:
    """A real read: after a crash the ready flag comes seconds before the server can answer one."""
    what = f"weaviate at {where.url}"
    schema = _get(where.url, "/v1/schema", key=key)
    status = 0 if schema is None else schema.status
    if status == 401:
        wrong = "it refuses the key" if key else "it asks for a key"
        mend = f"export {where.api_key_env or 'WEAVIATE_KEY'}=…"
        mend += "" if where.api_key_env else "   # and name it: memory_api_key_env in params.yaml"
        return Finding(what=what, state="broken", detail=wrong, mend=mend, needed=needed)
    if status not in {200, 403}:  # a key of one tenant alone may not list everything
        detail = f"it says ready, and answers no read (status {status or 'none'})"
        mend = "workbench doctor   # again in half a minute"
        return Finding(what=what, state="broken", detail=detail, mend=mend, needed=needed)
    meta = _get(where.url, "/v1/meta", key=key)
    body = meta.body if meta is not None and isinstance(meta.body, dict) else {}
    version = str(body.get("version", "unknown"))
    if _number(version) < OLDEST:
        detail = f"version {version} is older than {OLDEST[0]}.{OLDEST[1]}, or is not said"
        mend = "make weaviate   # or the image that pipelines/deploy names"
        return Finding(what=what, state="broken", detail=detail, mend=mend, needed=needed)
    how = "the key is accepted" if key else "open to everybody"
    return Finding(what=what, state="ok", detail=f"{version}, a read is answered, {how}", needed=needed)


def _grpc(where: MemoryServer, *, needed: bool) -> Finding:
    host, _, port = (where.grpc or f"{urlsplit(where.url).hostname}:{_GRPC_PORT}").rpartition(":")
    what = f"weaviate gRPC at {host}:{port}"
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()
    except OSError:
        mend = f"open port {port} on the server, or name another: memory_grpc in params.yaml"
        return Finding(what=what, state="missing", detail="nobody answers", mend=mend, needed=needed)
    return Finding(what=what, state="ok", detail="the port is open", needed=needed)


def _get(url: str, path: str, *, key: str | None = None) -> _Answer | None:
    """What the server answers; None when nobody does, or not in HTTP."""
    parts = urlsplit(url)
    connection = (
        http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=_PATIENCE_S, context=ssl.create_default_context()
        )
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_PATIENCE_S)
    )
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        return _Answer(status=answer.status, body=_json(answer.read(1 << 20)))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def _number(version: str) -> tuple[int, ...]:
    digits = version.split("-", 1)[0].split(".")[:2]
    return tuple(int(digit) for digit in digits) if all(digit.isdigit() for digit in digits) else ()


def key(root: Path, *, environment: Mapping[str, str] = os.environ) -> Finding:
    """The key under which live memories keep names; looked at, never made."""
    what = "key of memories"
    path = root / STATE / MEMORY_KEY
    if environment.get(cipher.KEY_VARIABLE):
        return tried(what, lambda: _usable(path, environment, cipher.KEY_VARIABLE))
    if not path.exists():
        return Finding(what=what, state="ok", detail="made when a memory is first written")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        detail = f"others on this machine may read {path}"
        return Finding(what=what, state="broken", detail=detail, mend=f"chmod 600 {path}")
    return tried(what, lambda: _usable(path, {}, str(path)))


def _usable(path: Path, environment: Mapping[str, str], where: str) -> str:
    cipher.load_cipher(path, environment=environment)
    return f"from {where}; back it up with .workbench/state"
