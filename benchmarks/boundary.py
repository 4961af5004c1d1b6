"""Measure what a governed call costs: `make bench ARGS=boundary`, with the peers after `make bench-peers`.

Each arm runs in a process of its own (boundary_arms.py) against one fast server, arms in turns and rounds, so
that noise meets all of them. CPU is user and system time of the client's process for a call; the ratio is to
the bare `openai` client of the same run. The least of the rounds counts: other work only adds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.boundary_arms import ARMS, AT_ONCE
from benchmarks.measuring import ROOT, Row
from benchmarks.wire_server import DELAY_S, EVENTS

ROUNDS, CALLS = 3, 1_000
#: What an arm is, and how many calls it makes: some peers take a hundred times as long.
LABELS = {
    "ours_model": "`ws.model().chat_async`",
    "ours_new": "the same with a new question on every call",
    "ours_limited": "the same with two budgets, limits of the run and of the endpoint",
    "ours_all": "these with new questions, four checks of moderation and sealed content",
    "ours_threads": "`ws.model().chat` in 64 threads",
    "ours_openai": "`ws.openai_async()`",
    "aiohttp_bare": "aiohttp alone",
    "litellm": "LiteLLM SDK",
    "langchain": "LangChain",
    "pydantic_ai": "pydantic-ai",
    "mlflow": "MLflow autolog",
    "inspect": "Inspect AI",
}
TARGETS = {
    "ours_model": (0.20, 75),
    "ours_new": (0.20, 75),
    "ours_limited": (0.30, 75),
    "ours_all": (0.30, 75),
    "ours_openai": (0.80, 25),
}
PEERS = ("litellm", "langchain", "pydantic_ai", "mlflow", "inspect")
PEER_CALLS = {"mlflow": 200, "inspect": 200}
FLAT = (1_000, 100_000)


@contextmanager
def server() -> Iterator[str]:
    """The base URL of the fast server, in a process of its own."""
    command = [sys.executable, str(ROOT / "benchmarks" / "wire_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def arm(name: str, url: str, calls: int) -> dict | None:
    """What one arm measured; None where its library is not installed."""
    python = peer_python(name) if name in PEERS else Path(sys.executable)
    if not python.exists():
        return None
    command = [python, ROOT / "benchmarks" / "boundary_arms.py", name, url, str(calls)]
    environment = {
        **os.environ,
        "PYTHONPATH": "" if name in PEERS else str(ROOT),
        "OPENAI_API_KEY": "x",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    done = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    if done.returncode:
        print(f"{name}: {done.stderr.strip()[-400:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def peer_python(name: str) -> Path:
    """The interpreter of a peer's environment: Inspect AI has one of its own."""
    return ROOT / (".venv-peers-inspect" if name == "inspect" else ".venv-peers") / "bin" / "python"


def best(names: Iterator[str] | list[str], url: str, calls: int = CALLS) -> dict[str, dict]:
    """The round of least CPU of each arm, arms in turns."""
    found: dict[str, dict] = {}
    for _ in range(ROUNDS):
        for name in names:
            made = arm(name, url, min(calls, PEER_CALLS.get(name, calls)))
            if made and (name not in found or made["cpu_ms"] < found[name]["cpu_ms"]):
                found[name] = made
    return found


def rows() -> Iterator[Row]:
    """CPU and throughput of each arm, streams, and calls that stay flat."""
    known = {made.__name__ for made in ARMS}
    with server() as url:
        found = best([name for name in ("openai_bare", *LABELS) if name in known], url)
        bare, ideal = found["openai_bare"], AT_ONCE / DELAY_S
        share = bare["calls_s"] / ideal
        yield (
            "the bare `openai` client: CPU a call, calls/s of the ideal",
            f"{bare['cpu_ms']:.2f} ms; {share:.0%}",
            "1x",
        )
        for name, label in LABELS.items():
            if name in found:
                ratio, share = found[name]["cpu_ms"] / bare["cpu_ms"], found[name]["calls_s"] / ideal
                most, least = TARGETS.get(name, (None, None))
                target = "reported" if most is None else f"<= {most:.2f}x, >= {least} %"
                yield f"{label}: CPU a call, calls/s of the ideal", f"{ratio:.2f}x; {share:.0%}", target
        yield from _streamed(url)
        yield from _flat(url)


def _streamed(url: str) -> Iterator[Row]:
    found = best(["openai_stream", "ours_stream", "ours_openai_stream"], url, 300)
    bare = found["openai_stream"]["cpu_ms"]
    yield (
        "a streamed event of the bare `openai` client: CPU",
        f"{bare / len(EVENTS) * 1000:.0f} µs",
        "1x",
    )
    yield (
        "a streamed event of `ws.model().stream_async`",
        f"{found['ours_stream']['cpu_ms'] / bare:.2f}x",
        "<= 0.25x",
    )
    yield (
        "a streamed event of `ws.openai_async()`",
        f"{found['ours_openai_stream']['cpu_ms'] / bare:.2f}x",
        "reported",
    )


def _flat(url: str) -> Iterator[Row]:
    few, many = FLAT
    if "--flat" not in sys.argv:
        return
    made = {count: arm("ours_model", url, count) for count in (few, many)}
    ratio = made[many]["cpu_ms"] / made[few]["cpu_ms"]
    yield (
        f"{many:,} calls against {few:,}: CPU a call, peak memory",
        f"{ratio:.2f}x; {made[many]['peak_mb']:.0f} and {made[few]['peak_mb']:.0f} MB",
        "flat",
    )
