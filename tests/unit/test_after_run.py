"""Judging an output before it is published: its checks, its drift, and the models that answered."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
from pathlib import Path

import orjson
import pytest
from made_jobs import a_spec
from made_runs import a_run, of
from sizes import SOAK

from workbench import files
from workbench.config.operations import JobOperation
from workbench.config.output_checks import MEASURES, OutputCheck
from workbench.errors import RefusedError
from workbench.experiments.attempts import CaseAttempt
from workbench.experiments.batch import ATTEMPTS
from workbench.experiments.runs import save_runs
from workbench.jobs import drift
from workbench.jobs.after_run import check_not_paused, hold, judge_output, judge_run
from workbench.jobs.answered_models import compare_models, models_of
from workbench.jobs.ledger import Slot
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.jobs.output_measures import Measures, RunOutput
from workbench.jobs.spec import JUDGED
from workbench.layout import judge_tape_of
from workbench.testing.fakes import FakeClock
from workbench.types import Hit

SLOT = Slot(job="answers", tenant="", at=dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC))
COUNTS = {
    "rows": 10, "answered": 7, "quarantined": 3, "broken_input": 2, "broken_answer": 1, "calls": 8,
    "cost_usd": 0.4, "input_tokens": 7, "output_tokens": 3, "held": False, "fallback": 2,
}  # fmt: skip
UNASKED = {**COUNTS, "calls": 0}
PASSAGE = Hit(
    id="p", text="The allowance is 46 euros.", source="travel", title="", version=1, score=1.0, tenant="acme",
    as_of="", stale=False, digest="", memory="m",
)  # fmt: skip


def record(seconds=0.5):
    return {"port": "model", "operation": "chat", "recorded_latency_s": seconds, "cost_usd": 0.0}


def attempt(case, text="46 euros", *, error=None, passages=(PASSAGE,), seconds=0.5):
    made = CaseAttempt(
        case=case, tenant="acme", output={"text": text}, records=[record(seconds)], passages=passages
    )
    told = made.to_json()
    if error:
        told = {key: value for key, value in told.items() if key not in {"output", "sources"}} | {
            "error": error
        }
    return told


def output(tmp_path, attempts=(), *, rows=None, counts=COUNTS, **changes):
    work = tmp_path / "work"
    if attempts:
        files.write_atomic(work / ATTEMPTS, b"".join(files.canonical(item) + b"\n" for item in attempts))
    source = tmp_path / "input.jsonl"
    told = rows or [{"id": item["case"], "tenant": "acme", "question": "How much?"} for item in attempts]
    files.write_atomic(source, b"".join(orjson.dumps(row) + b"\n" for row in told or [{"id": "s"}]))
    files.write_atomic(tmp_path / "version" / "sample.jsonl", b'{"id": "s-1", "question": "When?"}\n')
    plain = {
        "spec": a_spec(), "folder": tmp_path / "version", "code": tmp_path / "code", "work": work,
        "source": source, "journal": tmp_path / "journal.jsonl", "counts": counts,
        "slot": SLOT,
    }  # fmt: skip
    return RunOutput(**(plain | changes))


def value(made, name):
    found = Measures(made).of(name)
    return found.value if found.value is None else round(found.value, 6)


def test_the_counts_give_the_rates(tmp_path):
    made = output(tmp_path)
    assert {
        name: value(made, name)
        for name in (
            "rows", "answered", "quarantined_rate", "broken_input_rate", "unanswered_rate", "cost_usd",
            "cost_per_row_usd", "fallback_rate",
        )
    } == {
        "rows": 10, "answered": 7, "quarantined_rate": 0.3, "broken_input_rate": 0.2,
        "unanswered_rate": 0.125, "cost_usd": 0.4, "cost_per_row_usd": 0.04, "fallback_rate": 0.25,
    }  # fmt: skip


def test_the_attempts_give_refusals_schema_latency_and_groundedness(tmp_path):
    attempts = [attempt(f"a-{n}", seconds=n) for n in range(1, 21)]
    attempts += [attempt("r", error="moderation: no"), attempt("i", error="InvalidOutputError: $.text")]
    attempts += [attempt("u", error="unfit_input: 'id' is missing"), attempt("g", "euros and lies")]
    made = output(tmp_path, attempts)
    assert value(made, "refused_rate") == round(1 / 23, 6)
    assert value(made, "schema_rate") == round(22 / 23, 6)
    assert value(made, "latency_p95_s") == 19
    assert value(made, "grounded") == round((20 + 1 / 3) / 21, 6)


@pytest.mark.parametrize("name", ["refused_rate", "schema_rate", "grounded", "latency_p95_s", "pii_leaks"])
def test_without_the_attempts_of_an_older_version_a_measure_is_undecided_and_said(tmp_path, name):
    check = OutputCheck(max=0.5)
    judged = judge_output(output(tmp_path), JobOperation(checks={name: check}))
    assert (judged.outcome, judged.checks[0].state) == ("publish", "undecided")
    assert f"{name} undecided" in judged.detail
    strict = JobOperation(checks={name: dataclasses.replace(check, undecided="hold")})
    assert judge_output(output(tmp_path), strict).outcome == "hold"


def test_every_measure_that_a_check_may_name_is_one_that_can_be_taken():
    assert [name for name in MEASURES if not hasattr(Measures, f"_{name}")] == []


def test_an_identifier_that_its_row_has_is_no_leak_and_another_is(tmp_path):
    attempts = [attempt("own", "Write to ann@example.com."), attempt("other", "Write to bob@example.com.")]
    rows = [{"id": name, "tenant": "acme", "question": "I am Ann@Example.com"} for name in ("own", "other")]
    made = output(tmp_path, attempts, rows=rows)
    assert value(made, "pii_leaks") == 1
    judged = judge_output(made, JobOperation(checks={"pii_leaks": OutputCheck(max=0)}))
    assert (judged.outcome, judged.checks[0].state) == ("hold", "breach")
    assert "bob" not in str(judged.facts)
    assert "pii_leaks 1, at most 0" in judged.detail


@pytest.mark.parametrize(
    ("then", "outcome"), [("tell", "publish"), ("hold", "hold"), ("roll_back", "roll_back")]
)
def test_a_breach_has_the_consequence_that_its_check_states(tmp_path, then, outcome):
    checks = {"rows": OutputCheck(min=11, then=then), "cost_usd": OutputCheck(max=1, then="roll_back")}
    judged = judge_output(output(tmp_path, counts=UNASKED), JobOperation(checks=checks))
    assert [check.state for check in judged.checks] == ["breach", "pass"]
    assert (judged.outcome, judged.facts["told"]) == (outcome, "breached")
    assert judged.detail == "rows 10, at least 11 (rows of the input)"


def test_the_worst_consequence_of_several_breaches_counts(tmp_path):
    checks = {
        name: OutputCheck(min=11, then=then) for name, then in [("rows", "roll_back"), ("answered", "hold")]
    }
    assert judge_output(output(tmp_path), JobOperation(checks=checks)).outcome == "roll_back"


def test_a_damaged_file_of_the_run_is_undecided(tmp_path):
    made = output(tmp_path, [attempt("a")])
    (made.work / ATTEMPTS).write_bytes(b"{torn")
    judged = judge_output(made, JobOperation(checks={"grounded": OutputCheck(min=0.5, undecided="hold")}))
    assert (judged.outcome, judged.checks[0].state) == ("hold", "undecided")


def test_without_checks_an_output_is_published_and_its_facts_hold_no_content(tmp_path):
    attempts = [attempt(f"a-{n}", "secret words") for n in range(40)]
    judged = judge_output(output(tmp_path, attempts, counts=UNASKED), JobOperation())
    assert (judged.outcome, judged.detail) == ("publish", "")
    assert set(judged.facts) == {"input_profile", "answer_profile"}
    assert "secret words" not in str(judged.facts)
    assert len(orjson.dumps(judged.facts)) < 12_000


# -- drift -----------------------------------------------------------------------------


def lengths(rows, mean, seed=1):
    chance = random.Random(seed)
    return [
        {"text": "x" * max(1, round(chance.gauss(mean, 10))), "label": chance.choice("ab")}
        for _ in range(rows)
    ]


def test_equal_sources_seldom_look_moved_and_moved_ones_surely_do():
    tries = 400 if SOAK else 60
    alarms = 0
    for seed in range(tries):
        found = drift.distance(
            drift.profile_of(lengths(200, 60, seed)), drift.profile_of(lengths(100, 60, seed + 10_000))
        )
        alarms += found.low > 0.0
    assert alarms <= tries * 0.05
    moved = drift.distance(drift.profile_of(lengths(200, 120)), drift.profile_of(lengths(200, 60)))
    assert moved.column == "text (length)"
    assert moved.value > 0.9
    assert moved.low > 0.6


def test_a_label_that_becomes_another_is_seen():
    before = drift.profile_of([{"label": "billing"}] * 100)
    after = drift.profile_of([{"label": "outages"}] * 100)
    assert drift.distance(before, after).column == "label (value)"


def test_a_lost_column_is_at_distance_one_and_few_rows_decide_nothing():
    before = drift.profile_of([{"a": 1, "b": True}] * 100)
    assert drift.distance(drift.profile_of([{"a": 1}] * 100), before).value == 1.0
    assert drift.distance(drift.profile_of([{"a": 1}] * 29), before) is None


def test_profiles_add_up_and_hold_no_value():
    one = drift.profile_of([{"who": "Ann Smith", "n": -3, "x": None, "y": float("nan"), "z": [1, 2]}] * 5)
    assert drift.merged([one, one])["n"] == {"n496": 10}
    assert "Ann" not in str(one)
    assert drift.profile_of([{f"c{n}": "y" * n for n in range(500)}]).keys() <= {
        f"c{n} ({kind})" for n in range(500) for kind in ("length", "value")
    }


def test_drift_is_measured_against_the_judged_run_and_against_published_runs(tmp_path):
    attempts = [attempt(f"a-{n}", "x" * 300) for n in range(60)]
    run = a_run("candidate", accuracy=of(40, 40))
    texts = [files.canonical({"text": "46 euros"}).decode()] * run.cases.height
    save_runs(
        [dataclasses.replace(run, cases=run.cases.with_columns(output=texts_of(texts)))],
        tmp_path / "version" / JUDGED,
    )
    earlier = [{"input_profile": drift.profile_of([{"question": "How much?"}] * 60)}]
    made = output(tmp_path, attempts)
    answers = Measures(made, lambda: earlier).of("answer_drift")
    assert (answers.value, answers.note) == (1.0, "text (length), against the judged run")
    inputs = Measures(made, lambda: earlier).of("input_drift")
    assert inputs.value == 0
    assert inputs.note.endswith("against published runs")
    checks = {"answer_drift": OutputCheck(max=0.2), "input_drift": OutputCheck(max=0.2)}
    judged = judge_output(made, JobOperation(checks=checks), lambda: earlier)
    assert [check.state for check in judged.checks] == ["breach", "pass"]


def texts_of(texts):
    import polars as pl

    return pl.Series("output", texts)


def test_a_distance_that_chance_explains_is_undecided(tmp_path):
    attempts = [attempt(f"a-{n}") for n in range(30)]
    rows = [{"id": item["case"], "question": "y" * (9 if n % 2 else 90)} for n, item in enumerate(attempts)]
    earlier = [
        {
            "input_profile": drift.profile_of(
                [{"question": "y" * 9}, {"question": "y" * 9}, {"question": "y" * 90}] * 10
            )
        }
    ]
    judged = judge_output(
        output(tmp_path, attempts, rows=rows),
        JobOperation(checks={"input_drift": OutputCheck(max=0.1)}),
        lambda: earlier,
    )
    assert judged.checks[0].state == "undecided"
    assert "not surely" in judged.detail


# -- the models that answered ------------------------------------------------------------


def line(key, *, card="gpt@2", operation="chat", events=None, model="gpt-4o-1", fingerprint="fp_1"):
    events = [{"model": model, "system_fingerprint": fingerprint}] if events is None else events
    entry = {
        "key": key * 64, "operation": operation, "result": {"events": events},
        "target": {"name": card, "identity": {}},
    }  # fmt: skip
    return files.canonical(entry) + b"\n"


def judged_and_answered(tmp_path, judged, answered, **operation):
    made = output(tmp_path)
    files.write_atomic(made.folder / "tape.jsonl", b'{"format":"workbench-tape/1"}\n' + judged)
    files.write_atomic(made.journal, answered)
    return judge_output(made, JobOperation(**operation))


@pytest.mark.parametrize(
    ("changes", "word"), [({"model": "gpt-4o-2"}, "gpt-4o-2"), ({"fingerprint": "fp_2"}, "fp_2")]
)
def test_another_model_or_fingerprint_than_the_judged_one_holds_the_output(tmp_path, changes, word):
    judged = judged_and_answered(tmp_path, line("a"), line("b") + line("c", **changes))
    assert judged.outcome == "hold"
    assert word in judged.model_changed
    assert "was judged" in judged.detail
    told = judged_and_answered(tmp_path, line("a"), line("c", **changes), model_changed="tell")
    assert (told.outcome, told.facts["told"]) == ("publish", "model_changed")
    assert word in told.detail


def test_the_judged_model_publishes_and_the_facts_say_who_answered(tmp_path):
    judged = judged_and_answered(tmp_path, line("a"), line("b") + line("c"))
    assert (judged.outcome, judged.model_changed) == ("publish", "")
    assert judged.facts["models"] == [
        {"target": "gpt", "model": "gpt-4o-1", "fingerprint": "fp_1", "answers": 2}
    ]


def test_the_judges_tape_of_the_commit_counts_as_judged(tmp_path):
    files.write_atomic(
        tmp_path / "code" / judge_tape_of("answers"), line("j", card="gpt", fingerprint="fp_9")
    )
    judged = judged_and_answered(tmp_path, line("a"), line("b", fingerprint="fp_9"))
    assert judged.outcome == "publish"


def test_a_fall_back_that_was_not_judged_is_said_and_does_not_hold(tmp_path):
    judged = judged_and_answered(tmp_path, line("a"), line("b", card="small", model="tiny"))
    assert judged.outcome == "publish"
    assert judged.facts["model_unjudged"] == ["small"]


def test_an_answer_that_names_no_model_is_counted(tmp_path):
    judged = judged_and_answered(tmp_path, line("a"), line("b", model=None, fingerprint=None))
    assert judged.facts["model_unstated"] == 1
    assert (judged.outcome, judged.detail) == ("publish", "model undecided: no recorded answer names one")


def test_a_fingerprint_that_one_side_lacks_says_nothing(tmp_path):
    for mine, other in (("", "fp_1"), ("fp_1", "")):
        judged = judged_and_answered(tmp_path, line("a", fingerprint=mine), line("b", fingerprint=other))
        assert judged.model_changed == ""


def test_streams_and_responses_state_their_model_too(tmp_path):
    chunks = [{"model": "gpt-4o-2", "system_fingerprint": None}, {"model": "gpt-4o-2", "choices": []}]
    done = [{"type": "response.created"}, {"type": "response.completed", "response": {"model": "gpt-4o-3"}}]
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line("a", events=chunks) + line("b", operation="respond", events=done))
    assert {item.model for item in models_of(path)} == {"gpt-4o-2", "gpt-4o-3"}


def test_refusals_torn_lines_purged_lines_and_embeddings_are_no_answers(tmp_path):
    path = tmp_path / "journal.jsonl"
    refused = files.canonical(
        {"key": "r" * 64, "operation": "chat", "result": {"refused": {}}, "target": {"name": "gpt"}}
    )
    path.write_bytes(b" " * 40 + b"\n" + refused + b"\n" + line("e", operation="embed") + line("a")[:50])
    assert models_of(path, tmp_path / "missing.jsonl") == ()


def test_the_newest_answer_of_a_request_counts(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line("a", model="old") + line("a", model="new"))
    [found] = models_of(path)
    assert (found.model, found.answers) == ("new", 1)


def test_a_name_of_an_endpoint_is_bounded_and_printable(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line("a", model="m\x1b[31m\n" + "x" * 1_000))
    [found] = models_of(path)
    assert found.model.isprintable()
    assert len(found.model) <= 100


def test_the_facts_of_many_models_columns_and_checks_fit_into_a_line_of_the_ledger(tmp_path):
    rows = [{"id": f"a-{n}"} | {f"column {c} " * 9: "x" * n for c in range(40)} for n in range(40)]
    made = output(tmp_path, [attempt(row["id"], "y" * n) for n, row in enumerate(rows)], rows=rows)
    files.write_atomic(made.folder / "tape.jsonl", line("a"))
    letters = "bcdefghijklmnopqrstuvw"
    files.write_atomic(
        made.journal, b"".join(line(key, model=key * 500, fingerprint=key * 500) for key in letters)
    )
    checks = {name: OutputCheck(min=0.5, max=0.6) for name in MEASURES}
    judged = judge_output(made, JobOperation(checks=checks))
    assert judged.outcome == "hold"
    assert len(orjson.dumps(judged.facts)) < 13_000


def test_nothing_is_compared_without_answers():
    assert compare_models([], []).changed == ()


# -- what a held output leaves in the ledger -----------------------------------------------


@pytest.fixture
def book(tmp_path):
    return SqliteLedger(tmp_path / "jobs.db", clock=FakeClock("2026-11-24T06:00:00+00:00"))


def test_a_version_that_another_model_answered_is_paused_and_its_answers_are_set_aside(tmp_path, book):
    judged = judged_and_answered(tmp_path, line("a"), line("b", model="gpt-4o-2"))
    made, kept = output(tmp_path), tmp_path / "held-r1"
    check_not_paused(book, "answers", 1)
    assert hold(book, made, judged, kept) == "held"
    assert not made.journal.exists()
    assert models_of(kept / "answers.jsonl")
    [pause] = book.pauses()
    assert (pause.job, pause.version, pause.by) == ("answers", 1, "workbench")
    with pytest.raises(RefusedError, match="gpt-4o-2") as refused:
        check_not_paused(book, "answers", 1)
    assert "workbench promote job/answers" in refused.value.hint
    check_not_paused(book, "answers", 2)
    book.resume("answers")
    check_not_paused(book, "answers", 1)


def test_a_breach_pauses_nothing_and_keeps_the_answers(tmp_path, book):
    made = output(tmp_path)
    files.write_atomic(made.journal, line("b"))
    for then, outcome in (("hold", "held"), ("roll_back", "rolled_back")):
        judged = judge_output(made, JobOperation(checks={"rows": OutputCheck(min=11, then=then)}))
        assert hold(book, made, judged, tmp_path / "held-r1") == outcome
    assert book.pauses() == []
    assert made.journal.exists()


def test_a_run_is_compared_with_the_published_runs_of_its_job_and_tenant(tmp_path, book):
    for number, (outcome, tenant) in enumerate([("published", ""), ("held", ""), ("published", "acme")]):
        slot = dataclasses.replace(SLOT, tenant=tenant, at=SLOT.at + dt.timedelta(hours=number))
        book.claim(slot, run=f"r{number}", version=1, input_digest="i")
        rows = [{"question": "x" * 10 ** (number + 1)}] * 40
        book.finished(f"r{number}", outcome, facts={"input_profile": drift.profile_of(rows)})
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "operations.yaml").write_text(
        "jobs: {answers: {checks: {input_drift: {max: 0.1}}}}\n"
    )
    attempts = [attempt(f"a-{n}") for n in range(60)]
    for length, state in ((10, "pass"), (100, "breach")):
        rows = [{"id": item["case"], "question": "x" * length} for item in attempts]
        judged = judge_run(tmp_path, book, output(tmp_path, attempts, rows=rows))
        assert judged.checks[0].state == state


def test_the_tape_of_every_shipped_version_names_its_model():
    tapes = sorted((Path(__file__).parents[2] / "pipelines" / "jobs").glob("*/*/tape.jsonl"))
    assert len(tapes) >= 11
    assert {item.model for tape in tapes for item in models_of(tape)} == {"smollm2-135m"}
    assert all(models_of(tape) for tape in tapes)
