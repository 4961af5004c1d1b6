"""Find the earlier verdict of a stricter gate text on the same cases, and say how the text was loosened.

Fewer cases of the same task count as a looser text.

docs/design/gates.md, "A text that was loosened", defines what counts as loosened and what holds after merges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from workbench import files
from workbench.errors import ConfigError, nearest
from workbench.experiments.gate_spec import GateSpec, Rule, looser
from workbench.types import Verdict

if TYPE_CHECKING:
    from workbench.experiments.gates import GateReport
    from workbench.experiments.runs import Run

_TEXTS = ("task", "settings", "dataset", "phase")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicted:
    """One line of a use case's verdicts: a gate text, what it judged, and what it said.

    `task` is a digest, `settings` that of the resolved prompt, memory and model, and `dataset` that of the
    ids of the `n` cases, because a corrected question is no new case. `scorers` maps each score to the
    identity of its scorer, as JSON.
    """

    task: str
    settings: str
    dataset: str
    n: int
    scorers: Mapping[str, Any]
    phase: str
    gate: GateSpec
    verdict: Verdict

    @classmethod
    def of(cls, report: GateReport, spec: GateSpec, run: Run, scorers: Mapping[str, Any]) -> Verdicted:
        """Return the line of a report that `spec` gave of `run`, whose scores are of `scorers`."""
        used = {name: value for name, value in run.settings.items() if name.endswith("_digest")}
        return cls(
            task=report.task_digest,
            settings=files.digest(used),
            dataset=files.digest(run.case_ids.to_list()),
            n=run.n_cases,
            scorers=scorers,
            phase=report.phase,
            gate=spec,
            verdict=report.verdict,
        )

    @classmethod
    def parse(cls, text: str, *, where: str) -> Verdicted:
        """Parse a line; raise ConfigError, prefixed with `where`, unless it has exactly the known keys."""
        raw = files.parse_json(text, where=where)
        known = (*_TEXTS, "n", "scorers", "gate", "verdict")
        if not isinstance(raw, dict) or set(raw) != set(known):
            raise ConfigError(f"{where}: not a verdict: {_wrong_keys(raw, known)}")
        for key in _TEXTS:
            if not isinstance(raw[key], str) or not raw[key]:
                raise ConfigError(f"{where}: {key} must be text, found {raw[key]!r:.80}")
        if type(raw["n"]) is not int or raw["n"] < 0:
            raise ConfigError(f"{where}: n must be a number of cases, found {raw['n']!r:.80}")
        for key in ("scorers", "gate"):
            if not isinstance(raw[key], dict):
                raise ConfigError(f"{where}: {key} must be an object, found {raw[key]!r:.80}")
        if raw["verdict"] not in get_args(Verdict):
            raise ConfigError(
                f"{where}: verdict must be pass, fail or undecided, found {raw['verdict']!r:.80}"
            )
        return cls(**{**raw, "gate": GateSpec.parse(raw["gate"], where=f"{where}: gate")})

    def line(self) -> str:
        """Return the canonical JSON of the line without its newline; equal content gives an equal text."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return files.canonical({**plain, "gate": self.gate.to_json()}).decode()

    def judges_as(self, other: Verdicted) -> bool:
        """Whether the gate text and the scorers of its metrics are those of `other`."""
        ours, theirs = (
            [verdict.scorers.get(rule.metric) for rule in self.gate.rules] for verdict in (self, other)
        )
        return self.gate.to_json() == other.gate.to_json() and ours == theirs


@dataclass(frozen=True, slots=True, kw_only=True)
class Loosening:
    """An earlier verdict, other than pass, of a text that is stricter in some line than the present one.

    With `same_task`, the earlier text judged the same task and settings, and promotion wants new cases or a
    recorded reason. Without, the loosening is a note. `text` is the sentence for cards and pages.
    """

    same_task: bool
    text: str
    earlier: Verdicted


