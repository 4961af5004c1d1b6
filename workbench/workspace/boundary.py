"""The boundary of a workspace: the stack of controls around the adapters of models and memories."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import registry
from workbench.audit import CallAudit, ChainOptions, chain_at
from workbench.budgets.report import BudgetReport
from workbench.config import (
    ContentKeeping,
    Execution,
    Mode,
    RunLimits,
    UseCase,
    load_params,
    memory_server,
    run_limits,
)
from workbench.content import CallContent
from workbench.context import Context
from workbench.controls import stack
from workbench.controls.cache import Cache, CacheScope, cache_of
from workbench.controls.circuit_breaker import CircuitBreaker
from workbench.controls.fallback import Fallback
from workbench.controls.idempotence import Idempotence
from workbench.controls.limits import LimitedRuns
from workbench.controls.observe import Observe
from workbench.controls.output import Output
from workbench.controls.rate_limit import RateLimit
from workbench.controls.replay import Replay
from workbench.controls.retry import Retry, RetryPolicy
from workbench.endpoints.overview import endpoints_frame
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.files import shortened
from workbench.identity import Principal
from workbench.layout import (
    CACHE,
    CALLS,
    ENDPOINTS,
    EXACT_ANSWERS,
    JOB_WRITES,
    JOURNAL,
    STATE,
    judge_tape_of,
    tape_of,
)
from workbench.memory.copies import forget_in_copies
from workbench.memory.stores import StoreLocation, Stores
from workbench.models import ModelCard, load_card, open_model
from workbench.policy.current import CurrentPolicy
from workbench.ports import Call, Control, Handler, Model
from workbench.privacy.repository import redaction_of
from workbench.records import egress
from workbench.records.in_flight import calls_in_flight
from workbench.records.journal import Journal
from workbench.records.segments import CallLog
from workbench.records.slot_writes import SlotWrites
from workbench.records.tape import Tape
from workbench.telemetry import active
from workbench.types import STATED, Event, Port, Usage
from workbench.workspace import policies
from workbench.workspace.candidates import warn_of_unknown_price
from workbench.workspace.gateway_verbs import RemoteVerbs
from workbench.workspace.interrupted import recover_interrupted
from workbench.workspace.moderating import Moderating
from workbench.workspace.opening import content_at, erase_forgotten
from workbench.workspace.privacy import privacy_of
from workbench.workspace.spending import Spending

#: Long limits, because a caller that waits for a free embedded server receives no event meanwhile.
_RETRIES = RetryPolicy(timeout_s=180, deadline_s=600)

if TYPE_CHECKING:
    import polars as pl

OnUse = Callable[[str, str], None]


def open_tape(path: Path) -> Tape:
    """Return the tape in a file, or an empty tape if the file is missing."""
    return Tape.read(path) if path.exists() or path.is_symlink() else Tape(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatePaths:
    """Paths of a boundary's state.

    `home` holds state and caches if the boundary's root is only a copy of its code, `memories` locates
    the stores, and `journal` is the journal's path below `home`. `memory_fallback` is whether the last
    snapshot may answer searches, `stated_answers` whether the stated answers of a use case may be given.
    `limits` are those of a run, with their place in params.yaml; `caching` is the control `cache` by its
    name, or nothing. `slot` is that of a job's run, whose memory writes are made once. `content` puts texts
    into spans. With `observe_policy`, what the repository's policies deny is recorded and not refused; with
    `observe_privacy`, models get requests as they are. `column_classes` are the classes of data of the inputs
    of cases. `moderating` makes the control `moderation`. `keeping` says how long requests and answers are
    kept, sealed, and `audit` how the audit log is written.
    """

    home: Path
    memories: StoreLocation | None = None
    journal: Path | None = None
    memory_fallback: bool = False
    limits: tuple[str, RunLimits] | None = None
    stated_answers: bool = True
    caching: Mapping[str, Cache] = field(default_factory=dict)
    slot: str = ""
    content: bool = False
    observe_policy: bool = False
    moderating: Moderating | None = None
    observe_privacy: bool = False
    column_classes: Mapping[str, str] = field(default_factory=dict)
    keeping: ContentKeeping = field(default_factory=ContentKeeping)
    audit: ChainOptions | None = None


class Boundary:
    """Handles every call of a process to a model or a memory.

    `cards` replace the repository's cards of the same name. `on_use` receives the key of each recording
    used or made, and its source, "tape" or "cache".
    """

    #: What asks a gateway for the verbs on records; None where this process answers them.
    verbs: RemoteVerbs | None = None

    def __init__(
        self,
        root: Path,
        *,
        mode: Mode,
        tape: Tape,
        cards: Iterable[ModelCard] = (),
        on_use: OnUse | None = None,
        places: StatePaths | None = None,
    ) -> None:
        places = places or StatePaths(home=root)
        self.root, self.home = root, places.home
        where = places.memories or StoreLocation(state=self.home / STATE)
        self.stores = Stores(where)
        self._cards = {name: card for card in cards for name in (card.name, card.reference)}
        self._models: dict[str, Model] = {}
        self.policy = CurrentPolicy(root)
        self._caching = places.caching
        self.spending = Spending(self.home, self.card)
        self.replay = Replay(
            mode, tape=tape, journal=Journal(self.home / (places.journal or JOURNAL)), on_use=on_use
        )
        self.rate_limit = RateLimit(self.card, self.home / ENDPOINTS, peek=self.spending.peek)
        self.circuit_breaker = CircuitBreaker(self.card, self.home / ENDPOINTS)
        #: The handler of each port, inside the controls.
        self._leaves: dict[Port, Handler] = {"model": self._model, "memory": self._memory}
        self.telemetry = active.exporter(self.home)
        self.audit = chain_at(self.home, places.audit)
        self.content = content_at(self.home)
        self.access = policies.access_to_items(
            self.policy,
            observe=places.observe_policy,
            timeless=where.pinned is not None and not where.today,
        )
        self._law = policies.control_of(self.policy, self.card, observe=places.observe_policy)
        self.handler = stack.fold(self._controls(places), self._leaf)
        if self.telemetry is not None:
            self.handler = self.telemetry.watched(
                self.handler, content=places.content, clean=redaction_of(root, home=self.home).value
            )

    def _controls(self, places: StatePaths) -> dict[str, Control]:
        """Return the controls around every call, by their names; first record what a killed process asked."""
        recover_interrupted(self.home)
        privacy = privacy_of(
            self.root, self.card, columns=places.column_classes, observe=places.observe_privacy,
            home=self.home,
        )  # fmt: skip
        return {
            "observe": Observe(
                CallLog(self.home / CALLS, in_flight=calls_in_flight(self.home)),
                price=self._price,
                price_source=self._price_source,
                audit=CallAudit(self.audit),
                content=CallContent(self.content, places.keeping) if places.keeping.is_on else None,
                export=self.telemetry,
                clean=redaction_of(self.root, home=self.home).name,
            ),
            **_limited(places.limits, self._price),
            "fallback": _fallback(places),
            "policy": policies.control_of(
                self.policy, self.card, class_of=privacy.data_class, observe=places.observe_policy
            ),
            "access": self.access,
            **_once(places, self.stores),
            "output": Output(),
            **(places.moderating.control(self.card, lambda: self.handler) if places.moderating else {}),
            "privacy": privacy,
            **places.caching,
            "replay": self.replay,
            "retry": Retry(_RETRIES),
            "rate_limit": self.rate_limit,
            "circuit_breaker": self.circuit_breaker,
            **self.spending.controls,
        }

    def card(self, name: str) -> ModelCard:
        """Return a model card with the overrides of this workspace."""
        card = self._cards.get(name)
        if card is None:
            card = self._cards.setdefault(name, load_card(self.root, name))
        return card

    def card_for(self, model: str, *, prefer: str) -> ModelCard:
        """Return the card that `model` names: a card's name or reference, or its model's name.

        Raise NotFoundError if there is none.
        """
        if model in {prefer, self.card(prefer).name, self.card(prefer).model}:
            return self.card(prefer)
        names = registry.names(self.root, "model")
        named = [name for name in names if model in {name, self.card(name).model}]
        if not named and model.partition("@")[0] in names:
            return self.card(model)
        if not named:
            raise NotFoundError(
                f"no model card is called {shortened(model)!r} ({nearest(model, names)})",
                hint=f"pass model={prefer!r}, the model of this use case",
            )
        return self.card(named[0])

    def permits(self, call: Call) -> bool:
        """Return whether the policies let a call on a memory pass; the decision is recorded nowhere."""
        return self._law.permits(call)

    def pinned_digest(self, memory: str) -> str | None:
        """Return the digest of the pinned snapshot of a memory, or None for a live memory."""
        snapshot = self.stores.pinned()
        return snapshot.digest if snapshot and snapshot.manifest.memory == memory else None

    async def budget(self, context: Context) -> BudgetReport:
        """Return the report of the budgets that a call with this context takes from."""
        return await self.spending.of(context)

    def bound_to(self, token: str, own: Principal) -> Boundary:  # noqa: ARG002 - of a gateway
        """Return the boundary for the calls of a token's bearer, who is `own`."""
        return self

    def endpoints(self) -> pl.DataFrame:
        """Return a frame of the endpoints, with their breakers, limits and calls in flight and waiting."""
        return endpoints_frame(
            self.home / ENDPOINTS, breakers=self.circuit_breaker.breakers, queues=self.rate_limit.queues
        )

    async def aclose(self) -> None:
        """Close every model and store, even if closing one of them fails."""
        models, self._models = self._models, {}
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.spending.ledger.aclose)
            closing.push_async_callback(self.stores.aclose)
            closing.push_async_callback(asyncio.to_thread, self.audit.close)
            for cache in self._caching.values():
                closing.callback(cache.close)
            if self.telemetry is not None:
                closing.push_async_callback(asyncio.to_thread, self.telemetry.flush)
            for model in models.values():
                closing.push_async_callback(model.aclose)

    def _price(self, target: str, usage: Usage) -> float | None:
        if target == STATED:
            return 0.0
        return self.card(target).cost_usd(usage)

    def _price_source(self, target: str) -> str:
        card = self._cards.get(target)  # read when the call was made; a stated answer has none
        return card.price_source if card else ""

    def _leaf(self, call: Call) -> AsyncIterator[Event]:
        if (before := call.span.before_asking) is not None:
            before()
        # Marks connections and processes opened from here on as the boundary's own.
        return egress.marked(self._leaves[call.port](call))

    def _model(self, call: Call) -> AsyncIterator[Event]:
        model = self._models.get(call.target)
        if model is None:  # opening starts nothing, so a second one of a race is dropped
            warn_of_unknown_price(self.card(call.target))
            model = self._models.setdefault(call.target, open_model(self.card(call.target), self.home))
        left = None if call.deadline is None else call.deadline - call.context.clock.monotonic()
        ask = getattr(model, call.operation)  # a verb of the port: the stack refuses other operations
        stream: AsyncIterator[Event] = ask(call.payload, timeout_s=left)
        return stream

    async def _memory(self, call: Call) -> AsyncIterator[Event]:
        answer = await self.stores.answer(call)
        if call.operation == "forget" and not self.stores.is_temporary:
            if not call.payload.get("dry_run"):
                await asyncio.to_thread(forget_in_copies, self.home / CACHE, call)
            erase_forgotten(self.home, self.content, call, answer)
        yield Event(data=answer)


