"""Translate the conditions on items into SQL, and into masks of a tenant's matrix."""
# ruff: noqa: S608 - only names of columns and of parameters are put in; values are bound

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.memory.sqlite.escaping import escaped
from workbench.memory.sqlite.space import Space
from workbench.memory.vectors import Vectors
from workbench.ports import ItemFilter
from workbench.ports.item_filter import NO_END

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _digits(column: str, otherwise: str) -> str:
    """Return the SQL of a day or an instant as a number of the same order."""
    text = f"COALESCE({column}, '{otherwise}')"
    for sign in "-T:Z":
        text = f"replace({text}, '{sign}', '')"
    return f"CAST({text} AS INTEGER)"


_SQL = {
    "owner": "owner", "kind": "kind", "source": "source", "subject": "subject",
    "classification": "classification", "trust": "trust",
    "valid_from": _digits("valid_from", "0"),
    "valid_to": _digits("valid_to", NO_END["valid_to"]),
    "expires": _digits("expires", NO_END["expires"]),
}  # fmt: skip


class Condition:
    """A condition as SQL: its `text`, and its parameters in `bound`."""

    def __init__(self, where: ItemFilter) -> None:
        self.bound: dict[str, Any] = {}
        self.text = self._sql(where)

    def _sql(self, where: ItemFilter) -> str:
        match where.op:
            case "and":
                return self._joined("AND", where.parts) if where.parts else "TRUE"
            case "or":
                return self._joined("OR", where.parts) if where.parts else "FALSE"
            case "in" | "not in":
                among = self._among(where)
                return among if where.op == "in" else f"NOT {among}"
        return f"{_SQL[where.attribute]} {where.op} {self._bind(where.values[0])}"

    def _joined(self, op: str, parts: Sequence[ItemFilter]) -> str:
        """Join parts as a balanced tree, because SQLite limits the depth of an expression."""
        if len(parts) == 1:
            return self._sql(parts[0])
        half = len(parts) // 2
        return f"({self._joined(op, parts[:half])} {op} {self._joined(op, parts[half:])})"

    def _among(self, where: ItemFilter) -> str:
        if where.attribute == "acl":
            return f"names_any(access, {self._bind(json.dumps(where.values))})"
        if where.attribute == "subject":
            values = [escaped(str(value)) for value in where.values]
        else:
            values = list(where.values)  # type: ignore[arg-type]
        return f"{_SQL[where.attribute]} IN ({', '.join(map(self._bind, values))})"

    def _bind(self, value: Any) -> str:
        name = f"filter_{len(self.bound)}"
        self.bound[name] = value
        return f":{name}"


def mask(db: sqlite3.Connection, space: Space, vectors: Vectors, where: ItemFilter) -> NDArray[np.bool_]:
    """Return which rows of a tenant's matrix the condition holds for, in any version."""
    import numpy as np

    condition = Condition(where)
    rows = db.execute(
        f"SELECT number FROM items WHERE tenant = :key AND {condition.text}",
        {"key": space.key} | condition.bound,
    )
    found = np.zeros(len(vectors.ids), np.bool_)
    found[vectors.rows_of(np.fromiter((row[0] for row in rows), np.int64))] = True
    return found
