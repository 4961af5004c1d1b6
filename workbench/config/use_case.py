"""A use case of params.yaml: its assets, its endpoints, its gates."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from workbench import files
from workbench.config.assessments import check_handled
from workbench.config.confinement import ExecutionSettings
from workbench.config.content import ContentKeeping
from workbench.config.data_classes import Privacy
from workbench.config.forms import NAME, check_day, check_inside, check_quality, check_tenant, variable_part
from workbench.config.limits import AnswerCaching, RunLimits, check_caching, check_run_limits
from workbench.config.models import ModelChoice, Price, check_model
from workbench.config.moderation import ModerationRules, check_moderation
from workbench.config.policy import PolicyMode
from workbench.errors import ConfigError, nearest
from workbench.identity import Assurance
from workbench.types import MOST_CLASSIFIED

#: Placeholder for the tenant's name in the name of a key's environment variable.
TENANT = "{tenant}"
#: Address of the server that `make weaviate` starts.
DEFAULT_MEMORY_URL = "http://127.0.0.1:8080"
#: Number of tenants of one memory that a process keeps active on a server.
DEFAULT_AWAKE = 200
#: Keys of a use case, their patterns and an example of each.
_FORMS = (
    ("base_url", r"(?s)https?://.*", "https://api.openai.com/v1"),
    ("memory_url", r"https?://[^\s/]+/?", DEFAULT_MEMORY_URL),
    ("memory_grpc", r"[^\s:/]+:\d{1,5}", "127.0.0.1:50051"),
)


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

    `inputs` are given to the task; `expected` are given to the scorers alone. `classes` declares the class of
    data of inputs, by their names.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    file: str
    inputs: tuple[str, ...] = ("question",)
    expected: tuple[str, ...] = ("answers", "page")
    classes: dict[str, str] = field(default_factory=dict)


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
class Telemetry:
    """What the spans of a use case hold: with `content`, questions, passages and answers too."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    content: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCase:
    """One use case of `params.yaml`; docs/params.md describes every key.

    Bare names resolve to `prompt`, `memory` and `model`; a use case may have no prompt and no memory.
    `clearance` is the highest classification that principals see. `handles` are the classes of data that its
    models get. `as_of` is an ISO day. `keepers` is the
    former name of `admins`. `dataset` is by default the questions of the memory's spec, and `scorers` by
    default what experiments/scorer_spec.py names. `known_limits` are sentences for the limits of the
    readiness page.
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
    handles: tuple[str, ...] | None = None
    seed: int = 7
    baseline: str | None = None
    known_limits: tuple[str, ...] = ()
    candidate: str = "candidate"
    groups: tuple[str, ...] = ("everyone",)
    admins: tuple[str, ...] | None = None
    keepers: tuple[str, ...] | None = None
    assurance: Assurance = "asserted"
    concurrency: int = 4
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)
    limits: RunLimits | None = None
    cache: AnswerCaching | None = None
    moderation: ModerationRules | None = None
    telemetry: Telemetry = field(default_factory=Telemetry)
    content: ContentKeeping = field(default_factory=ContentKeeping)
    privacy: Privacy = field(default_factory=Privacy)
    policy: PolicyMode = field(default_factory=PolicyMode)
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

    @property
    def column_classes(self) -> Mapping[str, str]:
        """The classes of data of the dataset's inputs, by their names."""
        return self.dataset.classes if isinstance(self.dataset, DatasetFile) else {}

    def rights(self, name: str, assurance: Assurance = "asserted") -> dict[str, Any]:
        """Return the rights of a principal in this use case, as fields of `Principal`.

        An authenticated principal is an admin only where `admins` names it.
        """
        named = self.admins if self.admins is not None else self.keepers
        admin = assurance == "asserted" if named is None else name in named
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


def memory_server(case: UseCase) -> MemoryServer | None:
    """Return the server of a use case's live memory, or None if the memory is embedded."""
    if case.memory_provider == "sqlite":
        return None
    url = case.memory_url or DEFAULT_MEMORY_URL
    return MemoryServer(
        url=url, grpc=case.memory_grpc, api_key_env=case.memory_api_key_env, awake=case.memory_awake
    )


def check_use_case(path: Path, name: str, case: UseCase) -> None:
    """Raise ConfigError with file and key for a value of a use case that no run could use."""
    if not NAME.fullmatch(name):  # it names folders
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
    check_model(f"{where}.model", case.model_choice)
    check_caching(f"{where}.cache", case.cache)
    _check_price(f"{where}.price_per_million", case)
    _check_groups(where, case.groups)
    _check_values(where, case)
    check_run_limits(f"{where}.limits", case.limits or RunLimits())


def _check_column_classes(where: str, case: UseCase) -> None:
    inputs = case.columns["inputs"]
    for column in case.column_classes:
        if column not in inputs:
            raise ConfigError(
                f"{where}.classes: {files.shortened(column)!r} is none of the columns of inputs "
                f"({nearest(column, inputs)})",
                hint=f"classes: {{{inputs[0] if inputs else 'text'}: personal}}, of inputs alone",
            )


def _check_price(where: str, case: UseCase) -> None:
    if case.price_per_million is not None and case.base_url is None and case.provider != "openai":
        raise ConfigError(
            f"{where} is only for a model at another endpoint",
            hint="write provider: openai and base_url beside it, or the price into the model's card",
        )


def _check_groups(where: str, groups: Sequence[str]) -> None:
    if personal := [group for group in groups if group.startswith("principal:")]:
        raise ConfigError(
            f"{where}.groups: {personal[0]!r} is the entry of one principal in access lists, and no group",
            hint="name groups only; a principal has its own entry without being named",
        )


def _check_values(where: str, case: UseCase) -> None:
    check_handled(f"{where}.handles", case.handles)
    _check_column_classes(f"{where}.dataset", case)
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
    _check_limits(f"{where}.known_limits", case.known_limits)
    if case.approach is not None:
        _check_approach(f"{where}.approach", case.approach, case.candidate)
    check_moderation(f"{where}.moderation", case.moderation, phase=case.phase)
    if case.as_of is not None:
        check_day(case.as_of, where=f"{where}.as_of")
    if case.seed < 0:
        raise ConfigError(f"{where}.seed must be 0 or more, found {case.seed}")


def _check_limits(where: str, limits: Sequence[str]) -> None:
    if any(not text.strip() for text in limits):
        raise ConfigError(f"{where} has an empty entry", hint="write a sentence, or remove the entry")


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
