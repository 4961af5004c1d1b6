"""The section `identity` of params.yaml: who says who is calling, and what verifies a token."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from workbench import files
from workbench.config.forms import check_inside
from workbench.errors import ConfigError

Provider = Literal["system", "oidc", "ci"]
#: Signatures with a public key. One with a shared secret is none: whoever verifies it could forge it.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FOR_TOKENS = ("issuer", "audience", "keys", "token_env", "token_file", "require")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenClaims:
    """The claims of a token that hold a principal's name, groups, clearance and tenant.

    Without a claim for groups or clearance, those of the use case apply; without one for the tenant, a
    principal may be bound to every tenant of the use case.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    name: str = "sub"
    groups: str | None = None
    clearance: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """The identity provider of a repository: the operating system, or the issuer of tokens.

    `keys` is a JWKS file in the repository or its https address. The token of a process is read from the
    environment variable `token_env` or the file `token_file`. `require` lists claims and their permitted
    values.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    provider: Provider = "system"
    issuer: str | None = None
    audience: str | None = None
    keys: str | None = None
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256", "EdDSA")
    token_env: str | None = None
    token_file: str | None = None
    claims: TokenClaims = field(default_factory=TokenClaims)
    require: dict[str, str | tuple[str, ...]] = field(default_factory=dict)

    @property
    def remote(self) -> bool:
        """Whether the keys are at an address instead of in a file."""
        return (self.keys or "").startswith("https://")

    @property
    def place(self) -> str:
        """Where the token of a process is, for messages; empty when only callers pass tokens."""
        if self.token_env is not None:
            return f"the environment variable {self.token_env}"
        return f"the file {self.token_file}" if self.token_file is not None else ""


def check_identity(settings: IdentitySettings, demanding: Iterable[str], *, where: str) -> None:
    """Raise ConfigError for a provider that cannot identify, or cannot give what use cases demand.

    `demanding` are the use cases with `assurance: authenticated`.
    """
    at = f"{where}: identity"
    if settings.provider == "system":
        if stated := [key for key in _FOR_TOKENS if getattr(settings, key)]:
            raise ConfigError(
                f"{at}.{stated[0]} is for tokens, but the provider is the operating system",
                hint="add provider: oidc (or ci) to identity, or remove the key",
            )
        for name in demanding:
            raise ConfigError(
                f"{where}: use_cases.{name}.assurance is authenticated, but the operating system only "
                "asserts names",
                hint="state an issuer of tokens under identity (docs/identity.md), or remove the key",
            )
        return
    _check_issuer(settings, at)
    _check_token_source(settings, at)
    if any(not claim or not values for claim, values in settings.require.items()):
        raise ConfigError(f"{at}.require names a claim without a value", hint="require: {CLAIM: VALUE}")
    if settings.provider == "ci" and not settings.require:
        raise ConfigError(
            f"{at}.require is missing: the issuer of a CI signs tokens for every repository that it serves",
            hint="name this repository, for example require: {repository: acme/answers}",
        )


def _check_issuer(settings: IdentitySettings, at: str) -> None:
    for key in ("issuer", "audience", "keys"):
        if not getattr(settings, key):
            raise ConfigError(
                f"{at}.{key} is missing: a token cannot be verified without it",
                hint=f"write {key}: … under identity; docs/identity.md has an example",
            )
    keys = settings.keys or ""
    if settings.remote:
        parts = urlsplit(keys)
        if not parts.hostname or parts.username or parts.password:
            raise ConfigError(
                f"{at}.keys must be https://HOST/PATH, without a user or a password",
                hint="for example keys: https://login.example.com/jwks",
            )
    elif "://" in keys:
        raise ConfigError(
            f"{at}.keys: keys are only fetched over https, found {keys.partition('://')[0]!r}",
            hint="keys: https://HOST/PATH, or a file of this repository",
        )
    else:
        check_inside(keys, where=f"{at}.keys")
    if not settings.algorithms:
        raise ConfigError(f"{at}.algorithms is empty", hint="for example algorithms: [RS256]")


def _check_token_source(settings: IdentitySettings, at: str) -> None:
    if settings.token_env is not None and settings.token_file is not None:
        raise ConfigError(f"{at} has both token_env and token_file", hint="keep one of them")
    if settings.token_env is not None and not _VARIABLE.fullmatch(settings.token_env):
        raise ConfigError(
            f"{at}.token_env must be the NAME of an environment variable, not the token",
            hint="for example token_env: WORKBENCH_TOKEN",
        )
    if settings.provider == "ci" and not settings.place:
        raise ConfigError(
            f"{at} names no token: the token of a CI is in an environment variable or a file",
            hint="for example token_env: WORKBENCH_TOKEN",
        )
