"""Names that a grant is not for: one that exists is refused as one that does not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from workbench.context import Context
from workbench.controls.policy import outside_scope
from workbench.errors import NotFoundError
from workbench.models import ModelCard
from workbench.types import Port
from workbench.workspace.boundary import Boundary


@contextlib.contextmanager
def within_scope(context: Context, port: Port, name: str) -> Iterator[None]:
    """Raise RefusedError in place of a NotFoundError, for a name outside of the grant's scope."""
    try:
        yield
    except NotFoundError:
        if context.grant.permits(port, name):
            raise
        raise outside_scope(context, port, name) from None


def stated_card(boundary: Boundary, context: Context, name: str) -> ModelCard:
    """Return the card of a stated fall-back; raise RefusedError for one outside of the scope."""
    with within_scope(context, "model", name):
        card = boundary.card(name)
    if not context.grant.permits("model", card.reference):
        raise outside_scope(context, "model", name)
    return card