def _once(places: StatePaths, stores: Stores) -> dict[str, Idempotence]:
    """Return the control `idempotence` by its name, or nothing outside of a job's slot."""
    if not places.slot:
        return {}

    def keyed(tenant: str, *parts: str) -> str:
        return stores.names().uuid(tenant, *parts).hex

    writes = SlotWrites(places.home / JOB_WRITES / places.slot)
    return {"idempotence": Idempotence(places.slot, writes=writes, keyed=keyed)}


def _limited(
    stated: tuple[str, RunLimits] | None, price: Callable[[str, Usage], float | None]
) -> dict[str, LimitedRuns]:
    """Return the control `limits` by its name, or nothing without stated limits."""
    return {"limits": LimitedRuns(stated[1], where=stated[0], price=price)} if stated else {}


def _stated_limits(
    root: Path, name: str, case: UseCase, execution: Execution
) -> tuple[str, RunLimits] | None:
    """Return the limits of a run of the use case or the job, and their place in params.yaml."""
    params = load_params(root)
    limits = run_limits(params, case, execution.job)
    place = f"jobs.{execution.job}" if execution.job in params.jobs else f"use_cases.{name}"
    return (f"{place}.limits", limits) if limits else None


def _caching(home: Path, name: str, case: UseCase, execution: Execution, *, mode: Mode) -> dict[str, Cache]:
    """Return the cache of answers of a use case; none where answers are recorded or judged."""
    if execution.tape or execution.job or mode not in {"live", "auto"}:
        return {}
    return cache_of(
        home / EXACT_ANSWERS, case.cache, CacheScope(use_case=name, memory=str(case.memory or ""))
    )


