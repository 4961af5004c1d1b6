"""Add the files of a new repository to the wheel: the build hook of hatch that pyproject.toml names."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RepositoryHook(BuildHookInterface[Any]):
    """Map the files that pyproject.toml lists as `base` and `example` into the package.

    An editable installation reads them from the project's folder instead, so it carries no copy.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to a wheel; hatch raises FileNotFoundError when one is missing."""
        if version == "editable":
            return
        for group in ("base", "example"):
            for path in self.config[group]:
                build_data["force_include"][path] = f"workbench/scaffold/carried/{group}/{path}"
