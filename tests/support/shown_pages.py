"""Pages in a real browser, on a phone and on a desk, light and dark."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: The marks of a module whose tests show pages.
SHOWN = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no browser: apt-get install -y --no-install-recommends chromium"
    ),
]


class SharedBrowser:
    """One browser for tests that follow each other: to start one takes a second of CPU or more."""

    def __init__(self) -> None:
        self._stack, self._started = ExitStack(), None

    def start(self) -> Browser:
        """The browser, started anew when none runs."""
        if self._started is None or not self._started.is_connected():
            self.end()
            self._started = self._stack.enter_context(_browser())
        return self._started

    def end(self) -> None:
        """End the browser. Until then this thread has a running event loop, that of playwright."""
        self._started = None
        self._stack.close()


SHARED = SharedBrowser()


@contextmanager
def browser():
    """A browser without a window and without a page of another test."""
    started = SHARED.start()
    try:
        yield started
    finally:
        for context in started.contexts:  # each page has cookies and a storage of its own
            context.close()


@contextmanager
def _browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--headless=new", "--no-sandbox", "--disable-gpu"]
        )
        try:
            yield started
        finally:
            started.close()


def tabs(opened, page, scheme, *widths):
    """The file `page` in a tab of each width, with the width."""
    for width in widths:
        tab = opened.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        tab.goto(page.as_uri())
        yield width, tab
