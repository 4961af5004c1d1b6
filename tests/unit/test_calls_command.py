"""`workbench calls …`: the record, costs, sessions, impact and purge at the command line."""

import dataclasses
import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from made_evidence import an_evidence

import workbench as wb
from workbench import config, layout
from workbench.cli.app import cli
from workbench.errors import ConfigError, NotFoundError, RefusedError
from workbench.identity import from_system
from workbench.models import ModelCard
from workbench.models.card import Price
from workbench.pipeline.report import pages
from workbench.pipeline.settings import READ, of_stage
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeModel
from workbench.workspace.boundary import Boundary, StatePaths
from workbench.workspace.saved_impact import load_impact, measure, save_impact

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ws(tmp_path, monkeypatch):
    """A repository of its own, with one session of two calls and one call of another tenant."""
    for name in ("pipelines", "notebooks", "data"):
        (tmp_path / name).mkdir()
    for folder in ("models", "prompts", "memories"):
        (tmp_path / "pipelines" / folder).symlink_to(ROOT / "pipelines" / folder)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    card = dataclasses.replace(ModelCard.unsaved("m"), price_per_million=Price(input_usd=1.0, output_usd=2.0))
    boundary = Boundary(
        tmp_path, mode="live", tape=Tape(tmp_path / "t"), cards=[card], places=StatePaths(home=tmp_path)
    )
    boundary._models["m"] = FakeModel()
    ws = wb.connect("answers", root=tmp_path, through=boundary)
    replies = [ws.session("s-1").model("m").chat(text) for text in ("CANARY", "CANARY two")]
    ws.bind(tenant="globex").model("m").chat("CANARY three")
    ws.outcome(replies[0], "resolved", value=1.0)
    return ws


def run(*arguments, code=0):
    done = CliRunner().invoke(cli, ["calls", *arguments])
    if isinstance(done.exception, Exception) and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def test_the_newest_calls_are_shown_without_content(ws):
    table = run()
    assert table.count("acme") == 2 and table.count("globex") == 1 and "CANARY" not in table
    assert len(json.loads(run("-n", "2", "--json"))) == 2
    assert [row["tenant"] for row in json.loads(run("--tenant", "globex", "--json"))] == ["globex"]
    assert len(json.loads(run("--session", "s-1", "--json"))) == 2
    assert json.loads(run("--since", "2999-01-01", "--json")) == []


def test_the_error_of_a_call_is_shown(ws):
    ws.boundary._models["m"] = FakeModel(lambda _: RefusedError("no such key", status=401))
    with pytest.raises(RefusedError):
        ws.model("m").chat("hello")
    (line,) = [line for line in run().splitlines() if "refused" in line]
    assert "RefusedError" in line


def test_one_call_is_shown_by_its_trace(ws):
    trace = ws.calls()["trace_id"][0]
    (row,) = json.loads(run("--trace", trace, "--json"))
    assert row["trace_id"] == trace and row["attempts"][0]["outcome"] == "ok"
    assert trace in run("--trace", trace) and "no call" in run("--trace", "0" * 32)


def test_costs_and_sessions(ws):
    rows = json.loads(run("costs", "--by", "tenant", "--json"))
    assert [(row["tenant"], row["calls"]) for row in rows] == [("acme", 2), ("globex", 1)]
    assert sum(row["cost_usd"] for row in rows) == pytest.approx(ws.calls()["cost_usd"].sum())
    assert "cost_usd" in run("costs")
    (row,) = json.loads(run("sessions", "--json"))
    assert (row["session"], row["calls"]) == ("s-1", 2)
    with pytest.raises(ConfigError, match="nearest: 'tenant'"):
        run("costs", "--by", "tennant")


def test_use_cases_of_which_the_user_is_no_admin_are_left_out(ws, tmp_path):
    params = tmp_path / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("  answers:\n", "  answers:\n    admins: [somebody-else]\n", 1))
    assert from_system().name != "somebody-else" and json.loads(run("--json")) == []
    for verb in ([], ["costs"], ["sessions"], ["would-refuse"]):
        assert "left out: 1 use case" in run(*verb) and run(*verb).endswith(": answers\n")


