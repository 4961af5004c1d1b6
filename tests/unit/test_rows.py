"""Row sources: a table file whose rows are a memory's pages."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import polars as pl
import pytest
from memory_bench import Bench, either_store  # noqa: F401
from workbooks import Day, workbook

from workbench import files, registry, retrieval
from workbench.errors import ConfigError, NotFoundError
from workbench.retrieval import Chunking, rows
from workbench.retrieval.documents import digests_now, load
from workbench.retrieval.reading import SourceReading

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {"text": "body", "title": "label", "id": "ticket", "tenant": "tenant"}
MORE = {name: name for name in ("subject", "access", "classification", "valid_from", "expires")}
ROW = {"ticket": "t-1", "tenant": "acme", "label": "billing", "body": "The invoice is wrong.", "other": 1}
OTHERS = [
    {"ticket": "t-2", "tenant": "acme", "label": "access", "body": "I cannot sign in."},
    {"ticket": "t-1", "tenant": "globex", "label": "billing", "body": "Charged twice."},
]


def solved(folder, *changed, name="solved.jsonl"):
    path = folder / name
    path.write_text("".join(f"{json.dumps(row)}\n" for row in changed))
    return path


def test_a_row_is_one_page_whatever_the_format(tmp_path):
    first, second, third = load(solved(tmp_path, ROW, *OTHERS), columns=COLUMNS)
    assert (first.source, first.title, first.text) == ("t-1", "billing", "The invoice is wrong.")
    assert (first.tenant, third.tenant, second.source) == ("acme", "globex", "t-2")
    assert (first.access, first.classification, first.subject, first.expires) == (("everyone",), 0, "", None)
    frame = pl.DataFrame([ROW, *OTHERS]).drop("other")
    frame.write_parquet(tmp_path / "solved.parquet")
    frame.write_csv(tmp_path / "solved.csv")
    (tmp_path / "solved.xlsx").write_bytes(workbook(One=[frame.columns, *map(list, frame.rows())]))
    for suffix in ("parquet", "csv", "xlsx"):
        assert load(tmp_path / f"solved.{suffix}", columns=COLUMNS) == [first, second, third]


def test_the_digest_of_a_row_is_of_its_named_columns(tmp_path):
    def digest(**changed):
        return load(solved(tmp_path, ROW | changed), columns=COLUMNS)[0].digest

    assert digest() == digest(other=2, more="x")
    changes = [{}, {"label": "access"}, {"body": "x"}, {"tenant": "globex"}]
    assert len({digest(**changed) for changed in changes}) == 4


def test_subject_access_classification_and_days_are_columns_too(tmp_path):
    row = ROW | {"subject": "cust-7", "access": "support|sales", "classification": "2"}
    row |= {"valid_from": "2025-01-01", "expires": ""}
    (page,) = load(solved(tmp_path, row), columns=COLUMNS | MORE)
    assert (page.subject, page.access, page.classification) == ("cust-7", ("support", "sales"), 2)
    assert (page.valid_from, page.expires) == ("2025-01-01", None)
    lists = row | {"access": ["support", "sales"], "classification": 2, "expires": None, "subject": None}
    (other,) = load(solved(tmp_path, lists), columns=COLUMNS | MORE)
    assert (other.access, other.classification, other.subject) == (page.access, 2, "")
    cells = [["ticket", "tenant", "label", "body", "expires"], ["1", "acme", "a", "b", Day(45658)]]
    (tmp_path / "solved.xlsx").write_bytes(workbook(One=cells))
    (day,) = load(tmp_path / "solved.xlsx", columns=COLUMNS | {"expires": "expires"})
    assert day.expires == "2025-01-01"


BAD = [
    ({"body": ""}, r"solved.jsonl:2: 'body' is missing or empty"),
    ({"body": " \n"}, r"solved.jsonl:2: 'body' is missing or empty"),
    ({"body": 2.5}, r"solved.jsonl:2: 'body' must be a text, found float"),
    ({"label": None}, r"solved.jsonl:2: 'label' is missing or empty"),
    ({"ticket": True}, r"solved.jsonl:2: 'ticket' must be a text, found bool"),
    ({"ticket": "x" * 300}, r"solved.jsonl:2: 'ticket' must be an id"),
    ({"ticket": "a\nb"}, r"solved.jsonl:2: 'ticket' must be an id"),
    ({"ticket": "t-2"}, r"solved.jsonl:2: 'acme' has a row 't-2' already, .*solved.jsonl:1"),
    ({"tenant": "../x"}, r"solved.jsonl:2: '../x' cannot name a tenant"),
    ({"tenant": ""}, r"solved.jsonl:2: 'tenant' is missing or empty"),
    ({"access": ""}, r"solved.jsonl:2: 'access' must name groups"),
    ({"access": None}, r"solved.jsonl:2: 'access' must name groups"),
    ({"access": ["principal:bob"]}, r"solved.jsonl:2: 'access' must name groups"),
    ({"classification": None}, r"solved.jsonl:2: 'classification' must be a whole number"),
    ({"classification": "10"}, r"solved.jsonl:2: 'classification' must be a whole number"),
    ({"classification": "²"}, r"solved.jsonl:2: 'classification' must be a whole number"),
    ({"valid_from": "2025-02-30"}, r"solved.jsonl:2: 'valid_from' must be a day"),
    ({"expires": "20250101"}, r"solved.jsonl:2: 'expires' must be a day"),
    ({"expires": 5}, r"solved.jsonl:2: 'expires' must be a day"),
    ({"valid_from": "2025-01-02", "expires": "2025-01-01"}, r"solved.jsonl:2: the row expires before"),
]


@pytest.mark.parametrize(("changed", "said"), BAD)
def test_an_invalid_row_is_named_by_its_line(tmp_path, changed, said):
    more = {"subject": "", "access": ["everyone"], "classification": 0, "valid_from": None, "expires": None}
    path = solved(tmp_path, OTHERS[0] | more, ROW | more | changed)
    with pytest.raises(ConfigError, match=said) as raised:
        load(path, columns=COLUMNS | MORE)
    assert raised.value.hint


def test_columns_are_named_in_full_and_exist(tmp_path):
    path = solved(tmp_path, ROW)
    with pytest.raises(ConfigError, match=r"no column 'lable' \(nearest: 'label'"):
        load(path, columns=COLUMNS | {"title": "lable"})
    with pytest.raises(ConfigError, match="unknown key 'titel'"):
        load(path, columns=COLUMNS | {"titel": "label"})
    with pytest.raises(ConfigError, match="is a table"):
        load(path)
    with pytest.raises(ConfigError, match="for a source that is a table"):
        load(tmp_path, columns=COLUMNS)
    with pytest.raises(ConfigError, match="tenants in a column, or one tenant"):
        load(path, columns=COLUMNS, tenant="acme")
    with pytest.raises(ConfigError, match="read from a file only"):
        load("https://example.org/solved.csv", columns=COLUMNS)
    with pytest.raises(ConfigError, match="are for documents"):
        load(path, columns=COLUMNS, unreadable="skip")
    with pytest.raises(NotFoundError, match="nothing at"):
        load(tmp_path / "none.csv", columns=COLUMNS)


def test_a_table_without_tenants_has_one(tmp_path):
    columns = {"text": "body", "id": "ticket"}
    (page,) = load(solved(tmp_path, ROW), columns=columns, tenant="globex")
    assert (page.tenant, page.title) == ("globex", "")
    reading = SourceReading(uri="solved.jsonl", columns=rows.columns_of(columns), tenants="globex")
    assert digests_now(reading, tenant="globex", root=tmp_path) == {"t-1": page.digest}
    assert digests_now(reading, tenant="acme", root=tmp_path) == {}
    for tenants in ({"tenants": "folders"}, {}):
        with pytest.raises(ConfigError, match="tenants in a column, or one tenant"):
            load(tmp_path / "solved.jsonl", columns=columns, **tenants)


def bench_of(tmp_path, store, *changed, **spec):
    solved(tmp_path, *changed)
    columns = rows.Columns(**COLUMNS)
    return Bench(
        tmp_path, "solved.jsonl", store=store, columns=columns, chunking=Chunking(kind="whole"), **spec
    )


def test_an_unchanged_row_is_not_embedded_again(tmp_path, store):
    bench = bench_of(tmp_path, store, ROW, *OTHERS)
    first = bench.handle_of().ingest()
    assert (first.added, first.other_tenants) == (2, 1) and len(bench.texts) == 2
    again = bench.handle_of().ingest()
    assert (again.added, again.unchanged) == (0, 2) and len(bench.texts) == 2
    solved(tmp_path, ROW | {"other": 9}, OTHERS[0] | {"label": "login"})
    third = bench.handle_of().ingest()
    assert (third.added, third.replaced) == (1, 1) and len(bench.texts) == 3
    (hit,) = [hit for hit in bench.handle_of().search("invoice", k=2) if hit.source == "t-1"]
    assert (hit.title, hit.text, hit.trust, hit.stale) == ("billing", ROW["body"], 3, False)


def test_a_row_that_changed_or_vanished_is_stale(tmp_path, store):
    bench = bench_of(tmp_path, store, ROW, *OTHERS)
    bench.handle_of().ingest()

    def stale():
        return {hit.source: hit.stale for hit in bench.handle_of().search("invoice", k=2)}

    assert stale() == {"t-1": False, "t-2": False}
    solved(tmp_path, ROW | {"label": "access"}, OTHERS[0])
    assert stale() == {"t-1": True, "t-2": False}
    solved(tmp_path, ROW)
    assert stale() == {"t-1": False, "t-2": True}
    (tmp_path / "solved.jsonl").unlink()
    assert stale() == {"t-1": True, "t-2": True}


def test_the_digests_of_rows_are_by_tenant_and_id(tmp_path):
    pages = load(solved(tmp_path, ROW, *OTHERS), columns=COLUMNS)
    reading = SourceReading(uri="solved.jsonl", columns=rows.columns_of(COLUMNS))

    def digests(**given):
        return digests_now(reading, root=tmp_path, **given)

    assert digests(tenant="acme") == {page.source: page.digest for page in pages[:2]}
    assert digests(tenant="globex") == {"t-1": pages[2].digest}
    assert digests(tenant="acme", sources={"t-2", "t-9"}) == {"t-2": pages[1].digest}
    assert digests(tenant="other") == {}


SPEC = """description: Solved tickets.
source: data/triage/solved.jsonl
columns: {text: text, title: label, id: id, tenant: tenant}
chunking: {kind: whole}
embedding: wordllama-256
candidates: 20
"""


def spec_of(tmp_path, text):
    path = tmp_path / "1.yaml"
    path.write_text(text)
    return retrieval.read_spec(
        registry.Version(kind="memory", name="m", number=1, path=path, digest=files.digest(text.encode()))
    )


def test_a_spec_names_the_columns_of_a_table(tmp_path):
    spec = spec_of(tmp_path, SPEC)
    assert spec.columns == rows.Columns(text="text", title="label", id="id", tenant="tenant")
    faults = {
        "columns: {": ("# columns: {", "is a table, and no columns"),
        "title: label": ("titel: label", "unknown key 'columns.titel' .*nearest: 'title'"),
        "id: id, ": ("", "missing key 'columns.id'"),
        ", tenant: tenant}": ("}", "a table has its tenants in a column"),
        "solved.jsonl": ("solved", "columns is for a source that is a table"),
        "{kind: whole}": ("{kind: sentences, size: 2}", "a row of a table is one chunk"),
    }
    for old, (new, said) in faults.items():
        assert SPEC.replace(old, new) != SPEC
        with pytest.raises(ConfigError, match=said):
            spec_of(tmp_path, SPEC.replace(old, new))


def test_the_spec_in_the_docs_is_valid_and_its_table_has_every_key(tmp_path):
    page = (ROOT / "docs/memory.md").read_text().partition("## Rows of a table")[2].partition("\n## ")[0]
    spec = spec_of(tmp_path, page.partition("```yaml\n")[2].partition("```")[0])
    assert spec.columns == rows.Columns(text="text", title="label", id="id", tenant="tenant")
    keys = {
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in line.split("|")[1].split("`")[1::2]
    }
    assert keys == {field.name for field in dataclasses.fields(rows.Columns)} and load(
        ROOT / spec.source, columns=spec.columns
    )
