"""What `workbench init` is asked for, and the names that it accepts."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workbench import config, files
from workbench.errors import ConfigError, nearest
from workbench.retrieval.reading import Unreadable
from workbench.scaffold import rendering

#: A name of folders, files, assets and stages, and a key that YAML reads as text.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_LETTERS = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "ø": "oe", "å": "aa", "đ": "d"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitOrder:
    """The arguments of `workbench init`; None and "" stand for defaults.

    `tenant` makes all documents and questions those of one tenant. `access` and `unreadable` are those of
    `wb.load`. `columns` names columns of the questions by their keys: `{"question": "Frage"}`.
    """

    name: str
    kind: str = "answer"
    docs: Path | None = None
    questions: Path | None = None
    notebook: Path | None = None
    access: Path | None = None
    unreadable: Unreadable = "stop"
    columns: Mapping[str, str] = field(default_factory=dict)
    tenant: str | None = None
    title: str = ""
    owner: str = ""
    purpose: str = ""

    def check(self) -> None:
        """Raise ConfigError for an invalid name, kind or tenant, and for a missing argument."""
        check_name(self.name)
        if self.kind not in rendering.kinds():
            near = difflib.get_close_matches(self.kind, rendering.kinds(), 1, cutoff=0)
            raise ConfigError(
                f"--kind {files.shortened(self.kind)!r} is no kind of use case "
                f"({nearest(self.kind, rendering.kinds())})",
                hint=f"workbench init {self.name} --kind {near[0]} --questions FILE",
            )
        if self.tenant is not None:
            config.check_tenant(self.tenant, where="--tenant ")
        if self.kind == "extract" and self.docs is not None:
            raise ConfigError(
                "--kind extract reads the texts of its questions alone, and takes no --docs",
                hint=f"workbench init {self.name} --kind extract --questions FILE",
            )
        if self.questions is None or (self.kind == "answer" and self.docs is None):
            missing = "--questions FILE" if self.questions is None else "--docs DIR"
            raise ConfigError(
                f"--kind {self.kind} needs {missing}",
                hint=f"workbench init {self.name} --kind {self.kind} --docs DIR --questions FILE",
            )

    @property
    def command(self) -> str:
        """The command that takes the use case away again."""
        return f"workbench init {self.name} --undo"


def check_name(name: str) -> None:
    """Raise ConfigError, with a name that fits, unless `name` can name a use case, its folders and assets."""
    reserved = name.lower() in {"null", "true", "false", "yes", "no", "on", "off"}
    if _NAME.fullmatch(name) and not reserved:
        return
    proposed = suggested(name)
    raise ConfigError(
        f"{files.shortened(name)!r} cannot name a use case, which begins with a letter and has up "
        "to 40 of a-z, A-Z, digits, - and _",
        hint=f"for example: workbench init {proposed} …",
    )


def suggested(name: str) -> str:
    """Return the valid name nearest to a text: `Schäden 2026` gives `schaeden-2026`."""
    lower = unicodedata.normalize("NFC", name).lower().translate(_LETTERS)
    plain = unicodedata.normalize("NFKD", lower).encode("ascii", "ignore").decode()
    made = re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:40].strip("-_")
    if not made or made in {"null", "true", "false", "yes", "no", "on", "off"}:
        return f"my-{made or 'documents'}"
    return made if made[0].isalpha() else f"case-{made}"[:40]
