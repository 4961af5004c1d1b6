"""Streamed tool calls come out as they were meant, whatever index, id and name the server repeats."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_readers import chunk, completion, sse, streamed, whole

from workbench.errors import NoAnswerError

NAMES = ["look_up", "get_time", "f"]
VALUES = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=6), max_size=3)


def piece(index="none", id_=None, name=None, arguments=None, **more) -> dict:
    """One piece of a call; None leaves a field out."""
    function = {"name": name, "arguments": arguments}
    function = {key: value for key, value in function.items() if value is not None}
    made = {"index": index, "id": id_, "function": function, **more}
    return {key: value for key, value in made.items() if value is not None and value != "none"}


def calls_of(*deltas) -> list[tuple]:
    """Id, name and arguments of the calls that a stream of these lists of pieces folds to."""
    answer = streamed(sse(*(chunk({"tool_calls": delta}) for delta in deltas), chunk({}, "tool_calls")))
    return [
        (call.get("id") or None, call["function"].get("name"), call["function"].get("arguments"))
        for call in answer["choices"][0]["message"]["tool_calls"]
    ]


@st.composite
def streams(draw):
    """Calls, and the pieces in which one of the known kinds of servers sends them, one after another."""
    kind = draw(st.sampled_from(["plain", "same index", "no index", "null index", "text index", "gaps"]))
    with_ids = draw(st.booleans())
    true, deltas = [], []
    for n in range(draw(st.integers(1, 3))):
        name, arguments = draw(st.sampled_from(NAMES)), json.dumps(draw(VALUES))
        id_ = f"call_{n}" if with_ids else None
        sent = {"plain": n, "same index": 0, "no index": "none", "null index": None, "text index": str(n)}
        index = sent.get(kind, 3 * n + 1)
        true.append((id_, name, arguments))
        # Without ids, a name that comes again begins a call only if arguments come with it.
        least = 0 if with_ids or index == n else 1
        cuts = sorted(draw(st.lists(st.integers(least, len(arguments)), max_size=3)))
        parts = [arguments[a:b] for a, b in zip([0, *cuts], [*cuts, len(arguments)], strict=True)]
        for position, part in enumerate(parts):
            first = position == 0
            again = draw(st.sampled_from([None, ""]))  # what comes where id and name came before
            repeated = {"id": id_ if first else again, "name": name if first else again}
            if draw(st.booleans()) and not first and with_ids:
                repeated = {"id": id_, "name": name}
            sent_piece = {"id": repeated["id"], "function": {"name": repeated["name"], "arguments": part}}
            if index != "none":
                sent_piece["index"] = index
            deltas.append([sent_piece])
    return true, deltas


@given(streams())
@settings(max_examples=500)
def test_calls_sent_one_after_another_are_put_together(made):
    true, deltas = made
    assert calls_of(*deltas) == true


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), min_size=2, max_size=4), st.randoms())
@settings(max_examples=300)
def test_pieces_of_calls_with_their_own_index_may_be_mixed(true, random):
    left = [[piece(n, f"call_{n}", name, "")] for n, (name, _) in enumerate(true)]
    texts = [json.dumps(value) for _, value in true]
    pieces = [(n, letter) for n, text in enumerate(texts) for letter in text]
    pieces.sort(key=lambda item: (random.random(), item[0]))
    at = [iter(text) for text in texts]
    left += [[piece(n, None, None, next(at[n]))] for n, _ in pieces]
    wanted = [(f"call_{n}", name, texts[n]) for n, (name, _) in enumerate(true)]
    assert calls_of(*left) == wanted


ONE = [("call_7", "look_up", '{"q": "bus"}')]
TWO = [("a", "get_time", '{"tz":"UTC"}'), ("b", "get_rain", '{"city":"Lyon"}')]


@pytest.mark.parametrize(
    ("deltas", "wanted"),
    [
        (
            [[piece(0, "call_7", "look_up", "")], [piece(0, "", "", '{"q":')], [piece(0, "", "", ' "bus"}')]],
            ONE,
        ),
        ([[piece(0, "call_7", "look_up", '{"q":')], [piece(0, "call_7", "look_up", ' "bus"}')]], ONE),
        ([[piece(0, "call_7", "look_up", '{"q":')], [piece(0, "other", None, ' "bus"}')]], ONE),
        (
            [[piece(0, "call_7", "look_"), piece(0, None, "up", '{"q":')], [piece(0, arguments=' "bus"}')]],
            ONE,
        ),
        ([[piece(0, "call_7", "look_up", {"q": "bus"})]], ONE),
        ([[piece(0, "call_7", "look_up")], [piece(0, arguments='{"q": "bus"}')]], ONE),
        ([[piece(0, "call_7", "look_up", '{"q": "bus"}')], [{"index": 0, "function": None}]], ONE),
        ([[piece(0, "call_7", "look_up", '{"q": "bus"}')], [{"index": 0}]], ONE),
        ([[piece(0, "call_7", "look_up", '{"q": "bus"}'), None]], ONE),
        ([piece(0, "call_7", "look_up", '{"q": "bus"}')], ONE),
        ([[piece(0.0, "call_7", "look_up", '{"q":')], [piece("0", arguments=' "bus"}')]], ONE),
        ([[piece([0], "call_7", "look_up", '{"q":')], [piece({}, arguments=' "bus"}')]], ONE),
        ([[piece(True, "call_7", "look_up", '{"q":')], [piece(True, arguments=' "bus"}')]], ONE),
        ([[piece(10**30, "call_7", "look_up", '{"q": "bus"}')]], ONE),
        ([[piece(-1, "call_7", "look_up", '{"q":')], [piece(-1, arguments=' "bus"}')]], ONE),
        ([[piece(0, "a", *TWO[0][1:])], [piece(0, "b", *TWO[1][1:])]], TWO),
        ([[piece(0, "a", *TWO[0][1:]), piece(0, "b", *TWO[1][1:])]], TWO),
        ([[piece("none", "a", *TWO[0][1:]), piece("none", "b", *TWO[1][1:])]], TWO),
        (
            [
                [piece("none", "a", "get_time", '{"tz"'), piece("none", "b", "get_rain", '{"city"')],
                [piece("none", arguments=':"UTC"}'), piece("none", arguments=':"Lyon"}')],
            ],
            TWO,
        ),
        (
            [
                [piece("none", "a", "get_time", '{"tz"')],
                [piece("none", "b", "get_rain", '{"city"')],
                [piece("none", "a", arguments=':"UTC"}')],
                [piece("none", "b", arguments=':"Lyon"}')],
            ],
            TWO,
        ),
        ([[piece(1, "a", *TWO[0][1:])], [piece(3, "b", *TWO[1][1:])]], TWO),
        ([[piece(0, "a", *TWO[0][1:])], [piece(1, "b", *TWO[1][1:])], [piece(0, arguments="")]], TWO),
    ],
)
def test_the_pieces_of_a_server(deltas, wanted):
    assert calls_of(*deltas) == wanted


def test_two_calls_of_one_name_without_ids_are_two():
    both = [(None, "f", '{"a":1}'), (None, "f", '{"a":2}')]
    assert calls_of([piece("none", None, *both[0][1:]), piece("none", None, *both[1][1:])]) == both
    assert calls_of([piece(0, None, *both[0][1:])], [piece(0, None, *both[1][1:])]) == both


def test_the_arguments_of_an_object_keep_every_digit():
    body = sse(chunk({"tool_calls": [piece(0, "a", "f", {"n": 123456789012345678901234567890, "r": 0.1})]}))
    message = streamed(body)["choices"][0]["message"]
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {
        "n": 123456789012345678901234567890,
        "r": 0.1,
    }


def test_a_call_of_another_type_is_kept_whole():
    first = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql", "input": "SELECT "}}
    answer = streamed(
        sse(chunk({"tool_calls": [first]}), chunk({"tool_calls": [{"index": 0, "custom": {"input": "1"}}]}))
    )
    custom = {"name": "sql", "input": "SELECT 1"}
    assert answer["choices"][0]["message"]["tool_calls"] == [{"id": "a", "type": "custom", "custom": custom}]


@pytest.mark.parametrize("calls", ["f", 7, ["f"], [7], [[]], [{"function": "f"}], [{"function": [1]}]])
def test_what_is_no_call_is_an_error_that_names_the_place(calls):
    with pytest.raises(NoAnswerError, match=r"choices\[0\]\.delta") as caught:
        streamed(sse(chunk({"tool_calls": calls})))
    assert caught.value.reason == "malformed"
    with pytest.raises(NoAnswerError, match=r"choices\[0\]\.message") as caught:
        whole(completion({"content": None, "tool_calls": calls}))
    assert caught.value.reason == "malformed"
