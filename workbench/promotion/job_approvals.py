"""Read the approvals of a job's version: those that count for a label, and why the others do not.

An approval is a signed statement in the folder of the version's evidence. It is about one `job.yaml`, by its
digest, so it fits no other version and no job of another repository.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from workbench import files, registry
from workbench.attestations import Envelope, Statement, Subject, Trust, folder_of, verified
from workbench.attestations.folder import SUFFIX, read
from workbench.attestations.trust import KEYS, person
from workbench.context import instant, is_instant, moment
from workbench.errors import ConfigError, CorruptError, RefusedError, WorkbenchError
from workbench.jobs import spec as jobspec
from workbench.models.approval import same_person
from workbench.promotion.assured import is_authenticated_demanded
from workbench.repository.git import Repository

#: The types of the statements that approve a version and that revoke an approval.
APPROVAL: Final = "urn:workbench:approval:1"
REVOCATION: Final = "urn:workbench:revocation:1"
#: The labels by what depends on a version that has them; an approval for one holds for those before it.
_RANKS: Final = ("candidate", "shadow", "canary", "production")
_NONCE: Final = re.compile(r"[0-9a-f]{32}")
#: Seconds by which the clocks of two machines may differ.
_SKEW_S: Final = 300
_MOST_FILES: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JobApproval:
    """What a person states about a version: that it may have a label, in which role, why and until when.

    `principal` is who approves by the identity provider, with its `assurance`, and `author` by git. The
    approval counts from the instant `at` and before the day `until`. `nonce` names it in a revocation.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    #: Days for which an approval counts at most.
    MOST_DAYS: ClassVar[int] = 365
    job: str
    version: int
    label: str
    principal: str
    assurance: str
    author: str
    role: str
    reason: str
    at: str
    until: str
    nonce: str

    @classmethod
    def of(cls, statement: Statement) -> JobApproval:
        """Return the approval in a statement; raise CorruptError for another statement or form."""
        if statement.predicate_type != APPROVAL:
            raise CorruptError(f"it is a statement of the type {statement.predicate_type}, and no approval")
        try:
            found = files.parse(cls, statement.predicate, where="predicate")
        except ConfigError as error:
            raise CorruptError(error.message) from None
        if not (is_instant(found.at) and _is_day(found.until) and _NONCE.fullmatch(found.nonce)):
            raise CorruptError("predicate: at, until or nonce has another form than an approval's")
        return found

    def statement(self, digest: str) -> Statement:
        """Return the approval as a statement about the `job.yaml` that has this SHA-256."""
        return statement_about(self.job, self.version, digest, APPROVAL, dataclasses.asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionApprovals:
    """The approvals of a version for a label.

    `counted` has one of each person who may approve it, and `independent` those by persons who did not commit
    the notebook last either. `refused` are the other statements with the reasons, and `approvers` the trusted
    principals who may approve and have not.
    """

    label: str
    counted: tuple[JobApproval, ...] = ()
    independent: int = 0
    refused: tuple[tuple[str, str], ...] = ()
    approvers: tuple[str, ...] = ()

    def circumstances(self) -> dict[str, Any]:
        """Return what the policies are asked about the version: label, approvals, independent approvals."""
        return {"label": self.label, "approvals": len(self.counted), "independent": self.independent}

    def lacks(self, reference: str, number: int) -> str:
        """Return that a version lacks a number of approvals, of whom, and why the others do not count."""
        more = f"{number} approval{'s' if number > 1 else ''}"
        text = (
            f"job/{reference} lacks {more} of {' or '.join(map(person, self.approvers)) or 'another person'}"
        )
        return text + "".join(f"; {name} does not count: {reason}" for name, reason in self.refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRules:
    """What an approval of one version is compared with.

    `digest` is that of the version's `job.yaml`. `authors` are the names of who promoted it, by git and by
    the signature of its provenance; `unsigned` is why that signature names nobody. `revoked` are nonces.
    """

    job: str
    version: int
    label: str
    now: dt.datetime
    digest: str
    trust: Trust
    authors: tuple[str, ...]
    revoked: frozenset[str] = frozenset()
    unsigned: str = ""
    authenticated: bool = False

    @classmethod
    def load(cls, root: Path, job: str, version: int, label: str, *, now: dt.datetime) -> ApprovalRules:
        """Return the rules for a version; NotFoundError without it, ConfigError for a wrong file of keys.

        The keys that count are those that are committed.
        """
        page = registry.resolve(root, "job", f"{job}@{version}")
        author = registry.load(root, "job", job).versions[version].author
        repository = Repository(root=root)
        committed = repository.read("HEAD", str(KEYS))
        trust = Trust.parse(committed, where=str(KEYS)) if committed is not None else Trust(keys={})
        signer, unsigned = _promoter(root, job, version, page.digest, trust)
        # Of every commit: whoever removes the page and adds it again is not its only author.
        committers = repository.authors(page.path.relative_to(root).as_posix())
        authors = [author, *committers, signer]
        return cls(
            job=job, version=version, label=label, now=now, digest=page.digest, trust=trust,
            authors=tuple(dict.fromkeys(filter(None, authors))), revoked=_revoked(root, job, version),
            unsigned=unsigned,
            authenticated=is_authenticated_demanded(root, "job", job),
        )  # fmt: skip

    def checked(self, envelope: Envelope, nonce: str) -> JobApproval:
        """Return the approval in an envelope.

        Raise RefusedError, or CorruptError for what is no approval, with the reason why it does not count.
        """
        statement = Statement.parse(envelope.payload, where="statement")
        approval = JobApproval.of(statement)
        found = verified(envelope, self.trust, moment(approval.at), "approver")
        revoked = self.trust.keys[found.key_id].revoked_at
        if revoked and instant(self.now) >= revoked:
            raise RefusedError(f"the key {found.key_id[:16]} of {found.principal} was revoked at {revoked}")
        if found.principal != approval.principal:
            raise RefusedError(
                f"it names {person(approval.principal)}, and the key is that of {person(found.principal)}"
            )
        if approval.nonce != nonce:
            raise RefusedError("its file is not named after its nonce")
        for check in (self._other_version(approval, statement), self._not_now(approval), self._own(approval)):
            for reason in check:
                raise RefusedError(reason)
        return approval

    def _other_version(self, approval: JobApproval, statement: Statement) -> Iterator[str]:
        reference = f"{self.job}@{self.version}"
        stated = statement.digest_of(_subject(self.job, self.version))
        if (approval.job, approval.version) != (self.job, self.version) or len(statement.subjects) != 1:
            yield f"it approves job/{approval.job}@{approval.version}, not {reference}"
        elif stated != self.digest:
            digests = f"{stated[:12] or 'none'} instead of {self.digest[:12]}"
            yield f"it approves another job.yaml than that of {reference} (digest {digests})"
        if not covers(approval.label, self.label):
            yield f"it is for the label {approval.label}, not {self.label}"

    def _not_now(self, approval: JobApproval) -> Iterator[str]:
        if moment(approval.at) > self.now + dt.timedelta(seconds=_SKEW_S):
            yield f"it is of {approval.at}, which is yet to come"
        latest = moment(approval.at).date() + dt.timedelta(days=approval.MOST_DAYS)
        if approval.until > latest.isoformat():
            yield f"it is until {approval.until}, and counts for {approval.MOST_DAYS} days at most"
        if approval.until <= self.now.astimezone(dt.UTC).date().isoformat():
            yield f"it expired: it counted before {approval.until}"
        if approval.nonce in self.revoked:
            yield "it was revoked"

    def _own(self, approval: JobApproval) -> Iterator[str]:
        if self.authenticated and approval.assurance != "authenticated":
            yield f"{person(approval.principal)} was not authenticated, which the use case demands"
        if self.unsigned:
            yield f"who promoted the version is not known: {self.unsigned}"
        if names := by_themselves(approval, self.authors):
            yield f"{person(approval.principal)} is the author of the version ({person(names)})"


def approvals_of(root: Path, job: str, version: int, label: str, *, now: dt.datetime) -> VersionApprovals:
    """Return the approvals of a version of a job for a label, as they count at a time.

    A statement counts once it is committed. Raise ConfigError for a wrong file of trusted keys.
    """
    place = folder_of(job, version)
    paths = sorted((root / place).glob(f"approval-*{SUFFIX}"))
    rules = ApprovalRules.load(root, job, version, label, now=now)
    if len(paths) > _MOST_FILES:
        raise CorruptError(f"{place} holds more than {_MOST_FILES:,} approvals", hint=f"ls {place}")
    # By their bytes: git's status shows no ignored file and nothing behind a link.
    committed = Repository(root=root).unchanged([path.relative_to(root).as_posix() for path in paths])
    counted: dict[str, JobApproval] = {}
    refused: list[tuple[str, str]] = []
    for path in paths:
        name = path.name.removesuffix(SUFFIX)
        try:
            if path.relative_to(root).as_posix() not in committed:
                raise RefusedError("it is not committed")
            approval = rules.checked(read(path, where=name), name.removeprefix("approval-"))
            counted.setdefault(approval.principal, approval)
        except WorkbenchError as error:
            refused.append((name, error.message))
    return VersionApprovals(
        label=label, counted=tuple(counted.values()),
        independent=_independent(root, job, version, tuple(counted.values())), refused=tuple(refused),
        approvers=approvers_of(root, (*rules.authors, *counted)),
    )  # fmt: skip


def approvers_of(root: Path, besides: tuple[str, ...]) -> tuple[str, ...]:
    """Return the principals whose keys are trusted to approve, without the persons in `besides`."""
    names = {
        key.principal
        for key in Trust.load(root).keys.values()
        if "approver" in key.roles and not key.revoked_at
    }
    return tuple(sorted(name for name in names if not any(same_person(name, other) for other in besides)))


def covers(label: str, other: str) -> bool:
    """Whether an approval for a label holds for another: for itself and for those that less depends on.

    Nothing holds for an unknown label, and "" is the label of a version that is run by its number.
    """
    other = other or "production"
    return label == other or (
        label in _RANKS and other in _RANKS and _RANKS.index(other) <= _RANKS.index(label)
    )


def by_themselves(approval: JobApproval, authors: tuple[str, ...]) -> str:
    """Return the author of a version that the approval's person is, "" for another person."""
    names = (approval.principal, approval.author)
    return next((author for author in authors for name in names if same_person(name, author)), "")


def command_of(reference: str, label: str) -> str:
    """Return the command by which another person approves a version for a label."""
    to = f" --to {label}" if label not in {"", "production"} else ""
    return f'workbench approve job/{reference}{to} --reason "…"   # typed by another person'


def statement_about(
    job: str, version: int, digest: str, predicate_type: str, predicate: dict[str, Any]
) -> Statement:
    """Return a statement about the `job.yaml` of a version, by its SHA-256."""
    subject = Subject(name=_subject(job, version), sha256=digest)
    return Statement(predicate_type=predicate_type, subjects=(subject,), predicate=predicate)


def _subject(job: str, version: int) -> str:
    return f"pipelines/jobs/{job}/{version}/{jobspec.PAGE}"


def _promoter(root: Path, job: str, version: int, digest: str, trust: Trust) -> tuple[str, str]:
    """Return the principal whose trusted key signed a version's provenance, and why there is none.

    Both are "" for a version that never had a provenance.
    """
    place = folder_of(job, version) / f"provenance{SUFFIX}"
    path = root / place
    if not path.exists() and not path.is_symlink():
        removed = place.as_posix() in Repository(root=root).paths_changed(place.as_posix())
        return "", "its provenance was removed" if removed else ""
    try:
        envelope = read(path, where="its provenance")
        signer = trust.of(envelope).principal
        about = Statement.parse(envelope.payload, where="its provenance").subjects
    except WorkbenchError as error:
        return "", f"its provenance is {error.message}"
    is_about = any(item.sha256 == digest for item in about)
    return (signer, "") if is_about else ("", "its provenance is of another version")


def _independent(root: Path, job: str, version: int, counted: tuple[JobApproval, ...]) -> int:
    """Return how many approvals are by persons who did not commit the version's notebook last."""
    if not counted:
        return 0
    spec = jobspec.read(registry.path_of(root, "job", job, version))
    repository = Repository(root=root)
    commit = spec.commit if repository.is_ancestor(spec.commit) else "HEAD"
    authors = repository.last_author(spec.notebook, commit=commit)
    return sum(not by_themselves(approval, authors) for approval in counted)


def _revoked(root: Path, job: str, version: int) -> frozenset[str]:
    """Return the nonces of revoked approvals, also where the file of a committed revocation was removed."""
    place = folder_of(job, version)
    found = [*Repository(root=root).paths_changed(place.as_posix()), *map(str, (root / place).glob("*"))]
    names = (path.rpartition("/")[2].removesuffix(SUFFIX) for path in found if path.endswith(SUFFIX))
    return frozenset(name.removeprefix("revocation-") for name in names if name.startswith("revocation-"))


def _is_day(text: str) -> bool:
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
