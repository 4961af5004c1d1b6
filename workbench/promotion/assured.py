"""Who may promote, roll back and run: an authenticated principal, where a use case demands one."""

from __future__ import annotations

from pathlib import Path

from workbench import config
from workbench.config import Params, UseCase
from workbench.identities.providers import check_assured


def check_authenticated(root: Path, kind: str, name: str, *, verb: str) -> None:
    """Raise RefusedError when a use case of the asset demands an authenticated principal and this is none."""
    params = config.load_params(root)
    for use_case, case in params.use_cases.items():
        if case.assurance == "authenticated" and _is_used(params, use_case, case, f"{kind}/{name}"):
            check_assured(params.identity, root, use_case=use_case, verb=f"{verb} {kind}/{name}")


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
