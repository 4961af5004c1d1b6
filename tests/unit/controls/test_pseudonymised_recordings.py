"""Recordings hold pseudonyms; a replay puts the values of the live request back."""

import asyncio
import dataclasses
import json

import pytest
from calls import chat, read
from planted import EMAIL, PERSON, PHONE, QUOTED, SECRET, Echo, SmallDetector

from workbench import files, wire
from workbench.config import AnswerCaching, DataClass, data_rules
from workbench.controls.privacy import PrivacyControl
from workbench.controls.stack import fold
from workbench.errors import ReplayMissError
from workbench.records import answer_cache, journal
from workbench.records.journal import Journal, extend
from workbench.records.keys import Entry, KeyedRequest
from workbench.records.tape import Tape
from workbench.types import Event
from workbench.wire.contents import without_tokens

TOLD = f"{PERSON} <{EMAIL}>"


def onion(bench, model, mode="auto", *, detector=None, rules=None, on_use=None):
    """The controls around a model in this process, which gets personal data as it is."""
    controls = bench.controls(mode)
    controls["privacy"] = PrivacyControl(
        detector or SmallDetector(), rules or data_rules({}), external=lambda _: False
    )
    controls["replay"]._on_use = on_use
    return fold({name: controls[name] for name in ("observe", "output", "privacy", "cache", "replay")}, model)


def answered(handler, call):
    events = asyncio.run(read(handler, call))
    speaks = wire.dialect(call.operation)
    return speaks.text_of(speaks.fold([Event(data=data) for data in events]))


def respond(text, **payload):
    payload = {"model": "small", "input": text, **payload}
    return dataclasses.replace(chat(), operation="respond", payload=payload)


def written(bench):
    return bench.journal.read_text(encoding="utf-8")


@pytest.mark.parametrize("make", [chat, respond])
@pytest.mark.parametrize("stream", [False, True])
def test_the_journal_holds_pseudonyms_and_a_replay_gives_the_values_back(bench, make, stream):
    model = Echo(size=3)
    for times in (1, 2):
        assert answered(onion(bench, model), make(TOLD, stream=stream)) == TOLD
        assert len(model.got) == 1 and TOLD in json.dumps(model.got)
        assert bench.records[-1]["replayed"] == (times == 2)
    kept = written(bench)
    assert "<PERSON_1> <<EMAIL_1>>" in kept and PERSON not in kept and EMAIL not in kept


def test_the_key_of_a_recording_is_that_of_the_request_that_the_model_got(bench):
    call = chat(TOLD)
    answered(onion(bench, Echo()), call)
    key = KeyedRequest("model.chat", call.identity, files.canonical(call.payload)).key
    entry = Entry.parse(Journal(bench.journal).line(key))
    assert entry.pseudonymised and entry.question.request != call.payload and entry.key == key


def test_a_tape_of_pseudonyms_is_read_verified_and_replayed(bench):
    used = {}
    handler = onion(bench, Echo(), on_use=used.__setitem__)
    answered(handler, chat(TOLD))
    extend(Tape(bench.tape), used, Journal(bench.journal))
    bench.journal.unlink()
    assert EMAIL not in bench.tape.read_text() and len(Tape.read(bench.tape)) == 1
    assert answered(onion(bench, Echo("never asked"), "replay"), chat(TOLD)) == TOLD
    with pytest.raises(ReplayMissError) as caught:
        answered(onion(bench, Echo(), "replay"), chat(f"{TOLD} and {PHONE}"))
    assert not any(value in str(caught.value) for value in (PERSON, EMAIL, PHONE))


def test_an_older_version_does_not_take_pseudonyms_for_an_answer(bench):
    answered(onion(bench, Echo()), chat(TOLD))
    fields = json.loads(written(bench))
    assert "request" not in fields and fields["pseudonymised"]["messages"][-1]["content"]


def test_a_recording_from_before_is_replayed_as_it_is(bench):
    plain = bench.controls()["replay"]
    recorded = fold({"replay": plain}, Echo())
    assert answered(recorded, chat(f"{TOLD} <PERSON_1>")) == f"{TOLD} <PERSON_1>"
    assert answered(onion(bench, Echo("never")), chat(f"{TOLD} <PERSON_1>")) == f"{TOLD} <PERSON_1>"


class Less(SmallDetector):
    """A later version of the detector, which no longer finds names."""

    def find(self, text):
        return tuple(item for item in super().find(text) if item.kind != "person")


