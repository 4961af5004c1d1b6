from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import decimal
import io
import json
import threading
from dataclasses import dataclass
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workbench import _sync
from workbench.context import current_invocation
from workbench.errors import (
    ConfigError,
    InvalidOutputError,
    NotFoundError,
    RefusedError,
    ReplayMissError,
    UnavailableError,
)
from workbench.experiments.batch import COUNTS
from workbench.experiments.dataset import Question
from workbench.experiments.inputs import InputRow, Inputs
from workbench.experiments.task import Answer, task


def inputs(*columns, n=0, **given):
    made = [{"id": f"r{i:02}", "tenant": ("acme", "globex")[i % 2], "question": f"q{i}"} for i in range(n)]
    rows = tuple(InputRow(number=i, columns=one) for i, one in enumerate((*columns, *made), start=1))
    usual = {"name": "rows", "tenants": ("acme", "globex"), "concurrency": 3}
    return Inputs(rows=rows, bind=lambda tenant: SimpleNamespace(tenant=tenant), **{**usual, **given})


def called(cost=0.1, tokens=5):
    """One chat of the case that is being answered, as the boundary records it."""
    record = {
        "port": "model", "operation": "chat", "cost_usd": cost, "input_tokens": tokens, "output_tokens": 1
    }  # fmt: skip
    current_invocation().records.append(record)


@task
def answer(ws, case: Question) -> Answer:
    called()
    return Answer(text=f"{ws.tenant}: {case.question}", sources=(case.id,))


@task
async def later(ws, case: Question) -> Answer:
    await asyncio.sleep(0)
    called()
    return Answer(text=f"{ws.tenant}: {case.question}", sources=(case.id,))


@task
def never(ws, case: Question) -> Answer:
    raise AssertionError("nothing may be asked")


def failing(error, *ids):
    """A task that fails for these rows, and answers the others."""

    @task
    def fails(ws, case: Question) -> Answer:
        called()
        if not ids or case.id in ids:
            raise error
        return Answer(text="yes")

    return fails


# -- what is answered


@pytest.mark.parametrize("what", [answer, later], ids=["sync", "async"])
def test_every_row_is_answered_for_its_own_tenant_and_sorted_by_id(what):
    batch = what.map(inputs({"id": "z", "tenant": "globex", "question": "last"}, n=4))
    assert batch.answers.columns == ["id", "tenant", "text", "sources"]
    assert batch.answers["id"].to_list() == ["r00", "r01", "r02", "r03", "z"]
    assert batch.answers["text"].to_list()[-1] == "globex: last"
    assert all(text.startswith(tenant) for tenant, text in batch.answers.select("tenant", "text").rows())
    assert not batch.broken and not batch.held


def test_the_counts_say_what_became_of_each_row_and_what_it_cost():
    broken = ({"id": "a", "tenant": "acme"}, {"id": "b", "tenant": "initech", "question": "x"})
    batch = failing(InvalidOutputError("not one of the labels"), "r01").map(inputs(*broken, n=6))
    counts = batch.counts()
    assert counts["cost_usd"] == pytest.approx(0.6)
    assert {**counts, "cost_usd": 0} == {
        "rows": 8, "answered": 5, "quarantined": 3, "broken_input": 2, "broken_answer": 1, "calls": 6,
        "cost_usd": 0, "input_tokens": 30, "output_tokens": 6, "held": False,
    }  # fmt: skip
    assert batch.quarantine()["reason"].to_list()[2] == "InvalidOutputError: not one of the labels"


def test_a_cost_that_an_endpoint_does_not_say_is_unknown_and_no_call_costs_nothing():
    @task
    def silent(ws, case: Question) -> Answer:
        called(cost=None)
        return Answer(text="x")

    @task
    def free(ws, case: Question) -> str:
        return "x"

    assert silent.map(inputs(n=2)).counts()["cost_usd"] is None
    assert (free.map(inputs(n=2)).counts()["cost_usd"], free.map(inputs(n=2)).counts()["calls"]) == (0.0, 0)


