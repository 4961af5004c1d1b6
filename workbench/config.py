"""Read and check `params.yaml`, and the settings that a runner passes to a kernel.

No file holds a secret: a setting holds the name of an environment variable.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from workbench import files
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.layout import PARAMS, QUALITY
from workbench.types import MOST_CLASSIFIED, Usage

Mode = Literal["live", "record", "replay", "auto"]
BudgetDimension = Literal["tenant", "principal", "purpose", "use_case", "job", "run", "day", "month"]
Enforce = Literal["observe", "refuse"]
#: Placeholder for the tenant's name in the name of a key's environment variable.
TENANT = "{tenant}"
#: Address of the server that `make weaviate` starts.
DEFAULT_MEMORY_URL = "http://127.0.0.1:8080"
#: Number of tenants of one memory that a process keeps active on a server.
DEFAULT_AWAKE = 200
EXECUTION_VARIABLE = "WORKBENCH_EXECUTION"
#: What to do when params.yaml is malformed: a checkout alone would discard every edit.
MALFORMED = (
    f"correct that line: git diff -- {PARAMS} shows what changed; "
    f"to discard all edits: git checkout -- {PARAMS}"
)
#: Keys of a use case, their patterns and an example of each.
_FORMS = (
    ("base_url", r"(?s)https?://.*", "https://api.openai.com/v1"),
    ("memory_url", r"https?://[^\s/]+/?", DEFAULT_MEMORY_URL),
    ("memory_grpc", r"[^\s:/]+:\d{1,5}", "127.0.0.1:50051"),
)
_TENANT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
#: Most characters of a path below the repository, and bytes of a file name on common disks.
_MOST_PATH, _MOST_PART = 1_000, 255
#: Most dollars, tokens, calls or seconds of a budget: the ledger counts in 64 bits.
_MOST_BUDGET = 1e9
#: Most seconds for which an answer is cached (30 days), and most megabytes of the cache.
_MOST_CACHED_S, _MOST_CACHED_MB = 30 * 86_400, 10_000
#: Most seconds of one call with its fall-backs.
_MOST_SECONDS = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One version of an asset, as params.yaml names it: by number, because a label would move."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFile:
    """The cases that the gate judges: a JSON lines or Parquet file and the names of its columns.

    `inputs` are given to the task; `expected` are given to the scorers alone.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    file: str
    inputs: tuple[str, ...] = ("question",)
    expected: tuple[str, ...] = ("answers", "page")


