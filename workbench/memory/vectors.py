"""Exact nearest-neighbour search over one tenant's items, with filters applied inside the search."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import TYPE_CHECKING, Any

from workbench.memory.ranking import DECIMALS, MARGIN
from workbench.memory.rules import moment_of
from workbench.ports import Query

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ALWAYS = 0
_NEVER = 2**62
#: Above this share of visible rows, a product with the whole matrix is cheaper than a copy of the rows.
_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """All rows of a tenant, of every version, in the order of their logical ids.

    Element i of `ids`, row i of `matrix` and column i of `figures` and `codes` describe one row of the table.
    `figures` are its number, since, until, classification, valid_from and valid_to (ordinal days) and expiry
    (Unix seconds). `codes` number its access list, source and kind, as `labels` maps them.
    """

    ids: list[str]
    matrix: NDArray[np.float32]
    figures: NDArray[np.int64]
    codes: NDArray[np.int64]
    labels: tuple[dict[frozenset[str], int], dict[str, int], dict[str, int]]
    by_number: NDArray[np.int64]
    numbers: NDArray[np.int64]

    @classmethod
    def build(cls, rows: Iterable[tuple[Any, ...]], *, dimensions: int) -> Vectors:
        """Build from rows in the order of their logical ids.

        A row is (id, number, since, until, classification, valid_from, valid_to, expires, access list,
        source, kind, float32 bytes).
        """
        return cls._of([], _nothing(dimensions), ({}, {}, {})).with_rows(rows)

    @classmethod
    def _of(cls, ids: list[str], arrays: tuple[Any, Any, Any], labels: Any) -> Vectors:
        import numpy as np

        matrix, figures, codes = arrays
        order = np.argsort(figures[0])
        return cls(
            ids=ids, matrix=matrix, figures=figures, codes=codes, labels=labels, by_number=order,
            numbers=figures[0][order],
        )  # fmt: skip

    def with_rows(self, rows: Iterable[tuple[Any, ...]]) -> Vectors:
        """Return these rows and new ones, which are as for `build` and have larger numbers."""
        import numpy as np

        lists, sources, kinds = dict(self.labels[0]), dict(self.labels[1]), dict(self.labels[2])
        ids, numbers, blobs, codes = [], [], [], []
        for key, *figures, start, end, expires, groups, source, kind, blob in rows:
            ids.append(key)
            numbers.append((*figures, _day(start, _ALWAYS), _day(end, _NEVER), _second(expires)))
            codes.append((
                lists.setdefault(frozenset(groups), len(lists)),
                sources.setdefault(source, len(sources)),
                kinds.setdefault(kind, len(kinds)),
            ))  # fmt: skip
            blobs.append(blob)
        if not ids:
            return self
        matrix = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(ids), self.matrix.shape[1])
        new = (matrix, np.asarray(numbers, np.int64).T, np.asarray(codes, np.int64).T)
        return self._merged(ids, new, (lists, sources, kinds))

    def _merged(self, ids: list[str], arrays: tuple[Any, Any, Any], labels: Any) -> Vectors:
        import numpy as np

        both = self.ids + ids
        order = np.asarray(sorted(range(len(both)), key=both.__getitem__), np.int64)
        places = np.empty_like(order)
        places[order] = np.arange(len(both))
        old, new = places[: len(self.ids)], places[len(self.ids) :]
        matrix = np.empty((len(both), self.matrix.shape[1]), np.float32)
        matrix[old], matrix[new] = self.matrix, arrays[0]
        figures = np.concatenate([self.figures, arrays[1]], axis=1)[:, order]
        codes = np.concatenate([self.codes, arrays[2]], axis=1)[:, order]
        return self._of([both[place] for place in order], (matrix, figures, codes), labels)

    def kept(self, numbers: NDArray[np.int64], until: NDArray[np.int64]) -> Vectors:
        """Return the rows with these numbers (sorted), each with its element of `until`."""
        import numpy as np

        mask = np.isin(self.figures[0], numbers, assume_unique=True)
        whole = bool(mask.all())
        figures = self.figures.copy() if whole else self.figures[:, mask]
        figures[2] = until[np.searchsorted(numbers, figures[0])]
        if whole:
            return replace(self, figures=figures)
        arrays = (self.matrix[mask], figures, self.codes[:, mask])
        return self._of(list(compress(self.ids, mask)), arrays, self.labels)

    def seen(
        self, query: Query, version: int, permitted: NDArray[np.bool_] | None = None
    ) -> NDArray[np.bool_]:
        """Return a mask of the rows that are active in `version` and visible as in `rules.visible`.

        `permitted` is the mask of the rows for which the condition `query.where` holds, None without one.
        """
        import numpy as np

        _, sources, kinds = self.labels
        day, moment = _day(query.as_of, _ALWAYS), _second(moment_of(query))
        _, since, until, _, start, end, expires = self.figures
        mask = (since <= version) & (until > version) & (start <= day) & (end > day) & (expires > moment)
        mask &= self._listed(query) if permitted is None else permitted
        if query.sources:
            mask &= _among(self.codes[1], [sources[s] for s in query.sources if s in sources], len(sources))
        if query.kinds:
            mask &= _among(self.codes[2], [kinds[k] for k in query.kinds if k in kinds], len(kinds))
        return np.asarray(mask, np.bool_)

    def _listed(self, query: Query) -> NDArray[np.bool_]:
        """Return a mask of the rows whose access list and level the query's groups and clearance open."""
        lists = self.labels[0]
        allowed = [code for groups, code in lists.items() if not groups.isdisjoint(query.groups)]
        opened: NDArray[np.bool_] = _among(self.codes[0], allowed, len(lists))
        opened &= self.figures[3] <= query.clearance
        return opened

    def nearest(self, query: Query, seen: NDArray[np.bool_], depth: int) -> list[str]:
        """Return the ids of the `depth` seen rows of the largest inner product; ties in the order of ids."""
        import numpy as np

        rows = np.flatnonzero(seen)
        if not len(rows):
            return []
        if len(rows) > depth:
            vector = np.asarray(query.vector, np.float32)
            whole = len(rows) > _SHARE * len(self.ids)
            coarse = (self.matrix @ vector)[rows] if whole else self.matrix[rows] @ vector
            last = np.partition(coarse, len(coarse) - depth)[len(coarse) - depth]
            rows = rows[coarse >= last - MARGIN]
        scores = inner_products(self.matrix[rows], query.vector)
        return self.ids_of(rows, -scores, depth)

    def rows_of(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices of the rows with these numbers, all of which exist."""
        import numpy as np

        return self.by_number[np.searchsorted(self.numbers, numbers)]

    def ids_of(self, rows: NDArray[np.int64], weights: NDArray[np.float64], depth: int) -> list[str]:
        """Return the ids of the `depth` rows of least weight; ties in the order of ids."""
        import numpy as np

        order = np.lexsort((rows, weights))[:depth]
        return [self.ids[row] for row in rows[order]]


def inner_products(matrix: Any, vector: Sequence[float]) -> NDArray[np.float64]:
    """Return each row's inner product with `vector`, rounded to `ranking.DECIMALS`, equal on every store.

    Sums are in double precision, where the order of summation does not change the rounded score in practice.
    In float32 it does: the order differs between processors and sizes of the matrix.
    """
    import numpy as np

    floats = np.asarray(matrix, np.float32)
    exact = np.einsum("ij,j->i", floats, np.asarray(vector, np.float32), dtype=np.float64)
    return np.asarray(np.round(exact, DECIMALS), np.float64)


def _nothing(dimensions: int) -> tuple[Any, Any, Any]:
    import numpy as np

    return np.empty((0, dimensions), np.float32), np.empty((7, 0), np.int64), np.empty((3, 0), np.int64)


def _among(codes: NDArray[np.int64], wanted: Sequence[int], known: int) -> NDArray[np.bool_]:
    import numpy as np

    table = np.zeros(known, np.bool_)
    table[list(wanted)] = True
    return table[codes]


def _day(day: str | None, missing: int) -> int:
    return dt.date.fromisoformat(day).toordinal() if day else missing


def _second(instant: str | None) -> int:
    return int(dt.datetime.fromisoformat(instant).timestamp()) if instant else _NEVER
