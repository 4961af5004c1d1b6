"""The report of a review: preference, agreement of reviewers, and what the labels say of a scorer."""

from __future__ import annotations

import pytest
from reviewed_runs import decide, review_of, two_runs

from workbench.errors import NotFoundError
from workbench.experiments.intervals import proportion_interval


def decided(root, arms, *, reviewer="ana", n=8, **scores):
    """A review of `n` pairs with a decision for each of `arms`, in the order shown."""
    review = review_of(root, *two_runs(n, **scores), reviewer=reviewer)
    for arm in arms:
        review.choose(arm) if arm in {"both_good", "both_bad", "skip"} else decide(review, arm)
    return review


def test_the_preference_counts_wins_among_wins_and_losses(tmp_path):
    arms = ["candidate"] * 4 + ["few_shot", "both_good", "both_bad", "skip"]
    report = decided(tmp_path, arms).report()
    assert (report.wins, report.losses, report.ties, report.skipped) == (4, 1, 2, 1)
    assert report.preference == 0.8 and report.interval == proportion_interval(4, 5, level=0.95)
    text = str(report)
    assert "candidate preferred to few_shot  0.8    [0.284, 0.995]  5" in text
    assert "4 won, 1 lost, 2 ties; p 0.375 by the exact sign test" in text
    assert "sample of 8 of 8 pairs that differ; 1 skipped" in text
    assert "0 of 8 pairs have equal answers: ties, and not among the pairs above" in text
    assert "<table" in report._repr_html_()


def test_a_review_without_a_decision_has_a_report_too(tmp_path):
    report = decided(tmp_path, [], accuracy=([1.0] * 8, [0.0] * 8)).report()
    assert report.preference is None and report.interval is None and "decided by nobody" in str(report)


def test_where_reviewers_differ_most_of_them_decide(tmp_path):
    decided(tmp_path, ["candidate", "candidate", "both_good"], reviewer="ana")
    decided(tmp_path, ["few_shot", "candidate", "few_shot"], reviewer="ben")
    report = decided(tmp_path, ["few_shot"], reviewer="eve").report()
    assert sorted(report.preferences.values()) == ["other", "other", "run"]
    assert report.kappa("ana", "ben").n == 3 and report.kappa("ana", "eve").n == 1
    assert "kappa of ana and eve" in str(report)
    assert "0 decided alike" in str(report) and "both used one category alone" in str(report)
    with pytest.raises(NotFoundError, match=r"no reviewer 'bem'.*ben"):
        report.kappa("ana", "bem")


def test_reviewers_without_a_common_case_have_no_kappa(tmp_path):
    decided(tmp_path, ["candidate"], reviewer="ana")
    review = review_of(tmp_path, *two_runs(8), reviewer="ben")
    review.forward()
    decide(review)
    assert "no case in common" in str(review.report())


def test_a_scorer_is_compared_with_people_and_opposites_come_first(tmp_path):
    ours, theirs = [1.0] * 4 + [0.0] * 4, [0.0] * 4 + [0.0, 0.0, 1.0, 1.0]
    scores = {"accuracy": (ours, theirs), "cross_tenant_hits": (theirs, ours)}
    review = decided(tmp_path, ["candidate"] * 8, **scores)
    report = review.report()
    assert report.scorers == ("accuracy", "cross_tenant_hits")
    assert report.disagreements("accuracy") == ["q00006", "q00007", "q00004", "q00005"]
    assert report.confusion("accuracy").rows() == [
        ("candidate", 4, 2, 2), ("tie", 0, 0, 0), ("few_shot", 0, 0, 0),
    ]  # fmt: skip
    # Fewer hits of other tenants are better, so this scorer says the same.
    assert report.disagreements("cross_tenant_hits") == report.disagreements("accuracy")
    assert report.agreement("score.accuracy").kappa.value == 0.0
    assert "people for candidate: accuracy for candidate 4, undecided 2, for few_shot 2" in str(report)
    assert "differ: q00006, q00007, q00004, q00005" in str(report)
    with pytest.raises(NotFoundError, match="accuracy"):
        report.agreement("acuracy")


def test_a_case_without_both_scores_says_nothing_of_a_scorer(tmp_path):
    review = decided(tmp_path, ["candidate"] * 8, accuracy=([1.0] * 8, [None] * 3 + [0.0] * 5))
    assert review.report().agreement("accuracy").kappa.n == 5


def test_a_scorer_that_prefers_no_answer_is_named_and_has_no_kappa(tmp_path):
    same, better = ([1.0] * 8, [1.0] * 8), ([1.0] * 8, [0.0] * 8)
    report = decided(tmp_path, ["candidate"] * 7 + ["few_shot"], accuracy=better, recall=same).report()
    text = str(report)
    assert "kappa of people and accuracy" in text and "kappa of people and recall" not in text
    assert "the same for both answers of each decided pair: recall" in text
    assert report.agreement("recall").kappa.n == 8


def test_a_scorer_that_agrees_with_people_has_kappa_1(tmp_path):
    review = review_of(tmp_path, *two_runs(8, accuracy=([1.0, 0.0] * 4, [0.0, 1.0] * 4)))
    for _ in range(8):
        case = review.current.case
        decide(review, "candidate" if int(case[1:]) % 2 == 0 else "few_shot")
    found = review.report().agreement("accuracy")
    assert found.kappa.value == 1.0 and review.report().disagreements("accuracy") == []


def test_the_last_view_is_the_report(tmp_path):
    review = decided(tmp_path, ["candidate"] * 8, accuracy=([1.0] * 8, [0.0] * 8))
    shown = str(review)
    assert "done" in shown and "candidate preferred to few_shot" in shown
    assert "People (rows) and accuracy (columns)" in shown


def test_the_share_of_the_left_side_is_told(tmp_path):
    review = review_of(tmp_path, *two_runs(4))
    for choice in ("left", "left", "right", "both_bad"):
        review.choose(choice)
    assert "the left side was preferred in 2 of 3 decisions for a side" in str(review.report())


def test_the_labels_are_a_scorer(tmp_path):
    review = decided(tmp_path, ["candidate"] * 8)
    assert review.scorer(name="people").name == "people"
