"""Notes that the ground truth of cases is wrong: strict, bounded, kept by several writers, and checked."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest
from explored_runs import dataset

from workbench.diagnostics.noted_cases import noted_cases
from workbench.errors import ConfigError, NotFoundError
from workbench.experiments.case_notes import (
    MOST_REASON,
    CaseNote,
    add_note,
    content_digest,
    open_notes,
    read_notes,
)
from workbench.experiments.dataset import Dataset
from workbench.layout import case_notes_of

CASES = dataset(3)
PATH = case_notes_of("answers")


def note(case=CASES.cases[0], **fields):
    known = {"reviewer": "ann", "at": "2026-11-24T06:00:00Z", "reason": "the page has changed"}
    return CaseNote(case=case.id, tenant=case.tenant, digest=content_digest(case), **{**known, **fields})


def test_a_note_is_read_as_it_was_written_and_the_same_is_not_written_twice(tmp_path):
    first = add_note(tmp_path, "answers", note())
    again = add_note(tmp_path, "answers", note(at="2026-11-25T06:00:00Z"))
    other = add_note(tmp_path, "answers", note(reviewer="bob"))
    assert again == first and read_notes(tmp_path, "answers") == (first, other)
    assert read_notes(tmp_path, "triage") == ()
    assert [path.name for path in (tmp_path / PATH).parent.iterdir()] == [PATH.name]


def test_a_note_is_open_while_the_case_has_the_content_that_was_noted():
    changed = dataclasses.replace(CASES.cases[0], expected={"answers": ["another"], "page": "holiday"})
    assert open_notes([note()], CASES) == (note(),)
    assert open_notes([note()], Dataset(name="d", cases=(changed, *CASES.cases[1:]))) == ()
    assert open_notes([note()], CASES.cases[1:]) == ()


def test_writers_at_once_keep_each_others_notes(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add_note(tmp_path, "answers", note(reason=f"reason {n}")), range(40)))
    assert {found.reason for found in read_notes(tmp_path, "answers")} == {f"reason {n}" for n in range(40)}


@pytest.mark.parametrize("reason", ["", " \n", "x" * (MOST_REASON + 1), "\ud800"])
def test_a_reason_is_a_text_of_bounded_length(tmp_path, reason):
    with pytest.raises(ConfigError, match="reason"):
        add_note(tmp_path, "answers", note(reason=reason))
    assert not (tmp_path / PATH).exists()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{}", "missing or unknown keys"), ('{"case": "a", "x": 1}', "x"),
        ("<<<<<<< HEAD", "unresolved merge"),
        ('{"case":"a","tenant":"t","digest":"d","reviewer":"r","at":"now","reason":"r"}', "now"),
        ('{"case":1,"tenant":"t","digest":"d","reviewer":"r","at":"now","reason":"r"}', "case"),
    ],
)  # fmt: skip
def test_a_damaged_line_is_named_and_the_file_stays(tmp_path, line, told):
    add_note(tmp_path, "answers", note())
    with (tmp_path / PATH).open("a") as file:
        file.write(line + "\n")
    before = (tmp_path / PATH).read_bytes()
    with pytest.raises(ConfigError, match=told):
        add_note(tmp_path, "answers", note(reason="another"))
    assert (tmp_path / PATH).read_bytes() == before
    (found,) = noted_cases(tmp_path, "answers", lambda: CASES)
    assert told in found.problem and not found.warning


def test_the_check_warns_of_open_notes_alone(tmp_path):
    assert not list(noted_cases(tmp_path, "answers", lambda: CASES))
    add_note(tmp_path, "answers", note())
    (found,) = noted_cases(tmp_path, "answers", lambda: CASES)
    assert found.warning and "q0000 by ann: the page has changed" in found.problem
    (closed,) = noted_cases(tmp_path, "answers", lambda: CASES.of_tenants("globex"))
    assert not closed.problem

    def gone():
        raise NotFoundError("no dataset")

    assert not list(noted_cases(tmp_path, "answers", gone))
