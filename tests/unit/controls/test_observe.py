"""One record per call, whatever happened to it, and nothing of what was said in it."""

import asyncio
import contextlib
import gc
import json
from contextlib import aclosing
from dataclasses import replace

import orjson
import pytest
from calls import FORMAT, ask, behind, chat, context, read

from workbench.context import InvocationScope, invocation_scope
from workbench.controls.observe import Observe
from workbench.controls.stack import fold
from workbench.errors import InvalidOutputError, RefusedError, UnavailableError, WorkbenchError
from workbench.ports import Call
from workbench.records.calls import find_call, read_calls
from workbench.records.log import Lines
from workbench.testing.fakes import FakeModel
from workbench.types import Event, Hit, Usage


def only(bench, model, **options):
    return fold({"observe": Observe(Lines(bench.log), **options)}, behind(model))


def test_an_answer_leaves_who_what_how_long_and_how_much(bench):
    model = FakeModel(lambda _: bench.clock.advance(0.75) or "two words")
    call = chat(clock=bench.clock, labels={"prompt": "answer@2", "passages": ["p1"]})
    ask(bench.handler(model), call)
    (record,) = bench.records
    assert record["trace_id"] == call.span.facts["trace_id"]
    assert record["at"] == "2025-01-01T00:00:00.000000+00:00"
    expected = {
        "use_case": "answers", "tenant": "acme", "principal": "ada", "assurance": "asserted",
        "purpose": "test", "port": "model", "operation": "chat", "target": "small", "outcome": "ok",
        "error": None, "status": None, "duration_s": 0.75, "first_event_s": 0.75, "streamed": False,
        "events": 1, "input_tokens": 4, "output_tokens": 2, "cached_tokens": None, "cost_usd": 0.006,
        "replayed": False, "source": "model", "recorded_latency_s": 0.75, "repaired": False,
        "labels": {"prompt": "answer@2", "passages": ["p1"]}, "parent": None,
    }  # fmt: skip
    assert {name: record[name] for name in expected} == expected
    assert record["attempts"] == [
        {
            "n": 1,
            "candidate": "small",
            "started_s": 0.0,
            "waited_s": 0.0,
            "duration_s": 0.75,
            "outcome": "ok",
            "error": None,
        }
    ]


def test_a_record_holds_nothing_of_what_was_said(bench):
    answer, question = "CANARY-ANSWER", "CANARY-QUESTION"
    for error in (None, RefusedError("CANARY-ERROR", status=400), ValueError("CANARY-CRASH")):
        model = FakeModel([error] if isinstance(error, WorkbenchError) else [answer])
        handler = fold(
            bench.controls("live"), crashing(error) if isinstance(error, ValueError) else behind(model)
        )
        call = chat(question, labels={"odd": Event(data="CANARY-LABEL")} if error is None else {})
        with contextlib.suppress(RefusedError, ValueError):
            ask(handler, call)
    assert len(bench.records) == 3 and b"CANARY" not in bench.log.read_bytes()
    assert [record["error"] for record in bench.records] == [None, "RefusedError", "ValueError"]


def crashing(error):
    async def leaf(_call):
        raise error
        yield  # a generator

    return leaf


