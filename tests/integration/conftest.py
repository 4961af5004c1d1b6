"""A clone of what is committed, as a newcomer gets it: empty home, nothing but the environment shared."""

from __future__ import annotations

import pytest
from clones import Clone


@pytest.fixture
def fresh_clone(tmp_path) -> Clone:
    """A clone of HEAD with an empty home and the running environment as its `.venv`."""
    return Clone.of_head(tmp_path)
