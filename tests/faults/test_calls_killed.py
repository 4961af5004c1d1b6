"""A compaction of the record of calls that is killed at any step neither loses nor doubles a call."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import orjson
from sizes import SEED, SOAK, kill_points

from workbench.records.calls import find_call, read_calls, scan_calls
from workbench.records.log import Lines
from workbench.records.segments import CallLog, compact, folder_of

ROOT = Path(__file__).resolve().parents[2]
CALLS = 600
#: Kills its process before the n-th call of the functions by which a compaction changes the disk.
KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from workbench.records import segments

left = [int(sys.argv[3])]
def deadly(module, name):
    real = getattr(module, name)
    def step(*args, **kwargs):
        if left[0] == 0:
            os.kill(os.getpid(), 9)
        left[0] -= 1
        return real(*args, **kwargs)
    setattr(module, name, step)
for module, name in ((os, "replace"), (os, "fsync"), (Path, "unlink"), (Path, "rename")):
    deadly(module, name)
segments.CallLog(Path(sys.argv[2])).close(now=True)
segments.compact(Path(sys.argv[2]))
print("done")
"""


def trace(n: int) -> str:
    return f"{n * 7_919:016x}{n:016x}"


def write(path: Path, numbers) -> None:
    with Lines(path).writing() as append:
        for n in numbers:
            day = "2026-11-28" if n % CALLS < CALLS // 2 else "2026-11-29"
            fields = {"trace_id": trace(n), "at": f"{day}T10:00:00.000000+00:00", "input_tokens": n}
            append(orjson.dumps({**fields, "labels": {}, "attempts": [], "hits": []}))


def kill_steps(most: int) -> range:
    """Every step, or a third of them, beginning anywhere."""
    return range(most) if SOAK else range(SEED % 3, most, 3)


def numbers(path: Path) -> list[int]:
    """The calls of a log by number: the days of two segments overlap."""
    return sorted(scan_calls(path).select("input_tokens").collect()["input_tokens"].to_list())


def test_a_kill_at_any_step_of_a_compaction_loses_and_doubles_nothing(tmp_path):
    """Each step is killed on what the kill before it left, while calls are added."""
    path, step, total = tmp_path / "state" / "calls.jsonl", 0, 0
    for step in kill_steps(40):
        write(path, range(total, total + CALLS))
        total += CALLS
        command = [sys.executable, "-c", KILLED, str(ROOT), str(path), str(step)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode in {0, -signal.SIGKILL}, ended.stderr
        if step % 3 == 0 or not SOAK:
            assert numbers(path) == list(range(total))
        if ended.returncode == 0:
            break
    assert ended.stdout == "done\n" and step >= 8, "the last run passes all steps"
    assert numbers(path) == list(range(total))
    assert [find_call(path, trace(n))["input_tokens"] for n in (0, CALLS, total - 1)] == [0, CALLS, total - 1]
    names = {name.name for name in folder_of(path).iterdir()}
    assert not {name for name in names if name.endswith(".jsonl")}
    assert {name for name in names if name.startswith(".")} == {".listing", ".compacting"}


def test_a_kill_at_any_step_of_the_first_compaction_is_read_at_once(tmp_path):
    for step in kill_points(range(6)):
        path = tmp_path / str(step) / "calls.jsonl"
        write(path, range(CALLS))
        command = [sys.executable, "-c", KILLED, str(ROOT), str(path), str(step)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        assert numbers(path) == list(range(CALLS))


def test_a_compaction_that_cannot_write_leaves_the_segments_and_reads_them(tmp_path, monkeypatch):
    path = tmp_path / "calls.jsonl"
    write(path, range(CALLS))
    assert CallLog(path).close(now=True)

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("workbench.records.segments.os.replace", full)
        assert numbers(path) == list(range(CALLS)) == read_calls(path)["input_tokens"].to_list()
        assert list(folder_of(path).glob("*.jsonl"))
    assert compact(path) == 1 and numbers(path) == list(range(CALLS))


def test_a_hundred_thousand_calls_of_a_former_version_are_migrated_and_found(tmp_path):
    path, n = tmp_path / "calls.jsonl", 100_000
    made = '{"at":"2026-11-28T10:00:00.000000+00:00","input_tokens":%d,"labels":{"n":%d},"trace_id":"%s"}\n'
    padded = made.replace('"labels"', f'"key":"{"k" * 400}","labels"')
    path.write_text("".join(padded % (i, i, trace(i)) for i in range(n)))
    CallLog(path).append(f'{{"input_tokens":{n},"trace_id":"{trace(n)}"}}'.encode())
    for thread in threading.enumerate():
        if thread.name == "compact-calls":
            thread.join()
    assert not path.exists() and len(list(folder_of(path).glob("*.parquet"))) >= 2
    assert numbers(path) == list(range(n + 1))
    for i in (0, 77_777, n):
        assert find_call(path, trace(i))["input_tokens"] == i
    assert read_calls(path, limit=n + 1).height == n + 1
