"""Prepare a confined process: its private folders, its environment and the file that the launcher reads."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from workbench import files
from workbench.confinement import landlock, seccomp
from workbench.confinement.allowed import Allowed, ProcessLimits
from workbench.errors import ConfigError

#: The folder of this package, which a confined process may read.
_PACKAGE: Final = Path(__file__).resolve().parents[1]
#: The file in a run's folder that tells the launcher what to allow.
_SPEC: Final = "confined.json"
#: The confined process's own folder: its HOME, its temporary files, and its kernel's sockets.
OWN: Final = "own"
#: Variables of the starting process that a confined process keeps.
_KEPT: Final = (
    "LANG", "LC_ALL", "LC_CTYPE", "TZ", "WORKBENCH_EXECUTION", "WORKBENCH_RUN", "WORKBENCH_WIDGETS",
    "JPY_PARENT_PID",
    "PYTHONHASHSEED", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS",
)  # fmt: skip
#: What libraries of the system and of Python read outside their own folders; none of it is this user's.
_SYSTEM: Final = (
    "/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/usr/share/fonts",
    "/usr/share/locale", "/usr/share/zoneinfo", "/etc/fonts", "/etc/ld.so.cache", "/etc/localtime",
    "/etc/mime.types", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/sys/devices/system/cpu",
    "/sys/fs/cgroup/cpu.max", "/sys/kernel/mm/transparent_hugepage", "/proc/cpuinfo", "/proc/meminfo",
    "/proc/stat", "/proc/sys/vm/overcommit_memory", "/dev/random", "/dev/urandom",
)  # fmt: skip
#: Of the process's own /proc/PID. `net`, which lists the machine's connections, and `task` are left out.
_OWN_PROCESS: Final = ("cgroup", "cmdline", "fd", "limits", "maps", "smaps", "stat", "statm", "status")
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full")


def spec(
    allowed: Allowed,
    environment: Mapping[str, str],
    *,
    folder: Path,
    inherited: Mapping[str, Path] | None = None,
    limits: ProcessLimits | None = None,
) -> Path:
    """Write what the launcher needs into the private `folder` and return the path of the file.

    The process has the variables of `environment`, a few of its starter's (locale, threads, its execution)
    and HOME, TMPDIR and its kernel's folders in `folder/own`, where it may write. `inherited` maps a variable
    to a Unix socket: the launcher connects to it, and the variable holds the descriptor. Raise ConfigError
    when a path does not exist or when `folder` is one that the process may write.
    """
    folder = folder.resolve()
    _check(allowed, folder)
    for name in ("", "tmp", "ipython", "jupyter"):
        (folder / OWN / name).mkdir(mode=0o700, exist_ok=True)
    content: dict[str, Any] = {
        "rules": _rules(allowed, folder),
        "environment": {**_own_folders(folder / OWN), **environment, "PYTHONPATH": _module_path(environment)},
        "kept": _KEPT,
        "inherited": {name: str(path) for name, path in (inherited or {}).items()},
        "limits": {
            name: value for name, value in _limits_of(limits or ProcessLimits()).items() if value is not None
        },
        "output": str(folder / OWN / "output.log"),
        "failure": str(failure_of(folder / _SPEC)),
        "landlock": landlock.abi() > 0,
        "seccomp": seccomp.available(),
    }
    path = folder / _SPEC
    files.write_atomic(path, json.dumps(content).encode(), private=True)
    return path


def launcher(path: Path) -> tuple[str, ...]:
    """Return the beginning of a command line: the launcher of a spec; the confined command follows."""
    # Isolated and without site-packages: a file of the current folder or a .pth line would run unconfined.
    package = str(_PACKAGE.parent)
    code = (
        f"import sys; sys.path.append({package!r}); from workbench.confinement import launch; launch.main()"
    )
    return (sys.executable, "-I", "-S", "-c", code, str(path), "--")


def failure_of(path: Path) -> Path:
    """Return the file in which the launcher of a spec says why it did not start the command."""
    return path.with_suffix(".failed")


def _check(allowed: Allowed, folder: Path) -> None:
    for name in ("read", "write", "execute"):
        for path in getattr(allowed, name):
            if not path.exists():
                raise ConfigError(
                    f"{path} does not exist, and a confined process should {name} it",
                    hint="create it first, or leave it out",
                )
    for path in allowed.write:
        if folder.is_relative_to(path.resolve()):
            raise ConfigError(
                f"{folder} holds what confines the process, which may write {path}",
                hint="prepare the process in a folder of its own",
            )


def _own_folders(own: Path) -> dict[str, str]:
    jupyter = dict.fromkeys(
        ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"), str(own / "jupyter")
    )
    return {
        "HOME": str(own),
        "TMPDIR": str(own / "tmp"),
        "IPYTHONDIR": str(own / "ipython"),
        "USER": "confined",
        "LOGNAME": "confined",
        "PATH": str(Path(sys.executable).parent),
        # The kernel tries a pipe over TCP for its forks; its warning would be its last line of output.
        "PYTHONWARNINGS": "ignore:Couldn't bind IOPub Pipe",
        **jupyter,
    }


def _module_path(environment: Mapping[str, str]) -> str:
    """Return PYTHONPATH: the folder of `sitecustomize`, then what the environment states."""
    startup = str(_PACKAGE / "confinement" / "startup")
    return os.pathsep.join(filter(None, (startup, environment.get("PYTHONPATH"))))


def _limits_of(limits: ProcessLimits) -> dict[str, int | None]:
    """Return the system's names of the limits; no core file, which would hold all memory."""
    return {
        "RLIMIT_CORE": 1,  # bytes; with 0 the system would still tell a program that keeps such files
        "RLIMIT_DATA": limits.memory,
        "RLIMIT_FSIZE": limits.file_size,
        "RLIMIT_NPROC": limits.processes,
    }


