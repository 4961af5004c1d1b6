"""Approvals of models: who approved which card with which assessment, in which role and until when."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from workbench import files
from workbench.errors import ConfigError
from workbench.layout import ASSESSMENTS

_MOST_BYTES = 1 << 20
_HEAD = (
    "# Written by `workbench approve`. Each line approves one card with one assessment, by their SHA-256;\n"
    "# a change of either needs a new line. To withdraw an approval, remove its line and commit that.\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One approval. `digest` is that of the card and `assessment` that of the assessment's values.

    `by` is a person of the repository's history and `role` the office in which the person approves. The
    approval counts before the day `until`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    card: str
    digest: str
    assessment: str
    by: str
    role: str
    at: str
    until: dt.date
    reason: str

    def line(self) -> str:
        """Return the approval as one line of its file, which is YAML and JSON."""
        return json.dumps({**dataclasses.asdict(self), "until": str(self.until)}, ensure_ascii=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Approvals:
    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    approvals: tuple[Approval, ...]


def path_of(name: str) -> Path:
    """Return the path of a model's approvals, relative to the repository."""
    return Path(ASSESSMENTS) / f"{name}.approvals.yaml"


def read_approvals(root: Path, name: str) -> tuple[Approval, ...]:
    """Return the approvals of a model, oldest first; ConfigError names the file and the key."""
    path = root / path_of(name)
    if not path.exists() and not path.is_symlink():
        return ()
    where = str(path_of(name))
    raw = files.parse_yaml(files.read_text(path, limit=_MOST_BYTES), where=where)
    return files.parse(_Approvals, raw, where=where, hint=f"git checkout -- {where}").approvals


def write_approvals(root: Path, name: str, approvals: Iterable[Approval]) -> Path:
    """Write the approvals of a model atomically; return the path. The caller holds the model's lock."""
    lines = [f"  - {approval.line()}" for approval in approvals]
    text = _HEAD + "\n".join(["approvals:" if lines else "approvals: []", *lines]) + "\n"
    path = root / path_of(name)
    if len(text) > _MOST_BYTES:
        raise ConfigError(
            f"{path_of(name)} would have more than {_MOST_BYTES >> 20} MB",
            hint="remove the lines of cards that are no longer used, and commit that",
        )
    files.write_atomic(path, text.encode())
    return path


def same_person(one: str, other: str) -> bool:
    """Return whether two names are one person's; letter case, spaces and how a sign is made do not count."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    # An accent may be a sign of its own, as systems write it that decompose names.
    return "".join(unicodedata.normalize("NFKC", name).split()).casefold()
