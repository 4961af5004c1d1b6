"""Documents as people have them: their names, tenants, access rules, and those that cannot be read."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from made_documents import HTML, made_docx, made_ipynb, made_pdf
from memory_bench import Bench, Killed, write_page
from small_use_case import small_repository

import workbench as wb
from workbench import registry, retrieval
from workbench.errors import ConfigError, NotFoundError, WorkbenchError
from workbench.pipeline import stages
from workbench.retrieval import local_files, patterns, plain_documents
from workbench.retrieval.citations import check
from workbench.retrieval.documents import digests_now
from workbench.retrieval.formats import by_ending
from workbench.retrieval.page_names import slug
from workbench.retrieval.reading import SourceReading


def write(root, **documents):
    """Write files below `root/docs`, `__` in a name for `/` and `_` for `.`; return the folder."""
    for name, content in documents.items():
        path = root / "docs" / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root / "docs"


@pytest.fixture
def docs(tmp_path):
    """A folder of one document of each format, two of them in a folder."""
    return write(
        tmp_path, a_md="# Taxis\n\nTaxis are paid.", b_html=HTML, c_txt="Hotels are paid.",
        d_pdf=made_pdf("First page.", "Second page.", title="Report"), sub__e_docx=made_docx(),
        sub__f_ipynb=made_ipynb(), logo_png="\x89PNG",
    )  # fmt: skip


def test_a_folder_of_any_formats_is_read_for_one_tenant(docs):
    pages = wb.load(docs, tenant="acme")
    assert [(page.source, page.title) for page in pages] == [
        ("a.md", "Taxis"), ("b.html", "Travel & costs"), ("c.txt", "c"),
        ("d.pdf#page=1", "Report, p. 1"), ("d.pdf#page=2", "Report, p. 2"),
        ("sub/e.docx", "Travel"), ("sub/f.ipynb", "Fares"),
    ]  # fmt: skip
    assert {(page.tenant, page.access, page.version, page.expires) for page in pages} == {
        ("acme", ("everyone",), 1, None)
    }
    assert list(map(str, pages.left_out)) == ["1 × .png: not a document"]  # noqa: RUF001 - a count of files
    assert "Report, p. 1" in str(pages) and "not a document" in str(pages)


@pytest.mark.parametrize(
    ("uri", "sources"),
    [
        ("docs/a.md", ["a.md"]),
        ("docs/*.md", ["a.md"]),
        ("docs/**/*.[di]*", ["sub/e.docx", "sub/f.ipynb"]),
        ("docs/sub/?.docx", ["e.docx"]),
        ("docs/**", ["a.md", "b.html", "c.txt", "sub/e.docx", "sub/f.ipynb"]),
    ],
)
def test_a_file_and_a_pattern_are_sources_too(docs, uri, sources, monkeypatch):
    monkeypatch.chdir(docs.parent)
    (docs / "d.pdf").unlink()
    read = wb.load(uri, root=docs.parent, tenant="acme")
    assert [page.source for page in read] == sources
    assert digests_now(SourceReading(uri=uri, tenants="acme"), tenant="acme", root=docs.parent) == {
        page.source: page.digest for page in read
    }


def test_a_pattern_that_matches_nothing_or_is_invalid_is_named(docs):
    with pytest.raises(NotFoundError, match="matches"):
        wb.load(f"{docs}/*.docx", tenant="acme")
    with pytest.raises(ConfigError, match="pattern"):
        wb.load(f"{docs}/[z-a].md", tenant="acme")


def test_folders_name_tenants(tmp_path):
    folder = write(tmp_path, acme__a_txt="one", globex__sub__a_txt="two")
    pages = wb.load(folder, tenants="folders")
    assert [(page.tenant, page.source) for page in pages] == [("acme", "a.txt"), ("globex", "sub/a.txt")]
    assert [page.tenant for page in wb.load(folder / "acme/a.txt", tenants="folders")] == ["acme"]
    write(tmp_path, stray_txt="three")
    with pytest.raises(ConfigError, match=r"stray\.txt lies in no tenant's folder"):
        wb.load(folder, tenants="folders")
    (folder / "stray.txt").unlink()
    (folder / "acme").rename(folder / "Acme GmbH")
    with pytest.raises(ConfigError, match="'Acme GmbH' cannot name a tenant"):
        wb.load(folder, tenants="folders")


def test_without_a_tenant_pages_stay_strict(docs):
    with pytest.raises(ConfigError, match="lies in no tenant's folder") as caught:
        wb.load(docs)
    assert "tenant=" in caught.value.hint
    with pytest.raises(ConfigError, match="is not a page"):
        wb.load(docs / "c.txt")
    pages = wb.load(write_page(docs.parent) / "*" / "*.md")
    assert [(page.source, page.tenant, page.owner) for page in pages] == [("taxi", "acme", "head of finance")]
    reading = SourceReading(uri="pages/*/*.md")
    assert digests_now(reading, tenant="acme", root=docs.parent) == {"taxi": pages[0].digest}
    assert digests_now(reading, tenant="globex", root=docs.parent) == {}


def test_front_matter_holds_any_of_the_keys(tmp_path):
    front = "---\nclassification: 2\naccess: [hr]\nexpires: 2027-01-01\nlayout: wide\n---\n# Pay\nText."
    pages = wb.load(write(tmp_path, a_md=front), tenant="acme")
    (page,) = pages
    assert (page.title, page.access, page.classification, page.expires) == ("Pay", ("hr",), 2, "2027-01-01")
    assert list(map(str, pages.left_out)) == ["front matter of 1 files: the key 'layout' is not read"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("acces: [hr]", r"a\.md:2: unknown key 'acces' \(nearest: 'access'"),
        ("Access: [hr]", r"a\.md:2: unknown key 'Access'"),
        ("access: hr", r"a\.md:2: access must be a list"),
        ("tenant: globex", r"a\.md:2: tenant is 'globex'"),
        ("valid_from: 2027-01-01\nexpires: 2026-01-01", r"a\.md:3: the page expires before"),
    ],
)
@pytest.mark.parametrize("unreadable", ["stop", "skip"])
def test_front_matter_that_is_wrong_is_no_unreadable_document(tmp_path, line, said, unreadable):
    with pytest.raises(ConfigError, match=said):
        wb.load(write(tmp_path, a_md=f"---\n{line}\n---\nText."), tenant="acme", unreadable=unreadable)


# -- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Travel Costs 2026.PDF", "travel-costs-2026.pdf"),
        ("Über uns/Größe.md", "über-uns/grösse.md"),
        (unicodedata.normalize("NFD", "Übersicht.md"), "übersicht.md"),
        ("📄 plan (final).txt", "plan-final.txt"),
        ("😀.txt", "u1f600.txt"),
        ("日本語.html", "日本語.html"),
        ("हिन्दी.txt", "हिन्दी.txt"),
        ("a--b__c.d.docx", "a-b__c.d.docx"),
    ],
)
def test_a_page_is_named_after_its_file(path, name):
    assert slug(path) == name == slug(name)


@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1))
@example("...")
@example("\u0301")
def test_a_name_is_stable_and_never_empty(name):
    made = slug(name)
    assert made == slug(made) == slug(name.upper().lower() if name.isascii() else name) != ""
    assert not set(made) & set(" []()\n\t/")


def test_two_files_with_one_name_are_both_named(tmp_path):
    folder = write(tmp_path, a_txt="one")
    (folder / "A.TXT").write_text("two")
    with pytest.raises(ConfigError, match=r"A\.TXT and .*a\.txt have the same page name 'a\.txt'"):
        wb.load(folder, tenant="acme", unreadable="skip")


# -- access ----------------------------------------------------------------------------------


RULES = """'**': [staff]
hr/**: {groups: [hr], classification: 2}
'*.pdf': {expires: 2027-01-01}
"""


def test_an_access_file_says_who_sees_what(tmp_path):
    folder = write(tmp_path, a_txt="one", hr__b_txt="two", hr__c_pdf=made_pdf("three"), access_yaml=RULES)
    pages = {page.source: page for page in wb.load(folder, tenant="acme", access=folder / "access.yaml")}
    assert (pages["a.txt"].access, pages["a.txt"].classification) == (("staff",), 0)
    assert (pages["hr/b.txt"].access, pages["hr/b.txt"].classification) == (("hr",), 2)
    assert (pages["hr/c.pdf#page=1"].access, pages["hr/c.pdf#page=1"].expires) == (("hr",), "2027-01-01")


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("hr/*.txt: [hr]", r"'hr/\*\.txt' matches no document \(.*a\.txt"),
        ("a.txt: {group: [hr]}", "unknown key 'group'.*'groups'"),
        ("a.txt: {groups: hr}", "groups must be a list"),
        ("a.txt: {groups: ['principal:ann']}", "no single principal"),
        ("a.txt: {classification: 10}", "classification must be a whole number from 0 to 9"),
        ("a.txt: {}", "expected a list of groups"),
        ("a.txt: hr", "expected a list of groups"),
        ("[hr]", "expected a mapping"),
        ("1: [hr]", "a pattern is a relative path"),
        ("'[z-a]': [hr]", "pattern"),
    ],
)
def test_a_faulty_access_rule_is_named(tmp_path, rules, said):
    folder = write(tmp_path, a_txt="one")
    (tmp_path / "rules.yaml").write_text(rules)
    with pytest.raises(ConfigError, match=said):
        wb.load(folder, tenant="acme", access=tmp_path / "rules.yaml")


def test_front_matter_and_access_file_that_differ_are_both_named(tmp_path):
    folder = write(tmp_path, a_md="---\naccess: [everyone]\n---\nText.", access_yaml="a.md: [hr]")
    with pytest.raises(
        ConfigError, match=r"a\.md: access is \['everyone'\] .* and \['hr'\] in .*access\.yaml"
    ):
        wb.load(folder, tenant="acme", access=folder / "access.yaml")


def test_a_changed_access_rule_changes_the_digest_and_so_the_stored_items(tmp_path):
    folder = write(tmp_path, a_txt="Taxis are paid.", access_yaml="a.txt: [everyone]")
    options = {"tenants": "acme", "access": "docs/access.yaml"}
    bench = Bench(tmp_path, "docs", **options)
    handle = bench.handle_of()
    assert handle.ingest(None).added == 1
    (hit,) = handle.search("taxis")
    assert (hit.source, hit.stale, hit.trust) == ("a.txt", False, 3)
    write(tmp_path, access_yaml="a.txt: [hr]")
    assert handle.search("taxis")[0].stale
    assert handle.ingest(None).replaced == 1
    assert not handle.search("taxis")
    (hit,) = bench.handle_of(groups=("hr",)).search("taxis")
    assert not hit.stale
    assert folder.is_dir()


@pytest.mark.parametrize("source", ["docs", "docs/acme/a.txt", "docs/*/a.txt", "docs/acme/*.txt"])
def test_a_declared_document_is_found_again_whatever_the_form_of_its_source(tmp_path, source):
    write(tmp_path, acme__a_txt="Taxis are paid.", globex__a_txt="Taxis are not paid.")
    tenants = "acme" if source == "docs/acme/*.txt" else "folders"
    handle = Bench(tmp_path, source, tenants=tenants).handle_of()
    assert handle.ingest().added == 1
    (hit,) = handle.search("taxis")
    assert (hit.source, hit.trust, hit.stale) == ("a.txt", 3, False)
    write(tmp_path, acme__a_txt="Taxis are paid after ten.")
    assert handle.search("taxis")[0].stale
    reading = handle.spec.reading()
    theirs = digests_now(reading, tenant="globex", root=tmp_path, sources={"a.txt"})
    assert bool(theirs) == (source in {"docs", "docs/*/a.txt"})


