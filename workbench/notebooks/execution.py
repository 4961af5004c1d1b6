"""Executing a notebook: papermill in a fresh kernel, told where recordings, memory and results are."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shlex
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import errors, files, schemas
from workbench.config import Execution
from workbench.errors import NotebookError
from workbench.layout import EXECUTED
from workbench.notebooks import canonical as notebooks
from workbench.notebooks import inspection

#: The tag that papermill gives to the cell with the parameters.
_INJECTED = "injected-parameters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A notebook that ran to its end: the executed copy, the task's digest, and what was replayed.

    `used` has the key of each recording used or made, with where it stands: "tape" or "cache".
    """

    notebook: Path
    task_digest: str
    used: Mapping[str, str]


def execute(
    path: Path,
    *,
    root: Path,
    parameters: Mapping[str, Any],
    execution: Execution,
    cwd: Path | None = None,
    watch: Path | None = None,
    show: bool = True,
) -> Executed:
    """Run a notebook top to bottom in a fresh kernel; NotebookError when a cell fails.

    `root` is the repository that keeps the executed copy, `cwd` the kernel's folder (the notebook's
    own unless given), `watch` a file that is told of connections the boundary did not open. Whether
    it succeeded is decided by the exception alone: an executed notebook's own metadata calls a cell
    completed that timed out. A job's executed copy is scrubbed, unless it succeeded under watch:
    then it is still to be screened.
    """
    notebook = inspection.read(path)
    typed = notebook.typed(parameters)
    folder = root / EXECUTED
    stem = f"{path.stem}-{execution.run or secrets.token_hex(4)}"
    output, used, progress = (folder / f"{stem}{end}" for end in (".ipynb", ".used", ".progress"))
    try:
        files.make_folder(folder)
        for file in (used, progress):
            file.touch(0o600)
    except OSError as error:
        raise files.unwritable(folder, error) from error
    execution = dataclasses.replace(
        execution, task_digest=notebook.digest(typed), used=str(used), progress=str(progress)
    )
    succeeded = False
    told = _Told(path=path, parameters=parameters, cwd=cwd, watch=watch, job=execution.job is not None)
    try:
        with _environment(execution), _shown(progress, show=show):
            _papermill(path, output, typed, told)
        keys = dict(line.split() for line in used.read_text(encoding="ascii").splitlines())
        succeeded = True
    finally:
        if execution.job is not None and not (succeeded and watch is not None):
            scrub(output)
        for file in (used, progress):
            file.unlink(missing_ok=True)
        if output.is_file():
            output.chmod(0o600)
    return Executed(notebook=output, task_digest=execution.task_digest or "", used=keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """Where the execution runs, and what an error says of it."""

    path: Path
    parameters: Mapping[str, Any]
    cwd: Path | None = None
    watch: Path | None = None
    job: bool = False

    @property
    def kernel(self) -> list[str]:
        """Arguments of the kernel."""
        said = ["--IPKernelApp.log_level=ERROR"]  # loopback needs no word on encryption
        if self.watch is not None:
            line = f"import workbench.records.egress as _; _.watch({str(self.watch)!r}); del _"
            said.append(f"--IPKernelApp.exec_lines={line}")
        return said

    @property
    def again(self) -> str:
        """The command that runs it again."""
        given = "".join(f" -p {name}={shlex.quote(str(v))}" for name, v in self.parameters.items())
        return f"workbench run {shlex.quote(str(_near(self.path)))}{given}"


def _papermill(path: Path, output: Path, typed: Mapping[str, Any], told: _Told) -> None:
    schemas.jsonschema()  # papermill imports it through nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        papermill.execute_notebook(
            str(path),
            str(output),
            parameters=dict(typed),
            kernel_name="python3",
            language="python",
            progress_bar=False,
            log_output=False,
            cwd=str(told.cwd or path.parent),
            start_timeout=120,
            extra_arguments=told.kernel,
        )
    except PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt from None
        raise _failed(error, output, told) from None
    except DeadKernelError:
        raise NotebookError(
            f"{_near(path)}: the kernel died; the system may have killed it for memory",
            hint=f"{told.again}   (answers it had are kept and not asked again)",
        ) from None


def scrub(executed: Path) -> None:
    """Take out of an executed notebook what it printed and was given: both may hold rows."""
    if not executed.is_file():
        return
    notebook = _executed(executed)
    for cell in notebook["cells"]:
        if _INJECTED in cell["metadata"].get("tags", ()):
            cell["source"] = "# its parameters are in the version's job.yaml and in the run's manifest"
        if cell["cell_type"] == "code":
            cell["outputs"] = []
    notebook["metadata"].pop("papermill", None)
    files.write_atomic(executed, notebooks.text_of(notebook).encode())


def _executed(path: Path) -> dict[str, Any]:
    """Return an executed copy's JSON. Its size is what its cells printed, so it has no limit here."""
    return notebooks.parse(path.read_text(encoding="utf-8"), path)


def _failed(error: Any, output: Path, told: _Told) -> NotebookError:
    """What papermill says of a cell. An error of ours keeps its hint, as the last word, and its exit code."""
    source = "\n".join(f"    {line}" for line in error.source.splitlines()[:15])
    where = f"{_near(told.path)}, cell {_cell(output, error.cell_index)}: {error.ename}"
    again = f"{told.again}   (the executed copy is {_near(output)})"
    kind = getattr(errors, error.ename, None)
    said, arrow, hint = error.evalue.rpartition("\n  -> ")
    if not arrow or not (isinstance(kind, type) and issubclass(kind, errors.WorkbenchError)):
        return NotebookError(f"{where}: {error.evalue}\n{source}", hint=again)
    rerun = "" if told.job else f"\n  again: {again}"  # a job's copy is gone when this is read
    failure = NotebookError(f"{where}: {said}\n{source}{rerun}", hint=hint)
    failure.exit_code = kind.exit_code
    return failure


def _near(path: Path) -> Path:
    """A path as one would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _cell(executed: Path, index: int) -> int:
    """The failing cell's number in the notebook as it was written, counted from 1.

    `index` counts the cell that papermill injected, but not the note it put on top afterwards.
    """
    cells = _executed(executed)["cells"][: index + 2]
    injected = any(_INJECTED in cell["metadata"].get("tags", ()) for cell in cells)
    return int(index) + 1 - injected


@contextlib.contextmanager
def _environment(execution: Execution) -> Iterator[None]:
    """The kernel inherits this process's environment, so it is told through it."""
    told = execution.environment()
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def _shown(progress: Path, *, show: bool) -> Iterator[None]:
    """Show what the kernel says of its progress, until the block ends."""
    if not show:
        yield
        return
    from tqdm import tqdm

    stop = threading.Event()

    def watch() -> None:
        bar: Any = None
        with progress.open(encoding="utf-8") as file:
            while True:
                ended = stop.wait(0.3)
                for line in file.read().splitlines():
                    bar = _moved(tqdm, bar, line)
                if ended:
                    break
        if bar is not None:
            bar.close()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join(timeout=5)


def _moved(tqdm: Any, bar: Any, line: str) -> Any:
    """The bar after one progress line: moved, or a new one when another piece of work began."""
    import orjson

    with contextlib.suppress(orjson.JSONDecodeError):
        told = orjson.loads(line)
        if bar is None or bar.desc.removesuffix(": ") != told["what"]:
            if bar is not None:
                bar.close()
            bar = tqdm(total=told["total"], desc=told["what"], unit="case")
        bar.update(told["done"] - bar.n)
    return bar
