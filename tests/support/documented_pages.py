"""Pages of docs/ as tests follow them: the page's code blocks, and a copy of what they need."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from clones import ROOT


def page_of(name: str) -> str:
    """Return the text of a page of docs/."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks_of(page: str, language: str) -> list[str]:
    """Return the code blocks of a language, in their order."""
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def copy_to(folder: Path) -> Path:
    """Copy data, pipelines and params.yaml of this repository into a folder, and return the folder."""
    for name in ("data", "pipelines"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "params.yaml", folder)
    return folder


def run(copy: Path, *command: str) -> str:
    """Return the output of a command in a copy; it must succeed."""
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_shown(output: str, text: str) -> None:
    """Every line of `text` is a line of the output; spaces do not count, and `…` stands for any text."""
    told = "\n".join(" ".join(line.split()) for line in output.splitlines())
    for line in text.splitlines():
        pattern = re.escape(" ".join(line.split())).replace("…", ".*")
        assert re.search(rf"^{pattern}$", told, re.MULTILINE), f"{line!r} is not in\n{output}"
