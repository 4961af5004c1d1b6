"""What is decided about a version on trial from the ledger's history, and what follows."""

from __future__ import annotations

import datetime as dt
import json

import orjson
import pytest
from click.testing import CliRunner
from made_jobs import copied, frozen, judged_repository
from made_repositories import git

from workbench import files, registry
from workbench.cli.jobs import jobs
from workbench.cli.jobs_rollout import trials_settled
from workbench.config.operations import load_operations
from workbench.errors import ConfigError, CorruptError, NotFoundError
from workbench.experiments.sequential import CountedDifferences
from workbench.jobs.ledger import RunOrder, Slot, open_ledger
from workbench.jobs.trial_runs import trial_facts
from workbench.layout import CALLS, OUTCOMES
from workbench.promotion.promote import ReleaseOptions, promote
from workbench.promotion.rollout import rollout_of, settle_trials
from workbench.promotion.withdrawal import restore_version
from workbench.records.outcomes import RecordedOutcome, keep_outcome
from workbench.records.segments import CallLog
from workbench.testing.fakes import FakeClock

GOOD, BAD, EVEN = [0.0] * 20, [-1.0] * 20, [0.0, -1.0]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """answers@1 is in production, answers@2 its canary, answers@3 its shadow."""
    root = judged_repository(tmp_path_factory.mktemp("rollout") / "repository")
    frozen(root, 1, label="production")
    frozen(root, 2)
    frozen(root, 3)
    for version, label in ((2, "canary"), (3, "shadow")):
        promote(root, f"job/answers@{version}", order(label=label))
    return root


def order(**given):
    return ReleaseOptions(**{"show": False, "commit": True, "clock": FakeClock(), **given})


@pytest.fixture
def root(template, tmp_path):
    return copied(template, tmp_path / "repository")


@pytest.fixture
def clock():
    clock = FakeClock()
    clock.advance(3600)
    return clock


@pytest.fixture
def book(root, clock):
    return open_ledger(root, clock)


def ended(book, day, version, role, outcome, *, differences=None, **end):
    """A run that ended, with what it compared."""
    slot = Slot(job="answers", tenant="", at=dt.datetime(2026, 11, day, 6, tzinfo=dt.UTC))
    run = f"{role}-{version}-{day}-{len(book.history(limit=1000))}"
    book.claim(slot, run=run, version=version, input_digest="d", role=role)
    book.started(run, 1)
    compared = {"success": CountedDifferences.of(differences)} if differences else {}
    facts = {**trial_facts(version, role, compared), **end.pop("facts", {})}
    return book.finished(run, outcome, facts=facts, cost_usd=end.pop("cost_usd", 0.1), **end)


def verdicts(root, book):
    return {item.role: item.verdict for item in rollout_of(root, book, "answers").trials}


def operate(root, **keys):
    files.write_atomic(root / "pipelines/operations.yaml", json.dumps({"defaults": keys}).encode())


def test_a_canary_that_is_worse_is_taken_back_and_one_as_good_may_go_on(root, book, clock):
    assert verdicts(root, book) == {"shadow": "undecided", "canary": "undecided"}
    for day in (1, 2, 3):
        ended(book, day, 2, "canary", "published", differences=BAD)
        ended(book, day, 3, "shadow", "shadowed", differences=GOOD * 3)
    found = rollout_of(root, book, "answers")
    assert verdicts(root, book) == {"shadow": "better", "canary": "worse"}
    assert found.trials[0].command == "workbench promote job/answers@3 --to canary --share 10%"
    assert "success differs by -1.000 from answers@1" in str(found)
    (done,) = settle_trials(root, book, "answers", clock=clock)
    assert done.labels == {"canary": 0} and "success differs" in done.order.reason
    assert registry.load(root, "job", "answers").labels == {"production": 1, "shadow": 3}
    assert git(root, "status", "--porcelain") == ""
    assert settle_trials(root, book, "answers", clock=clock) == [], "it is taken back once"
    assert [item.event for item in book.notices("answers")] == ["rolled_back"]
    assert "answers@2 was withdrawn" in str(rollout_of(root, book, "answers"))


def test_a_slot_counts_once_by_its_newest_comparison_and_a_late_one_counts_too(root, book):
    for _ in range(30):
        ended(book, 1, 2, "canary", "published", differences=EVEN)
    assert rollout_of(root, book, "answers").trials[1].guards[0].n == 2
    late = trial_facts(3, "shadow", {"success": CountedDifferences.of(GOOD)})
    ended(book, 2, 1, "production", "published", facts=late)
    shadow, canary = rollout_of(root, book, "answers").trials
    assert (shadow.guards[0].n, canary.guards[0].n) == (20, 2)


