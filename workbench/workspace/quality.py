"""The quality of a use case's dataset and of its jobs' inputs, by the rules file that params.yaml names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import config, files
from workbench.config import UseCase
from workbench.data.rules import QualityRules, read_rules
from workbench.errors import ConfigError, NotFoundError
from workbench.experiments.dataset import PROVENANCE, Dataset, stated_file
from workbench.experiments.inputs import InputRow, read
from workbench.layout import QUALITY

if TYPE_CHECKING:
    from workbench.data.checked import CheckedRows
    from workbench.data.profile import Profile
    from workbench.data.report import QualityReport

# The detectors need numpy, so they are imported when there are rules: a kernel of a use case without any
# starts a tenth of a second faster.

#: Files of the stage `prepare`: the report, the rows that were set aside, and the ledger of changes.
REPORT, QUARANTINE, LEDGER = "quality.json", "quarantine.parquet", "ledger.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedRules:
    """The rules of a file below `root`, with its profile; without a stored profile nothing is compared."""

    path: str
    rules: QualityRules
    profile: Profile | None

    @classmethod
    def read(cls, root: Path, path: str) -> StatedRules:
        """Return the rules and their profile; raise ConfigError when one of the files is invalid."""
        from workbench.data.profile import read_profile

        config.check_inside(path, where="rules")
        rules = read_rules(root / path, where=path)
        if rules.profile is not None:
            config.check_quality(rules.profile, where=f"{path}: profile")
        stored = rules.profile is not None and (root / rules.profile).exists()
        profile = read_profile(root / str(rules.profile)) if stored else None
        return cls(path=path, rules=rules, profile=profile)

    def digests(self, root: Path) -> dict[str, str]:
        """Return the SHA-256 of the rules file and of the profile, by path."""
        paths = [self.path] + ([str(self.rules.profile)] if self.profile else [])
        return {path: files.digest(files.read_bytes(root / path)) for path in paths}


def checked_dataset(root: Path, name: str, case: UseCase, file: str) -> CheckedRows:
    """Return the checked rows of the dataset `file` of a use case.

    Raise NotFoundError without the key `quality`, and ConfigError when a file cannot be read.
    """
    from workbench.data.checked import check_rows

    if case.quality is None:
        raise NotFoundError(
            f"use case {name!r} states no quality rules",
            hint=f"add quality: {QUALITY}/{name}.yaml to the use case in params.yaml",
        )
    where = f"{root / 'params.yaml'}: use_cases.{name}.dataset"
    path = stated_file(root, file, **case.columns, where=where)
    stated = StatedRules.read(root, case.quality)
    expected = [column for column in case.columns["expected"] if column != "page"]  # it may be []
    needed = ("id", "tenant", *case.columns["inputs"], *expected)
    rules = stated.rules.requiring(needed)
    return check_rows(
        name,
        read(root / path),
        rules,
        tenants=case.tenants,
        profile=stated.profile,
        fits=lambda columns: _case_of(columns, rules, case),
    )


def _usable(root: Path, name: str, case: UseCase, file: str) -> CheckedRows:
    """Return the checked rows; raise ConfigError when a rule stops, or when no row is left."""
    found = checked_dataset(root, name, case, file)
    hint = f"workbench data check {name}   # names the rows"
    found.report.check_stopped(hint=hint)
    if not found.kept:
        raise ConfigError(f"{name}: no row of {file} is left by the rules of {case.quality}", hint=hint)
    return found


def dataset(root: Path, name: str, case: UseCase, file: str) -> Dataset:
    """Return the cases of a dataset: the rows that the quality rules keep, or every row without rules.

    Raise ConfigError when the file cannot be read or a rule of severity stop is broken.
    """
    if case.quality is None:
        where = f"{root / 'params.yaml'}: use_cases.{name}.dataset"
        return Dataset.of_file(root, file, **case.columns, where=where)
    found = _usable(root, name, case, file)
    rules = StatedRules.read(root, str(case.quality)).rules
    rows = ((f"{file}, row {row.number}", _used(row.columns, rules, case)) for row in found.kept)
    return Dataset.from_rows(rows, name=Path(file).stem, **case.columns)


def write(root: Path, name: str, case: UseCase, folder: Path, file: str) -> QualityReport | None:
    """Write the report, the quarantine and the ledger of a dataset into `folder`; nothing without rules."""
    if case.quality is None:
        for part in (REPORT, QUARANTINE, LEDGER):
            (folder / part).unlink(missing_ok=True)
        return None
    found = _usable(root, name, case, file)
    digests = StatedRules.read(root, str(case.quality)).digests(root)
    told = {"report": found.report.to_json(), "rules": digests}
    files.write_atomic(folder / QUARANTINE, _parquet(found.quarantine()))
    files.write_atomic(folder / LEDGER, _parquet(found.ledger()))
    files.write_atomic(folder / REPORT, files.pretty(told))
    return found.report


def written(folder: Path) -> QualityReport | None:
    """Return the report that the stage `prepare` wrote into `folder`; None when it wrote none."""
    from workbench.data.report import QualityReport

    return QualityReport.of_file(folder / REPORT)


def checked_inputs(
    root: Path, case: UseCase, rows: tuple[InputRow, ...], *, tenants: tuple[str, ...], source: str
) -> tuple[InputRow, ...]:
    """Return the rows of a job's input, cleaned; a row that breaks a rule has the reason as its fault.

    Only the rules of `id`, `tenant` and the inputs apply. Raise ConfigError when a rule of severity stop is
    broken. Without the key `quality` the rows are returned as they are.
    """
    if case.quality is None or not rows:
        return rows
    from workbench.data.checked import check_rows

    stated = StatedRules.read(root, case.quality)
    rules = stated.rules.of_columns(("id", "tenant", *case.columns["inputs"]))
    rules = rules.without_required("tenant") if len(tenants) == 1 else rules
    found = check_rows(source, rows, rules, tenants=tenants, profile=stated.profile)
    found.report.check_stopped(hint=f"workbench data check {source} --rules {case.quality}")
    return found.with_faults()


def check_file(root: Path, path: Path, rules: str, *, tenants: tuple[str, ...] = ()) -> CheckedRows:
    """Return the checked rows of any JSON lines or Parquet file by the rules of a file below `root`."""
    from workbench.data.checked import check_rows

    stated = StatedRules.read(root, rules)
    return check_rows(path.name, read(path), stated.rules, tenants=tenants, profile=stated.profile)


def store_profile(root: Path, name: str, case: UseCase, file: str) -> tuple[str, Profile]:
    """Write the profile of a use case's dataset to the path that its rules name; return path and profile."""
    from workbench.data.profile import profile_of

    found = checked_dataset(root, name, case, file)
    stated = StatedRules.read(root, str(case.quality))
    if stated.rules.profile is None:
        raise ConfigError(
            f"{case.quality}: the key profile is missing",
            hint=f"profile: {Path(str(case.quality)).with_suffix('.profile.json')}",
        )
    profile = profile_of([row.columns for row in found.kept], stated.rules)
    files.write_atomic(root / stated.rules.profile, profile.to_bytes())
    return stated.rules.profile, profile


def _used(columns: Mapping[str, Any], rules: QualityRules, case: UseCase) -> dict[str, Any]:
    """Return the columns of a case: those that only the rules declare are left out."""
    known = {"id", "tenant", *case.columns["inputs"], *case.columns["expected"], *PROVENANCE}
    return {key: value for key, value in columns.items() if key in known or key not in rules.columns}


def _case_of(columns: Mapping[str, Any], rules: QualityRules, case: UseCase) -> None:
    """Raise ConfigError when the columns are no case of the use case."""
    Dataset.from_rows([("row", _used(columns, rules, case))], name="row", **case.columns)


def _parquet(frame: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=3, statistics=False)
    return buffer.getvalue()
