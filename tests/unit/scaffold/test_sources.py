"""What a new use case is made of: tenants, documents, solved examples, and the pages that questions name."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from made_documents import made_pdf
from small_use_case import small_repository, write

from workbench import config, retrieval
from workbench.diagnostics.check import check_all
from workbench.errors import WorkbenchError
from workbench.experiments.dataset import Dataset
from workbench.experiments.scorers import Outcome, recall_at
from workbench.layout import Results
from workbench.pipeline import stages
from workbench.scaffold.init import init
from workbench.scaffold.order import InitOrder
from workbench.workspace.use_case import check_data

TAXI = "A taxi is paid after ten at night."
HOTEL = "A hotel room may cost 135 euros a night."


@pytest.fixture
def root(tmp_path):
    return small_repository(tmp_path / "repository")


def table(path: Path, *rows) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def questions(folder: Path, *rows, head=("question", "answer")) -> Path:
    rows = rows or (("When is a taxi paid?", "after ten"), ("What may a hotel cost?", "135 euros"))
    return table(folder / "questions.csv", head, *rows)


def rows_of(root: Path, name: str = "claims") -> list[dict]:
    return [json.loads(line) for line in (root / f"data/{name}/questions.jsonl").read_text().splitlines()]


def test_without_a_column_of_tenants_there_is_one_named_after_the_use_case(root, tmp_path):
    write(tmp_path, "docs/guide/taxi.md", TAXI)
    write(tmp_path, "docs/hotel.txt", HOTEL)
    init(root, InitOrder(name="Claims_2", docs=tmp_path / "docs", questions=questions(tmp_path)))
    assert config.load_params(root).use_cases["Claims_2"].tenants == ("claims_2",)
    assert {row["page"] for row in rows_of(root, "Claims_2")} == {"guide/taxi.md", "hotel.txt"}
    assert check_all(root).passed


def test_with_a_column_of_tenants_the_folders_are_tenants(root, tmp_path):
    write(tmp_path, "docs/acme/taxi.md", TAXI)
    write(tmp_path, "docs/globex/hotel.md", HOTEL)
    rows = (("acme", "When is a taxi paid?", "after ten"), ("globex", "What may a hotel cost?", "135 euros"))
    asked = questions(tmp_path, *rows, head=("tenant", "question", "answer"))
    init(root, InitOrder(name="claims", docs=tmp_path / "docs", questions=asked))
    case = config.load_params(root).use_cases["claims"]
    spec = retrieval.load_spec(root, "claims")
    assert case.tenants == ("acme", "globex") and spec.tenants == "folders"
    assert {(row["tenant"], row["page"]) for row in rows_of(root)} == {
        ("acme", "taxi.md"),
        ("globex", "hotel.md"),
    }
    assert check_all(root).passed


@pytest.mark.parametrize(
    ("rows", "tenant", "said"),
    [
        ((("acme", "q?", "ten"), ("rome", "q2?", "ten")), None, "no folder 'rome'"),
        ((("acme", "q?", "ten"), ("rome", "q2?", "ten")), "acme", "no tenant 'rome'"),
        ((("The One", "q?", "ten"),), None, "cannot name a tenant"),
        ((("acme", "q?", "ten"), ("Größe AG", "q2?", "ten")), None, "cannot name a tenant"),
    ],
)
def test_tenants_that_do_not_fit_are_one_error(root, tmp_path, rows, tenant, said):
    write(tmp_path, "docs/acme/taxi.md", TAXI)
    asked = questions(tmp_path, *rows, head=("tenant", "question", "answer"))
    with pytest.raises(WorkbenchError) as caught:
        init(root, InitOrder(name="claims", docs=tmp_path / "docs", questions=asked, tenant=tenant))
    assert said in str(caught.value) and not (root / "data/claims").exists()


def test_a_missing_column_is_named_with_the_option_that_names_it(root, tmp_path):
    write(tmp_path, "docs/taxi.md", TAXI)
    asked = questions(tmp_path, ("When is a taxi paid?", "after ten"), head=("Anliegen", "Antwort"))
    with pytest.raises(WorkbenchError, match="'question'") as caught:
        init(root, InitOrder(name="claims", docs=tmp_path / "docs", questions=asked))
    assert "--column question=NAME" in caught.value.hint
    named = {"question": "Anliegen"}
    init(root, InitOrder(name="claims", docs=tmp_path / "docs", questions=asked, columns=named))
    assert rows_of(root)[0]["question"] == "When is a taxi paid?"


@pytest.mark.parametrize("named", ["Taxi Rules", "taxi-rules", "Taxi Rules.pdf", "trips/Taxi Rules.pdf"])
def test_a_question_names_its_file_as_people_write_it_and_gets_the_page_with_the_answer(
    root, tmp_path, named
):
    folder = tmp_path / "docs/trips"
    folder.mkdir(parents=True)
    (folder / "Taxi Rules.pdf").write_bytes(made_pdf("Nothing here.", TAXI))
    write(tmp_path, "docs/hotel.md", HOTEL)
    rows = (("When?", "after ten", named), ("What?", "135 euros", "hotel"))
    asked = questions(tmp_path, *rows, head=("question", "answer", "page"))
    init(root, InitOrder(name="claims", docs=tmp_path / "docs", questions=asked))
    assert [row["page"] for row in rows_of(root)] == ["trips/taxi-rules.pdf#page=2", "hotel.md"]
    assert "recall_at_5" in config.load_params(root).use_cases["claims"].gates["mvp"]


def test_questions_that_no_document_answers_are_named_and_recall_is_not_judged(root, tmp_path):
    write(tmp_path, "docs/taxi.md", TAXI)
    made = init(root, InitOrder(name="claims", docs=tmp_path / "docs", questions=questions(tmp_path)))
    assert "no document answers: 1 of the questions" in str(made) and "recall is not measured" in str(made)
    case = config.load_params(root).use_cases["claims"]
    assert case.columns == {"inputs": ("question",), "expected": ("answers",)}
    assert "recall_at_5" not in case.gates["mvp"] and check_all(root).passed


def test_recall_is_measured_on_the_questions_that_have_a_page(root, tmp_path):
    write(tmp_path, "docs/taxi.md", TAXI)
    rows = [(f"When is taxi {n} paid?", "after ten", "taxi.md") for n in range(4)]
    asked = questions(tmp_path, *rows, ("A hotel?", "135 euros", "taxi"), head=("question", "answer", "page"))
    made = init(root, InitOrder(name="claims", docs=tmp_path / "docs", questions=asked))
    assert any("recall is measured on 4 questions, because 1 of 5" in note for note in made.notes)
    assert any("questions.csv:6" in note for note in made.notes)
    assert sorted(row["page"] for row in rows_of(root)) == [[], *[["taxi.md"]] * 4]
    case = config.load_params(root).use_cases["claims"]
    assert "recall_at_5" in case.gates["mvp"] and check_all(root).passed, str(check_all(root))
    cases, _ = check_data(root, "claims", case)
    stages.prepare(root, "claims")
    prepared = root / Results(use_case="claims").prepared
    assert Dataset.from_file(prepared / "cases.parquet").digest == cases.digest
    search = {"operation": "search", "hits": [{"source": "taxi.md"}]}
    scores = [recall_at(5)(Outcome(case=case, output="", records=[search])) for case in cases]
    assert sorted(map(str, scores)) == ["1.0"] * 4 + ["None"]


def test_a_bad_table_is_noticed_before_any_document_is_read(root, tmp_path, monkeypatch):
    write(tmp_path, "docs/taxi.md", TAXI)
    monkeypatch.setattr("workbench.scaffold.sources.documents", lambda *_, **__: pytest.fail("read"))
    write(tmp_path, "bad.jsonl", '{"question": "a", "answers": ["b"]}\nnothing\n')
    for name, hint in (("nowhere.csv", ""), ("bad.jsonl", "run the same command again")):
        order = InitOrder(name="claims", docs=tmp_path / "docs", questions=tmp_path / name, tenant="acme")
        with pytest.raises(WorkbenchError) as caught:
            init(root, order)
        assert hint in caught.value.hint


def test_an_unreadable_document_stops_everything_or_is_named_as_left_out(root, tmp_path):
    write(tmp_path, "docs/taxi.md", TAXI)
    (tmp_path / "docs/scan.pdf").write_bytes(made_pdf(""))
    order = InitOrder(name="claims", docs=tmp_path / "docs", questions=questions(tmp_path))
    with pytest.raises(WorkbenchError, match=r"scan\.pdf") as caught:
        init(root, order)
    assert "--unreadable skip" in caught.value.hint and "wb.load" not in caught.value.hint
    assert not (root / "data/claims").exists()
    skipping = InitOrder(
        name="claims", docs=tmp_path / "docs", questions=questions(tmp_path), unreadable="skip"
    )
    made = init(root, skipping)
    assert any("left out: " in note and "scan.pdf" in note for note in made.notes)
    assert not (root / "data/claims/documents/scan.pdf").exists() and check_all(root).passed


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda docs: (docs / "out.md").symlink_to(docs.parent / "secret.md"), "outside"),
        (lambda docs: (docs / "data.md").write_bytes(b"\0\1\2" * 99), "data.md"),
        (lambda docs: (docs / "taxi.MD").write_text("Another one."), "same page name"),
    ],
)
def test_a_folder_with_a_trap_is_one_error_and_nothing_is_created(root, tmp_path, spoil, said):
    write(tmp_path, "docs/taxi.md", TAXI)
    write(tmp_path, "secret.md", "A secret.")
    spoil(tmp_path / "docs")
    before = (root / "params.yaml").read_bytes()
    with pytest.raises(WorkbenchError) as caught:
        init(root, InitOrder(name="claims", docs=tmp_path / "docs", questions=questions(tmp_path)))
    assert said in str(caught.value) and "\n  -> " in str(caught.value)
    assert not (root / "data/claims").exists() and (root / "params.yaml").read_bytes() == before


def test_rules_of_access_are_copied_and_the_pipeline_may_read_what_they_name(root, tmp_path):
    write(tmp_path, "docs/taxi.md", TAXI)
    write(tmp_path, "docs/hotel.md", HOTEL)
    write(tmp_path, "access.yaml", "hotel.md: {groups: [finance]}\n")
    asked, rules = questions(tmp_path), tmp_path / "access.yaml"
    init(root, InitOrder(name="claims", docs=tmp_path / "docs", questions=asked, access=rules))
    assert config.load_params(root).use_cases["claims"].groups == ("everyone", "finance")
    assert retrieval.load_spec(root, "claims").access == "data/claims/access.yaml" and check_all(root).passed


def test_texts_are_classified_without_examples_and_the_gate_stands_above_the_commonest_label(root, tmp_path):
    labels = ["billing"] * 24 + ["damage"] * 16
    cases = table(
        tmp_path / "cases.csv", ("text", "label"), *((f"text {n}", b) for n, b in enumerate(labels))
    )
    init(root, InitOrder(name="mail", kind="classify", questions=cases))
    case = config.load_params(root).use_cases["mail"]
    assert case.memory is None and case.gates["mvp"]["accuracy"] == {"min": 0.7}
    assert "the commonest label gives 0.60, a label by chance 0.50" in (root / "params.yaml").read_text()
    prompt = (root / "pipelines/prompts/mail/1.prompty").read_text()
    assert 'grammar: \'root ::= "billing" | "damage"\'' in prompt and "passages" not in prompt
    assert check_all(root).passed, str(check_all(root))


@pytest.mark.parametrize(
    ("kind", "docs", "rows", "said"),
    [
        ("extract", "docs", (("text", "name"), ("Ann", "Ann")), "takes no --docs"),
        ("classify", "docs", (("text", "label"), ("a", "b"), ("c", "d")), "no table of solved examples"),
        ("classify", None, (("text", "label"), ("a", "b"), ("c", "b")), "has 1 labels"),
        ("classify", None, (("text", "label"), ("a", "{{ b }}"), ("c", "b")), "templates of prompts"),
        ("extract", None, (("text", "A b", "a B"), ("x", "1", "2")), "one name in Python"),
    ],
)
def test_what_a_kind_cannot_take_is_one_error(root, tmp_path, kind, docs, rows, said):
    write(tmp_path, "docs/taxi.md", TAXI)
    asked = table(tmp_path / "asked.csv", *rows)
    order = InitOrder(name="mail", kind=kind, docs=docs and tmp_path / docs, questions=asked)
    with pytest.raises(WorkbenchError) as caught:
        init(root, order)
    assert said in str(caught.value) and not (root / "data/mail").exists()


def test_the_notebook_of_solved_examples_says_how_to_record_a_decision_that_params_lacks(root, tmp_path):
    rows = (("text", "label"), *((f"text {n}", "ab"[n % 2]) for n in range(8)))
    solved, asked = table(tmp_path / "solved.csv", *rows), table(tmp_path / "asked.csv", *rows)
    init(root, InitOrder(name="mail", kind="classify", docs=solved, questions=asked))
    text = (root / "notebooks/mail.ipynb").read_text()
    assert "instead_of: vote" in text and "records the decision" not in text
    assert config.load_params(root).use_cases["mail"].approach is None
