"""Open the editor of a prompt in its workspace: its cases, searches, model, price and experiments."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from workbench import _sync, layout, registry
from workbench.config import UseCase
from workbench.context import Context
from workbench.errors import NotFoundError
from workbench.experiments.dataset import Dataset
from workbench.experiments.experiment import ComparedRuns, Experiment
from workbench.experiments.scorers import Scorer
from workbench.experiments.task import Task
from workbench.models.handle import ModelHandle
from workbench.prompts.prompt import Prompt, Rendered
from workbench.prompts.surroundings import CallPrice
from workbench.prompts.tokens import Counter, of_model
from workbench.retrieval import MemoryHandle
from workbench.types import Hit, Reply, Usage
from workbench.workspace.boundary import Boundary

if TYPE_CHECKING:
    from workbench.prompts.editor import PromptEditor


class PromptWorkspace(Protocol):
    """A workspace, as far as the editor of a prompt needs it."""

    @property
    def name(self) -> str:
        """The use case."""

    @property
    def root(self) -> Path:
        """The repository."""

    @property
    def use_case(self) -> UseCase:
        """What params.yaml says of it."""

    @property
    def context(self) -> Context:
        """Who asks."""

    @property
    def boundary(self) -> Boundary:
        """What answers."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of the arm."""

    def bind(self, *, tenant: str | None = None) -> Self:
        """Return the workspace of another tenant."""

    def prompt(self, reference: str | None = None) -> Prompt:
        """Return a prompt."""

    def cases(self) -> Dataset:
        """Return the cases."""

    def memory(self) -> MemoryHandle:
        """Return the memory."""

    def model(self) -> ModelHandle:
        """Return the model."""

    def experiment(self, name: str | None = None) -> Experiment:
        """Return an experiment."""


def open_editor(
    ws: Any, prompt: Prompt, *, task: Task | None = None, scorers: Sequence[Scorer] | None = None
) -> PromptEditor:
    """Return the editor of a prompt of a workspace."""
    from workbench.prompts.editor import PromptEditor  # who edits nothing does not load it

    editor = PromptEditor(prompt, EditingWorkspace(ws=ws), task=task, scorers=scorers)
    if not _sync.on_background_loop():
        _sync.run(editor.live.find(editor.shown_case))
    return editor


@dataclass(frozen=True, slots=True, kw_only=True)
class EditingWorkspace:
    """The surroundings of a prompt's editor, in a workspace."""

    ws: PromptWorkspace = field(repr=False)

    @property
    def use_case(self) -> str:
        """The use case."""
        return self.ws.name

    @property
    def tenant(self) -> str:
        """The tenant of the workspace."""
        return self.ws.context.tenant

    @property
    def author(self) -> str:
        """The name of the principal, which signs what is saved."""
        return self.ws.context.principal.name

    @property
    def model(self) -> str:
        """The name of the model's card."""
        return self.ws.model().card.name

    @property
    def seed(self) -> int:
        """The seed of the use case."""
        return self.ws.use_case.seed

    @property
    def drafts(self) -> Path:
        """The folder of unsaved texts, in the state of the repository."""
        return self.ws.boundary.home / layout.DRAFTS

    def now(self) -> str:
        """Return the time in UTC, in ISO form."""
        return self.ws.context.clock.now().astimezone(dt.UTC).isoformat(timespec="microseconds")

    def newest(self, prompt: str) -> int:
        """Return the newest version of a prompt, 0 without one."""
        try:
            return max(registry.load(self.ws.root, "prompt", prompt).versions, default=0)
        except NotFoundError:
            return 0

    def version(self, reference: str) -> Prompt:
        """Return a saved prompt."""
        return self.ws.prompt(reference)

    def cases(self) -> Dataset:
        """Return the cases of the use case, or of the arm's memory."""
        return self.ws.cases()

    def counter(self, tenant: str) -> Counter:
        """Return what counts tokens as the model does."""
        model = self.ws.bind(tenant=tenant).model()
        return of_model(model.card.name, model.count_tokens_async)

    def price(self, rendered: Rendered, tokens: int) -> CallPrice:
        """Return the price of a call by the model's card, with the longest answer that it may give."""
        model = self.ws.model()
        card = model.card
        stated = {**card.wire_defaults(), **rendered.parameters}.get(model.limit_name)
        most = stated if isinstance(stated, int) else card.limits.max_output_tokens
        whole = Usage(input_tokens=tokens, output_tokens=most)
        return CallPrice(
            input_usd=card.cost_usd(Usage(input_tokens=tokens)),
            most_usd=None if most is None else card.cost_usd(whole),
            most_tokens=most,
            source=card.price_source,
            hint="" if card.price_source else card.price_hint,
        )

    async def search(self, tenant: str, text: str, k: int) -> Sequence[Hit]:
        """Return the passages that a tenant finds; none for a use case without a memory."""
        if self.ws.use_case.memory is None and not self.ws.settings.get("memory"):
            return ()
        return tuple(await self.ws.bind(tenant=tenant).memory().search_async(text, k=k))

    async def ask(self, tenant: str, rendered: Rendered) -> Reply:
        """Return the model's answer."""
        return await self.ws.bind(tenant=tenant).model().chat_async(rendered)

    async def compare(
        self,
        task: Task,
        cases: Dataset,
        scorers: Sequence[Scorer] | None,
        arms: Mapping[str, Mapping[str, Any]],
    ) -> ComparedRuns:
        """Run a task under several settings; without scorers, by those that judge the use case."""
        from workbench.promotion.judgement import scorers_of

        ws = self.ws
        used = scorers_of(ws.root, ws.name, ws.use_case).scorers if scorers is None else scorers
        settings = {arm: {**ws.settings, **own} for arm, own in arms.items()}
        return await ws.experiment("draft").compare_async(task, cases, scorers=used, arms=settings)
