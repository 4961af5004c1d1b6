"""Exact nearest neighbours among one tenant's items, with the filters applied inside the search."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.memory.rules import DECIMALS
from workbench.ports import Query

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ALWAYS = dt.date.min.toordinal()
_NEVER = dt.date.max.toordinal() + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """All items of a tenant, in the order of their ids; row i of every array is the same item."""

    ids: list[str]
    matrix: NDArray[np.float32]
    access: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    sources: NDArray[np.int64]
    access_lists: dict[frozenset[str], int]
    source_names: dict[str, int]

    @classmethod
    def build(cls, rows: Iterable[tuple[Any, ...]], *, dimensions: int) -> Vectors:
        """From rows (id, access list, valid_from, expires, source, float32 bytes) in order of id."""
        import numpy as np

        ids, access, starts, ends, sources, blobs = [], [], [], [], [], []
        lists: dict[frozenset[str], int] = {}
        names: dict[str, int] = {}
        for one, groups, start, end, source, blob in rows:
            ids.append(one)
            access.append(lists.setdefault(frozenset(groups), len(lists)))
            starts.append(dt.date.fromisoformat(start).toordinal() if start else _ALWAYS)
            ends.append(dt.date.fromisoformat(end).toordinal() if end else _NEVER)
            sources.append(names.setdefault(source, len(names)))
            blobs.append(blob)
        matrix = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(ids), dimensions)
        return cls(
            ids=ids, matrix=matrix, access=np.asarray(access, np.int64),
            starts=np.asarray(starts, np.int64), ends=np.asarray(ends, np.int64),
            sources=np.asarray(sources, np.int64), access_lists=lists, source_names=names,
        )  # fmt: skip

    def visible_rows(self, query: Query) -> NDArray[np.int64]:
        """Rows the asker may see, valid on the day asked for, of the sources asked for."""
        import numpy as np

        allowed = [n for groups, n in self.access_lists.items() if not groups.isdisjoint(query.groups)]
        day = dt.date.fromisoformat(query.as_of).toordinal()
        mask = np.isin(self.access, allowed) & (self.starts <= day) & (self.ends > day)
        if query.sources:
            wanted = [self.source_names[s] for s in query.sources if s in self.source_names]
            mask &= np.isin(self.sources, wanted)
        return np.flatnonzero(mask)

    def nearest(self, query: Query, depth: int) -> list[str]:
        """Ids of the `depth` visible items of the largest inner product; ties in order of id."""
        import numpy as np

        rows = self.visible_rows(query)
        if not len(rows):
            return []
        vector = np.asarray(query.vector, np.float32)
        everything = len(rows) == len(self.ids)
        scores = (self.matrix if everything else self.matrix[rows]) @ vector
        scores = np.round(scores.astype(np.float64), DECIMALS)
        if len(rows) > depth:  # keep all that tie with the last one kept
            last = np.partition(scores, len(scores) - depth)[len(scores) - depth]
            kept = np.flatnonzero(scores >= last)
            rows, scores = rows[kept], scores[kept]
        order = np.argsort(-scores, kind="stable")[:depth]
        return [self.ids[row] for row in rows[order]]
