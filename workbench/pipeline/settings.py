"""The settings of params.yaml that each stage of a use case depends on, so that a change reruns those stages.

DVC stops when a parameter that a stage names is missing, and most keys of a use case are optional. One cheap
stage therefore reads the whole use case and writes a file for each other stage, with the defaults filled in.
A use case may have no prompt and no memory, which is why no stage names their folders: the file of a stage
holds the digests of the prompts and memories that it reads, and one of another use case reruns nothing. For
the same reason it holds what the repository states for all use cases: its policies and its classes of data,
and the digests of the files of human labels that scorers read.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench import config, files, layout, registry
from workbench.config import OwnTerms, Params, UseCase
from workbench.config.data_classes import LEXICA
from workbench.experiments import scorer_file
from workbench.experiments.scorer_spec import stated_labels
from workbench.layout import Results
from workbench.moderation import topics
from workbench.policy.source import read_source

#: No output depends on these. `api_key_env` only names a variable; the stages search a snapshot, so the
#: server of the live memory plays no part; `limits` end a run or change nothing; no stage reads the
#: `cache` or keeps `content`; a promotion alone reads what the use case `handles`; `execution` says how far
#: a kernel is confined, which changes no answer; DVC tracks `data` by its files and `report` by its outputs.
UNREAD = frozenset(
    {
        "title", "purpose", "owner", "report", "approach", "baseline", "concurrency", "seed", "api_key_env",
        "impact", "known_limits",
        "memory_provider", "memory_url", "memory_grpc", "memory_api_key_env", "memory_awake",
        "memory_fallback", "limits", "cache", "content", "telemetry", "handles", "execution",
    }
)  # fmt: skip
#: Keys of the judge alone, which a notebook does not read.
JUDGED = frozenset({"dataset", "scorers"})
#: The keys that each stage depends on; stages that run the notebook depend on every key that it may read.
READ: Mapping[str, frozenset[str]] = {
    "prepare": frozenset({"data", "dataset", "memory", "prompt", "quality", "tenants"}),
    "remember": frozenset({"memory", "tenants"}),
    "judge": frozenset(field.name for field in dataclasses.fields(UseCase)) - UNREAD,
    "experiment": frozenset(field.name for field in dataclasses.fields(UseCase)) - UNREAD - JUDGED,
    "gate": frozenset(
        {"candidate", "dataset", "gates", "notebook", "parameters", "phase", "scorers", "slices"}
    ),
    "plots": frozenset(
        {"as_of", "clearance", "dataset", "gates", "groups", "memory", "phase", "slices", "tenants"}
    ),
    "report": frozenset(
        {
            "approach", "as_of", "baseline", "candidate", "dataset", "gates", "impact",
            "known_limits", "memory", "notebook", "owner", "phase", "prompt", "purpose", "report", "scorers",
            "slices", "title",
        }
    ),
}  # fmt: skip

#: The kinds of assets of which each stage reads the versions that params.yaml names.
ASSETS: Mapping[str, tuple[str, ...]] = {
    "prepare": ("memory", "prompt"),
    "remember": ("memory",),
    "judge": ("memory", "prompt"),
    "experiment": ("memory", "prompt"),
    "plots": ("memory",),
    "report": ("memory", "prompt"),
}
#: The stages that score answers or read the verdict on them.
_SCORING = ("judge", "gate", "report")
#: The stages whose calls the policies decide, and those that send texts to models.
_GOVERNED = frozenset({"remember", "judge", "experiment", "plots"})
_ASKING = _GOVERNED - {"remember"}
#: The stages that look for identifiers: those that ask, and the report, which masks what it shows of cases.
_MASKING = _ASKING | {"report"}
#: The stages that also read assets which the notebook or its parameters name.
_NAMED = frozenset({"judge", "experiment", "report"})


def of_stage(stage: str, case: UseCase, source: str) -> dict[str, Any]:
    """Return the settings that `stage` depends on, defaults included; `source` is the notebook's text.

    A key that the notebook may read (`ws.use_case.title`) counts for the stages that run it. Only the report
    reads the gate of another phase. The classes of the dataset's columns count for the stages that answer
    its cases, and for the report, which shows some.
    """
    keys = READ[stage]
    if stage in {"judge", "experiment"}:
        keys |= set(re.findall(r"\.([a-z_]+)\b", source)) & UNREAD
    values = {key: value for key, value in dataclasses.asdict(case).items() if key in keys}
    for key in ("impact", "moderation", "price_per_million"):  # results of earlier versions know none
        if values.get(key) is None:
            values.pop(key, None)
    if isinstance(values.get("dataset"), dict):
        values["dataset"].pop("classes")
    if stage in {"judge", "experiment", "report"} and case.column_classes:
        values["column_classes"] = dict(case.column_classes)
    if "gates" in values and stage != "report":
        values["gates"] = {case.phase: case.gates[case.phase]}
    return values


def assets_of_stage(root: Path, stage: str, case: UseCase, source: str) -> dict[str, str]:
    """Return the SHA-256 of every file of the assets that `stage` reads, by path from `root`.

    These are the use case's prompt and memory. For the stages that run the notebook, and for the report, they
    are also those whose name stands in quotes in the text `source` or in a parameter, and the topic
    lists of its checks. Raise NotFoundError when params.yaml names a version that does not exist.
    """
    found: dict[str, str] = {}
    text = source + files.canonical(case.parameters).decode()
    for kind in ASSETS.get(stage, ()):
        pin = getattr(case, kind)
        names = {registry.resolve(root, kind, str(pin)).name} if pin else set()
        if stage in _NAMED:
            names |= {name for name in registry.names(root, kind) if _names(text, name)}
        for name in sorted(names):
            found |= _digests(root, kind, name)
    if case.moderation is not None and stage in {"judge", "experiment"}:
        found |= {path: files.digest(files.read_bytes(root / path)) for path in case.moderation.files}
    return found


def labels_of_stage(root: Path, stage: str, case: UseCase) -> dict[str, str | None]:
    """Return the SHA-256 of each file of human labels that the scorers of `stage` read; None for no file."""
    stated = stated_labels(case.scorers) if stage in _SCORING else []
    return {
        path: files.digest(files.read_bytes(root / path)) if (root / path).is_file() else None
        for path in stated
    }


def rules_of_stage(root: Path, stage: str, params: Params) -> dict[str, Any]:
    """Return what decides on the calls of `stage` for all use cases, by name; nothing that is not stated.

    `policies` is the digest of the set of policies, `data_classes` and `privacy` are those of params.yaml,
    and `lexicon` is the SHA-256 of the list of own terms.
    """
    found: dict[str, Any] = {}
    if stage in _GOVERNED:
        found["policies"] = read_source(root).digest
    if stage in _MASKING and params.data_classes:
        found["data_classes"] = {
            name: dataclasses.asdict(stated) for name, stated in params.data_classes.items()
        }
    if stage in _MASKING and params.privacy != OwnTerms():
        found["privacy"] = dataclasses.asdict(params.privacy)
        if params.privacy.lexicon is not None:
            found["lexicon"] = files.digest(files.read_bytes(root / params.privacy.lexicon))
    return found


def jobs_of(params: Params, name: str) -> tuple[str, ...]:
    """Return the jobs that run the task of a use case, sorted by name."""
    return tuple(sorted(job for job, stated in params.jobs.items() if stated.use_case == name))


def _names(text: str, name: str) -> bool:
    """Return whether a Python or JSON text has `name` or `name@…` in quotes."""
    return re.search(rf"""["']{re.escape(name)}(?:@|\\*["'])""", text) is not None


def _digests(root: Path, kind: str, name: str) -> dict[str, str]:
    """Return the SHA-256 of an asset's page and of each version that it lists, by path from `root`."""
    folder = registry.folder_of(root, kind, name)
    versions = registry.load(root, kind, name).versions
    paths = [folder / "asset.yaml", *(registry.path_of(root, kind, name, n) for n in sorted(versions))]
    return {
        path.relative_to(root).as_posix(): files.digest(files.read_bytes(path))
        for path in paths
        if path.is_file()
    }


#: Folders that stages depend on and that a repository may lack.
_OPTIONAL = (scorer_file.FOLDER, layout.QUALITY, topics.FOLDER, LEXICA, layout.REVIEWS)


def make_missing(root: Path, name: str) -> None:
    """Write what stages depend on and a new use case lacks: its tapes and folders, empty."""
    for folder in (root / name for name in _OPTIONAL):
        if not folder.exists():
            files.write_atomic(folder / ".gitkeep", b"")
    for path in (root / layout.judge_tape_of(name), root / layout.tape_of(name)):
        if not path.exists():
            files.write_atomic(path, b"")


def write(root: Path, name: str) -> None:
    """Write one file of settings for each stage of a use case, and say which keys no stage depends on.

    Missing tapes are written empty, because DVC stops at a missing dependency of the stages that follow.
    """
    params = config.load_params(root)
    case = config.use_case(params, name)
    make_missing(root, name)
    source = files.read_text(root / case.notebook)
    found = {stage: of_stage(stage, case, source) for stage in READ}
    for stage in ASSETS:
        found[stage]["assets"] = assets_of_stage(root, stage, case, source)
    for stage in READ:
        found[stage] |= rules_of_stage(root, stage, params)
        if labels := labels_of_stage(root, stage, case):
            found[stage]["labels"] = labels
    if jobs := jobs_of(params, name):
        found["report"]["jobs"] = list(jobs)
    for stage, values in found.items():
        files.write_atomic(root / Results(use_case=name).settings / f"{stage}.json", files.pretty(values))
    unread = sorted(UNREAD.difference(*found.values()))
    sys.stdout.write(f"No stage depends on {', '.join(unread)}: a change of these reruns nothing else.\n")
