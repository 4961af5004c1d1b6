"""What depends on a version of an asset, what a change of it reruns, and what that costs by the tapes.

`workbench impact prompt/answer@4` shows it. The use cases, jobs, memories and gates are those that name the
asset; the stages are those of dvc.yaml that read it and the stages that read their results.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import config, files, layout, registry, retrieval, wire
from workbench.config import UseCase
from workbench.display import Card, Shown, number
from workbench.errors import ConfigError, WorkbenchError, nearest
from workbench.jobs import spec as jobspec
from workbench.models import ModelCard
from workbench.models.catalogue import load_card
from workbench.pipeline import settings
from workbench.records.keys import Entry
from workbench.records.tape import Tape
from workbench.registry import Version
from workbench.types import Usage
from workbench.workspace.boundary import card_of_use_case

#: The kinds of assets whose dependents are known.
KINDS = ("prompt", "model", "memory", "job")
#: The stages that ask a model, and the tape of each.
_TAPES = {"judge": layout.judge_tape_of, "experiment": layout.tape_of}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependent:
    """One thing that depends on an asset: its kind and name, and how it depends."""

    kind: str
    name: str
    how: str

    def to_json(self) -> dict[str, str]:
        """Return the dependent as JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """The stages of a use case that a change reruns, and the recorded calls of those that ask a model.

    `cost_usd` is at today's prices; it is None when a price or a count of tokens is unknown. `seconds` are
    the recorded times of waiting, of one call after the other.
    """

    use_case: str
    stages: tuple[str, ...]
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the rerun as JSON."""
        return {**dataclasses.asdict(self), "stages": list(self.stages)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependents(Shown):
    """What depends on `reference`, and what a change of it reruns."""

    reference: str
    found: tuple[Dependent, ...]
    reruns: tuple[Rerun, ...]
    command: str

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        return {
            "reference": self.reference,
            "dependents": [item.to_json() for item in self.found],
            "reruns": [item.to_json() for item in self.reruns],
        }

    def card(self) -> Card:
        """Return a row for each dependent and each rerun, with the cost of the reruns."""
        rows = [(item.kind, item.name, item.how) for item in self.found]
        rows += [("rerun", item.use_case, ", ".join(item.stages)) for item in self.reruns]
        rows += [("asks", item.use_case, _asked(item)) for item in self.reruns if item.calls]
        notes = [] if self.found else ["nothing depends on it"]
        if any(item.calls for item in self.reruns):
            notes.append(
                "the cost is the most that it takes: every recorded call, asked again at today's prices, one"
                " after the other; an answer to an unchanged request is replayed"
            )
        return Card(
            title=f"what depends on {self.reference}", head=("kind", "name", "how"), rows=rows, notes=notes,
            command=self.command,
        )  # fmt: skip


def dependents(root: Path, reference: str) -> Dependents:
    """Return what depends on KIND/NAME or KIND/NAME@VERSION; without a version, on any of its versions.

    ConfigError for another kind or form, NotFoundError for an unknown name or version.
    """
    kind, slash, name = reference.partition("/")
    if not slash or kind not in KINDS:
        raise ConfigError(
            f"{files.shortened(reference)!r} is not KIND/NAME ({nearest(kind, KINDS)})",
            hint="workbench impact prompt/NAME (or memory, model, job), with @VERSION or without",
        )
    version = registry.resolve(root, kind, name)
    every = "@" not in name
    finders = {"job": _of_job, "model": _of_model}
    find = finders.get(kind, _of_pin)
    found = tuple(find(root, version, every=every))
    cases = dict.fromkeys(item.name for item in found if item.kind == "use case")
    reruns = tuple(_rerun(root, case, version) for case in cases) if kind != "job" else ()
    shown = f"{kind}/{version.name}" if every else f"{kind}/{version}"
    command = f"workbench jobs history {version.name}" if kind == "job" else "workbench repro"
    return Dependents(reference=shown, found=found, reruns=reruns, command=command)


def _of_job(root: Path, version: Version, *, every: bool) -> Iterator[Dependent]:
    """Yield what a job's version serves: its labels, its use case, its stage and its timer."""
    spec = jobspec.read(version.path)
    asset = registry.load(root, "job", version.name)
    for label, number_ in sorted(asset.labels.items()):
        if every or number_ == version.number:
            yield Dependent(kind="label", name=label, how=f"is {version.name}@{number_}")
            yield Dependent(kind="stage", name=f"job@{version.name}-{number_}", how="reproduces its sample")
    yield Dependent(kind="use case", name=spec.use_case, how="is served by it")
    if "production" in asset.labels and (every or asset.labels["production"] == version.number):
        when = f"{spec.schedule.cron} {spec.schedule.timezone}" if spec.schedule else "when asked"
        yield Dependent(kind="timer", name=version.name, how=f"runs it: {when}")
    for case, stated in config.load_params(root).use_cases.items():
        if case == spec.use_case and "production" in asset.labels:
            yield from _compared(case, stated)


