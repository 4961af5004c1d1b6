"""Unsaved texts of prompts in files, so that they outlive the kernel in which they were written.

Each editor has a file of its own: two editors of one person never overwrite each other's text. An editor
begins with the newest file of its prompt and person, and takes it over with its first change.
"""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from workbench import files
from workbench.errors import WorkbenchError
from workbench.types import Role

#: Bytes of a kept text; a longer one stays in the kernel alone.
MOST_BYTES: Final = 8 << 20
#: Files of one prompt and person; the oldest are removed when there are more.
_MOST_FILES: Final = 10
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDraft:
    """An unsaved text: the version it was begun from, and its turns. `at` is the time in UTC."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    format: int
    use_case: str
    prompt: str
    author: str
    base: str
    at: str
    turns: tuple[tuple[Role, str], ...]
    parameters: dict[str, Any] = field(default_factory=dict)


class KeptDrafts:
    """The file of one editor, and the text that it began with."""

    def __init__(self, folder: Path, *, use_case: str, prompt: str, author: str) -> None:
        self._whose = {"use_case": use_case, "prompt": prompt, "author": author}
        self._folder, self._stem = folder, files.digest(self._whose)[:16]
        self.path = folder / f"{self._stem}.{secrets.token_hex(4)}.json"
        self._begun: tuple[Path, bytes] | None = None
        self.damaged: tuple[str, ...] = ()

    def newest(self) -> KeptDraft | None:
        """Return the newest text, which this editor begins with; damaged files are named and stay."""
        found: list[tuple[str, Path, bytes, KeptDraft]] = []
        damaged = []
        for path in self._paths():
            try:
                data = files.read_bytes(path, limit=MOST_BYTES)
                kept = files.parse(
                    KeptDraft, files.parse_json(data.decode(), where=str(path)), where=str(path)
                )
            except (WorkbenchError, UnicodeDecodeError):
                damaged.append(str(path))
                continue
            except FileNotFoundError:  # another editor has taken it over
                continue
            except OSError:
                damaged.append(str(path))
                continue
            if self._is_mine(kept):
                found.append((kept.at, path, data, kept))
        self.damaged = tuple(damaged)
        if not found:
            return None
        _, path, data, kept = max(found, key=lambda item: (item[0], item[1].name))
        self._begun = path, data
        return kept

    def write(self, *, base: str, at: str, turns: Any, parameters: Any) -> bool:
        """Keep a text and take over the one begun with; False for one that is too long.

        Raises UnavailableError where the file cannot be written.
        """
        kept = KeptDraft(
            **self._whose, format=_FORMAT, base=base, at=at, turns=turns, parameters=dict(parameters)
        )
        data = files.canonical(asdict(kept))
        if len(data) > MOST_BYTES:
            return False
        files.write_atomic(self.path, data, private=True)
        self._release_begun()
        self._prune()
        return True

    def discard(self) -> None:
        """Remove the text: it was saved, or given up."""
        with files.writing(self.path):
            self.path.unlink(missing_ok=True)
            self._release_begun()

    def _is_mine(self, kept: KeptDraft) -> bool:
        whose = {name: getattr(kept, name) for name in self._whose}
        last_is_user = bool(kept.turns) and kept.turns[-1][0] == "user"
        return kept.format == _FORMAT and whose == self._whose and last_is_user

    def _release_begun(self) -> None:
        """Remove the file that this editor began with, unless another editor has changed it since."""
        begun, self._begun = self._begun, None
        if begun is not None and begun[0] != self.path:
            with contextlib.suppress(OSError, WorkbenchError):
                if files.read_bytes(begun[0], limit=MOST_BYTES) == begun[1]:
                    begun[0].unlink()

    def _prune(self) -> None:
        paths = self._paths()
        for path in paths[:-_MOST_FILES]:
            if path != self.path:
                path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        """Return the files of this prompt and person, oldest first."""
        timed = []
        for path in self._folder.glob(f"{self._stem}.*.json"):
            with contextlib.suppress(FileNotFoundError):
                timed.append((path.stat().st_mtime_ns, path.name, path))
        return [path for *_, path in sorted(timed)]
