"""Rules of the detectors that a dataset's quality file switches on, with their severities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from workbench import files

#: What happens when a rule is broken: the row is named, the row is set aside, or nothing is read.
Severity = Literal["note", "quarantine", "stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outliers:
    """Values, or lengths of texts, further than `spread` robust standard deviations from the median.

    `scale: log` compares logarithms, for amounts that spread over magnitudes; lengths are always compared so.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    columns: tuple[str, ...]
    spread: float = 6.0
    scale: Literal["plain", "log"] = "plain"
    severity: Severity = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Texts with characters of a wrong decoding."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    columns: tuple[str, ...]
    severity: Severity = "quarantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Similar:
    """Texts whose Jaccard similarity of word shingles with an earlier row is `threshold` or more."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    columns: tuple[str, ...]
    threshold: float = 0.9
    severity: Severity = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class NearReal:
    """Synthetic rows whose Jaccard similarity of grams with a real row is `threshold` or more."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    columns: tuple[str, ...]
    threshold: float = 0.8
    severity: Severity = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Values of categories that the stored profile does not hold."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    columns: tuple[str, ...]
    severity: Severity = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A dataset whose columns are distributed otherwise than in the stored profile.

    `false_alarms` bounds the chance that a set without drift is reported; `distance` is the least total
    variation distance that is reported, however significant.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    false_alarms: float = 0.01
    distance: float = 0.1
    severity: Literal["note", "stop"] = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomalies:
    """The detectors that run on a dataset."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    range: Outliers | None = None
    length: Outliers | None = None
    category: Unknown | None = None
    encoding: Damage | None = None
    near_duplicate: Similar | None = None
    near_real: NearReal | None = None
    drift: Drift | None = None
