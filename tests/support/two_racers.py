"""Two processes that start at once, of which the second is killed when both have told enough."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
from collections.abc import Sequence


def waiting(command: Sequence[str], name: str) -> subprocess.Popen[bytes]:
    """A process that has said that it is ready, and waits for a line."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert json.loads(process.stdout.readline()) == {"ready": name}
    return process


def raced(
    processes: Sequence[subprocess.Popen[bytes]], *, kill_after: int | None = None
) -> tuple[bytes, list[int]]:
    """What the processes told, in this order, and their exit codes.

    The second is killed after both have told `kill_after` lines together.
    """
    for process in processes:
        process.stdin.write(b"go\n")
        process.stdin.flush()
    told = b""
    with selectors.DefaultSelector() as ready:
        for process in processes:
            ready.register(process.stdout, selectors.EVENT_READ)
        while ready.get_map():
            for key, _ in ready.select():
                found = os.read(key.fd, 1 << 16)
                told += found
                if not found:
                    ready.unregister(key.fileobj)
            if kill_after is not None and told.count(b"\n") >= kill_after:
                processes[1].send_signal(signal.SIGKILL)
                kill_after = None
    for process in processes:
        process.communicate(timeout=60)
    return told, [process.returncode for process in processes]
