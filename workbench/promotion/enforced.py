"""What phase mlvp demands of the policies of a use case: that they are enforced."""

from __future__ import annotations

from workbench.config import UseCase


def unenforced(name: str, case: UseCase) -> str:
    """Return the problem of a use case of phase mlvp whose rules are only observed, "" without one."""
    modes = {"policy": case.policy.enforce, "privacy": case.privacy.enforce}
    observed = [key for key, mode in modes.items() if mode != "enforce"]
    if case.phase != "mlvp" or not observed:
        return ""
    return (
        f"{name} is in phase mlvp, and its {observed[0]} is only observed\n"
        f"  -> write {observed[0]}: {{enforce: enforce}} into use_cases.{name} of params.yaml"
    )
