"""Keep the answers that wait for a review, one private file each, until they are released or rejected."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from workbench import files
from workbench.context import new_id
from workbench.errors import ConfigError, NotFoundError, RefusedError, nearest
from workbench.locking import locked
from workbench.types import JSON

HeldState = Literal["waiting", "released", "rejected"]
_ID: Final = re.compile(r"[0-9a-f]{16}")
_MOST_BYTES: Final = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAnswer:
    """An answer that waits for a review, or was reviewed: who asked what, and which check held it.

    `request` and `answer` are the wire JSON as the model got and gave it, `text` is the answer's text.
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
    request: dict[str, Any] = field(repr=False)
    answer: dict[str, Any] = field(repr=False)
    text: str = field(repr=False)
    state: HeldState = "waiting"
    by: str = ""
    reason: str = ""
    decided: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAnswers:
    """The held answers in a folder; only its owner may read the files."""

    folder: Path

    def keep(self, *, request: JSON, answer: JSON, **facts: str) -> HeldAnswer:
        """Write an answer and return it with its new id; raise UnavailableError if it cannot be written."""
        held = HeldAnswer(id=new_id()[:16], request=dict(request), answer=dict(answer), **facts)  # type: ignore[arg-type]  # texts only
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

    def decide(
        self, held: str, state: Literal["released", "rejected"], *, by: str, reason: str, at: str
    ) -> HeldAnswer:
        """Release or reject a waiting answer, and return it; raise RefusedError for one that was decided.

        A rejected answer loses its request and its texts.
        """
        if not reason.strip():
            raise ConfigError(
                "a decision needs a reason", hint=f'workbench moderation {state} … --reason "why"'
            )
        self.get(held)
        with locked(self.folder):
            found = self.get(held)
            if found.state != "waiting":
                raise RefusedError(
                    f"the answer {held} was {found.state} by {found.by} already",
                    hint="workbench moderation held --all",
                )
            done = dataclasses.replace(found, state=state, by=by, reason=reason, decided=at)
            if state == "rejected":
                done = dataclasses.replace(done, request={}, answer={}, text="")
            self._write(done)
        return done

    def _read(self, path: Path) -> HeldAnswer:
        text = files.read_text(path, limit=_MOST_BYTES)
        return files.parse(HeldAnswer, files.parse_json(text, where=str(path)), where=str(path))

    def _write(self, held: HeldAnswer) -> None:
        data = files.canonical(dataclasses.asdict(held))
        files.write_atomic(self.folder / f"{held.id}.json", data, private=True)
