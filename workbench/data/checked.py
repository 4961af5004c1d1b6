"""Check the rows of a dataset or of a job's input by quality rules: which are kept, and which set aside."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from workbench.data import anomalies, cleaning
from workbench.data.anomalies import Suspect
from workbench.data.cleaning import Repair
from workbench.data.detector_rules import Outliers, Severity
from workbench.data.drift import ColumnDrift, drift
from workbench.data.near_duplicates import near_duplicates
from workbench.data.profile import Profile
from workbench.data.report import NAMED, BrokenRule, Change, NamedRow, QualityReport
from workbench.data.rules import QualityRules
from workbench.data.synthetic_rows import coverage, nearest_real
from workbench.data.validation import Violation, repeats, typed, violations
from workbench.errors import WorkbenchError, nearest
from workbench.experiments.batch import Batch
from workbench.experiments.inputs import Broken, InputRow

if TYPE_CHECKING:
    import polars as pl

#: Raise WorkbenchError when a row cannot become what the caller needs.
Fits = Callable[[Mapping[str, Any]], object]
Columns = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRows:
    """The rows of a file after the check: `kept` with cleaned columns, `broken` with the original ones."""

    kept: tuple[InputRow, ...] = field(repr=False)
    broken: tuple[Broken, ...] = field(repr=False)
    repairs: tuple[Repair, ...] = field(repr=False)
    report: QualityReport
    places: tuple[tuple[int, str], ...] = field(repr=False)

    def quarantine(self) -> pl.DataFrame:
        """Return the rows that were set aside, in the columns of a job's quarantine."""
        import polars as pl

        rows = len(self.places)
        batch = Batch(task="", name="", rows=rows, answers=pl.DataFrame(), broken=self.broken, held=False)
        return batch.quarantine()

    def ledger(self) -> pl.DataFrame:
        """Return one row for each change of a text, with digests of the text before and after."""
        return cleaning.ledger(self.repairs, self.places)

    def with_faults(self) -> tuple[InputRow, ...]:
        """Return all rows in the order of the file: kept ones cleaned, others with the reason as fault."""
        faulty = [dataclasses.replace(item.row, fault=item.reason) for item in self.broken]
        return tuple(sorted((*self.kept, *faulty), key=lambda row: row.number))


def check_rows(
    name: str,
    rows: Sequence[InputRow],
    rules: QualityRules,
    *,
    tenants: Collection[str] = (),
    profile: Profile | None = None,
    fits: Fits | None = None,
) -> CheckedRows:
    """Return the checked rows of the dataset `name`.

    Rules of single rows come first. Repeated values, near-duplicates and outliers are then sought among the
    rows that are left, until none is found: the kept rows pass the same check again.
    `tenants` are the accepted tenants; with one of them a row may leave its tenant out. `fits` raises
    WorkbenchError for a row that the caller cannot use.
    """
    columns, repairs = cleaning.clean([row.columns for row in rows], rules)
    found = [*_single(rows, columns, rules, profile)]
    found += _of_tenants(rows, columns, rules, tenants)
    left = _left(rows, found)
    if fits is not None:
        found += [item for index in left if (item := _unfit(index, columns[index], fits, rules)) is not None]
    found += _repeats(_left(rows, found), columns, rules)
    found += _among(_left(rows, found), columns, rules)
    left = _left(rows, found)
    drifted = _drift([columns[index] for index in left], rules, profile)
    report = _report(name, rows, found, repairs, drifted, rules)
    report = dataclasses.replace(report, synthetic=_synthetic(left, columns, rules))
    return CheckedRows(
        kept=tuple(dataclasses.replace(rows[index], columns=columns[index]) for index in left),
        broken=tuple(_broken(rows, found)),
        repairs=tuple(repairs),
        report=report,
        places=tuple((row.number, row.id) for row in rows),
    )


def _left(rows: Sequence[InputRow], found: Sequence[Violation]) -> list[int]:
    """Return the indexes of the rows that break no rule, or only rules of severity note."""
    gone = {item.index for item in found if item.severity != "note"}
    return [index for index in range(len(rows)) if index not in gone]


# -- rules of single rows --------------------------------------------------------------------


def _single(
    rows: Sequence[InputRow], columns: Sequence[Columns], rules: QualityRules, profile: Profile | None
) -> Iterator[Violation]:
    readable = [index for index, row in enumerate(rows) if not row.fault]
    for index, row in enumerate(rows):
        if row.fault:
            yield Violation(index=index, rule="readable", severity=rules.unreadable, reason=row.fault)
    for item in violations([columns[index] for index in readable], rules):
        yield dataclasses.replace(item, index=readable[item.index])
    for column, kind, severity, detect in _detectors(rules, profile):
        for suspect in detect(_values(columns, readable, column, rules)):
            index = readable[suspect.index]
            yield Violation(index=index, rule=f"{column}: {kind}", severity=severity, reason=suspect.reason)


