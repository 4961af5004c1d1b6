"""Issue, rotate and revoke API keys of the gateway: acts that the policies decide and the audit log has."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from workbench import config, registry
from workbench.audit import Act, audited
from workbench.context import Clock, SystemClock, instant, moment
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.files import shortened, writing
from workbench.identities.api_keys import ApiKey, KeyRights, digest_of, new_secret
from workbench.identities.key_store import not_replaceable, unknown_key
from workbench.identities.known_keys import open_key_store
from workbench.identities.providers import identity_of_process
from workbench.policy.authorise import authorise, system_context
from workbench.ports.policy import Resource
from workbench.workspace import caller_identity
from workbench.workspace.history import hidden_use_cases

#: Days after which a key ends unless it is told otherwise, and most days of a key.
DEFAULT_DAYS: Final = 90
MOST_DAYS: Final = 3_650


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A new key and its secret, which nothing keeps."""

    key: ApiKey
    secret: str = field(repr=False)


class KeyAdmin:
    """The API keys of the repository in `root`, for the user of this process."""

    def __init__(self, root: Path, *, clock: Clock | None = None) -> None:
        self._root, self._clock = root, clock or SystemClock()
        self._params = config.load_params(root)
        self._store = open_key_store(root, self._params)

    def issue(self, rights: KeyRights, *, days: int = DEFAULT_DAYS, out: Path | None = None) -> IssuedKey:
        """Return a new key that ends after `days`; with `out` its secret is written to that new file too.

        Raise ConfigError and NotFoundError for rights that no key can have, PolicyError unless the policies
        permit it, and RefusedError for another tenant than that of the process's token.
        """
        rights = self._checked(rights)
        made = self._made(rights, expires=self._after(_checked_days(days)))
        with self._act("issue_key", made.key), _written(out, made.secret):
            self._store.add(made.key)
        return made

    def rotate(
        self, key: str, *, overlap_hours: float = 24.0, days: int | None = None, out: Path | None = None
    ) -> IssuedKey:
        """Return a key with the rights of another, which ends after the overlap; it never lives longer.

        The new one lives as long as the old one was meant to, or `days`. Raise NotFoundError for a key that
        is unknown, revoked, expired or was rotated before, and otherwise as `issue` does.
        """
        if not 0 <= overlap_hours <= 24 * MOST_DAYS:
            raise ConfigError(
                f"--overlap {overlap_hours:g} is not a number of hours from 0 to {24 * MOST_DAYS}"
            )
        old = self.find(key)
        if old.state(instant(self._clock.now())) != "active" or old.replaced_by:
            raise not_replaceable(key)
        life = _life(old) if days is None else dt.timedelta(days=_checked_days(days))
        made = self._made(old.rights, expires=self._after(life))
        ends = instant(self._clock.now() + dt.timedelta(hours=overlap_hours))
        with self._act("rotate_key", made.key, replaces=old.id, ends=ends), _written(out, made.secret):
            self._store.add(made.key, replacing=old.id, ends=ends)
        return made

    def revoke(self, key: str, *, reason: str = "") -> bool:
        """Revoke a key for every process at once; return False when it was revoked before.

        Raise NotFoundError for an unknown key, and PolicyError unless the policies permit it.
        """
        found = self.find(key)
        with self._act("revoke_key", found, reason=reason):
            return self._store.revoke(key, at=instant(self._clock.now()))

    def listed(self) -> list[ApiKey]:
        """Return the keys of use cases whose admin the user is and of its token's tenant, oldest first."""
        found = identity_of_process(self._params.identity, self._root)
        hidden = hidden_use_cases(self._root, found.principal)
        return [
            key
            for key in self._store.listed()
            if hidden.isdisjoint(self._use_cases(key.rights)) and found.tenant in ("", key.rights.tenant)
        ]

    def find(self, key: str) -> ApiKey:
        """Return a key of the list by its id; raise NotFoundError for another id."""
        for known in self.listed():
            if known.id == key:
                return known
        raise unknown_key(key)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _made(self, rights: KeyRights, *, expires: str) -> IssuedKey:
        name, secret = new_secret()
        by = identity_of_process(self._params.identity, self._root).principal
        key = ApiKey(
            id=name,
            digest=digest_of(secret),
            rights=rights,
            issued=instant(self._clock.now()),
            issued_by=by.name,
            expires=expires,
        )
        return IssuedKey(key=key, secret=secret)

    def _after(self, life: dt.timedelta | int) -> str:
        passed = life if isinstance(life, dt.timedelta) else dt.timedelta(days=life)
        return instant(self._clock.now() + passed)

    def _use_cases(self, rights: KeyRights) -> tuple[str, ...]:
        return tuple(self._params.use_cases) if rights.use_cases is None else rights.use_cases

    def _checked(self, rights: KeyRights) -> KeyRights:
        """Return the rights with the tenant of the process's token; raise for names that there are not."""
        found = identity_of_process(self._params.identity, self._root)
        tenant = caller_identity.tenant_of(found, rights.tenant or None, None) or ""
        rights = dataclasses.replace(rights, tenant=tenant)
        rights.check()
        _check_known("use case", rights.use_cases, self._params.use_cases)
        cases = [self._params.use_cases[name] for name in self._use_cases(rights)]
        if tenant and not any(tenant in case.tenants for case in cases):
            _check_known("tenant", (tenant,), {name for case in cases for name in case.tenants})
        models = {*registry.names(self._root, "model"), *(case.model_name for case in cases)}
        _check_known("model", rights.models, models)
        _check_known("memory", rights.memories, registry.names(self._root, "memory"))
        return rights

    @contextlib.contextmanager
    def _act(self, activity: str, key: ApiKey, *, reason: str = "", **facts: str) -> Iterator[None]:
        """Log an act on a key, and let the policies decide it for each use case of the key."""
        found = identity_of_process(self._params.identity, self._root)
        rights = key.rights
        about = {"use_cases": list(rights.use_cases or ()), "expires": key.expires, **facts}
        act = Act(
            activity=activity, principal=found.principal, type="ApiKey", name=key.id, tenant=rights.tenant,
            reason=reason, facts={name: value for name, value in about.items() if value},
        )  # fmt: skip
        resource = Resource(
            type="ApiKey", id=key.id, tenant=rights.tenant, attributes={"principal": rights.principal}
        )
        with audited(self._root, act) as noted:
            for name in self._use_cases(rights):
                base = system_context(self._root, name, purpose="keys", found=found)
                context = dataclasses.replace(base, tenant=rights.tenant)
                noted["decision"] = authorise(self._root, context, "manage_keys", resource).to_json()
            yield


