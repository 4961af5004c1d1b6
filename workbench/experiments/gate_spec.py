"""Gate specifications: the rules of one column of params.yaml, parsed strictly, hashed and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from workbench import files
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.experiments.metrics import ALWAYS, AMOUNTS, plain_name

Comparator = Literal["min", "max", "count"]
#: Scores from 0 to 1: the names that the built-in scorers and the templates give.
_UNIT = re.compile(r"accuracy|exact|contains|grounded|(recall|ndcg)_at_\d+")
COMPARATORS: tuple[Comparator, ...] = ("min", "max", "count")
#: A slice with fewer scored cases never passes.
SMALL = 10
#: The number of cases that stand in examples: counted by the stage `prepare`, and not from a run.
CONTAMINATED = "contaminated_cases"
#: The metrics that take one comparator only, and what its value means.
_TAKES: Mapping[str, tuple[Comparator, str]] = {
    "cases": ("min", "how many scored cases a verdict needs"),
    CONTAMINATED: ("count", "how many cases may stand in examples"),
}
#: The slices that a message names.
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of a gate: a metric, a comparator, a value, and an optional `versus` label with a margin.

    `worst_slice` is the bound that the metric keeps in every slice of the columns `by`, which are sorted.
    """

    metric: str
    comparator: Comparator
    value: float
    versus: str | None = None
    margin: float = 0.0
    worst_slice: float | None = None
    by: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The rule in display form, such as `>= 0.55`."""
        sign = {"min": ">=", "max": "<=", "count": "at most"}[self.comparator]
        return f"{sign} {self.value:g}"

    def to_json(self) -> dict[str, Any]:
        """Return the rule in the form of params.yaml."""
        plain: dict[str, Any] = {self.comparator: self.value}
        plain |= {"versus": self.versus, "margin": self.margin} if self.versus else {}
        sliced = {"worst_slice": self.worst_slice, "by": list(self.by)}
        return plain | (sliced if self.worst_slice is not None else {})

    @property
    def of_slice(self) -> Rule | None:
        """The rule that each slice keeps; None when the line demands nothing of its slices."""
        if self.worst_slice is None:
            return None
        return Rule(metric=self.metric, comparator=self.comparator, value=self.worst_slice)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSpec:
    """The rules of one gate column and their confidence level."""

    rules: tuple[Rule, ...]
    confidence: float

    @classmethod
    def parse(
        cls, mapping: Mapping[str, Any], *, where: str, slices: Sequence[str] | None = None
    ) -> GateSpec:
        """Parse a column of params.yaml; raise ConfigError, prefixed with `where`, for an invalid line.

        `slices` are the columns that the use case declares: the default of `by`, which may name no other.
        Without them, the text of `to_json` is read, in which every line names its own.
        """
        lines = dict(mapping)
        confidence = lines.pop("confidence", None)
        if not _is_number(confidence) or not 0.5 < confidence < 1:
            raise ConfigError(f"{where}.confidence must be between 0.5 and 1, found {confidence!r}")
        if not lines:
            raise ConfigError(f"{where} has no line; a gate needs at least one rule")
        rules = [
            _sliced(_rule(plain_name(str(name)), line, f"{where}.{name}"), line, slices, f"{where}.{name}")
            for name, line in lines.items()
        ]
        if len({rule.metric for rule in rules}) < len(rules):
            raise ConfigError(f"{where} has two lines for one metric, with and without 'score.'")
        return cls(rules=tuple(rules), confidence=float(confidence))

    @classmethod
    def of_phase(
        cls,
        gates: Mapping[str, Mapping[str, Any]],
        phase: str,
        *,
        where: str,
        slices: Sequence[str] | None = None,
    ) -> GateSpec:
        """Parse the column of `phase`; raise NotFoundError with the nearest phase when it is missing."""
        if phase not in gates:
            raise NotFoundError(
                f"{where} has no phase {phase!r} ({nearest(phase, gates)})",
                hint=f"write the column gates.{phase} into params.yaml, or name another --phase",
            )
        return cls.parse(gates[phase], where=f"{where}.{phase}", slices=slices)

    @property
    def digest(self) -> str:
        """The SHA-256 of the canonical gate text, recorded with each run."""
        return files.digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the column in the form of params.yaml, with defaults filled in."""
        return {"confidence": self.confidence} | {rule.metric: rule.to_json() for rule in self.rules}


