"""Measure a run's output for its checks: counts, rates, groundedness, leaks, drift, latency and cost."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from workbench import files
from workbench.errors import WorkbenchError
from workbench.experiments.inputs import read
from workbench.experiments.usage import chat_calls
from workbench.jobs import drift
from workbench.jobs.drift import Profile
from workbench.jobs.ledger import Slot
from workbench.jobs.row_scores import UNFIT, WRONG_TYPE, grounded_in, reason_of
from workbench.jobs.spec import JUDGED, JobSpec

#: The worker's file of attempts in the run's folder, as `experiments.batch` names it.
_ATTEMPTS = "attempts.jsonl"
#: Return the facts of earlier runs.
Earlier = Callable[[], Sequence[Mapping[str, Any]]]
#: Reasons of an attempt that a control or the model refused.
_REFUSED = frozenset({"policy", "privacy", "moderation", "refusal", "filtered", "budget", "limit"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredOutput:
    """The value of a measure with its bounds, or None with the reason why it cannot be taken."""

    value: float | None
    low: float = math.nan
    high: float = math.nan
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutput:
    """What a run gave: its version, its slot, its folders and files, and the worker's counts.

    `folder` is the version's, `code` its exported commit and `work` the run's. `source` are the rows,
    `journal` the recorded answers of the slot.
    """

    spec: JobSpec
    slot: Slot
    folder: Path
    code: Path
    work: Path
    source: Path
    journal: Path
    counts: Mapping[str, Any]


class Measures:
    """The measures of one output, each computed when it is asked for.

    `earlier` returns the facts of the last published runs of the job and tenant. With a `level`, a rate has
    its exact interval of this level as bounds, as if the rows were drawn.
    """

    def __init__(self, output: RunOutput, earlier: Earlier = tuple, *, level: float | None = None) -> None:
        self._output = output
        self._earlier = earlier
        self._level = level

    def of(self, name: str) -> MeasuredOutput:
        """Return a measure by its name in `MEASURES`; None with a note when a file is unreadable."""
        try:
            found = getattr(self, f"_{name}")()
        except (WorkbenchError, OSError, ValueError, KeyError, TypeError) as error:
            return MeasuredOutput(value=None, note=f"cannot be measured: {type(error).__name__}")
        return found if isinstance(found, MeasuredOutput) else _exact(found)

    @functools.cached_property
    def attempts(self) -> tuple[Mapping[str, Any], ...]:
        """The attempts that the worker told, with the gateway's records; none from an older version."""
        path = self._output.work / _ATTEMPTS
        if not path.is_file():
            return ()
        return tuple(orjson.loads(line) for line in files.read_bytes(path).split(b"\n") if line)

    @functools.cached_property
    def rows(self) -> Mapping[str, Mapping[str, Any]]:
        """The columns of each input row by its id."""
        found = read(self._output.source, tenant=self._output.slot.tenant or None)
        return {row.id: row.columns for row in found if not row.fault}

    @functools.cached_property
    def input_profile(self) -> Profile:
        """The profile of the input's columns."""
        return drift.profile_of(self.rows.values())

    @functools.cached_property
    def answer_profile(self) -> Profile:
        """The profile of the answers' fields."""
        return drift.profile_of(_fields(orjson.loads(item["output"])) for item in self._with_output())

    def _with_output(self) -> list[Mapping[str, Any]]:
        return [item for item in self.attempts if item.get("output") is not None]

    def _count(self, name: str) -> float | None:
        value = self._output.counts.get(name)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def _share(self, part: float | None, whole: float | None) -> MeasuredOutput:
        if part is None or not whole:
            return _exact(None)
        value = part / whole
        if self._level is None:
            return _exact(value)
        from workbench.experiments.intervals import proportion_interval

        found = proportion_interval(part, int(whole), level=self._level)
        return MeasuredOutput(value=value, low=found.low, high=found.high, note=f"of {whole:.0f} rows")

    # -- one method a measure ------------------------------------------------------------

    def _rows(self) -> float | None:
        return self._count("rows")

    def _answered(self) -> float | None:
        return self._count("answered")

    def _quarantined_rate(self) -> MeasuredOutput:
        return self._share(self._count("quarantined"), self._count("rows"))

    def _broken_input_rate(self) -> MeasuredOutput:
        return self._share(self._count("broken_input"), self._count("rows"))

    def _unanswered_rate(self) -> MeasuredOutput:
        broken, rows = self._count("broken_input"), self._count("rows")
        fitting = None if broken is None or rows is None else rows - broken
        return self._share(self._count("broken_answer"), fitting)

    def _refused_rate(self) -> MeasuredOutput:
        return self._share_of_errors(lambda reason: reason in _REFUSED)

    def _schema_rate(self) -> MeasuredOutput:
        return self._share_of_errors(lambda reason: reason not in WRONG_TYPE)

    def _share_of_errors(self, counts: Callable[[str], bool]) -> MeasuredOutput:
        """Return the share of asked rows whose reason of an error, "" without one, counts."""
        asked = [reason for item in self.attempts if (reason := reason_of(item)) != UNFIT]
        return self._share(float(sum(map(counts, asked))), float(len(asked)))

    def _grounded(self) -> MeasuredOutput:
        scores = [grounded_in(item) for item in self._with_output()]
        known = [value for value in scores if value is not None]
        if not known:
            return MeasuredOutput(value=None, note="no answer has passages")
        left = len(scores) - len(known)
        return _exact(sum(known) / len(known), f"{left} answers without passages" if left else "")

    def _pii_leaks(self) -> float | None:
        return float(sum(map(self._leaks, self._with_output()))) if self.attempts else None

    def _leaks(self, item: Mapping[str, Any]) -> bool:
        """Return whether an answer has an identifier or a secret that its row does not have."""
        from workbench.privacy import PatternDetector

        given = "\n".join(_texts(self.rows.get(item["case"], {}))).casefold()
        find = PatternDetector().find
        return any(
            text[found.start : found.end].casefold() not in given
            for text in _texts(orjson.loads(item["output"]))
            for found in find(text)
        )

    def _latency_p95_s(self) -> float | None:
        calls = chat_calls([record for item in self.attempts for record in item["records"]])
        seconds = sorted(
            call["recorded_latency_s"] for call in calls if call.get("recorded_latency_s") is not None
        )
        return float(seconds[math.ceil(0.95 * len(seconds)) - 1]) if seconds else None

    def _cost_usd(self) -> float | None:
        return self._count("cost_usd")

    def _cost_per_row_usd(self) -> float | None:
        cost, rows = self._count("cost_usd"), self._count("rows")
        return None if cost is None or not rows else cost / rows

    def _fallback_rate(self) -> MeasuredOutput:
        return self._share(self._count("fallback") or 0.0, self._count("calls"))

    def _input_drift(self) -> MeasuredOutput:
        published = drift.merged(facts.get("input_profile", {}) for facts in self._earlier())
        sample = self._output.folder / self._output.spec.sample
        own = drift.profile_of(row.columns for row in read(sample)) if drift.rows_of(published) < 30 else {}
        return _drift(self.input_profile, {"published runs": published, "the version's sample": own})

    def _answer_drift(self) -> MeasuredOutput:
        published = drift.merged(facts.get("answer_profile", {}) for facts in self._earlier())
        return _drift(self.answer_profile, {"the judged run": self._judged(), "published runs": published})

    def _judged(self) -> Profile:
        """Return the profile of the answers of the judged run, which the version's evidence holds."""
        from workbench.experiments.runs import load_runs

        runs = load_runs(self._output.folder / JUDGED)
        texts = next(iter(runs)).cases["output"].drop_nulls().to_list()
        return drift.profile_of(_fields(orjson.loads(text)) for text in texts)


def _drift(profile: Profile, references: Mapping[str, Profile]) -> MeasuredOutput:
    """Return the distance from the first reference that has rows enough."""
    for name, reference in references.items():
        found = drift.distance(profile, reference)
        if found is not None:
            return MeasuredOutput(
                value=found.value, low=found.low, high=found.high, note=f"{found.column}, against {name}"
            )
    return MeasuredOutput(value=None, note="fewer than 30 rows on one side")


def _exact(value: float | None, note: str = "") -> MeasuredOutput:
    if value is None:
        return MeasuredOutput(value=None, note=note or "this run does not say it")
    return MeasuredOutput(value=value, low=value, high=value, note=note)


def _fields(output: Any) -> Mapping[str, Any]:
    return output if isinstance(output, Mapping) else {"output": output}


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
