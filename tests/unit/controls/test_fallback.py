"""A memory's last snapshot in place of a store that is away."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from calls import AwayMemory, ask, search

from workbench.controls.fallback import Fallback
from workbench.controls.stack import around
from workbench.errors import RefusedError, UnavailableError
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeClock
from workbench.testing.memory_items import make_item
from workbench.types import Event, ItemHit
from workbench.workspace.boundary import Boundary, StatePaths

HIT = ItemHit(
    id="1", text="Taxis need approval.", source="travel", title="Travel", version=1, score=1.0, tenant="acme",
    as_of="2026-11-25", stale=False, digest="d", memory="handbook",
    item=make_item("Taxis need approval."),
)  # fmt: skip


def test_while_the_store_answers_nothing_is_degraded():
    memory = AwayMemory([HIT], times=0)
    assert ask(around(Fallback(), memory), search()) == [[HIT]]
    assert memory.asked == ["store"]


def test_every_hit_of_the_snapshot_says_so_and_the_call_too():
    call = search()
    ((hit,),) = ask(around(Fallback(), AwayMemory([HIT])), call)
    assert hit.degraded
    assert hit.text == HIT.text
    assert call.span.facts["degraded"]


@pytest.mark.parametrize("fallback", [True, False])
def test_a_boundary_falls_back_only_when_its_use_case_opts_in(tmp_path, fallback):
    memory, places = AwayMemory([HIT]), StatePaths(home=tmp_path, memory_fallback=fallback)
    boundary = Boundary(tmp_path, mode="live", tape=Tape(tmp_path / "t"), places=places)

    async def answer(call):
        return (await anext(memory(call))).data

    boundary.stores = SimpleNamespace(answer=answer)
    if fallback:
        assert ask(boundary.handler, search(clock=FakeClock())) == [[replace(HIT, degraded=True)]]
    else:
        with pytest.raises(UnavailableError, match="away") as caught:
            ask(boundary.handler, search(clock=FakeClock()))
        assert caught.value.hint == "make weaviate"
    assert memory.asked == ["store"] * 4 + ["snapshot"] * fallback


def test_what_the_store_refuses_the_snapshot_is_not_asked():
    async def refuses(call):
        raise RefusedError("no")
        yield

    with pytest.raises(RefusedError):
        ask(around(Fallback(), refuses), search())


def test_a_store_that_goes_away_in_the_middle_of_an_answer_is_not_answered_twice():
    async def torn(call):
        yield Event(data=[HIT])
        raise UnavailableError("gone")

    with pytest.raises(UnavailableError, match="gone"):
        ask(around(Fallback(), torn), search())


def test_without_a_snapshot_the_error_names_both_and_keeps_its_hint():
    async def nothing(call):
        if call.identity.get("degraded"):
            raise UnavailableError("there is no snapshot")
        raise UnavailableError("the server is away", hint="make weaviate")
        yield

    call = search()
    with pytest.raises(UnavailableError, match=r"the server is away.*there is no snapshot") as caught:
        ask(around(Fallback(), nothing), call)
    assert caught.value.hint == "make weaviate"
    assert "degraded" not in call.span.facts, "nothing was answered"


def test_a_fault_that_waiting_does_not_mend_is_shown_and_not_hidden_by_the_snapshot():
    async def leaky(call):
        fault = UnavailableError("it was withheld")
        fault.retryable = False
        raise fault
        yield

    with pytest.raises(UnavailableError, match="withheld"):
        ask(around(Fallback(), leaky), search())
