"""State the known vulnerabilities of a version's packages, as a scanner reported them in a file.

Nothing is fetched: the file is pip-audit's JSON, osv-scanner's JSON, or records of the OSV format.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from workbench import files
from workbench.errors import ConfigError
from workbench.promotion.bill_of_materials import Package, normal_name

#: The types of the two statements: what was found, and that nobody looked.
VULNERABILITIES_TYPE: Final = "https://in-toto.io/attestation/vulns/v0.1"
NOT_SCANNED_TYPE: Final = "urn:workbench:not-scanned:1"
_MOST_BYTES: Final = 32 << 20
_HINT = "pip-audit --format json --output FILE, or osv-scanner --format json"
_MOST_FOUND: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Vulnerability:
    """A vulnerability of a pinned package. `sure` is False when the report has only a range of versions."""

    id: str
    package: str
    version: str
    severity: tuple[tuple[str, str], ...] = ()
    sure: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the result in the form of the in-toto predicate."""
        told: dict[str, Any] = {"package": self.package, "version": self.version}
        if not self.sure:
            told["undecided"] = "the report has a range of versions only"
        severity = [{"method": method, "score": score} for method, score in self.severity]
        return {"id": self.id, "severity": severity, "annotations": [told]}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanReport:
    """What a file reports on the packages of a lock: scanner, digest of the file, and the vulnerabilities."""

    scanner: str
    name: str
    digest: str
    updated: str
    found: tuple[Vulnerability, ...]

    @classmethod
    def read(cls, path: Path, packages: Sequence[Package]) -> ScanReport:
        """Return the report in a file, for these packages; ConfigError for a file of another form."""
        text = files.read_text(path, hint=_HINT, limit=_MOST_BYTES)
        raw = files.parse_json(text, where=str(path))
        pinned = {(item.name, item.version) for item in packages}
        try:
            scanner, found = _reported(raw, pinned)
            known = sorted(set(found), key=lambda item: (item.package, item.version, item.id))
            updated = max((str(item.get("modified", "")) for item in _records(raw)), default="")
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ConfigError(f"{path} is no report that can be read", hint=_HINT) from None
        if len(known) > _MOST_FOUND:
            raise ConfigError(f"{path} reports more than {_MOST_FOUND:,} vulnerabilities", hint=_HINT)
        return cls(
            scanner=scanner,
            name=path.name,
            digest=files.digest(files.read_bytes(path, limit=_MOST_BYTES)),
            updated=updated,
            found=tuple(known),
        )

    def predicate(self, at: str) -> dict[str, Any]:
        """Return the predicate of the statement, made at an instant."""
        file = {
            "uri": f"file:{self.name}",
            "version": f"sha256:{self.digest}",
            "lastUpdate": self.updated,
        }
        return {
            "at": at,
            "scanner": {
                "uri": f"urn:workbench:scanner:{self.scanner}",
                "db": file,
                "result": [item.to_json() for item in self.found],
            },
            "metadata": {"scanStartedOn": at, "scanFinishedOn": at},
        }


def not_scanned(at: str) -> dict[str, Any]:
    """Return the predicate which states that nobody looked for vulnerabilities until an instant."""
    text = "nobody looked for known vulnerabilities of the packages: no report was given"
    return {"at": at, "scanned": False, "reason": text}


def _reported(raw: Any, pinned: set[tuple[str, str]]) -> tuple[str, list[Vulnerability]]:
    """Return the scanner and the vulnerabilities of pinned packages."""
    if isinstance(raw, dict) and "dependencies" in raw:
        return "pip-audit", list(_of_pip_audit(raw["dependencies"], pinned))
    if isinstance(raw, dict) and "results" in raw:
        return "osv-scanner", list(_of_scanner(raw["results"], pinned))
    records = _records(raw)
    if not records and raw != []:
        raise ValueError
    return "osv", [item for record in records for item in _of_record(record, pinned)]


def _records(raw: Any) -> list[Mapping[str, Any]]:
    """Return the OSV records of a file that holds one or a list of them."""
    listed = raw if isinstance(raw, list) else [raw]
    return [item for item in listed if "id" in item and "affected" in item]


def _of_pip_audit(dependencies: Any, pinned: set[tuple[str, str]]) -> Iterator[Vulnerability]:
    for item in dependencies:
        name, version = normal_name(item["name"]), str(item.get("version", ""))
        for found in item.get("vulns", ()) if (name, version) in pinned else ():
            yield Vulnerability(id=_id(found), package=name, version=version)


def _of_scanner(results: Any, pinned: set[tuple[str, str]]) -> Iterator[Vulnerability]:
    for item in [package for result in results for package in result["packages"]]:
        name, version = normal_name(item["package"]["name"]), str(item["package"]["version"])
        python = item["package"].get("ecosystem") == "PyPI"
        for found in item.get("vulnerabilities", ()) if python and (name, version) in pinned else ():
            yield Vulnerability(id=_id(found), package=name, version=version, severity=_severity(found))


def _of_record(record: Mapping[str, Any], pinned: set[tuple[str, str]]) -> Iterator[Vulnerability]:
    for affected in record["affected"]:
        if affected["package"].get("ecosystem") != "PyPI":
            continue
        name, listed = normal_name(affected["package"]["name"]), affected.get("versions", ())
        for package, version in sorted(pinned):
            if package == name and (version in listed or not listed):
                found = Vulnerability(
                    id=_id(record), package=name, version=version, severity=_severity(record)
                )
                yield dataclasses.replace(found, sure=bool(listed))


def _id(found: Mapping[str, Any]) -> str:
    text = found["id"]
    if not isinstance(text, str) or not 0 < len(text) <= 200:
        raise ValueError
    return text


def _severity(found: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(item["type"]), str(item["score"])) for item in found.get("severity", ()))
