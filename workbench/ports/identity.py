"""The identity port: who the caller is, and how that is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from workbench.identity import Principal
from workbench.types import MOST_CLASSIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A principal, the tenant that its token names (or ""), and the instant at which the token ends.

    `stated` has "groups" and "clearance" when the token states them; those that it does not state are the
    use case's.
    """

    principal: Principal
    tenant: str = ""
    expires: str | None = None
    stated: frozenset[str] = frozenset()

    def rights(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the rights that a use case gives, with those that the token states in their place.

        The clearance is at most the one that is given.
        """
        stated = {name: getattr(self.principal, name) for name in sorted(self.stated)}
        return {
            **given,
            **stated,
            "clearance": min(given["clearance"], stated.get("clearance", MOST_CLASSIFIED)),
        }


@runtime_checkable
class IdentityProvider(Protocol):
    """Says who the caller is."""

    @property
    def name(self) -> str:
        """The provider's name, such as `system`, `oidc` or `ci`."""

    def identify(self, token: str | None = None) -> Identity:
        """Return the identity of the caller, or of the bearer of `token`.

        Raise RefusedError without a token where one is needed, and for one that is invalid or expired.
        """
