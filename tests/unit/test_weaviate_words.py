"""What the server's and its client's errors become, and what an item is as an object: no server needed."""

import asyncio

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weaviate import exceptions as vendor

from workbench.errors import ConfigError, RefusedError, UnavailableError
from workbench.memory.cipher import IdCipher
from workbench.memory.weaviate import Address, IndexSettings, objects, schema
from workbench.memory.weaviate.errors import AbsentError, meaning, translated
from workbench.memory.weaviate.factory import address_of
from workbench.memory.weaviate.tenant_record import RecordedVersion, TenantRecord, parsed
from workbench.testing.memory_items import episode_lists, item_lists

NAMES = IdCipher(key=bytes(64))
WHERE = "127.0.0.1:1"


def of_status(status, words=""):
    return vendor.UnexpectedStatusCodeError(words, httpx.Response(status, json={"error": words}))


@pytest.mark.parametrize(
    ("error", "kind", "hint"),
    [
        (vendor.WeaviateStartUpError("Could not connect"), UnavailableError, "make weaviate"),
        (vendor.WeaviateConnectionError("refused"), UnavailableError, "make weaviate"),
        (
            vendor.WeaviateRetryError("failed to connect to all addresses", 4),
            UnavailableError,
            "make weaviate",
        ),
        (httpx.ReadError("gone"), UnavailableError, "make weaviate"),
        (vendor.WeaviateTimeoutError("late"), UnavailableError, "wait"),
        (TimeoutError(), UnavailableError, "wait"),
        (vendor.WeaviateQueryError("Deadline Exceeded", "GRPC search"), UnavailableError, "wait"),
        (of_status(401), RefusedError, "api_key_env"),
        (of_status(403), RefusedError, "role"),
        (vendor.WeaviateQueryError("unauthenticated: invalid api key", "g"), RefusedError, "api_key_env"),
        (of_status(503), UnavailableError, "wait"),
        (of_status(500), UnavailableError, "wait"),
        (of_status(422, "store is read-only"), UnavailableError, "READY"),
        (
            of_status(500, "open segment: too many open files"),
            UnavailableError,
            "workbench memory deactivate",
        ),
        (vendor.WeaviateQueryError("could not find class X in schema", "g"), AbsentError, "restore"),
        (vendor.WeaviateQueryError('tenant not found: "x"', "g"), AbsentError, "restore"),
        (vendor.WeaviateQueryError("vector lengths don't match", "g"), ConfigError, "never mix"),
        (vendor.WeaviateQueryError("something new", "g"), UnavailableError, "again"),
    ],
)
def test_every_error_of_the_client_is_translated_without_its_words(error, kind, hint):
    ours = translated(error, WHERE)
    assert isinstance(ours, kind)
    assert hint in ours.hint
    assert WHERE in ours.message
    assert ours.retryable == isinstance(ours, UnavailableError)


def test_an_error_of_the_workbench_is_not_translated():
    error = ConfigError("mine")
    assert translated(error, WHERE) is error


@given(st.text())
def test_a_message_of_the_server_is_never_repeated(canary):
    secret = f"canary{canary}"
    assert secret not in str(translated(vendor.WeaviateQueryError(secret, "g"), WHERE))


def test_an_unknown_message_has_no_meaning():
    assert meaning("aha") == "other"


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://", "http://user:secret@host"])
def test_an_address_is_an_http_url_without_credentials_and_is_not_repeated(url):
    with pytest.raises(ConfigError) as caught:
        Address(url=url)
    assert "secret" not in str(caught.value)


def test_http_and_grpc_share_no_port():
    with pytest.raises(ConfigError, match="both"):
        Address(url="http://127.0.0.1:50051")