@dataclass(frozen=True, slots=True, kw_only=True)
class Approach:
    """How a use case is answered, and why.

    `arm` is the arm that answers in the decided way, by default the judged run, and `instead_of` the arm that
    it is compared with: a simpler one, or for a deterministic decision one that asks a model. The costlier of
    the two pays for itself when its first score is higher by more than `margin`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    decision: Literal["agentic", "model", "deterministic"]
    reason: str
    arm: str | None = None
    instead_of: str | None = None
    margin: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """The limits of the calls of one run, None where none is stated.

    `seconds` counts from the run's first call. `repeated` is the number of identical requests.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None
    repeated: int | None = None

    def over(self, other: RunLimits | None) -> RunLimits:
        """Return these limits, with those of `other` where none is stated here."""
        stated = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        return dataclasses.replace(other or RunLimits(), **stated)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCaching:
    """For how many seconds exact repetitions of a request are answered from the cache, of which operations.

    `megabytes` bounds the cache, which all use cases of a repository share.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    seconds: float
    operations: tuple[Literal["chat", "embed"], ...] = ("chat", "embed")
    megabytes: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedAnswer:
    """An answer that is given when no model answers: a text, or an object for a request of JSON."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    answer: str | dict[str, Any]

    @property
    def text(self) -> str:
        """The answer as the text of a reply."""
        return self.answer if isinstance(self.answer, str) else files.canonical(self.answer).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """The model of a use case, and what answers in its place while it cannot: models, then a stated answer.

    `seconds` limits a call, all candidates together; without it, the boundary's own limit applies.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    name: str
    fallback: tuple[str | StatedAnswer, ...] = ()
    seconds: float | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models among the fall-backs, in order."""
        return tuple(item for item in self.fallback if isinstance(item, str))


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price in US dollars per million tokens; 0 for a model on this machine.

    Cached tokens are a part of the input, and reasoning tokens of the output; without a price of their own
    they cost as much as the rest.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    input_usd: float
    output_usd: float = 0.0
    cached_input_usd: float | None = None
    reasoning_usd: float | None = None

    def cost_usd(self, usage: Usage) -> float | None:
        """Return the price of an answer in US dollars, or None if its usage is unknown."""
        if usage.input_tokens is None:
            return None
        output = usage.output_tokens or 0
        total = usage.input_tokens * self.input_usd + output * self.output_usd
        if self.cached_input_usd is not None:
            cached = min(usage.cached_tokens or 0, usage.input_tokens)
            total += cached * (self.cached_input_usd - self.input_usd)
        if self.reasoning_usd is not None:
            reasoning = min(usage.reasoning_tokens or 0, output)
            total += reasoning * (self.reasoning_usd - self.output_usd)
        return total / 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What the spans of a use case hold: with `content`, questions, passages and answers too."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    content: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCase:
    """One use case of `params.yaml`; docs/params.md describes every key.

    Bare names resolve to `prompt`, `memory` and `model`; a use case may have no prompt and no memory.
    `clearance` is the highest classification that principals see. `as_of` is an ISO day. `keepers` is the
    former name of `admins`. `dataset` is by default the questions of the memory's spec, and `scorers` by
    default what experiments/scorer_spec.py names.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    title: str
    purpose: str
    owner: str
    phase: Literal["mvp", "mlvp"]
    notebook: str
    tenants: tuple[str, ...]
    data: str
    model: str | ModelChoice
    report: str
    gates: dict[str, dict[str, Any]]
    memory: Pin | None = None
    prompt: Pin | None = None
    dataset: str | DatasetFile | None = None
    scorers: dict[str, Any] | None = None
    approach: Approach | None = None
    impact: str | None = None
    slices: tuple[str, ...] = ()
    quality: str | None = None
    provider: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    price_per_million: Price | None = None
    memory_provider: Literal["sqlite", "weaviate"] = "sqlite"
    memory_url: str | None = None
    memory_grpc: str | None = None
    memory_api_key_env: str | None = None
    memory_awake: int = DEFAULT_AWAKE
    memory_fallback: Literal["snapshot"] | None = None
    clearance: int = 0
    as_of: str | None = None
    seed: int = 7
    baseline: str | None = None
    candidate: str = "candidate"
    groups: tuple[str, ...] = ("everyone",)
    admins: tuple[str, ...] | None = None
    keepers: tuple[str, ...] | None = None
    concurrency: int = 4
    limits: RunLimits | None = None
    cache: AnswerCaching | None = None
    telemetry: Telemetry = field(default_factory=Telemetry)
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def model_choice(self) -> ModelChoice:
        """The model with its fall-backs; a plain name has none."""
        return ModelChoice(name=self.model) if isinstance(self.model, str) else self.model

    @property
    def model_name(self) -> str:
        """The name of the model that is asked first."""
        return self.model if isinstance(self.model, str) else self.model.name

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """The columns `inputs` and `expected` of the dataset."""
        stated = self.dataset if isinstance(self.dataset, DatasetFile) else DatasetFile(file="")
        return {"inputs": stated.inputs, "expected": stated.expected}

    def rights(self, name: str) -> dict[str, Any]:
        """Return the rights of a principal in this use case, as fields of `Principal`."""
        named = self.admins if self.admins is not None else self.keepers
        admin = named is None or name in named
        return {"groups": self.groups, "clearance": self.clearance, "admin": admin}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryServer:
    """A Weaviate server: `url` is its HTTP address, `grpc` its host:port (default: port 50051 of the host).

    `api_key_env` names the environment variable that holds the key. If every tenant has a key of its own,
    `{tenant}` in that name stands for the tenant's name in capitals. `awake` is the number of tenants of
    one memory that a process keeps active.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    url: str
    grpc: str | None = None
    api_key_env: str | None = None
    awake: int = DEFAULT_AWAKE

    def key_variable(self, tenant: str) -> str:
        """Return the name of the variable that holds a tenant's key, or "" if the server needs none."""
        return (self.api_key_env or "").replace(TENANT, variable_part(tenant))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The schedule of a job: five cron fields in an IANA time zone."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    cron: str
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a job run: its seconds, and the share of broken rows above which it is held back."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    seconds: int = 900
    broken: float = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits(Limits):
    """The limits of a job's runs, also of their calls; a version keeps `seconds` and `broken`.

    The others are read in the version's own params.yaml.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    repeated: int | None = None

    @property
    def of_calls(self) -> RunLimits:
        """The limits of the calls of a run."""
        return RunLimits(calls=self.calls, tokens=self.tokens, usd=self.usd, repeated=self.repeated)

    @property
    def of_version(self) -> Limits:
        """The limits that a version keeps."""
        return Limits(seconds=self.seconds, broken=self.broken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job of `params.yaml`: a use case's notebook, applied to inputs.

    `sample` is the path of a small input, which each version freezes and its stage reproduces. `input` is
    the path of a scheduled run's input, with `{date}` or `{time}` of the run.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    use_case: str
    sample: str
    input: str | None = None
    schedule: Timing | None = None
    limits: JobLimits = field(default_factory=JobLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOnly:
    """The calls that a budget applies to: all that are named here must be the call's; None is any."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    tenant: str | tuple[str, ...] | None = None
    principal: str | tuple[str, ...] | None = None
    purpose: str | tuple[str, ...] | None = None
    use_case: str | tuple[str, ...] | None = None
    job: str | tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRule:
    """One budget of `params.yaml`: its limits, one account `per` which dimensions, and what it applies to.

    `call_seconds` is the longest model time of one call, which a budget of seconds reserves.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None
    seconds: float | None = None
    per: tuple[BudgetDimension, ...] = ()
    only: BudgetOnly = field(default_factory=BudgetOnly)
    enforce: Enforce | dict[Literal["mvp", "mlvp"], Enforce] = "refuse"
    call_seconds: float = 60.0

    def enforced(self, phase: str) -> bool:
        """Whether the budget refuses calls in a phase; False if it only observes."""
        stated = self.enforce if isinstance(self.enforce, str) else self.enforce.get(phase, "refuse")  # type: ignore[call-overload]
        return bool(stated == "refuse")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRetention:
    """The days after which `workbench calls purge` removes calls; None keeps them for ever."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    calls_days: int | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """The settings that a runner passes to a kernel.

    The kernel reads `judge_tape`, then `tape`, searches the snapshot `memory`, takes its dataset from `cases`
    and writes runs to `out`, used recording keys to `used` and progress to `progress`. `task_digest` leaves
    out `explore` cells.
    `memory_server` replaces the server of params.yaml and has no fallback. Of a job, `pins` bind bare names,
    `ws.publish` writes to `publish`, a larger share than `broken` of broken rows holds the output back, and
    the repository `home` keeps the state.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    notebook: str
    use_case: str | None = None
    task_digest: str | None = None
    mode: Mode = "auto"
    tape: str | None = None
    judge_tape: str | None = None
    memory: str | None = None
    cases: str | None = None
    out: str | None = None
    used: str | None = None
    progress: str | None = None
    job: str | None = None
    run: str | None = None
    tenant: str | None = None
    pins: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    publish: str | None = None
    broken: float = 1.0
    home: str | None = None
    journal: str | None = None
    live_memory: bool = False
    memory_server: MemoryServer | None = None

    def environment(self) -> dict[str, str]:
        """Return the environment variable that passes this execution to the kernel."""
        return {EXECUTION_VARIABLE: files.canonical(dataclasses.asdict(self)).decode()}

    @classmethod
    def current(cls) -> Execution | None:
        """Return the execution of this process, or None if no runner started it."""
        text = os.environ.get(EXECUTION_VARIABLE)
        if not text:
            return None
        import orjson

        return files.parse(cls, orjson.loads(text), where=EXECUTION_VARIABLE)


