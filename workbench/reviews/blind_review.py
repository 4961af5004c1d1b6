"""A blind review: two answers to a case side by side, without the names of their arms, and decisions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from workbench import files
from workbench.context import Clock, SystemClock, instant
from workbench.errors import ConfigError, CorruptError, nearest
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.labels import MOST_NOTE, Choice, HumanLabel, human
from workbench.experiments.scorers import Scorer
from workbench.reviews.label_file import LabelFile
from workbench.reviews.report import ReviewReport
from workbench.reviews.sampling import AnswerPair, ReviewedRuns, check_dataset, plain_value
from workbench.widgets.cutting import LONGEST
from workbench.widgets.nodes import Button, Field, Group, Meter, Node, Words
from workbench.widgets.panel import Panel

#: What can be decided: the label of the button and its key.
CHOICES: Final[Mapping[Choice, tuple[str, str]]] = {
    "left": ("Left is better", "l"),
    "right": ("Right is better", "r"),
    "both_good": ("Both good", "g"),
    "both_bad": ("Both bad", "b"),
    "skip": ("Skip", "s"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindPair:
    """What a reviewer sees of a pair: the question and two answers, with nothing that names their arms.

    `choice` is what this reviewer decided before, or an empty text.
    """

    case: str
    question: str
    left: str
    right: str
    expected: str = field(default="", repr=False)
    choice: str = ""
    note: str = ""


class Review(Panel):
    """The review of a sample of pairs by one reviewer, resumed from the labels in its file.

    Each decision is on the disk when `choose` returns. A changed one is another line; the latest counts.
    Raise ConfigError for a file that holds labels on other answers of the same arms, and for cases that are
    not those of the runs.
    """

    def __init__(
        self,
        runs: ReviewedRuns,
        cases: Dataset,
        file: LabelFile,
        *,
        reviewer: str,
        k: int | None = None,
        seed: int = 7,
        clock: Clock | None = None,
    ) -> None:
        if k is not None and (type(k) is not int or k < 1):
            raise ConfigError(f"k={k!r} is no number of pairs", hint="k=20, or k=None for all pairs")
        check_dataset(runs.run, cases)
        labels = file.read()
        _check_same_answers(runs, labels, file)
        self.runs, self.file, self.reviewer, self.seed = runs, file, reviewer, seed
        self.clock = clock or SystemClock()
        self._pairs = runs.sample(k, seed=seed)
        self._cases: dict[str, Case] = {case.id: case for case in cases}
        own = (label for label in labels if label.reviewer == reviewer)
        self._own = {(label.case, label.answers): label for label in own}
        self._shows_expected = False
        self._draft = ""
        self._at: int | None = None
        self._move(self._next_open(0))

    # -- what a person does ----------------------------------------------------------------

    @property
    def current(self) -> BlindPair | None:
        """The pair that is shown; None when every pair of the sample is decided."""
        return None if self._at is None else self._blind(self._pairs[self._at])

    @property
    def decided(self) -> int:
        """The number of pairs of the sample that this reviewer has decided or skipped."""
        return sum(self._label(pair) is not None for pair in self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def choose(self, choice: Choice, *, note: str | None = None) -> None:
        """Write a decision on the pair that is shown, and show the next one that is open.

        `choice` is "left", "right", "both_good", "both_bad" or "skip". Without a `note`, what was written
        with `write_note` is kept. Raise ConfigError for another choice, a long note, and without a pair.
        """
        if not isinstance(choice, str) or choice not in CHOICES:
            near = nearest(files.shortened(str(choice)), CHOICES)
            raise ConfigError(
                f"{files.shortened(repr(choice))} is no choice ({near})",
                hint="review.choose(…) takes " + ", ".join(f'"{name}"' for name in CHOICES),
            )
        if self._at is None:
            raise ConfigError("every pair is decided", hint="review.back()   # to change the last one")
        pair = self._pairs[self._at]
        label = HumanLabel(
            use_case=self.runs.run.use_case, case=pair.case, left=pair.left, right=pair.right, choice=choice,
            note=_checked_note(self._draft if note is None else note), reviewer=self.reviewer,
            at=instant(self.clock.now()), seed=self.seed, pairs=len(self._pairs),
        )  # fmt: skip
        self.file.append(label)
        self._own[pair.case, label.answers] = label
        self.notice = f"kept: {CHOICES[choice][0].lower()} for pair {self._at + 1}"
        self._move(self._next_open(self._at + 1))
        self.refresh()

    def write_note(self, text: str) -> None:
        """Set the note that the next decision on this pair is kept with."""
        self._draft = _checked_note(text)
        self.refresh()

    def back(self) -> None:
        """Show the pair before, whose decision can be changed."""
        at = len(self._pairs) if self._at is None else self._at
        if at:
            self._move(at - 1)
        self.refresh()

    def forward(self) -> None:
        """Show the next pair in order, decided or not."""
        if self._at is not None:
            later = self._at + 1
            self._move(later if later < len(self._pairs) else self._next_open(0))
        self.refresh()

    def show_expected(self, *, shown: bool = True) -> None:
        """Show the expected values beside each question, or hide them again."""
        self._shows_expected = shown
        self.refresh()

    def report(self) -> ReviewReport:
        """Return what all reviewers of this file decided, how far they agree, and what that says of scorers.

        It names the arms, so a review that goes on is no longer blind to what it says.
        """
        return ReviewReport.of(self.runs, self.file.read(), sampled=len(self._pairs))

    def scorer(self, *, name: str = "human") -> Scorer:
        """Return the scorer of this file's labels, for `scorers=[…]` of an experiment."""
        return human(labels=self.file.path, name=name)

    def on_choose(self, choice: Any) -> None:
        """Decide on the pair that is shown."""
        self.choose(choice)

    def on_note(self, text: Any) -> None:
        """Keep the note that is being written."""
        self.write_note(text)

    def on_back(self, _: Any) -> None:
        """Show the pair before."""
        self.back()

    def on_forward(self, _: Any) -> None:
        """Show the next pair."""
        self.forward()

    def on_expected(self, _: Any) -> None:
        """Show the expected values, or hide them."""
        self.show_expected(shown=not self._shows_expected)

    # -- what a person sees ------------------------------------------------------------------

    def view(self) -> Node:
        """Return the pair that is shown with its buttons, or the report when every pair is decided."""
        place = f"pair {self._at + 1} of {len(self)}" if self._at is not None else "done"
        done = f"{self.decided} of {len(self)} pairs decided"
        nodes: list[Node] = [
            Words(text=f"Blind review · {self.runs.run.use_case} · {place}", heading=3),
            Meter(value=self.decided, most=max(1, len(self)), label=f"{done} by {self.reviewer}"),
        ]
        shown = self.current
        nodes += self._finished() if shown is None else self._pair_view(shown)
        nodes += [self._moves(), *(Words(text=text, tone="muted") for text in self._set_aside())]
        return Group(nodes=nodes, label="Blind review")

    def _pair_view(self, shown: BlindPair) -> list[Node]:
        expected = [
            Words(text="Expected", heading=4),
            Words(text=shown.expected or "nothing is expected of this case"),
        ]
        # Groups stay when they are empty: what follows keeps its place, and so the focus.
        sides = (("Left answer", shown.left), ("Right answer", shown.right))
        answers = [
            Group(nodes=(Words(text=name, heading=4), Words(text=text or "(empty)")), label=name)
            for name, text in sides
        ]
        choices = [
            Button(
                label=label, action="choose", value=choice, shortcut=key, python=f'review.choose("{choice}")',
                pressed=shown.choice == choice,
            )
            for choice, (label, key) in CHOICES.items()
        ]  # fmt: skip
        return [
            Words(text="Question", heading=4),
            Words(text=shown.question),
            Group(nodes=expected if self._shows_expected else []),
            Group(nodes=answers, row=True),
            Group(nodes=_where_they_differ(shown)),
            Group(nodes=choices, row=True, label="Decision"),
            Field(label="Note (optional, kept with the decision)", action="note", text=self._draft),
        ]

    def _moves(self) -> Node:
        moves: list[Node] = [
            Button(
                label="Back", action="back", shortcut="p", python="review.back()",
                disabled=self._at == 0 or not self._pairs,
            )
        ]  # fmt: skip
        if self._at is not None:
            shows = self._shows_expected
            moves += [
                Button(label="Next", action="forward", shortcut="n", python="review.forward()"),
                Button(
                    label="Hide expected" if shows else "Show expected", action="expected", shortcut="x",
                    python=f"review.show_expected({'shown=False' if shows else ''})",
                ),
            ]  # fmt: skip
        return Group(nodes=moves, row=True, label="Pairs")

    def _finished(self) -> list[Node]:
        if not self._pairs:
            return [Words(text="Every answer is the same in both runs: there is nothing to decide.")]
        return self.report().nodes()

    def _set_aside(self) -> list[str]:
        runs, found = self.runs, []
        if runs.equal:
            were = _counted(len(runs.equal), "pair has", "pairs have")
            found.append(f"{were} equal answers: counted as ties and not shown")
        if runs.incomplete:
            were = _counted(runs.incomplete, "case has", "cases have")
            found.append(f"{were} no answer on one side, and no pair")
        if runs.run.repeats > 1 or runs.other.repeats > 1:
            found.append("of several repeats of a case, the first is shown")
        return [*found, f"labels: {self.file.relative.as_posix()}"]

    # -- internals ---------------------------------------------------------------------------

    def _label(self, pair: AnswerPair) -> HumanLabel | None:
        return self._own.get((pair.case, frozenset({pair.left.output, pair.right.output})))

    def _move(self, at: int | None) -> None:
        label = None if at is None else self._label(self._pairs[at])
        self._at, self._draft = at, label.note if label else ""

    def _next_open(self, start: int) -> int | None:
        """Return the first pair without a decision from `start` on, then from the beginning."""
        order = (*range(start, len(self._pairs)), *range(start))
        return next((at for at in order if self._label(self._pairs[at]) is None), None)

    def _blind(self, pair: AnswerPair) -> BlindPair:
        case, label = self._cases[pair.case], self._label(pair)
        return BlindPair(
            case=pair.case,
            question=_columns(case.inputs),
            left=_answer_text(pair.left_output),
            right=_answer_text(pair.right_output),
            expected=_columns(case.expected),
            choice=_choice_shown(label, pair),
            note=label.note if label else "",
        )


