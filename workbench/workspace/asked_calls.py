"""What the gateway answers for a workspace: calls that another process states, resolved by reference."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final

from workbench.identity import Principal
from workbench.ports import Call, Handler
from workbench.prompts.prompt import Prompt, Rendered
from workbench.remote.calls import AskedCall
from workbench.workspace.workspace import Workspace

#: Workspaces of other tenants, purposes, sessions and persons, and prompts, that are kept.
_MOST_BOUND: Final = 1_000
_READ_AGAIN_S: Final = 1.0
_Bound = tuple[str, str, str, str, Principal | None]


class WorkspaceResolver:
    """Resolves what one caller asks by the workspace that its grant gives it: see `remote.serving.Resolver`.

    `scope` names the grant, and `strict` is whether the caller is a judged run or a job.
    """

    def __init__(self, ws: Workspace, *, scope: Hashable, strict: bool = False) -> None:
        self._ws = ws
        self._bound: OrderedDict[_Bound, Workspace] = OrderedDict()
        self._prompts: dict[str, tuple[float, Prompt]] = {}
        self.scope, self.strict = scope, strict

    @property
    def handler(self) -> Handler:
        """The boundary of the workspace."""
        return self._ws.boundary.handler

    def call(self, asked: AskedCall) -> Call:
        """Return the call of this workspace that a caller states.

        Raise RefusedError for another tenant or for more rights than the workspace has, NotFoundError for an
        unknown model or memory, and ConfigError.
        """
        ws = self.bound(asked)
        if asked.port == "memory":
            memory = ws.memory(asked.reference)
            return memory.make_call("memory", asked.operation, memory.name, asked.payload)
        handle = ws.model(asked.target, fallback=asked.fallbacks)
        if not asked.defaulted:
            return handle.make_call(asked.operation, asked.payload, asked.labels)
        defaults = handle.card.wire_defaults()
        own = {name: defaults[name] for name in asked.defaulted if name in defaults}
        return handle.make_call(asked.operation, {**asked.payload, **own}, asked.labels).with_defaults(own)

    def data_class(self, asked: AskedCall) -> str:
        """Return the class of data that the spec of an asked memory declares, "" for none."""
        return self._ws.memory(asked.reference).spec.data_class or ""

    def render(self, reference: str, inputs: dict[str, Any]) -> Rendered:
        """Return a saved prompt rendered with `inputs`; a prompt is read again after a second."""
        now, known = time.monotonic(), self._prompts.get(reference)
        if known is None or now - known[0] > _READ_AGAIN_S:
            if len(self._prompts) >= _MOST_BOUND:
                self._prompts.clear()
            known = self._prompts[reference] = (now, self._ws.prompt(reference))
        return known[1].render(**inputs)

    def bound(self, asked: AskedCall) -> Workspace:
        """Return the workspace for the tenant, purpose, session, person and lesser rights that are asked."""
        key = (asked.tenant, asked.purpose, asked.session, asked.subject, asked.principal)
        ws = self._bound.get(key)
        if ws is None:
            ws = self._ws.bind(
                tenant=asked.tenant or None,
                purpose=asked.purpose or None,
                subject=asked.subject or None,
                principal=asked.principal,
            )
            ws = self._bound[key] = ws.session(asked.session) if asked.session else ws
            if len(self._bound) > _MOST_BOUND:
                self._bound.popitem(last=False)
        self._bound.move_to_end(key)
        return ws
