"""Calls for the tests of controls: who asks, how a model answers, how a reply is read."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

from planted import SmallDetector

from workbench import files
from workbench.config import AnswerCaching, RunLimits, data_rules
from workbench.context import Context, SystemClock
from workbench.controls.access import Access
from workbench.controls.budget import BudgetControl
from workbench.controls.cache import Cache, CacheScope
from workbench.controls.circuit_breaker import CircuitBreaker
from workbench.controls.fallback import Fallback
from workbench.controls.idempotence import Idempotence
from workbench.controls.limits import LimitedRuns
from workbench.controls.moderation import Moderation
from workbench.controls.observe import Observe
from workbench.controls.output import Output
from workbench.controls.policy import PolicyControl
from workbench.controls.privacy import PrivacyControl
from workbench.controls.rate_limit import RateLimit
from workbench.controls.replay import Replay
from workbench.controls.retry import Retry
from workbench.controls.stack import fold
from workbench.errors import UnavailableError
from workbench.identity import Principal
from workbench.models.card import ModelCard, ModelLimits, Price
from workbench.moderation.hooks import KINDS, Hook, made
from workbench.policy.memory_law import MemoryLaw
from workbench.ports import Call, Query
from workbench.ports.budget import Account, Amounts, Reservation
from workbench.ports.policy import Decision, Resource
from workbench.records.answer_cache import AnswerCache
from workbench.records.journal import Journal, extend
from workbench.records.log import Lines, read_records
from workbench.records.slot_writes import SlotWrites
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeClock
from workbench.types import Event, Usage

SLOT = "answers/acme/20261124T060000Z"
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"enum": ["yes", "no"]}, "sure": {"type": "number"}},
    "required": ["answer"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}}


def keyed(*parts: str) -> str:
    """The digest of texts; the boundary's needs the key of the repository."""
    return files.digest(list(parts))


def context(clock=None) -> Context:
    return Context(
        use_case="answers",
        tenant="acme",
        principal=Principal(name="ada"),
        purpose="test",
        clock=clock or SystemClock(),
    )


def chat(text: str = "a taxi?", *, clock=None, labels=None, identity=None, deadline=None, **payload) -> Call:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]
    return Call(
        port="model",
        operation="chat",
        target="small",
        payload={"model": "small", "messages": messages, **payload},
        context=context(clock),
        labels=labels or {},
        identity=identity or {"weights": "w1"},
        deadline=deadline,
    )


def search(text: str = "a taxi?", *, clock=None, **asked) -> Call:
    query = Query(text=text, vector=(1.0,), k=5, as_of="2025-01-01", **{"groups": ("everyone",), **asked})
    return remembered("search", clock=clock, query=query)


def remembered(verb: str, *, clock=None, principal=None, **payload) -> Call:
    """A verb of a memory, called by somebody who does not keep it unless another principal is named."""
    who = context(clock)
    return Call(
        port="memory",
        operation=verb,
        target="handbook",
        payload=payload,
        context=replace(who, principal=principal or who.principal),
        identity={"version": 2, "spec": "s"},
    )


class AwayMemory:
    """A store that is away, and its last snapshot, which answers; what each was asked."""

    def __init__(self, hits=(), *, times: int = 100, hangs_s: float = 0.0):
        self.hits, self.times, self.hangs_s = list(hits), times, hangs_s
        self.asked: list[str] = []
        self.queries: list[Query] = []

    async def __call__(self, call):
        degraded = call.identity.get("degraded", False)
        self.asked.append("snapshot" if degraded else "store")
        self.queries.append(call.payload["query"])
        if not degraded and self.times > 0:
            self.times -= 1
            await call.context.clock.sleep(self.hangs_s)
            raise UnavailableError("the server is away", hint="make weaviate")
        yield Event(data=self.hits)


def behind(model):
    """The boundary's innermost handler for a fake model."""
    return lambda call: getattr(model, call.operation)(call.payload)


async def read(handler, call) -> list:
    """Every event's data of a reply."""
    async with aclosing(handler(call)) as events:
        return [event.data async for event in events]


def ask(handler, call) -> list:
    return asyncio.run(read(handler, call))


def text(events) -> str:
    return events[0]["choices"][0]["message"]["content"]


def finish(replay: Replay) -> bool:
    """Write the tape of the answers that were used, as a stage does; False when it is unchanged."""
    return extend(replay._tape, replay._used, replay._journal)


