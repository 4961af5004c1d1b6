"""For the tests in a browser: the browser that they share, and the repository that ships."""

from __future__ import annotations

import pytest
from shipped_clones import head, shipped, shipped_clone  # noqa: F401 - fixtures of this folder
from shown_pages import SHARED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """End the browser before a test of another folder, which has an event loop of its own."""
    try:
        return (yield)
    finally:
        if nextitem is None or nextitem.path.parent != item.path.parent:
            SHARED.end()
