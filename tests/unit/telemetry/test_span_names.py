"""A finished call becomes the attributes of the golden files: by the conventions, and for Phoenix."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from calls import chat, context, remembered

from workbench.context import InvocationScope
from workbench.ports import Call, Query
from workbench.telemetry import names
from workbench.telemetry.answers import MOST_TEXT, AnswerFacts
from workbench.telemetry.metrics import invocation_measurements, measurements
from workbench.telemetry.spans import call_span, invocation_span
from workbench.types import Event, Hit

GOLDEN = Path(__file__).parent / "golden"
CALL = "0af7651916cd43dd8448eb211c80319c"
BASE = {
    "trace_id": CALL, "parent": None, "at": "2026-11-30T06:00:00.000000+00:00", "duration_s": 1.5,
    "use_case": "answers", "tenant": "acme", "principal": "ada", "assurance": "asserted", "purpose": "job",
    "port": "model", "operation": "chat", "target": "small@2", "labels": {"prompt": "answer@2", "row": "r1"},
    "outcome": "ok", "error": None, "status": None, "first_event_s": 0.25, "streamed": False, "events": 1,
    "replayed": False, "source": "model", "recorded_latency_s": 1.4, "key": "k" * 64, "repaired": False,
    "degraded": False, "hits": [],
    "attempts": [{"n": 1, "started_s": 0.0, "duration_s": 1.4, "outcome": "ok"}],
    "input_tokens": 40, "output_tokens": 7, "cached_tokens": 8, "cost_usd": 0.0125,
}  # fmt: skip
ENDPOINT = {"provider": "openai", "model": "small", "base_url": "https://models.example/v1"}
REPLY = {
    "id": "chatcmpl-1", "model": "small-2026",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Taxis are paid."}, "finish_reason": "stop"}
    ],
}  # fmt: skip


def answered(*data, content: bool = False) -> AnswerFacts:
    facts = AnswerFacts(content=content)
    for item in data:
        facts.take(Event(data=item))
    return facts


def hit(number: int, text: str = "Taxis are paid.") -> Hit:
    return Hit(
        id=f"p{number}", text=text, source="travel", title="Travel", version=1, score=0.5, tenant="acme",
        as_of="2026-11-30", stale=False, digest="d", memory="handbook@2",
    )  # fmt: skip


def of_model(**changed):
    call = chat(identity=ENDPOINT, max_tokens=64, temperature=0.0, seed=7)
    return call_span({**BASE, **changed}, call, answered(REPLY))


def shown(span) -> dict:
    return {
        "name": span.name, "client": span.client, "error": span.error,
        "duration_ms": (span.end_ns - span.start_ns) / 1e6,
        "attributes": dict(sorted(span.attributes.items())),
        "children": [shown(child) for child in span.children],
    }  # fmt: skip


def retried():
    attempts = [
        {"n": 1, "started_s": 0.0, "duration_s": 0.5, "outcome": "failed", "error": "UnavailableError",
         "candidate": "small@2", "reserved_usd": 0.02},
        {"n": 2, "started_s": 0.75, "waited_s": 0.25, "queued_s": 0.01, "duration_s": 0.5, "outcome": "ok",
         "error": None, "candidate": "other@1"},
    ]  # fmt: skip
    return of_model(attempts=attempts, fallback="other", fallback_reason="UnavailableError", job="answers")


def refused():
    return of_model(
        outcome="refused", error="BudgetExceededError", input_tokens=None, output_tokens=None, cost_usd=None,
        cached_tokens=None, attempts=[], would_refuse=["tenant acme a day"],
    )  # fmt: skip


def searched(*, content: bool = False):
    record = {**BASE, "port": "memory", "operation": "search", "target": "handbook", "source": None,
              "input_tokens": None, "output_tokens": None, "cost_usd": None, "cached_tokens": None,
              "hits": [{"id": "p1"}, {"id": "p2"}], "degraded": True, "labels": {}}  # fmt: skip
    query = Query(text="a taxi?", vector=(1.0,), k=5, as_of="2026-11-30", groups=("everyone",))
    return call_span(record, remembered("search", query=query), answered([hit(1), hit(2)], content=content))


def embedded():
    call = replace(chat(identity={"provider": "wordllama"}), operation="embed", payload={"model": "wl-256"})
    record = {**BASE, "operation": "embed", "labels": {}, "output_tokens": None, "cost_usd": 0.0}
    return call_span(record, call, answered({"model": "wl-256"}))


def with_content():
    call = chat(identity=ENDPOINT)
    return call_span(BASE, call, answered(REPLY, content=True))


def invoked():
    scope = InvocationScope(case="q1", task="answer", began_ns=1_000_000_000)
    scope.records.append({**BASE, "session": "s-1"})
    scope.error = "NoAnswerError"
    return invocation_span(scope, end_ns=3_000_000_000)


SPANS = {
    "chat": of_model, "retried": retried, "refused": refused, "search": searched, "embed": embedded,
    "content": with_content, "search-content": lambda: searched(content=True), "invocation": invoked,
}  # fmt: skip


@pytest.mark.parametrize("name", SPANS)
def test_a_span_has_the_attributes_of_its_golden_file(name):
    assert shown(SPANS[name]()) == json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(set(SPANS) - {"content", "search-content"}))
def test_a_span_holds_no_content_and_names_no_person_and_no_tenant(name):
    text = json.dumps(shown(SPANS[name]()))
    for word in ("taxi", "Taxis", "be brief", "ada", "acme", "k" * 64):
        assert word not in text


def test_a_long_text_is_cut_and_the_last_turns_are_kept():
    turns = [{"role": "user", "content": f"{n} " + "x" * 9_000} for n in range(50)]
    call = replace(chat(identity=ENDPOINT), payload={"model": "small", "messages": turns})
    found = answered(content=True).attributes(call)
    sent = json.loads(found["gen_ai.input.messages"])
    assert len(sent) == 32 and sent[-1]["parts"][0]["content"].startswith("49 x")
    assert {len(turn["parts"][0]["content"]) for turn in sent} == {MOST_TEXT}


def test_a_text_that_is_no_unicode_loses_one_character_and_not_the_span():
    broken = [{"role": "tool\ud800", "content": "a \ud800 b", "tool_calls": [{"id": "\udfff"}]}]
    call = replace(chat(identity=ENDPOINT), payload={"model": "small", "messages": broken})
    found = answered(content=True).attributes(call)
    (turn,) = json.loads(found["gen_ai.input.messages"])
    assert turn["role"] == "tool?" and turn["parts"][0]["content"] == "a ? b"


def test_what_an_endpoint_makes_too_long_is_bounded():
    choices = [{"index": n, "finish_reason": "x" * 9_000} for n in range(5_000)]
    found = answered({"id": "i" * 9_000, "model": "m" * 9_000, "choices": choices}).attributes(chat())
    assert len(found["gen_ai.response.finish_reasons"]) == 32
    assert {len(name) for name in found["gen_ai.response.finish_reasons"]} == {256}
    assert len(found["gen_ai.response.id"]) == len(found["gen_ai.response.model"]) == 256


def test_tool_calls_and_their_answers_have_the_forms_of_both_conventions():
    asked = {"id": "c1", "type": "function", "function": {"name": "fare", "arguments": '{"km": 3}'}}
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "how much?"}, {"type": "image_url"}]},
        {"role": "assistant", "content": None, "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "c1", "content": "9 EUR"},
    ]
    call = replace(chat(identity=ENDPOINT), payload={"model": "small", "messages": turns})
    span = call_span(BASE, call, answered(REPLY, content=True))
    user, assistant, tool = json.loads(span.attributes["gen_ai.input.messages"])
    assert [part["type"] for part in user["parts"]] == ["text", "image_url"]
    (part,) = assistant["parts"]
    assert part == {"type": "tool_call", "id": "c1", "name": "fare", "arguments": '{"km": 3}'}
    assert tool["parts"] == [{"type": "tool_call_response", "id": "c1", "response": "9 EUR"}]
    flat = "llm.input_messages.1.message.tool_calls.0.tool_call"
    assert span.attributes[f"{flat}.function.name"] == "fare"
    assert span.attributes[f"{flat}.function.arguments"] == '{"km": 3}'


def test_a_response_s_content_and_state_are_read_in_its_own_dialect():
    done = {"id": "resp_1", "object": "response", "status": "incomplete", "model": "small-2026"}
    content = [{"type": "output_text", "text": "Taxis are paid."}]
    output = [{"type": "message", "role": "assistant", "content": content}]
    call = replace(
        chat(identity=ENDPOINT), operation="respond", payload={"model": "small", "input": "a taxi?"}
    )
    span = call_span(BASE, call, answered({**done, "output": output}, content=True))
    assert span.attributes["gen_ai.response.finish_reasons"] == ["incomplete"]
    assert span.attributes["input.value"] == "a taxi?"
    assert span.attributes["output.value"] == "Taxis are paid."


def test_the_attempts_of_a_second_candidate_begin_after_those_of_the_first():
    attempts = [{"n": n, "started_s": 0.0, "duration_s": 0.5, "outcome": "ok"} for n in (1, 2)]
    first, second = of_model(attempts=attempts).children
    assert second.start_ns == first.end_ns


def test_an_answer_of_the_cache_or_of_params_yaml_was_not_paid_for():
    for source in ("exact", "stated", "tape"):
        found = {name for name, _ in measured(of_model(), source=source)}
        assert found == {"gen_ai.client.operation.duration"}


def test_a_pseudonym_is_the_same_everywhere_and_another_with_a_key():
    assert names.pseudonym("acme") == names.pseudonym("acme") != names.pseudonym("globex")
    assert names.pseudonym("acme", key="k") not in {names.pseudonym("acme"), names.pseudonym("acme", key="l")}


def measured(span, **changed) -> dict:
    return {
        (name, attributes.get("gen_ai.token.type")): value
        for name, value, attributes in measurements({**BASE, **changed}, span)
    }


def test_only_answers_that_were_paid_for_have_tokens_and_a_cost():
    paid = measured(of_model(), streamed=True)
    assert paid == {
        ("gen_ai.client.operation.duration", None): 1.5,
        ("gen_ai.client.token.usage", "input"): 40,
        ("gen_ai.client.token.usage", "output"): 7,
        ("gen_ai.client.operation.time_to_first_chunk", None): 0.25,
        ("workbench.cost", None): 0.0125,
    }
    cached = measured(of_model(), replayed=True, saved_usd=0.5)
    assert {name for name, _ in cached} == {"gen_ai.client.operation.duration", "workbench.cost.saved"}


def test_what_the_controls_did_is_counted():
    def counts(**changed):
        return {name: n for (name, _), n in measured(of_model(), **changed).items() if "workbench" in name}

    broken = [{"error": "CircuitOpenError"}, {"error": None}]
    assert counts(cost_usd=None, error="BudgetExceededError", would_refuse=["b"]) == {
        "workbench.refusals": 1, "workbench.budget.would_refuse": 1,
    }  # fmt: skip
    assert counts(cost_usd=None, fallback="other", attempts=broken) == {
        "workbench.fallbacks": 1, "workbench.breaker.rejections": 1, "workbench.retries": 1,
    }  # fmt: skip


def test_every_measurement_has_a_metric_and_few_attributes():
    spans = [of_model(), retried(), refused(), searched(), embedded()]
    found = [each for span in spans for each in measurements({**BASE, "error": "RefusedError"}, span)]
    found += invocation_measurements(invoked())
    assert {name for name, _, _ in found} <= set(names.METRICS)
    assert not any("tenant" in key or "call.id" in key for _, _, keys in found for key in keys)


def test_the_duration_has_the_buckets_of_the_conventions():
    buckets = names.METRICS["gen_ai.client.operation.duration"].buckets
    assert buckets[:3] == (0.01, 0.02, 0.04) and buckets[-1] == 81.92 and len(buckets) == 14
    tokens = names.METRICS["gen_ai.client.token.usage"].buckets
    assert tokens[:3] == (1, 4, 16) and tokens[-1] == 67_108_864 and len(tokens) == 14


@pytest.mark.parametrize(
    ("port", "operation", "kind"),
    [("model", "moderate", "GUARDRAIL"), ("model", "count", "CHAIN"), ("tool", "invoke", "TOOL")],
)
def test_other_calls_have_their_kind_and_no_tokens_that_phoenix_would_add(port, operation, kind):
    call = Call(port=port, operation=operation, target="x@1", payload={"model": "x"}, context=context())
    record = {**BASE, "port": port, "operation": operation, "target": "x@1"}
    attributes = call_span(record, call, answered({"model": "x"})).attributes
    assert attributes["openinference.span.kind"] == kind
    assert not any(name.startswith(("llm.token_count", "llm.cost")) for name in attributes)


def test_an_unknown_operation_has_no_name_of_the_conventions():
    call = Call(port="memory", operation="stats", target="handbook", payload={}, context=context())
    record = {**BASE, "port": "memory", "operation": "stats", "target": "handbook"}
    span = call_span(record, call, answered({"items": 3}))
    assert span.name == "memory.stats handbook" and "gen_ai.operation.name" not in span.attributes
    assert span.attributes["openinference.span.kind"] == "CHAIN"
