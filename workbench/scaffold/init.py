"""Create a use case from documents, questions and the canonical templates, and take it away again."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import config, files, registry
from workbench.display import Card, Shown
from workbench.errors import ConfigError
from workbench.layout import PARAMS
from workbench.models.assessment import path_of
from workbench.policy.source import FOLDER
from workbench.scaffold import placing, sources
from workbench.scaffold.drafting import UseCaseDraft
from workbench.scaffold.order import InitOrder
from workbench.scaffold.values import MODEL

#: Above this many questions, the command says how long the embedded model needs.
_MANY = 1_000
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Created(Shown):
    """A use case that was created, or would be (`dry`): its files, and notes on what was read.

    `documents` are the copied documents, which the card counts and does not list.
    """

    name: str
    files: tuple[str, ...]
    documents: tuple[str, ...]
    notes: tuple[str, ...]
    dry: bool = False
    command: str = "make repro"

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        return dataclasses.asdict(self)

    def card(self) -> Card:
        """Return the list of what was written."""
        rows = [(path, "") for path in self.files]
        if self.documents:
            folder = f"data/{self.name}/documents"
            rows.append((folder, f"{len(self.documents)} document{'s' * (len(self.documents) > 1)}"))
        rows.append((str(PARAMS), f"use_cases.{self.name} and jobs.{self.name}"))
        what = "would be created" if self.dry else "is created"
        undo = (
            []
            if self.dry
            else [f"to take it away while nothing is committed: workbench init {self.name} --undo"]
        )
        return Card(
            title=f"use case {self.name} {what}",
            head=("written", "what"),
            rows=rows,
            notes=(*self.notes, *undo),
            command="\n".join([self.command, *(f"      {line}" for line in self._governance())]),
        )

    def _governance(self) -> list[str]:
        """Return what a person decides before the use case is in production."""
        if self.dry:
            return []
        assessment = path_of(MODEL)
        return [
            f"workbench assess {MODEL}   # before production: fill in {assessment}",
            f"workbench check   # who may do what: {FOLDER}, docs/policy.md",
        ]


def init(root: Path, order: InitOrder, *, dry_run: bool = False, say: Say = lambda _: None) -> Created:
    """Create a use case of templates, documents and questions; nothing is created after an error.

    `say` receives a line of progress for each step. Raise ConfigError for an existing name and for whatever
    a run would refuse: documents, questions, templates, gate.
    """
    order.check()
    with placing.alone(root):
        _check_new(root, order.name)
        draft = _draft(root, order, say)
        try:
            say("checking every file as a run reads it")
            blocks = draft.write()
            paths = placing.staged(draft.stage)
            placing.check_free(root, paths)
            if not dry_run:
                placing.place(root, order.name, blocks)
        finally:
            shutil.rmtree(draft.stage, ignore_errors=True)
    return _created(draft, [path.as_posix() for path in paths], dry=dry_run)


def _draft(root: Path, order: InitOrder, say: Say) -> UseCaseDraft:
    """Read documents or solved examples, then the questions."""
    tenants, documents = sources.tenants_from(order), None
    if order.docs is not None and order.kind == "classify":
        documents = sources.examples(order, tenants=tenants)
        say(f"read {len(documents.rows)} solved examples of {', '.join(documents.tenants)} from {order.docs}")
    elif order.docs is not None:
        documents = sources.documents(order, tenants=tenants, root=root)
        numbers = f"{len(documents.files)} documents, {len(documents.pages)} pages"
        say(f"read {numbers} of {', '.join(documents.tenants)} from {order.docs}")
    cases = sources.cases(order, tenants=tenants, documents=documents)
    say(f"read {len(cases.rows)} questions from {order.questions}")
    return UseCaseDraft(root=root, order=order, documents=documents, cases=cases)


def _created(draft: UseCaseDraft, paths: list[str], *, dry: bool) -> Created:
    below = f"{draft.data.as_posix()}/documents/"
    notes = list(draft.cases.notes)
    if len(draft.cases.rows) > _MANY:
        notes.append(
            f"{len(draft.cases.rows):,} questions take the embedded model many hours: about 10 minutes for "
            "each hundred; begin with a sample"
        )
    if draft.documents is not None:
        notes[:0] = [f"left out: {item}" for item in draft.documents.left_out]
        if draft.documents.size > sources.LARGE:
            notes.append(
                f"{below} has {draft.documents.size >> 20} MB, of which git keeps every version; "
                f"dvc add {below.rstrip('/')} keeps them out of git"
            )
    return Created(
        name=draft.name,
        files=tuple(path for path in paths if not path.startswith(below)),
        documents=tuple(path for path in paths if path.startswith(below)),
        notes=tuple(notes),
        dry=dry,
        command="the same command without --dry-run" if dry else "make repro",
    )


def _check_new(root: Path, name: str) -> None:
    """Raise ConfigError when a use case, a job or an asset has the name already."""
    raw = files.parse_yaml(placing.read_params(root), where=str(PARAMS), hint=config.MALFORMED)
    if raw.get("use_cases"):
        config.load_params(root)
    for section in ("use_cases", "jobs"):
        if name in (raw.get(section) or {}):
            mine = placing.read(root, name) is not None
            again = f"workbench init {name} --undo   # takes it away, or: " if mine else ""
            raise ConfigError(
                f"{PARAMS}: {section}.{name} exists already",
                hint=f"{again}workbench init {name}-2 …",
            )
    for kind in ("prompt", "memory"):
        folder = registry.folder_of(root, kind, name)
        if folder.exists():
            raise ConfigError(
                f"{folder.relative_to(root)} exists already: the use case and its assets have one name",
                hint=f"workbench init {name}-2 …",
            )
