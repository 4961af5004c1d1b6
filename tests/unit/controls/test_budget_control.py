"""What an attempt reserves and settles, for each way in which it can end."""

import asyncio
import dataclasses
import datetime as dt
import warnings
from contextlib import aclosing

import pytest
from calls import ask, behind, chat, limited_card, read

from workbench.budgets.declared import DeclaredBudgets
from workbench.budgets.queued import QueuedLedger
from workbench.config import BudgetRule
from workbench.controls.budget import POSITION, BudgetControl
from workbench.controls.rate_limit import RateLimit
from workbench.controls.retry import Retry, RetryPolicy
from workbench.controls.stack import around, fold
from workbench.errors import BudgetExceededError, OverloadedError, RefusedError, UnavailableError
from workbench.models import ModelCard
from workbench.models.card import Price
from workbench.ports.budget import Amounts
from workbench.testing.fake_ledger import MemoryBudgets, SharedMemoryBooks
from workbench.testing.fakes import FakeModel
from workbench.types import Event

CARD = dataclasses.replace(ModelCard.unsaved("small"), price_per_million=Price(input_usd=1.0, output_usd=2.0))
#: The bytes of the two messages of `chat()` with their roles, and 16 tokens for each message.
INPUT = len("systembe briefusera taxi?") + 2 * 16


class Away:
    """A store that cannot be opened."""

    def transaction(self):
        raise UnavailableError("the disk is gone", hint="mount it")

    def sync(self):
        pass

    def close(self):
        pass


class Purse:
    """Budgets, their ledger in memory and the control."""

    def __init__(self, *, card=CARD, store=None, **rules):
        books = SharedMemoryBooks()
        self.ledger = QueuedLedger(lambda: store or MemoryBudgets(books, holder="test"))
        self.declared = DeclaredBudgets({name: BudgetRule(**rule) for name, rule in rules.items()})
        self.control = BudgetControl(self.ledger, accounts=self.declared, card=lambda _: card)

    def handler(self, model):
        return around(self.control, behind(model) if isinstance(model, FakeModel) else model)

    def balance(self, call):
        found = asyncio.run(self.ledger.balances(self.declared.accounts(call.context)))
        assert found[0].reserved == Amounts(), "a reservation is left"
        return found[0]

    def spent(self, call):
        return self.balance(call).spent


@pytest.fixture
def purse():
    made = []

    def make(**rules):
        made.append(Purse(**(rules or {"all": {"tokens": 10_000}})))
        return made[-1]

    yield make
    for each in made:
        each.ledger.close()


def answer(**usage):
    message = {"role": "assistant", "content": "yes"}
    whole = {"object": "chat.completion", "choices": [{"message": message, "finish_reason": "stop"}]}
    return whole | ({"usage": usage} if usage else {})


def attempted(call):
    """The call with the record of an attempt, as retry begins it."""
    call.span.attempt()
    return call


def test_real_usage_replaces_the_bound(purse):
    mine, call = purse(), attempted(chat(max_tokens=50))
    ask(mine.handler(FakeModel([answer(prompt_tokens=7, completion_tokens=3)])), call)
    assert mine.spent(call) == Amounts(usd=13_000, tokens=10, calls=1)
    facts = call.span.attempts[0]
    assert (facts["input_tokens"], facts["output_tokens"], facts["cost_usd"]) == (7, 3, 13e-6)
    assert facts["reserved_usd"] == pytest.approx((INPUT + 100) / 1e6)


@pytest.mark.parametrize(
    ("usage", "source"),
    [
        ({}, "missing"),
        ({"prompt_tokens": -4, "completion_tokens": 3}, "missing"),
        ({"prompt_tokens": 4, "completion_tokens": -3}, "missing"),
        ({"prompt_tokens": 4, "completion_tokens": 10**9}, "absurd"),
    ],
)
def test_usage_that_is_no_usage_settles_at_the_reservation_and_is_noted(purse, usage, source):
    mine, call = purse(), attempted(chat(max_tokens=50))
    ask(mine.handler(FakeModel([answer(**usage)])), call)
    assert mine.spent(call).tokens == INPUT + 50
    assert call.span.attempts[0]["budget_usage"] == source


