"""Values come back into JSON as JSON needs them: in texts of texts, without a stated format, in pieces."""

import json
import time

import pytest

from workbench.wire.pseudonyms import RequestPseudonyms
from workbench.wire.restoring import RestoredAnswer

VALUES = ('José "Pepe" Núñez', "back\\slash", "two\nlines", "plain", '"')


def named():
    names = RequestPseudonyms(["hello"])
    return names, [names.name(value, "person") for value in VALUES]


def streamed(names, text, size, field="content", *, as_json=False):
    answer, out = RestoredAnswer(names, as_json=as_json), []
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    events = [{"choices": [{"index": 0, "delta": {field: piece}}]} for piece in pieces]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    for event in events:
        out += answer.chunk(event)
    out += answer.rest()
    return "".join(each["choices"][0]["delta"].get(field) or "" for each in out)


def whole(names, text, field="content"):
    answer = RestoredAnswer(names).whole({"choices": [{"message": {field: text}}]})
    return answer["choices"][0]["message"][field]


def nested(values, depth):
    return (
        {"values": values}
        if depth == 0
        else {"said": 'a "word"', "text": json.dumps(nested(values, depth - 1))}
    )


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("field", ["content", "arguments"])
@pytest.mark.parametrize("indent", [None, 2])
def test_json_stays_json_at_each_depth_whole_and_in_pieces(depth, field, indent):
    names, pseudonyms = named()
    text = json.dumps(nested(pseudonyms, depth), indent=indent)
    for made in [whole(names, text, field), *(streamed(names, text, size, field) for size in (1, 3, 17))]:
        value = json.loads(made)
        for _ in range(depth):
            value = json.loads(value["text"])
        assert value == {"values": [*VALUES]}


@pytest.mark.parametrize(
    ("text", "as_json", "back"),
    [
        ("I know <PERSON_1>.", False, f"I know {VALUES[0]}."),
        ('He said "<PERSON_1>" {"', False, f'He said "{VALUES[0]}" {{"'),
        ("[<PERSON_1>](x)", False, f"[{VALUES[0]}](x)"),
        ('```json\n{"a": "<PERSON_5>"}\n```', False, '```json\n{"a": "\\""}\n```'),
        ('{"a": "he said \\"<PERSON_5>\\""}', True, '{"a": "he said \\"\\"\\""}'),
        ('{"a": "[<PERSON_5>]"}', True, '{"a": "[\\"]"}'),
    ],
)
def test_text_that_only_looks_like_json_is_not_escaped_twice(text, as_json, back):
    names, _ = named()
    assert streamed(names, text, 1, as_json=as_json) == back
    assert streamed(names, text, 1_000, as_json=as_json) == back


def test_an_escaped_underscore_of_markdown_is_counted_and_left():
    names, _ = named()
    answer = RestoredAnswer(names)
    assert whole(names, "<PERSON\\_1>") == "<PERSON\\_1>"
    answer.whole({"choices": [{"message": {"content": "<PERSON\\_1>"}}]})
    assert answer.counts.facts() == {"restored": 0, "invented": 0, "altered": 1}


def test_a_text_of_backslashes_is_restored_in_bounded_time():
    names, _ = named()
    began = time.process_time()
    whole(names, '{"' + "\\" * 200_000 + "<PERSON_1>")
    assert time.process_time() - began < 5
