from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import polars as pl
import pytest
from made_evidence import ROOT, SCORERS, N, an_evidence, failing, saying
from made_repositories import git, saved
from made_runs import a_run, as_control, of

from workbench import config
from workbench.config import DatasetFile
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.run_plots import arms_plot, cost_plot, latency_plot
from workbench.experiments.synthetic import Generator, Synthetic
from workbench.pipeline.plots import arms
from workbench.pipeline.report import committed, pages, write
from workbench.pipeline.worth_reading import AskedCases


@pytest.fixture
def evidence():
    return an_evidence


class Strict(HTMLParser):
    """Balanced tags, and nothing loaded from elsewhere."""

    VOID = {"meta", "rect", "line"}

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        assert not {"src", "href"} & dict(attrs).keys(), "the page must be self-contained"
        assert tag != "script"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)


def read(page):
    parser = Strict()
    parser.feed(page.decode())
    assert not parser.open
    return " ".join(" ".join(parser.text).split())


def test_the_page_is_whole_self_contained_and_says_what_decides(evidence):
    text = read(pages(evidence())[0])
    for said in (
        "Answers & <more>",
        "people operations",
        "phase: mvp",
        "accuracy",
        ">= 0.5",
        "answer@2",
        "dddddddddddd",
        "It is <b>46</b> | euros",
        "candidate (judged) against few_shot (explored)",
        "better",
        "make repro LIVE=1",
        "acme",
        "No line of this gate",
    ):
        assert said in text, said


def test_the_markdown_says_the_same_and_no_answer_breaks_its_tables(evidence):
    page = pages(evidence())[1].decode()
    assert "**pass**" in page and "It is &lt;b>46&lt;/b> \\| euros" in page
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_what_is_undecided_is_said_with_the_cases_needed(evidence):
    html, markdown = pages(evidence(0.55))
    assert "more cases would decide it" in read(html) and "more cases would decide it" in markdown.decode()
    assert "undecided" in read(html)


def test_the_same_evidence_gives_the_same_bytes(evidence, tmp_path):
    assert pages(evidence()) == pages(evidence())
    html, markdown = write(evidence(), tmp_path / "deep" / "readiness")
    assert (html.read_bytes(), markdown.read_bytes()) == pages(evidence())
    assert html.suffix == ".html" and markdown.suffix == ".md"


def test_a_failed_gate_is_not_dressed_up(evidence):
    html, markdown = pages(evidence(0.1))
    assert "At least one line of the gate is missed" in read(html) and "**fail**" in markdown.decode()


def test_searches_that_the_last_snapshot_answered_are_said_beside_the_verdict_and_nothing_without(evidence):
    said = "candidate: degraded: 1 search was answered by the last snapshot: the server was away"
    html, markdown = pages(evidence(degraded=1))
    assert read(html).index("pass") < read(html).index(said) < read(html).index("The gate")
    assert f"\n**{said}**\n" in markdown.decode().partition("## The gate")[0]
    assert not any(b"degraded" in page for page in pages(evidence()))


def both(evidence):
    """The text of the page, and the Markdown in one line."""
    html, markdown = pages(evidence)
    return re.sub(r" (?=[:,;.])", "", read(html)), " ".join(markdown.decode().replace("`", "").split())


def test_the_head_says_what_was_judged_and_that_the_arms_of_the_notebook_decide_nothing(evidence):
    judged = evidence()
    for text in both(judged):
        head = text.partition("The gate")[0]
        for said in (
            judged.judged.id,
            "40 of data/handbook/questions.jsonl",
            judged.gate.dataset_digest[:12],
            "accuracy: contains (answers: answers)",
            "brief: pipelines/scorers/brief.py",
            judged.gate.gate_digest[:12],
            "notebooks/answers.ipynb",
            "few_shot: arms of the notebook itself, drawn beside the judged run and deciding nothing",
        ):
            assert said in head, said
        assert "555555555555" in text and "777777777777" in text


def test_the_judged_run_is_first_and_marked_and_a_lower_arm_is_no_failure(evidence):
    html, markdown = pages(evidence())
    text, table = read(html), markdown.decode()
    assert text.index("candidate judged") < text.index("few_shot explored")
    assert table.index("| candidate | **judged** |") < table.index("| few_shot | explored |")
    for page in (text, table):
        assert re.search(r"-0\.9 \[-0\.\d+, -0\.\d+\]: lower", page)
        assert "worse" not in page.replace("improved, worse", "")
    assert b'class="mark worse"' not in html and b'class="mark fail"' not in html


