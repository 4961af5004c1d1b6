"""Score what a judged kernel handed over: the rows of a judged run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import files, wire
from workbench.experiments.attempts import frame_of, told_row
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.runs import TRUNCATED
from workbench.experiments.scorer_spec import ScorerSet
from workbench.experiments.scorers import Outcome, judged_output
from workbench.records.keys import Entry
from workbench.types import Hit

if TYPE_CHECKING:
    import polars as pl


def scored(
    told: Mapping[str, Mapping[str, Any]],
    entries: Iterable[Entry],
    cases: Dataset,
    scorers: ScorerSet,
    *,
    memory: Path,
) -> pl.DataFrame:
    """Return the rows of a run from the attempts by case; a case without one is unscored.

    `entries` are the recordings of the calls, and `memory` is the folder of the judged snapshot.
    """
    known, cut = _passages(memory), _cut(entries)
    rows = []
    for case in cases:
        line = told.get(case.id)
        if line is None:
            line = {"error": "unanswered: the notebook handed over no answer", "records": []}
        row = told_row(case, line, _outcome(case, line, known), scorers.scorers)
        rows.append({**row, TRUNCATED: cut[case.id]})
    return frame_of(rows, scorers.scorers)


def _cut(entries: Iterable[Entry]) -> Counter[str]:
    """Return the number of answers of each case that the limit of tokens cut, as their recordings hold it."""
    cut = Counter[str]()
    for entry in entries:
        speaks = wire.dialect(entry.question.operation)
        if "events" in entry.result and speaks.ending_of(speaks.fold(entry.events())) == "truncated":
            cut[entry.question.case] += 1
    return cut


def _passages(memory: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Return source and text of each item of the judged memory, by tenant and id."""
    import polars as pl

    found = {}
    for path in sorted(memory.glob("*.parquet")):
        frame = pl.read_parquet(path, columns=["id", "source", "text"])
        found.update({(path.stem, item): (source, text) for item, source, text in frame.iter_rows()})
    return found


def _outcome(
    case: Case, line: Mapping[str, Any], known: Mapping[tuple[str, str], tuple[str, str]]
) -> Outcome | None:
    """Return what a scorer is given. Sources and texts of passages are those of the judged memory.

    A hit that this memory does not hold keeps its tenant and counts for no page.
    """
    if line.get("output") is None:
        return None

    def passage(raw: Mapping[str, Any], tenant: str) -> dict[str, Any]:
        source, text = known.get((tenant, str(raw.get("id"))), ("", ""))
        return {**raw, "tenant": tenant, "source": source, "text": text}

    records = [
        {**record, "hits": [passage(hit, str(hit.get("tenant"))) for hit in record["hits"]]}
        for record in line["records"]
    ]
    passages = [passage(raw, case.tenant) for raw in line["passages"]]
    output = judged_output(files.parse_json(line["output"], where=f"case {case.id}"))
    return Outcome(case=case, output=output, records=records, passages=[_hit(raw) for raw in passages])


def _hit(raw: Mapping[str, Any]) -> Hit:
    """Return a passage as a scorer takes it; only id, source, text and tenant are known."""
    return Hit(
        id=str(raw.get("id")), text=raw["text"], source=raw["source"], tenant=raw["tenant"],
        title="", version=0, score=0.0, as_of="", stale=False, digest="", memory="",
    )  # fmt: skip
