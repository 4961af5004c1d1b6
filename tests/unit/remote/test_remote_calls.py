"""What a caller states of a call, and what it cannot state."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import orjson
import pytest
from calls import chat, search

from workbench.context import InvocationScope, invocation_scope
from workbench.errors import ConfigError
from workbench.identity import Principal
from workbench.ports import ModelCandidate, PromptInputs
from workbench.ports.privacy import DeclaredData
from workbench.remote.calls import AskedCall, encode_call
from workbench.remote.passages import ServedHits
from workbench.remote.protocol import MOST_BYTES, MOST_LEVELS
from workbench.testing.fakes import FakeClock
from workbench.types import STATED, Hit

HIT = Hit(
    id="h1", text="A taxi is paid.", source="taxi", title="", version=1, score=0.5, tenant="acme",
    as_of="2025-01-01", stale=False, digest="d", memory="handbook",
)  # fmt: skip


def sent(call, **more) -> dict:
    options = {"caller": "c1", "served": ServedHits(), **more}
    return orjson.loads(encode_call(call, **options))


def read(call, **more) -> AskedCall:
    return AskedCall.read(orjson.dumps(sent(call, **more)))


def test_a_call_states_its_payload_and_what_it_is_part_of():
    clock = FakeClock()
    call = chat("a taxi?", clock=clock, temperature=0.1, labels={"client": "openai", "recorded": False})
    call = replace(
        call,
        deadline=clock.monotonic() + 2.5,
        retries=0,
        defaulted=frozenset({"temperature"}),
        fallbacks=(ModelCandidate(target="big@1", model="b"), ModelCandidate(target=STATED, answer="Sorry.")),
        declared=DeclaredData(classes=("internal",), identifiers=(("Ann Lee", "person", "personal"),)),
        context=replace(call.context, session="s1", subject="p1"),
    )
    scope = InvocationScope(case="q1", repeat=2, task="answer", columns={"name": "Ann", "odd": object()})
    with invocation_scope(scope):
        asked = read(call, run_scope="r1")
    assert asked.payload == call.payload and asked.reference == "small"
    assert (asked.tenant, asked.purpose, asked.session, asked.subject) == ("acme", "test", "s1", "p1")
    assert (asked.seconds, asked.retries, asked.defaulted) == (2.5, 0, ("temperature",))
    assert asked.fallbacks == ("big@1", {"answer": "Sorry."})
    assert asked.declared == call.declared and asked.labels == {"client": "openai"}
    around = asked.invocation
    assert (around.id, around.case, around.repeat, around.task) == (scope.parent, "q1", 2, "answer")
    assert around.columns == {"name": "Ann"} and asked.run_scope == "r1"


def test_a_call_states_no_identity_no_principal_of_its_own_and_no_clock():
    call = chat(identity={"weights": "SECRET"})
    text = encode_call(call, caller="c1", served=ServedHits(), own=call.context.principal).decode()
    assert "SECRET" not in text and "ada" not in text and "principal" not in text
    assert not {"identity", "deadline", "context", "price", "card"} & sent(call).keys()


def test_a_narrower_principal_is_stated():
    call = chat()
    own = Principal(name="ada", groups=("everyone", "finance"), admin=True)
    assert read(call, own=own).principal == call.context.principal
    assert read(call, own=call.context.principal).principal is None


def test_a_memory_is_named_with_its_version_and_its_arguments_are_read_by_type():
    call = search("a taxi?")
    asked = read(call)
    assert asked.reference == "handbook@2" and asked.payload == call.payload
    assert asked.payload["query"].vector == (1.0,)


def test_passages_and_inputs_are_references_to_what_was_served():
    served, changed = ServedHits(), replace(HIT, text="A taxi is never paid.")
    served.note([HIT], data_class="health")
    marked = replace(HIT, stale=True, data_class="health")
    call = replace(
        chat(),
        passages=(marked, changed),
        prompt=PromptInputs(reference="answer@2", inputs={"p": [HIT], "n": 3}),
    )
    asked = read(call, served=served)
    reference = asked.passages[0]
    assert set(reference) == {"id", "mark", "stale"} and "hit" in asked.passages[1]
    assert served.resolved(reference, strict=True) == marked
    assert asked.prompt.inputs["n"] == {"value": 3} and HIT.text not in str(asked.prompt.inputs)
    assert asked.prompt.inputs["p"]["hits"][0]["id"] == "h1"


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), {"a": HIT}, "\ud800"])
def test_inputs_that_are_not_json_are_left_out_and_the_claim_stays(value):
    call = replace(chat(), prompt=PromptInputs(reference="answer@2", inputs={"a": value}))
    asked = read(call)
    assert asked.prompt.reference == "answer@2" and asked.prompt.inputs is None


@pytest.mark.parametrize("value", [float("inf"), object(), "\ud800", 2**70])
def test_a_payload_that_is_not_json_is_refused(value):
    with pytest.raises(ConfigError, match="request"):
        sent(chat(temperature=value))


def test_a_payload_above_the_bound_is_refused_before_it_is_sent():
    with pytest.raises(ConfigError, match="bytes"):
        sent(chat("x" * MOST_BYTES))
    with pytest.raises(ConfigError) as caught:
        sent(replace(search(), operation="add", payload={"items": ["x" * MOST_BYTES], "now": ""}))
    assert "kb.ingest" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"identity": {"weights": "w"}}, "identity"),
        ({"principal": {"name": "root"}}, "principal"),
        ({"principal": {"name": "a", "kind": "god", "assurance": "asserted", "admin": True}}, "principal"),
        ({"deadline": 3.0}, "deadline"),
        ({"format": 2}, "form"),
        ({"port": "tool"}, "port"),
        ({"payload": []}, "payload"),
        ({"labels": {"recorded": False}}, "recorded"),
        ({"labels": {"job": "answers"}}, "job"),
        ({"labels": {"a": {"b": 1}}}, "labels"),
        ({"labels": {"a": "x" * 1_001}}, "labels"),
        ({"labels": {str(number): 1 for number in range(33)}}, "labels"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": True}, "seconds"),
        ({"retries": 1.5}, "retries"),
        ({"tenant": 3}, "tenant"),
        ({"tenant": "x" * 1_001}, "tenant"),
        ({"caller": "../c"}, "caller"),
        ({"caller": None}, "caller"),
        ({"fallbacks": [{"answer": "a", "target": "b"}]}, "fallbacks"),
        ({"fallbacks": [{"target": "big", "identity": {}}]}, "fallbacks"),
        ({"declared": {"values": []}}, "declared"),
        ({"declared": {"identifiers": [["a", "b"]]}}, "declared"),
        ({"passages": [{"id": "a"}]}, "passages"),
        ({"passages": [{"id": "a", "mark": "b", "text": "c"}]}, "passages"),
        ({"prompt": {"inputs": {}}}, "prompt"),
        ({"prompt": {"reference": "a@1", "inputs": {"a": 1}}}, "prompt"),
        ({"prompt": {"reference": "a@1", "inputs": {"a": {"hits": [3]}}}}, "prompt"),
        ({"invocation": {"case": "q1"}}, "invocation"),
        ({"invocation": {"id": "a", "records": []}}, "records"),
        ({"ended": ["a"]}, "ended"),
        ({"defaulted": "temperature"}, "defaulted"),
    ],
)
def test_an_odd_field_is_refused_by_name(change, named):
    with pytest.raises(ConfigError, match=named):
        AskedCall.read(orjson.dumps({**sent(chat()), **change}))


@pytest.mark.parametrize("name", ["port", "operation", "target", "payload", "use_case", "caller"])
def test_a_missing_field_is_named(name):
    stated = sent(chat())
    del stated[name]
    with pytest.raises(ConfigError, match=name):
        AskedCall.read(orjson.dumps(stated))


@pytest.mark.parametrize("body", [b"", b"[]", b"3", b"{", b'"a"', b"\xff", b"null", b"{}"])
def test_a_body_that_is_no_call_is_refused(body):
    with pytest.raises(ConfigError, match="call"):
        AskedCall.read(body)


def nested(levels: int) -> bytes:
    deep = b"[" * levels + b"]" * levels
    return orjson.dumps({**sent(chat()), "payload": {"a": orjson.Fragment(deep)}})


def test_a_body_that_is_nested_too_deep_is_refused():
    assert AskedCall.read(nested(MOST_LEVELS - 2)).payload
    for levels in (MOST_LEVELS, 1_000, 100_000):
        with pytest.raises(ConfigError, match=r"nested|JSON"):
            AskedCall.read(nested(levels))


def test_an_asked_call_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        read(chat()).tenant = "globex"
