"""Audit: a signed, hash-chained log of calls and acts that holds digests and pseudonyms, never content."""

from workbench.audit.acts import Act, audited, log_act
from workbench.audit.calls import CallAudit
from workbench.audit.chain import Chain, ChainOptions, chain_at
from workbench.audit.reading import Filter, rows_of
from workbench.audit.verification import Verification, verify

__all__ = [
    "Act", "CallAudit", "Chain", "ChainOptions", "Filter", "Verification", "audited", "chain_at",
    "log_act", "rows_of", "verify",
]  # fmt: skip
