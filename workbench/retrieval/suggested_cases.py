"""Drafted cases as a table to accept, edit or reject, and to save as rows of a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from workbench import files
from workbench.display import Card, Shown
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.retrieval import cloze
from workbench.retrieval.binding import Binding
from workbench.retrieval.port import Governed

State = Literal["open", "accepted", "rejected"]
_SHOWN = 20


class SuggestedCases(Shown):
    """Drafted cases of one tenant. Each is open until it is accepted or rejected; accepted ones are saved.

    In Jupyter the table has a field for each question and answer and a button for each state. `reviewer` is
    the name that an edited row gets as its author.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], *, reviewer: str) -> None:
        self._rows: dict[str, dict[str, Any]] = {str(row["id"]): dict(row) for row in rows}
        self._states: dict[str, State] = dict.fromkeys(self._rows, "open")
        self._reviewer = reviewer

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Every drafted row, in the order of the draft."""
        return [dict(row) for row in self._rows.values()]

    @property
    def states(self) -> dict[str, State]:
        """The state of each row by id."""
        return dict(self._states)

    def accept(self, *ids: str) -> SuggestedCases:
        """Accept the rows with these ids, without an id every open row; return the table."""
        return self._mark(ids or self._open(), "accepted")

    def reject(self, *ids: str) -> SuggestedCases:
        """Reject the rows with these ids, without an id every open row; return the table."""
        return self._mark(ids or self._open(), "rejected")

    def edit(
        self, identity: str, *, question: str | None = None, answers: Sequence[str] | None = None
    ) -> SuggestedCases:
        """Replace the question or the accepted answers of a row and accept it; return the table.

        The row keeps its generator, and names the reviewer as its author. Raise ConfigError for an empty
        question or answer.
        """
        self._check(identity)
        changes: dict[str, Any] = {}
        if question is not None:
            changes["question"] = question.strip()
        if answers is not None:
            texts = [answers] if isinstance(answers, str) else answers
            changes["answers"] = [text.strip() for text in texts]
        empty = [key for key, value in changes.items() if not value or (key == "answers" and "" in value)]
        if empty:
            raise ConfigError(f"{identity}: {empty[0]} is empty", hint=f'cases.reject("{identity}")')
        if any(self._rows[identity][key] != value for key, value in changes.items()):
            self._rows[identity] |= {**changes, "author": self._reviewer}
        return self._mark([identity], "accepted")

    def accepted(self) -> list[dict[str, Any]]:
        """Return the accepted rows: the columns of a dataset, with generator, version, seed and synthetic."""
        return [dict(row) for name, row in self._rows.items() if self._states[name] == "accepted"]

    def save(self, path: str | Path) -> int:
        """Add the accepted rows to a JSON lines file and return their number; its own rows stay.

        Raise ConfigError when nothing is accepted, or when the file has another row with the same id.
        """
        target, found = Path(path), self.accepted()
        if not found:
            raise ConfigError("no case is accepted", hint="cases.accept(), or cases.accept(ID, …)")
        text = files.read_text(target) if target.exists() else ""
        lines = [line for line in text.split("\n") if line.strip()]
        held = {}
        for number, line in enumerate(lines, start=1):
            row = files.parse_json(line, where=f"{target}:{number}")
            held[row.get("id") if isinstance(row, dict) else None] = row
        for row in found:
            if held.get(row["id"], row) != row:
                raise ConfigError(
                    f"{target} has another row with the id {row['id']!r}",
                    hint=f"remove that row, or save into another file: cases.save({str(target)!r})",
                )
        new = [files.canonical(row).decode() for row in found if row["id"] not in held]
        files.write_atomic(target, "".join(f"{line}\n" for line in (*lines, *new)).encode())
        return len(new)

    def card(self) -> Card:
        """Return the display card: the first rows with their states."""
        counts = Counter(self._states.values())
        shown = list(self._rows.items())[:_SHOWN]
        rows = [
            (name, self._states[name], row["question"], "; ".join(row["answers"]), row["page"])
            for name, row in shown
        ]
        more = [f"{len(self) - _SHOWN} more rows"] if len(self) > _SHOWN else []
        made = next(iter(self._rows.values()), {})
        origin = f"synthetic: generator {made.get('generator')}, version {made.get('generator_version')}, "
        origin += f"seed {made.get('seed')}; read each one before you accept it"
        return Card(
            title=f"{len(self)} drafted cases: "
            + ", ".join(f"{counts[state]} {state}" for state in get_args(State)),
            head=("id", "state", "text", "answer", "source"),
            rows=rows,
            notes=[*more, origin] if self._rows else ["no passage has a number or a name to ask for"],
            command='cases.accept("ID"), cases.edit("ID", question="…"), cases.save("FILE.jsonl")',
        )

    def table(self) -> Any:
        """Return the table as a widget: fields to edit, and a choice of the state for each row."""
        import ipywidgets

        lines = [self._line(name, ipywidgets) for name in self._rows]
        return ipywidgets.VBox(lines)

    def _repr_mimebundle_(self, **_options: Any) -> dict[str, Any]:
        """Return the widget in a kernel, and the card anywhere."""
        plain = {"text/plain": str(self), "text/html": self._repr_html_()}
        return {**self.table()._repr_mimebundle_(), **plain} if _in_kernel() else plain

    def _line(self, name: str, widgets: Any) -> Any:
        row = self._rows[name]
        question = widgets.Text(value=row["question"], layout={"width": "60%"}, continuous_update=False)
        answers = widgets.Text(
            value="; ".join(row["answers"]), layout={"width": "20%"}, continuous_update=False
        )
        state = widgets.ToggleButtons(
            options=["open", "accepted", "rejected"], value=self._states[name], style={"button_width": "80px"}
        )

        def edited(_change: Any) -> None:
            texts = [text.strip() for text in answers.value.split(";") if text.strip()]
            if question.value.strip() and texts:
                self.edit(name, question=question.value, answers=texts)
                state.value = "accepted"

        question.observe(edited, names="value")
        answers.observe(edited, names="value")
        state.observe(lambda change: self._mark([name], change["new"]), names="value")
        return widgets.HBox([question, answers, state])

    def _open(self) -> list[str]:
        return [name for name, state in self._states.items() if state == "open"]

    def _mark(self, ids: Iterable[str], state: State) -> SuggestedCases:
        chosen = list(ids)
        for name in chosen:
            self._check(name)
        self._states |= dict.fromkeys(chosen, state)
        return self

    def _check(self, identity: str) -> None:
        if identity not in self._rows:
            raise NotFoundError(
                f"no drafted case has the id {identity!r} ({nearest(identity, self._rows)})",
                hint="cases.rows lists them",
            )


async def drafted(binding: Binding, n: int, *, seed: int) -> SuggestedCases:
    """Return up to `n` drafted cases of the valid documents that the principal may see.

    Raise NotFoundError when there is no such document.
    """
    day = binding.as_of or binding.now()[:10]
    found = await Governed(binding=binding).items(binding.version)
    documents = [
        item
        for item in found
        if item.kind == "document"
        and (item.valid_from is None or item.valid_from <= day)
        and (item.valid_to is None or item.valid_to > day)
    ]
    if not documents:
        raise NotFoundError(
            f"the memory {binding.spec} has no document of tenant {binding.tenant!r} for you on {day}",
            hint=binding.command("ingest"),
        )
    rows = cloze.drafts(documents, n, tenant=binding.tenant, seed=seed)
    return SuggestedCases(rows, reviewer=binding.context.principal.name)


def _in_kernel() -> bool:
    """Return whether this process is the kernel of a notebook."""
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")
