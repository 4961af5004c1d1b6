"""Measure the gateway as a server: requests a second and core, added time, and memory over many requests.

Each gateway runs on the first core; the upstream (wire_server.py) and the client share the second one. All
controls of ours are on: two budgets, limits of a run, four checks of moderation, sealed content, audit, and
each question is new. LiteLLM's proxy checks its master key and has neither database nor budgets. The arms run
in turns and rounds, and the least of the rounds counts: other work only adds. Requests a second of a core are
those of its CPU time, which does not depend on who else uses the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from benchmarks.boundary import peer_python, server
from benchmarks.measuring import ROOT, Row

ROUNDS = 3
AT_ONCE = 16
#: Requests of a round, and those one after another whose times are compared.
REQUESTS = {"ours": 2_000, "litellm": 200}
ONE_BY_ONE = {"direct": 1_000, "ours": 1_000, "litellm": 100}
#: Requests over which memory is watched, and how many between two looks.
WATCHED, BETWEEN = 100_000, 10_000
_LATE_S = 120
_PROXY = """
model_list: [{model_name: m, litellm_params: {model: openai/m, api_base: "%s", api_key: x}}]
general_settings: {master_key: sk-bench}
"""

_FOLDERS = ("pipelines", "data/handbook")
_CHECKS = [
    {"check": "instructions", "direction": "in", "severity": "refuse"},
    {"check": "characters", "direction": "in", "severity": "refuse"},
    {"check": "exfiltration", "direction": "out", "severity": "refuse"},
    {"check": "prompt_leak", "direction": "out", "severity": "refuse"},
]
_BUDGETS = {
    "month": {"usd": 1_000_000, "per": ["tenant", "month"]},
    "day": {"tokens": 10**9, "calls": 10**9, "per": ["principal", "day"]},
}


def repository(folder: Path, url: str) -> Path:
    """A repository whose use case asks the server at `url` with every control: budgets, limits, checks."""
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, folder / name)
    (folder / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks/answers.ipynb", folder / "notebooks/answers.ipynb")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    case = {**params["use_cases"]["answers"]}
    case |= {
        "model": "m", "provider": "openai", "base_url": url, "api_key_env": "BENCH_KEY",
        "price_per_million": {"input_usd": 0.1, "output_usd": 0.2},
        "limits": {"calls": 10**9, "tokens": 10**12, "usd": 10**9, "seconds": 10**6},
        "moderation": {"checks": _CHECKS}, "content": {"keep": "30 days"},
    }  # fmt: skip
    stated = {"use_cases": {"answers": case}, "budgets": _BUDGETS, "gateway": "off"}
    (folder / "params.yaml").write_text(yaml.safe_dump(stated))
    return folder


Arm = tuple[str, str, int]
"""The address, the key and the process of what is asked; no process for the upstream itself."""


def _pinned(core: int, *command: object) -> list[str]:
    taskset = shutil.which("taskset")
    return [*([taskset, "-c", str(core)] if taskset else []), *map(str, command)]


@contextlib.contextmanager
def ours(url: str) -> Iterator[Arm]:
    """Our gateway before the server at `url`, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        root = repository(Path(folder), url)
        command = _pinned(0, sys.executable, "-m", "benchmarks.gateway_load", "serve", root)
        environment = {**os.environ, "BENCH_KEY": "x"}
        with (
            (root / "log").open("w") as log,
            subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            ) as process,
        ):
            try:
                port, key = process.stdout.readline().split()
                yield f"http://127.0.0.1:{port}/v1", key, process.pid
            finally:
                process.kill()


@contextlib.contextmanager
def litellm(url: str) -> Iterator[Arm | None]:
    """LiteLLM's proxy before the server at `url`; None where it is not installed."""
    program = peer_python("litellm").with_name("litellm")
    if not program.exists():
        yield None
        return
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        config = Path(folder, "config.yaml")
        config.write_text(_PROXY % url)
        command = _pinned(0, program, "--config", config, "--host", "127.0.0.1", "--port", port)
        environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": ""}
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                _wait_for(port, process)
                yield f"http://127.0.0.1:{port}/v1", "sk-bench", process.pid
            finally:
                process.kill()


def _wait_for(port: int, process: subprocess.Popen) -> None:
    """Wait until a port accepts."""
    end = time.monotonic() + _LATE_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
    raise SystemExit("the peer did not start")


def asked(arm: Arm, requests: int, at_once: int) -> dict:
    """What so many requests measured, the client on the second core."""
    url, key, pid = arm
    command = _pinned(
        1, sys.executable, ROOT / "benchmarks/gateway_load.py", "ask", url, key, requests, at_once, pid
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def _least(makers: dict[str, Callable[[], dict]]) -> dict[str, dict]:
    """The least of each figure of each arm, arms in turns."""
    rounds = [{name: make() for name, make in makers.items()} for _ in range(ROUNDS)]
    return {
        name: {key: min(made[name][key] for made in rounds) for key in rounds[0][name]} for name in makers
    }


@contextlib.contextmanager
def _upstream(delay_s: float) -> Iterator[str]:
    os.environ["DELAY_S"] = str(delay_s)
    with server() as url:
        yield url


def served() -> Iterator[Row]:
    """Requests a second and core, against LiteLLM's proxy, and what a gateway adds to a request."""
    for delay_ms in (0, 20):
        with _upstream(delay_ms / 1000) as url, ours(url) as near, litellm(url) as peer:
            arms = {"ours": near, **({"litellm": peer} if peer else {})}
            yield from _rates(delay_ms, arms)
            if not delay_ms:
                yield from _added({"direct": (url, "x", os.getpid()), **arms})


def _rates(delay_ms: int, arms: dict[str, Arm]) -> Iterator[Row]:
    makers = {name: lambda name=name: asked(arms[name], REQUESTS[name], AT_ONCE) for name in arms}
    found = _least(makers)
    per_core = {name: 1000 / made["cpu_ms"] for name, made in found.items()}
    upstream = f"upstream {delay_ms} ms, {AT_ONCE} at once"
    yield (
        f"gateway, all controls, {upstream}: requests a second of a core; CPU of one",
        f"{per_core['ours']:.0f}; {found['ours']['cpu_ms']:.2f} ms",
        "reported",
    )
    if "litellm" in found:
        yield (
            f"LiteLLM's proxy, {upstream}: requests a second of a core; the gateway's are",
            f"{per_core['litellm']:.0f}; {per_core['ours'] / per_core['litellm']:.1f}x",
            ">= 10x",
        )


def _added(arms: dict[str, Arm]) -> Iterator[Row]:
    makers = {name: lambda name=name: asked(arms[name], ONE_BY_ONE[name], 1) for name in arms}
    labels = {"ours": ("the gateway", "<= 1.5, <= 8 ms"), "litellm": ("LiteLLM's proxy", "reported")}
    found = _least(makers)
    for name, (label, target) in labels.items():
        if name in arms:
            added = [found[name][key] - found["direct"][key] for key in ("p50", "p99")]
            yield (
                f"{label}, one request after another, upstream 0 ms: added p50 and p99",
                f"{added[0]:.2f}, {added[1]:.2f} ms",
                target,
            )


def remembered(requests: int = WATCHED, between: int = BETWEEN) -> Iterator[Row]:
    """The memory of a gateway over many requests."""
    with _upstream(0) as url, ours(url) as arm:
        sizes = [asked(arm, between, AT_ONCE)["mib"] for _ in range(requests // between)]
    yield (
        f"memory of the gateway after each {between:,} of {requests:,} requests",
        f"{', '.join(f'{size:.0f}' for size in sizes)} MiB",
        "flat",
    )
