"""Clean the texts of a dataset by declared steps, and record each change in a ledger."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.data.rules import QualityRules

if TYPE_CHECKING:
    import polars as pl

#: The steps in the order in which they run, whatever their order in the rules: so that a second run of all
#: steps changes nothing.
ORDER = ("line_ends", "control_characters", "nfc", "trim", "map")
_LINE_ENDS = re.compile("\r\n?|\x85|\u2028|\u2029")
#: Control characters but tab and line feed; signs without a width; byte order marks. The joiners that emoji
#: and several scripts need stay.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)
_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One change of a text: the row's index from 0, the column, the step, and digests of both texts.

    The digests are the first 16 hexadecimal digits of SHA-256: the ledger holds no text, because texts may
    be personal.
    """

    index: int
    column: str
    step: str
    before: str
    after: str


def clean(
    rows: Sequence[Mapping[str, Any]], rules: QualityRules
) -> tuple[list[Mapping[str, Any]], list[Repair]]:
    """Return the rows after the steps of `rules`, and each change; only texts are changed."""
    cleaning = rules.cleaning
    columns = cleaning.columns if cleaning.columns is not None else rules.texts
    cleaned: list[Mapping[str, Any]] = []
    repairs: list[Repair] = []
    for index, row in enumerate(rows):
        changed = dict(row)
        for column in dict.fromkeys((*columns, *cleaning.map)):
            steps = cleaning.steps if column in columns else ()
            for step in ORDER:
                if step in steps or (step == "map" and column in cleaning.map):
                    before = changed.get(column)
                    after = _stepped(before, step, cleaning.map.get(column, {}))
                    if after != before:
                        changed[column] = after
                        repairs.append(_repair(index, column, step, before, after))
        cleaned.append(changed)
    return cleaned, repairs


def ledger(repairs: Sequence[Repair], rows: Sequence[tuple[int, str]]) -> pl.DataFrame:
    """Return one row for each change: row, id, column, step, digests; `rows` holds number and id by index."""
    import polars as pl

    schema: dict[str, Any] = {"row": pl.Int64}
    schema |= dict.fromkeys(("id", "column", "step", "before", "after"), pl.String)
    lines = [(*rows[item.index], item.column, item.step, item.before, item.after) for item in repairs]
    return pl.DataFrame(lines, schema=schema, orient="row")


def _stepped(value: Any, step: str, spellings: Mapping[str, str]) -> Any:
    """Return a text, or each text of a list, after one step."""
    if isinstance(value, list):
        return [_stepped(item, step, spellings) for item in value]
    if not isinstance(value, str):
        return value
    if step == "line_ends":
        return _LINE_ENDS.sub("\n", value)
    if step == "control_characters":
        return _CONTROLS.sub("", value)
    if step == "nfc":
        return unicodedata.normalize("NFC", value)
    return value.strip() if step == "trim" else spellings.get(value, value)


def _repair(index: int, column: str, step: str, before: Any, after: Any) -> Repair:
    digests = [files.digest(value)[:_DIGITS] for value in (before, after)]
    return Repair(index=index, column=column, step=step, before=digests[0], after=digests[1])


def by_step(repairs: Sequence[Repair]) -> Iterator[tuple[str, str, int]]:
    """Yield column, step and number of changes, sorted."""
    counted: dict[tuple[str, str], int] = {}
    for item in repairs:
        key = item.column, item.step
        counted[key] = counted.get(key, 0) + 1
    for (column, step), number in sorted(counted.items()):
        yield column, step, number
