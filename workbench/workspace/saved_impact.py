"""Measure the impact of a use case, and save it as a file that its readiness page shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from workbench import config, files, layout
from workbench.errors import ConfigError, NotFoundError
from workbench.records.calls import intact, scan_calls
from workbench.records.outcomes import outcomes_of
from workbench.workspace.history import chosen_of_process, moment_of
from workbench.workspace.impact import Impact, On, events_of, impact_of

if TYPE_CHECKING:
    import polars as pl

#: The folder of saved impacts, which git tracks; a name has the digest of its content.
FOLDER = Path("pipelines/impact")


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedImpact:
    """A saved impact: the table that the page shows, and the numbers behind it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    use_case: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    numbers: dict[str, Any]


def measure(
    root: Path, use_case: str, *, events: Path | None, on: On, by: Sequence[str], since: str | None
) -> Impact:
    """Return the impact of a use case from a file of events, by default from the recorded outcomes.

    Raise ConfigError for events that cannot be joined, and NotFoundError for an unknown use case or file.
    """
    import polars as pl

    config.use_case(config.load_params(root), use_case)
    chosen = chosen_of_process(root, since=moment_of(since))
    ours = pl.col("use_case") == use_case
    if events is None:
        kept = chosen.of(outcomes_of(root / layout.OUTCOMES).lazy()).filter(ours).collect()
        frame = events_of(kept, on)
    else:
        frame = _events(events)
    log = root / layout.CALLS
    with intact(log):
        return impact_of(scan_calls(log, chosen).filter(ours), frame, on=on, by=by)


def save_impact(root: Path, use_case: str, found: Impact) -> Path:
    """Write an impact below pipelines/impact and return its path; the same impact has the same path."""
    card = found.card()
    saved = files.pretty(
        {
            "use_case": use_case,
            "head": list(card.head),
            "rows": [list(row) for row in card.rows],
            "notes": list(card.notes),
            "numbers": found.to_json(),
        }
    )
    path = root / FOLDER / f"{use_case}-{files.digest(saved)[:12]}.json"
    files.write_atomic(path, saved)
    return path


def load_impact(root: Path, use_case: str, path: str) -> SavedImpact:
    """Return a saved impact; raise ConfigError for one that was changed or is of another use case."""
    text = files.read_text(root / path, hint=f"workbench calls impact {use_case} --save")
    if files.digest(text.encode())[:12] != Path(path).stem.rpartition("-")[2]:
        raise ConfigError(
            f"{path} was changed: its name is not that of its content",
            hint=f"workbench calls impact {use_case} --save",
        )
    saved = files.parse(SavedImpact, files.parse_json(text, where=path), where=path)
    if saved.use_case != use_case:
        raise ConfigError(
            f"{path} is the impact of {saved.use_case!r}", hint=f"workbench calls impact {use_case} --save"
        )
    return saved


def _events(path: Path) -> pl.DataFrame:
    """Return the events of a CSV or Parquet file; keys of CSV are read as texts."""
    import polars as pl

    try:
        data = io.BytesIO(files.read_bytes(path))
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}", hint="--events FILE.csv or FILE.parquet") from None
    keys = dict.fromkeys(("trace_id", "session", "tenant", "use_case"), pl.String())
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(data)
        return pl.read_csv(data, schema_overrides=keys, try_parse_dates=True)
    except pl.exceptions.PolarsError as error:
        message = f"{path} cannot be read as events: {files.shortened(str(error))}"
        raise ConfigError(message, hint="--events FILE.csv or FILE.parquet") from None
