"""Runs: the results of one task on one dataset under one setting, and their files."""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.display import (
    Card,
    Shown,
    degraded_note,
    fallback_note,
    number,
    percent,
    span,
    truncated_note,
)
from workbench.errors import (
    ConfigError,
    CorruptError,
    NotFoundError,
    UnavailableError,
    WorkbenchError,
    nearest,
)
from workbench.experiments.case_context import CaseContext
from workbench.experiments.explorable import Explorable
from workbench.experiments.metrics import (
    SCORE,
    Metric,
    known,
    measure,
    plain_name,
    sample,
    score_names,
    tenants_text,
)
from workbench.experiments.usage import ENDED_BY, FALLBACK, FALLBACK_REASONS

if TYPE_CHECKING:
    import polars as pl

    from workbench.experiments.run_plots import PlottedArm
    from workbench.plots import Plot, Role

FORMAT = 1
#: A run with more rows is hashed column by column, which takes 0.3 s for a million rows.
_HASHED_BY_ROW = 5_000
#: The default confidence level of a run's intervals.
LEVEL = 0.9
MANIFEST = "runs.json"
COLUMNS = (
    "case", "repeat", "tenant", "status", "error", "output", "sources",
    "latency_s", "cost_usd", "input_tokens", "output_tokens", "calls",
)  # fmt: skip
_IDENTITY = ("use_case", "experiment", "arm", "task_digest", "gate_digest", "settings", "dataset_digest")
#: An optional column: the number of a row's searches that the last snapshot answered.
DEGRADED = "degraded"
#: An optional column of a judged run: the number of a row's answers that the limit of tokens cut.
TRUNCATED = "truncated"
_ARM = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]*")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run(Shown, Explorable):
    """One arm's results. `id` is a digest of the content, so equal runs have equal ids.

    `cases` has one row per case and repeat, sorted by both, and `case_ids` each case once. The columns are
    `COLUMNS`, one `score.<name>` per scorer, and `DEGRADED`, `TRUNCATED`, `FALLBACK` and `FALLBACK_REASONS`
    if any row has such.
    `status` is "scored" or "unscored"; an unscored row has null scores, not zeros, and its `error` begins
    with the reason. `settings` are the arm's resolved settings, with digests.
    `context` is what its cases are explored with; it is no part of the run's content and of its files.
    Raises ConfigError for an invalid arm name, wrong columns, duplicate rows, NaN and infinity.
    """

    use_case: str
    experiment: str
    arm: str
    task_digest: str
    gate_digest: str | None
    settings: dict[str, Any]
    dataset_digest: str
    cases: pl.DataFrame = field(repr=False)
    context: CaseContext = field(default=CaseContext(), repr=False)
    case_ids: pl.Series = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not _ARM.fullmatch(self.arm):
            raise ConfigError(
                f"arm {self.arm!r} cannot name a file", hint="use letters, digits, spaces and . _ + -"
            )
        columns = self.cases.columns
        missing = [name for name in COLUMNS if name not in columns]
        known_names = {*COLUMNS, DEGRADED, TRUNCATED, FALLBACK, FALLBACK_REASONS}
        extra = [name for name in columns if name not in known_names and not name.startswith(SCORE)]
        if missing or extra:
            raise ConfigError(
                f"run {self.arm}: cases have missing columns {missing}, unknown columns {extra}"
            )
        cases = self.cases
        for name in columns:
            if cases[name].dtype.is_float() and cases[name].is_finite().not_().any():
                raise ConfigError(f"run {self.arm}: {name} holds a number that is NaN or infinite")
        if not _is_sorted(cases):
            cases = cases.sort("case", "repeat")
            if not _is_sorted(cases):
                raise ConfigError(f"run {self.arm}: cases contain the same case and repeat twice")
        case = cases["case"]
        object.__setattr__(self, "cases", cases)
        object.__setattr__(self, "case_ids", case.filter(case.ne_missing(case.shift())))

    @property
    def id(self) -> str:
        """The first 12 hex digits of the SHA-256 of the run's content.

        Up to 5,000 rows, the content is hashed as JSON, one object a row; above, column by column.
        """
        few = self.cases.height <= _HASHED_BY_ROW
        cases = self.cases.to_dicts() if few else {c.name: _column_digest(c) for c in self.cases}
        return files.digest({**self.identity(), "cases": cases})[:12]

    def identity(self) -> dict[str, Any]:
        """Return every field except `cases`, as plain values."""
        return {name: getattr(self, name) for name in _IDENTITY}

    @property
    def n_cases(self) -> int:
        """The number of cases, scored or unscored."""
        return len(self.case_ids)

    @property
    def n_unscored(self) -> int:
        """The number of rows (case and repeat) that failed."""
        return int((self.cases["status"] == "unscored").sum())

    @property
    def unscored_reasons(self) -> dict[str, int]:
        """The number of unscored rows by reason, the word before the colon of `error`; commonest first."""
        reasons = Counter(error.partition(":")[0] for error in self.cases["error"].drop_nulls())
        return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))

    @property
    def n_degraded(self) -> int:
        """The number of searches answered from the last snapshot because the server was unavailable."""
        return int(self.cases[DEGRADED].sum()) if DEGRADED in self.cases.columns else 0

    @property
    def n_fallback(self) -> int:
        """The number of answers by a fall-back, because the first model could not answer."""
        return int(self.cases[FALLBACK].sum()) if FALLBACK in self.cases.columns else 0

    @property
    def fallback_reasons(self) -> dict[str, int]:
        """The number of answers by a fall-back for each reason, commonest first."""
        if FALLBACK_REASONS not in self.cases.columns:
            return {}
        found = Counter(
            word for text in self.cases[FALLBACK_REASONS].drop_nulls() for word in text.split(",")
        )
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def n_truncated(self) -> int:
        """The number of rows with an answer that the limit of tokens cut; it is scored as it is."""
        return int((self.cases[TRUNCATED] > 0).sum()) if TRUNCATED in self.cases.columns else 0

    @property
    def repeats(self) -> int:
        """The number of repeats of each case."""
        return int(self.cases["repeat"].n_unique())

    @property
    def score_names(self) -> list[str]:
        """The names of the scorers, in column order."""
        return score_names(self.cases)

    def scores(self, name: str) -> pl.DataFrame:
        """Return `case`, `repeat` and `score` of one scorer, without null scores.

        Raises NotFoundError with the nearest name when the run has no such score.
        """
        name = plain_name(name)
        if name not in self.score_names:
            raise NotFoundError(
                f"run {self.arm} has no score {name!r} ({nearest(name, self.score_names)})",
                hint="give the scorer of that name to ws.experiment().run(…, scorers=[…])",
            )
        return self.cases.select("case", "repeat", score=SCORE + name).drop_nulls()

    def metrics(self, level: float = LEVEL) -> list[Metric]:
        """Return every metric with its two-sided interval, pooled and per tenant."""
        return [measure(self.cases, name, level=level) for name in known(self.cases)]

    def metric(self, name: str, level: float = LEVEL) -> Metric:
        """Return one metric; raise ConfigError with the nearest name when it is unknown."""
        return measure(self.cases, name, level=level)

    def _arms(self) -> Mapping[str, Run]:
        return {self.arm: self}

    def _cards(self) -> tuple[Card, ...]:
        return (self.card(),)

    @property
    def is_control(self) -> bool:
        """Whether the arm should be worse, because it lacks what the task adds: its setting `control`."""
        return self.settings.get("control") is True

    def plotted(self, role: Role = "") -> PlottedArm:
        """Return the run as an arm of a plot; a control is always one."""
        from workbench.experiments.run_plots import PlottedArm

        return PlottedArm(name=self.arm, cases=self.cases, role="control" if self.is_control else role)

    def plot(
        self, kind: str = "scores", *, metric: str | None = None, by: str | None = None, level: float = LEVEL
    ) -> Plot:
        """Return a plot of the run: scores, arms, slices (by tenant), cost, latency or calibration.

        `metric` is by default the first score, and `by` the score that forecasts it in a calibration.
        Raises ConfigError, which lists the plots, for another kind.
        """
        from workbench.experiments import run_plots

        run_plots.check_kind(kind, ("scores", *run_plots.KINDS))
        if kind == "scores":
            return run_plots.scores_plot(self.plotted(), level)
        if not self.score_names and metric is None:
            raise ConfigError(f"run {self.arm} has no score to plot", hint='run.plot("latency")')
        name = metric or self.score_names[0]
        if kind == "slices":
            return run_plots.tenants_plot([self.plotted()], name, level)
        return run_plots.plot_of(kind, [self.plotted()], name, level, by)

    def card(self) -> Card:
        """Return the display card: every metric of the run."""
        metrics = self.metrics()
        rows = [
            [m.name, number(m.value), span(m.interval), str(m.n), tenants_text(m.tenants)] for m in metrics
        ]
        repeats = f" x {self.repeats} repeats" if self.repeats > 1 else ""
        notes = [
            *degraded_note(self.n_degraded),
            *truncated_note(self.n_truncated),
            *fallback_note(self.n_fallback, self.fallback_reasons),
            f"{self.n_cases} cases{repeats}, {self.n_unscored} unscored; intervals at {percent(LEVEL)}",
        ]
        spreads = [f"{m.name} {number(m.repeat_sd)}" for m in metrics if m.repeat_sd is not None]
        if spreads:
            notes.append(f"standard deviation between repeats: {', '.join(spreads)}")
        if ended := self.settings.get(ENDED_BY):
            notes.append(f"ended early ({ended}): these are the finished cases, and no gate passes them")
        if reasons := counted(self.unscored_reasons):
            notes.append(f"unscored: {reasons}; no score, and not counted as zero")
        return Card(
            title=f"{self.use_case} · {self.experiment} · {self.arm} · run {self.id}",
            head=["metric", "value", "interval", "n", "by tenant"],
            rows=rows,
            notes=notes,
            command=_after_run(self),
        )


