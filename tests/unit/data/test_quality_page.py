"""The table of data quality on the readiness page."""

from __future__ import annotations

import dataclasses

from made_evidence import an_evidence

from workbench.data.drift import ColumnDrift
from workbench.data.report import BrokenRule, Change, NamedRow, QualityReport
from workbench.pipeline.report import pages

REPORT = QualityReport(
    name="answers",
    rows=42,
    kept=40,
    rejected=2,
    repaired=3,
    suspicious=1,
    broken=(
        BrokenRule(
            rule="text: language", severity="note", count=1, first=(NamedRow(row=7, id="q7", reason="'de'"),)
        ),
        BrokenRule(
            rule="label: allowed",
            severity="quarantine",
            count=2,
            first=(
                NamedRow(row=3, id="q|3", reason="'<b>' is not allowed"),
                NamedRow(row=9, id="", reason="no"),
            ),
        ),
    ),
    changes=(Change(column="text", step="trim", count=3),),
    drift=(
        ColumnDrift(
            column="label", kind="category", distance=0.25, p=0.001, state="drift", moved="a: 1% -> 9%"
        ),
    ),
)


def page(**fields):
    evidence = an_evidence(**fields)
    case = dataclasses.replace(evidence.use_case, quality="pipelines/quality/answers.yaml")
    html, markdown = pages(dataclasses.replace(evidence, use_case=case))
    return html.decode(), markdown.decode()


def test_the_page_has_one_table_with_each_broken_rule_the_severest_first():
    html, markdown = page(quality=REPORT)
    assert "40 of 42 rows of the dataset pass the rules of pipelines/quality/answers.yaml" in markdown
    assert "2 rejected, 3 repaired, 1 suspicious" in markdown
    row = r"| label: allowed | quarantine | 2 | row 3 (q\|3): '&lt;b>' is not allowed; row 9: no |"
    assert row in markdown and markdown.index(row) < markdown.index("| text: language | note | 1 |")
    assert "repaired: trim of text 3" in markdown and "drift of label (category)" in markdown
    assert "<h2>Data quality</h2>" in html and "&lt;b&gt;" in html and "'<b>'" not in html


def test_a_clean_dataset_has_a_row_that_says_so_and_no_rules_have_no_section():
    clean = dataclasses.replace(
        REPORT, kept=42, rejected=0, repaired=0, suspicious=0, broken=(), changes=(), drift=()
    )
    assert "| every rule | — | 0 |  |" in page(quality=clean)[1]
    assert all("Data quality" not in text for text in page())
