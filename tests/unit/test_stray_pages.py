"""Nothing that people put beside the pages is left out without a word, however deep its folder is."""

from __future__ import annotations

import pytest
from memory_bench import write_page

from workbench import retrieval
from workbench.errors import ConfigError
from workbench.retrieval.documents import digests_now

STRAY = (
    "a.md", "a.MD", "a.txt", "a.pdf", "A.PDF", "a.docx", "a.doc", "a.html", "a.htm", "a.rst", "a.odt",
    "a.rtf", "a.markdown",
)  # fmt: skip


@pytest.mark.parametrize("name", STRAY)
@pytest.mark.parametrize("place", ["", "acme/", "acme/notes/"])
def test_a_document_that_is_no_page_or_in_no_tenants_folder_is_named(tmp_path, name, place):
    folder = write_page(tmp_path, "acme/taxi.md")
    (folder / place).mkdir(exist_ok=True)
    (folder / place / name).write_text("A taxi is paid.")
    with pytest.raises(ConfigError, match=name):
        retrieval.load(folder)


@pytest.mark.parametrize("name", ["questions.jsonl", "cases.parquet", "LICENSE", ".DS_Store", "logo.png"])
def test_other_files_may_lie_beside_the_tenants(tmp_path, name):
    folder = write_page(tmp_path, "acme/taxi.md")
    (folder / name).write_text("{}")
    assert [page.source for page in retrieval.load(folder)] == ["taxi"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("version: 1\naccess", f"version: {'9' * 100}\naccess", "version must be a whole number"),
        ("seed: 0", f"seed: -{'9' * 30}", "seed must be a whole number"),
        ("[everyone]", "[' everyone']", "access must be a list of groups"),
        ("[everyone]", "['principal:bob ']", "access must be a list of groups"),
        ("[everyone]", '[" principal:bob"]', "access must be a list of groups"),
        ("seed: 0", "seed: 0\nreplaces: taxi", "replaces 'taxi', which is itself"),
    ],
)  # fmt: skip
def test_front_matter_that_no_store_or_principal_could_use(tmp_path, before, after, said):
    folder = write_page(tmp_path, "acme/taxi.md")
    page = folder / "acme/taxi.md"
    text = page.read_text()
    assert before in text
    page.write_text(text.replace(before, after))
    with pytest.raises(ConfigError, match=said):
        retrieval.load(folder)


def test_folders_within_folders_without_end_are_one_error_and_no_recursion(tmp_path):
    folder = write_page(tmp_path, "acme/taxi.md")
    folder.joinpath("acme", *["s"] * 400).mkdir(parents=True)
    with pytest.raises(ConfigError, match="deeper than 100 folders"):
        retrieval.load(folder)
    assert list(digests_now(str(folder), tenant="acme")) == ["taxi"]
