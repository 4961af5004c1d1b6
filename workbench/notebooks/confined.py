"""Start a notebook's kernel by the command that confines it, and end it with all its processes."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from workbench import files
from workbench.errors import ConfigError, NotebookError
from workbench.forking import seeds
from workbench.process_groups import end_group

#: Bytes of a dead kernel's output of which the last line is told.
_LAST_BYTES: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Confined:
    """A confinement of a kernel, prepared by `workbench.confinement`.

    `command` precedes the kernel's own command. `folder` is a private folder with a short path in which the
    kernel may write: its connection file and its sockets are there. `failure` is a file that says why the
    command did not start the kernel.
    """

    command: tuple[str, ...]
    folder: Path
    failure: Path

    @contextlib.contextmanager
    def managing(self, client: Any) -> Iterator[None]:
        """Let a client of nbclient start its kernel confined, on Unix sockets; end all its processes."""
        manager = client.create_kernel_manager()
        manager.transport = "ipc"
        manager.connection_file = str(self.folder / f"{secrets.token_hex(4)}.json")
        spec = manager.kernel_spec
        kernel = (sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}")
        spec.argv, spec.env, spec.metadata = [*self.command, *kernel], {}, {}
        if (seed := seeds.taken()) is not None:
            from workbench.notebooks import forked_kernel

            spec.metadata = forked_kernel.provisioned(seed)
        try:
            yield
        finally:
            if group := getattr(manager.provisioner, "pgid", None):
                end_group(group)  # a confined process cannot leave its group

    def check_started(self, notebook: Path) -> None:
        """Raise NotebookError when the kernel of a notebook was not started, with the launcher's reason."""
        why = ""
        with contextlib.suppress(FileNotFoundError):
            why = self.failure.read_text(encoding="utf-8", errors="replace")[:2_000]
        if why:
            raise NotebookError(
                f"{notebook}: the kernel could not be confined: {why}",
                hint="workbench doctor   # what this machine can confine",
            ) from None

    def last_line(self) -> str:
        """Return the last line that the kernel's process wrote before it died, "" for none."""
        try:
            descriptor = files.open_regular(self.folder / "output.log")
        except (OSError, ConfigError):  # the kernel may have put anything there
            return ""
        with os.fdopen(descriptor, "rb") as file:
            file.seek(max(0, os.fstat(descriptor).st_size - _LAST_BYTES))
            lines = file.read(_LAST_BYTES).decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