def test_a_hit_of_a_pdf_cites_its_page_and_is_stale_after_a_change(tmp_path):
    write(tmp_path, a_pdf=made_pdf("Taxis are paid.", "Hotels are not."))
    handle = Bench(tmp_path, "docs", tenants="acme").handle_of()
    handle.ingest(None)
    hit = next(hit for hit in handle.search("hotels") if "Hotels" in hit.text)
    assert (hit.source, hit.title, hit.trust, hit.stale) == ("a.pdf#page=2", "a, p. 2", 3, False)
    checked = check("Hotels are not paid [a.pdf#page=2]. Taxis are [a.pdf#page=9].", [hit])
    assert checked.unknown == ("a.pdf#page=9",) and checked.cited == (hit,)
    write(tmp_path, a_pdf=made_pdf("Taxis are paid.", "Hotels are paid."))
    assert all(hit.stale for hit in handle.search("hotels"))


# -- unreadable documents --------------------------------------------------------------------


def broken(tmp_path):
    """A folder with one readable document and one of each kind that is not."""
    folder = write(
        tmp_path, good_txt="Taxis are paid.", empty_md="", binary_md=b"\x89PNG\0\0\0\rIHDR", old_doc="x",
        scan_pdf=made_pdf(""), locked_pdf=made_pdf("x", password="y"), torn_docx=made_docx()[:999],
    )  # fmt: skip
    os.mkfifo(folder / "pipe.txt")
    (tmp_path / "outside.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "loop").symlink_to(folder)
    return folder


def test_unreadable_documents_stop_the_reading_and_are_named(tmp_path):
    with pytest.raises(
        ConfigError, match=r"9 of 10 documents cannot be read: .*binary\.md: .*; and 4 more"
    ) as caught:
        wb.load(broken(tmp_path), tenant="acme")
    assert "skip" in caught.value.hint


def test_unreadable_documents_may_be_skipped_and_each_has_its_reason(tmp_path):
    folder = broken(tmp_path)
    pages = wb.load(folder, tenant="acme", unreadable="skip")
    assert [page.source for page in pages] == ["good.txt"]
    reasons = {item.path.rpartition("/")[2]: item.reason for item in pages.left_out}
    words = {
        "empty.md": "empty", "binary.md": "encoding", "old.doc": "format", "scan.pdf": "text layer",
        "locked.pdf": "encrypted", "torn.docx": "damaged", "pipe.txt": "regular", "link.txt": "outside",
    }  # fmt: skip
    assert {name for name, word in words.items() if word in reasons[name]} == set(words)
    assert reasons.keys() - words.keys() == {"loop"} and "not followed" in reasons["loop"]


def test_a_folder_of_which_nothing_can_be_read_is_an_error_under_either_policy(tmp_path):
    folder = write(tmp_path, a_txt="", b_pdf=made_pdf(""))
    for unreadable in ("stop", "skip"):
        with pytest.raises(ConfigError, match=r"2 of 2 documents cannot be read: .*a\.txt: it is empty"):
            wb.load(folder, tenant="acme", unreadable=unreadable)


def test_the_stage_remember_names_what_it_left_out(tmp_path, capsys):
    root = small_repository(tmp_path)
    write(tmp_path / "data", a_txt="Taxis are paid.", b_txt="")
    spec = (root / "pipelines/memories/small/1.yaml").read_text()
    spec = spec.replace("source: data/small", "source: data/docs\ntenants: acme\nunreadable: skip")
    registry.save_version(root, "memory", "small", spec.encode(), author="t", reason="r", parent=1)
    params = (
        (root / "params.yaml").read_text().replace("{name: small, version: 1}", "{name: small, version: 2}")
    )
    (root / "params.yaml").write_text(params)
    stages.remember(root, "small")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("remembered 1 documents in ")
    assert second.startswith("left out: ") and second.endswith("data/docs/b.txt: it is empty")


def test_a_source_with_too_much_text_is_named(docs, monkeypatch):
    monkeypatch.setattr(plain_documents, "MOST_CHARS", 20)
    with pytest.raises(ConfigError, match="over 20 characters"):
        wb.load(docs, tenant="acme")


def test_a_killed_ingest_of_documents_continues_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.retrieval.maintenance.TEXTS", 10)
    write(tmp_path, **{f"d{number}_txt": f"Document {number}." for number in range(40)})
    bench = Bench(tmp_path, "docs", tenants="acme")
    bench.die_at = 7  # missing, then an embed and a stage for each ten
    with pytest.raises(Killed):
        bench.handle_of().ingest()
    bench.die_at = None
    assert bench.handle_of().ingest().added == 40
    assert len(bench.texts) == 50, "one batch was embedded and not stored"


def test_a_blank_page_of_a_pdf_is_named_and_stops_nothing(tmp_path):
    pages = wb.load(write(tmp_path, a_pdf=made_pdf("One.", "")), tenant="acme")
    assert [page.source for page in pages] == ["a.pdf#page=1"]
    assert [item.reason for item in pages.left_out] == ["no text layer"] and "page 2" in pages.left_out[
        0
    ].path


def test_a_file_above_its_bound_is_not_read(tmp_path):
    folder = write(tmp_path, a_txt="x")
    with (folder / "b.md").open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(ConfigError, match=r"b\.md: it has 100,000,000 bytes, more than 20,000,000"):
        wb.load(folder, tenant="acme")


def test_an_enormous_folder_is_named_with_its_bound(docs, monkeypatch):
    monkeypatch.setattr(local_files, "MOST_FILES", 6)
    with pytest.raises(ConfigError, match="more than 6 files") as caught:
        wb.load(docs, tenant="acme")
    assert "**/*.pdf" in caught.value.hint
    assert len(wb.load(docs / "sub", tenant="acme")) == 2


@pytest.mark.parametrize("tenants", ["acme", "folders"])
def test_a_folder_without_documents_says_which_formats_there_are(tmp_path, tenants):
    folder = write(tmp_path, acme__logo_png="x")
    with pytest.raises(NotFoundError, match="no documents") as caught:
        wb.load(folder, tenants=tenants)
    assert ".docx" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"unreadable": "skip"}, "goes with tenants"),
        ({"access": "access.yaml"}, "goes with tenants"),
        ({"tenant": "acme", "unreadable": "drop"}, "stop or skip"),
        ({"tenant": "Acme GmbH"}, "cannot name a tenant"),
        ({"tenant": "acme", "tenants": "folders"}, "both given"),
        ({"tenant": "acme", "access": "none.yaml"}, "nothing at none.yaml"),
    ],
)
def test_options_that_cannot_be_meant_are_named(docs, options, said):
    with pytest.raises(WorkbenchError, match=said):
        wb.load(docs, **options)


