"""Take away a use case that `workbench init` created, while nothing of it is committed."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import files, layout
from workbench.display import Card, Shown
from workbench.errors import ConfigError, NotFoundError, WorkbenchError, nearest
from workbench.layout import INIT, PARAMS, Results
from workbench.repository.git import Repository
from workbench.scaffold import params_text, placing
from workbench.scaffold.placing import InitJournal

_DVC_LOCK = Path("dvc.lock")
#: Changed files that an error names.
_NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed(Shown):
    """A use case that was taken away, and what was removed with it.

    `interrupted` says that `workbench init` was stopped before it changed params.yaml.
    """

    name: str
    paths: tuple[str, ...]
    dry: bool = False
    interrupted: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        return dataclasses.asdict(self)

    def card(self) -> Card:
        """Return the list of what was removed."""
        below = f"data/{self.name}/documents/"
        rows = [(path,) for path in self.paths if not path.startswith(below)]
        documents = len(self.paths) - len(rows)
        if documents:
            rows.append((f"{documents} documents of {below.rstrip('/')}",))
        if not self.interrupted:
            rows.append((f"use_cases.{self.name} and jobs.{self.name} of {PARAMS}",))
        what = "would be taken away" if self.dry else "is taken away"
        command = f"workbench init {self.name} --undo" if self.dry else "workbench check"
        return Card(title=f"use case {self.name} {what}", head=("removed",), rows=rows, command=command)


def undo(root: Path, name: str, *, force: bool = False, dry_run: bool = False) -> Removed:
    """Take the use case away with its results; `force` also removes what was changed or added since.

    Raise NotFoundError when `workbench init` did not create it here, and ConfigError when a part of it is
    committed, or is changed without `force`.
    """
    left = _interrupted(root, name)
    with placing.alone(root):
        journal = placing.read(root, name)
        if journal is None:
            return _taken_back(root, name, left)
        paths = [*journal.files, *_results(root, journal)]
        _check_uncommitted(root, journal, paths)
        text = placing.read_params(root)
        changed = _changed(root, journal, text)
        if changed and not force:
            raise _refused(name, changed)
        paths += [path for path in changed if path != str(PARAMS) and path not in journal.files]
        present = tuple(sorted(path for path in dict.fromkeys(paths) if _exists(root / path)))
        if not dry_run:
            _forget_stages(root, name)
            placing.remove(root, journal, paths=present, after=_without(journal, text))
            _unstage(root, [*present, str(PARAMS)])
    return Removed(name=name, paths=present, dry=dry_run)


def _interrupted(root: Path, name: str) -> list[str]:
    """Return the files that a killed `workbench init` left, which `placing.alone` takes back."""
    journal = placing.read(root, name)
    if journal is None or journal.state == "done":
        return []
    return [path for path in journal.files if _exists(root / path)]


def _taken_back(root: Path, name: str, left: list[str]) -> Removed:
    """Return what was taken back of an interrupted command; `left` are its files.

    Raise NotFoundError when there was none, and ConfigError when a person changed one of the files.
    """
    kept = [path for path in left if _exists(root / path)]
    if kept:
        raise ConfigError(
            f"the interrupted `workbench init {name}` is taken back, but these files were changed and are "
            f"kept: {', '.join(kept)}",
            hint=f"rm {' '.join(kept)}   # if nobody needs them",
        )
    if left:
        return Removed(name=name, paths=tuple(left), interrupted=True)
    if _is_named(placing.read_params(root).encode(), name):
        raise NotFoundError(
            f"`workbench init` did not create the use case {name!r} here, and `--undo` removes nothing else",
            hint=f"git log --oneline -- {PARAMS}   # how it came about",
        )
    known = [path.stem for path in (root / INIT).glob("*.json")]
    raise NotFoundError(
        f"there is no use case {name!r} to take away ({nearest(name, known)})", hint="workbench check"
    )


def _refused(name: str, changed: list[str]) -> ConfigError:
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    return ConfigError(
        f"{', '.join(changed[:_NAMED])}{more} changed or added after `workbench init`, so nothing is removed",
        hint=f"workbench init {name} --undo --force   # removes them too",
    )


def _results(root: Path, journal: InitJournal) -> list[str]:
    """Return what the pipeline wrote for the use case."""
    name = journal.name
    report = Path("reports") / name
    journal_of_judge = layout.JUDGE_JOURNALS / f"{name}.answers.jsonl"
    paths = [Results(use_case=name).folder, layout.verdicts_of(name), journal_of_judge]
    paths += [layout.LIVE / f"{name}.json", report.with_suffix(".html"), report.with_suffix(".md")]
    return [path.as_posix() for path in paths if _exists(root / path)]


def _changed(root: Path, journal: InitJournal, text: str) -> list[str]:
    """Return what a person changed or added: files, and params.yaml when its blocks differ.

    The pipeline extends the tapes, so their content does not count.
    """
    tapes = {layout.tape_of(journal.name).as_posix(), layout.judge_tape_of(journal.name).as_posix()}
    changed = [
        path
        for path, digest in journal.files.items()
        if path not in tapes and _exists(root / path) and placing.digest_of(root / path) != digest
    ]
    own = [folder for folder in journal.folders if _is_own(Path(folder), journal.name)]
    for folder in own:
        found = (path for path in (root / folder).rglob("*") if not path.is_dir())
        changed += [
            name for path in found if (name := path.relative_to(root).as_posix()) not in journal.files
        ]
    try:
        _cut_exactly(journal, text)
    except ConfigError:
        changed.append(str(PARAMS))
    return list(dict.fromkeys(changed))


def _is_own(folder: Path, name: str) -> bool:
    """Return whether a folder is the use case's, unlike `pipelines/prompts` of one called prompts."""
    first = 1 if folder.parts[0] == "data" else 2
    return name in folder.parts[first:]


