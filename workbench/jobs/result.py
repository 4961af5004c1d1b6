"""The result of a job's run as a card: published, held back or unchanged."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from workbench.display import Card, Shown, degraded_note, fallback_note, number
from workbench.jobs.ledger import JobRun
from workbench.jobs.publishing import PublishedManifest

_HELD = frozenset({"held", "rolled_back"})
_BY_CHECK = "held back by a check after the run, and nothing was published"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult(Shown):
    """The outcome of a run: "published", "held", "rolled_back", "unchanged" or "shadowed".

    `folder` holds the output, or what is kept of a run that was held back. `detail` is what the checks after
    the run found.
    """

    slot: str
    outcome: str
    folder: str
    manifest: PublishedManifest
    detail: str = ""

    @property
    def exit_code(self) -> int:
        """1 when the output was held back, else 0."""
        return 1 if self.outcome in _HELD else 0

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        told = {"slot": self.slot, "outcome": self.outcome, "folder": self.folder, **asdict(self.manifest)}
        return told | ({"detail": self.detail} if self.detail else {})

    def card(self) -> Card:
        """Return the counts, the cost in USD and the folder of the run."""
        made, counts = self.manifest, self.manifest.counts
        cost = "unknown" if made.cost_usd is None else f"{number(made.cost_usd)} USD"
        rows = [
            ["rows", str(counts["rows"])],
            ["answered", str(counts["answered"])],
            ["quarantined", str(counts["quarantined"])],
            ["cost", cost],
            [self._kept, self.folder],
        ]
        notes = {
            "published": "published",
            "held": "held back: too many rows are broken, and nothing was published",
            "rolled_back": "held back: the version is taken back, and nothing was published",
            "shadowed": "kept to be compared with production, and not published",
            "unchanged": "nothing to do: this version has published this input for this slot already",
        }
        return Card(
            title=f"{made.job}@{made.version} · {made.at} · {made.tenant or 'all tenants'} · {self.outcome}",
            head=["", ""],
            rows=rows,
            notes=[
                *degraded_note(counts.get("degraded", 0)),
                *fallback_note(counts.get("fallback", 0)),
                *filter(None, [self.detail]),
                notes[self.outcome] if not (self.detail and self.outcome == "held") else _BY_CHECK,
                f"run {made.run}, input {made.input_digest[:12]}",
            ],
            command=f"workbench jobs history {made.job}",
        )

    @property
    def _kept(self) -> str:
        """What the folder holds, in two words."""
        if self.outcome not in _HELD:
            return "output"
        return "broken rows" if self.folder.endswith(".parquet") else "held output"


def run_row(run: JobRun) -> tuple[str, ...]:
    """Return a run of the ledger as a row of `jobs history`."""
    took = run.finished_at - run.started_at if run.started_at and run.finished_at else None
    attempt = f"attempt {run.attempt}" if run.attempt > 1 else ""
    return (
        f"{run.queued_at:%Y-%m-%d %H:%M:%SZ}",
        run.slot.key if run.role == "production" else f"{run.slot.key} ({run.role})",
        str(run.version or ""),
        run.outcome or run.state,
        str(run.rows),
        str(run.quarantined),
        "" if run.cost_usd is None else number(run.cost_usd),
        "" if took is None else f"{took.total_seconds():.0f}",
        "; ".join(filter(None, (attempt, run.folder, run.detail[:80]))),
    )
