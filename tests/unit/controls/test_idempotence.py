"""A slot writes into a memory once, whatever dies, repeats or replaces it."""

import pytest
from slot_writes import Killed, SlotRun

from workbench.errors import CorruptError, UnavailableError
from workbench.memory.sqlite.store import SQLiteStore
from workbench.ports import Budget, Selector
from workbench.records.log import Lines
from workbench.records.slot_writes import NAME
from workbench.testing.fake_memory import FakeStore
from workbench.testing.memory_items import NOW, make_episode, make_item

SELECTED = Selector(subject="cust-1")


@pytest.fixture(params=["fake", "sqlite"])
def store(request, tmp_path):
    if request.param == "fake":
        yield FakeStore(name="contract")
        return
    opened = SQLiteStore(tmp_path / "m.sqlite", name="contract")
    yield opened
    opened.close()


@pytest.fixture
def run(store, tmp_path):
    """Begin the n-th run of the slot, each a second after the one before."""
    made = []

    def begun(**options) -> SlotRun:
        made.append(SlotRun(store, tmp_path / "log", at=f"2125-06-15T12:00:{len(made):02}Z", **options))
        return made[-1]

    return begun


def test_a_repeat_of_a_slot_remembers_nothing_again_and_gets_the_same_result(run):
    first = run()
    told = [first.remember("it rained", case="a"), first.remember("it rained", case="b")]
    again = run()
    assert [again.remember("it rained", case="a"), again.remember("it rained", case="b")] == told
    assert again.asked == [] and again.texts() == ["it rained", "it rained"]
    assert {item.id for item in again.items()} == {name for done in told for name in done.ids}


def test_the_writes_of_a_case_are_counted_and_cases_may_come_in_another_order(run):
    first = run()
    for text, case in (("one", "a"), ("two", "a"), ("three", "b")):
        first.remember(text, case=case)
    again = run()
    for text, case in (("three", "b"), ("one", "a"), ("two", "a"), ("four", "a")):
        again.remember(text, case=case)
    assert again.asked == ["remember"] and again.texts() == ["four", "one", "three", "two"]


@pytest.mark.parametrize("dies", ["before", "after"])
def test_a_run_that_is_killed_in_a_write_has_one_effect_after_its_repeat(run, dies):
    first = run()
    first.remember("one", case="a")
    first.dies = dies
    with pytest.raises(Killed):
        first.remember("two", case="b")
    again = run()
    for text, case in (("one", "a"), ("two", "b")):
        again.remember(text, case=case)
    assert again.texts() == ["one", "two"] and again.asked == ["remember"]


@pytest.mark.parametrize("dies", ["", "before", "after"])
def test_a_repeat_that_says_something_else_replaces_what_was_written(run, dies):
    first = run()
    first.dies = dies
    try:
        first.remember("the first version", case="a")
    except Killed:
        assert dies
    run().remember("the second version", case="a")
    assert run().remember("the second version", case="a").added == 1
    assert first.texts() == ["the second version"]


def test_what_derives_from_a_replaced_item_is_written_again(run):
    first = run()
    (parent,) = first.remember("the first version", case="a").ids
    first.remember("derived", case="a", parents=(parent,))
    again = run()
    (parent,) = again.remember("the second version", case="a").ids
    again.remember("derived", case="a", parents=(parent,))
    assert again.texts() == ["derived", "the second version"]


def test_a_run_that_ends_after_a_replaced_write_leaves_the_next_to_its_repeat(run):
    """What a later write of the case did holds only for what the run before had written."""
    first = run()
    first.remember("of the first version", subject="cust-1")
    first.forget(subject="cust-1")
    run().remember("of the second version", subject="cust-1")
    third = run()
    third.remember("of the second version", subject="cust-1")
    third.forget(subject="cust-1")
    assert third.texts() == []


