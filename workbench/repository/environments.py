"""Environments of promoted versions, each installed from the lock of the version's own commit.

An environment is the folder `.workbench/cache/env/<digest of the lock>/`. A copy of the lock inside it,
written last, marks it as complete; the Makefile leaves the same stamp in `.venv`.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from workbench import files, locking
from workbench.errors import RefusedError, UnavailableError, WorkbenchError
from workbench.layout import ENVIRONMENTS

STAMP = "installed.lock"
#: The command that installs the packages of `.venv` again.
REINSTALL = "rm .venv/installed.lock && make env"
#: Seconds that building an environment may take; uv gives up on a silent registry much sooner.
_BUILD_S = 3600.0
_LINES = 4
#: Digits of a lock's digest that name its environment.
_NAME = 16
#: uv's settings for reaching a registry. Its other settings could change the packages or their location.
_REACHING = (
    "UV_CACHE_DIR", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_HTTP_", "UV_INDEX",
    "UV_INSECURE_HOST", "UV_KEYRING_PROVIDER", "UV_LINK_MODE", "UV_NATIVE_TLS", "UV_OFFLINE",
    "UV_SYSTEM_CERTS",
)  # fmt: skip
_REDIRECTING = ("CONDA", "PYTHON", "UV_", "VIRTUAL_ENV")


def digest(lock: bytes) -> str:
    """Return the name of a lock's environment: the first 16 hex digits of SHA-256 over its bytes."""
    return files.digest(lock)[:_NAME]


def is_installed(root: Path, lock_digest: str) -> bool:
    """Whether an environment of the lock with this SHA-256 is installed."""
    return _installed(root, lock_digest) is not None


def python_of(root: Path, lock: bytes, *, install_hint: str) -> Path:
    """Return the interpreter of this lock's environment; UnavailableError when it is not installed."""
    python = _installed(root, files.digest(lock))
    if python is None:
        missing = UnavailableError(
            f"the environment of this version (lock {digest(lock)}) is not installed here", hint=install_hint
        )
        missing.retryable = False  # waiting installs nothing
        raise missing
    return python


def install(root: Path, lock: bytes, *, say: Callable[[str], None]) -> Path:
    """Return the interpreter of this lock's environment; a missing environment is built first.

    One process builds at a time. UnavailableError or RefusedError when the build fails.
    """
    python = _installed(root, files.digest(lock))
    if python is not None:
        return python
    folder = _folder(root, lock)
    with files.writing(folder):
        files.make_folder(folder.parent)
        # This process holds the file lock, and so does an installer that outlives it.
        waiting = partial(say, "another process installs this environment; waiting for it")
        with locking.locked(folder.with_suffix(".building"), inherited=True, on_wait=waiting) as held:
            if _installed(root, files.digest(lock)) is None:
                say(f"installing the environment of lock {digest(lock)} (once; about a minute)")
                _build(folder, lock, held)
                os.sync()  # on disk before the stamp, in case of a power cut
                files.write_atomic(folder / STAMP, lock)
                size = size_of(folder) / 1e6
                say(f"installed: {size:.0f} MB in {folder} (workbench jobs prune removes old ones)")
    return _python(folder)


def difference(lock: str) -> str:
    """Return one line on the installed packages that differ from a lock, "" when all are equal."""
    differing = differing_versions(lock)
    shown = ", ".join(differing[:3]) + (" …" if len(differing) > 3 else "")
    return f"{len(differing)} installed packages differ from the lock: {shown}" if differing else ""


def differing_versions(lock: str) -> list[str]:
    """Return a description of each locked package that is missing or has another version."""
    from packaging.requirements import InvalidRequirement, Requirement

    differing = []
    for line in lock.splitlines():
        if line[:1] in {"", "#", " ", "\t", "-"}:
            continue
        try:
            wanted = Requirement(line.rstrip("\\ "))
        except InvalidRequirement:
            continue
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            installed = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            installed = "missing"
        if installed == "missing" or not wanted.specifier.contains(installed, prereleases=True):
            differing.append(
                f"{wanted.name} is {installed}, the lock has {wanted.specifier}".replace("==", "")
            )
    return differing


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """An installed environment: its folder, and its size in bytes as `du` counts it."""

    folder: Path
    size: int


