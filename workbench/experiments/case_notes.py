"""Notes on cases whose ground truth is wrong: one JSON line each, in a file of the use case that git tracks.

A note names the content of its case by digest. It is open until the dataset has another content for the case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from workbench import arguments, files, locking
from workbench.errors import ConfigError
from workbench.experiments.dataset import Case
from workbench.files import folders, tables
from workbench.layout import case_notes_of

#: Most characters of a reason, and bytes of a file of notes: about 10,000 long ones.
MOST_REASON, _MOST_BYTES = 2_000, 32_000_000
#: The first characters of the lines that git writes into a file with a merge conflict.
_CONFLICT = re.compile(r"^(<<<<<<<|=======|>>>>>>>|\|\|\|\|\|\|\|)", re.MULTILINE)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseNote:
    """A reviewer's note that the ground truth of a case is wrong. `digest` is that of the case's content."""

    case: str
    tenant: str
    digest: str
    reviewer: str
    at: str
    reason: str

    def is_open(self, case: Case | None) -> bool:
        """Return whether the dataset still has the content that was noted as wrong."""
        return case is not None and content_digest(case) == self.digest


def content_digest(case: Case) -> str:
    """Return the first 16 hex digits of the SHA-256 of a case's tenant, inputs and expected values."""
    return files.digest([case.id, case.tenant, dict(case.inputs), dict(case.expected)])[:16]


def read_notes(root: Path, use_case: str) -> tuple[CaseNote, ...]:
    """Return the notes of a use case in the order of its file; none without the file.

    ConfigError names the first damaged line.
    """
    path = root / case_notes_of(use_case)
    if not path.exists():
        return ()
    text, shown = files.read_text(path, limit=_MOST_BYTES), case_notes_of(use_case)
    if _CONFLICT.search(text):
        raise ConfigError(
            f"{shown}: conflict markers of an unresolved merge",
            hint=f"remove the marker lines and keep every note, then: git add {shown}",
        )
    return tuple(_parsed(row, f"{shown}:{n}") for n, row in tables.json_lines(text, where=str(shown)))


def add_note(root: Path, use_case: str, note: CaseNote) -> CaseNote:
    """Append a note and return it; a reviewer's note with the same case and reason is returned as it stands.

    The file is replaced atomically under a lock of its folder, so that of two writers each keeps what the
    other wrote. ConfigError for an empty or long reason and for a damaged file, which stays as it is.
    """
    checked = _parsed(asdict(note), "the note")
    path = root / case_notes_of(use_case)
    with files.writing(path):
        files.make_folder(path.parent)
        with locking.locked(path.parent):
            folders.purge(path)  # what a killed writer left
            before = read_notes(root, use_case)
            for known in before:
                if _identity(known) == _identity(checked):
                    return known
            lines = (files.canonical(asdict(each)) + b"\n" for each in (*before, checked))
            files.write_atomic(path, b"".join(lines))
    return checked


def open_notes(notes: Iterable[CaseNote], cases: Iterable[Case]) -> tuple[CaseNote, ...]:
    """Return the notes on cases whose content has not changed since, in the order of their files."""
    by_id = {case.id: case for case in cases}
    return tuple(note for note in notes if note.is_open(by_id.get(note.case)))


def _identity(note: CaseNote) -> tuple[str, ...]:
    return note.case, note.digest, note.reviewer, note.reason


def _parsed(row: dict[str, object], where: str) -> CaseNote:
    keys = set(CaseNote.__slots__)
    if set(row) != keys:
        odd = sorted(set(row) ^ keys)
        raise ConfigError(f"{where}: not a note: missing or unknown keys {', '.join(odd)}"[:500])
    texts = {key: arguments.text(value, f"{where}: {key}") for key, value in row.items()}
    for key, value in texts.items():
        if not value.strip() or len(value) > MOST_REASON:
            hint = f'write 1 to {MOST_REASON:,} characters, as in .note("the page has changed")'
            raise ConfigError(f"{where}: {key} has {len(value):,} characters", hint=hint)
    if not _INSTANT.fullmatch(texts["at"]):
        raise ConfigError(
            f"{where}: at is {files.shortened(texts['at'])!r}, not a time like 2026-11-24T06:00:00Z"
        )
    return CaseNote(**texts)
