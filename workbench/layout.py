"""Every path of a repository, once. All are relative to its root unless they say otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PARAMS = Path("params.yaml")
LOCK = "locks/workbench.lock"
#: The versions that have a stage of their own in dvc.yaml.
PROMOTED = Path("pipelines/jobs/stages.yaml")
PUBLISHED = Path("published")
RESULTS = Path("results")

#: What must not be lost and is not in git: memories, the call log, runs, the ledger of jobs.
STATE = Path(".workbench/state")
CALLS = STATE / "calls.jsonl"
RUNS = STATE / "runs"
JOB_STATE = STATE / "jobs"
JOB_LEDGER = STATE / "jobs.db"
#: A folder for each notebook that the Lab saved, with its outputs.
LAB_OUTPUTS = STATE / "outputs"
#: Relative to a folder of state, which a job may have elsewhere.
MEMORY_KEY = Path("memory.key")
TOMBSTONES = Path("forgotten.jsonl")
SNAPSHOTS = Path("snapshots")

#: What may be deleted at any time.
CACHE = Path(".workbench/cache")
JOURNAL = CACHE / "answers.jsonl"
EXECUTED = CACHE / "executed"
ENVIRONMENTS = CACHE / "env"
CODE = CACHE / "code"
#: A folder for each run of a job, with its input and output, which lasts as long as the run does.
JOB_WORK = CACHE / "jobs"
LIVE = Path(".workbench/live")
ON_SERVER = Path(".workbench/weaviate")
WEAVIATE_SERVER = Path(".workbench/weaviate-server")


def tape_of(use_case: str) -> Path:
    """Where a use case's recorded answers are, from the repository's root."""
    return Path("pipelines/tapes") / f"{use_case}.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Where a use case's results are, relative to the repository; without `base`, the pipeline's."""

    use_case: str
    base: Path = RESULTS

    @property
    def folder(self) -> Path:
        """The use case's folder of results."""
        return self.base / self.use_case

    @property
    def tape(self) -> Path:
        """The tape that is read, and extended by what it lacks."""
        ours = self.base == RESULTS
        return tape_of(self.use_case) if ours else self.folder / "tape.jsonl"

    @property
    def settings(self) -> Path:
        """The settings that each stage depends on."""
        return self.folder / "settings"

    @property
    def prepared(self) -> Path:
        """Checked cases."""
        return self.folder / "prepared"

    @property
    def memory(self) -> Path:
        """The memory's snapshot."""
        return self.folder / "memory"

    @property
    def runs(self) -> Path:
        """Scored cases of every arm."""
        return self.folder / "runs"

    @property
    def metrics(self) -> Path:
        """The gate's numbers, for `dvc metrics`."""
        return self.folder / "metrics.json"

    @property
    def plots(self) -> Path:
        """The data that `dvc plots` draws."""
        return self.folder / "plots"

    @property
    def gate(self) -> Path:
        """The gate's verdict."""
        return self.folder / "gate.json"
