"""Git commands for promotion: committed changes, the files of a commit, and the commit of a version's code.

Every operation runs the `git` command in its own process, never through a shell. Files are read
as they were committed: no attribute, filter or setting of this machine changes their bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
from workbench.files import folders

#: Seconds that a git command may take, without and with the user's hooks.
_GIT_S, _HOOKS_S = 60.0, 900.0
_LINES = 5
_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SHA1_DIGITS = 40
#: How `git ls-files -v` marks files that git looks at: in the index, removed, changed, killed, other.
_SEEN = frozenset({b"", b"H", b"M", b"R", b"C", b"K", b"?"})
_BLOB = re.compile(rb"[0-9a-f]{40,64} blob (\d+)")
#: Variables that git sets for its hooks; a command that inherits them uses another index or repository.
_REDIRECTING = frozenset(
    {"GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE"}
    | {"GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_QUARANTINE_PATH", "GIT_SHALLOW_FILE", "GIT_WORK_TREE"}
    | {f"GIT_{kind}_PATHSPECS" for kind in ("LITERAL", "GLOB", "NOGLOB", "ICASE")}
)
#: A text in git's messages, and the error's class, message and hint.
_KNOWN: tuple[tuple[str, type[WorkbenchError], str, str], ...] = (
    ("not a git repository", ConfigError, "{root} is in no git repository",
     'git init && git add . && git commit -m "Start"'),
    ("dubious ownership", ConfigError,
     "the git repository of {root} belongs to another user, so git does not trust it",
     "git config --global --add safe.directory {root}"),
    ("index.lock': File exists", UnavailableError, "another git command is running in {root}",
     "wait for it, then run the same command again; if none is running, remove .git/index.lock"),
    ("tell me who you are", ConfigError, "git does not know in whose name to commit",
     'git config user.name "Your Name" && git config user.email YOUR-ADDRESS'),
    ("cannot do a partial commit during", ConfigError,
     "a merge, rebase or cherry-pick is under way in {root}",
     "finish it as `git status` says, then run the same command again"),
    ("not a tree object", NotFoundError, "the git repository of {root} does not hold that commit",
     "git fetch --all (in a shallow clone: git fetch --unshallow), then run the same command again"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """The git repository that contains `root`. Paths are relative to `root`."""

    root: Path

    def head(self) -> str:
        """Return the commit id of HEAD; ConfigError without a repository or without a commit."""
        done = self._git("rev-parse", "--verify", "--quiet", "HEAD^{commit}", fine=(0, 1))
        if done.returncode:
            raise ConfigError(
                f"nothing is committed yet in {self.root}", hint='git add . && git commit -m "Start"'
            )
        return done.stdout.decode("ascii").strip()

    def changed(
        self, *, below: Sequence[str] = (), besides: Sequence[str] = (), staged: bool = True
    ) -> list[str]:
        """Return the paths that differ from HEAD, untracked files included.

        `below` limits the search to these folders, `besides` leaves folders out. Without `staged`,
        only paths that differ from git's index are returned.
        """
        asked = ("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames")
        done = self._git(*asked, "--", *(_literally(below) or ["."]))
        top = len(self._git("rev-parse", "--show-prefix").stdout.rstrip(b"\n"))
        # Two letters, of the index and of the folder, a space, then the path from the repository's top.
        entries = [item for item in done.stdout.split(b"\0") if item and (staged or item[1:2] != b" ")]
        paths = [os.fsdecode(entry[3 + top :]) for entry in entries]
        paths += self._changed_unseen(below) if staged else []
        left_out = tuple(f"{folder.rstrip('/')}/" for folder in besides)
        return sorted({path for path in paths if not f"{path}/".startswith(left_out)})

    def _changed_unseen(self, below: Sequence[str]) -> list[str]:
        """Return the changed paths that the index tells git not to look at (`git update-index`)."""
        listed = self._git("ls-files", "-v", "-z", "--", *(_literally(below) or ["."])).stdout
        unseen = [os.fsdecode(item[2:]) for item in listed.split(b"\0") if item[:1] not in _SEEN]
        kept = [path for path in unseen if os.path.lexists(self.root / path)]  # a sparse checkout has none
        return sorted(set(kept) - self.unchanged(kept))

    def unchanged(self, paths: Sequence[str]) -> frozenset[str]:
        """Return the paths whose bytes are those of HEAD, whatever git's index and ignored patterns say."""
        known = self.object_ids("HEAD", paths) if paths else {}
        return frozenset(path for path, name in known.items() if _blob_id(self.root / path, name) == name)

    def _has_commit(self) -> bool:
        return self._git("rev-parse", "--verify", "--quiet", "HEAD^{commit}", fine=(0, 1)).returncode == 0

    def is_ancestor(self, commit: str) -> bool:
        """Whether the commit is HEAD or an ancestor of HEAD; False for an unknown commit."""
        head = self.head()
        if not _ID.fullmatch(commit):
            return False
        # 128 is git's code for a commit it does not know.
        return self._git("merge-base", "--is-ancestor", commit, head, fine=(0, 1, 128)).returncode == 0

    def object_ids(self, commit: str, paths: Iterable[str]) -> dict[str, str]:
        """Return the git object id of each file or folder in the commit; missing paths are left out."""
        wanted = list(paths)
        given = b"".join(_object(commit, path) for path in wanted)
        done = self._git("cat-file", "--buffer", "--batch-check=%(objectname)", given=given)
        answers = os.fsdecode(done.stdout).split("\n")[:-1]
        pairs = zip(wanted, answers, strict=True)
        return {path: answer for path, answer in pairs if _ID.fullmatch(answer)}

    def commit_holding(self, ids: Mapping[str, str]) -> str | None:
        """Return the newest commit of HEAD's history in which every path has its object id, or None.

        It finds a version's code after a rebase or a squash: the same bytes under another commit.
        """
        if not ids:
            return None  # without object ids every commit would match
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
        """Return the bytes of a committed file; None when the commit has no such file."""
        done = self._git("cat-file", "--batch", given=_object(commit, path))
        header, _, rest = done.stdout.partition(b"\n")
        found = _BLOB.fullmatch(header)
        return rest[: int(found[1])] if found else None

    def lines_added(self, path: str) -> list[bytes]:
        """Return every line that a commit of HEAD's history added to a file, the oldest commit's first.

        A merge commit counts with the lines that no parent has. A shallow clone begins at its oldest commit.
        Without a commit, the list is empty.
        """
        if not self._has_commit():
            return []
        # The full history, because a merge that drops a side's lines hides the side otherwise. Both commands
        # are plumbing: a user's settings do not change what they print.
        walk = ("rev-list", "--full-history", "--topo-order", "--reverse", "HEAD", "--", *_literally([path]))
        asked = ("diff-tree", "--stdin", "--root", "--no-commit-id", "-c", "-p", "--unified=0", "--text",
                 "--no-renames")  # fmt: skip
        with self._start(*walk) as commits:
            done = self._git(*asked, "--", *_literally([path]), stdin=commits.stdout)
        return list(_added(done.stdout))

    def paths_changed(self, folder: str) -> list[str]:
        """Return every path below a folder that a commit of HEAD's history added, changed or removed.

        A shallow clone begins at its oldest commit. Without a commit, the list is empty.
        """
        if not self._has_commit():
            return []
        walk = ("rev-list", "--full-history", "HEAD", "--", *_literally([folder]))
        asked = ("diff-tree", "--stdin", "--root", "--no-commit-id", "-m", "-r", "--name-only", "-z",
                 "--relative", "--no-renames")  # fmt: skip
        with self._start(*walk) as commits:
            done = self._git(*asked, "--", *_literally([folder]), stdin=commits.stdout)
        return sorted({os.fsdecode(path) for path in done.stdout.split(b"\0") if path})

    def last_author(self, path: str, *, commit: str = "HEAD") -> tuple[str, ...]:
        """Return name and address of the author of the last commit that changed a path; () without one."""
        asked = ("rev-list", "--max-count=1", "--format=%an%n%ae", commit, "--", *_literally([path]))
        done = self._git(*asked, fine=(0, 128))  # 128 is git's code for a commit it does not know
        lines = done.stdout.decode(errors="replace").split("\n")[1:]  # the first is "commit ID"
        return tuple(filter(None, lines))

    def last_change(self, path: str) -> tuple[str, str] | None:
        """Return the short id and the day of the last commit that changed a path; None without one."""
        asked = ("log", "-1", "--no-show-signature", "--format=tformat:%h %cs", "--", *_literally([path]))
        done = self._git(*asked, fine=(0, 128))  # 128 is git's code for a repository without a commit
        commit, _, day = done.stdout.decode(errors="replace").strip().partition(" ")
        return (commit, day) if done.returncode == 0 and day else None

    def authors(self, path: str, *, holding: str = "") -> tuple[str, ...]:
        """Return names and addresses of the authors of all commits that changed a path; () without one.

        With `holding`, only commits count that added or removed an occurrence of this text.
        """
        if not self._has_commit():
            return ()
        asked = ("log", "--no-show-signature", "--full-history", "--format=tformat:%an%n%ae")
        found = self._git(*asked, *([f"-S{holding}"] if holding else []), "HEAD", "--", *_literally([path]))
        lines = found.stdout.decode(errors="replace").split("\n")
        return tuple(dict.fromkeys(filter(None, lines)))

    def export(self, commit: str, folder: Path) -> Path:
        """Write the commit's files below `root`, byte for byte, to `folder`; an existing folder is kept.

        One process exports at a time; the others wait. The next export removes an interrupted one. `git
        archive` is not used, because it applies attributes, which alter files.
        """
        if folder.is_dir():
            return folder
        if not _ID.fullmatch(commit):
            raise ConfigError(f"{commit!r} is not the id of a commit", hint="git log --format=%H")
        with files.writing(folder):
            files.make_folder(folder.parent)
            with locking.locked(folder.parent):
                if not folder.is_dir():
                    with folders.written(folder, new=folder.parent / ".exporting") as new:
                        self._extract(commit, new)
        return folder

    def stage(self, paths: Sequence[str]) -> None:
        """Add these paths to git's index, including removed and ignored paths."""
        if paths:  # without a path, git adds everything
            self._git("add", "--all", "--force", "--", *_literally(paths))

    def commit(self, paths: Sequence[str], message: str) -> str:
        """Commit only these paths, staged or not; return the id of the commit.

        When HEAD already has their content, no commit is made and HEAD is returned. RefusedError when
        a hook fails.
        """
        self.stage(paths)
        places, head = _literally(paths), self.head()
        asked = ("diff-index", "--cached", "--quiet", "HEAD")
        if not places or self._git(*asked, "--", *places, fine=(0, 1)).returncode == 0:
            return head
        asked = ("commit", "--quiet", "--only", f"--message={message}")
        done = self._git(*asked, "--", *places, fine=(0, 1), seconds=_HOOKS_S)
        if done.returncode:
            raise RefusedError(
                f"git did not commit in {self.root}; a hook failed:\n{_last(done.stderr)}",
                hint="fix what the hook reports, then run the same command again",
            )
        return self.head()

    def begin(self, message: str) -> str:
        """Make a repository in `root` unless it holds one, and commit all its files; return the commit's id.

        RefusedError when a hook fails; ConfigError when git does not know in whose name to commit.
        """
        if not (self.root / ".git").exists():
            self._git("init", "--quiet")
        self._git("add", "--all", "--force")
        asked = ("commit", "--quiet", "--allow-empty", f"--message={message}")
        self._git(*asked, seconds=_HOOKS_S)
        return self.head()

    def version(self) -> str:
        """Return what `git --version` prints; ConfigError when git is not installed."""
        return self._git("--version").stdout.decode(errors="replace").strip()

    def author(self) -> str:
        """Return the name that git writes as an author, or else the operating system's user."""
        return self._stated_author() or identity.from_system().name

    def signer(self) -> str:
        """Return the name that git writes as an author; raise ConfigError when none is stated."""
        if not (name := self._stated_author()):
            raise ConfigError(
                "git states no name of yours, and the name of the operating system's user signs nothing",
                hint='git config user.name "Your Name", or set GIT_AUTHOR_NAME',
            )
        return name

    def _stated_author(self) -> str:
        """Return the name by git's order, GIT_AUTHOR_NAME, author.name, user.name; "" without one."""
        if name := " ".join(os.environ.get("GIT_AUTHOR_NAME", "").split()):
            return name
        for key in ("author.name", "user.name"):
            done = self._git("config", "--get", key, fine=(0, 1))
            if name := " ".join(done.stdout.decode(errors="replace").split()):
                return name
        return ""

    def _extract(self, commit: str, folder: Path) -> None:
        listed = self._git("ls-tree", "-r", "-z", commit).stdout.split(b"\0")[:-1]
        entries = [(*facts.split(), path) for facts, _, path in (line.partition(b"\t") for line in listed)]
        ids = b"".join(name + b"\n" for _, kind, name, _ in entries if kind == b"blob")
        # Through a file: a repository may be larger than memory, and a full pipe would block.
        with tempfile.TemporaryFile(dir=folder) as blobs:
            self._git("cat-file", "--buffer", "--batch", given=ids, stdout=blobs)
            blobs.seek(0)
            for mode, kind, _, path in entries:
                place = folder / os.fsdecode(path)
                files.make_folder(place.parent)
                if kind == b"blob":
                    _write(place, mode, _next_blob(blobs, place.relative_to(folder)))
                else:
                    files.make_folder(place)  # a submodule: an empty folder, as after a checkout
        os.sync()  # the contents must be on disk before the rename

    def _git(
        self,
        *arguments: str,
        given: bytes = b"",
        stdin: int | IO[bytes] | None = subprocess.PIPE,
        stdout: int | IO[bytes] = subprocess.PIPE,
        fine: Collection[int] = (0,),
        seconds: float = _GIT_S,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a git command to its end; WorkbenchError for an exit code outside `fine`."""
        with self._start(*arguments, stdin=stdin, stdout=stdout) as process:
            try:
                output, errors = process.communicate(given, timeout=seconds)
            except subprocess.TimeoutExpired:
                process.terminate()  # not killed: git removes its lock files first
                raise UnavailableError(
                    f"`git {arguments[0]}` did not end within {seconds:g} s in {self.root}",
                    hint="run `git status` there; when it answers, run the same command again",
                ) from None
        if process.returncode not in fine:
            raise self._failed(arguments[0], errors)
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

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
                process_group=0,  # a signal to this process group must not leave the index locked
            )
        except FileNotFoundError:
            raise ConfigError("there is no `git` on the PATH", hint="apt-get install git") from None

    def _failed(self, verb: str, errors: bytes) -> WorkbenchError:
        text = errors.decode(errors="replace")
        for sign, kind, message, hint in _KNOWN:
            if sign in text:
                return kind(message.format(root=self.root), hint=hint.format(root=self.root))
        return UnavailableError(
            f"`git {verb}` failed in {self.root}:\n{_last(errors)}",
            hint="fix what git reports, then run the same command again",
        )


def _literally(paths: Iterable[str]) -> list[str]:
    """Return the paths as literal pathspecs, in which `*`, `[` and `:` have no meaning."""
    return [f":(literal){path}" for path in paths]


def _blob_id(path: Path, like: str) -> str:
    """Return the object id of a file's bytes, or of a link, in the form of another id; "" without it."""
    try:
        data = os.fsencode(path.readlink()) if path.is_symlink() else files.read_bytes(path)
    except (OSError, WorkbenchError):
        return ""
    kind = "sha1" if len(like) == _SHA1_DIGITS else "sha256"
    return hashlib.new(kind, b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _object(commit: str, path: str) -> bytes:
    """Return the input line of `git cat-file` for a path of a commit."""
    if "\n" in path:
        raise ConfigError(f"{path!r}: a path with a line break cannot be promoted", hint="rename the file")
    return os.fsencode(f"{commit}:./{path}\n")


def _added(patch: bytes) -> Iterator[bytes]:
    """Yield the added lines of `git diff-tree -p`; the patch of a merge has one column for each parent."""
    columns = 0
    for line in patch.split(b"\n"):
        if line.startswith(b"diff "):
            columns = 0  # the lines up to @@ are a header
        elif line.startswith(b"@@"):
            columns = len(line) - len(line.lstrip(b"@")) - 1
        elif columns and line.startswith(b"+" * columns):
            yield line[columns:]


def _last(errors: bytes) -> str:
    lines = errors.decode(errors="replace").strip().splitlines()[-_LINES:]
    return "\n".join(f"    {line}" for line in lines) or "    (and nothing else)"


def _next_blob(stream: IO[bytes], path: Path) -> bytes:
    """Read the next blob from the output of `git cat-file --batch`."""
    found = _BLOB.fullmatch(stream.readline().rstrip(b"\n"))
    if not found:
        raise CorruptError(f"git has lost the contents of {path}", hint="git fsck, then git fetch --all")
    data = stream.read(int(found[1]))
    stream.read(1)
    return data


def _write(path: Path, mode: bytes, data: bytes) -> None:
    """Write a file as git checks it out: a symbolic link, or a file with its executable bit."""
    if mode == b"120000":
        path.symlink_to(os.fsdecode(data))
        return
    permissions = 0o700 if mode == b"100755" else 0o600  # an export is private, as its cache is
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, permissions)
    with open(descriptor, "wb") as file:  # noqa: PTH123  of a descriptor
        file.write(data)
