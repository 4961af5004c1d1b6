"""Start a confined kernel in the seed of this process instead of a new interpreter: a provisioner of Jupyter.

The seed gets the variables that the confined kernel keeps, and no others.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Final

from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from workbench.forking.seeds import KernelSeed

_NAME: Final = "workbench-forked"


class ForkedProvisioner(LocalProvisioner):
    """Jupyter's local provisioner, whose kernel is the process of a seed."""

    #: The seed of this process, until its kernel starts.
    seeds: Final[list[KernelSeed]] = []

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Let the seed become the kernel of a command; without a seed, start the command."""
        if not self.seeds:
            return await super().launch_kernel(cmd, **kwargs)
        command = cmd[cmd.index("--") - 1 :]  # the launcher's spec and what follows
        variables = {**kwargs["env"], "JPY_PARENT_PID": str(os.getpid())}
        environment = {name: variables[name] for name in _kept(command[0]) if name in variables}
        cwd = kwargs.get("cwd") or os.getcwd()  # noqa: PTH109  papermill changes it for the kernel
        process: Any = self.seeds.pop().become(command, environment=environment, cwd=str(cwd))
        self.process = process
        self.pid = self.pgid = process.pid  # it leads a session
        return self.connection_info


def _kept(spec: str) -> list[str]:
    """Return the names of the variables that a confined kernel keeps."""
    kept: list[str] = json.loads(Path(spec).read_bytes())["kept"]
    return kept


def provisioned(seed: KernelSeed) -> dict[str, Any]:
    """Return the metadata of a kernel spec whose next kernel is the process of a seed."""
    ForkedProvisioner.seeds.append(seed)
    value = f"{ForkedProvisioner.__module__}:{ForkedProvisioner.__qualname__}"
    entry = EntryPoint(name=_NAME, value=value, group=KernelProvisionerFactory.GROUP_NAME)
    KernelProvisionerFactory.instance().provisioners[_NAME] = entry
    return {"kernel_provisioner": {"provisioner_name": _NAME}}
