"""Verify a JSON Web Token: its signature, issuer, audience, times and required claims."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final, Protocol, get_args

from workbench.config import IdentitySettings
from workbench.config.identity import Algorithm
from workbench.context import instant
from workbench.errors import ConfigError, RefusedError

#: Seconds by which the clocks of the issuer and of this machine may differ.
SKEW_S: Final = 60
#: Most characters of a token; headers of HTTP carry less.
_MOST_CHARACTERS = 16_384
#: Seconds since 1970 up to which a time of a token is believed: the year 9999.
_LAST_SECOND = 253_402_300_799


class IssuerKeys(Protocol):
    """The public keys of an issuer."""

    def find(self, kid: str | None, algorithm: str) -> Any:
        """Return the key with an id that signs by the algorithm, or None."""


def verified(
    token: str, settings: IdentitySettings, keys: IssuerKeys, *, now: dt.datetime, where: str
) -> dict[str, Any]:
    """Return the claims of a token that the issuer signed for this audience and that is valid now.

    Raise RefusedError with `where`, the token's place, for any other; no message repeats the token.
    UnavailableError and ConfigError are those of `keys`.
    """
    import jwt

    if type(token) is not str or not token.isascii() or len(token) > _MOST_CHARACTERS:
        raise refused(f"{where} holds no token of up to {_MOST_CHARACTERS} ASCII characters")
    algorithm, kid = _header(token, settings, where)
    key = keys.find(kid, algorithm)
    if key is None:
        raise refused(
            f"{where} is signed with a key that {settings.keys} does not hold for {algorithm}",
            hint="fetch the issuer's keys again, if they are in a file; else ask who issued the token",
        )
    try:
        claims = jwt.decode(
            token, key, algorithms=[algorithm], audience=settings.audience, issuer=settings.issuer,
            options={"require": ["iss", "aud", "exp"], "verify_exp": False, "verify_nbf": False,
                     "verify_iat": False},
        )  # fmt: skip
    except jwt.PyJWTError as error:
        raise _invalid(where, settings, error) from None
    _check_times(claims, now=now, where=where)
    _check_required(claims, settings.require, where)
    return claims


def refused(message: str, *, hint: str = "") -> RefusedError:
    """Return the error for a token that proves nothing, with the reason `identity`."""
    error = RefusedError(message, hint=hint or "get a token of the issuer in params.yaml (docs/identity.md)")
    error.reason = "identity"
    return error


def _header(token: str, settings: IdentitySettings, where: str) -> tuple[str, str | None]:
    """Return the algorithm and the key id of a token's header, which nothing has verified yet."""
    import jwt

    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise refused(f"{where} holds no signed JSON Web Token") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in settings.algorithms:  # also "none", and signatures by a shared secret
        permitted = ", ".join(settings.algorithms)
        add = ", or add it to identity.algorithms of params.yaml" if algorithm in get_args(Algorithm) else ""
        raise refused(
            f"{where} is signed by {str(algorithm)[:20]!r}, and identity.algorithms permits {permitted}",
            hint=f"ask the issuer for a token with a permitted signature{add}",
        )
    if "crit" in header or header.get("b64") is False or not (kid is None or type(kid) is str):
        raise refused(f"{where} has a header that asks for more than a signature")
    return str(algorithm), kid


def _invalid(where: str, settings: IdentitySettings, error: Exception) -> RefusedError:
    import jwt

    match error:
        case jwt.InvalidAudienceError():
            return refused(f"{where} is for another audience than {settings.audience!r}")
        case jwt.InvalidIssuerError():
            return refused(f"{where} is of another issuer than {settings.issuer!r}")
        case jwt.MissingRequiredClaimError():
            return refused(f"{where} lacks the claim {error.claim!r}")
        case jwt.InvalidSignatureError():
            return refused(f"{where} has a signature that its issuer did not make")
    return refused(f"{where} is no valid token: {type(error).__name__}")


def _check_times(claims: Mapping[str, Any], *, now: dt.datetime, where: str) -> None:
    seconds = now.timestamp()
    if (ended := _second(claims["exp"], "exp", where)) <= seconds - SKEW_S:
        raise refused(
            f"{where} expired at {instant(moment_at(ended))}",
            hint="get a new token; a difference of the clocks of up to 60 s is allowed",
        )
    for claim, event in (("nbf", "is valid"), ("iat", "was issued")):
        if claim in claims and (begins := _second(claims[claim], claim, where)) > seconds + SKEW_S:
            raise refused(
                f"{where} {event} only from {instant(moment_at(begins))}",
                hint="set the clock of this machine: date -u",
            )


def moment_at(second: float) -> dt.datetime:
    """Return a number of seconds since 1970 as a time in UTC."""
    return dt.datetime.fromtimestamp(second, dt.UTC)


def _second(value: object, claim: str, where: str) -> float:
    # NaN is in no range, and a whole number of any length is compared exactly.
    if type(value) in {int, float} and 0 <= value <= _LAST_SECOND:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    raise refused(f"{where} has a claim {claim!r} that is no time")


def _check_required(
    claims: Mapping[str, Any], require: Mapping[str, str | tuple[str, ...]], where: str
) -> None:
    for claim, stated in require.items():
        permitted = (stated,) if isinstance(stated, str) else stated
        if claims.get(claim) not in permitted:
            raise refused(
                f"{where} has no permitted value of the claim {claim!r}, which identity.require states",
                hint=f"permitted: {', '.join(permitted)}; docs/identity.md describes identity.require",
            )


def checked_name(value: object, claim: str, where: str) -> str:
    """Return a claim that names somebody; raise RefusedError for a text that could pass for another name."""
    if type(value) is not str or not value.strip() or len(value) > 250 or not value.isprintable():
        raise refused(
            f"{where} has no name in the claim {claim!r}",
            hint="identity.claims of params.yaml says which claim holds it",
        )
    if value != value.strip() or value.startswith(("principal:", "job:", "ci:")):
        raise refused(f"{where}: the claim {claim!r} holds a name that the workbench gives itself")
    return value


def checked_groups(value: object, claim: str, where: str) -> tuple[str, ...]:
    """Return the groups of a claim: a list of texts, or one text; none for a token without the claim."""
    items = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(items, list):
        raise refused(f"{where}: the claim {claim!r} holds no list of groups")
    return tuple(dict.fromkeys(checked_name(item, claim, where) for item in items))


def checked_clearance(value: object, claim: str, where: str, *, most: int) -> int:
    """Return the clearance of a claim, a whole number from 0; 0 for a token without the claim."""
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= most:
        raise refused(f"{where}: the claim {claim!r} holds no clearance from 0 to {most}")
    return value


def token_text(text: str, *, where: str) -> str:
    """Return the token in a file or a variable, without the spaces and line breaks around it."""
    if not (token := text.strip()):
        raise ConfigError(f"{where} is empty", hint="it holds one JSON Web Token")
    return token
