"""An `openai` client over the boundary: every governed route, what is refused, and its time and retries."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import warnings
from pathlib import Path

import openai
import pydantic
import pytest
from calls import behind, context

import workbench as wb
from workbench import wire
from workbench.controls.output import Output
from workbench.controls.retry import Retry, RetryPolicy
from workbench.controls.stack import fold
from workbench.errors import ConfigError, RefusedError, UnavailableError
from workbench.models.card import ModelCard
from workbench.models.client_requests import Caller
from workbench.models.client_routes import ADVICE
from workbench.models.clients import openai_async_client, openai_client
from workbench.models.openai import OpenAIModel
from workbench.models.stateless import STATEFUL, check_state, check_stored
from workbench.ports import Call
from workbench.testing.fakes import FakeModel
from workbench.types import Event

ROOT = Path(__file__).resolve().parents[3]
RESPOND = wire.dialect("respond")
CARDS = (ModelCard.unsaved("first"), ModelCard.unsaved("second"))
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}


class Desk:
    """A client of a fake model, and the calls that it made."""

    def __init__(self, script=None, *, controls=None, **options):
        self.model = FakeModel() if script is None else FakeModel(script)
        self.calls: list[Call] = []
        handler = fold(controls or {}, behind(self.model))
        self.caller = Caller(handler=handler, make_call=self._call, cards=lambda: CARDS, **options)
        self.client = openai_client(self.caller)

    def _call(self, operation, payload):
        call = Call(port="model", operation=operation, target="m", payload=payload, context=context())
        self.calls.append(call)
        return call


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_response_is_read_as_the_endpoint_gave_it(desk):
    found = desk.client.responses.create(model="m", input="Hello there", instructions="Be brief.")
    assert (found.output_text, found.status, found.usage.input_tokens) == ("Hello there", "completed", 2)
    assert desk.calls[0].operation == "respond"
    assert desk.calls[0].payload == {"model": "m", "input": "Hello there", "instructions": "Be brief."}


def test_a_streamed_response_has_typed_events(desk):
    events = list(desk.client.responses.create(model="m", input="one two three", stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert deltas == ["one ", "two ", "three"]
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed" and events[-1].response.output_text == "one two three"


def test_the_client_s_own_accumulation_of_a_stream_is_the_response(desk):
    with desk.client.responses.stream(model="m", input="one two") as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == "one two"
    assert "response.output_text.done" in kinds


def test_a_whole_response_in_a_stream_is_split_for_the_client():
    message = {"type": "message", "id": "m1", "role": "assistant", "status": "completed"}
    text = {"type": "output_text", "text": "Hello", "annotations": []}
    whole = {"id": "r", "object": "response", "status": "completed", "model": "m", "created_at": 0}
    whole |= {"output": [{**message, "content": [text]}, CALL], "tools": [], "tool_choice": "auto"}
    whole |= {"parallel_tool_calls": True}

    async def handler(_call):
        yield Event(data=whole)

    client = openai_client(Caller(handler=handler, make_call=Desk()._call))
    with client.responses.stream(model="m", input="a") as stream:
        final = stream.get_final_response()
    assert final.output_text == "Hello" and final.output[1].arguments == '{"a":1}'


class City(pydantic.BaseModel):
    name: str


def test_a_structured_response_is_checked_and_repaired_by_the_boundary():
    desk = Desk(["not JSON", '{"name": "Oslo"}'], controls={"output": Output()})
    found = desk.client.responses.parse(model="m", input="Which city?", text_format=City)
    assert found.output_parsed == City(name="Oslo")
    repair = desk.model.calls[1]["input"]
    assert [turn["role"] for turn in repair] == ["user", "assistant", "user"]
    assert repair[0]["content"] == "Which city?" and "not JSON" in repair[2]["content"]


def test_a_tool_call_of_a_response_is_no_text_to_repair():
    whole = {"id": "r", "object": "response", "status": "completed", "output": [CALL]}
    desk = Desk([whole], controls={"output": Output()})
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    schema = {"type": "object", "required": ["a"]}
    found = desk.client.responses.create(
        model="m",
        input="a",
        tools=[tool],
        text={"format": {"type": "json_schema", "name": "x", "schema": schema}},
    )
    assert found.output[0].name == "f" and desk.calls[0].payload["tools"] == [tool]


def test_a_response_that_never_fits_is_an_error_with_the_rule():
    desk = Desk(['{"name": 1}'] * 2, controls={"output": Output()})
    with pytest.raises(openai.UnprocessableEntityError, match="type"):
        desk.client.responses.parse(model="m", input="Which city?", text_format=City)
    form = {"type": "json_schema", "name": "x", "schema": {"type": 7}}
    with pytest.raises(openai.BadRequestError, match=r"text\.format\.schema"):
        desk.client.responses.create(model="m", input="a", text={"format": form})


def test_an_error_inside_a_streamed_response_is_raised():
    async def handler(_call):
        yield Event(data=RESPOND.unfold({"id": "r", "output": []})[0])
        raise UnavailableError("the engine died", hint="ask again")

    client = openai_client(Caller(handler=handler, make_call=Desk()._call))
    stream = client.responses.create(model="m", input="a", stream=True)
    with pytest.raises(openai.APIError, match="the engine died"):
        list(stream)


def test_several_choices_images_and_tools_of_chat_pass_unchanged():
    choices = [
        {"index": n, "finish_reason": "stop", "message": {"role": "assistant", "content": f"answer {n}"}}
        for n in range(3)
    ]
    whole = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}
    desk = Desk([whole, whole])
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    turns = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
    asked = {
        "model": "m",
        "messages": turns,
        "n": 3,
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    found = desk.client.chat.completions.create(**asked)
    assert [choice.message.content for choice in found.choices] == ["answer 0", "answer 1", "answer 2"]
    assert desk.calls[0].payload == asked
    texts = ["", "", ""]
    for chunk in desk.client.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == ["answer 0", "answer 1", "answer 2"]


def test_a_moderation_has_a_verdict_for_each_text():
    desk = Desk()
    desk.model.flagged = ("bomb",)
    found = desk.client.moderations.create(input=["a bomb", "a taxi"])
    assert [each.flagged for each in found.results] == [True, False]
    assert desk.calls[0].operation == "moderate"


def test_the_tokens_of_a_response_are_counted(desk):
    assert desk.client.responses.input_tokens.count(model="m", input="one two three").input_tokens == 3
    assert desk.calls[0].operation == "count"


def test_the_models_are_the_caller_s_cards(desk):
    assert [model.id for model in desk.client.models.list()] == ["first", "second"]
    assert desk.client.models.retrieve("second").owned_by == "openai"
    with pytest.raises(openai.NotFoundError, match=r"secand(.|\n)*second"):
        desk.client.models.retrieve("secand")
    assert not desk.calls, "a list needs no call"


def test_the_models_of_a_use_case_begin_with_its_own():
    client = wb.connect("answers", root=ROOT, mode="replay").openai()
    names = [model.id for model in client.models.list()]
    assert names[0] == "smollm2-135m" and len(set(names)) == len(names)
    assert {path.parent.name for path in ROOT.glob("pipelines/models/*/asset.yaml")} == set(names)
    with pytest.raises(openai.BadRequestError, match="kind moderation"):
        client.moderations.create(input="a")


@pytest.mark.parametrize(
    ("use", "advice"),
    [
        (lambda c: c.completions.create(model="m", prompt="a"), "chat.completions"),
        (lambda c: c.responses.retrieve("resp_1"), "ws.calls()"),
        (lambda c: c.responses.delete("resp_1"), "ws.calls()"),
        (lambda c: c.responses.compact(model="m", input="a"), "ws.window("),
        (lambda c: c.conversations.create(), "client.responses.create"),
        (lambda c: c.files.list(), "ws.memory("),
        (lambda c: c.vector_stores.list(), "ws.memory("),
        (lambda c: c.batches.list(), "ws.inputs("),
        (lambda c: c.images.generate(prompt="a"), "image"),
        (lambda c: c.audio.speech.create(model="m", voice="v", input="a"), "sound"),
        (lambda c: c.fine_tuning.jobs.list(), "card"),
        (lambda c: c.chat.completions.retrieve("c1"), "ws.calls()"),
        (lambda c: c.models.delete("m"), "workbench save"),
        (lambda c: c.get("/unheard/of", cast_to=object), "embeddings"),
    ],
)
def test_any_other_route_is_refused_with_the_nearest_governed_way(desk, use, advice):
    with pytest.raises(openai.NotFoundError, match="does not cross the boundary") as caught:
        use(desk.client)
    assert advice in str(caught.value)
    assert not desk.calls


def test_the_first_pattern_that_begins_a_path_is_the_narrowest():
    for number, (beginning, _) in enumerate(ADVICE):
        assert not any(beginning.startswith(f"{other}/") for other, _ in ADVICE[:number])


class Hanging(FakeModel):
    async def chat(self, payload, *, timeout_s=None):
        self.calls.append(payload)
        await asyncio.sleep(60)
        yield


HELLO = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", ["client", "options", "request"])
def test_a_timeout_is_the_deadline_of_the_call(stream, where):
    handler = fold({"retry": Retry(RetryPolicy(timeout_s=30))}, behind(Hanging()))
    limit = 0.2 if where == "client" else None
    client = openai_client(dataclasses.replace(Desk().caller, handler=handler, timeout=limit))
    client = client.with_options(timeout=0.2) if where == "options" else client
    more = {"timeout": 0.2} if where == "request" else {}
    with pytest.raises(openai.APIStatusError, match="deadline") as caught:
        client.chat.completions.create(model="m", messages=HELLO, stream=stream, **more)
    assert caught.value.status_code == 504


@pytest.mark.parametrize(("retries", "asked"), [(0, 1), (2, 3), (None, 4)])
def test_the_number_of_retries_is_the_client_s(retries, asked):
    policy = RetryPolicy(first_s=0.0, longest_s=0.0)
    desk = Desk([UnavailableError("away")] * 9, controls={"retry": Retry(policy)}, max_retries=retries)
    with pytest.raises(openai.InternalServerError, match="away"):
        desk.client.chat.completions.create(model="m", messages=HELLO)
    assert len(desk.model.calls) == asked


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": "2"}, {"max_retries": -1}, {"max_retries": 1.5}]
)
def test_a_timeout_or_a_number_of_retries_that_is_none_is_refused_by_name(options):
    with pytest.raises(ConfigError, match=next(iter(options))) as caught:
        wb.connect("answers", root=ROOT, mode="replay").openai(**options)
    assert "ws.openai(" in caught.value.hint


def test_the_async_twin_does_what_the_client_does():
    desk = Desk()

    async def use():
        client = openai_async_client(desk.caller)
        whole = await client.responses.create(model="m", input="one two")
        stream = await client.responses.create(model="m", input="one two", stream=True)
        events = [event async for event in stream]
        models = [model.id async for model in client.models.list()]
        with pytest.raises(openai.NotFoundError, match="boundary"):
            await client.files.list()
        return whole.output_text, events[-1].response.output_text, models

    assert asyncio.run(use()) == ("one two", "one two", ["first", "second"])


@pytest.mark.parametrize("name", STATEFUL)
def test_a_request_that_refers_to_what_an_endpoint_keeps_is_refused(name):
    with pytest.raises(RefusedError, match=name) as caught:
        check_state({"input": "a", name: "x"})
    assert "stateful: true" in caught.value.hint
    assert check_state({"input": "a", name: None})["store"] is False


def test_a_request_of_chat_may_not_be_stored_at_the_endpoint():
    endpoint = OpenAIModel("http://127.0.0.1:9/v1", "k", key_name="K")
    asked = {"model": "m", "messages": [{"role": "user", "content": "a"}], "store": True}

    async def ask():
        return [event async for event in endpoint.chat(asked)]

    with pytest.raises(RefusedError, match="store is refused") as caught:
        asyncio.run(ask())
    assert "stateful: true" in caught.value.hint
    for payload in ({"store": False}, {"store": None}, {}):
        check_stored(payload)
    check_stored(asked, stateful=True)


def test_a_reference_to_an_item_is_refused_and_an_item_is_not():
    with pytest.raises(RefusedError, match="item_reference"):
        check_state({"input": [{"type": "item_reference", "id": "msg_1"}]})
    with pytest.raises(RefusedError, match="item_reference"):  # its type may be left out
        check_state({"input": [{"role": "user", "content": "a"}, {"id": "msg_1"}]})
    assert check_state({"input": [{"role": "user", "content": "a", "id": "msg_1"}]})["store"] is False
    asked = {"input": [{"type": "message", "id": "msg_1", "role": "user", "content": "a"}]}
    assert check_state(asked) == {**asked, "store": False}
    assert "store" not in asked, "the caller's payload stays as it is"


@pytest.mark.parametrize("name", [name for name in STATEFUL if name != "background"])
def test_an_endpoint_that_keeps_state_gets_the_request_as_it_is(name):
    for asked in ({"input": "a", name: "x"}, {"input": [{"type": "item_reference"}]}, {"input": "a"}):
        assert check_state(asked, stateful=True) == asked


def test_a_background_answer_is_never_fetched_later():
    asked = {"input": "a", "background": True}
    with pytest.raises(RefusedError, match="background"):
        check_state(asked, stateful=True)
    assert check_state({**asked, "stream": True}, stateful=True)["background"] is True


DEEP = "[" * 400 + "]" * 400


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"{bad", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[1]", "a list, not an object"),
        (b"null", "a NoneType, not an object"),
        (b'{"messages": ' + DEEP.encode() + b"}", "nested"),
        (b'{"messages": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", "not JSON"),
        (b'{"stream": "yes"}', "stream is 'yes'"),
        (b'{"stream": true, "stream_options": [1]}', "stream_options is"),
    ],
)
def test_a_body_that_is_no_request_is_a_bad_request(body, said):
    """Whatever writes the body: extra_body, client.post(…) or another library."""
    made = []
    client = openai_client(Caller(handler=FakeModel().chat, make_call=lambda *asked: made.append(asked)))
    with pytest.raises(openai.BadRequestError, match=said) as caught:
        client.post("/chat/completions", content=body, cast_to=openai.BaseModel)
    assert caught.value.status_code == 400 and made == []


def test_a_model_that_was_not_closed_ends_without_a_warning_also_after_its_loop():
    models = [OpenAIModel("http://127.0.0.1:9/v1", "k", key_name="K")]

    async def connected():
        models[0]._open()

    asyncio.run(connected())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        models.clear()
        gc.collect()
    assert [str(item.message) for item in said if issubclass(item.category, ResourceWarning)] == []
