"""Check the notes on cases: a warning while the dataset still has what reviewers noted as wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from workbench.diagnostics.checked_files import CheckedFile
from workbench.errors import WorkbenchError
from workbench.experiments.case_notes import open_notes, read_notes
from workbench.experiments.dataset import Dataset
from workbench.layout import case_notes_of

#: Notes that a finding quotes, and characters of a reason.
_QUOTED, _SHORT = 5, 200


def noted_cases(root: Path, name: str, cases: Callable[[], Dataset]) -> Iterator[CheckedFile]:
    """Yield the finding about the notes of a use case; nothing without a file of them."""
    if not (root / case_notes_of(name)).exists():
        return
    what = f"{name}: {case_notes_of(name)}"
    try:
        notes = read_notes(root, name)
    except WorkbenchError as error:
        yield CheckedFile(what=what, problem=str(error))
        return
    try:
        found = open_notes(notes, cases())
    except WorkbenchError:  # another check reports the dataset
        return
    if not found:
        yield CheckedFile(what=what)
        return
    quoted = "; ".join(f"{note.case} by {note.reviewer}: {note.reason[:_SHORT]}" for note in found[:_QUOTED])
    more = f"; {len(found) - _QUOTED} more" if len(found) > _QUOTED else ""
    fix = "\n  -> correct the rows of the dataset, or remove the lines"
    problem = f"open notes of wrong ground truth, {len(found)}: {quoted}{more}{fix}"
    yield CheckedFile(what=what, problem=problem, warning=True)
