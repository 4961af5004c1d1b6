"""The explorer of cases without a front end: lists, one case, origins, hard cases and notes."""

from __future__ import annotations

import ast
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import polars as pl
import pytest
from explored_runs import Verbs, compared, dataset, explored, hit
from made_runs import a_run

import workbench.widgets.front  # noqa: F401  (before a test puts another IPython in its place)
from workbench.errors import ConfigError, NotFoundError
from workbench.experiments.case_detail import CaseDetail, answer_text
from workbench.experiments.case_table import CaseTable
from workbench.experiments.compare import compare, compare_all
from workbench.experiments.dataset import Dataset
from workbench.experiments.experiment import ComparedRuns
from workbench.experiments.kept_attempts import KeptAttempts
from workbench.experiments.runs import Run, load_runs, save_runs
from workbench.widgets.cutting import LONGEST

FILE = "data/hard.jsonl"


@pytest.fixture
def result(tmp_path):
    return compared(tmp_path)


# -- verbs of error analysis ------------------------------------------------------------------


def test_flips_wrong_and_unscored_are_frames_with_their_texts(result):
    flips = result.flips()
    assert flips["case"].to_list() == ["q0001", "q0002"]
    assert flips["change"].to_list() == ["worsened", "improved"]
    assert flips["question"][0] == "How long is the holiday of year 1?"
    assert (flips["answer_before"][0], flips["answer"][0]) == ("It is 1 days in old.", "It is 1 days in new.")
    assert result.wrong()["case"].to_list() == ["q0001", "q0003"]
    assert result.wrong(arm="old")["case"].to_list() == ["q0002", "q0003"]
    assert result.wrong(arm="old", below=-1).is_empty()
    assert result.unscored(arm="old")["reason"].to_list() == ["truncated"]
    assert result["new"].unscored().is_empty()


def test_arms_are_those_of_the_comparison_and_an_unknown_one_is_named(result):
    swapped = result.flips(arm="old", baseline="new")
    assert swapped["change"].to_list() == ["worsened", "improved"] and swapped["case"][0] == "q0002"
    with pytest.raises(NotFoundError, match="no arm 'nwe'") as caught:
        result.flips(arm="nwe")
    assert "new" in str(caught.value)
    with pytest.raises(ConfigError, match="both 'old'"):
        result.case("q0001", arm="old", baseline="old")
    with pytest.raises(NotFoundError, match="no score 'acuracy'"):
        result.flips(metric="acuracy")


def test_what_a_person_compares_comes_first_and_controls_last():
    new, old, blind = (
        a_run("new", accuracy=[1, 0]),
        a_run("old", accuracy=[0, 1]),
        a_run("blind", accuracy=[0, 0]),
    )
    control = replace(blind, settings={"control": True})
    runs = {"old": old, "blind": control, "new": new}
    result = ComparedRuns(runs=runs, comparison=compare_all([control, new], baseline=old))
    panel = result.explore()
    assert (panel.arm, panel.baseline) == ("new", "old")
    assert result.wrong()["case"].to_list() == ["q0001"] and result.case("q0001").answers[1].arm == "new"
    first, other = panel.view().nodes[:2]
    assert first.card.title.startswith("new against old")
    assert not other.open and other.summary.startswith("blind against old")
    assert result._repr_mimebundle_()["text/plain"].startswith("new against old")


def test_two_runs_of_one_arm_are_told_apart_by_their_ids():
    found = compare(a_run("new", accuracy=[1, 0]), a_run("new", accuracy=[0, 1]))
    assert len(found._arms()) == 2 and found.flips().height == 2
    assert found.explore().detail.answers[0].arm != found.explore().detail.answers[1].arm


def test_a_case_of_a_score_of_which_0_is_best_is_wrong_above_0():
    run = a_run("new", cross_tenant_hits=[0, 2, 0])
    assert run.wrong()["case"].to_list() == ["q0001"]
    found = compare(run, a_run("old", cross_tenant_hits=[1, 0, 0]))
    assert found.flips()["change"].to_list() == ["worsened", "improved"]
    assert "0 is best" in found.case("q0001").reasons()[0]


