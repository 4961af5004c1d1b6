"""Requests go out without identifiers and secrets, and answers come back with them."""

import asyncio
import dataclasses
import json

import pytest
from calls import chat, read
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import ALL, EMAIL, PERSON, PHONE, QUOTED, SECRET, Echo, SmallDetector, answers
from sizes import examples

from workbench import wire
from workbench.config import DataClass, data_rules
from workbench.context import InvocationScope, invocation_scope
from workbench.controls.privacy import PrivacyControl
from workbench.errors import ConfigError, PrivacyError, RefusedError
from workbench.ports import Span
from workbench.ports.privacy import DeclaredData
from workbench.types import Event

TOLD = f"{PERSON} ({EMAIL}, {PHONE}) wrote: ask {EMAIL} again, key {SECRET}"
SENT = "<PERSON_1> (<EMAIL_1>, <PHONE_1>) wrote: ask <EMAIL_1> again, key [SECRET]"
BACK = TOLD.replace(SECRET, "[SECRET]")


def control(*, external=True, enforce=True, detector=None, **classes):
    rules = data_rules({name: DataClass(**fields) for name, fields in classes.items()})
    return PrivacyControl(detector or SmallDetector(), rules, external=lambda _: external, enforce=enforce)


def asked(call, model, made=None):
    """The events of a call through the control, in front of a model."""
    return asyncio.run(read(lambda call: (made or control())(call, model), call))


def respond(text, **payload):
    return dataclasses.replace(
        chat(), operation="respond", payload={"model": "small", "input": text, **payload}
    )


def text_of(call, events):
    speaks = wire.dialect(call.operation)
    return speaks.text_of(speaks.fold([Event(data=data) for data in events]))


@pytest.mark.parametrize("make", [chat, respond])
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_leaves_with_pseudonyms_and_its_answer_comes_back_with_the_values(make, stream):
    model, call = Echo(size=3), make(TOLD, stream=stream)
    events = asked(call, model)
    assert SENT in json.dumps(model.got) and not any(value in json.dumps(model.got) for value in ALL)
    assert text_of(call, events) == BACK
    assert call.span.facts["findings"] == {"person": 1, "email": 2, "phone": 1, "secret": 1}
    counts = {"restored": 4, "invented": 0, "altered": 0}
    assert call.span.facts["privacy"] == {"destination": "external", **counts}
    assert call.span.facts["data_class"] == "secret"


@pytest.mark.parametrize("make", [chat, respond])
@pytest.mark.parametrize("size", range(1, 12))
def test_a_pseudonym_split_anywhere_in_a_stream_is_restored(make, size):
    text = f"a < b, <PERSO, {PERSON}<{EMAIL}> <EMAIL_1 \\u003c <"
    call = make(text, stream=True)
    events = asked(call, Echo(size=size))
    assert text_of(call, events) == text
    assert all("<PERSON_1>" not in json.dumps(data) for data in events)


def test_a_stream_holds_back_only_what_may_begin_a_pseudonym():
    call, pieces = chat(f"write {PERSON}", stream=True), []
    model = Echo("one <b> two <PERSON_2 three <PERSON_1> four <", size=1)
    for data in asked(call, model):
        pieces.append(data["choices"][0]["delta"].get("content") or "")
    before = "".join(pieces).index(PERSON)
    assert "".join(pieces) == f"one <b> two <PERSON_2 three {PERSON} four <"
    assert pieces[:4] == ["o", "n", "e", " "] and len(pieces) >= before
    assert call.span.facts["privacy"]["invented"] == 0


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(st.sampled_from([PERSON, EMAIL, "<", ">", "<EMAIL_", "PERSON_1", "\\", " ", "é"]), max_size=9),
    st.integers(1, 7),
    st.booleans(),
)
def test_whatever_a_model_repeats_comes_back_as_it_was(parts, size, stream):
    text = "".join(parts)
    for make in (chat, respond):
        call = make(text, stream=stream)
        assert text_of(call, asked(call, Echo(size=size))) == text


def test_the_same_value_has_one_pseudonym_and_is_found_again_where_no_rule_sees_it():
    call = chat(f"{PERSON} and {QUOTED}", messages=None)
    messages = [
        {"role": "system", "content": f"About {PERSON}"},
        {"role": "user", "content": f"{QUOTED}: hi"},
    ]
    payload = {
        **call.payload,
        "messages": messages,
        "user": EMAIL,
        "metadata": {"who": PERSON, EMAIL: "x" * 5},
    }
    model = Echo()
    asked(dataclasses.replace(call, payload=payload), model)
    assert model.got[0]["messages"][0]["content"] == "About <PERSON_1>"
    assert model.got[0]["messages"][1]["content"] == "<PERSON_2>: hi"
    assert model.got[0]["user"] == "<EMAIL_1>"
    assert model.got[0]["metadata"] == {"who": "<PERSON_1>", "<EMAIL_1>": "xxxxx"}