def _after_run(run: Run) -> str:
    if run.is_control:  # no gate judges it: it is compared
        return ""
    return f"workbench gate {run.id}" if run.gate_digest else _UNGATED.format(run.id)


def save_runs(runs: Sequence[Run], folder: Path) -> None:
    """Write each run as `<arm>.parquet` and the manifest `runs.json`; equal runs give equal bytes.

    Each file is replaced atomically. `runs.json` is written last with the SHA-256 of each Parquet file, so
    `load_runs` detects an interrupted save. Parquet files of other arms are removed.
    Raises ConfigError when two runs have the same arm.
    """
    arms = [run.arm for run in runs]
    if len(set(arms)) != len(arms):
        raise ConfigError(f"two runs of one folder have the same arm: {sorted(arms)}")
    entries = {}
    for run in runs:
        data = _parquet(run.cases)
        files.write_atomic(folder / f"{run.arm}.parquet", data)
        entries[run.arm] = {
            **run.identity(),
            "id": run.id,
            "n_cases": run.n_cases,
            "n_unscored": run.n_unscored,
            "sha256": hashlib.sha256(data).hexdigest(),
            "metrics": {metric.name: metric.to_json() for metric in run.metrics()},
        }
    body = {"format": FORMAT, "arms": arms, "runs": entries}
    files.write_atomic(folder / MANIFEST, files.pretty({**body, "sha256": files.digest(body)}))
    with files.writing(folder):
        for stale in sorted(folder.glob("*.parquet")):
            if stale.stem not in entries:
                stale.unlink()


