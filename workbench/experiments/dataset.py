"""Datasets: cases with ids and provenance, read strictly from a file or a frame."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.display import Card, Shown
from workbench.errors import ConfigError, nearest
from workbench.experiments.stated_path import inside
from workbench.files import tables

if TYPE_CHECKING:
    import polars as pl

#: The columns of provenance; a synthetic row names its author or generator.
PROVENANCE = ("synthetic", "author", "generator", "generator_version", "seed", "edited")
_ONE_TYPE = "give the input one type in all cases, and an object the same keys; write the rest as text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case: the `inputs` of the task, and the `expected` values for scorers."""

    id: str
    tenant: str
    inputs: Mapping[str, Any]
    expected: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The usual input of a question-answering task."""

    id: str
    tenant: str
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(Shown):
    """Cases with unique ids, sorted by id."""

    name: str
    cases: tuple[Case, ...] = field(repr=False)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for case in self.cases:
            if case.id in seen:
                raise ConfigError(
                    f"dataset {self.name}: two cases have the id {case.id!r}",
                    hint="give each case an id of its own; runs are paired by case id",
                )
            seen.add(case.id)
        object.__setattr__(self, "cases", tuple(sorted(self.cases, key=lambda case: case.id)))

    @property
    def digest(self) -> str:
        """The SHA-256 of ids, tenants, inputs and expected values, in the order of ids."""
        rows = [[c.id, c.tenant, dict(c.inputs), dict(c.expected)] for c in self.cases]
        try:
            encoded = files.canonical(rows)
        except TypeError:
            encoded = b"null"
        if b"null" in encoded:  # it stands for numbers that are not finite too
            for case, row in zip(self.cases, rows, strict=True):
                files.check_exact(row, where=f"dataset {self.name}, case {case.id!a}")
        return files.digest(rows)

    @property
    def tenants(self) -> tuple[str, ...]:
        """The tenants of the cases, sorted."""
        return tuple(sorted({case.tenant for case in self.cases}))

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def card(self) -> Card:
        """Return the display card: how many cases, of whom, their columns, and the first five."""
        from workbench.experiments.dataset_card import card_of

        return card_of(self.name, self.cases)

    def of_tenants(self, *tenants: str) -> Dataset:
        """Return the cases of these tenants, or all cases; raise ConfigError for a tenant without cases."""
        for tenant in tenants:
            if tenant not in self.tenants:
                raise ConfigError(
                    f"dataset {self.name} has no cases of tenant {tenant!r} "
                    f"({nearest(tenant, self.tenants)})",
                    hint=f"name one of {', '.join(self.tenants)}, or none for all",
                )
        chosen = tenants or self.tenants
        return Dataset(name=self.name, cases=tuple(c for c in self.cases if c.tenant in chosen))

    def sample(self, n: int, *, seed: int) -> Dataset:
        """Return `n` cases drawn without replacement; the same seed draws the same cases on every machine."""
        if n >= len(self.cases):
            return self
        return Dataset(name=self.name, cases=tuple(random.Random(seed).sample(self.cases, n)))  # noqa: S311

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        inputs: Sequence[str] = ("question",),
        expected: Sequence[str] = ("answers", "page"),
    ) -> Dataset:
        """Return the cases of a JSON lines or Parquet file.

        The columns are `id`, `tenant`, the named `inputs` and `expected` values, and those of provenance.
        Raises ConfigError with the line of an invalid row.
        """
        path = Path(path)
        if path.suffix == ".parquet":
            return cls.from_frame(_table(path), name=path.stem, inputs=inputs, expected=expected)
        lines = list(tables.json_lines(files.read_text(path), where=str(path)))
        rows = ((f"{path}:{number}", row) for number, row in lines)
        return cls.from_rows(rows, name=path.stem, inputs=inputs, expected=expected)

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[tuple[str, Mapping[str, Any]]],
        *,
        name: str,
        inputs: Sequence[str] = ("question",),
        expected: Sequence[str] = ("answers", "page"),
    ) -> Dataset:
        """Return the cases of rows with the columns of `from_file`, each with its place for errors."""
        return cls(name=name, cases=tuple(_case(row, where, inputs, expected) for where, row in rows))

    @classmethod
    def of_file(
        cls,
        root: Path,
        file: str,
        *,
        inputs: Sequence[str] = ("question",),
        expected: Sequence[str] = ("answers", "page"),
        where: str = "dataset",
    ) -> Dataset:
        """Return the cases of a file of the repository `root`, as the key `dataset` of params.yaml states it.

        Raises ConfigError, prefixed with `where`, for a path outside the repository, a file of another
        format, a file without cases, and columns that overlap.
        """
        path = stated_file(root, file, inputs=inputs, expected=expected, where=where)
        made = cls.from_file(root / path, inputs=inputs, expected=expected)
        if not made.cases:
            raise ConfigError(f"{where}: {path} has no cases", hint="write one JSON object a line")
        return made

    @classmethod
    def from_frame(
        cls,
        frame: pl.DataFrame,
        *,
        name: str = "frame",
        inputs: Sequence[str] = ("question",),
        expected: Sequence[str] = ("answers", "page"),
    ) -> Dataset:
        """Return the cases of a polars frame with the columns of `from_file`."""
        cases = []
        for number, row in enumerate(frame.iter_rows(named=True), start=1):
            files.check_exact(row, where=f"{name}, row {number}")
            cases.append(_case(row, f"{name}, row {number}", inputs, expected))
        return cls(name=name, cases=tuple(cases))

    def to_frame(self) -> pl.DataFrame:
        """Return one row per case: id, tenant, inputs, expected values, provenance.

        Raises ConfigError, which names the columns, when the values of a column have several types.
        """
        import polars as pl

        rows = [
            {"id": c.id, "tenant": c.tenant, **c.inputs, **c.expected, **c.provenance} for c in self.cases
        ]
        try:
            return pl.DataFrame(rows, infer_schema_length=None)
        except (pl.exceptions.PolarsError, TypeError, OverflowError):  # a message may hold a value
            mixed = ", ".join(_mixed(rows)) or "a column"
            raise ConfigError(
                f"dataset {self.name}: {mixed} has values of several types in one column",
                hint='write one type in all rows: ["travel"] and [] rather than "travel" and []',
            ) from None

    def to_parquet(self) -> bytes:
        """Return the frame as Parquet; the same cases and version of polars give the same bytes."""
        return _parquet(self.to_frame())

    def input_rows(self) -> pl.DataFrame:
        """Return one row per case: id, tenant and inputs; no expected value and no provenance.

        Raises ConfigError, which names the case and the input, when a column cannot hold a value exactly,
        such as a number in a column of texts.
        """
        import polars as pl

        rows = [{"id": case.id, "tenant": case.tenant, **case.inputs} for case in self.cases]
        schema = None if rows else {"id": pl.String, "tenant": pl.String}
        try:
            data = _parquet(pl.DataFrame(rows, schema=schema, infer_schema_length=None))
        except (pl.exceptions.PolarsError, TypeError, OverflowError):  # a message may hold an input
            raise ConfigError(
                f"dataset {self.name}: Parquet cannot hold the inputs in one type a column", hint=_ONE_TYPE
            ) from None
        frame = pl.read_parquet(io.BytesIO(data))
        for row, kept in zip(rows, frame.iter_rows(named=True), strict=True):
            if not _is_same(row, kept):
                changed = [key for key in kept if key not in row or not _is_same(row[key], kept[key])]
                raise ConfigError(
                    f"dataset {self.name}: case {row['id']}: Parquet changes the inputs {', '.join(changed)}",
                    hint=_ONE_TYPE,
                )
        return frame

    def inputs_parquet(self) -> bytes:
        """Return `input_rows` as Parquet: the file that a kernel is given whose outputs are judged."""
        return _parquet(self.input_rows())


def stated_file(root: Path, file: str, *, inputs: Sequence[str], expected: Sequence[str], where: str) -> Path:
    """Return the path of a dataset below `root`, as the key `dataset` of params.yaml states it.

    Raise ConfigError, prefixed with `where`, for a path outside the repository, a missing file, a file of
    another format, and columns that overlap.
    """
    path = inside(root, file, where=where, example="data/cases.jsonl", tracked=True)
    if path.suffix not in {".jsonl", ".parquet"}:
        raise ConfigError(
            f"{where}: {files.shortened(file)!r} is neither a .jsonl nor a .parquet file",
            hint="write one JSON object a line, for example into data/cases.jsonl",
        )
    _check_columns(inputs, expected, where)
    if not (root / path).exists():
        raise ConfigError(f"{where}: there is no file {path}", hint=f"ls -l {path.parent}")
    return path


def _is_same(value: Any, kept: Any) -> bool:
    try:
        return files.canonical(value) == files.canonical(kept)  # 1 and 1.0 differ, list and tuple do not
    except TypeError:
        return type(value) is type(kept) and bool(value == kept)


def _mixed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns in which some values are lists, some objects and some neither, or of two types."""
    kinds: dict[str, set[type]] = {}
    for row in rows:
        for key, value in row.items():
            if value is not None:
                kinds.setdefault(key, set()).add(float if type(value) is int else type(value))
    return [repr(key) for key, found in kinds.items() if len(found) > 1]


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=3, statistics=False)
    return buffer.getvalue()


