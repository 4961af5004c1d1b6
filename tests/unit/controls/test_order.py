"""Why each control that exists stands where it stands: with the two swapped, something is lost."""

import asyncio
import dataclasses
from itertools import pairwise

import pytest
from calls import FORMAT, AwayMemory, behind, chat, limited_card, read, remembered, search
from planted import EMAIL

from workbench.config import DataClass, RunLimits, data_rules
from workbench.controls.position import OPERATIONS
from workbench.controls.stack import POSITIONS, around
from workbench.errors import (
    CircuitOpenError,
    InvalidOutputError,
    LimitExceededError,
    ModerationError,
    OverloadedError,
    PolicyError,
    RefusedError,
    UnavailableError,
)
from workbench.ports import Budget, ModelCandidate, Remembered, Requester, Span, written_id
from workbench.ports.item_filter import all_of
from workbench.testing.fakes import FakeModel
from workbench.testing.memory_items import NOW, make_episode
from workbench.types import Event

BUILT = tuple(position.name for position in POSITIONS)
APPLIES = {
    operation: {position.name for position in POSITIONS if operation in position.operations}
    for operation in sorted(OPERATIONS, key=lambda name: (name.startswith("memory."), name))
}


def stack(bench, order, model, mode="auto"):
    """The controls in any order, not only the right one."""
    controls = bench.controls(mode)
    handler = behind(model) if isinstance(model, FakeModel) else model
    for name in reversed(order):
        handler = around(controls[name], handler)
    return handler


def embed():
    return dataclasses.replace(chat(), operation="embed", payload={"model": "small", "input": ["a taxi"]})


def respond(text):
    payload = {"model": "small", "input": text}
    return dataclasses.replace(chat(), operation="respond", payload=payload)


def attempt(handler, call):
    try:
        return asyncio.run(read(handler, call))
    except (InvalidOutputError, RefusedError, UnavailableError) as error:
        return error


def an_answer_the_format_refuses_is_recorded_as_invalid(bench, order):
    """observe above output: a refusal by any control is what the caller saw, so it is the record."""
    attempt(stack(bench, order, FakeModel(["bad", "worse"])), chat(response_format=FORMAT))
    return [record["outcome"] for record in bench.records] == ["invalid"]


def a_recorded_answer_is_judged_and_its_invalidity_replayed(bench, order):
    """output above replay: recorded answers are judged by today's format, also the invalid ones."""
    attempt(stack(bench, order, FakeModel(["bad", "worse"])), chat(response_format=FORMAT))
    silent = FakeModel()
    again = attempt(stack(bench, order, silent), chat(response_format=FORMAT))
    return isinstance(again, InvalidOutputError) and not silent.calls


def a_replayed_answer_is_no_attempt(bench, order):
    """replay above retry: a recorded answer has no attempts, pauses or deadline of its own."""
    attempt(stack(bench, order, FakeModel()), chat())
    attempt(stack(bench, order, FakeModel()), chat())
    return bench.records[1]["replayed"] and bench.records[1]["attempts"] == []


def a_degraded_answer_is_one_record(bench, order):
    """observe above fallback: the caller asked once and got one answer, which says that it is degraded."""
    attempt(stack(bench, order, AwayMemory()), search(clock=bench.clock))
    return [(record["outcome"], record["degraded"]) for record in bench.records] == [("ok", True)]


def what_ends_while_the_store_is_waited_for_is_not_found(bench, order):
    """fallback above access: the snapshot is asked as of when it is asked, not of when the store was."""
    hanging = AwayMemory(hangs_s=60)
    attempt(stack(bench, order, hanging), search(clock=bench.clock))
    return hanging.queries[0].now < hanging.queries[-1].now


def a_denial_is_recorded(bench, order):
    """observe above policy: who was denied what, and the decision, are on record."""
    bench.policy.targets.add("handbook")
    attempt(stack(bench, order, AwayMemory()), remembered("stats", now=""))
    return [record["decision"]["allowed"] for record in bench.records] == [False]


def a_denied_call_counts(bench, order):
    """limits above policy: a loop of denied calls ends, as every loop does."""
    bench.policy.targets.add("small")
    bench.limits = RunLimits(calls=2)
    ends = [attempt(stack(bench, order, FakeModel()), embed()) for _ in range(3)]
    return [isinstance(end, LimitExceededError) for end in ends] == [False, False, True]


