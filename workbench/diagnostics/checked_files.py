"""The findings of `workbench check`, as text and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import WorkbenchError


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """A checked file or setting; `problem` is "" without one. A warning does not fail the check."""

    what: str
    problem: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The result of a check: its findings, with and without problems."""

    findings: tuple[CheckedFile, ...] = field(repr=False)

    @property
    def passed(self) -> bool:
        """Whether no finding has a problem; warnings are allowed."""
        return not any(f.problem and not f.warning for f in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        return {"passed": self.passed, "findings": list(map(dataclasses.asdict, self.findings))}

    def __str__(self) -> str:
        lines = []
        for f in self.findings:
            mark = "ok     " if not f.problem else "warning" if f.warning else "WRONG  "
            lines.append(f"{mark} {f.what}" + (f": {f.problem}" if f.problem else ""))
        wrong = sum(bool(f.problem) and not f.warning for f in self.findings)
        lines.append(f"{wrong} wrong; next: workbench check" if wrong else "all is well; next: make repro")
        return "\n".join(lines)


def tried(what: str, look: Callable[[], object]) -> CheckedFile:
    """Return what `look` finds: its error as the problem, or none."""
    try:
        look()
    except WorkbenchError as error:
        return CheckedFile(what=what, problem=str(error))
    return CheckedFile(what=what)