def unused(root: Path, needed: Iterable[str]) -> list[Environment]:
    """Return the environments whose lock has none of these digests and in which no process runs."""
    import psutil

    kept = {lock_digest[:_NAME] for lock_digest in needed}
    folders = sorted(
        path for path in (root / ENVIRONMENTS).glob("*") if path.is_dir() and path.name not in kept
    )
    programs = [Path(p.info["cmdline"][0]) for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"]]
    idle = [f for f in folders if not any(path.is_relative_to(f.absolute()) for path in programs)]
    return [Environment(folder=folder, size=size_of(folder)) for folder in idle]


def remove(environment: Environment) -> bool:
    """Remove an environment, its stamp first; False when it is being built."""
    folder = environment.folder
    building = folder.with_suffix(".building")
    with files.writing(folder), building.open("ab") as file:
        if not locking.acquire(file.fileno(), wait=False):
            return False
        (folder / STAMP).unlink(missing_ok=True)  # without it the environment counts as not installed
        shutil.rmtree(folder)
    return True


def size_of(folder: Path) -> int:
    """Return the bytes that a folder takes on the disk; hard links count once."""
    found = {(entry.st_dev, entry.st_ino): entry for entry in (path.lstat() for path in folder.rglob("*"))}
    return sum(entry.st_blocks * 512 for entry in found.values())


def _folder(root: Path, lock: bytes) -> Path:
    return root.absolute() / ENVIRONMENTS / digest(lock)


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _installed(root: Path, lock_digest: str) -> Path | None:
    if _holds(Path(sys.prefix), lock_digest):
        running = Path(sys.executable)
        return running.parent.resolve() / running.name  # one path, also where a link leads to the environment
    folder = root.absolute() / ENVIRONMENTS / lock_digest[:_NAME]
    # The interpreter is a link, which dangles after this machine's Python was replaced.
    return _python(folder) if _holds(folder, lock_digest) and _python(folder).is_file() else None


def _holds(folder: Path, lock_digest: str) -> bool:
    try:
        return files.digest(files.read_bytes(folder / STAMP)) == lock_digest
    except OSError:
        return False


def _build(folder: Path, lock: bytes, held: int) -> None:
    (folder / STAMP).unlink(missing_ok=True)
    uv, python = _uv(), str(_python(folder))
    _run(folder.parent, held, sys.executable, "-I", "-m", "venv", "--clear", "--without-pip", str(folder))
    options = ("--quiet", "--no-deps", "--require-hashes", "--compile-bytecode")
    _run(folder.parent, held, uv, "pip", "install", *options, "--python", python, "-r", "-", given=lock)


def _uv() -> str:
    """Return the path of the environment's own uv, or else of the uv on the PATH."""
    own = Path(sys.executable).parent / "uv"
    found = str(own) if own.is_file() else shutil.which("uv")
    if found is None:
        raise UnavailableError(
            "there is no `uv` on the PATH to install environments", hint="make env installs it"
        )
    return found


def _run(within: Path, held: int, *command: str, given: bytes = b"") -> None:
    """Run a build step, which inherits the file lock `held` and keeps it if this process dies."""
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter, or uv, with arguments of our own
            command,
            input=given,
            capture_output=True,
            cwd=within,  # uv reads settings there and above: the project's own
            env=_environment(),
            pass_fds=(held,),
            timeout=_BUILD_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _failed(f"it took longer than {_BUILD_S:g} s") from None
    if done.returncode:
        raise _failed((done.stderr or done.stdout).decode(errors="replace"))


def _environment() -> dict[str, str]:
    """Return this environment without variables that would redirect an installer."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_REACHING) or not name.startswith(_REDIRECTING)
    }
    return {**kept, "UV_PYTHON_DOWNLOADS": "never"}


def _failed(output: str) -> WorkbenchError:
    lines = [line.strip() for line in output.splitlines() if line.strip() and "warning:" not in line]
    message = "the environment was not installed: " + "; ".join(lines[:_LINES])
    if "Hash mismatch" in output:
        return RefusedError(
            message, hint="the registry serves another file than the lock names: ask whoever runs it"
        )
    if "No space left" in output or "os error 28" in output:
        return UnavailableError(message, hint="free some space on this disk, then run the same command again")
    return UnavailableError(
        message,
        hint="installing needs the network once: connect, or name a mirror in UV_DEFAULT_INDEX, "
        "then run the same command again",
    )
