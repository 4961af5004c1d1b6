"""Read and check `params.yaml`."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from workbench import files
from workbench.config.assessments import check_known_classes
from workbench.config.audit import AuditSettings
from workbench.config.budgets import BudgetRule, check_budgets
from workbench.config.confinement import ExecutionSettings, check_execution
from workbench.config.content import check_content
from workbench.config.data_classes import DataClass, OwnTerms, check_data_classes, check_own_terms, data_rules
from workbench.config.gateway import GatewaySettings, check_gateway
from workbench.config.identity import IdentitySettings, check_identity
from workbench.config.jobs import Job, check_job
from workbench.config.limits import RunLimits
from workbench.config.use_case import UseCase, check_use_case
from workbench.errors import ConfigError, NotFoundError, WorkbenchError, nearest
from workbench.layout import PARAMS

#: What to do when params.yaml is malformed: a checkout alone would discard every edit.
MALFORMED = (
    f"correct that line: git diff -- {PARAMS} shows what changed; "
    f"to discard all edits: git checkout -- {PARAMS}"
)

_Sections = TypeVar("_Sections")
#: Most bytes of the file.
_MOST_BYTES: Final = 4_000_000
#: Seconds for which a server that keeps the last valid file does not look at it again.
_LOOKED_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRetention:
    """The days after which a purge removes calls and rows of the audit log; None keeps them without limit."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    calls_days: int | None = None
    audit_days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """The content of `params.yaml`.

    `budget_url` is the PostgreSQL database of a ledger that several machines share, and
    `budget_password_env` the environment variable with its password.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    use_cases: dict[str, UseCase]
    jobs: dict[str, Job] = field(default_factory=dict)
    budgets: dict[str, BudgetRule] = field(default_factory=dict)
    budget_url: str | None = None
    budget_password_env: str | None = None
    retention: RecordRetention = field(default_factory=RecordRetention)
    audit: AuditSettings = field(default_factory=AuditSettings)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    data_classes: dict[str, DataClass] = field(default_factory=dict)
    privacy: OwnTerms = field(default_factory=OwnTerms)
    gateway: str | GatewaySettings = "auto"


def find_root(start: Path | None = None) -> Path:
    """Return the folder with a `params.yaml` nearest above `start`; raise NotFoundError if there is none."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / PARAMS).exists():
            return folder
    raise NotFoundError(
        f"no params.yaml in {here} or above",
        hint="change into the repository, or pass root=…",
    )


def load_params(root: Path) -> Params:
    """Return the checked content of `params.yaml`; raise ConfigError for an invalid key or value.

    A process parses the file again only after it has changed, so do not change the returned value. After
    `keep_last_valid` an edit that made it invalid changes nothing.
    """
    path = _path_of(root)
    kept = _last_valid.get(path)
    return _parsed(path) if kept is None else kept.params()


@functools.lru_cache(maxsize=256)
def _path_of(root: Path) -> Path:
    """Return the path of `params.yaml`; each request to a gateway asks, and to join a path takes longer."""
    return root / PARAMS


def read_sections(root: Path, kind: type[_Sections], *, words: Iterable[str], hint: str) -> _Sections:
    """Return the keys of `params.yaml` that are fields of `kind`, all with defaults; the others are not read.

    A promoted job reads the budgets and the classes of data of today beside the code of its version, which
    may know fewer keys than today's file has. A file without any of `words` is not parsed; it and a missing
    file have none of the keys.
    """
    path = root / PARAMS
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    if path in _last_valid:
        params = _last_valid[path].params()
        return kind(**{name: getattr(params, name) for name in known})
    if not path.exists():
        return kind()
    text = files.read_text(path, hint=f"git checkout -- {PARAMS}", limit=_MOST_BYTES)
    if not any(word in text for word in words):  # to parse the file takes longer than to connect
        return kind()
    raw = files.parse_yaml(text, where=str(path), hint=MALFORMED)
    stated = {key: value for key, value in raw.items() if key in known}
    return files.parse(kind, stated, where=str(path), hint=hint)


