"""The cases that a verb of error analysis returns, as a frame with their texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.experiments.case_context import ExplorableRun
from workbench.experiments.case_detail import answer_text
from workbench.experiments.case_table import CaseTable, expected_of, question_of

if TYPE_CHECKING:
    import polars as pl


def with_texts(table: CaseTable, rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows of a table with question, expected values, answers and the first error, null if unknown.

    With repeats, the answers are those of the first one.
    """
    import polars as pl

    ids = set(rows["case"])
    known = {case.id: case for case in table.run.context.dataset or () if case.id in ids}
    answers, errors = _texts(table.run, ids)
    before = _texts(table.baseline, ids)[0] if table.baseline else {}
    cases = rows["case"].to_list()
    columns = {
        "question": [question_of(known[case]) if case in known else None for case in cases],
        "expected": [expected_of(known[case]) if case in known else None for case in cases],
        "answer_before": [before.get(case) for case in cases],
        "answer": [answers.get(case) for case in cases],
        "error": [errors.get(case) for case in cases],
    }
    texts = [pl.Series(name, values, dtype=pl.String) for name, values in columns.items()]
    return rows.select(
        "case", "tenant", "change", pl.col("before").alias("score_before"), "score", "reason"
    ).with_columns(texts)


def _texts(run: ExplorableRun, ids: set[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the first answer and the first error of these cases."""
    import polars as pl

    answers: dict[str, str] = {}
    errors: dict[str, str] = {}
    rows = run.cases.filter(pl.col("case").is_in(list(ids))).select("case", "output", "error")
    for case, output, error in rows.iter_rows():
        if output is not None:
            answers.setdefault(case, answer_text(output))
        if error is not None:
            errors.setdefault(case, error)
    return answers, errors
