"""One process of benchmarks/gateway_served.py: a gateway of ours, or the requests of clients.

`gateway_load.py serve ROOT` serves the repository ROOT in mode live and prints its port and its owner's key.
`gateway_load.py ask ADDRESS KEY REQUESTS AT_ONCE PID` asks, each time something new, and prints JSON: the CPU
milliseconds of that process for a request, percentiles of the times in milliseconds, requests per second, and
the memory of the process in MiB.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

WARM_UP = 200
TEXT = "How much is a taxi? " * 12


def serve(root: str) -> None:
    """Serve a repository until this process is killed."""
    from workbench.config import GatewaySettings
    from workbench.gateway import server
    from workbench.gateway.access_log import AccessLog
    from workbench.gateway.listening import listen
    from workbench.identities.owner_token import make_owner_token

    settings = GatewaySettings(address="127.0.0.1:0")
    listener = listen(settings)
    key = make_owner_token(Path(root))
    server.serve(
        Path(root), listener, settings, mode="live", log=AccessLog(),
        ready=lambda: print(listener.getsockname()[1], key, flush=True),
    )  # fmt: skip


class Client:
    """One connection that asks again and again; it reads no more than the length of an answer."""

    def __init__(self, host: str, port: int, path: str, head: str) -> None:
        self._host, self._port = host, port
        self._start = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n{head}"
        self._reader = self._writer = None

    async def open(self) -> Client:
        """Open the connection."""
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def ask(self, number: str) -> float:
        """Return the seconds of one answer."""
        turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"{number} {TEXT}"}]
        body = json.dumps({"model": "m", "messages": turns}).encode()
        began = time.perf_counter()
        self._writer.write(f"{self._start}content-length: {len(body)}\r\n\r\n".encode() + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        answer = await self._reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{head.decode()}{answer.decode()}")
        return time.perf_counter() - began


def cpu_s(pid: int) -> float:
    """User and system seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def asked(url: str, key: str, requests: int, at_once: int, pid: int) -> dict:
    """What so many requests measured, after some that are not counted."""
    host, _, rest = url.removeprefix("http://").partition(":")
    port, _, path = rest.partition("/")
    head = f"authorization: Bearer {key}\r\n"
    opening = (Client(host, int(port), f"/{path}/chat/completions", head).open() for _ in range(at_once))
    clients = await asyncio.gather(*opening)
    run = os.urandom(4).hex()

    async def ask_all(numbers) -> list[float]:
        async def worker(client: Client) -> list[float]:
            return [await client.ask(f"{run} {number}") for number in numbers]

        return [took for found in await asyncio.gather(*map(worker, clients)) for took in found]

    await ask_all(iter(range(-min(WARM_UP, requests), 0)))
    cpu, began = cpu_s(pid), time.perf_counter()
    walls = sorted(await ask_all(iter(range(requests))))
    wall = time.perf_counter() - began
    return {
        "cpu_ms": (cpu_s(pid) - cpu) / requests * 1e3,
        "p50": walls[len(walls) // 2] * 1e3,
        "p99": walls[int(len(walls) * 0.99)] * 1e3,
        "per_s": requests / wall,
        "mib": memory_mib(pid),
    }


def main() -> None:
    """Run the process that the arguments name."""
    which, what, *rest = sys.argv[1:]
    if which == "serve":
        serve(what)
        return
    key, requests, at_once, pid = rest
    print(json.dumps(asyncio.run(asked(what, key, int(requests), int(at_once), int(pid)))))


if __name__ == "__main__":
    main()
