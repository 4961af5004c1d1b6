"""Identity provider of OpenID Connect: a verified token authenticates a user."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench import files
from workbench.config import IdentitySettings
from workbench.context import Clock, SystemClock, instant
from workbench.identities.keys import file_keys, remote_keys
from workbench.identities.tokens import (
    IssuerKeys,
    checked_clearance,
    checked_groups,
    checked_name,
    moment_at,
    refused,
    token_text,
    verified,
)
from workbench.identity import Principal
from workbench.ports.identity import Identity
from workbench.types import MOST_CLASSIFIED

_MOST_BYTES = 100_000


class OIDCProvider:
    """Identifies the bearer of a token by the issuer, audience and keys of params.yaml.

    `root` is the repository of the keys' file. `keys` replaces the keys of the settings.
    """

    name = "oidc"

    def __init__(
        self,
        settings: IdentitySettings,
        root: Path,
        *,
        clock: Clock | None = None,
        keys: IssuerKeys | None = None,
    ) -> None:
        self.settings, self._root = settings, root
        self._clock, self._keys = clock or SystemClock(), keys

    def identify(self, token: str | None = None) -> Identity:
        """Return the identity of a token, by default that of the process.

        Raise RefusedError without a token and for one that is invalid, ConfigError for a file of keys that
        cannot be read, and UnavailableError when the keys cannot be fetched.
        """
        where = "the token" if token is not None else f"the token in {self.settings.place}"
        token = self.token() if token is None else token
        if token is None:
            missing = f"{self.settings.place} holds none" if self.settings.place else "none was passed"
            raise refused(f"params.yaml identifies callers by a token, and {missing}", hint=self._hint())
        claims = verified(token, self.settings, self._of_issuer(), now=self._clock.now(), where=where)
        return self._identity(claims, where)

    def token(self) -> str | None:
        """Return the token of the process, or None if neither variable nor file holds one."""
        settings = self.settings
        if settings.token_env is not None:
            return os.environ.get(settings.token_env, "").strip() or None
        if settings.token_file is None:
            return None
        path = self._root / settings.token_file
        if not path.exists():
            return None
        return token_text(files.read_text(path, limit=_MOST_BYTES), where=str(path))

    def principal(self, claims: Mapping[str, Any], where: str) -> Principal:
        """Return the user that the claims name, without rights."""
        name = self.settings.claims.name
        return Principal(name=checked_name(claims.get(name), name, where), assurance="authenticated")

    def _identity(self, claims: Mapping[str, Any], where: str) -> Identity:
        stated = self.settings.claims
        rights: dict[str, Any] = {}
        if stated.groups is not None:
            found = checked_groups(claims.get(stated.groups), stated.groups, where)
            rights["groups"] = tuple(dict.fromkeys(("everyone", *found)))
        if stated.clearance is not None:
            rights["clearance"] = checked_clearance(
                claims.get(stated.clearance), stated.clearance, where, most=MOST_CLASSIFIED
            )
        return Identity(
            principal=dataclasses.replace(self.principal(claims, where), **rights),
            tenant="" if stated.tenant is None else self._tenant(claims, stated.tenant, where),
            expires=instant(moment_at(claims["exp"])),
            stated=frozenset(rights),
        )

    def _tenant(self, claims: Mapping[str, Any], claim: str, where: str) -> str:
        if claim not in claims:
            raise refused(
                f"{where} states no tenant: it lacks the claim {claim!r}",
                hint="ask the issuer for it; without identity.claims.tenant a token needs none",
            )
        return checked_name(claims[claim], claim, where)

    def _of_issuer(self) -> IssuerKeys:
        if self._keys is not None:
            return self._keys
        stated = str(self.settings.keys)
        return remote_keys(stated) if self.settings.remote else file_keys(self._root / stated)

    def _hint(self) -> str:
        if self.settings.token_env is not None:
            return f"export {self.settings.token_env}=…, or wb.connect(…, token=…)"
        if self.settings.token_file is not None:
            return f"write it to {self.settings.token_file}, or wb.connect(…, token=…)"
        return "wb.connect(…, token=…), or name token_env under identity in params.yaml"
