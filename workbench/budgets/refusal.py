"""The errors of budgets: which budget has no room, what the call would have taken, and what to type."""

from __future__ import annotations

from typing import Final

from workbench.budgets.books import Claim, Shortage
from workbench.errors import BudgetExceededError, OverloadedError
from workbench.ports.budget import MEASURES, SCALES, Measure

#: The budget that an API key states itself; no budget of params.yaml can have this name.
OF_KEY: Final = "API key"
_SHOWN: Final = {"usd": "${}", "tokens": "{} tokens", "calls": "{} calls", "seconds": "{} s of model time"}


def shown(measure: Measure, units: int | None) -> str:
    """Return an amount of a measure as text, such as `$0.25`; empty for no amount."""
    if units is None:
        return ""
    value = units / SCALES[MEASURES.index(measure)]
    text = f"{value:,.0f}" if value == int(value) else f"{value:,.6f}".rstrip("0").rstrip(".")
    unit = _SHOWN[measure]
    return (unit.removesuffix("s") if value == 1 and measure != "usd" else unit).format(text)


def exceeded(shortage: Shortage) -> BudgetExceededError:
    """Return the error for a call that needs more than an account has left."""
    account, measure = shortage.account, shortage.measure
    index = MEASURES.index(measure)
    limit = account.limits[index] or 0
    left = shown(measure, max(limit - shortage.spent, 0)).partition(" ")[0]
    smaller = ", or lower max_tokens of the request" if measure in {"usd", "tokens"} else ""
    renews = f"; it renews at {account.renews}" if account.renews else "; it has no period and never renews"
    scale = SCALES[index]
    raised = f"raise budgets.{account.budget}.{measure} in params.yaml{smaller}; see: workbench budget"
    if account.budget == OF_KEY:
        raised = f"workbench keys issue --{measure} NUMBER   # a key with a larger budget{smaller}"
    return BudgetExceededError(
        f"budget {account}: the call may take {shown(measure, shortage.needed)}, and {left} of "
        f"{shown(measure, limit)} are left{renews}",
        hint=raised,
        budget=str(account),
        measure=measure,
        limit=limit / scale,
        spent=shortage.spent / scale,
        reserved=shortage.reserved / scale,
        needed=shortage.needed / scale,
        renews=account.renews,
    )


def still_reserved(claim: Claim) -> OverloadedError:
    """Return the error for a call that fits its budgets and waited too long for the calls before it."""
    names = ", ".join(str(account) for account in claim.accounts if account.id in claim.blocked)
    return OverloadedError(
        f"budget {names}: what is left is reserved by other calls, which did not end before the deadline",
        hint="repeat the call later, send fewer at once, or raise the budget in params.yaml",
    )
