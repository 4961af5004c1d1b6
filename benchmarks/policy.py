"""Measure policies: `python -m benchmarks.policy 2_000`, decisions and calls. Nothing is asserted."""

from __future__ import annotations

import dataclasses
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from workbench.context import Context
from workbench.controls.policy import PolicyControl
from workbench.identity import Principal
from workbench.layout import CALLS
from workbench.policy.engine import CedarPolicy
from workbench.policy.recorded import recorded_decisions
from workbench.policy.source import read_builtin
from workbench.policy.what_if import what_if
from workbench.ports import Call
from workbench.ports.policy import PolicyRequest, Resource
from workbench.records.segments import CallLog

ADA = Principal(name="ada", groups=("everyone", "people"))
MODEL = Resource(type="Model", id="m@1", tenant="acme", attributes={"name": "m", "external": True})
CONTEXT = Context(use_case="answers", tenant="acme", principal=ADA, purpose="explore")


def each(what: Callable[[int], object], n: int) -> float:
    """The microseconds of CPU of this process that one of `n` takes."""
    began = time.process_time()
    for number in range(n):
        what(number)
    return (time.process_time() - began) / n * 1e6


def request(number: int) -> PolicyRequest:
    return PolicyRequest(
        principal=ADA, tenant="acme", action="model.chat", resource=MODEL, context={"purpose": f"p{number}"}
    )


def many(number: int) -> CedarPolicy:
    """The built-in set with this many more policies."""
    builtin = read_builtin()
    more = "\n".join(
        f'@id("more{n}") @reason("r") forbid (principal == Workbench::User::"u{n}", action, resource);'
        for n in range(number)
    )
    return CedarPolicy(dataclasses.replace(builtin, policies={**builtin.policies, "more.cedar": more}))


def control_costs(policy: CedarPolicy, n: int) -> float:
    """What the control takes of each call after the first."""
    control = PolicyControl(policy, resource=lambda _call: MODEL)
    call = Call(port="model", operation="chat", target="m@1", payload={}, context=CONTEXT)
    return each(lambda _: control.check(call), n * 10)


def record(root: Path, policy: CedarPolicy, n: int) -> None:
    """Record `n` calls that have a hundred different decisions."""
    log = CallLog(root / CALLS)
    log.open()
    for number in range(n):
        asked = request(number % 100)
        made = policy.decide(asked)
        line = {
            "trace_id": f"{number:032x}", "at": "2026-11-30T09:00:00.000000+00:00", "use_case": "answers",
            "decision": {**made.to_json(), "action": asked.action},
            "policy_request": orjson.dumps(asked.to_json()).decode(),
        }  # fmt: skip
        log.append(orjson.dumps(line))


def main(n: int) -> None:
    """Print the table."""
    policy, large = CedarPolicy.builtin(), many(500)
    print(f"parse the built-in set     {each(lambda _: CedarPolicy.builtin(), 20):10.1f} us CPU")
    print(f"a new decision             {each(lambda i: policy.decide(request(i)), n):10.1f} us CPU")
    print(f"a new decision, 509 policies {each(lambda i: large.decide(request(i)), n // 4):8.1f} us CPU")
    print(f"a kept decision            {each(lambda _: policy.decide(request(1)), n):10.1f} us CPU")
    print(f"the control, each call     {control_costs(policy, n):10.1f} us CPU")
    new = each(lambda i: policy.residual(ADA, f"t{i}", "memory.search"), n // 4)
    print(f"a new residual             {new:10.1f} us CPU")
    with tempfile.TemporaryDirectory() as made:
        record(Path(made), policy, n * 10)
        began = time.perf_counter()
        found = what_if(large, recorded_decisions(Path(made)), name="draft")
        took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"what-if of {found.calls:,} calls   {took * 1e3:10.1f} ms, {peak:.0f} MB at most")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
