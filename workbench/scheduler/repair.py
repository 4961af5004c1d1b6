"""Set aside the rows of the job ledger that cannot be read, so that the jobs that they stop run again."""

from __future__ import annotations

from pathlib import Path

import orjson

from workbench.audit import Act, audited
from workbench.errors import CorruptError
from workbench.jobs.ledger import DamagedRow, JobLedger
from workbench.jobs.overview import JobTable
from workbench.layout import JOB_LEDGER, JOB_SET_ASIDE
from workbench.promotion.assured import mover
from workbench.records.log import Lines


def repair(root: Path, ledger: JobLedger, *, dry_run: bool = False) -> JobTable:
    """Move every row that cannot be read from the ledger into a file; return these rows.

    A row is on the disk in the file before it leaves the ledger, so a kill loses none. A pause and a
    withdrawal stay, with the present time. `dry_run` changes nothing. CorruptError for a row that stays.
    """
    found = ledger.all_damaged()
    if found and not dry_run:
        act = Act(
            activity="repair", principal=mover(root).principal, type="Job", name="ledger",
            facts={"rows": [row.name for row in found]},
        )  # fmt: skip
        with audited(root, act):
            for row in found:
                _set_aside(root, ledger, row)
            if left := ledger.all_damaged():  # the bytes of its key are no text
                raise CorruptError(
                    f"{left[0].name} is still in the job ledger: no statement can name it",
                    hint=f"restore {JOB_LEDGER} from a backup",
                )
    done = "would be set aside" if dry_run else f"set aside in {JOB_SET_ASIDE}"
    return JobTable(
        title=f"{len(found)} damaged {'row' if len(found) == 1 else 'rows'} of the job ledger",
        head=("row", "job", "cannot be read"),
        rows=tuple((row.name, row.job, row.why) for row in found),
        command="workbench jobs repair" if dry_run and found else "workbench jobs list",
        notes=(done,) if found else (),
    )


def _set_aside(root: Path, ledger: JobLedger, row: DamagedRow) -> None:
    line = {"table": row.table, "why": row.why, "values": row.values}
    Lines(root / JOB_SET_ASIDE, durable=True).append(orjson.dumps(line))
    ledger.set_aside(row)
