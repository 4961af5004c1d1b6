"""The gateway's half of the verbs on records: `calls`, `costs`, `budget` and the others of a workspace."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import orjson

from workbench import files
from workbench.errors import ConfigError
from workbench.gateway.exchange import GatewayExchange as Exchange
from workbench.gateway.exchange import encoded as headers
from workbench.gateway.failures import told
from workbench.gateway.gateway import Gateway, Stated
from workbench.gateway.native_routes import check_version
from workbench.identities.grants import Grant
from workbench.identity import Assurance, Principal
from workbench.remote.failures import failure_of
from workbench.remote.protocol import HEADER, MOST_BYTES, MOST_LEVELS, VERSION
from workbench.wire.shape import is_deeper
from workbench.workspace.gateway_verbs import check_verb, decoded_argument, encoded
from workbench.workspace.workspace import Workspace

_HEAD: Final = headers({"content-type": "application/json", HEADER: VERSION})


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedPrincipal:
    """A principal as a caller states it: its own, with fewer rights."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    name: str
    kind: str = "user"
    groups: tuple[str, ...] = ()
    clearance: int = 0
    assurance: Assurance = "asserted"
    admin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedVerb:
    """What a caller states of a verb: the workspace that it is bound to, and the arguments."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    use_case: str
    tenant: str | None = None
    purpose: str | None = None
    session: str | None = None
    subject: str | None = None
    principal: StatedPrincipal | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, body: bytes) -> AskedVerb:
        """Return what the body of a request states; raise ConfigError, which names the field, otherwise."""
        try:
            raw = orjson.loads(body)
        except ValueError as error:
            raise ConfigError(f"the body of the verb is not JSON: {error}") from None
        if not isinstance(raw, dict) or is_deeper(body, raw, MOST_LEVELS):
            what = f"nested deeper than {MOST_LEVELS} levels" if isinstance(raw, dict) else "no object"
            raise ConfigError(f"the body of the verb is {what}")
        return files.parse(cls, raw, where="the body of the verb")


async def answer_verbs(gateway: Gateway, exchange: Exchange, grant: Grant) -> None:
    """Answer a verb on records that a caller states, or its error."""
    check_version(exchange)
    try:
        verb = check_verb(exchange.scope["path_params"]["name"])
        asked = AskedVerb.read(await exchange.body(most=min(MOST_BYTES, gateway.most_bytes)))
        stated = Stated(
            use_case=asked.use_case, tenant=asked.tenant, purpose=asked.purpose, session=asked.session,
            subject=asked.subject,
        )  # fmt: skip
        async with gateway.entered(grant, stated) as caller:
            status, body = 200, await answer_verb(caller.ws, verb, asked)
    except Exception as error:  # noqa: BLE001 - the caller gets every error, as JSON
        status, body = 400, json.dumps({"error": failure_of(told(error, gateway.root, grant))}).encode()
    await exchange.whole(status, body, _HEAD)


async def answer_verb(ws: Workspace, verb: str, asked: AskedVerb) -> bytes:
    """Return the result of a workspace's verb as JSON; raise the error of the verb.

    `ws` is bound as the caller's grant and `asked` say, except for its lesser rights.
    """
    check_verb(verb)
    if asked.principal is not None:
        ws = ws.bind(principal=Principal(**_fields(asked.principal)))
    try:
        arguments = {name: decoded_argument(value) for name, value in asked.arguments.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the arguments of {verb} have another form: {type(error).__name__}: {str(error)[:200]}"
        ) from None
    found = await asyncio.to_thread(_called, ws, verb, arguments)
    return json.dumps({"result": found}).encode()


def _called(ws: Workspace, verb: str, arguments: Mapping[str, Any]) -> Any:
    try:
        found = getattr(ws, verb)(**arguments)
    except TypeError as error:  # an argument that the verb of this version does not have
        raise ConfigError(
            f"{verb}: {error}", hint="workbench gateway stop   # then repeat the call"
        ) from None
    return encoded(found.record if verb == "why" else found)


def _fields(stated: StatedPrincipal) -> dict[str, Any]:
    return {item.name: getattr(stated, item.name) for item in dataclasses.fields(stated)}
