"""The browser of a memory in a real browser: by mouse, by keyboard alone, and with texts that try to act."""

from __future__ import annotations

import dataclasses
import re

import pytest
from memory_bench import Bench, write_page
from panel_page import FOREIGN, pictured, shown
from shown_pages import SHOWN

from workbench.memory.stemming import stems

pytestmark = SHOWN
HOSTILE = (
    "<script>window.injected=1</script> <img src=x onerror='window.injected=1'> "
    "</p><iframe srcdoc='<script>parent.injected=1</script>'></iframe> \u202etxt.exe שלום עולם"
)
PAGES = {
    "taxi": ("Taxis on business trips", "A taxi on a business trip is paid at night. Keep the receipt."),
    "train": ("Trains", "Trains in second class are paid for every trip. A taxi to the station is not."),
    "hotel": ("Hotels", "A hotel costs at most 120 euros a night."),
    "odd": ("Odd <b>title</b>", f"A taxi {HOSTILE}."),
}  # fmt: skip


@pytest.fixture
def panel(tmp_path):
    for name, (title, body) in PAGES.items():
        folder = write_page(tmp_path, f"acme/{name}.md", body=body, title=f"'{title}'")
    for n in range(25):
        write_page(tmp_path, f"acme/rule{n:02}.md", body=f"Rule {n} of the handbook.", title=f"Rule {n}")
    bench = Bench(tmp_path, folder, name="handbook")
    handle = bench.handle_of(groups=("everyone", "finance"), clearance=2, stems=stems)
    handle.ingest()
    write_page(tmp_path, "acme/hotel.md", body="A hotel costs at most 140 euros a night.", title="Hotels")
    handle.ingest()

    def narrowed(wanted):
        more = {"groups": wanted.groups, "clearance": wanted.clearance, "admin": wanted.admin}
        return bench.handle_of(**more, stems=stems)

    return dataclasses.replace(handle, narrowed=narrowed).browse()


def test_a_person_searches_reads_narrows_and_compares_with_a_mouse(panel):
    with shown(panel) as page:
        page.get_by_label("Question").fill("Is a taxi paid on trips?")
        page.get_by_role("button", name="Search").click()
        page.settle()
        assert panel.hits and page.locator("tbody tr").count() == len(panel.hits) == 5
        assert "taxi" in page.locator("mark").all_text_contents()
        page.get_by_role("button", name="1. Taxis on business trips").click()
        page.settle()
        assert page.get_by_role("group", name="passage 1").get_by_text("[1] or [taxi]").count() == 1
        pictured(page, "memory-browser")
        page.get_by_text("Filters, and whose rights").click()
        page.get_by_label("Groups").select_option("finance")
        page.settle()
        assert panel.principal.groups == ("finance",) and panel.hits is None
        page.get_by_role("button", name="Search").click()
        page.settle()
        assert page.get_by_text("No passage that this principal may see").count() == 1
        page.get_by_label("Groups").select_option("")
        page.settle()
        page.get_by_role("button", name="Versions").click()
        page.settle()
        page.get_by_role("button", name="Compare").click()
        page.settle()
        assert page.get_by_role("cell", name="changed").count() == 1
        page.get_by_role("button", name="hotel", exact=True).click()
        page.settle()
        marked = [page.locator(mark).last.text_content().strip() for mark in ("del", "ins")]
        assert marked == ["removed: 120", "added: 140"]
        pictured(page, "memory-versions")


def test_a_person_does_the_same_with_keys_alone(panel):
    with shown(panel) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.labels[0].textContent") == "Question"
        page.keyboard.type("taxi paid")
        page.keyboard.press("Enter")
        page.settle()
        assert panel.asked.text == "taxi paid" and len(panel.hits) == 5
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent").startswith("1. "):
                break
        page.keyboard.press("Enter")
        page.settle()
        page.keyboard.press("n")
        page.settle()
        assert page.get_by_role("group", name="passage 2").count() == 1
        page.keyboard.press("p")
        page.settle()
        page.keyboard.press("c")
        page.settle()
        assert page.get_by_role("group", name="passage 1").count() == 0


def test_on_a_narrow_dark_screen_hostile_texts_stay_texts_and_pages_lead_on(panel):
    with shown(panel, width=360, scheme="dark") as page:
        page.get_by_label("Question").fill(f"taxi {HOSTILE}")
        page.keyboard.press("Enter")
        page.settle()
        number = panel.hits.sources.index("odd") + 1
        page.get_by_role("button", name=f"{number}. Odd <b>title</b>").click()
        page.settle()
        assert page.evaluate(FOREIGN) == []
        assert page.get_by_role("group", name=f"passage {number}").locator(
            ".wb-marked"
        ).first.text_content() == (f"A taxi {HOSTILE}.")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        pictured(page, "memory-browser-narrow-dark")
        page.get_by_role("button", name="List").click()
        page.settle()
        page.get_by_role("button", name="next page").click()
        page.settle()
        assert page.get_by_text(re.compile(r"^21 to (\d+) of \1$")).count() == 1
        assert page.evaluate(FOREIGN) == [] and page.evaluate("document.documentElement.scrollWidth") == 360
        pictured(page, "memory-list-narrow-dark")
