"""The detector and the classes of data of a repository, and the mask for what leaves its calls."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from workbench import files
from workbench.audit.signing import AuditPseudonyms
from workbench.config import (
    DataClass,
    DataRules,
    OwnTerms,
    check_data_classes,
    check_own_terms,
    data_rules,
    read_sections,
)
from workbench.errors import WorkbenchError
from workbench.layout import AUDIT_KEYS, PARAMS
from workbench.ports.privacy import Detector
from workbench.privacy.detection import CombinedDetector, PatternDetector
from workbench.privacy.gliner import GlinerDetector
from workbench.privacy.presidio import PresidioDetector
from workbench.wire.pseudonyms import keyed_pseudonym
from workbench.wire.redaction import Redaction

#: Kinds that ordinary output of commands looks like: names of people, and numbers with dots or colons.
_ORDINARY: Final = frozenset({"person", "ip"})


class KeyedPseudonyms:
    """Pseudonyms such as `[EMAIL_kgbd…]`: the same value has the same one while the key of `keys` stays.

    The digests are those of the audit log, of a domain of their own. The key is read, or made, when the
    first value is met.
    """

    __slots__ = ("_digests", "_keys")

    def __init__(self, *, keys: Path) -> None:
        self._keys = keys
        self._digests: AuditPseudonyms | None = None

    def __call__(self, value: str, kind: str) -> str:
        """Return the pseudonym of a value of a kind."""
        if self._digests is None:
            self._digests = AuditPseudonyms.load(self._keys)
        return keyed_pseudonym(kind, self._digests.of("value", kind, value))


def redaction_of(root: Path, *, home: Path | None = None) -> Redaction:
    """Return what masks identifiers and secrets in texts that go to records, spans, logs and messages.

    The key of keyed pseudonyms is in the state of `home`, by default of `root`.
    """
    return made_redaction(rules_of(root), detector_of(root), "logs", keys=(home or root) / AUDIT_KEYS)


def made_redaction(
    rules: DataRules, detector: Detector, destination: Literal["logs", "outputs"], *, keys: Path
) -> Redaction:
    """Return what replaces detections by the rules of a destination.

    Classes with the action `pseudonymise` get keyed pseudonyms; a class that is refused is masked.
    """

    def action(kind: str, data_class: str) -> str:
        return rules.action(rules.class_of(kind, data_class), destination)

    def pseudonym(value: str, kind: str, data_class: str) -> str | None:
        return keyed(value, kind) if action(kind, data_class) == "pseudonymise" else None

    keyed = KeyedPseudonyms(keys=keys)
    return Redaction(
        detector.find,
        passes=lambda kind, data_class: action(kind, data_class) == "pass",
        pseudonym=pseudonym,
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
    return data_rules(_stated(root / PARAMS).data_classes)


def detector_of(root: Path) -> Detector:
    """Return the detector of a repository, which also finds the terms of `privacy.lexicon` in params.yaml."""
    stated = _stated(root / PARAMS).privacy
    found = _plain() if stated.lexicon is None else _with_lexicon(root / stated.lexicon)
    if stated.presidio is None and stated.gliner is None:
        return found
    return CombinedDetector(found, *_optional(root, stated.presidio, stated.gliner))


@dataclass(frozen=True, slots=True, kw_only=True)
class _DataSections:
    """The keys of params.yaml that concern data."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    data_classes: dict[str, DataClass] = field(default_factory=dict)
    privacy: OwnTerms = field(default_factory=OwnTerms)


@files.until_changed
def _stated(path: Path) -> _DataSections:
    words = ("data_classes", "privacy")
    found = read_sections(path.parent, _DataSections, words=words, hint="see docs/params.md for every key")
    check_data_classes(found.data_classes, where=str(path))
    check_own_terms(found.privacy, where=f"{path}: privacy")
    return found


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