def _fallback(places: StatePaths) -> Fallback:
    return Fallback(memory=places.memory_fallback, stated=places.stated_answers, seconds=_RETRIES.deadline_s)


def chosen_card(root: Path, name: str, overrides: Mapping[str, Any]) -> ModelCard:
    """Return the use case's model card, moved to the endpoint in params.yaml if there is one.

    With `provider: openai`, a name without a card is the endpoint's name of the model. Raises ConfigError and
    NotFoundError.
    """
    saved = name.partition("@")[0] in registry.names(root, "model")
    embedded = overrides.get("provider") in {None, "local", "wordllama"}
    card = load_card(root, name) if saved or embedded else ModelCard.unsaved(name)
    if card.kind != "chat":
        raise ConfigError(
            f"the model {name!r} is for {card.kind}, not for chat",
            hint="write model: NAME of a chat model into params.yaml",
        )
    return card.overridden(**overrides) if any(overrides.values()) else card


def card_of_use_case(root: Path, case: UseCase) -> ModelCard:
    """Return the model card of a use case, with the endpoint in params.yaml; raise as `chosen_card` does."""
    overrides = {
        "provider": case.provider, "base_url": case.base_url, "api_key": case.api_key_env,
        "price": case.price_per_million,
    }  # fmt: skip
    return chosen_card(root, case.model_name, overrides)


