"""Random answers of a random server: an error of ours, or what the bare `openai` client reads.

An answer is well formed at first. Then some of its values are replaced, left out or repeated, its events are
framed in one of the ways that servers know, and at times an error is stated inside it or its end is missing.
"""

from __future__ import annotations

import copy
import json
import random

import pytest
import sizes
from wire_readers import (
    bare_chunks,
    bare_whole,
    chunk,
    chunks,
    completion,
    frames,
    sse,
    streamed,
    whole,
)  # fmt: skip

from workbench import files, wire
from workbench.errors import WorkbenchError
from workbench.models.lenient_json import whole_characters

PARTS = 20 if sizes.SOAK else 4
#: What a value is replaced by; none of them states an error.
ODD = [
    None, "", "x", 0, 1, -1, 0.5, 1e20, 2**70, True, False, [], {}, [None], [1], ["x"], [[]], {"a": None},
    float("nan"), float("inf"), float("-inf"), "\ud83d", "\ude00", "é\u2028\x85", {"content": "x"}, "a\nb",
    "0", "[DONE]", [{"type": "text", "text": "t"}], {"type": "text", "text": "t"},
    [{"type": "refusal", "refusal": "no"}],
]  # fmt: skip
NOISE = [
    "null",
    "1",
    '"x"',
    "true",
    "[]",
    "{}",
    "[null]",
    b": ping\n\n",
    b"\n\n",
    b"event: ping\ndata: {}\n\n",
    b"id: 7\n",
]
FRAMES = [
    ("\n\n", "data: "),
    ("\n\n", "data:"),
    ("\r\n\r\n", "data: "),
    ("\r\r", "data: "),
    ("\n\n", "id: 1\ndata: "),
]
ERRORS = [{"error": {"message": "boom", "code": 500}}, {"error": "boom"}, [{"error": {"message": "boom"}}]]


#: The fields that are read; half of the replacements meet one of them.
READ = {"choices", "delta", "message", "content", "finish_reason", "index", "tool_calls", "function", "usage"}


