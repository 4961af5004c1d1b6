"""Write the files of a new use case into its staging folder, and check them as a run reads them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import config, files, layout, registry, retrieval
from workbench.config import UseCase
from workbench.context import SystemClock
from workbench.errors import ConfigError, WorkbenchError
from workbench.experiments import inputs
from workbench.experiments.gate_spec import GateSpec, check_spec
from workbench.layout import PARAMS
from workbench.models import load_card
from workbench.notebooks import inspection
from workbench.prompts import prompt as prompts
from workbench.repository.git import Repository
from workbench.scaffold import gate_defaults, params_text, placing, rendering
from workbench.scaffold.adopted_notebook import adopted
from workbench.scaffold.order import InitOrder
from workbench.scaffold.params_text import Block
from workbench.scaffold.sources import Documents, Questions
from workbench.workspace.use_case import check_data

#: The rows of the sample that a job's version freezes.
_SAMPLE = 5
_REASON = "The template of `workbench init`."


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCaseDraft:
    """A new use case: what was ordered, and what was read. Its files are staged below `stage`."""

    root: Path
    order: InitOrder
    documents: Documents
    questions: Questions

    @property
    def name(self) -> str:
        """The name of the use case, its prompt, its memory and its job."""
        return self.order.name

    @property
    def stage(self) -> Path:
        """The staging folder, which has the form of the repository."""
        return self.root / placing.stage_of(self.name)

    @property
    def data(self) -> Path:
        """The folder of documents and questions, relative to the repository."""
        return Path("data") / self.name

    def write(self) -> list[Block]:
        """Stage every file and check it; return the blocks of params.yaml."""
        values = self._values()
        notebook = rendering.text(self.order.kind, rendering.NOTEBOOK, values)
        if self.order.notebook is not None:
            own = adopted(self.order.notebook, name=self.name, memory=self.name)
            notebook, values = own.text, {**values, "parameters": own.parameters, "baseline": ""}
        shutil.rmtree(self.stage, ignore_errors=True)
        self._write_data()
        self._put(values["notebook"], notebook.encode())
        author = Repository(root=self.root).author()
        for kind, template in (("memory", rendering.MEMORY), ("prompt", rendering.PROMPT)):
            text = rendering.text(self.order.kind, template, values)
            registry.save_version(
                self.stage, kind, self.name, text.encode(), author=author, reason=_REASON, parent=None
            )
        for tape in (layout.judge_tape_of(self.name), layout.tape_of(self.name)):
            self._put(tape, b"")
        blocks = [
            Block(section=section, name=self.name, text=rendering.text(self.order.kind, template, values))
            for section, template in (("use_cases", rendering.USE_CASE), ("jobs", rendering.JOB))
        ]
        self._put(PARAMS, params_text.inserted(placing.read_params(self.root), blocks).encode())
        self._check()
        return blocks

    def _values(self) -> dict[str, Any]:
        """Return the values of the templates."""
        name, order = self.name, self.order
        title = rendering.one_line(order.title) or f"Answers from {name}"
        folder = rendering.one_line(self.documents.folder.resolve().name)
        purpose = f"Questions are answered from the documents of {folder}, with the source of each answer."
        return {
            **gate_defaults.bounds(len(self.questions.rows)),
            **_ANSWER,
            "name": name,
            "title": title,
            "heading": title,
            "purpose": rendering.one_line(order.purpose) or purpose,
            "owner": rendering.one_line(order.owner) or Repository(root=self.root).author(),
            "notebook": f"notebooks/{name}.ipynb",
            "served": sorted({*self.documents.tenants, *self.questions.tenants}),
            "data": self.data.as_posix(),
            "as_of": SystemClock().now().date().isoformat(),
            "memory": name,
            "prompt": name,
            "report": f"reports/{name}",
            "parameters": {"corpus": name},
            "page": self.questions.page,
            "dataset": (self.data / "questions.jsonl").as_posix(),
            "sample": (self.data / "sample.jsonl").as_posix(),
            "input": f"data/inbox/{name}-{{date}}.jsonl",
            "contents": f"The documents of {folder}.",
            "source": (self.data / "documents").as_posix(),
            "questions": (self.data / "questions.jsonl").as_posix() if self.questions.page else "",
        }

    def _write_data(self) -> None:
        for path in self.documents.files:
            target = self.stage / self.data / "documents" / path
            with files.writing(target):
                files.make_folder(target.parent)
                shutil.copyfile(self.documents.folder / path, target)
        self._put(self.data / "questions.jsonl", self.questions.lines())
        self._put(
            self.data / "sample.jsonl", self.questions.lines(("id", "tenant", "question"), most=_SAMPLE)
        )

    def _put(self, path: str | Path, data: bytes) -> None:
        files.write_atomic(self.stage / path, data)

    def _check(self) -> None:
        """Read every staged file as strictly as a run does; raise ConfigError for the first fault."""
        with self._said():
            params = config.load_params(self.stage)
            case = params.use_cases[self.name]
            found = inspection.read(self.stage / case.notebook)
            found.typed(case.parameters)
            prompts.load(self.stage, str(case.prompt), author="init")
            spec = retrieval.load_spec(self.stage, str(case.memory))
            check_data(self.stage, self.name, case)
            inputs.read(self.stage / params.jobs[self.name].sample)
        for card in (case.model, spec.embedding):
            load_card(self.root, card)
        self._check_gate(case)

    def _check_gate(self, case: UseCase) -> None:
        spec = GateSpec.parse(case.gates[case.phase], where=f"use_cases.{self.name}.gates.{case.phase}")
        never = check_spec(spec, len(self.questions.rows))
        if never:
            raise ConfigError(
                f"{len(self.questions.rows)} questions cannot decide a gate: {'; '.join(never)}",
                hint="add questions to the file, then run the same command again",
            )

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Raise an error of the block with the paths of the repository instead of the staged ones."""
        try:
            yield
        except WorkbenchError as error:
            error.message = error.message.replace(f"{self.stage}/", "")
            error.hint = error.hint.replace(f"{self.stage}/", "")
            raise


#: The values of the template `answer` that are the same for every new use case.
_ANSWER: Mapping[str, Any] = {
    "asks": "Can a small embedded model answer questions from these documents, well enough to go on?",
    "documents": "the documents",
    "role": "You answer questions.",
    "system": "You answer questions about documents.",
    "reason": _REASON,
    "describes": "Answer a question from the best passage of the documents.",
    "groups": ["everyone"],
    "model": "smollm2-135m",
    "memory_version": 1,
    "prompt_version": 1,
    "baseline": "closed_book",
    "brief": False,
    "mlvp": False,
    "corpus_note": "",
    "few_shot": "",
    "parent": None,
    "tenants_from": "",
    "unreadable": "",
    "chunking": "{kind: paragraphs, min_chars: 200, max_chars: 800}",
}