def test_usage_above_the_bound_is_counted_as_it_is(purse):
    mine, call = purse(), chat(max_tokens=50)
    ask(mine.handler(FakeModel([answer(prompt_tokens=INPUT, completion_tokens=90)])), call)
    assert mine.spent(call).tokens == INPUT + 90


def test_the_most_output_is_the_requests_own_or_the_cards_for_every_answer(purse):
    silent = [answer()]
    for payload, most in [({}, 4096), ({"n": 2}, 2 * 4096), ({"max_completion_tokens": 9, "n": 3}, 27)]:
        mine, call = purse(), chat(**payload)
        ask(mine.handler(FakeModel(silent)), call)
        assert mine.spent(call).tokens == INPUT + most


def test_an_image_counts_as_the_whole_context(purse):
    mine, call = purse(), chat(max_tokens=1)
    part = {"type": "image_url", "image_url": {"url": "https://example.invalid/a.png"}}
    call = dataclasses.replace(
        call, payload={**call.payload, "messages": [{"role": "user", "content": [part]}]}
    )
    ask(mine.handler(FakeModel([answer()])), call)
    assert mine.spent(call).tokens == 4096 + 1


def test_what_the_endpoint_keeps_of_earlier_responses_counts_as_the_whole_context(purse):
    mine = purse()
    call = dataclasses.replace(chat(), operation="respond")
    call = dataclasses.replace(
        call, payload={"input": "a", "max_output_tokens": 2, "previous_response_id": "r"}
    )

    async def answers(_call):
        yield Event(data={"object": "response", "output": []})

    ask(mine.handler(answers), call)
    assert mine.spent(call).tokens == 4096 + 2


def stream(*events, error=None):
    async def leaf(call):
        for event in events:
            yield event
        if error is not None:
            raise error

    return leaf


def chunk(text="", **more):
    delta = {"choices": [{"delta": {"content": text}, "finish_reason": None}]} if text else {"choices": []}
    return Event(data={"object": "chat.completion.chunk", **delta, **more})


USAGE = {"usage": {"prompt_tokens": 5, "completion_tokens": 2}}


@pytest.mark.parametrize(
    ("leaf", "tokens", "source"),
    [
        (stream(chunk("a"), chunk("b"), chunk(**USAGE)), 7, None),
        (stream(chunk("häuser"), chunk("b")), INPUT + 8, "estimated"),
        (stream(chunk("abc"), error=UnavailableError("cut")), INPUT + 3, "estimated"),
        (stream(chunk("abc", **USAGE), error=UnavailableError("cut")), 7, None),
    ],
    ids=["usage", "no usage", "broken", "broken after usage"],
)
def test_a_stream_settles_on_its_usage_or_on_the_text_that_came(purse, leaf, tokens, source):
    mine, call = purse(), chat(stream=True, max_tokens=50)
    try:
        ask(mine.handler(leaf), call)
    except UnavailableError:
        assert call.span.facts.get("budget_usage") == source
    assert mine.spent(call).tokens == tokens
    assert call.span.facts.get("budget_usage") == source


@pytest.mark.parametrize(("first", "tokens"), [(chunk("a"), INPUT + 50), (chunk("a", **USAGE), 7)])
def test_an_abandoned_stream_settles_at_the_reservation_unless_its_usage_is_known(purse, first, tokens):
    mine, call = purse(), chat(stream=True, max_tokens=50)

    async def leaves():
        async with aclosing(mine.handler(stream(first, chunk("b")))(call)) as events:
            async for _ in events:
                break

    asyncio.run(leaves())
    assert mine.spent(call).tokens == tokens


def test_an_attempt_that_fails_is_released(purse):
    mine, call = purse(), chat()
    with pytest.raises(UnavailableError):
        ask(mine.handler(FakeModel([], fails=[UnavailableError("500")])), call)
    assert mine.spent(call) == Amounts()


