"""Suggested cases: drafts of a generator, which a person accepts, edits or rejects before they are saved."""

from __future__ import annotations

import dataclasses
import getpass
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench import arguments, files
from workbench.display import Card, Row, Shown
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.experiments.matching import mentions
from workbench.widgets.cutting import shortened

if TYPE_CHECKING:
    import polars as pl

    from workbench.experiments import case_generator

Decision = Literal["undecided", "accepted", "rejected"]
_HEAD = ("id", "decision", "question", "answers", "source", "note", "text")
#: Rows that a card shows, and characters of a sentence or a question in it.
_SHOWN, _MOST = 50, 160


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCases(Shown):
    """The file that accepted cases were saved in, and their number. `docs` are the documents, if known."""

    path: Path
    n: int
    docs: str = ""

    def card(self) -> Card:
        """Return a card with the command that makes a use case of the file."""
        docs = shlex.quote(self.docs) if self.docs else "DIR"
        command = f"workbench init NAME --docs {docs} --questions {shlex.quote(str(self.path))}"
        rows = [(str(self.path), str(self.n))]
        return Card(title="Saved cases", head=("source", "cases"), rows=rows, command=command)


def suggest(
    pages: Iterable[case_generator.CasePage], *, n: int = 20, seed: int = 7, author: str = "", docs: str = ""
) -> SuggestedCases:
    """Return at most `n` drafted cases from `pages`, spread over tenants and pages; all are undecided.

    The same pages and seed give the same drafts. `author` is named in edited rows (by default the user of
    this machine), and `docs` in the next command. Raises ConfigError for an invalid `n` or `seed`.
    """
    from workbench.experiments import case_generator  # its patterns take 15 ms to compile

    n = arguments.whole_number(n, "n", least=1)
    seed = arguments.whole_number(seed, "seed", least=0)
    given = tuple(pages)
    drafted = case_generator.draft(given, n=n, seed=seed)
    named = {case.page for case in drafted.cases}
    texts = {(page.tenant, page.source): page.text for page in given if page.source in named}
    return SuggestedCases(drafted, wanted=n, texts=texts, author=author, docs=docs)


