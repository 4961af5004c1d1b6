"""Write and read one tenant's items as a Parquet file, and compute their logical digest."""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.types import JSON, Item

if TYPE_CHECKING:
    import polars as pl

SCALARS = tuple(field.name for field in fields(Item) if field.name != "vector")
_LISTS = ("access", "parents")
_ROW_GROUP = 10_000


def vector_bytes(vector: Sequence[float]) -> bytes:
    """Return a vector as little-endian float32 bytes."""
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def logical_digest(tenant: str, items: Sequence[Item]) -> str:
    """Return the SHA-256 of all rows' digests in id order.

    A row's digest is the SHA-256 of the canonical JSON of its scalars, followed by its float32 vector. The
    result depends on the items alone, not on the store, the file format or its writer.
    """
    total = hashlib.sha256()
    for item in sorted(items, key=lambda item: item.id):
        scalars = {name: getattr(item, name) for name in SCALARS}
        row = hashlib.sha256(files.canonical({**scalars, "tenant": tenant}))
        row.update(vector_bytes(item.vector))
        total.update(row.digest())
    return total.hexdigest()


def write_tenant(folder: Path, tenant: str, items: Sequence[Item]) -> JSON:
    """Write `<tenant>.parquet` and return its entry for the manifest.

    Rows are sorted by id, in fixed row groups and without statistics: the same items give the same bytes
    with the same version of polars.
    """
    import io

    ordered = sorted(items, key=lambda item: item.id)
    buffer = io.BytesIO()
    _frame(ordered).write_parquet(
        buffer, compression="zstd", compression_level=3, statistics=False, row_group_size=_ROW_GROUP
    )
    data = buffer.getvalue()
    files.write_atomic(folder / f"{tenant}.parquet", data)
    return {
        "file": f"{tenant}.parquet",
        "sha256": files.digest(data),
        "rows": len(ordered),
        "embedding": ordered[0].embedding if ordered else None,
        "dimensions": len(ordered[0].vector) if ordered else None,
        "logical_digest": logical_digest(tenant, ordered),
    }


def read_tenant(data: bytes) -> list[Item]:
    """Return the items in the bytes of a Parquet file that `write_tenant` wrote."""
    import io

    import polars as pl

    columns = pl.read_parquet(io.BytesIO(data)).to_dict(as_series=False)
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return [Item(**row | {name: tuple(row[name]) for name in (*_LISTS, "vector")}) for row in rows]


def _frame(items: Sequence[Item]) -> pl.DataFrame:
    import polars as pl

    types: dict[str, Any] = dict.fromkeys(SCALARS, pl.String)
    types |= dict.fromkeys(("position", "version", "classification", "trust"), pl.Int64)
    types |= dict.fromkeys(_LISTS, pl.List(pl.String))
    types["vector"] = pl.Array(pl.Float32, len(items[0].vector) if items else 0)
    columns = {name: [getattr(item, name) for item in items] for name in types}
    return pl.DataFrame(columns, schema=types).rechunk()
