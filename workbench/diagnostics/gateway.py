"""Check which gateway answers the calls of notebooks, and whether it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workbench.config import Params
from workbench.diagnostics.findings import Finding, tried
from workbench.workspace import provider_keys
from workbench.workspace.chosen_boundary import chosen_gateway
from workbench.workspace.gateway_place import GatewayPlace
from workbench.workspace.gateway_process import running, under_way


def answering(root: Path, params: Params | None) -> Iterator[Finding]:
    """Yield what answers the calls of notebooks; nothing where each process answers its own."""
    use = chosen_gateway(params) if params is not None else "off"
    if use == "auto":
        yield tried("gateway of notebooks", lambda: _private(root))
    elif use != "off":
        yield Finding(what="gateway of notebooks", state="ok", detail=f"the one at {use}")


def _private(root: Path) -> str:
    """Describe the private gateway; WorkbenchError when none could be started or asked."""
    stored = len(provider_keys.stored(root))
    keys = f"; {stored} key{'s' * (stored != 1)} of providers stored" if stored else ""
    found = running(GatewayPlace.of(root))
    if not found:
        return f"starts with the first call{keys}"
    return "; ".join(f"{each}, {under_way(each)} under way" for each in found) + keys
