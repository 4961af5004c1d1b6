"""Arguments of another type are one error that names the argument, never an answer to something else."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from calls import behind
from memory_bench import Bench, write_page

from workbench import arguments
from workbench.errors import ConfigError
from workbench.models.handle import ModelHandle
from workbench.testing.fakes import FakeModel

HALF = "meal \ud83d"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "None"), (3, "3"), (b"x", "b'x'"), (["x"], "type list"), (object(), "type object"),
        (HALF, "surrogate"),
    ],
)  # fmt: skip
def test_a_text(value, said):
    with pytest.raises(ConfigError, match=f"subject.*{said}"):
        arguments.text(value, "subject")
    assert arguments.text("", "subject") == ""


@pytest.mark.parametrize("values", ["travel", b"travel", None, 3, ["a", 3], ["a", None], [HALF], "", [b"a"]])
def test_a_list_of_texts(values):
    with pytest.raises(ConfigError, match="sources"):
        arguments.texts(values, "sources")
    assert arguments.texts((text for text in "ab"), "sources") == ("a", "b")


@pytest.mark.parametrize("value", ["3", 2.0, 2.5, None, True, 0, -1, "x" * 10_000, [1], -(10**4000)])
def test_a_whole_number(value):
    with pytest.raises(ConfigError, match=r"k is .{1,90}\n") as caught:
        arguments.whole_number(value, "k", least=1)
    assert "1 or more" in caught.value.hint
    assert arguments.whole_number(np.int64(3), "k", least=1) == 3


@pytest.mark.parametrize("value", ["no", "false", "", 0, 1, None, [True]])
def test_a_flag(value):
    with pytest.raises(ConfigError, match="dry_run is"):
        arguments.flag(value, "dry_run")
    assert arguments.flag(True, "dry_run") and not arguments.flag(False, "dry_run")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "2026-02-30",
        "20261124",
        "2026-11-24T00:00",
        20261124,
        dt.datetime(2026, 11, 24, tzinfo=dt.UTC),
        "24.11.2026",
    ],
)
def test_a_day(value):
    with pytest.raises(ConfigError, match="as_of"):
        arguments.day(value, "as_of")
    assert arguments.day(dt.date(2026, 11, 24), "as_of") == "2026-11-24"


@pytest.fixture
def handle(tmp_path):
    handle = Bench(tmp_path, write_page(tmp_path, "acme/taxi.md", body="A taxi is paid.")).handle_of()
    handle.ingest()
    return handle


@pytest.mark.parametrize(
    "given",
    [
        {"text": HALF}, {"text": None}, {"text": ["taxi"]}, {"text": b"taxi"}, {"k": "3"}, {"k": 2.5},
        {"k": None}, {"k": True}, {"as_of": ""}, {"as_of": 2026}, {"version": "1"}, {"version": 0},
        {"version": True},
        {"sources": "taxi"}, {"sources": [3]}, {"sources": [HALF]}, {"sources": None}, {"kinds": "document"},
        {"kinds": ["documents"]}, {"kinds": [None]},
    ],
)  # fmt: skip
def test_a_search_for_something_else_is_an_error_and_no_empty_list(handle, given):
    with pytest.raises(ConfigError):
        handle.search(**{"text": "taxi", **given})


def test_a_search_takes_a_date_and_any_list(handle):
    found = handle.search(
        "taxi", as_of=dt.date(2026, 1, 1), sources={"taxi"}, kinds=("document",), k=np.int32(1)
    )
    assert found.sources == ("taxi",)


@pytest.mark.parametrize("given", [{"dry_run": "no"}, {"dry_run": 0}, {"expired": "yes"}])
def test_whether_something_is_only_counted_is_no_text(handle, given):
    """A caller that wrote "no" would be told what was forgotten, and nothing was."""
    with pytest.raises(ConfigError, match=next(iter(given))):
        handle.forget(**{"source": "taxi", **given})
    assert handle.count() == 1


@pytest.mark.parametrize(
    "given", [{"ids": "abc"}, {"ids": [3]}, {"subject": 3}, {"source": HALF}, {"ids": [HALF]}]
)
@pytest.mark.parametrize("verb", ["forget", "hold", "release"])
def test_what_is_forgotten_or_held_is_named_by_texts(handle, verb, given):
    with pytest.raises(ConfigError, match=next(iter(given))):
        getattr(handle, verb)(**given)


def model():
    class Card:
        name, model, dialect = "small", "small", "chat"

        def wire_defaults(self):
            return {}

    fake = FakeModel(["yes"])
    return fake, ModelHandle(card=Card(), handler=behind(fake), make_call=lambda *_: pytest.fail("asked"))


@pytest.mark.parametrize("texts", ["meal", b"meal", [3], [HALF], None, [["meal"]], ["a", None]])
def test_texts_to_embed_are_a_list_of_texts(texts):
    with pytest.raises(ConfigError, match="texts"):
        model()[1].embed(texts)


@pytest.mark.parametrize("asked", [None, 3, b"Hi", ["Hi"], [("user", "Hi")], {"role": "user"}, [None]])
def test_a_model_is_asked_a_text_turns_or_a_rendered_prompt(asked):
    with pytest.raises(ConfigError, match="is asked"):
        model()[1].chat(asked)
