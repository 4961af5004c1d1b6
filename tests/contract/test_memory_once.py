"""What a job's run relies on, on every store: a slot writes once, and a run on trial changes a copy."""

import contextlib

import pytest
from calls import context
from slot_writes import Killed, SlotRun
from weaviate_servers import open_store

from workbench import _sync
from workbench.memory.copies import MemoryCopies
from workbench.memory.sqlite.store import SQLiteStore
from workbench.ports import Budget, Call, Selector
from workbench.testing.fake_memory import FakeStore
from workbench.testing.memory_items import NOW, make_episode, make_item, make_query

FREE = Budget()


@pytest.fixture(params=["fake", "sqlite", "weaviate"])
def store(request, tmp_path):
    path = tmp_path / "memory"
    if request.param == "weaviate":
        request.getfixturevalue("weaviate")
    made = {
        "fake": lambda: FakeStore(name="contract"),
        "sqlite": lambda: SQLiteStore(path, name="contract"),
        "weaviate": lambda: open_store(path),
    }[request.param]()
    yield made
    _sync.run(made.aclose())


def test_a_slot_that_is_killed_and_repeated_writes_once(store, tmp_path):
    documents = [make_item("a page"), make_item("its second part", position=1)]
    runs = [SlotRun(store, tmp_path / "log", at=f"2125-06-15T12:00:{n:02}Z") for n in range(3)]
    for number, run in enumerate(runs):
        run.dies = "" if number == 2 else "after"
        with pytest.raises(Killed) if run.dies else contextlib.nullcontext():
            run.call("add", items=documents, now=NOW)
            run.dies = ""
            run.remember("it rained", case="a")
            run.dies = "after" if number == 1 else ""
            run.remember("it rained", case="b", subject="cust-1")
    again = SlotRun(store, tmp_path / "log")
    again.call("add", items=documents, now=NOW)
    again.remember("it rained", case="a")
    again.remember("it snowed", case="b", subject="cust-1")
    assert again.texts() == ["a page", "it rained", "it snowed", "its second part"]
    assert again.asked == ["forget", "remember"], "what was said before in another way is replaced"


class Trial:
    """A run on trial over a store: each verb is answered by what its copies give."""

    def __init__(self, store, folder):
        self.copies, self.live = MemoryCopies(folder, self.forgotten), store
        self.gone = frozenset()

    async def forgotten(self, _call, _items):
        """What the memory forgets while its items are copied."""
        return self.gone

    def __call__(self, verb, *, tenant="acme", **payload):
        call = Call(
            port="memory", operation=verb, target="contract", payload=payload, context=context(),
            identity={"version": 1},
        )  # fmt: skip

        async def answered():
            view = await self.copies.view(call, self.live.tenant(tenant))
            return await getattr(view, verb)(**payload)

        return _sync.run(answered())


def test_a_run_on_trial_reads_what_it_writes_and_the_memory_keeps_what_it_had(store, tmp_path):
    run = SlotRun(store, tmp_path / "log")
    run.call("add", items=[make_item("a page about taxis")], now=NOW)
    run.remember("of a customer", subject="cust-1")
    run.remember("of globex", tenant="globex")
    before = run.items(), run.items("globex")
    trial = Trial(store, tmp_path / "copies")
    assert trial("count") == 2 and not (tmp_path / "copies").exists(), "a run that only reads copies nothing"
    trial("remember", items=[make_episode("on trial")], budget=FREE, now=NOW)
    trial("add", items=[make_item("a page about trains", source="other")], now=NOW)
    assert trial("forget", what=Selector(subject="cust-1"), now=NOW).items == 1
    assert sorted(item.text for item in trial("items")) == [
        "a page about taxis", "a page about trains", "on trial"
    ]  # fmt: skip
    assert trial("search", query=make_query("taxis"))[0].text == "a page about taxis"
    assert [item.text for item in trial("items", tenant="globex")] == ["of globex"]
    assert (run.items(), run.items("globex")) == before
    _sync.run(trial.copies.aclose())
    again = Trial(store, tmp_path / "others")
    assert again("count") == 2, "the next run on trial finds nothing of it"
    again.gone = frozenset(item.id for item in run.items() if item.subject == "cust-1")
    again("remember", items=[make_episode("on trial")], budget=FREE, now=NOW)
    assert sorted(item.text for item in again("items")) == ["a page about taxis", "on trial"]
    _sync.run(again.copies.aclose())