def counted(reasons: Mapping[str, int]) -> str:
    """Return counts by reason as one line, such as `3 InvalidOutputError, 1 infinite`."""
    return ", ".join(f"{number} {reason}" for reason, number in reasons.items())


def _is_sorted(cases: pl.DataFrame) -> bool:
    """Return whether the rows ascend strictly by case and repeat, so that no pair of them occurs twice."""
    case, repeat = cases["case"], cases["repeat"]
    before = case.shift()
    return not ((case < before) | ((case == before) & (repeat <= repeat.shift()))).any()


def _column_digest(column: pl.Series) -> str:
    """Return the SHA-256 of a column: its kind, length, number and places of nulls, then its values.

    Numbers are hashed as little-endian 64-bit values, texts as byte lengths and UTF-8, and lists as lengths
    and the column of their items. A null counts as the zero or the empty text of its kind.
    """
    import polars as pl

    kind = "list" if isinstance(column.dtype, pl.List) else "text" if column.dtype == pl.String else "integer"
    kind = "real" if column.dtype.is_float() else kind
    digest = hashlib.sha256(f"{kind}:{len(column)}:{column.null_count()}".encode())
    if column.null_count():
        digest.update(column.is_null().to_numpy().tobytes())
    if kind == "list":
        lengths = column.list.len().fill_null(0)
        digest.update(lengths.to_numpy().astype("<u4").tobytes())
        digest.update(_column_digest(column.filter(lengths > 0).explode()).encode())
    elif kind == "text":
        texts = column.fill_null("")
        digest.update(texts.str.len_bytes().to_numpy().astype("<u4").tobytes())
        digest.update("".join(texts.str.join("")).encode())
    else:
        numbers = column.cast(pl.Float64 if kind == "real" else pl.Int64).fill_null(0).to_numpy()
        digest.update(numbers.astype("<f8" if kind == "real" else "<i8", copy=False).tobytes())
    return digest.hexdigest()


def _parquet(frame: pl.DataFrame) -> bytes:
    """Return the frame as Parquet, with fixed options for reproducible bytes."""
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(
        buffer, compression="zstd", compression_level=3, statistics=True, row_group_size=65_536
    )
    return buffer.getvalue()