def test_what_others_did_since_stays_as_it_is(run, tmp_path, store):
    """A repeat neither brings back what was erased since, nor erases what was written since."""
    first = run()
    first.remember("of a customer", case="a", subject="cust-1")
    assert first.forget(subject="cust-2").items == 0
    other = SlotRun(store, tmp_path / "other", slot="answers/acme/20261125T060000Z")
    assert other.forget(subject="cust-1").items == 1
    other.remember("of another customer", subject="cust-2")
    again = run()
    again.remember("of a customer", case="a", subject="cust-1")
    assert again.forget(subject="cust-2").items == 0
    assert again.texts() == ["of another customer"]


def test_a_repeat_does_not_bring_back_documents_that_were_replaced_since(run, tmp_path, store):
    old, new = make_item("the old text"), make_item("the new text")
    first = run().call("add", items=[old], now=NOW)
    SlotRun(store, tmp_path / "other", slot="answers/acme/20261125T060000Z").call("add", items=[new], now=NOW)
    again = run()
    assert again.call("add", items=[old], now=NOW) == first and again.texts() == ["the new text"]


def test_holds_and_purges_are_made_once(run):
    what = {"what": SELECTED, "case": "a"}
    first, again = run(), run()
    first.remember("kept", subject="cust-1")
    told = [first.call("hold", **what), first.call("release", **what)]
    told.append(first.call("purge", now=NOW, keep_versions=2))
    again.remember("kept", subject="cust-1")
    seen = [again.call("hold", **what), again.call("release", **what)]
    assert [*seen, again.call("purge", now=NOW, keep_versions=2)] == told
    assert again.asked == []


def test_a_dry_run_and_a_read_are_no_writes(run):
    first, again = run(), run()
    first.remember("kept", subject="cust-1")
    for one in (first, again):
        assert one.call("forget", what=SELECTED, now=NOW, dry_run=True).items == 1
        assert one.call("count") == 1
    assert again.asked == ["forget", "count"]


def test_other_slots_tenants_and_ids_that_the_caller_chose_are_written_as_they_are(run, tmp_path, store):
    first = run()
    first.remember("it rained")
    first.remember("it rained", tenant="globex")
    SlotRun(store, tmp_path / "log", slot="answers/acme/20261125T060000Z").remember("it rained")
    assert first.texts() == ["it rained"] * 2 and first.texts("globex") == ["it rained"]
    chosen = make_episode("chosen", owner="bob")
    first.call("remember", items=[chosen], budget=Budget(), now=NOW)
    assert chosen.id in {item.id for item in first.items()}


def test_a_write_that_cannot_be_noted_is_not_made(run, monkeypatch):
    first = run()

    def full(_self, _line):
        raise UnavailableError("cannot write: no space left on device")

    monkeypatch.setattr(Lines, "append", full)
    with pytest.raises(UnavailableError):
        first.remember("it rained")
    assert first.asked == [] and first.texts() == []


def test_a_torn_line_of_the_log_is_as_if_it_were_not_written(run, tmp_path):
    first = run()
    first.remember("it rained", case="a")
    (log,) = (tmp_path / "log").rglob(NAME)
    log.write_bytes(log.read_bytes()[:-20])
    again = run()
    again.remember("it rained", case="a")
    assert again.texts() == ["it rained"] and again.asked == ["remember"]


def test_a_log_that_was_changed_by_hand_is_said_to_be(run, tmp_path):
    run().remember("it rained")
    (log,) = (tmp_path / "log").rglob(NAME)
    log.write_bytes(log.read_bytes().replace(b'"added"', b'"adds"'))
    with pytest.raises(CorruptError, match="no result of 'remember'"):
        run().remember("it rained")


def test_the_log_names_no_case_and_no_text(run, tmp_path):
    run().remember("canary text", case="canary-case", subject="canary-subject")
    (log,) = (tmp_path / "log").rglob(NAME)
    assert b"canary" not in log.read_bytes()


def test_two_tasks_over_the_same_rows_do_not_replace_each_other(run):
    """A case that is answered twice in one run goes on counting, and so does its repeat."""
    for one in (run(), run()):
        for text in ("first task", "second task"):
            one.remember(text, case="a")
    assert one.texts() == ["first task", "second task"] and one.asked == []