def _detectors(
    rules: QualityRules, profile: Profile | None
) -> Iterator[tuple[str, str, Severity, Callable[[list[Any]], list[Suspect]]]]:
    """Yield column, name, severity and function of each detector that judges a value by itself."""
    for column, rule in rules.columns.items():
        if rule.language is not None:
            accepted = rule.language
            severity = rule.severity_of("language")
            yield column, "language", severity, partial(anomalies.other_languages, accepted=accepted)
    if (stated := rules.anomalies.encoding) is not None:
        for column in stated.columns:
            yield column, "encoding", stated.severity, anomalies.damaged
    if (unknown := rules.anomalies.category) is not None and profile is not None:
        for column in unknown.columns:
            if column in profile.columns and profile.columns[column].kind == "category":
                known = profile.columns[column].names
                severity = unknown.severity
                yield column, "category", severity, partial(anomalies.unknown_values, known=known)


def _values(
    columns: Sequence[Columns], indexes: Sequence[int], column: str, rules: QualityRules
) -> list[Any]:
    """Return the values of a column; texts of a list are joined, a value of a wrong type is None."""
    rule = rules.columns[column]
    found = [typed(columns[index].get(column), rule)[0] for index in indexes]
    if rule.type == "texts":
        return [None if value is None else " ".join(value) for value in found]
    return [str(value) for value in found] if rule.type == "boolean" else found


def _of_tenants(
    rows: Sequence[InputRow], columns: Sequence[Columns], rules: QualityRules, tenants: Collection[str]
) -> Iterator[Violation]:
    for index, row in enumerate(rows):
        tenant = columns[index].get("tenant")
        if not tenants or row.fault or tenant in tenants or (tenant is None and len(tenants) == 1):
            continue
        reason = "'tenant' is missing"
        if isinstance(tenant, str) and tenant:
            reason = f"{tenant[:40]!r} is no tenant of the use case ({nearest(tenant[:200], tenants)})"
        yield Violation(index=index, rule="tenant: known", severity=rules.unknown_tenant, reason=reason)


def _unfit(index: int, columns: Columns, fits: Fits, rules: QualityRules) -> Violation | None:
    try:
        fits(columns)
    except WorkbenchError as error:
        return Violation(
            index=index, rule="usable", severity=rules.unfit, reason=error.message.removeprefix("row: ")
        )
    return None


# -- rules of rows among others --------------------------------------------------------------


def _repeats(left: Sequence[int], columns: Sequence[Columns], rules: QualityRules) -> Iterator[Violation]:
    for item in repeats([columns[index] for index in left], rules):
        yield dataclasses.replace(item, index=left[item.index])


def _among(left: Sequence[int], columns: Sequence[Columns], rules: QualityRules) -> Iterator[Violation]:
    gone: set[int] = set()
    if (similar := rules.anomalies.near_duplicate) is not None:
        for column in similar.columns:
            kept = [index for index in left if index not in gone]
            for pair in near_duplicates(_values(columns, kept, column, rules), threshold=similar.threshold):
                earlier = columns[kept[pair.earlier]].get("id", "")
                reason = f"{pair.similarity:.0%} of its words in runs of three are those of {earlier!r}"
                index = kept[pair.index]
                gone |= {index} if similar.severity != "note" else set()
                rule = f"{column}: near_duplicate"
                yield Violation(index=index, rule=rule, severity=similar.severity, reason=reason)
    if rules.anomalies.near_real is not None:
        for item in _near_real([index for index in left if index not in gone], columns, rules):
            gone |= {item.index} if item.severity != "note" else set()
            yield item
    yield from _outliers([index for index in left if index not in gone], columns, rules)


def _near_real(left: Sequence[int], columns: Sequence[Columns], rules: QualityRules) -> Iterator[Violation]:
    """Yield the synthetic rows that are nearly a real row."""
    made, real = _by_origin(left, columns)
    stated = rules.anomalies.near_real
    for column in stated.columns if stated is not None and real else ():
        texts = _values(columns, made, column, rules)
        for pair in nearest_real(texts, _values(columns, real, column, rules)):
            if stated is not None and pair.similarity >= stated.threshold:
                other = columns[real[pair.real]].get("id", "")
                reason = f"{pair.similarity:.0%} of its grams are those of the real row {other!r}"
                name = f"{column}: near_real"
                yield Violation(index=made[pair.index], rule=name, severity=stated.severity, reason=reason)


