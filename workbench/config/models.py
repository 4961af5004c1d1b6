"""The model of a use case, its fall-backs and its price, in `params.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from workbench import files
from workbench.errors import ConfigError
from workbench.types import Usage

#: Most seconds of one call with its fall-backs.
_MOST_SECONDS = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedAnswer:
    """An answer that is given when no model answers: a text, or an object for a request of JSON."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    answer: str | dict[str, Any]

    @property
    def text(self) -> str:
        """The answer as the text of a reply."""
        return self.answer if isinstance(self.answer, str) else files.canonical(self.answer).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """The model of a use case, and what answers in its place while it cannot: models, then a stated answer.

    `seconds` limits a call, all candidates together; without it, the boundary's own limit applies.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    name: str
    fallback: tuple[str | StatedAnswer, ...] = ()
    seconds: float | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models among the fall-backs, in order."""
        return tuple(item for item in self.fallback if isinstance(item, str))


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price in US dollars per million tokens; 0 for a model on this machine.

    Cached tokens are a part of the input, and reasoning tokens of the output; without a price of their own
    they cost as much as the rest.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    input_usd: float
    output_usd: float = 0.0
    cached_input_usd: float | None = None
    reasoning_usd: float | None = None

    def cost_usd(self, usage: Usage) -> float | None:
        """Return the price of an answer in US dollars, or None if its usage is unknown."""
        if usage.input_tokens is None:
            return None
        output = usage.output_tokens or 0
        total = usage.input_tokens * self.input_usd + output * self.output_usd
        if self.cached_input_usd is not None:
            cached = min(usage.cached_tokens or 0, usage.input_tokens)
            total += cached * (self.cached_input_usd - self.input_usd)
        if self.reasoning_usd is not None:
            reasoning = min(usage.reasoning_tokens or 0, output)
            total += reasoning * (self.reasoning_usd - self.output_usd)
        return total / 1_000_000


def check_model(where: str, model: ModelChoice) -> None:
    """Raise ConfigError for a model that is named twice, and for a stated answer that is not the last one."""
    names = [name.partition("@")[0] for name in (model.name, *model.models)]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ConfigError(
            f"{where} names {twice[0]!r} twice: a model cannot be its own fall-back",
            hint=f"name another model under {where.partition(': ')[2]}.fallback",
        )
    if any(isinstance(item, StatedAnswer) for item in model.fallback[:-1]):
        raise ConfigError(
            f"{where}.fallback: a stated answer always answers, so nothing after it is asked",
            hint='move {answer: "…"} to the end of the list',
        )
    if any(isinstance(item, StatedAnswer) and not item.answer for item in model.fallback):
        raise ConfigError(
            f"{where}.fallback: the stated answer is empty",
            hint='write {answer: "…"} with a text or an object',
        )
    if model.seconds is not None and not 0 < model.seconds <= _MOST_SECONDS:
        raise ConfigError(f"{where}.seconds must be above 0 and up to {_MOST_SECONDS}, found {model.seconds}")
