"""Run a notebook's kernel on a gateway of its own, confined as params.yaml states and the machine can."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Unpack

import workbench
from workbench.audit import Act, log_act
from workbench.config import ConfinementMode, Execution, ExecutionSettings
from workbench.confinement import prepared
from workbench.confinement.allowed import Allowed
from workbench.confinement.supported import Support, support
from workbench.errors import RefusedError
from workbench.gateway.run_gateway import RunGateway
from workbench.identity import Confinement
from workbench.layout import PARAMS
from workbench.notebooks import execution as notebooks
from workbench.notebooks.confined import Confined
from workbench.notebooks.execution import Executed, ExecuteOptions
from workbench.types import JSON

#: The folder in a run's folder in which its kernel writes.
KERNEL: Final = "kernel"
#: The declarative files of a repository, which a confined kernel reads; no expected value is among them.
_DECLARED: Final = (
    PARAMS, "pipelines/assessments", "pipelines/memories", "pipelines/models", "pipelines/moderation",
    "pipelines/policies", "pipelines/privacy", "pipelines/prompts", "pipelines/quality",
)  # fmt: skip
#: What a confined kernel never reads, whatever leads there: state, history and copies of results.
_HIDDEN: Final = (".dvc", ".git", ".workbench/state", "mlruns", "published", "reports", "results")
#: The folder of links to the modules of a repository, in place of its root on the module path.
_MODULES: Final = "modules"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSettings:
    """How the kernel of a run is confined: the `mode`, and the files beside the declarative ones.

    `code` is the repository of the run's code, where another one keeps its state. `read` are files and
    folders that the kernel reads, `write` those in which it writes, and `hidden` what it never reads.
    """

    mode: ConfinementMode = "off"
    code: Path | None = None
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A completed run, the recordings that it used, and the records of its calls by case.

    `used` maps the key of each recording, used or made, to its store: "tape" or "cache".
    """

    executed: Executed
    used: Mapping[str, str] = field(repr=False)
    records: Mapping[str, Sequence[JSON]] = field(repr=False)


def run_kernel(
    root: Path,
    path: Path,
    parameters: Mapping[str, Any],
    *,
    execution: Execution,
    settings: KernelSettings,
    **options: Unpack[ExecuteOptions],
) -> Ran:
    """Execute a notebook of a use case in a fresh kernel, which asks a gateway in this process.

    `root` keeps the executed copy and the state. `execution` is what the gateway knows, and `options` are
    those of `notebooks.execute`. Raise RefusedError where this machine lacks a part of what is required.
    """
    code, machine = settings.code or root, support()
    level = level_of(settings.mode, machine, what=execution.job or str(path))
    with RunGateway(code, str(execution.use_case), execution, confinement=level) as gateway:
        if execution.publish:
            _log_run(gateway, machine)
        if level != "none":
            options["confined"] = _confined(code, gateway, settings, options)
        if level != "none" and machine.files and isinstance(watch := options.get("watch"), notebooks.Watched):
            options["watch"] = dataclasses.replace(watch, native=False)
        executed = notebooks.execute(
            path, root=root, parameters=parameters, execution=gateway.kernel, **options
        )
    return Ran(executed=executed, used=gateway.used, records=gateway.records)


def level_of(mode: ConfinementMode, machine: Support, *, what: str) -> Confinement:
    """Return how far a kernel is confined here; raise RefusedError where more is required."""
    if mode == "require" and machine.level != "full":
        raise RefusedError(
            f"{what}: params.yaml requires that its kernel is confined, and this machine lacks "
            f"{'; '.join(machine.missing)}",
            hint="run it on a machine that has it, or write execution: {confinement: prefer}",
        )
    return "none" if mode == "off" else machine.level


def settings_of(
    root: Path, stated: ExecutionSettings, *, read: tuple[Path, ...], **more: Any
) -> KernelSettings:
    """Return how a kernel is confined: as params.yaml states it for a run of the repository `root`.

    `more` are the other fields.
    """
    read = (*read, *(root / name for name in stated.read))
    return KernelSettings(mode=stated.mode, read=read, **more)


def _log_run(gateway: RunGateway, machine: Support) -> None:
    """Write a row of the audit log: how far the kernel of the run is confined, and what is missing."""
    current = gateway.execution
    ws = gateway.workspace(str(current.use_case))
    act = Act(
        activity="run", principal=ws.context.principal, type="Job", name=str(current.job),
        tenant=current.tenant or "", use_case=ws.name,
        facts={
            "run": current.run or "", "confinement": gateway.confinement, "missing": list(machine.missing),
        },
    )  # fmt: skip
    log_act(ws.boundary.home, act)


def _confined(root: Path, gateway: RunGateway, settings: KernelSettings, options: ExecuteOptions) -> Confined:
    """Return the confinement of the run's kernel."""
    folder, modules = gateway.folder, gateway.folder / _MODULES
    hidden = (*settings.hidden, *(root / name for name in _HIDDEN))
    modules.mkdir(0o700)
    linked = dict(_modules(root, hidden))
    for name, path in linked.items():
        (modules / name).symlink_to(path)
    cwd = options.get("cwd")
    read = [*(root / name for name in _DECLARED), *linked.values(), modules, *settings.read]
    if cwd is not None and not root.is_relative_to(cwd):  # of the root it reads what is named alone
        read.append(cwd)
    allowed = Allowed(read=tuple(path for path in read if path.exists()), write=settings.write, hidden=hidden)
    spec = prepared.spec(allowed, {"PYTHONPATH": str(modules)}, folder=folder, inherited=gateway.inherited)
    return Confined(
        command=prepared.launcher(spec),
        folder=folder / prepared.OWN,
        failure=prepared.failure_of(spec),
    )


def _modules(root: Path, hidden: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the modules at the root of a repository that a kernel imports, and this package, by their names.

    The kernel finds them by links, because it may not list the root.
    """
    for path in sorted(root.glob("*.py")):
        yield path.name, path
    for path in sorted(root.glob("*/__init__.py")):
        lies_in = any(path.is_relative_to(item) for item in hidden)
        if not lies_in and not any(item.is_relative_to(path.parent) for item in hidden):
            yield path.parent.name, path.parent
    yield "workbench", Path(workbench.__file__).resolve().parent
