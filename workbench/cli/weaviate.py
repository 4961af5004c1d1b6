"""`make weaviate`: a Weaviate server on this machine, built once with Go, started and stopped.

It answers on the loopback only, at the default ports, open to everybody on this machine; its data,
log and process id are in `.workbench/weaviate-server/`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from workbench import _sync, config, files
from workbench.errors import NotFoundError, RefusedError, UnavailableError, WorkbenchError
from workbench.layout import WEAVIATE_SERVER
from workbench.memory.weaviate import Address
from workbench.memory.weaviate.connection import Connection
from workbench.memory.weaviate.local_server import MODULE, VERSION, Server, cached_binary, find_binary

_HTTP, _GRPC = 8080, 50051
#: Seconds between two lines of progress, and for a server to end by itself.
_TELL_S = 10.0
_END_S = 30.0
_COMPOSE = "docker compose -f pipelines/deploy/compose.yaml up --wait"
_NEXT = """\
two lines under a use case of params.yaml:
  memory_provider: weaviate
  memory_url: {url}
stop it: make weaviate STOP=1"""
_WITHOUT_GO = f"""\
there is neither a weaviate-server nor Go to build one; one of:
  make weaviate                # once Go 1.26 or later is installed
  {_COMPOSE}
  memory_url: …                # in params.yaml: a server that is there already; docs/weaviate.md"""


def start(
    root: Path,
    *,
    say: Callable[[str], None],
    ports: tuple[int, int] = (_HTTP, _GRPC),
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Start a server at the default address unless one answers there; the exit code."""
    http, grpc = ports
    address = Address(url=f"http://127.0.0.1:{http}", grpc_port=grpc)
    if (known := _answers(address)) is not None:
        say(f"a server answers at {address.url} already{known}")
        say(_NEXT.format(url=address.url))
        return 0
    if find_binary(environment) is None:
        go = shutil.which("go", path=environment.get("PATH"))
        if go is None:
            say(_WITHOUT_GO)
            return 2
        build(go, say=say, environment=environment)
    say(f"starting weaviate {VERSION}; its log: {WEAVIATE_SERVER}/server.log")
    server = Server(root / WEAVIATE_SERVER, http_port=http, grpc_port=grpc, tied=False)
    server.start()
    note(root, server.pid or 0)
    say(f"it answers at {address.url}, gRPC at 127.0.0.1:{grpc}, data in {WEAVIATE_SERVER}/")
    say(_NEXT.format(url=address.url))
    return 0


def stop(root: Path, *, say: Callable[[str], None]) -> int:
    """Stop the server that `start` started in this repository; what is in it stays."""
    import psutil

    running = _noted(root)
    path = root / WEAVIATE_SERVER / "pid"
    if running is None:
        path.unlink(missing_ok=True)
        say("no server that make weaviate started here is running")
        return 0
    process = psutil.Process(running)
    process.terminate()
    try:
        process.wait(_END_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(_END_S)
    path.unlink(missing_ok=True)
    say(f"stopped; its data stays in {WEAVIATE_SERVER}/data")
    return 0


def note(root: Path, pid: int) -> None:
    """Write down which process it is, with its time of birth: numbers are used again."""
    import psutil

    started_at = psutil.Process(pid).create_time()
    files.write_atomic(root / WEAVIATE_SERVER / "pid", f"{pid} {started_at:.2f}\n".encode())


def _noted(root: Path) -> int | None:
    """The process that was written down, if it is still that one."""
    import psutil

    with contextlib.suppress(OSError, ValueError, psutil.Error):
        number, started_at = files.read_bytes(root / WEAVIATE_SERVER / "pid").decode("ascii").split()
        if abs(psutil.Process(int(number)).create_time() - float(started_at)) < 1:
            return int(number)
    return None


def _answers(address: Address) -> str | None:
    """What is to be said of a server that answers; None when nobody does."""

    async def ask() -> None:
        connection = Connection(address, start_s=0.5)
        try:
            await connection.client()
        finally:
            await connection.aclose()

    try:
        _sync.run(ask())
    except UnavailableError:
        return None
    except RefusedError:
        return ", and asks for a key: name it in params.yaml with memory_api_key_env"
    return ""


def build(go: str, *, say: Callable[[str], None], environment: Mapping[str, str] = os.environ) -> Path:
    """Build the server with Go into the cache of this machine's user, whole or not at all; some minutes."""
    wanted = cached_binary()
    wanted.parent.parent.mkdir(parents=True, exist_ok=True)
    made = files.aside_of(wanted.parent)
    say(f"building weaviate {VERSION} with Go, once: about four minutes and 4 GB of Go's own caches")
    # A Go that is older than the server asks for fetches the newer one, unless it was told not to.
    told = {"GOTOOLCHAIN": "auto", **environment, "GOBIN": str(made)}
    try:
        _run([go, "install", "-v", MODULE], told, say)
        shutil.rmtree(wanted.parent, ignore_errors=True)
        made.replace(wanted.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return wanted


def _run(command: list[str], environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Run Go's build with a line of progress now and then; UnavailableError quotes its end."""
    began = told = time.monotonic()
    lines: deque[str] = deque(maxlen=3)
    count = 0
    with subprocess.Popen(  # noqa: S603 - the Go that was found, on a module named here
        command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr or ():
            lines.append(line.strip())
            count += 1
            if time.monotonic() - told >= _TELL_S:
                told = time.monotonic()
                step = "downloading" if line.startswith("go: downloading") else "compiling"
                say(f"  {told - began:4.0f} s: {step}, {count} modules and packages so far")
    if process.returncode:
        raise UnavailableError(
            f"Go ended with code {process.returncode}: {' / '.join(lines)}",
            hint=f"make weaviate again, or without Go: {_COMPOSE}",
        )


def main(arguments: list[str]) -> int:
    """`python -m workbench.cli.weaviate start|stop`, for the Makefile."""
    verbs = {"start": start, "stop": stop}
    try:
        if len(arguments) != 1 or arguments[0] not in verbs:
            raise NotFoundError("start or stop is expected", hint="make weaviate")
        return verbs[arguments[0]](config.find_root(), say=click.echo)
    except WorkbenchError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
