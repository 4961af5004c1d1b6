"""Errors that a stream states without the key `error`, and messages that come whole inside of it."""

from __future__ import annotations

import pytest
from wire_readers import chunk, chunks, sse, streamed

from workbench import wire
from workbench.errors import NoAnswerError, RateLimitedError, UnavailableError

HI, END = chunk({"content": "Hi"}), chunk({}, "stop")


def message(text, **more):
    """A chunk whose choice has a message instead of a delta."""
    return {"choices": [{"index": 0, "message": {"content": text}, **more}]}


@pytest.mark.parametrize(
    ("stated", "kind"),
    [
        ({"message": "boom", "code": 500}, UnavailableError),
        ({"message": "boom", "code": "503"}, UnavailableError),
        ({"message": "boom", "status": "UNAVAILABLE"}, UnavailableError),
        ({"message": "boom", "type": "server_error"}, UnavailableError),
        ({"message": "boom", "type": "InternalServerError", "param": None}, UnavailableError),
        ({"message": "boom", "code": "rate_limit_exceeded"}, RateLimitedError),
        ({"message": "boom", "status": 429}, RateLimitedError),
        ({"detail": "boom"}, UnavailableError),
        ({"detail": [{"loc": ["body"], "msg": "boom"}]}, UnavailableError),
    ],
)
@pytest.mark.parametrize("before", [(), (HI,)])
def test_an_error_without_the_key_error_is_one_and_the_text_before_it_no_answer(stated, kind, before):
    with pytest.raises(kind, match="boom"):
        chunks(sse(*before, stated, END))


@pytest.mark.parametrize(
    "kept_alive",
    [
        {"type": "info", "message": "queued"},
        {"message": "busy", "code": 0},
        {"message": "busy", "status": "200"},
        {"message": "busy"},
        {"message": {"role": "assistant"}, "type": "message_start"},
        {"detail": None},
        {"detail": ""},
        {"code": 500},
        {"status": "x" * 100},
    ],
)
def test_an_event_that_only_says_how_it_is_going_is_no_error(kept_alive):
    assert wire.text_of(streamed(sse(kept_alive, HI, kept_alive, END))) == "Hi"


def test_a_whole_message_after_its_deltas_says_nothing_new():
    assert wire.text_of(streamed(sse(HI, message("Hi", finish_reason="stop")))) == "Hi"


@pytest.mark.parametrize("second", ["Hi", "Hi there", ""])
def test_whole_messages_that_follow_each_other_are_no_stream_of_deltas(second):
    with pytest.raises(NoAnswerError, match="two whole messages") as caught:
        chunks(sse(message("Hi"), message(second), END))
    assert (caught.value.reason, caught.value.retryable) == ("malformed", False)
