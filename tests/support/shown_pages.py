"""Pages in a real browser, on a phone and on a desk, light and dark."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: The browser that the tests of the module share, if one is started.
_OPEN: list[Browser] = []
#: The marks of a module whose tests show pages.
SHOWN = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_browser"),
    pytest.mark.skipif(
        CHROMIUM is None, reason="no browser: apt-get install -y --no-install-recommends chromium"
    ),
]


@contextmanager
def browser():
    """A browser without a window: that of the module, without a page of another test, or a new one."""
    if not _OPEN:
        with _started() as started:
            yield started
        return
    try:
        yield _OPEN[-1]
    finally:
        for context in _OPEN[-1].contexts:  # each page has cookies and a storage of its own
            context.close()


@pytest.fixture(scope="module")
def one_browser():
    """One browser for the tests of a module: to start one takes two seconds of CPU."""
    with _started() as started:
        _OPEN.append(started)
        yield
        _OPEN.remove(started)


@contextmanager
def _started():
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
