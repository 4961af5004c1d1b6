"""The start page: every use case and job with its next command, whatever the repository holds."""

from __future__ import annotations

import json

import pytest
from made_job_runs import NOW
from made_jobs import frozen, judged_repository

from workbench.cli.app import cli
from workbench.experiments.labels import HumanLabel, ShownAnswer
from workbench.pipeline.start_page import start_page, status_of
from workbench.reviews.label_file import LabelFile
from workbench.reviews.progress import ReviewProgress
from workbench.testing.fakes import FakeClock


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    return judged_repository(tmp_path_factory.mktemp("start") / "repo")


@pytest.fixture
def gate(repo):
    path = repo / "results/answers/gate.json"
    yield path
    path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("text", "verdict", "command"),
    [
        (None, "not judged", "make repro"),
        ('{"verdict": "pass"}', "pass", "workbench promote job/answers --to production"),
        ('{"verdict": "fail"}', "fail", "workbench gate answers/candidate"),
        ('{"verdict": "undecided"}', "undecided", "workbench gate answers/candidate"),
        ('{"verdict": "<b>"}', "not judged", "make repro"),
        ('{"verdict": ', "not judged", "make repro"),
        ("[1]", "not judged", "make repro"),
    ],
)
def test_a_use_case_has_its_verdict_and_its_next_command(repo, gate, text, verdict, command):
    if text is not None:
        gate.write_text(text)
    (line,) = status_of(repo, clock=FakeClock(NOW.isoformat())).cases
    assert (line.verdict, line.command) == (verdict, command)
    assert verdict in start_page(repo) and f"`{command}`" in start_page(repo)


def test_a_job_has_its_version_and_links_lead_to_files(tmp_path, monkeypatch):
    repo = judged_repository(tmp_path / "repo")
    frozen(repo, label="production")
    (repo / "reports").mkdir(exist_ok=True)
    case = status_of(repo).cases[0].case
    (repo / f"{case.report}.html").write_text("")
    monkeypatch.chdir(repo)
    (job,) = status_of(repo, clock=FakeClock(NOW.isoformat())).jobs
    assert (job.status.production, job.last, job.command) == (1, "no runs yet", "workbench jobs run answers")
    page = start_page(repo)
    assert f"[answers]({case.notebook})" in page and f"[page]({case.report}.html)" in page
    shown = json.loads(json.dumps(status_of(repo).to_json()))
    assert shown["jobs"][0]["production"] == 1 and shown["use_cases"][0]["next"]


def labelled(file, *decisions, **more):
    """Append labels of (case, reviewer), in order."""
    shown = [ShownAnswer(run=arm[0] * 64, arm=arm, output=arm[0] * 64) for arm in ("draft", "candidate")]
    for case, reviewer in decisions:
        made = {"choice": "left", "note": "", "at": "2026-11-24T06:00:00Z", "seed": 7, **more}
        file.append(
            HumanLabel(
                use_case="answers", case=case, left=shown[0], right=shown[1], reviewer=reviewer, **made
            )
        )


def test_a_review_has_its_pairs_and_the_call_that_goes_on(tmp_path):
    repo = judged_repository(tmp_path / "repo")
    file = LabelFile(repo, "answers", "first-round")
    labelled(file, ("q1", "ann"), ("q2", "ann"), ("q2", "bob"), ("q2", "bob"), pairs=3)
    (repo / "pipelines/reviews/answers/torn.jsonl").write_text("[1]\n")
    review, torn = status_of(repo).reviews
    about = "candidate and draft: 2 of 3, 1 of 3 pairs labelled by 2 reviewers, last on 2026-11-24"
    assert review.about == about
    call = f'ws.review("{"c" * 64}", "{"d" * 64}", name="first-round", seed=7, k=3)'
    assert review.command == call
    assert "cannot be read" in torn.about and "torn" in torn.about
    page = start_page(repo)
    assert f"[answers/first-round.jsonl]({file.relative})" in page and "cannot be read" in page
    assert [line["next"] for line in status_of(repo).to_json()["reviews"]] == [review.command, torn.command]
    assert "first-round" in str(status_of(repo)) and "2 of 3" in start_page(repo)
    labelled(file, ("q1", "bob"), ("q3", "ann"), ("q3", "bob"), pairs=3)
    review, _ = status_of(repo).reviews
    assert "complete: 3 pairs labelled by 2 reviewers" in review.about
    assert review.command == f"{call}.report()"
    told = status_of(repo).to_json()["reviews"]
    assert [line["complete"] for line in told] == [True, False]
    assert told[0]["reviewers"] == [{"labelled": 3, "pairs": 3}] * 2


