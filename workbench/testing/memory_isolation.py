"""Attempt to read across tenants, access lists, levels, versions and time.

    attempt_all(store, number=10_000, seed=1)

writes secrets into a new store, makes that many attempts to read them, and raises when one succeeds.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workbench import _sync
from workbench.errors import WorkbenchError
from workbench.ports import Budget, Memory, MemoryStore, Query, Requester, Selector
from workbench.testing.memory_items import HOSTILE, HOSTILE_NAMES, NOW, make_episode, make_item, make_query
from workbench.testing.sync_memory import SyncStore
from workbench.types import Item

#: A word in every text, title and owner that no attempt may return.
CANARY = "canary-4711"
VICTIM, OUTSIDERS = "acme", ("acme2", "acm", "acme-", "acme_", "globex")
_TOGETHER = 16
#: Groups of a requester in the tenant; no secret has one of them on its access list.
_GROUPS = (
    "everyone", "", "*", "%", "staf", "staff ", "Staff", "staff,board", "board' OR '1'='1", "principal:eve",
)  # fmt: skip
_SECRETS: tuple[dict[str, Any], ...] = (
    {"access": ("staff",)},
    {"access": ("board", "staff")},
    {"access": ("principal:anna",)},
    {"access": ()},
    {"classification": 5},
    {"expires": "2125-01-01T00:00:00Z"},
    {"valid": ("2999-01-01", None)},
    {"valid": (None, "1999-01-01")},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationAttempt:
    """One verb with its arguments, in the victim's tenant without its groups, or in another `tenant`."""

    tenant: str
    verb: str
    arguments: dict[str, Any]


def secrets() -> tuple[list[Item], list[Item], list[Item]]:
    """Return the victim's active documents, its staged documents and its episodic items."""
    hidden = [
        make_item(
            f"taxi {CANARY} {n}", source=f"secret-{n}", subject="cust-1", title=CANARY, owner=CANARY, **fields
        )
        for n, fields in enumerate(_SECRETS)
    ]
    shown = [make_item("taxi for everyone", source="public", subject="cust-1")]
    staged = [make_item(f"taxi {CANARY} staged", source="next", title=CANARY)]
    written = [
        make_episode(f"taxi {CANARY}", subject="cust-1", title=CANARY, **fields) for fields in _SECRETS[:6]
    ]
    written = [
        make_episode(f"{item.text} {n}", access=item.access, classification=item.classification,
                     expires=item.expires, subject="cust-1", title=CANARY)
        for n, item in enumerate(written)
    ]  # fmt: skip
    return [*hidden, *shown], staged, written


def attempts(number: int, *, seed: int) -> Iterator[IsolationAttempt]:
    """Yield attempts, most of them searches; equal seeds give equal attempts."""
    drawn = random.Random(seed)  # noqa: S311  draws cases, guards nothing
    known = list(itertools.chain(*secrets()))
    for _ in range(number):
        if drawn.random() < 0.5:
            yield _from_inside(drawn, known, _query(drawn, known, _GROUPS))
        else:
            everyone = (*_GROUPS, "staff", "board", "principal:anna", VICTIM)
            yield _from_outside(drawn, known, _query(drawn, known, everyone, clearance=9))


def attempt_all(store: MemoryStore, *, number: int, seed: int) -> int:
    """Make attempts on a new store, many at once; return how many found the public item.

    Raise AssertionError with the attempt that got a secret, in a value or in an error.
    """
    victim = SyncStore(inner=store).tenant(VICTIM)
    in_force, staged, written = secrets()
    victim.add(in_force, now=NOW)
    victim.remember(written, budget=Budget(), now="2124-01-01T00:00:00Z")
    victim.stage(staged)
    before = (victim.items(), victim.versions(), victim.missing([staged[0].id]))
    found = 0
    todo = attempts(number, seed=seed)
    while batch := list(itertools.islice(todo, _TOGETHER)):
        found += sum(
            _sync.run(_sync.gather(_try(store.tenant(attempt.tenant), attempt) for attempt in batch))
        )
    after = (victim.items(), victim.versions(), victim.missing([staged[0].id]))
    if after != before:
        raise AssertionError("an outsider's verb changed the victim's items")
    return found


async def _try(memory: Memory, attempt: IsolationAttempt) -> bool:
    try:
        answer = await getattr(memory, attempt.verb)(**attempt.arguments)
    except WorkbenchError as error:
        answer, shown = None, f"{error} {error.__cause__!r} {error.__context__!r}"
    else:
        shown = repr(answer)
    told = CANARY in shown and (attempt.tenant, attempt.verb) != (VICTIM, "items")
    if told or (answer is not None and _leaks(attempt, answer)):
        raise AssertionError(f"{attempt} returned a secret: {shown[:500]}")
    return "taxi for everyone" in shown


