from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import subprocess
import sys
import threading

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from journals import entry

from workbench import locking
from workbench.errors import UnavailableError
from workbench.records.confirmed import Confirmed, Summary, answers_of
from workbench.records.log import Lines, read_records

DAY = dt.datetime(2026, 11, 29, 23, 41, 19, 500_000, tzinfo=dt.UTC)
EARLIER = DAY - dt.timedelta(days=400)


@pytest.fixture
def log(tmp_path):
    return Confirmed(tmp_path / "state" / "confirmed.jsonl")


def test_a_line_holds_key_utc_second_way_and_outcome(log):
    log.note(["k"], how="asked", at=DAY.astimezone(dt.timezone(dt.timedelta(hours=2))))
    assert read_records(log.path) == [
        {"key": "k", "at": "2026-11-29T23:41:19Z", "how": "asked", "same": True}
    ]
    log.note([], how="again", at=DAY)
    assert len(read_records(log.path)) == 1


def test_without_a_file_nothing_is_confirmed_and_no_file_is_made(log):
    assert log.of(["a", "b"]) == Summary(n=0) and log.outcomes(["a"]) == {} and not log.path.exists()


def test_the_newest_line_of_a_key_decides(log):
    log.note(["a", "b", "c", "c"], how="asked", at=DAY)
    log.note(["b"], how="again", at=DAY, same=False)
    log.note(["other"], how="again", at=DAY + dt.timedelta(days=9))
    assert log.of(["a", "b", "c", "d", "a"]) == Summary(n=2, last_at="2026-11-29T23:41:19Z", different=1)
    assert log.outcomes("abcd") == {"a": True, "b": False, "c": True}
    log.note(["b"], how="asked", at=DAY)
    assert log.of("abcd") == Summary(n=3, last_at="2026-11-29T23:41:19Z")


def test_a_clock_that_is_set_back_or_stands_does_not_change_which_line_is_the_newest(log):
    log.note(["a", "b"], how="asked", at=DAY)
    log.note(["a"], how="again", at=DAY, same=False)
    log.note(["b"], how="again", at=EARLIER, same=False)
    assert log.of("ab") == Summary(n=0, different=2)
    log.note(["b"], how="again", at=EARLIER)
    assert log.of("ab") == Summary(n=1, last_at="2025-10-25T23:41:19Z", different=1)


def test_a_recording_that_was_replaced_since_is_not_confirmed(log):
    old, new = {"a": "digest 1", "b": "digest 2"}, {"a": "digest 1", "b": "digest 3"}
    log.note(old, how="asked", at=DAY)
    assert (log.of(old).n, log.of(new), log.of("ab").n) == (
        2,
        Summary(n=1, last_at="2026-11-29T23:41:19Z"),
        2,
    )
    assert log.outcomes(new) == {"a": True}
    log.note({"b": "digest 3"}, how="again", at=DAY, same=False)
    assert (log.of(new).n, log.of(new).different, log.of(old).n, log.of(old).different) == (1, 1, 1, 0)
    log.note(["b"], how="again", at=DAY)  # without a digest a line is of any answer
    assert (log.of(new).n, log.of(old).n) == (2, 2)


def test_the_digest_of_an_answer_is_of_its_result_and_not_of_its_time():
    entries = [entry("a", said="yes"), entry("b", said="yes"), entry("c", said="no")]
    slower = [dataclasses.replace(item, latency_s=9.0, processor={"type": "other"}) for item in entries]
    digests = answers_of(entries)
    assert answers_of(slower) == digests and list(digests) == [item.key for item in entries]
    assert len(set(digests.values())) == 2


@pytest.mark.parametrize(
    ("summary", "total", "text"),
    [
        (
            Summary(n=188, last_at="2026-11-29T23:41:19Z"), 188,
            "188 of 188 judged answers were confirmed live on this machine, last on 2026-11-29",
        ),
        (
            Summary(n=0), 188,
            "none of the 188 judged answers was ever confirmed live on this machine: make repro LIVE=1",
        ),
        (
            Summary(n=1, last_at="2026-11-29T23:41:19Z"), 188,
            (
"1 of 188 judged answers was confirmed live on this machine, last on 2026-11-29: "
            "make repro LIVE=1"
),
        ),
        (
            Summary(n=185, last_at="2026-11-29T23:41:19Z", different=3), 188,
            (
"185 of 188 judged answers were confirmed live on this machine, last on 2026-11-29; "
            "3 answered differently when asked again: make repro LIVE=1"
),
        ),
        (
            Summary(n=0, different=2), 2,
            (
"none of the 2 judged answers was ever confirmed live on this machine; "
            "2 answered differently when asked again: make repro LIVE=1"
),
        ),
        (Summary(n=0), 0, "there are no judged answers to confirm live"),
    ],
)  # fmt: skip
def test_a_summary_is_one_sentence_with_the_command_that_confirms_the_others(summary, total, text):
    assert summary.text(total) == text


