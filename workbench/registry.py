"""Registry of versioned assets: prompts, models, memories, jobs and generators, with labels and digests.

An asset is a folder `pipelines/<kind>s/<name>/` with the versions `1.<suffix>`, `2.<suffix>`, … and an
`asset.yaml` of their digests, authors and reasons, the labels, and every move of a label. A version never
changes: its digest is checked at every use.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from workbench import files, locking
from workbench.errors import ConfigError, CorruptError, NotFoundError, nearest

if TYPE_CHECKING:
    import polars as pl

Kind = Literal["prompt", "model", "memory", "job", "generator"]
FOLDERS: Mapping[str, str] = {
    "prompt": "prompts", "model": "models", "memory": "memories", "job": "jobs", "generator": "generators",
}  # fmt: skip
#: The suffix of a version's number. A job's version is a folder, whose page lists its files; a generator's is
#: a program that writes synthetic data, with its seed.
SUFFIXES: Mapping[str, str] = {
    "prompt": ".prompty", "model": ".yaml", "memory": ".yaml", "job": "/job.yaml", "generator": ".py",
}  # fmt: skip
#: A longer name fits in no file name, with the numbers and suffixes that are added to it.
_MOST_NAME, _MOST_DIGITS = 100, 9
#: A name that no reader of YAML takes for another value, unless it is one of these words.
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_VALUES = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
#: Bytes of an `asset.yaml`: about 20,000 versions.
_MOST_PAGE = 16 << 20
Label = Literal["candidate", "shadow", "canary", "production"]
LABELS: tuple[Label, ...] = ("candidate", "shadow", "canary", "production")
#: The labels of jobs whose version is tried beside the one in production, in the order of a rollout.
TRIALS: tuple[Label, ...] = ("shadow", "canary")
#: The version of a move that takes a label away.
NO_VERSION = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A reference to a version: `name`, `name@3` or `name@production`."""

    name: str
    version: int | None = None
    label: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse a reference; raise ConfigError if it is invalid."""
        name, at, rest = text.partition("@")
        number = rest.isascii() and rest.isdigit()
        fits = len(name.encode(errors="replace")) <= _MOST_NAME and (len(rest) <= _MOST_DIGITS or not number)
        if not fits or not name.replace("-", "").replace("_", "").isalnum() or (at and not rest):
            raise ConfigError(
                f"{files.shortened(text)!r} is not a reference",
                hint=f"write a name of at most {_MOST_NAME} bytes, name@VERSION or name@LABEL, "
                "for example answer@2",
            )
        if number:
            return cls(name=name, version=int(rest))
        return cls(name=name, label=rest or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionEntry:
    """The entry of a version in `asset.yaml`: `digest` is the SHA-256 of its page, `run` justified it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    digest: str
    author: str
    reason: str
    parent: int | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One move of a label to a version, or to NO_VERSION; `at` is in ISO 8601 and UTC.

    `share` is the share of rows or tenants that a canary answers; None for its default and other labels.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    label: str
    version: int
    by: str
    at: str
    reason: str
    run: str | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """The content of `asset.yaml`. `moves` are all moves of labels, oldest first."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    kind: Kind
    name: str
    versions: dict[int, VersionEntry]
    labels: dict[str, int] = field(default_factory=dict)
    moves: tuple[Move, ...] = ()

    def before(self, label: str) -> int | None:
        """Return the version that `label` had before its present one was promoted, or None.

        A move back to a version undoes all promotions after it, so a second rollback goes further back.
        """
        past = self.past(label)
        return past[-2] if len(past) > 1 else None

    def past(self, label: str) -> list[int]:
        """Return the versions that a rollback of `label` passes, its present version last."""
        past: list[int] = []
        for move in self.moves:
            if move.label == label:
                past = past[: past.index(move.version)] if move.version in past else past
                past = [*past, move.version] if move.version != NO_VERSION else []
        return past

    def last_move(self, label: str) -> Move | None:
        """Return the latest move of a label, or None."""
        return next((move for move in reversed(self.moves) if move.label == label), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of an asset, whose digest was checked."""

    kind: str
    name: str
    number: int
    path: Path
    digest: str

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


def folder_of(root: Path, kind: str, name: str) -> Path:
    """Return the folder of an asset; ConfigError for a name that is no file name."""
    if len(name.encode(errors="replace")) > _MOST_NAME or "/" in name or name in {"", ".", ".."}:
        raise ConfigError(
            f"{files.shortened(name)!r} cannot name a {kind}", hint=f"ls pipelines/{FOLDERS[kind]}"
        )
    return root / "pipelines" / FOLDERS[kind] / name


def names(root: Path, kind: str) -> list[str]:
    """Return the names of the assets of a kind, sorted."""
    folder = root / "pipelines" / FOLDERS[kind]
    return sorted(p.parent.name for p in folder.glob("*/asset.yaml"))


