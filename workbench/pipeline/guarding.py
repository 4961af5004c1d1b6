"""Guard the judge's kernel: what it may not open, import, start or leave running.

This is no wall: the kernel has the rights of its user. docs/threats.md says what remains possible.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from workbench import config, layout, processes, registry, retrieval
from workbench.config import UseCase
from workbench.errors import RefusedError
from workbench.layout import Results
from workbench.records import egress
from workbench.retrieval.rows import is_table
from workbench.workspace.use_case import stated_dataset

#: Most openings that a refusal names.
_MOST_NAMED = 20
#: Paths that a frozen notebook has no use for, and that git, the Lab and other runs open at any time.
_BUSY = (Path(".git"), layout.LAB_OUTPUTS, layout.CONFIRMED)
#: Folders of the same kind in which other runs write new files at any time.
_GROWING = (layout.RUNS, layout.EXECUTED)


class DisturbedError(RefusedError):
    """Guarded files were opened during an execution, perhaps by other programs alone."""


def guarded(root: Path, case: UseCase, results: Results) -> tuple[Path, ...]:
    """Return the files and folders with expected values, labels or scores of cases, and their copies."""
    dataset = stated_dataset(root, case)
    questions = retrieval.load_spec(root, str(case.memory)).questions if case.memory else None
    found = [root / path for path in (dataset, questions) if path]
    found += _tables_beside(root, root / dataset)
    found += [root / Path(case.report).with_suffix(ending) for ending in (".html", ".md")]
    found += [
        root / "pipelines/jobs",
        root / layout.REVIEWS,
        *(root / folder for folder in (*_BUSY, *_GROWING)),
    ]
    for part in (results.prepared, results.judged, results.runs):
        found += [root / part, *sorted((root / layout.RESULTS).glob(f"*/{part.name}"))]
    snapshot = [path.lstat() for path in (root / results.memory).glob("*")]
    if all(stat.S_ISREG(status.st_mode) and status.st_nlink == 1 for status in snapshot):
        found.append(root / ".dvc" / "cache")  # the snapshot is no link into it
    return (*dict.fromkeys(found), Path(f"/proc/{os.getpid()}/mem"))


def _tables_beside(root: Path, dataset: Path) -> list[Path]:
    """Return the tables in the dataset's folder, such as the raw rows that the cases were taken from.

    The source of a memory is none of them: a search reads it to tell which passages are stale.
    """
    sources = set()
    for name in registry.names(root, "memory"):
        for number in registry.load(root, "memory", name).versions:
            sources.add(root / (retrieval.load_spec(root, f"{name}@{number}").source or ""))
    return [path for path in sorted(dataset.parent.glob("*")) if is_table(path) and path not in sources]


def check_reports(reports: Sequence[Mapping[str, str]], *, root: Path, work: Path) -> None:
    """Raise RefusedError for openings of guarded files, and for programs and connections."""
    found = [line for line in reports if line["event"] != "open" or _is_of_kernel(line, root, work)]
    if not found:
        return
    said = [
        f"{line['where']}: the judged notebook opened {line['address']}, where expected values are"
        if line["event"] == "open"
        else f"{line['where']}: {line['event']} {line['address']}, which the boundary did not open"
        for line in found[:_MOST_NAMED]
    ]
    more = [f"and {len(found) - _MOST_NAMED} more"] if len(found) > _MOST_NAMED else []
    perhaps_others = all(line["where"] == egress.ELSEWHERE for line in found)
    raise (DisturbedError if perhaps_others else RefusedError)(
        "\n  ".join([*said, *more]),
        hint="answer from ws.memory() and ws.model() alone; tag a cell that needs more `explore`",
    )


def _is_of_kernel(line: Mapping[str, str], root: Path, work: Path) -> bool:
    """Whether the kernel opened a guarded file by itself, or may have, as far as the system tells."""
    path = Path(line["address"])
    if path.parent == layout.EXECUTED and path.stem == f"task-{work.name}":
        return False  # this run's own
    if line["where"] != egress.ELSEWHERE:
        return True
    if any(path.is_relative_to(folder) for folder in _GROWING):
        with contextlib.suppress(OSError):
            return (root / path).stat().st_mtime < (work / "task.ipynb").stat().st_mtime
        return False
    return not any(path.is_relative_to(folder) for folder in _BUSY)


def check_modules(notebook: Path) -> None:
    """Raise RefusedError for a module beside the notebook that a cell would import in place of a library."""
    libraries = [path for path in sys.path if path.endswith("-packages")]
    for path in sorted(notebook.parent.iterdir()):
        name = path.name.partition(".")[0]
        if path.suffix not in {".py", ".pyc", ".so"} and not (path / "__init__.py").exists():
            continue
        if name in {*sys.stdlib_module_names, "workbench"} or (
            importlib.machinery.PathFinder.find_spec(name, libraries)
        ):
            raise RefusedError(
                f"{path.name} beside {notebook.name} takes the place of the library {name}",
                hint=f"git mv {path.name} to another name",
            )


@contextlib.contextmanager
def alone(work: Path) -> Iterator[None]:
    """Start the kernel without the user's files of IPython and Jupyter, and end what it leaves running."""
    # The data folder of a user may hold another kernel named python3.
    own = {
        "IPYTHONDIR": str(work / "ipython"),
        "JUPYTER_DATA_DIR": str(work / "jupyter"),
        "JUPYTER_PATH": None,
    }
    try:
        with processes.environment({**own, "JUPYTER_PATH": None}):
            yield
    finally:
        processes.end(work.name, variable=config.EXECUTION_VARIABLE)  # it names the run
