"""Verify the statements about a version: in its repository, or in an exported folder by public keys alone."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from workbench.attestations.bundle import (
    EXPORT,
    INDEX,
    KEYS_FILE,
    PAGE,
    STATEMENTS,
    VERSION,
    Bundle,
    Fault,
    fault_text,
)
from workbench.attestations.dsse import PAYLOAD_TYPE, Envelope
from workbench.attestations.folder import SUFFIX
from workbench.attestations.statement import Statement
from workbench.attestations.trust import Role, Trust, TrustedKey, person
from workbench.context import instant, moment
from workbench.display import Card, Shown
from workbench.errors import CorruptError, WorkbenchError
from workbench.files import ed25519

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

#: The predicate types of an export, and of the list of what was stated at the promotion.
EXPORT_TYPE: Final = "urn:workbench:export:1"
INDEX_TYPE: Final = "urn:workbench:evidence:1"
_MOST_SHOWN: Final = 20
#: The roles in which a statement of a type is signed; another type is signed in any role.
_ROLES: Mapping[str, tuple[Role, ...]] = {
    INDEX_TYPE: ("promoter",),
    "urn:workbench:approval:1": ("approver",),
    "urn:workbench:revocation:1": ("approver",),
    "urn:workbench:withdrawal:1": ("scheduler", "promoter"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A verified statement: its file's name, predicate type and time, and who signed it."""

    name: str
    predicate_type: str
    at: str
    principal: str
    key_id: str

    @property
    def signer(self) -> str:
        """Who signed it, by which key and when."""
        return f"{person(self.principal)} (key {self.key_id[:16]}) at {self.at}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceVerification(Shown):
    """The result: the verified statements and every fault, by file."""

    what: str
    statements: tuple[Signed, ...] = ()
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every file is as it was signed."""
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON."""
        return {
            "what": self.what,
            "passed": self.passed,
            "statements": [dataclasses.asdict(item) for item in self.statements],
            "faults": [dataclasses.asdict(item) for item in self.faults],
            "notes": list(self.notes),
        }

    def card(self) -> Card:
        """Return the faults, or else the statements with who signed them."""
        if self.faults:
            rows = [(item.file, item.what) for item in self.faults[:_MOST_SHOWN]]
            head, more = ("file", "fault"), len(self.faults) - len(rows)
        else:
            rows = [(item.name, item.signer) for item in self.statements[:_MOST_SHOWN]]
            head, more = ("statement", "signed by"), len(self.statements) - len(rows)
        notes = [*self.notes, *([f"and {more:,} more: --json"] if more > 0 else [])]
        return Card(
            title=f"evidence of {self.what}", head=head, rows=rows, notes=notes,
            verdict="pass" if self.passed else "fail",
        )  # fmt: skip


class _Findings:
    """What was verified so far."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.signed: list[Signed] = []
        self.faults = list(faults)

    def fault(self, file: str, what: str) -> None:
        """Add a fault."""
        self.faults.append(Fault(file=file, what=what))


def verify_export(folder: Path, keys: Iterable[Ed25519PublicKey]) -> EvidenceVerification:
    """Verify an exported folder by the public key of who exported it; no repository is needed.

    Every file that was changed, is missing or was added is a fault, and so is each statement that does not
    hold. Raise ConfigError for a folder that is no export.
    """
    bundle = Bundle.of_folder(folder)
    findings = _Findings(bundle.faults)
    try:
        exported = _export_of(bundle, {ed25519.key_id_of(key): key for key in keys})
    except WorkbenchError as error:
        findings.fault(EXPORT, fault_text(EXPORT, error))
        return _result(bundle, findings)
    _check_files(bundle, exported, findings)
    if not findings.faults:
        _check_statements(bundle, findings)
    at, by = exported.predicate.get("at", "?"), person(str(exported.predicate.get("by", "?")))
    return _result(bundle, findings, f"exported by {by} at {at}; {len(bundle.digests):,} files")


def verify_bundle(bundle: Bundle) -> EvidenceVerification:
    """Verify the statements of a bundle by its trusted keys."""
    findings = _Findings(bundle.faults)
    _check_statements(bundle, findings)
    return _result(bundle, findings)


def _result(bundle: Bundle, findings: _Findings, *notes: str) -> EvidenceVerification:
    faults = tuple(Fault(file=_printable(fault.file), what=fault.what) for fault in findings.faults)
    return EvidenceVerification(
        what=bundle.what, statements=tuple(findings.signed), faults=faults, notes=notes
    )


def _printable(name: str) -> str:
    """Return the name of a file with escapes for what is no text and for what a terminal would obey."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in name)


