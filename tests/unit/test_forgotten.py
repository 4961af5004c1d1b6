from __future__ import annotations

import os
import tempfile
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import ConfigError, CorruptError, UnavailableError
from workbench.memory.cipher import IdCipher
from workbench.memory.tombstones import TombstoneLog
from workbench.testing.memory_items import make_item

KEY, OTHER = IdCipher(key=b"k" * 64), IdCipher(key=b"o" * 64)
AT = "2026-01-01T00:00:00Z"


@pytest.fixture
def ledger(tmp_path):
    return TombstoneLog(tmp_path / "state" / "forgotten.jsonl")


def forget(ledger, tenant="acme", *, memory="m", names=KEY, **what):
    ledger.forget(tenant, memory=memory, names=names, at=AT, **what)


def gone(ledger, items, tenant="acme", *, memory="m", names=KEY):
    return ledger.forgotten(tenant, items, memory=memory, names=names)


TAXI = make_item("taxi", source="taxi", subject="ann", id="t")
TRAIN = make_item("train", source="train", id="r")
SUMMARY = make_item("both", source="u", kind="summary", id="s", parents=("t", "r"))
OF_IT = make_item("more", source="u", kind="summary", id="o", parents=("s",))
ALL = [TAXI, TRAIN, SUMMARY, OF_IT]


@pytest.mark.parametrize("what", [{"ids": ["t"]}, {"subject": "ann"}, {"source": "taxi"}])
def test_what_was_forgotten_by_id_subject_or_source_goes_with_all_that_was_made_of_it(ledger, what):
    assert gone(ledger, ALL) == frozenset()
    forget(ledger, **what)
    assert gone(ledger, ALL) == {"t", "s", "o"}
    assert gone(TombstoneLog(ledger.path), ALL) == {"t", "s", "o"}, "it is on the disk"
    assert gone(ledger, [OF_IT]) == frozenset() and gone(ledger, [SUMMARY]) == (
        {"s"} if "ids" in what else set()
    )


def test_another_tenant_another_memory_and_an_item_without_a_subject_are_not_meant(ledger):
    forget(ledger, subject="ann", source="taxi", ids=["t"])
    assert gone(ledger, ALL, "globex") == gone(ledger, ALL, memory="n") == frozenset()
    forget(ledger, subject="", source=None)
    assert gone(ledger, [TRAIN]) == frozenset() and len(ledger.path.read_bytes().splitlines()) == 1


def test_adding_again_brings_back_these_very_items_and_no_others_of_the_source(ledger):
    older = make_item("taxi of old", source="taxi", subject="ann", id="old")
    forget(ledger, source="taxi", ids=["t", "old"])
    assert ledger.admit("acme", [TAXI, TRAIN], memory="m", names=KEY, at=AT) == 1
    assert gone(ledger, [TAXI, older, SUMMARY]) == {"old"}
    size = ledger.path.stat().st_size
    assert ledger.admit("acme", [TAXI, TRAIN], memory="m", names=KEY, at=AT) == 0
    assert ledger.path.stat().st_size == size, "what was not forgotten leaves no line"
    forget(ledger, subject="ann")
    assert gone(ledger, [TAXI, older]) == {"t", "old"}, "the last word counts"


def test_the_marks_are_the_same_object_until_the_file_changes(ledger):
    nothing = ledger.marks(KEY)
    assert ledger.marks(KEY) is nothing
    forget(ledger, ids=["t"])
    marks = ledger.marks(KEY)
    assert marks is not nothing and ledger.marks(KEY) is marks
    forget(TombstoneLog(ledger.path), ids=["r"])
    assert ledger.marks(KEY) is not marks


def test_nothing_in_the_file_names_anybody(ledger):
    forget(ledger, "tenant-canary", ids=["id-canary"], subject="subject-canary", source="source-canary")
    text = ledger.path.read_text()
    assert "canary" not in text and set(orjson.loads(text)) == {"at", "key", "verb", "digests"}
    assert oct(ledger.path.stat().st_mode & 0o777) == "0o600"


