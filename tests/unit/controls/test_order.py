"""Why each control that exists stands where it stands: with the two swapped, something is lost."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from calls import FORMAT, behind, chat, read

import workbench.controls
from workbench.controls.onion import ALWAYS, APPLIES, ORDER, around
from workbench.errors import InvalidOutputError, UnavailableError
from workbench.ports import Memory, Model
from workbench.testing.fakes import FakeModel

FOLDER = Path(workbench.controls.__file__).parent
BUILT = tuple(name for name in ORDER if (FOLDER / f"{name}.py").exists())


def stack(bench, order, model, mode="auto"):
    """The controls in any order, not only the right one."""
    controls, handler = bench.controls(mode), behind(model)
    for name in reversed(order):
        handler = around(controls[name], handler)
    return handler


def attempt(handler, call):
    try:
        return asyncio.run(read(handler, call))
    except (InvalidOutputError, UnavailableError) as error:
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


WHY = {
    ("observe", "output"): an_answer_the_format_refuses_is_recorded_as_invalid,
    ("output", "replay"): a_recorded_answer_is_judged_and_its_invalidity_replayed,
    ("replay", "retry"): a_replayed_answer_is_no_attempt,
}


def test_every_adjacency_has_its_reason():
    assert set(WHY) == set(pairwise(BUILT))


@pytest.mark.parametrize("pair", WHY, ids="-".join)
def test_a_control_stands_above_the_next_one_because(bench, pair):
    assert WHY[pair](bench, BUILT)


@pytest.mark.parametrize("pair", WHY, ids="-".join)
def test_the_other_way_round_it_is_lost(bench, pair):
    above, below = map(BUILT.index, pair)
    swapped = list(BUILT)
    swapped[above], swapped[below] = pair[::-1]
    assert not WHY[pair](bench, swapped)


def operations(port, name, besides=()):
    return {f"{name}.{verb}" for verb in vars(port) if callable(getattr(port, verb)) and verb[0] != "_"} - {
        f"{name}.{verb}" for verb in besides
    }


def test_every_operation_of_every_port_has_its_row():
    model = operations(Model, "model", besides=("aclose",))
    assert set(APPLIES) == model | operations(Memory, "memory")
    assert {"model.chat", "memory.search"} < set(APPLIES)


@pytest.mark.parametrize("operation", APPLIES)
def test_a_row_names_controls_that_have_a_place_and_those_that_cannot_be_left_out(operation):
    assert ALWAYS <= APPLIES[operation] <= set(ORDER)


def test_what_applies_to_what():
    def rows(control):
        return {operation for operation, applies in APPLIES.items() if control in applies}

    assert rows("observe") == rows("policy") == set(APPLIES)
    assert rows("output") == {"model.chat"}, "only an answer has a form to fit"
    assert rows("replay") == {"model.chat", "model.embed"}, "a memory's snapshot is its determinism"
    assert rows("retry") == {"model.chat", "model.embed", "memory.search", "memory.count"}, "no write"
    assert rows("budget") == rows("fallback") == {"model.chat", "model.embed"}, "only models cost money"
    assert rows("moderation") == {"model.chat", "memory.search", "memory.add"}, "where text goes in or out"
    assert rows("privacy") == {"model.chat", "model.embed", "memory.search", "memory.add"}