def stated_digest(
    spec: GateSpec, *, dataset: str, scorers: Mapping[str, Any], slices: str | None = None
) -> str:
    """Return the SHA-256 of all that a gate states: its text, the dataset's digest and the scorers.

    The judged run carries it. `scorers` is `ScorerSet.identity()`. `slices` is the digest of the slices that
    the dataset's digest leaves out, if a line judges such.
    """
    stated = {"gate": spec.to_json(), "dataset": dataset, "scorers": scorers}
    return files.digest(stated | ({"slices": slices} if slices else {}))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _rule(metric: str, line: Any, where: str) -> Rule:
    if not isinstance(line, Mapping):
        raise ConfigError(f"{where} must be a mapping such as {{min: 0.5}}, found {line!r}")
    known = (*COMPARATORS, "versus", "margin", "worst_slice", "by")
    for key in line:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r} ({nearest(str(key), known)})")
    given = [name for name in COMPARATORS if name in line]
    if len(given) != 1:
        raise ConfigError(f"{where} needs exactly one of min, max, count; found {given or 'none'}")
    value, margin = line[given[0]], line.get("margin", 0.0)
    if not _is_number(value):
        raise ConfigError(f"{where}.{given[0]} must be a number, found {value!r}")
    if not _is_number(margin) or margin < 0 or ("margin" in line and "versus" not in line):
        raise ConfigError(f"{where}.margin must be a number, 0 or more, beside versus; found {margin!r}")
    rule = Rule(
        metric=metric,
        comparator=given[0],
        value=float(value),
        versus=line.get("versus"),
        margin=float(margin),
    )
    problem = _nonsense(rule, compared="versus" in line) or _cannot_fail(rule)
    if problem:
        raise ConfigError(f"{where}{problem}")
    return rule


def _sliced(rule: Rule, line: Mapping[str, Any], slices: Sequence[str] | None, where: str) -> Rule:
    """Return the rule with the line's demand on its slices; raise ConfigError for an invalid demand."""
    value: Any = line.get("worst_slice")
    by = line.get("by", slices)
    if "worst_slice" not in line:
        if "by" in line:
            raise ConfigError(f"{where}.by names the columns of worst_slice; write both or none")
        return rule
    if not _is_number(value):
        raise ConfigError(f"{where}.worst_slice must be a number, found {value!r}")
    if rule.comparator == "count" or rule.metric == "cases":
        raise ConfigError(f"{where}.worst_slice stands beside min or max of a metric that each case has")
    if problem := _cannot_fail(replace(rule, value=float(value), versus=None)):
        raise ConfigError(f"{where}.worst_slice {problem.partition(' ')[2]}")
    return replace(rule, worst_slice=float(value), by=_columns(by, slices, where))


