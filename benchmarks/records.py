"""Measure the record of calls at a size: `python -m benchmarks.records 10_000_000`. Nothing is asserted."""

from __future__ import annotations

import datetime as dt
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from workbench.records import segments
from workbench.records.calls import Chosen, find_calls, read_calls, scan_calls
from workbench.records.columns import frame_of_lines
from workbench.records.costs import costs_of

#: The calls of a segment of 16 MB.
_EACH = 15_000


def lines(n: int) -> bytes:
    """Return `n` records as they are written, of about 1.1 KB each."""
    shared = {
        "parent": None, "use_case": "answers", "principal": "ada", "assurance": "asserted", "purpose": "job",
        "job": "answers", "run": "", "port": "model", "operation": "chat", "target": "small@1",
        "model": "small@1", "prompt": "answer@2", "outcome": "ok", "error": None, "status": None,
        "streamed": False, "events": 1, "cached_tokens": None, "replayed": False, "source": "model",
        "repaired": False, "degraded": False, "would_refuse": [], "hits": [],
        "labels": {"prompt": "answer@2", "prompt_digest": "ab" * 32, "passages": ["cd" * 16] * 3},
    }  # fmt: skip
    random = np.random.default_rng(7)
    made = []
    for i, seconds in enumerate(random.gamma(2, 0.3, n).round(6).tolist()):
        attempt = {"n": 1, "started_s": 0.0, "waited_s": 0.0, "duration_s": seconds, "outcome": "ok"}
        own = {
            "trace_id": random.bytes(16).hex(), "key": random.bytes(32).hex(), "tenant": f"t{i % 20}",
            "session": f"s{i // 5}", "duration_s": seconds, "first_event_s": seconds / 2,
            "input_tokens": 300 + i % 200, "output_tokens": i % 40, "cost_usd": 0.0001, "attempts": [attempt],
            "at": f"2026-01-01T00:00:00.{i:06}+00:00",
        }  # fmt: skip
        made.append(orjson.dumps({**shared, **own}, option=orjson.OPT_SORT_KEYS))
    return b"\n".join(made) + b"\n"


def fill(path: Path, calls: int) -> str:
    """Write the Parquet files and the open segment of a log of `calls`; return a trace id in its middle."""
    folder = segments.folder_of(path)
    folder.mkdir(parents=True)
    first, _ = frame_of_lines(lines(_EACH))
    random, middle = np.random.default_rng(11), ""
    count = calls // _EACH - 1
    for n in range(count):
        began = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=300 * n / count)
        ids = [random.bytes(16).hex() for _ in range(_EACH)]
        times = pl.lit(began) + pl.duration(milliseconds=pl.int_range(pl.len()) * 10)
        part = first.with_columns(pl.Series("trace_id", ids), times.alias("at"))
        name = f"{began.date()}.{began:%Y-%m-%dT%H%M%S%f}-{n:08x}.0000.parquet"
        segments._write(part, folder / name)
        middle = ids[_EACH // 2] if n == count // 2 else middle
    path.write_bytes(lines(_EACH))
    return middle


def timed(what: str, function: Callable[[], Any], rounds: int = 3) -> None:
    """Print the first and the best time of a function, its least processor time and its rows."""
    times, worked = [], []
    for _ in range(rounds):
        began, cpu = time.perf_counter(), time.process_time()
        result = function()
        times.append(time.perf_counter() - began)
        worked.append(time.process_time() - cpu)
    size = getattr(result, "height", "lazy")
    print(
        f"{what:<44} first {times[0]:.3f} s, best of {rounds} {min(times):.3f} s, "
        f"processor {min(worked):.3f} s, rows {size}",
        flush=True,
    )


def main(calls: int) -> None:
    """Fill a log of `calls` calls in a temporary folder and measure it."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.jsonl"
        began = time.perf_counter()
        trace = fill(path, calls)
        sizes = [file.stat().st_size for file in segments.folder_of(path).iterdir()]
        print(f"{calls:,} calls in {len(sizes) // 2} files, {sum(sizes) / 1e6:,.0f} MB", end="; ")
        print(f"filled in {time.perf_counter() - began:.0f} s")
        timed("ws.calls(): the newest 100,000", lambda: read_calls(path, limit=100_000))
        timed("ws.calls(lazy=True): opened", lambda: scan_calls(path))
        timed("ws.calls(trace=…)", lambda: find_calls(path, trace))
        last = Chosen(since=dt.datetime(2026, 10, 27, tzinfo=dt.UTC))
        timed("ws.calls(since=a day ago, limit=None)", lambda: read_calls(path, last))
        timed("ws.costs(['tenant', 'day'])", lambda: costs_of(scan_calls(path), ["tenant", "day"]), 1)
        lazy = scan_calls(path).filter(pl.col("trace_id") == trace)
        timed("ws.calls(lazy=True).filter(trace_id == …)", lazy.collect, 1)


if __name__ == "__main__":
    main(int(sys.argv[1].replace("_", "")) if len(sys.argv) > 1 else 1_000_000)
