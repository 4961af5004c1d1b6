"""Documents that no one here prepared, brought to a verdict of the embedded model by `init` and stages."""

from __future__ import annotations

import csv
import html
import json
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import sizes
from made_documents import made_pdf
from small_use_case import ROOT, small_repository

from workbench import config, retrieval
from workbench.diagnostics.check import check_all
from workbench.experiments.gates import GateReport
from workbench.experiments.runs import Run
from workbench.pipeline import stages
from workbench.pipeline.explore import find, judged
from workbench.scaffold.init import init
from workbench.scaffold.order import InitOrder

#: tests/unit/test_documents.py has the formats.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.drawn("documents of others", 1)]
LINES = 50
PACKAGES = {
    "playwright": (
        "driver/package/lib/tools/skills",
        (
            ("Which command stops a video recording?", "video-stop"),
            ("In which format are videos produced?", "WebM"),
            ("Which command restores a saved storage state?", "state-load"),
            ("Which kind of file does the trace CLI inspect?", ".zip"),
        ),
    ),
    "openai": (
        "",
        (
            ("Which extra is installed to use WebSockets?", "openai[realtime]"),
            ("Who owns the read side of a connection?", "The session"),
            ("Which result does a repeated get_final_response return?", "cached result"),
            ("Which lane receives events without a registered routing ID?", "default"),
        ),
    ),
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = small_repository(tmp_path / "repository")
    monkeypatch.chdir(folder)
    return folder


def written(folder: Path) -> Path:
    """The language reference of the running Python, a third of it in each format."""
    folder.mkdir()
    for number, (topic, text) in enumerate(sorted(topics.items())):
        if number % 3 == 0:
            (folder / f"{topic}.md").write_text(f"# {topic}\n\n{text}")
        elif number % 3 == 1:
            body = f"<html><body><nav>Home</nav><h1>{topic}</h1><pre>{html.escape(text)}</pre></body></html>"
            (folder / f"{topic}.html").write_text(body)
        else:
            (folder / f"{topic}.pdf").write_bytes(pdf(text))
    return folder


def pdf(text: str) -> bytes:
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, 90) or [""]]
    plain = [line.encode("latin-1", "replace").decode("latin-1") for line in lines if line]
    escaped = [line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for line in plain]
    return made_pdf(*("\n".join(escaped[n : n + LINES]) for n in range(0, len(escaped), LINES)))


def asked(path: Path, rows) -> Path:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerows([("Question", "Answer"), *rows])
    return path


def verdict(root: Path, order: InitOrder) -> tuple[GateReport, Run]:
    """Create the use case and run the stages that judge it."""
    init(root, order)
    found = check_all(root)
    assert found.passed, str(found)
    for stage in ("settings", "prepare", "remember", "judge", "gate"):
        assert stages.main([stage, order.name]) == 0, stage
    case = config.load_params(root).use_cases[order.name]
    run = find(root, f"{order.name}/{case.candidate}")
    return judged(root, run), run


def check_honest(report: GateReport, run: Run, least: float) -> None:
    """The verdict is that of the interval, and the card shows the numbers that it is made of."""
    accuracy = run.metric("accuracy")
    assert run.n_unscored == 0 and accuracy.value is not None
    (line,) = [line for line in report.lines if line.metric == "accuracy"]
    low, high = accuracy.interval.low, accuracy.interval.high
    expected = "pass" if low >= least else "fail" if high < least else "undecided"
    assert line.verdict == expected and (expected == "pass" or report.verdict != "pass")
    assert report.verdict.upper() in str(report) and f">= {least:g}" in str(report)


def test_the_language_reference_in_three_formats_comes_to_an_honest_verdict(root, tmp_path):
    lines = (ROOT / "data/python-reference/questions.jsonl").read_text().splitlines()[: sizes.QUESTIONS]
    rows = [json.loads(line) for line in lines]
    questions = asked(tmp_path / "fragen.csv", [(row["question"], "|".join(row["answers"])) for row in rows])
    order = InitOrder(name="reference", docs=written(tmp_path / "docs"), questions=questions, tenant="python")
    report, run = verdict(root, order)
    assert len(run.cases) == len(rows) == sizes.QUESTIONS
    check_honest(report, run, 0.3)
    pages = retrieval.load(retrieval.load_spec(root, "reference").reading(), root=root)
    endings = {page.source.partition("#")[0].rpartition(".")[2] for page in pages}
    assert endings == {"md", "html", "pdf"}
    assert len({page.source.partition("#")[0] for page in pages}) == len(topics)
    assert any("#page=2" in page.source for page in pages)


@pytest.mark.parametrize("package", PACKAGES)
def test_documentation_that_an_installed_package_ships_comes_to_an_honest_verdict(root, tmp_path, package):
    below, rows = PACKAGES[package]
    docs = Path(find_spec(package).origin).parent / below
    assert docs.is_relative_to(sys.prefix), "an installed package"
    order = InitOrder(name=package, docs=docs, questions=asked(tmp_path / "asked.csv", rows))
    report, run = verdict(root, order)
    assert len(run.cases) == len(rows)
    check_honest(report, run, 0.3)
    assert report.verdict != "pass" or run.metric("accuracy").value == 1