def _columns(by: Any, slices: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """Return the sorted columns whose slices a line judges."""
    if not isinstance(by, list | tuple) or not all(isinstance(name, str) for name in by):
        raise ConfigError(f"{where}.by must be a list of columns such as [tenant], found {by!r:.80}")
    if not by:
        raise ConfigError(
            f"{where}.worst_slice: there are no slices to judge",
            hint="declare columns in the use case, for example slices: [tenant]",
        )
    for name in by:
        if slices is not None and name not in slices:
            raise ConfigError(
                f"{where}.by: {files.shortened(name)!r} is not declared ({nearest(name, slices)})",
                hint="add it to slices of the use case in params.yaml",
            )
    return tuple(sorted(set(by)))


def _nonsense(rule: Rule, *, compared: bool) -> str | None:
    """Return the reason that a well-formed rule is invalid, or None."""
    if rule.comparator == "count" and (rule.value < 0 or rule.value % 1 or rule.metric in ALWAYS):
        return ".count must be a whole number of a score, 0 or more"
    comparator, meaning = _TAKES.get(rule.metric, (rule.comparator, ""))
    if meaning and (rule.comparator != comparator or compared):
        return f" takes {comparator} only: {meaning}"
    if not compared:
        return None
    if not isinstance(rule.versus, str) or not rule.versus or rule.comparator == "count":
        return ".versus names a label such as production, beside min or max"
    if rule.metric == "latency_p95_s":
        return ".versus: a percentile has no pairs; compare latency_mean_s"
    return None


def _cannot_fail(rule: Rule) -> str | None:
    """Return the reason that no run can fail this rule, or None.

    Scores start at 0, unless a negative bound shows that the scorer's scale does not. Only scores of a known
    name end at 1.
    """
    known = rule.metric in ALWAYS or _UNIT.fullmatch(rule.metric) is not None
    ends_at_1 = rule.metric == "unscored_rate" or _UNIT.fullmatch(rule.metric) is not None
    if rule.metric == "cases" and rule.value < 1:
        return ".min can never fail: write the number of scored cases that a verdict needs, 1 or more"
    if rule.comparator == "min" and not rule.versus and (rule.value <= 0 if known else rule.value == 0):
        return f".min can never fail: {rule.metric} is never below {rule.value:g}; write a bound above 0"
    if rule.comparator == "max" and ends_at_1 and not rule.versus and rule.value >= 1:
        return f".max can never fail: {rule.metric} is never above {rule.value:g}; write a bound below 1"
    if rule.versus and ends_at_1 and rule.margin >= 1:
        return f".margin can never fail: {rule.metric} never differs by more than 1; write a margin below 1"
    return None


def check_spec(
    spec: GateSpec, n_cases: int, *, sizes: Mapping[str, Mapping[str, int]] | None = None
) -> list[str]:
    """Return a message for each line that `n_cases` cases cannot pass with perfect scores, or cannot fail.

    `sizes` is the number of cases of each slice, by column and value. Scores are assumed to lie between 0
    and 1. Score bounds outside that range are not checked.
    """
    problems = _small_slices(spec, sizes or {})
    for rule in spec.rules:
        problem = _hopeless(rule, n_cases, spec.confidence)
        if problem:
            problems.append(f"{rule.metric} {rule.text} can never pass: {problem}")
        elif rule.comparator == "count" and _UNIT.fullmatch(rule.metric) and rule.value >= n_cases:
            problems.append(f"{rule.metric} {rule.text} can never fail: the dataset has {n_cases} cases")
    return problems


def _small_slices(spec: GateSpec, sizes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a message for each column of a line in which a slice cannot pass with perfect scores."""
    demands = [(demand, by) for rule in spec.rules if (demand := rule.of_slice) for by in rule.by]
    problems = []
    for demand, by in demands:
        small = sorted((n, key) for key, n in sizes.get(by, {}).items())
        reasons = {key: _slice_hopeless(demand, n, spec.confidence) for n, key in small}
        short = [f"{key} {n}" for n, key in small if reasons[key]]
        if short:
            more = f" and {len(short) - _NAMED} more" if len(short) > _NAMED else ""
            problems.append(
                f"{demand.metric} worst slice {demand.text} can never pass: too few cases by {by}: "
                f"{', '.join(short[:_NAMED])}{more}; {reasons[small[0][1]]}"
            )
    return problems


def _slice_hopeless(demand: Rule, n: int, level: float) -> str | None:
    """Return the reason that a slice of `n` perfect cases cannot pass, or None."""
    if n < SMALL:
        return f"a slice of fewer than {SMALL} cases never passes"
    return _hopeless(demand, n, level)


def _hopeless(rule: Rule, n: int, level: float) -> str | None:
    """Return the reason that `n` cases cannot pass this rule, or None."""
    from workbench.experiments import sample_size
    from workbench.experiments.intervals import quantile_interval

    if rule.metric == "cases" or n < 1:
        return f"the dataset has {n} cases" if n < max(rule.value, 1) else None
    if rule.metric == "latency_p95_s":
        total = sample_size.for_proportion(1.0, 0.95, level=level)
        open_end = math.isinf(quantile_interval(range(n), 0.95, level=level).high)
        return f"a 95th percentile takes {total} cases at {level * 100:g} %" if open_end else None
    ends_at_1 = rule.metric == "unscored_rate" or _UNIT.fullmatch(rule.metric) is not None
    if ends_at_1 and rule.comparator != "count" and not 0 <= rule.value <= 1:
        return f"{rule.metric} lies between 0 and 1"
    of_rate = 0 < rule.value <= 1 if rule.comparator == "min" else 0 <= rule.value < 1
    if not of_rate or rule.metric in AMOUNTS or rule.comparator == "count":
        return None
    return _unreachable(rule, n, level)


def _unreachable(rule: Rule, n: int, level: float) -> str | None:
    """Return the reason that the interval of `n` perfect cases misses the bound of a rate, or None."""
    from workbench.experiments import sample_size
    from workbench.experiments.intervals import proportion_interval

    upward = rule.comparator == "min"
    best = 1.0 if upward else 0.0
    if best == rule.value:
        advice = "" if upward or rule.metric in ALWAYS else "; use count: 0"
        return f"no sample shows a rate of exactly {best:g}{advice}"
    found = proportion_interval(best * n, n, level=level)
    if found.low >= rule.value if upward else found.high <= rule.value:
        return None
    end = found.low if upward else found.high
    total = sample_size.for_proportion(best, rule.value, level=level)
    return f"{n} perfect cases show {end:.3f} at {level * 100:g} %; it takes {total}"


def check_tightens(mvp: GateSpec, mlvp: GateSpec, *, where: str = "gates") -> None:
    """Raise ConfigError for lines of `mvp` that `mlvp` drops or loosens, and for a lower confidence."""
    later = {rule.metric: rule for rule in mlvp.rules}
    problems = [looser(rule, later.get(rule.metric)) for rule in mvp.rules]
    if mlvp.confidence < mvp.confidence:
        problems.append(f"confidence {mlvp.confidence:g} is below {mvp.confidence:g}")
    found = [problem for problem in problems if problem]
    if found:
        raise ConfigError(
            f"{where}: mlvp may only tighten the rules of mvp; {'; '.join(found)}",
            hint="write the line into mlvp at least as strict as in mvp",
        )


def looser(rule: Rule, later: Rule | None) -> str | None:
    """Return how `later` is looser than `rule`, or None when it is at least as strict."""
    if later is None:
        return f"{rule.metric} is missing"
    if later.comparator != rule.comparator:
        return f"{rule.metric} changes from {rule.comparator} to {later.comparator}"
    if later.value < rule.value if rule.comparator == "min" else later.value > rule.value:
        return f"{rule.metric} {later.text} is looser than {rule.text}"
    if rule.versus and (later.versus != rule.versus or later.margin > rule.margin):
        return f"{rule.metric} loosens its comparison versus {rule.versus}"
    return _looser_slices(rule, later)


def _looser_slices(rule: Rule, later: Rule) -> str | None:
    """Return how `later` demands less of its slices than `rule`, or None."""
    before, now = rule.of_slice, later.of_slice
    if before is None:
        return None
    if now is None:
        return f"{rule.metric} demands nothing of its worst slice any more"
    if now.value < before.value if rule.comparator == "min" else now.value > before.value:
        return f"{rule.metric} worst slice {now.text} is looser than {before.text}"
    left = sorted(set(rule.by) - set(later.by))
    return f"{rule.metric} judges no slices by {', '.join(left)} any more" if left else None