def load(root: Path, kind: str, name: str) -> Asset:
    """Return the content of an asset's `asset.yaml`; NotFoundError lists the nearest names."""
    path = folder_of(root, kind, name) / "asset.yaml"
    if not path.exists() and not path.is_symlink():
        written = path_of(root, kind, name, 1).is_file() and kind != "job"
        raise NotFoundError(
            f"there is no {kind} {name!r} ({nearest(name, names(root, kind))})",
            hint=f"workbench save {kind}/{name}" if written else f"ls pipelines/{FOLDERS[kind]}",
        )
    asset = _read(path)
    if (asset.kind, asset.name) != (kind, name):
        raise ConfigError(
            f"{path} is the page of {asset.kind} {asset.name!r}, not of {kind} {name!r}",
            hint=f"set kind: {kind} and name: {name} in it, or move its folder",
        )
    if any(move.share is not None and not 0 < move.share < 1 for move in asset.moves):
        raise ConfigError(
            f"{path}: the share of a move is not between 0 and 1", hint=f"git checkout -- {path}"
        )
    for label, number in asset.labels.items():
        if number not in asset.versions:
            raise ConfigError(
                f"{path}: label {label!r} names version {number}, which is not listed",
                hint=f"git checkout -- {path}",
            )
    return asset


@files.until_changed
def _read(path: Path) -> Asset:
    text = files.read_text(path, limit=_MOST_PAGE)
    with suppress(ConfigError):
        asset = files.parse(Asset, _read_lines(text), where=str(path))
        if _page(asset) == text.encode():
            return asset
    return files.parse(Asset, files.parse_yaml(text, where=str(path)), where=str(path))


def _read_lines(text: str) -> dict[str, Any]:
    """Return the mapping of a page as `_page` writes it; {} for a page in another form.

    YAML is read in bounds that thousands of versions exceed. The caller writes the asset again and compares.
    """
    raw: dict[str, Any] = {"versions": {}, "labels": {}, "moves": []}
    entry: dict[str, Any] = raw
    section = ""
    for line in text.split("\n")[:-1]:
        key, _, value = line.strip(" ").partition(": ")
        try:
            if line.startswith("  - {"):
                raw["moves"].append(_read_move(line[4:]))
            elif line.startswith("    "):
                entry[key] = value if key == "digest" else json.loads(value)
            elif line.startswith("  ") and section == "labels":
                raw["labels"][key] = int(value)
            elif line.startswith("  "):
                entry = raw["versions"][int(key.rstrip(":"))] = {}
            elif value:
                raw[key] = {} if value == "{}" else value
            else:
                section = key.rstrip(":")
        except (ValueError, RecursionError):
            return {}
    return raw


def _read_move(line: str) -> dict[str, Any]:
    """Return the mapping of a move's line: JSON, but for its keys; ValueError for another line."""
    move: dict[str, Any] = {}
    place = 1
    for _ in dataclasses.fields(Move):
        key, colon, _ = line[place:].partition(": ")
        move[key], place = json.JSONDecoder().raw_decode(line, place + len(key + colon))
        if line[place:] == "}":
            return move
        place += len(", ")
    raise ValueError("not a move")


def resolve(root: Path, kind: str, reference: str) -> Version:
    """Return the version of a reference, with its digest checked; a bare name means the newest version.

    NotFoundError for an unknown name, version or label; CorruptError for a changed version.
    """
    ref = Reference.parse(reference)
    asset = load(root, kind, ref.name)
    number = ref.version
    if ref.label is not None:
        if ref.label not in asset.labels:
            raise NotFoundError(
                f"{kind} {ref.name!r} has no label {ref.label!r} ({nearest(ref.label, asset.labels)})",
                hint=f"known versions: {sorted(asset.versions)}",
            )
        number = asset.labels[ref.label]
    if number is None:
        number = max(asset.versions, default=0)
    if number not in asset.versions:
        known = ", ".join(f"{ref.name}@{n}" for n in sorted(asset.versions)) or "none"
        raise NotFoundError(
            f"{kind} {ref.name!r} has no version {number} (known: {known})",
            hint=f"ls pipelines/{FOLDERS[kind]}/{ref.name}",
        )
    path = path_of(root, kind, ref.name, number)
    return Version(
        kind=kind, name=ref.name, number=number, path=path,
        digest=_checked(path, asset.versions[number].digest),
    )  # fmt: skip


def _checked(path: Path, expected: str) -> str:
    if not path.exists():
        raise CorruptError(f"{path} is missing", hint=f"git checkout -- {path}")
    found = _digest_of(path)
    if found != expected:
        raise CorruptError(
            f"{path} was changed after it was saved (digest {found[:12]}, saved as {expected[:12]})",
            hint=f"git checkout -- {path}; to change a prompt, edit and save it as the next version",
        )
    return found


@files.until_changed
def _digest_of(path: Path) -> str:
    return files.digest(files.read_bytes(path))


