"""A real Weaviate that is killed, that starts, and that lets a key see one tenant alone."""

import contextlib
import itertools
import socket
import threading
import time
from dataclasses import replace

import pytest
from switched_use_case import needs_a_server
from weaviate_servers import SELDOM_COLLECTED

from workbench import _sync
from workbench.config import MemoryServer
from workbench.errors import NotFoundError, RefusedError, UnavailableError
from workbench.memory.cipher import IdCipher
from workbench.memory.weaviate import WeaviateStore, local_server, open_store
from workbench.memory.weaviate.tenant_keys import grant, revoke
from workbench.ports import Budget, Selector
from workbench.testing.memory_items import AXIS, NOW, circle, contents, ids_of, make_episode, make_query
from workbench.testing.sync_memory import SyncStore

NAMES = IdCipher(key=b"c" * 64)
ITEMS = circle(240)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A server of these tests' own, asking for keys."""
    needs_a_server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADMINISTRATOR_KEY", "an administrator's key")
        folder = tmp_path_factory.mktemp("own")
        with local_server.LocalServer(
            folder, api_key_env="ADMINISTRATOR_KEY", environment=SELDOM_COLLECTED
        ) as running:
            yield running


@pytest.fixture
def opened(own, tmp_path):
    """Opens memories by their names, and closes them."""
    stores = []

    def open_one(name, *, address=None):
        stores.append(WeaviateStore(address or own.address, name=name, names=NAMES, locks=tmp_path / "locks"))
        return SyncStore(inner=stores[-1])

    yield open_one
    for store in stores:
        _sync.run(store.aclose())


def every_verb(memory):
    return [
        lambda: memory.add(circle(3)),
        lambda: memory.missing(["x"]),
        lambda: memory.stage(circle(3)),
        lambda: memory.publish([]),
        lambda: memory.remember([make_episode("x")], budget=Budget(), now=NOW),
        lambda: memory.search(make_query("w1")),
        memory.count,
        memory.items,
        lambda: memory.forget(Selector(source="s1")),
        lambda: memory.hold(Selector(source="s1")),
        lambda: memory.release(Selector(source="s1")),
        lambda: memory.purge(now=NOW, keep_versions=1),
        memory.versions,
        lambda: memory.stats(now=NOW),
    ]


def test_a_tenants_key_opens_that_tenant_and_the_server_refuses_every_other(
    own, tmp_path, monkeypatch, opened
):
    root = opened("keys")
    for tenant in ("acme", "globex"):
        root.tenant(tenant).add(circle(5))
        monkeypatch.setenv(f"KEY_OF_{tenant.upper()}", _sync.run(grant(root.inner, tenant)))
    before = contents(root.tenant("globex"))
    server_of = MemoryServer(
        url=own.address.url, grpc=f"127.0.0.1:{own.grpc_port}", api_key_env="KEY_OF_{tenant}"
    )
    keyed = SyncStore(
        inner=open_store(server_of, name="keys", part="", names=NAMES, index={}, locks=tmp_path)
    )
    assert keyed.tenant("acme").search(make_query("w1"))[0].tenant == "acme"
    assert keyed.tenant("acme").add(circle(6)).added == 1
    assert keyed.tenants() == ["acme"]
    monkeypatch.setenv("KEY_OF_GLOBEX", "")
    wrong = SyncStore(inner=keyed.inner._opened["acme"])
    for verb in every_verb(wrong.tenant("globex")):
        with pytest.raises(RefusedError, match="may not do this"):
            verb()
    assert contents(root.tenant("globex")) == before
    _sync.run(revoke(root.inner, "acme"))
    keyed.close()
    with pytest.raises(RefusedError, match="does not accept the key"):
        keyed.tenant("acme").count()
    keyed.close()


def test_with_a_key_for_each_tenant_too_no_more_stay_active_than_are_wanted(
    own, tmp_path, monkeypatch, opened
):
    root, tenants = opened("resting"), ("acme", "globex", "python")
    for tenant in tenants:
        root.tenant(tenant).add(circle(5))
        monkeypatch.setenv(f"KEY_OF_{tenant.upper()}", _sync.run(grant(root.inner, tenant)))
    _sync.run(root.inner.deactivate())
    one_of = MemoryServer(
        url=own.address.url, grpc=f"127.0.0.1:{own.grpc_port}", api_key_env="KEY_OF_{tenant}", awake=1
    )
    keyed = SyncStore(
        inner=open_store(one_of, name="resting", part="", names=NAMES, index={}, locks=tmp_path)
    )

    def active():
        found = _sync.run(
            root.inner.connection.ask(lambda c: c.collections.use(root.inner.alias).tenants.get())
        )
        return {name for name, about in found.items() if about.activity_status.value == "ACTIVE"}

    for tenant in tenants:
        assert len(keyed.tenant(tenant).search(make_query("w1"))) == 5
    until = time.monotonic() + 30
    while len(active()) > 1 and time.monotonic() < until:
        time.sleep(0.05)
    assert active() == {NAMES.tenant("python")}
    keyed.close()
    assert active() == set()


def test_a_key_that_only_reads_writes_nothing(own, monkeypatch, opened):
    root = opened("reading")
    root.tenant("acme").add(circle(5))
    monkeypatch.setenv("READING_KEY", _sync.run(grant(root.inner, "acme", write=False)))
    reader = opened("reading", address=replace(own.address, api_key_env="READING_KEY"))
    assert reader.tenant("acme").count() == 5
    with pytest.raises(RefusedError):
        reader.tenant("acme").add(circle(6))
    assert root.tenant("acme").count() == 5


