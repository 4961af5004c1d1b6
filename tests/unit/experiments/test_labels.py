"""Files of human labels, read strictly, and the scorer of their preferences."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import pytest

from workbench import files
from workbench.errors import ConfigError, CorruptError, NotFoundError
from workbench.experiments.attempts import stored
from workbench.experiments.dataset import Case
from workbench.experiments.labels import (
    HumanLabel,
    ShownAnswer,
    answer_digest,
    human,
    human_scorer,
    latest,
    read_labels,
)
from workbench.experiments.scorer_spec import ScorerSet, stated_labels
from workbench.experiments.scorers import Outcome, judged_output

FILE = "pipelines/reviews/answers/first.jsonl"


def a_label(choice="left", *, case="q1", left="ours", right="theirs", reviewer="ana", **fields):
    sides = {
        side: ShownAnswer(run=f"run-{output}", arm=output, output=digest_of(output))
        for side, output in (("left", left), ("right", right))
    }
    made = {"use_case": "answers", "note": "", "at": "2026-11-25T06:00:00Z", "seed": 7, **fields}
    return HumanLabel(case=case, choice=choice, reviewer=reviewer, **sides, **made)


def digest_of(output):
    return answer_digest(stored(output)["output"])


def line_of(label):
    return files.canonical(dataclasses.asdict(label)) + b"\n"


def written(path, *labels, end=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(line_of, labels)) + end)
    return path


def outcome(output, case="q1"):
    return Outcome(case=Case(id=case, tenant="acme", inputs={}, expected={}), output=output)


# -- reading -------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path):
    labels = (a_label(note="because\nof «this» \u2028"), a_label("skip", reviewer="ben", right="\u05e9"))
    assert read_labels(written(tmp_path / "l.jsonl", *labels)) == labels


@pytest.mark.parametrize("kept", range(0, 300, 37))
def test_a_torn_last_line_is_left_out(tmp_path, kept):
    path = written(tmp_path / "l.jsonl", a_label(), end=line_of(a_label("right"))[:kept])
    assert read_labels(path) == (a_label(),)


def test_a_last_line_without_its_end_counts(tmp_path):
    path = written(tmp_path / "l.jsonl", a_label(), end=line_of(a_label("right"))[:-1])
    assert [label.choice for label in read_labels(path)] == ["left", "right"]


def test_a_label_of_a_version_that_wrote_no_number_of_pairs_is_read(tmp_path):
    raw = dataclasses.asdict(a_label(pairs=None))
    del raw["pairs"]
    (tmp_path / "l.jsonl").write_text(json.dumps(raw) + "\n")
    assert read_labels(tmp_path / "l.jsonl") == (a_label(),)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"choice": "middle"}, "choice"),
        ({"format": 2}, "format"),
        ({"note": None}, "note"),
        ({"seed": "7"}, "seed"),
        ({"pairs": 0}, "pairs"),
        ({"pairs": "20"}, "pairs"),
        ({"at": "yesterday"}, "no time as"),
        ({"mood": "good"}, "unknown key 'mood'"),
        ({"left": {"run": "r", "arm": "a"}}, "missing key 'left.output'"),
        ({"note": "x" * 70_000}, "a label has 64,000 at most"),
    ],
)
def test_a_line_of_another_form_is_named(tmp_path, change, told):
    path = written(tmp_path / "l.jsonl", a_label())
    raw = {**dataclasses.asdict(a_label()), **change}
    path.write_bytes(path.read_bytes() + json.dumps(raw).encode() + b"\n")
    with pytest.raises(CorruptError) as raised:
        read_labels(path)
    assert f"{path}:2" in raised.value.message and told in raised.value.message
    assert f"git log -p -- {path}" in raised.value.hint


@pytest.mark.parametrize("line", [b"\xff\xfe", b"{", b"[]", b"null", b'{"a":1,"a":2}', b"\x00" * 8])
def test_bytes_that_are_no_label_are_named(tmp_path, line):
    path = written(tmp_path / "l.jsonl", end=line + b"\n")
    with pytest.raises(CorruptError, match=r"l\.jsonl:1"):
        read_labels(path)


def test_no_file_a_folder_and_a_pipe_are_refused(tmp_path):
    with pytest.raises(NotFoundError, match="no file of labels"):
        read_labels(tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match="directory"):
        read_labels(tmp_path)


def test_the_latest_label_of_a_reviewer_counts_whatever_the_clock_says():
    first, second = a_label("left", at="2027-01-01T00:00:00Z"), a_label("right")
    turned = a_label("right", left="theirs", right="ours")
    assert latest([first, second]) == (second,)
    assert latest([first, turned]) == (turned,)  # the same answers on other sides
    assert len(latest([first, a_label(reviewer="ben"), a_label(case="q2")])) == 3


# -- scoring -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "ours", "theirs"),
    [("left", 1, 0), ("right", 0, 1), ("both_good", 0.5, 0.5), ("both_bad", 0.5, 0.5), ("skip", None, None)],
)
def test_a_preferred_answer_scores_1_and_a_tie_one_half(choice, ours, theirs):
    score = human_scorer([a_label(choice)])
    assert (score(outcome("ours")), score(outcome("theirs"))) == (ours, theirs)


def test_an_answer_without_a_label_has_no_score():
    score = human_scorer([a_label()])
    assert score(outcome("ours ")) is None and score(outcome("ours", case="q2")) is None


def test_the_labels_of_several_reviewers_are_averaged():
    score = human_scorer([a_label("left"), a_label("right", reviewer="ben"), a_label("right")])
    assert (score(outcome("ours")), score(outcome("theirs"))) == (0.0, 1.0)
    score = human_scorer([a_label("left"), a_label("right", reviewer="ben")])
    assert score(outcome("ours")) == 0.5


@dataclass(frozen=True)
class Typed:
    text: str
    share: float
    parts: tuple[dict, ...]


@pytest.mark.parametrize(
    "output",
    [
        "שלום \x1b[31m \u2028 <b>", "", 3, 0.1, 1e22, 1e-7, -0.0, True, None, ["a", {"b": [1.5]}],
        {"text": "x", "items": 1, "deep": {"keys": [1, None]}},
        Typed("t", 0.30000000000000004, ({"z": 1, "a": 2},)),
    ],
)  # fmt: skip
def test_an_answer_has_the_same_digest_for_the_judge_as_in_the_notebook(output):
    told = stored(output)["output"]
    label = dataclasses.replace(a_label(), left=ShownAnswer(run="r", arm="ours", output=answer_digest(told)))
    score = human_scorer([label])
    read = judged_output(files.parse_json(told, where="told"))
    assert score(outcome(output)) == 1.0 and score(outcome(read)) == 1.0


def test_wb_human_reads_a_file(tmp_path):
    made = human(labels=written(tmp_path / "l.jsonl", a_label()), name="people")
    assert made.name == "people" and made(outcome("ours")) == 1.0


# -- in params.yaml ------------------------------------------------------------------------


def parsed(root, stated):
    return ScorerSet.parse({"human": stated}, root=root, where="params.yaml: scorers")


def test_params_yaml_names_a_file_whose_bytes_are_part_of_the_gate(tmp_path):
    written(tmp_path / FILE, a_label())
    found = parsed(tmp_path, {"human": {"labels": FILE}})
    assert found.scorers[0].name == "human" and found.scorers[0](outcome("ours")) == 1.0
    source = found.identity()["human"]["human"]
    assert source == {"labels": FILE, "sha256": files.digest((tmp_path / FILE).read_bytes())}
    written(tmp_path / FILE, a_label(), a_label("right"))
    assert parsed(tmp_path, {"human": {"labels": FILE}}).digest != found.digest


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ("human", "labels is missing"),
        ({"human": None}, "takes a mapping"),
        ({"human": {}}, "labels is missing"),
        ({"human": {"labels": 3}}, "must name a file"),
        ({"human": {"labels": FILE, "by": "ana"}}, "unknown key 'by'"),
        ({"human": {"labels": "data/l.jsonl"}}, "not a path inside pipelines/reviews/"),
        ({"human": {"labels": "pipelines/reviews/../x"}}, "not a path inside"),
        ({"human": {"labels": "pipelines/reviews/none.jsonl"}}, "no file of labels"),
        ({"human": {"labels": "pipelines/reviews/answers"}}, "directory"),
        ({"human": {"labels": "pipelines/reviews/answers/bad.jsonl"}}, "bad.jsonl:1"),
    ],
)
def test_what_params_yaml_states_wrongly_is_named(tmp_path, stated, told):
    written(tmp_path / FILE, a_label())
    written((tmp_path / FILE).with_name("bad.jsonl"), end=b"{}\n")
    with pytest.raises(ConfigError) as raised:
        parsed(tmp_path, stated)
    assert (
        "params.yaml: scorers.human" in raised.value.message and told.lower() in raised.value.message.lower()
    )


def test_the_files_that_scorers_read_are_known_before_they_are_valid():
    stated = {
        "a": {"human": {"labels": "b"}},
        "c": {"human": {"labels": "a"}},
        "d": {"human": 3},
        "e": "exact",
    }
    assert stated_labels(stated) == ["a", "b"] and stated_labels(None) == []
