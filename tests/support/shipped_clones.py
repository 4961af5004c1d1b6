"""Clones of what is committed, made once for all workers: as it is, and with the results of its pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
from clones import Clone
from made_once import made_once


@pytest.fixture(scope="session")
def head(tmp_path_factory) -> Clone:
    """A clone of HEAD that no test changes."""
    return Clone.at(made_once(tmp_path_factory, "head", Clone.of_head))


@pytest.fixture(scope="session")
def shipped(head, tmp_path_factory) -> Clone:
    """The repository that ships, reproduced without a network; no test changes it.

    What `make repro` has made in this checkout, as in CI, is taken from its cache; the rest is made here.
    """

    def make(folder: Path) -> None:
        clone = head.copied(folder)
        if clone.took_cache():
            clone.run("dvc", "checkout", code=None)  # some outputs may be missing
        clone.run("dvc", "repro", network=False)

    return Clone.at(made_once(tmp_path_factory, "shipped", make))


@pytest.fixture
def fresh_clone(head, tmp_path) -> Clone:
    """A clone of HEAD with an empty home and the running environment as its `.venv`."""
    return head.copied(tmp_path)


@pytest.fixture
def shipped_clone(shipped, tmp_path) -> Clone:
    """A copy of `shipped` for one test."""
    return shipped.copied(tmp_path)
