"""Memory: search and ingest through the port against the bare clients, recall, growth, tenants.

Both arms are asked the same vectors on one loop, in turns. `python -m benchmarks.memory` runs this alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.measuring import Row, run
from benchmarks.memory_bare import Bare, Client, rows_of
from benchmarks.memory_made import NOW, Made, chunks, ingest, queries
from benchmarks.memory_places import (
    Place,
    beyond,
    handle_of,
    in_turns,
    load,
    mb_on_disk,
    p50,
    seconds,
    settled_mb,
)
from workbench import _sync, layout
from workbench.config import MemoryServer
from workbench.layout import MEMORY_KEY as KEY
from workbench.memory.cipher import load_cipher
from workbench.memory.weaviate import schema
from workbench.memory.weaviate.local_server import LocalServer, find_binary
from workbench.memory.weaviate.store import WeaviateStore
from workbench.ports import Memory, Query
from workbench.retrieval.port import TEXTS
from workbench.retrieval.spec import Index
from workbench.types import Item

SMALL, LARGE = 10_000, 100_000
TENANT = {SMALL: "small", LARGE: "large"}
MANY, ACTIVE = 1_000, 100
SEARCH_TARGET = "bare + <= 1 ms"
_AGAINST = {
    "same": ("both rankings with the ids that break ties, then the ten best", SEARCH_TARGET),
    "keys": ("both rankings by keys alone with ties as they come, then the ten best", SEARCH_TARGET),
    "whole": ("both rankings as the client gives them", SEARCH_TARGET),
    "hybrid": ("the server's own hybrid, which fuses otherwise", "reported"),
    "near": ("one `near_vector`", "reported"),
}
OPENED = """
import sys, time, psutil
from pathlib import Path
from benchmarks.memory_made import queries
from benchmarks.memory_places import Place, handle_of
from workbench import _sync
ws = Place(home=Path(sys.argv[1])).workspace()
view = handle_of(ws, sys.argv[2]).view
_sync.run(handle_of(ws, "nobody").view.search(queries(1, seed=1)[0]))
before, began = psutil.Process().memory_info().rss, time.perf_counter()
_sync.run(view.search(queries(1, seed=1)[0]))
print((psutil.Process().memory_info().rss - before) / 1e6, time.perf_counter() - began)
ws.close()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One run: what was made of each size, a place on SQLite, one on a server of its own."""

    folder: Path
    server: LocalServer
    made: dict[int, Made]
    asked: list[Query]

    @property
    def here(self) -> Place:
        """Embedded."""
        return Place(home=self.folder / "sqlite")

    @property
    def there(self) -> Place:
        """On the server."""
        address = self.server.address
        server = MemoryServer(url=address.url, grpc=f"127.0.0.1:{address.grpc_port}")
        return Place(home=self.folder / "weaviate", server=server)

    @property
    def data(self) -> Path:
        """Where the server keeps what it is given."""
        return self.server.folder / "data"


def rows() -> Iterator[Row]:
    """All rows of the table, each when it has been measured; one that says what to type without a server."""
    if find_binary() is None:
        yield "memory", "not measured: there is no weaviate-server here", "make weaviate"
        return
    with tempfile.TemporaryDirectory() as name, LocalServer(Path(name) / "server") as server:
        made = {size: Made.of(size, seed=size) for size in (SMALL, LARGE)}
        bench = Bench(folder=Path(name), server=server, made=made, asked=queries(200, seed=3))
        for measure in MEASURES:
            for row in measure(bench):
                yield row[0], f"{row[1]} ({load()})", row[2]


def ingesting(bench: Bench) -> Iterable[Row]:
    """10,000 items staged and published through the port, against insert_many of the same rows."""
    ws, client = bench.there.workspace(), Client(bench.server.address)
    made = bench.made[SMALL]
    rows_bare = rows_of([item for some in made.batches() for item in some])

    async def turns() -> tuple[list[float], list[float]]:
        await client.make("Bare")
        ours, bare = [], []
        for turn in range(6):
            tenant = f"again-{turn}" if turn else TENANT[SMALL]
            if turn % 2:  # who comes second finds more in the server
                bare.append(await seconds(client.fill(f"bare-{turn}", rows_bare)))
            ours.append(await ingest(handle_of(ws, tenant).view, made))
            if not turn % 2:
                bare.append(await seconds(client.fill(f"bare-{turn}", rows_bare)))
        await client.inner.close()
        return ours, bare

    ours, bare = _sync.run(turns())
    ws.close()
    ratio = statistics.median(other / own for own, other in zip(ours, bare, strict=True))
    rates = (SMALL / statistics.median(times) for times in (ours, bare))
    said = f"{ratio:.2f}x; {' and '.join(f'{rate:,.0f}' for rate in rates)} items/s"
    yield "Weaviate: ingest of 10,000 items through the port against `insert_many`", said, ">= 0.8x"
    ws = bench.here.workspace()
    spent = _sync.run(ingest(handle_of(ws, TENANT[SMALL]).view, made))
    ws.close()
    yield "SQLite: ingest of 10,000 items through the port", f"{SMALL / spent:,.0f} items/s", "reported"


def filling(bench: Bench) -> Iterable[Row]:
    """The large tenant, put into both stores."""
    for name, place in (("Weaviate", bench.there), ("SQLite", bench.here)):
        ws = place.workspace()
        spent = _sync.run(ingest(handle_of(ws, TENANT[LARGE]).view, bench.made[LARGE]))
        ws.close()
        said = f"{LARGE / spent:,.0f} items/s"
        yield f"{name}: ingest of 100,000 items through the port", said, "reported"


def opened(bench: Bench) -> Iterable[Row]:
    """What each size takes on disk, and in memory once it has been searched after a start."""
    memories = bench.here.home / layout.STATE / "memories"
    together = mb_on_disk(memories)
    for size in (SMALL, LARGE):
        held, first = run(sys.executable, "-c", OPENED, str(bench.here.home), TENANT[size]).split()
        disk = together * size / (SMALL + LARGE)
        said = (
            f"{disk:,.0f} MB on disk, {float(held):,.0f} MB in the process, first search {float(first):.1f} s"
        )
        yield f"SQLite: a tenant of {size:,} items, opened", said, "reported"
    bench.server.stop()
    bench.server.start()
    names = load_cipher(bench.there.home / layout.STATE / KEY)
    ws = bench.there.workspace()
    _sync.run(handle_of(ws, "nobody").view.search(bench.asked[0]))
    for size in (SMALL, LARGE):
        first = _sync.run(seconds(handle_of(ws, TENANT[size]).view.search(bench.asked[0])))
        held = _sync.run(settled_mb(bench.server.pid))
        disk = sum(map(mb_on_disk, bench.data.glob(f"*/{names.tenant(TENANT[size])}")))
        said = f"{disk:,.0f} MB on disk, the server then holds {held:,.0f} MB, first search {first:.1f} s"
        yield f"Weaviate: a tenant of {size:,} items, opened", said, "reported"
    ws.close()


def on_weaviate(bench: Bench) -> Iterable[Row]:
    """Search through the port against the client asked for the same, with the same filter."""
    ws = bench.there.workspace()
    names = load_cipher(bench.there.home / layout.STATE / KEY)
    handle = handle_of(ws, TENANT[SMALL])
    alias = schema.collection_name(f"{handle.name}/{handle.spec.version}")
    for size in (SMALL, LARGE):
        client, view = Client(bench.server.address), handle_of(ws, TENANT[size]).view

        async def turns(
            client: Client = client, view: Memory = view, size: int = size
        ) -> dict[str, list[float]]:
            await client.look_at(alias, names.tenant(TENANT[size]))
            arms = {
                "port": view.search, "same": client.same, "keys": client.keys,
                "whole": client.both_whole, "hybrid": client.hybrid, "near": client.near,
            }  # fmt: skip
            try:
                return await in_turns(arms, bench.asked)
            finally:
                await client.inner.close()

        times = _sync.run(turns())
        port = times.pop("port")
        for name, bare in times.items():
            against, target = _AGAINST[name]
            yield f"Weaviate, {size:,} items: search against {against}", _compared(port, bare), target
    ws.close()


def on_sqlite(bench: Bench) -> Iterable[Row]:
    """Search through the port against NumPy and FTS5 in one thread."""
    ws = bench.here.workspace()
    for size in (SMALL, LARGE):
        bare = Bare(bench.folder / f"bare-{size}.sqlite", bench.made[size])
        view = handle_of(ws, TENANT[size]).view
        times = _sync.run(in_turns({"port": view.search, "bare": bare.search}, bench.asked))
        bare.close()
        said = _compared(times["port"], times["bare"])
        yield f"SQLite, {size:,} items: search against NumPy and FTS5 in one thread", said, SEARCH_TARGET
    ws.close()


def recall_on_made(bench: Bench) -> Iterable[Row]:
    """Recall@10 of the approximate index on Gaussian vectors, by `ef`; the spec's is the first."""
    made, asked = bench.made[LARGE], [_nearest(query) for query in bench.asked[:100]]
    spec = handle_of(bench.there.workspace(), "nobody").spec.index.ef
    found = {ef: _recall(bench, made, asked, ef) for ef in (spec, 128, 256, 384, 1024)}
    _recall(bench, made, asked[:1], spec)
    for ef, share in sorted(found.items()):
        said, target = (", the spec's", ">= 0.75") if ef == spec else ("", "reported")
        name = f"Weaviate: recall@10 on 100,000 Gaussian vectors at ef {ef}{said}"
        yield name, f"{share:.2f}", target


