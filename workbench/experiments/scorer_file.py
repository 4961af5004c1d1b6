"""Read a scorer file: hash its bytes, execute exactly these bytes, and call its function `score`."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import files
from workbench.errors import ConfigError, InvalidOutputError, WorkbenchError, nearest
from workbench.experiments.scorers import Outcome

#: The folder of scorer files, relative to the repository.
FOLDER = "pipelines/scorers"
_MOST_BYTES = 1_000_000


class _ScorerFailedError(InvalidOutputError):
    """A scorer file raised an error for a case, which is thereby unscored."""

    reason = "scorer_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerFile:
    """A scorer file: its path in the repository, the SHA-256 of its bytes, and its function `score`."""

    path: str
    sha256: str
    file: str
    function: Callable[[Outcome], float | None]

    @classmethod
    def read(cls, root: Path, path: Path, *, where: str) -> ScorerFile:
        """Execute the bytes that are hashed; raise ConfigError, which names the line, for an invalid file."""
        data = _read(root, path, where)
        file, where = str(root / path), f"{where}: {path.as_posix()}"
        tree, code = _compiled(data, file, where)
        _check_imports(tree, root, where)
        sha256 = hashlib.sha256(data).hexdigest()
        names = _executed(code, f"workbench_scorer_{sha256[:16]}", file, where)
        function: Any = names.get("score")
        if not _takes_an_outcome(function):
            problem = "score is no function of one argument" if "score" in names else "no function score"
            raise ConfigError(
                f"{where}:{_line_of_score(tree)}: {problem}",
                hint="write def score(outcome: wb.Outcome) -> float | None: … into it",
            )
        return cls(path=path.as_posix(), sha256=sha256, file=file, function=function)

    def score(self, outcome: Outcome) -> float | None:
        """Return what the file's function returns.

        An error that is not the workbench's becomes one with the reason `scorer_failed`, without its message,
        which may hold data.
        """
        try:
            return self.function(outcome)
        except WorkbenchError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  the file may raise anything
            place = f"{self.path}:{_line_of(error, self.file)}"
            raise _ScorerFailedError(f"{place} raised {type(error).__name__}") from None


def _read(root: Path, path: Path, where: str) -> bytes:
    """Return the bytes of a scorer file; raise ConfigError for another name, another kind and a large one."""
    if path.suffix != ".py":
        raise ConfigError(
            f"{where}: {path.as_posix()} is no Python file", hint="name a file that ends in .py"
        )
    try:
        return files.read_bytes(root / path, limit=_MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        there = (found.relative_to(root).as_posix() for found in (root / FOLDER).rglob("*.py"))
        raise ConfigError(
            f"{where}: there is no file {path.as_posix()} ({nearest(path.as_posix(), there)})",
            hint=f"write def score(outcome): … into {path.as_posix()}",
        ) from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None
    except OSError as error:
        hint = f"ls -l {path.as_posix()}"
        raise ConfigError(f"{where}: cannot read {path.as_posix()}: {error.strerror}", hint=hint) from None


def _compiled(data: bytes, file: str, where: str) -> tuple[ast.Module, types.CodeType]:
    """Return the syntax tree and the code of a file; raise ConfigError for text that is no Python."""
    try:
        tree = ast.parse(data.decode("utf-8-sig"), filename=file)
        # The flags of this module and of the interpreter do not change what the hash stands for.
        return tree, compile(tree, file, "exec", dont_inherit=True, optimize=0)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{where}:{line}: not UTF-8 text", hint="save the file as UTF-8") from None
    except SyntaxError as error:
        line = error.lineno or 1
        raise ConfigError(
            f"{where}:{line}: no Python: {error.msg}", hint=f"open line {line} in an editor"
        ) from None
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise ConfigError(f"{where}:1: no Python: {type(error).__name__}") from None


def _executed(code: types.CodeType, name: str, file: str, where: str) -> dict[str, Any]:
    """Execute the code as the module `name` and return its names; raise ConfigError when it raises."""
    module = types.ModuleType(name)
    module.__file__ = file
    sys.modules[name] = module  # a dataclass looks its module up
    try:
        exec(code, module.__dict__)  # noqa: S102  code of the repository that params.yaml names
    except (Exception, SystemExit) as error:  # noqa: BLE001  the file may raise anything
        sys.modules.pop(name, None)
        # The message of another error may hold data that the file read.
        detail = f": {error}" if isinstance(error, ImportError | NameError) else ""
        raise ConfigError(
            f"{where}:{_line_of(error, file)}: the file raises {type(error).__name__}{detail}",
            hint=f"python {file}   # repeats it",
        ) from None
    return vars(module)


def _check_imports(tree: ast.Module, root: Path, where: str) -> None:
    """Raise ConfigError for an import of another file of the repository, which the hash does not cover."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for name in _imported(node):
            top = name.partition(".")[0]
            places = (root / folder / f"{top}{end}" for folder in (".", FOLDER) for end in ("", ".py"))
            if top != "workbench" and any(place.exists() for place in places):
                raise ConfigError(
                    f"{where}:{node.lineno}: imports {name or '.'}, another file of the repository, which "
                    "the scorer's hash does not cover",
                    hint="write what the scorer needs into the file itself",
                )


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yield the modules that a statement imports; "" for a relative import."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    else:
        yield "" if node.level else node.module or ""


def _line_of(error: BaseException, file: str) -> int:
    """Return the last line of `file` that an error passed, or 1."""
    line, step = 1, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == file:
            line = step.tb_lineno
        step = step.tb_next
    return line


def _line_of_score(tree: ast.Module) -> int:
    """Return the line of the last statement of the file that binds `score`, or 1."""
    found = 1
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound = {node.name}
        else:
            bound = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        found = node.lineno if "score" in bound else found
    return found


def _takes_an_outcome(function: Any) -> bool:
    """Return whether a call of `function` with one argument gives a value, and no coroutine or iterator."""
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if not callable(function) or any(kind(function) for kind in kinds):
        return False
    try:
        inspect.signature(function).bind(None)
    except (TypeError, ValueError):
        return False
    return True
