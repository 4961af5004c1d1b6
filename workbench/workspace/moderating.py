"""The moderation of a use case at work: its checks, the models that they ask, and the answers they hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

from workbench import wire
from workbench.config import ModerationHook, ModerationRules
from workbench.controls.moderation import LABEL, Ask, Moderation
from workbench.errors import ConfigError
from workbench.models import ModelCard
from workbench.moderation.classifier import Classifier
from workbench.moderation.exchange import CheckResult, Origin
from workbench.moderation.exfiltration import Exfiltration
from workbench.moderation.hooks import KINDS, Hook, made
from workbench.moderation.topics import Topics, read_topics, topics_of
from workbench.ports import Call, Handler
from workbench.privacy.repository import detector_of
from workbench.workspace.reviewing import held_answers

CardOf = Callable[[str], ModelCard]
_READS: Final[dict[str, frozenset[Origin]]] = {
    "user": frozenset({"user"}),
    "system": frozenset({"system"}),
    "untrusted": frozenset({"passage", "tool"}),
}


class Moderating:
    """What the control `moderation` of a boundary is made of. Without rules there is no control.

    `root` has the topic lists, and `home` keeps the held answers.
    """

    def __init__(
        self, root: Path, home: Path, rules: ModerationRules | None, tenants: tuple[str, ...]
    ) -> None:
        self._root = root
        self._home = home
        self._rules = rules
        self._tenants = tenants

    def control(self, card: CardOf, handler: Callable[[], Handler]) -> dict[str, Moderation]:
        """Return the control by its name, or nothing; raise ConfigError for a list or a model that is wrong.

        `card` returns a model's card, and `handler` the handler that asks the models of classifiers.
        """
        if self._rules is None:
            return {}
        return {
            "moderation": Moderation(
                hooks_of(self._root, self._rules, card),
                enforce=self._rules.enforce == "enforce",
                tenants=self._tenants,
                held=held_answers(self._home),
                keep_days=self._rules.keep_days,
                ask=_asking(card, handler),
            )
        }


def hooks_of(root: Path, rules: ModerationRules, card: CardOf) -> list[Hook]:
    """Return the hooks of a use case; raise ConfigError for a topic list or a model that is wrong."""
    return [_hook(root, stated, card) for stated in rules.checks]


def _hook(root: Path, stated: ModerationHook, card: CardOf) -> Hook:
    kind = KINDS[stated.check]
    reads = (
        kind.reads if stated.of is None else frozenset[Origin]().union(*(_READS[name] for name in stated.of))
    )
    common: dict[str, Any] = {
        "name": stated.title, "direction": stated.direction, "severity": stated.severity, "kind": kind,
        "reads": reads, "abstain": stated.abstain,
    }  # fmt: skip
    if stated.check == "classifier":
        return Hook(classifier=_classifier(stated, card), **common)
    if stated.check == "topics":
        return Hook(check=_topics(root, stated), **common)
    check = made(stated.check, stated.options)
    if isinstance(check, Exfiltration):
        detector = detector_of(root)
        check = dataclasses.replace(check, identifies=lambda text: bool(detector.find(text)))
    return Hook(check=check, **common)


def _topics(root: Path, stated: ModerationHook) -> Topics:
    where = f"moderation.checks: {stated.title}"
    if stated.file is not None:
        return read_topics(root / stated.file, where=where)
    return topics_of([(f"{where}.words", word) for word in stated.words or ()])


def _classifier(stated: ModerationHook, card: CardOf) -> Classifier:
    model = stated.model or ""
    found = card(model)
    if found.kind == "embedding":
        raise ConfigError(
            f"moderation.checks: {stated.title}: the model {model!r} is for embedding and judges no text",
            hint="name a card of kind: moderation or kind: chat",
        )
    if (found.kind == "chat") != bool(stated.question):
        problem = (
            "a chat model needs a question"
            if found.kind == "chat"
            else "a moderation endpoint takes no question"
        )
        raise ConfigError(
            f"moderation.checks: {stated.title}: {problem}",
            hint='write question: "Does the text insult somebody?" for a chat model only',
        )
    written = "respond" if found.dialect == "responses" else "chat"
    return Classifier(
        model=model,
        operation="moderate" if found.kind == "moderation" else written,  # type: ignore[arg-type]  # one of three
        question=stated.question or "",
        categories=stated.categories or (),
        least=stated.least,
    )


def _asking(card: CardOf, handler: Callable[[], Handler]) -> Ask:
    """Return the function that asks a classifier's model: a call of its own, with its record and budget."""

    async def ask(call: Call, hook: Hook, text: str) -> CheckResult | None:
        classifier = hook.classifier
        if classifier is None:
            return None
        found = card(classifier.model)
        speaks = wire.dialect(classifier.operation)
        defaults = found.wire_defaults() if classifier.operation != "moderate" else {}
        made_call = Call(
            port="model",
            operation=classifier.operation,
            target=found.reference,
            payload={**defaults, **classifier.fields(text), "model": found.model},
            context=call.context.of_control(),
            identity=found.identity(),
            labels={LABEL: hook.name, **({} if found.recorded else {"recorded": False})},
            deadline=call.deadline,
        )
        async with aclosing(handler()(made_call)) as events:  # type: ignore[type-var]
            answer = speaks.fold([event async for event in events])
        return classifier.verdict(answer, speaks.text_of(answer))

    return ask
