"""How far the kernels of judged runs and jobs are confined, in `params.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from workbench import files
from workbench.config.forms import check_inside
from workbench.errors import ConfigError

#: `require` refuses to run where this machine cannot confine a kernel, `prefer` confines as far as it can.
ConfinementMode = Literal["require", "prefer", "off"]
#: Folders of a repository whose content is of one machine: a run that read it would be another one elsewhere.
_STATE: Final = frozenset({".dvc", ".git", ".workbench"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionSettings:
    """How the kernels of a use case or a job run.

    `confinement` None leaves it to the use case, and then to `prefer`. `read` names more files and folders of
    the repository that a confined kernel may read; what is expected of cases is never among them.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    confinement: ConfinementMode | None = None
    read: tuple[str, ...] = ()

    @property
    def mode(self) -> ConfinementMode:
        """How far a kernel is confined, `prefer` where nothing is stated."""
        return self.confinement or "prefer"

    def over(self, other: ExecutionSettings) -> ExecutionSettings:
        """Return these settings of a job, with those of its use case where none is stated here."""
        read = (*other.read, *self.read)
        return ExecutionSettings(confinement=self.confinement or other.confinement, read=read)


def check_execution(where: str, settings: ExecutionSettings) -> None:
    """Raise ConfigError for a path that leaves the repository, or that leads to its state or its history."""
    for path in settings.read:
        check_inside(path, where=f"{where}.execution.read")
        if Path(path).parts[0] in _STATE:
            raise ConfigError(
                f"{where}.execution.read: {files.shortened(path)!r} is state of one machine",
                hint="copy what the notebook reads into a folder that git has, such as data/",
            )
