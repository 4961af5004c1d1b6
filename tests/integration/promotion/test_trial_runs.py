"""A shadow beside production, and a canary within production's run, with a worker for each version."""

# ruff: noqa: F811 - fixtures are imported

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from told_jobs import AT, promoted, recorded, root, task  # noqa: F401 - fixtures

from workbench import files, registry
from workbench.audit import Filter, rows_of
from workbench.config.operations import OPERATIONS
from workbench.errors import RefusedError, UnavailableError
from workbench.experiments.batch import ATTEMPTS
from workbench.experiments.inputs import read
from workbench.jobs import publishing, runner, trial_runs
from workbench.jobs import run as jobs
from workbench.jobs.effects import RunEffects
from workbench.jobs.ledger import Slot, open_ledger
from workbench.jobs.runner import WorkerResult
from workbench.layout import AUDIT, AUDIT_KEYS, judge_tape_of
from workbench.promotion.promote import ReleaseOptions, promote
from workbench.promotion.rollout import rollout_of, settle_trials
from workbench.scheduler import orders
from workbench.testing.fakes import FakeClock

ROWS = [{"id": f"r-{n:02}", "tenant": "acme", "question": "When?"} for n in range(40)]
BEFORE = FakeClock("2026-11-24T00:00:00Z")


class Workers:
    """The worker of each version: `broken` names the ids that it cannot answer, `error` what it raises."""

    def __init__(self) -> None:
        self.asked: dict[int, list[str]] = {}
        self.broken: dict[int, set[str]] = {}
        self.error: dict[int, Exception] = {}
        self.held: set[int] = set()
        self.says: dict[int, str] = {}
        self.seconds: dict[int, float] = {}
        #: What each version's attempts say, and the model that its answers name.
        self.attempts: dict[int, dict[str, object]] = {}
        self.models: dict[int, str] = {}
        self.slots: dict[int, list[str | None]] = {}

    def __call__(self, request, *, python, folder, seconds, tick=lambda: None) -> WorkerResult:
        version = int(Path(request.journal).stem)
        self.slots.setdefault(version, []).append(RunEffects.read(folder).slot)
        rows = read(Path(request.inputs), tenant=request.tenant)
        self.asked.setdefault(version, []).extend(row.id for row in rows)
        if version in self.error:
            raise self.error[version]
        broken = [row for row in rows if row.id in self.broken.get(version, ())]
        good = sorted(row.id for row in rows if row not in broken)
        out = Path(request.out)
        out.mkdir(parents=True)
        says = self.says.get(version, "06:00")
        pl.DataFrame({"id": good, "tenant": ["acme"] * len(good), "text": [says] * len(good)}).write_parquet(
            out / "answers.acme.parquet"
        )
        schema = {"row": pl.Int64, "id": pl.String, "tenant": pl.String, "kind": pl.String}
        quarantined = [(row.number, row.id, row.tenant, "task") for row in broken]
        pl.DataFrame(quarantined, schema=schema, orient="row").write_parquet(out / "quarantine.parquet")
        record = {"port": "model", "recorded_latency_s": self.seconds.get(version, 1.0), "cost_usd": 0.001}
        told = self.attempts.get(version, {})
        lines = [{"case": name, "tenant": "acme", "records": [record], **told} for name in good]
        if version in self.models:
            # The judge's tape lies in the exported code of the version.
            files.write_atomic(Path(request.root) / judge_tape_of("answers"), recorded("tiny-1"))
            files.write_atomic(Path(request.home) / request.journal, recorded(self.models[version]))
        files.write_atomic(out.with_name(ATTEMPTS), "".join(f"{json.dumps(x)}\n" for x in lines).encode())
        counts = {
            "rows": len(rows), "answered": len(good), "quarantined": len(broken), "broken_input": 0,
            "broken_answer": len(broken), "calls": len(rows), "cost_usd": 0.01, "input_tokens": 7,
            "output_tokens": 3, "held": version in self.held,
        }  # fmt: skip
        return WorkerResult(task_digest=f"{version}" * 64, notebook="", counts=counts)


