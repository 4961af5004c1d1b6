"""A caller is killed: each answer that it was given has its record, its audit row and its content."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from workbench import layout
from workbench.audit import Chain, Filter, rows_of, verify
from workbench.audit.signing import Signer
from workbench.records.calls import read_calls
from workbench.workspace.opening import content_at

ROOT = Path(__file__).resolve().parents[2]
CALLER = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
import workbench as wb
from workbench.config import ContentKeeping
from workbench.models import ModelCard
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeModel
from workbench.workspace.boundary import Boundary, StatePaths
home = Path({home!r})
places = StatePaths(home=home, keeping=ContentKeeping(keep="30 days"))
boundary = Boundary(home, mode="live", tape=Tape(home / "t"), cards=[ModelCard.unsaved("m")], places=places)
boundary._models["m"] = FakeModel()
ws = wb.connect("answers", root=home, through=boundary).bind(subject="cust-1")
n = 0
while True:
    n += 1
    print(ws.model("m").chat(f"question {{n}}").trace_id, flush=True)
"""


def caller(home: Path) -> subprocess.Popen[bytes]:
    script = CALLER.format(root=str(ROOT), home=str(home))
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)


def killed(process: subprocess.Popen[bytes], *, after: int) -> list[str]:
    """Kill a caller after some answers, and return the trace ids of those that it was given."""
    assert process.stdout is not None
    given = [process.stdout.readline().decode().strip() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    rest = process.communicate()[0].decode()
    assert process.returncode == -signal.SIGKILL
    return given + rest.split("\n")[:-1]  # an incomplete line was not given


def test_an_answer_that_was_given_has_its_record_its_row_and_its_content(tmp_path):
    for name in ("pipelines", "notebooks", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    processes = [caller(tmp_path), caller(tmp_path)]
    given = {
        trace
        for process, after in zip(processes, (40, 60), strict=True)
        for trace in killed(process, after=after)
    }
    audit, keys = tmp_path / layout.AUDIT, tmp_path / layout.AUDIT_KEYS
    rows = {row["metadata"]["uid"]: row for row in rows_of(audit, Filter(action="model.chat"), keys)}
    records = {row["trace_id"]: row for row in read_calls(tmp_path / layout.CALLS, limit=None).to_dicts()}
    kept = {entry.trace_id: entry.id for entry in content_at(tmp_path).entries()}
    assert len(given) >= 100 and given <= set(rows) and given <= set(records) and given <= set(kept)
    assert all(rows[trace]["content"] == kept[trace] == records[trace]["content"] for trace in given)
    assert set(rows) <= set(records)  # a row comes after its record
    chain = Chain(audit, keys)
    chain.append({"activity": "call", "time_dt": max(row["time_dt"] for row in rows.values())})
    chain.close()
    public = tmp_path / "public.pem"
    public.write_bytes(Signer.load(keys).public_pem())
    found = verify(audit, [public])
    assert found.passed, str(found)
