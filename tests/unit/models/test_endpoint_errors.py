"""Each error body, in the forms of servers, proxies and frameworks, as one class with the server's words."""

from __future__ import annotations

import json

import pytest
from wire_readers import ERRORS, KEY

from workbench.errors import RateLimitedError, RefusedError, UnavailableError
from workbench.models.endpoint_errors import status_of
from workbench.records.keys import Entry, RecordedRequest, refusal

BODIES = [
    ({"error": {"message": "boom"}}, "boom"),
    ({"error": "boom"}, "boom"),
    ({"message": "boom"}, "boom"),
    ({"msg": "boom"}, "boom"),
    ({"detail": "boom"}, "boom"),
    ({"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "boom"}]}, "body.messages: boom"),
    ({"detail": {"error": {"message": "boom"}}}, "boom"),
    ({"errors": [{"code": 7003, "message": "boom"}, {"message": "bang"}], "success": False}, "boom; bang"),
    ({"message": [{"msg": "boom"}]}, "boom"),
    ([{"error": {"code": 400, "message": "boom"}}], "boom"),
    ({"error": {"message": {"en": "boom"}, "code": 1}}, '{"en":"boom"}'),
    ({"error": {"code": 5}}, '{"code":5}'),
    ({"error": {"message": None, "error": "boom"}}, "boom"),
    ("boom", "boom"),
    (7, "7"),
]


@pytest.mark.parametrize(("body", "words"), BODIES)
def test_the_server_s_words_are_quoted(body, words):
    error = ERRORS.of_status(400, json.dumps(body).encode(), {})
    assert type(error) is RefusedError
    assert error.message == f"http://endpoint/v1 answered 400: {words}"
    assert error.body == body


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b'{"error": null}', b'{"error": {}}', b"  \n "])
def test_a_body_without_words_leaves_the_status(body):
    assert ERRORS.of_status(400, body, {}).message == "http://endpoint/v1 answered 400"


@pytest.mark.parametrize(
    "body",
    [b"<html>\n <title>502  Bad", b"\xff\xfe\x00", b"{", b"[" * 100_000, b"1" * 6_000, b'{"error": NaN}'],
)
def test_a_body_that_is_no_plain_json_is_quoted_in_short(body):
    error = ERRORS.of_status(400, body, {})
    assert len(error.message) < 130
    assert "\n" not in error.message


def test_the_key_is_never_quoted():
    for body in (KEY.encode(), json.dumps({"error": {"message": f"no {KEY}", "x": [KEY]}}).encode()):
        error = ERRORS.of_status(400, body, {})
        assert KEY not in f"{error.message}{error.body}{ERRORS!r}"
        assert "[key]" in error.message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": " 0.5 "}, 0.5),
        ({"Retry-After": "-1"}, 0),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "1e999"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Tue, 01 Sep 2026 10:00:30 GMT", "Date": "Tue, 01 Sep 2026 10:00:00 GMT"}, 30),
        ({"Retry-After": "Tue, 01 Sep 2026 10:00:30 GMT"}, None),
        ({}, None),
    ],
)
def test_the_seconds_to_wait(headers, seconds):
    error = ERRORS.of_status(429, b"", headers)
    assert type(error) is RateLimitedError
    assert error.retry_after_s == seconds


def test_a_quota_that_is_spent_is_not_asked_for_again():
    body = {"error": {"message": "no quota", "type": "insufficient_quota", "code": "insufficient_quota"}}
    error = ERRORS.of_status(429, json.dumps(body).encode(), {})
    assert type(error) is RateLimitedError
    assert not error.retryable
    assert "billing" in error.hint
    assert ERRORS.of_status(429, b'{"error": {"code": "rate_limit_exceeded"}}', {}).retryable


@pytest.mark.parametrize(
    ("stated", "status"),
    [
        ({"code": 404}, 404),
        ({"code": "404"}, 404),
        ({"error": {"code": 503}}, 503),
        ({"error": {"code": "context_length_exceeded"}}, 400),
        ({"error": {"code": None, "type": "authentication_error"}}, 401),
        ({"error": {"code": 8, "status": "RESOURCE_EXHAUSTED"}}, 429),
        ({"error": {"code": 200}}, 500),
        ({"error": {"code": 40_000, "type": ["x"]}}, 500),
        ({"error": {"code": {"a": 1}}}, 500),
        ({"error": "boom"}, 500),
        ({"error": {"type": "server_error"}}, 500),
        (None, 500),
        ("404", 500),
    ],
)
def test_the_status_that_an_error_object_states(stated, status):
    assert status_of(stated) == status


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 529])
def test_a_server_that_fails_may_be_asked_again(status):
    error = ERRORS.of_status(status, b"", {})
    assert type(error) is UnavailableError
    assert error.retryable


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 413, 422, 501])
def test_a_request_that_is_refused_is_not_sent_again(status):
    error = ERRORS.of_status(status, b"", {})
    assert type(error) is RefusedError
    assert not error.retryable
    assert error.status == status


def test_a_prompt_that_the_content_filter_refuses_is_counted_so_when_replayed_too():
    body = json.dumps({"error": {"message": "no", "code": "content_filter", "status": 400}}).encode()
    error = ERRORS.of_status(400, body, {})
    assert (type(error), error.reason) == (RefusedError, "filtered")
    question = RecordedRequest(operation="model.chat", identity={}, request={})
    entry = Entry(
        key=question.key, question=question, target="m", result=refusal(error), latency_s=0.0,
        first_event_s=None, processor={},
    )  # fmt: skip
    with pytest.raises(RefusedError) as caught:
        Entry.parse(entry.line()).events()
    assert caught.value.reason == "filtered"
    assert ERRORS.of_status(400, b'{"error": {"code": "other"}}', {}).reason == ""
