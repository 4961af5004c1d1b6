"""Grants: what a key or a token lets its bearer do, and who checks the `Authorization` of a request."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import hashlib
import hmac
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from workbench import config
from workbench.config import IdentitySettings, UseCase
from workbench.context import Clock, SystemClock, moment
from workbench.errors import RefusedError, UnauthenticatedError
from workbench.identities import api_keys, owner_token
from workbench.identities.api_keys import ApiKey
from workbench.identities.known_keys import KnownKeys, open_key_store
from workbench.identities.providers import provider_of
from workbench.identities.system import SystemProvider
from workbench.identities.tokens import SKEW_S, refused
from workbench.identity import GrantKind, GrantScope, Principal
from workbench.ports.identity import Identity

#: Most characters of the header; servers of HTTP pass less.
_MOST_CHARACTERS: Final = 20_000
#: Seconds for which a verified token of an issuer is not verified again, and most tokens that are kept.
_VERIFIED_S: Final = 60.0
_MOST_TOKENS: Final = 1_000
#: Most names of a scope that an error shows.
_MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Who a request is from, how that is known, and what it may use.

    `identity` has the rights that the key or token states; `identity_in` adds those of a use case.
    `use_cases` None is every use case. Without `admin` the bearer is no admin of any use case.
    """

    identity: Identity
    scope: GrantScope = field(default_factory=GrantScope)
    use_cases: frozenset[str] | None = None
    admin: bool = False

    @property
    def kind(self) -> GrantKind:
        """What let the caller in: "key", "oidc", "owner" or "run"."""
        return self.scope.kind

    @property
    def api_key(self) -> str:
        """The id of the API key; "" for a caller without one."""
        return self.scope.api_key

    @property
    def is_scoped(self) -> bool:
        """Whether some use case of a repository may be outside of the grant."""
        return self.use_cases is not None or bool(self.identity.tenant)

    def check_purpose(self, purpose: str) -> None:
        """Raise RefusedError for a purpose that the grant does not name."""
        if self.scope.purposes is not None and purpose not in self.scope.purposes:
            raise self.refusal("purpose", purpose, self.scope.purposes)

    def identity_in(self, name: str, case: UseCase) -> Identity:
        """Return the identity with its rights in a use case; raise RefusedError for one outside of the grant.

        Groups and clearance that the key or token does not state are the use case's, and the use case bounds
        the clearance. A tenant that the use case does not have is refused.
        """
        found, principal = self.identity, self.identity.principal
        named = self.use_cases is None or name in self.use_cases
        if not named or (found.tenant and found.tenant not in case.tenants):
            raise self.refusal("use case", name, self.use_cases or ())
        rights = found.rights(case.rights(principal.name, principal.assurance))
        rights["admin"] = rights["admin"] and self.admin
        return dataclasses.replace(found, principal=dataclasses.replace(principal, **rights))

    def refusal(self, what: str, name: str, permitted: Collection[str]) -> RefusedError:
        """Return the error for a use case, a purpose or another thing that the grant is not for."""
        shown = ", ".join(sorted(permitted)[:_MOST_NAMED])
        error = RefusedError(
            f"the {'API key ' + self.api_key if self.api_key else 'grant'} of {self.identity.principal} is "
            f"not for the {what} {name[:80]!r}{f' (it is for: {shown})' if shown else ''}",
            hint="workbench keys issue   # a key with another scope, docs/keys.md",
            status=403,
        )
        error.reason = "scope"
        return error


class Authenticator:
    """Checks the header `Authorization` of requests to the repository in `root`.

    It accepts the owner's token, API keys, and tokens of the issuer that params.yaml names. Threads may share
    one; several processes may use one repository.
    """

    def __init__(self, root: Path, *, clock: Clock | None = None) -> None:
        self._root = root
        self._clock = clock or SystemClock()
        self._tokens = _VerifiedTokens(root, self._clock)
        self._opening = threading.Lock()
        self._keys: KnownKeys | None = None
        self._grants: dict[str, tuple[ApiKey, Grant]] = {}
        self._own: Grant | None = None

    def grant(self, authorization: str | None) -> Grant:
        """Return the grant of a request's header, `Bearer KEY`.

        Raise UnauthenticatedError, with one text for each fault, for a header without a key or token and for
        one that is wrong, unknown, expired or revoked. UnavailableError and ConfigError are those of the
        store of keys and of the issuer.
        """
        secret = _bearer(authorization)
        if secret.startswith(api_keys.PREFIX):
            return self._of_key(secret)
        if secret.startswith(owner_token.PREFIX):
            return self._of_owner(secret)
        return self._tokens.grant(secret)

    def _of_key(self, secret: str) -> Grant:
        if self._keys is None:
            with self._opening:
                self._keys = self._keys or KnownKeys(open_key_store(self._root), self._clock)
        key = self._keys.find(secret)
        if key is None:
            raise unauthenticated()
        kept = self._grants.get(key.id)
        if kept is None or kept[0] is not key:  # the key was read again
            kept = self._grants[key.id] = key, grant_of(key)
        return kept[1]

    def _of_owner(self, secret: str) -> Grant:
        known = owner_token.owner_digest(self._root)
        if not hmac.compare_digest(hashlib.sha256(secret.encode()).digest(), known):
            raise unauthenticated()
        if (settings := config.load_params(self._root).identity).provider != "system":
            raise refused(
                "params.yaml identifies callers by the tokens of an issuer, and the owner's token is none",
                hint=f"send a token of {settings.issuer} instead (docs/identity.md)",
            )
        if self._own is None:
            who = SystemProvider().identify()
            self._own = Grant(identity=who, scope=GrantScope(kind="owner"), admin=True)
        return self._own


