"""What the gateway serves: a boundary for each use case, and a workspace for each caller."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workbench import config
from workbench.config import Execution, GatewaySettings, Mode, Params
from workbench.errors import ConfigError, RateLimitedError, WorkbenchError
from workbench.gateway.exchange import KEY
from workbench.identities.grants import Authenticator, Grant
from workbench.identities.owner_token import PREFIX as OWNER
from workbench.remote.serving import Serving
from workbench.workspace import boundary
from workbench.workspace.boundary import Boundary
from workbench.workspace.granted import permitted_use_cases, workspace_of
from workbench.workspace.workspace import Workspace

if TYPE_CHECKING:
    from workbench.models.client_requests import Caller
    from workbench.workspace.asked_calls import WorkspaceResolver

_Cards = tuple[tuple[str, int], ...]
_Seen = tuple[Params, _Cards, int]
Authenticate = Callable[[str | None], Grant]
#: Seconds for which the files of cards are not looked at again.
_LOOKED_S: Final = 1.0
#: Workspaces of callers that are kept; the one unused for longest is given up.
_MOST_CALLERS: Final = 2_000
_log = logging.getLogger("workbench.gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What a request states beside its body; None leaves it to the grant, "" to nobody."""

    use_case: str | None = None
    tenant: str | None = None
    purpose: str | None = None
    session: str | None = None
    subject: str | None = None


class ServedCaller:
    """A caller's workspace, and what answers its requests."""

    def __init__(self, ws: Workspace, grant: Grant) -> None:
        self.ws, self.grant = ws, grant

    @cached_property
    def client(self) -> Caller:
        """What the requests of an `openai` client share."""
        return self.ws._caller()  # noqa: SLF001 - the same as that of ws.openai()

    @cached_property
    def resolver(self) -> WorkspaceResolver:
        """What resolves the calls that another workbench states."""
        from workbench.workspace.asked_calls import WorkspaceResolver

        strict = self.grant.kind == "run"
        return WorkspaceResolver(self.ws, scope=grant_key(self.grant), strict=strict)


class _Generation:
    """The boundary of a use case as its files were `seen`, and the callers that it answers."""

    def __init__(self, boundary: Boundary, seen: _Seen) -> None:
        self.boundary, self.seen = boundary, seen
        self.using, self.is_retired = 0, False
        self.callers: OrderedDict[tuple[Grant, Stated], ServedCaller] = OrderedDict()


