"""Run versions on trial: a shadow's output is kept, and a canary answers rows of production's run.

A canary never costs a slot its output: when it fails or too many of its rows are broken, production answers
all rows. What both did is compared, and the ledger keeps the differences in the facts of a run:

    trials: [{version: 8, role: canary, guards: {success: {"20": 12.0}}}]
    usage:  {seconds: 0.8, usd: 0.0001}       the means of a run's rows, for the version that ends later
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.errors import CorruptError, NotFoundError, UnavailableError, WorkbenchError
from workbench.jobs import publishing
from workbench.jobs.after_run import AfterRun
from workbench.jobs.ledger import JobLedger, Outcome, Role, Slot
from workbench.jobs.publishing import PublishedManifest
from workbench.jobs.runner import WorkerResult
from workbench.jobs.shares import RowPart, Share, divided, merge_outputs, merged_counts
from workbench.jobs.slots import RunRequest
from workbench.layout import STATE

if TYPE_CHECKING:
    from workbench.experiments.sequential import CountedDifferences

#: The outputs of shadows: SLOT/VERSION, as `published` has SLOT.
SHADOW = STATE / "shadow"

#: Run a worker on the rows of a file: return its result and the folder of its output.
Work = Callable[[bytes], tuple[WorkerResult, Path]]
#: The same of a canary, with what follows from its own rows.
CanaryWork = Callable[[bytes], tuple[WorkerResult, Path, AfterRun]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryAnswer:
    """The result of a run whose rows a canary and production answered, and what the canary did.

    `rows` is the number of rows in the output that the canary answered, `asked` of those it was asked.
    `failure` says why production answered them instead; it is "" otherwise. `made` is the canary's own
    result, and `judged` what follows from its rows; each is None when it has none.
    """

    result: WorkerResult
    rows: int = 0
    asked: int = 0
    failure: str = ""
    made: WorkerResult | None = None
    judged: AfterRun | None = None
    differences: Mapping[str, CountedDifferences] = field(default_factory=dict)
    run: str = ""
    version: int = 0
    share: Share | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What the ledger keeps of production's run: the version of a canary that answered some rows."""
        return {"canary": self.version} if self.rows else {}

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest says of the canary; nothing when it answered no row of the output."""
        if not self.rows or self.share is None or self.made is None:
            return {}
        return {
            "version": self.version, "run": self.run, "rows": self.rows, "share": self.share.share,
            "unit": self.share.unit, "task_digest": self.made.task_digest,
        }  # fmt: skip


def answer_with_canary(
    source: Path, share: Share, *, tenant: str | None, canary: CanaryWork, live: Work, target: Path
) -> CanaryAnswer:
    """Answer the share of the rows of `source` by `canary`, the rest by `live`, and merge both into `target`.

    `live` writes into `target` itself. An error of `canary` is its failure; an error of `live` is raised.
    """
    from workbench.jobs import trials

    ours, rest = divided(source, share, tenant=tenant)
    if not ours.numbers:
        return CanaryAnswer(result=live(source.read_bytes())[0])
    failure, made, out, judged = _tried(canary, ours)
    if failure or made is None or out is None:
        result, live_out = live(source.read_bytes())
        return CanaryAnswer(
            result=result, asked=len(ours.numbers), failure=failure, made=made, judged=judged,
            differences=_unused(len(ours.numbers), made, out, judged, live_out),
        )  # fmt: skip
    count = len(ours.numbers)
    if not rest.numbers:
        merge_outputs({out: ours.numbers}, target)
        return CanaryAnswer(result=made, rows=count, asked=count, made=made, judged=judged)
    result, live_out = live(rest.data)
    compared = trials.canary_differences(trials.measure(out), trials.measure(live_out))
    own = live_out.rename(live_out.with_name(f"{live_out.name}-own"))
    merge_outputs({out: ours.numbers, own: rest.numbers}, target)
    counts = merged_counts([made.counts, result.counts])
    return CanaryAnswer(
        result=dataclasses.replace(result, counts=counts), rows=count, asked=count, made=made,
        judged=judged, differences=compared,
    )  # fmt: skip


def _unused(
    rows: int, made: WorkerResult | None, out: Path | None, judged: AfterRun | None, live_out: Path
) -> Mapping[str, CountedDifferences]:
    """Return the comparison of a canary whose answers are not used; none of another model's."""
    from workbench.jobs import trials

    live = trials.measure(live_out)
    if judged is not None and judged.pauses:
        return {}
    if made is None or out is None or made.counts["held"]:
        return trials.failed_differences(rows, live)
    return trials.canary_differences(trials.measure(out), live)


