"""The detectors of Presidio, for those who install it.

Without a model Presidio finds what has a pattern, and no names. `model` names an installed spaCy model.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final

from workbench.errors import ConfigError
from workbench.ports.privacy import Detection

#: Presidio's entities and the kinds that they are here. Others, such as dates and links, are left out.
_KINDS: Final[Mapping[str, str]] = {
    "PERSON": "person", "LOCATION": "address", "EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card", "IBAN_CODE": "iban", "IP_ADDRESS": "ip", "US_SSN": "national_id",
    "UK_NHS": "national_id", "UK_NINO": "national_id", "US_PASSPORT": "national_id",
    "US_DRIVER_LICENSE": "national_id", "ES_NIF": "national_id", "ES_NIE": "national_id",
    "IT_FISCAL_CODE": "tax_number", "US_ITIN": "tax_number", "PL_PESEL": "national_id",
    "IN_PAN": "tax_number", "IN_AADHAAR": "national_id", "FI_PERSONAL_IDENTITY_CODE": "national_id",
}  # fmt: skip


class PresidioDetector:
    """Finds identifiers with Presidio's recognisers, those above a score."""

    __slots__ = ("_analyzer", "_entities", "_language", "_score")

    def __init__(self, *, language: str = "en", model: str | None = None, score: float = 0.35) -> None:
        self._language, self._score = language, score
        self._analyzer = _analyzer(language, model)
        known = set(self._analyzer.get_supported_entities(language=language))
        self._entities = sorted(known & _KINDS.keys())

    def find(self, text: str) -> tuple[Detection, ...]:
        """Return what was found, sorted by start and without overlap; of two that overlap the surer one."""
        results = self._analyzer.analyze(
            text, language=self._language, entities=self._entities, score_threshold=self._score
        )
        taken: list[Detection] = []
        for result in sorted(results, key=lambda each: (-each.score, each.start, -each.end)):
            if all(result.end <= other.start or result.start >= other.end for other in taken):
                taken.append(Detection(start=result.start, end=result.end, kind=_KINDS[result.entity_type]))
        return tuple(sorted(taken, key=lambda each: each.start))


def _analyzer(language: str, model: str | None) -> Any:
    try:
        analyzer = importlib.import_module("presidio_analyzer")
        engines = importlib.import_module("presidio_analyzer.nlp_engine")
        spacy = importlib.import_module("spacy")
        suffixes: Any = importlib.import_module("tldextract")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the detector 'presidio' needs a package that is not installed: {error.name}",
            hint="add presidio-analyzer to dependencies in pyproject.toml, then: make lock && make env",
        ) from None
    # Its recogniser of e-mail addresses would fetch a list of domains from the network once a process.
    suffixes.extract = suffixes.TLDExtract(suffix_list_urls=(), cache_dir=None)
    suffixes.tldextract.TLD_EXTRACTOR = suffixes.extract
    engine = engines.SpacyNlpEngine()
    engine.nlp = {language: spacy.blank(language) if model is None else spacy.load(model)}
    return analyzer.AnalyzerEngine(nlp_engine=engine, supported_languages=[language])
