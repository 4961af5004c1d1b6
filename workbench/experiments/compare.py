"""Paired comparison of runs: effect, interval, flips and a verdict for each metric."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from workbench.display import Card, Row, Shown, number, percent, span, verdict_text
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.experiments.explorable import ExplorablePair
from workbench.experiments.metrics import AMOUNTS, plain_name
from workbench.experiments.pairs import Pairs, paired
from workbench.experiments.runs import Run
from workbench.experiments.score_direction import LOWER_IS_BETTER
from workbench.experiments.slices import Slicing, short
from workbench.types import Effect

if TYPE_CHECKING:
    import polars as pl

    from workbench.experiments.intervals import Interval
    from workbench.plots import Plot

POWER = 0.8
#: The slices of one column that a card names.
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMetric:
    """One metric of a run against its baseline, over the `n` cases with a value in both runs.

    `effect` is run minus baseline in the metric's unit. `improved` and `worsened` are case ids, in the
    metric's better direction. `p` is adjusted over the family (Holm); `p` and `verdict` are None for cost
    and latency. `needed` is the number of further cases that show the observed effect with 80 % power.
    `non_inferior` is the verdict of the non-inferiority test with the comparison's `margin`. The verdict is
    `same` when the two agree on every case and no case has a value on one side only.
    """

    metric: str
    value: float
    baseline: float
    effect: float
    interval: Interval
    n: int
    left_out: int
    test: str = ""
    p: float | None = None
    verdict: Effect | None = None
    non_inferior: Literal["pass", "fail", "undecided"] | None = None
    needed: int | None = None
    improved: tuple[str, ...] = ()
    worsened: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with numbers rounded to 6 decimals."""
        from workbench.experiments.intervals import rounded

        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain |= {name: rounded(plain[name]) for name in ("value", "baseline", "effect", "p")}
        cases = {name: list(plain[name]) for name in ("improved", "worsened")}
        return plain | {"interval": self.interval.to_json(), **cases}


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceEffect:
    """The effect on the primary metric over the `n` pairs whose column `by` has the value `key`.

    `improved` and `worsened` count cases. The interval is not adjusted for the number of slices.
    """

    by: str
    key: str
    effect: float
    interval: Interval
    n: int
    improved: int
    worsened: int

    @property
    def text(self) -> str:
        """The slice, its effect with the interval, and the flips, in one line."""
        measured = f"{self.effect:+.3g} {span(self.interval, signed=True)}"
        return f"{short(self.key)} {measured} +{self.improved} -{self.worsened} of {self.n}"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with numbers rounded to 6 decimals."""
        from workbench.experiments.intervals import rounded

        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"effect": rounded(self.effect), "interval": self.interval.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Shown, ExplorablePair):
    """A run against a baseline. The first line is the primary metric; its verdict is the comparison's.

    `slices` holds its effect in each slice, which decides nothing: the lowest gain first in each column.
    """

    run: Run
    baseline: Run
    lines: tuple[ComparedMetric, ...]
    amounts: tuple[ComparedMetric, ...] = ()
    level: float
    margin: float
    family: int
    slices: tuple[SliceEffect, ...] = ()

    def _arms(self) -> Mapping[str, Run]:
        runs = (self.baseline, self.run)
        same = self.baseline.arm == self.run.arm
        return {f"{run.arm} {run.id[:6]}" if same else run.arm: run for run in runs}

    def _cards(self) -> tuple[Card, ...]:
        return (self.card(),)

    @property
    def verdict(self) -> Effect:
        """The primary metric's verdict."""
        return self.lines[0].verdict or "undecided"

    @property
    def standing(self) -> str:
        """The verdict as it is shown: of a control, whether it is as expected, which is worse."""
        if not self.run.is_control:
            return self.verdict
        said = {"worse": "as expected", "better": "not as expected"}.get(self.verdict, self.verdict)
        return f"control, {said}"

    def plot(self, kind: str = "arms", *, metric: str | None = None, by: str | None = None) -> Plot:
        """Return a plot of the two runs: arms, slices, cost, latency or calibration.

        `metric` is by default the primary metric, and `by` the score that forecasts it in a calibration.
        Raises ConfigError, which lists the plots, for another kind.
        """
        from workbench.experiments import run_plots

        run_plots.check_kind(kind, run_plots.KINDS)
        name = metric or self.lines[0].metric
        arms = [self.baseline.plotted(), self.run.plotted()]
        if kind != "slices":
            return run_plots.plot_of(kind, arms, name, self.level, by)
        if not self.slices:
            return run_plots.tenants_plot(arms, name, self.level)
        return run_plots.effects_plot(self.lines[0].metric, self.sliced(), self.level)

    def sliced(self) -> list[tuple[str, SliceEffect]]:
        """Return the effects in slices, each with a heading that names both runs and the column."""
        return [(f"{self.run.arm} against {self.baseline.arm}, by {part.by}", part) for part in self.slices]

    def __getitem__(self, metric: str) -> ComparedMetric:
        lines = {line.metric: line for line in (*self.lines, *self.amounts)}
        name = plain_name(metric)
        if name not in lines:
            raise NotFoundError(
                f"the comparison has no metric {metric!r} ({nearest(name, lines)})",
                hint="comparison.frame lists the compared metrics",
            )
        return lines[name]

    @property
    def frame(self) -> pl.DataFrame:
        """One row per metric."""
        import polars as pl

        rows = []
        for line in (*self.lines, *self.amounts):
            row = line.to_json()
            interval = row.pop("interval")
            rows.append(
                {"arm": self.run.arm, "baseline_arm": self.baseline.arm, **row}
                | {"low": interval["low"], "high": interval["high"], "level": interval["level"]}
            )
        lists = {"improved": pl.List(pl.String), "worsened": pl.List(pl.String)}
        numbers = {"p": pl.Float64, "needed": pl.Int64, "verdict": pl.String, "non_inferior": pl.String}
        return pl.DataFrame(rows, schema_overrides={**lists, **numbers}, infer_schema_length=None)

    def by_slice(self, slicing: Slicing) -> Comparison:
        """Return the comparison with the primary metric's effect in each slice that has a pair."""
        import polars as pl

        first = self.lines[0]
        pairs = Pairs.of(self.run, self.baseline, first.metric)
        found = []
        for by in slicing.names:
            effects = []
            for key, ids in slicing.members(by).items():
                part = pairs.of_cases(pairs.cases.is_in(pl.Series(sorted(ids)).implode()))
                if part.effect is not None:
                    flips = [len(ids.intersection(cases)) for cases in (first.improved, first.worsened)]
                    interval = part.interval(level=self.level)
                    effects.append(
                        SliceEffect(
                            by=by, key=key, effect=part.effect, interval=interval, n=part.n,
                            improved=flips[0], worsened=flips[1],
                        )
                    )  # fmt: skip
            found += sorted(
                effects, key=lambda effect: ((effect.improved - effect.worsened) / effect.n, effect.key)
            )
        return replace(self, slices=tuple(found))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with numbers rounded to 6 decimals."""
        sliced = {"slices": [effect.to_json() for effect in self.slices]} if self.slices else {}
        control = {"control": self.standing} if self.run.is_control else {}
        return (
            sliced
            | control
            | {
                "run": {"arm": self.run.arm, "id": self.run.id},
                "baseline": {"arm": self.baseline.arm, "id": self.baseline.id},
                "level": self.level,
                "margin": self.margin,
                "family": self.family,
                "verdict": self.verdict,
                "lines": [line.to_json() for line in self.lines],
                "amounts": [line.to_json() for line in self.amounts],
            }
        )

    def card(self) -> Card:
        """Return the display card: the primary metric first, cost and latency last."""
        first, base, run = self.lines[0], self.baseline, self.run
        notes = [
            f"paired by case id over {first.n} cases; intervals at {percent(self.level)}",
            f"p adjusted over a family of {self.family} (Holm)",
        ]
        left_out = [f"{line.metric} {line.left_out}" for line in self.lines if line.left_out]
        if left_out:
            notes.append(f"cases left out, having no score on one side: {', '.join(left_out)}")
        if self.margin:
            held = ", ".join(f"{line.metric} {line.non_inferior}" for line in self.lines)
            notes.append(f"not worse by more than {self.margin:g}: {held}")
        notes += [
            f"{what}: {', '.join(cases[:5])}{' …' if len(cases) > 5 else ''}"
            for what, cases in (("improved", first.improved), ("got worse", first.worsened))
            if cases
        ]
        for by in dict.fromkeys(effect.by for effect in self.slices):
            effects = [effect.text for effect in self.slices if effect.by == by]
            more = f"; {len(effects) - _NAMED} more" if len(effects) > _NAMED else ""
            notes.append(f"{first.metric} by {by}, unadjusted: {'; '.join(effects[:_NAMED])}{more}")
        return Card(
            title=f"{run.arm} against {base.arm} · {first.metric}",
            verdict=self.standing,
            head=["metric", base.arm, run.arm, "effect", "interval", "p", "flips", "verdict"],
            rows=[_comparison_row(line, self) for line in (*self.lines, *self.amounts)],
            notes=notes,
            command=_after_comparison(self),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonSet:
    """Several runs against one baseline; the p-values are adjusted over all arms and metrics."""

    comparisons: tuple[Comparison, ...] = field(repr=False)

    def by_slice(self, slicing: Slicing) -> ComparisonSet:
        """Return the comparisons with the primary metric's effect in each slice."""
        return replace(self, comparisons=tuple(c.by_slice(slicing) for c in self.comparisons))

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self.comparisons)

    def __len__(self) -> int:
        return len(self.comparisons)

    def __getitem__(self, arm: str) -> Comparison:
        arms = {comparison.run.arm: comparison for comparison in self.comparisons}
        if arm not in arms:
            raise NotFoundError(
                f"the comparison has no arm {arm!r} ({nearest(arm, arms)})",
                hint="name an arm other than the baseline",
            )
        return arms[arm]

    @property
    def frame(self) -> pl.DataFrame:
        """One row per arm and metric."""
        import polars as pl

        return pl.concat([comparison.frame for comparison in self.comparisons])

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.comparisons))

    def _repr_html_(self) -> str:
        return "".join(comparison._repr_html_() for comparison in self.comparisons)