def test_another_key_is_refused_for_reading_and_for_writing(ledger):
    forget(ledger, ids=["t"])
    before = ledger.path.read_bytes()
    for act in (lambda: gone(ledger, ALL, names=OTHER), lambda: forget(ledger, ids=["r"], names=OTHER)):
        with pytest.raises(ConfigError, match="another key") as caught:
            act()
        assert "backup" in caught.value.hint
    assert ledger.path.read_bytes() == before


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]", b'{"at": "x"}', b"\xff", b"", b'{"at":"","digests":["zz"],"key":"k","verb":"forget"}',
     b'{"at":"","digests":[],"key":"k","verb":"remember"}'],
)  # fmt: skip
def test_a_whole_line_that_is_not_as_it_was_written_is_an_error_with_its_number(ledger, line):
    forget(ledger, ids=["t"])
    ledger.path.write_bytes(ledger.path.read_bytes() + line + b"\n")
    for act in (lambda: gone(ledger, ALL), lambda: forget(ledger, ids=["r"])):
        with pytest.raises(CorruptError, match=r"forgotten\.jsonl:2"):
            act()


@settings(max_examples=30)
@given(cut=st.integers(1, 300))
def test_a_last_line_that_was_cut_off_counts_for_nothing_and_the_next_takes_its_place(tmp_path_factory, cut):
    ledger = TombstoneLog(tmp_path_factory.mktemp("cut") / "forgotten.jsonl")
    forget(ledger, ids=["t"])
    whole = ledger.path.read_bytes()
    forget(ledger, ids=["r"])
    both = ledger.path.read_bytes()
    ledger.path.write_bytes(both[: max(len(whole), len(both) - cut)])
    assert gone(ledger, [TAXI, TRAIN]) == {"t"}
    forget(ledger, ids=["r"])
    assert ledger.path.read_bytes() == both and gone(ledger, [TAXI, TRAIN]) == {"t", "r"}


def test_a_line_that_does_not_fit_on_the_disk_is_taken_back_and_said(ledger, monkeypatch):
    forget(ledger, ids=["t"])
    before = ledger.path.read_bytes()
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:5]) if len(data) > 50 else full())

    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", lambda fd: full())
    with pytest.raises(UnavailableError, match="No space"):
        forget(ledger, ids=["r"])
    assert ledger.path.read_bytes() == before


older = st.fixed_dictionaries(
    {}, optional={"b": st.just("a"), "c": st.sampled_from("ab"), "d": st.sampled_from("abc")}
)
acts = st.lists(st.tuples(st.sampled_from(["forget", "admit"]), st.sampled_from("abcd")), max_size=12)


@given(acts=acts, parents=older)
def test_what_comes_back_is_what_the_last_word_on_it_and_on_its_parents_allows(acts, parents):
    items = [make_item(one, id=one, parents=(parents[one],) if one in parents else ()) for one in "abcd"]
    with tempfile.TemporaryDirectory() as folder:
        ledger = TombstoneLog(Path(folder) / "forgotten.jsonl")
        for verb, one in acts:
            if verb == "forget":
                forget(ledger, ids=[one])
            else:
                ledger.keep("acme", [one], memory="m", names=KEY, at=AT)
        went = gone(ledger, items)
    forgotten = {one: n for n, (verb, one) in enumerate(acts, start=1) if verb == "forget"}
    admitted = {one: n for n, (verb, one) in enumerate(acts, start=1) if verb == "admit"}

    def since(one):
        """The last word against it or against what it was made of, as far as that is gone itself."""
        parent = parents.get(one)
        inherited = since(parent) if parent and gone_for_good(parent) else 0
        return max(forgotten.get(one, 0), inherited)

    def gone_for_good(one):
        return since(one) > admitted.get(one, 0)

    assert went == {one for one in "abcd" if gone_for_good(one)}
