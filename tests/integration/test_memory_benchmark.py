"""The benchmarks of memory ask both of their arms the same, and still fit the code that they measure."""

from benchmarks.memory_bare import Bare, Client, rows_of
from benchmarks.memory_made import Made, ingest, queries
from benchmarks.memory_places import Place, handle_of, in_turns
from workbench import _sync, layout
from workbench.config import MemoryServer
from workbench.layout import MEMORY_KEY as KEY
from workbench.memory.cipher import load_cipher
from workbench.memory.weaviate import schema

MADE = Made.of(150, seed=5)
ASKED = queries(3, seed=6)


def taken(place):
    """A place whose tenant holds all that was made, the tenant's view, and the name of its collection."""
    ws = place.workspace()
    handle = handle_of(ws, "made", version=96)  # a memory of this test's own
    assert _sync.run(ingest(handle.view, MADE)) > 0
    return ws, handle.view, schema.collection_name(f"{handle.name}/96")


def test_every_arm_on_a_server_finds_ten_of_what_may_be_seen(weaviate_address, tmp_path):
    server = MemoryServer(url=weaviate_address.url, grpc=f"127.0.0.1:{weaviate_address.grpc_port}")
    ws, view, alias = taken(Place(home=tmp_path, server=server))
    names = load_cipher(tmp_path / layout.STATE / KEY)
    seen = {one for one, shown in zip(MADE.ids(), MADE.seen, strict=True) if shown}

    async def asked():
        client = Client(weaviate_address)
        await client.look_at(alias, names.tenant("made"))
        arms = (client.same, client.keys, client.hybrid, client.near)
        answers = [await arm(query) for query in ASKED for arm in arms]
        await client.make("Benchmark")
        await client.fill("bare", rows_of([MADE.item(place) for place in range(len(MADE))]))
        filled = await client.inner.collections.use("Benchmark").with_tenant("bare").length()
        whole = [len(answer.objects) for answer in await client.both_whole(ASKED[0])]
        await client.inner.collections.delete("Benchmark")
        await client.inner.close()
        return answers, whole, filled

    answers, whole, filled = _sync.run(asked())
    for query in ASKED:
        assert {hit.id for hit in _sync.run(view.search(query))} <= seen
    for answer in answers:
        found = {names.decrypt("made", row.properties["item"]) for row in answer.objects}
        assert len(found) == 10
        assert found <= seen
    assert whole[0] == ASKED[0].candidates
    assert filled == len(MADE)
    ws.close()


def test_both_embedded_arms_are_asked_and_timed(tmp_path):
    ws, view, _ = taken(Place(home=tmp_path))
    bare = Bare(tmp_path / "bare.sqlite", MADE)
    times = _sync.run(in_turns({"port": view.search, "bare": bare.search}, ASKED))
    assert {name: len(spent) for name, spent in times.items()} == {"port": 3, "bare": 3}
    hits = _sync.run(view.search(ASKED[0]))
    texts = _sync.run(bare.search(ASKED[0]))
    assert len(hits) == len(texts) == 10
    bare.close()
    ws.close()