class FirstOnly(SmallDetector):
    """A detector whose rule needs a word before the name, as rules by context do."""

    def find(self, text):
        return super().find(text) if "Customer" in text else ()


def test_a_value_that_one_text_shows_is_replaced_in_all_texts():
    messages = [{"role": "user", "content": f"Customer {PERSON}"}, {"role": "user", "content": f"{PERSON}s?"},
                {"role": "user", "content": f"Then {PERSON}, and {PERSON}"}]  # fmt: skip
    model = Echo()
    asked(chat(messages=messages), model, control(detector=FirstOnly()))
    assert [turn["content"] for turn in model.got[0]["messages"]] == [
        "Customer <PERSON_1>", f"{PERSON}s?", "Then <PERSON_1>, and <PERSON_1>",
    ]  # fmt: skip


def test_a_pseudonym_that_the_text_contains_itself_is_not_given_and_not_restored():
    text = f"<PERSON_1> and person 2 met {PERSON}"
    model, call = Echo(), chat(text)
    assert text_of(call, asked(call, model)) == text
    assert model.got[0]["messages"][-1]["content"] == "<PERSON_1> and person 2 met <PERSON_3>"
    assert call.span.facts["privacy"] | {"destination": ""} == {
        "destination": "", "restored": 1, "invented": 0, "altered": 0,
    }  # fmt: skip


def test_what_a_model_alters_or_invents_stays_as_text_and_is_counted():
    answer = "<Person_1>, PERSON_1, [PERSON_1], <PERSON 1>, <PERSON_7>, <PERSON_1>"
    for stream in (False, True):
        call = chat(f"Who is {PERSON}?", stream=stream)
        assert text_of(call, asked(call, Echo(answer, size=4))) == answer.replace("<PERSON_1>", PERSON)
        counts = {"restored": 1, "invented": 1, "altered": 4}
        assert call.span.facts["privacy"] == {"destination": "external", **counts}


def tool_call(arguments):
    return {"id": "call_1", "type": "function", "function": {"name": "mail", "arguments": arguments}}


@pytest.mark.parametrize("marks", [("<", ">"), ("\\u003c", "\\u003e"), ("\\u003C", "\\u003E")])
@pytest.mark.parametrize("size", [1, 2, 5, 400])
def test_arguments_of_tools_stay_json_whatever_the_value_holds(marks, size):
    name = f"{marks[0]}PERSON_1{marks[1]}"
    arguments = f'{{"to": "{name}", "text": "Dear {name}"}}'

    async def model(call):
        if not call.payload.get("stream"):
            message = {"role": "assistant", "content": None, "tool_calls": [tool_call(arguments)]}
            yield Event(data={"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
            return
        head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "mail", "arguments": ""}}
        pieces = [arguments[at : at + size] for at in range(0, len(arguments), size)]
        for call_part in [head, *({"index": 0, "function": {"arguments": piece}} for piece in pieces)]:
            delta = {"tool_calls": [call_part]}
            yield Event(data={"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]})
        end = {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
        yield Event(data={"object": "chat.completion.chunk", "choices": [end]})

    for stream in (False, True):
        whole = wire.fold([Event(data=d) for d in asked(chat(f"To {QUOTED}", stream=stream), model)])
        made = whole["choices"][0]["message"]["tool_calls"][0]["function"]
        assert json.loads(made["arguments"]) == {"to": QUOTED, "text": f"Dear {QUOTED}"}


def test_arguments_and_results_of_tools_in_a_request_are_read_as_json():
    arguments = json.dumps({"name": QUOTED, "card": 4111111111111111, "id": EMAIL})
    result = json.dumps([{"inner": json.dumps({"who": QUOTED})}])
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [tool_call(arguments)]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]
    model = Echo("ok")
    asked(chat(messages=messages), model)
    sent = model.got[0]["messages"]
    given_arguments = json.loads(sent[0]["tool_calls"][0]["function"]["arguments"])
    assert given_arguments == {"name": "<PERSON_1>", "card": "<CARD_1>", "id": "<EMAIL_1>"}
    assert json.loads(json.loads(sent[1]["content"])[0]["inner"]) == {"who": "<PERSON_1>"}


def test_an_answer_in_json_stays_json():
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": [QUOTED, "nobody"]}}}
    model, call = Echo('{"who": "<PERSON_1>"}'), chat(f"Is it {QUOTED}?", response_format=form)
    assert json.loads(text_of(call, asked(call, model))) == {"who": QUOTED}
    assert model.got[0]["response_format"]["json_schema"]["schema"]["enum"] == ["<PERSON_1>", "nobody"]
    streamed = chat(f"Is it {QUOTED}?", response_format=form, stream=True)
    assert json.loads(text_of(streamed, asked(streamed, Echo('{"who": "<PERSON_1>"}')))) == {"who": QUOTED}


def test_names_of_the_protocol_and_media_are_left_alone():
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{SECRET}"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": f"Is this {PERSON}?"}, image]}]
    model = Echo("yes")
    asked(chat(messages=messages, model=EMAIL), model)
    text, sent = model.got[0]["messages"][0]["content"]
    assert (text["text"], sent, model.got[0]["model"]) == ("Is this <PERSON_1>?", image, EMAIL)