def _table(path: Path) -> pl.DataFrame:
    try:
        data = files.read_bytes(path)
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", hint="dvc repro prepare") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    return tables.read_parquet(data, where=str(path))


def _check_columns(inputs: Sequence[str], expected: Sequence[str], where: str) -> None:
    """Raise ConfigError for a column that is named twice, is empty, or has a meaning of its own."""
    seen: set[str] = set()
    for key, columns in (("inputs", inputs), ("expected", expected)):
        if not columns and key == "inputs":
            raise ConfigError(f"{where}.inputs is empty", hint="name a column: inputs: [question]")
        for column in columns:
            if not column or column in {"id", "tenant", *PROVENANCE}:
                raise ConfigError(
                    f"{where}.{key}: {column!r} cannot name a column of {key}",
                    hint=f"id, tenant, {', '.join(PROVENANCE)} are read anyway; name other columns",
                )
            if column in seen:
                raise ConfigError(
                    f"{where}.{key}: the column {files.shortened(column)!r} is named twice",
                    hint="name it once: inputs are given to the task, expected values to the scorers alone",
                )
            seen.add(column)


def _case(row: Mapping[str, Any], where: str, inputs: Sequence[str], expected: Sequence[str]) -> Case:
    known = {"id", "tenant", *inputs, *expected, *PROVENANCE}
    for key in row:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r} ({nearest(key, known)})")
    for key in ("id", "tenant", *inputs, *expected):
        # `page: []` says that no page of its own answers the case, which recall then leaves out.
        if row.get(key) in (None, "", []) and not (key == "page" and row.get(key) == [] and key in expected):
            raise ConfigError(f"{where}: {key!r} is missing or empty")
    for key in ("id", "tenant"):
        if not isinstance(row[key], str):
            raise ConfigError(f"{where}: {key!r} must be text")
    if row.get("synthetic") and not (row.get("author") or row.get("generator")):
        raise ConfigError(f"{where}: a synthetic row must name its author or generator")
    return Case(
        id=row["id"],
        tenant=row["tenant"],
        inputs={key: row[key] for key in inputs},
        expected={key: row[key] for key in expected},
        provenance={key: row[key] for key in PROVENANCE if row.get(key) is not None},
    )
