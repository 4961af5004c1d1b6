"""Check budgets: a budget that no call can meet, and what is left of each, for `check` and `doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workbench import _sync
from workbench.budgets import declared
from workbench.budgets.refusal import shown
from workbench.budgets.report import BudgetLine
from workbench.config import BudgetRule, Params, UseCase
from workbench.diagnostics.findings import Finding
from workbench.errors import ConfigError, WorkbenchError, nearest
from workbench.models import ModelCard
from workbench.ports.budget import MEASURES, SCALES, Amounts
from workbench.types import Usage
from workbench.wire.bounds import PER_MESSAGE, longest_answer
from workbench.workspace import boundary
from workbench.workspace.spending import Spending

#: Input tokens of the shortest request: one byte of text, and what a chat format adds.
_SHORTEST = PER_MESSAGE + 1


def left(root: Path, params: Params | None) -> Iterator[Finding]:
    """Yield what is left of each budget that calls have taken from; nothing where none is declared."""
    if params is None or not params.budgets:
        return
    spending = Spending(root)
    try:
        found = _sync.run(spending.all(phase=_phase(params)))
    except (WorkbenchError, OSError) as error:
        fix = (error.hint if isinstance(error, WorkbenchError) else "") or "workbench check"
        yield Finding(what="budgets", state="broken", detail=str(error).partition("\n")[0], fix=fix)
        return
    finally:
        spending.ledger.close()
    for name in found.unused:
        yield Finding(what=f"budget {name}", state="ok", detail="nothing is spent in this period")
    yield from map(_line, found.lines)


def check_met(root: Path, name: str, params: Params) -> None:
    """Raise ConfigError for a budget of unknown names, or of less than one call of its use cases may take."""
    rule = params.budgets[name]
    _check_named(name, rule, params)
    for case_name, case in params.use_cases.items():
        if not _applies(rule, case_name, case):
            continue
        card = boundary.card_of_use_case(root, case)
        needed = _one_call(rule, card)
        measure = declared.least(rule, needed)
        if measure:
            units = needed[MEASURES.index(measure)]
            raise ConfigError(
                f"budgets.{name}.{measure} is less than the {shown(measure, units)} that one call of "
                f"{card.reference} in {case_name} may take, so it refuses every call",
                hint=f"raise budgets.{name}.{measure}, or set max_tokens in defaults of the model's card",
            )


def _check_named(name: str, rule: BudgetRule, params: Params) -> None:
    """Raise ConfigError for a use case, a job or a tenant that is not declared: no call would count."""
    declares = {
        "use_case": set(params.use_cases),
        "job": set(params.jobs),
        "tenant": {tenant for case in params.use_cases.values() for tenant in case.tenants},
    }
    for key, known in declares.items():
        stated = getattr(rule.only, key)
        names = (stated,) if isinstance(stated, str) else stated or ()
        for unknown in (item for item in names if item not in known):
            raise ConfigError(
                f"budgets.{name}.only.{key} names {unknown!r}, which params.yaml does not declare "
                f"({nearest(unknown, known)}), so the budget applies to none of its calls",
                hint=f"correct budgets.{name}.only.{key}, or remove {unknown!r} from it",
            )


def _line(line: BudgetLine) -> Finding:
    scale = SCALES[MEASURES.index(line.measure)]
    amounts = {
        word: shown(line.measure, round(value * scale))
        for word, value in (("left", line.left), ("limit", line.limit), ("reserved", line.reserved))
    }
    detail = f"{amounts['left']} of {amounts['limit']} left, {amounts['reserved']} reserved"
    detail += f", renews at {line.renews}" if line.renews else ""
    counted = (("refused", line.refused, line.refused_at),
               ("would have refused", line.would_refuse, line.would_refuse_at))  # fmt: skip
    for verb, number, last in counted:
        detail += f"; it {verb} {number} calls, the last at {last}" if number else ""
    return Finding(
        what=f"budget {line.budget}{f' ({line.key})' if line.key else ''}", state="ok", detail=detail
    )


def _phase(params: Params) -> str:
    """Return the phase of the strictest use case."""
    return "mlvp" if any(case.phase == "mlvp" for case in params.use_cases.values()) else "mvp"


def _applies(rule: BudgetRule, name: str, case: UseCase) -> bool:
    only = rule.only
    cases = (only.use_case,) if isinstance(only.use_case, str) else only.use_case
    tenants = (only.tenant,) if isinstance(only.tenant, str) else only.tenant
    named = (cases is None or name in cases) and (tenants is None or bool(set(tenants) & set(case.tenants)))
    return named and rule.enforced(case.phase)


def _one_call(rule: BudgetRule, card: ModelCard) -> Amounts:
    """Return what the shortest call with the model's own settings may take."""
    stated = card.defaults.get("max_tokens")
    output = stated if isinstance(stated, int) and stated > 0 else longest_answer(card.limits)
    usage = Usage(input_tokens=_SHORTEST, output_tokens=output)
    tokens, cost = usage.total_tokens or 0, card.cost_usd(usage)
    return Amounts.of(usd=cost or 0.0, tokens=tokens, calls=1, seconds=rule.call_seconds)