def compare(
    run: Run,
    baseline: Run,
    *,
    metric: str | None = None,
    margin: float = 0.0,
    level: float = 0.95,
    seed: int = 7,
    lower_is_better: Collection[str] = LOWER_IS_BETTER,
) -> Comparison:
    """Compare `run` with `baseline`, paired by case id; repeats are averaged first.

    Binary scores use the exact McNemar test, other scores a paired permutation test. Intervals use a paired
    bootstrap with a fixed seed. p-values are adjusted over all scores (Holm); `metric` restricts the
    comparison to one metric. A case without a score in both runs is left out and counted.
    Raises ConfigError when the datasets differ or `level` or `margin` is out of range.
    """
    several = compare_all(
        [run],
        baseline=baseline,
        metric=metric,
        margin=margin,
        level=level,
        seed=seed,
        lower_is_better=lower_is_better,
    )
    return several.comparisons[0]


def compare_all(
    runs: Sequence[Run],
    *,
    baseline: Run,
    metric: str | None = None,
    margin: float = 0.0,
    level: float = 0.95,
    seed: int = 7,
    lower_is_better: Collection[str] = LOWER_IS_BETTER,
) -> ComparisonSet:
    """Compare each of `runs` with `baseline` like `compare`; adjust p-values over all arms and metrics."""
    from workbench.experiments.significance import holm

    _check_numbers(level, margin)
    lower = {plain_name(name) for name in lower_is_better}
    raw: list[tuple[Run, list[ComparedMetric], list[ComparedMetric]]] = []
    for run in runs:
        check_pair(run, baseline)
        lines = [
            _judged(pairs, lower=pairs.metric in lower, margin=margin, level=level, seed=seed)
            for pairs in paired(run, baseline, metric)
        ]
        amounts = [Pairs.of(run, baseline, name) for name in AMOUNTS]
        raw.append((run, lines, [_line(pairs, level, seed) for pairs in amounts if pairs.n]))
    adjusted = iter(holm([line.p or 0.0 for _, lines, _ in raw for line in lines]))
    family = sum(len(lines) for _, lines, _ in raw)
    comparisons = tuple(
        Comparison(
            run=run,
            baseline=baseline,
            lines=tuple(_decided(line, next(adjusted), lower, level) for line in lines),
            amounts=tuple(amounts),
            level=level,
            margin=margin,
            family=family,
        )
        for run, lines, amounts in raw
    )
    return ComparisonSet(comparisons=comparisons)


