"""Say which memory writes of a run last: those of its slot, once, or none, in a file beside its request.

The request itself gets no new key: the worker of an older version refuses a key that it does not know, and
reads no other file. The runner writes the file, and no notebook can change what its worker has read.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from workbench import files

#: The file, beside the request in the run's folder.
EFFECTS = "effects.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEffects:
    """The slot to which a run's memory writes belong, such as `answers/acme/20261124T060000Z`.

    Without a slot the run is on trial: its writes go into copies, which end with it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    format: Literal[1] = 1
    slot: str | None = None

    def write(self, folder: Path) -> None:
        """Write the file into the folder of a run."""
        files.write_atomic(folder / EFFECTS, files.pretty(dataclasses.asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> RunEffects | None:
        """Return what the file in a run's folder says, None without one; ConfigError for another form."""
        path = folder / EFFECTS
        if not path.is_file():
            return None
        return files.parse(cls, files.parse_json(files.read_text(path), where=str(path)), where=str(path))
