"""Git commands for promotion: what is committed, a commit's files, and the commit of a version's code.

The `git` command does it all, in a process of its own and never through a shell. What is read is
read as it was committed: no attribute, filter or setting of this machine changes a byte of it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from workbench import files, identity, locking
from workbench.errors import (
    ConfigError,
    CorruptError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    WorkbenchError,
)

#: Seconds a git command may take, and one that runs the user's hooks.
_GIT_S, _HOOKS_S = 60.0, 900.0
_LINES = 5
_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_BLOB = re.compile(rb"[0-9a-f]{40,64} blob (\d+)")
#: Variables that git sets for its hooks: there they would lead to another index, or another repository.
_REDIRECTING = frozenset(
    {"GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE"}
    | {"GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_QUARANTINE_PATH", "GIT_SHALLOW_FILE", "GIT_WORK_TREE"}
    | {f"GIT_{kind}_PATHSPECS" for kind in ("LITERAL", "GLOB", "NOGLOB", "ICASE")}
)
#: What git says, the error it means, and what to type.
_KNOWN: tuple[tuple[str, type[WorkbenchError], str, str], ...] = (
    (
        "not a git repository",
        ConfigError,
        "{root} is in no git repository",
        'git init && git add . && git commit -m "Start"',
    ),
    (
        "dubious ownership",
        ConfigError,
        "the git repository of {root} belongs to another user, so git does not trust it",
        "git config --global --add safe.directory {root}",
    ),
    (
        "index.lock': File exists",
        UnavailableError,
        "another git command is running in {root}",
        "wait for it, then run the same command again; if none is running, remove .git/index.lock",
    ),
    (
        "tell me who you are",
        ConfigError,
        "git does not know in whose name to commit",
        'git config user.name "Your Name" && git config user.email you@example.org',
    ),
    (
        "cannot do a partial commit during",
        ConfigError,
        "a merge, rebase or cherry-pick is under way in {root}",
        "git status says how to finish it; then run the same command again",
    ),
    (
        "not a tree object",
        NotFoundError,
        "the git repository of {root} does not hold that commit",
        "git fetch --all (in a shallow clone: git fetch --unshallow), then run the same command again",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """The git repository `root` is in, or the top of. Paths taken and given are relative to `root`."""

    root: Path

    def head(self) -> str:
        """The commit id of HEAD; ConfigError when there is no repository or nothing is committed."""
        done = self._git("rev-parse", "--verify", "--quiet", "HEAD^{commit}", fine=(0, 1))
        if done.returncode:
            raise ConfigError(
                f"nothing is committed yet in {self.root}", hint='git add . && git commit -m "Start"'
            )
        return done.stdout.decode("ascii").strip()

    def changed(
        self, *, below: Sequence[str] = (), besides: Sequence[str] = (), staged: bool = True
    ) -> list[str]:
        """Paths that differ from HEAD, untracked ones included: `below` these folders, `besides` those.

        Without `staged`, only those that differ from what git's index has of them.
        """
        asked = ("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames")
        done = self._git(*asked, "--", *(_literally(below) or ["."]))
        top = len(self._git("rev-parse", "--show-prefix").stdout.rstrip(b"\n"))
        # Two letters, of the index and of the folder, a space, then the path from the repository's top.
        entries = [one for one in done.stdout.split(b"\0") if one and (staged or one[1:2] != b" ")]
        paths = [os.fsdecode(entry[3 + top :]) for entry in entries]
        return sorted(path for path in paths if not any(_is_within(path, folder) for folder in besides))

    def is_ancestor(self, commit: str) -> bool:
        """Whether the commit exists here and HEAD descends from it, or is it."""
        head = self.head()
        if not _ID.fullmatch(commit):
            return False
        # 128 is git's code for a commit it does not know.
        return self._git("merge-base", "--is-ancestor", commit, head, fine=(0, 1, 128)).returncode == 0

    def object_ids(self, commit: str, paths: Iterable[str]) -> dict[str, str]:
        """The git object id of each file or folder in that commit; what is not there is left out."""
        wanted = list(paths)
        given = b"".join(_object(commit, path) for path in wanted)
        done = self._git("cat-file", "--buffer", "--batch-check=%(objectname)", given=given)
        answers = os.fsdecode(done.stdout).split("\n")[:-1]
        pairs = zip(wanted, answers, strict=True)
        return {path: answer for path, answer in pairs if _ID.fullmatch(answer)}

    def commit_holding(self, ids: Mapping[str, str]) -> str | None:
        """The newest commit of HEAD's history in which every path has exactly that object id.

        It finds a version's code again after a rebase or a squash: the same bytes under another commit.
        """
        if not ids:
            return None  # nothing is known, so no commit is known to hold it
        for path in ids:
            _object("", path)
        questions = "%n".join(f"%H:./{path.replace('%', '%%')}" for path in ids)
        with self._start("rev-list", f"--format=tformat:{questions}", self.head()) as walk:
            asked = ("cat-file", "--buffer", "--batch-check=%(objectname)")
            lines = os.fsdecode(self._git(*asked, stdin=walk.stdout).stdout).split("\n")
        wanted, step = list(ids.values()), len(ids) + 1
        for start in range(0, len(lines) - 1, step):
            if lines[start + 1 : start + step] == wanted:
                return lines[start].split(" ")[1]  # "commit ID missing": rev-list's header, no object
        return None

    def read(self, commit: str, path: str) -> bytes | None:
        """A committed file's bytes; None when that commit has no such file."""
        done = self._git("cat-file", "--batch", given=_object(commit, path))
        header, _, rest = done.stdout.partition(b"\n")
        found = _BLOB.fullmatch(header)
        return rest[: int(found[1])] if found else None

    def export(self, commit: str, folder: Path) -> Path:
        """All files of the commit below `root`, byte for byte as committed, in `folder`; once for all.

        Whoever is first makes it aside and renames it; others wait. What a death leaves is removed
        by the next export beside it. (`git archive` would leave out and rewrite what attributes say.)
        """
        if folder.is_dir():
            return folder
        if not _ID.fullmatch(commit):
            raise ConfigError(f"{commit!r} is not the id of a commit", hint="git log --format=%H")
        aside = folder.parent / ".exporting"
        try:
            files.make_folder(folder.parent)
            with locking.locked(folder.parent):
                if not folder.is_dir():
                    shutil.rmtree(aside, ignore_errors=True)
                    try:
                        self._extract(commit, aside)
                        aside.rename(folder)
                    finally:
                        shutil.rmtree(aside, ignore_errors=True)
                    files.sync_folder(folder.parent)
        except OSError as error:
            raise files.unwritable(folder, error) from error
        return folder

    def stage(self, paths: Sequence[str]) -> None:
        """Put these paths into git's index as they are now, also removed ones, and ones git would ignore."""
        if paths:  # without a path, git would take everything
            self._git("add", "--all", "--force", "--", *_literally(paths))

    def commit(self, paths: Sequence[str], message: str) -> str:
        """Commit these paths and nothing else, staged or not; the id of the commit that has them.

        When HEAD has them already, as after a death, that is HEAD.
        """
        self.stage(paths)
        places = _literally(paths)
        if not places or self._same_as_head(places):
            return self.head()
        asked = ("commit", "--quiet", "--only", f"--message={message}")
        done = self._git(*asked, "--", *places, fine=(0, 1), seconds=_HOOKS_S)
        if done.returncode:
            raise RefusedError(
                f"git did not commit in {self.root}; a hook said no:\n{_last(done.stderr)}",
                hint="mend what the hook names, then run the same command again",
            )
        return self.head()

    def author(self) -> str:
        """The name git would commit under, or else the operating system's user."""
        done = self._git("config", "--get", "user.name", fine=(0, 1))
        return done.stdout.decode(errors="replace").strip() or identity.from_system().name

    def _same_as_head(self, places: Sequence[str]) -> bool:
        self.head()
        asked = ("diff-index", "--cached", "--quiet", "HEAD")
        return self._git(*asked, "--", *places, fine=(0, 1)).returncode == 0

    def _extract(self, commit: str, folder: Path) -> None:
        listed = self._git("ls-tree", "-r", "-z", commit).stdout.split(b"\0")[:-1]
        entries = [(*facts.split(), path) for facts, _, path in (line.partition(b"\t") for line in listed)]
        ids = b"".join(name + b"\n" for _, kind, name, _ in entries if kind == b"blob")
        files.make_folder(folder)
        # Through a file: a repository may be larger than memory, and a full pipe would stand still.
        with tempfile.TemporaryFile(dir=folder) as blobs:
            self._git("cat-file", "--buffer", "--batch", given=ids, stdout=blobs)
            blobs.seek(0)
            for mode, kind, _, path in entries:
                place = folder / os.fsdecode(path)
                files.make_folder(place.parent)
                if kind == b"blob":
                    _write(place, mode, _next_blob(blobs, place.relative_to(folder)))
                else:
                    files.make_folder(place)  # another repository's commit: as a checkout leaves it
        os.sync()  # one for all files: the rename must not outlive their contents

    def _git(
        self,
        *arguments: str,
        given: bytes = b"",
        stdin: int | IO[bytes] | None = subprocess.PIPE,
        stdout: int | IO[bytes] = subprocess.PIPE,
        fine: Collection[int] = (0,),
        seconds: float = _GIT_S,
    ) -> subprocess.CompletedProcess[bytes]:
        """A git command run to its end; another exit code than a `fine` one is an error of the tree."""
        with self._start(*arguments, stdin=stdin, stdout=stdout) as process:
            try:
                output, said = process.communicate(given, timeout=seconds)
            except subprocess.TimeoutExpired:
                process.terminate()  # not killed: git removes its lock files first
                raise UnavailableError(
                    f"`git {arguments[0]}` did not end within {seconds:g} s in {self.root}",
                    hint="run `git status` there; when it answers, run the same command again",
                ) from None
        if process.returncode not in fine:
            raise self._failed(arguments[0], said)
        return subprocess.CompletedProcess(arguments, process.returncode, output, said)

    def _start(
        self,
        *arguments: str,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        kept = {name: value for name, value in os.environ.items() if name not in _REDIRECTING}
        try:
            return subprocess.Popen(  # noqa: S603  git, with arguments of our own
                ["git", "-C", str(self.root), *arguments],  # noqa: S607  whichever git the user uses
                env={**kept, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"},
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                process_group=0,  # who kills our group must not leave git's index locked
            )
        except FileNotFoundError:
            raise ConfigError("there is no `git` on the PATH", hint="apt-get install git") from None

    def _failed(self, verb: str, said: bytes) -> WorkbenchError:
        text = said.decode(errors="replace")
        for sign, kind, message, hint in _KNOWN:
            if sign in text:
                return kind(message.format(root=self.root), hint=hint.format(root=self.root))
        return UnavailableError(
            f"`git {verb}` failed in {self.root}:\n{_last(said)}",
            hint="mend what git says, then run the same command again",
        )


def _literally(paths: Iterable[str]) -> list[str]:
    """The paths as git takes them, without a meaning for `*`, `[` or `:`."""
    return [f":(literal){path}" for path in paths]


def _is_within(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def _object(commit: str, path: str) -> bytes:
    """The line that asks `git cat-file` for a path of a commit."""
    if "\n" in path:
        raise ConfigError(f"{path!r}: a path with a line break cannot be promoted", hint="rename the file")
    return os.fsencode(f"{commit}:./{path}\n")


def _last(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()[-_LINES:]
    return "\n".join(f"    {line}" for line in lines) or "    (and nothing else)"


def _next_blob(stream: IO[bytes], path: Path) -> bytes:
    """The next answer of `git cat-file --batch`."""
    found = _BLOB.fullmatch(stream.readline().rstrip(b"\n"))
    if not found:
        raise CorruptError(f"git has lost the contents of {path}", hint="git fsck, then git fetch --all")
    data = stream.read(int(found[1]))
    stream.read(1)
    return data


def _write(path: Path, mode: bytes, data: bytes) -> None:
    """Write a file as git checks it out: a link, or contents, executable or not."""
    if mode == b"120000":
        path.symlink_to(os.fsdecode(data))
        return
    permissions = 0o700 if mode == b"100755" else 0o600  # an export is private, as its cache is
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, permissions)
    with open(descriptor, "wb") as file:  # noqa: PTH123  of a descriptor
        file.write(data)
