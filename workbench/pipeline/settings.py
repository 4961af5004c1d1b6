"""The settings of params.yaml that each stage of a use case depends on, so that a change reruns those stages.

DVC stops when a parameter that a stage names is missing, and most keys of a use case are optional. One cheap
stage therefore reads the whole use case and writes a file for each other stage, with the defaults filled in.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench import config, files
from workbench.config import UseCase
from workbench.layout import Results

#: No output depends on these. `api_key_env` only names a variable; the stages search a snapshot, so the
#: server of the live memory plays no part; DVC tracks `data` by its files and `report` by its outputs.
UNREAD = frozenset(
    {
        "title", "purpose", "owner", "report", "approach", "baseline", "concurrency", "seed", "api_key_env",
        "memory_provider", "memory_url", "memory_grpc", "memory_api_key_env", "memory_awake",
        "memory_fallback",
    }
)  # fmt: skip
#: Keys of the judge alone, which a notebook does not read.
JUDGED = frozenset({"dataset", "scorers"})
#: The keys that each stage depends on; stages that run the notebook depend on every key that it may read.
READ: Mapping[str, frozenset[str]] = {
    "prepare": frozenset({"data", "dataset", "memory", "tenants"}),
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
            "approach", "baseline", "candidate", "dataset", "gates", "memory", "notebook", "owner", "phase",
            "prompt", "purpose", "report", "scorers", "slices", "title",
        }
    ),
}  # fmt: skip


def of_stage(stage: str, case: UseCase, source: str) -> dict[str, Any]:
    """Return the settings that `stage` depends on, defaults included; `source` is the notebook's text.

    A key that the notebook may read (`ws.use_case.title`) counts for the stages that run it. Only the report
    reads the gate of another phase.
    """
    keys = READ[stage]
    if stage in {"judge", "experiment"}:
        keys |= set(re.findall(r"\.([a-z_]+)\b", source)) & UNREAD
    values = {key: value for key, value in dataclasses.asdict(case).items() if key in keys}
    if "gates" in values and stage != "report":
        values["gates"] = {case.phase: case.gates[case.phase]}
    return values


def write(root: Path, name: str) -> None:
    """Write one file of settings for each stage of a use case, and say which keys no stage depends on."""
    case = config.use_case(config.load_params(root), name)
    source = files.read_text(root / case.notebook)
    found = {stage: of_stage(stage, case, source) for stage in READ}
    for stage, values in found.items():
        files.write_atomic(root / Results(use_case=name).settings / f"{stage}.json", files.pretty(values))
    unread = sorted(UNREAD.difference(*found.values()))
    sys.stdout.write(f"No stage depends on {', '.join(unread)}: a change of these reruns nothing else.\n")
