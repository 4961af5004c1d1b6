"""Take a version back: withdraw it at once, then state, move and tell it in steps that a kill cannot part.

The order is written first and removed last, so `finish_withdrawals` finds what was interrupted. Each step
finds out whether it is done. From the first step on, no server runs the version by its label.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from workbench import files, identity, registry
from workbench.attestations.folder import SUFFIX, folder_of, remove_leftovers, store
from workbench.attestations.keys import signed
from workbench.attestations.statement import Statement, Subject
from workbench.audit import Act, Filter, audited, rows_of
from workbench.config.operations import load_operations
from workbench.context import Clock, SystemClock, instant
from workbench.display import Card, Shown
from workbench.errors import NotFoundError, WorkbenchError
from workbench.jobs import roles
from workbench.jobs.ledger import JobLedger, PostedNotice
from workbench.jobs.roles import WITHDRAWALS
from workbench.layout import AUDIT, AUDIT_KEYS
from workbench.notices.notice import Event, JobNotice
from workbench.policy import authorise
from workbench.promotion import release
from workbench.promotion.assured import check_authenticated, mover
from workbench.registry import Asset

PREDICATE = "urn:workbench:withdrawal:1"
_MOST_TEXT = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalOrder:
    """An order to take a version back: why, by whom and when, and what shows it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    job: str
    version: int
    reason: str
    evidence: str
    by: str
    at: str

    @property
    def reference(self) -> str:
        """The version as a reference, such as `answers@8`."""
        return f"{self.job}@{self.version}"

    @property
    def id(self) -> str:
        """The digest by which the audit log tells this order from others of the version."""
        return files.digest(f"{self.reference} {self.at}".encode())[:16]

    @property
    def statement_name(self) -> str:
        """The name of its statement among those about the version."""
        return f"withdrawal-{self.at.replace(':', '').replace('-', '').lower()}"

    @property
    def statement(self) -> Path:
        """The path of its statement, relative to the repository."""
        return folder_of(self.job, self.version) / f"{self.statement_name}{SUFFIX}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBack(Shown):
    """A version that was taken back, and the version that runs by each of its labels now (0: none).

    `problems` are the steps that failed and are tried again. `committed` is the id of the commit, "" without.
    """

    order: WithdrawalOrder
    labels: dict[str, int]
    committed: str = ""
    command: str = ""
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        return dataclasses.asdict(self)

    def card(self) -> Card:
        """Return what runs now, why, and what is left to do."""
        job = self.order.job
        rows = [
            (label, self.order.reference, f"{job}@{number}" if number else "none: runs are refused")
            for label, number in self.labels.items()
        ]
        return Card(
            title=f"{self.order.reference} is withdrawn: {self.order.reason}",
            head=("label", "before", "now"),
            rows=rows,
            notes=[f"not done yet: {problem}" for problem in self.problems],
            command=self.command or f"workbench jobs rollout {job}",
        )


def take_back(
    root: Path,
    ledger: JobLedger,
    job: str,
    version: int,
    *,
    reason: str,
    evidence: str = "",
    clock: Clock | None = None,
) -> TakenBack:
    """Withdraw a version at once, and roll its labels back, with a statement, an audit row and a notice.

    A failure after the withdrawal is in `problems`: the version stays withdrawn, and `finish_withdrawals`
    tries the step again. A version that is being withdrawn already is finished. Raise NotFoundError for an
    unknown version, and the ledger's error when it cannot withdraw.
    """
    registry.resolve(root, "job", f"{job}@{version}")
    order = WithdrawalOrder(
        job=job, version=version, reason=" ".join(reason.split())[:_MOST_TEXT], evidence=evidence,
        by=identity.of_job(job).name, at=instant((clock or SystemClock()).now()),
    )  # fmt: skip
    path = root / WITHDRAWALS / f"{order.reference}.json"
    with registry.locked(path.parent):
        begun = _read(path)
        if begun is None:
            files.write_atomic(path, files.pretty(dataclasses.asdict(order)))
        resumed = begun is not None
        return _finished(root, ledger, path, begun or order, clock or SystemClock(), resumed=resumed)


def finish_withdrawals(root: Path, ledger: JobLedger, *, clock: Clock | None = None) -> list[TakenBack]:
    """Finish the withdrawals that were interrupted on this machine; return them."""
    folder = root / WITHDRAWALS
    if not folder.is_dir() or not any(folder.glob("*.json")):
        return []
    with registry.locked(folder):
        orders = [(path, _read(path)) for path in sorted(folder.glob("*.json"))]
        return [
            _finished(root, ledger, path, order, clock or SystemClock(), resumed=True)
            for path, order in orders
            if order is not None
        ]


def _read(path: Path) -> WithdrawalOrder | None:
    if not path.is_file():
        return None
    text = files.read_text(path, limit=1 << 16)
    return files.parse(WithdrawalOrder, files.parse_json(text, where=str(path)), where=str(path))


