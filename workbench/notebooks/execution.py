"""Execute a notebook with papermill in a fresh kernel, with the settings of its environment."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import secrets
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

from workbench import errors, files, processes, schemas
from workbench.config import Execution
from workbench.errors import NotebookError
from workbench.layout import EXECUTED
from workbench.notebooks import canonical as notebooks
from workbench.notebooks import inspection, masks
from workbench.notebooks.confined import Confined
from workbench.widgets.panel import SWITCH

#: What jupyter_client says of a kernel that ends before any cell: another process took one of its ports.
_UNREADY = "Kernel died before replying"
_STARTS = 3
#: The name under which papermill knows the engine that bounds outputs.
_ENGINE = "workbench"
#: Most characters of a kernel's progress that are read at once.
_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A completed run: the executed copy and the task's digest."""

    notebook: Path
    task_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a kernel reports to the file `report`: connections around the boundary, and guarded files.

    The opening of a file of `guarded`, or of a file in a folder of it, is reported where Python tells of it
    (`workbench.records.guarded` says where it does not), and on Linux where the system does. The system
    tells of other processes too, and without `native` it is not asked: a confined kernel opens none of them.
    A relative path begins at the current folder.
    """

    report: Path
    guarded: tuple[Path, ...] = ()
    native: bool = True


class ExecuteOptions(TypedDict, total=False):
    """The options of `execute`.

    `cwd` is the kernel's folder, the notebook's own by default. `watch` is a file for reports of connections
    around the boundary. `show` shows progress. `clean` masks what outputs and a failure's message may not
    hold. `confined` confines the kernel, which then tells of no recordings: its gateway does.
    """

    cwd: Path | None
    watch: Path | Watched | None
    show: bool
    clean: Callable[[str], str] | None
    confined: Confined | None


def execute(
    path: Path,
    *,
    root: Path,
    parameters: Mapping[str, Any],
    execution: Execution,
    **options: Unpack[ExecuteOptions],
) -> Executed:
    """Run a notebook top to bottom in a fresh kernel; NotebookError when a cell fails.

    `root` is the repository for the executed copy. Only the exception marks a failure: the metadata of an
    executed notebook calls a timed-out cell completed. A job's executed copy is scrubbed, unless the run
    succeeded under `watch`: promotion screens that copy, as it is without masks, and removes it.
    """
    notebook, watch = inspection.read(path), options.get("watch")
    typed = notebook.typed(parameters)
    folder = root / EXECUTED
    stem = f"{path.stem}-{execution.run or secrets.token_hex(4)}"
    kernel = _Kernel.of(path, parameters, execution, options)
    told = folder if kernel.confined is None else kernel.confined.folder
    output, progress = folder / f"{stem}.ipynb", told / f"{stem}.progress"
    with files.writing(folder):
        files.make_folder(folder)
        progress.touch(0o600)
    execution = dataclasses.replace(execution, task_digest=notebook.digest(typed), progress=str(progress))
    succeeded, screened = False, execution.job is not None and watch is not None
    try:
        with (
            processes.environment({**execution.environment(), SWITCH: "0"}),
            _shown(progress, show=options.get("show", True)),
            _natively(kernel.watch),
            _cleaning(output, options.get("clean"), copy=not screened),
        ):
            _papermill(path, output, typed, kernel)
        succeeded = True
    finally:
        if execution.job is not None and not (succeeded and screened):
            scrub(output)
        progress.unlink(missing_ok=True)
        if output.is_file():
            output.chmod(0o600)
    return Executed(notebook=output, task_digest=execution.task_digest or "")


@contextlib.contextmanager
def _cleaning(executed: Path, clean: Callable[[str], str] | None, *, copy: bool) -> Iterator[None]:
    """Clean the message of a failure when the block ends, and with `copy` the executed copy."""
    try:
        yield
    except NotebookError as error:
        if clean is not None:
            error.message = clean(error.message)
            error.args = (error.message,)
        raise
    finally:
        if copy and clean is not None:
            _clean_outputs(executed, clean)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kernel:
    """The arguments of a kernel, and the command that an error's hint names."""

    path: Path
    parameters: Mapping[str, Any]
    cwd: Path | None = None
    watch: Watched | None = None
    job: bool = False
    confined: Confined | None = None

    @classmethod
    def of(
        cls, path: Path, parameters: Mapping[str, Any], execution: Execution, options: ExecuteOptions
    ) -> _Kernel:
        """Return the kernel of an execution; a path to watch is that of a report."""
        watch, cwd, job = options.get("watch"), options.get("cwd"), execution.job is not None
        watched = Watched(report=watch) if isinstance(watch, Path) else watch
        confined = options.get("confined")
        return cls(path=path, parameters=parameters, cwd=cwd, watch=watched, job=job, confined=confined)

    @property
    def arguments(self) -> list[str]:
        """The command-line arguments of the kernel."""
        arguments = ["--IPKernelApp.log_level=ERROR"]  # no warning on unencrypted loopback
        if self.watch is not None:
            paths = ascii((str(self.watch.report), [str(path.absolute()) for path in self.watch.guarded]))
            # jupyter_client replaces {prefix} and {connection_file} in the arguments.
            paths = paths.replace("{", r"\x7b")
            line = f"import workbench.records.egress as _; _.watch(*{paths}); del _"
            arguments.append(f"--IPKernelApp.exec_lines={line}")
        return arguments

    @property
    def again(self) -> str:
        """The command that repeats the run."""
        given = "".join(f" -p {name}={shlex.quote(str(v))}" for name, v in self.parameters.items())
        return f"workbench run {shlex.quote(str(_near(self.path)))}{given}"


