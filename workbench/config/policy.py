"""How a use case's policies apply, in `params.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from workbench import files


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyMode:
    """Whether a denial refuses the call (`enforce`) or is recorded alone (`observe`).

    What the built-in policies deny is refused in both.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    enforce: Literal["observe", "enforce"] = "enforce"