def loosened(now: Verdicted, before: Sequence[Verdicted]) -> Loosening | None:
    """Return how the text of `now` is looser than a text of `before` that did not pass, or None.

    `before` is in the order of judging and may hold `now` itself. Verdicts on other cases or of another phase
    do not count; fewer cases than before are no other cases, because some were removed. With the same task
    fewer cases are a loosening of their own, whatever the text. Of several, the last on the same task is
    returned, else the last on another task.

    A stricter text does not count when the present text stands before it: with a pass of the same task where
    the stricter text judged that task, with any verdict where it judged another. A line that stands twice
    counts at its first place as the stricter text, and at its last place as the present one.
    """
    alike = [v for v in before if (v.dataset == now.dataset or now.n < v.n) and v.phase == now.phase]
    last = {verdict.line(): place for place, verdict in enumerate(alike)}
    stood = [verdict for verdict in alike if verdict.judges_as(now)]
    passed = [verdict for verdict in stood if verdict.verdict == "pass" and _same_task(verdict, now)]
    since = {
        same: min((last[verdict.line()] for verdict in present), default=math.inf)
        for same, present in ((True, passed), (False, stood))
    }
    found: dict[bool, Loosening] = {}
    for place, verdict in enumerate(alike):
        same = _same_task(verdict, now)
        changes = _changes(verdict, now) + _fewer(verdict, now) * same
        if verdict.verdict != "pass" and place < since[same] and changes:
            text = _sentence(verdict, changes, same=same)
            found[same] = Loosening(same_task=same, text=text, earlier=verdict)
    return found.get(True) or found.get(False)


def _wrong_keys(raw: Any, known: Sequence[str]) -> str:
    if not isinstance(raw, dict):
        return f"expected a JSON object, found {type(raw).__name__}"
    unknown = [key for key in raw if key not in known]
    if unknown:
        return f"unknown key {files.shortened(unknown[0])!r} ({nearest(unknown[0], known)})"
    return f"missing key {next(key for key in known if key not in raw)!r}"


def _same_task(one: Verdicted, other: Verdicted) -> bool:
    return (one.task, one.settings) == (other.task, other.settings)


def _changes(earlier: Verdicted, now: Verdicted) -> list[tuple[str, str]]:
    """Return what the earlier text stated and what stands in its place now, for each loosened line."""
    rules = {rule.metric: rule for rule in now.gate.rules}
    found = []
    for rule in earlier.gate.rules:
        later = rules.get(rule.metric)
        if looser(rule, later):
            found.append((_stated(rule), f"it is {_bound(later)} now" if later else "the line is gone now"))
        elif earlier.scorers.get(rule.metric) != now.scorers.get(rule.metric):
            found.append((_stated(rule), f"another scorer gives {rule.metric} now"))
    if now.gate.confidence < earlier.gate.confidence:
        found.append((f"confidence {earlier.gate.confidence:g}", f"it is {now.gate.confidence:g} now"))
    return found


def _fewer(earlier: Verdicted, now: Verdicted) -> list[tuple[str, str]]:
    """Return the number of cases then and now when some were removed, by quality rules or by hand."""
    return [(f"{earlier.n} cases", f"there are {now.n} cases now")] if now.n < earlier.n else []


def _stated(rule: Rule) -> str:
    return f"{rule.metric} {_bound(rule)}"


def _bound(rule: Rule) -> str:
    versus = f" versus {rule.versus} with margin {rule.margin:g}" if rule.versus else ""
    demand = rule.of_slice
    worst = f", worst slice {demand.text} by {', '.join(rule.by)}" if demand else ""
    return f"{rule.text}{versus}{worst}"


def _sentence(earlier: Verdicted, changes: Sequence[tuple[str, str]], *, same: bool) -> str:
    stated, now = changes[0]
    more = f", and {len(changes) - 1} more changed" if len(changes) > 1 else ""
    if same:
        judged = f"loosened: a text with {stated} judged the same task and cases before"
    else:
        judged = f"an earlier text with {stated} judged another task on the same cases"
    return f"{judged} and said {earlier.verdict}; {now}{more}"
