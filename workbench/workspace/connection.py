"""Connect to a use case: the workspace of a notebook, a service or a job, and that of the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from workbench import arguments, config
from workbench.config import Execution, Mode
from workbench.context import Context
from workbench.identity import Principal
from workbench.workspace import caller_identity
from workbench.workspace.boundary import Boundary
from workbench.workspace.chosen_boundary import Connecting, boundary_for
from workbench.workspace.use_case import check_tenant
from workbench.workspace.workspace import Workspace

if TYPE_CHECKING:
    from workbench.experiments.runs import Run
    from workbench.reviews.blind_review import Review
    from workbench.workspace.label_review import ReviewOptions


class Means(TypedDict, total=False):
    """What answers a workspace's calls: see `connect`."""

    mode: Mode | None
    through: Boundary | None


def connect(
    use_case: str,
    *,
    tenant: str | None = None,
    root: str | Path | None = None,
    principal: Principal | None = None,
    token: str | None = None,
    purpose: str = "explore",
    **means: Unpack[Means],
) -> Workspace:
    """Return a workspace for a use case in params.yaml. The first call starts servers and opens connections.

    `tenant` is by default the token's, then the use case's first. The caller is whom the identity provider of
    params.yaml names: the user of the process, or the bearer of `token`, by default the process's token.
    `principal` may have fewer rights. `mode` chooses what answers model calls: "auto" the tape, then the
    cache, then the model; "replay" the tape alone; "live" and "record" the model. `through` replaces the
    boundary. Raises ConfigError and NotFoundError with the file and the key, and RefusedError for a caller
    who is not identified.
    """
    base = config.find_root(Path(root) if root is not None else None)
    params, current = config.load_params(base), Execution.current() or Execution(notebook="")
    case, foreign = config.use_case(params, use_case), current.use_case != use_case
    who = caller_identity.of_execution(base, params.identity, case, current, token=token, foreign=foreign)
    own = who.principal
    if principal is not None:
        who = caller_identity.narrowed(who, principal)
    # A job stays one in every use case; what its version pins is for its own.
    execution = current
    if foreign:
        execution = Execution(notebook="", tenant=current.tenant, gateway=current.gateway)
    case = config.pinned(case, execution.pins)
    stated = caller_identity.tenant_of(who, tenant, execution.tenant)
    tenant = case.tenants[0] if stated is None else stated
    check_tenant(use_case, case, tenant, only=execution.tenant)
    context = Context(
        use_case=use_case, tenant=tenant, principal=who.principal, phase=case.phase,
        purpose="job" if current.job else arguments.text(purpose, "purpose"),
        job=current.job or "", run=current.run or "",
    )  # fmt: skip
    connecting = Connecting(
        root=base, name=use_case, use_case=case, execution=execution, current=current, own=own, token=token,
        mode=means.get("mode"),
    )  # fmt: skip
    return Workspace(
        root=base, name=use_case, use_case=case, identity=who, context=context, execution=execution,
        boundary=means.get("through") or boundary_for(connecting), settings=execution.settings,
    )  # fmt: skip


def review(run: Run, other: Run, **how: Unpack[ReviewOptions]) -> Review:
    """Return the blind review of two runs by the user of this process, as `Workspace.review` does."""
    return connect(run.use_case).review(run, other, **how)


def connect_pipeline(
    use_case: str, *, root: Path, purpose: str, through: Boundary, admin: bool | None = None
) -> Workspace:
    """Return a workspace of the pipeline's own principal, the user of this process, whatever token it has.

    `admin` replaces what params.yaml says, for a memory that is the stage's own.
    """
    case = config.use_case(config.load_params(root), use_case)
    who = caller_identity.of_pipeline(case, admin=admin)
    return Workspace(
        root=root,
        name=use_case,
        use_case=case,
        identity=who,
        context=Context(
            use_case=use_case,
            tenant=case.tenants[0],
            principal=who.principal,
            purpose=purpose,
            phase=case.phase,
        ),
        boundary=through,
        execution=Execution(notebook=""),
    )