def variable_part(tenant: str) -> str:
    """Return a tenant's name in the form used in environment variable names."""
    return tenant.upper().replace("-", "_")


def memory_server(case: UseCase) -> MemoryServer | None:
    """Return the server of a use case's live memory, or None if the memory is embedded."""
    if case.memory_provider == "sqlite":
        return None
    url = case.memory_url or DEFAULT_MEMORY_URL
    return MemoryServer(
        url=url, grpc=case.memory_grpc, api_key_env=case.memory_api_key_env, awake=case.memory_awake
    )


def check_tenant(tenant: str, *, where: str = "") -> None:
    """Raise ConfigError unless `tenant` is a valid folder and file name on every system."""
    if not _TENANT_NAME.fullmatch(tenant):
        raise ConfigError(
            f"{where}{tenant!r} cannot name a tenant",
            hint="use up to 63 of a-z, 0-9, - and _, beginning with a letter or a digit",
        )


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

    A process parses the file again only after it has changed, so do not change the returned value.
    """
    return _parsed(root / PARAMS)


@files.until_changed
def _parsed(path: Path) -> Params:
    raw = files.read_yaml(path, hint=MALFORMED, missing=f"git checkout -- {PARAMS}")
    params = files.parse(Params, raw, where=str(path), hint="see docs/params.md for every key")
    if not params.use_cases:
        hint = "workbench init NAME --docs DIR --questions FILE, or: git checkout -- params.yaml"
        raise ConfigError(f"{path}: use_cases is empty", hint=hint)
    if (days := params.retention.calls_days) is not None and days < 1:
        raise ConfigError(f"{path}: retention.calls_days must be 1 or more, found {days}")
    for name, case in params.use_cases.items():
        _check(path, name, case)
    for name, declared in params.jobs.items():
        _check_job(path, name, declared, params)
    check_budgets(params.budgets, params.budget_url, params.budget_password_env, where=str(path))
    return params


def check_inside(text: str, *, where: str) -> None:
    """Raise ConfigError unless `text` is a path below the repository's folder, short enough for a disk."""
    parts = Path(text).parts
    short = len(text) <= _MOST_PATH and all(len(os.fsencode(part)) <= _MOST_PART for part in parts)
    if not parts or not short or ".." in parts or Path(text).is_absolute() or "\0" in text:
        raise ConfigError(
            f"{where}: {files.shortened(text)!r} is not a path inside the repository",
            hint="write a path relative to params.yaml, without .., for example notebooks/answers.ipynb",
        )