def _papermill(path: Path, output: Path, typed: Mapping[str, Any], kernel: _Kernel) -> None:
    """Run papermill; a kernel that ends before it is ready is started again, up to three times."""
    schemas.jsonschema()  # papermill imports it through nbformat
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    _extend_papermill()
    for left in reversed(range(_STARTS)):
        try:
            _run_papermill(path, output, typed, kernel)
        except PapermillExecutionError as error:
            if error.ename == "KeyboardInterrupt":
                raise KeyboardInterrupt from None
            raise _failed(error, output, kernel) from None
        except RuntimeError as error:
            unready = _UNREADY in str(error)
            if not unready and not isinstance(error, DeadKernelError):
                raise
            told = ""
            if kernel.confined is not None:  # a confined kernel has no ports that another could take
                kernel.confined.check_started(_near(path))
                last = _excerpt(kernel.confined.last_line())
                told = f"; its last line of output: {last}" if last else ""
            elif unready and left:
                continue
            raise NotebookError(
                f"{_near(path)}: the kernel died; the system may have killed it for memory{told}",
                hint=f"{kernel.again}   (its answers so far are kept and not asked again)",
            ) from None
        else:
            return


def _run_papermill(path: Path, output: Path, typed: Mapping[str, Any], kernel: _Kernel) -> None:
    import papermill

    papermill.execute_notebook(
        _literal(_readable(path, output)),
        _literal(output),
        parameters=dict(typed),
        engine_name=_ENGINE,
        kernel_name="python3",
        language="python",
        progress_bar=False,
        log_output=False,
        cwd=str(kernel.cwd or path.parent),
        start_timeout=120,
        extra_arguments=kernel.arguments,
        confined=kernel.confined,
    )


@functools.cache
def _extend_papermill() -> None:
    """Let papermill write tuples as tuples and bound outputs; omit its warning for types it cannot read."""
    from papermill.engines import papermill_engines
    from papermill.translators import PythonTranslator, papermill_translators

    class LiteralTranslator(PythonTranslator):  # type: ignore[misc]
        """papermill's translator, which writes a tuple as text."""

        @classmethod
        def translate(cls, val: Any) -> str:
            if isinstance(val, tuple):
                return f"({''.join(f'{cls.translate(item)}, ' for item in val)})"
            text: str = super().translate(val)
            return text

    papermill_translators.register("python3", LiteralTranslator)
    papermill_engines.register(_ENGINE, _bounded_engine())
    logging.getLogger("papermill").setLevel(logging.ERROR)