def test_a_task_is_mapped_inside_a_running_loop_too():
    async def notebook():
        return answer.map(inputs(n=3)), await answer.map_async(inputs(n=3))

    mapped, awaited = asyncio.run(notebook())
    assert mapped.answers.equals(awaited.answers) and mapped.counts()["answered"] == 3


def test_each_row_is_an_occurrence_of_its_own():
    seen = []

    @task
    def look(ws, case: Question) -> str:
        seen.append(
            (current_invocation().case, current_invocation().repeat, current_invocation().number("digest"))
        )
        return "x"

    look.map(inputs(n=3))
    assert sorted(seen) == [("r00", 0, 0), ("r01", 0, 0), ("r02", 0, 0)]


def test_no_more_rows_than_allowed_are_asked_at_once():
    together, lock, now, most = threading.Barrier(2, timeout=5), threading.Lock(), 0, 0

    @task
    def slow(ws, case: Question) -> str:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait()
        with lock:
            now -= 1
        return "x"

    slow.map(inputs(n=4, concurrency=2))
    assert most == 2


# -- what is set aside, and what ends it all


@pytest.mark.parametrize("error", [RefusedError("never", status=400), InvalidOutputError("not JSON")])
def test_a_row_whose_answer_is_refused_or_breaks_its_type_is_set_aside_alone(error):
    batch = failing(error, "r01").map(inputs(n=4))
    (broken,) = batch.broken
    assert (broken.row.id, broken.kind) == ("r01", "task") and batch.answers.height == 3
    assert broken.reason == f"{type(error).__name__}: {error.message}"


def test_an_answer_of_another_type_than_promised_is_set_aside():
    @task
    def wrong(ws, case: Question) -> Answer:
        return Answer(text="x") if case.id == "r00" else 3

    batch = wrong.map(inputs(n=2))
    assert batch.broken[0].reason == "InvalidOutputError: task wrong declares Answer and returned int"


@pytest.mark.parametrize(
    "error",
    [
        RefusedError("who are you", status=401),
        RefusedError("not you", status=403),
        ReplayMissError("no recording"),
        UnavailableError("nobody answers"),
        NotFoundError("no such prompt"),
        ConfigError("no key"),
    ],
)
def test_what_every_other_row_would_meet_too_ends_the_batch(error):
    with pytest.raises(type(error)) as caught:
        failing(error, "r01").map(inputs(n=8))
    assert caught.value is error


def test_a_row_that_still_waits_is_waited_for_and_does_not_hold_up_the_end_of_the_batch():
    waited = []

    @task
    def one_fails(ws, case: Question) -> Answer:
        if case.id == "r00":
            raise UnavailableError("nobody answers")
        _sync.run(asyncio.sleep(0.1))  # on the loop, as every verb does
        waited.append(case.id)
        return Answer(text="yes")

    with pytest.raises(UnavailableError) as caught:
        one_fails.map(inputs(n=8))
    assert len(waited) < 7 and caught.value.__context__ is None, "a notebook shows no error in a group"


@pytest.mark.parametrize(("broken", "held"), [(1, False), (2, True)])
def test_too_many_broken_rows_hold_it_before_anything_is_asked(broken, held):
    rows = [{"id": f"x{n}", "tenant": "nobody", "question": "?"} for n in range(broken)]
    batch = (never if held else answer).map(inputs(*rows, n=4 - broken, most_broken=0.25))
    assert batch.held is held is batch.counts()["held"]
    assert batch.answers.height == (0 if held else 3) and batch.counts()["quarantined"] == broken
    assert ("no row was answered" in str(batch)) is held


def test_too_many_broken_answers_hold_it_after_they_were_asked():
    batch = failing(InvalidOutputError("no"), "r00", "r01").map(inputs(n=4, most_broken=0.25))
    assert batch.held and batch.counts()["calls"] == 4
    assert "held: too many rows are broken" in str(batch) and "no row was answered" not in str(batch)


