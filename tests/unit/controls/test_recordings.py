"""Tape, journal and log as files: what is written is what is read, and nothing else is read."""

import dataclasses
import os

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.context import InvocationScope
from workbench.errors import ConfigError, CorruptError, NotFoundError
from workbench.files import canonical
from workbench.records.calls import read_calls
from workbench.records.journal import Journal
from workbench.records.keys import Entry, KeyedRequest, RecordedRequest
from workbench.records.log import Lines, read_records
from workbench.records.tape import Tape, compare_answers, write
from workbench.types import Event

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALAR = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUE = st.recursive(SCALAR, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXT, v, max_size=3))
JSON = st.dictionaries(TEXT, VALUE, max_size=4)


@st.composite
def entries(draw):
    question = RecordedRequest(
        operation="model.chat",
        identity=draw(JSON),
        request=draw(JSON),
        case=draw(TEXT),
        repeat=draw(st.integers(0, 3)),
        n=draw(st.integers(0, 3)),
    )
    seconds = st.floats(0, 1000, allow_nan=False)
    return Entry(
        key=question.key,
        question=question,
        target=draw(TEXT),
        result={"events": draw(st.lists(JSON, max_size=2))},
        latency_s=draw(seconds),
        first_event_s=draw(seconds),
        processor={"machine": "x86_64"},
    )


def entry(text: str, answer: str = "yes") -> Entry:
    question = RecordedRequest(operation="model.chat", identity={}, request={"messages": [{"content": text}]})
    whole = {"choices": [{"message": {"content": answer}, "finish_reason": "stop"}], "usage": {}}
    return Entry(
        key=question.key, question=question, target="small", result={"events": [whole]},
        latency_s=1.5, first_event_s=1.5, processor={},
    )  # fmt: skip


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "t.jsonl", [entry(name).line() for name in ("one", "two", "three")])
    return tmp_path / "t.jsonl"


@settings(max_examples=40)
@given(st.lists(entries(), max_size=4, unique_by=lambda one: one.key), st.randoms())
def test_what_is_written_is_read_and_its_bytes_depend_on_nothing_else(tmp_path_factory, some, rng):
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    write(path, [one.line() for one in some])
    tape, data = Tape.read(path), path.read_bytes()
    assert list(tape.entries()) == sorted(some, key=lambda one: one.key)
    assert all(Entry.parse(tape.line(one.key)) == one and one.question.key == one.key for one in some)
    rng.shuffle(some)
    assert write(path, [one.line() for one in some]) is False
    assert path.read_bytes() == data


@settings(max_examples=60)
@given(entries(), JSON, st.booleans())
def test_the_answer_in_a_line_is_that_of_the_entry(item, other, spaced):
    result = {"events": [{"target": {"identity": item.question.identity, "name": '","timing":{"'}}, other]}
    item = dataclasses.replace(item, result=result, target='x","target":{"identity":{},"name":"')
    asked = item.question
    keyed = KeyedRequest(asked.operation, asked.identity, canonical(asked.request))
    line = item.line() if not spaced else orjson.dumps(orjson.loads(item.line()), option=orjson.OPT_INDENT_2)
    answer = keyed.answer_in(line)
    assert (answer.result, answer.latency_s) == (result, item.latency_s)
    assert keyed.question() == dataclasses.replace(asked, case="", repeat=0, n=0)
    assert keyed.key == keyed.question().key


def test_identical_requests_of_an_invocation_are_numbered():
    scope = InvocationScope(case="q1", repeat=2)
    keyed = [KeyedRequest("model.chat", {}, text, scope) for text in (b"{}", b'{"a":1}', b"{}")]
    asked = [item.question() for item in keyed]
    assert [item.n for item in asked] == [0, 0, 1]
    assert [item.key for item in keyed] == [item.key for item in asked]
    assert {(item.case, item.repeat) for item in asked} == {("q1", 2)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "t.jsonl"
    write(path, [entry(name).line() for name in ("one", "two", "three")])
    return path.read_bytes()


@given(st.data())
def test_no_byte_of_a_tape_can_be_changed_cut_off_or_added_unnoticed(tmp_path_factory, whole, data):
    path = tmp_path_factory.getbasetemp() / "changed.jsonl"
    at = data.draw(st.integers(1, len(whole) - 1))
    byte = bytes([data.draw(st.integers(0, 255).filter(lambda b: b != whole[at]))])
    ways = [whole[:at] + byte + whole[at + 1 :], whole[:at], whole + byte, whole.replace(b"\n", b"\r\n")]
    changed = data.draw(st.sampled_from(ways))
    path.write_bytes(changed)
    with pytest.raises(CorruptError, match=r"changed\.jsonl:\d+: ") as caught:
        Tape.read(path)
    assert caught.value.hint and caught.value.exit_code == 2


def spoiled(path, change):
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CorruptError) as caught:
        Tape.read(path)
    return str(caught.value).replace(str(path.parent) + os.sep, "")


def test_an_edited_request_is_named_by_its_line(path):
    lines = path.read_bytes().split(b"\n")
    number = next(n for n, line in enumerate(lines, 1) if b'"two"' in line)
    message = spoiled(path, lambda data: data.replace(b'"two"', b'"2"'))
    assert message.startswith(f"t.jsonl:{number}: edited") and "git checkout --" in message
    assert "dvc repro" in message


def test_an_edited_answer_is_noticed(path):
    message = spoiled(path, lambda data: data.replace(b'"content":"yes"', b'"content":"no"', 1))
    assert message.startswith("t.jsonl:1: the digest")


def test_another_format_is_named_with_what_to_do(path):
    message = spoiled(path, lambda data: data.replace(b"workbench-tape/1", b"workbench-tape/2"))
    assert "'workbench-tape/2'" in message and "'workbench-tape/1'" in message and "delete" in message


