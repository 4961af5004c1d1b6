"""Privacy of a workspace: its detector, its classes of data, and the mask for what leaves the calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from workbench.controls.privacy import PrivacyControl
from workbench.errors import PrivacyError
from workbench.layout import AUDIT_KEYS
from workbench.models import ModelCard
from workbench.ports.privacy import Detection
from workbench.privacy.repository import detector_of, made_redaction, redaction_of, rules_of
from workbench.wire.contents import with_contents

if TYPE_CHECKING:
    import polars as pl

#: The providers whose models run in this process or beside it; all others are asked at an address.
_EMBEDDED: Final = frozenset({"local", "wordllama"})
#: The columns of a run that hold texts of answers, and whose rules they follow.
_OF_RUNS: Final[Mapping[str, Literal["logs", "outputs"]]] = {"output": "outputs", "error": "logs"}


def privacy_of(
    root: Path,
    card: Callable[[str], ModelCard],
    *,
    columns: Mapping[str, str],
    observe: bool = False,
    home: Path | None = None,
) -> PrivacyControl:
    """Return the control over the classes of data of a repository; raise ConfigError for invalid ones.

    `columns` are the classes of the inputs of cases, by their names.
    """
    return PrivacyControl(
        detector_of(root),
        rules_of(root),
        external=lambda target: card(target).provider not in _EMBEDDED,
        enforce=not observe,
        logged=redaction_of(root, home=home).stand_in,
        columns=columns,
    )


def protected(root: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table as it may be published by its classes of data; raise PrivacyError to refuse it.

    Texts are read in columns of texts and categories, and in lists and structures; numbers stay.
    """
    rules = rules_of(root)
    if all(actions["outputs"] == "pass" for actions in rules.actions.values()):
        return frame
    masked = made_redaction(rules, detector_of(root), "outputs", keys=root / AUDIT_KEYS)

    def find(text: str) -> Sequence[Detection]:
        found = detector_of(root).find(text)
        for item in found:
            name = rules.class_of(item.kind, item.data_class)
            if rules.action(name, "outputs") == "refuse":
                raise PrivacyError(
                    f"the table holds data of the class {name!r}, which may not be published; "
                    f"found: {item.kind}",
                    hint=f"leave the column out, or change data_classes.{name}.outputs in params.yaml",
                    kinds=(item.kind,),
                    destination="outputs",
                )
        return found

    return _with_texts(frame, masked.with_find(find).text)


def protected_run(root: Path, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of a run as they are kept: answers by the rules of outputs, errors by those of logs.

    A class that may not be published is masked, so that the answers of a run are not lost.
    """
    rules, detector, keys = rules_of(root), detector_of(root), root / AUDIT_KEYS
    for column, destination in _OF_RUNS.items():
        change = made_redaction(rules, detector, destination, keys=keys).text
        rows = rows.with_columns(_with_texts(rows.select(column), change))
    return rows


def _with_texts(frame: pl.DataFrame, change: Callable[[str], str]) -> pl.DataFrame:
    """Return a frame with `change` applied to its texts; each text is changed once a column."""
    return frame.with_columns([_changed(frame[name], change) for name in frame.columns])


def _changed(column: pl.Series, change: Callable[[str], str]) -> pl.Series:
    import polars as pl

    kind = column.dtype
    if kind == pl.String() or isinstance(kind, pl.Categorical | pl.Enum):
        texts = column.cast(pl.String()).unique().drop_nulls()
        new = {text: value for text in texts if (value := change(text)) != text}
        return column.cast(pl.String()).replace(new) if new else column
    if not kind.is_nested():
        return column
    before = column.to_list()
    after = [with_contents(value, change, free=True) for value in before]
    if all(new is old for new, old in zip(after, before, strict=True)):
        return column
    return pl.Series(column.name, after, dtype=kind)
