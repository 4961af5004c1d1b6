"""From documents without questions to a use case: `init` keeps what says that drafts are synthetic."""

from __future__ import annotations

import pytest
from small_use_case import small_repository

from workbench import config, retrieval
from workbench.diagnostics.check import check_all
from workbench.experiments.dataset import Dataset
from workbench.experiments.suggested import suggest
from workbench.retrieval.reading import SourceReading
from workbench.scaffold.init import init
from workbench.scaffold.order import InitOrder

DOCUMENTS = {
    "prices.md": "# Prices\n\nA city bicycle costs 18 euros a day. An electric bicycle costs 39 euros.",
    "repairs.txt": "A full service of a bicycle takes 3 working days in our workshop.",
    "rooms.html": "<table><tr><td>hall</td><td>seats</td></tr><tr><td>Elm</td><td>36 desks</td></tr></table>",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in DOCUMENTS.items():
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "docs" / name).write_text(text)
    return tmp_path


def test_a_use_case_made_of_drafts_says_that_its_cases_are_synthetic(folder):
    root = small_repository(folder / "repository")
    pages = retrieval.load(SourceReading(uri=str(folder / "docs"), tenants="rental"), root=root)
    drafts = suggest(pages, n=20, seed=7, author="ann")
    assert {answer for row in drafts.rows for answer in row["answers"]} == {
        "18 euros", "39 euros", "3 working days", "36 desks"
    }  # fmt: skip
    first = drafts.ids[0]
    drafts.accept(*drafts.ids).edit(first, question="What do I pay for it?").save(folder / "q.jsonl")
    order = InitOrder(
        name="claims", docs=folder / "docs", questions=folder / "q.jsonl", tenant="rental", owner="tests"
    )
    init(root, order)
    found = check_all(root)
    assert found.passed, str(found)
    made = Dataset.of_file(root, config.load_params(root).use_cases["claims"].dataset)
    assert len(made) == 4
    for item in made:
        assert item.provenance["synthetic"] is True
        named = (item.provenance["generator"], item.provenance["generator_version"], item.provenance["seed"])
        assert named == ("cases", 1, 7)
        assert item.provenance.get("edited") is (True if item.id == first else None)
