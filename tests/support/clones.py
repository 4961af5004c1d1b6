"""A clone of what is committed, as a newcomer gets it: empty home, nothing but the environment shared."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Runs a command without a network: in a namespace of its own, with the loopback alone switched on
#: (ioctl SIOCSIFFLAGS with IFF_UP, because a small machine has no `ip`).
CUT = (
    "import fcntl, os, socket, struct, sys; "
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh22x', b'lo', 1)); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net", sys.executable, "-c", CUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A clone, and commands inside it."""

    folder: Path
    home: Path

    @classmethod
    def of_head(cls, folder: Path) -> Clone:
        """A clone of HEAD in `folder`, with an empty home and the running environment as its `.venv`."""
        clone = cls.at(folder)
        clone.home.mkdir(parents=True)
        # One pack instead of thousands of loose objects, each of which every copy would link.
        subprocess.run(["git", "clone", "--quiet", "--no-local", ROOT, clone.folder], check=True)
        (clone.folder / ".venv").symlink_to(sys.prefix)
        # A link is no folder to .gitignore.
        (clone.folder / ".git" / "info" / "exclude").write_text("/.venv\n")
        # Each command in it, and in its copies, would compile the package again.
        subprocess.run([sys.executable, "-m", "compileall", "-q", clone.folder / "workbench"], check=True)
        return clone

    @classmethod
    def at(cls, folder: Path) -> Clone:
        """The clone that was made in `folder`."""
        return cls(folder=folder / "clone", home=folder / "home")

    def copied(self, folder: Path) -> Clone:
        """A copy in `folder`, results and all, with an empty home."""
        shutil.copytree(self.folder, folder / "clone", symlinks=True, copy_function=_link_or_copy)
        (folder / "home").mkdir()
        return Clone.at(folder)

    def took_cache(self) -> bool:
        """Take over the results that DVC keeps in this checkout; whether it keeps any."""
        kept = ROOT / ".dvc" / "cache" / "files"
        if kept.is_dir():
            shutil.copytree(kept, self.folder / ".dvc/cache/files", copy_function=_link_or_copy)
        return kept.is_dir()

    def environment(self, **more: str) -> dict[str, str]:
        """The caller's environment with another home, and the clone's code before the installed one."""
        dropped = ("XDG_", "JUPYTER_", "WORKBENCH_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped) or k == "WORKBENCH_GATEWAY"}
        path = f"{self.folder / '.venv' / 'bin'}:{kept['PATH']}"
        return {**kept, "HOME": str(self.home), "PATH": path, "PYTHONPATH": str(self.folder), **more}

    def start(self, *command: str, network: bool = True, **more: str) -> subprocess.Popen[str]:
        """Begin a command in a process group of its own, its output readable from `stdout`."""
        return subprocess.Popen(
            command if network else (*WITHOUT_NETWORK, *command),
            cwd=self.folder,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell that runs tests in the background has switched interrupts off for its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  no threads
        )

    def run(
        self, *command: str, network: bool = True, code: int | None = 0, timeout: float = 280, **more
    ) -> str:
        """A command's output, both streams together; it must end with `code`, unless that is None."""
        process = self.start(*command, network=network, **more)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert code is None or process.returncode == code, (
            f"{command} ended with {process.returncode}:\n{output}"
        )
        return output

    def status(self) -> str:
        """`git status --porcelain`: empty when the clone is as it was committed."""
        return self.run("git", "status", "--porcelain")


def _link_or_copy(source: str, target: str) -> None:
    """Copy a file, or link it where git and DVC keep files that they never change."""
    if "/.git/objects/" in source or "/.dvc/cache/files/" in source:
        try:
            os.link(source, target)
        except OSError:  # this checkout may be on another file system than the folder of the tests
            shutil.copy2(source, target)
    else:
        shutil.copy2(source, target)
