"""State what a version was made from, how it was judged, and how its models were assessed."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from workbench import config, files
from workbench.attestations import Statement, Subject
from workbench.attestations.verification import INDEX_TYPE
from workbench.context import moment
from workbench.errors import WorkbenchError
from workbench.jobs import spec as jobspec
from workbench.jobs.spec import JobSpec
from workbench.layout import judge_tape_of
from workbench.models import approval, assessment
from workbench.policy.source import FOLDER
from workbench.promotion import assessed
from workbench.promotion.bill_of_materials import SBOM_TYPE
from workbench.promotion.vulnerabilities import NOT_SCANNED_TYPE, VULNERABILITIES_TYPE

PROVENANCE_TYPE: Final = "https://slsa.dev/provenance/v1"
TEST_RESULT_TYPE: Final = "https://in-toto.io/attestation/test-result/v0.1"
ASSESSMENT_TYPE: Final = "urn:workbench:assessment:1"
BUILD_TYPE: Final = "urn:workbench:promotion:1"
GATE: Final = "evidence/gate.json"
#: Most bytes of a file of the repository whose digest or text is stated.
_MOST_BYTES: Final = 1 << 30
_RESULTS = {"pass": "PASSED", "fail": "FAILED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedVersion:
    """A version of a job, the files of its commit, and when and by whom statements about it are made.

    `code` is the folder with the files of the commit, `at` an instant and `by` a principal. `promoting` says
    that the statements are part of the version's promotion.
    """

    spec: JobSpec
    folder: Path
    code: Path
    commit: str
    at: str
    by: str
    promoting: bool = False

    def subjects(self, *names: str) -> tuple[Subject, ...]:
        """Return the version's page and these of its files as subjects."""
        page = Subject(name=jobspec.PAGE, sha256=files.digest(files.read_bytes(self.folder / jobspec.PAGE)))
        return (page, *(Subject(name=name, sha256=self.spec.files[name]) for name in names))

    def statement(self, predicate_type: str, predicate: dict[str, Any], *names: str) -> Statement:
        """Return a statement about the version's page and these of its files."""
        return Statement(predicate_type=predicate_type, subjects=self.subjects(*names), predicate=predicate)


def provenance(version: StatedVersion) -> Statement:
    """Return what the version was made from, as SLSA provenance: every input with its digest."""
    spec = version.spec
    parameters = {name: item.value for name, item in spec.parameters.items()}
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "job": spec.job,
            "version": spec.version,
            "use_case": spec.use_case,
            "phase": spec.phase,
            "notebook": spec.notebook,
            "pins": dict(spec.pins),
            "parameters": parameters,
        },
        "internalParameters": {
            "run": spec.run,
            "task_digest": spec.task_digest,
            "gate_digest": spec.gate_digest,
            "dataset_digest": spec.dataset_digest,
            "sample_outputs": dict(spec.sample_outputs),
        },
        "resolvedDependencies": list(_dependencies(version)),
    }
    details = {
        "builder": {"id": BUILD_TYPE, "version": {"workbench": importlib.metadata.version("workbench")}},
        "metadata": {"invocationId": spec.run, "finishedOn": version.at},
    }
    predicate = {"buildDefinition": definition, "runDetails": details}
    return version.statement(PROVENANCE_TYPE, predicate, *sorted(spec.files))


def _dependencies(version: StatedVersion) -> Iterator[dict[str, Any]]:
    """Yield the inputs: commit, code, policies, copies of prompts and cards, tapes, snapshot and data."""
    spec = version.spec
    yield {"name": "commit", "digest": {"gitCommit": version.commit}}
    for path, object_id in spec.code.items():
        place = version.code / path
        digest = {"gitBlob": object_id, **_sha256(place)} if place.is_file() else {"gitTree": object_id}
        yield {"name": path, "digest": digest}
    policies = sorted(path for path in (version.code / FOLDER).rglob("*") if path.is_file())
    for place in [*policies, version.code / judge_tape_of(spec.use_case)]:
        if place.is_file():
            yield {"name": place.relative_to(version.code).as_posix(), "digest": _sha256(place)}
    for name, sha256 in spec.files.items():
        if name != jobspec.TASK and not name.startswith("evidence/"):
            yield {"name": f"version/{name}", "digest": {"sha256": sha256}}
    # These three digests are of values, not of a file's bytes: rows, cards and items in canonical JSON.
    logical = {"dataset": spec.dataset_digest}
    pinned = [kind for kind in ("memory", "model") if kind in spec.pins]
    logical |= {f"{kind} {spec.pins[kind]}": spec.digests[kind] for kind in pinned}
    for name, sha256 in logical.items():
        yield {"name": name, "digest": {"sha256": sha256}, "annotations": {"of": "its canonical content"}}