def _bounded_engine() -> type:
    """Return papermill's engine with the outputs of `OutputLimits`."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import Engine

    class BoundedClient(PapermillNotebookClient):  # type: ignore[misc]
        def output(self, outs: list[Any], msg: dict[str, Any], display_id: Any, cell_index: int) -> Any:
            empty = not outs or self.clear_before_next_output
            kept = self.limits.kept(msg["content"], msg["msg_type"], cell_index, empty=empty)
            if kept is None:
                return None
            kind, content = kept
            header = {**msg["header"], "msg_type": kind}
            return super().output(outs, {**msg, "header": header, "content": content}, display_id, cell_index)

        def handle_comm_msg(self, outs: list[Any], msg: dict[str, Any], cell_index: int) -> None:
            if self.limits.takes_widget(msg["content"]):
                super().handle_comm_msg(outs, msg, cell_index)

    class BoundedEngine(Engine):  # type: ignore[misc]
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> None:
            client = BoundedClient(
                nb_man,
                # A kernel that prints faster than anyone reads loses messages, the one of its end too.
                raise_on_iopub_timeout=False,
                kernel_name=kernel_name,
                startup_timeout=options["start_timeout"],
                extra_arguments=options["extra_arguments"],
            )
            client.limits = OutputLimits()
            confined: Confined | None = options["confined"]
            with confined.managing(client) if confined else contextlib.nullcontext():
                client.execute()

    return BoundedEngine


class OutputLimits:
    """The limits of the outputs that an executed copy keeps, and the bytes kept so far of each cell.

    A cell above a limit ends with a note; its later outputs are dropped while it runs on.
    """

    def __init__(self, *, cell: int = 2 << 20, notebook: int = 16 << 20) -> None:
        self.cell, self.notebook = cell, notebook
        self._sizes: dict[int, int] = {}
        self._cut: set[int] = set()
        self._widgets = 0

    def kept(
        self, content: dict[str, Any], kind: str, index: int, *, empty: bool
    ) -> tuple[str, dict[str, Any]] | None:
        """Return the message type and content to keep of an output of cell `index`, None for nothing.

        `empty` says that the cell has no outputs, or that this output replaces them.
        """
        if empty:
            self._sizes[index] = 0
            self._cut.discard(index)
        if kind == "error":
            return kind, self._error(content)
        if index in self._cut:
            return None
        text = content.get("text") if kind == "stream" else None
        size = _bytes(content) if text is None else len(text.encode(errors="replace"))
        room = min(self.cell - self._sizes[index], self.notebook - sum(self._sizes.values()))
        if size <= room:
            self._sizes[index] += size
            return kind, content
        whole = self.cell - self._sizes[index] > room
        limit = f"all cells exceed {self.notebook:,}" if whole else f"this cell exceed {self.cell:,}"
        part = (text or "").encode(errors="replace")[:room].decode(errors="ignore")
        self._cut.add(index)
        self._sizes[index] += len(part.encode())
        note = f"\n[The outputs of {limit} bytes; the rest is not kept.]\n"
        return "stream", {"name": content.get("name", "stdout"), "text": part + note}

    def takes_widget(self, content: Mapping[str, Any]) -> bool:
        """Return whether the state of widgets, with this message, is within the limit of all cells."""
        self._widgets += _bytes(content)
        return self._widgets <= self.notebook

    def _error(self, content: dict[str, Any]) -> dict[str, Any]:
        """Return an error; one above the limit of a cell loses its traceback and most of its message."""
        if _bytes(content) <= self.cell:
            return content
        cut = len(content["evalue"]) > self.cell // 8
        message = content["evalue"][: self.cell // 8] + (" [cut]" if cut else "")
        return {**content, "evalue": message, "traceback": ["[The traceback is too long to be kept.]"]}


def _bytes(content: Mapping[str, Any]) -> int:
    return len(json.dumps(content, default=str))


def _literal(path: Path) -> str:
    """Return a path as papermill takes it: a format string, in which a brace is doubled."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _readable(path: Path, output: Path) -> Path:
    """Return a notebook that papermill can read: `path`, or its copy at `output` when tags are null."""
    notebook = notebooks.read(path)
    untagged = [cell["metadata"] for cell in notebook["cells"] if cell["metadata"].get("tags", ()) is None]
    if not untagged:
        return path
    for metadata in untagged:
        del metadata["tags"]
    files.write_atomic(output, notebooks.text_of(notebook).encode())
    return output


