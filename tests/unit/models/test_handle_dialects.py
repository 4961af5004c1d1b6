"""`ws.model()` with a card of either dialect: text, stream, tools, schema, usage, and foreign parameters."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from calls import behind, context

from workbench.controls.fallback import Fallback
from workbench.controls.output import Output
from workbench.controls.retry import Retry, RetryPolicy
from workbench.controls.stack import fold
from workbench.errors import ConfigError, DeadlineError, InvalidOutputError, NoAnswerError, UnavailableError
from workbench.models.card import ModelCard, checked_card
from workbench.models.handle import ModelHandle
from workbench.ports import Call, ModelCandidate
from workbench.prompts.window import Window
from workbench.testing.fakes import FakeModel
from workbench.types import STATED, Message
from workbench.workspace.candidates import candidates

CARD = dataclasses.replace(
    ModelCard.unsaved("m"), dialect="responses", defaults={"temperature": 0, "max_output_tokens": 64}
)
SCHEMA = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    messages: tuple = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="Which city?"),
    )
    prompt: str = "answer@2"
    digest: str = "d"
    passages: tuple = ()
    output: dict | None = None
    parameters: dict = dataclasses.field(default_factory=dict)


def handle(model, *, card=CARD, controls=None, fallbacks=()) -> ModelHandle:
    def make_call(operation, payload, labels):
        return Call(
            port="model", operation=operation, target="m", payload=payload, context=context(), labels=labels,
            fallbacks=fallbacks,
        )  # fmt: skip

    return ModelHandle(card=card, handler=fold(controls or {}, behind(model)), make_call=make_call)


def test_a_text_is_asked_and_answered_in_the_dialect_of_the_card():
    model = FakeModel()
    reply = handle(model).chat("Hello there", temperature=0.5)
    assert (reply.text, reply.finish_reason, reply.reason) == ("Hello there", "completed", "")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (2, 2)
    asked = {"model": "m", "input": [{"role": "user", "content": "Hello there"}]}
    assert model.calls == [{**asked, "temperature": 0.5, "max_output_tokens": 64}]


def test_the_text_of_a_stream_comes_piece_by_piece():
    model = FakeModel()
    assert list(handle(model).stream("one two three")) == ["one ", "two ", "three"]
    assert model.calls[0]["stream"] is True


def test_a_streamed_answer_without_a_text_is_an_error():
    refused = {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}
    model = FakeModel([{"id": "r", "status": "completed", "output": [refused]}])
    with pytest.raises(NoAnswerError) as caught:
        list(handle(model).stream("a"))
    assert caught.value.reason == "refusal"


def test_a_tool_call_is_in_raw():
    reply = handle(FakeModel([{"id": "r", "status": "completed", "output": [CALL]}])).chat("a", tools=[{}])
    assert (reply.text, reply.reason) == ("", "tool_call")
    assert reply.raw["output"][0]["arguments"] == '{"a":1}'


@pytest.mark.parametrize(
    ("before", "own", "more"),
    [({}, {}, {}), ({"verbosity": "low"}, {}, {"verbosity": "low"}), ({"a": 1}, {"a": 2}, {"a": 2})],
)
def test_a_schema_is_in_the_text_of_the_request_and_the_answer_is_data(before, own, more):
    model = FakeModel(["Oslo", '{"name": "Oslo"}'])
    asked = Rendered(output=SCHEMA, parameters={"text": before} if before else {})
    reply = handle(model, controls={"output": Output()}).chat(asked, **({"text": own} if own else {}))
    assert reply.data == {"name": "Oslo"} and len(model.calls) == 2
    named = {"type": "json_schema", "name": "answer", "strict": True, "schema": SCHEMA}
    assert model.calls[0]["text"] == {"format": named, **more}
    assert model.calls[0]["input"][0] == {"role": "system", "content": "Be brief."}


def test_an_answer_that_is_no_json_is_an_error():
    with pytest.raises(InvalidOutputError, match="JSON"):
        handle(FakeModel(["Oslo"])).chat(Rendered(output=SCHEMA))


@pytest.mark.parametrize(
    ("name", "here"),
    [("max_tokens", "max_output_tokens"), ("response_format", "text"), ("messages", "input")],
)
def test_a_parameter_of_the_other_dialect_is_refused_by_name(name, here):
    for asked, more in (("a", {name: 3}), (Rendered(parameters={name: 3}), {})):
        with pytest.raises(ConfigError, match=name) as caught:
            handle(FakeModel()).chat(asked, **more)
        assert here in caught.value.hint


def test_tokens_are_counted_in_the_dialect_of_the_card():
    model = FakeModel()
    assert handle(model).count_tokens("one two three") == 3
    assert "input" in model.calls[0] and "messages" not in model.calls[0]


def test_a_window_summarises_within_its_limit():
    model = FakeModel(lambda _payload: "a summary")
    window = Window.of_model(handle(model), tenant="acme", budget=60)
    for number in range(20):
        window.say("user", f"question {number} about a taxi").say("assistant", f"answer {number}")
    window.fill()
    assert 7 in [call.get("max_output_tokens") for call in model.calls]


def test_a_fall_back_answers_in_the_dialect_of_the_call():
    stated = ModelCandidate(target=STATED, answer="We will come back to you.")
    away = FakeModel([UnavailableError("away")] * 2)
    asking = handle(away, controls={"fallback": Fallback()}, fallbacks=(stated,))
    reply = asking.chat("a")
    assert (reply.text, reply.fallback) == ("We will come back to you.", STATED)
    assert reply.raw["object"] == "response"
    assert "".join(asking.stream("a")) == "We will come back to you."


def test_a_fall_back_of_the_other_dialect_is_refused():
    other = dataclasses.replace(ModelCard.unsaved("other"), dialect="chat")
    with pytest.raises(ConfigError, match="speaks chat"):
        candidates(CARD, ["other"], card_of=lambda _name: other)


def test_only_an_endpoint_speaks_responses():
    local = dataclasses.replace(CARD, provider="local")
    with pytest.raises(ConfigError, match="dialect: responses"):
        checked_card(local, where="1.yaml")
    assert checked_card(CARD, where="1.yaml") == CARD


class Silent(FakeModel):
    async def chat(self, payload, *, timeout_s=None):
        self.calls.append(payload)
        await asyncio.sleep(60)
        yield


def test_a_timeout_of_a_call_is_its_deadline_and_no_parameter_of_the_wire():
    card = dataclasses.replace(CARD, dialect="chat", defaults={})
    silent = handle(Silent(), card=card, controls={"retry": Retry(RetryPolicy(timeout_s=30))})
    for use in (silent.chat, lambda *asked, **more: list(silent.stream(*asked, **more))):
        with pytest.raises(DeadlineError):
            use("late", timeout=0.05)
    model = FakeModel(["yes"])
    assert handle(model, card=card).chat("in time", timeout=5).text == "yes"
    assert "timeout" not in model.calls[0]


@pytest.mark.parametrize("timeout", [0, -1, "2", True, float("nan")])
def test_a_timeout_that_is_none_is_refused_by_name(timeout):
    with pytest.raises(ConfigError, match="timeout must be seconds above 0") as caught:
        handle(FakeModel()).chat("hello", timeout=timeout)
    assert caught.value.hint