def test_grpc_is_named_as_host_and_port():
    from workbench.config import MemoryServer

    there = address_of(MemoryServer(url="https://one.example", grpc="two.example:443"))
    assert (there.grpc_host, there.grpc_port, there.port, there.secure) == ("two.example", 443, 443, True)
    for wrong in ("two.example", ":1", "two.example:x", "two.example:0"):
        with pytest.raises(ConfigError, match="host:port"):
            address_of(MemoryServer(url="http://one.example", grpc=wrong))


@given(item_lists())
def test_a_document_survives_its_conversion(items):
    for item in items:
        given_as = objects.properties_of(item, words="", tenant="acme", names=NAMES, since=3)
        back = objects.item_of({"created": None, **given_as}, item.vector, tenant="acme", names=NAMES)
        assert back == item or set(back.access) == set(item.access)
        assert item.id not in str(given_as)
        assert not item.subject or item.subject not in str(given_as["subject"])


@given(episode_lists())
def test_an_episodic_item_survives_its_conversion(items):
    for item in items:
        given_as = objects.properties_of(item, words="", tenant="acme", names=NAMES, since=0)
        back = objects.item_of({"created": None, **given_as}, item.vector, tenant="acme", names=NAMES)
        assert (back.created, back.expires, back.trust) == (item.created, item.expires, item.trust)
        assert objects.ttl_of(given_as, held=False) == item.expires
        assert objects.ttl_of(given_as, held=True) is None


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_two_memories_share_a_collection_even_where_case_does_not_count(one, two):
    names = [schema.collection_name(name).lower() for name in (one, two)]
    assert (names[0] == names[1]) == (one == two)


def test_a_record_is_read_as_it_was_written():
    record = TenantRecord(
        name="n", version=2, embedding="e", dimensions=3, conditions=("expires",),
        versions=(RecordedVersion(number=2, at="", items=1, content="c"),),
        holds={"h": (("item", "x"), ("subject", "y"))}, writes=7,
    )  # fmt: skip
    assert parsed(record.text()) == record
    with pytest.raises(ConfigError):
        parsed('{"name": 1}')


def found_as(wanted, **index):
    config = {"distanceMetric": "dot", "efConstruction": 128, "maxConnections": 32, **index}
    properties = [dict(one) for one in wanted["properties"]]
    return {**wanted, "vectorIndexConfig": config, "properties": properties}


def test_a_collection_of_another_key_schema_or_index_is_refused():
    wanted = schema.items_collection("C", schema.description("m", NAMES), IndexSettings())
    schema.check_collection(found_as(wanted), wanted)
    for wrong in ({"distanceMetric": "cosine"}, {"maxConnections": 8}, {"efConstruction": 8}):
        with pytest.raises(ConfigError, match="other settings"):
            schema.check_collection(found_as(wanted, **wrong), wanted)
    other = found_as(wanted)
    next(one for one in other["properties"] if one["name"] == "item")["tokenization"] = "word"
    with pytest.raises(ConfigError, match="other settings: item"):
        schema.check_collection(other, wanted)
    foreign = {**wanted, "description": schema.description("m", IdCipher(key=b"x" * 64))}
    with pytest.raises(ConfigError, match="another memory, schema or key"):
        schema.check_collection(foreign, wanted)


def test_one_writer_waits_for_the_other(tmp_path):
    from workbench.memory.locks import Locks

    async def overlap():
        order = []

        async def write(locks, name):
            async with locks.writing("t"):
                order.append(f"{name} in")
                await asyncio.sleep(0.01)
                order.append(f"{name} out")

        await asyncio.gather(write(Locks(tmp_path), "a"), write(Locks(tmp_path), "b"))
        return order

    order = asyncio.run(overlap())
    assert [step.split()[1] for step in order] == ["in", "out", "in", "out"]


def test_a_writer_that_waits_too_long_gets_an_error(tmp_path):
    from workbench.memory.locks import Locks

    async def wait():
        async with Locks(tmp_path).writing("t"), Locks(tmp_path, wait_s=0).writing("t"):
            pass

    with pytest.raises(UnavailableError, match="another process"):
        asyncio.run(wait())