def test_a_worse_candidate_is_said_to_be_worse_and_the_arm_higher(evidence):
    html, markdown = pages(evidence(0.6, explored=[a_run("few_shot", accuracy=of(N, N))]))
    assert b'<span class="mark worse">worse</span>' in html and ": higher" in read(html)
    assert "few_shot (explored): **worse**" in markdown.decode()


def test_unscored_cases_are_a_table_by_reason_in_words_with_the_first_case(evidence):
    errors = {
        "q0005": "truncated: the answer has no text",
        "q0003": "truncated: <i>no</i> | text",
        "q0007": "KeyError",
    }
    html, markdown = pages(evidence(errors=errors))
    text = read(html)
    assert text.index("The gate") < text.index("What is unscored") < text.index("What is undecided")
    assert "truncated the answer reached the limit of tokens" in text and "2 q0003: <i>no</i> | text" in text
    assert "KeyError the task or a scorer raised this error 1 q0007" in text
    row = "| `truncated` | the answer reached the limit of tokens before its text: raise max_tokens | 2 |"
    assert f"{row} q0003: " in markdown.decode()
    assert not any("What is unscored" in text for text in both(evidence()))


def test_each_reason_of_the_documentation_is_put_in_words(evidence):
    table = (ROOT / "docs/judge.md").read_text().partition("## Unscored cases")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    reasons = [reason for row in rows for reason in re.findall("`([a-z_]+)`", row)]
    assert len(reasons) >= 14 and "truncated" in reasons
    for some in (reasons[:8], reasons[8:]):
        errors = {f"q{n:04}": f"{reason}: m" for n, reason in enumerate(some)}
        text = both(evidence(errors=errors, explored=[]))[0]
        assert all(f"{reason} " in text for reason in some)
        assert "the task or a scorer raised this error" not in text


def test_many_reasons_of_unscored_cases_are_cut_and_long_ones_shortened(evidence):
    errors = {f"q{n:04}": f"Error{n:02}{'x' * 500}" for n in range(14)}
    html, _ = both(evidence(errors=errors))
    assert "4 more reasons are rarer" in html and "x" * 160 not in html and "Error09x" in html
    assert "Error10x" not in html


def test_when_every_case_is_unscored_no_number_of_cases_is_named(evidence):
    errors = {f"q{n:04}": "refusal: the model refused" for n in range(N)}
    for text in both(evidence(errors=errors)):
        assert "more cases would decide" not in text and "more cases needed" not in text
        assert "every case is unscored (40 refusal): more cases decide nothing" in text
        assert "Nothing to compare: no case has the score accuracy in both candidate and few_shot" in text
        assert "the model refused" in text


def test_a_loosened_text_and_a_note_stand_beside_the_verdict(evidence):
    first = evidence()
    gate = dataclasses.replace(first.gate, loosened="loosened: a text with a >= 1", note="a remark")
    for text in both(dataclasses.replace(first, gate=gate)):
        head = text.partition("The gate")[0]
        assert "loosened: a text with a >= 1" in head.replace("&lt;", "<") and "a remark" in head


def test_a_gate_that_was_not_stated_before_is_not_said_to_be_missed(evidence):
    first = evidence()
    gate = dataclasses.replace(first.gate, stated_before=False)
    for text in both(dataclasses.replace(first, gate=gate)):
        assert gate.verdict == "undecided" and "this gate was not stated before the run" in text
        assert "NOT stated before this run" in text


def test_arms_over_other_cases_or_scores_are_named_as_left_out_with_the_reason(evidence):
    explored = [
        a_run("few", accuracy=of(3, 10), dataset="other"),
        a_run("few_shot", exactness=of(0, N)),
        a_run("third", accuracy=of(9, N)),
    ]
    for text in both(evidence(explored=explored)):
        (line,) = re.findall(r"Left out: .*?\)\.", text)
        assert "few (it answered other cases: 10, of which 10 have the id of a judged case)" in line
        assert (
            "few_shot (it has no score accuracy, by which arms are compared; its scores: exactness)" in line
        )
        assert "third" not in line and "third" in text
        assert "The baseline 'few_shot' cannot be compared: it has no score accuracy" in text
        assert (
            "run it over ws.cases() with a scorer named accuracy, or set use_cases.answers.baseline" in text
        )


