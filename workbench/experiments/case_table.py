"""The cases of one or two runs as a frame: scores, changes, what is wrong, and what has no score."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.experiments.case_context import ExplorableRun
from workbench.experiments.dataset import Case
from workbench.experiments.metrics import SCORE, plain_name
from workbench.experiments.score_direction import LOWER_IS_BETTER
from workbench.experiments.slices import Slicing

if TYPE_CHECKING:
    import polars as pl

#: Kinds of cases that can be asked for, and what a person reads; reasons of unscored cases come in addition.
KINDS: Mapping[str, str] = {
    "flips": "flips", "worsened": "worsened", "improved": "improved", "wrong": "wrong",
    "unscored": "unscored", "all": "all cases",
}  # fmt: skip
#: The columns by which cases can be sorted; `rank` is what a person looks at first.
SORTS = ("rank", "case", "tenant", "before", "score", "change")
_PAIRED = frozenset({"flips", "worsened", "improved"})
_REASON = "unscored: "
#: Characters of a reason, and reasons that are named, those of most cases.
_LONG, _REASONS = 100, 50


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseTable:
    """One row for each case of `run`, compared with `baseline` by `metric` where there is one.

    `frame` has `case`, `tenant`, `score` and `before` (means over repeats, null without a score), `change`
    (improved, worsened, same or ""), `wrong`, `unscored`, `reason` (of the first row without a score) and
    `rank`. A case is wrong when its score is below `below`, or above 0 where a lower score is better.
    """

    run: ExplorableRun
    baseline: ExplorableRun | None
    metric: str
    frame: pl.DataFrame = field(repr=False)

    @classmethod
    def of(
        cls,
        run: ExplorableRun,
        baseline: ExplorableRun | None,
        *,
        metric: str | None = None,
        below: float = 1.0,
    ) -> CaseTable:
        """Return the table of a run; NotFoundError for a score that the runs do not have."""
        both = [name for name in run.score_names if baseline is None or name in baseline.score_names]
        name = plain_name(metric) if metric else next(iter(both), "")
        if metric and name not in both:
            raise NotFoundError(
                f"the runs have no score {metric!r} ({nearest(name, both)})", hint="run.score_names"
            )
        return cls(run=run, baseline=baseline, metric=name, frame=_frame(run, baseline, name, below))

    @property
    def kinds(self) -> dict[str, int]:
        """The number of cases of each kind that can be asked for, kinds without cases left out but `all`."""
        frame = self.frame
        found = {kind: self._rows(kind).height for kind in KINDS if self.baseline or kind not in _PAIRED}
        reasons = frame["reason"].drop_nulls().value_counts(sort=True)
        named = reasons.head(_REASONS).iter_rows() if reasons.height > 1 else ()
        found |= {f"{_REASON}{reason}": n for reason, n in named}
        return {kind: n for kind, n in found.items() if n or kind == "all"}

    def chosen(
        self, kind: str = "all", *, text: str = "", only: Collection[str] | None = None,
        sort: str = "rank", descending: bool = False,
    ) -> pl.DataFrame:  # fmt: skip
        """Return the rows of a kind, with a text in their id, question, expected values or answers.

        `only` are the ids of a slice. Raises NotFoundError for an unknown kind or column.
        """
        import polars as pl

        if sort not in SORTS:
            raise NotFoundError(
                f"cases have no column {sort!r} ({nearest(sort, SORTS)})", hint=f"one of {SORTS}"
            )
        found = self._rows(kind)
        if only is not None:
            found = found.filter(pl.col("case").is_in(list(only)))
        if text.strip():
            found = found.filter(pl.col("case").is_in(self._with_text(text.strip().lower())))
        order = [sort, "case"] if sort != "case" else ["case"]
        return found.sort(order, descending=[descending, *[False] * (len(order) - 1)], nulls_last=True)

    def _rows(self, kind: str) -> pl.DataFrame:
        import polars as pl

        if kind in _PAIRED and self.baseline is None:
            raise ConfigError(f"one run has no {kind}", hint="compare two runs: exp.compare(…, arms={…})")
        if kind.startswith(_REASON):
            return self.frame.filter(pl.col("reason") == kind.removeprefix(_REASON))
        rules: dict[str, Any] = {
            "all": pl.lit(value=True),
            "flips": pl.col("change").is_in(["improved", "worsened"]),
            "improved": pl.col("change") == "improved",
            "worsened": pl.col("change") == "worsened",
            "wrong": pl.col("wrong"),
            "unscored": pl.col("unscored"),
        }
        if kind not in rules:
            raise NotFoundError(
                f"there is no kind of cases {kind!r} ({nearest(kind, rules)})", hint=", ".join(KINDS)
            )
        return self.frame.filter(rules[kind])

    def _with_text(self, text: str) -> list[str]:
        """Return the ids of the cases that hold a text in lower case."""
        found = set(self.frame.filter(_holds("case", text))["case"])
        for run in filter(None, (self.run, self.baseline)):
            escaped = files.canonical(text).decode()[1:-1]  # the answers are JSON
            found.update(run.cases.filter(_holds("output", escaped) | _holds("error", text))["case"])
        dataset = self.run.context.dataset
        found.update(case.id for case in dataset or () if text in question_of(case).lower())
        found.update(case.id for case in dataset or () if text in expected_of(case).lower())
        return list(found)

    def slices(self) -> dict[str, frozenset[str]]:
        """Return the ids of the cases of each slice, such as `tenant=acme`; by tenant without others."""
        dataset, names = self.run.context.dataset, self.run.context.slices
        slicing = None
        with contextlib.suppress(
            ConfigError
        ):  # another dataset than the one that the slices are declared for
            slicing = Slicing.of(dataset, names) if dataset is not None and names else None
        if slicing is not None:
            return {f"{by}={key}": ids for by in names for key, ids in slicing.members(by).items()}
        parts = self.frame.partition_by("tenant", as_dict=True)
        return {f"tenant={tenant}": frozenset(part["case"]) for (tenant,), part in sorted(parts.items())}


def question_of(case: Case) -> str:
    """Return the inputs of a case as one text: the only input as it is, several with their names."""
    if len(case.inputs) == 1:
        return _plain(next(iter(case.inputs.values())))
    return "\n".join(f"{name}: {_plain(value)}" for name, value in case.inputs.items())


def expected_of(case: Case) -> str:
    """Return the expected values of a case, one line each."""
    return "\n".join(f"{name}: {_plain(value)}" for name, value in case.expected.items())


def _plain(value: Any) -> str:
    """Return a value as a person reads it: a text, a list of texts with ` | ` between them, or JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return " | ".join(value)
    return files.canonical(value).decode()


