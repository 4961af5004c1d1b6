"""The audit log and sealed content: what a row takes, what sealing takes, and how fast a log is verified."""

from __future__ import annotations

import datetime as dt
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

from benchmarks.measuring import Row
from workbench.audit import CallAudit, Chain, ChainOptions, verify
from workbench.audit.signing import Signer
from workbench.content import ContentKeys, ContentStore

FSYNC: Final[tuple[Literal["off", "batch", "each"], ...]] = ("off", "batch", "each")
RECORD: dict[str, Any] = {
    "trace_id": "ab" * 16, "at": "2026-11-30T09:00:00.000000+00:00", "principal": "ada", "tenant": "acme",
    "assurance": "asserted", "use_case": "answers", "port": "model", "operation": "chat", "target": "small@1",
    "model": "small@1", "outcome": "ok", "purpose": "explore", "input_tokens": 300, "output_tokens": 30,
    "cost_usd": 0.0001, "source": "model", "key": "cd" * 32, "prompt": "answer@2", "data_class": "personal",
    "findings": [{"kind": "person", "count": 2}],
    "decision": {"id": "0" * 16, "allowed": True, "policies": ["ask-models"], "policy_set": "0" * 12},
}  # fmt: skip


def each(what: Callable[[], object], n: int) -> str:
    """Return the microseconds of CPU of this process and of wall clock that one call takes."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(n):
        what()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return f"{cpu / n * 1e6:.1f} µs CPU, {wall / n * 1e6:.1f} µs"


def appended(folder: Path, n: int, options: ChainOptions) -> str:
    """Return what a row takes, with its checkpoints."""
    audit = CallAudit(Chain(folder / "audit", folder / "keys", options))

    def one() -> None:
        audit.open()
        audit(RECORD)

    found = each(one, n)
    audit.chain.close()
    return found


def sealed(folder: Path, n: int) -> str:
    """Return what sealing 2 KB takes."""
    store = ContentStore(folder / "content", ContentKeys(folder / "content-keys"))
    content = {"principal": "ada", "operation": "chat", "request": "x" * 1_500, "answer": "y" * 500}
    known = {"use_case": "answers", "tenant": "acme", "trace_id": "t", "data_class": "", "at": "x"}
    day = dt.date(2026, 12, 30)
    return each(lambda: store.seal(content, subject="cust-1", expires=day, **known), n)


def rows(n: int = 20_000) -> Iterator[Row]:
    """The rows of the table, each when it has been measured."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        for fsync in FSYNC:
            few = n if fsync != "each" else min(n, 500)
            yield f"a row, `fsync: {fsync}`", appended(root / fsync, few, ChainOptions(fsync=fsync)), ""
        yield "content of 2 KB, sealed", sealed(root, n // 4), ""
        key = root / "public.pem"
        key.write_bytes(Signer.load(root / "batch" / "keys").public_pem())
        began = time.perf_counter()
        found = verify(root / "batch" / "audit", [key])
        took = time.perf_counter() - began
        yield "rows that are verified in a second", f"{found.rows / took:,.0f}", ""
