"""Feedback on a reply without a workspace: the record of the call says which use case and tenant it is of."""

from __future__ import annotations

from typing import Any

from workbench import config, layout
from workbench.errors import NotFoundError
from workbench.records.calls import find_calls
from workbench.types import Reply
from workbench.workspace.connection import connect
from workbench.workspace.history import chosen_of_process, traced


def feedback(reply: Reply | str, *, good: bool | None = None, note: str = "") -> Any:
    """Record what you say of a reply of this repository, as `ws.feedback` does; without `good`, show a panel.

    Raise NotFoundError for a call that is not in the record of this repository.
    """
    trace, current = traced(reply), config.Execution.current()
    if current is not None and current.use_case:
        return connect(current.use_case).feedback(reply, good=good, note=note)
    root = config.find_root(None)
    found = find_calls(root / layout.CALLS, trace, chosen_of_process(root))
    if found.is_empty():
        raise NotFoundError(
            f"no call with trace {trace[:64]} is in the record of {root}",
            hint="give feedback in the repository that made the call, or through its workspace: ws.feedback",
        )
    row = found.row(-1, named=True)
    return connect(row["use_case"], tenant=row["tenant"], root=root).feedback(reply, good=good, note=note)
