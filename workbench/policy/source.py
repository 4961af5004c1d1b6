"""Read the files of a set of policies: `pipelines/policies`, or the built-in set without that folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workbench import files
from workbench.errors import ConfigError, NotFoundError

FOLDER: Final = "pipelines/policies"
SCHEMA: Final = "schema.cedarschema"
TESTS: Final = "tests.yaml"
ENTITIES: Final = "entities.json"
BUILTIN: Final = Path(__file__).parent / "builtin"
_MOST_BYTES: Final = 1 << 20
_MOST_FILES: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySource:
    """The texts of a set: policies by file name, schema, groups in groups, and the expected decisions.

    `folder` is where they were read, as messages name it. `builtin` is whether it is the package's own set.
    """

    folder: str
    policies: Mapping[str, str]
    schema: str
    entities: str = "[]"
    tests: str = ""
    builtin: bool = False

    @property
    def digest(self) -> str:
        """The SHA-256 digest of everything that a decision depends on."""
        return files.digest([dict(self.policies), self.schema, self.entities])

    def name(self, file: str) -> str:
        """Return the path of one of its files for a message."""
        return f"{self.folder}/{file}"


def read_source(root: Path) -> PolicySource:
    """Return the repository's set, or the built-in one without the folder; raise ConfigError as below."""
    folder = root / FOLDER
    return read_folder(folder, name=FOLDER) if folder.exists() or folder.is_symlink() else read_builtin()


def read_builtin() -> PolicySource:
    """Return the set of the package, which applies without a folder."""
    return read_folder(BUILTIN, name="built-in policies", builtin=True)


def read_folder(folder: Path, *, name: str = "", builtin: bool = False) -> PolicySource:
    """Return the set in a folder; its schema is by default the built-in one.

    Raise NotFoundError without the folder, and ConfigError for a file that belongs to no set, for none with
    policies and for more than 1 MiB or 200 files.
    """
    shown = name or str(folder)
    if not folder.is_dir():
        hint = f"remove {name}, which is no folder" if name else f"cp -r {FOLDER} {shown}, and edit the copy"
        raise NotFoundError(f"there is no folder {shown}", hint=hint)
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    cedar = [found for found in names if found.endswith(".cedar")]
    odd = [found for found in names if found not in {*cedar, SCHEMA, TESTS, ENTITIES, "README.md"}]
    if odd or not cedar or len(cedar) > _MOST_FILES:
        problem = (
            f"{odd[0]!r} is no file of a set of policies" if odd
            else f"{len(cedar)} files NAME.cedar, and a set has 1 to {_MOST_FILES}"
        )  # fmt: skip
        raise ConfigError(
            f"{shown}: {problem}",
            hint=f"a set is NAME.cedar …, {SCHEMA}, {TESTS} and {ENTITIES}; move other files elsewhere",
        )

    def text(file: str, default: str) -> str:
        return files.read_text(folder / file, limit=_MOST_BYTES) if file in names else default

    schema = text(SCHEMA, "") or files.read_text(BUILTIN / SCHEMA)
    source = PolicySource(
        folder=shown,
        policies={file: text(file, "") for file in cedar},
        schema=schema,
        entities=text(ENTITIES, "[]"),
        tests=text(TESTS, ""),
        builtin=builtin,
    )
    if sum(map(len, source.policies.values())) > _MOST_BYTES:
        raise ConfigError(
            f"{shown}: its policies have more than {_MOST_BYTES} characters", hint=f"ls -l {shown}"
        )
    return source
