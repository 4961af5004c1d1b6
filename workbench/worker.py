"""Execute a job's frozen notebook, in the code and environment of its version.

`python -m workbench.worker REQUEST` reads a request (jobs/runner.py), builds the memory snapshot that the
version names, executes the notebook in a fresh kernel, and writes a result. It ends when its caller ends.
`python -m workbench.worker --template SOCKET` imports what a run needs and forks a worker for each request.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

from workbench import config, files, processes, schemas
from workbench.config import Execution, Params, UseCase
from workbench.errors import ConfigError, CorruptError, NotebookError, WorkbenchError
from workbench.experiments.batch import COUNTS
from workbench.forking import template
from workbench.imports import without
from workbench.jobs.effects import RunEffects
from workbench.jobs.runner import FORMAT, RESULT, Failure, Request, WorkerResult, told
from workbench.layout import COPIES, Results
from workbench.notebooks.inspection import INPUTS
from workbench.pipeline import kernel_seeds
from workbench.pipeline.guarding import guarded
from workbench.pipeline.kernels import KERNEL, KernelSettings, settings_of
from workbench.pipeline.stages import run_notebook
from workbench.promotion.handed_over import check_counts, take
from workbench.registry import Asset

#: The kernel's report of connections, in its folder.
REPORT = "connections.jsonl"
#: What workers and kernels import late. Polars is left out: it starts a thread, which a fork would lose.
_PRELOADED = (
    "IPython.core.completer",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.historyapp",
    "IPython.core.logger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "cedarpy",
    "ipykernel.debugger",
    "ipykernel.kernelapp",
    "ipykernel.kernelspec",
    "ipykernel.zmqshell",
    "jupyter_client.asynchronous",
    "multiprocessing.synchronize",
    "nbformat.v4",
    "numpy.random",
    "orjson",
    "papermill.clientwrap",
    "psutil",
    "pydantic",
    "ruamel.yaml",
    "tornado.platform.asyncio",
    "tqdm.auto",
    "workbench.data.rules",
    "workbench.files.yaml_reader",
    "workbench.memory.snapshot",
    "workbench.notebooks.forked_kernel",
    "workbench.privacy.repository",
    "workbench.records.journal",
    "workbench.remote.handler",
    "workbench.workspace.connection",
    "workbench.workspace.gateway_connection",
    "workbench.workspace.gateway_process",
    "workbench.workspace.quality",
)


def work(request: Request) -> WorkerResult:
    """Execute a request and return its result; raise WorkbenchError when it fails."""
    import orjson

    root, work = Path(request.root), Path(request.out).parent
    kernel, counts = work / KERNEL, work / COUNTS
    case = config.use_case(config.load_params(root), request.use_case)
    memory = snapshot(request, root, config.pinned(case, request.pins))
    files.make_folder(kernel)
    ran = run_notebook(
        Path(request.home),
        Path(request.notebook),
        {**request.parameters, INPUTS: request.inputs},
        execution=_execution(request, memory, kernel),
        tape=Path(request.tape_out) if request.tape_out else None,
        settings=_settings(request, case, kernel),
        cwd=Path(request.cwd),
        watch=kernel / REPORT if request.watch else None,
        show=request.show,
    )
    if request.watch:
        files.write_atomic(Path(request.watch), files.read_bytes(kernel / REPORT))
    take(kernel, work, ran.records, notebook=request.job)
    if not counts.is_file():
        raise ConfigError(
            f"{request.job}: the notebook succeeded but published nothing",
            hint='end it with a cell like ws.publish(answer.map(ws.inputs(inputs)), "answers")',
        )
    told, executed = orjson.loads(counts.read_bytes()), ran.executed
    check_counts(work, told, notebook=request.job, broken=request.broken)
    return WorkerResult(task_digest=executed.task_digest, notebook=str(executed.notebook), counts=told)


def _settings(request: Request, case: UseCase, kernel: Path) -> KernelSettings:
    """Return how the job's kernel is confined: it reads its inputs and writes into its own folder."""
    root = Path(request.root)
    stated = config.run_settings(config.load_params(root), case, request.job)
    hidden = guarded(root, case, Results(use_case=request.use_case))
    read = (Path(request.inputs),)
    return settings_of(root, stated, read=read, write=(kernel,), hidden=hidden, code=root)