def _leaks(attempt: IsolationAttempt, answer: Any) -> bool:
    """Return whether an answer reveals an item of the victim."""
    match attempt.verb:
        case "count":
            return bool(answer > len(readable_by_all()) if attempt.tenant == VICTIM else answer)
        case "missing":
            return bool(answer != attempt.arguments["ids"])
        case "items":
            own = readable_by_all() if attempt.tenant == VICTIM else frozenset()
            return any(item.source != "outside" and item.id not in own for item in answer)
        case "forget":
            return not {item.id for item in itertools.chain(*secrets())}.isdisjoint(answer.ids)
        case "search":
            return attempt.tenant != VICTIM and any(hit.source != "outside" for hit in answer)
    return False


@functools.cache
def readable_by_all() -> frozenset[str]:
    """Return the ids that every requester in the tenant may read; validity limits searches only."""
    in_force, _, _ = secrets()
    return frozenset(
        item.id
        for item in in_force
        if "everyone" in item.access and not item.classification and not item.expires
    )


def _query(drawn: random.Random, known: list[Item], groups: tuple[str, ...], *, clearance: int = 4) -> Query:
    texts = (*HOSTILE[:25], *HOSTILE_NAMES, CANARY, f"taxi {CANARY}", f'"{CANARY}"', "taxi")
    sources = ("secret-*", "%", "next", "public", "talk", *HOSTILE_NAMES, *(item.source for item in known))
    return make_query(
        drawn.choice(texts),
        vector=drawn.choice(known).vector,
        k=drawn.choice((1, 5, 100)),
        groups=tuple(drawn.sample(groups, drawn.randint(0, len(groups)))),
        clearance=drawn.randint(0, clearance),
        as_of=drawn.choice(("2125-06-15", "2124-02-29", "2000-01-01", "2998-12-31")),
        now=drawn.choice((NOW, "2125-01-01T00:00:00Z", "2999-12-31T23:59:59Z")),
        version=drawn.choice((None, None, None, 1, 0, -1, 2, 2**31)),
        sources=tuple(drawn.sample(sources, drawn.choice((0, 0, 1, 5)))),
        kinds=drawn.choice(((), (), ("document",), ("episode", "fact", "summary"))),
        candidates=drawn.choice((1, 100)),
        mode=drawn.choice(("hybrid", "vector", "words")),
        exact=drawn.random() < 0.5,
    )


def _from_inside(drawn: random.Random, known: list[Item], query: Query) -> IsolationAttempt:
    """Return a verb with a requester who is on no access list of a secret."""
    requester = Requester(groups=query.groups, clearance=query.clearance, now=query.now or NOW)
    ids = [item.id for item in known]
    version = drawn.choice((None, 0, 1))
    verbs: dict[str, dict[str, Any]] = {
        "search": {"query": query},
        "items": {"version": version, "requester": requester},
        "count": {"ids": drawn.choice((None, ids)), "requester": requester},
    }
    verb = drawn.choices(list(verbs), (8, 1, 1))[0]
    return IsolationAttempt(tenant=VICTIM, verb=verb, arguments=verbs[verb])


def _from_outside(drawn: random.Random, known: list[Item], query: Query) -> IsolationAttempt:
    """Return any verb of another tenant's view, with the victim's ids, names and versions."""
    ids = drawn.sample([*(item.id for item in known), *HOSTILE_NAMES], 3)
    name = drawn.choice((CANARY, "cust-1", VICTIM, "secret-1", *HOSTILE_NAMES))
    what = drawn.choice(
        (Selector(ids=tuple(ids)), Selector(subject=name), Selector(source=name), Selector(expired=True))
    )
    mine = make_item("taxi outside", source="outside", parents=tuple(ids), position=drawn.randint(0, 3))
    written = make_episode(
        "taxi outside", source="outside", position=drawn.randint(4, 7), parents=tuple(ids), subject="cust-1"
    )
    verbs: dict[str, dict[str, Any]] = {
        "add": {"items": [mine], "now": NOW},
        "missing": {"ids": ids},
        "stage": {"items": [mine]},
        "publish": {"ids": ids, "now": NOW},
        "remember": {"items": [written], "budget": Budget(items=2), "now": NOW},
        "count": {"ids": ids},
        "items": {"version": drawn.choice((None, 0, 1, 2))},
        "forget": {"what": what, "now": NOW, "dry_run": drawn.random() < 0.5},
        "hold": {"what": what},
        "release": {"what": what},
        "purge": {"now": "2999-12-31T23:59:59Z", "keep_versions": 1},
        "versions": {},
        "stats": {"now": NOW},
    }
    verb = "search" if drawn.random() < 0.5 else drawn.choice(list(verbs))
    return IsolationAttempt(
        tenant=drawn.choice(OUTSIDERS),
        verb=verb,
        arguments={"query": query} if verb == "search" else verbs[verb],
    )
