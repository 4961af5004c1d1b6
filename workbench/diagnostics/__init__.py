"""Checks of a whole repository and machine: `workbench check` and `workbench doctor`."""
