"""Read and write in-toto statements: what is said (the predicate) about which files (the subjects)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from workbench import files
from workbench.errors import ConfigError, CorruptError

#: The type of a statement.
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PREDICATE_TYPE = re.compile(r"(?:https://|urn:)[!-~]{1,200}")
_MOST_SUBJECTS, _MOST_NAME = 10_000, 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Digest:
    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _WireSubject:
    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    name: str
    digest: _Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class _WireStatement:
    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    subject: tuple[_WireSubject, ...]
    predicateType: str  # noqa: N815  the specification's name
    predicate: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A file that a statement is about: its name, and its SHA-256 in hexadecimal digits."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """An in-toto Statement v1."""

    predicate_type: str
    subjects: tuple[Subject, ...]
    predicate: Mapping[str, Any]

    @classmethod
    def parse(cls, payload: bytes, *, where: str) -> Statement:
        """Return the statement in an envelope's payload; CorruptError names `where` and what is wrong."""
        try:
            statement = cls._read(files.parse_json(payload.decode(), where=where), where)
            statement.check(where=where)
        except UnicodeDecodeError as error:
            raise CorruptError(f"{where}: not UTF-8 text (byte {error.start})") from None
        except ConfigError as error:
            raise CorruptError(error.message) from None
        return statement

    @classmethod
    def _read(cls, raw: Any, where: str) -> Statement:
        stated = raw.pop("_type", None) if isinstance(raw, dict) else None
        if stated != STATEMENT_TYPE:
            found = files.shortened(repr(stated))
            raise ConfigError(f"{where}: _type is {found}, and {STATEMENT_TYPE!r} is expected")
        wire = files.parse(_WireStatement, raw, where=where)
        subjects = tuple(Subject(name=item.name, sha256=item.digest.sha256) for item in wire.subject)
        return cls(predicate_type=wire.predicateType, subjects=subjects, predicate=wire.predicate)

    def payload(self) -> bytes:
        """Return the statement as canonical JSON; ConfigError for a value that JSON cannot hold."""
        self.check(where="statement")
        raw = {
            "_type": STATEMENT_TYPE,
            "predicateType": self.predicate_type,
            "subject": [{"name": item.name, "digest": {"sha256": item.sha256}} for item in self.subjects],
            "predicate": dict(self.predicate),
        }
        files.check_exact(raw, where="statement")
        return files.canonical(raw)

    def check(self, *, where: str) -> None:
        """Raise ConfigError for a missing or repeated subject, a digest and a type of another form."""
        if not 1 <= len(self.subjects) <= _MOST_SUBJECTS:
            raise ConfigError(
                f"{where}: subject: from 1 to {_MOST_SUBJECTS:,} files, found {len(self.subjects)}"
            )
        if not _PREDICATE_TYPE.fullmatch(self.predicate_type):
            found = files.shortened(self.predicate_type)
            raise ConfigError(f"{where}: predicateType {found!r} is neither an https address nor a urn")
        seen: set[str] = set()
        for item in self.subjects:
            if not item.name or len(item.name) > _MOST_NAME or item.name in seen:
                raise ConfigError(
                    f"{where}: subject {files.shortened(item.name)!r} is empty, long or repeated"
                )
            if not _SHA256.fullmatch(item.sha256):
                raise ConfigError(f"{where}: subject {files.shortened(item.name)!r} has no SHA-256")
            seen.add(item.name)

    def digest_of(self, name: str) -> str:
        """Return the SHA-256 that the statement has for a subject, "" when it names none of this name."""
        return next((item.sha256 for item in self.subjects if item.name == name), "")
