"""Paths of a repository, relative to its root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PARAMS = Path("params.yaml")
LOCK = "locks/workbench.lock"
#: The quality rules of datasets and their profiles.
QUALITY = "pipelines/quality"
#: The labels that people gave in blind reviews, one folder for each use case.
REVIEWS = "pipelines/reviews"
#: The impact assessments of models, and their approvals.
ASSESSMENTS = "pipelines/assessments"
#: The job versions that have a stage in dvc.yaml.
PROMOTED = Path("pipelines/jobs/stages.yaml")
PUBLISHED = Path("published")
RESULTS = Path("results")

#: State outside git, to be backed up: memories, the call log, runs, the ledger of jobs.
STATE = Path(".workbench/state")
#: The open segment of the record of calls; closed ones are in the folder of this name without its suffix.
CALLS = STATE / "calls.jsonl"
#: The calls in flight of each process, one file each, which outlives a kill.
IN_FLIGHT = STATE / "in-flight"
OUTCOMES = STATE / "outcomes.jsonl"
#: The audit log, which an auditor is given, and its keys, which stay.
AUDIT = STATE / "audit"
AUDIT_KEYS = STATE / "audit-keys"
#: The sealed requests and answers of calls, and the keys that open them.
CONTENT = STATE / "content"
CONTENT_KEYS = STATE / "content-keys"
#: The ledger of budgets on this machine.
BUDGETS = STATE / "budgets.sqlite"
#: The rates that processes share, and the breakers' last transitions, one file for each endpoint.
ENDPOINTS = STATE / "endpoints"
#: The owner's token and the API keys of the gateway.
GATEWAY = STATE / "gateway"
OWNER_TOKEN = GATEWAY / "owner"
API_KEYS = GATEWAY / "keys.sqlite"
#: The answers that a check holds for review, one file each.
HELD = STATE / "held"
#: Unsaved texts of prompts, one file for each editor.
DRAFTS = STATE / "drafts"
RUNS = STATE / "runs"
JOB_STATE = STATE / "jobs"
#: The memory writes of slots of jobs, one folder for each slot.
JOB_WRITES = STATE / "job-writes"
JOB_LEDGER = STATE / "jobs.db"
JOB_SET_ASIDE = STATE / "jobs-set-aside.jsonl"
#: What JupyterLab's Notebook Jobs panel keeps: its list, and in `runs` what it hands over and gets back.
PANEL = STATE / "panel"
#: The outputs of notebooks that the Lab saved, one folder for each notebook.
LAB_OUTPUTS = STATE / "outputs"
#: The recordings that this machine asked live or asked again with the same answer.
CONFIRMED = STATE / "confirmed.jsonl"
#: Relative to the folder of state, which a job may have elsewhere.
MEMORY_KEY = Path("memory.key")
TOMBSTONES = Path("forgotten.jsonl")
SNAPSHOTS = Path("snapshots")

#: Files that may be deleted at any time.
CACHE = Path(".workbench/cache")
JOURNAL = CACHE / "answers.jsonl"
#: The answers that use cases cache for a time.
EXACT_ANSWERS = CACHE / "exact.sqlite"
#: The answers of interrupted judge stages, one file for each use case; removed when its tape is written.
JUDGE_JOURNALS = CACHE / "judge"
EXECUTED = CACHE / "executed"
#: How many spans each process exported and dropped, one line for each report.
TELEMETRY = CACHE / "telemetry.jsonl"
ENVIRONMENTS = CACHE / "env"
CODE = CACHE / "code"
#: The input and output of each active job run, one folder for each run.
JOB_WORK = CACHE / "jobs"
#: The copies of memories that a run on trial changes, in the run's folder.
COPIES = "copies"
LIVE = Path(".workbench/live")
#: The journals of `workbench init`, one file for each use case, and what it stages.
INIT = Path(".workbench/init")
ON_SERVER = Path(".workbench/weaviate")
WEAVIATE_SERVER = Path(".workbench/weaviate-server")


def tape_of(use_case: str) -> Path:
    """Return the path of a use case's tape."""
    return Path("pipelines/tapes") / f"{use_case}.jsonl"


def judge_tape_of(use_case: str) -> Path:
    """Return the path of the tape that the stage `judge` of a use case writes; no other stage writes it."""
    return Path("pipelines/tapes") / f"{use_case}.judge.jsonl"


def verdicts_of(use_case: str) -> Path:
    """Return the path of a use case's verdicts, one line for each gate text that judged a run."""
    return Path("pipelines/verdicts") / f"{use_case}.jsonl"


def case_notes_of(use_case: str) -> Path:
    """Return the path of the notes on a use case's cases, one line for each case noted as wrong."""
    return Path("pipelines/notes") / f"{use_case}.jsonl"


class _Part:
    """A file or folder in a use case's folder of results."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, results: Results, owner: type[Results]) -> Path:
        return results.folder / self._name


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Paths of a use case's results; `base` is the folder of results, by default the pipeline's."""

    use_case: str
    base: Path = RESULTS

    @property
    def folder(self) -> Path:
        """The use case's folder of results."""
        return self.base / self.use_case

    @property
    def tape(self) -> Path:
        """The tape that the experiment reads and extends with missing recordings."""
        ours = self.base == RESULTS
        return tape_of(self.use_case) if ours else self.folder / "tape.jsonl"

    @property
    def judge_tape(self) -> Path:
        """The tape that the judge reads and extends; the experiment reads it."""
        ours = self.base == RESULTS
        return judge_tape_of(self.use_case) if ours else self.folder / "judge.jsonl"

    settings = _Part("settings")  # the settings on which each stage depends
    prepared = _Part("prepared")  # checked cases
    memory = _Part("memory")  # the snapshot
    answered = _Part("answered")  # what the frozen notebook published on the cases' inputs
    judged = _Part("judged")  # its scored run, which the gate judges
    runs = _Part("runs")  # scored cases of the notebook's own arms
    metrics = _Part("metrics.json")  # the gate's numbers, for `dvc metrics`
    plots = _Part("plots")  # the data of `dvc plots`
    gate = _Part("gate.json")  # the gate's verdict