def test_result(version: StatedVersion) -> Statement:
    """Return the verdict of each line of the gate, as an in-toto test result; gate.json has the numbers."""
    spec, where = version.spec, str(version.folder / GATE)
    report = files.parse_json(files.read_text(version.folder / GATE, limit=_MOST_BYTES), where=where)
    lines: dict[str, list[str]] = {"pass": [], "fail": [], "undecided": []}
    for line in report["lines"]:
        lines.setdefault(line["verdict"], []).append(f"{line['metric']} {line['rule']}")
    judged = {"gate": spec.gate_digest, "dataset": spec.dataset_digest, "task": spec.task_digest}
    predicate = {
        "result": _RESULTS.get(report["verdict"], "WARNED"),
        "configuration": [{"name": name, "digest": {"sha256": digest}} for name, digest in judged.items()],
        "passedTests": lines.pop("pass"),
        "failedTests": lines.pop("fail"),
        "warnedTests": [name for names in lines.values() for name in names],
    }
    return version.statement(TEST_RESULT_TYPE, predicate, GATE)


def impact_assessment(version: StatedVersion) -> Statement:
    """Return the impact assessment of each model of the version with its approvals, as committed."""
    spec = version.spec
    predicate = {
        "at": version.at,
        "job": spec.job,
        "version": spec.version,
        "phase": spec.phase,
        "models": [_assessed(version, reference) for reference in _models(version)],
    }
    return version.statement(ASSESSMENT_TYPE, predicate)


def _models(version: StatedVersion) -> tuple[str, ...]:
    """Return the models of the version: those of its use case, or else those that it pins."""
    spec = version.spec
    pinned = tuple(pin for kind, pin in spec.pins.items() if kind.partition(".")[0] == "model")
    try:
        case = config.load_params(version.code).use_cases[spec.use_case]
        return assessed.models_of(version.code, case, spec.pins)
    except (WorkbenchError, KeyError):  # the params.yaml of an earlier workbench
        return pinned


def _assessed(version: StatedVersion, reference: str) -> dict[str, Any]:
    name = reference.partition("@")[0]
    found: dict[str, Any] = {"model": reference, "assessment": None, "approvals": None, "problems": []}
    for key, path in (("assessment", assessment.path_of(name)), ("approvals", approval.path_of(name))):
        place = version.code / path
        if place.is_file():
            text = files.read_text(place, limit=1 << 20)
            found[key] = {"path": path.as_posix(), "digest": _sha256(place), "text": text}
    try:
        case = config.load_params(version.code).use_cases[version.spec.use_case]
        day = moment(version.at).date()
        listed = assessed.problems(version.code, version.spec.use_case, case, [reference], today=day)
        found["problems"] = [item.text for item in listed]
    except (WorkbenchError, KeyError) as error:
        found["problems"] = [f"not examined: {getattr(error, 'message', 'unknown use case')}"]
    return found


def summary_of(statement: Statement) -> str:
    """Return what a statement says, in a few words; its predicate type when that is not known here."""
    tell = _SUMMARIES.get(statement.predicate_type)
    try:
        return tell(statement.predicate) if tell else statement.predicate_type
    except (KeyError, TypeError):
        return f"{statement.predicate_type}, in another form"


def _sha256(path: Path) -> dict[str, str]:
    return {"sha256": files.digest(files.read_bytes(path, limit=_MOST_BYTES))}


_SUMMARIES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    PROVENANCE_TYPE: lambda said: f"made from {len(said['buildDefinition']['resolvedDependencies'])} inputs",
    TEST_RESULT_TYPE: lambda said: f"gate {said['result']}, {len(said['passedTests'])} lines passed",
    ASSESSMENT_TYPE: lambda said: f"{len(said['models'])} models, {_with_problems(said)} with problems",
    SBOM_TYPE: lambda said: f"{len(said['components'])} packages",
    VULNERABILITIES_TYPE: lambda said: f"{len(said['scanner']['result'])} known vulnerabilities",
    NOT_SCANNED_TYPE: lambda said: str(said["reason"]),
    INDEX_TYPE: lambda said: f"built {said['built']}",
    "urn:workbench:approval:1": lambda said: f"approved for {said['label']} until {said['until']}",
    "urn:workbench:revocation:1": lambda _: "an approval is revoked",
    "urn:workbench:withdrawal:1": lambda said: f"withdrawn: {files.shortened(said['reason'])}",
}


def _with_problems(said: Mapping[str, Any]) -> int:
    return sum(bool(item["problems"]) for item in said["models"])
