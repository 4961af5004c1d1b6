"""The plots of a readiness page: the same drawings that a notebook shows, as SVG inside the page."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from workbench.errors import ConfigError
from workbench.experiments.gate_lines import GateLine
from workbench.experiments.run_plots import (
    PlottedArm,
    arms_plot,
    calibration_plot,
    cost_plot,
    latency_plot,
    slices_plot,
)
from workbench.experiments.runs import Run
from workbench.pipeline.evidence import Evidence
from workbench.plots import Plot, Role


def plots_of(evidence: Evidence) -> dict[str, Markup]:
    """Return the plots of a page by name; "" for one that the runs have no data for."""
    judged, level = evidence.judged, evidence.gate.confidence
    arms = [run.plotted(role_of(run, judged=run is judged)) for run in evidence.runs]
    primary = judged.score_names[0]
    scored = [arm for arm in arms if arm.cases[f"score.{primary}"].drop_nulls().len()]
    return {
        "arms": shown(arms_plot(arms, primary, level)),
        "cost": shown(cost_plot(scored, primary, level)) if len(scored) > 1 else Markup(""),
        "latency": _latency(arms),
        "calibration": _calibration(arms[0], primary, level),
    }


def slices_of(line: GateLine, by: str, level: float, bound: float | None) -> Markup:
    """Return the forest plot of the slices of one column."""
    return shown(slices_plot(f"{line.metric} by {by}", line.metric, line.by[by], level, bound))


def shown(plot: Plot) -> Markup:
    """Return a plot as markup of a page; its labels are escaped already."""
    return Markup(plot.svg.decode())  # noqa: S704  written by our renderer, which escapes each text


def role_of(run: Run, *, judged: bool) -> Role:
    """Return what an arm of the page is: judged, control or explored."""
    if judged:
        return "judged"
    return "control" if run.is_control else "explored"


def _latency(arms: Sequence[PlottedArm]) -> Markup:
    try:
        return shown(latency_plot(arms))
    except ConfigError:  # no arm asked a model
        return Markup("")


def _calibration(arm: PlottedArm, primary: str, level: float) -> Markup:
    try:
        return shown(calibration_plot([arm], primary, level))
    except ConfigError:  # no other score forecasts the first one
        return Markup("")
