"""The settings that a runner passes to a kernel."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from workbench import files
from workbench.config.use_case import MemoryServer

Mode = Literal["live", "record", "replay", "auto"]
EXECUTION_VARIABLE = "WORKBENCH_EXECUTION"
#: The gateway of a confined kernel, whose launcher sets a variable to the descriptor's number.
INHERITED = "fd"
_DESCRIPTOR_VARIABLE = "WORKBENCH_GATEWAY_FD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """The settings that a runner passes to a kernel.

    The kernel reads `judge_tape`, then `tape`, searches the snapshot `memory`, takes its dataset from `cases`
    and writes runs to `out` and progress to `progress`. `task_digest` leaves out `explore` cells.
    `memory_server` replaces the server of params.yaml and has no fallback. Of a job, `pins` bind bare names,
    `ws.publish` writes to `publish`, a larger share than `broken` of broken rows holds the output back, and
    the repository `home` keeps the state. `gateway` is the address of the run's gateway, which then answers
    every call: `unix:PATH`, or `fd:NUMBER` for an inherited descriptor. `snapshots` then has the digest of
    the pinned snapshot by the name of its memory. A job's writes into memories belong to the slot `slot` and
    are made once; with `copies` they go into copies in this folder, which end with the run.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    notebook: str
    use_case: str | None = None
    task_digest: str | None = None
    mode: Mode = "auto"
    tape: str | None = None
    judge_tape: str | None = None
    memory: str | None = None
    cases: str | None = None
    out: str | None = None
    progress: str | None = None
    job: str | None = None
    run: str | None = None
    tenant: str | None = None
    pins: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    publish: str | None = None
    broken: float = 1.0
    home: str | None = None
    journal: str | None = None
    live_memory: bool = False
    memory_server: MemoryServer | None = None
    gateway: str | None = None
    snapshots: dict[str, str] = field(default_factory=dict)
    slot: str | None = None
    copies: str | None = None

    def environment(self) -> dict[str, str]:
        """Return the environment variable that passes this execution to the kernel."""
        return {EXECUTION_VARIABLE: files.canonical(dataclasses.asdict(self)).decode()}

    @classmethod
    def current(cls) -> Execution | None:
        """Return the execution of this process, or None if no runner started it."""
        text = os.environ.get(EXECUTION_VARIABLE)
        if not text:
            return None
        import orjson

        found = files.parse(cls, orjson.loads(text), where=EXECUTION_VARIABLE)
        if found.gateway != INHERITED:
            return found
        return dataclasses.replace(found, gateway=f"fd:{os.environ.get(_DESCRIPTOR_VARIABLE, '')}")