@pytest.mark.parametrize(
    ("decisions", "told", "complete"),
    [
        ([("q1", "ann", 7, 2)], "1 of 2 pairs labelled", False),
        ([("q1", "ann", 7, 1)], "complete: 1 pair labelled", True),
        # Labels of versions that did not write the number, alone and before one with it.
        ([("q1", "ann", 7, None)], "1 pair labelled, of how many is not written", False),
        ([("q1", "ann", 7, None), ("q2", "ann", 7, 2)], "complete: 2 pairs labelled", True),
        # Another seed begins another sample; a smaller one has the first pairs of the larger.
        ([("q1", "ann", 7, 2), ("q2", "ann", 8, 2)], "1 of 2 pairs labelled", False),
        ([("q1", "ann", 7, 3), ("q2", "ann", 7, 3), ("q1", "ann", 7, 1)], "complete: 1 pair", True),
        ([("q1", "ann", 7, 1), ("q1", "ann", 7, 2)], "1 of 2 pairs labelled", False),
        ([("q1", "ann", 7, 1), ("q1", "bob", 8, 2)], "1 of 1, 1 of 2 pairs labelled by 2 reviewers", False),
        ([("q1", f"r{n}", 7, 2) for n in range(5)], "1 of 2, 1 of 2, 1 of 2, … pairs", False),
    ],
)
def test_how_far_a_review_is_by_its_labels(tmp_path, decisions, told, complete):
    file = LabelFile(tmp_path, "answers", "r")
    for case, reviewer, seed, pairs in decisions:
        labelled(file, (case, reviewer), seed=seed, pairs=pairs)
    found = ReviewProgress.of(file.read())
    assert told in str(found) and found.complete is complete


def test_the_markdown_page_is_linked_where_no_html_is_built(tmp_path):
    repo = judged_repository(tmp_path / "repo")
    report = repo / status_of(repo).cases[0].case.report
    report.parent.mkdir(exist_ok=True)
    for ending in (".md", ".html"):
        report.with_name(f"{report.name}{ending}").write_text("")
        assert f"{report.name}{ending})" in start_page(repo)


def test_a_title_is_no_markup(tmp_path):
    repo = judged_repository(tmp_path / "a_[b](c)<script>")
    params = (repo / "params.yaml").read_text()
    title = next(line for line in params.splitlines() if line.strip().startswith("title:"))
    hostile = title.split("title:")[0] + "title: 'x | <script>alert(1)</script> [a](javascript:b) `c` *d*'"
    (repo / "params.yaml").write_text(params.replace(title, hostile))
    page = start_page(repo)
    assert r"x \| \<script\>alert\(1\)\</script\> \[a\]\(javascript:b\) \`c\` \*d\*" in page
    assert r"a\_\[b\]\(c\)\<script\>" in page.splitlines()[0]


def test_an_invalid_file_is_said_in_place_of_the_page(tmp_path):
    repo = judged_repository(tmp_path / "repo")
    (repo / "params.yaml").write_text("use_cases: [")
    assert "params.yaml" in start_page(repo) and "cannot be read" in start_page(repo)


def test_the_command_prints_the_same(repo, monkeypatch, capsys):
    monkeypatch.chdir(repo)
    cli(["status"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "answers" in said and "make repro" in said
    cli(["status", "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["use_cases"][0]["name"] == "answers"
