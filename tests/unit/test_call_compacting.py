"""The log of calls is compacted outside of a process that has not loaded polars, which stays small."""

import subprocess
import sys

from workbench.records.segments import folder_of

WRITER = """
import sys, threading
from pathlib import Path
from workbench.records.segments import CallLog
log = CallLog(Path(sys.argv[1]), segment_bytes=2_000)
for n in range(20):
    log.append(b'{"at":"2026-11-28T10:00:00.000000+00:00","input_tokens":%d,"trace_id":"%032x"}' % (n, n))
for thread in threading.enumerate():
    if thread.name == "compact-calls":
        thread.join()
print("polars" in sys.modules)
"""


def test_a_writer_without_polars_compacts_its_log_and_stays_without(tmp_path):
    path = tmp_path / "calls.jsonl"
    done = subprocess.run([sys.executable, "-c", WRITER, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", done.stderr
    assert len(list(folder_of(path).glob("*.parquet"))) == 1
    assert not list(folder_of(path).glob("*.jsonl"))
