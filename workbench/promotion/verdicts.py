"""Keep the verdicts of a use case in a file that git tracks, and block promotion after a text was loosened.

The file has one canonical JSON line for each gate text and what it judged, without clock or machine, in the
order of judging. Lines are appended only: a line that a commit held and the file lacks blocks promotion.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workbench import files, locking
from workbench.errors import ConfigError
from workbench.experiments.loosening import Loosening, Verdicted, loosened
from workbench.files import folders
from workbench.layout import verdicts_of
from workbench.promotion.requirements import Blocker
from workbench.repository.git import Repository

#: About 100,000 lines.
_MOST_BYTES = 64_000_000
#: The first bytes of the lines that git writes into a file with a merge conflict.
_CONFLICT = (b"<<<<<<<", b"=======", b">>>>>>>", b"|||||||")


def read(root: Path, use_case: str) -> tuple[Verdicted, ...]:
    """Return the verdicts of a use case in the order of its file; none without the file.

    ConfigError names the first damaged line and the command that restores the file.
    """
    return tuple(_parsed(_lines(root / verdicts_of(use_case)), root / verdicts_of(use_case)))


def recorded(root: Path, use_case: str) -> tuple[Verdicted, ...]:
    """Return the verdicts of git's history, oldest first, then those of the file that no commit added.

    Neither removing nor moving a line that was committed changes them. Lines of the history that are no
    verdicts, such as a conflict that was committed, are left out.
    """
    committed = _committed(root, use_case)
    lines = {verdict.line() for verdict in committed}
    return (*committed, *(verdict for verdict in read(root, use_case) if verdict.line() not in lines))


def note(root: Path, use_case: str, verdict: Verdicted) -> Loosening | None:
    """Append a verdict unless the file has it; return how its text was loosened since the file's verdicts.

    The file is replaced atomically, under a lock of its folder: of two processes, each reads what the other
    wrote. ConfigError for a damaged file, which stays as it is.
    """
    path, line = root / verdicts_of(use_case), verdict.line()
    Verdicted.parse(line, where=f"{path}: the new verdict")  # nothing is written that cannot be read
    with files.writing(path):
        files.make_folder(path.parent)
        with locking.locked(path.parent):
            folders.purge(path)  # what a killed writer left
            before = read(root, use_case)
            if line not in {known.line() for known in before}:
                data = b"".join(known + b"\n" for known in [*_lines(path), line.encode()])
                files.write_atomic(path, data)
    return loosened(verdict, before)


def removed(root: Path, use_case: str) -> list[str]:
    """Return the lines that a commit of HEAD's history added and the file lacks, the oldest first."""
    present = {verdict.line() for verdict in read(root, use_case)}
    committed = dict.fromkeys(verdict.line() for verdict in _committed(root, use_case))
    return [line for line in committed if line not in present]


def blockers(
    root: Path,
    use_case: str,
    loosening: Loosening | None,
    reason: str | None,
    *,
    job: str,
    label: str = "production",
) -> list[Blocker]:
    """Return the blockers of moving `label` to `job`: lines removed, and a text loosened without a reason.

    `loosening` is of `recorded`, and `reason` is the one that the move of the label records.
    """
    found, file = [], verdicts_of(use_case)
    if gone := removed(root, use_case):
        what = f"{file} lacks {len(gone)} of the verdicts that were committed, first {_short(gone[0])}"
        fix = f"git log -p -- {file}   # append the removed lines again, then commit"
        found.append(Blocker(what=what, fix=fix))
    if blocker := unexcused(use_case, loosening, reason, asset=f"job/{job}", label=label):
        found.append(blocker)
    return found


def unexcused(
    use_case: str, loosening: Loosening | None, reason: str | None, *, asset: str, label: str
) -> Blocker | None:
    """Return the blocker of moving `label` to `asset` (job/NAME) under a loosened text without a reason."""
    if loosening is None or not loosening.same_task or (reason or "").strip():
        return None
    fix = (
        f"add rows to the dataset of use_cases.{use_case}, then: dvc repro; or: workbench promote "
        f'{asset} --to {label} --reason "why the looser text is right"'
    )
    return Blocker(what=loosening.text, fix=fix, exit_code=1)


def _lines(path: Path) -> list[bytes]:
    """Return the lines of the file, without their ends."""
    try:
        data = files.read_bytes(path, limit=_MOST_BYTES)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint=f"ls -l {path}") from None
    return data.removesuffix(b"\n").split(b"\n") if data else []


def _parsed(lines: list[bytes], path: Path) -> Iterator[Verdicted]:
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        if line.startswith(_CONFLICT):
            raise ConfigError(
                f"{where}: a conflict marker of an unresolved merge",
                hint=f"remove the marker lines from {path} and keep every verdict, then: git add {path}",
            )
        try:
            yield Verdicted.parse(line.decode(), where=where)
        except UnicodeDecodeError as error:
            what = f"{where}: not UTF-8 text (byte {error.start})"
            raise ConfigError(what, hint=f"git checkout -- {path}") from None
        except ConfigError as error:
            raise ConfigError(error.message, hint=f"git checkout -- {path}") from None


def _committed(root: Path, use_case: str) -> list[Verdicted]:
    """Return the verdicts that git's history added, oldest first."""
    path, found = verdicts_of(use_case), []
    for line in Repository(root=root).lines_added(str(path)):
        try:
            found.append(Verdicted.parse(line.decode(), where=str(path)))
        except (UnicodeDecodeError, ConfigError):
            continue
    return found


def _short(line: str) -> str:
    verdict = Verdicted.parse(line, where="line")
    return f"{verdict.verdict} of the {verdict.phase} text {verdict.gate.digest[:12]}"
