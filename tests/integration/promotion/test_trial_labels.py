"""The labels shadow and canary, a canary's share, and a job that is switched off."""

from __future__ import annotations

import pytest
from made_jobs import frozen, judged_repository
from made_repositories import git

from workbench import registry
from workbench.errors import ConfigError, NotFoundError, RefusedError
from workbench.jobs.roles import roles_of, version_in_role
from workbench.promotion.promote import ReleaseOptions, promote, rollback
from workbench.testing.fakes import FakeClock


def order(**given):
    return ReleaseOptions(**{"show": False, "clock": FakeClock(), "commit": True, **given})


@pytest.fixture
def root(tmp_path):
    made = judged_repository(tmp_path / "repository")
    frozen(made, 1, label="production")
    frozen(made, 2, label="candidate")
    return made


def labels(root):
    return registry.load(root, "job", "answers").labels


def test_a_version_goes_from_shadow_over_canary_into_production(root):
    promote(root, "job/answers@2", order(label="shadow"))
    assert labels(root) == {"candidate": 2, "production": 1, "shadow": 2}
    card = promote(root, "job/answers@2", order(label="canary", share=0.25))
    assert "answers 25% of the rows" in str(card) and "next: workbench jobs rollout answers" in str(card)
    assert labels(root) == {"candidate": 2, "canary": 2, "production": 1}
    found = roles_of(root, "answers")
    assert (found.production, found.canary, found.share.share) == (1, 2, 0.25)
    promote(root, "job/answers@2", order(label="canary", share=0.5))
    assert roles_of(root, "answers").share.share == 0.5
    with pytest.raises(ConfigError, match="in canary already"):
        promote(root, "job/answers@2", order(label="canary", share=0.5))
    promote(root, "job/answers@2", order(label="shadow"))
    assert labels(root) == {"candidate": 2, "production": 1, "shadow": 2}
    assert roles_of(root, "answers").canary is None
    promote(root, "job/answers@2", order(label="canary", share=0.5))
    assert labels(root) == {"candidate": 2, "canary": 2, "production": 1}
    promote(root, "job/answers@2", order())
    assert labels(root) == {"candidate": 2, "production": 2}
    assert git(root, "status", "--porcelain") == ""


def test_the_share_is_kept_with_the_move_and_left_out_at_its_default(root):
    promote(root, "job/answers@2", order(label="canary", share=0.25))
    page = root / "pipelines/jobs/answers/asset.yaml"
    assert page.read_text().count("share: 0.25}") == 1 and page.read_text().count("share") == 1
    rollback(root, "job/answers", order(label="canary"))
    promote(root, "job/answers@2", order(label="canary"))
    assert page.read_text().count("share") == 1
    assert roles_of(root, "answers").share.share == 0.1


@pytest.mark.parametrize(
    ("reference", "given", "said"),
    [
        ("job/answers@2", {"label": "canary", "share": 1.0}, "--share 1 is not between"),
        ("job/answers@2", {"label": "canary", "share": 0.0}, "--share 0 is not between"),
        ("job/answers@2", {"label": "canary", "share": float("nan")}, "--share nan is not between"),
        ("job/answers@2", {"label": "shadow", "share": 0.1}, "--share is for canaries"),
        ("job/answers@2", {"share": 0.1}, "--share is for canaries"),
        ("job/answers@1", {"label": "canary"}, "is in production"),
        ("job/answers@1", {"label": "shadow"}, "is in production"),
        ("prompt/answer@1", {"label": "shadow"}, "no label 'shadow'"),
    ],
)
def test_a_trial_that_cannot_be_is_refused_and_nothing_is_written(root, reference, given, said):
    before = labels(root)
    with pytest.raises(ConfigError, match=said) as caught:
        promote(root, reference, order(**given))
    assert "workbench promote job/" in caught.value.hint and labels(root) == before


def test_a_canary_needs_a_version_in_production(tmp_path):
    made = judged_repository(tmp_path / "repository")
    frozen(made, 1, label="candidate")
    with pytest.raises(ConfigError, match="no version in production that answers the rest"):
        promote(made, "job/answers@1", order(label="canary"))


@pytest.mark.parametrize("label", ["shadow", "canary"])
def test_a_rollback_ends_a_trial_also_after_another_trial(root, label):
    promote(root, "job/answers@2", order(label=label))
    frozen(root, 3, label="candidate")
    promote(root, "job/answers@3", order(label=label))
    card = rollback(root, "job/answers", order(label=label))
    assert (card.version, card.before) == (0, 3) and label not in labels(root)
    assert "has no version in" in str(card) and roles_of(root, "answers").canary is None


def test_a_first_version_is_switched_off_and_its_runs_are_refused_with_the_command(root):
    with pytest.raises(NotFoundError) as caught:
        rollback(root, "job/answers", order())
    assert "--to none" in caught.value.hint
    card = rollback(root, "job/answers", order(reason="wrong answers"), to="none")
    assert (card.version, labels(root)) == (0, {"candidate": 2})
    with pytest.raises(RefusedError, match="switched off") as refused:
        version_in_role(root, "answers", "production", frozenset())
    assert refused.value.hint == "workbench promote job/answers@2 --to production"
    promote(root, "job/answers@1", order())
    assert version_in_role(root, "answers", "production", frozenset()) == ("answers", 1)
    with pytest.raises(NotFoundError, match="never had another version"):
        rollback(root, "job/answers", order())


def test_an_interrupted_switch_is_finished_by_the_same_command(root):
    rollback(root, "job/answers", order(commit=False), to="none")
    git(root, "reset", "--quiet")
    card = rollback(root, "job/answers", order(), to="none")
    assert card.version == 0 and git(root, "status", "--porcelain") == ""


@pytest.mark.parametrize("reference", ["prompt/answer"])
def test_only_a_job_can_be_switched_off(root, reference):
    promote(root, f"{reference}@1", order(label="candidate"))
    with pytest.raises(ConfigError, match="only a job can be switched off"):
        rollback(root, reference, order(label="candidate"), to="none")


def test_a_withdrawn_version_does_not_run_by_its_label(root):
    promote(root, "job/answers@2", order())
    assert version_in_role(root, "answers", "production", {2}) == ("answers", 1)
    assert roles_of(root, "answers", withdrawn={2}).production == 1
    with pytest.raises(RefusedError, match="answers@2 is withdrawn"):
        version_in_role(root, "answers", "production", {1, 2})
    for reference in ("answers@2", "answers@production"):
        with pytest.raises(RefusedError, match="answers@2 is withdrawn"):
            version_in_role(root, reference, "production", {2})
    with pytest.raises(NotFoundError, match="no version in shadow") as caught:
        version_in_role(root, "answers", "shadow", frozenset())
    assert caught.value.hint == "workbench promote job/answers@2 --to shadow"
