"""The case that an editor shows: one of the use case's, found by its id or a text of it, or typed inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench import files
from workbench.errors import ConfigError, NotFoundError, WorkbenchError, nearest
from workbench.experiments.dataset import Case, Dataset
from workbench.prompts.surroundings import Surroundings


class ShownCase:
    """The shown case of the use case's cases, and what was typed in place of its inputs.

    Without cases, `why_none` says why, and the inputs are what is typed.
    """

    def __init__(self, around: Surroundings) -> None:
        self.cases: Dataset | None = None
        self.why_none, self._own_tenant = "", around.tenant
        self.typed: dict[str, str] = {}
        try:
            self.cases = around.cases()
        except WorkbenchError as error:
            self.why_none = error.message
        self._places = {case.id: n for n, case in enumerate(self.cases or ())}
        own = (n for n, case in enumerate(self.cases or ()) if case.tenant == around.tenant)
        self.place = next(own, 0)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def case(self) -> Case | None:
        """The case; None where there are none."""
        return self.cases.cases[self.place] if self.cases else None

    @property
    def tenant(self) -> str:
        """The tenant whose passages and answer are shown."""
        return self.case.tenant if self.case is not None else self._own_tenant

    @property
    def id(self) -> str:
        """The id of the case, empty without one."""
        return self.case.id if self.case is not None else ""

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The inputs of the case."""
        return self.case.inputs if self.case is not None else {}

    def known(self) -> Dataset:
        """Return the cases; ConfigError where there are none."""
        if not self.cases:
            raise ConfigError(self.why_none or "the use case has no cases", hint="editor.fill(question=…)")
        return self.cases

    def show(self, text: str) -> None:
        """Show the case with this id, else the next one whose inputs hold the text."""
        cases = self.known()
        self._move(self._places[text] if text in self._places else self._next_with(str(text), cases))

    def step(self, by: int) -> None:
        """Show another case; the first follows the last."""
        self._move((self.place + int(by)) % len(self.known()))

    def _move(self, place: int) -> None:
        self.place, self.typed = place, {}

    def _next_with(self, text: str, cases: Dataset) -> int:
        """Return the place of the next case whose inputs hold a text."""
        wanted, n = text.casefold(), len(cases)
        for place in ((self.place + step) % n for step in range(1, n + 1)):
            if wanted and any(
                wanted in str(value).casefold() for value in cases.cases[place].inputs.values()
            ):
                return place
        short = files.shortened(text)
        raise NotFoundError(
            f"no case has the id {short!r} or holds this text ({nearest(short, self._places)})",
            hint=f"editor.show_case({next(iter(self._places))!r})",
        )