def test_no_inputs_are_no_rows_and_hold_nothing():
    batch = never.map(inputs(most_broken=0.25))
    assert (batch.rows, batch.held, batch.counts()["answered"]) == (0, False, 0)
    assert "no inputs are named" in str(batch) and batch.quarantine().is_empty()


@dataclass(frozen=True, slots=True, kw_only=True)
class OfTenant:
    text: str
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WithId:
    id: str


@pytest.mark.parametrize(("gives", "field"), [(WithId, "id"), (OfTenant, "tenant")])
def test_a_result_with_a_field_of_the_rows_own_is_refused_before_anything_is_asked(gives, field):
    clash = dataclasses.replace(never, gives=gives)
    with pytest.raises(ConfigError, match=f"task never: its result has a field '{field}'"):
        clash.map(inputs(n=1))


def test_an_odd_row_is_kept_in_the_quarantine_as_json_can_hold_it():
    odd = {
        "id": "a", "tenant": "acme", "question": None, "day": dt.date(2026, 11, 24), "at": dt.time(6),
        "price": decimal.Decimal("1.50"), "raw": [b"\xff"], "big": 2**70, "nested": {"deep": [1, None]},
        "share": float("nan"),
    }  # fmt: skip
    frame = answer.map(inputs(odd, n=1)).quarantine()
    assert frame.columns == ["row", "id", "tenant", "kind", "reason", "columns"]
    kept = json.loads(frame["columns"][0])
    assert kept.keys() == odd.keys() and kept["nested"] == {"deep": [1, None]}
    assert (kept["day"], kept["price"], kept["big"]) == ("2026-11-24", "1.50", str(2**70))
    assert kept["share"] == "nan"


def test_a_line_that_is_not_json_is_kept_in_the_quarantine_as_it_was_written():
    unread = dataclasses.replace(
        inputs(n=1), rows=(InputRow(number=1, columns={}, fault="not JSON", text="{x"),)
    )
    assert answer.map(unread).quarantine()["columns"].to_list() == ["{x"]


# -- columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    label: str | None
    score: float
    sure: bool
    sources: tuple[str, ...] = ()
    parts: list[float] | None = None


def test_columns_have_the_types_the_task_promised_whatever_a_days_answers_are():
    @task
    def whole(ws, case: Question) -> Scored:
        return Scored(label=None, score=1, sure=True)

    @task
    def mixed(ws, case: Question) -> Scored:
        return Scored(label="a", score=0.5, sure=True, sources=("p",))

    one, other = whole.map(inputs(n=2)).answers, mixed.map(inputs(n=2)).answers
    named = ["id", "tenant", "label", "score", "sure", "sources"]
    assert one.select(named).schema == other.select(named).schema
    assert one.schema["score"] == pl.Float64 and one.schema["sources"] == pl.List(pl.String)
    assert one["score"].to_list() == [1.0, 1.0]


def test_a_plain_result_is_the_column_output():
    @task
    def plain(ws, case: Question) -> float:
        return 2.0

    assert plain.map(inputs(n=1)).answers.to_dicts() == [{"id": "r00", "tenant": "acme", "output": 2.0}]


# -- handing over


def handed(batch, folder):
    batch.hand_over(folder / "out", "answers")
    return {p.name: p.read_bytes() for p in (*sorted((folder / "out").iterdir()), folder / COUNTS)}


#: Their sum depends on the order in which they are added.
COSTS = dict(zip((f"r{n:02}" for n in range(6)), (1.0, 1e16, 1.0, 0.1, 0.2, 0.3), strict=True))


