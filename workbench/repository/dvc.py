"""DVC's command line, with this environment's programs first on the path: its stages start `python`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def start(
    root: Path,
    *arguments: str,
    stdout: int | None = None,
    stderr: int | None = None,
    told: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """`dvc ARGUMENTS`, begun in `root`, with the variables in `told`.

    It stays in our process group, so that an interrupt at the terminal reaches its stage.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return subprocess.Popen(  # noqa: S603  our own interpreter and arguments
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root,
        env={**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", **(told or {})},
        stdout=stdout,
        stderr=stderr,
    )
