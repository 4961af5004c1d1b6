"""A panel without a front end: its actions, its errors, and its text."""

from __future__ import annotations

import asyncio
import json

import pytest

from workbench.errors import ConfigError
from workbench.widgets.cutting import LONGEST
from workbench.widgets.nodes import Button, Details, Field, Group, MarkedWords, Meter, Words
from workbench.widgets.panel import SWITCH, Panel, has_front_end
from workbench.widgets.table import PAGE, Grid, Heading, texts


class Counter(Panel):
    def __init__(self):
        self.n = 0
        self.sent = []
        self.damaged = False

    def view(self):
        if self.damaged:
            raise ConfigError("line 3 is damaged")
        return Group(
            nodes=(Words(text=f"n is {self.n}"), Button(label="more", action="more", python="c.more()"))
        )

    def on_more(self, value):
        self.n += value or 1

    def on_fail(self, _):
        raise ConfigError("n is 3, above 2", hint="c.reset()")

    def on_break(self, _):
        raise KeyError("secret")

    def on_text(self, text: str):
        self.sent.append(text)

    def on_number(self, number: int):
        self.sent.append(number)

    def on_long(self, text):
        raise ConfigError(f"there is no {text}")

    async def on_wait(self, n):
        await asyncio.sleep(0)
        self.n = n

    async def on_wait_and_fail(self, _):
        await asyncio.sleep(0)
        raise ConfigError("too late")


@pytest.fixture
def panel():
    return Counter()


def test_an_action_changes_the_state_and_the_text(panel):
    panel.act("more", 2)
    assert panel.n == 2 and str(panel) == "n is 2\n  more: c.more()"


def test_every_message_is_answered_by_another_view(panel):
    seen = [panel.to_json()]
    for message in ({"action": "more", "value": 0}, {"action": "none"}, "no message", {"action": "none"}):
        panel.receive(message)
        assert panel.to_json() not in seen, message
        seen.append(panel.to_json())


@pytest.mark.parametrize("action", ["fail", "break", "none", "more.__class__", "__init__", ""])
def test_an_error_becomes_the_notice_and_changes_nothing(panel, action):
    panel.act("more")
    panel.act(action)
    assert panel.n == 1 and panel.notice and panel.notice in str(panel)
    panel.act("more")
    assert panel.n == 2 and not panel.notice


@pytest.mark.parametrize("message", [None, [], {}, {"action": 3}, {"value": 1}, "more"])
def test_a_message_of_another_form_changes_nothing(panel, message):
    panel.receive(message)
    assert panel.n == 0 and "reload the page" in panel.notice


def test_a_text_too_long_to_enter_is_refused(panel):
    panel.receive({"action": "more", "value": "x" * (4 << 20) + "x"})
    assert panel.n == 0 and "4,194,305 characters" in panel.notice


def test_a_coroutine_goes_on_beside_and_ends_with_its_notice(panel):
    async def go():
        panel.act("wait", 7)
        assert panel.busy == "wait" and panel.n == 0
        await panel._task
        assert (panel.n, panel.busy, panel.notice) == (7, "", "")
        panel.act("wait_and_fail")
        await panel._task
        assert panel.notice.startswith("too late") and not panel.busy
        panel.act("wait", 8)
        await asyncio.sleep(0)
        panel.act("stop")
        await panel._task
        assert (panel.n, panel.busy, panel.notice) == (7, "", "stopped")

    asyncio.run(go())


def test_without_a_kernel_there_is_text_alone(panel, monkeypatch):
    assert not has_front_end() and panel._repr_mimebundle_() == {"text/plain": str(panel)}
    monkeypatch.setenv(SWITCH, "0")
    assert not has_front_end()


def test_a_long_text_is_cut_and_counted():
    (line,) = Words(text="x" * (LONGEST + 5)).lines()
    assert line.endswith(" … 5 more characters")
    shown = MarkedWords(parts=(("a" * LONGEST, ""), ("b" * 7, "added"))).to_json()["parts"]
    assert sum(len(text) for text, _ in shown[:-1]) == LONGEST and "7 more" in shown[-1][0]


def test_a_terminal_gets_nothing_that_it_obeys():
    nodes = (
        Words(text="\x1b[31mred\u202e"),
        MarkedWords(parts=(("\x1b]0;title\x07", "match"),)),
        Details(summary="\x1b[2J", nodes=(Words(text="\x9b"),), open=True),
        Field(label="l", action="a", text="\x1b"),
        Meter(value=1, most=2, label="\x1b"),
        Grid(caption="\x1b", headings=(Heading(label="h"),), rows=[texts("\x1b")]),
    )
    printed = "\n".join(Group(nodes=nodes).lines())
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(printed)


