"""Findings of `workbench doctor`, each with the command that fixes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.errors import WorkbenchError

State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The state of one part of the machine or repository.

    `fix` is the command that fixes it, "" when the state is "ok". `needed` says whether the use cases
    in params.yaml require it.
    """

    what: str
    state: State
    detail: str = ""
    fix: str = ""
    needed: bool = True

    def __str__(self) -> str:
        spare = "" if self.needed or self.state == "ok" else " (nothing declared here needs it)"
        line = f"{self.state:<8} {self.what}: {self.detail}{spare}"
        return f"{line}\n           -> {self.fix}" if self.fix else line


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All findings of an examination."""

    findings: tuple[Finding, ...] = field(repr=False)

    @property
    def passed(self) -> bool:
        """Whether every needed finding is ok."""
        return not self._wrong()

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        # `mend` is the former name of `fix`.
        rows = [{**dataclasses.asdict(found), "mend": found.fix} for found in self.findings]
        return {"passed": self.passed, "findings": rows}

    def __str__(self) -> str:
        wrong = self._wrong()
        closing = "every needed part is present; next: make repro"
        if wrong:
            first = wrong[0].fix.partition("\n")[0]
            closing = f"{len(wrong)} needed and missing or broken; next: {first}"
        return "\n".join([*map(str, self.findings), closing])

    def _wrong(self) -> list[Finding]:
        return [found for found in self.findings if found.needed and found.state != "ok"]


def tried(what: str, look: Callable[[], str], *, state: State = "broken", needed: bool = True) -> Finding:
    """Return an ok finding with the text of `look`, or a finding in `state` with its error."""
    try:
        return Finding(what=what, state="ok", detail=look(), needed=needed)
    except WorkbenchError as error:
        fix = error.hint or "workbench check"
        return Finding(what=what, state=state, detail=error.message, fix=fix, needed=needed)
