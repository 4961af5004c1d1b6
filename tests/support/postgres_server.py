"""A PostgreSQL server of the tests' own: Debian's programs, a temporary cluster, a free port, a password."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

PASSWORD = "not-a-secret"
MISSING = "PostgreSQL is not installed; apt-get install postgresql"


def programs() -> Path | None:
    """Return the folder of the newest server's programs, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    return found[-1].parent if found else None


class PostgresServer:
    """A server on loopback; it refuses to run as root, so the tests' root runs it as another user."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, programs()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql://tests@127.0.0.1:{self.port}/postgres"
        self._user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        password = folder / "password"
        password.write_text(PASSWORD)
        if self._user:
            for path in (folder, password):
                shutil.chown(path, "postgres")
        self._run("initdb", "-U", "tests", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._user, str(self.bin / program), "-D", str(self.folder / "data"), *arguments]
        log = self.folder / "out"
        with log.open("ab") as out:  # a pipe would stay open as long as the server
            done = subprocess.run(command, cwd="/", stdout=out, stderr=out, timeout=60, check=False)
        assert done.returncode == 0, log.read_text(errors="replace")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        log = str(self.folder / "data" / "log")
        self._run("pg_ctl", "-w", "-l", log, "-o", f"{options} -c max_connections=60", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")


@pytest.fixture(scope="session")
def postgres():
    """A running server, stopped at the end; without PostgreSQL the test is skipped."""
    if programs() is None:
        pytest.skip(MISSING)
    # Short and readable by the server's user, which pytest's own folders are not.
    with tempfile.TemporaryDirectory(prefix="workbench-pg-", dir="/tmp") as name:
        server = PostgresServer(Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop()
