"""The checks by their names: the options of each, the texts that it reads, and how it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from workbench.moderation.characters import OddCharacters, TextSize
from workbench.moderation.classifier import Classifier
from workbench.moderation.exchange import CheckResult, Exchange, Origin
from workbench.moderation.exfiltration import Exfiltration
from workbench.moderation.grounding import Grounded

Direction = Literal["in", "out"]
Severity = Literal["flag", "redact", "refuse", "hold"]
_BOTH: Final = ("in", "out")


class Check(Protocol):
    """Compares a text with the request that it belongs to."""

    def __call__(self, text: str, exchange: Exchange) -> CheckResult | None:
        """Return why the check fires, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckKind:
    """What params.yaml may state for a check. `make` returns the check with the stated options.

    `reads` are the origins of the texts of a request that it reads unless told otherwise. `whole` is true if
    it needs the whole text of an answer, and `places` if it knows the ranges to redact.
    """

    make: Callable[..., Check] | None
    options: frozenset[str] = frozenset()
    directions: tuple[str, ...] = _BOTH
    reads: frozenset[Origin] = frozenset({"user", "passage", "tool"})
    whole: bool = False
    places: bool = True


# The patterns of these two take 40 ms to compile: a process whose use case has no such check does not.


def _instructions(**options: Any) -> Check:
    from workbench.moderation.instructions import InstructionOverride

    return InstructionOverride(**options)


def _leak(most: int = 11) -> Check:
    from workbench.moderation.leakage import PromptLeak

    return PromptLeak(words=most + 1)


def _exfiltration(allow: tuple[str, ...] = (), canaries: tuple[str, ...] = ()) -> Check:
    return Exfiltration(allow=allow, canaries=canaries)


KINDS: Final[Mapping[str, CheckKind]] = {
    "instructions": CheckKind(
        make=_instructions, options=frozenset({"least"}), reads=frozenset({"passage", "tool"})
    ),
    "exfiltration": CheckKind(
        make=_exfiltration, options=frozenset({"allow", "canaries"}), directions=("out",)
    ),
    "prompt_leak": CheckKind(make=_leak, options=frozenset({"most"}), directions=("out",)),
    "size": CheckKind(make=TextSize, options=frozenset({"most"})),
    "characters": CheckKind(make=OddCharacters, options=frozenset({"most"})),
    "topics": CheckKind(make=None, options=frozenset({"words", "file"})),
    "grounded": CheckKind(
        make=Grounded,
        options=frozenset({"least", "numbers"}),
        directions=("out",),
        whole=True,
        places=False,
    ),
    "classifier": CheckKind(
        make=None,
        options=frozenset({"model", "question", "categories", "least"}),
        whole=True,
        places=False,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One check at work: its name in records, what it reads, and what follows when it fires.

    `abstain` is the text that replaces an answer in place of a redaction. A hook has a check or a classifier.
    """

    name: str
    direction: Direction
    severity: Severity
    kind: CheckKind = field(repr=False)
    check: Check | None = field(default=None, repr=False)
    classifier: Classifier | None = None
    reads: frozenset[Origin] = frozenset()
    abstain: str | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing of an answer may be given before the hook has seen all of it."""
        return self.severity != "flag" and (self.kind.whole or self.severity in {"redact", "hold"})


def made(name: str, options: Mapping[str, Any]) -> Check:
    """Return a check with options; raise KeyError for one that needs a file or a model."""
    make = KINDS[name].make
    if make is None:
        raise KeyError(name)
    return make(**options)