def _holds(column: str, text: str) -> Any:
    import polars as pl

    return pl.col(column).str.to_lowercase().str.contains(text, literal=True).fill_null(value=False)


def _by_case(run: ExplorableRun, metric: str) -> pl.DataFrame:
    """Return one row for each case: tenant, mean score, whether a row is unscored, and the first reason."""
    import polars as pl

    score = pl.col(SCORE + metric) if metric else pl.lit(None, dtype=pl.Float64)
    unscored = pl.col("status") == "unscored"
    return run.cases.group_by("case", maintain_order=True).agg(
        pl.col("tenant").first(),
        score.mean().alias("score"),
        unscored.any().alias("unscored"),
        pl.col("error").drop_nulls().first().str.split(":").list.first().str.head(_LONG).alias("reason"),
    )


def _frame(run: ExplorableRun, baseline: ExplorableRun | None, metric: str, below: float) -> pl.DataFrame:
    import polars as pl

    from workbench.experiments.distributions import NOISE

    frame = _by_case(run, metric)
    if baseline is None:
        frame = frame.with_columns(before=pl.lit(None, dtype=pl.Float64))
    else:
        theirs = _by_case(baseline, metric).rename({"score": "before", "unscored": "u", "reason": "r"})
        frame = frame.join(theirs.drop("tenant"), on="case", how="left", maintain_order="left")
        frame = frame.with_columns(
            pl.col("unscored") | pl.col("u").fill_null(value=False), pl.coalesce("reason", "r")
        ).drop("u", "r")
    lower = metric in LOWER_IS_BETTER
    gain = pl.col("before") - pl.col("score") if lower else pl.col("score") - pl.col("before")
    change = pl.when(gain > NOISE).then(pl.lit("improved")).when(gain < -NOISE).then(pl.lit("worsened"))
    wrong = (pl.col("score") > 0) if lower else (pl.col("score") < below)
    frame = frame.with_columns(
        change=change.when(gain.is_not_null()).then(pl.lit("same")).otherwise(pl.lit("")),
        wrong=wrong.fill_null(value=False),
    )
    rank = pl.when(pl.col("change") == "worsened").then(0).when(pl.col("change") == "improved").then(1)
    return frame.with_columns(rank=rank.when("unscored").then(2).when("wrong").then(3).otherwise(4))
