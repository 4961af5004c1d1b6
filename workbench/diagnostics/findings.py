"""What the doctor says: one finding a thing looked at, each with the command that mends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.errors import WorkbenchError

State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    `mend` is the command that mends it, empty when it is ok. `needed` says whether what params.yaml
    declares cannot do without it.
    """

    what: str
    state: State
    detail: str = ""
    mend: str = ""
    needed: bool = True

    def __str__(self) -> str:
        spare = "" if self.needed or self.state == "ok" else " (nothing declared here needs it)"
        line = f"{self.state:<8} {self.what}: {self.detail}{spare}"
        return f"{line}\n           -> {self.mend}" if self.mend else line


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All findings."""

    findings: tuple[Finding, ...] = field(repr=False)

    @property
    def passed(self) -> bool:
        """Whether all is there that what params.yaml declares needs."""
        return not self._wrong()

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        names = ("what", "state", "detail", "mend", "needed")
        rows = [{name: getattr(found, name) for name in names} for found in self.findings]
        return {"passed": self.passed, "findings": rows}

    def __str__(self) -> str:
        wrong = self._wrong()
        closing = "all that is needed is there; next: make repro"
        if wrong:
            first = wrong[0].mend.partition("\n")[0]
            closing = f"{len(wrong)} needed and not there or broken; next: {first}"
        return "\n".join([*map(str, self.findings), closing])

    def _wrong(self) -> list[Finding]:
        return [found for found in self.findings if found.needed and found.state != "ok"]


def tried(what: str, look: Callable[[], str], *, state: State = "broken", needed: bool = True) -> Finding:
    """What `look` returns as the detail of an ok finding; its error as one that is `state`."""
    try:
        return Finding(what=what, state="ok", detail=look(), needed=needed)
    except WorkbenchError as error:
        mend = error.hint or "workbench check"
        return Finding(what=what, state=state, detail=error.message, mend=mend, needed=needed)
