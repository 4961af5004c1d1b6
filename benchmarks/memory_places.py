"""Where the benchmarks of memory run: a boundary with all its controls, over either store."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

import workbench as wb
from benchmarks.measuring import ROOT
from workbench import layout
from workbench.config import MemoryServer
from workbench.memory.stores import StoreLocation
from workbench.ports import Query
from workbench.records.tape import Tape
from workbench.retrieval import MemoryHandle
from workbench.retrieval.spec import Index
from workbench.testing.principals import acting_as
from workbench.workspace import boundary
from workbench.workspace.connection import connect

#: Who asks.
GROUPS, CLEARANCE = ("everyone", "people"), 2
Arm = Callable[[Query], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A folder with state of its own; with a server, its memories are there."""

    home: Path
    server: MemoryServer | None = None

    def workspace(self) -> wb.Workspace:
        """A workspace of the first use case that keeps nothing in the repository."""
        where = StoreLocation(state=self.home / layout.STATE, server=self.server)
        places = boundary.StatePaths(home=self.home, memories=where)
        made = boundary.Boundary(ROOT, mode="live", tape=Tape(self.home / "tape.jsonl"), places=places)
        ws = connect("answers", root=ROOT, through=made)
        requester = dataclasses.replace(ws.context.principal, groups=GROUPS, clearance=CLEARANCE)
        return acting_as(ws, requester)


def handle_of(
    ws: wb.Workspace, tenant: str, *, version: int | None = None, index: Index | None = None
) -> MemoryHandle:
    """The handbook's handle for any tenant, as if its spec had this version and these index settings.

    Each workspace must be asked with one index alone: an open store keeps its own.
    """
    handle = ws.memory()
    spec = dataclasses.replace(
        handle.spec, version=version or handle.spec.version, index=index or handle.spec.index
    )
    index_settings = dataclasses.asdict(spec.index)
    identity = {"version": spec.version, "spec": spec.digest, "snapshot": None, "index": index_settings}
    other = dataclasses.replace(ws, context=dataclasses.replace(ws.context, tenant=tenant))
    return dataclasses.replace(
        handle, spec=spec, context=other.context, make_call=partial(other._call, memory=identity)
    )


async def in_turns(arms: Mapping[str, Arm], queries: Sequence[Query]) -> dict[str, list[float]]:
    """Milliseconds of each query by each arm, in an order that is drawn anew for each query.

    Who comes after another finds the server's caches warm: no arm may come after the same one always.
    """
    times: dict[str, list[float]] = {name: [] for name in arms}
    for query in queries[:5]:
        for arm in arms.values():
            await arm(query)
    names, drawn = list(arms), random.Random(0)
    for query in queries:
        for name in drawn.sample(names, k=len(names)):
            began = time.perf_counter()
            await arms[name](query)
            times[name].append((time.perf_counter() - began) * 1000)
    return times


def p50(times: Sequence[float]) -> str:
    """The median in ms."""
    return f"{statistics.median(times):.1f} ms"


def beyond(ours: Sequence[float], bare: Sequence[float]) -> str:
    """The median of what one query takes longer than the other, taken query by query."""
    return f"{statistics.median(a - b for a, b in zip(ours, bare, strict=True)):+.1f} ms"


async def seconds(work: Awaitable[Any]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def mb_on_disk(path: Path) -> float:
    """Megabytes of a file or of all files below a folder."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files) / 1e6


def mb_of(pid: int | None) -> float:
    """Megabytes a process holds (resident set)."""
    return psutil.Process(pid).memory_info().rss / 1e6


async def settled_mb(pid: int | None, *, within_s: float = 20.0) -> float:
    """Megabytes once two readings a second apart agree to a hundredth, or the last reading."""
    before = mb_of(pid)
    for _ in range(int(within_s)):
        await asyncio.sleep(1)
        now = mb_of(pid)
        if abs(now - before) < now / 100:
            return now
        before = now
    return before


def load() -> str:
    """The machine's load, of the last minute."""
    return f"load {os.getloadavg()[0]:.1f}"
