"""The workspace of a request to the gateway: what its grant permits in one use case."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from workbench import arguments, config
from workbench.config import Execution
from workbench.context import Context
from workbench.errors import ConfigError
from workbench.identities.grants import Grant
from workbench.workspace import caller_identity
from workbench.workspace.boundary import Boundary
from workbench.workspace.use_case import check_tenant
from workbench.workspace.workspace import Workspace


def workspace_of(
    grant: Grant,
    use_case: str,
    *,
    root: Path,
    through: Boundary,
    tenant: str | None = None,
    purpose: str | None = None,
) -> Workspace:
    """Return a workspace of the bearer of a grant, whose calls pass the boundary `through`.

    `tenant` is by default the grant's, then the use case's first; `purpose` the only one of the grant, else
    "explore". Raise NotFoundError for an unknown use case, ConfigError for a name that cannot be one, and
    RefusedError for a use case, a tenant or a purpose that the grant is not for.
    """
    permitted = permitted_use_cases(grant, root)
    if use_case not in permitted and grant.is_scoped:  # the same for one that does not exist
        raise grant.refusal("use case", use_case, permitted)
    case = config.use_case(config.load_params(root), use_case)
    who = grant.identity_in(use_case, case)
    tenant = caller_identity.tenant_of(who, tenant, None) or case.tenants[0]
    check_tenant(use_case, case, tenant)
    purpose = _purpose_of(grant) if purpose is None else arguments.text(purpose, "purpose")
    if not purpose:
        raise ConfigError("the purpose is empty", hint="name one, or leave it out")
    grant.check_purpose(purpose)
    context = Context(
        use_case=use_case, tenant=tenant, principal=who.principal, phase=case.phase, purpose=purpose,
        grant=dataclasses.replace(grant.scope, use_cases=grant.use_cases),
    )  # fmt: skip
    return Workspace(
        root=root, name=use_case, use_case=case, identity=who, context=context, boundary=through,
        execution=Execution(notebook=""),
    )  # fmt: skip


def permitted_use_cases(grant: Grant, root: Path) -> tuple[str, ...]:
    """Return the use cases of params.yaml that a grant is for, and whose tenants include the grant's."""
    cases = config.load_params(root).use_cases
    tenant = grant.identity.tenant
    return tuple(
        name
        for name, case in cases.items()
        if (grant.use_cases is None or name in grant.use_cases) and (not tenant or tenant in case.tenants)
    )


def _purpose_of(grant: Grant) -> str:
    purposes = grant.scope.purposes
    if purposes is None or "explore" in purposes:
        return "explore"
    if len(purposes) == 1:
        return next(iter(purposes))
    raise ConfigError(
        f"the request states no purpose, and its key is for {', '.join(sorted(purposes))}",
        hint="send the header 'Workbench-Purpose: NAME'",
    )
