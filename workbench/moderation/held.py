"""Keep the answers that wait for a review, sealed, one file each, until they are released or rejected."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol

from workbench import files
from workbench.context import new_id
from workbench.errors import ConfigError, CorruptError, NotFoundError, RefusedError, WorkbenchError, nearest
from workbench.locking import locked

HeldState = Literal["waiting", "released", "rejected"]
_ID: Final = re.compile(r"[0-9a-f]{16}")
_MOST_BYTES: Final = 512 * 2**20


class SealKey(Protocol):
    """A key of one tenant's subject."""

    @property
    def name(self) -> str:
        """The name of the subject's keys, which does not reveal the subject."""

    @property
    def id(self) -> str:
        """The id of this key."""

    def encrypt(self, data: bytes, about: bytes) -> bytes:
        """Return encrypted data, which decrypts only with the same `about`."""

    def decrypt(self, data: bytes, about: bytes) -> bytes:
        """Return the decrypted data; CorruptError for data that was changed."""


class SealKeys(Protocol):
    """The keys of subjects; without its key nobody can read what is kept about a subject."""

    def of(self, tenant: str, subject: str) -> SealKey:
        """Return the key of a tenant's subject."""

    def named(self, name: str, key_id: str) -> SealKey:
        """Return a key by its names; NotFoundError once it was destroyed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTexts:
    """The request and the answer as wire JSON, with the values of pseudonyms, and the answer's text."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    request: dict[str, Any] = field(repr=False)
    answer: dict[str, Any] = field(repr=False)
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAnswer:
    """An answer that waits for a review, or was reviewed: who asked, which check held it; no content.

    `sealed` are its texts, encrypted with the key `key` of the tenant's subject; a rejected answer has none.
    `expires` is the last day on which it is kept.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    id: str
    at: str
    use_case: str
    tenant: str
    principal: str
    target: str
    operation: str
    trace_id: str
    check: str
    expires: str = ""
    state: HeldState = "waiting"
    by: str = ""
    reason: str = ""
    decided: str = ""
    key: tuple[str, str] = ("", "")
    sealed: str = field(default="", repr=False)

    @property
    def about(self) -> bytes:
        """What the seal binds the texts to."""
        bound = [self.id, self.at, self.use_case, self.tenant, self.principal, self.trace_id, self.expires]
        return files.canonical(bound)

    def has_expired(self, today: dt.date) -> bool:
        """Return whether the answer is no longer kept."""
        return bool(self.expires) and self.expires < today.isoformat()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAnswers:
    """The held answers in a folder; only its owner may read the files, and only the keys open the texts."""

    folder: Path
    keys: SealKeys = field(repr=False)
    _purged: list[dt.date] = field(default_factory=list, repr=False, compare=False)

    def keep(self, texts: HeldTexts, *, subject: str = "", **facts: str) -> HeldAnswer:
        """Write an answer and return it with its new id; raise UnavailableError if it cannot be written.

        Answers that have expired are removed, once a day.
        """
        today = dt.date.fromisoformat(facts["at"][:10])
        if self._purged[-1:] != [today]:
            self.purge(today)
            self._purged[:] = [today]
        held = HeldAnswer(id=new_id()[:16], **facts)  # type: ignore[arg-type]  # texts only
        key = self.keys.of(held.tenant, subject)
        data = key.encrypt(files.canonical(dataclasses.asdict(texts)), held.about)
        held = dataclasses.replace(held, key=(key.name, key.id), sealed=base64.b64encode(data).decode())
        self._write(held)
        return held

    def all(self) -> Iterator[HeldAnswer]:
        """Yield the held answers, the oldest first."""
        found = [self._read(path) for path in self.folder.glob("*.json") if _ID.fullmatch(path.stem)]
        yield from sorted(found, key=lambda held: (held.at, held.id))

    def get(self, held: str) -> HeldAnswer:
        """Return a held answer; raise NotFoundError for an unknown id."""
        path = self.folder / f"{held}.json"
        if not _ID.fullmatch(held) or not path.is_file():
            known = [path.stem for path in self.folder.glob("*.json")]
            raise NotFoundError(
                f"no held answer has the id {files.shortened(held)!r} ({nearest(held[:16], known)})",
                hint="workbench moderation held",
            )
        return self._read(path)

    def texts(self, held: HeldAnswer) -> HeldTexts:
        """Return what was asked and answered; raise NotFoundError for a rejected or erased answer."""
        if held.state == "rejected":
            raise NotFoundError(f"the answer {held.id} was rejected by {held.by}, and its texts are deleted")
        try:
            sealed = base64.b64decode(held.sealed, validate=True)
        except ValueError:
            raise CorruptError(f"the held answer {held.id} was changed") from None
        data = self.keys.named(*held.key).decrypt(sealed, held.about)
        where = f"held answer {held.id}"
        return files.parse(HeldTexts, files.parse_json(data.decode(), where=where), where=where)

    def decide(
        self, held: str, state: Literal["released", "rejected"], *, by: str, reason: str, at: str
    ) -> HeldAnswer:
        """Release or reject a waiting answer, and return it; raise RefusedError for one that was decided.

        A rejected answer loses its texts.
        """
        if not reason.strip():
            hint = f'workbench moderation {state.removesuffix("d").removesuffix("e")} ID --reason "why"'
            raise ConfigError("a decision needs a reason", hint=hint)
        self.get(held)
        with locked(self.folder):
            found = self.get(held)
            if found.state != "waiting":
                refused = RefusedError(
                    f"the answer {held} was {found.state} by {found.by} already",
                    hint="workbench moderation held --all",
                )
                refused.exit_code = ConfigError.exit_code  # nothing failed: 3 is a fault
                raise refused
            done = dataclasses.replace(found, state=state, by=by, reason=reason, decided=at)
            if state == "rejected":
                done = dataclasses.replace(done, sealed="")
            self._write(done)
        return done

    def purge(self, today: dt.date) -> int:
        """Remove the answers that expired before `today`, decided or not, and return their number.

        A damaged file stays, because nobody can tell what it is.
        """
        removed = 0
        for path in self.folder.glob("*.json"):
            with contextlib.suppress(WorkbenchError, FileNotFoundError):
                if _ID.fullmatch(path.stem) and self._read(path).has_expired(today):
                    path.unlink()
                    removed += 1
        return removed

    def _read(self, path: Path) -> HeldAnswer:
        text = files.read_text(path, limit=_MOST_BYTES)
        return files.parse(HeldAnswer, files.parse_json(text, where=str(path)), where=str(path))

    def _write(self, held: HeldAnswer) -> None:
        data = files.canonical(dataclasses.asdict(held))
        files.write_atomic(self.folder / f"{held.id}.json", data, private=True)
