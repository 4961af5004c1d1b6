"""The section `budgets` of params.yaml, and the ledger that its budgets are kept in."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from workbench import files
from workbench.config.forms import NAME
from workbench.errors import ConfigError

BudgetDimension = Literal[
    "tenant", "principal", "purpose", "use_case", "job", "run", "api_key", "day", "month"
]  # fmt: skip
Enforce = Literal["observe", "refuse"]
#: Most dollars, tokens, calls or seconds of a budget: the ledger counts in 64 bits.
_MOST_BUDGET = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOnly:
    """The calls that a budget applies to: all that are named here must be the call's; None is any."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    tenant: str | tuple[str, ...] | None = None
    principal: str | tuple[str, ...] | None = None
    purpose: str | tuple[str, ...] | None = None
    use_case: str | tuple[str, ...] | None = None
    job: str | tuple[str, ...] | None = None
    api_key: str | tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRule:
    """One budget of `params.yaml`: its limits, one account `per` which dimensions, and what it applies to.

    `call_seconds` is the longest model time of one call, which a budget of seconds reserves.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None
    seconds: float | None = None
    per: tuple[BudgetDimension, ...] = ()
    only: BudgetOnly = field(default_factory=BudgetOnly)
    enforce: Enforce | dict[Literal["mvp", "mlvp"], Enforce] = "refuse"
    call_seconds: float = 60.0

    def enforced(self, phase: str) -> bool:
        """Whether the budget refuses calls in a phase; False if it only observes."""
        stated = self.enforce if isinstance(self.enforce, str) else self.enforce.get(phase, "refuse")  # type: ignore[call-overload]
        return bool(stated == "refuse")


def check_budgets(
    rules: Mapping[str, BudgetRule], url: str | None, password_env: str | None, *, where: str
) -> None:
    """Raise ConfigError for a budget without a usable limit, or an address of a ledger with a password."""
    for name, rule in rules.items():
        at = f"{where}: budgets.{name}"
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"{where}: budgets: {files.shortened(name)!r} cannot name a budget",
                hint="use up to 63 letters, digits, - and _",
            )
        limits = {key: getattr(rule, key) for key in ("usd", "tokens", "calls", "seconds")}
        if all(limit is None for limit in limits.values()):
            raise ConfigError(
                f"{at} has no limit", hint="write one or more of usd, tokens, calls and seconds"
            )
        for key, limit in {**limits, "call_seconds": rule.call_seconds}.items():
            if limit is not None and not 0 < limit <= _MOST_BUDGET:
                raise ConfigError(f"{at}.{key} must be above 0 and at most {_MOST_BUDGET:g}, found {limit:g}")
        _check_only(at, rule.only)
        if len(set(rule.per)) < len(rule.per):
            raise ConfigError(f"{at}.per names a dimension twice: {', '.join(rule.per)}")
    if url is not None:
        parts = urlsplit(url)
        if parts.scheme not in {"postgresql", "postgres"} or not parts.path.strip("/") or parts.password:
            raise ConfigError(
                f"{where}: budget_url must be postgresql://USER@HOST:PORT/DATABASE, without a password",
                hint="write budget_password_env: NAME of the environment variable that holds the password",
            )
    if password_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", password_env):
        raise ConfigError(
            f"{where}: budget_password_env must be the NAME of an environment variable, not the password",
            hint="for example budget_password_env: BUDGET_PASSWORD",
        )


def _check_only(at: str, only: BudgetOnly) -> None:
    for key, stated in dataclasses.asdict(only).items():
        names = (stated,) if isinstance(stated, str) else stated
        if names is not None and not (names and all(names)):
            raise ConfigError(
                f"{at}.only.{key} names nothing, so the budget applies to no call",
                hint=f"write a name or a list of names, or remove {key}: then it applies to every one",
            )
