"""Compare a use case's cases with the examples of its prompt and of its memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from workbench import retrieval
from workbench.config import UseCase
from workbench.data import contamination
from workbench.data.contamination import Contamination, Example
from workbench.experiments.dataset import Case
from workbench.prompts import prompt as prompts
from workbench.types import Page


def contaminated(root: Path, case: UseCase, cases: Iterable[Case], pages: Sequence[Page]) -> Contamination:
    """Return the cases whose text stands in a turn of the prompt or in a solved example of the memory.

    `pages` are those of the memory's source. They are solved examples when the memory is of kind episodic, or
    when they are the rows of a table with titles. Documents that answer the cases are none.
    """
    return contamination.find(cases, [*_turns(root, case), *_solved(root, case, pages)])


def _turns(root: Path, case: UseCase) -> Iterator[Example]:
    if case.prompt is None:
        return
    prompt = prompts.load(root, str(case.prompt), author="prepare")
    for number, (role, text) in enumerate(prompt.turns, start=1):
        yield from contamination.of_turn(f"prompt {case.prompt}, turn {number} ({role})", text)


def _solved(root: Path, case: UseCase, pages: Sequence[Page]) -> Iterator[Example]:
    if case.memory is None:
        return
    spec = retrieval.load_spec(root, str(case.memory))
    if spec.kind == "episodic" or (spec.columns is not None and spec.columns.title is not None):
        for page in pages:
            where = f"memory {spec}, {page.tenant}/{page.source}"
            yield Example(where=where, text=page.text, tenant=page.tenant)
