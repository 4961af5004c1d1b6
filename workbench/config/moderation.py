"""The checks of what a use case's models are sent and answer."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from workbench import files
from workbench.config.forms import check_inside
from workbench.errors import ConfigError

if TYPE_CHECKING:
    from workbench.moderation.hooks import CheckKind

# Every process reads params.yaml, and few use cases have checks: what knows them is imported for those.

#: Days for which a held answer is kept unless the use case states others.
KEEP_DAYS: Final = 30
CheckName = Literal[
    "instructions", "exfiltration", "prompt_leak", "size", "characters", "topics", "grounded", "classifier"
]
Read = Literal["user", "system", "untrusted"]
#: The keys of a hook that are not options of its check.
_COMMON: Final = frozenset({"check", "name", "direction", "severity", "of", "abstain"})
_MOST_HOOKS: Final = 32
_DAYS: Final = re.compile(r"([1-9]\d{0,4}) days?")
_MOST_DAYS: Final = 36_500


@dataclass(frozen=True, slots=True, kw_only=True)
class ModerationHook:
    """One check of `moderation.checks`: what it is, when it runs, and what follows when it fires.

    `of` names what a check of requests reads. `abstain` is the text that is given in place of an answer. The
    other keys are options of the check; docs/moderation.md has a table of them.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    check: CheckName
    direction: Literal["in", "out"]
    severity: Literal["flag", "redact", "refuse", "hold"]
    name: str | None = None
    of: tuple[Read, ...] | None = None
    abstain: str | None = None
    least: float | None = None
    most: int | None = None
    numbers: bool | None = None
    words: tuple[str, ...] | None = None
    file: str | None = None
    allow: tuple[str, ...] | None = None
    canaries: tuple[str, ...] | None = None
    model: str | None = None
    question: str | None = None
    categories: tuple[str, ...] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The stated options of the check."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if field.name not in _COMMON and (value := getattr(self, field.name)) is not None
        }

    @property
    def title(self) -> str:
        """The name of the hook in records: its own, or that of its check."""
        return self.name or self.check


@dataclass(frozen=True, slots=True, kw_only=True)
class ModerationRules:
    """The checks of a use case, in their order. With `observe` they are recorded, and nothing follows.

    `keep_held` is how long an answer that waits for a review, or that was reviewed, is kept.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    checks: tuple[ModerationHook, ...]
    enforce: Literal["observe", "enforce"] = "enforce"
    keep_held: str = f"{KEEP_DAYS} days"

    @property
    def keep_days(self) -> int:
        """The days for which a held answer is kept, 0 for a text that states none."""
        found = _DAYS.fullmatch(self.keep_held)
        return int(found[1]) if found else 0

    @property
    def files(self) -> tuple[str, ...]:
        """The topic lists that the checks name."""
        return tuple(hook.file for hook in self.checks if hook.file)

    @property
    def models(self) -> tuple[str, ...]:
        """The models that the checks ask."""
        return tuple(hook.model for hook in self.checks if hook.model)


def check_moderation(where: str, rules: ModerationRules | None, *, phase: str) -> None:
    """Raise ConfigError for a hook that could never work, and for `observe` in the phase mlvp."""
    if rules is None:
        return
    if not 1 <= len(rules.checks) <= _MOST_HOOKS:
        raise ConfigError(
            f"{where}.checks has {len(rules.checks)} checks, and 1 to {_MOST_HOOKS} are possible",
            hint="write - {check: instructions, direction: in, severity: flag}, or remove the key moderation",
        )
    if rules.enforce == "observe" and phase == "mlvp":
        raise ConfigError(
            f"{where}.enforce is observe, and the phase mlvp demands enforce",
            hint="write enforce: enforce; workbench calls would-refuse shows what it would stop",
        )
    if not 1 <= rules.keep_days <= _MOST_DAYS:
        raise ConfigError(
            f"{where}.keep_held is {files.shortened(rules.keep_held)!r}, not days", hint="keep_held: 30 days"
        )
    from workbench.moderation.hooks import KINDS

    titles = [(hook.title, hook.direction) for hook in rules.checks]
    for number, hook in enumerate(rules.checks):
        at = f"{where}.checks[{number}]"
        if titles.index((hook.title, hook.direction)) < number:
            raise ConfigError(
                f"{at}: a second check {hook.title!r} of {hook.direction}", hint="add a name: to it"
            )
        kind = KINDS[hook.check]
        _check_form(at, hook, kind)
        _check_options(at, hook, kind)


def _check_form(at: str, hook: ModerationHook, kind: CheckKind) -> None:
    """Raise ConfigError for a direction, a severity or a text that does not fit the check."""
    problem = hint = ""
    if hook.direction not in kind.directions:
        problem, hint = f"{hook.check} checks answers only", "write direction: out"
    elif hook.direction == "in" and hook.severity == "hold":
        problem, hint = "only an answer can be held", "write severity: refuse, or direction: out"
    elif hook.direction == "out" and hook.of is not None:
        problem, hint = "of names texts of a request, and this check reads answers", "remove of"
    elif hook.abstain is not None and (hook.severity != "redact" or hook.direction == "in"):
        problem, hint = "abstain replaces an answer", "write direction: out and severity: redact"
    elif hook.abstain is not None and not hook.abstain.strip():
        problem, hint = "abstain is empty", 'write abstain: "I do not know."'
    elif hook.severity == "redact" and not kind.places and hook.abstain is None:
        problem = f"{hook.check} does not know which words to redact"
        hint = 'write abstain: "I do not know.", the text that replaces the answer, or severity: refuse'
    if problem:
        raise ConfigError(f"{at}: {problem}", hint=hint)


def _check_options(at: str, hook: ModerationHook, kind: CheckKind) -> None:
    """Raise ConfigError for an option of another check, and for one that is missing or out of range."""
    foreign = sorted(set(hook.options) - kind.options)
    if foreign:
        raise ConfigError(
            f"{at}: {hook.check} has no option {foreign[0]!r}",
            hint=f"its options are {', '.join(sorted(kind.options))}" if kind.options else "remove it",
        )
    for wrong, problem in (
        (hook.check == "size" and hook.most is None, "size needs most, the characters that a text may have"),
        (
            hook.check == "topics" and (hook.words is None) == (hook.file is None),
            "topics needs words or file, one of the two",
        ),
        (hook.check == "classifier" and not hook.model, "classifier needs model, the name of a model's card"),
        ((hook.most or 0) < 0 or (hook.check == "size" and hook.most == 0), f"most is {hook.most}"),
        (not 0 < (1 if hook.least is None else hook.least) <= 1, f"least is {hook.least}, not in (0, 1]"),
    ):
        if wrong:
            raise ConfigError(f"{at}: {problem}", hint="docs/moderation.md has a table of the options")
    if hook.file is not None:
        from workbench.moderation.topics import FOLDER

        check_inside(hook.file, where=f"{at}.file")
        if not hook.file.startswith(f"{FOLDER}/"):
            raise ConfigError(f"{at}.file is not in {FOLDER}", hint=f"move it there: {FOLDER}/topics.txt")
    if hook.words is not None:
        from workbench.moderation.topics import topics_of

        topics_of([(f"{at}.words", word) for word in hook.words], where=f"{at}.words")
