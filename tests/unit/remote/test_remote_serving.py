"""The gateway's half of a call: what belongs to a caller, prompts by reference, and errors."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
from calls import Bench, behind, chat, search
from fake_gateway import FakeResolver, asked_of, lines_of, served

from workbench.context import InvocationScope, RunScope, current_invocation, invocation_scope
from workbench.controls.observe import Observe
from workbench.controls.stack import fold
from workbench.errors import RefusedError
from workbench.ports import PromptInputs
from workbench.ports.privacy import DeclaredData
from workbench.records.log import Lines, read_records
from workbench.remote import lines as answer_lines
from workbench.remote import serving as gateway
from workbench.remote.passages import ServedHits
from workbench.remote.serving import Serving
from workbench.testing.fakes import FakeClock, FakeModel
from workbench.types import Event, Hit

HIT = Hit(
    id="h1", text="A taxi is paid.", source="taxi", title="", version=1, score=0.5, tenant="acme",
    as_of="2025-01-01", stale=False, digest="d", memory="handbook",
)  # fmt: skip


def around(call, **invocation):
    """An asked call that is part of an invocation."""
    with invocation_scope(InvocationScope(**invocation)):
        return asked_of(call)


def test_identical_requests_of_an_invocation_are_numbered_as_in_process(tmp_path):
    bench, far, near = Bench(tmp_path), Serving(), Bench(tmp_path / "near")
    resolver = FakeResolver(bench.handler(FakeModel()))
    handler = near.handler(FakeModel())
    for parent in ("a1", "a2"):
        for _ in range(3):
            served(far, around(chat(), case="q1", parent=parent), resolver)

    async def in_process():
        for parent in ("a1", "a2"):
            with invocation_scope(InvocationScope(case="q1", parent=parent)):
                for _ in range(3):
                    async with contextlib.aclosing(handler(chat())) as events:
                        assert [event async for event in events]

    asyncio.run(in_process())
    keys = [record["key"] for record in bench.records]
    assert keys == [record["key"] for record in near.records]
    assert len(set(keys)) == 3 and keys[:3] == keys[3:]


def test_the_end_has_the_facts_and_the_record_of_an_invocation(tmp_path):
    told = []
    far = Serving(on_record=lambda asked, record: told.append((asked.target, record["trace_id"])))
    resolver = FakeResolver(Bench(tmp_path).handler(FakeModel()))
    event, end = served(far, around(chat(), case="q1", parent="a1"), resolver)
    record = end["end"]["record"]
    assert event["event"]["choices"] and record["outcome"] == "ok" and record["parent"] == "a1"
    assert end["end"]["facts"]["trace_id"] == record["trace_id"]
    assert end["end"]["facts"].keys() <= set(answer_lines.FACTS)
    assert told == [("small", record["trace_id"])]
    assert "record" not in served(far, asked_of(chat()), resolver)[-1]["end"]


def test_an_error_of_a_control_has_its_facts_and_record(tmp_path):
    resolver = FakeResolver(Bench(tmp_path).handler(FakeModel([RefusedError("no", status=400)])))
    (end,) = served(Serving(), around(chat(), case="q1", parent="a1"), resolver)
    assert end["error"]["type"] == "RefusedError" and end["error"]["status"] == 400
    assert end["record"]["outcome"] == "refused" and end["facts"]["trace_id"] == end["record"]["trace_id"]


def test_a_call_that_cannot_be_resolved_is_an_error_line():
    (end,) = served(Serving(), asked_of(replace(chat(), target="nothing")), FakeResolver(None))
    assert end["error"]["type"] == "NotFoundError" and end["facts"] == {}


def test_an_error_that_is_none_of_ours_tells_no_text_and_no_trace():
    def failing(_call):
        raise ValueError("globex: /srv/x")

    (end,) = served(Serving(), asked_of(chat()), FakeResolver(failing))
    assert end["error"]["message"].startswith("ValueError: ") and "globex" not in str(end)


def test_calls_of_one_run_share_its_scope_and_those_of_another_caller_do_not():
    seen = []

    async def noting(_call):
        seen.append(RunScope.current())
        yield Event(data={})

    far, resolver = Serving(), FakeResolver(noting)
    for caller, run in (("c1", "r1"), ("c1", "r1"), ("c1", "r2"), ("c2", "r1"), ("c1", "")):
        served(far, asked_of(chat(), caller=caller, run_scope=run), resolver)
    served(far, asked_of(chat(), run_scope="r1"), FakeResolver(noting, scope="another grant"))
    first, again, second, other, none, foreign = seen
    assert first is again and len({id(s) for s in (first, second, other, foreign)}) == 4 and none is None


def test_two_streams_read_in_turns_keep_their_invocations_apart():
    async def naming(_call):
        for _ in range(3):
            await asyncio.sleep(0)
            yield Event(data={"case": current_invocation().case})

    far, resolver = Serving(), FakeResolver(naming)

    async def both():
        one, other = (far.serve(around(chat(), case=name), resolver) for name in ("q1", "q2"))
        pairs = [(await anext(one), await anext(other)) for _ in range(3)]
        assert current_invocation() is None
        await one.aclose()
        await other.aclose()
        return pairs

    assert asyncio.run(both()) == [(b'{"event":{"case":"q1"}}\n', b'{"event":{"case":"q2"}}\n')] * 3


def test_an_invocation_that_has_ended_is_told_and_forgotten():
    ended, seen = [], []

    async def noting(_call):
        scope = current_invocation()
        if scope not in seen:
            scope.ending.append(lambda scope: ended.append((scope.case, scope.error)))
            seen.append(scope)
        yield Event(data={})

    far, resolver = Serving(), FakeResolver(noting)
    served(far, around(chat(), case="q1", parent="a1"), resolver)
    served(far, around(chat(), case="q2", parent="a2"), resolver)
    served(far, asked_of(chat(), ended={"a1": "ValueError", "unknown": None}), resolver)
    assert ended == [("q1", "ValueError")]
    far.close()
    assert ended == [("q1", "ValueError"), ("q2", None)]


def test_what_callers_leave_behind_is_bounded(monkeypatch):
    monkeypatch.setattr(gateway, "_MOST_INVOCATIONS", 3)
    monkeypatch.setattr(gateway, "_MOST_CALLERS", 2)
    ended = []

    async def noting(_call):
        current_invocation().ending.append(lambda scope: ended.append(scope.case))
        yield Event(data={})

    far, resolver = Serving(), FakeResolver(noting)
    for number in range(5):
        served(far, around(chat(), case=f"q{number}", parent=f"a{number}"), resolver)
    assert ended == ["q0", "q1"], "the oldest end"
    for caller in ("c2", "c3"):
        with invocation_scope(InvocationScope(case=caller)):
            served(far, asked_of(chat(), caller=caller), resolver)
    assert sorted(ended) == ["q0", "q1", "q2", "q3", "q4"], "with their caller"


def test_the_records_of_one_invocation_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(gateway, "_MOST_RECORDS", 4)
    far, resolver = Serving(), FakeResolver(Bench(tmp_path).handler(FakeModel()))
    for _ in range(12):
        end = served(far, around(chat(), case="q1", parent="a1"), resolver)[-1]
        assert end["end"]["record"]["trace_id"] == end["end"]["facts"]["trace_id"]
    ((caller,),) = (callers._values.values() for callers in far._grants._values.values())
    assert len(caller._invocations._values["a1"].records) <= 5


def searching(far, resolver, **asked):
    """The hits of a search at a gateway, as a client keeps them."""
    kept = ServedHits()
    lines = served(far, asked_of(search(), **asked), resolver)
    assert "event" in lines[0], lines
    kept.note([HIT])
    return kept


async def finding(_call):
    yield Event(data=[HIT] if _call.operation == "search" else {})


def test_passages_are_those_that_were_served_with_the_memorys_class_of_data():
    far, resolver = Serving(), FakeResolver(finding)
    kept = searching(far, resolver)
    call = replace(chat(), passages=(replace(HIT, stale=True),))
    asked = asked_of(call, served=kept)
    seen = []
    resolver.handler = lambda call: seen.append(call) or finding(call)
    served(far, asked, resolver)
    assert seen[0].passages == (replace(HIT, stale=True, data_class="health"),)


@pytest.mark.parametrize("caller", ["c2", "c1"])
def test_a_passage_that_was_served_to_another_caller_or_grant_is_refused_by_name(caller):
    far, resolver = Serving(), FakeResolver(finding)
    kept = searching(far, resolver)
    asked = asked_of(replace(chat(), passages=(HIT,)), served=kept, caller=caller)
    other = FakeResolver(finding, scope="another grant") if caller == "c1" else resolver
    (end,) = served(far, asked, other)
    assert end["error"]["type"] == "RefusedError" and "'h1'" in end["error"]["message"]


def test_the_many_callers_of_one_grant_make_no_passage_of_another_be_forgotten(monkeypatch):
    monkeypatch.setattr(gateway, "_MOST_CALLERS", 2)
    far, resolver = Serving(), FakeResolver(finding)
    kept = searching(far, resolver)
    for number in range(5):
        served(far, asked_of(chat(), caller=f"x{number}"), FakeResolver(finding, scope="another grant"))
    assert "end" in served(far, asked_of(replace(chat(), passages=(HIT,)), served=kept), resolver)[-1]


def test_a_changed_passage_is_taken_while_exploring_and_refused_in_a_judged_run():
    changed = replace(HIT, text="A taxi is never paid.")
    asked = asked_of(replace(chat(), passages=(changed,)))
    assert "end" in served(Serving(), asked, FakeResolver(finding))[-1]
    (end,) = served(Serving(), asked, FakeResolver(finding, strict=True))
    assert end["error"]["type"] == "RefusedError" and "served" in end["error"]["message"]


def prompted(text, *, reference="answer@2", inputs=None, **labels):
    """A call that claims to be rendered from a prompt."""
    call = chat(messages=[{"role": "user", "content": text}], labels={"prompt_digest": "mine", **labels})
    inputs = {"question": "a taxi?", "passages": [HIT]} if inputs is None else inputs
    return replace(call, prompt=PromptInputs(reference=reference, inputs=inputs), passages=(HIT,))


def resolved(asked_call, *, strict=False):
    """The call that reaches the boundary, or the error."""
    far, seen = Serving(), []
    resolver = FakeResolver(finding, strict=strict)
    kept = searching(far, resolver)
    resolver.handler = lambda call: seen.append(call) or finding(call)
    lines = served(far, asked_of(asked_call, served=kept), resolver)
    return seen[0] if seen else lines[-1]["error"]


@pytest.mark.parametrize("strict", [False, True])
def test_a_saved_prompt_is_rendered_by_the_gateway_and_declares_its_data(strict):
    stated = replace(prompted("PROMPT: a taxi? A taxi is paid."), declared=DeclaredData(classes=("health",)))
    call = resolved(stated, strict=strict)
    assert call.labels == {"prompt": "answer@2", "prompt_digest": "dddddddd", "passages": ["h1"]}
    assert call.declared.classes == ("internal", "health")
    assert call.passages == (replace(HIT, data_class="health"),)
    assert call.payload == stated.payload


@pytest.mark.parametrize(
    "call",
    [
        prompted("PROMPT: a taxi? A taxi is NEVER paid."),
        prompted("PROMPT: x", reference="other@1"),
        prompted("PROMPT: x", reference="answer@draft-1f2e3d4c"),
        prompted("PROMPT: x", inputs={"question": object()}),
    ],
    ids=["altered turns", "unknown prompt", "draft", "inputs that are not JSON"],
)
def test_a_claim_that_cannot_be_verified_is_a_draft_or_refused_in_a_judged_run(call):
    found = resolved(call)
    name, _, version = found.labels["prompt"].partition("@")
    assert name == call.prompt.reference.partition("@")[0] and version.startswith("draft-")
    assert found.labels["prompt_digest"] == "mine" and found.labels["passages"] == ["h1"]
    assert resolved(call, strict=True)["type"] in {"RefusedError", "NotFoundError"}


def test_a_label_alone_claims_nothing_that_is_believed():
    found = resolved(chat(labels={"prompt": "answer@2"}))
    assert found.labels["prompt"].startswith("answer@draft-")


def test_the_deadline_is_in_seconds_of_the_gateways_own_clock():
    far, seen = FakeClock(), []
    far.advance(1_000_000)
    near = FakeClock()
    resolver = FakeResolver(lambda call: seen.append(call) or finding(call), clock=far)
    served(Serving(), asked_of(replace(chat(clock=near), deadline=near.monotonic() + 3)), resolver)
    assert seen[0].deadline - far.monotonic() == pytest.approx(3)


@pytest.mark.parametrize(("leave", "outcome"), [("close", "abandoned"), ("cancel", "cancelled")])
def test_a_caller_who_leaves_a_stream_closes_the_models_and_is_recorded(tmp_path, leave, outcome):
    model, log = FakeModel(lambda _: "a b c d e f g h"), tmp_path / "calls.jsonl"
    resolver = FakeResolver(fold({"observe": Observe(Lines(log))}, behind(model)))

    async def read_two():
        async with contextlib.aclosing(Serving().serve(asked_of(chat(stream=True)), resolver)) as lines:
            await anext(lines)
            await anext(lines)
            if leave == "cancel":
                asyncio.current_task().cancel()
                await anext(lines)

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(read_two())
    (record,) = read_records(log)
    assert (record["outcome"], record["events"]) == (outcome, 2)
    assert model.unclosed == 0 and model.events <= 3, "nothing was read ahead"


def test_a_long_list_comes_in_parts_and_a_line_above_the_bound_is_refused(monkeypatch):
    many = [replace(HIT, id=f"h{number}") for number in range(1_201)]

    async def all_of_them(_call):
        yield Event(data=many)

    lines = served(Serving(), asked_of(search()), FakeResolver(all_of_them))
    assert [*lines[0]] == [*lines[1]] == ["part"] and len(lines) == 4
    assert sum(len(line.get("part") or line.get("event") or ()) for line in lines) == len(many)
    monkeypatch.setattr("workbench.remote.lines.MOST_BYTES", 1_000)
    (end,) = served(Serving(), asked_of(search()), FakeResolver(all_of_them))
    assert end["error"]["type"] == "RefusedError" and "bytes" in end["error"]["message"]


def test_lines_are_made_one_event_at_a_time():
    made = []

    async def counting(_call):
        for number in range(100):
            made.append(number)
            yield Event(data={})

    async def first():
        async with contextlib.aclosing(Serving().serve(asked_of(chat()), FakeResolver(counting))) as lines:
            await anext(lines)
        return len(made)

    assert asyncio.run(first()) == 1
    assert len(asyncio.run(lines_of(Serving(), asked_of(chat()), FakeResolver(counting)))) == 101
