from __future__ import annotations

import functools
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from memory_bench import BODY, Bench, write_page

from workbench import files, retrieval
from workbench.errors import ConfigError, NotFoundError
from workbench.retrieval import Chunking, chunks
from workbench.retrieval.documents import digests_now


@pytest.fixture
def folder(tmp_path):
    return functools.partial(write_page, tmp_path)


def test_a_page_is_read_with_its_front_matter(folder):
    (page,) = retrieval.load(folder(title="Taxis", access="[everyone, finance]", expires="2027-01-01"))
    assert (page.source, page.title, page.tenant, page.text) == ("taxi", "Taxis", "acme", BODY)
    assert (page.access, page.valid_from, page.expires) == (
        ("everyone", "finance"), "2025-01-01", "2027-01-01",
    )  # fmt: skip


def test_a_page_may_have_a_classification_and_a_subject(folder):
    (page,) = retrieval.load(folder(classification="2", subject="ann"))
    assert (page.classification, page.subject) == (2, "ann")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tenant": "globex"}, r"taxi\.md:3: tenant is 'globex', but the file is in the folder of 'acme'"),
        ({"version": "one"}, r"taxi\.md:4: version must be a whole number, found 'one'"),
        ({"valid_from": "soon"}, r"taxi\.md:6: valid_from must be a day"),
        ({"owner": None}, r"missing key 'owner'"),
        ({"owner": "me\nmood: good"}, r"taxi\.md:9: unknown key 'mood'"),
        ({"expires": "2024-01-01"}, r"taxi\.md:7: the page expires before it is valid"),
        ({"body": " "}, "the page has no text"),
        ({"name": "acme/Taxi Fares.md"}, "is not a page"),
        ({"name": "stray.md"}, "lies in no tenant's folder"),
        ({"access": "[everyone, 'principal:ann']"}, r"taxi\.md:5: access must be .* of no single principal"),
        ({"classification": "10"}, r"taxi\.md:13: classification must be a whole number from 0 to 9"),
        ({"subject": "''"}, r"taxi\.md:13: subject must be a text"),
    ],
)
def test_a_page_that_breaks_a_rule_is_named_by_file_and_line(folder, change, said):
    with pytest.raises(ConfigError, match=said):
        retrieval.load(folder(**change))


def test_a_second_page_of_a_name_and_a_replaced_page_that_is_not_there_are_refused(folder):
    folder("acme/taxi.md")
    with pytest.raises(ConfigError, match="has a page 'taxi' already"):
        retrieval.load(folder("acme/old/taxi.md"))
    pages = folder("globex/hotel.md", tenant="globex", seed="0\nreplaces: hotels")
    (pages / "acme/old/taxi.md").unlink()
    with pytest.raises(ConfigError, match="replaces 'hotels', which is no page"):
        retrieval.load(pages)


@given(
    st.dictionaries(
        st.sampled_from(["acme/taxi.md", "acme/old/hotel.md", "acme/.trash/taxi.md", "acme/.trash/ship.md"]),
        st.sampled_from(["A taxi is paid.", "A hotel is paid."]),
        min_size=1,
    )
)
def test_the_digests_of_now_are_those_of_the_pages_that_would_be_read(tmp_path_factory, bodies):
    root = tmp_path_factory.mktemp("now")
    write_page(root, "globex/other.md", tenant="globex")
    for name, body in bodies.items():
        folder = write_page(root, name, body=body)
    read = {page.source: page.digest for page in retrieval.load(folder) if page.tenant == "acme"}
    assert digests_now("pages", tenant="acme", root=root) == read
    for source in ("taxi", "hotel", "ship", "other", "../globex/other"):
        found = digests_now("pages", tenant="acme", sources={source}, root=root)
        assert found.get(source) == read.get(source)


def test_a_source_may_be_the_file_of_one_page_of_one_tenant(folder, tmp_path):
    folder("acme/train.md")
    (page,) = retrieval.load(folder("acme/taxi.md") / "acme/taxi.md")
    where = {"uri": "pages/acme/taxi.md", "root": tmp_path}
    assert digests_now(**where, tenant="acme") == {"taxi": page.digest}
    assert digests_now(**where, tenant="globex") == {}
    assert digests_now(**where, tenant="acme", sources={"train"}) == {}


def test_a_folder_that_is_missing_or_empty_says_what_to_do(tmp_path):
    with pytest.raises(NotFoundError, match="there is nothing at"):
        retrieval.load(tmp_path / "none")
    with pytest.raises(NotFoundError, match="there are no pages") as caught:
        retrieval.load(tmp_path)
    assert "title:" in caught.value.hint


def test_the_language_reference_is_a_corpus_of_its_own_tenant():
    pages = retrieval.load("pydoc:topics")
    assert len(pages) > 60 and {page.tenant for page in pages} == {"python"}
    assert next(page for page in pages if page.source == "assert").text.startswith('The "assert" statement')


words = st.lists(
    st.sampled_from(["Taxi.", "hotel", "Room", "is", "paid!", "\n\n", "46", "x" * 50]), max_size=60
)


