"""What a workspace reads of its records: who sees which calls, costs, sessions, outcomes, and why."""

import dataclasses
import datetime as dt
from pathlib import Path

import pytest

import workbench as wb
from workbench import layout
from workbench.errors import ConfigError, NotFoundError, RefusedError
from workbench.identity import Principal
from workbench.models import ModelCard
from workbench.models.card import Price
from workbench.records.segments import CallLog, compact
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeModel
from workbench.types import Reply
from workbench.workspace.boundary import Boundary, StatePaths
from workbench.workspace.history import hidden_use_cases, moment_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ws(tmp_path):
    card = dataclasses.replace(ModelCard.unsaved("m"), price_per_million=Price(input_usd=1.0, output_usd=2.0))
    free = ModelCard.unsaved("unpriced")
    boundary = Boundary(
        ROOT, mode="live", tape=Tape(tmp_path / "t"), cards=[card, free], places=StatePaths(home=tmp_path)
    )
    boundary._models |= {"m": FakeModel(), "unpriced": FakeModel()}
    return wb.connect("answers", root=ROOT, through=boundary)


def other(ws, tenant="acme", **facts):
    return ws.bind(tenant=tenant, principal=Principal(name="guest", admin=False, **facts))


def closed(ws) -> None:
    log = ws.boundary.home / layout.CALLS
    assert CallLog(log).close(now=True) and compact(log) == 1


@pytest.mark.parametrize("reply", ["an answer", None, 3])
def test_what_is_no_reply_has_no_explanation(ws, reply):
    with pytest.raises(ConfigError, match="why is asked of a reply"):
        ws.why(reply)


def test_a_principal_that_is_no_admin_sees_the_calls_of_its_tenant(ws):
    for tenant in ("acme", "globex"):
        ws.bind(tenant=tenant).model("m").chat("hello there")
    assert (
        ws.calls()["tenant"].to_list()
        == ["acme", "globex"]
        == ws.calls(lazy=True).collect()["tenant"].to_list()
    )
    for tenant in ("acme", "globex"):
        guest = other(ws, tenant)
        assert guest.calls()["tenant"].to_list() == [tenant] == guest.costs(["tenant"])["tenant"].to_list()
        assert guest.calls(lazy=True).collect().height == 1
    globex = ws.calls(tenant="globex")["trace_id"][0]
    assert other(ws).calls(trace=globex).is_empty() and ws.calls(trace=globex).height == 1
    with pytest.raises(RefusedError, match="globex") as caught:
        other(ws).calls(tenant="globex")
    assert "admins" in caught.value.hint
    with pytest.raises(NotFoundError, match="trace"):
        other(ws).outcome(trace_id=globex, name="resolved")
    reply = Reply(text="", model="m", trace_id=globex)
    with pytest.raises(NotFoundError, match="trace"):
        other(ws).why(reply)
    assert ws.why(reply).record["tenant"] == "globex" == other(ws, "globex").why(reply).record["tenant"]
    with pytest.raises(ConfigError, match="Reply") as wrong:
        ws.calls(trace=reply)
    assert "reply.trace_id" in wrong.value.hint


def test_an_admin_of_one_use_case_does_not_see_another_s(ws, tmp_path):
    text = (ROOT / "params.yaml").read_text()
    before = "  triage:\n    title"
    assert text.count(before) == 1
    (tmp_path / "params.yaml").write_text(text.replace(before, "  triage:\n    admins: [carol]\n    title"))
    assert hidden_use_cases(tmp_path, Principal(name="carol")) == frozenset()
    assert hidden_use_cases(tmp_path, Principal(name="dave")) == {"triage"}
    named = Principal(name="carol", assurance="authenticated")
    assert "triage" not in hidden_use_cases(tmp_path, named) >= {"answers"}
    ws.model("m").chat("hello")
    bound = dataclasses.replace(ws, root=tmp_path)
    triage = dataclasses.replace(bound, context=dataclasses.replace(ws.context, use_case="triage"))
    triage.model("m").chat("hello")
    assert triage.calls()["use_case"].to_list() == ["answers", "triage"]
    assert bound.calls()["use_case"].to_list() == ["answers"]


def test_costs_sum_money_tokens_and_calls_by_what_is_named(ws):
    today = dt.datetime.now(dt.UTC).date()
    for n, name in enumerate(("m", "m", "unpriced")):
        ws.session(f"s-{n % 2}").model(name).chat("two words")
    paid = ws.calls()["cost_usd"].drop_nulls().to_list()
    costs = ws.costs(["model", "day"])
    assert costs["model"].to_list() == ["m", "unpriced"] and costs["day"].to_list() == [today, today]
    assert costs["cost_usd"].to_list() == [pytest.approx(sum(paid)), 0.0]
    assert costs["unknown"].to_list() == [0, 1] and costs["calls"].to_list() == [2, 1]
    closed(ws)
    assert ws.costs(["model", "day"]).equals(costs, null_equal=True)
    assert ws.costs("session")["calls"].to_list() == [2, 1]
    assert ws.costs([], since=today + dt.timedelta(days=2))["calls"].to_list() == [0]
    for wrong, said in (("modle", "nearest: 'model'"), (["day", "day"], "twice")):
        with pytest.raises(ConfigError, match=said):
            ws.costs(wrong)


