from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import files, registry, retrieval
from workbench.errors import ConfigError
from workbench.ports import Budget
from workbench.retrieval import Retention
from workbench.retrieval.spec import Index
from workbench.workspace.save import save

ROOT = Path(__file__).resolve().parents[2]
KNOWLEDGE = """description: Notes.
source: data/shop
chunking: {kind: sentences, size: 2}
embedding: wordllama-256
candidates: 20
"""
EPISODIC = """description: What happened.
kind: episodic
embedding: wordllama-256
candidates: 20
"""


def read(tmp_path, text):
    path = tmp_path / "1.yaml"
    path.write_text(text)
    found = registry.Version(
        kind="memory", name="shop", number=1, path=path, digest=files.digest(text.encode())
    )
    return retrieval.read_spec(found)


def test_the_defaults_of_a_spec_are_safe_and_old_versions_keep_their_meaning(tmp_path):
    spec = read(tmp_path, KNOWLEDGE)
    assert (spec.kind, spec.stale, spec.mode, spec.exact) == (
        "knowledge",
        "flag",
        "hybrid",
        False,
    )
    assert (spec.retention, spec.budget, spec.keep_versions) == ((), Budget(), 10)
    assert spec.index == Index(ef=512, ef_construction=128, max_connections=32, flat_cutoff=40_000)
    for version in (1, 2):
        assert retrieval.load_spec(ROOT, f"handbook@{version}").source == "data/handbook"


def test_every_key_is_read_as_it_is_written(tmp_path):
    spec = read(
        tmp_path,
        EPISODIC
        + "retention: [{keep_days: 30}, {kind: fact, classification: 2, keep_days: 7}]\nstale: refuse\n"
        + "budget: {items: 100, tokens: 5000}\nkeep_versions: 3\nindex: {ef: 64}\nrerank: null\n"
        + "mode: vector\nexact: true\n",
    )
    assert spec.retention == (
        Retention(keep_days=30), Retention(kind="fact", classification=2, keep_days=7),
    )  # fmt: skip
    assert (spec.stale, spec.budget, spec.keep_versions) == ("refuse", Budget(items=100, tokens=5000), 3)
    assert (spec.index.ef, spec.index.flat_cutoff) == (64, 40_000)
    assert (spec.mode, spec.exact, spec.source) == ("vector", True, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (KNOWLEDGE + "rerank: lexical\n", "rerank"),
        (KNOWLEDGE + "stail: drop\n", r"unknown key 'stail' \(nearest: 'stale'"),
        (KNOWLEDGE + "index: {eff: 4}\n", r"unknown key 'index.eff' \(nearest: 'ef'"),
        (EPISODIC + "budget: {item: 4}\n", r"unknown key 'budget.item' \(nearest: 'items'"),
        (
            EPISODIC + "retention: [{keep_day: 4}]\n",
            r"unknown key 'retention.0.keep_day' \(nearest: 'keep_days'",
        ),
        (KNOWLEDGE + "stale: ignore\n", "stale: .*'flag', 'drop' or 'refuse'"),
        (KNOWLEDGE + "mode: words_only\n", "mode: .*'hybrid', 'vector' or 'words'"),
        (KNOWLEDGE + "kind: episode\n", "kind: .*'knowledge' or 'episodic'"),
        (KNOWLEDGE + "exact: 1\n", "exact"),
        (KNOWLEDGE.replace("source: data/shop\n", ""), "missing key 'source'"),
        (KNOWLEDGE.replace("chunking: {kind: sentences, size: 2}\n", ""), "missing key 'chunking'"),
        (KNOWLEDGE.replace("source: data/shop\n", 'source: ""\n'), "source is empty"),
        (KNOWLEDGE + "budget: {items: 3}\n", "budget is for kind: episodic"),
        (EPISODIC + "source: data/shop\n", "source and chunking go together"),
        (EPISODIC + "budget: {items: 0}\n", "budget.items must be 1 or more, found 0"),
        (KNOWLEDGE + "keep_versions: 0\n", "keep_versions must be 1 or more"),
        (KNOWLEDGE + "index: {ef: 0}\n", "index.ef must be 1 or more"),
        (EPISODIC + "retention: [{keep_days: 0}]\n", "retention.0: keep_days must be 1 to"),
        (EPISODIC + "retention: [{keep_days: 1, classification: 10}]\n", "classification must be 0 to 9"),
        (EPISODIC + "retention: [{keep_days: 1}, {keep_days: 2}]\n", "retention.1: is for the same items as"),
    ],
)
def test_a_spec_that_breaks_a_rule_is_refused_by_key(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, text)


def test_a_spec_of_an_episodic_memory_can_be_saved(tmp_repo):
    path = tmp_repo / "pipelines/memories/talks/1.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(EPISODIC + "retention: [{keep_days: 30}]\n")
    assert str(save(tmp_repo, "memory/talks", reason="to remember")) == "talks@1"
    assert retrieval.load_spec(tmp_repo, "talks").keep_days("episode", 0) == 30


kinds = st.sampled_from([None, "document", "episode", "fact"])
levels = st.sampled_from([None, 0, 1])
rules = st.builds(Retention, keep_days=st.integers(1, 99), kind=kinds, classification=levels)


@given(
    given_rules=st.lists(rules, unique_by=lambda one: (one.kind, one.classification)),
    kind=kinds.filter(bool), level=st.sampled_from([0, 1]),
)  # fmt: skip
def test_the_most_specific_retention_rule_applies_then_the_shorter(given_rules, kind, level):
    spec = retrieval.MemorySpec(
        name="m", version=1, digest="d", description="", source="", embedding="e", candidates=1,
        chunking=retrieval.Chunking(kind="whole"), retention=tuple(given_rules),
    )  # fmt: skip
    fits = {
        number: [
            rule.keep_days
            for rule in given_rules
            if rule.kind in {None, kind} and rule.classification in {None, level}
            and 2 - [rule.kind, rule.classification].count(None) == number
        ]
        for number in (2, 1, 0)
    }  # fmt: skip
    wanted = next((min(days) for days in fits.values() if days), None)
    assert spec.keep_days(kind, level) == wanted