def _check_same_answers(runs: ReviewedRuns, labels: Iterable[HumanLabel], file: LabelFile) -> None:
    """Raise ConfigError when labels on the arms of these runs are about other answers than theirs."""
    arms, ids = {runs.run.arm, runs.other.arm}, set(runs.ids)
    other: dict[str, HumanLabel] = {}
    for label in labels:
        if {label.left.arm, label.right.arm} != arms or label.answers == set(runs.digests(label.case) or ()):
            continue
        if {label.left.run, label.right.run} == ids:
            raise CorruptError(
                f"{file.relative}: a label on case {label.case!r} is about answers that its runs do not hold",
                hint=f"git log -p -- {file.relative}   # find the change of the labels",
            )
        other.setdefault(label.case, label)
    if other:
        first = next(iter(other.values()))
        raise ConfigError(
            f"{file.relative} holds labels on other answers to {_counted(len(other), 'case', 'cases')}: they "
            f"are of the runs {first.left.run} and {first.right.run}, these are {runs.ids[0]} and "
            f"{runs.ids[1]}",
            hint=f'name="{file.path.stem}-2" begins another review, or go on with the runs of that one: '
            f'ws.review("{first.left.run}", "{first.right.run}")',
        )


def _choice_shown(label: HumanLabel | None, pair: AnswerPair) -> str:
    """Return a decision by the sides on which the pair is shown now, which another seed may have turned."""
    if label is None:
        return ""
    turned = label.left.output != pair.left.output
    return {"left": "right", "right": "left"}.get(label.choice, label.choice) if turned else label.choice


