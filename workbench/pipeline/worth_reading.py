"""Answers worth reading: the question, what was expected and the answer of cases that were not got right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.config import UseCase
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.runs import Run
from workbench.privacy.repository import detector_of, rules_of
from workbench.wire.redaction import Redaction

#: The answers that a page shows, and the characters of each text.
_MOST, _TEXT = 5, 160


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAnswer:
    """One case that the judged run did not get right, each text in one line."""

    case: str
    tenant: str
    asked: str
    expected: str
    answer: str
    sources: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedCases:
    """The judged cases, and how their texts are shown: `clean` masks identifiers, `hidden` names columns.

    A page is committed and passed on, so that it holds no more of a question than a log may.
    """

    cases: Mapping[str, Case]
    clean: Callable[[str], str]
    hidden: frozenset[str] = frozenset()

    @classmethod
    def of(cls, root: Path, case: UseCase, cases: Dataset) -> AskedCases:
        """Return the cases of a use case; its classes of data say what a log, and so a page, may hold.

        Masks name the kind alone: a keyed pseudonym would differ between two clones.
        """
        rules = rules_of(root)

        def passes(kind: str, data_class: str) -> bool:
            return rules.action(rules.class_of(kind, data_class), "logs") == "pass"

        hidden = {name for name, held in case.column_classes.items() if rules.action(held, "logs") != "pass"}
        masked = Redaction(detector_of(root).find, passes=passes)
        return cls(cases={item.id: item for item in cases}, clean=masked.text, hidden=frozenset(hidden))

    def asked(self, case: str) -> str:
        """Return the inputs of a case as one text."""
        return self._text(self.cases[case].inputs) if case in self.cases else ""

    def expected(self, case: str, columns: Sequence[str]) -> str:
        """Return the expected values of a case: those of `columns` if it has any of them, else all."""
        stated = self.cases[case].expected if case in self.cases else {}
        chosen = {name: stated[name] for name in columns if name in stated} or stated
        return self._text(chosen)

    def _text(self, values: Mapping[str, Any]) -> str:
        parts = {name: "(not shown)" if name in self.hidden else _plain(v) for name, v in values.items()}
        shown = parts.values() if len(parts) == 1 else (f"{name}: {text}" for name, text in parts.items())
        return one_line(self.clean("; ".join(shown)))


def worth_reading(
    run: Run, primary: str, asked: AskedCases | None, scorer: Mapping[str, Any]
) -> list[ReadAnswer]:
    """Return the first cases, by id, whose primary score is below 1.

    The expected values are those of the columns that `scorer`, the identity of the primary score, reads.
    """
    import orjson

    options: Any = next(iter(scorer.values()), {})
    columns = (
        [name for name in options.values() if isinstance(name, str)] if isinstance(options, dict) else []
    )
    rows = run.cases.filter(run.cases[f"score.{primary}"] < 1).head(_MOST).to_dicts()
    return [
        ReadAnswer(
            case=row["case"],
            tenant=row["tenant"],
            asked=asked.asked(row["case"]) if asked else "",
            expected=asked.expected(row["case"], columns) if asked else "",
            answer=one_line(_text_of(orjson.loads(row["output"]))),
            sources=", ".join(row["sources"]),
        )
        for row in rows
    ]


def one_line(text: str) -> str:
    """Return a text in one line of limited length."""
    line = " ".join(text.split())
    return line if len(line) <= _TEXT else line[: _TEXT - 1] + "…"


def _plain(value: Any) -> str:
    """Return an input or an expected value as text; the texts of a list are alternatives."""
    return " or ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _text_of(output: Any) -> str:
    """Return the text of an output, or the value of its only field, such as a label."""
    if isinstance(output, dict):
        output = next(iter(output.values())) if len(output) == 1 else output.get("text", output)
    return str(output)