DAMAGED = [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b'"text"', b"   ", b'{"key":"a"}',
    b'{"key":1,"at":"2026-11-29T23:41:19Z","how":"asked","same":false}',
    b'{"key":"a","at":"yesterday","how":"asked","same":false}',
    b'{"key":"a","at":1,"how":"asked","same":false}',
    b'{"key":"a","at":"2026-11-29T23:41:19Z","how":"guessed","same":false}',
    b'{"key":"a","at":"2026-11-29T23:41:19Z","how":["asked"],"same":false}',
    b'{"key":"a","at":"2026-11-29T23:41:19Z","how":"asked","same":0}',
    b'{"key":"a","at":"2026-11-29T23:41:19Z","how":"asked","same":false,"answer":1}',
    b"[" * 5_000,
]  # fmt: skip


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_line_is_skipped(log, line):
    log.note(["a"], how="asked", at=DAY)
    with log.path.open("ab") as file:
        file.write(line + b"\n")
    log.note(["b"], how="asked", at=DAY)
    assert log.of("ab").n == 2


@given(cut=st.integers(0, 250))
def test_a_file_cut_at_any_byte_loses_the_cut_line_alone(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("cut")
    log = Confirmed(folder / "c.jsonl")
    log.note(["a", "b", "c"], how="asked", at=DAY)
    data = log.path.read_bytes()
    log.path.write_bytes(data[:cut])
    assert log.of("abc").n in {data[:cut].count(b"\n"), data[: cut + 1].count(b"\n")}
    before = log.of("abc").n
    log.note(["d"], how="asked", at=DAY)
    assert log.of("abcd").n == before + 1


def test_a_log_of_many_rounds_stays_a_few_times_as_large_as_its_keys_and_says_the_same(log):
    keys = [f"{n:064}" for n in range(200)]
    for number in range(40):
        log.note(keys[:100], how="again", at=EARLIER, same=number % 2 == 0)
        log.note(keys[100:], how="again", at=DAY, same=number % 2 == 1)
        assert len(read_records(log.path)) <= 4 * 200 + 100
    assert log.of(keys) == Summary(n=100, last_at="2026-11-29T23:41:19Z", different=100)
    assert log.outcomes(keys) == dict.fromkeys(keys[:100], False) | dict.fromkeys(keys[100:], True)
    assert [path.name for path in log.path.parent.iterdir()] == ["confirmed.jsonl"]


NOTES = """
import datetime as dt, sys
from pathlib import Path
from workbench.records import confirmed
confirmed._SMALL_BYTES = 300
log = confirmed.Confirmed(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for n in range(600):
    log.note([f"{sys.argv[2]}{n // 10}"], how="again", at=dt.datetime.now(dt.UTC), same=n % 10 == 9)
"""


def test_two_processes_that_note_and_compact_at_once_lose_no_line(log):
    log.path.parent.mkdir()
    both, pipe = ("first", "second"), subprocess.PIPE
    writers = [
        subprocess.Popen([sys.executable, "-c", NOTES, str(log.path), name], stdin=pipe, stdout=pipe)
        for name in both
    ]
    assert [writer.stdout.readline() for writer in writers] == [b"ready\n"] * 2
    for writer in writers:
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=100)
    assert [writer.returncode for writer in writers] == [0, 0]
    summary = log.of([f"{name}{n}" for name, n in itertools.product(both, range(60))])
    assert (summary.n, summary.different) == (120, 0)
    assert len(read_records(log.path)) < 1_200  # it was compacted under both writers
    assert all(orjson.loads(line) for line in log.path.read_bytes().splitlines())


def test_a_writer_that_waited_while_the_file_was_replaced_writes_to_the_new_file(tmp_path):
    writer, path = Lines(tmp_path / "log"), tmp_path / "log"
    writer.append(b"1")
    with path.open("ab") as other, locking.held(other.fileno()):
        thread = threading.Thread(target=writer.append, args=(b"3",))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        (tmp_path / "new").write_bytes(b"2\n")
        (tmp_path / "new").rename(path)
    thread.join(10)
    assert path.read_bytes() == b"2\n3\n"


def test_a_log_that_cannot_be_written_is_one_clear_error(log):
    log.path.parent.write_text("a file")
    with pytest.raises(UnavailableError, match="cannot write"):
        log.note(["a"], how="asked", at=DAY)
