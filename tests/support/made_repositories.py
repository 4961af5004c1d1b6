"""Real git repositories for tests, and git itself to look at them with."""

from __future__ import annotations

import subprocess

from workbench.repository.git import Repository

NOWHERE = "0" * 40


def git(folder, *arguments):
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def saved(repo, message="more", **contents):
    """Write files (`__` in a name is a slash), commit all there is, and return the commit's id."""
    for name, text in contents.items():
        path = repo / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(repo, "rev-parse", "HEAD")


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def small_repository(folder):
    """One commit of three files."""
    saved(folder, a="one", code__main="print(1)", code__deep__more="2")
    return Repository(root=folder)