def scrub(executed: Path) -> None:
    """Remove the outputs and the parameters from an executed notebook: both may hold rows."""
    if not executed.is_file():
        return
    notebook = _executed(executed)
    for cell in notebook["cells"]:
        if masks.INJECTED in notebooks.tags_of(cell):
            cell["source"] = "# its parameters are in the version's job.yaml and in the run's manifest"
        if cell["cell_type"] == "code":
            cell["outputs"] = []
    notebook["metadata"].pop("papermill", None)
    files.write_atomic(executed, notebooks.text_of(notebook).encode())


def _clean_outputs(executed: Path, clean: Callable[[str], str]) -> None:
    """Rewrite an executed notebook with `clean` applied to its outputs and parameters, if one changes."""
    if not executed.is_file():
        return
    notebook = _executed(executed)
    if masks.cleaned_notebook(notebook, clean):
        files.write_atomic(executed, notebooks.text_of(notebook).encode())


def _executed(path: Path) -> dict[str, Any]:
    """Return an executed copy's JSON, without a size limit: `OutputLimits` bounds the outputs only."""
    return notebooks.parse(path.read_text(encoding="utf-8"), path)


def _failed(error: Any, output: Path, kernel: _Kernel) -> NotebookError:
    """Convert papermill's error of a cell; a WorkbenchError keeps its hint and exit code."""
    source = _printable("\n".join(f"    {line}" for line in error.source.splitlines()[:15]))
    where = f"{_near(kernel.path)}, cell {_cell(output, error.cell_index)}: {_printable(error.ename)}"
    again = f"{kernel.again}   (the executed copy is {_near(output)})"
    kind = getattr(errors, error.ename, None)
    message, arrow, hint = error.evalue.rpartition("\n  -> ")
    if not arrow or not (isinstance(kind, type) and issubclass(kind, errors.WorkbenchError)):
        return NotebookError(f"{where}: {_excerpt(error.evalue)}\n{source}", hint=again)
    rerun = "" if kernel.job else f"\n  again: {again}"  # a job's executed copy is deleted by then
    failure = NotebookError(f"{where}: {_excerpt(message)}\n{source}{rerun}", hint=_excerpt(hint))
    failure.exit_code = kind.exit_code
    return failure


def _excerpt(text: str, most: int = 4_000) -> str:
    """Return the beginning of an error's text; the executed copy has more of it."""
    return _printable(text if len(text) <= most else f"{text[:most]}…")


def _printable(text: str) -> str:
    """Return a kernel's text for a terminal, which would obey control characters."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "�" for sign in text)


def _near(path: Path) -> Path:
    """Return a path relative to the current folder where possible."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _cell(executed: Path, index: int) -> int:
    """Return the failing cell's number in the source notebook, counted from 1.

    `index` counts the cell with papermill's parameters, but not the error note that it adds on top.
    """
    cells = _executed(executed)["cells"][: index + 2]
    injected = any(masks.INJECTED in notebooks.tags_of(cell) for cell in cells)
    return int(index) + 1 - injected


@contextlib.contextmanager
def _natively(watched: Watched | None) -> Iterator[None]:
    """Report guarded files that a library of the kernel opens without telling Python."""
    if watched is None or not watched.guarded or not watched.native:
        yield
        return
    from workbench.records import egress

    with egress.natively(watched.report, watched.guarded):
        yield


@contextlib.contextmanager
def _shown(progress: Path, *, show: bool) -> Iterator[None]:
    """Show the kernel's progress until the block ends."""
    if not show:
        yield
        return
    from tqdm import tqdm

    stop = threading.Event()

    def watch() -> None:
        bar: Any = None
        with progress.open(encoding="utf-8", errors="replace") as file:
            while True:
                ended = stop.wait(0.3)
                for line in file.read(_AT_ONCE).splitlines():  # a kernel may write as much as it likes
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
    """Return the progress bar after one line; a new description starts a new bar."""
    import orjson

    with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError):
        step = orjson.loads(line)
        what, done, total = _printable(str(step["what"]))[:80], int(step["done"]), int(step["total"])
        if bar is None or bar.desc.removesuffix(": ") != what:
            if bar is not None:
                bar.close()
            bar = tqdm(total=total, desc=what, unit="case")
        bar.update(done - bar.n)
    return bar