def test_a_baseline_that_was_not_explored_is_one_line_with_the_fix(evidence):
    for text in both(evidence(baseline="few_shots")):
        assert "The baseline 'few_shots' is no arm that notebooks/answers.ipynb explored" in text
        assert "(nearest: 'few_shot')" in text and 'ws.experiment("answers").compare(…)' in text
        assert "few_shot (explored):" not in text and "workbench compare" not in text


def test_no_paragraph_of_the_markdown_continues_a_list(evidence):
    lines = pages(evidence(0.55))[1].decode().splitlines()
    after = [lines[n + 1] for n, line in enumerate(lines) if line.startswith("- ")]
    assert after and all(not line or line.startswith("- ") for line in after)


def test_without_arms_of_the_notebook_the_page_is_complete(evidence):
    html, markdown = both(evidence(explored=[], baseline=None))
    for text in (html, markdown):
        assert "The notebook explored no other arm that can be compared" in text
        assert "candidate" in text and "What it stands on" in text and "deciding nothing" not in text
        assert "The baseline" not in text and "Left out" not in text
    read(pages(evidence(explored=[]))[0])


def drawn(page):
    """The plots of a page by title, each parsed as XML."""
    found = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page.decode(), re.DOTALL)]
    return {"".join(plot[0].itertext()): plot for plot in found}


def test_a_score_on_another_scale_is_drawn_on_its_own(evidence):
    rated = a_run("few_shot", accuracy=[float(n % 5) for n in range(N)])
    for explored, last in (([rated], "2"), (None, "1")):
        plot = drawn(pages(evidence(explored=explored))[0])["accuracy of each arm"]
        ticks = [e.text for e in plot.iter() if e.get("text-anchor") == "middle"][:-1]  # the last is the axis
        assert ticks[-1] == last


def test_the_page_draws_arms_cost_and_latency_as_a_notebook_does(evidence):
    made = evidence()
    plots = drawn(pages(made)[0])
    assert list(plots) == ["accuracy of each arm", "USD per case against accuracy", "seconds per case"]
    arms = [made.judged.plotted("judged"), made.explored.arms[0].plotted("explored")]
    for plot in (arms_plot(arms, "accuracy", 0.9), cost_plot(arms, "accuracy", 0.9), latency_plot(arms)):
        assert plot.svg in pages(made)[0]


def test_the_page_draws_how_a_score_forecasts_the_first_one_where_there_is_one(evidence):
    made = evidence()
    grounded = pl.Series("score.grounded", [(n % 10) / 10 for n in range(N)])
    judged = dataclasses.replace(made.judged, cases=made.judged.cases.with_columns(grounded))
    page = pages(dataclasses.replace(made, judged=judged))[0]
    assert "calibration: accuracy where a score forecasts it" in drawn(page)


ASKED = AskedCases(
    cases={
        f"q{n:04}": Case(
            id=f"q{n:04}", tenant="acme", inputs={"question": f"Why <{n}> | mail me at a@example.com?"},
            expected={"answers": ["46 euros", f"<{n}>"], "page": "travel"},
        )
        for n in range(N)
    },
    clean=lambda text: text.replace("a@example.com", "<EMAIL>"),
)  # fmt: skip


def test_question_and_expected_answer_stand_beside_each_answer_worth_reading(evidence):
    made = dataclasses.replace(evidence(0.95), asked=ASKED)
    html, markdown = pages(made)
    text = read(html)
    assert "case, tenant asked expected answer source" in text
    assert "q0038 acme Why <38> | mail me at <EMAIL>? 46 euros or <38> It is <b>46</b> | euros" in text
    assert "a@example.com" not in text + markdown.decode()
    assert (
        "| q0038 | acme | Why &lt;38> \\| mail me at &lt;EMAIL>? | 46 euros or &lt;38> | It is"
        in markdown.decode()
    )
    assert "expected" not in read(pages(evidence(0.95))[0]).partition("Answers worth reading")[2][:200]


