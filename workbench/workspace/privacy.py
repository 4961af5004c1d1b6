"""Privacy of a workspace: its detector, its classes of data, and the mask for what leaves the calls."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Final

from workbench.config import DataRules, data_rules, load_params
from workbench.controls.privacy import PrivacyControl
from workbench.layout import PARAMS
from workbench.models import ModelCard
from workbench.ports.privacy import Detector
from workbench.privacy.detection import PatternDetector
from workbench.wire.redaction import Redaction

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


@functools.cache
def detector_of(root: Path) -> Detector:
    """Return the detector of a repository."""
    del root  # a repository has no list of its own yet
    return PatternDetector()
