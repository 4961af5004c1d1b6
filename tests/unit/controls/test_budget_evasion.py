"""Requests, cards, answers and ledgers by which a call might pass a budget without being paid."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import sqlite3
import time

import pytest
from calls import ask, behind, chat, limited_card, read
from hypothesis import given
from hypothesis import strategies as st
from test_budget_control import CARD, INPUT, Purse, answer, stream

from workbench import wire
from workbench.budgets.sqlite import SqliteBudgets
from workbench.config import BudgetOnly
from workbench.controls.circuit_breaker import CircuitBreaker
from workbench.controls.rate_limit import RateLimit
from workbench.controls.retry import Retry, RetryPolicy
from workbench.controls.stack import fold
from workbench.endpoints.circuit import BreakerPolicy
from workbench.errors import (
    ConfigError,
    NoAnswerError,
    OverloadedError,
    RefusedError,
    UnavailableError,
)
from workbench.models.card import ModelLimits, Price, checked_card
from workbench.ports.budget import Amounts
from workbench.testing.fakes import FakeModel
from workbench.types import Event
from workbench.wire.bounds import usage_bound


@pytest.fixture
def purse():
    made = []

    def make(**rules):
        made.append(Purse(**(rules or {"all": {"tokens": 10_000}})))
        return made[-1]

    yield make
    for each in made:
        each.ledger.close()


def output_bound(payload):
    return usage_bound(payload, wire.dialect("chat"), ModelLimits(context_tokens=70)).output_tokens


@pytest.mark.parametrize(
    ("payload", "most"),
    [
        ({"max_tokens": 9, "max_completion_tokens": 1}, 9),
        ({"max_tokens": 1, "n_predict": 9}, 9),
        ({"max_tokens": "9"}, 9),
        ({"max_tokens": 9.0}, 9),
        ({"max_tokens": 9, "n": "3"}, 27),
        ({"max_tokens": 9, "n": 2, "best_of": 5}, 45),
        ({"max_tokens": 0}, 70),
        ({"max_tokens": -1}, 70),
        ({"max_tokens": 9, "max_completion_tokens": -1}, 70),
        ({"max_tokens": "many"}, 70),
        ({"max_tokens": None, "n": True}, 70),
        ({"max_tokens": 2**60, "n": 2**60}, 10**12),
        ({"max_tokens": "9" * 5000}, 70),
    ],
)
def test_the_most_output_is_that_of_the_field_that_allows_most(payload, most):
    assert output_bound(payload) == most


#: Of any type: to find them all takes a fifth of a second, which no other test waits for.
ANYTHING = st.deferred(lambda: st.from_type(object))


@given(st.dictionaries(st.sampled_from(["max_tokens", "n", "best_of", "n_predict"]), ANYTHING))
def test_no_value_of_a_field_makes_a_bound_below_one_token(payload):
    assert 1 <= output_bound(payload) <= 10**12


def bound_of(operation="chat", **payload):
    return usage_bound(payload, wire.dialect(operation), ModelLimits(context_tokens=5000)).input_tokens


def turns(*parts):
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    "request_",
    [
        {"messages": turns({"type": "video_url", "video_url": {"url": "https://a.invalid"}})},
        {"messages": turns({"type": "text", "text": "a"}, {"type": "audio_url", "audio_url": {"url": "b"}})},
        {"messages": turns({"type": "text", "text": "a"}), "web_search_options": {"user_location": "b"}},
        {"operation": "respond", "input": "a", "tools": [{"type": "web_search"}]},
        {"operation": "respond", "input": "a", "tools": [{"type": "mcp", "server_url": "b"}]},
        {"operation": "respond", "input": "a", "prompt": {"id": "pmpt_1"}},
        {"operation": "respond", "input": [{"type": "item_reference", "id": "msg_1"}]},
        {"operation": "respond", "input": [{"type": "input_file", "file_id": "f"}]},
        {
            "operation": "respond",
            "input": [{"type": "function_call_output", "output": [{"type": "input_image", "file_id": "f"}]}],
        },
        {
            "operation": "respond",
            "input": [{"type": "computer_call_output", "output": {"type": "computer_screenshot"}}],
        },
        {"operation": "moderate", "input": [{"type": "image_url", "image_url": {"url": "u"}}]},
    ],
)
def test_input_that_the_request_does_not_hold_as_text_counts_as_the_whole_context(request_):
    assert bound_of(**request_) == 5000


@pytest.mark.parametrize(
    "request_",
    [
        {"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function", "function": {}}]},
        {"messages": turns({"type": "text", "text": "a"})},
        {"messages": [{"role": "assistant", "tool_calls": [{"type": "function", "id": "1"}]}]},
        {"operation": "respond", "input": [{"role": "user", "content": [{"type": "input_text"}]}]},
        {"operation": "respond", "input": [{"type": "function_call_output", "call_id": "1", "output": "b"}]},
        {"operation": "embed", "input": ["a", "b"]},
    ],
)
def test_a_request_of_texts_alone_counts_its_bytes(request_):
    assert bound_of(**request_) < 200


def test_an_image_inside_of_the_request_counts_as_the_context_and_not_by_its_bytes():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    assert bound_of(messages=turns(image)) == 5000


def test_texts_that_a_template_shows_beside_the_messages_count():
    messages = [{"role": "user", "content": "a"}]
    for shown in (
        {"documents": [{"text": "b" * 900}]},
        {"prediction": {"type": "content", "content": "b" * 900}},
        {"chat_template": "b" * 900},
        {"chat_template_kwargs": {"system": "b" * 900}},
    ):
        assert bound_of(messages=messages, **shown) >= bound_of(messages=messages) + 900


@pytest.mark.parametrize(
    ("price", "usage"),
    [
        ({"reasoning_usd": 9.0}, {"completion_tokens_details": {"reasoning_tokens": 50}}),
        ({"cached_input_usd": 9.0}, {"prompt_tokens_details": {"cached_tokens": INPUT}}),
    ],
)
def test_what_costs_more_than_plain_tokens_is_reserved_at_its_own_price(purse, price, usage):
    card = dataclasses.replace(CARD, price_per_million=Price(input_usd=1.0, output_usd=2.0, **price))
    mine, call = purse(card=card, all={"usd": 1}), chat(max_tokens=50)
    call.span.attempt()
    told = {"prompt_tokens": INPUT, "completion_tokens": 50, **usage}
    ask(mine.handler(FakeModel([answer(**told)])), call)
    facts = call.span.attempts[0]
    assert facts["cost_usd"] > (INPUT + 100) / 1e6
    assert facts["cost_usd"] <= facts["reserved_usd"] + 1e-12


def test_a_request_of_an_absurd_size_does_not_break_the_ledger_for_others(purse, tmp_path):
    dear = dataclasses.replace(CARD, price_per_million=Price(input_usd=1e6, output_usd=1e6))
    store = SqliteBudgets(tmp_path / "b.sqlite", holder="test")
    mine = purse(card=dear, store=store, all={"calls": 1000})
    for _ in range(6):  # usage is missing, so that the whole bound is counted as spent
        ask(mine.handler(FakeModel([answer()])), chat(max_tokens=2**53, n=2**53))
    ask(mine.handler(FakeModel([answer(prompt_tokens=1, completion_tokens=1)])), chat(max_tokens=5))
    assert mine.spent(chat()).calls == 7


def test_amounts_beyond_64_bits_are_the_most_that_a_ledger_counts():
    most = Amounts.of(usd=1e300, tokens=10**30, calls=1, seconds=float("inf"))
    assert most == (10**18, 10**18, 1, 10**18)
    assert Amounts.of(usd=float("nan")).usd == 10**18


@pytest.mark.parametrize("usage", [{"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": 0}])
def test_a_server_that_counts_nothing_is_not_free(purse, usage):
    mine, call = purse(), chat(max_tokens=50)
    ask(mine.handler(FakeModel([answer(**usage)])), call)
    assert mine.spent(call).tokens == INPUT + 50


def test_an_attempt_that_times_out_may_be_answered_and_is_spent(purse):
    mine, call = purse(all={"seconds": 30, "call_seconds": 0.2}), chat(max_tokens=50)

    async def times_out(call):
        await asyncio.sleep(call.deadline - call.context.clock.monotonic())
        raise UnavailableError("did not answer within 0.2 s")
        yield

    with pytest.raises(UnavailableError):
        ask(mine.handler(times_out), call)
    spent = mine.spent(call)
    assert spent.tokens == INPUT + 50 and spent.seconds == 200_000 and spent.calls == 1


def test_an_answer_that_was_too_large_to_be_read_is_spent(purse):
    mine, call = purse(), chat(max_tokens=50)
    with pytest.raises(NoAnswerError):
        ask(mine.handler(stream(error=NoAnswerError("100 MB", reason="too_large", status=200))), call)
    assert mine.spent(call).tokens == INPUT + 50


@pytest.mark.parametrize(
    "change",
    [
        {"price_per_million": Price(input_usd=-1.0)},
        {"price_per_million": Price(input_usd=1.0, output_usd=-0.1)},
        {"price_per_million": Price(input_usd=1.0, cached_input_usd=-0.1)},
        {"price_per_million": Price(input_usd=float("nan"))},
        {"price_per_million": Price(input_usd=float("inf"))},
        {"price_per_million": Price(input_usd=1.0, reasoning_usd=1e300)},
        {"recorded": False},
        {"limits": ModelLimits(context_tokens=0)},
        {"limits": ModelLimits(context_tokens=10, max_output_tokens=-1)},
    ],
)
def test_a_card_that_would_pay_nothing_is_refused(change):
    with pytest.raises(ConfigError, match=r"price_per_million|recorded|limits"):
        checked_card(dataclasses.replace(CARD, **change), where="card")


class Silent:
    """A store whose database does not answer for a while."""

    def __init__(self, seconds):
        self.seconds = seconds

    def transaction(self):
        time.sleep(self.seconds)
        raise UnavailableError("no answer")

    def sync(self):
        pass

    def close(self):
        pass


@pytest.mark.parametrize("enforce", ["refuse", "observe"])
def test_a_ledger_that_is_silent_keeps_no_call_beyond_its_deadline(purse, enforce):
    mine = purse(store=Silent(0.8), all={"calls": 9, "enforce": enforce})
    model, call = FakeModel([answer()]), chat()
    call = dataclasses.replace(call, deadline=call.context.clock.monotonic() + 0.4)
    began = time.monotonic()
    if enforce == "refuse":
        with pytest.raises(OverloadedError, match="did not answer"):
            ask(mine.handler(model), call)
    else:
        ask(mine.handler(model), call)
    assert time.monotonic() - began < 0.4 + 0.25
    assert len(model.calls) == (enforce == "observe")


class Slow(SqliteBudgets):
    """A store that becomes silent when it is told to."""

    silent_s = 0.0

    def transaction(self):
        time.sleep(self.silent_s)
        return super().transaction()


def test_a_ledger_that_becomes_silent_keeps_no_answer_back_and_counts_it_later(purse, tmp_path):
    store = Slow(tmp_path / "b.sqlite", holder="test")
    mine, call = purse(store=store, all={"calls": 9}), chat()
    call = dataclasses.replace(call, deadline=call.context.clock.monotonic() + 0.5)

    async def leaf(_call):
        store.silent_s = 1.0
        yield Event(data=answer(prompt_tokens=2, completion_tokens=1))

    began = time.monotonic()
    ask(mine.handler(leaf), call)
    assert time.monotonic() - began < 0.5 + 0.25 and call.span.facts["budget_unsettled"]
    store.silent_s = 0.0
    time.sleep(1.2)
    assert mine.spent(call) == Amounts(usd=4000, tokens=3, calls=1)


def test_a_reservation_that_comes_too_late_is_released(purse, tmp_path):
    store = Slow(tmp_path / "b.sqlite", holder="test")
    mine, call = purse(store=store, all={"calls": 9}), chat()
    store.silent_s = 0.5
    call = dataclasses.replace(call, deadline=call.context.clock.monotonic() + 0.1)
    with pytest.raises(OverloadedError):
        ask(mine.handler(FakeModel([answer()])), call)
    store.silent_s = 0.0
    time.sleep(0.7)
    assert mine.spent(call) == Amounts()


def of_tenant(call, tenant):
    return dataclasses.replace(call, context=dataclasses.replace(call.context, tenant=tenant))


def all_controls(mine, leaf, tmp_path, **limits):
    card = limited_card(**limits)
    controls = {
        "retry": Retry(RetryPolicy(attempts=1, timeout_s=5)),
        "rate_limit": RateLimit(lambda _: card, tmp_path, peek=mine.control.peek),
        "circuit_breaker": CircuitBreaker(
            lambda _: card, tmp_path, policy=BreakerPolicy(calls=1, open_s=0.1, failing=0.1)
        ),
        "budget": mine.control,
    }
    return controls, fold(controls, leaf)


def test_calls_that_wait_for_their_budget_keep_no_place_of_the_endpoint(purse, tmp_path):
    """A tenant whose budget is reserved fills no place: the other tenant is answered at once."""
    mine = purse(
        mine={"calls": 1, "only": BudgetOnly(tenant="acme")}, each={"calls": 1000, "per": ("tenant",)}
    )
    model = FakeModel([answer(prompt_tokens=1, completion_tokens=1)] * 9)
    controls, handler = all_controls(mine, behind(model), tmp_path, concurrent=3)

    async def main():
        accounts = mine.declared.accounts(chat().context)
        held = await mine.ledger.reserve(accounts, Amounts(calls=1), wait_s=1)
        waiting = [asyncio.create_task(read(handler, chat(f"{n}?"))) for n in range(4)]
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await read(handler, of_tenant(chat(), "globex"))
        took = time.monotonic() - began
        (queue,) = controls["rate_limit"].queues.values()
        assert queue.in_flight == 0 and queue.waiting == 0
        await mine.ledger.settle(held, Amounts())
        first = await asyncio.gather(*waiting, return_exceptions=True)
        assert queue.in_flight == 0 and queue.waiting == 0
        return took, first

    took, ended = asyncio.run(main())
    assert took < 0.25
    answered = [item for item in ended if not isinstance(item, Exception)]
    refused = [item for item in ended if isinstance(item, RefusedError)]
    assert (len(answered), len(refused)) == (1, 3)
    assert mine.spent(chat()).calls == 1


def test_calls_that_are_cancelled_while_they_wait_for_their_budget_lose_no_place(purse, tmp_path):
    mine = purse(mine={"calls": 1})
    controls, handler = all_controls(mine, behind(FakeModel([answer()] * 9)), tmp_path, concurrent=2)

    async def main():
        held = await mine.ledger.reserve(mine.declared.accounts(chat().context), Amounts(calls=1), wait_s=1)
        waiting = [asyncio.create_task(read(handler, chat(f"{n}?"))) for n in range(3)]
        for pause in (0.02, 0.1, 0.2):
            await asyncio.sleep(pause)
            waiting.pop().cancel()
        await asyncio.sleep(0.1)
        (queue,) = controls["rate_limit"].queues.values()
        assert queue.in_flight == 0 and queue.waiting == 0
        await mine.ledger.settle(held, Amounts())
        await read(handler, chat())

    asyncio.run(main())
    assert mine.spent(chat()).calls == 1


def test_a_probe_that_waits_for_its_budget_lets_another_call_be_the_probe(purse, tmp_path):
    mine = purse(
        mine={"calls": 1, "only": BudgetOnly(tenant="acme")}, each={"calls": 1000, "per": ("tenant",)}
    )
    fails = [UnavailableError("500", status=500)]
    model = FakeModel([answer(prompt_tokens=1, completion_tokens=1)] * 9, fails=fails)
    controls, handler = all_controls(mine, behind(model), tmp_path)

    async def main():
        with pytest.raises(UnavailableError):
            await read(handler, of_tenant(chat(), "globex"))
        (breaker,) = controls["circuit_breaker"].breakers.values()
        assert breaker.state == "open"
        held = await mine.ledger.reserve(mine.declared.accounts(chat().context), Amounts(calls=1), wait_s=1)
        await asyncio.sleep(0.15)
        probe = asyncio.create_task(read(handler, chat()))
        await asyncio.sleep(0.2)
        assert breaker.state == "half-open"
        await read(handler, of_tenant(chat(), "globex"))
        assert breaker.state == "closed"
        await mine.ledger.settle(held, Amounts())
        await probe

    asyncio.run(main())


def test_a_ledger_whose_file_is_replaced_counts_in_the_new_file(purse, tmp_path):
    path, backup = tmp_path / "b.sqlite", tmp_path / "backup.sqlite"
    mine = purse(store=SqliteBudgets(path, holder="test"), all={"calls": 9})
    silent = FakeModel([answer(prompt_tokens=1, completion_tokens=1)] * 9)
    ask(mine.handler(silent), chat())
    with contextlib.closing(sqlite3.connect(path)) as db, contextlib.closing(sqlite3.connect(backup)) as copy:
        db.backup(copy)
    for _ in range(2):
        ask(mine.handler(silent), chat())
    assert mine.spent(chat()).calls == 3
    backup.replace(path)
    for name in ("b.sqlite-wal", "b.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    ask(mine.handler(silent), chat())
    assert mine.spent(chat()).calls == 2
    other = purse(store=SqliteBudgets(path, holder="other"), all={"calls": 9})
    assert other.spent(chat()).calls == 2


def test_a_fork_while_another_thread_sends_to_the_ledger_leaves_it_usable(purse):
    mine = purse(all={"calls": 9})
    with mine.ledger._lock:  # as a thread holds it that the child does not have
        child = os.fork()
        if not child:
            signal.alarm(5)
            os._exit(0 if asyncio.run(mine.ledger.known()) == [] else 1)
    assert os.waitpid(child, 0)[1] == 0
