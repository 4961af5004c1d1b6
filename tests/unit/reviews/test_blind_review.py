"""A blind review without a front end: what is shown, what is kept, and how it is resumed."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from reviewed_runs import NAME, cases_of, decide, review_of, run_of, two_runs

from workbench.errors import ConfigError, CorruptError
from workbench.experiments.labels import read_labels
from workbench.reviews.blind_review import CHOICES
from workbench.reviews.label_file import LabelFile
from workbench.reviews.sampling import ReviewedRuns
from workbench.testing.fakes import FakeClock

FILE = f"pipelines/reviews/answers/{NAME}.jsonl"
HOSTILE = (
    "<script>window.injected = 1</script>",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202etxt.exe",
    "שלום עולם",
)


@pytest.fixture
def made(tmp_path):
    return tmp_path, *two_runs(6)


# -- what is shown -------------------------------------------------------------------------


def test_the_sides_and_the_order_depend_on_seed_and_case_alone():
    _, run, other = two_runs(60)
    runs = ReviewedRuns.of(run, other)
    first, again, another = (runs.sample(None, seed=seed) for seed in (7, 7, 8))
    assert first == again and [pair.case for pair in first] != [pair.case for pair in another]
    sides = [pair.left.arm for pair in first]
    assert 20 <= sides.count("candidate") <= 40
    assert runs.sample(10, seed=7) == first[:10]
    few = ReviewedRuns.of(*(run_of(r.arm, cases_of(20), json_of(r)[:20]) for r in (run, other)))
    side_of = {pair.case: pair.left.arm for pair in first}
    assert all(side_of[pair.case] == pair.left.arm for pair in few.sample(None, seed=7))


def json_of(run):
    return [json.loads(text) for text in run.cases["output"]]


def test_nothing_that_is_shown_names_an_arm_or_what_is_expected(made):
    review = review_of(*made)
    shown = json.dumps(review.to_json()["view"]["nodes"][:-1]) + repr(review.current)
    assert "few_shot" not in shown and "answer 3" not in shown and made[2].id not in shown
    assert "What is 3?" in shown and "few shot says 3" in shown
    review.show_expected()
    assert "answer 3" in str(review)
    review.act("expected")
    assert "answer 3" not in str(review)


def test_equal_answers_are_ties_that_are_not_shown_and_missing_ones_no_pairs(tmp_path):
    ours = ["same", None, "x", {"text": "a", "sources": ["p"]}]
    theirs = ["same", "y", "z", {"text": "a", "sources": ["q"]}]
    cases, run, other = two_runs(4, ours=ours, theirs=theirs)
    review = review_of(tmp_path, cases, run, other)
    assert len(review) == 2 and review.runs.equal == ("q00000",) and review.runs.incomplete == 1
    assert "1 pair has equal answers: counted as ties and not shown" in str(review)
    assert "1 case has no answer on one side" in str(review)
    review.choose("skip")
    assert {review.current.left, review.current.right} & {"a\n\nsources: p", "x"}


def test_runs_whose_answers_are_all_equal_leave_nothing_to_decide(tmp_path):
    cases, run, other = two_runs(2, ours=["a", "b"], theirs=["a", "b"], accuracy=([1.0, 1.0], [1.0, 0.0]))
    review = review_of(tmp_path, cases, run, other)
    assert review.current is None and "there is nothing to decide" in str(review)
    with pytest.raises(ConfigError, match="every pair is decided"):
        review.choose("left")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_gets_nothing_of_an_answer_that_it_obeys(tmp_path, text):
    cases = cases_of(1, question=text, expected=text)
    runs = run_of("candidate", cases, [text]), run_of("few_shot", cases, [{"text": text, text: text}])
    review = review_of(tmp_path, cases, *runs)
    review.show_expected()
    review.write_note(text)
    assert not {"\x1b", "\x07", "\u202e"} & set(str(review))


def test_long_answers_are_cut_and_their_first_difference_is_shown(tmp_path):
    cases = cases_of(1)
    long = "a" * 1_000_000
    runs = run_of("candidate", cases, [long + "<end>"]), run_of("few_shot", cases, [long + "other"])
    review = review_of(tmp_path, cases, *runs)
    assert len(json.dumps(review.to_json())) < 60_000
    assert "They differ from character 1,000,001 on:" in str(review) and "<end>" in str(review)


# -- what is kept --------------------------------------------------------------------------


def test_a_decision_is_one_line_that_holds_all_that_it_was_about(made):
    root, _, run, other = made
    review = review_of(*made, clock=FakeClock())
    shown = review._pairs[0]
    review.choose("both_good", note="  why\nnot ")
    (line,) = (root / FILE).read_text().splitlines()
    raw = json.loads(line)
    assert raw["case"] == shown.case and raw["reviewer"] == "ana" and raw["note"] == "  why\nnot "
    assert {raw["left"]["run"], raw["right"]["run"]} == {run.id, other.id}
    assert (raw["choice"], raw["seed"], raw["format"], raw["use_case"]) == ("both_good", 7, 1, "answers")
    assert raw["pairs"] == len(review)
    assert raw["left"]["output"] == shown.left.output and raw["at"].endswith("Z")
    assert "few shot says" not in line  # digests, no answers


def test_a_note_that_was_written_goes_with_the_next_decision_alone(made):
    review = review_of(*made)
    review.act("note", "short and right")
    review.act("choose", "left")
    review.act("choose", "right")
    assert [label.note for label in read_labels(made[0] / FILE)] == ["short and right", ""]


def test_a_decision_is_changed_and_both_are_kept(made):
    review = review_of(*made)
    review.choose("left", note="first")
    review.back()
    assert (review.current.choice, review.current.note) == ("left", "first")
    review.choose("right")
    first, second = read_labels(made[0] / FILE)
    assert (first.choice, second.choice, second.note) == ("left", "right", "first")
    assert review.decided == 1 and review.report().decisions["ana"][first.case]


def test_back_and_forward_reach_every_pair_and_stop_at_the_ends(made):
    review = review_of(*made)
    first = review.current.case
    review.back()
    assert review.current.case == first
    seen = []
    for _ in range(len(review)):
        seen.append(review.current.case)
        review.forward()
    assert len(set(seen)) == 6 and review.current.case == first  # the next open one again
    for _ in range(6):
        review.choose("skip")
    assert review.current is None and review.decided == 6
    review.back()
    assert review.current.case == seen[-1] and review.current.choice == "skip"


@pytest.mark.parametrize("choice", ["middle", "", None, 3, ["left"], "LEFT"])
def test_another_choice_is_refused_and_writes_nothing(made, choice):
    review = review_of(*made)
    review.act("choose", choice)
    assert "is no choice" in review.notice and review.decided == 0 and not (made[0] / FILE).exists()


@pytest.mark.parametrize("note", ["x" * 4_001, "\ud800", 3])
def test_a_note_that_cannot_be_kept_is_refused(made, note):
    review = review_of(*made)
    with pytest.raises(ConfigError, match="note"):
        review.choose("left", note=note)
    assert review.decided == 0 and not (made[0] / FILE).exists()


# -- how it goes on ------------------------------------------------------------------------


def test_the_same_call_again_goes_on_where_it_stopped(made):
    review = review_of(*made)
    review.choose("left")
    review.choose("skip")
    again = review_of(*made)
    assert again.decided == 2 and again.current == review.current
    assert review_of(*made, reviewer="ben").decided == 0


def test_a_turned_review_shows_an_earlier_decision_on_its_side(made):
    root, cases, run, other = made
    review = review_of(*made)
    review.choose("left")
    turned = review_of(root, cases, other, run)
    turned.back() if turned._at is None else [turned.back() for _ in range(turned._at)]
    assert turned.current.choice == "right"


def test_a_torn_line_of_a_killed_process_is_repaired_and_a_whole_one_kept(made):
    root = made[0]
    review = review_of(*made)
    review.choose("left")
    whole = (root / FILE).read_bytes()
    (root / FILE).write_bytes(whole + whole[:50])
    review_of(*made).choose("right")
    assert [label.choice for label in read_labels(root / FILE)] == ["left", "right"]
    (root / FILE).write_bytes((root / FILE).read_bytes()[:-1])  # as an editor may leave it
    review_of(*made).choose("skip")
    assert [label.choice for label in read_labels(root / FILE)] == ["left", "right", "skip"]


def test_a_disk_that_is_full_loses_no_earlier_decision(made, monkeypatch):
    review = review_of(*made)
    review.choose("left")
    monkeypatch.setattr("workbench.records.log.os.fsync", refused)
    review.act("choose", "right")
    assert "No space" in review.notice and review.decided == 1
    monkeypatch.undo()
    review.choose("both_bad")
    assert [label.choice for label in read_labels(made[0] / FILE)] == ["left", "both_bad"]


def refused(_):
    raise OSError(28, "No space left on device")


def test_runs_with_other_answers_are_refused_with_the_next_command(made):
    root, cases, run, other = made
    review = review_of(*made)
    case = review.current.case
    review.choose("left")
    changed = [f"now {text}" for text in json_of(run)]
    with pytest.raises(ConfigError) as raised:
        review_of(root, cases, run_of("candidate", cases, changed), other)
    assert (
        "holds labels on other answers to 1 case" in raised.value.message and run.id in raised.value.message
    )
    assert f'name="{NAME}-2"' in raised.value.hint and run.id in raised.value.hint
    # The same answers in another run, such as a slower one, are the same review.
    slower = run_of("candidate", cases, json_of(run), accuracy=[1.0] * 6)
    assert slower.id != run.id and review_of(root, cases, slower, other).decided == 1
    text = (root / FILE).read_text()
    (root / FILE).write_text(text.replace(case, next(c.id for c in cases if c.id != case)))
    with pytest.raises(CorruptError, match="its runs do not hold"):
        review_of(*made)


def test_labels_of_other_arms_in_the_file_change_nothing(made):
    root, cases, _, other = made
    review_of(root, cases, run_of("third", cases, [f"third {i}" for i in range(6)]), other).choose("left")
    assert review_of(*made).decided == 0 and review_of(*made).report().decisions == {}


@pytest.mark.parametrize("k", [0, -1, 2.5, True, "20"])
def test_a_sample_is_a_number_of_pairs(made, k):
    with pytest.raises(ConfigError, match="no number of pairs"):
        review_of(*made, k=k)


def test_a_smaller_sample_is_decided_sooner_and_a_larger_one_goes_on(made):
    review = review_of(*made, k=2)
    review.choose("left")
    review.choose("left")
    assert review.current is None and len(review) == 2
    more = review_of(*made, k=4)
    assert more.decided == 2 and more.current is not None and len(review_of(*made, k=99)) == 6


def test_what_cannot_be_reviewed_is_refused(made):
    root, cases, run, other = made
    with pytest.raises(ConfigError, match="with itself"):
        review_of(root, cases, run, run)
    with pytest.raises(ConfigError, match="different cases"):
        review_of(root, cases, run, run_of("few_shot", cases_of(3), ["a", "b", "c"]))
    with pytest.raises(ConfigError, match="no case has an answer in both"):
        review_of(root, cases, run, run_of("few_shot", cases, [None] * 6))
    with pytest.raises(ConfigError, match="answered another dataset"):
        review_of(root, cases_of(6, question="Why {}?"), run, other)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x" * 101, ".hidden", "a\x00"])
def test_a_name_that_is_none_of_a_file_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot name the file"):
        LabelFile(tmp_path, "answers", name)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "pipelines/reviews").mkdir(parents=True)
    (tmp_path / "pipelines/reviews/answers").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="link out of"):
        LabelFile(tmp_path, "answers", NAME)


def test_two_reviewers_on_one_file_at_once_keep_all_of_theirs(tmp_path):
    made = two_runs(30)
    start = threading.Barrier(2)

    def decide_all(reviewer):
        review = review_of(tmp_path, *made, reviewer=reviewer)  # with a lock of its own
        start.wait(20)
        for _ in range(30):
            decide(review)

    with ThreadPoolExecutor(2) as people:
        list(people.map(decide_all, ("ana", "ben")))
    report = review_of(tmp_path, *made).report()
    assert {name: len(given) for name, given in report.decisions.items()} == {"ana": 30, "ben": 30}
    assert report.kappa("ana", "ben").agreed == 30


def test_every_choice_has_one_key_and_a_call(made):
    keys = [key for _, key in CHOICES.values()]
    assert len(set(keys)) == 5 and not {"p", "n", "x"} & set(keys)
    assert all(f'review.choose("{choice}")' in str(review_of(*made)) for choice in CHOICES)


def test_ten_thousand_cases_are_sampled_and_shown_quickly(tmp_path):
    cases, run, other = two_runs(10_000)
    began = time.process_time()
    review = review_of(tmp_path, cases, run, other)
    opened = time.process_time() - began
    began = time.process_time()
    for _ in range(20):
        review.choose("left")
        review.to_json()
    each = (time.process_time() - began) / 20
    assert opened < 5 and each < 0.1, (opened, each)


@pytest.mark.parametrize("found", [b"\0" * 200_000, b'{"labels": []}', b"\xff\xfe", b"<html>"])
def test_a_file_that_is_not_of_a_review_is_not_cut_by_a_decision(made, found):
    review = review_of(*made)
    decide(review)
    review.file.path.write_bytes(found)
    review.receive({"action": "choose", "value": "left"})
    assert "its last line is no label" in review.notice and review.file.path.read_bytes() == found
    assert review.decided == 1


def test_a_report_of_a_file_that_was_damaged_meanwhile_says_so_in_the_panel(made):
    review = review_of(*made)
    for _ in range(len(review)):
        decide(review)
    kept = review.file.path.read_bytes()
    review.file.path.write_bytes(b'{"a": 1}\n')
    review.receive({"action": "expected"})
    assert "this cannot be shown" in str(review) and ":1" in str(review)
    review.file.path.write_bytes(kept)
    assert "this cannot be shown" not in str(review)


def test_a_decision_is_not_written_through_a_link_that_was_put_there_meanwhile(made, tmp_path_factory):
    review = review_of(*made)
    decide(review)
    other = tmp_path_factory.mktemp("other") / "kept.jsonl"
    other.write_bytes(b"kept\n")
    review.file.path.unlink()
    review.file.path.symlink_to(other)
    review.receive({"action": "choose", "value": "left"})
    assert "a link out of" in review.notice and other.read_bytes() == b"kept\n" and review.decided == 1