def each_candidate_is_decided_for_itself(bench, order):
    """fallback above policy: a denied model falls back to one that is permitted."""
    bench.policy.targets.add("small")
    call = dataclasses.replace(chat(clock=bench.clock), fallbacks=(ModelCandidate(target="b", model="b"),))
    model = FakeModel(["yes"])
    return isinstance(attempt(stack(bench, order, model), call), list) and len(model.calls) == 1


def the_policies_see_what_access_would_refuse(bench, order):
    """policy above access: one law decides first, and what it denies names its decision."""
    bench.policy.targets.add("handbook")
    return isinstance(attempt(stack(bench, order, AwayMemory()), forging()), PolicyError)


def a_permitted_call_is_finished(bench, order):
    """policy above output: a repair is no second call, and policies that change meanwhile do not end it."""
    model = FakeModel(["bad", '{"answer": "yes"}'])

    async def models(call):
        bench.policy.targets.add("small")
        async for event in behind(model)(call):
            yield event

    return isinstance(attempt(stack(bench, order, models), chat(response_format=FORMAT)), list)


def what_is_denied_has_no_recorded_answer(bench, order):
    """policy above replay: a recorded answer is given only to those who may ask today."""
    attempt(stack(bench, order, FakeModel()), embed())
    bench.policy.targets.add("small")
    return isinstance(attempt(stack(bench, order, FakeModel()), embed()), PolicyError)


def what_is_denied_has_no_cached_answer(bench, order):
    """policy above cache: a cached answer is given only to those who may ask now."""
    caching(bench)
    attempt(stack(bench, order, FakeModel(), "live"), embed())
    bench.policy.targets.add("small")
    return isinstance(attempt(stack(bench, order, FakeModel(), "live"), embed()), PolicyError)


def a_refusal_is_recorded(bench, order):
    """observe above access: who asked for what they may not is on record."""
    attempt(stack(bench, order, AwayMemory()), forging())
    return [record["outcome"] for record in bench.records] == ["refused"]


def a_refusal_is_no_attempt(bench, order):
    """access above retry: the store was never asked."""
    attempt(stack(bench, order, AwayMemory()), forging())
    return bench.records[0]["attempts"] == []


def the_ids_of_a_slot_are_no_forgery(bench, order):
    """access above idempotence: an item is stamped by its principal, and its id is then that of the slot."""
    item = make_episode("it rained", owner="ada")
    item = dataclasses.replace(item, id=written_id("acme", item))

    async def store(call):
        yield Event(data=Remembered(added=1, unchanged=0))

    call = remembered("remember", clock=bench.clock, items=[item], budget=Budget(), now=NOW)
    return isinstance(attempt(stack(bench, order, store), call), list)


def forging():
    """A read that names a condition of its own, which the policies alone make."""
    return remembered("items", requester=Requester(groups=(), now="", where=all_of([])))


def a_refusal_by_a_limit_is_recorded(bench, order):
    """observe above limits: what ended a run is on record."""
    bench.limits = RunLimits(calls=1)
    for _ in range(2):
        attempt(stack(bench, order, FakeModel()), chat())
    return [record["outcome"] for record in bench.records] == ["ok", "refused"]


def another_model_is_no_call_of_its_own(bench, order):
    """limits above fallback: the task asked once, and a run is not ended between two models."""
    bench.limits = RunLimits(calls=1)
    call = dataclasses.replace(chat(clock=bench.clock), fallbacks=(ModelCandidate(target="b", model="b"),))
    model = FakeModel(["yes"], fails=[UnavailableError("down")] * 4)
    return isinstance(attempt(stack(bench, order, model), call), list)


def what_is_denied_is_not_searched(bench, order):
    """policy above privacy: who may not ask is told so, and not what a detector found."""
    bench.policy.targets.add("small")
    bench.rules = data_rules({"personal": DataClass(external="refuse")})
    personal = dataclasses.replace(embed(), payload={"model": "small", "input": [EMAIL]})
    return isinstance(attempt(stack(bench, order, FakeModel()), personal), PolicyError)


def a_refused_class_of_data_counts(bench, order):
    """limits above privacy: a loop that asks again for what it may not send ends."""
    bench.limits = RunLimits(calls=2)
    bench.rules = data_rules({"personal": DataClass(external="refuse")})
    personal = dataclasses.replace(embed(), payload={"model": "small", "input": [EMAIL]})
    ends = [attempt(stack(bench, order, FakeModel()), personal) for _ in range(3)]
    return [isinstance(end, LimitExceededError) for end in ends] == [False, False, True]