@settings(max_examples=15)
@example(order=[1, 0, 2, 3, 4, 5])
@given(order=st.permutations(range(6)))
def test_the_files_do_not_depend_on_who_was_done_first(tmp_path_factory, order):
    turns = [threading.Event() for _ in order]
    after = {f"r{this:02}": turns[place - 1] if place else None for place, this in enumerate(order)}
    done = {f"r{this:02}": turns[place] for place, this in enumerate(order)}

    @task
    def in_turn(ws, case: Question) -> Answer:
        if after[case.id]:
            after[case.id].wait(10)
        called(cost=COSTS[case.id], tokens=7)
        done[case.id].set()
        return Answer(text=case.question)

    @task
    def at_once(ws, case: Question) -> Answer:
        called(cost=COSTS[case.id], tokens=7)
        return Answer(text=case.question)

    folders = [tmp_path_factory.mktemp("out") for _ in range(2)]
    assert handed(in_turn.map(inputs(n=6, concurrency=6)), folders[0]) == handed(
        at_once.map(inputs(n=6, concurrency=1)), folders[1]
    )


def test_each_tenant_has_a_file_of_its_own_with_its_rows_alone(tmp_path):
    bad = {"id": "x", "tenant": "acme", "question": 7}
    found = handed(answer.map(inputs(bad, n=5)), tmp_path)
    assert list(found) == ["answers.acme.parquet", "answers.globex.parquet", "quarantine.parquet", COUNTS]
    acme, globex = (pl.read_parquet(io.BytesIO(found[f"answers.{t}.parquet"])) for t in ("acme", "globex"))
    assert acme["id"].to_list() == ["r00", "r02", "r04"] and set(acme["tenant"]) == {"acme"}
    assert globex["id"].to_list() == ["r01", "r03"]
    assert pl.read_parquet(io.BytesIO(found["quarantine.parquet"]))["row"].to_list() == [1]
    assert json.loads(found[COUNTS])["answered"] == 5


def test_what_nobody_was_answered_is_a_quarantine_alone(tmp_path):
    found = handed(failing(InvalidOutputError("no")).map(inputs(n=2)), tmp_path)
    assert list(found) == ["quarantine.parquet", COUNTS]


def test_a_job_publishes_once_and_under_a_name_that_is_one(tmp_path):
    batch = answer.map(inputs(n=2))
    for name in ("", "a/b", "../x", "a b", "a.b"):
        with pytest.raises(ConfigError, match="cannot name a file"):
            batch.hand_over(tmp_path / "out", name)
    assert not list(tmp_path.iterdir())
    before = handed(batch, tmp_path)
    with pytest.raises(ConfigError, match="a job publishes once"):
        batch.hand_over(tmp_path / "out", "more")
    assert {p.name for p in (tmp_path / "out").iterdir()} == before.keys() - {COUNTS}


def test_the_counts_come_last_so_that_a_death_before_hands_over_nothing(tmp_path, monkeypatch):
    from workbench import files

    written, write = [], files.write_atomic
    monkeypatch.setattr(
        files, "write_atomic", lambda path, data: written.append(path.name) or write(path, data)
    )
    handed(answer.map(inputs(n=2)), tmp_path)
    assert written[-1] == COUNTS and len(written) == 5


def test_searches_in_a_snapshot_are_counted_and_told():
    @task
    def degraded(ws, case: Question) -> Answer:
        current_invocation().records.append(
            {"port": "memory", "operation": "search", "degraded": case.id == "r01"}
        )
        return Answer(text="yes")

    batch = degraded.map(inputs(n=3))
    assert batch.counts()["degraded"] == 1 and "degraded: 1 search was answered by the last" in str(batch)
    assert "degraded" not in answer.map(inputs(n=3)).counts()


def test_the_card_shows_answers_reasons_and_that_it_is_a_preview():
    text = str(answer.map(inputs({"id": "x", "tenant": "acme"}, n=2)))
    assert text.startswith("answer · rows · 2 of 3 rows answered") and "acme: q0" in text
    assert "1 set aside, 0.2 USD" in text and "row 1: missing key 'question'" in text
    assert "preview: exploring publishes nothing" in text
    assert "<table" in answer.map(inputs(n=1))._repr_html_()


def test_progress_is_told_to_a_runner_in_lines(tmp_path):
    path = tmp_path / "progress"
    answer.map(inputs(n=3, progress=path))
    assert json.loads(path.read_text().splitlines()[-1]) == {"what": "answer · rows", "done": 3, "total": 3}