@given(words=words, kind=st.sampled_from(["whole", "sentences", "paragraphs"]))
@example(words=["Taxi."] * 6 + ["x" * 50], kind="paragraphs")  # every break is in the first half
@example(words=["", "x" * 80], kind="paragraphs")  # indented, and whole without its indentation
@example(words=["a\t" + "x" * 79], kind="paragraphs")
def test_no_word_is_lost_or_repeated_by_chunking(words, kind):
    numbers = {"whole": {}, "sentences": {"size": 2}, "paragraphs": {"min_chars": 20, "max_chars": 80}}[kind]
    text = " ".join(words)
    made = chunks(text, Chunking(kind=kind, **numbers))
    assert " ".join(made).split() == text.split()
    assert all(made)
    if kind == "paragraphs":
        assert all(len(chunk) <= 80 for chunk in made)


def test_only_a_word_longer_than_a_chunk_is_cut():
    short = Chunking(kind="paragraphs", min_chars=10, max_chars=60)
    assert chunks("Taxi. " * 3 + "x" * 50, short) == ["Taxi. Taxi. Taxi.", "x" * 50]
    assert chunks("Taxi " + "x" * 70, short) == ["Taxi", "x" * 60, "x" * 10]
    long = "One line.\n" + "word " * 9 + "word"
    assert chunks(long + " word end", short) == [long, "word end"]


@pytest.mark.parametrize(
    ("numbers", "said"),
    [({}, "takes size"), ({"size": 0}, "1 or more"), ({"size": 2, "min_chars": 3}, "takes size")],
)
def test_chunking_takes_exactly_the_numbers_of_its_kind(numbers, said):
    with pytest.raises(ConfigError, match=said):
        Chunking(kind="sentences", **numbers).check("spec")


def test_adding_again_embeds_nothing_and_leaves_other_tenants_out(folder, tmp_path):
    folder("globex/taxi.md", tenant="globex")
    bench = Bench(tmp_path, folder())
    pages = retrieval.load(tmp_path / "pages")
    first, again = bench.handle_of().add(pages), bench.handle_of().add(pages)
    assert (first.added, first.other_tenants, again.added, again.unchanged) == (2, 1, 0, 2)
    assert bench.calls.count("model.embed") == 1
    assert bench.handle_of().count() == 2 and bench.handle_of("globex").count() == 0
    with pytest.raises(ConfigError, match="none of the 1 pages belongs to tenant 'globex'"):
        bench.handle_of("globex").add([page for page in pages if page.tenant == "acme"])


def test_a_changed_page_replaces_its_chunks_and_a_hit_of_the_old_one_is_stale(folder, tmp_path):
    bench = Bench(tmp_path, folder())
    handle = bench.handle_of()
    handle.add(retrieval.load(tmp_path / "pages"))
    assert [hit.stale for hit in handle.search("taxis", k=1)] == [False]
    folder(body="Taxis are not paid any more.")
    assert [hit.stale for hit in handle.search("taxis", k=1)] == [True]
    changed = handle.add(retrieval.load(tmp_path / "pages"))
    assert (changed.added, changed.replaced) == (1, 2)
    (hit,) = handle.search("taxis")
    assert (hit.stale, hit.text) == (False, "Taxis are not paid any more.")
    assert handle.forget(ids=[hit.id]).items == 1 and handle.search("taxis") == []


def test_access_and_validity_depend_on_the_principal_and_the_day(folder, tmp_path):
    bench = Bench(tmp_path, folder(access="[finance]", expires="2026-06-01"))
    bench.handle_of().add(retrieval.load(tmp_path / "pages"))
    assert not bench.handle_of().search("taxis")
    finance = bench.handle_of(groups=("finance",))
    assert finance.search("taxis").sources == ("taxi",)
    assert not finance.search("taxis", as_of="2026-06-01") and not finance.search("taxis", as_of="2024-12-31")


def test_a_pinned_memory_that_lacks_a_page_says_what_to_run(folder, tmp_path):
    bench = Bench(tmp_path, folder())
    with pytest.raises(ConfigError, match="lacks 2 of 2 chunks") as caught:
        bench.handle_of(pinned="f" * 64).add(retrieval.load(tmp_path / "pages"))
    assert caught.value.hint == "dvc repro"


def test_two_pages_of_one_name_are_refused(folder, tmp_path):
    (page,) = retrieval.load(folder())
    with pytest.raises(ConfigError, match="2 pages have the source 'taxi'"):
        Bench(tmp_path, tmp_path).handle_of().add([page, replace(page, text="other")])


def test_an_unchanged_source_is_read_once_and_a_change_of_the_same_size_is_seen(tmp_path, monkeypatch):
    page = tmp_path / "pages" / "acme" / "taxi.md"
    page.parent.mkdir(parents=True)
    page.write_text("one")
    os.utime(page, ns=(10**18, 10**18))
    young, read = files.reading.YOUNG_NS, []
    monkeypatch.setattr(files.reading, "YOUNG_NS", -1)
    monkeypatch.setattr(files, "read_text", lambda path: read.append(path) or Path(path).read_text())

    def digest():
        return digests_now("pages", tenant="acme", root=tmp_path)["taxi"]

    assert digest() == digest() == files.digest(b"one")
    assert read == [page]
    page.write_text("two")
    os.utime(page, ns=(10**18 + 1, 10**18 + 1))
    assert digest() == digest() == files.digest(b"two")
    assert read == [page, page]
    monkeypatch.setattr(files.reading, "YOUNG_NS", young)
    page.write_text("six")  # young: read each time, since the next write may have the same time
    assert (digest(), digest(), len(read)) == (files.digest(b"six"), files.digest(b"six"), 4)