def _finished(
    root: Path, ledger: JobLedger, path: Path, order: WithdrawalOrder, clock: Clock, *, resumed: bool
) -> TakenBack:
    ledger.withdraw(
        order.job, order.version, by=order.by, reason=order.reason, evidence=order.statement.as_posix()
    )
    act = Act(
        activity="withdraw", principal=identity.of_job(order.job), type="Job", name=order.reference,
        reason=order.reason,
        facts={"evidence": files.digest(order.evidence.encode())[:16], "order": order.id},
    )  # fmt: skip
    done = TakenBack(order=order, labels={})
    try:
        if resumed and _is_audited(root, order):
            done = _rolled_back(root, ledger, order, clock)
        else:
            with audited(root, act) as facts:
                done = _rolled_back(root, ledger, order, clock)
                facts |= {"labels": done.labels}
    except WorkbenchError as error:  # the version is withdrawn all the same, and that is told
        done = dataclasses.replace(done, problems=(error.message,), command=error.hint)
    ledger.post(_notice(root, order, done))
    if not done.problems:
        path.unlink()
    return done


def _is_audited(root: Path, order: WithdrawalOrder) -> bool:
    """Return whether the audit log has the end of this order: a kill came after it."""
    rows = rows_of(root / AUDIT, Filter(action="withdraw"), root / AUDIT_KEYS)
    ended = (row.get("facts") or {} for row in rows if row.get("status") == "Success")
    return any(facts.get("order") == order.id for facts in ended)


def _notice(root: Path, order: WithdrawalOrder, done: TakenBack) -> PostedNotice:
    """Return the notice of a withdrawal, one for each order."""
    event: Event = "withdrawn" if done.labels.get("production", 1) == registry.NO_VERSION else "rolled_back"
    now = ", ".join(f"{label} is {number or 'none'}" for label, number in done.labels.items())
    problems = "; ".join(f"not done yet: {problem}" for problem in done.problems)
    detail = "; ".join(filter(None, (order.reason, now, problems)))
    when = dt.datetime.fromisoformat(order.at)
    notice = JobNotice.of_version(event, order.job, order.version, when, detail=detail)
    return PostedNotice(**notice.posting(load_operations(root).of(order.job).notify))


def _rolled_back(root: Path, ledger: JobLedger, order: WithdrawalOrder, clock: Clock) -> TakenBack:
    """Store the statement, move the labels, and commit both where the operations say so."""
    written = [_stated(root, order)]
    with registry.locked(registry.folder_of(root, "job", order.job)):
        asset = registry.load(root, "job", order.job)
        moves = {step.label: step for step in _moves(asset, order, roles.withdrawn_in(ledger, order.job))}
        for step in moves.values():
            written += release.write_move(root, asset, step, clock=clock)
            asset = registry.load(root, "job", order.job)
    # Also without a move: the one of an interrupted order may be uncommitted.
    written += [release.page_of(root, asset), release.write_stages(root)]
    commit = load_operations(root).of(order.job).rollback.commit
    message = f"Withdraw job/{order.reference}: {order.reason[:200]}"
    after = f"workbench jobs history {order.job}"
    committed, command = release.settle(
        root, written, message=message, commit=commit, after=after, exact=True
    )
    return TakenBack(order=order, labels=_now(asset, order), committed=committed, command=command)


def _stated(root: Path, order: WithdrawalOrder) -> Path:
    """Store the signed statement about the withdrawal; return its path. The order decides each byte."""
    path = root / order.statement
    if path.is_file():
        remove_leftovers(root, order.job)
        return path
    page = registry.path_of(root, "job", order.job, order.version)
    digest = registry.load(root, "job", order.job).versions[order.version].digest
    statement = Statement(
        predicate_type=PREDICATE,
        subjects=(Subject(name=page.relative_to(root).as_posix(), sha256=digest),),
        predicate=dataclasses.asdict(order),
    )
    return store(root, order.job, order.version, order.statement_name, signed(root, statement, order.by))


def _moves(asset: Asset, order: WithdrawalOrder, withdrawn: frozenset[int]) -> list[release.LabelMove]:
    """Return the moves of the labels that are on the version: back, or away where nothing precedes it."""
    return [
        release.LabelMove(
            label=label, reason=_reason(order),
            version=roles.version_before(asset, label, withdrawn | {order.version}),
        )
        for label in (*registry.TRIALS, "production")
        if asset.labels.get(label) == order.version
    ]  # fmt: skip


def _now(asset: Asset, order: WithdrawalOrder) -> dict[str, int]:
    """Return the version that each label has now which this order moved."""
    return {
        move.label: asset.labels.get(move.label, registry.NO_VERSION)
        for move in asset.moves
        if move.reason == _reason(order)
    }


def _reason(order: WithdrawalOrder) -> str:
    """Return the reason of the label's move; the time tells it from a former order of the same version."""
    return f"@{order.version} was withdrawn at {order.at}: {order.reason}"


def restore_version(root: Path, ledger: JobLedger, reference: str, *, reason: str) -> None:
    """End the withdrawal of a version such as `answers@8`; no label moves.

    Raise PolicyError when no policy permits the user of this process to promote it, and NotFoundError for a
    version that is unknown or not withdrawn. The audit log has the beginning and the end.
    """
    version = registry.resolve(root, "job", reference)
    who = mover(root)
    act = Act(activity="restore", principal=who.principal, type="Job", name=str(version), reason=reason)
    with audited(root, act) as facts:
        about = authorise.asset("job", version.name, version=version.number)
        context = authorise.system_context(root, "", found=who)
        facts["decision"] = authorise.authorise(root, context, "promote", about).to_json()
        check_authenticated(root, "job", version.name, verb="restore")
        if not ledger.restore(version.name, version.number):
            raise NotFoundError(f"{version} is not withdrawn", hint=f"workbench jobs rollout {version.name}")
