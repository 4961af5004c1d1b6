"""A panel without a front end: its actions, its errors, and its text."""

from __future__ import annotations

import asyncio

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

    def view(self):
        return Group(
            nodes=(Words(text=f"n is {self.n}"), Button(label="more", action="more", python="c.more()"))
        )

    def on_more(self, value):
        self.n += value or 1

    def on_fail(self, _):
        raise ConfigError("n is 3, above 2", hint="c.reset()")

    def on_break(self, _):
        raise KeyError("secret")

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
