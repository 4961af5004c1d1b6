"""Runs: what they measure, and the files they are kept in."""

import dataclasses

import orjson
import polars as pl
import pytest
import scipy
from made_runs import a_run, degraded_run, made_of, of

from workbench.errors import ConfigError, CorruptError, NotFoundError
from workbench.experiments.attempts import _usage, frame_of, told_row
from workbench.experiments.dataset import Case
from workbench.experiments.gate_spec import GateSpec
from workbench.experiments.gates import judge
from workbench.experiments.runs import find_run, load_runs, runs_frame, save_runs
from workbench.experiments.usage import FALLBACK, FALLBACK_REASONS


def test_a_run_measures_its_scores_pooled_and_by_tenant():
    run = a_run(accuracy=of(75, 100))
    accuracy = run.metric("accuracy")
    assert (accuracy.value, accuracy.n) == (0.75, 100)
    exact = scipy.stats.beta.ppf([0.05, 0.95], [75, 76], [26, 25])
    assert [accuracy.interval.low, accuracy.interval.high] == pytest.approx(exact)
    assert {name: metric.n for name, metric in accuracy.tenants.items()} == {"acme": 50, "globex": 50}
    assert [metric.name for metric in run.metrics()] == [
        "accuracy",
        "latency_p95_s",
        "latency_mean_s",
        "cost_usd_per_case",
        "unscored_rate",
        "cases",
    ]


def test_an_errored_case_is_unscored_and_never_zero():
    run = a_run(accuracy=[1.0, 1.0, None, 0.0])
    assert run.metric("accuracy").value == pytest.approx(2 / 3)
    assert (run.n_unscored, run.metric("unscored_rate").value, run.metric("cases").value) == (1, 0.25, 3)
    assert "1 unscored" in str(run) and "InvalidOutputError" in str(run)


def test_a_run_that_searched_the_last_snapshot_is_another_run_and_stays_so_in_its_file(tmp_path):
    run = degraded_run(2, accuracy=of(3, 4))
    save_runs([run], tmp_path)
    (kept,) = load_runs(tmp_path)
    assert (kept.n_degraded, kept.id) == (2, run.id) and run.id != a_run(accuracy=of(3, 4)).id


def test_a_scorer_that_does_not_apply_leaves_the_case_scored():
    run = a_run(accuracy=[1.0, 0.0], recall=[None, 1.0])
    assert run.n_unscored == 0
    assert run.metric("recall").n == 1
    assert run.scores("recall").rows() == [("q0001", 0, 1.0)]


def test_repeats_are_averaged_before_cases_and_their_spread_is_shown():
    scores = [1.0, 0.0] * 20 + [1.0, 1.0] * 20  # 20 cases of two minds, 20 sure ones
    run = a_run(accuracy=scores, repeats=2)
    metric = run.metric("accuracy")
    assert (metric.value, metric.n) == (0.75, 40)
    assert metric.repeat_sd == pytest.approx((20 * 0.5 / 40) ** 0.5)
    single = a_run(accuracy=scores).metric("accuracy")
    wide, narrow = metric.interval, single.interval
    assert wide.high - wide.low > 0.7 * (narrow.high - narrow.low)  # 80 answers are not 80 cases
    assert "standard deviation between repeats: accuracy 0.5" in str(run)


def test_the_same_case_asked_more_often_is_no_more_evidence():
    once = a_run(accuracy=of(30, 40)).metric("accuracy")
    thrice = a_run(accuracy=[s for s in of(30, 40) for _ in range(3)], repeats=3).metric("accuracy")
    assert (once.n, once.interval) == (thrice.n, thrice.interval)


def test_the_order_of_rows_changes_nothing():
    run = a_run(accuracy=of(30, 40), grounded=[i / 40 for i in range(40)])
    rows = run.cases.sample(fraction=1.0, shuffle=True, seed=3).to_dicts()
    other = made_of("new", rows, ["accuracy", "grounded"])
    assert other.id == run.id
    assert other.metrics() == run.metrics()


def test_everything_in_a_run_is_part_of_its_id():
    run = a_run(accuracy=of(3, 4))
    others = [
        a_run(accuracy=of(2, 4)),
        a_run("old", accuracy=of(3, 4)),
        a_run(accuracy=of(3, 4), dataset="e"),
        a_run(accuracy=of(3, 4), gate="g"),
        a_run(accuracy=of(3, 4), cost=0.002),
    ]
    assert len({run.id, *(other.id for other in others)}) == 6
    assert len(run.id) == 12


