"""The audit row of a call: who, what, with which decision and outcome, without content or a person's name."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

from workbench.audit.chain import Chain
from workbench.audit.signing import Pseudonyms

#: Columns of the record that a row has as they are: numbers, digests and names of assets.
_FACTS: Final = (
    "input_tokens", "output_tokens", "cost_usd", "source", "fallback_reason", "data_class", "findings",
    "privacy", "checks", "content",
)  # fmt: skip
#: The fields of a decision that a row has.
_DECISION: Final = ("id", "allowed", "policies", "policy_set", "observed")
#: Most characters of a name that the caller chooses.
_MOST_TEXT: Final = 128
#: The parts of a status: an outcome of the record is one of OCSF's two words.
_SUCCESS: Final = frozenset({"ok", "abandoned"})


class CallAudit:
    """Writes the audit row of each record of a call. Call it after the record is written."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    @functools.cached_property
    def pseudonyms(self) -> Pseudonyms:
        """The pseudonyms of the log."""
        return Pseudonyms.load(self.chain.keys)

    def open(self) -> None:
        """Open the log and its key; raise UnavailableError or ConfigError when a row could not be written."""
        self.chain.open()
        _ = self.pseudonyms

    def __call__(self, record: Mapping[str, Any], subject: str = "") -> int:
        """Append the row of a record and return its number; `subject` is the person that it is about."""
        return self.chain.append(row_of_call(record, self.pseudonyms, subject=subject))


def row_of_call(record: Mapping[str, Any], pseudonyms: Pseudonyms, *, subject: str = "") -> dict[str, Any]:
    """Return the audit row of a record; a person, a session and a request are keyed digests in it."""
    tenant = str(record["tenant"])
    row = {
        "activity": "call",
        "time_dt": record["at"],
        "actor": {"uid": pseudonyms.of("principal", record["principal"]), "assurance": record["assurance"]},
        "tenant_uid": tenant,
        "use_case": record["use_case"],
        "api": {"operation": f"{record['port']}.{record['operation']}"},
        "resource": {"type": str(record["port"]).capitalize(), "name": record["target"]},
        "status": "Success" if record["outcome"] in _SUCCESS else "Failure",
        "status_code": record["outcome"],
        "metadata": {"uid": record["trace_id"]},
    }
    found = {name: record.get(name) for name in _FACTS}
    found |= {name: str(record.get(name) or "")[:_MOST_TEXT] for name in ("purpose", "prompt")}
    found |= {
        "status_detail": record.get("error"),
        "model": record["model"] if record.get("model") != record["target"] else None,
        "subject_uid": pseudonyms.of("subject", tenant, subject),
        "session_uid": pseudonyms.of("session", record.get("session") or ""),
        "request_uid": pseudonyms.of("request", record.get("key") or ""),
        "job": record.get("job"),
        "replayed": record.get("replayed"),
        "would_refuse": len(record.get("would_refuse") or ()),  # a budget may be named after a person
    }
    if decision := record.get("decision"):
        found["decision"] = {name: decision[name] for name in _DECISION if name in decision}
    return row | {name: value for name, value in found.items() if value not in (None, "", [], 0, False)}