def _checked_days(days: int) -> int:
    if not 1 <= days <= MOST_DAYS:
        raise ConfigError(f"--days must be from 1 to {MOST_DAYS}, found {days}", hint="--days 30")
    return days


def _life(key: ApiKey) -> dt.timedelta:
    if not key.expires:
        return dt.timedelta(days=DEFAULT_DAYS)
    return moment(key.expires) - moment(key.issued)


def _check_known(what: str, stated: Iterable[str] | None, known: Iterable[str]) -> None:
    names = set(known)
    for name in stated or ():
        # Only models are limited by their version.
        if name not in names and not (what == "model" and name.partition("@")[0] in names):
            raise NotFoundError(
                f"there is no {what} {shortened(name)!r} ({nearest(name, names)})",
                hint=f"workbench keys issue --{what.replace(' ', '-')} NAME",
            )


@contextlib.contextmanager
def _written(out: Path | None, secret: str) -> Iterator[None]:
    """Write the secret to a new file that its owner alone may read; remove it when the block fails."""
    if out is None:
        yield
        return
    try:
        with writing(out):
            descriptor = os.open(out, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    except Exception as error:
        if isinstance(error.__cause__, FileExistsError):
            raise ConfigError(f"--out {out}: the file exists", hint="name a new file") from None
        raise
    try:
        with writing(out), os.fdopen(descriptor, "w") as file:
            file.write(f"{secret}\n")
            file.flush()
            os.fsync(file.fileno())
        yield
    except BaseException:
        out.unlink(missing_ok=True)
        raise
