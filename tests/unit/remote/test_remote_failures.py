"""Every error crosses the wire and back as it was; another one tells nothing but its type."""

from __future__ import annotations

import logging

import orjson
import pytest

from workbench import errors
from workbench.errors import (
    BudgetExceededError,
    CircuitOpenError,
    InvalidOutputError,
    LimitExceededError,
    ModerationError,
    NoAnswerError,
    PolicyError,
    PrivacyError,
    RateLimitedError,
    RefusedError,
    ReplayMissError,
    UnavailableError,
    WorkbenchError,
)
from workbench.remote.failures import CLASSES, error_of, failure_of

AMOUNTS = {"limit": 1.5, "spent": 1.0, "reserved": 0.25, "needed": 0.5, "renews": "2027-01-01"}
FULL = [
    RefusedError("m", hint="h", status=422, body={"error": {"code": "content_filter", "n": [1, None]}}),
    BudgetExceededError("m", hint="h", budget="month", measure="usd", **AMOUNTS),
    LimitExceededError("m", hint="h", limit="calls", spent={"calls": 3, "usd": 0.1}),
    PolicyError("m", hint="h", policies=("a", "b"), decision="d1"),
    PrivacyError("m", hint="h", kinds=["person"], destination="external"),
    ModerationError("m", hint="h", check="c", direction="out", held="x1"),
    NoAnswerError("m", hint="h", reason="truncated", status=200, retryable=True),
    ReplayMissError("m", hint="h", path="messages.0"),
    UnavailableError("m", hint="h", status=502),
    RateLimitedError("m", hint="h", retry_after_s=1.25),
    CircuitOpenError("m", hint="h", retry_after_s=30),
    InvalidOutputError("m", hint="h", violations=["$.a: missing"]),
]


def crossed(error):
    return error_of(orjson.loads(orjson.dumps(failure_of(error))))


def same(error, other):
    assert type(other) is type(error)
    assert vars(other) == vars(error)
    assert (other.reason, other.retryable, other.exit_code) == (
        error.reason,
        error.retryable,
        error.exit_code,
    )
    assert str(other) == str(error)


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_an_error_with_all_its_fields_comes_back_as_it_was(error):
    error.add_note("other@1: UnavailableError: away")
    same(error, crossed(error))
    assert crossed(error).__notes__ == error.__notes__


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_class_comes_back_with_its_message_and_hint(name):
    more = {"reason": "empty"} if name == "NoAnswerError" else {}
    same(
        CLASSES[name]("Zürich «a»", hint="h", **more),
        crossed(CLASSES[name]("Zürich «a»", hint="h", **more)),
    )
    same(CLASSES[name]("m", **more), crossed(CLASSES[name]("m", **more)))


def test_the_classes_are_those_of_the_tree():
    classes = [kind for kind in vars(errors).values() if getattr(kind, "__module__", "") == errors.__name__]
    assert {kind for kind in classes if isinstance(kind, type)} == set(CLASSES.values())


def test_a_class_of_another_room_becomes_its_nearest_one_of_the_tree():
    class AwayError(UnavailableError):
        """Of a store."""

    assert type(crossed(AwayError("m"))) is UnavailableError


def test_an_error_that_is_none_of_ours_tells_its_type_alone(caplog):
    with caplog.at_level(logging.ERROR, logger="workbench.gateway"):
        error = crossed(KeyError("/srv/secret tenant globex"))
    assert type(error) is WorkbenchError
    assert error.message == "KeyError: the gateway failed; its log has the error"
    assert "globex" not in str(error) and "globex" in caplog.text


@pytest.mark.parametrize(
    "failure",
    [
        {"type": "EvilError", "message": "m", "hint": "h"},
        {"type": ["RefusedError"], "message": "m"},
        {"type": "__init__", "message": "m"},
        {"message": 3},
        None,
        [],
        {},
    ],
)
def test_an_unknown_error_is_a_workbench_error(failure):
    error = error_of(failure)
    assert type(error) is WorkbenchError and isinstance(error.message, str)


def test_fields_of_another_type_or_class_are_left_out():
    stated = {
        "type": "RateLimitedError",
        "message": "m",
        "retry_after_s": "soon",
        "policies": ["p"],
        "args": 1,
    }
    error = error_of({**stated, "retryable": "yes", "notes": "n", "status": True, "exit_code": 0})
    assert (error.retry_after_s, error.retryable, error.status, error.exit_code) == (None, True, 429, 3)
    assert not hasattr(error, "policies") and not hasattr(error, "__notes__")
