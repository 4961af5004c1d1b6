"""Commands in a clone that are watched step by step, and killed by SIGKILL before one of their steps."""

from __future__ import annotations

import random
import re
import signal
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from clones import Clone

#: Python imports a module of this name before it does anything else. This one notes each step that a
#: command takes on files, databases and processes, and ends the command before the one it is told: `STEP #2`
#: is the third such step, `/REGEX/ #2` the third of those that fit. WORKBENCH_WATCHED names a descendant
#: instead, by words of its command. The last line of the steps says before which one it was killed.
SITECUSTOMIZE = r"""
import collections, os, re, signal, sys

PATHS = {"open": 0, "os.mkdir": 0, "os.remove": 0, "os.rename": 1, "os.rmdir": 0, "shutil.rmtree": 0,
         "sqlite3.connect": 0}

def place(path):
    # No random name in it, and not too fine: an export writes hundreds of files, and removes as many.
    parts = re.sub("[0-9a-f]{8,}", "*", os.path.relpath(os.fsdecode(path))).split(os.sep)
    return "elsewhere" if parts[0] == ".." else os.sep.join(parts[:4]) if parts[1:] else "inside"

def step_of(event, args):
    if event == "subprocess.Popen":
        return " ".join(os.path.basename(word) for word in map(os.fsdecode, args[1][:5]))
    if event not in PATHS or not isinstance(args[PATHS[event]], (str, bytes)):
        return ""
    if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return ""
    step = f"{event} {place(args[PATHS[event]])}"
    return "" if "__pycache__" in step else step

def watch(log, kill):
    seen = collections.Counter()
    among = kill.rpartition(" #")[0]
    pattern = re.compile(among[1:-1] if among.startswith("/") else "$.")

    def hook(event, args):
        step = step_of(event, args)
        kind = among if step and pattern.search(step) else step
        if step and kill == f"{kind} #{seen[kind]}":
            os.write(log, f"killed before {step}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        if step:
            seen[kind] += 1
            os.write(log, f"{step}\n".encode())

    sys.addaudithook(hook)

if os.environ.get("WORKBENCH_WATCHED", "") in " ".join(sys.orig_argv) and "WORKBENCH_STEPS" in os.environ:
    # Taken out, so that children are not watched. Of the descendants that are meant, the first one is.
    steps, kill = os.environ.pop("WORKBENCH_STEPS"), os.environ.pop("WORKBENCH_KILL")
    only = os.O_EXCL if os.environ.pop("WORKBENCH_WATCHED", "") else os.O_TRUNC
    try:
        watch(os.open(steps, os.O_WRONLY | os.O_CREAT | only), kill)
    except FileExistsError:
        pass
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A copy of a clone, and where its commands were killed so far."""

    clone: Clone
    beside: Path
    kills: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, clone: Clone, folder: Path) -> Watched:
        """A copy in a new folder, with a home of its own."""
        copy = clone.copied(folder)
        (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
        return cls(clone=copy, beside=folder)

    @property
    def root(self) -> Path:
        return self.clone.folder

    def begun(self, *command: str, **told: str) -> subprocess.Popen[bytes]:
        """The command, begun. Its words go to a file: a pipe would stay open as long as any child lives."""
        (self.beside / "said").unlink(missing_ok=True)  # a child of the last command may still write there
        with (self.beside / "said").open("w") as said:
            return subprocess.Popen(
                command,
                cwd=self.root,
                env=self.clone.environment(**told),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    @property
    def steps(self) -> list[str]:
        """The steps of the last command or of its descendant that was meant."""
        path = self.beside / "steps"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def was_killed(self) -> bool:
        """Whether the last command, or the descendant that was meant, was killed at the step."""
        return any(step.startswith("killed before ") for step in self.steps[-1:])

    def said(self) -> str:
        return (self.beside / "said").read_text()

    def run(self, *command: str, kill: str = "", victim: str = "") -> int:
        """The exit code of the command, once it has ended or was killed; `victim` is killed in its place."""
        (self.beside / "steps").unlink(missing_ok=True)
        process = self.begun(
            *command,
            PYTHONPATH=f"{self.beside}:{self.root}",
            WORKBENCH_STEPS=str(self.beside / "steps"),
            WORKBENCH_KILL=kill,
            WORKBENCH_WATCHED=victim,
        )
        return process.wait(timeout=180)

    def killed(self, *command: str, kill: str) -> bool:
        """Whether the command came to this step and was killed; else it ended well before it."""
        code = self.run(*command, kill=kill)
        assert code in {0, -signal.SIGKILL}, f"killed before {self.kills}, then told {kill}:\n{self.said()}"
        self.kills.extend([kill] if code else [])
        return code != 0

    def finished(self, *command: str) -> list[str]:
        """The steps of the command, which must end well, whatever was killed before."""
        code = self.run(*command)
        assert code == 0, f"killed before {self.kills}, then:\n{self.said()}"
        return self.steps


def drawn(steps: list[str], count: int, *, seed: int, among: str = "") -> list[str]:
    """Where to kill, in the order of the steps: so many kinds of step, each at one of its times."""
    taken = defaultdict(list)
    for number, step in enumerate(steps):
        taken[step].append(number)
    chance = random.Random(seed)
    kinds = chance.sample(sorted(kind for kind in taken if re.search(among, kind)), count)
    times = {kind: chance.randrange(len(taken[kind])) for kind in kinds}
    return [f"{kind} #{times[kind]}" for kind in sorted(kinds, key=lambda kind: taken[kind][times[kind]])]
