"""The command line: `workbench …`. One file a group of commands."""

from workbench.cli.app import main

__all__ = ["main"]
