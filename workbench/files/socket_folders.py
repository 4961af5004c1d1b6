"""Private folders with a short path for the sockets of one process, removed when their process is gone."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import Final

from workbench.files import folders

#: Most bytes of the path of the folder around it: a socket's path has at most 103, the kernel's own included.
_LONGEST_PARENT: Final = 40


def socket_folder(prefix: str) -> Path:
    """Return a new folder for sockets, which only this user enters; remove those of processes that died.

    `prefix` begins its name, before the id of this process.
    """
    import psutil

    parent = _short_parent()
    for path in parent.glob(f"{prefix}*"):
        found = re.match(rf"{re.escape(prefix)}(\d+)-", path.name)
        if found and not psutil.pid_exists(int(found[1])):
            with contextlib.suppress(OSError):
                if path.lstat().st_uid == os.getuid():
                    folders.remove(path)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=parent))


def _short_parent() -> Path:
    """Return a folder for sockets whose path leaves room for theirs: the user's own, or the system's."""
    for name in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir()):
        if name and len(os.fsencode(name)) <= _LONGEST_PARENT and os.access(name, os.W_OK | os.X_OK):
            return Path(name)
    return Path("/tmp")  # noqa: S108  the folder in it is private
