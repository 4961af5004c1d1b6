"""The front end of panels in a real browser: focus, keys, tables, and texts that are never interpreted."""

from __future__ import annotations

from panel_page import FOREIGN, pictured, shown
from shown_pages import SHOWN

from workbench.widgets.nodes import Button, Details, Field, Group, MarkedWords, Meter, Words
from workbench.widgets.panel import Panel
from workbench.widgets.table import Grid, Heading

pytestmark = SHOWN
HOSTILE = (
    "<script>window.injected = 1</script>",
    "<img src=x onerror='window.injected=1'>",
    '"><svg onload=window.injected=1>',
    "</p><iframe srcdoc='<script>parent.injected=1</script>'>",
    "javascript:window.injected=1",
    "{{constructor.constructor('window.injected=1')()}}",
    "' onfocus=window.injected=1 autofocus '",
    "\u202e\x1b[31mtxt.exe \u0000",
    "שלום עולם",
)
ATTRIBUTES = "() => [...document.querySelectorAll('*')].flatMap(found => found.getAttributeNames())"


class Everything(Panel):
    """Each kind of node, with a text in each of its places."""

    def __init__(self, text="text"):
        self.text, self.pressed, self.chosen, self.n = text, [], "", 0

    def view(self):
        t = self.text
        rows = [[Words(text=t), Button(label=t, action="press", value=t)]]
        heads = (Heading(label=t, action="press"), Heading(label="b", sorted="ascending"))
        return Group(
            label=t,
            nodes=(
                Words(text=f"n is {self.n}", heading=3),
                Words(text=t, heading=2), Words(text=t, code=True, tone="bad"),
                MarkedWords(parts=((t, ""), (t, "match"), (t, "added"), (t, "removed"))),
                Group(row=True, nodes=(
                    Button(label="next", action="next", shortcut="n", python=t),
                    Button(label=t, action="press", value=t, pressed=True),
                )),
                Field(label=t, action="write", text=t, placeholder=t, live=True),
                Field(label="long", action="write", text=t, rows=3),
                Field(label="choice", action="choose", text=self.chosen, options=(("", "none"), ("a", t))),
                Details(summary=t, nodes=(Words(text=t),)),
                Meter(value=1, most=3, label=t),
                Grid(caption=t, headings=heads, rows=rows, total=50, page="page"),
            ),
        )  # fmt: skip

    def on_next(self, _):
        self.n += 1

    def on_press(self, value):
        self.pressed.append(value)

    def on_write(self, text):
        self.text = text

    def on_choose(self, value):
        self.chosen = value

    def on_page(self, first):
        self.pressed.append(first)


def test_no_text_is_interpreted_wherever_it_stands():
    panel = Everything()
    with shown(panel) as page:
        for text in HOSTILE:
            panel.act("write", text)
            page.settle()
            assert page.evaluate(FOREIGN) == []
            assert page.locator("h2").text_content() == text.replace("\u0000", "\ufffd") or "\u0000" in text
            assert page.locator("ins").text_content().endswith(page.locator("h2").text_content())
        assert not [name for name in page.evaluate(ATTRIBUTES) if name.startswith("on")]


def test_keys_press_buttons_and_the_focus_stays():
    panel = Everything()
    with shown(panel) as page:
        page.get_by_role("button", name="next", exact=False).first.focus()
        page.keyboard.press("Enter")
        page.settle()
        assert panel.n == 1 and page.evaluate("document.activeElement.textContent").startswith("next")
        page.keyboard.press("n")
        page.settle()
        assert panel.n == 2 and page.get_by_role("heading", name="n is 2").count() == 1
        field = page.get_by_role("textbox").first
        field.focus()
        page.keyboard.type("n")  # in a field it is a letter
        page.wait_for_timeout(300)
        page.settle()
        assert panel.n == 2 and panel.text == "textn"
        page.keyboard.type("o")
        panel.act("next")  # an update while somebody types keeps what is typed
        page.settle()
        assert field.input_value() == "textno" and page.evaluate("document.activeElement.tagName") == "INPUT"


class Leaving(Panel):
    """A button that goes away when it is pressed."""

    def __init__(self):
        self.n = 0

    def view(self):
        first = Words(text="gone") if self.n else Button(label="leave", action="leave")
        return Group(nodes=(first, Button(label="again", action="leave", shortcut="a")))

    def on_leave(self, _):
        self.n += 1


def test_keys_reach_a_panel_whose_focused_button_has_gone():
    panel = Leaving()
    with shown(panel) as page:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.settle()
        assert panel.n == 1 and page.get_by_role("button", name="leave").count() == 0
        page.keyboard.press("a")
        page.settle()
        assert panel.n == 2
        page.keyboard.press("Tab")  # the focus goes on from the panel
        assert page.evaluate("document.activeElement.textContent").startswith("again")


def test_choices_pages_and_heads_send_their_values():
    panel = Everything()
    with shown(panel, width=360, scheme="dark") as page:
        page.get_by_label("choice").select_option("a")
        page.settle()
        assert panel.chosen == "a" and page.get_by_label("choice").input_value() == "a"
        page.get_by_label("choice").select_option("")
        page.settle()
        assert panel.chosen == "" and page.get_by_label("choice").input_value() == ""
        page.get_by_role("button", name="next page").click()
        page.settle()
        assert panel.pressed == [20]
        assert page.locator("th").nth(1).get_attribute("aria-sort") == "ascending"
        assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_person_is_told_when_the_kernel_does_not_answer():
    panel = Everything()
    with shown(panel) as page:
        page.get_by_role("button", name="next").first.click()
        status = page.get_by_role("status")
        status.get_by_text("The kernel has not answered").wait_for()  # it is busy, or was restarted
        page.settle()
        assert panel.n == 1 and status.text_content() == ""
        page.get_by_role("button", name="next").first.click()
        page.settle()
        page.wait_for_timeout(3_500)
        assert status.text_content() == ""


class Tall(Panel):
    """A panel that is taller than the window, with a button at its beginning."""

    def view(self):
        return Group(nodes=[Button(label="try", action="none"), *(Words(text=str(n)) for n in range(99))])


def test_a_notice_below_a_tall_panel_is_in_sight_while_somebody_acts_in_it():
    with shown(Tall()) as page:
        page.get_by_role("button", name="try").click()
        page.settle()
        status = page.get_by_role("status")
        assert "no action 'none'" in status.text_content()
        page.wait_for_function(
            "document.querySelector('.wb-notice').getBoundingClientRect().bottom < innerHeight"
        )
        pictured(page, "panel-notice")
        page.evaluate("document.activeElement.blur()")
        assert status.bounding_box()["y"] > 900  # no panel that was left covers another
        page.evaluate("scrollTo(0, 9999)")
        page.get_by_role("button", name="try").focus()
        page.evaluate("scrollTo(0, 9999)")
        page.wait_for_function("!document.querySelector('.wb-away')")


def test_a_page_whose_connection_is_closed_says_so_at_once():
    with shown(Everything()) as page:
        page.evaluate("() => { window.receive = () => { throw new Error('closed'); }; }")
        page.get_by_role("button", name="next").first.click()
        page.get_by_role("status").get_by_text("restarted").wait_for(timeout=1_000)