def _export_of(bundle: Bundle, keys: Mapping[str, Ed25519PublicKey]) -> Statement:
    """Return the statement of an export; RefusedError or CorruptError unless one of the keys signed it."""
    if EXPORT not in bundle.contents:
        raise CorruptError("it cannot be read")
    envelope = Envelope.parse(bundle.contents[EXPORT], where=EXPORT)
    key = keys.get(envelope.key_id)
    if key is None:
        given = ", ".join(item[:16] for item in sorted(keys)) or "none"
        raise CorruptError(f"signed by the key {envelope.key_id[:16]!a}, and the given keys are {given}")
    if not envelope.is_signed_by(key) or envelope.payload_type != PAYLOAD_TYPE:
        raise CorruptError("the signature is not that of the given key: it was changed or forged")
    statement = Statement.parse(envelope.payload, where=EXPORT)
    if statement.predicate_type != EXPORT_TYPE:
        raise CorruptError(f"states {statement.predicate_type}, and {EXPORT_TYPE} is expected")
    return statement


def _check_files(bundle: Bundle, exported: Statement, findings: _Findings) -> None:
    """Compare every file with the digest that the export has for it."""
    signed = {item.name: item.sha256 for item in exported.subjects}
    unread = {fault.file for fault in bundle.faults}
    found = {name: digest for name, digest in bundle.digests.items() if name != EXPORT}
    for name in sorted((signed.keys() | found.keys()) - unread):
        if name not in found:
            findings.fault(name, "is missing")
        elif name not in signed:
            findings.fault(name, "was added after the export")
        elif found[name] != signed[name]:
            findings.fault(name, "was changed after the export")


def _check_statements(bundle: Bundle, findings: _Findings) -> None:
    try:
        trust = Trust.parse(bundle.contents.get(KEYS_FILE, b"format: 1\nkeys: []\n"), where=KEYS_FILE)
    except WorkbenchError as error:
        findings.fault(KEYS_FILE, fault_text(KEYS_FILE, error))
        return
    _check_others(bundle, findings)
    read = dict(_read_statements(bundle, findings))
    page = bundle.digests.get(PAGE)
    if page is not None and read and not any(_is_about(statement, page) for _, statement in read.values()):
        findings.fault(PAGE, "was changed: no statement is about this page")
        return
    index = _checked_index(bundle, trust, read, findings)
    listed = {item.name: item.sha256 for item in index.subjects} if index else {}
    for name, (envelope, statement) in read.items():
        at = time_of(statement)
        if index and name.removeprefix(STATEMENTS) in listed:
            at = at or time_of(index)
        if name != INDEX and (at or index):  # without the index, the time of a statement may be unknown
            _check_one(bundle, trust, _ReadStatement(name, envelope, statement, at, listed), findings)


class _ReadStatement(NamedTuple):
    """A statement that was read: its time, and the digests that the verified index lists."""

    name: str
    envelope: Envelope
    statement: Statement
    at: str
    listed: Mapping[str, str]

    @property
    def is_listed(self) -> bool:
        """Whether the index lists the statement."""
        return self.name.removeprefix(STATEMENTS) in self.listed


def _read_statements(bundle: Bundle, findings: _Findings) -> Iterator[tuple[str, tuple[Envelope, Statement]]]:
    """Yield the envelope and the statement of each file that holds one."""
    named = (name for name in bundle.contents if name.startswith(STATEMENTS) and name.endswith(SUFFIX))
    for name in sorted(named):
        try:
            envelope = Envelope.parse(bundle.contents[name], where=name)
            statement = Statement.parse(envelope.payload, where=name)
        except WorkbenchError as error:
            findings.fault(name, fault_text(name, error))
            continue
        yield name, (envelope, statement)