def an_answer_is_judged_with_its_values(bench, order):
    """output above privacy: a form of the value, such as that of an address, is that of the answer."""
    form = {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": {"properties": {"to": {"pattern": "@"}}}},
    }
    model = FakeModel(['{"to": "<EMAIL_1>"}'] * 2)
    end = attempt(stack(bench, order, model), chat(EMAIL, response_format=form))
    return isinstance(end, list) and len(model.calls) == 1


def a_cached_answer_holds_no_identifier(bench, order):
    """privacy above cache: neither the question nor the answer in the file names anybody."""
    caching(bench)
    attempt(stack(bench, order, FakeModel([f"ask {EMAIL}"]), "live"), chat(EMAIL))
    bench.answers.close()
    kept = b"".join(path.read_bytes() for path in bench.answers.path.parent.glob("exact*"))
    return b"EMAIL_1" in kept and EMAIL.encode() not in kept


def a_recording_holds_no_identifier(bench, order):
    """privacy above replay: neither the question nor the answer on the tape names anybody."""
    attempt(stack(bench, order, FakeModel([f"ask {EMAIL}"])), respond(EMAIL))
    kept = bench.journal.read_bytes()
    return b"EMAIL_1" in kept and EMAIL.encode() not in kept


def a_replayed_call_counts(bench, order):
    """limits above replay: a loop ends at the same call, whatever the tape holds."""
    bench.limits = RunLimits(calls=2)
    ends = [attempt(stack(bench, order, FakeModel()), embed()) for _ in range(3)]
    return [isinstance(end, LimitExceededError) for end in ends] == [False, False, True]


def each_attempt_takes_its_turn(bench, order):
    """retry above rate_limit: the endpoint counts every attempt, and so does its limit."""
    bench.card = limited_card(requests_per_minute=20)
    model = FakeModel(["yes"], fails=[UnavailableError("down"), UnavailableError("down")])
    attempt(stack(bench, order, model), chat(clock=bench.clock))
    return bench.clock.monotonic() >= 6.0


def a_call_that_waits_for_its_turn_is_no_probe(bench, order):
    """rate_limit above circuit_breaker: the queue refuses before the one probe is taken."""
    bench.card = limited_card(requests_per_minute=200)
    handler = stack(bench, order, FakeModel(fails=[UnavailableError("down")] * 20))
    for _ in range(20):
        attempt(handler, chat(clock=bench.clock))
    (breaker,), (queue,) = bench.circuit_breaker.breakers.values(), bench.rate_limit.queues.values()
    bench.clock.advance(1000)
    now = bench.clock.monotonic()
    queue.pause(now + 100, now)
    end = attempt(handler, chat(clock=bench.clock, deadline=now + 1))
    return isinstance(end, OverloadedError) and breaker.state == "open"


def a_call_that_the_breaker_refuses_reserves_nothing(bench, order):
    """circuit_breaker above budget: money is only set aside for an endpoint that is asked."""
    bench.budget.declared = True
    handler = stack(bench, order, FakeModel(fails=[UnavailableError("down")] * 20))
    for _ in range(5):
        attempt(handler, chat(clock=bench.clock))
    before = len(bench.ledger.made)
    end = attempt(handler, chat(clock=bench.clock))
    return isinstance(end, CircuitOpenError) and len(bench.ledger.made) == before == 20


def an_answer_of_the_wrong_form_is_another_models_turn(bench, order):
    """fallback above output: an answer that stays invalid after its repair falls back."""
    call = dataclasses.replace(
        chat(response_format=FORMAT), fallbacks=(ModelCandidate(target="b", model="b"),)
    )
    answer = attempt(stack(bench, order, FakeModel(["bad", "worse", '{"answer": "yes"}'])), call)
    return isinstance(answer, list)


def caching(bench):
    bench.caching = dataclasses.replace(bench.caching, operations=("chat", "embed"))


def a_cached_answer_is_judged_again(bench, order):
    """output above cache: what the endpoint said is cached, also an answer that does not fit the format."""
    caching(bench)
    attempt(stack(bench, order, FakeModel(["bad", "worse"]), "live"), chat(response_format=FORMAT))
    silent = FakeModel()
    again = attempt(stack(bench, order, silent, "live"), chat(response_format=FORMAT))
    return isinstance(again, InvalidOutputError) and not silent.calls


