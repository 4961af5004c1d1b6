"""Verbs that are made of others: a sync verb and its async twin, and a memory's wrapper."""

from __future__ import annotations

import asyncio
import inspect
import pydoc

import pytest

from workbench import _sync
from workbench.models.handle import ModelHandle
from workbench.ports import Memory, MemoryVerbs
from workbench.prompts.window import Window
from workbench.retrieval import MemoryHandle
from workbench.testing.sync_memory import SyncMemory

VERBS = sorted(name for name in vars(Memory) if name[0] != "_" and name != "tenant")


class Counter:
    async def _add(self, number: int, *, times: int = 2) -> int:
        """Add and multiply."""
        await asyncio.sleep(0)
        if number < 0:
            raise ValueError(number)
        return number * times

    add, add_async = _sync.twins(_add)


def test_twins_show_the_methods_parameters_and_docstring_under_their_own_names():
    for verb, name in ((Counter.add, "add"), (Counter.add_async, "add_async")):
        assert (verb.__name__, verb.__qualname__) == (name, f"Counter.{name}")
        assert verb.__doc__ == "Add and multiply."
        assert list(inspect.signature(verb).parameters) == ["self", "number", "times"]
    assert inspect.iscoroutinefunction(Counter.add_async)
    assert not inspect.iscoroutinefunction(Counter.add)


def test_twins_give_the_same_answer_and_error_also_in_a_running_loop():
    async def in_a_loop():
        return Counter().add(3), await Counter().add_async(3, times=4)

    assert Counter().add(3, times=4) == 12
    assert asyncio.run(in_a_loop()) == (6, 12)
    with pytest.raises(ValueError, match="-1"):
        Counter().add(-1)
    with pytest.raises(TypeError):
        Counter().add(3, tims=4)


@pytest.mark.parametrize(("handle", "number"), [(MemoryHandle, 15), (ModelHandle, 4), (Window, 1)])
def test_every_verb_of_a_handle_has_a_twin_with_its_parameters_and_a_docstring(handle, number):
    twins = [name for name in vars(handle) if name.endswith("_async")]
    assert len(twins) >= number
    for name in twins:
        verb, twin = getattr(handle, name.removesuffix("_async")), getattr(handle, name)
        expected = str(inspect.signature(twin)).replace("-> 'AsyncIterator", "-> 'Iterator")
        assert str(inspect.signature(verb)) == expected
        assert verb.__doc__
        assert twin.__doc__
        assert verb.__doc__.splitlines()[0] in pydoc.render_doc(verb)


class Telling(MemoryVerbs):
    tenant = "acme"

    async def _invoke(self, verb, arguments):
        return verb, arguments


def test_a_wrapper_sends_every_verb_of_the_port_with_all_its_arguments_by_name():
    memory = Telling()
    assert isinstance(memory, Memory)
    for name in VERBS:
        parameters = list(inspect.signature(getattr(Memory, name)).parameters)[1:]
        assert inspect.signature(getattr(Telling, name)) == inspect.signature(getattr(Memory, name))
        needed = {p: p for p in parameters}
        assert asyncio.run(getattr(memory, name)(**needed)) == (name, needed)
        assert inspect.signature(getattr(SyncMemory, name)) == inspect.signature(getattr(Memory, name))
    assert asyncio.run(memory.add([1])) == ("add", {"items": [1], "now": ""})
    with pytest.raises(TypeError):
        asyncio.run(memory.add([1], nwo=""))


def test_a_wrapper_without_its_one_method_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        MemoryVerbs()
