"""Copies of a judged small use case.

A test module asks for these fixtures with `pytest_plugins = ("judged_copies",)`.
"""

from __future__ import annotations

import shutil

import pytest
from endpoint import endpoint, speaking
from judged_small import judged
from small_use_case import small_repository

from workbench import layout
from workbench.pipeline import judge as stage
from workbench.pipeline import stages
from workbench.promotion import handed_over
from workbench.testing.fakes import FakeModel


def passage(payload) -> str:
    return payload["messages"][-1]["content"].split("Question:")[0].strip()


@pytest.fixture(scope="session")
def judged_small(tmp_path_factory):
    """A judged small use case, and what its honest kernel handed over."""
    with endpoint(speaking(FakeModel(passage))) as url:
        root = small_repository(tmp_path_factory.mktemp("judged") / "small", endpoint=url)

        def take(kernel, work, records, **options):
            shutil.copytree(kernel, root / "kept")
            shutil.copy(root / layout.JUDGE_JOURNALS / "small.answers.jsonl", root / "kept-journal.jsonl")
            handed_over.take(kernel, work, records, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(root)
            patch.setenv("OPENAI_API_KEY", "k-123")
            patch.setattr(stage, "take", take)
            assert [stages.main([name, "small"]) for name in ("prepare", "remember")] == [0, 0]
            judged(root)
        yield root


@pytest.fixture
def judged_copy(judged_small, tmp_path, monkeypatch):
    """A copy, in which the test stands."""
    root = shutil.copytree(judged_small, tmp_path / "small", symlinks=True)
    monkeypatch.chdir(root)
    monkeypatch.setenv("OPENAI_API_KEY", "k-123")
    return root
