"""Build, list, verify and export the evidence of a job's version: signed statements beside its folder."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from workbench import files, registry
from workbench.attestations import (
    Envelope,
    SigningKey,
    Statement,
    Subject,
    Trust,
    bundle,
    store,
    verification,
)
from workbench.attestations import folder as statements
from workbench.attestations.bundle import Bundle
from workbench.attestations.trust import KEYS, person
from workbench.attestations.verification import EvidenceVerification
from workbench.context import Clock, SystemClock, instant, moment
from workbench.display import Card, Shown
from workbench.errors import ConfigError, CorruptError, WorkbenchError
from workbench.files import folders
from workbench.jobs import spec as jobspec
from workbench.layout import CACHE, LOCK
from workbench.promotion import bill_of_materials, release, version_statements, vulnerabilities
from workbench.promotion.assured import mover
from workbench.promotion.bill_of_materials import Package
from workbench.promotion.release import Released
from workbench.promotion.version_statements import StatedVersion, summary_of
from workbench.promotion.vulnerabilities import ScanReport
from workbench.repository.git import Repository

#: The statement that lists the others; it is written last, so that a folder without it is built again.
INDEX: Final = "evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceOptions:
    """Options of a build: a scanner's report, whether it is part of the promotion, and whether to commit."""

    report: Path | None = None
    promoting: bool = False
    commit: bool = False
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltEvidence(Shown):
    """The statements that were written, by name, with their predicate types."""

    reference: str
    key_id: str
    principal: str
    statements: Mapping[str, str]
    paths: tuple[Path, ...]
    trusted: bool
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON."""
        return {
            "reference": self.reference, "key_id": self.key_id, "principal": self.principal,
            "statements": dict(self.statements), "trusted": self.trusted, "command": self.command,
        }  # fmt: skip

    @property
    def note(self) -> str:
        """What is missing so that the evidence verifies, "" when nothing is."""
        if self.trusted:
            return ""
        return f"the key {self.key_id[:16]} is not in {KEYS} as a promoter's: workbench evidence trust"

    def card(self) -> Card:
        """Return the statements and who signed them."""
        notes = [f"signed by {person(self.principal)}, key {self.key_id[:16]}", *filter(None, [self.note])]
        return Card(
            title=f"evidence of job/{self.reference}", head=("statement", "type"),
            rows=list(self.statements.items()), notes=notes, command=self.command,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEvidence(Shown):
    """The statements about a version by name, and their verification."""

    verification: EvidenceVerification
    statements: Mapping[str, Statement]

    def to_json(self) -> dict[str, Any]:
        """Return the verification and the predicate of each statement."""
        told = {
            name: {"predicate_type": item.predicate_type, "predicate": dict(item.predicate)}
            for name, item in self.statements.items()
        }
        return {**self.verification.to_json(), "predicates": told}

    def card(self) -> Card:
        """Return what each statement says, and who signed it."""
        verified = self.verification.statements
        signers = {item.name: f"{person(item.principal)} at {item.at}" for item in verified}
        rows = [
            (name, summary_of(item), signers.get(name, "does not verify"))
            for name, item in self.statements.items()
        ]
        notes = [f"{item.file}: {item.what}" for item in self.verification.faults]
        return Card(
            title=f"evidence of {self.verification.what}", head=("statement", "says", "signed by"), rows=rows,
            notes=notes, verdict="pass" if self.verification.passed else "fail",
        )  # fmt: skip


def build(root: Path, reference: str, options: EvidenceOptions) -> BuiltEvidence:
    """Build the evidence of `job/NAME@N`, signed by this process's principal; return what was written.

    Evidence that exists is kept: then only a scanner's report is added, as a statement of its own. Raise
    ConfigError when there is nothing to add, and CorruptError when a file of the version was changed.
    """
    name, number = version_of(root, reference)
    with registry.locked(root / statements.folder_of(name, number)):
        version = _stated(root, name, number, options)
        exists = (root / statements.path_of(name, number, INDEX)).is_file()
        if exists and options.report is None and not options.promoting:
            raise ConfigError(
                f"job/{version.spec.reference} has its evidence already, which is never changed",
                hint=f"workbench evidence show job/{version.spec.reference}",
            )
        made = _later(version, options) if exists else _first(version, options)
        built = _written(root, version, made, replace=not exists)
    if options.promoting:
        return built
    after = f"workbench evidence verify job/{version.spec.reference}"
    message = f"Add evidence of job/{version.spec.reference}"
    _, command = release.settle(root, list(built.paths), message=message, commit=options.commit, after=after)
    return dataclasses.replace(built, command=command)


def check_possible(root: Path) -> None:
    """Raise ConfigError unless a promotion can build evidence: with a key that signs, and a lock of packages.

    The key of this process's principal is created on first use.
    """
    SigningKey.load(root, mover(root).principal.name)
    bill_of_materials.packages_of(files.read_bytes(root / LOCK), where=LOCK)


def added(root: Path, name: str, number: int, card: Released, clock: Clock) -> Released:
    """Build the evidence of a version as a part of its promotion; return the card with what it lacks."""
    built = build(root, f"job/{name}@{number}", EvidenceOptions(promoting=True, clock=clock))
    return dataclasses.replace(card, notes=(*card.notes, *filter(None, [built.note])))


def version_of(root: Path, reference: str) -> tuple[str, int]:
    """Return the name and the number of `job/NAME@N`; ConfigError for another kind of asset."""
    kind, ref = release.parse(reference)
    if kind != "job":
        raise ConfigError(
            f"{reference!r} is no job, and only versions of jobs have evidence",
            hint="workbench evidence show job/NAME@N",
        )
    found = registry.resolve(root, "job", reference.partition("/")[2])
    return ref.name, found.number


def verify(root: Path, reference: str) -> EvidenceVerification:
    """Verify the evidence of `job/NAME@N` by the keys that the repository trusts."""
    return verification.verify_bundle(_bundle(root, *version_of(root, reference)))


def export(root: Path, reference: str, target: Path, *, clock: Clock | None = None) -> EvidenceVerification:
    """Copy a version and its evidence into a new folder that an auditor verifies with one public key.

    The folder is signed by this process's principal. Raise ConfigError when the folder exists, and
    CorruptError for evidence that does not verify.
    """
    name, number = version_of(root, reference)
    if target.exists() or target.is_symlink():
        raise ConfigError(f"{target} exists", hint=f"workbench evidence export {reference} OTHER")
    found = verification.verify_bundle(_bundle(root, name, number))
    if not found.passed:
        first = found.faults[0]
        raise CorruptError(
            f"job/{name}@{number} is not exported: {first.file}: {first.what}",
            hint=f"workbench evidence verify job/{name}@{number}",
        )
    key = SigningKey.load(root, mover(root).principal.name)
    with folders.written(target) as new:
        predicate = {"at": instant((clock or SystemClock()).now()), "job": name, "version": number}
        _copy(_places(root, name, number), new, key, predicate)
    return verification.verify_export(target, [key.key.public_key()])


def _copy(places: Mapping[str, Path], new: Path, key: SigningKey, predicate: dict[str, Any]) -> None:
    """Write files into a new folder, and the signed list of their digests."""
    subjects = []
    for name, path in places.items():
        data = files.read_bytes(path)
        files.write_atomic(new / name, data)
        subjects.append(Subject(name=name, sha256=files.digest(data)))
    statement = Statement(
        predicate_type=verification.EXPORT_TYPE,
        subjects=tuple(subjects),
        predicate={**predicate, "by": key.principal},
    )
    files.write_atomic(new / bundle.EXPORT, key.sign(statement).to_bytes())


def stated(root: Path, reference: str) -> ShownEvidence:
    """Return the statements about `job/NAME@N`, with who signed each, and what does not verify."""
    name, number = version_of(root, reference)
    found = _bundle(root, name, number)
    read: dict[str, Statement] = {}
    for item, data in found.contents.items():
        with contextlib.suppress(WorkbenchError):  # the verification names it
            envelope = Envelope.parse(data, where=item)
            short = item.removeprefix(bundle.STATEMENTS).removesuffix(statements.SUFFIX)
            read[short] = Statement.parse(envelope.payload, where=item)
    return ShownEvidence(verification=verification.verify_bundle(found), statements=read)


def _bundle(root: Path, name: str, number: int) -> Bundle:
    return Bundle.of(f"job/{name}@{number}", _places(root, name, number))


def _places(root: Path, name: str, number: int) -> dict[str, Path]:
    """Return the files of a version, its statements and the trusted keys, by their names in a bundle."""
    page = registry.path_of(root, "job", name, number)
    of_version = {f"{bundle.VERSION}{item}": path for item, path in bundle.entries_below(page.parent)}
    stated = root / statements.folder_of(name, number)
    found = (item for item in bundle.entries_below(stated) if not files.is_aside(item[1].name))
    stated_files = {f"{bundle.STATEMENTS}{item}": path for item, path in found}
    keys = {bundle.KEYS_FILE: root / KEYS} if (root / KEYS).exists() else {}
    return {**of_version, **stated_files, **keys}


def _stated(root: Path, name: str, number: int, options: EvidenceOptions) -> StatedVersion:
    """Return a version whose files are as they were promoted, with the files of its commit."""
    spec, folder = jobspec.load(root, name, number)
    commit = jobspec.code_of(root, spec)
    code = Repository(root=root).export(commit, root / CACHE / "code" / commit)
    return StatedVersion(
        spec=spec, folder=folder, code=code, commit=commit, at=instant(options.clock.now()),
        by=mover(root).principal.name, promoting=options.promoting,
    )  # fmt: skip


def _first(version: StatedVersion, options: EvidenceOptions) -> dict[str, Statement]:
    """Return the statements of a version without evidence; the index, which lists the others, is last."""
    packages = _packages(version)
    page = version.subjects()[0].sha256
    sbom = bill_of_materials.bill(
        packages, job=version.spec.job, version=version.spec.version, page=page, at=moment(version.at)
    )
    return {
        "provenance": version_statements.provenance(version),
        "test-result": version_statements.test_result(version),
        "assessment": version_statements.impact_assessment(version),
        "sbom": version.statement(bill_of_materials.SBOM_TYPE, sbom),
        "vulnerabilities": _scanned(version, options.report, packages),
    }


def _later(version: StatedVersion, options: EvidenceOptions) -> dict[str, Statement]:
    """Return the statement that a scanner's report adds to evidence, if there is one."""
    if options.report is None:
        return {}
    name = f"vulnerabilities-{re.sub(r'[^0-9]', '', version.at)}"
    return {name: _scanned(version, options.report, _packages(version))}