def test_a_table_is_no_document(tmp_path):
    write(tmp_path, a_csv="id,text\n1,x\n")
    with pytest.raises(ConfigError, match="is a table"):
        wb.load(tmp_path / "docs/a.csv", tenant="acme")


@given(
    names=st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=20),
            st.sampled_from([*by_ending.ENDINGS, ".png", ".doc"]),
        ),
        min_size=1, max_size=4, unique=True,
    ),
    data=st.sampled_from([b"", b"text", b"\0", HTML, made_pdf("x"), made_docx()]),
)  # fmt: skip
def test_any_folder_gives_pages_or_one_error(tmp_path_factory, names, data):
    folder = tmp_path_factory.mktemp("any")
    for name, ending in names:
        try:
            (folder / f"{name}{ending}").write_bytes(data)
        except OSError:  # a name longer than the file system takes
            continue
    try:
        pages = retrieval.load(folder, tenant="acme", unreadable="skip")
    except WorkbenchError:
        return
    assert len({page.source for page in pages}) == len(pages)


@given(
    pattern=st.lists(st.sampled_from(["a", "*", "?", "**", "[ab]", "[!a]", ".", "/"]), max_size=8).map(
        "".join
    ),
    path=st.lists(st.sampled_from(["a", "b", ".", "/"]), min_size=1, max_size=8).map("".join),
)
def test_a_star_never_crosses_a_folder(pattern, path):
    if "**" not in pattern and patterns.matches(pattern, path):
        assert path.count("/") == pattern.strip("/").count("/")