def _compared(name: str, case: UseCase) -> Iterator[Dependent]:
    """Yield the gates that compare a run with the version in production."""
    for phase, gate in case.gates.items():
        if any(isinstance(line, Mapping) and line.get("versus") == "production" for line in gate.values()):
            yield Dependent(kind="gate", name=f"{name} {phase}", how="compares with its judged run")


def _of_model(root: Path, version: Version, *, every: bool) -> Iterator[Dependent]:
    """Yield the use cases that ask a model, the memories that embed with it, and what depends on those."""
    params = config.load_params(root)
    memories = []
    for name in registry.names(root, "memory"):
        for number_ in sorted(registry.load(root, "memory", name).versions):
            spec = retrieval.load_spec(root, f"{name}@{number_}")
            if _means(root, "model", str(spec.embedding), version, every=every):
                memories.append(str(spec))
                yield Dependent(kind="memory", name=str(spec), how=f"embeds with {spec.embedding}")
    for name, case in params.use_cases.items():
        asked = [n for n in (case.model_name, *case.model_choice.models) if n]
        used = [n for n in asked if _means(root, "model", n, version, every=every)]
        ours = [str(case.memory)] if case.memory and str(case.memory) in memories else []
        if used or ours:
            how = [*(f"asks {n}" for n in used), *(f"searches {memory}" for memory in ours)]
            yield from _of_case(name, case, "; ".join(how))
    yield from _jobs(root, version, every=every)


def _of_pin(root: Path, version: Version, *, every: bool) -> Iterator[Dependent]:
    """Yield the use cases that name a prompt or a memory, their gates, and the jobs that froze it."""
    for name, case in config.load_params(root).use_cases.items():
        pin = getattr(case, version.kind)
        if pin is not None and pin.name == version.name:
            same = every or pin.version == version.number
            how = f"uses {pin}" if same else f"uses {pin}; it would rerun with {version}"
            yield from _of_case(name, case, how)
        elif _stages_reading(root, name, case, version):
            yield from _of_case(name, case, f"names {version.name} in its notebook or parameters")
    yield from _jobs(root, version, every=every)


def _of_case(name: str, case: UseCase, how: str) -> Iterator[Dependent]:
    yield Dependent(kind="use case", name=name, how=how)
    decides = f"judges the run of {name} again"
    yield Dependent(kind="gate", name=f"{name} {case.phase}", how=decides)


def _jobs(root: Path, version: Version, *, every: bool) -> Iterator[Dependent]:
    """Yield the versions of jobs that froze this version, labelled ones first."""
    for name in registry.names(root, "job"):
        asset = registry.load(root, "job", name)
        for number_ in sorted(asset.versions, key=lambda n: (n not in asset.labels.values(), -n)):
            spec = jobspec.read(registry.path_of(root, "job", name, number_))
            pinned = spec.pins.get(version.kind, "")
            if not _same(pinned, version, every=every):
                continue
            labels = ", ".join(label for label, n in sorted(asset.labels.items()) if n == number_)
            if labels or not every:
                state = f"{labels}: " if labels else ""
                yield Dependent(kind="job", name=spec.reference, how=f"{state}keeps its own copy of {pinned}")


def _means(root: Path, kind: str, reference: str, version: Version, *, every: bool) -> bool:
    """Return whether a reference in a file means this version; a bare name means the newest."""
    if reference.partition("@")[0] != version.name:
        return False
    try:
        return every or registry.resolve(root, kind, reference).number == version.number
    except WorkbenchError:
        return False


def _same(pinned: str, version: Version, *, every: bool) -> bool:
    return pinned.partition("@")[0] == version.name if every else pinned == str(version)