def of_use_case(
    root: Path,
    name: str,
    case: UseCase,
    execution: Execution,
    *,
    mode: Mode | None = None,
    on_use: OnUse | None = None,
) -> Boundary:
    """Return the boundary of a use case, with the paths that the runner of the execution set.

    `on_use` is that of the boundary; a runner that needs the recordings of its run gives one.
    """
    home = Path(execution.home) if execution.home else root
    return Boundary(
        root,
        mode=mode or execution.mode,
        tape=tape_of_execution(root, name, execution),
        cards=[card_of_use_case(root, case)],
        on_use=on_use,
        places=StatePaths(
            home=home,
            memories=_memories(root, name, case, execution),
            journal=Path(execution.journal) if execution.journal else None,
            # A server named for this execution is itself under test, so no snapshot replaces it.
            memory_fallback=case.memory_fallback == "snapshot" and not execution.memory_server,
            limits=_stated_limits(root, name, case, execution),
            caching={} if on_use else _caching(home, name, case, execution, mode=mode or execution.mode),
            # Recorded and judged answers are a model's; a job's run on today's input is neither.
            stated_answers=execution.tape is None or execution.live_memory,
            slot=execution.slot or "",
            content=case.telemetry.content,
            observe_privacy=case.privacy.enforce == "observe",
            column_classes=case.column_classes,
            observe_policy=case.policy.enforce == "observe",
            moderating=Moderating(root, home, case.moderation, case.tenants),
            audit=ChainOptions(fsync=load_params(root).audit.fsync),
            # What a stage asks is in its tape, which is data of the repository.
            keeping=case.content if execution.tape is None or execution.live_memory else ContentKeeping(),
        ),
    )


def _memories(root: Path, name: str, case: UseCase, execution: Execution) -> StoreLocation:
    """Return where the memories of an execution are: its snapshot, or the live stores."""
    pinned = root / execution.memory if execution.memory else None
    live = pinned is None or execution.live_memory
    return StoreLocation(
        state=(Path(execution.home) if execution.home else root) / STATE,
        server=(execution.memory_server or memory_server(case)) if live else None,
        pinned=pinned,
        today=execution.live_memory,
        last=(root / "results" / name / "memory",),
        copies=Path(execution.copies) if execution.copies else None,
    )


def tape_of_execution(root: Path, name: str, execution: Execution) -> Tape:
    """Return the tape that an execution names; while exploring, the judge's and the experiment's."""
    if execution.tape is None:
        return recorded_tape(root, name)
    tape = open_tape(root / execution.tape)
    return tape.over(open_tape(root / execution.judge_tape)) if execution.judge_tape else tape


def recorded_tape(root: Path, name: str) -> Tape:
    """Return the tape of a use case's experiment, with that of its judge before it."""
    return open_tape(root / tape_of(name)).over(open_tape(root / judge_tape_of(name)))