# -- one case -----------------------------------------------------------------------------------


def test_a_case_says_why_it_failed_by_answer_and_passages(result):
    case = result.case("q0001")
    assert case.question == "How long is the holiday of year 1?"
    assert case.expected == "answers: 21 days\npage: holiday"
    told = "\n".join(case.reasons())
    assert (
        "new: accuracy is 0; 1 is best" in told
        and "new: the answer lacks the expected answers: 21 days" in told
    )
    assert "new: passage 1 (holiday) has it" in told and "old:" not in told
    assert "unscored, and not counted as zero: truncated" in "\n".join(result.case("q0005").reasons())
    assert "q0001 · globex" in str(case) and "It is 1 days in new." in str(case)


def test_passages_without_the_answer_and_without_the_page_are_told(tmp_path):
    result = compared(tmp_path)
    kept = KeptAttempts()
    kept.keep("q0001", 0, [], [hit("Nothing of it.", source="parking")])
    context = result["new"].context
    object.__setattr__(context, "kept", kept)
    told = "\n".join(result.case("q0001").reasons())
    assert (
        "no passage of the prompt has the expected answers" in told
        and "page holiday is not among the passages: parking" in told
    )


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (None, ""), ('{"text":"a","sources":[]}', "a"), ('"b"', "b"), ('{"label":"booking"}', "booking"),
        ('{"label":3}', "3"), ("[1,2]", "[\n  1,\n  2\n]"), ("no json", "no json"),
    ],
)  # fmt: skip
def test_an_output_is_shown_as_its_text(output, text):
    assert answer_text(output) == text


def test_an_unknown_case_or_repeat_is_named(result):
    with pytest.raises(NotFoundError, match="q0001"):
        result.case("q001")
    with pytest.raises(NotFoundError, match="no repeat 3"):
        result.case("q0001", repeat=3)


def test_the_origin_of_an_answer_is_asked_of_the_workspace_by_its_trace(result):
    verbs = result["new"].context.verbs
    assert result.case("q0001").why().card().title == "call new-q0001"
    result.case("q0001").why("old")
    assert verbs.asked == [
        ("globex", "new-q0001", "It is 1 days in new.", 1),
        ("globex", "old-q0001", "It is 1 days in old.", 1),
    ]  # fmt: skip
    with pytest.raises(NotFoundError, match="made 1 calls"):
        result.case("q0001").why(call=1)


def test_a_run_without_a_dataset_passages_and_workspace_says_so():
    run = a_run("new", accuracy=[1, 0])
    case = run.case("q0001")
    assert "read without its dataset" in case.question and "texts are not kept" in str(case)
    for ask in (case.why, lambda: case.add_to(FILE), lambda: case.note("wrong")):
        with pytest.raises(NotFoundError):
            ask()
    panel = run.explore()
    assert "passages of new: not kept" in str(panel)
    panel.act("why")
    assert "run the experiment again" in panel.notice
    panel.act("add")
    assert "ws.run" in panel.notice


def test_nothing_of_the_context_is_part_of_a_run_or_its_files(tmp_path, result):
    run = result["new"]
    bare = Run(**run.identity(), cases=run.cases)
    assert bare.id == run.id
    save_runs([run], tmp_path / "with")
    save_runs([bare], tmp_path / "without")
    names = sorted(path.name for path in (tmp_path / "with").iterdir())
    for name in names:
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
    assert load_runs(tmp_path / "with")[0].context.dataset is None


# -- the panel ----------------------------------------------------------------------------------