def test_a_key_that_may_not_make_a_collection_is_told_so(own, monkeypatch, opened):
    from weaviate.classes.rbac import Permissions

    async def reader(client):
        everything = [
            Permissions.collections(collection="*", read_config=True),
            Permissions.alias(alias="*", collection="*", read=True),
            Permissions.cluster(read=True),
        ]
        await client.roles.create(role_name="looks", permissions=everything)
        key = await client.users.db.create(user_id="looks")
        await client.users.db.assign_roles(user_id="looks", role_names=["looks"])
        return key

    monkeypatch.setenv("LOOKING_KEY", _sync.run(opened("looks").inner.connection.ask(reader)))
    store = opened("unmade", address=replace(own.address, api_key_env="LOOKING_KEY"))
    assert store.tenant("acme").count() == 0
    with pytest.raises(RefusedError, match="may not do this"):
        store.tenant("acme").add(circle(2))


def test_a_wrong_key_is_refused_and_not_repeated(own, monkeypatch, opened):
    monkeypatch.setenv("WRONG_KEY", "canary-of-a-key")
    store = opened("wrong", address=replace(own.address, api_key_env="WRONG_KEY"))
    with pytest.raises(RefusedError, match="does not accept the key") as caught:
        store.tenant("acme").count()
    assert "canary" not in str(caught.value)


def test_what_a_killed_server_acknowledged_is_there_again_and_the_ingest_resumes(own, opened):
    store = opened("killed")
    acme = store.tenant("acme")
    acme.add(ITEMS[:50])
    before, staged, killing = contents(acme), [], threading.Thread(target=own.kill)

    def ingest():
        for start in itertools.cycle(range(50, len(ITEMS), 5)):
            acme.stage(ITEMS[start : start + 5])
            staged.extend(ids_of(ITEMS[start : start + 5]))
            if len(staged) == 60:
                killing.start()

    with pytest.raises(UnavailableError):
        ingest()
    killing.join()
    own.start()
    assert contents(acme) == before
    assert acme.missing(staged) == []
    missing = set(acme.missing(ids_of(ITEMS)))
    acme.stage([item for item in ITEMS if item.id in missing])
    acme.publish(ids_of(ITEMS), now=NOW)
    clean = opened("clean").tenant("acme")
    clean.add(ITEMS)
    assert contents(acme) == contents(clean)
    assert acme.stats(now=NOW).stored == len(ITEMS)


def test_a_server_that_starts_never_says_that_a_memory_is_empty(own, opened):
    store = opened("starting")
    store.tenant("acme").add(circle(5))
    fresh, answers, started = opened("starting"), set(), threading.Event()

    def listens():
        with socket.socket() as http, socket.socket() as grpc:
            ends = ((http, own.http_port), (grpc, own.grpc_port))
            return any(end.connect_ex(("127.0.0.1", port)) == 0 for end, port in ends)

    def ask():
        while not started.wait(0.02):
            if not listens():  # nobody can answer; a client takes a hundred times as long to find that out
                continue
            for one in (store, fresh):
                with contextlib.suppress(UnavailableError):
                    answers.add(one.tenant("acme").count())
                    answers.add(len(one.tenant("acme").search(make_query("w1"))))

    own.kill()
    asking = threading.Thread(target=ask)
    asking.start()
    own.start()  # here, because a server ends with the thread that started it
    started.set()
    asking.join()
    assert store.tenant("acme").count() == fresh.tenant("acme").count() == 5
    assert answers <= {5}


@pytest.mark.drawn("crashes seen and not", 1)
@pytest.mark.parametrize("seen", [True, False])
def test_every_vector_is_found_again_after_a_crash_whether_or_not_anybody_saw_it(own, opened, seen):
    store = opened(f"vectors{seen}")
    acme = store.tenant("acme")
    acme.add(ITEMS)
    acme.remember([make_episode("written", vector=AXIS)], budget=Budget(), now=NOW)
    query = make_query("", vector=AXIS, mode="vector", k=500, candidates=500)
    before = ids_of(acme.search(query))
    assert len(before) == len(ITEMS) + 1
    own.kill()
    if seen:
        with pytest.raises(UnavailableError):
            acme.search(query)
    own.start()
    assert ids_of(acme.search(query)) == before
    assert (acme.count(), acme.stats(now=NOW).stored) == (len(before), len(before))
    assert [hit.text for hit in acme.search(make_query("written", mode="words"))] == ["written"]
    assert ids_of(opened(f"vectors{seen}").tenant("acme").search(query)) == before


def test_a_dead_server_is_told_within_seconds_also_to_who_was_connected(own, opened):
    store = opened("dead")
    store.tenant("acme").add(circle(2))
    own.kill()
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="refused"):
        store.tenant("acme").search(make_query("w1"))
    assert time.monotonic() - began < 5
    own.start()
    assert store.tenant("acme").count() == 2


def test_a_server_is_not_started_where_another_answers(tmp_path, own):
    second = local_server.LocalServer(
        tmp_path / "second", ports=(own.http_port, own.grpc_port, own.data_port)
    )
    with pytest.raises(UnavailableError, match=f"port {own.http_port} .* taken"):
        second.start(wait_s=20)
    assert second.pid is None


def test_a_server_that_cannot_start_says_where_to_look(tmp_path):
    needs_a_server()
    broken = local_server.LocalServer(
        tmp_path / "broken", environment={"DEFAULT_VECTORIZER_MODULE": "nonsense"}
    )
    with pytest.raises(UnavailableError, match=r"server\.log"):
        broken.start(wait_s=30)
    assert broken.pid is None


def test_a_machine_without_the_binary_is_told_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setattr(local_server, "find_binary", lambda: None)
    with pytest.raises(NotFoundError) as caught:
        local_server.LocalServer(tmp_path).start()
    assert "make weaviate" in caught.value.hint
