"""A gateway of two tenants, where one has calls, memories, outcomes and keys that another tries to reach."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import orjson
from gateways import NOTES, RunningGateway, with_notes
from small_use_case import small_repository
from tenant_attacks import CALLS, Asker, Attempt, Target
from tenant_attempts import Attempts

from workbench import registry
from workbench.identities.api_keys import KeyRights
from workbench.workspace.key_admin import KeyAdmin

#: What only the other tenant holds; it is in no name, so that no attempt states it.
SECRET = "kestrel-4471-plan"
_OTHER = """\
  globexplans:
    title: Plans
    purpose: To plan.
    owner: tests
    phase: mvp
    notebook: notebooks/small.ipynb
    tenants: [globex]
    data: data/small
    model: MODEL
    report: reports/plans
    gates: {mvp: {cases: {min: 2}}, mlvp: {cases: {min: 2}}}
budgets:
  all: {usd: 100, calls: 1000000, per: [tenant]}
gateway:
  limits: {streams: 50, head_s: 5, body_s: 5, write_s: 5}
"""


def two_tenants(folder: Path, *, endpoint: str) -> Path:
    """Write a repository whose use case serves both tenants, and another one that serves globex alone."""
    root = with_notes(small_repository(folder, endpoint=endpoint))
    path = root / "params.yaml"
    text = path.read_text().replace(
        "tenants: [acme]", "tenants: [acme, globex]\n    content: {keep: 30 days}"
    )
    card = text.partition("    model: ")[2].partition("    candidate")[0].strip()
    path.write_text(text + _OTHER.replace("MODEL", card))
    registry.save_version(
        root, "memory", "globexnotes", NOTES.encode(), author="t", reason="notes", parent=None
    )
    return root


@dataclass(frozen=True, slots=True)
class Sides:
    """Both tenants' keys, and the targets of an attempt and of its twin."""

    acme: str
    globex: str
    target: Target
    twin: Target


def _key(root: Path, tenant: str, **rights) -> str:
    made = KeyAdmin(root).issue(KeyRights(principal=f"user-of-{tenant}", tenant=tenant, **rights), days=1)
    return made.secret


def prepared(gateway: RunningGateway) -> Sides:
    """Let globex ask, remember and note outcomes, and return what there is to attack."""
    acme, globex = (
        _key(
            gateway.root,
            "acme",
            use_cases=("small",),
            memories=("notes", "small"),
            models=("smollm2-135m", "wordllama-256"),
        ),
        _key(gateway.root, "globex"),
    )
    asker, session, subject = Asker(gateway.host, gateway.port, globex), "globex-journey", "globex-person"
    named = (("Workbench-Use-Case", "small"), ("Workbench-Session", session), ("Workbench-Subject", subject))
    chat = {"model": "smollm2-135m", "messages": [{"role": "user", "content": SECRET}]}
    status, answer = asker.ask(Attempt(method="POST", path="/v1/chat/completions", headers=named, body=chat))
    assert status == 200, answer
    trace = answer.partition(b"workbench-trace-id: ")[2][:32].decode()
    note = {"text": f"The salary plan is {SECRET}.", "subject": subject, "access": ["everyone"]}
    status, kept = asker.ask(
        Attempt(method="POST", path="/v1/memories/notes/remember", headers=named, body=note)
    )
    assert status == 200, kept
    item = orjson.loads(kept.partition(b"\n\n")[2])["id"]
    caller, run = secrets.token_hex(8), "globex-run-1"
    call = Attempts(0)._call(
        tenant="globex",
        caller=caller,
        run_scope=run,
        invocation={"id": run},
        port="memory",
        operation="search",
        target="notes",
        payload={
            "query": {
                "text": "salary",
                "vector": [0.0625] * 256,
                "as_of": "2026-11-30",
                "k": 5,
                "groups": ["everyone"],
                "clearance": 0,
            }
        },
    )
    protocol = (("Workbench-Protocol", "1"),)
    status, found = asker.ask(Attempt(method="POST", path=CALLS, headers=protocol, body=call))
    assert status == 200 and SECRET.encode() in found, found
    outcome = {"use_case": "small", "tenant": "globex", "arguments": {"name": "good", "trace_id": trace}}
    status, found = asker.ask(
        Attempt(method="POST", path="/workbench/v1/verbs/outcome", headers=protocol, body=outcome)
    )
    assert status == 200, found
    asker.close()
    target = Target(
        tenant="globex",
        use_case="globexplans",
        trace=trace,
        session=session,
        subject=subject,
        item=item,
        content=content_of(gateway, trace),
        principal="user-of-globex",
        key_id=globex.split("_")[1],
        caller=caller,
        run=run,
        response="chatcmpl-globex",
        memory="globexnotes",
        mark="0" * 16,
    )
    return Sides(acme, globex, target, _twin(target))


def content_of(gateway: RunningGateway, trace: str) -> str:
    """Return the id of the sealed content of a call."""
    import workbench as wb

    with_key = wb.connect("small", root=gateway.root, tenant="globex")
    return str(with_key.calls(trace=trace)["content"][-1])


def _twin(target: Target) -> Target:
    """Return names of the same form and length that do not exist."""
    return Target(
        tenant="glabex",
        use_case="glabexplans",
        trace=target.trace[::-1],
        session="glabex-journey",
        subject="glabex-person",
        item=target.item[:-8] + target.item[-8:][::-1],
        content=target.content[:-8] + target.content[-8:][::-1],
        principal="user-of-glabex",
        key_id=target.key_id[::-1],
        caller=target.caller[::-1],
        run="glabex-run-1",
        response="chatcmpl-glabex",
        memory="glabexnotes",
        mark="1" * 16,
    )


def holdings(gateway: RunningGateway, sides: Sides) -> dict[str, object]:
    """Return what globex has: its items, outcomes, spending, and whose keys its calls were made with."""
    import workbench as wb

    asker = Asker(gateway.host, gateway.port, sides.globex)
    named = (("Workbench-Use-Case", "small"),)
    items, stats = (
        asker.ask(Attempt(method="GET", path=f"/v1/memories/notes/{verb}", headers=named))[1].partition(
            b"\n\n"
        )[2]
        for verb in ("items", "stats")
    )
    asker.close()
    ws = wb.connect("small", root=gateway.root, tenant="globex")
    calls = ws.calls(tenant="globex", limit=None)
    return {
        "items": items,
        "stats": stats,
        "keys": set(calls["api_key"]),
        "models": calls.filter(port="model")["trace_id"].to_list(),
        "outcomes": ws.outcomes().filter(tenant="globex")["name"].to_list(),
        "budget": [(line.budget, line.measure, line.spent, line.reserved) for line in ws.budget().lines],
    }