def test_the_panel_begins_with_flips_and_goes_through_them(result):
    panel = result.explore()
    assert panel.kind == "flips" and panel.current == "q0001"
    assert panel.cases["change"].to_list() == ["worsened", "improved"]
    panel.act("next")
    assert panel.current == "q0002"
    panel.act("next")
    assert panel.current == "q0002" and not panel.notice
    panel.act("previous")
    assert panel.current == "q0001"
    text = str(panel)
    assert "old" in text and 'result.case("q0001").why()' in text and "2 of 6 cases" in text
    assert "new against old" in text  # the card


def test_the_panel_lists_by_kind_slice_text_and_score(result):
    panel = result.explore()
    panel.act("kind", "all")
    assert panel.cases.height == 6 and panel.current == "q0001"
    panel.act("slice", "tenant=acme")
    assert panel.cases["case"].to_list() == ["q0002", "q0000", "q0004"] and panel.current == "q0002"
    panel.act("slice", "")
    panel.act("search", "YEAR 3")
    assert panel.cases["case"].to_list() == ["q0003"]
    panel.act("search", "24 days")  # an expected value
    assert panel.cases["case"].to_list() == ["q0004"]
    panel.act("search", "days in new")  # an answer
    assert panel.cases.height == 6
    panel.act("search", "nowhere")
    assert panel.cases.is_empty() and panel.current is None and "no case is listed" in str(panel)
    panel.act("why")
    assert "no case is listed" in panel.notice
    panel.act("search", "")
    panel.act("sort", "score")
    assert panel.cases["score"].to_list()[:2] == [0, 0]
    panel.act("sort", "score")
    assert panel.cases["score"][0] == 1
    panel.act("kind", "unscored")
    assert panel.cases["case"].to_list() == ["q0005"]


