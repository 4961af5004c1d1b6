"""Write the files of a new use case into its staging folder, and check them as a run reads them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import config, files, layout, registry, retrieval
from workbench.config import UseCase
from workbench.data.questions import to_jsonl
from workbench.errors import ConfigError, WorkbenchError
from workbench.experiments import inputs
from workbench.experiments.gate_spec import GateSpec, check_spec
from workbench.layout import PARAMS
from workbench.models import load_card
from workbench.models.assessment import path_of
from workbench.models.assessment_form import form
from workbench.notebooks import inspection
from workbench.policy.source import BUILTIN, FOLDER
from workbench.promotion.judgement import scorers_of
from workbench.prompts import prompt as prompts
from workbench.repository.git import Repository
from workbench.scaffold import params_text, placing, rendering, values
from workbench.scaffold.adopted_notebook import adopted
from workbench.scaffold.order import InitOrder
from workbench.scaffold.params_text import Block
from workbench.scaffold.sources import Cases, SourceDocuments
from workbench.workspace.use_case import check_data

#: The rows of the sample that a job's version freezes.
_SAMPLE = 5
#: The input of each kind, and what it expects.
_INPUT = {"answer": "question"}
_EXPECTED = {"answer": ("answers", "page"), "classify": ("label",), "extract": ("fields",), "write": ()}
_PROVENANCE = ("synthetic", "author", "generator", "generator_version", "seed", "edited")


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCaseDraft:
    """A new use case: what was ordered, and what was read. Its files are staged below `stage`."""

    root: Path
    order: InitOrder
    documents: SourceDocuments | None
    cases: Cases

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
        author = Repository(root=self.root).author()
        given = values.of_order(self.order, self.documents, self.cases, author)
        notebook = self._text(rendering.NOTEBOOK, given)
        if self.order.notebook is not None:
            own = adopted(self.order.notebook, name=self.name, memory=given["memory"])
            notebook, given = own.text, {**given, "parameters": own.parameters, "baseline": ""}
        shutil.rmtree(self.stage, ignore_errors=True)
        self._write_data()
        self._put(given["notebook"], notebook.encode())
        self._write_assets(given, author)
        for tape in (layout.judge_tape_of(self.name), layout.tape_of(self.name)):
            self._put(tape, b"")
        blocks = [
            Block(section=section, name=self.name, text=self._text(template, given))
            for section, template in (("use_cases", rendering.USE_CASE), ("jobs", rendering.JOB))
        ]
        self._put(PARAMS, params_text.inserted(placing.read_params(self.root), blocks).encode())
        self._check()
        return blocks

    def _text(self, template: str, given: dict[str, Any]) -> str:
        return rendering.text(self.order.kind, template, given)

    def _write_assets(self, given: dict[str, Any], author: str) -> None:
        """Stage prompt, memory spec, scorer and quality rules, as far as the use case has them."""
        kinds = {"prompt": rendering.PROMPT}
        if self.documents is not None:
            kinds["memory"] = rendering.MEMORY
        for kind, template in kinds.items():
            data = self._text(template, given).encode()
            registry.save_version(
                self.stage, kind, self.name, data, author=author, reason=values.REASON, parent=None
            )
        if rendering.has(self.order.kind, rendering.SCORER):
            self._put(given["scorer"], self._text(rendering.SCORER, given).encode())
        self._put(given["quality"], self._text(rendering.QUALITY, given).encode())
        self._write_assessment(given["model"], owner=given["owner"], by=author)
        self._write_policies()

    def _write_assessment(self, model: str, *, owner: str, by: str) -> None:
        """Stage the form of the model's impact assessment, unless the repository has one."""
        place = path_of(model)
        if not (self.root / place).exists():
            self._put(place, form(load_card(self.root, model), owner=owner, by=by).encode())

    def _write_policies(self) -> None:
        """Stage the built-in policies, their schema and tests, unless the repository has policies."""
        if (self.root / FOLDER).exists():
            return
        for path in sorted(BUILTIN.iterdir()):
            self._put(f"{FOLDER}/{path.name}", files.read_bytes(path))

    def _write_data(self) -> None:
        """Stage documents or solved examples, the questions, and the sample of the job."""
        asked = ("id", "tenant", _INPUT.get(self.order.kind, "text"))
        keys = (*asked, *_EXPECTED[self.order.kind], *_PROVENANCE)
        self._put(self.data / "questions.jsonl", self.cases.lines(keys))
        self._put(self.data / "sample.jsonl", self.cases.lines(asked, most=_SAMPLE))
        if self.documents is None:
            return
        if self.documents.rows:
            self._put(self.data / "solved.jsonl", to_jsonl(self.documents.rows))
        if self.order.access is not None:
            self._put(self.data / "access.yaml", files.read_bytes(self.order.access, limit=1 << 20))
        for name, path in self.documents.files:
            target = self.stage / self.data / "documents" / name
            with files.writing(target):
                files.make_folder(target.parent)
                shutil.copyfile(path, target)

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
            if case.memory is not None:
                spec = retrieval.load_spec(self.stage, str(case.memory))
                load_card(self.root, spec.embedding)
            check_data(self.stage, self.name, case)
            scorers_of(self.stage, self.name, case)
            inputs.read(self.stage / params.jobs[self.name].sample)
        load_card(self.root, case.model_name)
        self._check_gate(case)

    def _check_gate(self, case: UseCase) -> None:
        spec = GateSpec.parse(case.gates[case.phase], where=f"use_cases.{self.name}.gates.{case.phase}")
        never = check_spec(spec, len(self.cases.rows))
        if never:
            raise ConfigError(
                f"{len(self.cases.rows)} questions cannot decide a gate: {'; '.join(never)}",
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
