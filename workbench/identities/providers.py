"""The identity provider that params.yaml names, and the identity of this process by it."""

from __future__ import annotations

from pathlib import Path

from workbench import config
from workbench.config import IdentitySettings
from workbench.context import Clock
from workbench.errors import RefusedError
from workbench.identities.ci import CIProvider
from workbench.identities.oidc import OIDCProvider
from workbench.identities.system import SystemProvider
from workbench.identity import Principal
from workbench.ports.identity import Identity, IdentityProvider


def provider_of(settings: IdentitySettings, root: Path, *, clock: Clock | None = None) -> IdentityProvider:
    """Return the identity provider of the repository in `root`."""
    if settings.provider == "system":
        return SystemProvider()
    kind = CIProvider if settings.provider == "ci" else OIDCProvider
    return kind(settings, root, clock=clock)


def identity_of_process(settings: IdentitySettings, root: Path, *, clock: Clock | None = None) -> Identity:
    """Return the identity of this process for a verb that is no call, such as a promotion.

    It is that of the process's token, and without a token the user whom the operating system asserts. Raise
    RefusedError for a token that is there and invalid.
    """
    provider = provider_of(settings, root, clock=clock)
    if isinstance(provider, OIDCProvider) and provider.token() is None:
        return SystemProvider().identify()
    return provider.identify()


def principal_of_command(root: Path) -> Principal:
    """Return the principal of a command in a repository, without rights.

    Raise RefusedError without a token where params.yaml identifies callers by one.
    """
    return provider_of(config.load_params(root).identity, root).identify().principal


def check_assured(settings: IdentitySettings, root: Path, *, use_case: str, verb: str) -> Identity:
    """Return the identity of this process; raise RefusedError unless a provider authenticates it.

    `verb` says what the use case demands it for, such as "promote job/answers".
    """
    found = identity_of_process(settings, root)
    if found.principal.assurance != "authenticated":
        raise RefusedError(
            f"{found.principal} may not {verb}: use_cases.{use_case}.assurance demands an authenticated "
            "principal",
            hint="pass a token of the issuer in params.yaml to this process (docs/identity.md)",
        )
    return found