class _VerifiedTokens:
    """Grants of an issuer's tokens; one that was verified is not verified again for a minute."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root, self._clock = root, clock
        self._lock = threading.Lock()
        self._kept: collections.OrderedDict[bytes, tuple[Grant, float]] = collections.OrderedDict()
        self._settings: IdentitySettings | None = None

    def grant(self, token: str) -> Grant:
        settings = config.load_params(self._root).identity
        if settings.provider == "system":
            raise unauthenticated()
        name, now = hashlib.sha256(token.encode()).digest(), self._clock.now()
        found = self._known(name, settings, now)
        if found is None:
            try:
                identity = provider_of(settings, self._root, clock=self._clock).identify(token)
            except RefusedError as error:
                raise unauthenticated() from error
            found = Grant(identity=identity, scope=GrantScope(kind="oidc"), admin=True)
            self._keep(name, found, now)
        return found

    def _known(self, name: bytes, settings: IdentitySettings, now: dt.datetime) -> Grant | None:
        with self._lock:
            if settings is not self._settings and settings != self._settings:
                self._settings = settings
                self._kept.clear()
            grant, until = self._kept.get(name, (None, 0.0))
        # A time before the verification is a clock that was set back: the token is verified again.
        fresh = until - _VERIFIED_S <= now.timestamp() < until
        return grant if fresh else None

    def _keep(self, name: bytes, grant: Grant, now: dt.datetime) -> None:
        until = now.timestamp() + _VERIFIED_S
        if grant.identity.expires is not None:
            until = min(until, moment(grant.identity.expires).timestamp() + SKEW_S)
        with self._lock:
            self._kept[name] = grant, until
            self._kept.move_to_end(name)
            while len(self._kept) > _MOST_TOKENS:
                self._kept.popitem(last=False)


def grant_of(key: ApiKey) -> Grant:
    """Return what an API key grants while it is active."""
    rights, stated = key.rights, dict[str, Any]()
    if rights.groups is not None:
        stated["groups"] = tuple(dict.fromkeys(("everyone", *rights.groups)))
    if rights.clearance is not None:
        stated["clearance"] = rights.clearance
    principal = Principal(name=rights.principal, kind=rights.kind, assurance="authenticated", **stated)
    return Grant(
        identity=Identity(
            principal=principal,
            tenant=rights.tenant,
            expires=key.expires or None,
            stated=frozenset(stated),
        ),
        scope=GrantScope(
            kind="key",
            api_key=key.id,
            purposes=_names(rights.purposes),
            models=_names(rights.models),
            memories=_names(rights.memories),
            budget=rights.budget,
        ),
        use_cases=_names(rights.use_cases),
        admin=rights.admin,
    )


def _names(stated: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if stated is None else frozenset(stated)


def unauthenticated() -> UnauthenticatedError:
    """Return the error for a request that nothing identifies; it says the same of every fault."""
    return UnauthenticatedError(
        "the request has no valid key or token",
        hint="send the header 'Authorization: Bearer KEY'; workbench keys issue makes a key",
    )


def _bearer(authorization: str | None) -> str:
    """Return the key or token of a header; raise UnauthenticatedError for another header."""
    if type(authorization) is not str or len(authorization) > _MOST_CHARACTERS:
        raise unauthenticated()
    scheme, _, secret = authorization.partition(" ")
    secret = secret.strip(" ")
    if scheme.lower() != "bearer" or not secret.isascii() or not secret.isprintable() or not secret:
        raise unauthenticated()
    return secret
