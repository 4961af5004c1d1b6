"""The shipped data holds what it was made to hold: two tenants, versions, access, expiry, near-duplicates."""

from __future__ import annotations

import datetime as dt
import difflib
import itertools
from collections import Counter
from pathlib import Path

import orjson
import polars as pl
import pytest
from ruamel.yaml import YAML

from workbench import config, retrieval
from workbench.experiments.dataset import Dataset
from workbench.experiments.scorers import normalise

ROOT = Path(__file__).resolve().parents[2]
HANDBOOK = ROOT / "data" / "handbook"
FILES = sorted(HANDBOOK.rglob("*.md"))
PAGES = retrieval.load(HANDBOOK)
QUESTIONS = Dataset.from_file(HANDBOOK / "questions.jsonl")
USE_CASE = config.load_params(ROOT).use_cases["answers"]
AS_OF = dt.date.fromisoformat(USE_CASE.as_of)
TENANTS = ("acme", "globex")
#: The share of its words that a page has in common, in order, with another: all other pairs are below 0.2.
ALIKE = 0.7


def front_of(path: Path) -> dict:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8").split("---")[1])


FRONTS = {path: front_of(path) for path in FILES}


def rows_of(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        return pl.read_parquet(path).to_dicts()
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def in_force(front: dict) -> bool:
    return front["valid_from"] <= AS_OF and (front["expires"] is None or front["expires"] > AS_OF)


def says_where_it_is_from(row: dict) -> bool:
    whole = (row["generator_version"], row["seed"])
    return bool(row.get("author") or row.get("generator")) and all(type(value) is int for value in whole)


def test_there_are_forty_pages_or_more_over_two_tenants_of_different_business():
    counts = Counter(page.tenant for page in PAGES)
    assert set(counts) == set(TENANTS) == {path.parent.name for path in FILES}
    assert counts.total() == len(FILES) >= 40 and min(counts.values()) >= 20
    texts = {tenant: " ".join(page.text for page in PAGES if page.tenant == tenant) for tenant in TENANTS}
    assert "rope" in texts["acme"] and "wagon" in texts["globex"]
    assert "wagon" not in texts["acme"] and "rope" not in texts["globex"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.tenant}/{page.source}")
def test_a_page_is_short_and_plain_prose(page):
    assert 80 <= len(page.text.split()) <= 160
    assert not [line for line in page.text.splitlines() if line.startswith(("#", "-", "*", "|", "<"))]


@pytest.mark.parametrize("tenant", TENANTS)
def test_a_tenant_has_versions_expiry_access_lists_and_near_duplicates(tenant):
    fronts = {path.stem: front for path, front in FRONTS.items() if path.parent.name == tenant}
    replaced = [(slug, front["replaces"]) for slug, front in fronts.items() if "replaces" in front]
    assert len(replaced) == 3
    for new, old in replaced:
        assert fronts[new]["version"] > fronts[old]["version"]
        assert in_force(fronts[new]) and not in_force(fronts[old])
    expired = {slug for slug, front in fronts.items() if not in_force(front)}
    assert expired == {old for _, old in replaced}

    closed = {slug for slug, front in fronts.items() if front["access"] != ["everyone"]}
    assert len(closed) >= 3
    assert {group for slug in closed for group in fronts[slug]["access"]} <= set(USE_CASE.groups)

    own = [page for page in PAGES if page.tenant == tenant and page.source not in expired]
    words = {page.source: page.text.split() for page in own}
    alike = [
        pair
        for pair in itertools.combinations(words, 2)
        if difflib.SequenceMatcher(None, *map(words.get, pair), autojunk=False).ratio() >= ALIKE
    ]
    (twins,) = alike
    asked = {one.expected["page"] for one in QUESTIONS if one.tenant == tenant}
    assert asked >= set(twins), "a twin that nobody asks about cannot be mixed up"
    assert asked & closed, "a page that is not for everyone is asked about by one who may read it"


def test_there_are_a_hundred_and_fifty_questions_or_more_sixty_a_tenant():
    counts = Counter(one.tenant for one in QUESTIONS)
    assert set(counts) == set(TENANTS)
    assert counts.total() >= 150 and min(counts.values()) >= 60
    assert len({normalise(one.inputs["question"]) for one in QUESTIONS}) == len(QUESTIONS)


def test_the_page_of_a_question_is_its_tenants_in_force_and_holds_an_accepted_answer():
    texts = {(page.tenant, page.source): page.text for page in PAGES}
    fronts = {(path.parent.name, path.stem): front for path, front in FRONTS.items()}
    for one in QUESTIONS:
        place = (one.tenant, one.expected["page"])
        assert in_force(fronts[place]), one.id
        first = one.expected["answers"][0]
        assert first in texts[place], f"{one.id}: the first accepted answer stands verbatim in the page"


def test_no_answer_of_a_replaced_page_stands_in_the_version_before():
    texts = {(page.tenant, page.source): normalise(page.text) for page in PAGES}
    before = {
        (path.parent.name, path.stem): front["replaces"]
        for path, front in FRONTS.items()
        if "replaces" in front
    }
    asked = [one for one in QUESTIONS if (one.tenant, one.expected["page"]) in before]
    assert len(asked) >= 12
    for one in asked:
        old = texts[one.tenant, before[one.tenant, one.expected["page"]]]
        assert not [answer for answer in one.expected["answers"] if f" {normalise(answer)} " in f" {old} "]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_page_says_that_it_is_synthetic_and_where_it_is_from(path):
    assert FRONTS[path]["synthetic"] is True and says_where_it_is_from(FRONTS[path])


@pytest.mark.parametrize(
    ("path", "synthetic"),
    [
        *((path, True) for path in sorted((ROOT / "data" / "inbox").glob("*"))),
        (HANDBOOK / "questions.jsonl", True),
        (ROOT / "data" / "python-reference" / "questions.jsonl", False),  # of real text, and says so
    ],
    ids=lambda value: "/".join(value.parts[-2:]) if isinstance(value, Path) else None,
)
def test_a_row_says_whether_it_is_synthetic_and_where_it_is_from(path, synthetic):
    rows = rows_of(path)
    assert rows
    for row in rows:
        assert row["synthetic"] is synthetic and says_where_it_is_from(row), row


def test_the_reference_has_thirty_questions_on_topics_there_are():
    topics = {page.source for page in retrieval.load("pydoc:topics")}
    asked = Dataset.from_file(ROOT / "data" / "python-reference" / "questions.jsonl")
    assert len(asked) == 30 and asked.tenants == ("python",)
    assert {one.expected["page"] for one in asked} <= topics
