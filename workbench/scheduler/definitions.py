"""Read the definitions of a server: the labelled versions of jobs with their schedules and operations."""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from workbench import config, files, registry
from workbench.config.operations import OPERATIONS, JobOperation, Operations, load_operations
from workbench.errors import ConfigError, WorkbenchError
from workbench.jobs.ledger import Role, Slot
from workbench.jobs.roles import roles_of
from workbench.jobs.schedule import Schedule
from workbench.layout import PARAMS
from workbench.registry import Asset, Move
from workbench.repository.git import Repository
from workbench.scheduler.due import Era

_JOBS: Final = "pipelines/jobs"
#: The keys of a version's page that a server needs, each with the lines that belong to it.
_BLOCK = re.compile(r"^(schedule|limits|use_case):.*\n(?:[ -].*\n)*", re.MULTILINE)
_ALWAYS = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A job in one role: its version, its schedules and how it is operated.

    `eras` are the schedules of the last two versions that had the label, from the time of the move on.
    `seconds` is the limit of a run.
    """

    job: str
    role: Role
    version: int
    eras: tuple[Era, ...]
    operation: JobOperation
    seconds: int

    @property
    def name(self) -> str:
        """The name in messages: the job, and its role when it is not production."""
        return self.job if self.role == "production" else f"{self.job} ({self.role})"

    @property
    def schedule(self) -> Schedule | None:
        """The schedule of the version that has the label, or None."""
        return self.eras[-1].schedule

    @property
    def moved_at(self) -> dt.datetime:
        """The time at which the version got its label."""
        return self.eras[-1].start

    @property
    def tenants(self) -> tuple[str, ...]:
        """The tenants of which each has slots of its own; "" stands for all of them together."""
        return self.operation.tenants or ("",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definitions:
    """The definitions of a repository at one time.

    `faults` says for each job, or file, why it cannot be served; the other jobs are not affected.
    """

    found: tuple[Definition, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)
    operations: Operations = field(default_factory=Operations)
    mark: tuple[Any, ...] = ()


class DefinitionReader:
    """Reads the definitions of a repository again when HEAD or one of their files changed.

    A rehearsal takes the labelled versions as if they had always had their labels. `withdrawn` returns the
    versions of each job that its labels do not run.
    """

    def __init__(
        self,
        root: Path,
        *,
        rehearsal: bool = False,
        withdrawn: Callable[[], Mapping[str, frozenset[int]]] = dict,
    ) -> None:
        self._root, self._rehearsal, self._withdrawn_now = root, rehearsal, withdrawn
        self._withdrawn: Mapping[str, frozenset[int]] = {}
        self._last: Definitions | None = None
        #: The pages of the versions, while definitions are read.
        self._pages: dict[tuple[str, int], dict[str, Any]] = {}

    def read(self) -> Definitions:
        """Return the definitions as they are now; ConfigError when operations.yaml was never valid."""
        self._withdrawn = self._withdrawn_now()
        mark = self._mark()
        if self._last is not None and self._last.mark == mark:
            return self._last
        faults: dict[str, str] = {}
        self._pages = {}
        operations = self._operations(faults)
        tenants = self._tenants(faults)
        changed = Repository(root=self._root).changed(below=[_JOBS])
        found: list[Definition] = []
        for job in registry.names(self._root, "job"):
            try:
                found += self._of_job(job, operations.of(job), changed, tenants)
            except Exception as error:  # noqa: BLE001  of one job, and the others are served
                faults[job] = str(error) if isinstance(error, WorkbenchError) else _named(error)
        known = {*registry.names(self._root, "job"), *_declared(self._root)}
        for job in sorted(operations.jobs.keys() - known):
            faults.setdefault(f"{OPERATIONS}: jobs.{job}", "there is no job of this name")
        self._last = Definitions(found=tuple(found), faults=faults, operations=operations, mark=mark)
        return self._last

    def _mark(self) -> tuple[Any, ...]:
        """Return what changes when a definition may have changed: HEAD, and the files' sizes and times."""
        folder = self._root / _JOBS
        paths = [self._root / OPERATIONS, self._root / PARAMS, *sorted(folder.glob("*/asset.yaml"))]
        return Repository(root=self._root).head(), self._withdrawn, *map(_seen, paths)

    def _operations(self, faults: dict[str, str]) -> Operations:
        try:
            return load_operations(self._root)
        except WorkbenchError as error:
            if self._last is None:
                raise
            faults[str(OPERATIONS)] = str(error)
            return self._last.operations

    def _tenants(self, faults: dict[str, str]) -> Mapping[str, Sequence[str]]:
        """Return the tenants of each use case; none is checked while params.yaml is not valid."""
        try:
            return {name: case.tenants for name, case in config.load_params(self._root).use_cases.items()}
        except WorkbenchError as error:
            faults[str(PARAMS)] = str(error)
            return {}

    def _of_job(
        self, job: str, operation: JobOperation, changed: list[str], tenants: Mapping[str, Sequence[str]]
    ) -> list[Definition]:
        asset = registry.load(self._root, "job", job)
        roles = roles_of(self._root, job, withdrawn=self._withdrawn.get(job, ())).started()
        if roles and (left := [path for path in changed if path.startswith(f"{_JOBS}/{job}/")]):
            raise ConfigError(
                f"the last promotion or rollback of job {job!r} is not committed ({left[0]})",
                hint=f"git add {_JOBS}/{job} {_JOBS}/stages.yaml && git commit",
            )
        return [self._of_role(asset, role, roles[role], operation, tenants) for role in roles]

    def _of_role(
        self,
        asset: Asset,
        role: Role,
        number: int,
        operation: JobOperation,
        tenants: Mapping[str, Sequence[str]],
    ) -> Definition:
        page = self._page(asset.name, number)
        known = tenants.get(page["use_case"], operation.tenants)
        if missing := [name for name in operation.tenants if name not in known]:
            raise ConfigError(
                f"{OPERATIONS}: jobs.{asset.name}.tenants names {missing[0]!r}, which use case"
                f" {page['use_case']!r} does not have",
                hint=f"its tenants are {', '.join(known)}",
            )
        for tenant in operation.tenants or ("",):
            Slot(job=asset.name, tenant=tenant, at=_ALWAYS)  # its error is this job's, and not every tick's
        return Definition(
            job=asset.name, role=role, version=number, operation=operation,
            eras=self._eras(asset, role, number), seconds=page["limits"]["seconds"],
        )  # fmt: skip

    def _eras(self, asset: Asset, role: Role, number: int) -> tuple[Era, ...]:
        """Return the schedules of the label's last two moves, the older first.

        In a rehearsal, and for a version that runs because another was withdrawn, its own counts alone.
        """
        where = f"{_JOBS}/{asset.name}/asset.yaml"
        moves = [move for move in asset.moves if move.label == role][-2:]
        if self._rehearsal or not moves or moves[-1].version != number:
            schedule = self._schedule(asset.name, number)
            return (Era(start=_ALWAYS, schedule=schedule),)
        return tuple(
            Era(start=_time_of(move, where), schedule=self._schedule(asset.name, move.version))
            for move in moves
        )

    def _page(self, job: str, number: int) -> dict[str, Any]:
        """Return the keys of a version's page that a server needs.

        The digest of the page says that its bytes are those of the promotion, so the other keys are left to
        the run, which reads them all: to read 1,000 pages as a whole takes ten seconds.
        """
        if (known := self._pages.get((job, number))) is not None:
            return known
        path = registry.resolve(self._root, "job", f"{job}@{number}").path
        blocks = "".join(found[0] for found in _BLOCK.finditer(files.read_text(path)))
        page = dict(_parsed(blocks))
        _check_page(page, path)
        self._pages[job, number] = page
        return page

    def _schedule(self, job: str, number: int) -> Schedule | None:
        if number == registry.NO_VERSION:
            return None
        stated = self._page(job, number).get("schedule")
        if not stated:
            return None
        return Schedule.parse(
            stated["cron"], stated.get("timezone", "UTC"), where=f"{job}@{number}: schedule"
        )


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _declared(root: Path) -> set[str]:
    """Return the jobs that params.yaml declares; none when it is not valid."""
    try:
        return set(config.load_params(root).jobs)
    except WorkbenchError:
        return set()


