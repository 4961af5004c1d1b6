"""The window's tokens counted by the model: through the boundary, on the tape, again without the model."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from types import SimpleNamespace

import pytest
from calls import chat, context, finish
from hypothesis import given
from hypothesis import strategies as st

from workbench.context import InvocationScope, invocation_scope
from workbench.errors import RefusedError, ReplayMissError, UnavailableError
from workbench.models.handle import ModelHandle
from workbench.prompts.tokens import ESTIMATE, of_model
from workbench.prompts.window import Window
from workbench.records.tape import Tape, compare_answers
from workbench.testing.fakes import FakeModel

CARD = SimpleNamespace(name="small", model="small", dialect="chat", wire_defaults=lambda: {"temperature": 0})


class Silent(FakeModel):
    """A model whose endpoint refuses to count, with a status or by a control (None)."""

    def __init__(self, status=405):
        super().__init__()
        self.status, self.counted = status, 0

    async def count(self, payload, *, timeout_s=None):
        self.counted += 1
        raise RefusedError("no", status=self.status)
        yield


class Counting(FakeModel):
    """A model that remembers what it was asked to count."""

    def __init__(self, *script):
        super().__init__(*script)
        self.counted = []

    async def count(self, payload, *, timeout_s=None):
        self.counted.append(payload)
        async with aclosing(super().count(payload)) as events:
            async for event in events:
                yield event


class Gone(FakeModel):
    """A model that must not be asked."""

    def _begin(self, payload):
        raise AssertionError("the model was asked")


def handle(bench, model, mode="auto"):
    def make_call(operation, payload, labels):
        return replace(chat(), operation=operation, payload=payload, labels=labels)

    return ModelHandle(card=CARD, handler=bench.handler(model, mode), make_call=make_call)


def report(asked, *, budget=160, words="abc"):
    """What becomes of a conversation of six turns, filled in one case of an experiment."""
    made = Window.of_model(asked, tenant="acme", budget=budget)
    made.system("Be brief.").note("a note of five words")
    for word in words:
        made.say("user", " ".join(word * 30)).say("assistant", " ".join(word * 30))

    async def fill():
        with invocation_scope(InvocationScope(case="one", repeat=0)):
            return (await made.fill_async()).report

    return asyncio.run(fill())


def test_a_window_of_a_model_counts_with_the_model_each_request_once(bench):
    model = Counting(["a short summary"])
    made = report(handle(bench, model))
    assert made.counter == "the model small"
    # In words: system, a heading, a quoted summary, two exchanges, and the note beside its heading.
    assert made.used == 2 + 15 + 4 + 120 + 9 + 6 <= 160
    # Everything; without the note and one exchange; without the note; with the summary; and with the note.
    words = [sum(len(turn["content"].split()) for turn in payload["messages"]) for payload in model.counted]
    assert words == [2 + 180 + 15, 2 + 120, 2 + 180, 2 + 19 + 120, made.used]
    assert {record["operation"] for record in bench.records} == {"count", "chat"}
    assert all(record["outcome"] == "ok" for record in bench.records)


def test_what_is_counted_is_the_request_that_chat_would_make(bench):
    model = Counting()
    asked = handle(bench, model)
    tokens = asked.count_tokens("one two three", tools=[])
    reply = asked.chat("one two three", tools=[])
    assert tokens == reply.usage.input_tokens == 3
    assert model.counted == model.calls[:1] == model.calls[1:]


def taped(bench, model, **how):
    """A report made with a model, its answers on the tape and no longer in the cache."""
    replay_on = bench.controls()["replay"]
    bench.controls = lambda mode="auto", make=bench.controls: {
        **make(mode), **({"replay": replay_on} if mode == "auto" else {})
    }  # fmt: skip
    made = report(handle(bench, model), **how)
    finish(replay_on)
    bench.journal.unlink()
    return made


def test_a_recorded_window_is_filled_again_without_the_model(bench):
    first = taped(bench, Counting(["a short summary"]))
    tape = bench.tape.read_bytes()
    assert b'"operation":"model.count"' in tape
    assert report(handle(bench, Gone(), "replay")) == first
    assert bench.tape.read_bytes() == tape
    for missing, asked in (("max_tokens", {"budget": 150}), ("messages", {"words": "abd"})):  # summary, count
        with pytest.raises(ReplayMissError, match=rf"first difference:  {missing}"):
            report(handle(bench, Gone(), "replay"), **asked)


def test_an_endpoint_that_does_not_count_is_asked_once_and_the_report_says_estimate(bench):
    model = Silent()
    first = taped(bench, model, budget=400)
    assert model.counted == 1
    assert first.counter == ESTIMATE.name == "letters, digits and signs (an estimate)"
    assert report(handle(bench, Gone(), "replay"), budget=400) == first


@pytest.mark.parametrize("status", [None, 401, 402, 403])
def test_a_refusal_for_who_asks_is_no_reason_to_estimate(bench, status):
    with pytest.raises(RefusedError):
        report(handle(bench, Silent(status)))


def test_a_model_that_is_away_is_no_reason_to_estimate(bench):
    model = FakeModel(fails=[UnavailableError("away")] * 9)
    asked = handle(bench, model)
    make_call = asked.make_call

    def on_the_clock(*how):
        return replace(make_call(*how), context=context(bench.clock))

    with pytest.raises(UnavailableError, match="away"):
        report(replace(asked, make_call=on_the_clock))


def test_a_count_that_came_back_otherwise_differs(bench):
    taped(bench, Counting(["a short summary"]))
    for entry in Tape.read(bench.tape).entries():
        assert compare_answers(entry, entry.events()) == []
        if entry.question.operation == "model.count":
            (event,) = entry.events()
            more = {"input_tokens": event.data["input_tokens"] + 1}
            assert compare_answers(entry, [replace(event, data=more)]) == ["tokens"]


turns = st.lists(st.text().map(lambda text: {"role": "user", "content": text}), max_size=3)


@given(asked=st.lists(turns, max_size=8))
def test_a_counter_of_a_model_says_what_the_model_says_and_asks_no_request_twice(asked):
    requests = []

    async def count(messages):
        requests.append(list(messages))
        return sum(len(message["content"]) for message in messages)

    async def all_of_them():
        counter = of_model("small", count)
        return [await counter(messages) for messages in asked]

    assert asyncio.run(all_of_them()) == [sum(len(m["content"]) for m in ms) for ms in asked]
    assert len(requests) == len({str(messages) for messages in asked if messages})