def check_quality(text: str, *, where: str) -> None:
    """Raise ConfigError unless `text` is a file in the folder of quality rules, which the pipeline tracks."""
    check_inside(text, where=where)
    if Path(text).parent != Path(QUALITY):
        raise ConfigError(
            f"{where}: {files.shortened(text)!r} is not a file in {QUALITY}",
            hint=f"move it to {QUALITY}/{Path(text).name}",
        )


def check_day(text: str, *, where: str) -> None:
    """Raise ConfigError unless `text` is a day as 2026-11-24, the only form that sorts as days do."""
    try:
        fits = dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        fits = False
    if not fits:
        problem = f"{files.shortened(text)!r} is not a day like 2026-11-24"
        raise ConfigError(f"{where}: {problem}", hint="write YYYY-MM-DD")


def _check(path: Path, name: str, case: UseCase) -> None:
    if not _NAME.fullmatch(name):  # it names folders
        raise ConfigError(
            f"{path}: use_cases: {files.shortened(name)!r} cannot name a use case",
            hint="use up to 63 letters, digits, - and _",
        )
    where = f"{path}: use_cases.{name}"
    for key in ("notebook", "data", "report", *(("impact",) if case.impact else ())):
        check_inside(getattr(case, key), where=f"{where}.{key}")
    if case.quality is not None:
        check_quality(case.quality, where=f"{where}.quality")
    if case.admins is not None and case.keepers is not None:
        raise ConfigError(
            f"{where} has both admins and keepers, which is the former name of admins",
            hint=f"keep use_cases.{name}.admins, remove keepers, then: workbench check",
        )
    if case.phase not in case.gates:
        raise ConfigError(
            f"{where}.gates has no column for phase {case.phase!r} ({nearest(case.phase, case.gates)})",
            hint=f"write the column {name}.gates.{case.phase}, or name another phase",
        )
    if not case.tenants:
        raise ConfigError(
            f"{where}.tenants is empty", hint=f"name one or more under use_cases.{name}.tenants"
        )
    for tenant in case.tenants:
        check_tenant(tenant, where=f"{where}.tenants: ")
    server = (case.memory_url, case.memory_grpc, case.memory_api_key_env, case.memory_fallback)
    if case.memory_provider == "sqlite" and (any(server) or case.memory_awake != DEFAULT_AWAKE):
        raise ConfigError(
            f"{where}: keys of a memory server are set, but the memory is embedded",
            hint="add memory_provider: weaviate, or remove memory_url, memory_grpc, memory_api_key_env, "
            "memory_fallback and memory_awake",
        )
    _check_model(f"{where}.model", case.model_choice)
    _check_caching(f"{where}.cache", case.cache)
    _check_price(f"{where}.price_per_million", case)
    _check_groups(where, case.groups)
    _check_values(where, case)
    _check_run_limits(f"{where}.limits", case.limits or RunLimits())