class SuggestedCases(Shown):
    """Drafted cases and the decision on each: `accept`, `reject` and `edit` take the ids of the table.

    Every row says that it is synthetic, with its generator, version and seed. A notebook shows a table to
    decide in. Nothing is accepted by default, and `save` writes accepted rows only.
    """

    def __init__(
        self, drafted: case_generator.DraftedCases, *, wanted: int, texts: Mapping[tuple[str, str], str],
        author: str = "", docs: str = "",
    ) -> None:  # fmt: skip
        self.reasons = drafted.reasons
        self._wanted, self._texts, self._author, self._docs = wanted, dict(texts), author, docs
        self._rows = {case.id: case.row() for case in drafted.cases}
        self._sentences = {case.id: case.sentence for case in drafted.cases}
        self._decisions: dict[str, Decision] = dict.fromkeys(self._rows, "undecided")

    def __len__(self) -> int:
        return len(self._rows)

    def __str__(self) -> str:
        return self.text()

    def text(self, command: str | None = None) -> str:
        """Return the card as text without the sentences; `command` takes the place of the next one."""
        card = self.card()
        command = card.command if command is None else command
        rows = [row[:-1] for row in card.rows]  # the sentences make it too wide for a terminal
        return dataclasses.replace(card, head=card.head[:-1], rows=rows, command=command).text()

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all drafts, in the order of the table."""
        return tuple(self._rows)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of all drafts, whatever was decided, as a dataset has them."""
        return [_copy(row) for row in self._rows.values()]

    @property
    def accepted(self) -> list[dict[str, Any]]:
        """The rows of the accepted drafts."""
        return [_copy(row) for name, row in self._rows.items() if self._decisions[name] == "accepted"]

    def decision(self, case_id: str) -> Decision:
        """Return the decision on a draft; NotFoundError for an unknown id."""
        return self._decisions[self._known(case_id)]

    def sentence(self, case_id: str) -> str:
        """Return the sentence or table row that a draft was made from; NotFoundError for an unknown id."""
        return self._sentences[self._known(case_id)]

    # -- deciding ---------------------------------------------------------------------------

    def accept(self, *ids: str) -> SuggestedCases:
        """Accept the drafts with these ids; for an unknown id raise NotFoundError and accept none."""
        return self._decide("accepted", ids)

    def reject(self, *ids: str) -> SuggestedCases:
        """Reject the drafts with these ids; for an unknown id raise NotFoundError and reject none."""
        return self._decide("rejected", ids)

    def reset(self, *ids: str) -> SuggestedCases:
        """Make the drafts with these ids undecided again; their edits stay."""
        return self._decide("undecided", ids)

    def edit(
        self, case_id: str, *, question: str | None = None, answers: Sequence[str] | None = None
    ) -> SuggestedCases:
        """Change a draft's question or accepted answers; the decision stays.

        The row keeps its provenance and says `edited` with the author. Raises ConfigError for an empty
        question or answer, and for a question that another draft asks.
        """
        row = self._rows[self._known(case_id)]
        changed: dict[str, Any] = {}
        if question is not None:
            changed["question"] = self._question(question, case_id)
        if answers is not None:
            changed["answers"] = _answers(answers)
        if any(row[key] != value for key, value in changed.items()):
            row |= changed | {"author": self._author or _user(), "edited": True}
        return self

    def _decide(self, decision: Decision, ids: Sequence[str]) -> SuggestedCases:
        if not ids:
            raise ConfigError("no id is named", hint="drafts.accept(*drafts.ids) accepts all")
        known = [self._known(name) for name in ids]
        self._decisions |= dict.fromkeys(known, decision)
        return self

    def _known(self, case_id: str) -> str:
        arguments.text(case_id, "id")
        if case_id not in self._rows:
            raise NotFoundError(
                f"no draft has the id {files.shortened(case_id)!r} ({nearest(case_id, self._rows)})",
                hint="drafts.ids lists them",
            )
        return case_id

    def _question(self, question: str, case_id: str) -> str:
        text = " ".join(arguments.text(question, "question").split())
        if not text:
            raise ConfigError(f"the question of {case_id} is empty", hint=f'drafts.reject("{case_id}")')
        for name, row in self._rows.items():
            if name != case_id and row["question"].casefold() == text.casefold():
                raise ConfigError(f"{name} asks the same question", hint=f'drafts.reject("{case_id}")')
        return text

    # -- showing and saving -----------------------------------------------------------------

    def to_frame(self) -> pl.DataFrame:
        """Return one row per draft: its row, its sentence and the decision."""
        import polars as pl

        texts = ("id", "tenant", "question", "page", "sentence", "decision", "generator", "author")
        schema: dict[str, Any] = dict.fromkeys(texts, pl.String)
        schema |= {"answers": pl.List(pl.String), "generator_version": pl.Int64, "seed": pl.Int64}
        schema |= {"synthetic": pl.Boolean, "edited": pl.Boolean}
        made = [
            {"edited": False, "author": None, **row, "sentence": self._sentences[name], "decision": decided}
            for (name, row), decided in zip(self._rows.items(), self._decisions.values(), strict=True)
        ]
        return pl.DataFrame(made, schema=schema)

    def save(self, path: str | Path, *, replace: bool = False) -> SavedCases:
        """Write the accepted rows as JSON lines, the form of a dataset; the file appears whole or not at all.

        Raises ConfigError when nothing is accepted, and when the file has other rows, unless `replace`.
        """
        path, rows = Path(path), self.accepted
        if not rows:
            raise ConfigError(
                f"none of the {len(self)} drafts is accepted, so there is nothing to save",
                hint="drafts.accept(*drafts.ids) accepts all" if self._rows else "drafts.reasons says why",
            )
        data = b"".join(files.canonical(row) + b"\n" for row in sorted(rows, key=lambda row: row["id"]))
        if not replace and path.exists() and (path.is_dir() or files.read_bytes(path) != data):
            raise ConfigError(
                f"{path} exists and is not replaced", hint=f'drafts.save("{path}", replace=True)'
            )
        files.write_atomic(path, data)
        return SavedCases(path=path, n=len(rows), docs=self._docs)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: the rows, the number wanted, and the reasons for fewer."""
        return {"rows": self.rows, "wanted": self._wanted, "reasons": list(self.reasons)}

    def card(self) -> Card:
        """Return a card with one row for each draft, the number of decisions, and the next command."""
        counts = Counter(self._decisions.values())
        decided = ", ".join(f"{counts[name]} {name}" for name in ("accepted", "rejected", "undecided"))
        notes = [f"{decided}; every row says that it is synthetic"]
        if len(self) < self._wanted:
            notes.append(f"{len(self)} of {self._wanted}: {'; '.join(self.reasons)}")
        if len(self) > _SHOWN:
            notes.append(f"{len(self) - _SHOWN} more drafts are in to_frame()")
        command = 'drafts.save("questions.jsonl")' if counts["accepted"] else "drafts.accept(*drafts.ids)"
        shown = [self._row(name) for name in self.ids[:_SHOWN]]
        title = f"Suggested cases: {len(self)} drafts"
        return Card(title=title, head=_HEAD, rows=shown, notes=notes, command=command if shown else "")

    def note(self, case_id: str) -> str:
        """Return what a reader should know of a draft: an edit, an answer that its page does not have."""
        row = self._rows[self._known(case_id)]
        text = self._texts.get((row["tenant"], row["page"]), "")
        missing = not any(mentions(text, answer) for answer in row["answers"])
        return ", ".join(["edited"] * ("edited" in row) + ["no answer stands on the page"] * missing)

    def _row(self, name: str) -> Row:
        row = self._rows[name]
        question, sentence = _short(row["question"]), _short(self._sentences[name])
        answers = _short(" | ".join(row["answers"]))
        return (name, self._decisions[name], question, answers, row["page"], self.note(name), sentence)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:  # noqa: ARG002
        """Return the forms for Jupyter: text and HTML, and the panel to decide in where a kernel runs."""
        from workbench.experiments.suggestion_panel import SuggestionPanel

        html = self.card().html()
        return {**SuggestionPanel(self).mimebundle(html=html), "text/plain": str(self)}


def _copy(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "answers": list(row["answers"])}


def _answers(answers: Sequence[str]) -> list[str]:
    given = [" ".join(answer.split()) for answer in arguments.texts(answers, "answers")]
    if not given or not all(given):
        raise ConfigError("an accepted answer is empty", hint='answers=["25 days", "twenty-five days"]')
    return list(dict.fromkeys(given))


def _short(text: str) -> str:
    return shortened(text, _MOST)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may have no name for its user
        return "unknown"
