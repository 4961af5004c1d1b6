"""`make weaviate`: build, start and stop a Weaviate server on this machine.

The server listens at the default ports and demands a key, which is made once. Its data, log, key and
process id are in `.workbench/weaviate-server/`, which its owner alone may read.
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

from workbench import _sync, config, files, processes
from workbench.errors import NotFoundError, RefusedError, UnavailableError, WorkbenchError
from workbench.files import folders
from workbench.layout import WEAVIATE_SERVER
from workbench.memory.weaviate import Address
from workbench.memory.weaviate.connection import Connection
from workbench.memory.weaviate.local_server import (
    KEY_FILE,
    KEY_VARIABLE,
    MODULE,
    VERSION,
    LocalServer,
    cached_binary,
    find_binary,
    root_key,
)

#: HTTP, gRPC and the cluster's data; docs/weaviate.md closes the last two to other machines.
_PORTS = (8080, 50051, 7947)
#: Seconds between two lines of progress, and for a server to end after SIGTERM.
_PROGRESS_S = 10.0
_END_S = 30.0
_COMPOSE = "docker compose -f pipelines/deploy/compose.yaml up --wait"
_LINES = """\
lines under a use case of params.yaml:
  memory_provider: weaviate
  memory_url: {url}"""
_NEXT = f"""\
type in each shell that uses it:
  export {KEY_VARIABLE}="$(cat {KEY_FILE})"
{_LINES}
  memory_api_key_env: {KEY_VARIABLE}
stop it: make weaviate STOP=1"""
_WITHOUT_GO = f"""\
neither a weaviate-server nor Go to build one is on this machine; one of:
  make weaviate                # after you install Go 1.26 or later
  {_COMPOSE}
  memory_url: …                # in params.yaml: the address of a running server; docs/weaviate.md"""


def start(
    root: Path,
    *,
    say: Callable[[str], None],
    ports: tuple[int, int, int] = _PORTS,
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Start a server at the default address unless one answers there; return the exit code."""
    http, grpc, data = ports
    address = Address(url=f"http://127.0.0.1:{http}", grpc_port=grpc)
    if (access := _access(address)) is not None:
        say(f"a server answers at {address.url} already, {access}")
        say((_NEXT if _noted(root) else _LINES).format(url=address.url))
        return 0
    if find_binary(environment) is None:
        go = shutil.which("go", path=environment.get("PATH"))
        if go is None:
            say(_WITHOUT_GO)
            return 2
        build(go, say=say, environment=environment)
    say(f"starting weaviate {VERSION}; its log: {WEAVIATE_SERVER}/server.log")
    server = LocalServer(
        root / WEAVIATE_SERVER, ports=ports, api_key_env=KEY_VARIABLE, key=root_key(root), tied=False
    )
    server.start()
    note(root, server.pid or 0)
    say(f"it answers at {address.url}, gRPC at port {grpc}, data in {WEAVIATE_SERVER}/")
    say(f"other machines reach ports {grpc} and {data}, and are refused without a key: docs/weaviate.md")
    say(_NEXT.format(url=address.url))
    return 0


def stop(root: Path, *, say: Callable[[str], None]) -> int:
    """Stop the server that `start` started in this repository; its data and key stay."""
    running = _noted(root)
    path = root / WEAVIATE_SERVER / "pid"
    if running is None:
        path.unlink(missing_ok=True)
        say("no server of this repository is running")
        return 0
    processes.stop(running, grace_s=_END_S)
    path.unlink(missing_ok=True)
    say(f"stopped; its data stays in {WEAVIATE_SERVER}/data")
    return 0


def note(root: Path, pid: int) -> None:
    """Write the process id with its start time, because the system uses ids again."""
    import psutil

    started_at = psutil.Process(pid).create_time()
    files.write_atomic(root / WEAVIATE_SERVER / "pid", f"{pid} {started_at:.2f}\n".encode())


def _noted(root: Path) -> int | None:
    """Return the id that `note` wrote, if its process still runs."""
    import psutil

    with contextlib.suppress(OSError, ValueError, psutil.Error):
        number, started_at = files.read_bytes(root / WEAVIATE_SERVER / "pid").decode("ascii").split()
        if abs(psutil.Process(int(number)).create_time() - float(started_at)) < 1:
            return int(number)
    return None


def _access(address: Address) -> str | None:
    """Say who may use the server that answers; None when no server answers."""

    async def read() -> None:
        connection = Connection(address, start_s=0.5)
        try:
            await connection.client()
        finally:
            await connection.aclose()

    try:
        _sync.run(read())
    except UnavailableError:
        return None
    except RefusedError:
        return "and demands a key: name its variable in params.yaml as memory_api_key_env"
    return "open to everybody who reaches its ports: stop it, then make weaviate starts one with a key"


def build(go: str, *, say: Callable[[str], None], environment: Mapping[str, str] = os.environ) -> Path:
    """Build the server with Go into the user's cache, whole or not at all; it takes minutes."""
    binary = cached_binary()
    say(f"building weaviate {VERSION} with Go, once: about four minutes and 4 GB of Go's own caches")
    # An older Go downloads the version that the server needs, unless the environment forbids it.
    with folders.written(binary.parent) as made:
        variables = {"GOTOOLCHAIN": "auto", **environment, "GOBIN": str(made)}
        _run([go, "install", "-v", MODULE], variables, say)
    return binary


def _run(command: list[str], environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Run Go's build and print its progress; UnavailableError quotes the last lines of a failed build."""
    started = printed = time.monotonic()
    lines: deque[str] = deque(maxlen=3)
    count = 0
    with subprocess.Popen(  # noqa: S603 - the Go that was found, on a module named here
        command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr or ():
            lines.append(line.strip())
            count += 1
            if time.monotonic() - printed >= _PROGRESS_S:
                printed = time.monotonic()
                step = "downloading" if line.startswith("go: downloading") else "compiling"
                say(f"  {printed - started:4.0f} s: {step}, {count} modules and packages so far")
    if process.returncode:
        raise UnavailableError(
            f"Go ended with code {process.returncode}: {' / '.join(lines)}",
            hint=f"make weaviate again, or without Go: {_COMPOSE}",
        )


def main(arguments: list[str]) -> int:
    """Run `python -m workbench.cli.weaviate start|stop`, as the Makefile does."""
    verbs = {"start": start, "stop": stop}
    try:
        if len(arguments) != 1 or arguments[0] not in verbs:
            raise NotFoundError(
                f"start or stop is expected, not {' '.join(arguments)!r}", hint="make weaviate"
            )
        return verbs[arguments[0]](config.find_root(), say=click.echo)
    except WorkbenchError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
