"""Plots as SVG with the same bytes on every machine, and as a table of their numbers."""

from workbench.plots.picture import Mark, Role
from workbench.plots.plot import Plot

__all__ = ["Mark", "Plot", "Role"]
