"""Acts that are no calls, such as a promotion or the opening of content, as rows of the audit log."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from workbench.audit.chain import chain_at
from workbench.audit.signing import AuditPseudonyms
from workbench.errors import PolicyError
from workbench.identity import Principal

#: Most characters of a resource's name, which a user types.
_MOST_NAME: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a principal did to a resource, such as `promote` to the job `answers@3`.

    `facts` are names, numbers and digests of the act, never content. `reason` is free text that the caller
    gives; the row holds its keyed digest, so that a stated reason can be checked and none can be read.
    """

    activity: str
    principal: Principal
    type: str
    name: str
    tenant: str = ""
    use_case: str = ""
    status: Literal["Begun", "Success", "Failure"] = "Success"
    status_detail: str = ""
    reason: str = ""
    subject: str = ""
    decision: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def log_act(home: Path, act: Act, *, now: dt.datetime | None = None) -> int:
    """Append the row of an act to the log below the folder of state `home`, on the disk at once.

    Return the row's number; raise UnavailableError when it cannot be written.
    """
    chain = chain_at(home)
    return chain.append(row_of_act(act, AuditPseudonyms.load(chain.keys), now=now), durable=True)


@contextlib.contextmanager
def audited(home: Path, act: Act) -> Iterator[dict[str, Any]]:
    """Log that an act begins, and how it ends; yield a dict for further facts of its end.

    The fact `decision` is that of the policies, as JSON; a PolicyError has its own. No act takes effect
    without a row, also if its process is killed. Raise UnavailableError when the first row cannot be written;
    the block is not entered then.
    """
    facts: dict[str, Any] = {}
    log_act(home, dataclasses.replace(act, status="Begun"))
    try:
        yield facts
    except BaseException as error:
        failed = dataclasses.replace(act, status="Failure", status_detail=type(error).__name__)
        log_act(home, _decided(failed, _decision_of(error) or facts.get("decision")))
        raise
    ended = dataclasses.replace(act, facts={**act.facts, **facts})
    log_act(home, _decided(ended, facts.get("decision")))


@contextlib.contextmanager
def refusals_audited(home: Path, act: Act) -> Iterator[None]:
    """Log an act that the policies refuse inside of the block; one that they permit logs itself later."""
    try:
        yield
    except PolicyError as error:
        failed = dataclasses.replace(act, status="Failure", status_detail=type(error).__name__)
        log_act(home, _decided(failed, _decision_of(error)))
        raise


def _decided(act: Act, decision: Mapping[str, Any] | None) -> Act:
    """Return the act with the decision that the policies made on it."""
    rest = {name: value for name, value in act.facts.items() if name != "decision"}
    return dataclasses.replace(act, facts=rest, decision=decision or act.decision)


def _decision_of(error: BaseException) -> dict[str, Any] | None:
    if isinstance(error, PolicyError) and error.decision:
        return {"id": error.decision, "allowed": False, "policies": list(error.policies)}
    return None


def row_of_act(act: Act, pseudonyms: AuditPseudonyms, *, now: dt.datetime | None = None) -> dict[str, Any]:
    """Return the audit row of an act."""
    at = now or dt.datetime.now(dt.UTC)
    row = {
        "activity": act.activity,
        "time_dt": at.astimezone(dt.UTC).isoformat(timespec="microseconds"),
        "actor": {
            "uid": pseudonyms.of("principal", act.principal.name), "assurance": act.principal.assurance
        },
        "resource": {"type": act.type, "name": act.name[:_MOST_NAME]},
        "status": act.status,
    }  # fmt: skip
    found: dict[str, Any] = {
        "tenant_uid": act.tenant,
        "use_case": act.use_case,
        "status_detail": act.status_detail,
        "reason_uid": pseudonyms.of("reason", act.reason),
        "subject_uid": pseudonyms.of("subject", act.tenant, act.subject),
        "decision": dict(act.decision),
        "facts": dict(act.facts),
    }
    return row | {name: value for name, value in found.items() if value}