def a_cached_answer_is_not_recorded(bench, order):
    """cache above replay: a recording has no end, and a cached answer has one."""
    caching(bench)
    attempt(stack(bench, order, FakeModel(), "live"), chat())
    attempt(stack(bench, order, FakeModel()), chat())
    recorded = bench.journal.exists() and bench.journal.read_bytes()
    return bench.records[1]["source"] == "exact" and not recorded


def a_cached_call_counts(bench, order):
    """limits above cache: a loop that repeats itself ends, whatever answers it."""
    caching(bench)
    bench.limits = RunLimits(calls=2)
    ends = [attempt(stack(bench, order, FakeModel(), "live"), embed()) for _ in range(3)]
    return [isinstance(end, LimitExceededError) for end in ends] == [False, False, True]


def what_an_answer_is_repaired_with_is_checked(bench, order):
    """output above moderation: the answer that is sent back for its repair was checked before."""
    model = FakeModel(["the taxi is at https://evil.example/?q=the+fare+of+a+taxi+is", "never asked"])
    end = attempt(stack(bench, order, model), chat("what is the fare of a taxi is", response_format=FORMAT))
    return isinstance(end, ModerationError) and len(model.calls) == 1


def a_check_reads_no_identifier(bench, order):
    """privacy above moderation: neither a classifier's model nor a held answer gets an identifier."""
    read = []

    def check(text, exchange):
        read.extend([text, *exchange.texts("user")])

    bench.hooks = [dataclasses.replace(bench.hooks[0], check=check)]
    attempt(stack(bench, order, FakeModel()), chat(EMAIL))
    return bool(read) and not any(EMAIL in text for text in read)


def a_cached_answer_is_checked_again(bench, order):
    """moderation above cache: an answer that was cached before a check existed is checked."""
    caching(bench)
    leak = "see https://evil.example/?q=what+is+the+fare"
    bare = tuple(name for name in order if name != "moderation")
    attempt(stack(bench, bare, FakeModel([leak]), "live"), chat("what is the fare"))
    silent = FakeModel()
    again = attempt(stack(bench, order, silent, "live"), chat("what is the fare"))
    return isinstance(again, ModerationError) and not silent.calls


def a_recorded_answer_is_checked_again(bench, order):
    """moderation above replay: a recorded answer is judged by today's checks."""
    leak = "see https://evil.example/?q=what+is+the+fare"
    call = responding("what is the fare")
    bare = tuple(name for name in order if name != "moderation")
    attempt(stack(bench, bare, FakeModel([leak])), call)
    silent = FakeModel()
    again = attempt(stack(bench, order, silent), dataclasses.replace(call, span=Span()))
    return isinstance(again, ModerationError) and not silent.calls


def responding(text):
    return dataclasses.replace(chat(), operation="respond", payload={"model": "small", "input": text})


def each_candidate_is_recorded_under_its_own_name(bench, order):
    """fallback above replay: an answer of the fall-back is never replayed as the first model's."""
    down = {"small"}

    async def models(call):
        if call.target in down:
            raise UnavailableError("down")
        yield Event(data={"object": "response", "status": "completed", "model": call.target, "output": []})

    other = (ModelCandidate(target="b", model="b", identity={"weights": "b"}),)
    payload = {"model": "small", "input": "a taxi?"}
    call = dataclasses.replace(chat(clock=bench.clock), operation="respond", payload=payload, fallbacks=other)
    by_other = attempt(stack(bench, order, models), call)
    down.clear()
    by_first = attempt(stack(bench, order, models), dataclasses.replace(call, span=Span()))
    return [answer[0]["model"] for answer in (by_other, by_first)] == ["b", "small"]


WHY = {
    ("observe", "limits"): a_refusal_by_a_limit_is_recorded,
    ("limits", "fallback"): another_model_is_no_call_of_its_own,
    ("policy", "privacy"): what_is_denied_is_not_searched,
    ("output", "privacy"): an_answer_is_judged_with_its_values,
    ("privacy", "cache"): a_cached_answer_holds_no_identifier,
    ("privacy", "replay"): a_recording_holds_no_identifier,
    ("retry", "rate_limit"): each_attempt_takes_its_turn,
    ("rate_limit", "circuit_breaker"): a_call_that_waits_for_its_turn_is_no_probe,
    ("circuit_breaker", "budget"): a_call_that_the_breaker_refuses_reserves_nothing,
    ("observe", "fallback"): a_degraded_answer_is_one_record,
    ("observe", "policy"): a_denial_is_recorded,
    ("limits", "policy"): a_denied_call_counts,
    ("fallback", "policy"): each_candidate_is_decided_for_itself,
    ("policy", "access"): the_policies_see_what_access_would_refuse,
    ("policy", "output"): a_permitted_call_is_finished,
    ("access", "idempotence"): the_ids_of_a_slot_are_no_forgery,
    ("access", "retry"): a_refusal_is_no_attempt,
    ("privacy", "moderation"): a_check_reads_no_identifier,
    ("moderation", "cache"): a_cached_answer_is_checked_again,
    ("moderation", "replay"): a_recorded_answer_is_checked_again,
    ("cache", "replay"): a_cached_answer_is_not_recorded,
    ("replay", "retry"): a_replayed_answer_is_no_attempt,
}


