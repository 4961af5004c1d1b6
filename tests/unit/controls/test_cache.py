"""Exact repetitions answered from a cache: for whom, for how long, and what it costs and records."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from dataclasses import replace

import pytest
from calls import ask, behind, chat, read, text

from workbench import wire
from workbench.config import AnswerCaching
from workbench.context import InvocationScope, invocation_scope
from workbench.controls.cache import Cache, CacheScope
from workbench.controls.stack import around, fold
from workbench.errors import DeadlineError, UnavailableError
from workbench.identity import Principal
from workbench.records.answer_cache import AnswerCache, purge
from workbench.testing.fakes import FakeClock, FakeModel
from workbench.types import Event

HOUR = AnswerCaching(seconds=3600)
SCOPE = CacheScope(use_case="answers", memory="handbook@2")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "exact.sqlite"


def control(path, settings=HOUR, scope=SCOPE, most_bytes=2**20):
    return Cache(AnswerCache(path, most_bytes=most_bytes), settings, scope=scope)


def numbered():
    """A model that never gives an answer twice."""
    numbers = iter(range(1_000))
    return FakeModel(lambda _: str(next(numbers)))


def embed(**more):
    return replace(chat(**more), operation="embed", payload={"model": "small", "input": ["a taxi"]})


def test_a_repetition_is_answered_from_the_cache_and_says_so(path):
    model = numbered()
    handler, again = around(control(path), behind(model)), chat()
    assert text(ask(handler, chat())) == text(ask(handler, again)) == "0"
    assert len(model.calls) == 1
    assert again.span.facts["source"] == "exact" and again.span.facts["replayed"] is True


def test_a_request_that_the_endpoint_shall_keep_is_not_answered_from_the_cache(path):
    model = numbered()
    handler = around(control(path), behind(model))
    answers = [text(ask(handler, chat(**more))) for more in ({}, {"store": True}, {"store": False})]
    assert answers == ["0", "1", "0"]


def test_another_process_has_the_answer_too(path):
    ask(around(control(path), behind(numbered())), chat())
    silent = FakeModel([])
    assert text(ask(around(control(path), behind(silent)), chat())) == "0" and not silent.calls


def test_vectors_are_cached_too(path):
    model = FakeModel()
    handler = around(control(path), behind(model))
    assert ask(handler, embed()) == ask(handler, embed()) and len(model.calls) == 1


def with_context(**more):
    call = chat()
    return replace(call, context=replace(call.context, **more))


OTHERS = {
    "another text": lambda: chat("a bus?"),
    "another parameter": lambda: chat(temperature=0.5),
    "another model": lambda: chat(identity={"weights": "w2"}),
    "another tenant": lambda: with_context(tenant="globex"),
    "other groups": lambda: with_context(principal=Principal(name="ada", groups=("staff",))),
    "another clearance": lambda: with_context(principal=Principal(name="ada", clearance=1)),
    "another principal": lambda: with_context(principal=Principal(name="bob")),
    "an admin": lambda: with_context(principal=Principal(name="ada", admin=True)),
    "another prompt": lambda: chat(labels={"prompt": "answer@3", "prompt_digest": "d"}),
    "other passages": lambda: chat(labels={"passages": ["p1"]}),
    "a stream": lambda: chat(stream=True),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_may_change_an_answer_is_part_of_its_key(path, name):
    handler = around(control(path), behind(model := numbered()))
    ask(handler, chat())
    ask(handler, OTHERS[name]())
    assert len(model.calls) == 2


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(CacheScope)])
def test_so_are_use_case_memory_and_policy(path, field):
    model = numbered()
    for scope in (SCOPE, replace(SCOPE, **{field: "other"})):
        ask(around(control(path, scope=scope), behind(model)), chat())
    assert len(model.calls) == 2


def test_the_end_users_name_is_not(path):
    handler = around(control(path), behind(model := numbered()))
    for user in ("ann", "ben"):
        ask(handler, chat(user=user, metadata={"trace": user}))
    assert len(model.calls) == 1


def test_an_answer_expires(path):
    clock, model = FakeClock(), numbered()
    handler = around(control(path), behind(model))
    for seconds, said in ((0, "0"), (3599, "0"), (2, "1")):
        clock.advance(seconds)
        assert text(ask(handler, chat(clock=clock))) == said


def test_a_clock_that_is_set_back_makes_no_answer_live_longer(path):
    clock, model = FakeClock(), numbered()
    handler = around(control(path), behind(model))
    ask(handler, chat(clock=clock))
    clock.advance(-86_400)  # it was a day ahead when the answer was stored
    assert text(ask(handler, chat(clock=clock))) == "1"
    assert text(ask(handler, chat(clock=clock))) == "1", "the new answer replaces the other"


EMPTY = {"choices": [{"message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}]}


def test_an_answer_without_content_is_asked_again(path):
    handler = around(control(path), behind(FakeModel([EMPTY, "yes"])))
    ask(handler, chat())
    assert text(ask(handler, chat())) == text(ask(handler, chat())) == "yes"


@pytest.mark.parametrize("settings", [replace(HOUR, operations=("embed",)), replace(HOUR, operations=())])
def test_only_the_stated_operations_are_cached(path, settings):
    handler = around(control(path, settings), behind(model := numbered()))
    for _ in range(2):
        ask(handler, chat())
    assert len(model.calls) == 2


def test_a_case_of_an_experiment_and_a_computation_here_are_not_cached(path):
    handler = around(control(path), behind(model := numbered()))
    ask(handler, chat())
    with invocation_scope(InvocationScope(case="1")):
        ask(handler, chat())
    for _ in range(2):
        ask(handler, chat(labels={"recorded": False}))
    assert len(model.calls) == 4


def test_a_stream_is_replayed_as_a_stream(path):
    handler = around(control(path), behind(model := FakeModel(["three short words"])))
    first, again = (ask(handler, chat(stream=True)) for _ in range(2))
    assert first == again and len(again) > 3 and len(model.calls) == 1
    assert all(wire.is_chunk(chunk) for chunk in again)


def test_a_purge_and_the_search_for_secrets_read_a_stream_as_one_text(path):
    """The text of a stream comes in pieces, which hold neither the sentence nor the key."""
    secret = "sk-abcdefghijklm nopqrstuvwxyz0123456789".replace(" ", "")
    for said, kept in (("Ann Lee of Bonn", True), (secret, False)):
        cache = control(path)
        pieces = [said[:3], said[3:9], said[9:]]
        first = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}

        async def leaf(_call, pieces=pieces, first=first):
            for piece in pieces:
                yield Event(data={**first, "choices": [{"index": 0, "delta": {"content": piece}}]})
            yield Event(data={**first, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})

        ask(around(cache, leaf), chat(said[:2], stream=True))
        cache.close()
        assert purge(path, [said]) == kept
        assert purge(path, [said[:2]]) == 0


def test_a_stream_that_its_reader_left_or_that_has_no_end_is_not_kept(path):
    cache, model = control(path), numbered()
    handler = around(cache, behind(model))

    async def leave():
        events = handler(chat(stream=True))
        await anext(events)
        await events.aclose()

    asyncio.run(leave())

    async def endless(call):
        yield Event(data={"object": "chat.completion.chunk", "choices": [{"delta": {"content": "cut"}}]})

    ask(around(cache, endless), chat("other", stream=True))
    ask(handler, chat(stream=True))
    ask(around(cache, behind(model)), chat("other", stream=True))
    assert len(model.calls) == 3


def test_a_failure_is_not_kept(path):
    handler = around(control(path), behind(model := FakeModel(["yes"], fails=[UnavailableError("away")])))
    with pytest.raises(UnavailableError):
        ask(handler, chat())
    assert text(ask(handler, chat())) == "yes" and len(model.calls) == 2


def test_concurrent_repetitions_share_one_call_each_with_its_own_deadline(path):
    began, goes = asyncio.Event(), asyncio.Event()
    asked = []

    async def slow(call):
        asked.append(call)
        began.set()
        await goes.wait()
        yield Event(data={"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]})

    handler = around(control(path), slow)

    async def all_of_them():
        first = asyncio.create_task(read(handler, chat()))
        await began.wait()
        others = [asyncio.create_task(read(handler, chat())) for _ in range(10)]
        hurried = chat()
        hurried = replace(hurried, deadline=hurried.context.clock.monotonic() + 0.01)
        with pytest.raises(DeadlineError, match="identical call"):
            await read(handler, hurried)
        goes.set()
        return await asyncio.gather(first, *others)

    answers = asyncio.run(all_of_them())
    assert len(asked) == 1 and len({text(answer) for answer in answers}) == 1


def test_a_hit_is_recorded_with_what_it_saved_and_costs_nothing(bench, path):
    handler = fold({**bench.controls("live"), "cache": control(path)}, behind(numbered()))
    for _ in range(2):
        ask(handler, chat(clock=bench.clock))
    first, hit = bench.records
    assert first["cost_usd"] > 0 and first["saved_usd"] is None
    assert (hit["source"], hit["cost_usd"], hit["attempts"]) == ("exact", 0, [])
    assert hit["saved_usd"] == first["cost_usd"]


def test_a_recorded_answer_is_not_kept_a_second_time(bench, path):
    ask(bench.handler(numbered()), chat(clock=bench.clock))
    store = AnswerCache(path, most_bytes=2**20)
    handler = fold({**bench.controls(), "cache": Cache(store, HOUR, scope=SCOPE)}, behind(FakeModel([])))
    for _ in range(2):
        ask(handler, chat(clock=bench.clock))
    assert [record["source"] for record in bench.records] == ["model", "cache", "cache"]


def test_an_error_of_the_store_fails_no_call(tmp_path):
    (tmp_path / "exact.sqlite").mkdir()
    handler = around(control(tmp_path / "exact.sqlite"), behind(model := numbered()))
    assert [text(ask(handler, chat())) for _ in range(2)] == ["0", "1"]
    assert len(model.calls) == 2


# -- the file -------------------------------------------------------------------------------------


def stored(path):
    with sqlite3.connect(path) as db:
        return db.execute("SELECT count(*) FROM answers").fetchone()[0]


def test_a_damaged_file_is_made_anew(path):
    path.write_bytes(b"no database" * 1_000)
    handler = around(control(path), behind(numbered()))
    assert [text(ask(handler, chat())) for _ in range(3)] == ["0", "0", "0"]


def test_the_file_stays_below_its_bound_and_the_oldest_answers_go_first(path):
    store = AnswerCache(path, most_bytes=400_000)
    for number in range(200):
        assert store.put(f"{number:064}", {}, ["x" * 5_000], now=float(number), seconds=1e6)
    assert store.get(f"{199:064}", now=200.0) and not store.get(f"{0:064}", now=200.0)
    assert 20 < stored(path) < 80


def test_expired_answers_go_before_others(path):
    store = AnswerCache(path, most_bytes=400_000)
    store.put("old", {}, ["kept"], now=0.0, seconds=1e6)
    for number in range(200):
        store.put(f"{number}", {}, ["x" * 5_000], now=float(number), seconds=0.5)
    assert store.get("old", now=300.0) == ["kept"]


def test_an_answer_that_is_too_large_or_holds_a_secret_is_not_kept(path):
    store = AnswerCache(path, most_bytes=2**20)
    assert not store.put("large", {}, ["x" * 2**20], now=0.0, seconds=60)
    assert not store.put("secret", {}, ["sk-abcdefghijklmnopqrstuvwxyz0123456789"], now=0.0, seconds=60)
    assert store.get("secret", now=1.0) is None


def test_a_purge_removes_every_answer_with_a_text_and_its_bytes(path):
    store = AnswerCache(path, most_bytes=2**20)
    asked = {"messages": [{"role": "user", "content": 'a "page" about\nAnn Lee of Bonn'}]}
    store.put("asked", asked, ["yes"], now=0.0, seconds=60)
    store.put("answered", {}, [{"content": "Ann Lee of Bonn"}], now=0.0, seconds=60)
    store.put("other", {}, ["Ben"], now=0.0, seconds=60)
    assert purge(path, ['a "page" about\nAnn Lee of Bonn', "Ann Lee of Bonn"]) == 2
    assert store.get("other", now=1.0) == ["Ben"] and store.get("asked", now=1.0) is None
    store.close()
    left = b"".join(file.read_bytes() for file in path.parent.glob("exact.sqlite*"))
    assert b"Ann Lee" not in left and b"Ben" in left
    assert purge(path.with_name("none.sqlite"), ["Ann Lee of Bonn"]) == 0
