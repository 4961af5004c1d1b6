"""For the tests in a browser: the browser that they share, and a clone of HEAD."""

from __future__ import annotations

import pytest
from shipped_clones import head  # noqa: F401 - a fixture of this folder
from shown_pages import SHARED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """End the browser before a test of another folder, which has an event loop of its own."""
    try:
        return (yield)
    finally:
        if nextitem is None or nextitem.path.parent != item.path.parent:
            SHARED.end()
