"""The keys of providers in the gateway, and the route by which its owner's processes hand them over."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import orjson

from workbench import files, processes
from workbench.errors import ConfigError
from workbench.gateway.exchange import GatewayExchange as Exchange
from workbench.gateway.gateway import Gateway
from workbench.identities.grants import unauthenticated
from workbench.identities.owner_token import owner_digest
from workbench.workspace.provider_keys import stored

_MOST_BYTES: Final = 2**20
#: The processes whose keys this one holds.
_holders: set[int] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedKeys:
    """Keys of providers by their variables, and the process that took them out of its environment."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    keys: dict[str, str] = field(repr=False)
    holder: int = 0


async def answer_secrets(gateway: Gateway, exchange: Exchange) -> None:
    """Take keys of providers from a process of the gateway's owner; raise UnauthenticatedError for another.

    The owner's token counts here also where an issuer identifies the callers of models.
    """
    _, _, secret = (exchange.header(b"authorization") or "").partition(" ")
    if not hmac.compare_digest(hashlib.sha256(secret.encode()).digest(), owner_digest(gateway.root)):
        raise unauthenticated()
    if hold_keys(await exchange.body(most=_MOST_BYTES)):
        gateway.renew()
    await exchange.whole(200, b"{}")


def hold_stored_keys(root: Path) -> None:
    """Hold the keys that `workbench gateway secret set` stored, except those that this process has."""
    missing = {name: key for name, key in stored(root).items() if not os.environ.get(name)}
    hold_keys(orjson.dumps({"keys": missing}))


def hold_keys(body: bytes) -> bool:
    """Hold the keys of providers that JSON states by their variables, and return whether any has changed.

    An empty key removes one. The process `holder` took them out of its environment: while it lives, a private
    gateway does not end, since nobody else has them. Programs that this process starts do not inherit the
    keys. Raise ConfigError for another body.
    """
    try:
        stated = files.parse(HandedKeys, orjson.loads(body), where="the keys of providers")
    except ValueError:
        raise ConfigError("the keys of providers are not JSON") from None
    changed = {name: key for name, key in stated.keys.items() if os.environ.get(name, "") != key}
    processes.inherited(withhold=stated.keys)
    os.environ.update(changed)
    if stated.holder and any(stated.keys.values()):
        _holders.add(stated.holder)
    return bool(changed)


def is_held() -> bool:
    """Return whether a process that handed over its keys still lives."""
    import psutil

    _holders.difference_update([pid for pid in _holders if not psutil.pid_exists(pid)])
    return bool(_holders)