# -- URLs ------------------------------------------------------------------------------------


def test_urls_of_files_memory_and_archives_are_sources(docs, tmp_path):
    import zipfile

    import fsspec

    assert [page.source for page in wb.load(f"file://{docs}/a.md", tenant="acme")] == ["a.md"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for name, text in (("docs/a.md", "# Taxis"), ("docs/sub/b.txt", "Hotels."), ("docs/.hidden.md", "x")):
            packed.writestr(name, text)
    archive = f"::{tmp_path}/a.zip"
    for uri, sources in (
        ("zip://docs", ["a.md", "sub/b.txt"]), ("zip://", ["docs/a.md", "docs/sub/b.txt"]),
        ("zip://docs/**/*.txt", ["sub/b.txt"]), ("zip://docs/a.md", ["a.md"]),
    ):  # fmt: skip
        assert [page.source for page in wb.load(uri + archive, tenant="acme")] == sources
    pages = wb.load(f"zip://{archive}", tenants="folders")
    assert [(page.tenant, page.source) for page in pages] == [("docs", "a.md"), ("docs", "sub/b.txt")]
    memory = fsspec.filesystem("memory")
    memory.pipe("/docs/a.txt", b"Taxis.")
    assert [page.text for page in wb.load("memory://docs", tenant="acme")] == ["Taxis."]
    memory.rm("/docs", recursive=True)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s4://user:secret@bucket/docs", r"no protocol 's4' \(nearest: 's3'"),
        ("s3://bucket/docs", "s3fs"),
        ("memory://nothing", "no files|nothing at"),
        ("zip://docs::/none.zip", "nothing at"),
        ("file:///none", "nothing at"),
    ],
)
def test_a_url_that_cannot_be_opened_says_why_and_shows_no_password(uri, said):
    with pytest.raises(WorkbenchError, match=said) as caught:
        wb.load(uri, tenant="acme")
    assert "secret" not in str(caught.value)


def test_a_url_needs_the_name_of_a_tenant():
    with pytest.raises(ConfigError, match="tenant") as caught:
        wb.load("memory://docs")
    assert "tenant=" in caught.value.hint