def places(value, path=()):
    """Every place inside a JSON value, as a path."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*path, key)
        yield from places(part, (*path, key))


def mutate(value, rng):
    """Replace, leave out or repeat one value somewhere inside."""
    found = list(places(value))
    likely = [path for path in found if path[-1] in READ]
    *path, key = rng.choice(likely if likely and rng.random() < 0.5 else found)
    holder = value
    for step in path:
        holder = holder[step]
    how = rng.random()
    if how < 0.6:
        holder[key] = copy.deepcopy(rng.choice(ODD))
    elif how < 0.8 or not isinstance(holder, list):
        del holder[key]
    else:
        holder.insert(key, copy.deepcopy(holder[key]))


def letters(rng) -> str:
    return "".join(rng.choice('ab é😀\u2028\n\\"') for _ in range(rng.randrange(5)))


def a_message(rng) -> dict:
    message = {"role": "assistant", "content": rng.choice([None, letters(rng), letters(rng), letters(rng)])}
    if rng.random() < 0.3:
        function = {"name": rng.choice("fg"), "arguments": '{"a": 1}'}
        message["tool_calls"] = [{"index": 0, "id": "call_1", "type": "function", "function": function}]
    if rng.random() < 0.1:
        message["refusal"] = rng.choice([None, "no"])
    return message


def some_chunks(rng) -> list:
    count = rng.choice([1, 1, 1, 2])
    made = [chunk(a_message(rng), index=n) for n in range(count)]
    for _ in range(rng.randrange(4)):
        made.append(chunk({"content": letters(rng)}, index=rng.randrange(count)))
    made += [chunk({}, "stop", index=n) for n in range(count)]
    if rng.random() < 0.5:
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
        made.append({**chunk(), "choices": [], "usage": usage})
    return made


class Stream:
    """A stream, and whether an error is stated in it or its end is missing."""

    def __init__(self, rng) -> None:
        made = some_chunks(rng)
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            mutate(made, rng)
        self.faulty = False
        if rng.random() < 0.1:
            self.faulty = True
            made.insert(rng.randrange(len(made) + 1), copy.deepcopy(rng.choice(ERRORS)))
        ascii_only = rng.random() < 0.7
        made = [json.dumps(each, ensure_ascii=ascii_only).encode(errors="replace").decode() for each in made]
        for _ in range(rng.choice([0, 0, 1, 2])):
            made.insert(rng.randrange(len(made) + 1), rng.choice(NOISE))
        end, start = rng.choice(FRAMES)
        done = rng.random() < 0.8
        self.body = sse(*made, done=done, end=end, start=start)
        if rng.random() < 0.1:
            self.body = b"\xef\xbb\xbf" + self.body
        if rng.random() < 0.1:
            self.faulty = True
            self.body = self.body[: rng.randrange(len(self.body))]
        self.done = done


def ours(read, *bodies):
    """The folded answer, or None for an error of ours; anything else is raised."""
    try:
        answer = read(*bodies)
    except WorkbenchError as failure:
        said = failure
    else:
        said = None
    if said is not None:
        assert said.message.encode()
        return None
    files.canonical(answer)
    wire.usage_of(answer)
    assert isinstance(wire.text_of(answer), str)
    wire.reason_of(answer)
    return answer


def text_of_bare(content) -> str:
    """The text of content as the bare client gives it; raises TypeError for what is no text."""
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] == "text")
    if not isinstance(content, str):
        raise TypeError(content)
    return content


def read_calls(calls) -> None:
    for call in calls or ():
        _ = call.id, call.type, call.function and (call.function.name, call.function.arguments)


def bare_stream(body):
    """Text and last finish reason by the bare client; None where it gives none."""
    texts: dict = {}
    finished: dict = {}
    try:
        for each in bare_chunks(body):
            if each is None:
                continue
            for choice in each.choices or ():
                delta = choice.delta
                if type(choice.index) is not int or abs(choice.index) >= 2**31:
                    return None  # the bare client does not say which choice it is
                texts[choice.index] = texts.get(choice.index, "") + text_of_bare(delta.content)
                finished[choice.index] = choice.finish_reason or finished.get(choice.index)
                read_calls(delta.tool_calls)
                _ = delta.function_call and delta.function_call.arguments
    except Exception:  # noqa: BLE001 - whatever it is, it is no answer
        return None
    return texts, finished


def bare_answer(body):
    try:
        answer = bare_whole(body)
        texts = [text_of_bare(choice.message.content) for choice in answer.choices]
        for choice in answer.choices:
            read_calls(choice.message.tool_calls)
            _ = choice.message.function_call and choice.message.function_call.arguments
            _ = choice.message.refusal
    except Exception:  # noqa: BLE001 - whatever it is, it is no answer
        return None
    return texts if texts and not getattr(answer, "error", None) else None


@pytest.mark.parametrize("part", range(PARTS))
def test_a_stream_is_what_the_bare_client_reads_or_an_error_of_ours(part):
    rng = random.Random(f"{sizes.SEED} {part}")
    compared = 0
    for number in range(sizes.streams() // PARTS):
        stream = Stream(rng)
        body = stream.body
        answer = ours(streamed, body)
        one_by_one = [body[n : n + 1] for n in range(len(body))]
        assert frames(*one_by_one) == frames(body), body
        assert repr(ours(streamed, *one_by_one)) == repr(answer), body
        if number % 20 == part:
            for cut in range(len(body)):
                assert frames(body[:cut], body[cut:]) == frames(body), (body, cut)
        bare = None if stream.faulty else bare_stream(body.removeprefix(b"\xef\xbb\xbf"))
        if bare is None or not comparable(*bare, done=stream.done):
            continue
        compared += 1
        assert answer is not None, body
        found = {choice["index"]: choice for choice in answer["choices"]}
        for index, text in bare[0].items():
            assert (found[index]["message"].get("content") or "") == whole_characters(text), body
            if bare[1][index] is not None:
                assert found[index]["finish_reason"] == whole_characters(bare[1][index]), body
    assert compared, "no answer was compared with the bare client's"


def comparable(texts, finished, *, done) -> bool:
    """Whether the bare client's choices are an answer: finished, or ended by `[DONE]`."""
    named = all(finish is None or isinstance(finish, str) for finish in finished.values())
    return bool(texts and named and (done or all(finished.values())) and "error" not in finished.values())


@pytest.mark.parametrize("part", range(PARTS))
def test_a_whole_answer_is_what_the_bare_client_reads_or_an_error_of_ours(part):
    rng = random.Random(f"{sizes.SEED} whole {part}")
    compared = 0
    for _ in range(sizes.streams() // PARTS):
        answer = completion(a_message(rng))
        if rng.random() < 0.2:
            answer["choices"].append({"index": 1, "message": a_message(rng), "finish_reason": "length"})
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            mutate(answer, rng)
        body = json.dumps(answer, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
        found, bare = ours(whole, body), bare_answer(body)
        if bare is None:
            continue
        compared += 1
        assert found is not None, body
        texts = [choice["message"].get("content") or "" for choice in found["choices"]]
        assert texts == [whole_characters(text) for text in bare], body
    assert compared, "no answer was compared with the bare client's"


def test_an_event_stream_cut_at_every_byte_is_an_error_or_the_answer():
    body = sse(*[chunk({"content": text}) for text in ("H", "é", "😀")], chunk({}, "stop"))
    wanted = streamed(body)
    for cut in range(len(body)):
        answer = ours(streamed, body[:cut])
        assert answer is None or answer == wanted
    assert chunks(body[:cut], body[cut:]) == chunks(body)