def test_what_was_before_the_label_moved_does_not_count(root, book, clock):
    for day in (1, 2, 3):
        ended(book, day, 2, "canary", "published", differences=BAD)
    clock.advance(3600)
    for share in (0.2, None):  # a new trial of the same version
        promote(root, "job/answers@2", order(label="canary", share=share, clock=clock))
    assert verdicts(root, book)["canary"] == "undecided"


def test_slots_that_fail_use_up_the_error_budget(root, book, clock):
    ended(book, 1, 3, "shadow", "failed")
    assert verdicts(root, book)["shadow"] == "undecided", "one failure is an accident"
    ended(book, 1, 3, "shadow", "shadowed")  # its retry
    ended(book, 2, 3, "shadow", "deadline")
    assert verdicts(root, book)["shadow"] == "undecided"
    ended(book, 3, 3, "shadow", "held")
    ended(book, 4, 3, "shadow", "interrupted")  # by its server: no fault of the version
    report = rollout_of(root, book, "answers").trials[0]
    assert (report.slots, report.failed, report.verdict) == (3, 2, "worse")
    (done,) = settle_trials(root, book, "answers", clock=clock)
    assert "2 of 3 slots failed" in done.order.reason and done.labels == {"shadow": 0}


def test_a_canary_whose_answers_people_like_less_is_taken_back_and_a_shadow_has_no_such_guard(
    root, book, clock
):
    operate(root, rollout={"guards": {"success": 0.05, "feedback": 0.1}})
    runs = [
        ended(book, day, version, role, "published").run
        for day in range(1, 6)
        for version, role in ((2, "canary"), (1, "production"))
    ]
    at = clock.now().isoformat(timespec="microseconds")
    log = CallLog(root / CALLS)
    with log._lines.writing() as append:
        for run in runs:
            for n in range(8):
                call = {"trace_id": f"{run}-{n}", "at": at, "run": run, "port": "model"}
                append(orjson.dumps({**call, "labels": {"row": f"r{n}"}}))
                said = RecordedOutcome(
                    at=at, use_case="answers", tenant="acme", principal="ada", trace_id=f"{run}-{n}",
                    session="", name="feedback", value=float(run.startswith("production")),
                )  # fmt: skip
                keep_outcome(root / OUTCOMES, said)
    shadow, canary = rollout_of(root, book, "answers").trials
    assert [guard.metric for guard in shadow.guards] == ["success"]
    assert [(guard.metric, guard.verdict) for guard in canary.guards][1] == ("feedback", "worse")
    assert "feedback differs by -1.000 from answers@1" in canary.reason and "40 compared" in canary.reason
    (done,) = settle_trials(root, book, "answers", clock=clock)
    assert done.labels == {"canary": 0}


def test_a_trial_that_reaches_its_spend_limit_ends(root, book, clock):
    operate(root, rollout={"usd": 0.5})
    ended(book, 1, 2, "canary", "published", cost_usd=0.3)
    ended(book, 2, 2, "canary", "published", cost_usd=None)
    assert "cost 0.3 USD and 1 runs of unknown cost" in str(rollout_of(root, book, "answers"))
    assert verdicts(root, book)["canary"] == "undecided"
    ended(book, 3, 2, "canary", "published", cost_usd=0.3)
    (done,) = settle_trials(root, book, "answers", clock=clock)
    assert "0.6 USD" in done.order.reason


def test_a_rolled_back_output_takes_production_back_by_the_same_way(root, book, clock):
    ended(book, 1, 1, "production", "rolled_back", detail="rows: 3 is below 10")
    (done,) = settle_trials(root, book, "answers", clock=clock)
    assert done.labels == {"production": 0} and done.order.reason == "rows: 3 is below 10"
    assert [item.event for item in book.notices("answers")] == ["withdrawn"]
    assert settle_trials(root, book, "answers", clock=clock) == []


def test_the_slot_of_a_server_whose_output_was_rolled_back_runs_again_once_by_what_remains(root, book, clock):
    promote(root, "job/answers@2", order(clock=clock))
    slot = Slot(job="answers", tenant="", at=dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC))
    book.enqueue(RunOrder(slot=slot))
    taken = book.take("server", runs=1, per_tenant=0)
    book.claim(slot, run=taken.run, version=2, input_digest="d")
    book.started(taken.run, 1)
    book.finished(taken.run, "rolled_back", detail="rows: 3 is below 10")
    (done,) = settle_trials(root, book, "answers", clock=clock)
    assert done.labels == {"production": 1}
    settle_trials(root, book, "answers", clock=clock)
    (again,) = book.unfinished("answers")
    assert (again.slot, again.trigger, again.attempt, again.state) == (slot, "retry", 2, "waiting")


