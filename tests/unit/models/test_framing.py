"""The events of a body, wherever it is cut, by the rules of server-sent events and of the bare client."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_readers import bare_events, chunk, frames

from workbench.models.framing import EventReader

ENDS = ["\n", "\r\n", "\r"]
VALUES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)


@st.composite
def lines(draw) -> str:
    """A line of a stream as its grammar has it: a field with or without a space, a comment, a blank line."""
    kind = draw(
        st.sampled_from(["data", "data", "data", "event", "id", "retry", "other", "comment", "blank"])
    )
    value = draw(VALUES)
    if kind == "blank":
        return ""
    if kind == "comment":
        return ":" + value
    space = draw(st.sampled_from(["", " "]))
    return f"{kind}:{space}{value}"


@st.composite
def bodies(draw) -> bytes:
    """A stream with any mixture of line ends, with data first, so that it is one of events."""
    drawn = ["data: first", *draw(st.lists(lines(), max_size=12)), "", ""]
    return "".join(line + draw(st.sampled_from(ENDS)) for line in drawn).encode()


@given(bodies())
@settings(max_examples=500)
def test_events_are_those_of_the_bare_client(body):
    wanted = [(name == "error", data) for name, data in bare_events(body) if data.strip()]
    assert [(frame.is_error, frame.data.decode()) for frame in frames(body)] == wanted


@given(bodies(), st.data())
@settings(max_examples=500)
def test_where_a_body_is_cut_changes_nothing(body, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert frames(*pieces) == frames(body) == frames(*[body[n : n + 1] for n in range(len(body))])


def test_an_empty_piece_between_a_cr_and_its_lf_changes_nothing():
    assert (
        frames(b"data: a\r", b"", b"\ndata: b\r\n\r\n")
        == frames(b"data: a\ndata: b\n\n")
        == [(b"a\nb", False)]
    )


HI = json.dumps(chunk({"content": "Hé 😀 \u2028"}), ensure_ascii=False)


@pytest.mark.parametrize("cut", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "body",
    [
        f"data: {HI}\n\ndata: {HI}\n\n",
        f"data:{HI}\r\n\r\ndata:{HI}\r\n\r\n",
        f"data: {HI}\r\rdata: {HI}\r\r",
        f"\ufeffdata: {HI}\n\ndata: {HI}\n\n",
        f"\ufeff\n\ndata: {HI}\n\ndata: {HI}\n\n",
        f": keep-alive\n\ndata: {HI}\n\n: keep-alive\n\ndata: {HI}\n\n",
        f"id: 1\nevent: message\nretry: 5\ndata: {HI}\n\ndata: {HI}\n\n",
        f"data: {HI}\n\ndata:\n\ndata: \n\ndata\n\ndata: {HI}",
        f"{HI}\n{HI}\n",
        f"\ufeff{HI}\r\n\r\n  {HI}",
        f"\n\n{HI}\r{HI}",
        f"ping\n\ndata: {HI}\n\ndata: {HI}\n\n",
    ],
)
def test_two_chunks_are_read_from_every_framing(body, cut):
    data = body.encode()
    found = frames(*[data[n : n + cut] for n in range(0, len(data), cut)])
    assert [json.loads(frame.data) for frame in found] == [json.loads(HI)] * 2
    assert not any(frame.is_error for frame in found)


def test_a_data_field_on_several_lines_is_one_event():
    first, colon, second = HI.partition(": ")
    first += colon
    (frame,) = frames(f"data: {first}\ndata: {second}\n\n".encode())
    assert json.loads(frame.data) == json.loads(HI)


@pytest.mark.parametrize(
    "body", [json.dumps(chunk(), indent=2), f"\n [\n{HI}\n]\n", '{"a": 1,\r\n"b": 2}', "{"]
)
def test_json_on_several_lines_is_one_event(body):
    (frame,) = frames(*[body.encode()[n : n + 1] for n in range(len(body.encode()))])
    assert b"".join(frame.data.split()) == b"".join(body.encode().split())


@pytest.mark.parametrize(
    "body", ["event: error\ndata: x\n\n", "event:error\r\ndata:x\r\n\r\n", "error: x\n\n"]
)
def test_an_event_named_error_is_one(body):
    assert frames(body.encode()) == [(b"x", True)]


def test_a_name_belongs_to_its_own_event():
    body = b"event: error\ndata: x\n\ndata: y\n\nevent: error\n\ndata: z\n\n"
    assert frames(body) == [(b"x", True), (b"y", False), (b"z", False)]


def test_a_long_line_in_small_pieces_takes_linear_time():
    reader, piece = EventReader(), b"x" * 4_000
    reader.feed(b"data: ")
    for _ in range(5_000):
        assert reader.feed(piece) == []
    (frame,) = reader.feed(b"\n\n")
    assert len(frame.data) == 20_000_000
    assert len(reader.head) < 500
