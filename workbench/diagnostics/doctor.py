"""Examine the machine, the repository and its servers for `workbench doctor`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from workbench import config
from workbench.config import MemoryServer, Params, UseCase
from workbench.diagnostics import (
    budgets,
    channels,
    confinement,
    disk,
    endpoints,
    gateway,
    machine,
    servers,
    telemetry,
)
from workbench.diagnostics.findings import Diagnosis, Finding
from workbench.errors import WorkbenchError


def examine(root: Path, *, environment: Mapping[str, str] = os.environ) -> Diagnosis:
    """Return all findings, in under three seconds; no program is started and no secret is shown."""
    params, declared = _params(root)
    cases = params.use_cases if params else {}
    findings = [
        declared,
        *machine.environment(root),
        *machine.jobs(root),
        *machine.programs(environment.get("PATH")),
        confinement.kernels(),
        *machine.models(root, cases),
        *disk.recordings(root, cases),
        servers.key(root, environment=environment),
        *_servers(cases, environment),
        *gateway.answering(root, params),
        *endpoints.breakers(root),
        *budgets.left(root, params),
        *channels.ready(root, environment=environment),
        *telemetry.exports(root, environment=environment),
        disk.room(root),
        disk.leftovers(root),
    ]
    return Diagnosis(findings=tuple(findings))


def _params(root: Path) -> tuple[Params | None, Finding]:
    try:
        params = config.load_params(root)
    except WorkbenchError as error:
        fix = error.hint or "workbench check"
        return None, Finding(what="params.yaml", state="broken", detail=error.message, fix=fix)
    detail = f"use cases {', '.join(params.use_cases)}"
    return params, Finding(what="params.yaml", state="ok", detail=detail)


def _servers(cases: Mapping[str, UseCase], environment: Mapping[str, str]) -> Iterator[Finding]:
    """Check each named server once, or the default address when none is named."""
    tenants: dict[MemoryServer, tuple[str, ...]] = {}
    for case in cases.values():
        server = config.memory_server(case)
        if server is not None:
            tenants[server] = tuple(dict.fromkeys((*tenants.get(server, ()), *case.tenants)))
    if not tenants:
        yield from servers.server(servers.DEFAULT, needed=False, environment=environment)
    for server, served in tenants.items():
        yield from servers.server(server, tenants=served, needed=True, environment=environment)
