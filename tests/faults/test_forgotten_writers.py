"""Two processes that write what was forgotten, and one that is killed meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from workbench.memory.cipher import IdCipher
from workbench.memory.tombstones import TombstoneLog
from workbench.testing.memory_items import make_item

pytestmark = pytest.mark.faults
KEY = IdCipher(key=b"k" * 64)
WRITER = """
import sys
from pathlib import Path
from workbench.memory.tombstones import TombstoneLog
from workbench.memory.cipher import IdCipher

ledger = TombstoneLog(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    ledger.forget("acme", memory="m", names=IdCipher(key=b"k" * 64), at="", ids=[f"i{number}"])
    print(number, flush=True)
"""


def writer(path, first, last):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first), str(last)], stdout=subprocess.PIPE, text=True
    )


def gone(path, most):
    items = [make_item("x", id=f"i{number}") for number in range(most)]
    return TombstoneLog(path).forgotten("acme", items, memory="m", names=KEY)


def test_two_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "forgotten.jsonl"
    for process in [writer(path, 0, 40), writer(path, 40, 80)]:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert gone(path, 90) == {f"i{number}" for number in range(80)}


def test_what_a_killed_writer_had_acknowledged_stays_forgotten(tmp_path):
    path = tmp_path / "forgotten.jsonl"
    for pause in (0.0, 0.02, 0.05):
        process = writer(path, 0, 10_000)
        process.stdout.readline()
        time.sleep(pause)
        process.kill()
        said = {f"i{line}" for line in process.communicate(timeout=60)[0].split()} | {"i0"}
        assert said <= gone(path, 10_000)