def test_a_clean_request_is_passed_on_as_the_same_object_and_searched_once():
    detector, model, call = SmallDetector(), Echo("fine"), chat("a taxi?")
    asked(call, model, control(detector=detector))
    assert model.got[0] is call.payload
    assert sorted(detector.searched) == ["a taxi?", "be brief", "fine"]
    assert call.span.facts["findings"] == {} and call.span.facts["privacy"] == {"destination": "external"}


def test_the_next_candidate_searches_no_text_again():
    detector, span = SmallDetector(), Span()
    made = control(detector=detector)
    for model in ("small", "other"):
        call = dataclasses.replace(chat(TOLD), span=span)
        asked(dataclasses.replace(call, payload={**call.payload, "model": model}), Echo("ok"), made)
    assert len(detector.searched) == len(set(detector.searched))


@pytest.mark.parametrize("destination", ["external", "embedded"])
def test_a_class_that_a_destination_refuses_is_not_sent(destination):
    model, call = Echo(), chat(TOLD)
    made = control(external=destination == "external", personal={destination: "refuse"})
    with pytest.raises(PrivacyError, match=f"personal.*{destination}") as caught:
        asked(call, model, made)
    assert not model.got and caught.value.kinds == ("email", "person", "phone")
    assert caught.value.destination == destination and f"personal.{destination}" in caught.value.hint
    assert call.span.facts["findings"]["email"] == 2
    assert not any(value in str(caught.value) for value in ALL)


def test_a_model_in_this_process_gets_personal_data_and_no_secret():
    model, call = Echo(), chat(TOLD)
    assert text_of(call, asked(call, model, control(external=False))) == BACK
    assert model.got[0]["messages"][-1]["content"] == BACK


def test_a_class_that_only_observes_changes_nothing_and_says_what_it_would():
    model, call = Echo(), chat(TOLD)
    made = control(enforce=False, secret={"external": "refuse"})
    assert text_of(call, asked(call, model, made)) == TOLD
    assert call.span.facts["would_refuse"] == ["privacy:personal:pseudonymise", "privacy:secret:refuse"]


def test_an_own_class_takes_its_kinds_and_ranks_above_the_class_it_is_like():
    made = control(payment={"like": "personal", "kinds": ("card",), "external": "mask"})
    model, call = Echo(), chat(f"{PERSON} pays with 4111 1111 1111 1111")
    asked(call, model, made)
    assert model.got[0]["messages"][-1]["content"] == "<PERSON_1> pays with [CARD]"
    assert call.span.facts["data_class"] == "payment"


def test_an_error_quotes_neither_what_was_sent_nor_what_the_server_says():
    cause = ValueError(f"bad {PERSON}")
    fails = RefusedError(
        f"400: {EMAIL}", hint=f"call {PHONE}", status=400, body={"error": {"message": SECRET}}
    )
    fails.__cause__ = cause
    fails.add_note(f"tried for {PERSON}")
    with pytest.raises(RefusedError) as caught:
        asked(chat("a taxi?"), Echo(fails=fails))
    shown = [caught.value, caught.value.body, caught.value.args, caught.value.__notes__, cause]
    assert not any(value in repr(part) + str(part) for part in shown for value in ALL)
    assert "[EMAIL]" in caught.value.message


def test_an_error_in_the_middle_of_a_stream_comes_after_the_text_that_was_held():
    async def model(call):
        for data in answers(call, "see <PERS", 3)[:-1]:
            yield Event(data=data)
        raise RefusedError("no more")

    seen = []

    async def reading():
        async for event in control()(chat(f"Who is {PERSON}?", stream=True), model):
            seen.append(event.data["choices"][0]["delta"]["content"])

    with pytest.raises(RefusedError, match="no more"):
        asyncio.run(reading())
    assert "".join(seen) == "see <PERS"


def test_inputs_of_embeddings_leave_with_pseudonyms():
    call = dataclasses.replace(chat(), operation="embed", payload={"model": "e", "input": [TOLD, "x"]})

    async def model(call):
        yield Event(data={"data": [], "asked": call.payload["input"]})

    assert asked(call, model)[0]["asked"] == [SENT, "x"]


