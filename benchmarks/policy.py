"""Policies: what decisions, what is left of policies, and trying a draft take."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from benchmarks.measuring import Row
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


def rows(n: int = 2_000) -> Iterator[Row]:
    """The rows of the table, each when it has been measured."""
    policy, large = CedarPolicy.builtin(), many(500)
    read = each(lambda _: CedarPolicy.builtin(), 20)
    yield "to read and parse the built-in set", f"{read / 1_000:.1f} ms CPU", ""
    new = each(lambda number: policy.decide(request(number)), n)
    yield "a new decision by the built-in policies", f"{new:.0f} µs CPU", ""
    new = each(lambda number: large.decide(request(number)), n // 4)
    yield "the same with 500 more", f"{new:.0f} µs CPU", ""
    kept = each(lambda _: policy.decide(request(1)), n)
    yield "a kept decision, by its request", f"{kept:.1f} µs CPU", ""
    yield "the control, for each call whose decision is kept", f"{control_costs(policy, n):.1f} µs CPU", ""
    new = each(lambda number: policy.residual(ADA, f"t{number}", "memory.search"), n // 4)
    yield "what is left of the policies for a principal and an action, new", f"{new:.0f} µs CPU", ""
    with tempfile.TemporaryDirectory() as made:
        record(Path(made), policy, n * 10)
        began = time.perf_counter()
        found = what_if(large, recorded_decisions(Path(made)), name="draft")
        took = time.perf_counter() - began
    yield f"`what-if` of {found.calls:,} calls with a hundred different decisions", f"{took:.2f} s", ""