def _by_origin(indexes: Sequence[int], columns: Sequence[Columns]) -> tuple[list[int], list[int]]:
    """Return the indexes of synthetic rows, and those of the others."""
    made = [index for index in indexes if columns[index].get("synthetic") is True]
    return made, [index for index in indexes if columns[index].get("synthetic") is not True]


def _synthetic(left: Sequence[int], columns: Sequence[Columns], rules: QualityRules) -> dict[str, Any]:
    """Return the numbers of synthetic and real rows and the coverage; {} without synthetic rows."""
    made, real = _by_origin(left, columns)
    if not made:
        return {}
    covered = coverage([columns[n] for n in made], [columns[n] for n in real], rules) if real else {}
    return {"rows": len(made), "real": len(real), "coverage": covered}


def _outliers(left: Sequence[int], columns: Sequence[Columns], rules: QualityRules) -> Iterator[Violation]:
    """Yield outliers; after rows were set aside, seek again among the others."""
    stated = {"range": rules.anomalies.range, "length": rules.anomalies.length}
    gone: set[int] = set()
    told: set[tuple[int, str]] = set()
    while True:
        kept = [index for index in left if index not in gone]
        before = len(gone)
        for kind, rule in stated.items():
            if rule is None:
                continue
            for column in rule.columns:
                for item in _outlying(kind, _values(columns, kept, column, rules), rule):
                    index, name = kept[item.index], f"{column}: outlying {kind}"
                    gone |= {index} if rule.severity != "note" else set()
                    if (index, name) not in told:
                        told.add((index, name))
                        yield Violation(index=index, rule=name, severity=rule.severity, reason=item.reason)
        if len(gone) == before:
            return


def _outlying(kind: str, values: list[Any], rule: Outliers) -> list[Suspect]:
    if kind == "length":
        return anomalies.unusual_lengths(values, spread=rule.spread)
    return anomalies.outliers(values, spread=rule.spread, scale=rule.scale)


def _drift(
    columns: Sequence[Columns], rules: QualityRules, profile: Profile | None
) -> tuple[ColumnDrift, ...]:
    if rules.anomalies.drift is None or profile is None:
        return ()
    return tuple(drift(columns, rules, profile))


# -- what is told ----------------------------------------------------------------------------


def _broken(rows: Sequence[InputRow], found: Sequence[Violation]) -> Iterator[Broken]:
    """Yield the rows that are set aside, each with its rules and reasons in one text."""
    reasons: dict[int, list[str]] = defaultdict(list)
    for item in found:
        if item.severity != "note":
            same = item.rule == "readable"
            reasons[item.index].append(item.reason if same else f"{item.rule}: {item.reason}")
    for index in sorted(reasons):
        yield Broken(row=rows[index], reason="; ".join(reasons[index]))


def _report(
    name: str,
    rows: Sequence[InputRow],
    found: Sequence[Violation],
    repairs: Sequence[Repair],
    drifted: tuple[ColumnDrift, ...],
    rules: QualityRules,
) -> QualityReport:
    by_rule: dict[tuple[str, Severity], list[Violation]] = defaultdict(list)
    for item in found:
        by_rule[item.rule, item.severity].append(item)
    broken = tuple(
        BrokenRule(rule=rule, severity=severity, count=len(items), first=_first(rows, items))
        for (rule, severity), items in sorted(by_rule.items())
    )
    rejected = {item.index for item in found if item.severity != "note"}
    stopped = [item.rule for item in broken if item.severity == "stop"]
    stated = rules.anomalies.drift
    if stated is not None and stated.severity == "stop":
        stopped += [f"drift of {item.column}: {item.moved}" for item in drifted if item.state == "drift"]
    return QualityReport(
        name=name,
        rows=len(rows),
        kept=len(rows) - len(rejected),
        rejected=len(rejected),
        repaired=len({item.index for item in repairs} - rejected),
        suspicious=len({item.index for item in found} - rejected),
        broken=broken,
        changes=tuple(Change(column=c, step=s, count=n) for c, s, n in cleaning.by_step(repairs)),
        drift=drifted,
        stopped=tuple(stopped),
    )


def _first(rows: Sequence[InputRow], items: Sequence[Violation]) -> tuple[NamedRow, ...]:
    ordered = sorted(items, key=lambda item: rows[item.index].number)[:NAMED]
    return tuple(
        NamedRow(row=rows[item.index].number, id=rows[item.index].id, reason=item.reason) for item in ordered
    )
