"""Answers in the form that was asked for."""

import asyncio
import socket

import pytest
from calls import FORMAT, SCHEMA, ask, behind, chat, text

from workbench.controls.output import Output
from workbench.controls.stack import fold
from workbench.errors import ConfigError, InvalidOutputError
from workbench.testing.fakes import FakeModel

GOOD = '{"answer":"yes"}'


def judged(model):
    return fold({"output": Output()}, behind(model))


def form(schema):
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}


def whole(content, finish="stop", **message):
    return {"choices": [{"finish_reason": finish, "message": {"content": content, **message}}], "usage": {}}


def violations(answer, response_format=FORMAT):
    with pytest.raises(InvalidOutputError) as caught:
        ask(judged(FakeModel([answer, answer])), chat(response_format=response_format))
    return list(caught.value.violations)


def test_an_answer_that_fits_passes_as_it_came():
    call = chat(response_format=FORMAT)
    assert text(ask(judged(FakeModel([GOOD])), call)) == GOOD
    assert "repaired" not in call.span.facts


def test_without_a_format_nothing_is_judged():
    for asked in ({}, {"response_format": {"type": "text"}}, {"response_format": None}):
        assert text(ask(judged(FakeModel(["words"])), chat(**asked))) == "words"


def test_one_repair_shows_the_answer_and_what_is_wrong_with_it():
    model, call = FakeModel(['{"answer":"perhaps"}', GOOD]), chat(response_format=FORMAT)
    assert text(ask(judged(model), call)) == GOOD
    assert call.span.facts["repaired"] is True
    first, second = model.calls
    assert second["messages"][:-2] == first["messages"] and second["response_format"] == FORMAT
    wrong, complaint = second["messages"][-2:]
    assert wrong == {"role": "assistant", "content": '{"answer":"perhaps"}'}
    assert complaint["role"] == "user" and '$.answer: enum ["yes","no"]' in complaint["content"]


def test_after_one_repair_it_is_an_error_that_names_paths_and_rules():
    model = FakeModel(['{"sure":"CANARY"}', '{"sure":"CANARY","more":1}'])
    with pytest.raises(InvalidOutputError) as caught:
        ask(judged(model), chat(response_format=FORMAT))
    assert len(model.calls) == 2
    assert set(caught.value.violations) == {
        '$: required ["answer"]',
        '$.sure: type "number"',
        "$: additionalProperties false",
    }
    assert "CANARY" not in str(caught.value) + repr(caught.value.violations)
    assert '$.sure: type "number"' in str(caught.value) and caught.value.hint


def test_a_refusal_is_passed_on_and_not_asked_again():
    model, refusal = FakeModel([whole(None, refusal="I cannot")]), chat(response_format=FORMAT)
    (answer,) = ask(judged(model), refusal)
    assert answer["choices"][0]["message"]["refusal"] == "I cannot"
    assert len(model.calls) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("yes", "$: not JSON"),
        ("```json\n{}\n```", "$: not JSON"),
        (whole(""), "$: empty"),
        (whole(None), "$: empty"),
        (whole('{"answer": "ye', finish="length"), "$: cut off at the limit of tokens"),
        (whole(GOOD, finish="length"), "$: cut off at the limit of tokens"),
        ('"yes"', '$: type "object"'),
    ],
)
def test_what_is_no_answer_is_called_by_its_name(answer, said):
    assert violations(answer) == [said]


def test_json_object_asks_for_an_object_and_nothing_more():
    asked = {"type": "json_object"}
    assert text(ask(judged(FakeModel(['{"a":[1]}'])), chat(response_format=asked))) == '{"a":[1]}'
    assert violations("[1]", asked) == ['$: type "object"']


def test_an_enumerated_answer_is_a_schema_of_its_own():
    asked = form({"enum": ["refund", "exchange"]})
    assert text(ask(judged(FakeModel(['"refund"'])), chat(response_format=asked))) == '"refund"'
    assert violations('"Refund"', asked) == ['$: enum ["refund","exchange"]']


def test_a_stream_has_passed_when_its_end_is_judged_and_is_not_repaired():
    model, came = FakeModel(["no json here"]), []

    async def collect():
        async for event in judged(model)(chat(response_format=FORMAT, stream=True)):
            came.append(event)

    with pytest.raises(InvalidOutputError, match="not JSON"):
        asyncio.run(collect())
    assert len(model.calls) == 1 and len(came) > 3
    ask(judged(FakeModel([GOOD])), chat(response_format=FORMAT, stream=True))


def test_a_call_for_a_tool_is_a_turn_on_the_way_and_not_judged():
    call = whole(None, finish="tool_calls", tool_calls=[{"id": "1", "function": {"name": "f"}}])
    ask(judged(FakeModel([call])), chat(response_format=FORMAT))


def test_every_choice_is_judged():
    two = whole(GOOD)
    two["choices"].append({"finish_reason": "stop", "message": {"content": "{}"}})
    assert violations(two) == ['choices[1] $: required ["answer"]']


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "objekt"}, r"schema\.type is not valid"),
        ({"properties": {"a": {"type": 7}}}, r"schema\.properties\.a\.type is not valid"),
        (None, "schema is missing"),
    ],
)
def test_a_schema_that_is_none_is_refused_before_anybody_is_asked(schema, said):
    model = FakeModel()
    with pytest.raises(ConfigError, match=said):
        ask(judged(model), chat(response_format=form(schema)))
    assert not model.calls


def test_a_reference_to_another_document_is_not_fetched(monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("fetched"))
    asked = form({"$ref": "http://example.invalid/schema.json"})
    with pytest.raises(ConfigError, match="which it does not define"):
        ask(judged(FakeModel([GOOD])), chat(response_format=asked))


def test_a_schema_may_refer_to_its_own_definitions():
    asked = form({"$defs": {"a": SCHEMA}, "$ref": "#/$defs/a"})
    assert text(ask(judged(FakeModel([GOOD])), chat(response_format=asked))) == GOOD
    assert violations('{"answer":1}', asked) == ['$.answer: enum ["yes","no"]']


@pytest.mark.parametrize("named", [None, [1], "answer", 3, {}, {"schema": [SCHEMA]}])
def test_a_format_without_a_schema_is_an_error_before_anybody_is_asked(named):
    model = FakeModel()
    with pytest.raises(ConfigError, match="schema is missing"):
        ask(judged(model), chat(response_format={"type": "json_schema", "json_schema": named}))
    assert not model.calls


@pytest.mark.parametrize("finish", ["content_filter", "SAFETY", "refusal"])
def test_a_withheld_answer_is_passed_on_and_not_asked_for_again(finish):
    model = FakeModel([whole("", finish)])
    assert text(ask(judged(model), chat(response_format=FORMAT))) == ""
    assert len(model.calls) == 1


def test_an_answer_at_the_limit_of_tokens_is_named_so_whatever_the_server_calls_it():
    assert violations(whole('{"ans', "MAX_TOKENS")) == ["$: cut off at the limit of tokens"]


def test_an_answer_nested_deeper_than_its_schema_can_be_checked_is_a_violation():
    deep = {"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}
    assert violations(whole("[" * 900 + "]" * 900), form(deep)) == ["$: nested too deep"]
