"""The progress of a run in a real browser: its facts, and its stop by mouse and by keys."""

from __future__ import annotations

from panel_page import FOREIGN, pictured, shown
from shown_pages import SHOWN

from workbench.experiments.progress import BudgetRoom, Finished, Progress
from workbench.experiments.progress_display import ProgressPanel

pytestmark = SHOWN
HOSTILE = "<img src=x onerror='window.injected=1'><script>window.injected=1</script> \u202e שלום"


def of_a_long_run(title="answers · candidate", **clock):
    """A progress of 37 of 100 cases, and what its stop has called."""
    progress, stopped = Progress(100, title, metric="accuracy", **clock), []
    progress.stops_with(lambda: stopped.append(True))
    for n in range(37):
        error = {5: "timeout", 9: "InvalidOutputError", 20: "timeout"}.get(n, "")
        score = None if error else float(n % 4 > 0)
        progress.step(Finished(case=f"c{n}", error=error, spent_usd=0.011, score=score))
    progress.budget = BudgetRoom(name="experiments", limit_usd=5, left_usd=4.1)
    return progress, stopped


def test_a_person_reads_the_facts_and_stops_with_the_mouse():
    now = [0.0]
    progress, stopped = of_a_long_run(monotonic=lambda: now[0])
    now[0] = 74.0
    panel = ProgressPanel(progress)
    with shown(panel) as page:
        assert page.get_by_role("meter").get_attribute("aria-label") == "37 of 100 cases"
        for told in (
            "3 errors (2 timeout, 1 InvalidOutputError)",
            "4.1 of 5 USD left",
            "about 2 min 6 s left",
        ):
            assert page.get_by_text(told).count() == 1, told
        pictured(page, "progress")
        page.get_by_role("button", name="Stop and keep what is finished").click()
        page.settle()
        assert stopped == [True] and page.get_by_text("stopping: what is under way ends").count() == 1
        assert page.get_by_role("button").is_disabled()
        progress.kept = "kept as run 0123456789ab"
        progress.end()
        panel.refresh()
        page.settle()
        assert page.get_by_role("button").count() == 0
        assert page.get_by_text("stopped after 1 min 14 s, kept as run 0123456789ab").count() == 1


def test_a_person_stops_with_keys_alone():
    progress, stopped = of_a_long_run()
    with shown(ProgressPanel(progress)) as page:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.settle()
        assert stopped == [True]


def test_on_a_narrow_dark_screen_hostile_texts_stay_texts_and_an_interrupt_is_named():
    progress, _ = of_a_long_run(title=HOSTILE)
    progress.step(Finished(case="x", error=HOSTILE))
    with shown(ProgressPanel(progress, interrupted=True), width=360, scheme="dark") as page:
        assert page.evaluate(FOREIGN) == [] and page.get_by_role("button").count() == 0
        assert page.get_by_text("interrupt the kernel").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        pictured(page, "progress-narrow-dark")
