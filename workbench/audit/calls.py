"""The audit row of a call: who, what, with which decision and outcome, without content or a person's name."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final

from workbench.audit.chain import Chain
from workbench.audit.signing import AuditPseudonyms

#: Columns of the record that a row has as they are: numbers, digests and names of assets.
_FACTS: Final = (
    "input_tokens", "output_tokens", "cost_usd", "source", "fallback_reason", "data_class", "findings",
    "privacy", "checks", "content", "job", "replayed", "purpose", "prompt",
    "api_key",
)  # fmt: skip
#: The fields of a decision that a row has.
_DECISION: Final = ("id", "allowed", "policies", "policy_set", "observed")
#: The kinds of rules whose names are those of the repository.
_RULES: Final = frozenset({"policy", "privacy", "moderation"})
#: Most characters of a name that the caller chooses.
_MOST_TEXT: Final = 128
#: The parts of a status: an outcome of the record is one of OCSF's two words.
_SUCCESS: Final = frozenset({"ok", "abandoned"})


class CallAudit:
    """Writes the audit row of each record of a call. Call it after the record is written."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    @functools.cached_property
    def pseudonyms(self) -> AuditPseudonyms:
        """The pseudonyms of the log."""
        return AuditPseudonyms.load(self.chain.keys)

    def open(self) -> None:
        """Open the log and its key; raise UnavailableError or ConfigError when a row could not be written."""
        self.chain.open()
        _ = self.pseudonyms  # read on the first call

    def __call__(self, record: Mapping[str, Any], subject: str = "") -> int:
        """Append the row of a record and return its number; `subject` is the person that it is about."""
        return self.chain.append(row_of_call(record, self.pseudonyms, subject=subject))

    def subject_uid(self, tenant: str, subject: str) -> str:
        """Return the digest by which the rows of a tenant name a person."""
        return self.pseudonyms.of("subject", tenant, subject)

    def interrupted(self, record: Mapping[str, Any], subject_uid: str) -> int:
        """Append the row of a record whose process was killed; the digest names the person, "" nobody."""
        named = {"subject_uid": subject_uid} if subject_uid else {}
        return self.chain.append({**row_of_call(record, self.pseudonyms), **named})


def _rules(names: Sequence[str]) -> list[str]:
    """Return the rules that would refuse; a budget, which may be named after a person, is `budget`."""
    stated = [name if name.partition(":")[0] in _RULES and ":" in name else "budget" for name in names]
    return sorted({name[:_MOST_TEXT] for name in stated})


def row_of_call(
    record: Mapping[str, Any], pseudonyms: AuditPseudonyms, *, subject: str = ""
) -> dict[str, Any]:
    """Return the audit row of a record; a person, a session and a request are keyed digests in it."""
    tenant, port, target = record["tenant"], record["port"], record["target"]
    get = record.get
    row: dict[str, Any] = {
        "activity": "call",
        "time_dt": record["at"],
        "actor": {"uid": pseudonyms.of("principal", record["principal"]), "assurance": record["assurance"]},
        "tenant_uid": tenant,
        "use_case": record["use_case"],
        "api": {"operation": f"{port}.{record['operation']}"},
        "resource": {"type": port.capitalize(), "name": target},
        "status": "Success" if record["outcome"] in _SUCCESS else "Failure",
        "status_code": record["outcome"],
        "metadata": {"uid": record["trace_id"]},
    }
    for name in _FACTS:
        if value := get(name):
            row[name] = value[:_MOST_TEXT] if type(value) is str else value
    if error := get("error"):
        row["status_detail"] = error
    if (model := get("model")) and model != target:  # a fall-back answered
        row["model"] = model
    if key := get("key"):
        row["request_uid"] = pseudonyms.of("request", key)
    if session := get("session"):
        row["session_uid"] = pseudonyms.of("session", session)
    if subject:
        row["subject_uid"] = pseudonyms.of("subject", tenant, subject)
    if would_refuse := get("would_refuse"):
        row["would_refuse"] = _rules(would_refuse)
    if decision := get("decision"):
        row["decision"] = {name: decision[name] for name in _DECISION if name in decision}
    return row