def test_purge_needs_a_day_or_a_retention(ws, tmp_path):
    with pytest.raises(ConfigError, match="no retention") as caught:
        run("purge")
    assert "workbench calls purge" in caught.value.hint
    with pytest.raises(ConfigError, match="is not a day"):
        run("purge", "--before", "2026-1-1")
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text() + "retention: {calls_days: 400}\n")
    assert json.loads(run("purge", "--json"))["calls"] == 0 and ws.calls().height == 3
    assert "removed 3 calls and 1 outcomes" in run("purge", "--before", "2999-01-01")
    assert ws.calls().is_empty() and ws.outcomes().is_empty()
    params.write_text(params.read_text().replace("calls_days: 400", "calls_days: 0"))
    with pytest.raises(ConfigError, match="calls_days"):
        run("purge")


def test_an_impact_is_measured_from_outcomes_or_a_file_of_events(ws, tmp_path):
    rows = json.loads(run("impact", "answers", "--by", "tenant", "--json"))["rows"]
    assert [(row["group"], row["missing"]) for row in rows] == [(["acme"], 1), (["globex"], 1)]
    row = rows[0]
    assert (row["group"], row["units"], row["outcome"]["value"]) == (["acme"], 2, 1.0)
    (tmp_path / "events.csv").write_text("session,revenue\ns-1,12.5\n")
    (row,) = measure(
        tmp_path, "answers", events=Path("events.csv"), on="session", by=("tenant",), since=None
    ).rows
    assert (row.units, row.missing, row.outcome.value) == (1, 0, 12.5)
    for name, content, error in (
        ("none.csv", None, NotFoundError), ("odd.parquet", "x", ConfigError), ("odd.csv", "", ConfigError),
    ):  # fmt: skip
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(error, match=name.split(".")[0]):
            measure(tmp_path, "answers", events=tmp_path / name, on="session", by=("tenant",), since=None)


def test_a_saved_impact_is_a_section_of_the_page_and_reruns_the_report_alone(ws, tmp_path):
    found = measure(tmp_path, "answers", events=None, on="trace_id", by=("tenant", "model"), since=None)
    path = save_impact(tmp_path, "answers", found)
    assert save_impact(tmp_path, "answers", found) == path
    stated = path.relative_to(tmp_path).as_posix()
    assert f"impact: {stated}" in run("impact", "answers", "--by", "tenant", "--by", "model", "--save")
    case = config.load_params(ROOT).use_cases["answers"]
    given = dataclasses.replace(case, impact=stated)
    changed = {stage for stage in READ if of_stage(stage, given, "") != of_stage(stage, case, "")}
    assert changed == {"report"} and "impact" not in of_stage("report", case, "")
    plain = an_evidence()
    saved = load_impact(tmp_path, "answers", stated)
    given = dataclasses.replace(plain.use_case, impact=stated)
    shown = [page.decode() for page in pages(dataclasses.replace(plain, impact=saved, use_case=given))]
    for with_impact, without in zip(shown, pages(plain), strict=True):
        assert "What it did for its users" in with_impact and "counts neither way" in with_impact
        assert "missing" in with_impact and "globex" in with_impact and stated in with_impact
        assert b"What it did for its users" not in without


def test_a_saved_impact_that_was_changed_or_is_another_s_is_an_error(ws, tmp_path):
    found = measure(tmp_path, "answers", events=None, on="trace_id", by=("tenant",), since=None)
    path = save_impact(tmp_path, "answers", found)
    stated = path.relative_to(tmp_path).as_posix()
    with pytest.raises(ConfigError, match="is the impact of 'answers'"):
        load_impact(tmp_path, "triage", stated)
    path.write_bytes(path.read_bytes().replace(b"acme", b"acne"))
    with pytest.raises(ConfigError, match="was changed") as caught:
        load_impact(tmp_path, "answers", stated)
    assert "--save" in caught.value.hint
    with pytest.raises(NotFoundError):
        load_impact(tmp_path, "answers", "pipelines/impact/none-000000000000.json")


def test_the_log_of_a_test_is_in_its_folder(ws, tmp_path):
    assert (tmp_path / layout.CALLS).exists() and isinstance(ws.calls(), pl.DataFrame)