def test_a_session_binds_an_id_that_every_call_carries(ws):
    chat = ws.session("chat-4711")
    first, second = (chat.model("m").chat(text) for text in ("one", "two words"))
    ws.model("m").chat("outside")
    assert chat.bind(tenant="globex").context.session == "chat-4711" and ws.context.session == ""
    assert ws.calls(session="chat-4711")["trace_id"].to_list() == [first.trace_id, second.trace_id]
    ws.outcome(second, "resolved")
    chat.outcome(session="chat-4711", name="rating", value=4)
    (row,) = ws.sessions().to_dicts()
    assert (row["session"], row["calls"], row["outcomes"]) == ("chat-4711", 2, ["rating", "resolved"])
    assert row["cost_usd"] == pytest.approx(first.cost_usd + second.cost_usd)
    assert "chat-4711" in str(ws.why(second))
    assert ws.session("chat@7").context.session == "chat@7"
    for wrong in ("ada@example.org", "chat:ada.l@mail.example.org:1"):
        with pytest.raises(ConfigError, match="address") as caught:
            ws.session(wrong)
        assert "example" not in str(caught.value)
    for wrong in ("", "two words", "a\n", "x" * 200, None):
        with pytest.raises(ConfigError, match="session"):
            ws.session(wrong)


def test_the_latest_outcome_of_a_name_counts(ws):
    reply = ws.model("m").chat("hello")
    for value in (0.0, 1.0, 1.0):
        ws.outcome(reply, "resolved", value=value)
    ws.outcome(trace_id=reply.trace_id, name="rating", value=True)
    rows = ws.outcomes().to_dicts()
    assert [(row["name"], row["value"]) for row in rows] == [("resolved", 1.0), ("rating", 1.0)]
    assert {row["tenant"] for row in rows} == {"acme"} and {row["trace_id"] for row in rows} == {
        reply.trace_id
    }
    closed(ws)
    ws.outcome(reply, "rating", value=3)
    assert ws.outcomes()["value"].to_list() == [1.0, 3.0]
    assert other(ws, "globex").outcomes().is_empty() and other(ws).outcomes().height == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "resolved"}, "names neither"),
        ({"name": "resolved", "trace_id": "t", "session": "s"}, "names both"),
        ({"name": "", "session": "s"}, "cannot name"),
        ({"name": "two words", "session": "s"}, "cannot name"),
        ({"name": "n", "session": "s", "value": float("nan")}, "not a finite number"),
        ({"name": "n", "session": "s", "value": "1"}, "not a finite number"),
        ({"name": "n", "session": "s", "value": 10**400}, "not a finite number"),
        ({"name": "n", "session": "s", "value": 1.7e308}, "not a finite number"),
        ({"name": "n", "session": "a b"}, "session"),
    ],
)
def test_an_outcome_of_nothing_or_without_a_number_is_an_error(ws, arguments, said):
    with pytest.raises(ConfigError, match=said) as caught:
        ws.outcome(**arguments)
    assert caught.value.hint and not (ws.boundary.home / layout.OUTCOMES).exists()


def test_an_outcome_of_an_unknown_call_is_not_found(ws):
    with pytest.raises(NotFoundError, match="trace"):
        ws.outcome(Reply(text="x", model="m", trace_id="0" * 32), "resolved")


def test_an_outcome_of_a_session_without_a_call_of_this_tenant_is_not_found(ws):
    ws.session("chat-1").model("m").chat("hello")
    for other, session in ((ws, "chat-2"), (ws.bind(tenant="globex"), "chat-1")):
        with pytest.raises(NotFoundError, match=session) as caught:
            other.outcome(session=session, name="resolved")
        assert "ws.sessions" in caught.value.hint
    assert not (ws.boundary.home / layout.OUTCOMES).exists()
    closed(ws)  # the call is in a closed segment now
    ws.outcome(session="chat-1", name="resolved")
    assert ws.outcomes()["session"].to_list() == ["chat-1"]


def test_odd_lines_of_the_log_of_outcomes_are_left_out(ws):
    ws.session("s").model("m").chat("hello")
    ws.outcome(session="s", name="n")
    path = ws.boundary.home / layout.OUTCOMES
    kept = path.read_bytes()
    path.write_bytes(b'[]\n{"name":"n"}\n' + kept.replace(b'"value":1.0', b'"value":"x"') + kept + b'{"at"')
    assert ws.outcomes()["value"].to_list() == [1.0]


def test_why_finds_a_compacted_call_and_shows_its_attempts(ws):
    reply = ws.model("m").chat("hello")
    shown = ws.why(reply)
    closed(ws)
    ws.model("m").chat("later")
    again = ws.why(reply)
    assert dict(again.rows()) == dict(shown.rows()) and again.record["labels"] == shown.record["labels"]
    assert dict(again.rows())["attempts"].startswith("1: m ok") and reply.trace_id in str(again)
    with pytest.raises(NotFoundError, match="no call with trace"):
        ws.why(Reply(text="x", model="m", trace_id="0" * 32))


def test_why_says_that_a_recording_was_not_paid_again(ws):
    shown = ws.why(ws.model("m").chat("hello"))
    assert "not paid" not in dict(shown.rows())["cost"]
    recorded = dataclasses.replace(shown, record={**shown.record, "source": "cache"})
    assert dict(recorded.rows())["cost"].endswith("USD, not paid again: it is a recording")


def test_a_time_is_a_day_or_a_moment():
    day = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
    assert moment_of("2026-11-24") == moment_of(day.date()) == moment_of(day.replace(tzinfo=None)) == day
    assert moment_of("2026-11-24T01:00:00+01:00") == day and moment_of(None) is None
    for wrong in ("yesterday", 5, "2026-13-01"):
        with pytest.raises(ConfigError, match="not a time"):
            moment_of(wrong)


def test_a_limit_below_one_is_an_error(ws):
    with pytest.raises(ConfigError, match="limit=0"):
        ws.calls(limit=0)
