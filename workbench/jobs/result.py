"""The result of a job's run as a card: published, held back or unchanged."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from workbench.display import Card, Shown, degraded_note, fallback_note, number
from workbench.jobs.ledger import JobRun
from workbench.jobs.publishing import PublishedManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult(Shown):
    """The outcome of a run: "published", "held" or "unchanged".

    `folder` holds the output, or the broken rows of a run that was held back.
    """

    slot: str
    outcome: str
    folder: str
    manifest: PublishedManifest

    @property
    def exit_code(self) -> int:
        """1 when the output was held back, else 0."""
        return 1 if self.outcome == "held" else 0

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        return {"slot": self.slot, "outcome": self.outcome, "folder": self.folder, **asdict(self.manifest)}

    def card(self) -> Card:
        """Return the counts, the cost in USD and the folder of the run."""
        made, counts = self.manifest, self.manifest.counts
        cost = "unknown" if made.cost_usd is None else f"{number(made.cost_usd)} USD"
        rows = [
            ["rows", str(counts["rows"])],
            ["answered", str(counts["answered"])],
            ["quarantined", str(counts["quarantined"])],
            ["cost", cost],
            ["output" if self.outcome != "held" else "broken rows", self.folder],
        ]
        notes = {
            "published": "published",
            "held": "held back: too many rows are broken, and nothing was published",
            "unchanged": "nothing to do: this version has published this input for this slot already",
        }
        return Card(
            title=f"{made.job}@{made.version} · {made.at} · {made.tenant or 'all tenants'} · {self.outcome}",
            head=["", ""],
            rows=rows,
            notes=[
                *degraded_note(counts.get("degraded", 0)),
                *fallback_note(counts.get("fallback", 0)),
                notes[self.outcome],
                f"run {made.run}, input {made.input_digest[:12]}",
            ],
            command=f"workbench jobs history {made.job}",
        )


def run_row(run: JobRun) -> tuple[str, ...]:
    """Return a run of the ledger as a row of `jobs history`."""
    took = run.finished_at - run.started_at if run.started_at and run.finished_at else None
    return (
        f"{run.queued_at:%Y-%m-%d %H:%M:%SZ}",
        run.slot.key,
        str(run.version),
        run.outcome or run.state,
        str(run.rows),
        str(run.quarantined),
        "" if run.cost_usd is None else number(run.cost_usd),
        "" if took is None else f"{took.total_seconds():.0f}",
        "; ".join(filter(None, (run.folder, run.detail[:80]))),
    )