def test_a_call_that_is_cancelled_before_its_answer_may_have_been_answered(purse):
    mine, call = purse(), chat(max_tokens=50)

    async def hangs(_call):
        await asyncio.sleep(60)
        yield

    async def main():
        task = asyncio.create_task(read(mine.handler(hangs), call))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert mine.spent(call).tokens == INPUT + 50 and call.span.facts["budget_usage"] == "abandoned"


def test_a_call_without_room_is_not_made_and_the_refusal_says_what_to_type(purse):
    mine, model, call = purse(small={"tokens": INPUT + 10, "per": ("tenant", "day")}), FakeModel(), chat()
    with pytest.raises(BudgetExceededError, match="4,153 tokens, and 67 of 67 tokens") as caught:
        ask(mine.handler(model), dataclasses.replace(call, payload={**call.payload, "max_tokens": 4096}))
    assert not model.calls
    assert "small" in caught.value.message and "tenant acme" in caught.value.message
    assert "budgets.small.tokens" in caught.value.hint and "workbench budget" in caught.value.hint
    tomorrow = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).strftime("%Y-%m-%dT00:00:00Z")
    assert caught.value.renews == tomorrow and caught.value.reason == "budget"


def test_every_attempt_is_reserved_by_itself(purse):
    mine, call = purse(all={"calls": 2}), chat()
    model = FakeModel([answer()] * 9, fails=[UnavailableError("500")] * 2)
    handler = fold({"retry": Retry(RetryPolicy(first_s=0)), "budget": mine.control}, behind(model))
    ask(handler, call)
    assert [set(attempt) >= {"reserved_usd", "cost_usd"} for attempt in call.span.attempts] == [True] * 3
    assert mine.spent(call).calls == 1, "failed attempts are released"


def test_a_budget_that_observes_refuses_nothing_and_says_what_it_would_have(purse):
    mine, call = purse(seen={"calls": 1, "enforce": "observe"}), chat()
    for _ in range(3):
        ask(mine.handler(FakeModel([answer()])), call)
    assert (
        mine.spent(call).calls == 3
        and mine.balance(call).would_refuse == 2
        and not mine.balance(call).refused
    )
    assert call.span.facts["would_refuse"] == ["seen"]


@pytest.mark.parametrize(("phase", "made"), [("mvp", 2), ("mlvp", 1)])
def test_a_budget_may_observe_in_one_phase_and_refuse_in_the_other(purse, phase, made):
    mine = purse(all={"calls": 1, "enforce": {"mvp": "observe", "mlvp": "refuse"}})
    call = chat()
    call = dataclasses.replace(call, context=dataclasses.replace(call.context, phase=phase))
    model = FakeModel([answer()] * 2)
    ask(mine.handler(model), call)
    if made == 1:
        with pytest.raises(BudgetExceededError):
            ask(mine.handler(model), call)
    else:
        ask(mine.handler(model), call)
    assert len(model.calls) == made


def test_an_enforced_budget_that_cannot_be_read_refuses_and_one_that_observes_does_not(purse):
    model, call = FakeModel([answer()]), chat()
    with pytest.raises(RefusedError, match=r"budget all cannot be read.*disk is gone") as caught:
        ask(purse(store=Away(), all={"calls": 9}).handler(model), call)
    assert caught.value.hint == "mount it" and not model.calls
    ask(purse(store=Away(), all={"calls": 9, "enforce": "observe"}).handler(model), call)
    assert len(model.calls) == 1 and call.span.facts["budget_error"] == "UnavailableError"


def in_job(call):
    return dataclasses.replace(call, context=dataclasses.replace(call.context, job="nightly"))


def test_an_unknown_price_is_refused_in_a_job_and_a_warning_elsewhere(purse):
    mine = purse(card=ModelCard.unsaved("small"), money={"usd": 5})
    model = FakeModel([answer()] * 3)
    with pytest.raises(RefusedError, match="price of small is unknown") as caught:
        ask(mine.handler(model), in_job(chat()))
    assert "price_per_million" in caught.value.hint and not model.calls
    with pytest.warns(UserWarning, match="price of small is unknown"):
        ask(mine.handler(model), chat())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(mine.handler(model), chat())  # told once
    assert mine.spent(chat()).usd == 0 and mine.spent(chat()).calls == 2