def keep_last_valid(root: Path) -> LastValid:
    """Let this process, a server, go on with the last valid `params.yaml` after an edit that is not valid.

    Raise ConfigError when it is not valid now.
    """
    return _last_valid.setdefault(root / PARAMS, LastValid(root / PARAMS))


class LastValid:
    """The last valid content of a `params.yaml`. `problem` is the error of a later edit, "" without one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._params = _parsed(path)
        self._seen, self._at = _state_of(path), time.monotonic()
        self.problem = ""

    def params(self) -> Params:
        """Return the content of the file, looked at twice a second, or of the last one that was valid."""
        now = time.monotonic()
        if now - self._at < _LOOKED_S:
            return self._params
        self._at, seen = now, _state_of(self._path)
        if seen != self._seen or not self.problem:
            try:
                self._params, self.problem = _parsed(self._path), ""
            except WorkbenchError as error:
                self.problem = error.message
            self._seen = seen
        return self._params


_last_valid: dict[Path, LastValid] = {}


def _state_of(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@files.until_changed
def _parsed(path: Path) -> Params:
    raw = files.read_yaml(path, hint=MALFORMED, missing=f"git checkout -- {PARAMS}")
    params = files.parse(Params, raw, where=str(path), hint="see docs/params.md for every key")
    if not params.use_cases:
        hint = "workbench init NAME --docs DIR --questions FILE, or: git checkout -- params.yaml"
        raise ConfigError(f"{path}: use_cases is empty", hint=hint)
    for key in ("calls_days", "audit_days"):
        if (days := getattr(params.retention, key)) is not None and days < 1:
            raise ConfigError(f"{path}: retention.{key} must be 1 or more, found {days}")
    for name, case in params.use_cases.items():
        check_use_case(path, name, case)
        check_content(path, name, case.content)
        check_execution(f"{path}: use_cases.{name}", case.execution)
    for name, declared in params.jobs.items():
        check_job(path, name, declared, params.use_cases)
        check_execution(f"{path}: jobs.{name}", declared.execution)
    check_budgets(params.budgets, params.budget_url, params.budget_password_env, where=str(path))
    demanding = [name for name, case in params.use_cases.items() if case.assurance == "authenticated"]
    check_identity(params.identity, demanding, where=str(path))
    check_gateway(params.gateway, where=str(path))
    check_data_classes(params.data_classes, where=str(path))
    check_own_terms(params.privacy, where=f"{path}: privacy")
    for name, case in params.use_cases.items():
        known = data_rules(params.data_classes).actions
        check_known_classes(f"{path}: use_cases.{name}.handles", case.handles, known)
        check_known_classes(f"{path}: use_cases.{name}.content.classes", [*case.content.classes], known)
        columns = [*case.column_classes.values()]
        check_known_classes(f"{path}: use_cases.{name}.dataset.classes", columns, known)
    return params


def job(params: Params, name: str) -> Job:
    """Return a declared job; raise NotFoundError with the nearest names for another name."""
    if name not in params.jobs:
        raise NotFoundError(
            f"params.yaml declares no job {name!r} ({nearest(name, params.jobs)})",
            hint=f"add under jobs: {name}: {{use_case: …, sample: data/inbox/sample.jsonl}}",
        )
    return params.jobs[name]


def run_limits(params: Params, case: UseCase, job: str | None) -> RunLimits | None:
    """Return the limits of the calls of a run: the job's, else the use case's; None if none is stated."""
    declared = params.jobs.get(job) if job else None
    found = declared.limits.of_calls.over(case.limits) if declared else case.limits
    return None if found is None or found == RunLimits() else found


def run_settings(params: Params, case: UseCase, job: str | None) -> ExecutionSettings:
    """Return how the kernel of a run is confined: as its job states, else its use case."""
    declared = params.jobs.get(job) if job else None
    return declared.execution.over(case.execution) if declared else case.execution


def use_case(params: Params, name: str) -> UseCase:
    """Return a use case; raise NotFoundError with the nearest names if it is unknown."""
    if name not in params.use_cases:
        raise NotFoundError(
            f"there is no use case {name!r} ({nearest(name, params.use_cases)})",
            hint="use cases are the keys under use_cases in params.yaml",
        )
    return params.use_cases[name]
