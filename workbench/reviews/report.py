"""The report of a review: which arm people preferred, how far they agree, and scorers with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Final

from workbench.display import Card, Row, Shown, number, percent, span
from workbench.errors import NotFoundError, nearest
from workbench.experiments.labels import HumanLabel, latest
from workbench.experiments.metrics import plain_name
from workbench.experiments.pairs import Pairs
from workbench.experiments.score_direction import LOWER_IS_BETTER
from workbench.reviews.sampling import ReviewedRuns
from workbench.widgets.nodes import Node, Words
from workbench.widgets.table import Grid, Heading, texts

if TYPE_CHECKING:
    import polars as pl

    from workbench.experiments.agreement import Kappa
    from workbench.experiments.intervals import Interval

LEVEL: Final = 0.95
#: Decisions by what they say of the two runs, whatever their sides: `run` and `other` are preferred ones.
_DECISIONS: Final = ("run", "other", "both_good", "both_bad")
#: Preferences, of people and of a scorer.
_PREFERENCES: Final = ("run", "tie", "other")
#: Cases that the card names at most, and things from which an asymptotic interval is no longer rough.
_NAMED: Final = 5
_ROUGH: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerAgreement:
    """How far the preferences of a scorer are those of people, over the cases that both compared.

    `pairs` maps each case to the preference of people and of the scorer: "run", "tie" or "other".
    """

    scorer: str
    kappa: Kappa
    pairs: Mapping[str, tuple[str, str]] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewReport(Shown):
    """What people decided on the pairs of two runs; skipped pairs count for nothing.

    `decisions` maps each reviewer to decisions by case: "run", "other", "both_good" or "both_bad". Where
    reviewers differ, a pair goes to the arm that more of them preferred, and is a tie if neither was.
    `on_left` counts the decisions for the left side, of `sided` for either side.
    """

    runs: ReviewedRuns
    decisions: Mapping[str, Mapping[str, str]]
    sampled: int
    skipped: int = 0
    on_left: int = 0
    sided: int = 0

    @classmethod
    def of(cls, runs: ReviewedRuns, labels: Iterable[HumanLabel], *, sampled: int) -> ReviewReport:
        """Return the report of the latest labels on the answers of these runs; others are left out."""
        digests = {case: runs.digests(case) for case in runs.answers}
        found = [label for label in latest(labels) if label.answers == set(digests.get(label.case) or ())]
        decisions: dict[str, dict[str, str]] = {}
        for label in found:
            of_reviewer = decisions.setdefault(label.reviewer, {})
            if label.choice != "skip":
                of_reviewer[label.case] = _decision(label, (digests[label.case] or ("", ""))[0])
        sides = Counter(label.choice for label in found)
        return cls(
            runs=runs, sampled=sampled, skipped=sides["skip"], on_left=sides["left"],
            sided=sides["left"] + sides["right"],
            decisions={name: dict(sorted(given.items())) for name, given in sorted(decisions.items())},
        )  # fmt: skip

    @property
    def names(self) -> tuple[str, str]:
        """The names of both arms; runs of one arm are told apart by their ids."""
        run, other = self.runs.run, self.runs.other
        same = run.arm == other.arm
        return (
            (f"{run.arm} {self.runs.ids[0]}", f"{other.arm} {self.runs.ids[1]}")
            if same
            else (run.arm, other.arm)
        )

    @property
    def preferences(self) -> dict[str, str]:
        """What people preferred in each decided case: "run", "tie" or "other"."""
        votes: dict[str, int] = {}
        for given in self.decisions.values():
            for case, decision in given.items():
                votes[case] = votes.get(case, 0) + {"run": 1, "other": -1}.get(decision, 0)
        return {case: _sign(vote) for case, vote in sorted(votes.items())}

    @property
    def wins(self) -> int:
        """The cases in which the run was preferred."""
        return Counter(self.preferences.values())["run"]

    @property
    def losses(self) -> int:
        """The cases in which the other run was preferred."""
        return Counter(self.preferences.values())["other"]

    @property
    def ties(self) -> int:
        """The decided cases in which neither was preferred; equal answers are not among them."""
        return Counter(self.preferences.values())["tie"]

    @property
    def preference(self) -> float | None:
        """The share of wins among wins and losses; None without either."""
        return self.wins / (self.wins + self.losses) if self.wins + self.losses else None

    @property
    def interval(self) -> Interval | None:
        """The exact 95 % interval of `preference` (Clopper & Pearson)."""
        from workbench.experiments.intervals import proportion_interval

        n = self.wins + self.losses
        return proportion_interval(self.wins, n, level=LEVEL) if n else None

    def kappa(self, first: str, second: str) -> Kappa:
        """Return the agreement of two reviewers over the four decisions, on the cases that both decided."""
        from workbench.experiments.agreement import cohens_kappa, cross_table

        for name in (first, second):
            if name not in self.decisions:
                raise NotFoundError(
                    f"the review has no reviewer {name!r} ({nearest(name, self.decisions)})",
                    hint="list(report.decisions) names them",
                )
        ours, theirs = self.decisions[first], self.decisions[second]
        rated = [(ours[case], theirs[case]) for case in ours if case in theirs]
        return cohens_kappa(cross_table(rated, _DECISIONS), level=LEVEL)

    @property
    def scorers(self) -> tuple[str, ...]:
        """The scorers that both runs have, which people are compared with."""
        others = self.runs.other.score_names
        return tuple(name for name in self.runs.run.score_names if name in others)

    def agreement(self, scorer: str) -> ScorerAgreement:
        """Return how far a scorer's preferences are those of people; NotFoundError for an unknown scorer.

        A scorer prefers the answer with the better score. A case without both scores is left out.
        """
        from workbench.experiments.agreement import cohens_kappa, cross_table

        name = plain_name(scorer)
        if name not in self.scorers:
            raise NotFoundError(
                f"no scorer {scorer!r} has scored both runs ({nearest(name, self.scorers)})",
                hint=f"name one of {', '.join(self.scorers) or 'those that both runs have'}",
            )
        scored = Pairs.of(self.runs.run, self.runs.other, name)
        better = -1 if name in LOWER_IS_BETTER else 1
        differences = zip(scored.cases.to_list(), (scored.ours - scored.theirs).tolist(), strict=True)
        says = {case: _sign(better * difference) for case, difference in differences}
        pairs = {case: (human, says[case]) for case, human in self.preferences.items() if case in says}
        kappa = cohens_kappa(cross_table(pairs.values(), _PREFERENCES), level=LEVEL)
        return ScorerAgreement(scorer=name, kappa=kappa, pairs=pairs)

    def confusion(self, scorer: str) -> pl.DataFrame:
        """Return how often each preference of people meets each of a scorer, one row for each of people."""
        import polars as pl

        counts, named = Counter(self.agreement(scorer).pairs.values()), self._named()
        rows = [
            {"people": named[human], **{named[said]: counts[human, said] for said in _PREFERENCES}}
            for human in _PREFERENCES
        ]
        return pl.DataFrame(rows)

    def disagreements(self, scorer: str) -> list[str]:
        """Return the cases in which people and a scorer differ: first those with opposite preferences."""
        pairs = self.agreement(scorer).pairs
        differ = [case for case, (human, said) in pairs.items() if human != said]
        return sorted(differ, key=lambda case: ("tie" in pairs[case], case))

    # -- showing -------------------------------------------------------------------------------

    def card(self) -> Card:
        """Return the display card: the preference, the agreement of reviewers, and that of scorers."""
        run, other = self.names
        return Card(
            title=f"{self.runs.run.use_case} · {run} against {other} · blind review",
            head=["what", "value", "interval", "n", "note"],
            rows=[*self._preferred(), *self._reviewers(), *self._scorers()],
            notes=[*self._notes(), *self._confusion_lines()],
            command=f"workbench compare {self.runs.ids[0]} {self.runs.ids[1]}",
        )

    def nodes(self) -> list[Node]:
        """Return the report as a panel shows it."""
        card = self.card()
        found: list[Node] = [Words(text=card.title, heading=4), _grid("Result", card.head, card.rows)]
        found += [Words(text=note, tone="muted") for note in self._notes()]
        for name in self.scorers[:1]:
            table = self.confusion(name)
            rows = [[str(value) for value in row] for row in table.iter_rows()]
            found.append(_grid(f"People (rows) and {name} (columns)", table.columns, rows, self.names))
        return found

    def _preferred(self) -> list[Row]:
        run, other = self.names
        note = f"{self.wins} won, {self.losses} lost, {self.ties} ties"
        if self.wins + self.losses:
            from workbench.experiments.significance import mcnemar

            note += f"; p {mcnemar(self.wins, self.losses):.3g} by the exact sign test"
        n = str(self.wins + self.losses)
        return [[f"{run} preferred to {other}", number(self.preference), span(self.interval), n, note]]

    def _reviewers(self) -> list[Row]:
        return [
            _kappa_row(f"kappa of {first} and {second}", self.kappa(first, second), "decided alike")
            for first, second in combinations(self.decisions, 2)
        ]

    def _scorers(self) -> list[Row]:
        rows: list[Row] = []
        for name in self.scorers if self.preferences else ():
            if name in self._indifferent():
                continue
            row = _kappa_row(f"kappa of people and {name}", self.agreement(name).kappa, "preferred alike")
            differ = self.disagreements(name)
            more = f" and {len(differ) - _NAMED} more" if len(differ) > _NAMED else ""
            told = f"{row[-1]}; differ: {', '.join(differ[:_NAMED])}{more}" if differ else row[-1]
            rows.append([*row[:-1], told])
        return rows

    def _notes(self) -> list[str]:
        equal, pairs = len(self.runs.equal), len(self.runs.answers)
        by = ", ".join(f"{name} {len(given)}" for name, given in self.decisions.items()) or "nobody"
        notes = [
            f"decided by {by}; sample of {self.sampled} of {pairs} pairs that differ; {self.skipped} skipped",
            f"{equal} of {equal + pairs} pairs have equal answers: ties, and not among the pairs above",
            f"intervals at {percent(LEVEL)}: exact for the preference, asymptotic for kappa",
        ]
        if self.sided:
            notes.append(
                f"the left side was preferred in {self.on_left} of {self.sided} decisions for a side"
            )
        if same := self._indifferent():
            notes.append(f"the same for both answers of each decided pair: {', '.join(same)}")
        return notes

    def _indifferent(self) -> list[str]:
        """Return the scorers that prefer neither answer of any decided pair, whose kappa says nothing."""
        said = {name: {scorer for _, scorer in self.agreement(name).pairs.values()} for name in self.scorers}
        return [name for name, preferences in said.items() if preferences == {"tie"}]

    def _confusion_lines(self) -> list[str]:
        """Return the table of people and the first scorer, a line for each preference of people."""
        if not self.preferences or not self.scorers:
            return []
        name, lines = self.scorers[0], []
        for row in self.confusion(name).iter_rows(named=True):
            people = row.pop("people")
            told = ", ".join(f"{_words(said)} {count}" for said, count in row.items())
            lines.append(f"people {_words(people)}: {name} {told}")
        return lines

    def _named(self) -> dict[str, str]:
        run, other = self.names
        return {"run": run, "tie": "tie", "other": other}


def _decision(label: HumanLabel, ours: str) -> str:
    """Return a decision by what it says of the runs; `ours` is the digest of the run's answer."""
    if label.choice not in {"left", "right"}:
        return label.choice
    return "run" if label.preference(ours) else "other"


def _sign(value: float) -> str:
    return "run" if value > 0 else "other" if value < 0 else "tie"


def _words(name: str) -> str:
    return "undecided" if name == "tie" else f"for {name}"


def _kappa_row(what: str, kappa: Kappa, alike: str) -> Row:
    notes = [f"{kappa.agreed} {alike}"]
    if kappa.value is None:
        notes = ["no case in common" if not kappa.n else "both used one category alone: kappa is undefined"]
    elif kappa.n < _ROUGH:
        notes.append(f"rough below {_ROUGH}")
    value = "" if kappa.value is None else number(kappa.value)
    return [what, value, span(kappa.interval), str(kappa.n), "; ".join(notes)]


def _grid(caption: str, head: Row, rows: Iterable[Row], counts: Iterable[str] = ()) -> Grid:
    numeric = {"value", "n", "tie", *counts}
    headings = [Heading(label=name, numeric=name in numeric) for name in head]
    return Grid(caption=caption, headings=headings, rows=[texts(*row) for row in rows])
