"""Cases suggested from a memory: its active documents, as the principal sees them, by handle and command."""

from __future__ import annotations

import asyncio
import json

import pytest
from memory_bench import Bench, write_page
from test_cli_memory import bench, run  # noqa: F401

from workbench import retrieval
from workbench.errors import ConfigError, NotFoundError
from workbench.experiments.dataset import Dataset

HOLIDAY = "Full-time employees of Acme have 29 days of annual holiday. Everyone likes it."
DESK = "Acme pays a grant of 150 euros for a desk at home."


def of_pages(tmp_path, **pages):
    """A bench with an ingested page for each name: its body, or its body and front matter."""
    for name, body in pages.items():
        text, front = body if isinstance(body, tuple) else (body, {})
        folder = write_page(tmp_path, f"acme/{name}.md", body=text, title=name, **front)
    made = Bench(tmp_path, folder)
    made.handle_of().ingest()
    return made


@pytest.mark.parametrize("chunking", ["whole", "sentences"])
def test_the_drafts_are_of_the_documents_whole_pages_however_they_are_cut(tmp_path, chunking):
    made = of_pages(tmp_path, holiday=HOLIDAY, desk=DESK)
    size = {"size": 1} if chunking == "sentences" else {}
    made = Bench(tmp_path, tmp_path / "pages", chunking=retrieval.Chunking(kind=chunking, **size))
    handle = made.handle_of()
    handle.ingest()
    drafts = handle.suggest_cases(2)
    assert {(row["page"], *row["answers"]) for row in drafts.rows} == {
        ("holiday", "29 days"), ("desk", "150 euros")
    }  # fmt: skip
    assert {row["tenant"] for row in drafts.rows} == {"acme"}
    again = asyncio.run(handle.suggest_cases_async(2, seed=7))
    assert again.rows == drafts.rows
    drafts.edit(drafts.ids[0], question="How much?")
    assert drafts.rows[0]["author"] == "p"  # the principal


def test_what_the_principal_may_not_see_or_is_not_valid_today_is_not_drafted_from(tmp_path):
    made = of_pages(
        tmp_path,
        holiday=HOLIDAY,
        desk=(DESK, {"access": "[people]"}),
        old=("The old tariff of the shop costs 15 euros.", {"expires": "2025-12-31"}),
        future=("The next tariff of the shop costs 25 euros.", {"valid_from": "2026-01-02"}),
    )
    assert {row["page"] for row in made.handle_of().suggest_cases().rows} == {"holiday"}
    people = made.handle_of(groups=("everyone", "people"))
    assert {row["page"] for row in people.suggest_cases().rows} == {"holiday", "desk"}
    later = made.handle_of(as_of="2026-01-02").suggest_cases()
    assert {row["page"] for row in later.rows} == {"holiday", "future"}


def test_what_was_remembered_is_no_document_and_a_handle_at_a_version_drafts_from_it(tmp_path):
    made = of_pages(tmp_path, holiday=HOLIDAY)
    write_page(tmp_path, "acme/desk.md", body=DESK, title="desk")
    made.handle_of().ingest()
    assert {row["page"] for row in made.handle_of().suggest_cases().rows} == {"holiday", "desk"}
    assert {row["page"] for row in made.handle_of().at(1).suggest_cases().rows} == {"holiday"}
    notes = Bench(tmp_path / "other", kind="episodic")
    notes.handle_of().remember("The tariff of the shop costs 15 euros.")
    with pytest.raises(NotFoundError, match="no document") as caught:
        notes.handle_of().suggest_cases()
    assert "workbench memory ingest" in caught.value.hint


@pytest.mark.parametrize("bad", [{"n": 0}, {"n": "5"}, {"seed": -3}])
def test_a_bad_number_or_seed_is_named(tmp_path, bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        of_pages(tmp_path, holiday=HOLIDAY).handle_of().suggest_cases(**bad)


# -- the command ----------------------------------------------------------------------------


@pytest.fixture
def pages(bench, tmp_path):  # noqa: F811
    write_page(tmp_path, "acme/holiday.md", body=HOLIDAY, title="holiday")
    write_page(tmp_path, "globex/till.md", body="Every till starts with 90 euros in it.", tenant="globex")
    run("ingest")
    return bench


def test_the_command_drafts_for_every_tenant_and_writes_the_rows_of_a_dataset(pages, tmp_path):
    out = tmp_path / "drafts.jsonl"
    said = run("suggest", "-n", 2, "--out", out)
    assert "0 accepted, 0 rejected, 2 undecided" in said and "Nobody has read" in said
    assert f"workbench init NAME --docs {tmp_path / 'pages'} --questions {out}" in said
    cases = Dataset.from_file(out)
    assert cases.tenants == ("acme", "globex") and len(cases) == 2
    assert all(case.provenance["generator"] == "cases" for case in cases)
    rows = json.loads(run("suggest", "m@1", "-n", 2, "--json"))["rows"]
    assert [row["id"] for row in rows] == ["acme-s7-001", "globex-s7-001"]
    only = json.loads(run("suggest", "--tenant", "globex", "--json"))
    assert [row["tenant"] for row in only["rows"]] == ["globex"]
    assert only["wanted"] == 20 and "1 of the possible questions" in only["reasons"][0]


def test_the_command_without_a_file_shows_the_drafts_and_how_to_write_one(pages):
    said = run("suggest", "-n", 1)
    assert "29 days" in said and "next: workbench memory suggest" in said and "--out" in said


def test_the_command_replaces_no_file_and_writes_none_without_a_draft(bench, tmp_path):  # noqa: F811
    out = tmp_path / "drafts.jsonl"
    run("ingest")
    with pytest.raises(ConfigError, match="no case can be drafted: 0 of the possible"):
        run("suggest", "--out", out)
    assert not out.exists()
    out.write_text("mine\n")
    with pytest.raises(ConfigError, match="exists"):
        run("suggest", "--out", out)
    assert out.read_text() == "mine\n"
    with pytest.raises(ConfigError, match="--out"):
        run("suggest", "--out", tmp_path / "none" / "x.jsonl")
    with pytest.raises(ConfigError, match="twice") as caught:
        run("suggest", "m@1", "--memory", "m@1")
    assert "workbench memory suggest m@1" in caught.value.hint
