"""Forgotten texts leave the journals, under open writers and readers, and nothing else does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journals import TEXT, entry, journal_of, piece

from workbench import layout
from workbench.errors import ConfigError
from workbench.records.journal import Journal, journals_of, purge
from workbench.records.log import read_records

HOLDING = {
    "request": entry("q", content=TEXT),
    "answer": entry("a", said=f"It says: {TEXT}"),
    "arguments of a tool": entry("t", content=json.dumps({"passage": TEXT}, ensure_ascii=False)),
    "arguments in ASCII": entry("t", content=json.dumps({"passage": TEXT})),
    "stream": entry("s", stream=True, events=[piece("It "), *map(piece, TEXT), piece(" so")]),
    "white space around": entry("w", content=f"<passage>{TEXT}</passage>"),
}
OTHERS = [
    entry("other", content="Ann said", said="twice."),
    entry("part", content=TEXT[:-1]),
    entry("cut stream", stream=True, events=[piece("x"), piece(TEXT[:-1])]),
    entry("empty"),
]


@pytest.mark.parametrize("where", HOLDING)
def test_an_entry_with_a_forgotten_text_is_removed_wherever_it_stands_and_no_other(tmp_path, where):
    journal = journal_of(tmp_path / "j", *OTHERS[:2], HOLDING[where], *OTHERS[2:])
    size, inode = (tmp_path / "j").stat().st_size, (tmp_path / "j").stat().st_ino
    given_text = f"\n {TEXT}  " if where == "white space around" else TEXT
    assert purge(journal.path, ["another text", given_text, ""]) == 1
    assert read_records(journal.path) == [json.loads(item.line()) for item in OTHERS]
    assert (size, inode) == ((tmp_path / "j").stat().st_size, (tmp_path / "j").stat().st_ino)
    assert purge(journal.path, [TEXT]) == 0


def test_open_journals_keep_their_offsets_and_take_new_answers(tmp_path):
    gone, mine = HOLDING["request"], journal_of(tmp_path / "j", OTHERS[0], HOLDING["request"], OTHERS[1])
    theirs = Journal(tmp_path / "j")
    assert theirs.get(gone.key) == gone and mine.get(gone.key) == gone
    assert purge(tmp_path / "j", [TEXT]) == 1
    for journal in (mine, theirs, Journal(tmp_path / "j")):
        assert journal.get(gone.key) is None and journal.line(gone.key) is None
        assert [journal.get(item.key) for item in OTHERS[:2]] == OTHERS[:2]
    theirs.append(gone.key, gone.line())
    mine.append(OTHERS[2].key, OTHERS[2].line())
    assert theirs.get(gone.key) == gone and theirs.get(OTHERS[2].key) == OTHERS[2]


def test_nothing_is_touched_without_a_text_or_a_file(tmp_path):
    journal = journal_of(tmp_path / "j", *OTHERS)
    before = journal.path.stat()
    assert purge(journal.path, []) == purge(journal.path, ["", " \n"]) == purge(journal.path, [TEXT]) == 0
    assert journal.path.stat().st_mtime_ns == before.st_mtime_ns
    assert purge(tmp_path / "none", [TEXT]) == 0 and not (tmp_path / "none").exists()


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_a_journal_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "j")
    with pytest.raises(ConfigError, match="not a regular file"):
        purge(tmp_path / "j", [TEXT])


@pytest.mark.parametrize("cut", [60, 120, 1])
def test_an_incomplete_line_of_a_killed_writer_is_removed_too(tmp_path, cut):
    torn = HOLDING["request"].line()[:-cut]
    path = tmp_path / "j"
    path.write_bytes(OTHERS[0].line() + b"\n" + torn)
    holds = json.dumps(TEXT, ensure_ascii=False)[1:-1] in torn.decode()
    assert purge(path, [TEXT]) == holds
    Journal(path).append(OTHERS[1].key, OTHERS[1].line())
    assert [Journal(path).get(item.key) for item in OTHERS[:2]] == OTHERS[:2]


def test_a_line_that_a_killed_purge_left_is_skipped_and_the_next_purge_removes_the_rest(tmp_path):
    gone = HOLDING["request"]
    for cut in (1, 7, 8, 40, 72, 90, len(gone.line()) - 60):
        path = tmp_path / f"cut-{cut}"
        journal = journal_of(path, OTHERS[0], gone, OTHERS[1])
        start = len(OTHERS[0].line()) + 1
        with path.open("r+b") as file:
            file.seek(start)
            file.write(b" " * cut)
        for reader in (journal, Journal(path)):
            assert reader.line(gone.key) is None and reader.get(gone.key) is None
            assert [reader.get(item.key) for item in OTHERS[:2]] == OTHERS[:2]
        holds = json.dumps(TEXT, ensure_ascii=False)[1:-1].encode() in path.read_bytes()
        assert purge(path, [TEXT]) == holds


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)


@given(st.lists(texts, min_size=1, max_size=6, unique=True), st.data())
def test_exactly_the_entries_that_contain_a_text_are_removed(tmp_path_factory, contents, data):
    path = tmp_path_factory.mktemp("any") / "j"
    entries = [entry(str(n), content=content) for n, content in enumerate(contents)]
    journal = journal_of(path, *entries)
    forgotten = data.draw(st.lists(st.sampled_from(contents), max_size=3))
    purge(path, forgotten)
    for item in entries:
        content = item.question.request["messages"][0]["content"]
        if any(text.strip() in content for text in forgotten):
            assert journal.get(item.key) is None
        elif not any(text.strip() in item.line().decode() for text in forgotten):  # not in a name either
            assert journal.get(item.key) == item


def test_many_texts_and_lines_are_searched_in_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.records.journal._BATCH_BYTES", 1_000)
    monkeypatch.setattr("workbench.records.journal._BATCH_FORMS", 7)
    entries = [entry(str(n), content=f"<passage {n}>") for n in range(60)]
    journal = journal_of(tmp_path / "j", *entries)
    assert purge(journal.path, [f"<passage {n}>" for n in range(0, 60, 3)]) == 20
    assert [journal.get(item.key) is None for item in entries] == [n % 3 == 0 for n in range(60)]


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from journals import TEXT, entry
from workbench.records.journal import Journal
journal = Journal(Path(sys.argv[1]))
print("ready", flush=True)
for n in range(1500):
    item = entry(f"n{n}", content=TEXT if n % 3 == 0 else "kept")
    journal.append(item.key, item.line())
    found = journal.get(item.key)
    assert found == item or n % 3 == 0 and found is None, n
    if n > 300 and n % 50 == 0:
        for m in range(0, n, 7):
            item = entry(f"n{m}", content=TEXT if m % 3 == 0 else "kept")
            found = journal.get(item.key)
            assert found == item or m % 3 == 0 and found is None, m
"""


