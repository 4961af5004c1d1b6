"""A panel in a real browser without Jupyter: the page's module is ours, and its messages reach the panel."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path

from shown_pages import browser

import workbench

WIDGETS = Path(workbench.__file__).parent / "widgets"
#: A model as anywidget gives one to a module, whose messages go to Python.
MODEL = """async ([module, css, content]) => {
    const style = document.createElement('style');
    style.textContent = css;
    document.head.append(style);
    const url = URL.createObjectURL(new Blob([module], {type: 'text/javascript'}));
    const {default: front} = await import(url);
    const listeners = [];
    const model = {
        content,
        get: () => model.content,
        send: message => window.receive(JSON.stringify(message)),
        on: (_, listener) => listeners.push(listener),
        off: () => {},
    };
    window.update = content => { model.content = content; listeners.forEach(listener => listener()); };
    front.render({model, el: document.body});
}"""
#: A page that is dark where the browser is, as JupyterLab's themes are.
PAGE = """<!doctype html><html><head><meta name="color-scheme" content="light dark"></head>
<body></body></html>"""
#: Elements that no view may bring about, and the mark that a script of a text would leave.
FOREIGN_IN = """root => [
    ...root.querySelectorAll('script, iframe, object, embed, svg, style, link, form, a'),
].map(found => found.outerHTML).concat(window.injected ? ['a script ran'] : [])"""
FOREIGN = f"() => ({FOREIGN_IN})(document.body)"


class _Front:
    """What a panel sends its views to: the page, which shows the last one when the test settles.

    A view may come from another thread or from a task of the loop, where the page cannot be called.
    """

    def __init__(self, page):
        self.page, self.last = page, None

    def show(self, content):
        self.last = content

    def catch_up(self):
        """Show the last view, if the page does not show it yet."""
        content, self.last = self.last, None
        if content is not None:
            self.page.evaluate("content => window.update(JSON.parse(content))", json.dumps(content))


@contextmanager
def shown(panel, *, width=1000, scheme="light"):
    """The page of a panel, in a headless Chromium; errors of the page fail the test.

    `page.settle()` shows what the panel has become, `page.show(panel)` another panel from its beginning.
    """
    errors = []
    with browser() as started:
        page = started.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("pageerror", lambda error: errors.append(str(error)))
        waiting = []
        page.expose_function("receive", lambda message: waiting.append(json.loads(message)))
        files = [(WIDGETS / name).read_text(encoding="utf-8") for name in ("front.js", "front.css")]

        def show(panel):
            page.set_content(PAGE)
            page.evaluate(MODEL, [*files, panel.to_json()])
            panel._front = _Front(page)
            page.settle = lambda: _deliver(page, panel, waiting)

        page.show = show
        show(panel)
        yield page
    assert not errors, errors


def _deliver(page, panel, waiting):
    """Give the panel what the page has sent, until it sends nothing more, and show its last view."""
    page.wait_for_timeout(50)
    while waiting:
        panel.receive(waiting.pop(0))
        panel._front.catch_up()
        page.wait_for_timeout(50)
    panel._front.catch_up()


def pictured(page, name):
    """Keep a screenshot in the folder that WORKBENCH_SCREENSHOTS names, if it names one."""
    if folder := os.environ.get("WORKBENCH_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
