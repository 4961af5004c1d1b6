"""A clone of what is committed, as a newcomer gets it: empty home, nothing but the environment shared."""

from __future__ import annotations

import subprocess
import sys

import pytest
from clones import ROOT, Clone


@pytest.fixture
def fresh_clone(tmp_path) -> Clone:
    """A clone of HEAD with an empty home and the running environment as its `.venv`."""
    clone = Clone(folder=tmp_path / "clone", home=tmp_path / "home")
    clone.home.mkdir()
    subprocess.run(["git", "clone", "--quiet", ROOT, clone.folder], check=True)
    (clone.folder / ".venv").symlink_to(sys.prefix)
    (clone.folder / ".git" / "info" / "exclude").write_text("/.venv\n")  # a link is no folder to .gitignore
    return clone
