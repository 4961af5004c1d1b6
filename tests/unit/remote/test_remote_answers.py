"""A client of the native protocol and what a gateway may send: cuts, garbage, errors, slow readers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace

import orjson
import pytest
from calls import chat, search
from fake_gateway import FakeConnection, FakeExchange

from workbench.context import InvocationScope, RunScope, invocation_scope
from workbench.errors import DeadlineError, RefusedError, UnavailableError, WorkbenchError
from workbench.remote.handler import RemoteHandler
from workbench.remote.lines import LineReader
from workbench.remote.protocol import MOST_BYTES
from workbench.types import Hit

HIT = Hit(
    id="h1", text="A taxi is paid.", source="taxi", title="", version=1, score=0.5, tenant="acme",
    as_of="2025-01-01", stale=False, digest="d", memory="handbook",
)  # fmt: skip
RECORD = {"trace_id": "t1", "outcome": "ok", "cost_usd": 0.1}
EVENTS = [{"choices": [{"delta": {"content": text}}]} for text in ("Zürich ", "«", "\n")]
END = {"end": {"facts": {"trace_id": "t1", "cost_usd": 0.1}, "record": RECORD}}


def lined(*values) -> bytes:
    return b"".join(orjson.dumps(value) + b"\n" for value in values)


WHOLE = lined(*({"event": event} for event in EVENTS), END)


async def read(answer, call):
    """The events of a call whose answer comes in these pieces, and the error that ended them."""
    handler = RemoteHandler(FakeConnection(lambda _: answer))
    found = []
    try:
        async with contextlib.aclosing(handler(call)) as events:
            async for event in events:
                found.append(event.data)
    except WorkbenchError as error:
        return found, error
    return found, None


def answered(*pieces, call=None, **how):
    return asyncio.run(read(FakeExchange(pieces, **how), call or chat(stream=True)))


def test_an_answer_in_any_pieces_is_the_same_and_its_facts_and_record_are_noted():
    for size in (1, 2, 7, 1_000):
        call = chat(stream=True)
        pieces = [WHOLE[start : start + size] for start in range(0, len(WHOLE), size)]
        with invocation_scope(InvocationScope(case="q1")) as around:
            assert answered(*pieces, call=call) == (EVENTS, None)
        assert call.span.facts == {"trace_id": "t1", "cost_usd": 0.1} and around.records == [RECORD]


def test_an_answer_that_is_cut_at_any_byte_is_unavailable_and_retryable_before_its_first_event():
    first = len(lined({"event": EVENTS[0]}))
    for cut in range(len(WHOLE)):
        found, error = answered(WHOLE[:cut])
        assert type(error) is UnavailableError and "ended before its last line" in error.message
        assert found == EVENTS[: WHOLE[:cut].count(b"\n")]
        assert error.retryable == (cut < first), cut


def test_a_connection_that_breaks_off_inside_an_answer_is_not_retryable():
    broken = UnavailableError("the gateway broke off")
    assert answered(error=broken)[1].retryable
    assert not answered(WHOLE[:200], error=UnavailableError("the gateway broke off"))[1].retryable


@pytest.mark.parametrize(
    "pieces",
    [
        [b"garbage\n"],
        [b"[1]\n"],
        [b"null\n"],
        [b"{}\n"],
        [b'{"evil":1}\n'],
        [b'{"event":1,"end":{},"error":{},"more":1}\n'],
        [b"\n"],
        [b"\xff\xfe\n"],
        [b'{"event":' + b"[" * 5_000 + b"]" * 5_000 + b"}\n"],
        [WHOLE, lined(END)],
        [WHOLE, lined({"event": {}})],
        [WHOLE + b"x"],
        [lined(END, END)],
        [b'{"event":1}\r\n{"end"'],
    ],
    ids=lambda pieces: pieces[0][:20].decode("latin-1"),
)
def test_lines_that_are_no_answer_are_an_error_of_the_gateway(pieces):
    assert type(answered(*pieces)[1]) is UnavailableError


@pytest.mark.parametrize("end", [{"end": []}, {"end": {"facts": 3, "record": "x"}}, {"end": None}])
def test_an_odd_end_notes_nothing(end):
    call = chat()
    assert answered(lined(end), call=call) == ([], None) and call.span.facts == {}


@pytest.mark.parametrize("kind", ["text/html", "application/json", "", "application/x-ndjson-evil"])
def test_an_answer_of_another_media_type_is_an_error_of_the_gateway(kind):
    assert "x-ndjson" in answered(WHOLE, kind=kind)[1].message


def test_a_line_without_end_is_given_up_at_the_bound():
    piece, taken = b"x" * 2**20, []

    def endless():
        while True:
            taken.append(1)
            yield piece

    found, error = asyncio.run(read(FakeExchange(endless()), chat()))
    assert type(error) is UnavailableError and "bytes" in error.message and not found
    assert len(taken) == MOST_BYTES // len(piece) + 1


def test_the_stated_error_is_raised_as_it_is_after_the_events_before_it():
    failure = {"type": "RefusedError", "message": "no", "hint": "ask otherwise", "status": 451}
    call = chat(stream=True)
    found, error = answered(lined({"event": EVENTS[0]}, {"error": failure, "facts": {"key": "k"}}), call=call)
    assert found == EVENTS[:1] and type(error) is RefusedError
    assert (error.message, error.hint, error.status) == ("no", "ask otherwise", 451)
    assert call.span.facts == {"key": "k"}
    overloaded = {"type": "UnavailableError", "message": "away"}
    assert answered(lined({"event": {}}, {"error": overloaded}))[1].retryable, "the gateway knows"
    assert type(answered(lined({"error": {"type": "EvilError"}}))[1]) is WorkbenchError
    assert type(answered(lined({"error": 3}))[1]) is WorkbenchError


def test_a_result_of_a_memory_is_read_by_its_type_and_its_parts_are_joined():
    hits = [replace(HIT, id=f"h{number}") for number in range(4)]
    parts = lined({"part": hits[:3]}, {"event": hits[3:]}, END)
    assert answered(parts, call=search()) == ([hits], None)
    found, error = answered(lined({"event": [{"id": "a"}]}, END), call=search())
    assert not found and type(error) is UnavailableError and "memory.search" in error.message


def test_a_gateway_that_is_silent_ends_with_the_deadline(monkeypatch):
    monkeypatch.setattr("workbench.remote.handler._GRACE_S", 0.02)

    class Silent(FakeExchange):
        async def pieces(self):
            yield b""
            await asyncio.sleep(60)

    call, began = chat(), time.monotonic()
    call = replace(call, deadline=call.context.clock.monotonic() + 0.02)
    assert type(asyncio.run(read(Silent(()), call))[1]) is DeadlineError
    assert time.monotonic() - began < 5


def test_a_gateway_that_does_not_begin_to_answer_ends_with_the_deadline(monkeypatch):
    monkeypatch.setattr("workbench.remote.handler._GRACE_S", 0.02)

    class Hanging(FakeConnection):
        @contextlib.asynccontextmanager
        async def opened(self, _method, _path, body=b""):
            try:
                await asyncio.sleep(60)
                yield
            finally:
                self.closed += 1

    connection, call = Hanging(None), chat()
    call = replace(call, deadline=call.context.clock.monotonic() + 0.02)

    async def ask():
        return [event async for event in RemoteHandler(connection)(call)]

    with pytest.raises(DeadlineError):
        asyncio.run(ask())
    assert connection.closed == 1


def test_hits_that_another_gateway_served_are_stated_as_a_whole():
    refused = {"type": "RefusedError", "message": "not served", "reason": "unserved"}
    answers = [lined({"event": [HIT]}, END), lined({"error": refused}), lined({"event": {}}, END)]
    connection = FakeConnection(lambda _: FakeExchange([answers.pop(0)]))
    handler = RemoteHandler(connection)

    async def ask(call):
        async with contextlib.aclosing(handler(call)) as events:
            return [event.data async for event in events]

    assert asyncio.run(ask(search())) == [[HIT]]
    assert asyncio.run(ask(replace(chat(), passages=(HIT,)))) == [{}]
    stated = [orjson.loads(body).get("passages", [{}])[0].keys() for body in connection.bodies]
    assert stated == [set(), {"id", "mark"}, {"hit"}]
    answers[:] = [lined({"error": refused})]
    with pytest.raises(RefusedError, match="not served"):
        asyncio.run(ask(replace(chat(), passages=(HIT,))))


@pytest.mark.parametrize("leave", ["close", "cancel"])
def test_leaving_a_stream_closes_its_connection(leave):
    connection = FakeConnection(lambda _: FakeExchange([WHOLE[:100], WHOLE[100:]]))

    async def read_one():
        async with contextlib.aclosing(RemoteHandler(connection)(chat(stream=True))) as events:
            await anext(events)
            if leave == "cancel":
                raise asyncio.CancelledError

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(read_one())
    assert connection.closed == 1


def test_a_slow_reader_takes_one_piece_at_a_time():
    pieces = [lined({"event": {"n": number}}) for number in range(50)]
    answer = FakeExchange([*pieces, lined(END)])

    async def read_some():
        async with contextlib.aclosing(RemoteHandler(FakeConnection(lambda _: answer))(chat())) as events:
            for _ in range(3):
                await anext(events)
        return answer.taken

    assert asyncio.run(read_some()) == 3


def test_a_handler_states_its_caller_the_run_and_the_invocations_that_have_ended():
    connection = FakeConnection(lambda _: FakeExchange([lined(END)]))
    handler = RemoteHandler(connection)

    async def ask():
        async with contextlib.aclosing(handler(chat())) as events:
            assert [event async for event in events] == []

    with RunScope.entered():
        asyncio.run(ask())
        with contextlib.suppress(KeyError), invocation_scope(InvocationScope(case="q1", parent="a1")):
            asyncio.run(ask())
            asyncio.run(ask())
            raise KeyError
    asyncio.run(ask())
    asyncio.run(ask())
    sent = [orjson.loads(body) for body in connection.bodies]
    assert len({one["caller"] for one in sent}) == 1
    assert sent[0]["run_scope"] == sent[1]["run_scope"] and "run_scope" not in sent[3]
    assert [one.get("ended") for one in sent] == [None, None, None, {"a1": "KeyError"}, None]
    assert [one.get("invocation", {}).get("id") for one in sent] == [None, "a1", "a1", None, None]


def test_pieces_are_cut_into_lines_wherever_they_are_cut():
    text = b"a\nbc\n\nd\n"
    for cut in range(len(text) + 1):
        reader = LineReader()
        assert [*reader.feed(text[:cut]), *reader.feed(text[cut:])] == [b"a", b"bc", b"", b"d"]
        assert not reader.is_inside
