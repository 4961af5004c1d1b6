"""The explorer of cases: a panel that filters and sorts the cases of runs and shows one of them at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from workbench.display import Card, Shown, number
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.experiments.added_cases import AddedCase
from workbench.experiments.case_context import ExplorableRun
from workbench.experiments.case_detail import CaseDetail
from workbench.experiments.case_notes import CaseNote
from workbench.experiments.case_table import KINDS, CaseTable, question_of
from workbench.experiments.case_view import case_nodes
from workbench.widgets.card_node import CardNode
from workbench.widgets.cutting import quoted
from workbench.widgets.nodes import Button, Details, Field, Group, Node, Tone, Words
from workbench.widgets.panel import Panel
from workbench.widgets.table import Grid, Heading

if TYPE_CHECKING:
    import polars as pl

#: Rows of a page of cases, calls of a case that are explained, and options of a choice.
_ROWS, _CALLS, _OPTIONS = 8, 5, 200
#: Characters of a question in the table.
_SHORT = 160
_CALLED: Final = Details(
    summary='from Python: explorer = result.explore(); explorer.filter(kind="wrong", text="…")',
    nodes=[
        Words(text=text, code=True)
        for text in (
            'explorer.choose(arm="…", baseline="…", metric="…")',
            'explorer.filter(kind="flips", slice="tenant=…", text="…")',
            'explorer.sort("score", descending=True)   # case, tenant, before, score, change, rank',
            'explorer.open("CASE"); explorer.next(); explorer.previous(); explorer.detail',
            "explorer.cases   # the list as a frame; result.flips(), result.wrong(), result.unscored() too",
        )
    ],
)
_TONES: Mapping[str, Tone] = {"improved": "good", "worsened": "bad"}


class CaseExplorer(Panel):
    """The cases of one run, or of two arms compared. The current case is shown whole.

    `arm`, `baseline` and `metric` say what is compared, `kind`, `slice` and `text` which cases are listed.
    """

    def __init__(self, arms: Mapping[str, ExplorableRun], *, cards: Sequence[Card] = ()) -> None:
        self._arms, self._cards = dict(arms), tuple(cards)
        names = list(self._arms)
        self.arm, self.baseline = names[min(1, len(names) - 1)], names[0] if len(names) > 1 else ""
        self.metric, self.kind, self.slice, self.text, self.repeat = "", "all", "", "", 0
        self.sorted_by, self.descending = "rank", False
        self.current: str | None = None
        self._first = 0
        self._typed = {"file": f"data/{self._run.use_case}-hard-cases.jsonl", "reason": ""}
        self._why: tuple[Card, ...] = ()
        self._load()
        self._show_first_kind()

    # -- what a program calls ----------------------------------------------------------------

    def choose(
        self, *, arm: str | None = None, baseline: str | None = None, metric: str | None = None
    ) -> CaseExplorer:
        """Compare other arms, or by another score; the arms change places where both would be the same."""
        new_arm, new_base = arm or self.arm, baseline or self.baseline
        for name in filter(None, (new_arm, new_base)):
            if name not in self._arms:
                known = list(self._arms)
                raise NotFoundError(
                    f"there is no arm {name!r} ({nearest(name, known)})", hint=f"one of {known}"
                )
        if arm and arm == baseline:
            raise ConfigError(f"arm and baseline are both {arm!r}", hint=f"name two of {list(self._arms)}")
        if new_arm == new_base:
            new_arm, new_base = (new_arm, self.arm) if arm else (self.baseline, new_base)
        base = self._arms[new_base] if new_base else None
        table = CaseTable.of(self._arms[new_arm], base, metric=self.metric if metric is None else metric)
        self.arm, self.baseline, self.metric, self._table = new_arm, new_base, table.metric, table
        self.slice = self.slice if self.slice in self._slices() else ""
        self.kind = self.kind if self.kind in table.kinds else "all"
        return self._listed()

    def filter(
        self,
        *,
        kind: str | None = None,
        slice: str | None = None,  # noqa: A002
        text: str | None = None,
    ) -> CaseExplorer:
        """List the cases of a kind (`flips`, `wrong` …), of a slice (`tenant=acme`), and with a text."""
        if slice and slice not in self._slices():
            raise NotFoundError(
                f"there is no slice {slice!r} ({nearest(slice, self._slices())})", hint='slice="" for all'
            )
        before = self.kind, self.slice, self.text
        self.kind = self.kind if kind is None else kind
        self.slice = self.slice if slice is None else slice
        self.text = self.text if text is None else text
        try:
            return self._listed()
        except Exception:
            self.kind, self.slice, self.text = before
            raise

    def sort(self, by: str = "rank", *, descending: bool = False) -> CaseExplorer:
        """Sort by `case`, `tenant`, `before`, `score`, `change`, or by what to look at first: `rank`."""
        before = self.sorted_by, self.descending
        self.sorted_by, self.descending = by, descending
        try:
            return self._listed()
        except Exception:
            self.sorted_by, self.descending = before
            raise

    def open(self, case_id: str, *, repeat: int = 0) -> CaseExplorer:
        """Make a case the current one, listed or not."""
        self._detail(case_id, repeat)  # an unknown one changes nothing
        self.current, self.repeat, self._why = case_id, repeat, ()
        self._typed["reason"] = ""
        place = self._place
        if place is not None:
            self._first = place // _ROWS * _ROWS
        return self

    def next(self) -> CaseExplorer:
        """Go to the next case of the list."""
        return self._step(1)

    def previous(self) -> CaseExplorer:
        """Go to the previous case of the list."""
        return self._step(-1)

    @property
    def detail(self) -> CaseDetail:
        """The current case; NotFoundError when the list is empty."""
        if self.current is None:
            raise NotFoundError("no case is listed", hint='explorer.filter(kind="all", slice="", text="")')
        return self._detail(self.current, self.repeat)

    @property
    def cases(self) -> pl.DataFrame:
        """The listed cases, in their order."""
        return self._rows

    def why(self) -> tuple[Shown, ...]:
        """Return the origin of the current answers, by their model's calls; the panel shows it too."""
        detail = self.detail
        calls = [(answer.arm, n) for answer in detail.answers for n in range(len(answer.traces[:_CALLS]))]
        found = [(arm, detail.why(arm, call=n)) for arm, n in calls]
        if not found:
            detail.why()  # it says why there is none
        titled = ((f"{arm} · {made.card().title}", made.card()) for arm, made in found)
        self._why = tuple(replace(card, title=title) for title, card in titled)
        return tuple(made for _, made in found)

    def add_to(self, file: str) -> AddedCase:
        """Add the current case to a dataset file of the repository."""
        return self.detail.add_to(file)

    def note(self, reason: str) -> CaseNote:
        """Note that the ground truth of the current case is wrong."""
        return self.detail.note(reason)

    # -- what a person does ------------------------------------------------------------------

    def on_arm(self, name: str) -> None:
        """Compare another arm."""
        self.choose(arm=name)

    def on_baseline(self, name: str) -> None:
        """Compare with another baseline."""
        self.choose(baseline=name)

    def on_metric(self, name: str) -> None:
        """Compare by another score."""
        self.choose(metric=name)

    def on_kind(self, name: str) -> None:
        """List the cases of a kind."""
        self.filter(kind=name)

    def on_slice(self, name: str) -> None:
        """List the cases of a slice."""
        self.filter(slice=name)

    def on_search(self, text: str) -> None:
        """List the cases with a text."""
        self.filter(text=text)

    def on_sort(self, by: str) -> None:
        """Sort by a column; by the same one again, the other way round."""
        self.sort(by, descending=by == self.sorted_by and not self.descending)

    def on_page(self, first: int) -> None:
        """Show another page of the list."""
        last = max(0, self._rows.height - 1) // _ROWS * _ROWS
        self._first = min(max(0, int(first)), last)

    def on_open(self, case_id: str) -> None:
        """Show a case."""
        self.open(case_id)

    def on_repeat(self, repeat: str) -> None:
        """Show another repeat of the case."""
        self.open(self.detail.id, repeat=int(repeat))

    def on_next(self, _: Any) -> None:
        """Show the next case."""
        self.next()

    def on_previous(self, _: Any) -> None:
        """Show the previous case."""
        self.previous()

    def on_why(self, _: Any) -> None:
        """Show the origin of the answers."""
        self.why()

    def on_file(self, text: str) -> None:
        """Name the file that cases are added to."""
        self._typed["file"] = text

    def on_reason(self, text: str) -> None:
        """Write why the ground truth is wrong."""
        self._typed["reason"] = text

    def on_add(self, _: Any) -> None:
        """Add the case to the named file."""
        self.notice = self.add_to(self._typed["file"]).card().title

    def on_note(self, _: Any) -> None:
        """Note the case as wrong, with the reason that is written."""
        note = self.note(self._typed["reason"])
        self._typed["reason"] = ""
        self.notice = f"noted: the ground truth of {note.case} is wrong; workbench check tells it"

    # -- what is shown -----------------------------------------------------------------------

    def view(self) -> Node:
        """Return the cards, what can be chosen, the list, and the current case."""
        return Group(nodes=(*self._card_nodes(), self._choices(), self._list(), *self._case()))

    def card_html(self) -> str:
        """Return the cards, for where no front end draws the panel."""
        return "".join(card.html() for card in self._cards)

    def _card_nodes(self) -> list[Node]:
        """Return the first card whole, and one line for each of the others, which a person opens."""
        return [
            CardNode(card=card) if n == 0 else Details(summary=card.heading, nodes=(CardNode(card=card),))
            for n, card in enumerate(self._cards)
        ]

    def _choices(self) -> Node:
        table, nodes = self._table, []
        arms = tuple((name, name) for name in self._arms)
        if len(arms) > 1:
            nodes += [
                Field(label="before", action="baseline", text=self.baseline, options=arms),
                Field(label="after", action="arm", text=self.arm, options=arms),
            ]
        scores = tuple((name, name) for name in self._run.score_names)
        if len(scores) > 1:
            nodes.append(Field(label="score", action="metric", text=self.metric, options=scores))
        kinds = tuple((kind, f"{KINDS.get(kind, kind)} ({n:,})") for kind, n in table.kinds.items())
        slices = tuple((name, f"{name} ({len(ids):,})") for name, ids in self._slices().items())
        nodes.append(Field(label="cases", action="kind", text=self.kind, options=kinds))
        if len(slices) > 1:
            every = (("", "all"), *slices[:_OPTIONS])
            nodes.append(Field(label="slice", action="slice", text=self.slice, options=every))
        nodes.append(Field(label="with the text", action="search", text=self.text, live=True))
        return Group(row=True, nodes=nodes, label="what is listed")

    def _list(self) -> Node:
        if self._rows.is_empty():
            return Words(text="no case is listed: choose all cases, or another text", tone="muted")
        rows = self._rows.slice(self._first, _ROWS)
        place = self._place
        shown = place is not None and 0 <= place - self._first < rows.height
        return Grid(
            caption=f"{self._rows.height:,} of {self._table.frame.height:,} cases",
            headings=self._headings(),
            rows=[self._row(row) for row in rows.iter_rows(named=True)],
            first=self._first,
            total=self._rows.height,
            page="page",
            size=_ROWS,
            current=place - self._first if shown and place is not None else None,
        )

    def _headings(self) -> list[Heading]:
        def head(label: str, by: str, *, numeric: bool = False) -> Heading:
            turned = "descending" if self.descending else "ascending"
            is_sorted = turned if by == self.sorted_by else ""
            return Heading(label=label, action="sort", value=by, numeric=numeric, sorted=is_sorted)

        scores = [head(self.arm, "score", numeric=True)]
        if self.baseline:
            scores = [head(self.baseline, "before", numeric=True), *scores, head("change", "change")]
        return [head("case", "case"), head("tenant", "tenant"), Heading(label="question"), *scores]

    def _row(self, row: Mapping[str, Any]) -> list[Node]:
        case = self._known.get(row["case"])
        question = " ".join(question_of(case)[: 4 * _SHORT].split())[:_SHORT] if case else "not known"
        unscored: Tone = "warn" if row["unscored"] else ""
        score = row["reason"] if row["score"] is None and row["unscored"] else number(row["score"])
        scores: list[Node] = [Words(text=score, tone=unscored)]
        if self.baseline:
            change = Words(text=row["change"], tone=_TONES.get(row["change"], ""))
            scores = [Words(text=number(row["before"])), *scores, change]
        name = Button(label=row["case"], action="open", value=row["case"])
        return [name, Words(text=row["tenant"]), Words(text=question), *scores]

    def _case(self) -> list[Node]:
        if self.current is None:
            return []
        detail, place = self.detail, self._place
        where = "not listed" if place is None else f"{place + 1:,} of {self._rows.height:,}"
        title = Words(text=f"{detail.id} · {detail.tenant} · {where}", heading=3)
        buttons = [
            Button(
                label="previous",
                action="previous",
                shortcut="p",
                disabled=not place,
                python="explorer.previous()",
            ),
            Button(
                label="next",
                action="next",
                shortcut="n",
                python="explorer.next()",
                disabled=place in {None, self._rows.height - 1},
            ),
            Button(
                label="why this answer",
                action="why",
                shortcut="w",
                python=f"result.case({quoted(detail.id)}).why()",
            ),
        ]
        why = [CardNode(card=card) for card in self._why]
        return [title, self._buttons(buttons), *case_nodes(detail), *why, self._acts(detail), _CALLED]

    def _buttons(self, buttons: Sequence[Node]) -> Node:
        repeats = tuple((str(n), f"{n + 1} of {self._run.repeats}") for n in range(self._run.repeats))
        chosen = Field(label="repeat", action="repeat", text=str(self.repeat), options=repeats[:_OPTIONS])
        return Group(row=True, nodes=[*buttons, *([chosen] if len(repeats) > 1 else [])])

    def _acts(self, detail: CaseDetail) -> Node:
        call, off = f"result.case({quoted(detail.id)})", detail.case is None
        file, reason = self._typed["file"], self._typed["reason"]
        kept = Group(
            nodes=(
                Field(label="dataset file", action="file", text=file, disabled=off),
                Button(
                    label="add the case to the file",
                    action="add",
                    disabled=off,
                    python=f"{call}.add_to({quoted(file)})",
                ),
            )
        )
        noted = Group(
            nodes=(
                Field(
                    label="what is wrong with the expected values", action="reason", text=reason, disabled=off
                ),
                Button(
                    label="note as wrong ground truth",
                    action="note",
                    disabled=off,
                    python=f'{call}.note("…")',
                ),
            )
        )
        return Group(row=True, nodes=(kept, noted), label="what can be done with this case")

    # -- state -------------------------------------------------------------------------------

    @property
    def _run(self) -> ExplorableRun:
        return self._arms[self.arm]

    @property
    def _place(self) -> int | None:
        """The place of the current case in the list, counted from 0."""
        return self._places.get(self.current) if self.current is not None else None

    def _load(self) -> None:
        base = self._arms[self.baseline] if self.baseline else None
        self._table = CaseTable.of(self._run, base)
        self.metric = self._table.metric
        self._known = {case.id: case for case in self._run.context.dataset or ()}
        self._of_slices: dict[str, frozenset[str]] | None = None

    def _show_first_kind(self) -> None:
        """List what a person looks at first: flips, else what is wrong or unscored, else all cases."""
        known = self._table.kinds
        self.filter(kind=next((kind for kind in ("flips", "wrong", "unscored") if kind in known), "all"))

    def _slices(self) -> dict[str, frozenset[str]]:
        if self._of_slices is None:
            self._of_slices = self._table.slices()
        return self._of_slices

    def _listed(self) -> CaseExplorer:
        """Make the list anew; the current case stays if it is listed, else it is the first one."""
        only = self._slices()[self.slice] if self.slice else None
        self._rows = self._table.chosen(
            self.kind, text=self.text, only=only, sort=self.sorted_by, descending=self.descending
        )
        self._places = {case: place for place, case in enumerate(self._rows["case"])}
        self._first = 0
        if self.current not in self._places:
            self.current, self.repeat, self._why = next(iter(self._places), None), 0, ()
            self._typed["reason"] = ""
        elif (place := self._place) is not None:
            self._first = place // _ROWS * _ROWS
        return self

    def _step(self, by: int) -> CaseExplorer:
        cases, place = self._rows["case"], self._place
        wanted = 0 if place is None else place + by
        return self.open(cases[wanted]) if 0 <= wanted < len(cases) else self

    def _detail(self, case_id: str, repeat: int) -> CaseDetail:
        names = [name for name in (self.baseline, self.arm) if name]
        return CaseDetail.of(case_id, {name: self._arms[name] for name in names}, repeat=repeat)
