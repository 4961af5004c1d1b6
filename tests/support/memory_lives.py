"""One memory's life in four steps, each of which may be killed in the middle of a verb and done again.

As a program it does steps of the life that lies in a folder and says how much its store did in each verb;
told a verb and a number it kills itself, by SIGKILL, when the store has done that much in the verb.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from small_use_case import page, write
from switched_use_case import switched_repository

import workbench as wb
from workbench import _sync
from workbench.memory.parquet import logical_digest
from workbench.memory.weaviate.connection import Connection
from workbench.retrieval import maintenance
from workbench.retrieval.port import Governed

NUMBERS = itertools.count()
PAGES = 24
STEPS = ("ingest", "move", "purge", "restore")


def text_of(number):
    return " ".join(f"Page {number} says in sentence {n} what a word{number * n} costs." for n in range(4))


class Life:
    """The memory of the repository in a folder."""

    def __init__(self, root):
        self.root = root
        self.ws = wb.connect("small", root=root)
        self.memory = self.ws.memory()

    @classmethod
    def begun(cls, folder, *, server=None):
        """A new one, with its pages; on `server` when there is one."""
        name = f"killed-{os.getpid()}-{next(NUMBERS)}"
        root = switched_repository(folder, memory=name, server=server, spec="keep_versions: 1\n")
        for number in range(PAGES):
            write(root, f"data/small/acme/p{number}.md", page(f"p{number}", text_of(number)))
        return cls(root)

    def do(self, step):
        """One step; the second version lacks every third page and has some that are new."""
        if step == "move":
            for number in range(0, PAGES, 3):
                (self.root / f"data/small/acme/p{number}.md").unlink(missing_ok=True)
                write(self.root, f"data/small/acme/q{number}.md", page(f"q{number}", text_of(number + 100)))
        if step in {"ingest", "move"}:
            return self.memory.ingest()
        return self.memory.purge() if step == "purge" else self.memory.restore(self.root / "snap")

    def done(self, steps):
        """Do these steps; what the first puts in force is kept as a snapshot."""
        for step in steps:
            self.do(step)
            if step == "ingest":
                self.memory.snapshot(self.root / "snap")

    def contents(self, version=None):
        """All that is in force, or in an earlier version, as one digest."""
        return logical_digest("acme", _sync.run(self.memory.view.items(version)))

    def state(self):
        """What two lives that did the same have in common."""
        versions = [(one.number, one.content, self.contents(one.number)) for one in self.memory.versions()]
        stats = self.memory.stats()
        return self.contents(), versions, (stats.items, stats.stored, stats.staged)


@dataclass(kw_only=True)
class Watch:
    """Counts what a store does inside each verb, and notes what it acknowledged as staged.

    `kill` is a verb and a number.
    """

    kill: tuple[str, int] = ("", 0)
    verb: str = ""
    taken: Counter = field(default_factory=Counter)
    staged: list = field(default_factory=list)

    def reached(self):
        """Count one more; whether it is the one at which to kill."""
        if self.verb:
            self.taken[self.verb] += 1
        return bool(self.verb) and (self.verb, self.taken[self.verb]) == self.kill

    def acknowledged(self, ids):
        """Note what was staged; a process that may die says it at once."""
        self.staged.extend(ids)

    @contextmanager
    def verbs(self):
        """Know which verb is on its way; texts are staged little by little."""
        invoke = Governed._invoke

        async def named(memory, verb, payload):
            self.verb = verb
            try:
                done = await invoke(memory, verb, payload)
            finally:
                self.verb = ""
            if verb == "stage":
                self.acknowledged([item.id for item in payload["items"]])
            return done

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Governed, "_invoke", named)
            patch.setattr(maintenance, "TEXTS", 16)
            yield patch


def share_of(taken, verb, share):
    """The number that stands for a share of what was taken in a verb; never the last."""
    assert taken[verb] > 1, f"the store does too little in {verb} to be killed in the middle of it: {taken}"
    return min(max(1, round(taken[verb] * share)), taken[verb] - 1)


def _mortal(watch, patch):
    """Let this process die at its number, of statements of SQLite or of requests to a server."""

    def count(*_):
        if watch.reached():
            os.kill(os.getpid(), signal.SIGKILL)

    connect, asked = sqlite3.connect, Connection.ask

    def traced(*arguments, **named):
        connection = connect(*arguments, **named)
        connection.set_trace_callback(count)
        return connection

    async def ask(connection, request, **how):
        count()
        return await asked(connection, request, **how)

    patch.setattr(sqlite3, "connect", traced)
    patch.setattr(Connection, "ask", ask)


def counted(life, steps, watch=None):
    """Do steps; how much the store did in each verb of each. A `watch` that kills ends this process."""
    counts, watch = {}, watch or Watch()
    with watch.verbs() as patch:
        _mortal(watch, patch)
        for step in steps:
            watch.taken = counts[step] = Counter()
            life.done([step])
    return counts


# As a program ----------------------------------------------------------------------------------


class Telling(Watch):
    def acknowledged(self, ids):
        print(json.dumps(ids), flush=True)


def _main(root, steps, verb="", number="0"):
    life = Life(Path(root))
    counts = counted(life, steps.split(","), Telling(kill=(verb, int(number))))
    life.ws.close()
    print(json.dumps(counts))


def in_a_process(root, steps, *kill):
    """Do steps in a process of their own: its exit code, the lines it printed, and its last words."""
    command = [sys.executable, __file__, str(root), ",".join(steps), *map(str, kill)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, list(map(json.loads, done.stdout.splitlines())), done.stderr


if __name__ == "__main__":
    _main(*sys.argv[1:])