def _cut_exactly(journal: InitJournal, text: str) -> str:
    return journal.before if text == journal.after else params_text.removed(text, list(journal.blocks))


def _without(journal: InitJournal, text: str) -> str:
    try:
        return _cut_exactly(journal, text)
    except ConfigError:
        return params_text.cut(text, list(journal.blocks))


def _check_uncommitted(root: Path, journal: InitJournal, paths: list[str]) -> None:
    """Raise ConfigError when HEAD holds a file or the block of the use case."""
    repository = Repository(root=root)
    try:
        head = repository.head()
    except WorkbenchError:
        return  # no repository, or no commit
    committed = sorted(repository.object_ids(head, paths))
    if committed or _is_named(repository.read(head, str(PARAMS)) or b"", journal.name):
        raise ConfigError(
            f"{(committed or [str(PARAMS)])[0]} is committed, and `--undo` removes nothing that is committed",
            hint=f"git log --oneline -- {(committed or [str(PARAMS)])[0]}   # then git revert COMMIT",
        )


def _is_named(params: bytes, name: str) -> bool:
    """Return whether a text of params.yaml has a use case or a job of this name."""
    try:
        raw = files.parse_yaml(params.decode(), where=str(PARAMS))
    except (ConfigError, UnicodeDecodeError):
        return False
    return any(name in (raw.get(section) or {}) for section in ("use_cases", "jobs"))


def _forget_stages(root: Path, name: str) -> None:
    """Remove the stages of the use case from dvc.lock, and its page from reports/.gitignore."""
    stage = rf"(?m)^  \w+@{re.escape(name)}:\n(?:    .*\n)*"
    page = rf"(?m)^/{re.escape(name)}\.html\n?"
    for path, pattern in ((_DVC_LOCK, stage), (Path("reports/.gitignore"), page)):
        if (root / path).is_file():
            text = files.read_text(root / path)
            shorter = re.sub(pattern, "", text)
            if shorter != text:
                files.write_atomic(root / path, shorter.encode())


def _unstage(root: Path, paths: list[str]) -> None:
    """Take removed paths out of git's index, into which DVC puts what it writes."""
    repository = Repository(root=root)
    try:
        gone = [path for path in repository.changed(below=paths) if not _exists(root / path)]
        head = repository.head()
        equal = [path for path in (str(_DVC_LOCK), "reports/.gitignore") if _is_as_in(root, head, path)]
        repository.stage([*gone, *equal])
    except WorkbenchError:
        return  # no repository


def _is_as_in(root: Path, commit: str, path: str) -> bool:
    """Return whether a file is as the commit has it, so that staging it takes nothing of a person's."""
    return _exists(root / path) and Repository(root=root).read(commit, path) == files.read_bytes(root / path)


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()