def load_runs(folder: Path) -> list[Run]:
    """Return the runs of `folder` in the order of `save_runs`.

    Raises CorruptError with the name of a missing, foreign or changed file.
    """
    manifest = _manifest(folder)
    entries = manifest["runs"]
    wanted = {MANIFEST, *(f"{arm}.parquet" for arm in entries)}
    present = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    if wanted != present:
        missing, extra = sorted(wanted - present), sorted(present - wanted)
        what = f"{missing[0]} is missing" if missing else f"{extra[0]} is not a file of these runs"
        raise _corrupt(folder, what)
    return [_load(folder / f"{arm}.parquet", entries[arm]) for arm in manifest["arms"]]


def _manifest(folder: Path) -> dict[str, Any]:
    import orjson

    path = folder / MANIFEST
    text = files.read_text(path, hint="dvc repro")
    try:
        manifest = orjson.loads(text)
        own = manifest.pop("sha256")
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        raise _corrupt(path, "it is not a complete runs.json") from None
    if manifest.get("format") != FORMAT:
        raise _corrupt(path, f"format {manifest.get('format')!r}, this version reads {FORMAT}")
    if files.digest(manifest) != own:
        raise _corrupt(path, "it was changed after it was written (its SHA-256 differs)")
    return dict(manifest)


def _load(path: Path, entry: dict[str, Any]) -> Run:
    import polars as pl

    try:
        data = files.read_bytes(path)
    except OSError as error:
        raise UnavailableError(f"cannot read {path}: {error.strerror}", hint="dvc repro") from error
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise _corrupt(path, "it was changed after it was written (its SHA-256 differs)")
    return Run(**{name: entry[name] for name in _IDENTITY}, cases=pl.read_parquet(io.BytesIO(data)))


def _corrupt(path: Path, what: str) -> CorruptError:
    return CorruptError(f"{path}: {what}", hint="dvc repro")


def _runs_in(folders: Sequence[Path], explored: Sequence[Path]) -> Iterator[tuple[Path, Run]]:
    """Yield every run with its folder. A damaged folder is an error; in `explored`, a warning."""
    for folder in folders:
        if (folder / MANIFEST).is_file():
            yield from ((folder, run) for run in load_runs(folder))
    for folder in explored:
        try:
            found = load_runs(folder) if (folder / MANIFEST).is_file() else []
        except WorkbenchError as error:
            sys.stderr.write(f"warning: skipped a folder of runs: {error.message}\n  -> rm -r {folder}\n")
            continue
        yield from ((folder, run) for run in found)


def runs_frame(folders: Sequence[Path], *, explored: Sequence[Path] = ()) -> pl.DataFrame:
    """Return one row per distinct run in these folders; `value` is the mean of its first score.

    Raises CorruptError for a damaged folder in `folders`; a damaged folder in `explored` gives a warning.
    """
    import polars as pl

    rows: dict[str, tuple[Any, ...]] = {}
    for folder, run in _runs_in(folders, explored):
        first = sample(run.cases, run.score_names[0]) if run.score_names else None
        metric = (first.name, first.value) if first else (None, None)
        assets = (run.settings.get(name) for name in ("prompt", "memory", "model"))
        what = (run.id, run.use_case, run.experiment, run.arm, run.n_cases, run.n_unscored)
        rows.setdefault(run.id, (*what, *metric, *assets, str(folder)))
    text, count = pl.String(), pl.Int64()
    schema = {
        "run": text, "use_case": text, "experiment": text, "arm": text, "cases": count, "unscored": count,
        "metric": text, "value": pl.Float64(), "prompt": text, "memory": text, "model": text, "folder": text,
    }  # fmt: skip
    return pl.DataFrame(list(rows.values()), schema=schema, orient="row")


def find_run(reference: str, folders: Sequence[Path], *, explored: Sequence[Path] = ()) -> Run:
    """Return the run with the reference `use_case/arm`, an id, or an id prefix of 6 or more digits.

    A run in `explored` is found by its id alone. Raises NotFoundError with the nearest reference. Damaged
    folders are handled as in `runs_frame`.
    """
    runs = {}
    for folder, run in _runs_in(folders, explored):
        names = {run.id} if folder in explored else {run.id, f"{run.use_case}/{run.arm}"}
        if reference in names or (len(reference) >= 6 and run.id.startswith(reference)):
            return run
        runs.update(dict.fromkeys(names))
    raise NotFoundError(
        f"there is no run {reference!r} ({nearest(reference, runs)})",
        hint="name it use_case/arm, for example answers/candidate, or by its id; `dvc repro` makes them",
    )


#: The next command for a run without a gate, such as a run over a memory outside the use case.
_UNGATED = "workbench compare {} BASELINE   # no gate is stated for it"
