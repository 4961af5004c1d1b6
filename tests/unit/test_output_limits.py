"""The outputs that an executed copy keeps of a notebook that prints too much."""

from __future__ import annotations

import json

import pytest

from workbench.notebooks.execution import OutputLimits


def stream(text, name="stdout"):
    return "stream", {"name": name, "text": text}


def display(text, kind="display_data"):
    return kind, {"data": {"text/html": text}, "metadata": {}}


def kept_of(messages, *, index=0, limits=None):
    """Return what is kept of the messages of one cell."""
    limits = limits or OutputLimits(cell=100, notebook=250)
    outputs = []
    for kind, content in messages:
        if (kept := limits.kept(content, kind, index, empty=not outputs)) is not None:
            outputs.append(kept)
    return outputs


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([stream("x" * 101)], "x" * 100),
        ([stream("x" * 50_000_000)], "x" * 100),
        ([stream("x" * 60)] * 2, "x" * 40),
        ([stream("x\n")] * 51, ""),
        ([stream("é" * 51)], "é" * 50),
        ([stream("安" * 34)], "安" * 33),
        ([stream("\U0001f600" * 26)], "\U0001f600" * 25),
        ([stream("\ud83d" * 101)], "?" * 100),
        ([stream("a" * 99), stream("bb", "stderr")], "b"),
        ([display("x" * 101)], ""),
        ([display("x" * 10)] * 3, ""),
        ([display("x" * 101, "execute_result")], ""),
        ([stream("a" * 50), display("b" * 50)], ""),
        ([display("b"), stream("a" * 100)], "a" * (100 - len(json.dumps(display("b")[1])))),
    ],
)
def test_a_cell_above_its_limit_ends_with_what_fits_and_a_note(messages, text):
    *_, (kind, last) = kept = kept_of([*messages, stream("later"), display("later")])
    assert kind == "stream" and last["text"].startswith(f"{text}\n[")
    assert "100 bytes" in last["text"] and "later" not in str(kept)
    assert sum(len(content.get("text", "")) for _, content in kept) < 200


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [stream("x" * 100)],
        [stream("x")] * 100,
        [stream("é" * 50)],
        [stream("a" * 50), stream("b" * 50, "stderr")],
        [display("x" * 10)],
        [display("x"), display("y", "execute_result")],
        [stream("")] * 1000,
        [("error", {"ename": "E", "evalue": "v", "traceback": ["a", "b"]})],
        [stream("x" * 100), ("error", {"ename": "E", "evalue": "v", "traceback": []})],
    ],
)
def test_outputs_within_the_limits_are_kept_as_they_are(messages):
    assert kept_of(messages) == messages


def test_the_limit_of_the_notebook_holds_for_all_cells():
    limits = OutputLimits(cell=100, notebook=250)
    kept = [kept_of([stream("z" * 90)], index=index, limits=limits) for index in range(5)]
    assert [output[0][1]["text"].count("z") for output in kept] == [90, 90, 70, 0, 0]
    assert all("all cells exceed 250 bytes" in output[0][1]["text"] for output in kept[2:])


def test_cleared_outputs_free_their_room():
    limits = OutputLimits(cell=100, notebook=250)
    for _ in range(50):
        assert limits.kept({"text": "x" * 90}, "stream", 0, empty=True) == ("stream", {"text": "x" * 90})
    assert "100 bytes" in limits.kept({"text": "x" * 20}, "stream", 0, empty=False)[1]["text"]
    assert limits.kept({"text": "x"}, "stream", 0, empty=False) is None
    assert limits.kept({"text": "x"}, "stream", 0, empty=True) == ("stream", {"text": "x"})


@pytest.mark.parametrize(
    ("evalue", "lines"), [("v" * 1000, []), ("short", ["t" * 1000]), ("v" * 1000, ["t"] * 99)]
)
def test_an_error_keeps_its_name_and_is_bounded_after_any_output(evalue, lines):
    error = ("error", {"ename": "ValueError", "evalue": evalue, "traceback": lines})
    kind, content = kept_of([stream("x" * 101), error])[-1]
    assert (kind, content["ename"]) == ("error", "ValueError")
    assert content["evalue"].startswith(evalue[:12]) and len(json.dumps(content)) < 200


def test_the_state_of_widgets_and_the_text_of_an_error_are_bounded():
    from workbench.notebooks.execution import OutputLimits, _excerpt

    limits = OutputLimits(cell=100, notebook=300)
    taken = [limits.takes_widget({"data": "x" * 80}) for _ in range(6)]
    assert taken == sorted(taken, reverse=True) and 1 <= sum(taken) <= 3
    assert _excerpt("short") == "short" and len(_excerpt("y" * 10_000)) == 4_001
