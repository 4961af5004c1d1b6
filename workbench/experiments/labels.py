"""Human labels: what people decided between two answers of a case, one line each, and their scorer."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from workbench import files
from workbench.context import is_instant
from workbench.errors import ConfigError, CorruptError, NotFoundError, WorkbenchError
from workbench.experiments.attempts import stored
from workbench.experiments.scorers import Outcome, Scorer

Choice = Literal["left", "right", "both_good", "both_bad", "skip"]
#: Characters of a note, and bytes of a line and of a file of labels, at most.
MOST_NOTE: Final = 4_000
MOST_LINE: Final = 64_000
_MOST_BYTES = 64_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownAnswer:
    """An answer that a reviewer was shown: the run and its arm, and the SHA-256 of the stored output."""

    run: str
    arm: str
    output: str
    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanLabel:
    """One decision of one reviewer between two answers of a case, which hold the sides that were shown.

    `at` is the time in UTC, and `seed` the one by which the sides were shuffled. `pairs` is the number of
    pairs in the sample of the reviewer; None in labels of versions that did not write it.
    """

    use_case: str
    case: str
    left: ShownAnswer
    right: ShownAnswer
    choice: Choice
    note: str
    reviewer: str
    at: str
    seed: int
    pairs: int | None = None
    format: Literal[1] = 1
    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT

    @property
    def answers(self) -> frozenset[str]:
        """The digests of both answers, whatever their sides."""
        return frozenset({self.left.output, self.right.output})

    def preference(self, output: str) -> float | None:
        """Return 1 where the answer with this digest was preferred, 0 where the other was, else 1/2.

        None for a skipped pair and for an answer that is not one of the two.
        """
        if self.choice == "skip" or output not in self.answers:
            return None
        if self.choice in {"both_good", "both_bad"}:
            return 0.5
        return float((self.left if self.choice == "left" else self.right).output == output)


def answer_digest(output: str) -> str:
    """Return the SHA-256 of an output as a run stores it, which is canonical JSON."""
    return hashlib.sha256(output.encode()).hexdigest()


def read_labels(path: Path) -> tuple[HumanLabel, ...]:
    """Return the labels of a file, oldest first, superseded ones too.

    An incomplete last line is of a killed process and is left out. Raise NotFoundError without the file,
    ConfigError for one that is no regular file or too large, and CorruptError with the line of another fault.
    """
    return labels_of(label_bytes(path), where=str(path))


def labels_of(data: bytes, *, where: str) -> tuple[HumanLabel, ...]:
    """Return the labels of the bytes of a file, as `read_labels` does."""
    *lines, last = data.split(b"\n")
    found = [_label(line, f"{where}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    return (*found, *_complete(last))


def _complete(last: bytes) -> Iterable[HumanLabel]:
    """Yield the label of a last line without its end, if the line is complete."""
    try:
        yield _label(last, "")
    except WorkbenchError:
        return


def latest(labels: Iterable[HumanLabel]) -> tuple[HumanLabel, ...]:
    """Return the last label of each reviewer on each pair of answers, whatever the clock said."""
    found = {(label.reviewer, label.case, label.answers): label for label in labels}
    return tuple(found.values())


def human(*, labels: str | Path, name: str = "human") -> Scorer:
    """Return a scorer: how often people preferred the answer to another one, by the labels in a file.

    A preferred answer scores 1, the other one 0, and both 1/2 where both were good or both were bad; the
    labels of several reviewers and pairs are averaged. A label counts for the exact answer that was shown.
    An answer without a label has no score. Raises as `read_labels` does.
    """
    return human_scorer(read_labels(Path(labels)), name=name)


def human_scorer(labels: Iterable[HumanLabel], *, name: str = "human") -> Scorer:
    """Return the scorer `human` of these labels."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for label in latest(labels):
        for output in sorted(label.answers):
            if (preferred := label.preference(output)) is not None:
                found[label.case, output].append(preferred)

    def score(outcome: Outcome) -> float | None:
        scores = found.get((outcome.case.id, answer_digest(stored(_plain(outcome.output))["output"])))
        return sum(scores) / len(scores) if scores else None

    return Scorer(name=name, function=score)


def label_bytes(path: Path) -> bytes:
    """Return the bytes of a file of labels; raises as `read_labels` does, but for the content."""
    try:
        return files.read_bytes(path, limit=_MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(
            f"there is no file of labels {path}", hint="ws.review(run, other) writes one, answer by answer"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint=f"ls -l {path}") from None


def _label(line: bytes, where: str) -> HumanLabel:
    try:
        if len(line) > MOST_LINE:
            raise ConfigError(f"{where}: {len(line):,} bytes; a label has {MOST_LINE:,} at most")
        label = files.parse(HumanLabel, files.parse_json(line.decode(), where=where), where=where)
        if not is_instant(label.at):
            raise ConfigError(
                f"{where}: at: {files.shortened(label.at)!r} is no time as 2026-11-25T06:00:00Z"
            )
        if label.pairs is not None and label.pairs < 1:
            raise ConfigError(f"{where}: pairs: {label.pairs} is no number of pairs, which is 1 or more")
    except (UnicodeDecodeError, WorkbenchError) as error:
        problem = error.message if isinstance(error, WorkbenchError) else f"{where}: not UTF-8 text"
        hint = f"git log -p -- {where.rpartition(':')[0]}   # restore the line, or remove it"
        raise CorruptError(problem, hint=hint) from None
    return label


def _plain(value: Any) -> Any:
    """Return an output that a scorer reads in the form in which a run stores it."""
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in value}  # a key may be named "items"
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
