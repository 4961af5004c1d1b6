"""Questions as people have them: every table becomes canonical rows, or is one error with its line."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sizes import SOAK
from workbooks import workbook

from workbench import config
from workbench.data.located import locate
from workbench.data.questions import read_questions, to_jsonl
from workbench.errors import ConfigError, WorkbenchError
from workbench.experiments.dataset import Dataset
from workbench.experiments.matching import mentions
from workbench.files import tables
from workbench.workspace.use_case import check_data

ROOT = Path(__file__).resolve().parents[2]
ROW = {"id": "1", "tenant": "acme", "question": "Who pays?", "answers": ["acme", "we do"], "page": "taxi"}


def written(folder, text, name="q.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def one(path, **more):
    (row,) = read_questions(path, **{"kind": "answer", "tenants": ["acme"]} | more)
    return row


CELLS = [["Nr", "Mandant", "Frage", "Antwort", "Quelle"], [1, "acme", "Who pays?", "acme | we do", "taxi"]]
FORMS = {
    "q.csv": "id,tenant,question,answers,page\n1,acme,Who pays?,acme|we do,taxi\n",
    "german.csv": "\ufeffNr;Mandant;Frage;Antworten;Seite\r\n1;acme;Who pays?;acme | we do;taxi\r\n",
    "q.tsv": "ID\tTENANT\tQuery\tExpected Answer\tsource\n1\tacme\tWho pays?\tacme|we do|\ttaxi\n",
    "latin.csv": "id;tenant;question;answers;page;größe\n1;acme;Who pays?;acme|we do;taxi;\n".encode(
        "latin-1"
    ),
    "q.jsonl": json.dumps(ROW),
    "q.json": json.dumps([{**ROW, "id": 1, "answers": ["acme", "we do", "acme"]}]),
    "q.xlsx": workbook(Fragen=CELLS),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_format_gives_the_same_canonical_row(tmp_path, name):
    assert one(written(tmp_path, FORMS[name], name)) == ROW


def test_a_frame_and_parquet_are_tables_too(tmp_path):
    frame = pl.DataFrame([ROW])
    assert one(frame) == ROW
    frame.write_parquet(tmp_path / "q.parquet")
    assert one(tmp_path / "q.parquet") == ROW
    with pytest.raises(ConfigError, match="frame, row 2: 'question' is empty"):
        read_questions(pl.DataFrame([ROW, ROW | {"id": "2", "question": None}]), kind="answer")
    with pytest.raises(ConfigError, match="the frame has 0 rows"):
        read_questions(frame.clear(), kind="answer")


def test_each_kind_has_its_columns(tmp_path):
    path = written(tmp_path, "ticket,category\nMy invoice,billing\n")
    row = one(path, kind="classify")
    assert (row["text"], row["label"]) == ("My invoice", "billing") and list(row)[:2] == ["id", "tenant"]
    assert one(written(tmp_path, "prompt\nA poem\n"), kind="write")["text"] == "A poem"
    given = 'text,expected\nInvoice 7,"{""number"": 7}"\n'
    assert one(written(tmp_path, given), kind="extract")["fields"] == {"number": 7}
    row = one(written(tmp_path, "id,text,number,day\na,Invoice 7,7,2025-01-01\n"), kind="extract")
    assert row == {
        "id": "a",
        "tenant": "acme",
        "text": "Invoice 7",
        "fields": {"number": "7", "day": "2025-01-01"},
    }


def test_a_stated_column_wins_and_the_others_are_named(tmp_path):
    path = written(tmp_path, "question,wording,answers,colour\nshort,The long one?,a,red\n")
    found = read_questions(path, kind="answer", tenants=["acme"], columns={"question": "wording"})
    assert found.rows[0]["question"] == "The long one?"
    assert found.unused == ("question", "colour") and found.columns["question"] == "wording"


def test_made_ids_depend_on_tenant_and_text_alone(tmp_path):
    def ids(text, **more):
        found = read_questions(written(tmp_path, text), kind="answer", **more)
        assert found.made_ids
        return [row["id"] for row in found]

    first = ids("question,answers\nWho?,a\nWhy?,b\n", tenants=["acme"])
    assert ids("tenant,answers,question\nacme,c,Why?\nacme,d,Who?\n") == first[::-1]
    assert len({*first, *ids("question,answers\nWho?,a\n", tenants=["globex"])}) == 3
    twice = ids("question,answers\nWho?,a\nWho?,a\n", tenants=["acme"])
    assert twice == [first[0], f"{first[0]}-2"]


def test_provenance_is_kept(tmp_path):
    text = "question,answers,synthetic,author,generator_version,seed\nWho?,a,true,me,1,7\nWhy?,b,,,,\n"
    first, second = read_questions(written(tmp_path, text), kind="answer", tenants=["acme"])
    kept = {"synthetic": True, "author": "me", "generator_version": 1, "seed": 7}
    assert kept.items() <= first.items() and not set(kept) & set(second)


def test_the_lines_are_a_dataset(tmp_path):
    text = 'question,answers,page\n"Größe, ""so""?",a|b,taxi\nWhy?,c,taxi\n'
    found = read_questions(written(tmp_path, text), kind="answer", tenants=["acme"])
    made = Dataset.from_file(written(tmp_path, to_jsonl(found.rows), "q.jsonl"))
    assert len(made) == 2 and {case.inputs["question"] for case in made} == {'Größe, "so"?', "Why?"}
    again = read_questions(tmp_path / "q.jsonl", kind="answer")
    assert again.rows == found.rows and to_jsonl(again.rows) == to_jsonl(found.rows)


def test_the_shipped_questions_are_canonical_already():
    path = ROOT / "data/handbook/questions.jsonl"
    found = read_questions(path, kind="answer")
    rows = [row for _, row in tables.json_lines(path.read_text(), where="q")]
    assert list(found.rows) == rows and found.suspicious == () and found.unused == ()


HEAD = "id,tenant,question,answers,page\n"
GOOD = "1,acme,Who?,a,p\n"
BAD = {
    "an empty question": (HEAD + GOOD + "2,acme, ,a,p\n", r"q.csv:3: 'question' is empty"),
    "no accepted answer": (HEAD + GOOD + "2,acme,Why?, | ,p\n", r"q.csv:3: 'answers' is empty"),
    "an answer without words": (HEAD + GOOD + "2,acme,Why?,b|**,p\n", r"q.csv:3: 'answers' accepts '\*\*'"),
    "an id twice": (HEAD + GOOD + "1,acme,Why?,a,p\n", r"q.csv:3: the id '1' is the id of .*q.csv:2"),
    "an id of one tenant and another": (HEAD + GOOD + "1,globex,Why?,a,p\n", r"q.csv:3: the id '1'"),
    "an empty id": (HEAD + GOOD + ",acme,Why?,a,p\n", r"q.csv:3: 'id' is empty"),
    "a long id": (HEAD + "x" * 300 + ",acme,Why?,a,p\n", r"q.csv:2: 'id' must be an id"),
    "an unknown tenant": (HEAD + "1,acne,Why?,a,p\n", r"q.csv:2: there is no tenant 'acne' .*'acme'"),
    "no tenant": (HEAD + "1,../x,Why?,a,p\n", r"q.csv:2: '../x' cannot name a tenant"),
    "no question": ("id,tenant,qestion,answers\n1,acme,a,b\n", r"no column 'question' .*nearest: 'qestion'"),
    "no answers": ("id,tenant,question,anwsers\n1,acme,a,b\n", r"no column 'answers' .*'anwsers'"),
    "no column tenant": ("question,answers\na,b\n", r"no column 'tenant'"),
    "synthetic by nobody": (
        "tenant,question,answers,synthetic\nacme,a,b,true\n",
        r"q.csv:2: a synthetic row",
    ),
    "synthetic or not": ("tenant,question,answers,synthetic\nacme,a,b,maybe\n", r"q.csv:2: 'synthetic' must"),
    "a ragged row": (HEAD + GOOD + "2,acme,Why, then?,a,p\n", r"q.csv:3: 6 values"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_table_is_one_error_with_its_line(tmp_path, fault):
    text, said = BAD[fault]
    with pytest.raises(ConfigError, match=said) as raised:
        read_questions(written(tmp_path, text), kind="answer", tenants=["acme", "globex"])
    assert raised.value.hint and len(raised.value.message) < 600


def test_a_bad_argument_names_the_nearest(tmp_path):
    path = written(tmp_path, HEAD + GOOD)
    with pytest.raises(ConfigError, match=r"no kind 'answers'.*'answer'"):
        read_questions(path, kind="answers")
    with pytest.raises(ConfigError, match=r"no key 'qestion'.*'question'"):
        read_questions(path, kind="answer", columns={"qestion": "question"})
    with pytest.raises(ConfigError, match=r"no column 'questoin'.*'question'"):
        read_questions(path, kind="answer", columns={"question": "questoin"})
    for cell in ('"[1, 2]"', '"{"', "7"):
        with pytest.raises(ConfigError, match=r"q.csv:2: 'fields' "):
            one(written(tmp_path, f"text,fields\na,{cell}\n"), kind="extract")


def test_suspicious_questions_are_data(tmp_path):
    text = "id,question,answers\n1,Who pays?,a\n2,Why?,b\n3,who  PAYS,c\n4,Why,b\n"
    found = read_questions(written(tmp_path, text), kind="answer", tenants=["acme"])
    assert [(item.ids, item.reason) for item in found.suspicious] == [
        (("1", "3"), "the same text with different answers"),
        (("2", "4"), "the same text"),
    ]
    assert "q.csv:4" in str(found.suspicious[0]) and len(found) == 4
    text = "text,label\na b,Billing\nb c,billing\nc d,access\n"
    (item,) = read_questions(written(tmp_path, text), kind="classify", tenants=["acme"]).suspicious
    assert "'Billing', 'billing'" in item.reason


def test_thousands_of_questions_are_read_within_seconds(tmp_path):
    size, seconds = (10_000, 10) if SOAK else (3_000, 3)
    rows = "".join(
        f"q{n},acme,What is the rule number {n} about?,answer {n}|{n},page-{n % 50}\n" for n in range(size)
    )
    started = time.process_time()
    found = read_questions(written(tmp_path, HEAD + rows), kind="answer")
    assert len(found) == size and time.process_time() - started < seconds


PAGES = {
    ("acme", "taxi"): "Taxis are paid up to 46 euros. Keep the receipt.",
    ("acme", "hotel"): "A hotel costs at most 1,000 euros. Keep the receipt.",
    ("globex", "taxi"): "Nothing is paid at all.",
}


def asked(answers, page=None, tenant="acme"):
    row = {"id": "q", "tenant": tenant, "question": "?", "answers": answers}
    return row if page is None else row | {"page": page}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (asked(["46 euros"]), {"found": {"q": "taxi"}}),
        (asked(["1000 euros", "nothing"]), {"found": {"q": "hotel"}}),
        (asked(["the receipt"]), {"several": {"q": ("taxi", "hotel")}}),
        (asked(["46 euros"], tenant="globex"), {"unanswered": {"q": "no page of globex"}}),
        (asked(["47 euros"]), {"unanswered": {"q": "no page of acme"}}),
        (asked([]), {"unanswered": {"q": "no accepted answer"}}),
        (asked(["46 euros"], "taxi"), {}),
        (asked(["the receipt"], ["taxi", "hotel"]), {}),
        (asked(["46 euros"], "policies/taxi.md"), {"renamed": {"q": "taxi"}}),
        (asked(["46 euros"], "hotel"), {"unanswered": {"q": "hotel has none"}}),
        (asked(["46 euros"], "bus"), {"unanswered": {"q": "acme has no page bus"}}),
    ],
)
def test_the_page_of_an_answer_is_found_or_the_question_is_named(row, said):
    made = locate([row], PAGES)
    for name in ("found", "several", "renamed", "unanswered"):
        mine, theirs = getattr(made, name), said.get(name, {})
        assert set(mine) == set(theirs)
        assert all(text in value if name == "unanswered" else text == value for text, value in zip(
            theirs.values(), mine.values(), strict=True))  # fmt: skip
    assert made.complete == (not {"several", "unanswered"} & set(said))
    assert bool(made.notes()) == bool(said)
    assert row == asked(row["answers"], row.get("page"), row["tenant"]), "the rows given stay as they are"
    page = said.get("found", said.get("renamed", {})).get("q", row.get("page"))
    assert made.rows[0].get("page") == page


def test_an_answer_of_many_questions_identifies_no_page():
    def rows(number):
        return [asked(["46 euros"]) | {"id": str(n)} for n in range(number)]

    few, many = locate(rows(5), PAGES), locate(rows(6), PAGES)
    assert len(few.found) == 5 and few.complete
    assert len(many.shared) == 6 and not many.found and not many.complete
    assert not any("page" in row for row in many.rows) and "identifies no page" in many.notes()[0]


def test_a_note_names_the_place_of_a_row_and_the_nearest_page():
    made = locate([asked(["46 euros"], "taxii")], PAGES)
    (note,) = made.notes(places={"q": "q.csv:7"})
    assert "q.csv:7 (" in note and "'taxi'" in note


def test_a_label_without_words_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"q.csv:2: 'label' accepts '--'"):
        one(written(tmp_path, "text,label\nHello,--\n"), kind="classify")


def test_the_pages_of_the_handbook_are_found_as_one_comparison_after_the_other_finds_them():
    case = config.use_case(config.load_params(ROOT), "answers")
    cases, pages = check_data(ROOT, "answers", case)
    texts = {(page.tenant, page.source): page.text for page in pages}
    rows = [{"id": c.id, "tenant": c.tenant, **c.inputs, "answers": c.expected["answers"]} for c in cases]
    made = locate(rows, texts)
    for row in made.rows:
        sources = [
            source
            for (tenant, source), text in texts.items()
            if tenant == row["tenant"] and any(mentions(text, answer) for answer in row["answers"])
        ]
        if row["id"] in made.several:
            assert list(made.several[row["id"]]) == sources and len(sources) > 1
        else:
            assert [row["page"]] == sources
    assert made.unanswered == {} and len(made.found) > 100
    with_pages = locate([{**row, **dict(c.expected)} for row, c in zip(rows, cases, strict=True)], texts)
    assert with_pages.complete and with_pages.notes() == ()


PIECES = [
    "1,000",
    "1000",
    "1.000",
    "10²",
    "102",
    "a\u2013b",
    "a-b",
    "a b",
    "C#",
    "C",
    "5 %",
    "5%",
    "東京",
    "$",
    "",
]


@given(st.lists(st.sampled_from(PIECES), max_size=6), st.sampled_from(PIECES))
def test_a_page_is_found_exactly_where_the_answer_is_mentioned(words, answer):
    text = " ".join(words)
    made = locate([asked([answer])], {("acme", "p"): text})
    assert bool(made.found) == mentions(text, answer)


CELL = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=4))
def test_any_cells_are_rows_of_a_dataset_or_an_error(tmp_path_factory, cells):
    buffer = io.StringIO()
    for row in [["question", "answers", "id"], *cells]:
        buffer.write(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n")
    path = written(tmp_path_factory.getbasetemp(), buffer.getvalue(), "any.csv")
    try:
        found = read_questions(path, kind="answer", tenants=["acme"])
    except WorkbenchError:
        return
    made = Dataset.from_file(written(path.parent, to_jsonl(found.rows), "any.jsonl"), expected=("answers",))
    assert len(made) == len(found)
