"""The record of calls in segments: one open, closed ones compacted to Parquet, read as one log."""

import datetime as dt
import json
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import orjson
import polars as pl
import pytest

from workbench.errors import CorruptError, UnavailableError
from workbench.records import traces
from workbench.records.calls import (
    Chosen,
    find_call,
    find_calls,
    intact,
    newest_calls,
    read_calls,
    scan_calls,
)
from workbench.records.columns import columns, frame_of_lines
from workbench.records.log import Lines
from workbench.records.segments import CallLog, compact, folder_of, purge, segments

BEGAN = dt.datetime(2026, 11, 28, 23, 50, tzinfo=dt.UTC)
ONCE = 200


def record(n: int, **facts) -> dict:
    at = BEGAN + dt.timedelta(minutes=n / 100)
    return {
        "trace_id": f"{n * 0x9E3779B97F4A7C15 % (1 << 64):016x}{n:016x}", "parent": None,
        "at": at.isoformat(timespec="microseconds"), "use_case": "answers", "tenant": f"t{n % 3}",
        "port": "model", "operation": "chat", "target": "small@1", "outcome": "ok", "session": "",
        "replayed": False, "source": "model", "input_tokens": n, "output_tokens": 1, "cost_usd": 0.5,
        "labels": {"n": n}, "hits": [], "attempts": [{"n": 1, "outcome": "ok", "cost_usd": 0.5}], **facts,
    }  # fmt: skip


def line(n: int, **facts) -> bytes:
    return orjson.dumps(record(n, **facts), option=orjson.OPT_SORT_KEYS)


def write(path: Path, numbers, *, close: bool = True) -> None:
    log = CallLog(path)
    with log._lines.writing() as append:
        for n in numbers:
            append(line(n))
    if close:
        assert log.close(now=True)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "state" / "calls.jsonl"


def tokens(frame: pl.DataFrame) -> list[int]:
    return frame["input_tokens"].to_list()


def test_a_log_reads_the_same_before_and_after_it_is_compacted(path):
    write(path, range(ONCE), close=False)
    open_frame = read_calls(path)
    assert CallLog(path).close(now=True) and not path.exists()
    assert compact(path) == 1 and compact(path) == 0
    write(path, range(ONCE, ONCE + 5), close=False)
    assert read_calls(path).head(ONCE).equals(open_frame, null_equal=True)
    assert tokens(read_calls(path)) == list(range(ONCE + 5)) == tokens(scan_calls(path).collect())
    assert read_calls(path).schema == pl.Schema(columns())


def test_parquet_is_by_day_and_the_folder_is_private(path):
    write(path, range(2_000))
    compact(path)
    days = [name.name[:10] for name in sorted(folder_of(path).glob("*.parquet"))]
    assert days == ["2026-11-28", "2026-11-29"]
    assert {name.stat().st_mode & 0o077 for name in folder_of(path).glob("*.parquet")} == {0}
    assert tokens(read_calls(path)) == list(range(2_000))


def test_a_segment_ends_at_its_size_and_is_compacted(path):
    log = CallLog(path, segment_bytes=20_000)
    for n in range(ONCE):
        log.append(line(n, at=dt.datetime.now(dt.UTC).isoformat()))
    for thread in threading.enumerate():
        if thread.name == "compact-calls":
            thread.join()
    assert len(list(folder_of(path).glob("*.parquet"))) >= 3
    assert sorted(tokens(read_calls(path))) == list(range(ONCE))


def test_a_segment_ends_with_its_day(path):
    late, early = "2026-11-28T23:59:59.000000+00:00", "2026-11-29T00:00:01.000000+00:00"
    first, other = CallLog(path), CallLog(path)
    first.append(line(1, at=late))
    first.append(line(2, at=late))
    assert len(path.read_bytes().splitlines()) == 2
    first.append(line(3, at=early))
    for thread in threading.enumerate():
        if thread.name == "compact-calls":
            thread.join()
    assert not path.exists() and len(list(folder_of(path).glob("*.parquet"))) == 2
    for n, at in ((4, early), (5, late), (6, early)):  # a call may begin before midnight and end after it
        first.append(line(n, at=at))
        other.append(line(n + 10, at=at))
    assert len(path.read_bytes().splitlines()) == 6
    assert tokens(read_calls(path)) == [1, 2, 3, 4, 14, 5, 15, 6, 16]


def test_a_segment_that_ends_while_the_interpreter_does_fails_no_call(path, monkeypatch):
    def start(_thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)
    log = CallLog(path, segment_bytes=10)
    for n in range(3):
        log.append(line(n))
    assert tokens(read_calls(path)) == [0, 1, 2]