def test_a_column_of_a_class_that_no_log_holds_is_not_shown(evidence):
    made = dataclasses.replace(
        evidence(0.95), asked=dataclasses.replace(ASKED, hidden=frozenset({"question"}))
    )
    text = read(pages(made)[0])
    assert "(not shown) 46 euros or <38>" in text and "Why <" not in text


def test_what_the_page_shows_of_a_case_is_masked_as_in_logs_and_the_same_in_every_clone(tmp_path):
    case = dataclasses.replace(
        config.load_params(ROOT).use_cases["triage"],
        dataset=DatasetFile(
            file="x", inputs=("text", "name"), expected=("label",), classes={"name": "secret"}
        ),
    )
    row = Case(
        id="t1", tenant="acme", inputs={"text": "Call +44 7700 900345", "name": "Ann"},
        expected={"label": "billing"},
    )  # fmt: skip
    cases = Dataset(name="d", cases=(row,))
    (tmp_path / "params.yaml").write_text("data_classes: {personal: {logs: pseudonymise}}\n")
    for root in (ROOT, tmp_path):
        asked = AskedCases.of(root, case, cases)
        assert asked.asked("t1") == "text: Call [PHONE]; name: (not shown)"
        assert asked.expected("t1", ["label"]) == "billing" and asked.asked("t2") == ""
    assert not list(tmp_path.glob(".workbench/**/*"))  # no key was made


def test_the_command_says_in_which_commit_and_of_which_day_a_page_last_changed(tmp_path):
    page = tmp_path / "reports" / "a.md"
    assert committed(tmp_path, str(page)).startswith(("no commit holds", "its commit is unknown"))
    git(tmp_path, "init", "--quiet")
    for key, value in (("user.name", "t"), ("user.email", "t@example.com")):
        git(tmp_path, "config", key, value)
    page.parent.mkdir()
    page.write_text("one")
    assert committed(tmp_path, str(page)) == "no commit holds this page yet"
    commit = saved(tmp_path, reports__a="")
    saved(tmp_path, other="a later commit")
    day = git(tmp_path, "log", "-1", "--format=%cs")
    short = git(tmp_path, "rev-parse", "--short", commit)
    assert committed(tmp_path, str(page)) == f"last changed in commit {short} of {day}"
    page.write_text("two")
    assert committed(tmp_path, str(page)).endswith(f"of {day}; what is there now is not committed")


def test_the_first_paragraph_says_what_was_asked_of_whom_the_result_and_what_follows(evidence):
    for text in both(dataclasses.replace(evidence(), jobs=("answers",))):
        head = text.partition("judged by")[0]
        assert (
            "answered 40 cases of 2 tenants (acme, globex). 36 of 40 answers are right; of such cases,"
            in head
        )
        assert "The verdict is pass: every line that was stated beforehand holds, so the version may" in head
        assert "Next: workbench promote job/answers --to candidate" in head
    for text in both(evidence(0.1)):
        head = text.partition("judged by")[0]
        assert "The verdict is fail: at least one line that was stated beforehand is surely missed" in head
        assert "workbench compare answers/candidate answers/few_shot" in head
    head = both(evidence(0.55))[0].partition("judged by")[0]
    assert "The verdict is undecided" in head and "Next: dvc repro # after adding about" in head


def test_the_head_has_model_day_and_the_command_that_names_the_commit_and_nothing_of_the_clock(evidence):
    made = evidence()
    settings = {**made.judged.settings, "model": "m<1>@3", "model_digest": "9" * 64}
    for page in both(dataclasses.replace(made, judged=dataclasses.replace(made.judged, settings=settings))):
        head = page.partition("The gate")[0].replace("&lt;", "<")
        assert "m<1>@3" in head and "999999999999" in head
        assert f"the data as of {made.use_case.as_of}" in head
        assert 'git log -1 --format="%h %cs" -- reports/readiness.md' in head


def test_a_control_that_is_lower_is_as_expected_and_no_failure(evidence):
    low = as_control(a_run("closed_book", accuracy=of(0, N)))
    html, markdown = pages(evidence(explored=[low]))
    for page in (read(html), markdown.decode()):
        assert re.search(r"-0\.9 \[-0\.\d+, -0\.\d+\]: control, as expected", page)
        assert "worse" not in page.replace("improved, worse", "") and "is not surely lower" not in page
    assert b'class="mark worse"' not in html
    assert "closed_book control: 0" in html.decode()