def _rules(allowed: Allowed, folder: Path) -> dict[str, int]:
    """Return the access to each path; a path of two rules has the access of both."""
    hidden = tuple(path.resolve() for path in allowed.hidden)
    read = [path for given in allowed.read for path in _without(given.resolve(), hidden)]
    own = [Path("/proc/self") / name for name in _OWN_PROCESS]
    groups = {
        landlock.READ: (*map(Path, _SYSTEM), *own, _PACKAGE, *_python(), *read),
        landlock.DEVICE: map(Path, _DEVICES),
        landlock.WRITE: (folder / OWN, *(path.resolve() for path in allowed.write)),
        landlock.EXECUTE: (*_programs(), *allowed.execute),
    }
    rules: dict[str, int] = {}
    for access, paths in groups.items():
        for path in paths:
            rules[str(path)] = rules.get(str(path), 0) | access
    return rules


def _without(path: Path, hidden: tuple[Path, ...]) -> list[Path]:
    """Return `path`, or what it holds as of now without the hidden paths."""
    if any(path.is_relative_to(each) for each in hidden):
        return []
    if not any(each.is_relative_to(path) for each in hidden):
        return [path]
    return [
        found
        for child in sorted(path.iterdir())
        if not child.is_symlink()
        for found in _without(child, hidden)
    ]


def _python() -> list[Path]:
    """Return the folders of this Python: its environment, its standard library and its packages."""
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    if sys.prefix != sys.base_prefix:
        paths.add(sys.prefix)
    if Path(sys.base_prefix) not in {Path("/usr"), Path("/usr/local"), Path("/")}:
        paths |= {sys.base_prefix}
    return [Path(path).resolve() for path in sorted(paths)]


def _programs() -> list[Path]:
    """Return what runs Python: the executable and the system's dynamic loader."""
    loaders = (
        "/lib64/ld-linux-x86-64.so.2",
        "/lib/ld-linux-aarch64.so.1",
        *map(str, Path("/lib").glob("ld-musl-*")),
    )
    return [Path(sys.executable).resolve(), *(Path(path).resolve() for path in loaders)]