def test_a_known_price_of_zero_takes_no_money_although_none_is_left(purse):
    free = dataclasses.replace(CARD, price_per_million=Price(input_usd=0.0))
    mine = purse(card=free, money={"usd": 0.000001})
    ask(mine.handler(FakeModel([answer()])), in_job(chat()))
    assert mine.spent(chat()).calls == 1


def test_what_is_computed_in_this_process_takes_from_no_budget(purse):
    mine, call = purse(all={"calls": 1}), chat(labels={"recorded": False})
    for _ in range(3):
        ask(mine.handler(FakeModel([answer()])), call)
    assert mine.spent(call) == Amounts()


def test_a_peek_refuses_before_the_queue_what_is_known_to_be_spent(purse):
    mine, call = purse(all={"calls": 1}), chat()
    mine.control.peek(call)
    ask(mine.handler(FakeModel([answer()])), call)
    with pytest.raises(BudgetExceededError):
        mine.control.peek(call)
    assert mine.balance(call).refused == 0, "a peek counts nothing"


def test_a_call_that_is_known_to_have_no_room_does_not_wait_in_the_queue(purse, tmp_path):
    mine = purse(all={"calls": 1})
    limit = RateLimit(lambda _: limited_card(concurrent=1), tmp_path, peek=mine.control.peek)

    async def slow(_call):
        await asyncio.sleep(0.2)
        yield Event(data=answer())

    async def main():
        queue = fold({"rate_limit": limit}, slow)
        await mine.ledger.settle(
            await mine.ledger.reserve(mine.declared.accounts(chat().context), Amounts(calls=1), wait_s=1),
            Amounts(calls=1),
        )
        first = asyncio.create_task(read(queue, chat()))
        await asyncio.sleep(0.05)
        with pytest.raises(BudgetExceededError):
            await read(queue, chat())
        assert not first.done(), "it waited"
        await first
        await read(queue, chat())  # its place in the queue is free

    asyncio.run(main())


def test_a_budget_of_seconds_ends_a_call_when_its_model_time_is_over(purse):
    mine, call, seen = purse(all={"seconds": 30, "call_seconds": 4}), chat(), []

    async def leaf(call):
        seen.append(call.deadline - call.context.clock.monotonic())
        await asyncio.sleep(0.05)
        for event in [chunk("a", **USAGE)]:
            yield event

    ask(mine.handler(leaf), call)
    assert 3.5 < seen[0] <= 4
    assert 40_000 < mine.spent(call).seconds < 4_000_000


def test_the_wait_for_a_budget_is_no_time_of_the_endpoint(purse):
    mine, call = purse(all={"calls": 1}), chat()

    async def main():
        accounts = mine.declared.accounts(call.context)
        held = await mine.ledger.reserve(accounts, Amounts(calls=1), wait_s=1)
        policy = RetryPolicy(timeout_s=0.2, attempts=1)
        stack = fold({"retry": Retry(policy), "budget": mine.control}, behind(FakeModel([answer()])))
        task = asyncio.create_task(read(stack, call))
        await asyncio.sleep(0.5)
        await mine.ledger.settle(held, Amounts())
        await task

    asyncio.run(main())
    assert call.span.attempts[0]["budget_waited_s"] > 0.3


def test_a_wait_ends_at_the_deadline_of_the_call(purse):
    mine, call = purse(all={"calls": 1}), chat()

    async def main():
        accounts = mine.declared.accounts(call.context)
        held = await mine.ledger.reserve(accounts, Amounts(calls=1), wait_s=1)
        late = dataclasses.replace(call, deadline=call.context.clock.monotonic() + 0.2)
        with pytest.raises(OverloadedError, match="reserved by other calls"):
            await read(mine.handler(FakeModel()), late)
        await mine.ledger.settle(held, Amounts())

    asyncio.run(main())
    assert mine.spent(call) == Amounts()


def test_counting_tokens_is_free():
    assert "model.count" not in POSITION.operations and "model.chat" in POSITION.operations
