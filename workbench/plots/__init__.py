"""Plots as SVG with the same bytes on every machine, and as a table of their numbers."""

from workbench.plots.plot import Mark, Plot, Role

__all__ = ["Mark", "Plot", "Role"]
