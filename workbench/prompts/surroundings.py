"""What a prompt's editor needs of its workspace: cases, passages, a model with its price, experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from workbench.experiments.dataset import Dataset
from workbench.experiments.experiment import ComparedRuns
from workbench.experiments.scorers import Scorer
from workbench.experiments.task import Task
from workbench.prompts.prompt import Rendered
from workbench.prompts.tokens import Counter
from workbench.types import Hit, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPrice:
    """What one call costs in US dollars: its input, and with an answer of `most_tokens`.

    None stands for an unknown price and an answer without a limit. `source` is where the price is from.
    """

    input_usd: float | None
    most_usd: float | None
    most_tokens: int | None
    source: str
    hint: str = ""


class Surroundings(Protocol):
    """The workspace of a prompt, as far as its editor needs it. Each call crosses the boundary."""

    @property
    def use_case(self) -> str:
        """The use case."""

    @property
    def tenant(self) -> str:
        """The tenant of the workspace."""

    @property
    def author(self) -> str:
        """Who edits."""

    @property
    def model(self) -> str:
        """The name of the model that is asked."""

    @property
    def seed(self) -> int:
        """The seed by which cases are drawn."""

    @property
    def drafts(self) -> Path:
        """The folder of unsaved texts."""

    def now(self) -> str:
        """Return the time in UTC, in ISO form."""

    def newest(self, prompt: str) -> int:
        """Return the newest version of a prompt, 0 without one."""

    def cases(self) -> Dataset:
        """Return the cases of the use case; a WorkbenchError where there are none."""

    def counter(self, tenant: str) -> Counter:
        """Return what counts tokens as the model does."""

    def price(self, rendered: Rendered, tokens: int) -> CallPrice:
        """Return the price of a call whose input has so many tokens."""

    def version(self, reference: str) -> Any:
        """Return a saved prompt, with its editor and its saver."""

    async def search(self, tenant: str, text: str, k: int) -> Sequence[Hit]:
        """Return the passages that a tenant finds in the memory of the use case; none without a memory."""

    async def ask(self, tenant: str, rendered: Rendered) -> Reply:
        """Return the model's answer to a rendered prompt."""

    async def compare(
        self,
        task: Task,
        cases: Dataset,
        scorers: Sequence[Scorer] | None,
        arms: Mapping[str, Mapping[str, Any]],
    ) -> ComparedRuns:
        """Run a task under several settings; without scorers, by those of the use case."""