@pytest.mark.parametrize("error", [OSError(28, "full"), pl.exceptions.ComputeError("odd")])
def test_a_parquet_file_that_cannot_be_written_is_left_for_later(path, monkeypatch, error):
    write(path, range(3))

    def write_parquet(*_args, **_kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(pl.DataFrame, "write_parquet", write_parquet)
        assert tokens(read_calls(path)) == [0, 1, 2] and segments(path).parquet == ()
        with pytest.raises(UnavailableError, match="cannot write"):
            compact(path)
    assert compact(path) == 1 and tokens(read_calls(path)) == [0, 1, 2]


def test_a_segment_that_is_not_removed_yet_counts_once(path):
    """As after a kill between the Parquet files and the removal of their segment."""
    write(path, range(ONCE))
    (segment,) = folder_of(path).glob("*.jsonl")
    kept = segment.read_bytes()
    compact(path)
    segment.write_bytes(kept)
    assert len(segments(path).parquet) == 0
    assert tokens(read_calls(path)) == list(range(ONCE))
    assert not segment.exists()


def test_a_former_version_that_holds_a_closed_segment_loses_nothing(path):
    """Its writer looks only at whether its file was deleted."""
    former = Lines(path)
    former._is_current = lambda: former._fd is not None and _links(former._fd) > 0
    former.append(line(0))
    assert CallLog(path).close(now=True)
    former.append(line(1))
    assert tokens(read_calls(path)) == [0, 1]
    former.append(line(2))
    assert tokens(read_calls(path)) == [0, 1, 2] and path.exists()


def _links(descriptor: int) -> int:
    import os

    return os.fstat(descriptor).st_nlink


def test_torn_lines_are_dropped_and_lines_that_do_not_fit_are_kept_beside(path):
    path.parent.mkdir()
    odd = json.dumps({**record(1), "input_tokens": "many"}).encode()
    path.write_bytes(b"\n".join([line(0), odd, b"[]", line(2), line(3)[:40]]))
    assert tokens(read_calls(path)) == [0, None, 2]
    assert CallLog(path).close(now=True)
    assert tokens(read_calls(path)) == [0, None, 2] and find_call(path, record(1)["trace_id"])
    (kept,) = folder_of(path).glob("*.odd")
    assert kept.read_bytes().splitlines() == [odd, b"[]", line(3)[:40]]
    purge(path, dt.date(2999, 1, 1))
    assert {name.name for name in folder_of(path).iterdir()} == {".listing", ".compacting"}


def test_a_trace_is_found_in_every_part_of_the_log(path):
    for first in range(0, 3 * ONCE, ONCE):
        write(path, range(first, first + ONCE), close=first < 2 * ONCE)
    compact(path)
    for n in (0, 1, ONCE - 1, ONCE, 2 * ONCE, 3 * ONCE - 1):
        found = find_call(path, record(n)["trace_id"])
        assert found["input_tokens"] == n and found["labels"] == {"n": n} and found["at"] == record(n)["at"]
        assert find_calls(path, record(n)["trace_id"]).height == 1
    assert [find_call(path, trace) for trace in ("1" * 32, "", "'; --")] == [None] * 3
    other = Chosen(tenants=frozenset({("answers", "t1")}))
    assert [find_calls(path, record(n)["trace_id"], other).height for n in range(3)] == [0, 1, 0]


def test_a_trace_is_found_without_its_index(path):
    write(path, range(ONCE))
    compact(path)
    for index in folder_of(path).glob("*.traces"):
        index.unlink()
    assert find_call(path, record(7)["trace_id"])["input_tokens"] == 7


def test_a_trace_is_found_with_a_truncated_index(path):
    write(path, range(ONCE))
    compact(path)
    for index in folder_of(path).glob("*.traces"):
        index.write_bytes(index.read_bytes()[:-5])
    assert find_call(path, record(7)["trace_id"])["input_tokens"] == 7


@pytest.mark.timeout(20)
@pytest.mark.parametrize("trace", ["", "\n", " ", "a\nb", "\udcff", "é" * 16, "x" * 1_000])
def test_a_text_that_cannot_be_a_trace_id_has_no_calls(path, trace):
    write(path, range(3))
    compact(path)
    write(path, range(3, 6), close=False)
    assert find_calls(path, trace).is_empty() and find_call(path, trace) is None


def test_a_damaged_parquet_file_is_named_with_what_to_type(path):
    write(path, range(2_000))
    compact(path)
    write(path, range(2_000, 2_003), close=False)
    first, *_ = sorted(folder_of(path).glob("*.parquet"))
    whole = first.read_bytes()
    reads = (
        lambda: read_calls(path),
        lambda: newest_calls(path, limit=2_000),
        lambda: find_calls(path, record(0)["trace_id"]),
    )
    for damaged in (b"", whole[:-40], b"PAR1" + b"\0" * (len(whole) - 40) + whole[-36:]):
        first.write_bytes(damaged)
        for read in reads:
            with pytest.raises(CorruptError, match=first.name) as caught:
                read()
            assert caught.value.hint.endswith(f"mv {first} /tmp/")
    first.unlink()
    assert tokens(newest_calls(path, limit=3)[0]) == [2_000, 2_001, 2_002]


def test_calls_that_are_purged_while_they_are_read_say_so(path):
    write(path, range(10))
    compact(path)
    scanned = scan_calls(path)
    purge(path, dt.date(2999, 1, 1))
    with pytest.raises(UnavailableError, match="removed while"), intact(path):
        scanned.collect()


def test_an_index_finds_equal_keys_and_odd_ids(tmp_path):
    ids = ["ab" * 16, "ab" * 8 + "cd" * 8, None, "no trace", "ff" * 16, "ab" * 16]
    (tmp_path / "i").write_bytes(traces.index_of(ids))
    assert traces.count(tmp_path / "i") == len(ids)
    assert traces.rows_of(tmp_path / "i", "ab" * 16) == [0, 1, 5]
    found = [traces.rows_of(tmp_path / "i", trace) for trace in ("no trace", "ff" * 16, "11" * 16)]
    assert found == [[3], [4], []]


def test_the_newest_calls_are_read_and_a_warning_says_that_there_are_older_ones(path):
    for first in range(0, 20 * 10, 10):
        write(path, range(first, first + 10))
    with pytest.warns(UserWarning, match="newest 25 calls"):
        assert tokens(read_calls(path, limit=25)) == list(range(175, 200))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tokens(read_calls(path, limit=200)) == list(range(200))
        assert read_calls(path, Chosen(tenant="t1"), limit=100)["tenant"].unique().to_list() == ["t1"]


def test_calls_are_chosen_by_tenant_session_and_time(path):
    write(path, range(1_200))
    compact(path)
    write(path, range(1_200, 1_203), close=False)
    Lines(path).append(line(1_203, session="s-1"))
    since = BEGAN + dt.timedelta(minutes=11)
    assert tokens(read_calls(path, Chosen(since=since))) == list(range(1_100, 1_204))
    assert tokens(read_calls(path, Chosen(session="s-1"))) == [1_203]
    assert read_calls(path, Chosen(hidden=frozenset({"answers"}))).is_empty()
    assert set(read_calls(path, Chosen(tenants=frozenset()))["tenant"]) == set()


def test_parquet_of_a_former_version_lacks_columns_and_fields(path):
    write(path, range(3))
    compact(path)
    (parquet,) = folder_of(path).glob("*.parquet")
    former = pl.read_parquet(parquet).drop("session", "saved_usd")
    fields = pl.col("attempts").list.eval(pl.struct(pl.element().struct.field("n"), pl.lit(1).alias("later")))
    former.with_columns(fields, pl.lit("x").alias("later")).write_parquet(parquet)
    frame = read_calls(path)
    assert frame.schema == pl.Schema(columns()) and tokens(frame) == [0, 1, 2]
    assert frame["attempts"].to_list()[0][0]["outcome"] is None


def test_purge_removes_whole_days_before_one(path):
    write(path, range(2_000), close=False)
    later = sum(record(n)["at"] >= "2026-11-29" for n in range(2_000))
    assert purge(path, dt.date(2026, 11, 29)) == 2_000 - later
    assert read_calls(path)["at"].min().date() == dt.date(2026, 11, 29) and read_calls(path).height == later
    assert purge(path, dt.date(2026, 11, 29)) == 0


WRITER = """
import sys; sys.path[:0] = [{root!r}, {here!r}]
from test_call_segments import line
from workbench.records.segments import CallLog
from pathlib import Path
import datetime as dt
log = CallLog(Path({path!r}), segment_bytes=15_000)
for n in range({first}, {first} + 250):
    log.append(line(n, at=dt.datetime.now(dt.UTC).isoformat()))
"""


def test_two_processes_and_a_reader_at_once_lose_and_double_nothing(path):
    root, here = str(Path(__file__).parents[2]), str(Path(__file__).parent)
    scripts = [WRITER.format(root=root, here=here, path=str(path), first=first) for first in (0, 250)]
    writers = [subprocess.Popen([sys.executable, "-c", script]) for script in scripts]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        found = tokens(read_calls(path))
        assert len(found) == len(set(found)) >= seen
        seen = len(found)
        time.sleep(0.02)
    assert [writer.wait() for writer in writers] == [0, 0]
    assert sorted(tokens(read_calls(path))) == list(range(500))
    assert len(list(folder_of(path).glob("*.parquet"))) > 5


def test_no_line_is_an_empty_frame():
    frame, odd = frame_of_lines(b"")
    assert frame.is_empty() and frame.schema == pl.Schema(columns()) and not odd