@pytest.mark.parametrize("later", ["detector", "rules"])
def test_pseudonyms_of_other_rules_are_never_restored_to_another_value(bench, later):
    both = f"{QUOTED} or {PERSON} at {EMAIL}"
    answered(onion(bench, Echo(f"It is {PERSON}")), chat(both))
    more = {"detector": Less()} if later == "detector" else {
        "rules": data_rules({"personal": DataClass(recordings="mask")})
    }  # fmt: skip
    model = Echo(f"It is {QUOTED}")
    assert answered(onion(bench, model, **more), chat(both)) == f"It is {QUOTED}"
    assert len(model.got) == 1, "asked again"


def test_what_the_model_wrote_itself_is_masked_in_its_recording_alone(bench):
    model = Echo(f"write to {EMAIL}, {PERSON}; key {SECRET}; not <PERSON_1>")
    live = answered(onion(bench, model), chat(f"Who is {PERSON}?"))
    assert live == model.answer
    again = answered(onion(bench, model), chat(f"Who is {PERSON}?"))
    assert again == f"write to [EMAIL], {PERSON}; key [SECRET]; not [PERSON_1]"
    assert not any(value in written(bench) for value in (EMAIL, PERSON, SECRET))


def test_a_stage_is_given_what_its_recording_gives_again(bench):
    used, model = {}, Echo(f"write to {EMAIL}, {PERSON}")
    first = answered(onion(bench, model, on_use=used.__setitem__), chat(f"Who is {PERSON}?"))
    again = answered(onion(bench, model, on_use=used.__setitem__), chat(f"Who is {PERSON}?"))
    assert first == again == f"write to [EMAIL], {PERSON}" and len(used) == 1


def test_log_probabilities_that_spell_a_value_are_not_recorded(bench):
    async def model(call):
        tokens = [{"token": token, "logprob": -0.1} for token in ("Jane", " O'Neil")]
        message = {"role": "assistant", "content": PERSON}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"content": tokens}}
        yield Event(data={"choices": [choice]})

    answered(onion(bench, model), chat(TOLD))
    assert "O'Neil" not in written(bench)


def test_an_answer_without_its_log_probabilities_keeps_the_shape_of_its_protocol():
    part = {"type": "output_text", "text": "x", "logprobs": [{"token": PERSON}]}
    answer = {"output": ({"content": [part]},), "choices": [{"logprobs": {"content": []}}]}
    assert without_tokens(answer) == {
        "output": [{"content": [{**part, "logprobs": []}]}],
        "choices": [{"logprobs": None}],
    }


def test_a_class_that_may_not_be_recorded_is_asked_each_time(bench):
    rules = data_rules({"personal": DataClass(recordings="refuse")})
    model = Echo()
    for _ in range(2):
        assert answered(onion(bench, model, rules=rules), chat(TOLD)) == TOLD
    assert len(model.got) == 2 and not bench.journal.exists()
    with pytest.raises(ReplayMissError):
        answered(onion(bench, model, "replay", rules=rules), chat(TOLD))


@pytest.mark.parametrize("stream", [False, True])
def test_the_cache_of_answers_holds_pseudonyms_and_gives_the_values_back(bench, stream):
    bench.caching = AnswerCaching(seconds=3600)
    model = Echo(size=2)
    for _ in range(2):
        assert answered(onion(bench, model, "live"), chat(TOLD, stream=stream)) == TOLD
    assert len(model.got) == 1 and bench.records[-1]["source"] == "exact"
    bench.answers.close()
    kept = b"".join(path.read_bytes() for path in bench.answers.path.parent.glob("exact*"))
    assert b"<PERSON_1>" in kept and PERSON.encode() not in kept and EMAIL.encode() not in kept


def test_a_forgotten_text_is_found_where_pseudonyms_stand_for_a_part_of_it(bench):
    passage = f"Please send the keys of the second floor to {PERSON} ({EMAIL})."
    bench.caching = AnswerCaching(seconds=3600)
    answered(onion(bench, Echo(), "auto"), chat(f"Passage: {passage} Why?"))
    answered(onion(bench, Echo(), "auto"), chat(f"Who is {PERSON}?"))
    bench.answers.close()
    assert journal.purge(bench.journal, [passage]) == 1
    assert answer_cache.purge(bench.answers.path, [passage]) == 1
    assert "second floor" not in written(bench) and "Who is <PERSON_1>?" in written(bench)


@pytest.mark.parametrize("make", [chat, respond])
def test_a_stage_is_streamed_what_its_recording_gives_again(bench, make):
    used, model = {}, Echo(f"write to {EMAIL}, {PERSON}", size=3)
    call = make(f"Who is {PERSON}?", stream=True)
    first = answered(onion(bench, model, on_use=used.__setitem__), call)
    again = answered(onion(bench, model, on_use=used.__setitem__), call)
    assert first == again == f"write to [EMAIL], {PERSON}" and len(used) == len(model.got) == 1