def _check_groups(where: str, groups: Sequence[str]) -> None:
    if personal := [group for group in groups if group.startswith("principal:")]:
        raise ConfigError(
            f"{where}.groups: {personal[0]!r} is the entry of one principal in access lists, and no group",
            hint="name groups only; a principal has its own entry without being named",
        )


def _check_values(where: str, case: UseCase) -> None:
    for key in ("concurrency", "memory_awake"):
        if (number := getattr(case, key)) < 1:
            raise ConfigError(f"{where}.{key} must be 1 or more, found {number}")
    for key, pattern, example in _FORMS:
        if (text := getattr(case, key)) is not None and not re.fullmatch(pattern, text):
            message = f"{where}.{key}: {text!r} does not have the form of {example}"
            raise ConfigError(message, hint=f"for example {key}: {example}")
    if not 0 <= case.clearance <= MOST_CLASSIFIED:
        raise ConfigError(f"{where}.clearance must be 0 to {MOST_CLASSIFIED}, found {case.clearance}")
    if case.baseline == case.candidate:
        raise ConfigError(f"{where}.baseline and candidate are the same arm, {case.baseline!r}")
    if case.approach is not None:
        _check_approach(f"{where}.approach", case.approach, case.candidate)
    if case.as_of is not None:
        check_day(case.as_of, where=f"{where}.as_of")
    if case.seed < 0:
        raise ConfigError(f"{where}.seed must be 0 or more, found {case.seed}")


def _check_price(where: str, case: UseCase) -> None:
    if case.price_per_million is not None and case.base_url is None and case.provider != "openai":
        raise ConfigError(
            f"{where} is only for a model at another endpoint",
            hint="write provider: openai and base_url beside it, or the price into the model's card",
        )


def _check_run_limits(where: str, limits: RunLimits) -> None:
    for key, value in dataclasses.asdict(limits).items():
        least = 0 if key in {"usd", "seconds"} else 1
        if value is not None and (value < least or value == 0):
            raise ConfigError(
                f"{where}.{key} must be {'above 0' if least == 0 else '1 or more'}, found {value}",
                hint=f"write a higher number, or remove {key}: then nothing limits it",
            )