def price(_target: str, usage: Usage) -> float:
    return ((usage.input_tokens or 0) + (usage.output_tokens or 0)) / 1000


def limited_card(**limits) -> ModelCard:
    """The card of a remote endpoint with these limits, at the price of `price`."""
    card = ModelCard.unsaved("small")
    limits = ModelLimits(context_tokens=100, **limits)
    return replace(card, limits=limits, price_per_million=Price(input_usd=1000.0, output_usd=1000.0))


def hook(check: str, direction: str, severity: str, *, abstain=None, name="", reads=None, **options) -> Hook:
    """One check at work, made of its options alone."""
    kind = KINDS[check]
    return Hook(
        name=name or check,
        direction=direction,
        severity=severity,
        kind=kind,
        check=made(check, options),
        reads=reads or kind.reads,
        abstain=abstain,
    )


class Reservations:
    """A ledger that has room for everything, and what was reserved in it."""

    def __init__(self):
        self.made: list[Amounts] = []

    async def reserve(self, accounts, amounts, *, wait_s, answer_s):
        self.made.append(amounts)
        return Reservation(id=str(len(self.made)), accounts=tuple(accounts), amounts=amounts)

    async def settle(self, reservation, spent, *, answer_s):
        return True


class OneBudget:
    """One account that every call takes from, if there is a budget."""

    declared = False

    def accounts(self, context):
        if not self.declared:
            return ()
        return (Account(budget="all", key={}, limits=(None, None, 1000, None)),)

    def call_seconds(self, accounts):
        return None


class Denials:
    """A policy that denies the calls to some targets, and those that it denied."""

    def __init__(self):
        self.targets: set[str] = set()

    @property
    def digest(self):
        return str(sorted(self.targets))

    def decide(self, request):
        allowed = request.resource.id not in self.targets
        names = () if allowed else ("no-target",)
        return Decision(id="f" * 16, allowed=allowed, policies=names, policy_set=self.digest)


def resource_of(call) -> Resource:
    return Resource(type=call.port.title(), id=call.target, tenant=call.context.tenant)


class Bench:
    """A folder with a log, a tape and a journal, and the controls over them.

    The controls of endpoints and runs keep their state for all stacks of a bench.
    """

    def __init__(self, folder):
        self.log = folder / "state" / "calls.jsonl"
        self.tape = folder / "tape.jsonl"
        self.journal = folder / "cache" / "answers.jsonl"
        self.clock = FakeClock()
        self.card = limited_card()
        self.rate_limit = RateLimit(lambda _target: self.card, folder / "endpoints")
        self.circuit_breaker = CircuitBreaker(lambda _target: self.card, folder / "endpoints")
        self.ledger, self.budget = Reservations(), OneBudget()
        self.answers = AnswerCache(folder / "cache" / "exact.sqlite", most_bytes=2**20)
        self.caching = AnswerCaching(seconds=3600, operations=())
        self.limits = RunLimits()
        self.rules = data_rules({})
        self.limited: LimitedRuns | None = None
        self.policy = Denials()
        self.hooks = [hook("exfiltration", "out", "refuse")]

    def replay(self, mode="auto") -> Replay:
        tape = Tape.read(self.tape) if self.tape.exists() else Tape(self.tape)
        return Replay(mode, tape=tape, journal=Journal(self.journal))

    def controls(self, mode="auto") -> dict:
        if self.limited is None:
            self.limited = LimitedRuns(self.limits, where="use_cases.answers.limits", price=price)
        return {
            "limits": self.limited,
            "rate_limit": self.rate_limit,
            "circuit_breaker": self.circuit_breaker,
            "budget": BudgetControl(self.ledger, accounts=self.budget, card=lambda _target: self.card),
            "observe": Observe(Lines(self.log), price=price),
            "moderation": Moderation(self.hooks),
            "fallback": Fallback(),
            "policy": PolicyControl(self.policy, resource=resource_of),
            "access": Access(MemoryLaw.builtin()),
            "idempotence": Idempotence(SLOT, writes=SlotWrites(self.log.parent / "slot"), keyed=keyed),
            "output": Output(),
            "privacy": PrivacyControl(SmallDetector(), self.rules, external=lambda _target: True),
            "cache": Cache(self.answers, self.caching, scope=CacheScope(use_case="answers")),
            "replay": self.replay(mode),
            "retry": Retry(),
        }

    def handler(self, model, mode="auto"):
        return fold(self.controls(mode), behind(model))

    @property
    def records(self) -> list:
        return read_records(self.log)