def _recall(bench: Bench, made: Made, asked: list[Query], ef: int) -> float:
    ws = bench.there.workspace()
    view = handle_of(ws, TENANT[LARGE], index=Index(ef=ef)).view

    async def shares() -> list[float]:
        return [
            len({hit.id for hit in await view.search(query)} & made.best(query, query.k)) / query.k
            for query in asked
        ]

    share = statistics.mean(_sync.run(shares()))
    ws.close()
    return share


def recall_on_chunks(bench: Bench) -> Iterable[Row]:
    """Recall@10 on the use case's embeddings: as the spec sets the index, and with no exact search at all."""
    there = bench.there.workspace()
    items, asked = chunks(there)
    there.close()
    exact = _hits(bench.here, items, asked, version=98)
    for version, cutoff in ((98, handle_of(there, "nobody").spec.index.flat_cutoff), (99, 1)):
        found = _hits(bench.there, items, asked, version=version, index=Index(flat_cutoff=cutoff))
        share = statistics.mean(
            len(one & other) / len(other) for one, other in zip(found, exact, strict=True) if other
        )
        how = "as the spec sets it" if cutoff > 1 else "the graph alone"
        said = f"{share:.3f} over {len(asked)} questions"
        yield f"Weaviate: recall@10 on {len(items):,} chunks, {how}", said, ">= 0.95"