def test_an_unknown_metric_or_score_names_the_nearest():
    run = a_run(accuracy=of(3, 4))
    with pytest.raises(ConfigError, match="nearest: 'accuracy'"):
        run.metric("acuracy")
    with pytest.raises(NotFoundError, match="nearest: 'accuracy'"):
        run.scores("acuracy")


def test_rows_that_are_no_run_are_refused():
    rows = a_run(accuracy=of(3, 4)).cases.to_dicts()
    with pytest.raises(ConfigError, match="twice"):
        made_of("new", rows + rows[:1], ["accuracy"])
    with pytest.raises(ConfigError, match="cannot name a file"):
        made_of("../new", rows, ["accuracy"])
    run = a_run(accuracy=of(3, 4))
    more = run.cases.with_columns(surprise=pl.lit(1))
    with pytest.raises(ConfigError, match=r"unknown columns \['surprise'\]"):
        type(run)(**run.identity(), cases=more)


def test_saved_runs_come_back_whole_and_in_order(tmp_path):
    runs = [a_run("today", accuracy=[1.0, None, 0.0]), a_run("new prompt", accuracy=of(2, 3), gate="g")]
    save_runs(runs, tmp_path)
    back = load_runs(tmp_path)
    assert [run.arm for run in back] == ["today", "new prompt"]
    assert [run.id for run in back] == [run.id for run in runs]
    assert all(one.cases.equals(two.cases) for one, two in zip(runs, back, strict=True))


def test_the_same_runs_give_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        save_runs([a_run("today", accuracy=of(300, 500)), a_run(accuracy=of(400, 500))], tmp_path / folder)
    save_runs(load_runs(tmp_path / "b"), tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["new.parquet", "runs.json", "today.parquet"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_runs_json_holds_the_metrics_for_readers_without_polars(tmp_path):
    save_runs([a_run(accuracy=of(2, 3))], tmp_path)
    entry = orjson.loads((tmp_path / "runs.json").read_bytes())["runs"]["new"]
    assert entry["metrics"]["accuracy"]["value"] == 0.666667
    assert entry["settings"] == {"prompt": "answer@2", "k": 5}


def test_saving_removes_the_runs_of_before(tmp_path):
    save_runs([a_run("today", accuracy=of(2, 3)), a_run("old", accuracy=of(2, 3))], tmp_path)
    save_runs([a_run("today", accuracy=of(1, 3))], tmp_path)
    assert [run.arm for run in load_runs(tmp_path)] == ["today"]
    with pytest.raises(ConfigError, match="same arm"):
        save_runs([a_run("x", accuracy=of(1, 3)), a_run("x", accuracy=of(2, 3))], tmp_path)


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda folder: (folder / "new.parquet").unlink(), "new.parquet is missing"),
        (lambda folder: (folder / "more.parquet").write_bytes(b""), "more.parquet is not a file of"),
        (lambda folder: flip_a_byte(folder / "new.parquet"), "new.parquet: it was changed"),
        (lambda folder: (folder / "runs.json").write_text('{"format": 1'), "not a complete runs.json"),
        (
            lambda folder: (folder / "runs.json").write_text(
                (folder / "runs.json").read_text().replace("0.666667", "0.766667")
            ),
            "runs.json: it was changed",
        ),
        (
            lambda folder: (folder / "runs.json").write_text(
                (folder / "runs.json").read_text().replace('"format": 1', '"format": 9')
            ),
            "format 9, this version reads 1",
        ),
    ],
)
def test_what_was_changed_by_another_hand_is_named(tmp_path, harm, named):
    save_runs([a_run(accuracy=of(2, 3))], tmp_path)
    harm(tmp_path)
    with pytest.raises(CorruptError, match=named) as caught:
        load_runs(tmp_path)
    assert caught.value.hint == "dvc repro"


def test_no_runs_yet_says_how_to_make_them(tmp_path):
    with pytest.raises(NotFoundError) as caught:
        load_runs(tmp_path)
    assert caught.value.hint == "dvc repro"


def test_the_card_escapes_what_it_shows_and_ends_with_the_next_command():
    run = a_run(accuracy=of(2, 3))
    run = type(run)(**{**run.identity(), "use_case": "<script>"}, cases=run.cases)
    page = run._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert page.endswith(f"next: <code>workbench gate {run.id}</code></div></div>")
    assert str(run).endswith(f"next: workbench gate {run.id}")
    ungated = a_run(accuracy=of(2, 3), gate=None)
    assert f"next: workbench compare {ungated.id} BASELINE" in str(ungated)