def _scanned(version: StatedVersion, report: Path | None, packages: Sequence[Package]) -> Statement:
    if report is None:
        return version.statement(vulnerabilities.NOT_SCANNED_TYPE, vulnerabilities.not_scanned(version.at))
    found = ScanReport.read(report, packages).predicate(version.at)
    return version.statement(vulnerabilities.VULNERABILITIES_TYPE, found)


def _packages(version: StatedVersion) -> tuple[Package, ...]:
    """Return the packages of the version's lock."""
    data = files.read_bytes(version.code / LOCK)
    if files.digest(data) != version.spec.digests["lock"]:
        raise CorruptError(
            f"{LOCK} of commit {version.commit[:12]} is not the lock of {version.spec.reference}",
            hint=f"git fsck; rm -r {CACHE / 'code' / version.commit}",
        )
    return bill_of_materials.packages_of(data, where=LOCK)


def _written(
    root: Path, version: StatedVersion, made: Mapping[str, Statement], *, replace: bool
) -> BuiltEvidence:
    """Sign and store statements, and the index of a version's first ones as the last."""
    spec, key = version.spec, SigningKey.load(root, version.by)
    paths = []
    signed = {name: key.sign(statement) for name, statement in made.items()}
    if replace:
        signed[INDEX] = key.sign(_index(root, version, signed))
    for name, envelope in signed.items():
        paths.append(store(root, spec.job, spec.version, name, envelope, replace=replace))
    types = {name: statement.predicate_type for name, statement in made.items()}
    return BuiltEvidence(
        reference=spec.reference,
        key_id=key.key_id,
        principal=version.by,
        statements=types | ({INDEX: verification.INDEX_TYPE} if replace else {}),
        paths=tuple(paths),
        trusted=_is_trusted(root, key.key_id, version.at),
    )


def _index(root: Path, version: StatedVersion, signed: Mapping[str, Envelope]) -> Statement:
    """Return the statement of the SHA-256 of each file of a version and of each statement about it."""
    spec = version.spec
    listed = [
        Subject(name=f"{name}{statements.SUFFIX}", sha256=files.digest(envelope.to_bytes()))
        for name, envelope in signed.items()
    ]
    moves = registry.load(root, "job", spec.job).moves
    promoted = next((move.at for move in moves if move.version == spec.version), "")
    predicate = {
        "at": version.at,
        "by": version.by,
        "job": spec.job,
        "version": spec.version,
        "promoted_at": promoted,
        "built": f"{'with' if version.promoting else 'after'} the promotion",
    }
    subjects = (*version.subjects(*sorted(spec.files)), *listed)
    return Statement(predicate_type=verification.INDEX_TYPE, subjects=subjects, predicate=predicate)


def _is_trusted(root: Path, key_id: str, at: str) -> bool:
    """Whether the repository trusts a key as a promoter's at an instant."""
    try:
        key = Trust.load(root).keys.get(key_id)
        if key is not None:
            key.check(moment(at), "promoter")
    except WorkbenchError:
        return False
    return key is not None
