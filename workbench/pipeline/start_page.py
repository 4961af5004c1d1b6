"""The start page of a repository: use cases with verdicts, reviews and jobs, and the next command of each.

`workbench status` prints it. JupyterLab opens on it as START.md, which is written anew at each reading.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from workbench import config, files, registry
from workbench.config.use_case import UseCase
from workbench.context import Clock, SystemClock
from workbench.display import Card, Shown
from workbench.errors import WorkbenchError
from workbench.experiments.labels import HumanLabel, read_labels
from workbench.jobs.status import JobStatus, statuses
from workbench.layout import REVIEWS, Results
from workbench.reviews.progress import ReviewProgress

#: What Markdown reads as markup; a backslash before it makes it a character.
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#|~$&])")
_NO_VERDICT = "not judged"
_ABOUT = (
    "Open a notebook, run its cells, and read the verdict of the pipeline. This page is written anew each "
    "time it is opened; `workbench status` prints the same."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _CaseLine:
    name: str
    case: UseCase
    verdict: str
    page: Path | None
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _JobLine:
    status: JobStatus
    due: str
    last: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReviewLine:
    """A file of labels. `about` says which arms were compared, or why the file cannot be read."""

    file: str
    about: str
    command: str
    progress: ReviewProgress | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the line; `reviewers` have the pairs that each has labelled, and those of the sample."""
        counts = self.progress.reviewers if self.progress else ()
        return {
            "file": self.file, "about": self.about, "next": self.command,
            "complete": bool(self.progress and self.progress.complete),
            "reviewers": [{"labelled": labelled, "pairs": pairs} for labelled, pairs in counts],
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryStatus(Shown):
    """Every use case, blind review and job of a repository, each with its next command.

    `problem` is why the jobs cannot be read; the use cases are shown all the same.
    """

    root: Path
    cases: tuple[_CaseLine, ...]
    jobs: tuple[_JobLine, ...]
    reviews: tuple[_ReviewLine, ...] = ()
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return one object for each use case, each review and each job."""
        return {
            "use_cases": [
                {"name": line.name, "title": line.case.title, "notebook": line.case.notebook,
                 "verdict": line.verdict, "page": str(line.page) if line.page else None, "next": line.command}
                for line in self.cases
            ],
            "reviews": [line.to_json() for line in self.reviews],
            "jobs": [
                {"name": line.status.job, "production": line.status.production, "last_run": line.last,
                 "due": line.due, "stopped": line.status.stopped, "next": line.command}
                for line in self.jobs
            ],
            "problem": self.problem,
        }  # fmt: skip

    def card(self) -> Card:
        """Return the card: a row for each use case, then for each review and each job."""
        rows = [
            *((line.name, line.case.title, line.verdict, line.command) for line in self.cases),
            *((f"review {Path(line.file).stem}", line.about, "", line.command) for line in self.reviews),
            *((f"job {line.status.job}", _job_text(line), _live(line), line.command) for line in self.jobs),
        ]
        notes = [self.problem] if self.problem else []
        head = ("", "what", "verdict or version", "next")
        return Card(title=f"Status of {self.root.name}", head=head, rows=rows, notes=notes)

    def markdown(self) -> str:
        """Return the page that JupyterLab opens on; links lead to notebooks and readiness pages."""
        cases = [
            (
                _link(line.name, line.case.notebook),
                _plain(line.case.title),
                _judged(line),
                _code(line.command),
            )
            for line in self.cases
        ]
        jobs = [
            (_plain(line.status.job), _plain(_live(line)), _plain(line.last), _plain(line.due),
             _plain("; ".join(line.status.stopped)), _code(line.command))
            for line in self.jobs
        ]  # fmt: skip
        reviews = [
            (_link(line.file.removeprefix(f"{REVIEWS}/"), line.file), _plain(line.about), _code(line.command))
            for line in self.reviews
        ]
        parts = [
            f"# {_plain(self.root.name)}",
            _ABOUT,
            "## Use cases",
            _table(("notebook", "question", "verdict", "next"), cases)
            or "None yet: `workbench init --help`.",
            *(["## Reviews", _table(("labels", "state", "in a notebook"), reviews)] if reviews else []),
            "## Jobs",
            _table(("job", "production", "last run", "due next", "stopped", "next"), jobs) or "None yet.",
        ]
        return "\n\n".join([*parts, *([_plain(self.problem)] if self.problem else [])]) + "\n"


def status_of(root: Path, *, clock: Clock | None = None) -> RepositoryStatus:
    """Return the status of a repository; ConfigError where params.yaml is invalid."""
    clock = clock or SystemClock()
    params = config.load_params(root)
    cases = tuple(_case_line(root, params, name, case) for name, case in params.use_cases.items())
    reviews = tuple(line for name in params.use_cases for line in _review_lines(root, name))
    try:
        jobs = tuple(_job_line(status, clock.now()) for status in statuses(root, clock=clock))
    except WorkbenchError as error:
        problem = f"the jobs cannot be read: {error}"
        return RepositoryStatus(root=root, cases=cases, jobs=(), reviews=reviews, problem=problem)
    return RepositoryStatus(root=root, cases=cases, jobs=jobs, reviews=reviews)


def start_page(root: Path) -> str:
    """Return the start page as Markdown; one that says what is wrong where params.yaml is invalid."""
    try:
        return status_of(root).markdown()
    except WorkbenchError as error:
        return f"# {_plain(root.name)}\n\nThis repository cannot be read.\n\n```\n{error}\n```\n"


def _case_line(root: Path, params: config.Params, name: str, case: UseCase) -> _CaseLine:
    verdict = _verdict(root / Results(use_case=name).gate)
    pages = (Path(f"{case.report}{ending}") for ending in (".html", ".md"))
    job = next((job for job, declared in params.jobs.items() if declared.use_case == name), name)
    live = registry.load_or_new(root, "job", job).labels.get("production")
    command = {
        "pass": f"workbench promote job/{job} --to production" if live is None else "make serve",
        "fail": f"workbench gate {name}/{case.candidate}",
        "undecided": f"workbench gate {name}/{case.candidate}",
    }.get(verdict, "make repro")
    found = next((page for page in pages if (root / page).is_file()), None)
    return _CaseLine(name=name, case=case, verdict=verdict or _NO_VERDICT, page=found, command=command)


def _review_lines(root: Path, use_case: str) -> Iterator[_ReviewLine]:
    """Yield the reviews of a use case; the call that goes on with each is that of its latest decision."""
    for path in sorted((root / REVIEWS / use_case).glob("*.jsonl")):
        file = path.relative_to(root).as_posix()
        try:
            labels = read_labels(path)
        except WorkbenchError as error:
            yield _ReviewLine(file=file, about=f"cannot be read: {error.message}", command="workbench check")
            continue
        if labels:
            yield _review_line(file, labels)


def _review_line(file: str, labels: Sequence[HumanLabel]) -> _ReviewLine:
    last, progress = max(labels, key=lambda label: label.at), ReviewProgress.of(labels)
    run, other = sorted((last.left, last.right), key=lambda answer: (answer.arm, answer.run))
    size = f", k={last.pairs}" if last.pairs else ""
    call = f'ws.review("{run.run}", "{other.run}", name="{Path(file).stem}", seed={last.seed}{size})'
    return _ReviewLine(
        file=file,
        about=f"{run.arm} and {other.arm}: {progress}, last on {last.at[:10]}",
        command=f"{call}.report()" if progress.complete else call,
        progress=progress,
    )


def _verdict(path: Path) -> str:
    """Return the verdict that the pipeline wrote last; "" where there is none to read."""
    try:
        verdict = files.parse_json(files.read_text(path), where=str(path)).get("verdict")
    except (WorkbenchError, OSError, AttributeError):
        return ""
    return verdict if verdict in {"pass", "fail", "undecided"} else ""


def _job_line(status: JobStatus, now: dt.datetime) -> _JobLine:
    job, last = status.job, status.runs[0] if status.runs else None
    due = status.due(now)
    if status.production is None:
        command = f"workbench promote job/{job} --dry-run"
    elif status.stopped:
        command = f"workbench jobs history {job}"
    else:
        command = f"workbench jobs run {job}" if last is None else f"workbench jobs report {job}"
    ended = f"{last.outcome or last.state} {last.slot.at:%Y-%m-%d %H:%MZ}" if last else "no runs yet"
    return _JobLine(
        status=status, command=command, last=ended, due=f"{due:%Y-%m-%d %H:%MZ}" if due else "when asked"
    )


def _live(line: _JobLine) -> str:
    return "not promoted" if line.status.production is None else f"version {line.status.production}"


def _job_text(line: _JobLine) -> str:
    return "; ".join([f"last run: {line.last}", f"due: {line.due}", *line.status.stopped])


def _judged(line: _CaseLine) -> str:
    marks = {"pass": "✓", "fail": "✗", "undecided": "◐"}
    shown = f"**{marks.get(line.verdict, '·')} {_plain(line.verdict)}**"
    return f"{shown} ({_link('page', str(line.page))})" if line.page else shown


def _plain(text: str) -> str:
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    return f"`{text}`"


def _link(text: str, path: str) -> str:
    return f"[{_plain(text)}]({quote(path)})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
