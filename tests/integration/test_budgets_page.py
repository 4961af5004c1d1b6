# ruff: noqa: F811 - a test takes the fixture by its name
"""docs/budgets.md, followed to the letter: its budgets are written, its code and its command run."""

import json
import shutil
import sys

import pytest
from documented_pages import blocks_of, check_shown, copy_to, page_of, run
from endpoint import endpoint, speaking
from postgres_server import PASSWORD, postgres  # noqa: F401 - a fixture

import workbench as wb
from workbench import config, registry
from workbench.diagnostics import budgets
from workbench.diagnostics.check import check_all
from workbench.errors import BudgetExceededError, RefusedError
from workbench.testing.fakes import FakeModel

PAGE = page_of("budgets.md")
CARD = """\
name: paid
provider: openai
model: paid-1
kind: chat
purpose: Tests.
licence: none
region: here
limits: {context_tokens: 8192, max_output_tokens: 64}
price_per_million: {input_usd: 1.0, output_usd: 2.0}
"""


def blocks(language):
    return blocks_of(PAGE, language)


@pytest.fixture
def model():
    return FakeModel(lambda _: "yes")


@pytest.fixture
def repository(tmp_path, model, monkeypatch):
    """This repository's use case with a paid model on the loopback, and the budgets of the page."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    copy_to(tmp_path)
    with endpoint(speaking(model)) as url:
        card = (CARD + f"base_url: {url}\n").encode()
        registry.save_version(tmp_path, "model", "paid", card, author="t", reason="paid", parent=None)
        params = tmp_path / "params.yaml"
        text = params.read_text().replace("    model: smollm2-135m\n", "    model: paid\n")
        params.write_text(text + "\n" + blocks("yaml")[0])
        yield tmp_path


def test_the_page_is_true(repository, model):
    spend, refused = blocks("python")
    (command,) = blocks("console")
    first = run(repository, sys.executable, "-c", spend.replace("ws.budget()", "print(ws.budget())"))
    check_shown(first, "trial tenant acme, day … 2 calls 2 calls 0 calls 0 calls …")
    check_shown(first, "watched … 1 call 2 calls 0 calls 0 calls … 1, last at …")
    script = 'import workbench as wb\nws = wb.connect("answers", purpose="trial")\n' + refused
    second = run(repository, sys.executable, "-c", script)
    assert second.startswith("trial (tenant acme, day ") and " calls 2.0 2.0 " in second
    assert "-> raise budgets.trial.calls in params.yaml" in second
    assert len(model.calls) <= 2, (
        "equal questions are answered by the cache, and the refused one is not asked"
    )
    shown = run(repository, sys.executable, "-m", "workbench.cli", *command.split()[2:], "--json")
    lines = {(line["budget"], line["measure"]): line for line in json.loads(shown)["budgets"]}
    assert lines["trial", "calls"]["spent"] == 2 and lines["trial", "calls"]["refused"] == 1
    assert 0 < lines["month", "usd"]["spent"] < 0.001 and lines["month", "usd"]["reserved"] == 0


def spend(repository, question, **how):
    ws = wb.connect("answers", root=repository, purpose="trial")
    try:
        list(ws.model().stream(question)) if how.get("stream") else ws.model().chat(question)
        return ws.budget()
    finally:
        ws.close()


def test_workspace_doctor_and_check_say_what_is_left(repository):
    report = spend(repository, "one?")
    assert {line.budget for line in report.lines} == {"month", "trial", "watched"}
    assert report.frame().filter(measure="calls", budget="trial")["left"].to_list() == [1]
    assert "month" in report._repr_html_() and report.to_json()["budgets"]
    params = config.load_params(repository)
    found = {finding.what.partition(" (")[0]: finding for finding in budgets.left(repository, params)}
    assert found["budget trial"].detail.startswith(("1 call of 2 calls left", "199,9"))
    assert all(finding.state == "ok" for finding in found.values())
    for name in params.budgets:
        budgets.check_met(repository, name, params)


def test_check_names_a_budget_that_refuses_every_call(repository):
    params = repository / "params.yaml"
    params.write_text(params.read_text().replace("tokens: 200000", "tokens: 20"))
    (wrong,) = [f for f in check_all(repository).findings if f.what == "budget trial"]
    assert "budgets.trial.tokens is less than the 81 tokens" in wrong.problem


@pytest.mark.parametrize("only", ["use_case: answer", "job: nightly", "tenant: [acme, globx]"])
def test_check_names_a_budget_of_what_is_not_declared(repository, only):
    params = repository / "params.yaml"
    params.write_text(
        params.read_text().replace("only: {use_case: answers, purpose: trial}", f"only: {{{only}}}")
    )
    (wrong,) = [f for f in check_all(repository).findings if f.what == "budget trial"]
    assert (
        f"budgets.trial.only.{only.partition(':')[0]} names" in wrong.problem
        and "applies to none" in wrong.problem
    )


def test_a_replayed_answer_takes_nothing_and_is_never_refused(repository, model):
    for _ in range(5):
        report = spend(repository, "one?")
    assert len(model.calls) == 1
    assert report.frame().filter(measure="calls", budget="trial")["spent"].to_list() == [1]
    spend(repository, "two?")
    with pytest.raises(BudgetExceededError, match="trial"):
        spend(repository, "three?")
    spend(repository, "one?")


def test_another_purpose_and_another_tenant_have_accounts_of_their_own(repository):
    for question in ("one?", "two?"):
        spend(repository, question)
    ws = wb.connect("answers", root=repository, purpose="trial")
    ws.bind(tenant="globex").model().chat("three?")
    ws.bind(purpose="explore").model().chat("four?")
    assert {line.budget for line in ws.bind(purpose="explore").budget().lines} == {"month"}
    ws.close()


def test_a_damaged_ledger_refuses_and_doctor_names_it(repository):
    spend(repository, "one?")
    state = repository / ".workbench/state"
    for path in state.glob("budgets.sqlite*"):
        path.write_bytes(b"no database, and long enough to be taken for one" * 100)
    with pytest.raises(RefusedError, match="cannot be read"):
        spend(repository, "two?")
    (found,) = budgets.left(repository, config.load_params(repository))
    assert found.state == "broken" and "budgets.sqlite" in found.detail and found.fix


def test_without_budgets_no_ledger_is_opened(repository):
    params = repository / "params.yaml"
    params.write_text(params.read_text().partition("\nbudgets:")[0])
    assert spend(repository, "one?").lines == ()
    assert not list((repository / ".workbench/state").glob("budgets*"))
    assert not list(budgets.left(repository, config.load_params(repository)))


def test_a_ledger_on_postgres_is_shared_by_two_repositories(
    repository, tmp_path_factory, postgres, monkeypatch
):
    monkeypatch.setenv("BUDGET_PASSWORD", PASSWORD)
    params = repository / "params.yaml"
    example = blocks("yaml")[1].replace("postgresql://workbench@db.example.com:5432/workbench", postgres.url)
    params.write_text(params.read_text() + example)
    other = tmp_path_factory.mktemp("other") / "machine"
    shutil.copytree(repository, other)
    spend(repository, "one?")
    spend(other, "two?")
    with pytest.raises(BudgetExceededError):
        spend(repository, "three?")
    assert not list((repository / ".workbench/state").glob("budgets*"))


def test_a_ledger_whose_server_is_away_refuses_and_is_used_again_when_it_is_back(
    repository, postgres, monkeypatch
):
    monkeypatch.setenv("BUDGET_PASSWORD", PASSWORD)
    params = repository / "params.yaml"
    text = params.read_text().replace("per: [tenant, day]", "per: [tenant, day, use_case]")
    params.write_text(f"{text}budget_url: {postgres.url}\nbudget_password_env: BUDGET_PASSWORD\n")
    ws = wb.connect("answers", root=repository, purpose="trial")
    ws.model().chat("one?")
    postgres.stop()
    try:
        with pytest.raises(RefusedError, match="cannot be read") as caught:
            ws.model().chat("two?")
        assert "budget_url" in caught.value.hint and PASSWORD not in str(caught.value)
    finally:
        postgres.start()
    ws.model().chat("two?")
    with pytest.raises(BudgetExceededError):
        ws.model().chat("three?")
    ws.close()


WATCHED = """
import sys
from pathlib import Path
from workbench.budgets.postgres import PostgresBudgets
from workbench.records import egress
egress.watch(sys.argv[1])
store = PostgresBudgets(sys.argv[2], holder="judged", password=sys.argv[3])
with store.transaction() as books:
    print(books.known() is not None, egress.reported(Path(sys.argv[1])))
"""


def test_the_ledgers_connection_is_no_egress_of_a_judged_run(tmp_path, postgres):
    url = postgres.url.replace("127.0.0.1", "localhost")
    assert (
        run(tmp_path, sys.executable, "-c", WATCHED, str(tmp_path / "report"), url, PASSWORD) == "True []\n"
    )
