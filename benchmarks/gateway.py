"""Measure the gateway: `make bench ARGS=gateway`; its kernel rows are calls over those in process.

The gateway and each arm run in processes of their own, one call at a time, arms in turns and rounds. Wall
time is that of each call, CPU that of the arm's process and of the gateway's, user and system. The round with
the least p50 counts: other work only adds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import gateway_served
from benchmarks.boundary import server
from benchmarks.boundary_arms import MESSAGES, workspace
from benchmarks.measuring import ROOT, Row

ROUNDS, CALLS = 3, 1_000
#: What an arm asks, and the most milliseconds that the gateway may add to it.
KERNEL = {
    "live": ("`ws.model().chat`, an endpoint that answers at once", 0.3),
    "replayed": ("the same, replayed from the tape", 0.3),
    "prompt": ("a saved prompt with 3 passages, replayed", 0.3),
    "search": ("`ws.memory().search`, 5 passages of 64 documents", 0.6),
}


class Elsewhere:
    """A boundary whose handler is in another process."""

    def __init__(self, local, handler) -> None:
        self._local, self.handler = local, handler

    def __getattr__(self, name):
        return getattr(self._local, name)


@contextlib.contextmanager
def opened(what: str, url: str) -> Iterator:
    """The workspace of an arm, its state in a new folder."""
    import workbench as wb
    from workbench.workspace.boundary import Boundary, StatePaths, recorded_tape
    from workbench.workspace.connection import connect

    if what == "live":
        with workspace(url) as ws:
            yield ws
        return
    with tempfile.TemporaryDirectory() as folder:
        places = StatePaths(home=Path(folder))
        through = Boundary(ROOT, mode="replay", tape=recorded_tape(ROOT, "answers"), places=places)
        ws = connect("answers", root=ROOT, through=through)
        if what in {"prompt", "search"}:
            ws.memory().add(wb.load("data/handbook", root=ROOT))
        yield ws
        ws.close()


def asking(ws, what: str) -> Callable[[], object]:
    """What an arm asks, again and again."""
    from workbench.context import InvocationScope, invocation_scope

    if what == "live":
        model = ws.model()
        return lambda: model.chat(MESSAGES)
    if what == "search":
        kb = ws.memory()
        return lambda: kb.search("Can I expense a taxi?", k=5)
    case = next(case for case in ws.cases() if case.tenant == ws.tenant)
    passages = ws.memory().search(case.inputs["question"], k=3) if what == "prompt" else ()
    asked, more = ws.prompt().render(question=case.inputs["question"], passages=passages), {}
    if what == "replayed":
        more = dict(_recorded(ws, case))
        asked = more.pop("messages")
    model = ws.model()

    def ask() -> object:
        with invocation_scope(InvocationScope(case=case.id)):
            return model.chat(asked, **more)

    return ask


def _recorded(ws, case) -> dict:
    """The request of a recording of a case."""
    from workbench.workspace.boundary import recorded_tape

    questions = (entry.question for entry in recorded_tape(ws.root, "answers").entries())
    return next(q.request for q in questions if q.case == case.id and q.operation == "model.chat" and not q.n)


def arm(what: str, url: str, calls: int, address: str = "") -> dict:
    """Wall milliseconds of each call, and CPU milliseconds of this process for one."""
    from workbench.remote.connection import GatewayConnection
    from workbench.remote.handler import RemoteHandler

    with opened(what, url) as own:
        far = Elsewhere(own.boundary, RemoteHandler(GatewayConnection(address))) if address else own.boundary
        ask = asking(dataclasses.replace(own, boundary=far), what)
        for _ in range(max(calls // 10, 20)):
            ask()
        walls, before = [], _cpu(address)
        for _ in range(calls):
            began = time.perf_counter()
            ask()
            walls.append((time.perf_counter() - began) * 1e3)
        after = _cpu(address)
        cut = statistics.quantiles(walls, n=100)
        return {
            "p50": cut[49],
            "p99": cut[98],
            "cpu": (after[0] - before[0]) / calls * 1e3,
            "gateway": (after[1] - before[1]) / calls * 1e3,
        }


def _cpu(address: str) -> tuple[float, float]:
    """CPU seconds of this process and of the gateway, whose process id stands in a file by its socket."""
    if not address:
        return time.process_time(), 0.0
    number = Path(address.removeprefix("unix:")).with_name("pid").read_text()
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return time.process_time(), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve(what: str, url: str, socket: str) -> None:
    """Answer native calls on a Unix socket until this process is killed."""
    import uvicorn

    from workbench.remote.endpoint import answer
    from workbench.remote.serving import Serving
    from workbench.workspace.asked_calls import WorkspaceResolver

    with opened(what, url) as ws:
        serving, resolver = Serving(), WorkspaceResolver(ws, scope="owner")

        async def app(_scope, receive, send):
            await answer(receive, send, serving=serving, resolver_of=lambda _asked: resolver)

        Path(socket).with_name("pid").write_text(str(os.getpid()))
        loop = os.environ.get("WORKBENCH_BENCH_LOOP", "uvloop")
        uvicorn.run(
            app,
            uds=socket,
            http="httptools",
            loop=loop,
            lifespan="off",
            access_log=False,
            log_level="critical",
        )


@contextlib.contextmanager
def gateway(what: str, url: str) -> Iterator[str]:
    """The address of a gateway in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "s")
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gateway", "serve", what, url, str(path)]
        ) as process:
            try:
                while not path.exists():
                    time.sleep(0.05)
                time.sleep(0.2)
                yield f"unix:{path}"
            finally:
                process.kill()


def measured(what: str, url: str, address: str = "") -> dict:
    """What an arm measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.gateway", "arm", what, url, str(CALLS), address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def compared(what: str, url: str) -> tuple[dict, dict]:
    """The best rounds of an arm in process and through a gateway, in turns."""
    near, far = [], []
    with gateway(what, url) as address:
        for _ in range(ROUNDS):
            near.append(measured(what, url))
            far.append(measured(what, url, address))
    return min(near, key=lambda made: made["p50"]), min(far, key=lambda made: made["p50"])


def kernel() -> Iterator[Row]:
    """What a gateway adds to each call of a kernel."""
    os.environ["DELAY_S"] = "0"
    with server() as url:
        for what, (label, most) in KERNEL.items():
            near, far = compared(what, url)
            added = {name: far[name] - near[name] for name in ("p50", "p99")}
            yield (
                f"{label}: p50 in process and through a gateway, added p50 and p99",
                f"{near['p50']:.2f}, {far['p50']:.2f}, {added['p50']:+.2f}, {added['p99']:+.2f} ms",
                f"<= {most} ms",
            )
            yield (
                f"{label}: CPU of the kernel in process, through a gateway, and of the gateway",
                f"{near['cpu']:.2f} ms, {far['cpu']:.2f} ms, {far['gateway']:.2f} ms",
                "reported",
            )


def rows() -> Iterator[Row]:
    """The table `gateway`."""
    yield from kernel()
    yield from gateway_served.served()
    yield from gateway_served.remembered()


def main() -> None:
    """Run one arm or the gateway, in this process."""
    which, what, url, *rest = sys.argv[1:]
    if which == "serve":
        serve(what, url, rest[0])
    else:
        print(json.dumps(arm(what, url, int(rest[0]), *filter(None, rest[1:]))))


if __name__ == "__main__":
    main()