def save_version(
    root: Path, kind: str, name: str, data: bytes, *, author: str, reason: str, parent: int | None
) -> Version:
    """Write `data` as the next version and return it; concurrent writers get distinct numbers."""
    entry = VersionEntry(digest=files.digest(data), author=author, reason=reason, parent=parent)
    return save_entry(root, kind, name, data, entry)


def save_entry(
    root: Path, kind: str, name: str, data: bytes, entry: VersionEntry, *, seen: int | None = None
) -> Version:
    """Write `data` as the next version with its entry, and return it.

    `seen` is the newest version that the author knows: ConfigError, which says whose the newer one is.
    """
    folder = folder_of(root, kind, name)
    with locked(folder):
        asset = load_or_new(root, kind, name)
        newest = max(asset.versions, default=0)
        if seen is not None and newest > seen:
            made = asset.versions[newest]
            raise ConfigError(
                f"{name}@{newest} was saved meanwhile by {made.author}: {made.reason}; nothing was saved",
                hint=f"read it, then save after it (after={newest}), or take it over",
            )
        path = path_of(root, kind, name, newest + 1)
        # The file first: until asset.yaml lists it, another writer may overwrite it.
        files.write_atomic(path, data)
        write(root, dataclasses.replace(asset, versions={**asset.versions, newest + 1: entry}))
    return Version(kind=kind, name=name, number=newest + 1, path=path, digest=entry.digest)


def path_of(root: Path, kind: str, name: str, number: int) -> Path:
    """Return the path of a version's page."""
    return folder_of(root, kind, name) / f"{number}{SUFFIXES[kind]}"


def load_or_new(root: Path, kind: str, name: str) -> Asset:
    """Return an asset's page, or a new one without versions."""
    if (folder_of(root, kind, name) / "asset.yaml").is_file():
        return load(root, kind, name)
    return Asset(kind=kind, name=name, versions={})  # type: ignore[arg-type]


def moved(asset: Asset, move: Move) -> Asset:
    """Return the asset after a move of a label; the caller writes it."""
    labels = {label: number for label, number in asset.labels.items() if label != move.label}
    if move.version != NO_VERSION:
        labels[move.label] = move.version
    return dataclasses.replace(asset, labels=labels, moves=(*asset.moves, move))


def write(root: Path, asset: Asset) -> Path:
    """Write `asset.yaml` atomically and return its path; the caller holds the asset's lock."""
    page = folder_of(root, asset.kind, asset.name) / "asset.yaml"
    files.write_atomic(page, _page(asset))
    return page


def _page(asset: Asset) -> bytes:
    """Return the text of `asset.yaml`: a block for each version, a line for each move, for merges by line."""
    lines = [
        f"kind: {asset.kind}",
        f"name: {_plain(asset.name)}",
        "labels:" if asset.labels else "labels: {}",
    ]
    lines += [f"  {label}: {number}" for label, number in sorted(asset.labels.items())]
    lines.append("versions:")
    for number, entry in sorted(asset.versions.items()):
        lines += [
            f"  {number}:",
            f"    digest: {entry.digest}",
            f"    author: {_quoted(entry.author)}",
            f"    parent: {entry.parent if entry.parent is not None else 'null'}",
            f"    reason: {_quoted(entry.reason)}",
        ]
        lines += [f"    run: {_quoted(entry.run)}"] if entry.run else []
    lines += ["moves:"] if asset.moves else []
    for move in asset.moves:
        plain = {key: value for key, value in dataclasses.asdict(move).items() if value is not None}
        lines.append("  - {" + ", ".join(f"{key}: {_quoted(value)}" for key, value in plain.items()) + "}")
    return ("\n".join(lines) + "\n").encode(errors="replace")


def _plain(name: str) -> str:
    """Return a name unquoted, unless YAML would read it as another value."""
    if _WORD.fullmatch(name) and name.lower() not in _VALUES:
        return name
    return name if files.parse_yaml(f"name: {name}", where=name)["name"] == name else _quoted(name)


def _quoted(value: str | float) -> str:
    """Return a scalar as JSON, which is YAML except for characters that YAML requires as escapes."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Exclude other writers of an asset, in this and other processes."""
    with ExitStack() as stack:
        with files.writing(folder):
            files.make_folder(folder)
            stack.enter_context(locking.locked(folder))
        yield


def frame(root: Path) -> pl.DataFrame:
    """Return a frame with one row for each version of each asset, newest last."""
    import polars as pl

    rows = []
    for asset in (load(root, kind, name) for kind in FOLDERS for name in names(root, kind)):
        for number, entry in sorted(asset.versions.items()):
            labels = sorted(label for label, n in asset.labels.items() if n == number)
            place = {"kind": asset.kind, "name": asset.name, "version": number, "labels": labels}
            rows.append({**place, **dataclasses.asdict(entry)})
    schema: dict[str, Any] = {
        "kind": pl.String, "name": pl.String, "version": pl.Int64, "labels": pl.List(pl.String),
        "digest": pl.String, "author": pl.String, "reason": pl.String, "parent": pl.Int64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")
