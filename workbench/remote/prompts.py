"""Prompts by reference: the gateway renders what a call claims to be rendered from, and compares."""

from __future__ import annotations

import dataclasses
from typing import Any, Final, Protocol

from workbench import files
from workbench.errors import ConfigError, NotFoundError, RefusedError
from workbench.ports import Call
from workbench.ports.privacy import DeclaredData
from workbench.remote.calls import AskedCall, AskedPrompt
from workbench.remote.passages import ServedHits, read_inputs
from workbench.types import Hit, Message, wire_messages

#: The part of a reference that follows `@` in a draft's.
_DRAFT: Final = "draft-"
#: The fields of a request that hold its turns.
_TURNS: Final = ("messages", "input")


class RenderedTurns(Protocol):
    """A prompt that the gateway rendered itself."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The chat turns."""

    @property
    def prompt(self) -> str:
        """The prompt's reference, such as `answer@2`."""

    @property
    def digest(self) -> str:
        """The prompt's digest."""

    @property
    def passages(self) -> tuple[Hit, ...]:
        """The passages in the turns."""

    @property
    def data_classes(self) -> tuple[str, ...]:
        """The classes of the inputs and the passages."""

    @property
    def identifiers(self) -> tuple[tuple[str, str, str], ...]:
        """The inputs that are identifiers, each with its kind and class."""


class Prompts(Protocol):
    """Renders saved prompts for one caller. `strict` is whether every claim must be verified."""

    strict: bool

    def render(self, reference: str, inputs: dict[str, Any]) -> RenderedTurns:
        """Return a saved prompt rendered with `inputs`; raise NotFoundError and ConfigError."""


def with_prompt(call: Call, asked: AskedCall, prompts: Prompts, served: ServedHits) -> Call:
    """Return the call with its passages, and with the labels of the prompt that it claims.

    The turns of a saved prompt are those that `prompts` renders. Another claim, such as that of a draft or of
    changed turns, is recorded as a draft. Raise RefusedError for such a claim where `prompts` is strict, and
    for a passage that was not served.
    """
    passages = tuple(served.resolved(hit, strict=prompts.strict) for hit in asked.passages)
    claim = asked.prompt
    if claim is None:
        return dataclasses.replace(call, passages=passages)
    rendered = _rendered(claim, prompts, served)
    if rendered is not None and _are_turns_of(call, rendered):
        return _verified(call, rendered)
    if prompts.strict:
        raise RefusedError(
            f"the turns of the call are not those of the saved prompt {files.shortened(claim.reference)!r} "
            "with the stated inputs, and a judged run or a job uses saved prompts as they are",
            hint='save the draft: draft.save(reason="…"), or ask with a text: ws.model().chat("…")',
        )
    return _drafted(call, claim, passages)


def _rendered(claim: AskedPrompt, prompts: Prompts, served: ServedHits) -> RenderedTurns | None:
    """Return the prompt as the gateway renders it; None for a claim that cannot be verified."""
    name, _, version = claim.reference.partition("@")
    if claim.inputs is None or not name or version.startswith(_DRAFT):
        return None
    inputs = read_inputs(claim.inputs, served, strict=prompts.strict)
    try:
        return prompts.render(claim.reference, inputs)
    except (ConfigError, NotFoundError):
        if prompts.strict:
            raise
        return None


def _are_turns_of(call: Call, rendered: RenderedTurns) -> bool:
    """Return whether the payload of a call has exactly the turns of a rendered prompt."""
    return [call.payload[field] for field in _TURNS if field in call.payload] == [
        wire_messages(rendered.messages)
    ]


def _verified(call: Call, rendered: RenderedTurns) -> Call:
    """Return the call with the prompt's reference, digest and passages, and with what it declares."""
    stated = call.declared or DeclaredData()
    classes = tuple(dict.fromkeys([*rendered.data_classes, *stated.classes]))
    identifiers = tuple(dict.fromkeys([*rendered.identifiers, *stated.identifiers]))
    declared = DeclaredData(classes=classes, identifiers=identifiers) if classes or identifiers else None
    return dataclasses.replace(
        call,
        labels={**call.labels, **_labels(rendered.prompt, rendered.digest, rendered.passages)},
        passages=rendered.passages,
        declared=declared,
    )


def _drafted(call: Call, claim: AskedPrompt, passages: tuple[Hit, ...]) -> Call:
    """Return the call with the reference of a draft, also where a saved prompt was claimed."""
    reference = claim.reference
    name, _, version = reference.partition("@")
    if not version.startswith(_DRAFT):
        turns = {field: call.payload.get(field) for field in _TURNS}
        reference = f"{name}@{_DRAFT}{files.digest(turns)[:8]}"
    labels = {**call.labels, **_labels(reference, claim.digest, passages)}
    return dataclasses.replace(call, labels=labels, passages=passages)


def _labels(reference: str, digest: str, passages: tuple[Hit, ...]) -> dict[str, Any]:
    return {"prompt": reference, "prompt_digest": digest, "passages": [hit.id for hit in passages]}
