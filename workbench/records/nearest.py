"""Find the recording nearest to a call that has none, and their first difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from workbench.errors import ReplayMissError
from workbench.records.keys import Entry, RecordedRequest, leaves
from workbench.records.tape import Tape

_ABSENT: Final = object()
#: Characters shown before a difference; twice as many are shown after it.
_AROUND: Final = 24


def miss(tape: Tape, question: RecordedRequest, target: str) -> ReplayMissError:
    """Return the error for a call without a recording, with the nearest recording and first difference."""
    lead = f"{tape.path} has no recording of this call to {target!r} ({_place(question)})"
    hint = "undo the change, or `dvc repro`, which asks the model for missing recordings"
    mine = _parts(question)
    nearest: tuple[tuple[bool, float], Entry, dict[str, object]] | None = None
    for entry in (*tape.entries(), *(tape.judged.entries() if tape.judged else ())):
        if entry.question.operation == question.operation:
            theirs = _parts(entry.question)
            rank = (entry.question.case == question.case, _likeness(theirs, mine))
            if nearest is None or rank > nearest[0]:
                nearest = (rank, entry, theirs)
    if nearest is None:
        return ReplayMissError(f"{lead}; it has none of {question.operation}", hint=hint)
    _, entry, theirs = nearest
    paths = [path for path in mine | theirs if not _same(theirs, mine, path)]
    recorded, now = _around(theirs.get(paths[0], _ABSENT), mine.get(paths[0], _ABSENT))
    more = f" (and at {len(paths) - 1} more places)" if len(paths) > 1 else ""
    return ReplayMissError(
        f"{lead}\n"
        f"  nearest recording: {entry.key[:12]} ({_place(entry.question)})\n"
        f"  first difference:  {paths[0]}{more}\n"
        f"    recorded  {recorded}\n"
        f"    now       {now}",
        hint=hint,
        path=paths[0],
    )


def _place(question: RecordedRequest) -> str:
    if not question.case:
        return "outside any case"
    return f"case {question.case!r}, repeat {question.repeat}, identical request {question.n}"


def _parts(question: RecordedRequest) -> dict[str, object]:
    """Return the scalars of a key by path: request, then identity, then occurrence."""
    place = {"case": question.case, "repeat": question.repeat, "n": question.n}
    return {
        **dict(leaves(question.request)),
        **dict(leaves(question.identity, "identity")),
        **dict(leaves(place, "occurrence")),
    }


def _same(recorded: Mapping[str, object], now: Mapping[str, object], path: str) -> bool:
    before, after = recorded.get(path, _ABSENT), now.get(path, _ABSENT)
    return type(before) is type(after) and before == after


def _likeness(recorded: Mapping[str, object], now: Mapping[str, object]) -> float:
    """Return the share of equal leaves; a changed text counts by its common prefix and suffix."""
    total = 0.0
    for path, before in recorded.items():
        after = now.get(path, _ABSENT)
        if isinstance(before, str) and isinstance(after, str) and before != after:
            prefix = _shared(before, after)
            suffix = _shared(before[prefix:][::-1], after[prefix:][::-1])
            total += (prefix + suffix) / max(len(before), len(after))
        else:
            total += _same(recorded, now, path)
    return total / max(len(recorded), len(now), 1)


def _shared(left: str, right: str) -> int:
    """Return the length of the common prefix."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((length for length, (a, b) in pairs if a != b), min(len(left), len(right)))


def _around(recorded: object, now: object) -> tuple[str, str]:
    """Return two values as text for a message, with texts cut around their first difference."""
    if not (isinstance(recorded, str) and isinstance(now, str)):
        return _shown(recorded), _shown(now)
    start = max(0, _shared(recorded, now) - _AROUND)
    return _cut(recorded, start), _cut(now, start)


def _cut(text: str, start: int) -> str:
    end = start + 3 * _AROUND
    return ("…" if start else "") + repr(text[start:end]) + ("…" if len(text) > end else "")


def _shown(value: object) -> str:
    return "(absent)" if value is _ABSENT else _cut(value, 0) if isinstance(value, str) else repr(value)