def test_a_damaged_folder_is_passed_over_only_if_it_was_explored(tmp_path, capsys):
    pipeline, good, bad = tmp_path / "pipeline", tmp_path / "good", tmp_path / "bad"
    save_runs([a_run("judged", accuracy=of(2, 3))], pipeline)
    save_runs([a_run("draft", accuracy=of(1, 3))], good)
    save_runs([a_run("lost", accuracy=of(3, 3))], bad)
    (bad / "runs.json").write_text("{")
    (draft,) = load_runs(good)
    assert find_run(draft.id[:8], [pipeline], explored=[bad, good]).arm == "draft"
    said = capsys.readouterr().err
    assert "skipped a folder" in said and said.endswith(f"-> rm -r {bad}\n")
    assert runs_frame([pipeline], explored=[bad, good])["arm"].to_list() == ["judged", "draft"]
    capsys.readouterr()
    for arm in ("lost", "draft"):  # an explored run is found by its id alone
        with pytest.raises(NotFoundError, match=f"no run 'answers/{arm}'"):
            find_run(f"answers/{arm}", [pipeline], explored=[bad, good])
    for look in (lambda: find_run("answers/draft", [bad], explored=[good]), lambda: runs_frame([bad])):
        with pytest.raises(CorruptError, match="not a complete runs"):
            look()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("column", ["score.accuracy", "latency_s", "cost_usd"])
def test_a_run_with_a_number_that_is_not_finite_is_refused(column, number):
    run = a_run(accuracy=of(3, 4))
    for at in (0, 3):
        odd = pl.Series(column, [number if i == at else 0.5 for i in range(4)])
        with pytest.raises(ConfigError, match=f"{column} holds a number that is NaN or infinite"):
            dataclasses.replace(run, cases=run.cases.with_columns(odd))


def test_unscored_rows_are_counted_by_reason_the_commonest_first():
    errors = ["refusal: no", None, "infinite: x", "refusal: again: no", "KeyError", None]
    run = a_run(accuracy=[None if error else 1.0 for error in errors])
    run = dataclasses.replace(run, cases=run.cases.with_columns(error=pl.Series(errors)))
    assert list(run.unscored_reasons.items()) == [("refusal", 2), ("KeyError", 1), ("infinite", 1)]
    assert "unscored: 2 refusal, 1 KeyError, 1 infinite; no score, and not counted as zero" in str(run)
    assert a_run(accuracy=of(3, 4)).unscored_reasons == {}


def test_a_run_says_how_many_answers_the_limit_of_tokens_cut():
    run = a_run(accuracy=of(3, 4))
    cut = dataclasses.replace(run, cases=run.cases.with_columns(pl.Series("truncated", [2, 0, 1, 0])))
    assert (run.n_truncated, cut.n_truncated) == (0, 2) and cut.id != run.id
    assert "truncated: 2 answers were cut at the limit of tokens" in str(cut) and "truncated" not in str(run)


def test_a_run_and_its_gate_say_why_a_fall_back_answered():
    asked = {"port": "model", "operation": "chat", "fallback": "b@1"}
    told = [
        [{**asked, "fallback_reason": "policy"}, {**asked, "fallback_reason": "unavailable"}],
        [{**asked, "fallback_reason": "unavailable"}],
        [{"port": "model", "operation": "chat"}],
        [{"port": "model", "operation": "chat", "fallback": None, "fallback_reason": None}],
    ]
    run = a_run(accuracy=of(3, 4))
    columns = {name: [_usage(records)[name] for records in told] for name in (FALLBACK, FALLBACK_REASONS)}
    fell = dataclasses.replace(run, cases=run.cases.with_columns(pl.DataFrame(columns)))
    assert (fell.n_fallback, fell.fallback_reasons) == (3, {"unavailable": 2, "policy": 1})
    assert run.fallback_reasons == {} and "fall-back" not in str(run)
    spec = GateSpec.parse({"cases": {"min": 2}, "confidence": 0.9}, where="test")
    report, plain = judge(fell, spec, phase="mvp"), judge(run, spec, phase="mvp")
    for text in (str(fell), str(report)):
        assert "fall-back: 3 answers were given" in text and "2 unavailable, 1 policy" in text
    assert report.to_json()["fallback_reasons"] == {"unavailable": 2, "policy": 1}
    assert "fallback_reasons" not in plain.to_json()


def test_the_frame_of_a_run_without_fall_backs_has_no_column_of_theirs():
    case = Case(id="q1", tenant="acme", inputs={}, expected={})
    for fallback, there in ((None, False), ("b@1", True)):
        told = {"error": "x: y", "records": [{"fallback": fallback, "fallback_reason": "policy"}]}
        frame = frame_of([told_row(case, told, None, ())], ())
        assert {FALLBACK in frame.columns, FALLBACK_REASONS in frame.columns} == {there}
