"""Become a confined kernel in a forked process, as the launcher and a new interpreter would."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.confinement import launch
from workbench.forking import state


def become_kernel(asked: Mapping[str, Any], *, without: str) -> None:
    """Confine this process by the spec that it is told, and run its kernel until that ends.

    `asked` has the path of the spec and the kernel's arguments as `command`, the variables that the kernel
    keeps, and its folder. Nothing of it runs when a part of the confinement fails: the spec's file of failure
    says why, and SystemExit ends the process. `without` is the folder of the code on the module path.
    """
    path, _, *kernel = asked["command"]
    spec = launch.read(path)
    with launch.reporting(spec) as failure:
        former = os.environ.get("PYTHONPATH", "")
        state.replace_environment({**asked["environment"], "PYTHONPATH": former})
        os.chdir(asked["cwd"])
        environment = launch.enter(spec, failure)
        os.close(failure)
    state.restart_imports(environment, without=without)
    gc.set_threshold(*_THRESHOLDS)
    # It reads this variable when it is imported, which was in the template.
    _run([*kernel, f"--IPKernelApp.parent_handle={environment.get('JPY_PARENT_PID', '0')}"])


#: Those of a new interpreter: a kernel lives longer than a command.
_THRESHOLDS = (700, 10, 10)


def _run(command: list[str]) -> None:
    """Run `PYTHON -m ipykernel_launcher …` in this process."""
    from ipykernel import kernelapp

    sys.argv = [str(Path(kernelapp.__file__).parents[1] / "ipykernel_launcher.py"), *command[3:]]
    kernelapp.launch_new_instance()
