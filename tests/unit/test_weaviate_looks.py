"""What a connection asks a Weaviate server besides the request itself, and how often."""

import asyncio
import dataclasses
from types import SimpleNamespace

import pytest

from workbench import _sync
from workbench.errors import UnavailableError
from workbench.memory.weaviate import versions
from workbench.memory.weaviate.connection import Address, Connection
from workbench.memory.weaviate.errors import AbsentError
from workbench.memory.weaviate.tenant_record import TenantRecord
from workbench.testing.memory_items import circle


class Server:
    """A client of a server, connected; `loaded` says whether the server has read its schema."""

    def __init__(self, *, loaded=True):
        self.loaded, self.asked = loaded, []
        self.cluster = SimpleNamespace(statistics=self.statistics)

    async def get_meta(self):
        self.asked.append("meta")

    async def statistics(self):
        self.asked.append("statistics")
        node = SimpleNamespace(raft=SimpleNamespace(term="3"), db_loaded=self.loaded, ready=True)
        return SimpleNamespace(statistics=[node])


async def absent(_client):
    raise RuntimeError("tenant not found")


def connected(server):
    connection = Connection(Address(url="http://127.0.0.1:9"))
    connection._client, connection._heard = server, float("inf")
    return connection


def check_ready(connection):
    _sync.run(connection.check_ready())


def test_a_server_that_nobody_doubts_is_asked_once_whether_it_is_ready():
    server = Server()
    check_ready(connected(server))
    assert server.asked == ["statistics"]


def test_after_a_tenant_was_absent_one_look_is_also_the_check():
    server = Server()
    connection = connected(server)
    with pytest.raises(AbsentError):
        _sync.run(connection.ask(absent))
    server.asked.clear()
    check_ready(connection)
    assert server.asked == ["meta", "statistics"]
    check_ready(connection)
    assert server.asked == ["meta", "statistics", "statistics"]


@pytest.mark.parametrize("doubted", [True, False])
def test_a_server_that_has_not_read_its_schema_is_not_ready(doubted):
    connection = connected(Server(loaded=False))
    connection._doubted = doubted
    with pytest.raises(UnavailableError, match="is starting"):
        check_ready(connection)


@pytest.mark.parametrize(("dimensions", "made"), [(0, []), (3, [True]), (16, [False])])
def test_a_first_embedding_makes_no_tenant_because_the_record_was_written_after_it(dimensions, made):
    asked = []

    async def make_tenant(_name, *, anew):
        asked.append(anew)

    async def save(record, **changes):
        return dataclasses.replace(record, **changes)

    space = SimpleNamespace(
        store=SimpleNamespace(make_tenant=make_tenant), table=SimpleNamespace(tenant="t"), save=save
    )
    record = TenantRecord(name="acme", dimensions=dimensions)
    record = asyncio.run(versions.with_embedding(space, record, circle(1)))
    assert (record.embedding, record.dimensions, asked) == ("hash", 16, made)