def _check_page(page: Mapping[str, Any], path: Path) -> None:
    """Raise ConfigError for a page whose use case, limit or schedule is missing or of another type.

    The digest of a page says that it was not changed, and not who made it.
    """
    limits, schedule = page.get("limits"), page.get("schedule")
    seconds = limits.get("seconds") if isinstance(limits, Mapping) else None
    texts = [page.get("use_case")]
    if isinstance(schedule, Mapping):
        texts += [schedule.get("cron"), schedule.get("timezone", "UTC")]
    fits = schedule is None or isinstance(schedule, Mapping)
    if not fits or type(seconds) is not int or any(not isinstance(text, str) for text in texts):
        raise ConfigError(
            f"{path}: use_case, limits.seconds or schedule is missing or of another type",
            hint=f"git checkout -- {path}",
        )


def _seen(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@functools.lru_cache(maxsize=4_096)
def _parsed(blocks: str) -> Mapping[str, Any]:
    """Return the mapping of blocks, read by the parser in C: the strict one takes seconds for 1,000 pages.

    What the parser in C does not read, the strict one reads or refuses in its words.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe").load(blocks)
    except (YAMLError, RecursionError, ValueError):
        found = None
    return found if isinstance(found, dict) else files.parse_yaml(blocks, where="job.yaml")


def _time_of(move: Move, where: str) -> dt.datetime:
    try:
        at = dt.datetime.fromisoformat(move.at)
    except ValueError:
        raise ConfigError(f"{where}: a move is at {move.at!r}, which is no time", hint="") from None
    return at if at.tzinfo else at.replace(tzinfo=dt.UTC)
