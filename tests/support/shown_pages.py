"""Pages in a real browser, on a phone and on a desk, light and dark."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: The marks of a module whose tests show pages.
SHOWN = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no browser: apt-get install -y --no-install-recommends chromium"
    ),
]


@contextmanager
def browser():
    """A browser without a window."""
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