class Gateway:
    """Answers the requests to the repository in `root`.

    `authenticate` returns the grant of a header `Authorization`, and `mode` chooses what answers. params.yaml
    and the cards of models are read again after a change; while they are not valid, the last valid ones are
    served.
    """

    def __init__(self, root: Path, *, authenticate: Authenticate | None = None, mode: Mode = "auto") -> None:
        self.root, self._mode = root, mode
        self._valid = config.keep_last_valid(root)
        self._authenticate = authenticate or Authenticator(root).grant
        self._generations: dict[str, _Generation] = {}
        self._making: dict[str, asyncio.Lock] = {}
        self._looked: tuple[float, _Cards] = (0.0, ())
        self._names: tuple[Params | None, dict[tuple[Grant, str | None], str]] = (None, {})
        self._lock = threading.Lock()
        self._keys = 0  # how often keys of providers have changed
        self.problems: dict[str, str] = {}
        self.streams: Counter[object] = Counter()

    @property
    def settings(self) -> GatewaySettings:
        """The section `gateway` of params.yaml."""
        return GatewaySettings.of(self._valid.params().gateway)

    @property
    def most_bytes(self) -> int:
        """The most bytes of a request's body."""
        return round(self.settings.limits.body_mib * 2**20)

    @cached_property
    def serving(self) -> Serving:
        """What belongs to the callers of the native protocol: invocations, runs and served passages."""
        return Serving()

    @property
    def is_stale(self) -> bool:
        """Whether files are not valid now, and the last valid ones are served."""
        return bool(self._valid.problem or self.problems)

    async def grant(self, authorization: str | None) -> Grant:
        """Return the grant of a request; raise UnauthenticatedError as `Authenticator.grant` does."""
        secret = (authorization or "").partition(" ")[2]
        local = self._valid.params().budget_url is None and secret.startswith(KEY)
        if local or secret.startswith(OWNER) or not secret:
            return self._authenticate(authorization)
        # An issuer's keys and a database are asked over the network.
        return await asyncio.to_thread(self._authenticate, authorization)

    def use_cases(self, grant: Grant) -> tuple[str, ...]:
        """Return the use cases that a grant is for."""
        return permitted_use_cases(grant, self.root)

    @contextlib.asynccontextmanager
    async def entered(self, grant: Grant, stated: Stated) -> AsyncIterator[ServedCaller]:
        """Give the workspace that a grant has for what a request states, until the block ends.

        Raise ConfigError when no use case is stated and the grant is for several, and RefusedError and
        NotFoundError as `workspace_of` does.
        """
        name = self._named(grant, stated.use_case)
        generation = await self._generation(name)
        generation.using += 1
        try:
            yield self._caller(generation, name, grant, stated)
        finally:
            generation.using -= 1
            if generation.is_retired and not generation.using:
                await _close(generation)

    @contextlib.contextmanager
    def stream_of(self, grant: Grant) -> Iterator[None]:
        """Count a stream of a grant while the block runs; raise RateLimitedError above the limit."""
        key, most = grant_key(grant), self.settings.limits.streams
        if self.streams[key] >= most:
            raise RateLimitedError(
                f"{most} streams of this key are under way",
                hint="close one, or raise gateway.limits.streams in params.yaml",
                retry_after_s=1.0,
            )
        self.streams[key] += 1
        try:
            yield
        finally:
            self.streams[key] -= 1
            if not self.streams[key]:
                del self.streams[key]

    def renew(self) -> None:
        """Make the boundaries anew for later requests, because keys of providers have changed."""
        self._keys += 1

    async def aclose(self) -> None:
        """Close every boundary."""
        if "serving" in self.__dict__:
            self.serving.close()
        generations, self._generations = [*self._generations.values()], {}
        for generation in generations:
            await _close(generation)

    def _named(self, grant: Grant, stated: str | None) -> str:
        """Return the use case of a request, as it was found before with the same params.yaml."""
        params, found = self._valid.params(), self._names
        if found[0] is not params or len(found[1]) > _MOST_CALLERS:
            found = self._names = (params, {})
        name = found[1].get((grant, stated))
        if name is None:
            name = found[1][grant, stated] = self._use_case(grant, stated)
        return name

    def _use_case(self, grant: Grant, stated: str | None) -> str:
        permitted = permitted_use_cases(grant, self.root)
        if stated:
            if stated not in permitted and grant.is_scoped:  # the same for one that does not exist
                raise grant.refusal("use case", stated, permitted)
            config.use_case(config.load_params(self.root), stated)
            return stated
        if len(permitted) == 1:
            return permitted[0]
        raise ConfigError(
            f"the request names no use case, and its key is for {len(permitted)}"
            f"{': ' + ', '.join(sorted(permitted)[:5]) if permitted else ''}",
            hint="send the header 'Workbench-Use-Case: NAME', or set base_url to …/use-cases/NAME/v1",
        )

    async def _generation(self, name: str) -> _Generation:
        """Return the boundary of a use case as its files are; the last one that could be made."""
        seen, found = self._seen(), self._generations.get(name)
        if found is not None and found.seen == seen:
            return found
        async with self._making.setdefault(name, asyncio.Lock()):
            found = self._generations.get(name)
            if found is not None and found.seen == seen:
                return found
            try:
                made = await asyncio.to_thread(self._made, name, seen)
            except WorkbenchError as error:
                if found is None:
                    raise
                self.problems[name] = error.message
                _log.warning("use case %s keeps its last valid files: %s", name, error.message)
                found.seen = seen
                return found
            self.problems.pop(name, None)
            self._generations[name] = made
            if found is not None:
                found.is_retired = True
                if not found.using:
                    await _close(found)
            return made

    def _made(self, name: str, seen: _Seen) -> _Generation:
        with self._lock:  # imports and warnings are not for several threads
            case = config.use_case(config.load_params(self.root), name)
            made = boundary.of_use_case(self.root, name, case, Execution(notebook=""), mode=self._mode)
            return _Generation(made, seen)

    def _seen(self) -> _Seen:
        """Return what a boundary is made of: params.yaml and the cards of models, by their times."""
        params, now = self._valid.params(), time.monotonic()
        at, cards = self._looked
        if now - at >= _LOOKED_S:
            folder = self.root / "pipelines/models"
            cards = tuple(
                (path.name, path.stat().st_mtime_ns)
                for path in sorted(folder.glob("*/*.yaml"))
                if path.is_file()
            )
            self._looked = now, cards
        return params, cards, self._keys

    def _caller(self, generation: _Generation, name: str, grant: Grant, stated: Stated) -> ServedCaller:
        key = (grant, stated)
        found = generation.callers.get(key)
        if found is None:
            ws = workspace_of(
                grant, name, root=self.root, through=generation.boundary,
                tenant=stated.tenant, purpose=stated.purpose,
            )  # fmt: skip
            ws = ws.bind(subject=stated.subject) if stated.subject else ws
            ws = ws.session(stated.session) if stated.session else ws
            found = generation.callers[key] = ServedCaller(ws, grant)
            if len(generation.callers) > _MOST_CALLERS:
                generation.callers.popitem(last=False)
        generation.callers.move_to_end(key)
        return found


def grant_key(grant: Grant) -> tuple[str, str, str]:
    """Return the caller of a grant: its kind, its API key, and its principal with the tenant."""
    who = grant.identity
    return grant.kind, grant.api_key, f"{who.principal.name} {who.tenant}"


async def _close(generation: _Generation) -> None:
    try:
        await generation.boundary.aclose()
    except Exception as error:  # noqa: BLE001 - the others are closed too
        _log.error("a boundary did not close: %s", type(error).__name__)
