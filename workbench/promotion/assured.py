"""Who may promote, roll back and run: an authenticated principal, where a use case demands one."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from workbench import config
from workbench.config import Params, UseCase
from workbench.errors import WorkbenchError
from workbench.identities.providers import check_assured, identity_of_process
from workbench.layout import PARAMS
from workbench.ports.identity import Identity
from workbench.repository.git import Repository


def check_authenticated(root: Path, kind: str, name: str, *, verb: str) -> None:
    """Raise RefusedError when a use case of the asset demands an authenticated principal and this is none.

    What is committed counts beside the file as it is, so that an edit does not end the demand.
    """
    for params in _stated(root):
        for use_case, case in params.use_cases.items():
            if case.assurance == "authenticated" and _is_used(params, use_case, case, f"{kind}/{name}"):
                check_assured(params.identity, root, use_case=use_case, verb=f"{verb} {kind}/{name}")


def is_authenticated_demanded(root: Path, kind: str, name: str) -> bool:
    """Whether a use case of the asset demands an authenticated principal, as it is or as it is committed."""
    return any(
        case.assurance == "authenticated" and _is_used(params, use_case, case, f"{kind}/{name}")
        for params in _stated(root)
        for use_case, case in params.use_cases.items()
    )


def phase_of(root: Path, use_case: str) -> str:
    """Return mlvp where params.yaml has the use case in it, as it is or as it is committed, else its phase.

    Return "" for a use case that neither has.
    """
    phases = {params.use_cases[use_case].phase for params in _stated(root) if use_case in params.use_cases}
    return "mlvp" if "mlvp" in phases else next(iter(phases), "")


def mover(root: Path) -> Identity:
    """Return the identity of this process by what is committed, or else by params.yaml as it is."""
    return identity_of_process(_stated(root)[-1].identity, root)


def _stated(root: Path) -> list[Params]:
    """Return params.yaml as it is and as it is committed, each where it can be read.

    A rollback works while the file is torn. Raise the error of the file when neither can be read.
    """
    found: list[Params] = []
    fault: WorkbenchError | None = None
    try:
        found.append(config.load_params(root))
    except WorkbenchError as error:
        fault = error
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder, contextlib.suppress(WorkbenchError):
        committed = Repository(root=root).read("HEAD", str(PARAMS))
        if (
            found and committed == (root / PARAMS).read_bytes()
        ):  # parsed once, which takes a tenth of a second
            found *= 2
        elif committed is not None:
            (Path(folder) / PARAMS).write_bytes(committed)
            found.append(config.load_params(Path(folder)))
    if not found and fault is not None:
        raise fault
    return found


def _is_used(params: Params, use_case: str, case: UseCase, asset: str) -> bool:
    """Whether the use case names the asset; a job that params.yaml no longer declares may be of each."""
    kind, _, name = asset.partition("/")
    if kind == "job":
        return name not in params.jobs or params.jobs[name].use_case == use_case
    choice = case.model_choice
    named: dict[str, list[str | None]] = {
        "prompt": [case.prompt.name if case.prompt else None],
        "memory": [case.memory.name if case.memory else None],
        "model": [*(model.partition("@")[0] for model in (choice.name, *choice.models))],
    }
    return name in named.get(kind, [])