def _hits(
    place: Place, items: list[Item], asked: list[Query], *, version: int, index: Index | None = None
) -> list[set[str]]:
    ws = place.workspace()
    view = handle_of(ws, "chunks", version=version, index=index).view

    async def found() -> list[set[str]]:
        for start in range(0, len(items), TEXTS):
            await view.stage(items[start : start + TEXTS])
        await view.publish([item.id for item in items])
        return [{hit.id for hit in await view.search(_nearest(query))} for query in asked]

    answer = _sync.run(found())
    ws.close()
    return answer


def going_back(bench: Bench) -> Iterable[Row]:
    """Snapshot of 10,000 items, and its restore into an empty memory, on both stores."""
    for name, place in (("SQLite", bench.here), ("Weaviate", bench.there)):
        ws, folder = place.workspace(), bench.folder / f"snapshot-{name}"
        handle = handle_of(ws, TENANT[SMALL])
        wrote = _sync.run(seconds(handle.snapshot_async(folder)))
        empty = handle_of(ws, TENANT[SMALL], version=97)
        read = _sync.run(seconds(empty.restore_async(folder)))
        ws.close()
        size = mb_on_disk(folder)
        said = f"{wrote:.1f} s and {read:.1f} s ({size:.1f} MB)"
        yield f"{name}: snapshot and restore of 10,000 items", said, "reported"