def test_a_text_of_a_megabyte_with_many_values_takes_a_bounded_time():
    many = " ".join(f"user{n}@host{n}.example and {PERSON}" for n in range(20_000))
    call, model = chat(many), Echo()
    assert text_of(call, asked(call, model)) == many
    assert "<EMAIL_20000>" in model.got[0]["messages"][-1]["content"]


def declared(call, *classes, identifiers=()):
    return dataclasses.replace(call, declared=DeclaredData(classes=classes, identifiers=identifiers))


def test_a_value_that_a_prompt_declares_is_replaced_where_no_detector_finds_it():
    call = declared(
        chat("Dear Zed Quux, Zed Quuxes!"), "personal", identifiers=(("Zed Quux", "customer", "personal"),)
    )
    model = Echo()
    assert text_of(call, asked(call, model)) == "Dear Zed Quux, Zed Quuxes!"
    assert model.got[0]["messages"][-1]["content"] == "Dear <CUSTOMER_1>, Zed Quuxes!"
    assert call.span.facts["findings"] == {"customer": 1}


def test_a_class_that_a_prompt_declares_is_kept_from_a_destination_that_refuses_it():
    call, model = declared(chat("how are you?"), "health"), Echo("well")
    with pytest.raises(PrivacyError, match=r"health.*declares"):
        asked(call, model, control(health={"like": "secret", "external": "refuse"}))
    with pytest.raises(PrivacyError, match="helth"):
        asked(declared(chat(), "helth"), model)
    assert not model.got
    asked(call, model, control(health={"like": "personal"}))
    assert model.got[0] is call.payload and call.span.facts["data_class"] == "health"


def asked_within(call, model, columns, **classes):
    """The events of a call while a case with these columns is answered; `text` is declared as `health`."""
    rules = data_rules({name: DataClass(**fields) for name, fields in classes.items()})
    made = PrivacyControl(
        SmallDetector(), rules, external=lambda _: True, columns={"text": "health", "absent": "secret"}
    )
    with invocation_scope(InvocationScope(case="c1", columns=columns)):
        return asked(call, model, made)


@pytest.mark.parametrize("value", ["my knee", ["my knee"], {"words": ("is it?", "my knee")}])
def test_a_request_with_the_value_of_a_column_has_the_class_of_the_column(value):
    call, model = chat("Ada wrote: my knee hurts"), Echo("well")
    asked_within(call, model, {"text": value}, health={"like": "secret", "external": "pass"})
    assert call.span.facts["data_class"] == "health" and len(model.got) == 1
    with pytest.raises(PrivacyError, match=r"health.*column"):
        asked_within(
            chat("Ada wrote: my knee hurts"),
            model,
            {"text": value},
            health={"like": "secret", "external": "refuse"},
        )
    assert len(model.got) == 1


@pytest.mark.parametrize(
    "columns",
    [{"text": "my elbow"}, {"text": "My knee"}, {"text": "kne"}, {"text": 12345}, {"other": "my knee"}, {}],
)
def test_a_request_without_the_value_of_a_column_has_no_class(columns):
    call, model = chat("Ada wrote: my knee hurts, 12345"), Echo("well")
    asked_within(call, model, columns, health={"like": "secret", "external": "refuse"})
    assert "data_class" not in call.span.facts and len(model.got) == 1


def test_what_a_prompt_and_a_column_declare_both_count():
    call, model = declared(chat("my knee hurts"), "personal"), Echo("well")
    health = {"like": "personal", "external": "pass"}
    asked_within(call, model, {"text": "my knee"}, health=health)
    assert call.span.facts["data_class"] == "health"
    call = declared(chat("my knee hurts"), "personal")
    asked_within(call, model, {"text": "my elbow"}, health=health)
    assert call.span.facts["data_class"] == "personal"


def test_a_request_that_is_no_json_is_left_to_those_who_say_so():
    deep = {}
    deep["deep"] = deep
    with pytest.raises(ConfigError, match="nested"):
        asked(chat(metadata=deep), Echo())
    model = Echo("ok")
    asked(chat(metadata={1: "one", "set": {2, 3}}), model)
    assert model.got[0]["metadata"] == {1: "one", "set": {2, 3}}


def test_instructions_that_come_with_every_call_are_not_searched_every_time():
    detector = SmallDetector()
    made = control(detector=detector)
    for n in range(5):
        asked(chat(f"taxi {n}? {EMAIL}"), Echo("fine"), made)
    assert detector.searched.count("be brief") == detector.searched.count("fine") == 2
    assert sum(EMAIL in text for text in detector.searched) == 5
