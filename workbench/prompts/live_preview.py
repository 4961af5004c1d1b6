"""Render a prompt for a case as it is being edited, with passages, tokens and price."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from workbench import files
from workbench.errors import WorkbenchError
from workbench.prompts.preview import Preview
from workbench.prompts.prompt import Header, Prompt, Rendered
from workbench.prompts.shown_case import ShownCase
from workbench.prompts.surroundings import Surroundings
from workbench.prompts.tokens import ESTIMATE
from workbench.types import Hit

#: Passages that a search returns, unless a person says otherwise.
PASSAGES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Searched:
    """The passages of a search for a case, or why there are none."""

    case: str
    asked: tuple[str, str, int]
    hits: Sequence[Hit] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """The tokens of the request with this digest, or why no model counted them."""

    digest: str
    tokens: int | None = None
    why_not: str = ""


class LivePreview:
    """The preview of a prompt. It keeps the last passages and count, so that rendering asks nothing."""

    def __init__(self, around: Surroundings, header: Header) -> None:
        self._around, self._header, self.k = around, header, PASSAGES
        self._found = _Searched(case="", asked=("", "", 0))
        self._counted = _Counted(digest="")

    def values(self, case: ShownCase) -> dict[str, Any]:
        """Return the inputs that the prompt is rendered with."""
        hits = self._found.hits if self._found.case == case.id else ()
        return _values(self._header, case.inputs, case.typed, hits)

    async def find(self, case: ShownCase) -> None:
        """Search the passages that the prompt takes, once for each text; an error is part of the preview."""
        shown, asked = case.id, self._asked(case)
        if (self._found.case, self._found.asked) == (shown, asked):
            return
        try:
            hits = await self._around.search(*asked) if asked[1] else ()
            self._found = _Searched(case=shown, asked=asked, hits=hits)
        except WorkbenchError as error:
            self._found = _Searched(case=shown, asked=asked, problem=f"no passages: {error}")

    async def count(self, case: ShownCase, rendered: Rendered | None) -> None:
        """Let the model count the tokens of a prompt; why it did not is part of the preview."""
        if rendered is None or self._counted.digest == _digest(rendered):
            return
        try:
            tokens = await self._around.counter(case.tenant)([turn.wire() for turn in rendered.messages])
            self._counted = _Counted(digest=_digest(rendered), tokens=tokens)
        except WorkbenchError as error:
            self._counted = _Counted(digest=_digest(rendered), why_not=error.message)

    def preview(self, case: ShownCase, draft: Callable[[], Prompt]) -> Preview:
        """Return the preview with what is known; what is wrong with the draft is its `problem`."""
        without = self._missing(case)
        try:
            prompt = draft()
            rendered = prompt.render(**self.values(case))
        except WorkbenchError as error:
            problem = "\n".join(filter(None, (str(error), without)))
            return Preview(reference=f"{self._header.name}@draft", case=case.id, problem=problem)
        counted = self._counted if self._counted.digest == _digest(rendered) else _Counted(digest="")
        tokens = _estimate(rendered) if counted.tokens is None else counted.tokens
        by = ESTIMATE.name if counted.tokens is None else f"the model {self._around.model}"
        return Preview(
            reference=prompt.reference, case=case.id, problem=without, rendered=rendered,
            tokens=tokens, counted_by=by, estimated=counted.tokens is None, why_estimated=counted.why_not,
            price=self._around.price(rendered, tokens),
        )  # fmt: skip

    def _asked(self, case: ShownCase) -> tuple[str, str, int]:
        """Return what is searched for a case: a tenant, a text, and how many passages."""
        return case.tenant, _query(self._header, self.values(case)), self.k

    def _missing(self, case: ShownCase) -> str:
        """Return why the preview's passages are not those of its text; empty if they are."""
        asked = self._asked(case)
        if not asked[1]:
            return ""
        if self._found.case != case.id:
            return "passages are not searched yet: editor.preview()"
        return self._found.problem if self._found.asked == asked else "passages of the text before are shown"


def _estimate(rendered: Rendered) -> int:
    counted = ESTIMATE.count([turn.wire() for turn in rendered.messages])
    return counted if isinstance(counted, int) else 0


def _digest(rendered: Rendered) -> str:
    return files.digest([turn.wire() for turn in rendered.messages])


def _values(
    header: Header, given: Mapping[str, Any], typed: Mapping[str, str], passages: Sequence[Hit]
) -> dict[str, Any]:
    """Return the inputs of a prompt: what a person typed, else the case's, and passages.

    A typed text that is not of the input's type stays a text, which rendering refuses by name.
    """
    values: dict[str, Any] = {}
    for name, declared in header.inputs.items():
        if declared.type == "passages":
            values[name] = list(passages)
        elif name in typed:
            values[name] = _typed(typed[name], declared.type)
        elif name in given:
            values[name] = given[name]
    return values


def _query(header: Header, values: Mapping[str, Any]) -> str:
    """Return the text that is searched for: the first text among the inputs; empty for none."""
    wants = any(declared.type == "passages" for declared in header.inputs.values())
    texts = [value for name, value in values.items() if isinstance(value, str) and value.strip()]
    return texts[0] if wants and texts else ""


def _typed(text: str, kind: str) -> Any:
    try:
        if kind == "integer":
            return int(text)
        if kind == "number":
            return float(text)
    except ValueError:
        return text
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    return text