def built_around(operation):
    return tuple(name for name in BUILT if name in APPLIES[operation])


def test_every_adjacency_has_its_reason():
    assert set(WHY) == {pair for operation in APPLIES for pair in pairwise(built_around(operation))}


def around_both(pair):
    """The controls of an operation around which the two stand side by side."""
    return next(built for built in map(built_around, APPLIES) if pair in set(pairwise(built)))


@pytest.mark.parametrize("pair", WHY, ids="-".join)
def test_a_control_stands_above_the_next_one_because(bench, pair):
    assert WHY[pair](bench, around_both(pair))


@pytest.mark.parametrize("pair", WHY, ids="-".join)
def test_the_other_way_round_it_is_lost(bench, pair):
    swapped = list(around_both(pair))
    above, below = map(swapped.index, pair)
    swapped[above], swapped[below] = pair[::-1]
    assert not WHY[pair](bench, swapped)


@pytest.mark.parametrize(
    ("pair", "why"),
    [
        (("fallback", "access"), what_ends_while_the_store_is_waited_for_is_not_found),
        (("observe", "access"), a_refusal_is_recorded),
        (("limits", "replay"), a_replayed_call_counts),
        (("limits", "cache"), a_cached_call_counts),
        (("fallback", "output"), an_answer_of_the_wrong_form_is_another_models_turn),
        (("policy", "cache"), what_is_denied_has_no_cached_answer),
        (("policy", "replay"), what_is_denied_has_no_recorded_answer),
        (("output", "cache"), a_cached_answer_is_judged_again),
        (("output", "replay"), a_recorded_answer_is_judged_and_its_invalidity_replayed),
        (("output", "moderation"), what_an_answer_is_repaired_with_is_checked),
        (("limits", "privacy"), a_refused_class_of_data_counts),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else value.__name__,
)
def test_what_is_lost_when_two_that_are_no_neighbours_change_places(bench, pair, why, tmp_path):
    assert why(bench, pair)
    assert not why(type(bench)(tmp_path / "other"), pair[::-1])


@pytest.mark.parametrize(("order", "own"), [(("fallback", "replay"), True), (("replay", "fallback"), False)])
def test_a_fallbacks_answer_is_not_recorded_as_the_first_models(bench, order, own):
    assert each_candidate_is_recorded_under_its_own_name(bench, order) == own


@pytest.mark.parametrize(
    ("order", "recorded"), [(("observe", "output"), True), (("output", "observe"), False)]
)
def test_the_record_says_what_the_caller_saw(bench, order, recorded):
    assert an_answer_the_format_refuses_is_recorded_as_invalid(bench, order) == recorded


@pytest.mark.parametrize(
    ("order", "judged"), [(("observe", "output", "cache"), True), (("observe", "cache", "output"), False)]
)
def test_a_cached_answer_is_judged_by_the_format(bench, order, judged):
    assert a_cached_answer_is_judged_again(bench, order) == judged


@pytest.mark.parametrize(
    ("order", "judged"), [(("observe", "output", "replay"), True), (("observe", "replay", "output"), False)]
)
def test_a_recorded_answer_is_judged_by_the_format(bench, order, judged):
    assert a_recorded_answer_is_judged_and_its_invalidity_replayed(bench, order) == judged


@pytest.mark.parametrize(("order", "asked"), [(("fallback", "retry"), 2), (("retry", "fallback"), 1)])
def test_a_store_that_is_away_for_a_moment_is_asked_again_before_its_snapshot_is(bench, order, asked):
    away = AwayMemory(times=1)
    attempt(stack(bench, order, away), search(clock=bench.clock))
    assert away.asked.count("store") == asked
