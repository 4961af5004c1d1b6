"""Who a workspace acts for: the identity of its process, with the rights that the use case gives it."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from workbench import arguments, config, identity
from workbench.config import Execution, IdentitySettings, UseCase
from workbench.context import Clock, moment
from workbench.errors import ConfigError, RefusedError
from workbench.identities.providers import provider_of
from workbench.identities.tokens import SKEW_S, refused
from workbench.identity import Principal
from workbench.ports.identity import Identity
from workbench.promotion.assured import mover


def of_execution(
    root: Path,
    settings: IdentitySettings,
    case: UseCase,
    current: Execution,
    *,
    token: str | None = None,
    foreign: bool = False,
) -> Identity:
    """Return the identity of a process or of a token's bearer, with its rights in a use case.

    A stage of the pipeline is the user of the process, so that its results depend on nobody's token. A job
    stays `job:NAME` whoever starts it, and is no admin of a `foreign` use case; where the use case demands
    it, the one who starts it on today's input must be authenticated. Raise RefusedError and ConfigError as a
    provider does, and UnavailableError when the issuer's keys cannot be fetched.
    """
    home = Path(current.home) if current.home else root  # today's keys, not those of a version
    if current.job:
        if token is not None:
            raise refused(f"job {current.job!r} stays its own principal, and cannot be bound to a token's")
        return _of_job(home, settings, case, current, foreign=foreign)
    if token is None and current.tape is not None:
        return _with_rights(Identity(principal=identity.from_system()), case)
    return _with_rights(provider_of(settings, home).identify(token), case)


def of_pipeline(case: UseCase, *, admin: bool | None = None) -> Identity:
    """Return the user of this process as the pipeline's own principal.

    `admin` replaces what params.yaml says, for a memory that is the stage's own.
    """
    found = _with_rights(Identity(principal=identity.from_system()), case)
    return found if admin is None else _with_admin(found, admin=admin)


def _of_job(
    home: Path, settings: IdentitySettings, case: UseCase, current: Execution, *, foreign: bool
) -> Identity:
    principal = identity.of_job(str(current.job))
    found = Identity(principal=dataclasses.replace(principal, **case.rights(principal.name)))
    if foreign:
        found = _with_admin(found, admin=False)
    # In the kernel of a run's gateway the starter has no token; the gateway knows it.
    if case.assurance == "authenticated" and current.live_memory and current.gateway is None:
        starter = provider_of(settings, home).identify()
        # Verified once: a run ends by its own limit, and its token may end before.
        authentic = dataclasses.replace(found.principal, assurance=starter.principal.assurance)
        found = Identity(principal=authentic, tenant=starter.tenant)
    return found


def _with_admin(found: Identity, *, admin: bool) -> Identity:
    return dataclasses.replace(found, principal=dataclasses.replace(found.principal, admin=admin))


def _with_rights(found: Identity, case: UseCase) -> Identity:
    """Return the identity with its rights in the use case, whose `clearance` bounds that of a token."""
    principal = found.principal
    rights = found.rights(case.rights(principal.name, principal.assurance))
    return dataclasses.replace(found, principal=dataclasses.replace(principal, **rights))


def narrowed(found: Identity, principal: Principal) -> Identity:
    """Return the identity with a principal of its own rights or fewer; raise RefusedError for more."""
    if raised := identity.beyond(principal, found.principal):
        raise RefusedError(
            f"{found.principal} may not be bound to a principal with more rights: {'; '.join(raised)}",
            hint="rights come from params.yaml and from tokens: ws.bind(token=…), docs/identity.md",
        )
    return dataclasses.replace(found, principal=principal)


def tenant_of(found: Identity, stated: str | None, run: str | None) -> str | None:
    """Return the tenant that a token, a caller or a run names, or None if none does.

    Raise RefusedError for another tenant than the token's, and ConfigError for an empty name, which would
    be read as none.
    """
    named = run if stated is None else arguments.text(stated, "tenant")
    if stated is not None and not named:
        raise ConfigError("the tenant is empty", hint="name a tenant, or leave it out")
    if found.tenant and named is not None and named != found.tenant:
        raise RefusedError(
            f"{found.principal} is of tenant {found.tenant!r} by its token or key, "
            f"and asks for tenant {named!r}",
            hint=f"leave the tenant out, or name {found.tenant!r}",
        )
    return found.tenant or named


def tenant_of_command(root: Path, stated: str | None) -> str | None:
    """Return the tenant that a command acts on: that of the process's token, else the stated one.

    Raise RefusedError for another tenant than the token's, and as the provider of params.yaml does.
    """
    return tenant_of(provider_of(config.load_params(root).identity, root).identify(), stated or None, None)


def check_of_process(root: Path, case: UseCase, found: Identity, *, what: str) -> None:
    """Raise RefusedError unless an identity is that of this process, for a verb that the process makes.

    `what` is the verb with its object, such as "promote job/answers".
    """
    own = _with_rights(mover(root), case).principal
    if found.principal != own:
        raise RefusedError(
            f"{found.principal} may not {what} here: this process acts for {own}, or with other rights",
            hint="connect again without token= and principal=, or run the command in a process of its own",
        )


def check_current(found: Identity, clock: Clock) -> None:
    """Raise RefusedError when the token of an identity has ended."""
    if found.expires is not None and clock.now().timestamp() >= _end(found.expires):
        raise refused(
            f"the token of {found.principal} expired at {found.expires}",
            hint="connect again with a new token, or ws.bind(token=…)",
        )


@functools.lru_cache(maxsize=10_000)
def _end(expires: str) -> float:
    # Read once: reading a time takes longer than all else that a call checks.
    return moment(expires).timestamp() + SKEW_S


def check_unchanged(found: Identity, principal: Principal, tenant: str) -> None:
    """Raise RefusedError unless principal and tenant of a context are those of the identity."""
    plain = identity.is_plain(principal) and type(tenant) is str  # another class compares as it likes
    if not plain or principal != found.principal or found.tenant not in {"", tenant}:
        raise RefusedError(
            f"the principal and tenant {tenant!r} of a workspace's context are not those of its identity, "
            f"{found.principal}{f' of tenant {found.tenant!r}' if found.tenant else ''}",
            hint="ws.bind(principal=…) takes fewer rights, ws.bind(token=…) those of a token",
        )