def _check_numbers(level: float, margin: float) -> None:
    if not 0.5 < level < 1 or margin < 0:
        raise ConfigError(
            f"level must be between 0.5 and 1 and margin 0 or more; got level={level}, margin={margin}",
            hint="for example level=0.95, margin=0.05",
        )


def check_pair(run: Run, baseline: Run) -> None:
    """Raise ConfigError unless both runs have the same cases of the same dataset."""
    hint = "run both arms over the same cases: exp.compare(task, cases, arms=…)"
    if not run.case_ids.equals(baseline.case_ids):
        ours, theirs = set(run.case_ids), set(baseline.case_ids)
        gaps = [
            f"{len(gap)} only in {name}: {', '.join(sorted(gap)[:5])}{' …' if len(gap) > 5 else ''}"
            for name, gap in ((run.arm, ours - theirs), (baseline.arm, theirs - ours))
            if gap
        ]
        raise ConfigError(f"the runs have different cases; {'; '.join(gaps)}", hint=hint)
    if run.dataset_digest != baseline.dataset_digest:
        raise ConfigError(
            f"the runs have different datasets ({run.dataset_digest[:12]} and "
            f"{baseline.dataset_digest[:12]}) with the same case ids",
            hint=hint,
        )


def _line(pairs: Pairs, level: float, seed: int) -> ComparedMetric:
    return ComparedMetric(
        metric=pairs.metric,
        value=float(pairs.ours.mean()),
        baseline=float(pairs.theirs.mean()),
        effect=float((pairs.ours - pairs.theirs).mean()),
        interval=pairs.interval(level=level, seed=seed),
        n=pairs.n,
        left_out=pairs.left_out,
    )