@pytest.mark.parametrize(
    ("action", "value", "told"),
    [
        ("kind", "flipps", "flips"), ("slice", "tenant=none", "tenant=acme"), ("sort", "scor", "score"),
        ("arm", "nwe", "new"), ("open", "q9999", "q000"),
        ("metric", "accurac", "accuracy"), ("page", "x", "a whole number"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_told_with_the_nearest_and_changes_nothing(result, action, value, told):
    panel = result.explore()
    before = panel.to_json()
    panel.act(action, value)
    assert told in panel.notice
    panel.notice = ""
    assert panel.to_json() == before


def test_the_arms_change_places_and_one_run_has_none(result):
    panel = result.explore()
    panel.act("arm", "old")
    assert (panel.arm, panel.baseline, panel.cases["case"][0]) == ("old", "new", "q0002")
    panel.act("baseline", "old")
    assert (panel.arm, panel.baseline) == ("new", "old")
    with pytest.raises(ConfigError, match="both"):
        panel.choose(arm="old", baseline="old")
    alone = result["new"].explore()
    assert alone.kind == "wrong" and alone.baseline == "" and "flips" not in alone._table.kinds
    with pytest.raises(ConfigError, match="one run"):
        alone.filter(kind="flips")


def test_repeats_of_a_case_are_chosen_one_by_one(tmp_path):
    panel = compared(tmp_path, repeats=3).explore()
    panel.act("repeat", "2")
    assert panel.detail.repeat == 2
    panel.act("repeat", "3")
    assert "no repeat 3" in panel.notice and panel.detail.repeat == 2


def test_the_origins_are_shown_until_another_case_is(result):
    panel = result.explore()
    panel.act("why")
    assert "old · call old-q0001" in str(panel) and "new · call new-q0001" in str(panel)
    panel.act("next")
    assert "call old" not in str(panel) and "call new" not in str(panel)


def test_the_differences_and_the_sought_words_are_marked(result):
    text = str(result.explore().view().to_json())
    assert "['old', 'removed']" in text and "['new', 'added']" in text
    assert "['holiday', 'match']" in text and "['21 days', 'match']" in text


def test_a_kernel_is_given_the_panel_and_an_executed_copy_has_no_content(result, monkeypatch):
    plain = result._repr_mimebundle_()
    assert set(plain) == {"text/plain", "text/html"} and plain["text/plain"] == str(result)
    assert plain["text/html"] == result._repr_html_() and "How long" not in str(plain)
    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    for value in (result, result.comparison.comparisons[0], result["new"]):
        shown = value._repr_mimebundle_()
        assert len(shown.pop("application/vnd.jupyter.widget-view+json")["model_id"]) == 32
        assert set(shown) == {"text/plain", "text/html"}


def test_long_hostile_and_right_to_left_answers_are_text(tmp_path):
    answers = {"q0001": "<script>1</script>\x1b[31m " + "word " * 250_000, "q0002": "שלום עולם"}
    panel = compared(tmp_path, answers=answers).explore()
    began = time.process_time()
    shown = str(panel.to_json())
    assert time.process_time() - began < 2
    assert len(shown) < 10 * LONGEST and "more characters" in shown
    assert "\x1b" not in str(panel)
    panel.act("next")
    assert "שלום" in str(panel)


def test_ten_thousand_cases_are_listed_by_pages(tmp_path):
    n = 10_000
    cases = dataset(n)
    old, new = [i % 3 % 2 for i in range(n)], [i % 5 % 2 for i in range(n)]
    result = compared(tmp_path, old=old, new=new, cases=cases)
    panel = result.explore()
    panel.act("kind", "all")
    began = time.process_time()
    for first in range(0, 800, 8):
        panel.act("page", first)
        shown = panel.to_json()
    took = (time.process_time() - began) / 100
    assert took < 0.2, f"{took:.3f} s of CPU for a page"
    assert len(str(shown)) < 60_000
    panel.act("search", "year 9999?")
    assert panel.cases["case"].to_list() == ["q9999"]


# -- what is written ----------------------------------------------------------------------------


def test_a_case_is_added_to_a_dataset_file_once(tmp_path, result):
    panel = result.explore()
    panel.act("file", FILE)
    panel.act("add")
    assert "q0001 added" in panel.notice
    panel.act("add")
    assert "was there already" in panel.notice
    assert result.case("q0002").add_to(FILE).n == 2
    added = Dataset.from_file(tmp_path / FILE)
    assert [case.id for case in added] == ["q0001", "q0002"]
    assert added.cases[0] == result["new"].context.dataset.cases[1]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["hard.jsonl"]


@pytest.mark.parametrize("bad", ["../out.jsonl", "/tmp/out.jsonl", "data/out.csv", "", "a\x00.jsonl"])
def test_a_file_elsewhere_is_refused_and_nothing_is_written(tmp_path, result, bad):
    panel = result.explore()
    panel.act("file", bad)
    panel.act("add")
    assert panel.notice and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ('{"id":"q0001","tenant":"acme"}\n', "another content"), ("{broken\n", "hard.jsonl:1"),
        ('{"id":"x","tenant":"acme","text":"a"}\n', "columns"), ("[]\n", "hard.jsonl:1"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_stays_as_it_is(tmp_path, result, before, told):
    path = tmp_path / FILE
    path.parent.mkdir()
    path.write_text(before)
    with pytest.raises(ConfigError, match=told):
        result.case("q0001").add_to(FILE)
    assert path.read_text() == before


def test_two_people_add_cases_to_one_file_at_once(tmp_path):
    result = compared(tmp_path, old=[1] * 20, new=[0] * 20, cases=dataset(20))
    names = [f"q{i:04}" for i in range(20)] * 2
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda name: result.case(name).add_to(FILE).new, names))
    assert sum(added) == 20 and len(Dataset.from_file(tmp_path / FILE)) == 20


def test_a_file_without_a_last_line_end_keeps_its_rows(tmp_path, result):
    result.case("q0001").add_to(FILE)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    result.case("q0002").add_to(FILE)
    assert [case.id for case in Dataset.from_file(path)] == ["q0001", "q0002"]


def test_a_note_is_shown_until_the_case_is_corrected(tmp_path, result):
    panel = result.explore()
    panel.act("note")
    assert "0 characters" in panel.notice
    panel.act("reason", "the page says 22 days since May")
    panel.act("note")
    assert "noted" in panel.notice and "noted as wrong by ann" in str(panel)
    cases = result["new"].context.dataset
    changed = Dataset(name="questions", cases=tuple(c if c.id != "q0001" else corrected(c) for c in cases))
    run = explored("new", [0] * 6, changed, verbs=Verbs(tmp_path))
    assert "noted as wrong" not in str(run.case("q0001"))
    assert "noted as wrong" in str(result.case("q0001"))


def corrected(case):
    return type(case)(
        id=case.id,
        tenant=case.tenant,
        inputs=case.inputs,
        expected={"answers": ["22 days"], "page": "holiday"},
    )


def test_a_damaged_file_of_notes_is_told_and_the_panel_goes_on(tmp_path, result):
    path = tmp_path / "pipelines/notes/answers.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("{broken\n")
    assert "the notes cannot be read" in str(result.explore())
    with pytest.raises(ConfigError, match=r"answers\.jsonl:1"):
        result.case("q0001").note("wrong")
    assert path.read_text() == "{broken\n"


def test_what_is_kept_of_attempts_is_bounded():
    kept = KeptAttempts(most=10)
    kept.keep("a", 0, [], [hit("12345678")])
    kept.keep("b", 0, [{"port": "model", "operation": "chat", "trace_id": "t"}], [hit("12345678")])
    assert kept.get("a", 0).passages and kept.get("b", 0).passages is None and kept.get("c", 0) is None
    assert kept.get("b", 0).traces == ("t",)


def test_the_table_counts_reasons_where_there_are_several():
    run = a_run("new", accuracy=[1, None, None])
    rows = run.cases.with_columns(
        error=pl.when(pl.col("case") == "q0001").then(pl.lit("filtered: x")).otherwise("error")
    )
    kinds = CaseTable.of(Run(**run.identity(), cases=rows), None).kinds
    assert kinds == {
        "unscored": 2, "all": 3, "unscored: InvalidOutputError": 1, "unscored: filtered": 1,
    }  # fmt: skip
    assert isinstance(run.case("q0001"), CaseDetail)


# -- hostile names and errors -----------------------------------------------------------------

NAMED = 'q").why(); import os; ("\n\x1b[2J\u202e<script>'


def renamed(run, text):
    """The run with names of a hostile dataset: the first case and its tenant."""
    cases = run.cases.with_columns(
        pl.when(pl.col("case") == "q0000").then(pl.lit(text)).otherwise("case").alias("case"),
        pl.when(pl.col("tenant") == "acme").then(pl.lit(text)).otherwise("tenant").alias("tenant"),
    )
    return replace(run, cases=cases.sort("case"))


def test_a_hostile_name_reaches_no_terminal_and_adds_no_call_to_those_that_are_copied():
    run = renamed(explored("new", [0, 1], dataset(2)), NAMED)
    panel = run.explore().filter(kind="all").open(NAMED)
    for text in (str(panel), str(run.case(NAMED)), str(run)):
        assert not {"\x1b", "\u202e"} & set(text)
    (called,) = [line for line in str(panel).splitlines() if "why this answer: " in line]
    tree = ast.parse(called.partition(": ")[2])
    assert len(tree.body) == 1 and ast.literal_eval(tree.body[0].value.func.value.args[0]) == NAMED


def test_a_long_reason_and_thousands_of_them_are_no_long_list_of_choices():
    run = explored("new", [None] * 300, dataset(300))
    errors = [f"{n}{'z' * 10_000}" for n in range(300)]
    panel = replace(run, cases=run.cases.with_columns(error=pl.Series(errors))).explore()
    (kinds,) = [n for n in panel._choices().to_json()["nodes"] if n.get("action") == "kind"]
    assert len(kinds["options"]) < 60 and max(len(value) for value, _ in kinds["options"]) < 120
    panel.act("kind", kinds["options"][-1][0])
    assert panel.cases.height == 1 and not panel.notice
    assert len(json.dumps(panel.to_json())) < 300_000