def _checked_note(text: Any) -> str:
    """Return a note; raise ConfigError for one that is no text, too long, or not storable."""
    if not isinstance(text, str):
        raise ConfigError(f"a note is a text, found {type(text).__name__}", hint='note="why"')
    if len(text) > MOST_NOTE:
        raise ConfigError(
            f"the note has {len(text):,} characters; at most {MOST_NOTE:,} are kept", hint="shorten it"
        )
    if text.encode("utf-8", "replace").decode() != text:
        raise ConfigError(
            "the note holds half of a surrogate pair, which no file keeps", hint="type it again"
        )
    return text


def _columns(values: Mapping[str, Any]) -> str:
    """Return the inputs or the expected values of a case: one without its name, several a line each."""
    stated = {name: plain_value(value) for name, value in values.items() if value not in (None, [], "")}
    return next(iter(stated.values())) if len(values) == 1 and stated else _lines(stated)


def _answer_text(output: str) -> str:
    """Return a stored output as a person reads it: its text first, then its other fields."""
    value = json.loads(output)
    if not isinstance(value, dict):
        return plain_value(value)
    text = value.pop("text", None)
    rest = _lines({name: plain_value(item) for name, item in value.items() if item not in (None, [], "")})
    return "\n\n".join(part for part in (plain_value(text) if text is not None else "", rest) if part)


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in values.items())


def _where_they_differ(shown: BlindPair) -> list[Node]:
    """Return a note for two long answers whose shown beginnings are the same."""
    if shown.left[:LONGEST] != shown.right[:LONGEST]:
        return []
    at = _first_difference(shown.left, shown.right)
    around = [text[max(0, at - 40) : at + 200] for text in (shown.left, shown.right)]
    return [
        Words(text=f"They differ from character {at + 1:,} on:", tone="warn"),
        Group(nodes=[Words(text=f"… {text}") for text in around], row=True),
    ]


def _first_difference(left: str, right: str) -> int:
    """Return the number of characters that two texts begin with alike, by bisection: comparing is fast."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if left[:middle] == right[:middle] else (low, middle - 1)
    return low


def _counted(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"
