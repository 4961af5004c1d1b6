"""Divide the rows of a run between a canary and production, and merge what both answered into one output.

A keyed hash of a row's id, or of its tenant, decides: the same row goes to the same version in every run of a
rollout, on every machine, and a larger share keeps the rows of a smaller one.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import files
from workbench.config.rollout import ShareUnit
from workbench.experiments.batch import QUARANTINE
from workbench.experiments.inputs import InputRow, read
from workbench.files import tables

_BITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The share of rows or tenants that a canary answers; `salt` differs from rollout to rollout."""

    salt: str
    share: float
    unit: ShareUnit = "row"

    def takes(self, row: InputRow) -> bool:
        """Whether the canary answers the row. A row without an id, or without a tenant, is production's."""
        # By the id alone: rows of one id stay together, so that the second one is found to repeat it.
        key = row.id if self.unit == "row" else row.tenant
        return bool(key.strip()) and self.takes_key(key)

    def takes_key(self, key: str) -> bool:
        """Whether the canary answers the rows of this id or tenant."""
        salt = hashlib.sha256(self.salt.encode()).digest()
        drawn = hashlib.blake2b(key.encode(errors="surrogatepass"), key=salt, digest_size=_BITS // 8)
        return int.from_bytes(drawn.digest(), "big") < int(self.share * 2**_BITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPart:
    """The rows of one version in an input: their numbers in the whole input, and a file of them alone."""

    numbers: tuple[int, ...]
    data: bytes


def divided(source: Path, share: Share, *, tenant: str | None = None) -> tuple[RowPart, RowPart]:
    """Return the rows of the canary and those of production; either may have none.

    With a `tenant`, rows of other tenants count for neither: the worker leaves them out.
    """
    rows = read(source)
    own = [row for row in rows if tenant is None or row.tenant in {"", tenant}]
    chosen = {row.number for row in own if share.takes(row)}
    rest = [row.number for row in own if row.number not in chosen]
    return tuple(  # type: ignore[return-value]
        RowPart(numbers=tuple(numbers), data=_selected(source, numbers)) for numbers in (sorted(chosen), rest)
    )


def _selected(source: Path, numbers: Sequence[int]) -> bytes:
    """Return the rows of these numbers as a file of the same format, in the same order."""
    if source.suffix == ".jsonl":
        lines = [line for line in files.read_text(source).split("\n") if line.strip()]
        return "".join(f"{lines[number - 1]}\n" for number in numbers).encode()
    frame = tables.read_parquet(files.read_bytes(source), where=str(source))
    buffer = io.BytesIO()
    frame[[number - 1 for number in numbers]].write_parquet(buffer)
    return buffer.getvalue()


def merge_outputs(parts: Mapping[Path, Sequence[int]], target: Path) -> None:
    """Write the outputs of several workers into the folder `target` as one output.

    `parts` maps the folder of each worker's output to the numbers of its rows in the whole input. Answers are
    sorted by id, and broken rows by their number in the whole input, as one worker writes them.
    """
    import polars as pl

    names = sorted({path.name for folder in parts for path in folder.iterdir()})
    for name in names:
        frames = []
        for folder, numbers in parts.items():
            if (folder / name).is_file():
                frame = pl.read_parquet(folder / name)
                frames.append(_renumbered(frame, numbers) if name == QUARANTINE else frame)
        merged = pl.concat([frame for frame in frames if frame.height] or frames[:1], how="diagonal_relaxed")
        buffer = io.BytesIO()
        merged.sort("row" if name == QUARANTINE else "id").write_parquet(
            buffer, compression="zstd", compression_level=3, statistics=False
        )
        files.write_atomic(target / name, buffer.getvalue())


def _renumbered(frame: Any, numbers: Sequence[int]) -> Any:
    """Return broken rows with the numbers that they have in the whole input."""
    import polars as pl

    return frame.with_columns(
        pl.Series("row", [numbers[number - 1] for number in frame["row"]], dtype=pl.Int64)
    )


def merged_counts(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums of the counts of several workers; None where one of them does not know a number."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part[name] for part in parts if name in part]
        if name == "held":
            found[name] = any(values)
        else:
            found[name] = None if any(value is None for value in values) else sum(values)
    return found
