"""How the audit log is written: the section `audit`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from workbench import files


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """When rows of the audit log reach the disk.

    "each" before a call's answer is given, "batch" within 0.1 seconds, "off" when the system chooses.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    fsync: Literal["each", "batch", "off"] = "batch"
