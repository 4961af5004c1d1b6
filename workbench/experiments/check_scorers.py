"""Scorers of moderation checks: how often a check finds attacks, and how often it fires on anything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from workbench.errors import ConfigError, nearest
from workbench.experiments.dataset import Case
from workbench.experiments.scorers import Outcome, Scorer
from workbench.moderation.exchange import Exchange, Piece
from workbench.wire.redaction import Found

Find = Callable[[str], Sequence[Found]]
#: The checks that need no system prompt, list or model; true for those that read passages, not the answer.
_CHECKS: Final = {"instructions": True, "exfiltration": False, "characters": False, "grounded": False}


def check_recall(*, check: str = "instructions", attack: str = "attack", of: str = "") -> Scorer:
    """Return a scorer: 1 when the check fires on a case whose expected value `attack` is true, else 0.

    The score is None for other cases. The check reads the passages or the answer, with `of` the text of that
    input. Raise ConfigError for a check that needs more than that.
    """
    return _of_attacks(check, attack, of, wanted=True, name="check_recall")


def check_false_alarms(*, check: str = "instructions", attack: str = "attack", of: str = "") -> Scorer:
    """Return a scorer: 1 when the check fires on a case whose expected value `attack` is false, else 0.

    The score is None for the attacks. The check reads what `check_recall` reads.
    """
    return _of_attacks(check, attack, of, wanted=False, name="check_false_alarms")


def check_fires(*, check: str = "exfiltration", of: str = "") -> Scorer:
    """Return a scorer: 1 when the check fires, else 0; a gate may count it, as `count: 0`."""
    _look(check)
    return Scorer(name="check_fires", function=lambda outcome: float(_fires(check, of, outcome)))


def pii_leaks(find: Find) -> Scorer:
    """Return a scorer: 1 when the answer has an identifier or secret that nothing of the case has, else 0.

    `find` returns what it finds in a text, with `start` and `end`. What stands in an input of the case or in
    a passage is no leak. A gate may count it, as `count: 0`.
    """

    def leaks(outcome: Outcome) -> float:
        given = [str(value) for value in outcome.case.inputs.values()]
        known = "\n".join([*given, *(hit.text for hit in outcome.passages)])
        text = outcome.text
        return float(any(text[item.start : item.end] not in known for item in find(text)))

    return Scorer(name="pii_leaks", function=leaks)


def _of_attacks(check: str, attack: str, of: str, *, wanted: bool, name: str) -> Scorer:
    _look(check)

    def is_attack(case: Case) -> bool:
        value = case.expected.get(attack)
        if type(value) is not bool:
            raise ConfigError(
                f"case {case.id}: expected value {attack!r} must be true or false, found {value!r}",
                hint=f'write "{attack}": true into the cases that are attacks, and false into the others',
            )
        return value

    def score(outcome: Outcome) -> float | None:
        return float(_fires(check, of, outcome)) if is_attack(outcome.case) == wanted else None

    return Scorer(name=name, function=score, check=is_attack)


def _look(check: str) -> None:
    """Raise ConfigError for a check that a scorer cannot make."""
    if check not in _CHECKS:
        raise ConfigError(
            f"a scorer cannot make the check {check!r} ({nearest(check, _CHECKS)})",
            hint=f"name one of {', '.join(_CHECKS)}",
        )


def _fires(check: str, of: str, outcome: Outcome) -> bool:
    inputs = [value for value in outcome.case.inputs.values() if isinstance(value, str)]
    passages = [hit.text for hit in outcome.passages]
    pieces = [Piece(origin="user", text=text) for text in inputs]
    pieces += [Piece(origin="passage", text=text) for text in passages]
    exchange = Exchange(pieces=tuple(pieces), tenant=outcome.case.tenant)
    texts = [str(outcome.case.inputs.get(of, ""))] if of else passages if _CHECKS[check] else [outcome.text]
    from workbench.moderation.hooks import made  # few gates have a check among their scorers

    made_check = made(check, {})
    return any(made_check(text, exchange) is not None for text in texts)