@pytest.mark.parametrize(
    ("error", "outcome", "status"),
    [
        (RefusedError("no", status=400), "refused", 400),
        (UnavailableError("down", status=503), "failed", 503),
        (InvalidOutputError("bad"), "invalid", None),
        (ZeroDivisionError(), "failed", None),
        (KeyboardInterrupt(), "cancelled", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_leaves_its_class_and_status(bench, error, outcome, status):
    handler = fold({"observe": Observe(Lines(bench.log))}, crashing(error))
    with pytest.raises(type(error)):
        ask(handler, chat())
    (record,) = bench.records
    assert (record["outcome"], record["error"], record["status"]) == (outcome, type(error).__name__, status)


def test_a_replayed_answer_says_so_and_keeps_the_recorded_latency_tokens_and_price(bench):
    model = FakeModel(lambda _: bench.clock.advance(2) or "yes")
    for _ in range(2):
        ask(bench.handler(model), chat(clock=bench.clock))
    first, again = bench.records
    assert (again["replayed"], again["source"], again["duration_s"], again["attempts"]) == (
        True,
        "cache",
        0,
        [],
    )
    for name in ("recorded_latency_s", "input_tokens", "output_tokens", "cost_usd", "key"):
        assert again[name] == first[name] is not None


def test_a_stream_that_is_left_is_abandoned_with_what_had_come(bench):
    bench.hooks = []  # a check that acts would read on to the end of the first sentence

    async def leave():
        async with aclosing(bench.handler(FakeModel())(chat("a b c d", stream=True))) as events:
            await anext(events)
            await anext(events)

    asyncio.run(leave())
    (record,) = bench.records
    assert (record["outcome"], record["events"], record["streamed"]) == ("abandoned", 2, True)
    assert record["error"] is None and record["attempts"][0]["outcome"] == "abandoned"


def test_a_stream_forgotten_without_closing_settles_too(bench):
    async def forget():
        with invocation_scope(InvocationScope(case="q1", parent="p1")) as around:
            stream = bench.handler(FakeModel())(chat("a b c d", stream=True))
            await anext(stream)
        del stream
        gc.collect()
        while not around.records:
            await asyncio.sleep(0)
        return around.records

    (record,) = asyncio.run(forget())
    assert (record["outcome"], record["parent"]) == ("abandoned", "p1") and len(bench.records) == 1


def test_a_cancelled_call_is_cancelled(bench):
    async def cancel():
        task = asyncio.create_task(read(bench.handler(FakeModel()), chat()))
        while not bench.log.exists():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    (record,) = bench.records
    assert (record["outcome"], record["error"]) == ("cancelled", "CancelledError")
    assert record["attempts"][0]["outcome"] == "cancelled"


def test_a_plain_reply_is_whole_when_its_one_event_was_read(bench):
    async def first():
        async with aclosing(only(bench, FakeModel())(chat())) as events:
            await anext(events)

    asyncio.run(first())
    assert bench.records[0]["outcome"] == "ok"


def test_the_occurrence_gets_the_record_and_gives_the_parent(bench):
    with invocation_scope(InvocationScope(case="q1", parent="run-1")) as around:
        ask(bench.handler(FakeModel()), chat())
    assert around.records == bench.records and around.records[0]["parent"] == "run-1"


def test_a_search_leaves_its_hits_without_their_texts(bench):
    hit = Hit(
        id="i1", text="CANARY", source="travel.md", title="t", version=1, score=0.5, tenant="acme",
        as_of="2025-01-01", stale=False, digest="d", memory="handbook",
    )  # fmt: skip

    async def leaf(_call):
        yield Event(data=[hit])

    call = Call(
        port="memory", operation="search", target="handbook", payload={"query": "CANARY"}, context=context()
    )
    ask(fold({"observe": Observe(Lines(bench.log))}, leaf), call)
    assert bench.records[0]["hits"] == [{"id": "i1", "source": "travel.md", "tenant": "acme", "score": 0.5}]
    assert b"CANARY" not in bench.log.read_bytes()


def test_tokens_of_a_repaired_answer_are_those_of_both_tries(bench):
    ask(bench.handler(FakeModel(["no json", '{"answer":"yes"}'])), chat(response_format=FORMAT))
    (record,) = bench.records
    assert record["repaired"] is True and record["output_tokens"] == 3
    assert len(record["attempts"]) == 2


def test_tokens_of_an_answer_that_stayed_invalid_are_counted(bench):
    with pytest.raises(InvalidOutputError):
        ask(bench.handler(FakeModel(["no json", "none again here"])), chat(response_format=FORMAT))
    (record,) = bench.records
    assert (record["outcome"], record["output_tokens"]) == ("invalid", 5)


def test_nobody_is_asked_when_the_log_cannot_be_opened(bench):
    bench.log.parent.mkdir()
    bench.log.mkdir()
    model = FakeModel()
    with pytest.raises(UnavailableError, match=r"calls\.jsonl") as caught:
        ask(only(bench, model), chat())
    assert not model.calls and caught.value.hint


def test_a_record_that_cannot_be_written_fails_the_call(bench):
    class Full(Lines):
        def append(self, line):
            raise UnavailableError(f"cannot write {self.path}: no space left")

    observe = Observe(Full(bench.log))
    with pytest.raises(UnavailableError, match="no space left"):
        ask(fold({"observe": observe}, behind(FakeModel())), chat())


def test_the_frame_has_a_row_per_call(bench):
    handler = bench.handler(FakeModel())
    ask(handler, chat("one", labels={"prompt": "answer@1"}))
    ask(handler, chat("two words", stream=True))
    frame = read_calls(bench.log)
    assert frame.height == 2 and frame.schema == read_calls(bench.log.with_name("none")).schema
    assert frame["streamed"].to_list() == [False, True]
    assert frame["labels"].to_list() == ['{"prompt":"answer@1"}', "{}"]
    assert frame["attempts"].list.len().to_list() == [1, 1]
    assert set(bench.records[0]) == set(frame.columns)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_tokens", "ten"), ("input_tokens", [1, 2]), ("output_tokens", 1e20), ("cached_tokens", 10**25),
        ("cost_usd", [1]), ("at", None), ("at", "yesterday"), ("at", 5), ("tenant", ["a"]),
        ("streamed", "yes"), ("outcome", {}), ("hits", [1]), ("attempts", [{"n": "a"}]),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_its_column_is_null_and_the_others_stay(bench, name, value):
    handler = bench.handler(FakeModel())
    for words in ("one", "two", "three"):
        ask(handler, chat(words))
    first, odd, last = bench.log.read_bytes().splitlines()
    bench.log.write_bytes(b"\n".join([first, orjson.dumps({**orjson.loads(odd), name: None}), last, b""]))
    wanted = read_calls(bench.log)
    line = json.dumps({**orjson.loads(odd), name: value}).encode()
    bench.log.write_bytes(b"\n".join([first, line, last, b""]))
    frame = read_calls(bench.log)
    assert frame.schema == wanted.schema
    assert frame.drop(name).equals(wanted.drop(name), null_equal=True)
    if name not in {"hits", "attempts"}:
        assert frame[name].equals(wanted[name], null_equal=True)


@pytest.mark.parametrize("line", [b"[]", b"null", b"5", b'"x"', b"\xff\xfe", b"{", b"   ", b'{"at": "2026'])
def test_a_line_that_is_no_record_is_left_out(bench, line):
    ask(bench.handler(FakeModel()), chat("one"))
    bench.log.write_bytes(line + b"\n" + bench.log.read_bytes() + b"{}\n")
    assert read_calls(bench.log)["outcome"].to_list() == ["ok", None]


PAID = [("candidate@1", Usage(input_tokens=10, output_tokens=10))]


@pytest.mark.parametrize(
    ("facts", "attempts", "cost", "saved"),
    [
        ({}, [], 0.006, None),
        ({"paid_before": PAID}, [], 0.026, None),
        ({}, [0.5, 0.25], 0.75, None),
        ({}, [0.5, None], None, None),
        ({"cost_usd": 0.125}, [0.5], 0.125, None),
        ({"replayed": True, "source": "tape"}, [], 0.006, None),
        ({"replayed": True, "source": "exact"}, [], 0.0, 0.006),
        ({"replayed": True, "source": "exact", "saved_usd": 1.0}, [], 0.0, 1.0),
        ({"replayed": True, "source": "exact", "paid_before": PAID}, [], 0.02, 0.006),
        ({"replayed": True, "source": "exact"}, [0.5], 0.5, 0.006),
    ],
)
def test_a_call_costs_what_was_paid_over_attempts_and_candidates(bench, facts, attempts, cost, saved):
    async def leaf(call):
        call.span.note(**facts)
        for paid in attempts:
            call.span.attempt(outcome="ok", cost_usd=paid)
        async for event in FakeModel(["two words"]).chat(call.payload):
            yield event

    call = chat()
    observe = Observe(Lines(bench.log), price=lambda _target, usage: usage.total_tokens / 1000)
    ask(fold({"observe": observe}, leaf), call)
    (record,) = bench.records
    assert record["cost_usd"] == (None if cost is None else pytest.approx(cost))
    assert record["saved_usd"] == saved and call.span.facts["cost_usd"] == record["cost_usd"]


def test_a_record_is_exported_after_it_is_written_and_a_failing_export_fails_no_call(bench):
    exported = []

    def export(record, call):
        exported.append((record["trace_id"], call.target, len(bench.records)))
        raise ValueError("the collector is down")

    ask(only(bench, FakeModel(), export=export), chat())
    assert exported == [(bench.records[0]["trace_id"], "small", 1)]


def test_a_record_names_job_run_session_prompt_and_the_model_that_answered(bench):
    async def leaf(call):
        call.span.note(fallback="other@1", fallback_reason="unavailable", would_refuse=["month"])
        yield Event(data={"choices": []})

    bound = replace(context(), job="answers", run="r1", session="s1")
    ask(
        fold({"observe": Observe(Lines(bench.log))}, leaf),
        replace(chat(labels={"prompt": "a@1"}), context=bound),
    )
    frame = read_calls(bench.log).to_dicts()[0]
    expected = {
        "job": "answers", "run": "r1", "session": "s1", "prompt": "a@1", "target": "small",
        "model": "other@1", "fallback": "other@1", "fallback_reason": "unavailable",
        "would_refuse": ["month"],
    }  # fmt: skip
    assert {name: frame[name] for name in expected} == expected


def test_a_record_has_what_policy_privacy_and_moderation_noted(bench):
    decision = {
        "id": "00ff00ff00ff00ff", "allowed": True, "action": "model.chat", "policies": ["ask"],
        "policy_set": "0123456789ab", "observed": False,
    }  # fmt: skip
    request = {"principal": {"name": "ada", "groups": ["everyone"]}, "context": {"phase": "mvp"}}
    check = {"check": "exfiltration", "direction": "out", "action": "flag", "score": 0.5}
    privacy = {"destination": "external", "restored": 2, "invented": 1, "altered": 0}

    async def leaf(call):
        call.span.note(
            decision=decision, policy_request=request, data_class="personal", content="c1",
            findings={"person": 2, "email": 1}, privacy=privacy, checks=[check],
        )  # fmt: skip
        yield Event(data={"choices": []})

    ask(fold({"observe": Observe(Lines(bench.log))}, leaf), chat())
    (record,) = bench.records
    assert record["policy_request"] == request and record["decision"] == decision
    row = read_calls(bench.log).to_dicts()[0]
    assert (row["decision"], row["privacy"], row["checks"]) == (decision, privacy, [check])
    assert row["findings"] == [{"kind": "email", "count": 1}, {"kind": "person", "count": 2}]
    assert (row["data_class"], row["content"]) == ("personal", "c1")
    assert (
        row["policy_request"]
        == '{"context":{"phase":"mvp"},"principal":{"groups":["everyone"],"name":"ada"}}'
    )
    assert find_call(bench.log, record["trace_id"])["policy_request"] == request


def test_a_record_without_governance_has_empty_columns(bench):
    ask(only(bench, FakeModel()), chat())
    row = read_calls(bench.log).to_dicts()[0]
    empty = ("decision", "policy_request", "data_class", "privacy", "content")
    assert [row[name] for name in empty] == [None] * 5 and (row["findings"], row["checks"]) == ([], [])