def _checked_index(
    bundle: Bundle, trust: Trust, read: Mapping[str, tuple[Envelope, Statement]], findings: _Findings
) -> Statement | None:
    """Return the verified statement that lists the others, or None after a fault."""
    if INDEX not in read:
        if INDEX not in bundle.digests:
            findings.fault(INDEX, "is missing: no evidence was built for this version")
        return None
    envelope, index = read[INDEX]
    if index.predicate_type != INDEX_TYPE:
        findings.fault(INDEX, f"states {index.predicate_type}, and {INDEX_TYPE} is expected")
        return None
    stated = _ReadStatement(INDEX, envelope, index, time_of(index), {})
    if not _check_one(bundle, trust, stated, findings):
        return None
    _check_index(bundle, index, findings)
    return index


def _check_one(bundle: Bundle, trust: Trust, stated: _ReadStatement, findings: _Findings) -> bool:
    """Whether a statement holds: note who signed it, or else the fault."""
    try:
        key = trust.of(stated.envelope)
        _check_role(key, stated)
        _check_subjects(bundle, stated)
    except WorkbenchError as error:
        findings.fault(stated.name, fault_text(stated.name, error))
        return False
    signed = Signed(
        name=stated.name.removeprefix(STATEMENTS).removesuffix(SUFFIX),
        predicate_type=stated.statement.predicate_type,
        at=stated.at,
        principal=key.principal,
        key_id=key.id,
    )
    findings.signed.append(signed)
    return True


def time_of(statement: Statement) -> str:
    """Return the instant at which a statement says that it was made, "" when it does not say."""
    try:
        at = dt.datetime.fromisoformat(str(statement.predicate.get("at")))
        return instant(at) if at.tzinfo is not None else ""
    except (ValueError, OverflowError):  # the offset may lead out of the years 1 to 9999
        return ""


def _check_role(key: TrustedKey, stated: _ReadStatement) -> None:
    """Raise RefusedError unless the key counted at the statement's time, in a role for its type.

    Raise CorruptError for a payload of another type, and for a statement without a time.
    """
    if stated.envelope.payload_type != PAYLOAD_TYPE:
        raise CorruptError(f"payloadType is not {PAYLOAD_TYPE}")
    if not stated.at:
        raise CorruptError("states no time `at` such as 2026-11-30T12:00:00Z")
    any_role = _ROLES.get(stated.statement.predicate_type, key.roles)
    wanted: tuple[Role, ...] = ("promoter",) if stated.is_listed else any_role
    fitting = [role for role in wanted if role in key.roles]
    key.check(moment(stated.at), fitting[0] if fitting else wanted[0])


def _check_subjects(bundle: Bundle, stated: _ReadStatement) -> None:
    """Raise CorruptError unless the statement is about this version, and about its files as the index is."""
    page = bundle.digests.get(PAGE)
    if page is None:
        raise CorruptError(f"is about {PAGE}, which is missing")
    if not _is_about(stated.statement, page):
        raise CorruptError("is about another version: no subject has the SHA-256 of this version's job.yaml")
    for item in stated.statement.subjects:
        if stated.listed.get(item.name, item.sha256) != item.sha256:
            raise CorruptError(f"states another SHA-256 of {item.name} than the other statements")


def _is_about(statement: Statement, page: str) -> bool:
    """Whether a subject of the statement has the SHA-256 of a version's page."""
    return any(item.sha256 == page for item in statement.subjects)


def _check_index(bundle: Bundle, index: Statement, findings: _Findings) -> None:
    """Compare the statements and the version's files with the digests that the index has for them."""
    unread = {fault.file for fault in bundle.faults}
    listed = {_place(item.name): item.sha256 for item in index.subjects}
    for name, digest in listed.items():
        if name in unread:
            continue
        if name not in bundle.digests:
            findings.fault(name, "is missing")
        elif bundle.digests[name] != digest:
            findings.fault(name, "was changed, or is the statement of another version or time")
    for name in bundle.digests:
        if name.startswith(VERSION) and name not in listed:
            findings.fault(name, "does not belong to the version")


def _place(subject: str) -> str:
    """Return the name in a bundle of a subject of the index."""
    return f"{STATEMENTS if subject.endswith(SUFFIX) else VERSION}{subject}"


def _check_others(bundle: Bundle, findings: _Findings) -> None:
    """Note a fault for each file that is no part of a bundle."""
    for name in bundle.digests:
        known = name.startswith(VERSION) or name in {EXPORT, KEYS_FILE}
        if not known and not (name.startswith(STATEMENTS) and name.endswith(SUFFIX)):
            findings.fault(name, "does not belong to the evidence")
