"""Authorise a verb that is no call, such as a promotion or the opening of sealed content."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from workbench import config, files, identity
from workbench.context import Context
from workbench.errors import WorkbenchError
from workbench.identity import Principal
from workbench.layout import STATE
from workbench.policy.engine import CedarPolicy
from workbench.ports.identity import Identity
from workbench.ports.policy import Decision, PolicyRequest, Resource
from workbench.records.log import Lines, read_records

#: The decisions on verbs that are no calls, one line each, below a folder of state.
DECISIONS: Final = STATE / "decisions.jsonl"


def authorise(
    root: Path,
    context: Context,
    action: str,
    resource: Resource,
    *,
    home: Path | None = None,
    dry: bool = False,
    circumstances: Mapping[str, Any] | None = None,
) -> Decision:
    """Return the decision on a verb, after recording it below `home`, by default `root`; not for a `dry` run.

    `circumstances` are further attributes of the request's context, such as the label and the number of
    approvals of a release.

    Raise PolicyError for a denial, and ConfigError for broken policies. Where the use case only observes, a
    denial that the built-in policies do not share is recorded and returned.
    """
    request = PolicyRequest(
        principal=context.principal,
        tenant=context.tenant,
        action=action,
        resource=resource,
        context={
            "purpose": context.purpose,
            "use_case": context.use_case,
            "phase": context.phase,
            "assurance": context.principal.assurance,
            "environment": "job" if context.job else "explore",
            **(circumstances or {}),
        },
    )
    decision = CedarPolicy.of(root).decide(request)
    case = _use_cases(root).get(context.use_case)
    observed = not decision.allowed and case is not None and case.policy.enforce == "observe"
    observed = observed and CedarPolicy.builtin().decide(request).allowed
    if not dry:
        _record(home or root, context, request, decision, observed=observed)
    if not decision.allowed and not observed:
        raise decision.refusal(request)
    return decision


def system_context(
    root: Path, use_case: str = "", *, purpose: str = "release", found: Identity | None = None
) -> Context:
    """Return the context of the user of this process for a verb about a use case, or about none.

    `found` is its identity, by default the user whom the operating system names.

    Without a use case the user has the groups of all, is an admin who is one in each, and the phase is mlvp
    where one use case has it. Where params.yaml cannot be read, the user has no rights. Assets belong to no
    tenant.
    """
    cases = _use_cases(root)
    chosen = [cases[use_case]] if use_case in cases else list(cases.values())
    found = found or Identity(principal=identity.from_system())
    who = found.principal
    rights = [found.rights(case.rights(who.name, who.assurance)) for case in chosen]
    principal = Principal(
        name=who.name,
        kind=who.kind,
        groups=tuple(sorted({name for right in rights for name in right["groups"]})) or who.groups,
        clearance=min((right["clearance"] for right in rights), default=0),
        assurance=who.assurance,
        admin=bool(rights) and all(right["admin"] for right in rights),
    )
    phase = "mvp" if chosen and all(case.phase == "mvp" for case in chosen) else "mlvp"
    return Context(use_case=use_case, tenant="", principal=principal, purpose=purpose, phase=phase)


def authorise_publication(
    root: Path,
    job: str,
    tenant: str | None,
    *,
    circumstances: Mapping[str, Any] | None = None,
    dry: bool = False,
) -> Decision:
    """Return the decision on a job that publishes for a tenant, or for all; raise as `authorise` does.

    `circumstances` are the label that the version runs by, and its approvals (`promotion.run_rights`).
    """
    try:
        declared = config.load_params(root).jobs.get(job)
    except WorkbenchError:
        declared = None
    use_case = declared.use_case if declared else ""
    base, who = system_context(root, use_case, purpose="job"), identity.of_job(job)
    case = _use_cases(root).get(use_case)
    rights = case.rights(who.name) if case else {}
    context = dataclasses.replace(
        base, tenant=tenant or "", principal=dataclasses.replace(who, **rights), job=job
    )
    output = Resource(type="Output", id=job, tenant=tenant or "", attributes={"name": job})
    return authorise(root, context, "publish", output, dry=dry, circumstances=circumstances)


def _use_cases(root: Path) -> Mapping[str, config.UseCase]:
    """Return the use cases of params.yaml, none when it cannot be read: a rollback works then too."""
    try:
        return config.load_params(root).use_cases
    except WorkbenchError:
        return {}


def asset(kind: str, name: str, *, version: int = 0, label: str = "") -> Resource:
    """Return a version of an asset as a resource; 0 is the version that a promotion will make."""
    attributes = {"kind": kind, "name": name, "version": version, "label": label}
    return Resource(type="Asset", id=f"{kind}/{name}", tenant="", attributes=attributes)


def _record(
    home: Path, context: Context, request: PolicyRequest, decision: Decision, *, observed: bool
) -> None:
    line = {
        "at": context.clock.now().astimezone(dt.UTC).isoformat(timespec="microseconds"),
        "use_case": context.use_case,
        "tenant": context.tenant,
        "principal": context.principal.name,
        "decision": {**decision.to_json(), "action": request.action, "observed": observed},
        "policy_request": orjson.dumps(request.to_json(), option=orjson.OPT_SORT_KEYS).decode(),
    }
    _log(home / DECISIONS).append(orjson.dumps(line, option=orjson.OPT_SORT_KEYS))


@functools.lru_cache(maxsize=64)
def _log(path: Path) -> Lines:
    """Return the log at a path, which stays open."""
    return Lines(path)


def purge_decisions(home: Path, before: dt.date) -> int:
    """Remove the decisions on verbs of days before `before`, and return their number; odd lines go too."""
    path = home / DECISIONS
    if not path.exists():
        return 0
    with _log(path).writing():  # a writer that waits opens the file that replaces this one
        records = read_records(path)
        kept = [record for record in records if str(record.get("at", ""))[:10] >= before.isoformat()]
        if len(kept) < len(records):
            lines = (orjson.dumps(record, option=orjson.OPT_SORT_KEYS) + b"\n" for record in kept)
            files.write_atomic(path, b"".join(lines))
    return len(records) - len(kept)
