"""Resolve a path that params.yaml states for a dataset or a scorer, and refuse it outside the repository."""

from __future__ import annotations

import os
import re
from pathlib import Path

from workbench import files
from workbench.errors import ConfigError

#: Most characters of a path below the repository, and bytes of a file name on common disks.
_MOST_PATH, _MOST_PART = 1_000, 255
#: A file of a DVC cache, to which DVC may link a tracked file.
_CACHED = re.compile(r".*/files/md5/[0-9a-f]{2}/[0-9a-f]{30}")


def inside(
    root: Path, text: str, *, folder: str = ".", where: str, example: str, tracked: bool = False
) -> Path:
    """Return the path `text` without `.` and doubled slashes, relative to the repository `root`.

    Raises ConfigError unless the path, with its links followed, lies in `folder` of the repository. With
    `tracked`, a link into a cache of DVC is accepted too.
    """
    path = Path(text)
    plain = len(text) <= _MOST_PATH and text.isprintable() and not path.is_absolute()
    parts = path.parts if plain else ()
    plain = bool(parts) and ".." not in parts and all(len(part.encode()) <= _MOST_PART for part in parts)
    place = "the repository" if folder == "." else f"{folder}/"
    if not plain or not path.is_relative_to(folder):
        raise ConfigError(
            f"{where}: {files.shortened(text)!r} is not a path inside {place}",
            hint=f"write a path relative to params.yaml, without .., for example {example}",
        )
    real = Path(os.path.realpath(root / path))
    of_cache = tracked and _CACHED.fullmatch(real.as_posix()) is not None
    if not of_cache and not real.is_relative_to(Path(os.path.realpath(root)) / folder):
        raise ConfigError(
            f"{where}: {path.as_posix()} is or passes a link out of {place}, to {files.shortened(str(real))}",
            hint=f"ls -l {path.as_posix()}   # replace the link by the file itself",
        )
    return path
