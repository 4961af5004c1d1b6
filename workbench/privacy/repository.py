"""The detector and the classes of data of a repository, and the mask for what leaves its calls."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from workbench import files
from workbench.config import DataRules, OwnTerms, data_rules, load_params
from workbench.errors import WorkbenchError
from workbench.layout import PARAMS
from workbench.ports.privacy import Detector
from workbench.privacy.detection import CombinedDetector, PatternDetector
from workbench.privacy.gliner import GlinerDetector
from workbench.privacy.presidio import PresidioDetector
from workbench.wire.redaction import Redaction

#: Kinds that ordinary output of commands looks like: names of people, and numbers with dots or colons.
_ORDINARY: Final = frozenset({"person", "ip"})


def redaction_of(root: Path) -> Redaction:
    """Return what masks identifiers and secrets in texts that go to records, spans, logs and messages."""
    rules = rules_of(root)
    return Redaction(
        detector_of(root).find,
        passes=lambda kind, data_class: rules.action(rules.class_of(kind, data_class), "logs") == "pass",
    )


def always_redaction_of(root: Path) -> Redaction:
    """Return what masks texts also where params.yaml is not valid: then by the built-in classes."""
    try:
        return redaction_of(root)
    except WorkbenchError:
        return Redaction(_plain().find, passes=lambda _kind, _class: False)


def masked_output(text: str) -> str:
    """Return a text for a terminal or a log, with masks in place of secrets and of identifiers.

    Names of people and addresses of machines stay: the output of commands is full of what looks alike.
    """
    return Redaction(_plain().find, passes=lambda kind, _: kind in _ORDINARY).text(text)


def rules_of(root: Path) -> DataRules:
    """Return the classes of data of a repository; a folder without params.yaml has the built-in ones."""
    return data_rules(load_params(root).data_classes if (root / PARAMS).is_file() else {})


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
