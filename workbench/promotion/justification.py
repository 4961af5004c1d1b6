"""Find the judged run that justifies a version of a prompt, model or memory in production."""

from __future__ import annotations

from pathlib import Path

from workbench import config
from workbench.errors import NotFoundError
from workbench.experiments.gates import GateReport
from workbench.experiments.loosening import loosened
from workbench.promotion import freezing, verdicts
from workbench.promotion.judgement import judged, verdicted
from workbench.promotion.requirements import Blocker
from workbench.registry import Version


def justified(root: Path, kind: str, version: Version, reason: str | None) -> GateReport | Blocker:
    """Return the passing gate report of a judged run that used this version, or else the blocker.

    A pass under a loosened text justifies nothing without a `reason`.
    """
    fix = f"name version {version.number} in params.yaml, then: dvc repro"
    what = f"no judged run used {kind}/{version} and passed its gate"
    blocker = Blocker(what=what, fix=fix, exit_code=1)
    for name, case in config.load_params(root).use_cases.items():
        try:
            run = freezing.judged_run(root, name, case)
        except NotFoundError:
            continue  # that use case has not been reproduced here
        if run.settings.get(kind) != str(version):
            continue
        report = judged(root, name, case, run)
        if report.verdict != "pass":
            continue
        found = loosened(verdicted(root, name, case, run, report), verdicts.recorded(root, name))
        unexcused = verdicts.unexcused(name, found, reason, asset=f"{kind}/{version}", label="production")
        if unexcused is None:
            return report
        blocker = unexcused
    return blocker
