"""Run DVC commands with this environment's programs, end them with their caller, and repair their lock.

DVC records in `.dvc/tmp/rwlock` which process reads and writes which path. It writes that file in place, so
a killed process can leave it empty or truncated, and every later command then fails. Its other locks end
with their process.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench import files, locking, processes
from workbench.errors import UnavailableError, WorkbenchError
from workbench.forking import kept

_RWLOCK = Path(".dvc/tmp/rwlock")
#: Seconds to wait for another DVC to end; it outlives a killed caller for a moment.
_WAIT_S = 2 * processes.GRACE_S


def repair_here() -> None:
    """Repair the lock of the repository around the current folder, before `.venv/bin/dvc` runs DVC."""
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)
    with contextlib.suppress(WorkbenchError):  # DVC says itself that it cannot write there
        repair_lock(root)


def repro(
    root: Path,
    *,
    stdout: int | None = None,
    stderr: int | None = None,
    variables: Mapping[str, str] | None = None,
) -> tuple[int, bool]:
    """Run `dvc repro` to its end; return its exit code and whether it was interrupted.

    It stays in this process group: an interrupt at the terminal reaches its stage too, and DVC ends the
    stage first. UnavailableError names another DVC process in `root`.
    """
    _check_idle(root)
    interrupted = False
    with _started(root, "repro", stdout=stdout, stderr=stderr, variables=variables or {}) as process:
        while process.poll() is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                interrupted = True
    return process.returncode, interrupted


def status(root: Path, *stages: str) -> dict[str, Any]:
    """Return the output of `dvc status` for these stages, with one entry per changed stage.

    UnavailableError when the command fails.
    """
    with tempfile.TemporaryFile() as errors, contextlib.ExitStack() as stack:
        process = stack.enter_context(
            _started(root, "status", "--json", *stages, stdout=subprocess.PIPE, stderr=errors.fileno())
        )
        assert process.stdout is not None  # noqa: S101  it is piped
        with process.stdout as pipe:
            output = pipe.read()
        if process.wait() == 0:
            found: dict[str, Any] = json.loads(output)
            return found
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines() or ["without a message"]
    busy = running(root)
    hint = f"wait until process {busy[0]} (DVC) has ended, then run the same command again" if busy else ""
    raise UnavailableError(f"`dvc status` failed: {lines[-1]}", hint=hint or "dvc status")


def running(root: Path) -> list[int]:
    """Return the process ids of DVC commands in a repository."""
    import psutil

    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue  # `repair_here` runs in a DVC command of its own
        try:
            words = [Path(word).name for word in process.cmdline()[:4]]
            is_dvc = "dvc" in words and words[0].startswith(("python", "dvc"))
            if is_dvc and Path(process.cwd()).is_relative_to(root.resolve()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def repair_lock(root: Path) -> bool:
    """Remove DVC's lock file when no DVC runs in `root` and it is damaged or held; True if removed."""
    path = root / _RWLOCK
    if not path.is_file() or running(root):
        return False
    # The file rwlock.lock is DVC's own guard of that file.
    with files.writing(path), locking.locked(path.with_name("rwlock.lock")):
        if not path.is_file() or _is_free(path):
            return False
        path.unlink()
    return True


def _is_free(path: Path) -> bool:
    """Whether the lock file is valid JSON and names no process."""
    try:
        entries = json.loads(path.read_bytes())
        return not any(holders for paths in entries.values() for holders in paths.values())
    except (ValueError, AttributeError):
        return False


def _check_idle(root: Path) -> None:
    until = time.monotonic() + _WAIT_S
    while busy := running(root):
        if time.monotonic() > until:
            raise UnavailableError(
                f"another DVC command runs in {root}: process {busy[0]}",
                hint=f"wait until it has ended (or: kill {busy[0]}), then run the same command again",
            )
        time.sleep(0.1)


@contextlib.contextmanager
def _started(
    root: Path,
    *arguments: str,
    stdout: int | None,
    stderr: int | None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a DVC command; it and all its stages end when the block or this process ends."""
    repair_lock(root)
    path = kept.first_on_path(Path(sys.executable).parent, os.environ)
    mark = secrets.token_hex(8)
    process = processes.start(
        [sys.executable, "-m", "workbench.processes", "dvc", *arguments],
        mark=mark,
        cwd=root,
        environment={**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", **(variables or {})},
        stdout=stdout,
        stderr=stderr,
    )
    try:
        yield process
    finally:
        processes.end(mark, process)
