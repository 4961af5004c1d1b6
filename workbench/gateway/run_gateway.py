"""The gateway of one run: the boundary in the process that runs a notebook, for the notebook's kernel alone.

The kernel asks. This process holds tape, journal, snapshot and the keys of providers, and knows by itself
which recordings were used and what each call found, took and cost. The gateway ends with its run.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, Self

from workbench import _sync, config, retrieval
from workbench.config import INHERITED, Execution
from workbench.confinement.broker import DESCRIPTOR_VARIABLE, Broker
from workbench.context import Context
from workbench.errors import NotFoundError
from workbench.files import folders
from workbench.files.socket_folders import socket_folder
from workbench.gateway.exchange import GatewayExchange as Exchange
from workbench.gateway.exchange import Receive, Scope, Send, encoded
from workbench.gateway.failures import answer_failed, public
from workbench.gateway.hosted import serve_connection
from workbench.gateway.native_routes import answer_lines, check_version
from workbench.gateway.verbs import AskedVerb, answer_verb
from workbench.identity import Confinement, GrantScope
from workbench.ports import Call, Handler
from workbench.remote.calls import AskedCall
from workbench.remote.protocol import CALLS, HEADER, MOST_BYTES, VERSION
from workbench.remote.serving import Serving
from workbench.retrieval.search import marked
from workbench.types import JSON, Event
from workbench.workspace import boundary, caller_identity
from workbench.workspace.asked_calls import WorkspaceResolver
from workbench.workspace.gateway_verbs import ROUTE as VERBS
from workbench.workspace.workspace import Workspace

#: The folder of a run's socket: short, because the path of a Unix socket is, and named after its process.
_FOLDER: Final = "workbench-run-"
#: Fields of an execution that the kernel of a judged run or a job is not told: where its state is.
_UNTOLD: Final[Mapping[str, Any]] = {
    "tape": None, "judge_tape": None, "memory": None, "journal": None, "home": None, "memory_server": None,
    "slot": None, "copies": None,
}  # fmt: skip
_JSON: Final = encoded({"content-type": "application/json", HEADER: VERSION})


class RunGateway:
    """The gateway of one execution of a notebook of `use_case`, from `with` to its end.

    `execution` is what the gateway knows of the run; `kernel` is what its kernel is told, with the gateway's
    address in place of the paths. `confinement` is how far the kernel is confined: a confined one reaches the
    gateway by the `inherited` socket alone. `used` maps the key of each recording, used or made, to its
    store, "tape" or "cache". `records` has the records of the calls of each case, in the order of their ends.
    """

    def __init__(
        self, root: Path, use_case: str, execution: Execution, *, confinement: Confinement = "none"
    ) -> None:
        self.execution, self.confinement = execution, confinement
        self.used: dict[str, str] = {}
        self.records: dict[str, list[JSON]] = {}
        self._root, self._use_case = root, use_case
        self._resolvers: dict[str, WorkspaceResolver] = {}
        self._workspaces: dict[str, Workspace] = {}
        self._serving = Serving(on_record=self._note_record)
        self._folder: Path | None = None
        self._task: asyncio.Task[None] | None = None
        self._listener: socket.socket | Broker | None = None

    def __enter__(self) -> Self:
        """Open the run's socket; raise what every call of the run would meet, such as an invalid identity."""
        self.workspace(self._use_case)
        try:
            self._folder = socket_folder(_FOLDER)
            _sync.run(self._open())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the calls under way, and close boundaries and socket."""
        self._end()

    @property
    def folder(self) -> Path:
        """The private folder of the run, with a short path; it is removed at the end."""
        if self._folder is None:
            raise RuntimeError("the gateway of the run is not open")
        return self._folder

    @property
    def address(self) -> Path:
        """The path of the run's socket, which only this user opens."""
        return self.folder / "gateway"

    @property
    def inherited(self) -> dict[str, Path]:
        """The socket to which the launcher of a confined kernel connects, by its variable."""
        return {DESCRIPTOR_VARIABLE: self.address} if self._is_confined else {}

    @property
    def kernel(self) -> Execution:
        """The settings of the kernel: those of the run, with the gateway's address in place of its paths."""
        snapshot = self.workspace(self._use_case).boundary.stores.pinned()
        return dataclasses.replace(
            self.execution,
            **(_UNTOLD if self.execution.publish else {}),
            gateway=INHERITED if self._is_confined else f"unix:{self.address}",
            snapshots={snapshot.manifest.memory: snapshot.digest} if snapshot else {},
        )

    def workspace(self, use_case: str) -> Workspace:
        """Return the run's workspace in a use case: its own, or another to which the notebook connects."""
        found = self._workspaces.get(use_case)
        if found is None:
            found = self._workspaces[use_case] = self._connected(use_case)
            found.boundary.handler = _marking(found, found.boundary.handler)
        return found

    def resolver(self, use_case: str) -> WorkspaceResolver:
        """Return what resolves the calls of the kernel in a use case."""
        found = self._resolvers.get(use_case)
        if found is None:
            strict = self.execution.job is not None
            found = WorkspaceResolver(self.workspace(use_case), scope=self.execution.run, strict=strict)
            self._resolvers[use_case] = found
        return found

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of the kernel: the ASGI application of this run. Its socket needs no key."""
        exchange = Exchange(scope, receive, send)
        try:
            exchange.check_head()
            check_version(exchange)
            await self._answer(exchange)
        except asyncio.CancelledError:
            if not exchange.left:
                raise
        except Exception as error:
            if exchange.started:
                raise
            await answer_failed(exchange, public(error, self._root))

    async def _answer(self, exchange: Exchange) -> None:
        verb = exchange.path.removeprefix(VERBS)
        if exchange.method == "POST" and exchange.path == CALLS:
            asked = AskedCall.read(await exchange.body(most=MOST_BYTES))
            lines = self._serving.serve(asked, self.resolver(asked.use_case))
            await answer_lines(exchange, lines, streamed=asked.streamed)
        elif exchange.method == "POST" and verb != exchange.path:
            stated = AskedVerb.read(await exchange.body(most=MOST_BYTES))
            ws = self.workspace(stated.use_case).bind(
                tenant=stated.tenant, purpose=stated.purpose, subject=stated.subject
            )
            ws = ws.session(stated.session) if stated.session else ws
            await exchange.whole(200, await answer_verb(ws, verb, stated), _JSON)
        else:
            raise NotFoundError("the gateway of a run has no such route", hint=f"POST {CALLS}")

    @property
    def _is_confined(self) -> bool:
        return self.confinement not in {"", "none"}

    def _connected(self, use_case: str) -> Workspace:
        """Return a workspace as `wb.connect` does, by the settings of this run."""
        params, current = config.load_params(self._root), self.execution
        case, foreign = config.use_case(params, use_case), use_case != self._use_case
        who = caller_identity.of_execution(self._root, params.identity, case, current, foreign=foreign)
        # A job stays one in every use case; what its version pins is for its own.
        execution = _in_another_use_case(current) if foreign else current
        case = config.pinned(case, execution.pins)
        tenant = caller_identity.tenant_of(who, None, execution.tenant) or case.tenants[0]
        context = Context(
            use_case=use_case, tenant=tenant, principal=who.principal, phase=case.phase,
            purpose="job" if current.job else "explore", job=current.job or "", run=current.run or "",
            grant=GrantScope(kind="run", confinement=self.confinement),
        )  # fmt: skip
        return Workspace(
            root=self._root, name=use_case, use_case=case, identity=who, context=context,
            boundary=boundary.of_use_case(
                self._root, use_case, case, execution,
                on_use=self._note_use if execution.publish or not foreign else None,
            ),
            execution=execution, settings=execution.settings,
        )  # fmt: skip

    def _note_use(self, key: str, source: str) -> None:
        self.used[key] = source

    def _note_record(self, asked: AskedCall, record: JSON) -> None:
        if asked.invocation is not None and self.execution.publish:
            self.records.setdefault(asked.invocation.case, []).append(record)

    async def _open(self) -> None:
        if self._is_confined:
            self._listener = broker = Broker(self.address)
            serving = broker.serve(self._host)
        else:
            self._listener = listener = _listening(self.address)
            serving = _accepting(listener, self._host)
        self._task = asyncio.get_running_loop().create_task(serving)

    async def _host(self, connection: socket.socket) -> None:
        await serve_connection(connection, self.app)

    def _end(self) -> None:
        _sync.run(self._close())
        if self._folder is not None:
            folders.remove(self._folder)

    async def _close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._listener is not None:  # a task that is cancelled before it begins has closed nothing
            self._listener.close()
        self._serving.close()
        async with contextlib.AsyncExitStack() as closing:
            for ws in self._workspaces.values():
                closing.push_async_callback(ws.boundary.aclose)


def _in_another_use_case(current: Execution) -> Execution:
    """Return the settings of a run in a use case that is not its own.

    A judged run and a job have one tape: a cache of this machine could hold answers that no model gave.
    """
    if not current.publish:
        return Execution(notebook="", tenant=current.tenant)
    return dataclasses.replace(
        current, memory=None, memory_server=None, judge_tape=None, pins={}, settings={}, snapshots={}
    )


def _marking(ws: Workspace, proceed: Handler) -> Handler:
    """Return a handler that marks the passages whose source has changed: a kernel may not read the source."""

    async def handle(call: Call) -> AsyncGenerator[Event, None]:
        async with aclosing(proceed(call)) as events:  # type: ignore[type-var]
            async for event in events:
                if call.name == "memory.search":
                    spec = retrieval.load_spec(ws.root, f"{call.target}@{call.identity['version']}")
                    found = await asyncio.to_thread(
                        marked, spec, list(event.data), tenant=call.context.tenant, root=ws.root
                    )
                    yield dataclasses.replace(event, data=found)
                else:
                    yield event

    return lambda call: handle(call) if call.name == "memory.search" else proceed(call)


def _listening(path: Path) -> socket.socket:
    """Return a new socket that listens at `path`, to which only this user connects."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(64)
        listener.settimeout(0)
    except BaseException:
        listener.close()
        raise
    return listener


async def _accepting(
    listener: socket.socket, host: Callable[[socket.socket], Coroutine[Any, Any, None]]
) -> None:
    """Serve each connection to a listening socket, until this task is cancelled."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    with listener:
        try:
            while True:
                connection, _ = await loop.sock_accept(listener)
                task = loop.create_task(host(connection))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