def _check_caching(where: str, caching: AnswerCaching | None) -> None:
    if caching is None:
        return
    for key, most, usual in (("seconds", _MOST_CACHED_S, 3600), ("megabytes", _MOST_CACHED_MB, 64)):
        if not 0 < (value := getattr(caching, key)) <= most:
            raise ConfigError(
                f"{where}.{key} must be above 0 and up to {most}, found {value}",
                hint=f"for example {key}: {usual}, or remove the key cache",
            )


def _check_model(where: str, model: ModelChoice) -> None:
    """Raise ConfigError for a model that is named twice, and for a stated answer that is not the last one."""
    names = [name.partition("@")[0] for name in (model.name, *model.models)]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ConfigError(
            f"{where} names {twice[0]!r} twice: a model cannot be its own fall-back",
            hint=f"name another model under {where.partition(': ')[2]}.fallback",
        )
    if any(isinstance(item, StatedAnswer) for item in model.fallback[:-1]):
        raise ConfigError(
            f"{where}.fallback: a stated answer always answers, so nothing after it is asked",
            hint='move {answer: "…"} to the end of the list',
        )
    if any(isinstance(item, StatedAnswer) and not item.answer for item in model.fallback):
        raise ConfigError(
            f"{where}.fallback: the stated answer is empty",
            hint='write {answer: "…"} with a text or an object',
        )
    if model.seconds is not None and not 0 < model.seconds <= _MOST_SECONDS:
        raise ConfigError(f"{where}.seconds must be above 0 and up to {_MOST_SECONDS}, found {model.seconds}")


def _check_approach(where: str, approach: Approach, candidate: str) -> None:
    if not approach.reason.strip():
        raise ConfigError(f"{where}.reason is empty", hint="write by what criteria it was decided")
    if not 0 <= approach.margin < 1:
        raise ConfigError(
            f"{where}.margin must be 0 or more and below 1, found {approach.margin}",
            hint="it is a difference of the first score, for example margin: 0.02",
        )
    if approach.instead_of == (chosen := approach.arm or candidate):
        raise ConfigError(
            f"{where}.instead_of is {chosen!r}, which is the arm of the decision itself",
            hint="name the other arm of the comparison",
        )


def _check_job(path: Path, name: str, declared: Job, params: Params) -> None:
    where = f"{path}: jobs.{name}"
    if not _NAME.fullmatch(name):  # it names folders
        raise ConfigError(
            f"{path}: jobs: {files.shortened(name)!r} cannot name a job",
            hint="use up to 63 letters, digits, - and _",
        )
    check_inside(declared.sample, where=f"{where}.sample")
    if declared.use_case not in params.use_cases:
        known = nearest(declared.use_case, params.use_cases)
        raise ConfigError(f"{where}.use_case: there is no use case {declared.use_case!r} ({known})")
    if declared.limits.seconds < 1 or not 0 < declared.limits.broken <= 1:
        raise ConfigError(
            f"{where}.limits: seconds must be 1 or more and broken above 0 and up to 1, found "
            f"{declared.limits.seconds} and {declared.limits.broken}"
        )
    _check_run_limits(f"{where}.limits", declared.limits.of_calls)
    try:
        (declared.input or "").format(date="", time="")
    except (AttributeError, KeyError, IndexError, ValueError):
        raise ConfigError(
            f"{where}.input: {declared.input!r} has a field other than {{date}} and {{time}}",
            hint="for example input: data/inbox/{date}.jsonl",
        ) from None