def test_words_that_differ_are_printed_as_git_does():
    assert MarkedWords(parts=(("a ", ""), ("b", "removed"), ("c", "added"))).text == "a [-b-]{+c+}"


@pytest.mark.parametrize(("first", "enabled"), [(0, [2, 3]), (PAGE, [0, 1, 2, 3]), (2 * PAGE, [0, 1])])
def test_the_pages_of_a_table_lead_to_every_row(first, enabled):
    total = 2 * PAGE + 3
    n = min(PAGE, total - first)
    grid = Grid(
        caption="cases",
        headings=(Heading(label="id"),),
        rows=[texts("q")] * n,
        first=first,
        total=total,
        page="page",
    )
    pages = grid.to_json()["pages"]
    assert [i for i, button in enumerate(pages) if not button["disabled"]] == enabled
    assert pages[3]["value"] == 2 * PAGE
    assert grid.lines()[-1].strip() == f"{first + 1} to {first + n} of {total}"


# -- what a broken page, a second click and a damaged file send ---------------------------------


@pytest.mark.parametrize(
    "value",
    [[1], {"a": 1}, float("nan"), float("inf"), "half \ud800"],
    ids=["list", "map", "nan", "inf", "half"],
)
def test_a_value_that_no_button_and_no_field_sends_changes_nothing(panel, value):
    panel.receive({"action": "more", "value": value})
    assert panel.n == 0 and ("reload the page" in panel.notice or "surrogate" in panel.notice)


@pytest.mark.parametrize(
    ("action", "value"), [("text", 3), ("text", None), ("number", "3"), ("number", True)]
)
def test_a_value_of_another_type_than_the_action_takes_is_named_and_changes_nothing(panel, action, value):
    panel.act(action, value)
    assert panel.sent == [] and panel.notice.startswith(f"{action} takes a ")
    panel.act("text", "3")
    panel.act("number", 3)
    assert panel.sent == ["3", 3] and not panel.notice


def test_a_text_is_as_long_as_the_panel_takes(panel):
    panel.receive({"action": "text", "value": "x" * (LONGEST + 1)})
    assert panel.sent == [] and "at most 20,000" in panel.notice
    panel.longest_text = 2 * LONGEST
    panel.receive({"action": "text", "value": "x" * (LONGEST + 1)})
    assert len(panel.sent) == 1


def test_a_second_click_begins_no_second_action_and_stop_ends_the_first(panel):
    async def go():
        panel.act("wait", 7)
        first = panel._task
        panel.act("wait", 8)
        assert panel._task is first and "wait goes on" in panel.notice
        panel.act("stop")  # before its first step
        await asyncio.wait({first})
        assert (panel.n, panel.busy, panel.notice) == (0, "", "stopped")

    asyncio.run(go())


def test_a_notice_that_repeats_a_long_value_is_cut(panel):
    panel.act("long", "x" * LONGEST)
    assert len(panel.to_json()["notice"]) < 2_100 and "more characters" in str(panel)


def test_a_view_that_cannot_be_made_says_why_and_comes_back(panel):
    panel.damaged = True
    panel.act("more")
    assert "this cannot be shown: line 3 is damaged" in panel.to_json()["view"]["text"]
    assert "line 3 is damaged" in str(panel)
    panel.damaged = False
    assert "n is 1" in str(panel)


def test_names_hold_nothing_that_a_terminal_obeys_and_every_text_fits_into_utf_8():
    bad = "\x1b[2J\u202e\ud800"
    nodes = (
        Button(label=bad, action="a", python=f"f({bad!r}, '{bad}')\nimport os"),
        Grid(caption="c", headings=(Heading(label=bad),), rows=[[Button(label=bad, action="a")]]),
        Field(label=bad, action="a", text=bad, options=(("a", bad),)),
        MarkedWords(parts=((bad, "match"),)),
        Words(text=bad),
        Meter(value=1, most=1, label=bad),
        Details(summary=bad, nodes=(), open=True),
    )
    group = Group(nodes=nodes, label=bad)
    assert not {"\x1b", "\u202e"} & set("\n".join(group.lines())) and "import os" in group.lines()[0]
    json.dumps(group.to_json(), ensure_ascii=False).encode()


def test_a_long_name_is_cut():
    shown = Button(label="x" * 1_000_000, action="a", python="y" * 1_000_000).to_json()
    assert len(shown["label"]) < 400 and len(shown["python"]) < 400
