"""The bill of materials of a lock, and a scanner's report on its packages."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from clones import ROOT
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from workbench.errors import ConfigError, NotFoundError
from workbench.promotion.bill_of_materials import bill, packages_of
from workbench.promotion.vulnerabilities import ScanReport, not_scanned

LOCK = b"""\
# made by a tool
alpha[extra]==1.0 \\
    --hash=sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    # via project (pyproject.toml)
Beta_Two==2.0.post1 ; sys_platform == 'darwin' \\
    --hash=sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb \\
    --hash=sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc
    # via
    #   alpha
    #   gamma
gamma==3
gamma==4 ; python_version < '3.12'
"""
AT = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)


def made(lock: bytes, **changed):
    given = {"job": "answers", "version": 7, "page": "a" * 64, "at": AT, **changed}
    return bill(packages_of(lock, where="lock"), **given)


def test_the_packages_of_a_lock_are_read_with_their_parents_and_markers():
    found = packages_of(LOCK, where="lock")
    assert [(item.name, item.version) for item in found] == [
        ("alpha", "1.0"), ("beta-two", "2.0.post1"), ("gamma", "3"), ("gamma", "4"),
    ]  # fmt: skip
    assert found[1].via == ("alpha", "gamma") and len(found[1].hashes) == 2
    assert found[1].marker == "sys_platform == 'darwin'" and found[0].via == ("project",)


def test_the_bill_has_each_package_and_what_needs_it():
    found = made(LOCK)
    assert [part["purl"] for part in found["components"]] == [
        "pkg:pypi/alpha@1.0", "pkg:pypi/beta-two@2.0.post1", "pkg:pypi/gamma@3", "pkg:pypi/gamma@4",
    ]  # fmt: skip
    needs = {item["ref"]: item.get("dependsOn", []) for item in found["dependencies"]}
    assert needs["alpha@1.0"] == needs["gamma@4"] == ["beta-two@2.0.post1"]
    assert needs["answers@7"] == ["alpha@1.0", "gamma@3", "gamma@4"] and needs["gamma@3"]
    assert made(LOCK) == found != made(LOCK, version=8)


def test_the_bill_of_this_project_s_lock_is_valid_and_complete():
    lock = (ROOT / "locks/workbench.lock").read_bytes()
    found = made(lock)
    pinned = [line for line in lock.decode().splitlines() if "==" in line and not line.startswith((" ", "#"))]
    assert len(found["components"]) == len(pinned)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(found)) is None
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps({**found, "extra": 1})) is not None


@pytest.mark.parametrize("line", ["alpha>=1.0", "-e .", "git+https://example.com/x", "alpha==1.0 beta==2"])
def test_a_line_that_pins_nothing_is_refused_by_its_number(line):
    with pytest.raises(ConfigError, match=r"^lock:2: ") as error:
        packages_of(f"alpha==1\n{line}\n".encode(), where="lock")
    assert "make lock" in str(error.value)


PIP_AUDIT = {
    "dependencies": [
        {"name": "Alpha", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]},
        {"name": "alpha", "version": "0.9", "vulns": [{"id": "PYSEC-2"}]},
        {"name": "omitted", "skip_reason": "not on the index"},
    ],
    "fixes": [],
}
SEVERITY = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N"}]
SCANNER = {"results": [{"packages": [
    {"package": {"name": "alpha", "version": "1.0", "ecosystem": "PyPI"},
     "vulnerabilities": [{"id": "GHSA-1", "severity": SEVERITY}]},
    {"package": {"name": "alpha", "version": "1.0", "ecosystem": "npm"}, "vulnerabilities": [{"id": "N"}]},
]}]}  # fmt: skip
RECORDS = [
    {"id": "OSV-1", "modified": "2026-11-01T00:00:00Z", "severity": SEVERITY, "affected": [
        {"package": {"name": "alpha", "ecosystem": "PyPI"}, "versions": ["0.9", "1.0"]},
        {"package": {"name": "gamma", "ecosystem": "PyPI"}, "versions": ["9"]}]},
    {"id": "OSV-2", "modified": "2026-11-02T00:00:00Z", "affected": [
        {"package": {"name": "gamma", "ecosystem": "PyPI"}, "ranges": [{"type": "ECOSYSTEM"}]}]},
]  # fmt: skip


def read(tmp_path, raw) -> ScanReport:
    path = tmp_path / "report.json"
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw), encoding="utf-8")
    return ScanReport.read(path, packages_of(LOCK, where="lock"))


@pytest.mark.parametrize(
    ("raw", "scanner", "ids"),
    [
        (PIP_AUDIT, "pip-audit", ["PYSEC-1"]),
        (SCANNER, "osv-scanner", ["GHSA-1"]),
        (RECORDS, "osv", ["OSV-1", "OSV-2", "OSV-2"]),
        (RECORDS[0], "osv", ["OSV-1"]),
        ([], "osv", []),
        ({"dependencies": []}, "pip-audit", []),
    ],
)
def test_a_report_tells_the_vulnerabilities_of_pinned_packages(tmp_path, raw, scanner, ids):
    found = read(tmp_path, raw)
    assert (found.scanner, [item.id for item in found.found]) == (scanner, ids)


def test_a_range_that_nobody_compared_is_undecided_and_said(tmp_path):
    said = read(tmp_path, RECORDS).predicate("2026-11-30T00:00:00Z")
    sure, *undecided = said["scanner"]["result"]
    assert sure["severity"] == [{"method": "CVSS_V3", "score": "CVSS:3.1/AV:N"}]
    assert sure["annotations"] == [{"package": "alpha", "version": "1.0"}]
    assert all("range" in item["annotations"][0]["undecided"] for item in undecided)
    assert said["scanner"]["db"]["lastUpdate"] == "2026-11-02T00:00:00Z"


@pytest.mark.parametrize(
    "raw",
    ["", "{", "7", "null", '"x"', {}, {"dependencies": 7}, {"dependencies": [{}]}, {"results": [{}]},
     [{"id": "x"}], {"id": 7, "affected": []} | {"dependencies": [{"name": "alpha", "version": "1.0",
     "vulns": [{"id": 7}]}]}, '{"dependencies": [], "dependencies": []}', "[" * 10_000],
)  # fmt: skip
def test_what_is_no_report_is_refused_by_its_name(tmp_path, raw):
    with pytest.raises(ConfigError, match=r"report\.json"):
        read(tmp_path, raw)


def test_a_missing_report_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"none\.json"):
        ScanReport.read(tmp_path / "none.json", ())


def test_that_nobody_looked_is_no_empty_result():
    said = not_scanned("2026-11-30T00:00:00Z")
    assert said["scanned"] is False and "nobody looked" in said["reason"] and "result" not in said
