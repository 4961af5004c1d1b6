"""The table of suggested cases in a notebook: accept, edit or reject each draft by widgets."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from ipywidgets import VBox

#: Drafts that have widgets; a browser is slow with more.
_MOST = 100
#: What separates the accepted answers of a draft in their field.
_BETWEEN = "|"
_DECISIONS = (("?", "undecided"), ("accept", "accepted"), ("reject", "rejected"))


class _Drafts(Protocol):
    """What the table needs of `SuggestedCases`."""

    @property
    def ids(self) -> tuple[str, ...]: ...
    @property
    def rows(self) -> list[dict[str, Any]]: ...
    def decision(self, case_id: str, /) -> str: ...
    def sentence(self, case_id: str, /) -> str: ...
    def note(self, case_id: str, /) -> str: ...
    def accept(self, *ids: str) -> Any: ...
    def reject(self, *ids: str) -> Any: ...
    def reset(self, *ids: str) -> Any: ...
    def edit(
        self, case_id: str, /, *, question: str | None = None, answers: Sequence[str] | None = None
    ) -> Any: ...


def mimebundle(drafts: _Drafts) -> dict[str, Any]:
    """Return the table as Jupyter shows it; empty without ipywidgets."""
    try:
        table = suggestion_table(drafts)
    except ImportError:
        return {}
    made: Mapping[str, Any] = table._repr_mimebundle_()
    return dict(made)


def suggestion_table(drafts: _Drafts) -> VBox:
    """Return one group of widgets for each draft; what is chosen and typed in them changes `drafts`.

    A refused edit changes nothing, and its error is shown below the row.
    """
    import ipywidgets

    rows = {row["id"]: row for row in drafts.rows}
    shown = [_draft(drafts, name, rows[name]) for name in drafts.ids[:_MOST]]
    more = len(rows) - len(shown)
    if more > 0:
        shown.append(ipywidgets.HTML(f"{more} more drafts: accept, edit and reject them by their ids"))
    return ipywidgets.VBox(shown)


def _draft(drafts: _Drafts, name: str, row: Mapping[str, Any]) -> VBox:
    import ipywidgets

    wide = {"layout": ipywidgets.Layout(width="100%"), "continuous_update": False}
    decision = ipywidgets.ToggleButtons(options=_DECISIONS, value=drafts.decision(name))
    decision.style.button_width = "5em"
    question = ipywidgets.Text(value=row["question"], description="question", **wide)
    answers = ipywidgets.Text(value=f" {_BETWEEN} ".join(row["answers"]), description="answers", **wide)
    about, told = ipywidgets.HTML(_about(row, drafts.sentence(name))), ipywidgets.Label(drafts.note(name))

    def decide(change: Mapping[str, Any]) -> None:
        verbs = {"accepted": drafts.accept, "rejected": drafts.reject}
        verbs.get(change["new"], drafts.reset)(name)

    def edit(_: Mapping[str, Any]) -> None:
        given = [answer.strip() for answer in answers.value.split(_BETWEEN)]
        try:
            drafts.edit(name, question=question.value, answers=given)
        except WorkbenchError as error:
            told.value = f"not changed: {error}"
        else:
            told.value = drafts.note(name)

    decision.observe(decide, "value")
    question.observe(edit, "value")
    answers.observe(edit, "value")
    return ipywidgets.VBox([ipywidgets.HBox([decision, about]), question, answers, told])


def _about(row: Mapping[str, Any], sentence: str) -> str:
    name = html.escape(f"{row['id']} · {row['tenant']} / {row['page']}")
    return f"<b>{name}</b> <span style='opacity:.75'>{html.escape(sentence)}</span>"
