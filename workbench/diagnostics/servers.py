"""Check a Weaviate server and the key of memories for `workbench doctor`, without creating any."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from workbench.config import DEFAULT_MEMORY_URL, MemoryServer
from workbench.diagnostics.findings import Finding, tried
from workbench.layout import MEMORY_KEY, STATE
from workbench.memory import cipher
from workbench.memory.weaviate.errors import OLDEST
from workbench.memory.weaviate.local_server import KEY_FILE, KEY_VARIABLE

#: Seconds for one answer; a server on this machine or near it takes milliseconds.
_DEADLINE_S = 0.8
_GRPC_PORT = 50051
_AGAIN = "workbench doctor   # again in half a minute"
DEFAULT = MemoryServer(url=DEFAULT_MEMORY_URL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAnswer:
    """An HTTP answer: its status, and its JSON body or None."""

    status: int
    body: Any = None


def server(
    where: MemoryServer,
    *,
    tenants: tuple[str, ...] = (),
    needed: bool,
    environment: Mapping[str, str] = os.environ,
) -> Iterator[Finding]:
    """Check that a server answers, accepts the key, answers a read and listens for gRPC."""
    finding = partial(Finding, what=f"weaviate at {where.url}", needed=needed)
    ready = _get(where.url, "/v1/.well-known/ready")
    if ready is None:
        fix = "make weaviate" if _is_local(where) else "start it, or correct memory_url in params.yaml"
        yield finding(state="missing", detail="no answer", fix=fix)
        return
    if ready.status != 200:
        detail = f"it is starting, or is no Weaviate (status {ready.status})"
        yield finding(state="broken", detail=detail, fix=_AGAIN)
        return
    key, unset = _key(where, tenants, environment)
    if unset:
        fix = "\n              ".join(map(_export, unset))
        detail = f"not set: {', '.join(unset)}"
        yield Finding(what="weaviate key", state="missing", detail=detail, fix=fix, needed=needed)
    yield _read(where, key, needed=needed)
    yield _grpc(where, needed=needed)


def _key(
    where: MemoryServer, tenants: tuple[str, ...], environment: Mapping[str, str]
) -> tuple[str | None, list[str]]:
    """Return the first key that is set, and the unset variables of keys."""
    if where.api_key_env is None:
        return None, []
    keys = {name: environment.get(name) for name in map(where.key_variable, tenants or ("",))}
    return next(filter(None, keys.values()), None), [name for name, key in keys.items() if not key]


def _read(where: MemoryServer, key: str | None, *, needed: bool) -> Finding:
    """Check that a read is answered: after a crash the ready flag comes seconds before the first answer."""
    finding = partial(Finding, what=f"weaviate at {where.url}", needed=needed)
    schema = _get(where.url, "/v1/schema", key=key)
    status = 0 if schema is None else schema.status
    if status == 401:
        detail = "it refuses the key" if key else "it asks for a key"
        fix = _export(where.api_key_env or KEY_VARIABLE)
        fix += "" if where.api_key_env else "   # and name it: memory_api_key_env in params.yaml"
        return finding(state="broken", detail=detail, fix=fix)
    if status not in {200, 403}:  # a key of one tenant may not read the whole schema
        detail = f"it reports ready, and answers no read (status {status or 'none'})"
        return finding(state="broken", detail=detail, fix=_AGAIN)
    meta = _get(where.url, "/v1/meta", key=key)
    body = meta.body if meta is not None and isinstance(meta.body, dict) else {}
    version = str(body.get("version", "unknown"))
    if _number(version) < OLDEST:
        detail = f"version {version} is older than {OLDEST[0]}.{OLDEST[1]}, or is not stated"
        fix = "make weaviate   # or the image that pipelines/deploy names"
        return finding(state="broken", detail=detail, fix=fix)
    how = "the key is accepted" if key else "open to everybody"
    return finding(state="ok", detail=f"{version}, a read is answered, {how}")


def _is_local(where: MemoryServer) -> bool:
    return urlsplit(where.url).hostname in {"127.0.0.1", "localhost", "::1"}


def _export(variable: str) -> str:
    """Return the shell line that sets a key; `make weaviate` keeps its key in a file."""
    value = f'"$(cat {KEY_FILE})"' if variable == KEY_VARIABLE else "…"
    return f"export {variable}={value}"


def _grpc(where: MemoryServer, *, needed: bool) -> Finding:
    host, _, port = (where.grpc or f"{urlsplit(where.url).hostname}:{_GRPC_PORT}").rpartition(":")
    what = f"weaviate gRPC at {host}:{port}"
    try:
        socket.create_connection((host, int(port)), timeout=_DEADLINE_S).close()
    except OSError:
        fix = f"open port {port} on the server, or name another: memory_grpc in params.yaml"
        return Finding(what=what, state="missing", detail="no answer", fix=fix, needed=needed)
    return Finding(what=what, state="ok", detail="the port is open", needed=needed)


def _get(url: str, path: str, *, key: str | None = None) -> ServerAnswer | None:
    """Return the server's answer; None when no server answers in HTTP."""
    parts = urlsplit(url)
    https = parts.scheme == "https"
    connect = http.client.HTTPSConnection if https else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=_DEADLINE_S)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        return ServerAnswer(status=answer.status, body=_json(answer.read(1 << 20)))
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
    """Check the key that encrypts names in live memories, without creating it."""
    what = "key of memories"
    path = root / STATE / MEMORY_KEY
    if environment.get(cipher.KEY_VARIABLE):
        return tried(what, lambda: _usable(path, environment, cipher.KEY_VARIABLE))
    if not path.exists():
        return Finding(what=what, state="ok", detail="made when a memory is first written")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        detail = f"others on this machine may read {path}"
        return Finding(what=what, state="broken", detail=detail, fix=f"chmod 600 {path}")
    return tried(what, lambda: _usable(path, {}, str(path)))


def _usable(path: Path, environment: Mapping[str, str], where: str) -> str:
    cipher.load_cipher(path, environment=environment)
    return f"from {where}; back it up with .workbench/state"
