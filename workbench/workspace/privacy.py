"""Privacy of a workspace: its detector, its classes of data, and the mask for what leaves the calls."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workbench import files
from workbench.config import DataRules, OwnTerms, data_rules, load_params
from workbench.controls.privacy import PrivacyControl
from workbench.errors import PrivacyError
from workbench.layout import PARAMS
from workbench.models import ModelCard
from workbench.ports.privacy import Detector
from workbench.privacy.detection import CombinedDetector, PatternDetector
from workbench.privacy.gliner import GlinerDetector
from workbench.privacy.presidio import PresidioDetector
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


def redaction_of(root: Path) -> Redaction:
    """Return what masks identifiers and secrets in texts that go to records, spans, logs and messages."""
    rules = rules_of(root)
    return Redaction(
        detector_of(root).find,
        passes=lambda kind, data_class: rules.action(rules.class_of(kind, data_class), "logs") == "pass",
    )


def rules_of(root: Path) -> DataRules:
    """Return the classes of data of a repository; a folder without params.yaml has the built-in ones."""
    return data_rules(load_params(root).data_classes if (root / PARAMS).is_file() else {})


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


def detector_of(root: Path) -> Detector:
    """Return the detector of a repository, which also finds the terms of `privacy.lexicon` in params.yaml."""
    stated = load_params(root).privacy if (root / PARAMS).is_file() else OwnTerms()
    found = _plain() if stated.lexicon is None else _with_lexicon(root / stated.lexicon)
    if stated.presidio is None and stated.gliner is None:
        return found
    return CombinedDetector(found, *_optional(root, stated.presidio, stated.gliner))


@functools.cache
def _plain() -> Detector:
    return PatternDetector()


@files.until_changed
def _with_lexicon(path: Path) -> Detector:
    return PatternDetector.with_lexicon(path)


@functools.lru_cache(maxsize=8)
def _optional(root: Path, presidio: str | None, gliner: str | None) -> tuple[Detector, ...]:
    """Return the optional detectors that are stated; raise ConfigError when a package is not installed."""
    found: list[Detector] = []
    if presidio is not None:
        found.append(PresidioDetector(language=presidio))
    if gliner is not None:
        found.append(GlinerDetector(root / gliner))
    return tuple(found)
