"""Start a job's worker and exchange one request and one result with it, as files with a format number.

The runner is today's workbench. The worker (`python -m workbench.worker REQUEST`) is the workbench of the
version's own commit, in its own environment. The two files are all they share: they grow by optional keys
alone, and a key at its default is left out.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from workbench import files, processes
from workbench.config import Mode
from workbench.errors import DeadlineError, NotebookError, WorkbenchError
from workbench.forking import kept, templates
from workbench.jobs import spec as jobspec
from workbench.layout import CACHE

FORMAT: Literal[1] = 1
REQUEST, RESULT = "request.json", "result.json"
_TICK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to run a frozen notebook. Paths are absolute; `root` holds the version's code and specs.

    `home` is the repository that keeps state and caches. `memory` is the logical digest of the
    snapshot to search, which the worker finds in or builds into the folder `memories`. `ws.publish`
    writes into `out`. The tape `tape` is read, and the used recordings are written to `tape_out`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    format: int = FORMAT
    run: str
    job: str
    use_case: str
    root: str
    home: str
    notebook: str
    cwd: str
    parameters: dict[str, Any]
    inputs: str
    pins: dict[str, str]
    arm: dict[str, Any]
    memory: str
    memories: str
    mode: Mode
    tape: str
    out: str
    broken: float = 1.0
    tenant: str | None = None
    journal: str | None = None
    tape_out: str | None = None
    watch: str | None = None
    show: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error of the worker: its message, its hint, and the exit code of its kind."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    kind: str
    message: str
    hint: str = ""
    exit_code: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResult:
    """The worker's result. `counts` is what `ws.publish` counted; it is empty when nothing was published."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    format: int = FORMAT
    task_digest: str = ""
    notebook: str = ""
    counts: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None


class WorkerError(WorkbenchError):
    """An error that a worker reported, with the exit code of its kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPaths:
    """The folders of a run: the repository, the version's exported code, and the run's own folder."""

    home: Path
    code: Path
    work: Path


def request_of(
    spec: jobspec.JobSpec, task: bytes, place: RunPaths, *, run: str, inputs: Path | str, **rest: Any
) -> Request:
    """Write a version's frozen notebook `task` into the run's folder; return the request to run it.

    `inputs` lies in that folder. `rest` holds the request's mode and tape, and its optional fields.
    """
    notebook = place.work / jobspec.TASK
    files.write_atomic(notebook, task)
    return Request(
        run=run,
        job=spec.job,
        use_case=spec.use_case,
        root=str(place.code),
        home=str(place.home),
        notebook=str(notebook),
        cwd=str(place.code / Path(spec.notebook).parent),
        parameters=spec.values(),
        inputs=str(place.work / inputs),
        pins=spec.pins,
        arm=spec.arm,
        memory=spec.digests["memory"],
        memories=str(place.home / CACHE / "memories"),
        out=str(place.work / "out"),
        broken=spec.limits.broken,
        **rest,
    )


def told(value: Request | WorkerResult) -> bytes:
    """Return a request or result as JSON, without keys at their default: older readers may not know them."""
    defaults = {item.name: item.default for item in dataclasses.fields(value) if item.name != "format"}
    plain = dataclasses.asdict(value)
    return files.pretty(
        {name: item for name, item in plain.items() if name not in defaults or item != defaults[name]}
    )


def run(
    request: Request, *, python: Path, folder: Path, seconds: float, tick: Callable[[], None] = lambda: None
) -> WorkerResult:
    """Run a request in a process of its own, under one deadline for the whole run; return its result.

    `tick` is called ten times a second. However the run ends (by itself, at the deadline, by an interrupt
    or by an error in `tick`), every process that it started is ended before this function returns.
    """
    files.write_atomic(folder / REQUEST, told(request))
    process = _start(request, python, folder / REQUEST)
    until = time.monotonic() + seconds
    try:
        while process.poll() is None:
            tick()
            if time.monotonic() > until:
                raise DeadlineError(
                    f"{request.job}: not finished after {seconds:g} s; all its processes were ended",
                    hint="run it again: its answers are kept; or raise limits.seconds and promote again",
                )
            time.sleep(_TICK_S)
    finally:
        processes.end(request.run, process)
    return _result(folder / RESULT, request, process.wait())


def _start(request: Request, python: Path, asked: Path) -> templates.StartedProcess:
    """Start the worker of a request: forked from a template where one is kept, else anew."""
    environment, output = _environment(request, python), shown(show=request.show)
    umask = 0o077  # it writes below .workbench only
    order = templates.TemplateOrder.of(
        environment, name=f"the code of {request.job} at {Path(request.root).name[:12]}",
        python=str(python), module="workbench.worker", cwd=request.root,
    )  # fmt: skip
    if folder := kept.folder_for(order):
        with templates.descriptor_of(output) as stream:
            forked = templates.forked(
                Path(folder), order, [str(asked)], mark=request.run,
                environment={**environment, processes.MARK: request.run}, streams=(stream, stream),
                umask=umask,
            )  # fmt: skip
        if forked is not None:
            return forked
    return processes.start(
        [str(python), "-m", "workbench.worker", str(asked)],
        mark=request.run,
        cwd=Path(request.root),
        environment=environment,
        stdout=output,
        stderr=output,
        start_new_session=True,
        umask=umask,
    )


def shown(*, show: bool) -> int:
    """Return the descriptor for a child's output: standard error, or nothing where it is no file."""
    try:
        return sys.stderr.fileno() if show else subprocess.DEVNULL
    except (OSError, ValueError):
        return subprocess.DEVNULL


def _environment(request: Request, python: Path) -> dict[str, str]:
    """Return the caller's environment without its signing key, the version's code and interpreter first."""
    dropped = {
        "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP", "WORKBENCH_EXECUTION", "WORKBENCH_SIGNING_KEY",
        templates.FOLDER_VARIABLE,
    }  # fmt: skip
    own = {name: value for name, value in os.environ.items() if name not in dropped}
    path = kept.first_on_path(python.parent, own)
    return {**own, "PYTHONPATH": request.root, "PATH": path, "DVC_NO_ANALYTICS": "1"}


def _result(path: Path, request: Request, code: int) -> WorkerResult:
    """Read the worker's result; NotebookError when it ended without one."""
    import orjson

    if not path.is_file():
        why = "was killed, perhaps by the system for memory" if code < 0 else f"ended with code {code}"
        raise NotebookError(
            f"{request.job}: the worker {why} and wrote no result",
            hint="run it again: its answers are kept and not asked again",
        )
    raw: Mapping[str, Any] = orjson.loads(path.read_bytes())
    result = files.parse(WorkerResult, raw, where=str(path))
    if result.failure is not None:
        failure, hint = result.failure, result.failure.hint
        if "params.yaml: unknown key" in failure.message:  # this code read the file before the version's did
            hint = "the version's code is older than this key: promote the job again, or remove the key"
        error = WorkerError(f"{request.job}: {failure.message}", hint=hint)
        error.exit_code = failure.exit_code
        raise error
    return result
