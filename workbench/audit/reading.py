"""Read the rows of an audit log lazily, and choose among them by time, person, tenant and activity."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.audit.lines import MOST_LINE, row_of, segments_of
from workbench.audit.signing import AuditPseudonyms


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which rows are shown. Empty texts choose all; `since` is an ISO time in UTC.

    `principal` is a name or a pseudonym. `action` is an operation such as model.chat, or an activity. Rows of
    the use cases `hidden` are left out.
    """

    since: str = ""
    principal: str = ""
    tenant: str = ""
    action: str = ""
    hidden: frozenset[str] = frozenset()

    def chosen(self, row: dict[str, Any], pseudonyms: AuditPseudonyms) -> bool:
        """Return whether a row is chosen."""
        who = {self.principal, pseudonyms.of("principal", self.principal)}
        operation = (row.get("api") or {}).get("operation")
        return (
            str(row.get("time_dt", "")) >= self.since
            and (not self.principal or (row.get("actor") or {}).get("uid") in who)
            and self.tenant in ("", row.get("tenant_uid"))
            and row.get("use_case") not in self.hidden
            and self.action in ("", operation, row.get("activity"))
        )


def lines_in(path: Path) -> Iterator[bytes]:
    """Yield the lines of a segment with their newlines, which an incomplete last one lacks.

    A line of more than `MOST_LINE` bytes is yielded in pieces.
    """
    with path.open("rb") as file:
        while line := file.readline(MOST_LINE):
            yield line


def rows_of(folder: Path, which: Filter, keys: Path, *, limit: int | None = None) -> list[dict[str, Any]]:
    """Return the newest `limit` chosen rows of a log, or all, oldest first; damaged lines are left out.

    Raise ConfigError when the folder cannot be read.
    """
    pseudonyms, found = AuditPseudonyms.load(keys), deque[dict[str, Any]](maxlen=limit)
    for path in segments_of(folder):
        for line in lines_in(path):
            with contextlib.suppress(ValueError):
                row = row_of(line)
                if which.chosen(row, pseudonyms):
                    found.append(row)
    return list(found)


def audited(folder: Path, traces: Mapping[str, str]) -> set[str]:
    """Return those of the trace ids, each with the day of its call, whose calls have rows in a log."""
    found, first = set[str](), min(traces.values(), default="")
    for path in segments_of(folder) if traces and folder.is_dir() else ():
        for line in lines_in(path) if path.name[:10] >= first else ():
            if any(trace.encode() in line for trace in traces):
                with contextlib.suppress(ValueError):
                    found.add(str((row_of(line).get("metadata") or {}).get("uid")))
    return found & set(traces)