def _judged(pairs: Pairs, *, lower: bool, margin: float, level: float, seed: int) -> ComparedMetric:
    """Return the metric's line with an unadjusted p-value."""
    import polars as pl

    from workbench.experiments.distributions import NOISE
    from workbench.experiments.intervals import non_inferior
    from workbench.experiments.significance import mcnemar, sign_flip_p

    gain = (pairs.theirs - pairs.ours) if lower else (pairs.ours - pairs.theirs)
    better = tuple(pairs.cases.filter(pl.Series(gain > NOISE)).to_list())
    worse = tuple(pairs.cases.filter(pl.Series(gain < -NOISE)).to_list())
    binary = pairs.is_binary()
    line = _line(pairs, level, seed)
    return replace(
        line,
        test="exact McNemar" if binary else "paired permutation",
        p=mcnemar(len(better), len(worse)) if binary else sign_flip_p(gain, seed=seed),
        non_inferior=non_inferior(line.interval.mirrored() if lower else line.interval, margin),
        needed=_needed(pairs, len(better), len(worse), level),
        improved=better,
        worsened=worse,
        verdict=None if better or worse or pairs.one_sided else "same",
    )


def _needed(pairs: Pairs, better: int, worse: int, level: float) -> int | None:
    """Return the further cases needed for this metric alone; None when the effect is zero."""
    from workbench.experiments import sample_size

    if not pairs.is_binary():
        return pairs.needed(0.0, level, power=POWER)
    total = sample_size.for_pairs(better / pairs.n, worse / pairs.n, level=level, power=POWER)
    return None if total is None else max(1, total - pairs.n)


def _decided(line: ComparedMetric, p: float, lower: Collection[str], level: float) -> ComparedMetric:
    gain = -line.effect if line.metric in lower else line.effect
    verdict: Effect = line.verdict or "undecided"
    if p <= 1 - level + 1e-12 and gain != 0:
        verdict = "better" if gain > 0 else "worse"
    return replace(line, p=p, verdict=verdict, needed=line.needed if verdict == "undecided" else None)


def _after_comparison(card: Comparison) -> str:
    first = card.lines[0]
    if card.run.is_control:  # it is no answer to choose; one that is as good is read
        return f'result.flips(arm="{card.run.arm}")   # read why' if card.verdict == "better" else ""
    if card.run.gate_digest is None:
        return "make lab   # no gate is stated for these runs"
    if card.verdict == "worse":
        return f"workbench gate {card.baseline.id}   # keep {card.baseline.arm}"
    if card.verdict == "undecided" and first.needed:
        if "@draft-" in str(card.run.settings.get("prompt")):  # the pipeline runs saved versions alone
            more = len(card.run.case_ids) + first.needed
            return f"ws.cases().sample({more}, seed=1)   # compare on these: 80 % power for this effect"
        return f"dvc repro   # after adding about {first.needed} cases like these: 80 % power for this effect"
    return f"workbench gate {card.run.id}"


def _shown_verdict(line: ComparedMetric, card: Comparison) -> str:
    """Return the verdict of a line; the further lines of a control say only how they differ."""
    if not card.run.is_control or line.verdict not in {"better", "worse"}:
        return verdict_text(line.verdict, line.needed)
    if line is card.lines[0]:
        return verdict_text(card.standing, None)
    return verdict_text("higher" if line.effect > 0 else "lower", None)


def _comparison_row(line: ComparedMetric, card: Comparison) -> Row:
    return [
        line.metric,
        number(line.baseline),
        number(line.value),
        f"{line.effect:+.3g}",
        span(line.interval, signed=True),
        "" if line.p is None else f"{line.p:.3f}" if line.p >= 0.001 else "< 0.001",
        "" if line.verdict is None else f"+{len(line.improved)} -{len(line.worsened)}",
        _shown_verdict(line, card),
    ]