def test_a_canary_in_a_rolled_back_output_is_taken_back_before_production(root, book, clock):
    ended(book, 1, 1, "production", "rolled_back", detail="rows", facts={"canary": 2})
    (done,) = settle_trials(root, book, "answers", clock=clock)
    assert done.labels == {"canary": 0}
    assert settle_trials(root, book, "answers", clock=clock) == [], "once"
    assert registry.load(root, "job", "answers").labels["production"] == 1
    ended(book, 1, 1, "production", "rolled_back", detail="rows, without the canary")
    ended(book, 2, 1, "production", "published")
    (done,) = settle_trials(root, book, "answers", clock=clock)
    assert done.labels == {"production": 0}


def test_facts_of_another_form_are_no_comparison(root, book):
    ended(book, 1, 2, "canary", "published", facts={"trials": "all good"})
    with pytest.raises(CorruptError, match="hold no comparisons"):
        rollout_of(root, book, "answers")


def test_a_withdrawn_version_is_restored_by_a_person_with_a_reason(root, book, clock):
    ended(book, 1, 1, "production", "rolled_back", detail="rows")
    settle_trials(root, book, "answers", clock=clock)
    with pytest.raises(ConfigError, match="answers@1 was withdrawn") as caught:
        promote(root, "job/answers@1", order(clock=clock))
    assert caught.value.hint.startswith("workbench jobs restore answers@1")
    restore_version(root, book, "answers@1", reason="the input was at fault")
    promote(root, "job/answers@1", order(clock=clock))
    assert book.withdrawals("answers") == []
    with pytest.raises(NotFoundError, match="not withdrawn"):
        restore_version(root, book, "answers@1", reason="again")


def test_after_each_run_it_is_decided_also_after_one_that_failed(root, book, capsys):
    for day in (1, 2, 3):
        ended(book, day, 2, "canary", "published", differences=BAD)
    with pytest.raises(ZeroDivisionError), trials_settled(root, "answers"):
        raise ZeroDivisionError
    assert "answers@2 is withdrawn: success differs" in capsys.readouterr().err
    with trials_settled(root, "answers@1"), trials_settled(root, "unknown"):
        pass
    assert capsys.readouterr().err == ""
    ended(book, 4, 3, "shadow", "shadowed", facts={"trials": 7})
    with trials_settled(root, "answers"):
        pass
    assert "the trials of answers were not decided on" in capsys.readouterr().err


def test_an_interrupted_run_decides_nothing(root, book):
    for day in (1, 2, 3):
        ended(book, day, 2, "canary", "published", differences=BAD)
    with pytest.raises(KeyboardInterrupt), trials_settled(root, "answers"):
        raise KeyboardInterrupt
    assert not book.withdrawals()


def test_the_command_shows_settles_and_exits_by_the_verdict(root, book, monkeypatch):
    monkeypatch.chdir(root)
    invoke = CliRunner().invoke
    assert invoke(jobs, ["rollout", "answers", "--json"]).exit_code == 4
    for day in (1, 2, 3):
        ended(book, day, 2, "canary", "published", differences=BAD)
    shown = invoke(jobs, ["rollout", "answers"])
    assert shown.exit_code == 1 and "canary: worse: success differs" in shown.output
    assert "answers@2 is withdrawn" in invoke(jobs, ["rollout", "answers", "--settle"]).output
    again = invoke(jobs, ["rollout", "answers", "--settle"])
    assert again.exit_code == 0 and "nothing of answers is to be taken back" in again.output
    restored = invoke(jobs, ["restore", "answers@2", "--reason", "the rows were at fault"])
    assert restored.exit_code == 0 and not book.withdrawals()


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"guards": {"succes": 0.1}}, "there is no metric 'succes' .*success"),
        ({"guards": {"success": 0.0}}, "guards.success must be above 0"),
        ({"alpha": 0.9}, "alpha must be"),
        ({"failures": 2}, "failures must be from 0 to 1"),
        ({"slots": 0}, "slots from 1"),
        ({"usd": 0}, "usd must be above 0"),
        ({"unit": "user"}, "unit"),
        ({"share": 0.1}, "share"),
    ],
)
def test_a_rollout_that_no_server_could_use_is_refused_with_its_key(root, stated, said):
    operate(root, rollout=stated)
    with pytest.raises(ConfigError, match=said):
        load_operations(root)