def _tried(
    canary: CanaryWork, part: RowPart
) -> tuple[str, WorkerResult | None, Path | None, AfterRun | None]:
    """Return why the canary's answers are not used, "" for no reason, and what it made of its rows."""
    try:
        made, out, judged = canary(part.data)
    except WorkbenchError as error:
        return error.message.partition("\n")[0], None, None, None
    broken = f"{made.counts['quarantined']} of {made.counts['rows']} rows are broken"
    reasons = [broken if made.counts["held"] else "", judged.breach if judged.outcome != "publish" else ""]
    return "; ".join(filter(None, reasons)), made, out, judged


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryOrder:
    """A canary of a run: its request with an id of its own, its version and its share of `source`'s rows."""

    slot: Slot
    source: Path
    request: RunRequest
    version: int
    share: Share


def run_canary(
    ledger: JobLedger, order: CanaryOrder, *, canary: CanaryWork, live: Work, work: Path
) -> CanaryAnswer:
    """Answer the rows of a run by a canary and production, with a line of the canary's own in the ledger.

    `work` is the folder of production's run: it holds the whole input and output afterwards.
    """
    data, run = order.source.read_bytes(), order.request.run
    ledger.claim(
        order.slot, run=run, version=order.version, input_digest=files.digest(data), role="canary",
        trigger=order.request.trigger,
    )  # fmt: skip
    ledger.started(run, os.getpid())
    try:
        done = answer_with_canary(
            order.source, order.share, tenant=order.request.tenant, canary=canary, live=live,
            target=work / "out",
        )  # fmt: skip
        end_canary(ledger, run, order.version, done)
    finally:
        if ledger.is_alive(run):
            ledger.finished(run, "interrupted", detail="production did not answer the rest of the rows")
    files.write_atomic(work / "input" / order.source.name, data)  # the checks look at all rows
    return dataclasses.replace(done, run=run, version=order.version, share=order.share)


def end_canary(ledger: JobLedger, run: str, version: int, done: CanaryAnswer) -> None:
    """Finish the ledger's line of a canary: its rows and cost, why it failed, and the comparison."""
    counts = done.made.counts if done.made is not None else {}
    outcome: Outcome = "published" if done.rows else "unchanged" if not done.asked else "failed"
    ledger.finished(
        run,
        outcome,
        rows=counts.get("rows", done.asked),
        quarantined=counts.get("quarantined", 0),
        cost_usd=counts.get("cost_usd"),
        detail=done.failure and f"production answered its {done.asked} rows: {done.failure}",
        facts={
            **trial_facts(version, "canary", done.differences), **(done.judged.facts if done.judged else {})
        },
    )  # fmt: skip


def trial_facts(version: int, role: Role, differences: Mapping[str, CountedDifferences]) -> dict[str, Any]:
    """Return the facts of a comparison for the ledger; none without differences."""
    guards = {metric: found.to_json() for metric, found in differences.items() if found.n}
    return {"trials": [{"version": version, "role": role, "guards": guards}]} if guards else {}


def shadow_folder(root: Path, slot: Slot, version: int) -> Path:
    """Return the folder that keeps what a shadow made of a slot."""
    return root / SHADOW / slot.key / str(version)


def shadow_facts(
    root: Path, ledger: JobLedger, slot: Slot, manifest: PublishedManifest, out: Path
) -> dict[str, Any]:
    """Return the comparison of a shadow's output `out` with what production published from the same input.

    There is none while production has published nothing; then production's own run makes it, with the usage
    that the ledger keeps of this one.
    """
    from workbench.jobs import trials

    shadow = trials.measure(out)
    facts: dict[str, Any] = {"usage": usage} if (usage := shadow.usage()) else {}
    published = _read(publishing.target_of(root, slot))
    if published is None or published.input_digest != manifest.input_digest:
        return facts
    live = trials.measure(publishing.target_of(root, slot))
    compared = trials.shadow_differences(shadow, live, _usage_of(ledger, published.run))
    return facts | trial_facts(manifest.version, "shadow", compared)


def production_facts(
    root: Path, ledger: JobLedger, slot: Slot, manifest: PublishedManifest, out: Path, shadow: int | None
) -> dict[str, Any]:
    """Return what the ledger keeps of production's run beside a shadow: its usage, and their comparison.

    The comparison is made here when the shadow ended before.
    """
    if shadow is None:
        return {}
    from workbench.jobs import trials

    live = trials.measure(out)
    usage = live.usage()
    facts: dict[str, Any] = {"usage": usage} if usage else {}
    kept = _read(shadow_folder(root, slot, shadow))
    if kept is not None and kept.input_digest == manifest.input_digest:
        measured = trials.measure(shadow_folder(root, slot, shadow))
        compared = trials.shadow_differences(measured, live, own=_usage_of(ledger, kept.run))
        facts |= trial_facts(shadow, "shadow", compared)
    return facts


def _read(folder: Path) -> PublishedManifest | None:
    """Return the manifest of an output, None without one and for one that cannot be compared."""
    try:
        return publishing.read(folder)
    except (CorruptError, NotFoundError, UnavailableError):
        return None


def _usage_of(ledger: JobLedger, run: str) -> Mapping[str, float]:
    try:
        found = ledger.run(run).facts.get("usage")
    except NotFoundError:  # the history was purged
        return {}
    return found if isinstance(found, dict) else {}