def check_budgets(
    rules: Mapping[str, BudgetRule], url: str | None, password_env: str | None, *, where: str
) -> None:
    """Raise ConfigError for a budget without a usable limit, or an address of a ledger with a password."""
    for name, rule in rules.items():
        at = f"{where}: budgets.{name}"
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{where}: budgets: {files.shortened(name)!r} cannot name a budget",
                hint="use up to 63 letters, digits, - and _",
            )
        limits = {key: getattr(rule, key) for key in ("usd", "tokens", "calls", "seconds")}
        if all(limit is None for limit in limits.values()):
            raise ConfigError(
                f"{at} has no limit", hint="write one or more of usd, tokens, calls and seconds"
            )
        for key, limit in {**limits, "call_seconds": rule.call_seconds}.items():
            if limit is not None and not 0 < limit <= _MOST_BUDGET:
                raise ConfigError(f"{at}.{key} must be above 0 and at most {_MOST_BUDGET:g}, found {limit:g}")
        _check_only(at, rule.only)
        if len(set(rule.per)) < len(rule.per):
            raise ConfigError(f"{at}.per names a dimension twice: {', '.join(rule.per)}")
    if url is not None:
        parts = urlsplit(url)
        if parts.scheme not in {"postgresql", "postgres"} or not parts.path.strip("/") or parts.password:
            raise ConfigError(
                f"{where}: budget_url must be postgresql://USER@HOST:PORT/DATABASE, without a password",
                hint="write budget_password_env: NAME of the environment variable that holds the password",
            )
    if password_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", password_env):
        raise ConfigError(
            f"{where}: budget_password_env must be the NAME of an environment variable, not the password",
            hint="for example budget_password_env: BUDGET_PASSWORD",
        )


def job(params: Params, name: str) -> Job:
    """Return a declared job; raise NotFoundError with the nearest names for another name."""
    if name not in params.jobs:
        raise NotFoundError(
            f"params.yaml declares no job {name!r} ({nearest(name, params.jobs)})",
            hint=f"add under jobs: {name}: {{use_case: …, sample: data/inbox/sample.jsonl}}",
        )
    return params.jobs[name]


def _check_only(at: str, only: BudgetOnly) -> None:
    for key, stated in dataclasses.asdict(only).items():
        names = (stated,) if isinstance(stated, str) else stated
        if names is not None and not (names and all(names)):
            raise ConfigError(
                f"{at}.only.{key} names nothing, so the budget applies to no call",
                hint=f"write a name or a list of names, or remove {key}: then it applies to every one",
            )


def run_limits(params: Params, case: UseCase, job: str | None) -> RunLimits | None:
    """Return the limits of the calls of a run: the job's, else the use case's; None if none is stated."""
    declared = params.jobs.get(job) if job else None
    found = declared.limits.of_calls.over(case.limits) if declared else case.limits
    return None if found is None or found == RunLimits() else found


def pinned(case: UseCase, pins: Mapping[str, str]) -> UseCase:
    """Return the use case with its bare names bound to a job's frozen references."""
    found: dict[str, Any] = {}
    for kind in ("prompt", "memory"):
        if kind in pins:
            name, _, version = pins[kind].partition("@")
            found[kind] = Pin(name=name, version=int(version))
    if "model" in pins:
        found["model"] = _pinned_model(case.model, pins)
    return dataclasses.replace(case, **found)


def _pinned_model(model: str | ModelChoice, pins: Mapping[str, str]) -> str | ModelChoice:
    """Return the model with the frozen references; `model.1` is that of its first fall-back."""
    if isinstance(model, str):
        return pins["model"]
    numbers = iter(range(1, len(model.fallback) + 1))
    fallback = tuple(
        pins.get(f"model.{next(numbers)}", item) if isinstance(item, str) else item for item in model.fallback
    )
    return dataclasses.replace(model, name=pins["model"], fallback=fallback)


def use_case(params: Params, name: str) -> UseCase:
    """Return a use case; raise NotFoundError with the nearest names if it is unknown."""
    if name not in params.use_cases:
        raise NotFoundError(
            f"there is no use case {name!r} ({nearest(name, params.use_cases)})",
            hint="use cases are the keys under use_cases in params.yaml",
        )
    return params.use_cases[name]


def secret(variable: str, *, needed_by: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return a credential from an environment variable; raise ConfigError if it is not set."""
    value = environment.get(variable, "")
    if not value:
        raise ConfigError(
            f"{needed_by} needs a key, and the environment variable {variable} is not set",
            hint=f"export {variable}=…",
        )
    return value