def test_a_truncated_tape_is_cut_off_in_its_last_line(path):
    assert "t.jsonl:4: the file is cut off" in spoiled(path, lambda data: data[:-40])


def test_a_missing_last_line_is_counted(path):
    assert "2 entries, the header names 3" in spoiled(path, lambda data: data[: data.rindex(b"{", 0, -300)])


def test_a_merge_conflict_is_called_by_its_name(path):
    message = spoiled(path, lambda data: b"<<<<<<< HEAD\n" + data + b"=======\n" + data + b">>>>>>> x\n")
    assert "unresolved merge" in message and "--ours" in message
    write(path, [entry("one").line()])
    assert "t.jsonl:3: a conflict marker" in spoiled(path, lambda data: data + b"=======\n")


def test_what_is_not_text_is_said_to_be_so(path):
    assert "t.jsonl:5: not UTF-8" in spoiled(path, lambda data: data + b"\xff\xfe\n")


def test_a_file_that_is_something_else_is_no_tape(path):
    for other in (b"[1]", b"{}", b"hello\n", b'{"format":1}\n'):
        assert "t.jsonl:1: not the header of a tape" in spoiled(path, lambda _, other=other: other)


def test_an_empty_file_is_an_empty_tape_and_stays_one(tmp_path):
    path = tmp_path / "t.jsonl"
    path.touch()
    assert len(Tape.read(path)) == 0 and write(path, []) is False and path.read_bytes() == b""


def test_a_missing_tape_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"none\.jsonl"):
        Tape.read(tmp_path / "none.jsonl")


def test_what_stands_where_the_tape_should_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        Tape.read(tmp_path)


def test_the_journal_sees_what_another_process_appended(tmp_path):
    mine, theirs = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    one, two = entry("one"), entry("two")
    assert mine.get(one.key) is None
    theirs.append(one.key, one.line())
    mine.append(two.key, two.line())
    assert mine.get(one.key) == one and mine.get(two.key) == two == theirs.get(two.key)


def test_the_newest_answer_to_a_key_is_the_one(tmp_path):
    journal, old, new = Journal(tmp_path / "j"), entry("one", "old"), entry("one", "new")
    journal.append(old.key, old.line())
    journal.append(new.key, new.line())
    assert journal.get(old.key) == new == Journal(tmp_path / "j").get(old.key)


@given(cut=st.integers(1, 200))
def test_a_torn_line_costs_itself_alone(tmp_path_factory, cut):
    path = tmp_path_factory.getbasetemp() / "torn.jsonl"
    one, two = entry("one"), entry("two")
    path.write_bytes(one.line() + b"\n" + two.line()[:cut])
    journal = Journal(path)
    assert journal.get(two.key) is None and journal.get(one.key) == one
    journal.append(two.key, two.line())
    assert Journal(path).get(one.key) == one and Journal(path).get(two.key) == two
    assert len(read_records(path)) == 2


def test_a_journal_deleted_and_begun_again_is_believed_as_it_is_now(tmp_path):
    journal, one, two = Journal(tmp_path / "j"), entry("one"), entry("two")
    journal.append(one.key, one.line())
    assert journal.get(one.key) == one
    (tmp_path / "j").unlink()
    assert journal.get(one.key) is None
    journal.append(two.key, two.line())
    assert journal.get(two.key) == two and (tmp_path / "j").exists()


def test_a_log_deleted_under_a_writer_is_begun_again(tmp_path):
    log = Lines(tmp_path / "a" / "log")
    log.append(b'{"n":1}')
    log.path.unlink()
    log.path.parent.rmdir()
    log.append(b'{"n":2}')
    assert read_records(log.path) == [{"n": 2}]


def test_a_durable_log_moved_away_under_a_writer_is_begun_again(tmp_path):
    log = Lines(tmp_path / "log", durable=True)
    log.append(b'{"n":1}')
    log.path.rename(tmp_path / "older")
    log.append(b'{"n":2}')
    assert read_records(tmp_path / "older") == [{"n": 1}] and read_records(log.path) == [{"n": 2}]


def test_threads_write_whole_lines(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    log = Lines(tmp_path / "log")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: log.append(orjson.dumps({"n": n, "x": "x" * 5000})), range(200)))
    assert sorted(record["n"] for record in read_records(log.path)) == list(range(200))
    assert len(log.path.read_bytes().splitlines()) == 200


def test_the_frame_of_no_calls_has_the_columns_of_many(tmp_path):
    frame = read_calls(tmp_path / "none")
    assert frame.is_empty() and {"trace_id", "tenant", "outcome", "cost_usd", "attempts"} <= set(
        frame.columns
    )


def live(text="yes", finish="stop", tokens=3):
    return [
        Event(data={"id": "x", "object": "chat.completion.chunk", "choices": [{"delta": {"content": part}}]})
        for part in text
    ] + [
        Event(
            data={
                "choices": [{"delta": {}, "finish_reason": finish}],
                "usage": {"prompt_tokens": 1, "completion_tokens": tokens},
            }
        )
    ]


def test_answers_are_compared_by_text_usage_and_finish_reason():
    whole = {
        "id": "y",
        "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 3},
    }
    question = RecordedRequest(operation="model.chat", identity={}, request={})
    recorded = Entry(
        key=question.key, question=question, target="m", result={"events": [whole]},
        latency_s=0.0, first_event_s=0.0, processor={},
    )  # fmt: skip
    assert compare_answers(recorded, live()) == []
    assert compare_answers(recorded, live(text="Yes")) == ["text"]
    assert compare_answers(recorded, live(finish="length", tokens=4)) == ["usage", "finish_reason"]
