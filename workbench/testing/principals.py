"""Act as any principal in a test: what `ws.bind` refuses, because a notebook may not raise its rights."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from workbench.identity import Principal

T = TypeVar("T")


def acting_as(ws: T, principal: Principal, *, tenant: str | None = None) -> T:
    """Return a workspace whose provider named `principal`, and its tenant if one is given."""
    known: Any = ws
    context = dataclasses.replace(known.context, principal=principal)
    if tenant is not None:
        context = dataclasses.replace(context, tenant=tenant)
    who = dataclasses.replace(known.identity, principal=principal, tenant="", expires=None)
    acting: T = dataclasses.replace(known, context=context, identity=who)
    return acting
