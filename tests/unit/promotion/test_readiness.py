from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from made_runs import a_run, degraded_run, of

from workbench import config
from workbench.experiments.compare import compare_all
from workbench.experiments.gates import GateSpec, judge
from workbench.pipeline.evidence import AssetUse, Evidence
from workbench.pipeline.report import pages, write

ROOT = Path(__file__).parents[3]
SPEC = GateSpec.parse({"accuracy": {"min": 0.5}, "cases": {"min": 10}, "confidence": 0.9}, where="here")


@pytest.fixture
def evidence():
    def make(right=0.9, *, text="It is <b>46</b> | euros", spec=SPEC, degraded=0):
        n = 40
        scores = {"arm": "candidate", "accuracy": of(round(right * n), n)}
        run = degraded_run(degraded, **scores) if degraded else a_run(**scores)
        said = pl.lit(json.dumps({"text": text})).alias("output")
        run = dataclasses.replace(run, cases=run.cases.with_columns(said))
        base = a_run("few_shot", accuracy=of(0, n))
        case = config.load_params(ROOT).use_cases["answers"]
        report = judge(run, spec, phase="mvp")
        return Evidence(
            name="answers",
            use_case=dataclasses.replace(case, title="Answers & <more>"),
            runs=(base, run),
            gate=report,
            other=judge(run, spec, phase="mlvp"),
            comparison=compare_all([run], baseline=base),
            memory={
                "memory": "handbook",
                "logical_digest": "d" * 64,
                "embedding": "wordllama-256",
                "dimensions": 256,
                "tenants": {"acme": {"rows": 7}},
            },
            versions=(
                AssetUse(kind="prompt", reference="answer@2", digest="e" * 64, reason="r", author="a"),
            ),
            tape={"entries": 80, "processors": [{"machine": "x86_64"}]},
        )

    return make


class Strict(HTMLParser):
    """Balanced tags, and nothing loaded from elsewhere."""

    VOID = {"meta", "rect", "line"}

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        assert not {"src", "href"} & dict(attrs).keys(), "the page must be self-contained"
        assert tag != "script"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    parser = Strict()
    parser.feed(page.decode())
    assert not parser.open
    return " ".join(" ".join(parser.text).split())


def test_the_page_is_whole_self_contained_and_says_what_decides(evidence):
    text = read(pages(evidence())[0])
    for said in (
        "Answers & <more>",
        "people operations",
        "phase: mvp",
        "accuracy",
        ">= 0.5",
        "answer@2",
        "dddddddddddd",
        "It is <b>46</b> | euros",
        "candidate against few_shot",
        "better",
        "make repro LIVE=1",
        "acme",
        "No line of this gate",
    ):
        assert said in text, said


def test_the_markdown_says_the_same_and_no_answer_breaks_its_tables(evidence):
    page = pages(evidence())[1].decode()
    assert "**pass**" in page and "It is &lt;b>46&lt;/b> \\| euros" in page
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_what_is_undecided_is_said_with_the_cases_needed(evidence):
    html, markdown = pages(evidence(0.55))
    assert "more cases would decide it" in read(html) and "more cases would decide it" in markdown.decode()
    assert "undecided" in read(html)


def test_the_same_evidence_gives_the_same_bytes(evidence, tmp_path):
    assert pages(evidence()) == pages(evidence())
    html, markdown = write(evidence(), tmp_path / "deep" / "readiness")
    assert (html.read_bytes(), markdown.read_bytes()) == pages(evidence())
    assert html.suffix == ".html" and markdown.suffix == ".md"


def test_a_failed_gate_is_not_dressed_up(evidence):
    html, markdown = pages(evidence(0.1))
    assert "At least one line of the gate is missed" in read(html) and "**fail**" in markdown.decode()


def test_searches_that_the_last_snapshot_answered_are_said_beside_the_verdict_and_nothing_without(evidence):
    said = "candidate: degraded: 1 search was answered by the last snapshot: the server was away"
    html, markdown = pages(evidence(degraded=1))
    assert read(html).index("pass") < read(html).index(said) < read(html).index("The gate")
    assert f"\n**{said}.**\n" in markdown.decode().partition("## The gate")[0]
    assert not any(b"degraded" in page for page in pages(evidence()))