def test_a_writer_in_another_process_loses_no_line_to_purges_at_the_same_time(tmp_path):
    path, support = tmp_path / "j", Path(__file__).resolve().parents[1] / "support"
    command = [sys.executable, "-c", WRITER, str(path), str(support)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        removed, during = 0, 0
        while writer.poll() is None:
            now = purge(path, [TEXT])
            removed, during = removed + now, during + (now > 0)
    assert writer.returncode == 0 and during > 3, "the writer failed, or no purge ran beside it"
    removed += purge(path, [TEXT])
    journal = Journal(path)
    kept = [entry(f"n{n}", content="kept") for n in range(1_500) if n % 3]
    assert [journal.get(item.key) for item in kept] == kept and len(read_records(path)) == 1_000
    assert removed == 500


def test_the_journals_of_a_repository_are_those_of_notebooks_judge_stages_and_job_slots(tmp_path):
    names = [
        layout.JOURNAL,
        layout.JUDGE_JOURNALS / "answers.jsonl",
        layout.JOB_STATE / "a/2026-11-29/1.jsonl",
    ]
    for name in (*names, layout.JOB_STATE / "a/held.parquet", layout.CALLS, layout.STATE / "forgotten.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert journals_of(tmp_path) == sorted(tmp_path / name for name in names)
    assert journals_of(tmp_path / "none") == []