def tenants(bench: Bench) -> Iterable[Row]:
    """1,000 tenants of ten items, a hundred active at a time: a server keeps files open for each of them."""
    with LocalServer(bench.folder / "many") as server:  # what another one holds may shrink meanwhile
        yield from _tenants(bench, server)


def _tenants(bench: Bench, server: LocalServer) -> Iterable[Row]:
    names = load_cipher(bench.folder / "many.key")
    items = [bench.made[SMALL].item(place) for place in range(10)]
    store = WeaviateStore(server.address, name="many", names=names, locks=bench.folder / "locks")
    spent, held, files, found = _sync.run(_lived(store, items, bench.asked[0], psutil.Process(server.pid)))
    said = f"{spent[0]:.0f} s, eight at once; deactivated in {spent[1]:.1f} s"
    yield f"Weaviate: {MANY:,} tenants of ten items each, added", said, "reported"
    said = f"{found[0] * 1000:.0f} ms; the second one {found[1] * 1000:.1f} ms"
    yield "Weaviate: first search of an inactive tenant, p50", said, "reported"
    active, idle = (held[1] - held[0]) / ACTIVE, (held[2] - held[0]) / MANY
    said = (
        f"{idle * 1000:,.0f} KB for each of {MANY:,} inactive; {active * 1000:,.0f} KB and "
        f"{(files[1] - files[0]) / ACTIVE:.0f} open files for each of {ACTIVE} active"
    )
    yield "Weaviate: what the server holds for a tenant", said, "reported"


async def _lived(
    store: WeaviateStore, items: list[Item], query: Query, process: psutil.Process
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Seconds of adding and of putting to rest; megabytes and files held; seconds of two searches."""
    called = [f"t{number}" for number in range(MANY)]
    gate = asyncio.Semaphore(8)

    async def one(tenant: str) -> None:
        async with gate:
            await store.tenant(tenant).add(items, now=NOW)

    async def searched() -> float:
        return statistics.median([await seconds(store.tenant(one).search(query)) for one in called[:50]])

    await store.make()
    spent = [0.0, 0.0]
    held, files = [await settled_mb(process.pid)], [float(process.num_fds())]
    for start in range(0, MANY, ACTIVE):
        some = called[start : start + ACTIVE]
        spent[0] += await seconds(asyncio.gather(*map(one, some)))
        if not start:
            held.append(await settled_mb(process.pid))
            files.append(float(process.num_fds()))
        spent[1] += await seconds(store.deactivate(some))
    held.append(await settled_mb(process.pid))
    found = [await searched(), await searched()]
    await store.aclose()
    return spent, held, files, found


def _compared(port: list[float], bare: list[float]) -> str:
    return f"{beyond(port, bare)} ({p50(port)} against {p50(bare)})"


def _nearest(query: Query) -> Query:
    return dataclasses.replace(query, mode="vector")


MEASURES = (
    ingesting, filling, opened, on_weaviate, on_sqlite, recall_on_made, recall_on_chunks, going_back, tenants,
)  # fmt: skip


if __name__ == "__main__":
    for name, value, target in rows():
        print(f"| {name} | {value} | {target} |", flush=True)
