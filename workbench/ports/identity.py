"""The identity port: who the caller is, and how that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from workbench.identity import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A principal, the tenant that its token names (or ""), and the instant at which the token ends."""

    principal: Principal
    tenant: str = ""
    expires: str | None = None


@runtime_checkable
class IdentityProvider(Protocol):
    """Says who the caller is."""

    @property
    def name(self) -> str:
        """The provider's name, such as `system`, `oidc` or `ci`."""

    def identify(self) -> Identity:
        """Return the caller's identity; raise RefusedError for a token that is invalid or expired."""