@pytest.fixture
def workers(root, monkeypatch):
    made = Workers()
    monkeypatch.setattr(runner, "run", made)
    (root / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return made


def on_trial(root, label, **given):
    order = ReleaseOptions(label=label, show=False, commit=True, clock=BEFORE, **given)
    promote(root, "job/answers@2", order)


def run(root, **given):
    return jobs.run(root, task(**{"input": str(root / "rows.jsonl"), **given}))


def lines(root):
    found = open_ledger(root, FakeClock()).history("answers")
    return sorted((item.role, item.version, item.outcome, item.rows) for item in found)


def guards_of(root):
    (report,) = rollout_of(root, open_ledger(root, FakeClock()), "answers").trials
    return {item.metric: (item.n, item.mean) for item in report.guards}


def slot():
    return Slot(job="answers", tenant="", at=dt.datetime.fromisoformat(AT))


def texts(folder):
    frame = pl.read_parquet(folder / "answers.acme.parquet")
    return dict(zip(frame["id"], frame["text"], strict=True))


# -- canary


def test_a_canary_answers_its_share_and_one_output_is_published_whose_manifest_names_both(root, workers):
    on_trial(root, "canary", share=0.25)
    workers.says, workers.broken = {1: "live", 2: "new"}, {1: {"r-00"}, 2: {"r-39", "r-13"}}
    done = run(root)
    ours, rest = set(workers.asked[2]), set(workers.asked[1])
    assert not ours & rest and ours | rest == {row["id"] for row in ROWS} and 4 <= len(ours) <= 16
    folder = root / done.folder
    answered = texts(folder)
    assert list(answered) == sorted(answered)
    for name, text in answered.items():
        assert text == ("new" if name in ours else "live")
    broken = pl.read_parquet(folder / "quarantine.parquet")
    expected = {"r-00"} & rest | {"r-39", "r-13"} & ours
    assert set(broken["id"]) == expected and answered.keys() == {row["id"] for row in ROWS} - expected
    assert [ROWS[number - 1]["id"] for number in broken["row"]] == list(broken["id"])
    manifest = publishing.read(folder)
    assert (manifest.version, manifest.counts["rows"], manifest.cost_usd) == (1, 40, 0.02)
    assert (manifest.canary["version"], manifest.canary["rows"], manifest.canary["share"]) == (
        2, len(ours), 0.25,
    )  # fmt: skip
    assert lines(root) == [("canary", 2, "published", len(ours)), ("production", 1, "published", 40)]
    (report,) = rollout_of(root, open_ledger(root, FakeClock()), "answers").trials
    assert (report.role, report.slots, report.guards[0].n) == ("canary", 1, len(ours))
    assert not list((root / ".workbench/cache/jobs").glob("*"))
    assert run(root).outcome == "unchanged"


@pytest.mark.parametrize("fault", ["an error", "too many broken rows"])
def test_a_canary_that_fails_costs_the_slot_nothing_and_counts_against_it(root, workers, fault):
    on_trial(root, "canary", share=0.25)
    if fault == "an error":
        workers.error = {2: UnavailableError("no model\nof the canary", hint="")}
    else:
        workers.held = {2}
    done = run(root)
    assert len(texts(root / done.folder)) == 40 and not done.manifest.canary
    (canary, production) = lines(root)
    assert canary[:3] == ("canary", 2, "failed") and production[2:] == ("published", 40)
    (report,) = rollout_of(root, open_ledger(root, FakeClock()), "answers").trials
    assert report.failed == 1 and report.guards[0].mean == -1


def test_a_canary_that_is_worse_is_taken_back_after_some_slots_and_production_answers_all(root, workers):
    on_trial(root, "canary", share=0.5)
    workers.broken = {2: {f"r-{n:02}" for n in range(0, 40, 5)}}
    ledger, days = open_ledger(root, FakeClock("2026-11-25T01:02:03Z")), 0
    while not settle_trials(root, ledger, "answers", clock=FakeClock()) and days < 20:
        days += 1
        run(root, at=f"2026-11-{days:02}T06:00Z")
    assert 2 <= days < 20
    assert registry.load(root, "job", "answers").labels == {"candidate": 2, "production": 1}
    workers.asked.clear()
    run(root, at="2026-11-23T06:00Z")
    assert list(workers.asked) == [1] and len(workers.asked[1]) == 40


def test_when_production_fails_beside_a_canary_nothing_is_published_and_it_is_no_fault_of_the_canary(
    root,
    workers,
):
    on_trial(root, "canary", share=0.25)
    workers.error = {1: UnavailableError("no model", hint="")}
    with pytest.raises(UnavailableError):
        run(root)
    assert [line[:3] for line in lines(root)] == [
        ("canary", 2, "interrupted"), ("production", 1, "failed"),
    ]  # fmt: skip
    assert not (root / "published").exists()


def test_a_version_that_is_named_runs_without_its_canary(root, workers):
    on_trial(root, "canary", share=0.25)
    run(root, reference="answers@1")
    assert list(workers.asked) == [1]


# -- guards that are scores of answers


PASSAGES = [{"id": "p", "source": "s", "text": "46 euros"}]
SAYS = {
    "grounded": {"output": '{"text":"46 euros"}', "passages": PASSAGES},
    "half": {"output": '{"text":"46 dollars"}', "passages": PASSAGES},
    "wrong type": {"error": "invalid_output: no JSON", "passages": []},
}  # fmt: skip
GUARDED = b"defaults: {rollout: {guards: {grounded: 0.1, schema: 0.1}}}\n"


@pytest.mark.parametrize(
    ("says", "grounded", "schema"), [("half", (10, -0.5), (10, 0)), ("wrong type", (0, None), (10, -1))]
)
def test_a_canary_is_guarded_by_the_scores_of_its_answers(root, workers, says, grounded, schema):
    on_trial(root, "canary", share=0.25)
    files.write_atomic(root / OPERATIONS, GUARDED)
    workers.attempts = {1: SAYS["grounded"], 2: SAYS[says]}
    run(root)
    guards = guards_of(root)
    assert guards == {"grounded": grounded, "schema": schema}


@pytest.mark.parametrize("first", ["production", "shadow"])
def test_a_shadow_is_guarded_by_the_mean_scores_of_its_slots(root, workers, first):
    on_trial(root, "shadow")
    files.write_atomic(root / OPERATIONS, GUARDED)
    workers.attempts = {1: SAYS["grounded"], 2: SAYS["half"]}
    for role in sorted(["production", "shadow"], key=lambda role: role != first):
        run(root, role=role)
    assert guards_of(root) == {"grounded": (1, -0.5), "schema": (1, 0)}


def test_attempts_in_the_form_of_another_version_have_no_scores(root, workers):
    on_trial(root, "canary", share=0.25)
    files.write_atomic(root / OPERATIONS, GUARDED)
    workers.attempts = {1: SAYS["grounded"], 2: {"output": "no JSON", "passages": [{"text": 3}]}}
    assert run(root).outcome == "published"
    assert guards_of(root)["grounded"] == (0, None)


# -- checks and models of a canary's own rows


def test_a_canary_whose_rows_breach_a_check_is_taken_back_and_production_answers_them(root, workers):
    on_trial(root, "canary", share=0.25)
    checks = "{quarantined_rate: {max: 0.1, then: roll_back}, rows: {min: 30, then: roll_back}}"
    files.write_atomic(root / OPERATIONS, f"defaults: {{checks: {checks}}}\n".encode())
    workers.broken, workers.held = {2: {f"r-{n:02}" for n in range(40)}}, {2}
    done = run(root)
    assert len(texts(root / done.folder)) == 40 and not done.manifest.canary
    ledger = open_ledger(root, FakeClock())
    (taken,) = settle_trials(root, ledger, "answers", clock=FakeClock())
    assert taken.order.reason.startswith("quarantined_rate 1, at most 0.1") and taken.labels == {"canary": 0}
    assert registry.load(root, "job", "answers").labels["production"] == 1


def test_a_check_that_only_holds_costs_the_canary_its_rows_and_not_its_label(root, workers):
    on_trial(root, "canary", share=0.25)
    files.write_atomic(root / OPERATIONS, b"defaults: {checks: {unanswered_rate: {max: 0.3}}}\n")
    workers.broken = {2: {f"r-{n:02}" for n in range(40)}}
    assert run(root).outcome == "published"
    assert lines(root)[0][:3] == ("canary", 2, "failed")
    assert "unanswered_rate 1" in open_ledger(root, FakeClock()).history("answers", role="canary")[0].detail
    (report,) = rollout_of(root, open_ledger(root, FakeClock()), "answers").trials
    assert (report.failed, report.breach, report.guards[0].mean) == (1, "", -1)


def test_a_rate_of_few_rows_that_chance_explains_is_no_breach_of_a_canary(root, workers):
    on_trial(root, "canary", share=0.25)
    checks = "{quarantined_rate: {max: 0.05, then: roll_back}}"
    files.write_atomic(root / OPERATIONS, f"defaults: {{checks: {checks}}}\n".encode())
    run(root, at="2026-11-23T06:00Z")
    first = workers.asked[2][0]
    workers.broken = {2: {first}}  # a tenth of the canary's rows, and not surely above the bound
    assert run(root).manifest.canary["rows"] == len(workers.asked[2]) // 2 == 10
    assert settle_trials(root, open_ledger(root, FakeClock()), "answers", clock=FakeClock()) == []


def test_a_canary_that_another_model_answers_is_paused_told_and_resumed_with_a_reason_only(root, workers):
    on_trial(root, "canary", share=0.25)
    files.write_atomic(root / OPERATIONS, b"channels: {log: {file: n.jsonl}}\ndefaults: {notify: [log]}\n")
    workers.models = {1: "tiny-1", 2: "tiny-2"}
    done = run(root)
    assert (done.outcome, len(texts(root / done.folder)), done.manifest.canary) == ("published", 40, {})
    ledger = open_ledger(root, FakeClock())
    [pause] = ledger.pauses()
    assert (pause.version, "tiny-2 answered, tiny-1 was judged" in pause.reason) == (2, True)
    for _ in range(2):
        assert settle_trials(root, ledger, "answers", clock=FakeClock()) == []
    [notice] = ledger.notices("answers")
    assert (notice.event, notice.payload["version"]) == ("model_changed", 2)
    found = rollout_of(root, ledger, "answers")
    assert "answers@2 is paused" in str(found) and (found.trials[0].failed, found.trials[0].slots) == (0, 0)
    workers.asked.clear()
    assert run(root, at="2026-11-23T06:00Z").outcome == "published" and list(workers.asked) == [1]
    with pytest.raises(RefusedError, match="answers@2 is paused") as caught:
        orders.resume(root, ledger, "answers")
    assert "make repro LIVE=1 RECORD=1" in caught.value.hint and ledger.pauses() == [pause]
    orders.resume(root, ledger, "answers", reason="the endpoint is back")
    act = rows_of(root / AUDIT, Filter(action="resume"), root / AUDIT_KEYS)[-1]
    assert act["facts"]["ungated"] == ["answers@2"] and act["reason_uid"]
    workers.models = {1: "tiny-1", 2: "tiny-1"}
    assert run(root, at="2026-11-22T06:00Z").manifest.canary["version"] == 2


def test_a_shadow_that_another_model_answers_is_paused(root, workers):
    on_trial(root, "shadow")
    workers.models = {2: "tiny-2"}
    assert run(root, role="shadow").outcome == "held"
    with pytest.raises(RefusedError, match="answers@2 is paused"):
        run(root, role="shadow")
    workers.models = {}
    assert run(root).outcome == "published"


def test_a_shadow_whose_output_breaches_a_check_is_taken_back(root, workers):
    on_trial(root, "shadow")
    checks = "{rows: {max: 10, then: roll_back}}"
    files.write_atomic(root / OPERATIONS, f"jobs: {{answers: {{checks: {checks}}}}}\n".encode())
    assert run(root, role="shadow").outcome == "shadowed"
    (taken,) = settle_trials(root, open_ledger(root, FakeClock()), "answers", clock=FakeClock())
    assert taken.order.reason.startswith("rows 40, at most 10") and taken.labels == {"shadow": 0}


# -- memory


def test_what_a_canary_writes_belongs_to_the_slot_of_production(root, workers):
    on_trial(root, "canary", share=0.25)
    workers.error = {2: UnavailableError("no model", hint="")}  # then production answers its rows, too
    run(root)
    run(root, reference="answers@1", replace=True)
    assert workers.slots == {1: [slot().key] * 2, 2: [slot().key]}


def test_what_a_shadow_writes_belongs_to_no_slot(root, workers):
    on_trial(root, "shadow")
    run(root, role="shadow")
    run(root, tenant="acme")
    assert workers.slots == {1: [dataclasses.replace(slot(), tenant="acme").key], 2: [None]}


# -- shadow


@pytest.mark.parametrize("first", ["production", "shadow"])
def test_a_shadow_is_kept_compared_and_not_published_whichever_ends_first(root, workers, first):
    on_trial(root, "shadow")
    workers.says, workers.broken = {1: "live", 2: "live"}, {2: {"r-03"}}
    workers.seconds = {1: 1.0, 2: 3.0}
    files.write_atomic(
        root / "pipelines/operations.yaml",
        b"defaults: {rollout: {guards: {success: 0.05, agreement: 0.3, latency: 0.5, cost: 0.5}}}\n",
    )
    for role in sorted(["production", "shadow"], key=lambda role: role != first):
        run(root, role=role)
    published = root / "published/answers/all/20261124T060000Z"
    kept = trial_runs.shadow_folder(root, slot(), 2)
    assert len(texts(published)) == 40 and len(texts(kept)) == 39
    assert publishing.read(published).version == 1 and publishing.read(kept).version == 2
    assert [path.name for path in published.parent.iterdir()] == [published.name]
    (report,) = rollout_of(root, open_ledger(root, FakeClock()), "answers").trials
    guards = {item.metric: (item.n, item.mean) for item in report.guards}
    assert guards["success"] == (40, pytest.approx(-1 / 40)) and guards["agreement"] == (39, 0)
    assert guards["latency"] == (1, pytest.approx(-2 / 3)) and guards["cost"] == (1, 0)


def test_a_shadow_of_another_input_is_not_compared(root, workers):
    on_trial(root, "shadow")
    run(root)
    (root / "rows.jsonl").write_text(f"{json.dumps(ROWS[0])}\n")
    assert run(root, role="shadow").outcome == "shadowed"
    (report,) = rollout_of(root, open_ledger(root, FakeClock()), "answers").trials
    assert (report.slots, report.guards[0].n) == (1, 0)


def test_a_withdrawn_shadow_does_not_run(root, workers):
    on_trial(root, "shadow")
    open_ledger(root, FakeClock()).withdraw("answers", 2, by="ada", reason="wrong")
    with pytest.raises(RefusedError, match="withdrawn"):
        run(root, reference="answers@shadow", role="shadow")
    assert not workers.asked


# -- killed

KILLED = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[1].split(os.pathsep)
import test_trial_runs as t
from workbench.jobs import runner
from workbench.repository import environments
environments.python_of = lambda root, lock, install_hint: Path("python")
made = t.Workers()

def work(request, **rest):
    if int(Path(request.journal).stem) == int(sys.argv[2]):
        os._exit(9)
    return made(request, **rest)

runner.run = work
t.run(Path.cwd())
"""


@pytest.mark.drawn("canaries whose run is killed", 1)
@pytest.mark.parametrize("version", [2, 1])
def test_a_run_with_a_canary_that_is_killed_is_run_again_once(root, workers, version):
    """Killed while the canary answers, or while production answers the rest."""
    on_trial(root, "canary", share=0.25)
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parents[1] / "support"), str(here.parents[2])])
    command = [sys.executable, "-c", KILLED, paths, str(version)]
    assert subprocess.run(command, cwd=root, check=False, timeout=100).returncode == 9
    assert not (root / "published").exists()
    done = run(root)
    assert done.outcome == "published" and done.manifest.canary["version"] == 2
    found = open_ledger(root, FakeClock()).history("answers")
    assert sorted((item.role, item.state) for item in found) == [
        ("canary", "finished"), ("canary", "lost"), ("production", "finished"), ("production", "lost"),
    ]  # fmt: skip
    assert not list((root / ".workbench/cache/jobs").glob("*"))
    (report,) = rollout_of(root, open_ledger(root, FakeClock()), "answers").trials
    assert (report.slots, report.failed) == (1, 0)