def _stages_reading(root: Path, name: str, case: UseCase, version: Version) -> set[str]:
    """Return the stages of a use case that read the version's asset themselves."""
    if version.kind == "model":
        return {
            stage for stage, (deps, _) in _stages(root, name, case).items()
            if f"pipelines/{registry.FOLDERS['model']}" in deps
        }  # fmt: skip
    source = files.read_text(root / case.notebook)
    page = f"pipelines/{registry.FOLDERS[version.kind]}/{version.name}/asset.yaml"
    return {stage for stage in settings.ASSETS if page in settings.assets_of_stage(root, stage, case, source)}


def _stages(root: Path, name: str, case: UseCase) -> dict[str, tuple[list[str], list[str]]]:
    """Return the files that each stage of a use case reads and writes, in the order of dvc.yaml."""
    values = {"${key}": name, "${item.notebook}": case.notebook, "${item.data}": case.data}
    values["${item.report}"] = case.report

    def paths(stated: Any) -> list[str]:
        named = [next(iter(item)) if isinstance(item, Mapping) else item for item in stated or ()]
        for key, value in values.items():
            named = [text.replace(key, value) for text in named]
        return named

    found = {}
    for stage, block in files.read_yaml(root / "dvc.yaml").get("stages", {}).items():
        if block.get("foreach") == "${use_cases}":
            do = block["do"]
            written = [path for kind in ("outs", "metrics", "plots") for path in paths(do.get(kind))]
            found[stage] = paths(do.get("deps")), written
    return found


def _rerun(root: Path, name: str, version: Version) -> Rerun:
    """Return the stages of a use case that read the asset, those that read their results, and their calls."""
    case = config.use_case(config.load_params(root), name)
    again = _stages_reading(root, name, case, version)
    stages = _stages(root, name, case)
    for stage, (deps, _) in stages.items():  # dvc.yaml lists a stage after those whose results it reads
        results = [path for other in again for path in stages.get(other, ([], []))[1]]
        if any(_overlap(dep, path) for dep in deps for path in results):
            again = again | {stage}
    calls = [entry for stage in _TAPES if stage in again for entry in _entries(root, name, stage, version)]
    usages = [_usage(entry) for entry in calls]
    cards = {target: _card(root, case, target) for target in {entry.target for entry in calls}}
    costs = [
        card.cost_usd(usage) if (card := cards[entry.target]) else None
        for entry, usage in zip(calls, usages, strict=True)
    ]
    return Rerun(
        use_case=name,
        stages=tuple(stage for stage in stages if stage in again),
        calls=len(calls),
        input_tokens=sum(usage.input_tokens or 0 for usage in usages),
        output_tokens=sum(usage.output_tokens or 0 for usage in usages),
        cost_usd=None if None in costs else math.fsum(cost for cost in costs if cost is not None),
        seconds=math.fsum(entry.latency_s for entry in calls),
    )


def _overlap(dep: str, path: str) -> bool:
    """Return whether one of two paths is the other or lies in it."""
    return dep == path or dep.startswith(f"{path}/") or path.startswith(f"{dep}/")


def _entries(root: Path, name: str, stage: str, version: Version) -> Sequence[Entry]:
    """Return the recorded answers of a stage that the asset may change; of a chat model, its own alone."""
    path = root / _TAPES[stage](name)
    if not path.exists():
        return ()
    answered = [entry for entry in Tape.read(path).entries() if "refused" not in entry.result]
    if version.kind != "model" or load_card(root, version.name).kind != "chat":
        return answered
    return [entry for entry in answered if entry.target.partition("@")[0] == version.name]


def _usage(entry: Entry) -> Usage:
    """Return the recorded tokens of an answer."""
    speaks = wire.dialect(entry.question.operation)
    return speaks.usage_of(speaks.fold(entry.events()))


def _card(root: Path, case: UseCase, target: str) -> ModelCard | None:
    """Return the card by which a recorded model is paid today, or None where it has none."""
    try:
        own = target.partition("@")[0] == case.model_name.partition("@")[0]
        return card_of_use_case(root, case) if own else load_card(root, target)
    except WorkbenchError:
        return None


def _asked(rerun: Rerun) -> str:
    cost = "unknown" if rerun.cost_usd is None else f"{number(rerun.cost_usd)} USD"
    return (
        f"at most {rerun.calls} calls, {rerun.input_tokens:,} tokens in, {rerun.output_tokens:,} out, "
        f"{cost}, {number(round(rerun.seconds, 1))} s"
    )
