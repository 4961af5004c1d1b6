"""Privacy of a workspace: its detector, its classes of data, and the mask for what leaves the calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workbench.controls.privacy import PrivacyControl
from workbench.errors import PrivacyError
from workbench.models import ModelCard
from workbench.privacy.repository import detector_of, rules_of
from workbench.wire.redaction import Redaction

if TYPE_CHECKING:
    import polars as pl

#: The providers whose models run in this process or beside it; all others are asked at an address.
_EMBEDDED: Final = frozenset({"local", "wordllama"})


def privacy_of(root: Path, card: Callable[[str], ModelCard], *, observe: bool = False) -> PrivacyControl:
    """Return the control over the classes of data of a repository; raise ConfigError for invalid ones."""
    return PrivacyControl(
        detector_of(root),
        rules_of(root),
        external=lambda target: card(target).provider not in _EMBEDDED,
        enforce=not observe,
    )


def protected(root: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table as it may be published by its classes of data; raise PrivacyError to refuse it."""
    import polars as pl

    rules, detector = rules_of(root), detector_of(root)
    if all(actions["outputs"] == "pass" for actions in rules.actions.values()):
        return frame

    def passes(kind: str, data_class: str) -> bool:
        name = rules.class_of(kind, data_class)
        if rules.action(name, "outputs") == "refuse":
            raise PrivacyError(
                f"the table holds data of the class {name!r}, which may not be published; found: {kind}",
                hint=f"leave the column out, or change data_classes.{name}.outputs in params.yaml",
                kinds=(kind,),
                destination="outputs",
            )
        return rules.action(name, "outputs") == "pass"

    masked = Redaction(detector.find, passes=passes)
    texts = [name for name, kind in frame.schema.items() if kind == pl.String()]
    columns = [
        pl.Series(name, [text and masked.text(text) for text in frame[name]], dtype=pl.String())
        for name in texts
    ]
    return frame.with_columns(columns)