def _execution(request: Request, memory: Path, kernel: Path) -> Execution:
    """Return the settings of the run, of which its kernel is told a part."""
    # A run on today's input; a sample that makes or replays a version's tape needs no server.
    live, work = request.mode != "replay" and request.tape_out is None, Path(request.out).parent
    effects = RunEffects.read(work)
    # A runner of an older version says nothing of effects: what a run on today's input writes lasts.
    lasts = live and (effects is None or effects.slot is not None)
    return Execution(
        notebook=request.notebook,
        use_case=request.use_case,
        mode=request.mode,
        tape=request.tape,
        memory=str(memory),
        job=request.job,
        run=request.run,
        tenant=request.tenant,
        pins=request.pins,
        settings=request.arm,
        publish=str(kernel / Path(request.out).name),
        broken=request.broken,
        home=request.home,
        journal=request.journal,
        live_memory=live,
        slot=effects.slot if effects is not None and live else None,
        copies=None if lasts else str(work / COPIES),
    )


def snapshot(request: Request, root: Path, case: UseCase) -> Path:
    """Return the folder of the version's memory snapshot; build it from its sources when it is missing."""
    from workbench.memory.snapshot import open_snapshot, read_manifest

    memories = Path(request.memories)
    folder = memories / request.memory
    if (folder / "manifest.json").is_file():
        open_snapshot(folder, expected_digest=request.memory).close()
        return folder
    from workbench.pipeline import build as knowledge

    if case.memory:
        sys.stderr.write(f"building memory {case.memory}, snapshot {request.memory[:12]} (once)\n")
    aside = memories / f".{request.memory[:12]}.{request.run}"
    try:
        knowledge.build(root, request.use_case, case, aside, home=Path(request.home))
        built = read_manifest(aside).logical_digest
        if built != request.memory:
            raise CorruptError(
                f"the sources of {case.memory} give snapshot {built[:12]}, "
                f"not {request.memory[:12]} as promoted",
                hint="its documents differ from those that were judged: promote again",
            )
        try:
            aside.rename(folder)
        except OSError:  # another run has built it
            open_snapshot(folder, expected_digest=request.memory).close()
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def main(arguments: list[str]) -> int:
    """Execute one request, write its result, and return the exit code."""
    import orjson

    path = Path(arguments[0])
    raw = orjson.loads(path.read_bytes())
    result_path = path.with_name(RESULT)
    processes.end_with_caller(str(raw.get("run", "")))
    try:
        if raw.get("format") != FORMAT:
            raise ConfigError(
                f"this version's worker reads requests of format {FORMAT}, not {raw.get('format')!r}",
                hint="use the workbench of the version's time, or promote again",
            )
        result = work(files.parse(Request, raw, where=str(path)))
    except WorkbenchError as error:
        result = WorkerResult(failure=_failure(error))
    files.write_atomic(result_path, told(result))
    return 0 if result.failure is None else result.failure.exit_code


def _failure(error: WorkbenchError) -> Failure:
    """Return the error for the caller; its hint names no file of the run, which is removed."""
    hint = error.hint
    if isinstance(error, NotebookError) and hint.startswith("workbench run "):
        hint = "run it again, received answers are kept; or fix the notebook in `make lab` and promote it"
    return Failure(kind=type(error).__name__, message=error.message, hint=hint, exit_code=error.exit_code)


def _preload() -> None:
    """Import what workers and kernels import late, but no debugger, which a new confined kernel lacks too."""
    with without("debugpy"):
        for name in _PRELOADED:
            importlib.import_module(name)


def _prepare() -> None:
    """Build what depends on types and schemas alone, and that a run would build again."""
    from nbformat import validator

    files.prepare_types((Params, Request, WorkerResult, Asset))
    validator.get_validator(4, 5)


def serve_template(path: Path) -> int:
    """Fork a worker with the seed of its kernel for each that asks at `path`; return its exit code in each.

    Return 0 in the template when its caller ends, and `template.UNFIT` when it may not fork.
    """
    schemas.jsonschema()  # first: the modules below import it through nbformat
    _preload()
    _prepare()
    code = str(Path.cwd())
    try:
        forked = template.serve(path, seeded=True)
    except ConfigError as error:
        sys.stderr.write(f"{error.message}\n")
        return template.UNFIT
    if forked is None:
        return 0
    if forked.kernel is not None:
        kernel_seeds.become_kernel(forked.kernel, without=code)
        return 0
    processes.collect_rarely()
    with forked.reporting():
        raise SystemExit(main([*forked.arguments]))


if __name__ == "__main__":
    if sys.argv[1:2] == [template.OPTION]:
        sys.exit(serve_template(Path(sys.argv[2])))
    processes.collect_rarely()
    sys.exit(main(sys.argv[1:]))