def test_a_control_that_is_as_good_is_a_warning_beside_the_verdict(evidence):
    for right, said in ((36, "the same on every case"), (40, "no sure difference")):
        high = as_control(a_run("closed_book", accuracy=of(right, N)))
        for text in both(evidence(explored=[high])):
            assert f"control, not as expected: {said}" in text
            assert "closed_book is a control and is not surely lower" in text.partition("The gate")[0]


def test_the_limits_say_that_the_data_is_synthetic_and_what_the_owner_states(evidence):
    made = evidence()
    case = dataclasses.replace(made.use_case, known_limits=("Written for <this> | model.",))
    gate = dataclasses.replace(
        made.gate, synthetic=Synthetic(n=N, n_cases=N, generators=(Generator(name="tickets"),))
    )
    for text in both(dataclasses.replace(made, use_case=case, gate=gate)):
        limits = text.partition("Limits")[2].replace("&lt;", "<").replace("\\|", "|")
        assert "40 of 40 cases are synthetic (tickets): the numbers say how such cases are answered" in limits
        assert "Written for <this> | model." in limits


def test_arms_that_agree_on_every_case_are_the_same_on_the_page(evidence):
    twin = a_run("few_shot", accuracy=of(36, N))
    html, markdown = pages(evidence(explored=[twin]))
    assert '<span class="mark same">same</span>' in html.decode()
    assert "few_shot (explored): **same**" in markdown.decode()
    assert ": the same on every case" in read(html)


def own(run=None, text="It is <b>46</b> | euros", right=36):
    return saying(run or a_run("candidate", accuracy=of(right, N)), text)


def test_the_notebook_s_own_candidate_is_compared_output_by_output(evidence):
    for text in both(evidence(explored=[own()])):
        said = "The notebook's own arm candidate gave the same output for 40 of 40 judged cases."
        assert said in text and text.index("explored arms") < text.index(said)


def test_another_output_of_the_own_candidate_is_a_warning_with_three_cases(evidence):
    different = own()
    text = pl.when(pl.col("case") < "q0005").then(pl.lit('{"text":"other"}')).otherwise("output")
    different = dataclasses.replace(different, cases=different.cases.with_columns(output=text))
    different = failing(different, {"q0009": "KeyError"})
    for text in both(evidence(explored=[different])):
        head = text.partition("The gate")[0]
        assert (
            "the same output for 34 of 40 judged cases; another output for 5 (q0000, q0001, q0002, …)" in head
        )
        assert "only one of the two has an output for 1 (q0009). Its exploration does something else" in head


def test_other_scores_of_equal_outputs_are_named(evidence):
    for text in both(evidence(explored=[own(right=30)])):
        assert "another score accuracy for 6 of the same outputs. Its scorers are not those of params" in text


def test_every_repeat_of_the_own_candidate_must_give_the_judged_output(evidence):
    twice = own(a_run("candidate", accuracy=of(72, 2 * N), repeats=2))
    assert "the same output for 40 of 40" in both(evidence(explored=[twice]))[0]
    last = (pl.col("case") == "q0001") & (pl.col("repeat") == 1)
    other = pl.when(last).then(pl.lit('{"text":"x"}')).otherwise("output")
    once = dataclasses.replace(twice, cases=twice.cases.with_columns(output=other))
    assert (
        "the same output for 39 of 40 judged cases; another output for 1 (q0001)"
        in both(evidence(explored=[once]))[0]
    )


def test_a_first_scorer_that_is_a_file_is_named_among_the_limits(evidence):
    scorers = {"accuracy": SCORERS["brief"]}
    for text in both(evidence(scorers=scorers)):
        assert "accuracy is what pipelines/scorers/brief.py returns" in text
        assert "counts as right when" not in text


def test_the_plotted_arms_say_who_made_them():
    judged, other = a_run("candidate", accuracy=of(30, N)), a_run("plain", accuracy=of(10, N))
    rows = arms(judged, [other], 0.9)
    assert [(row["arm"], row["made_by"], row["value"]) for row in rows] == [
        ("candidate", "judged", 0.75),
        ("plain", "explored", 0.25),
    ]
