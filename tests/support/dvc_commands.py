"""Commands of DVC and git in a small repository whose pipeline runs in this environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from made_repositories import git

from workbench import files, layout
from workbench.repository import environments


def dvc(root: Path, *arguments: str) -> str:
    """Return the output of a command of DVC; it must succeed."""
    program = Path(sys.executable).with_name("dvc")
    here = {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [program, *arguments],
        cwd=root, capture_output=True, text=True, timeout=150, check=False, env={**os.environ, **here},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def committed(root: Path) -> None:
    """Commit every file."""
    git(root, "add", "--all")
    git(root, "-c", "user.name=Ada", "-c", "user.email=a@b.c", "commit", "--quiet", "-m", "as it is")


def with_environment(root: Path) -> None:
    """Let the running environment stand for the one of the repository's lock."""
    lock = files.read_bytes(root / layout.LOCK)
    folder = root / layout.ENVIRONMENTS / environments.digest(lock)
    files.write_atomic(folder / environments.STAMP, lock)
    files.write_atomic(folder / "bin/python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'.encode())
    (folder / "bin/python").chmod(0o700)
